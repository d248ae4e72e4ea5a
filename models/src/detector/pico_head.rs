//! The head of PicoDet: depthwise-separable blocks a level, then one convolution for class scores
//! and box distributions together.
//!
//! Source: PP-PicoDet, <https://arxiv.org/abs/2111.00902>; the distributions are those of
//! generalized focal loss, <https://arxiv.org/abs/2006.04388>.
//! Agrees with PaddleDetection `ppdet/modeling/heads/pico_head.py` (`PicoHead`) @ 666f597.

use super::pan::DpModule;
use super::{REG_MAX, STRIDES};
use crate::layers::{Activation, Conv, ConvShape, Flow, constant, normal};
use crate::values::{Device, Module};

/// Every prediction starts with this bias, `−ln((1 − p) / p)` for p = 0.01, so that a fresh
/// detector finds nothing rather than everything. The reference sets it for the box logits too.
pub(super) const PRIOR_BIAS: f32 = -4.595_12;

/// Deviation of the fresh prediction weights.
const PREDICTION_STD: f64 = 0.01;

/// A 1×1 convolution whose outputs start near `bias`.
pub(super) fn prediction(channels: usize, outputs: usize, bias: f32, device: &Device) -> Conv {
    let mut conv = Conv::new(ConvShape::pointwise(channels, outputs), true, device);
    conv.weight = normal([outputs, channels, 1, 1], PREDICTION_STD, device);
    conv.bias = Some(constant([outputs], bias, device));
    conv
}

/// The head of [`crate::detector::Detector`].
#[derive(Module, Debug)]
pub struct PicoHead {
    levels: Vec<Level>,
}

#[derive(Module, Debug)]
struct Level {
    blocks: Vec<DpModule>,
    predict: Conv,
}

impl PicoHead {
    /// A freshly initialized head.
    pub fn new(
        channels: usize,
        num_classes: usize,
        blocks: usize,
        fused: bool,
        device: &Device,
    ) -> Self {
        let outputs = num_classes + 4 * (REG_MAX + 1);
        let level = || {
            let predict = prediction(channels, outputs, PRIOR_BIAS, device);
            Level {
                blocks: (0..blocks).map(|_| DpModule::new(channels, 1, fused, device)).collect(),
                predict,
            }
        };
        Self { levels: STRIDES.map(|_| level()).into() }
    }

    /// Class logits, then box logits, as channels of one map a level.
    pub fn wire<F: Flow>(&self, flow: &mut F, maps: [F::Map; 4]) -> Vec<F::Map> {
        let mut predict = |level: &Level, map| {
            let map = level.blocks.iter().fold(map, |x, block| block.wire(flow, x));
            flow.conv(map, &level.predict, Activation::Identity)
        };
        self.levels.iter().zip(maps).map(|(level, map)| predict(level, map)).collect()
    }

    /// The deployed form.
    #[must_use]
    #[cfg(feature = "tensors")]
    pub fn fuse(self) -> Self {
        let levels = self.levels.into_iter().map(|level| Level {
            blocks: level.blocks.into_iter().map(DpModule::fuse).collect(),
            ..level
        });
        Self { levels: levels.collect() }
    }
}
