//! The head of the newer PicoDet: class and box have convolutions of their own, and a second class
//! score says how well a point's box fits.
//!
//! Sources: PP-PicoDet, <https://arxiv.org/abs/2111.00902>, in its release of 2022; the alignment is
//! that of TOOD, <https://arxiv.org/abs/2108.07755>, §3.1.
//! Follows PaddleDetection `ppdet/modeling/heads/pico_head.py` (`PicoHeadV2`) @ 666f597; there are
//! no recorded numbers of it to compare with. Difference: the score `√(σ(class)·σ(alignment))` is
//! given back as the logit whose sigmoid it is, so that decoding and losses read both heads alike.

use super::pan::{ACTIVATION, DpModule, KERNEL};
use super::pico_head::{PRIOR_BIAS, prediction};
use super::{REG_MAX, STRIDES};
use crate::layers::{Activation, Conv, ConvBn, ConvShape, Flow, Gate, GlobalPool, Padding};
use crate::values::{Device, Module};

/// The head of the newer [`crate::detector::Detector`].
#[derive(Module, Debug)]
pub struct PicoHeadV2 {
    levels: Vec<Level>,
}

#[derive(Module, Debug)]
struct Level {
    blocks: Vec<DpModule>,
    /// Gate of every channel from the channels' means.
    gate: Conv,
    gated: ConvBn,
    classes: Conv,
    boxes: Conv,
    align_dw: ConvBn,
    align_pw: ConvBn,
}

impl Level {
    fn new(
        channels: usize,
        num_classes: usize,
        blocks: usize,
        fused: bool,
        device: &Device,
    ) -> Self {
        let point = ConvShape::pointwise(channels, channels);
        let around = ConvShape::depthwise(channels, KERNEL, 1);
        let aligned = ConvShape::pointwise(channels, 1);
        Self {
            blocks: (0..blocks).map(|_| DpModule::new(channels, 1, fused, device)).collect(),
            gate: Conv::new(point, true, device),
            gated: ConvBn::new(point, ACTIVATION, fused, device),
            classes: prediction(channels, num_classes, PRIOR_BIAS, device),
            boxes: prediction(channels, 4 * (REG_MAX + 1), 0.0, device),
            align_dw: ConvBn::new(around, ACTIVATION, fused, device),
            align_pw: ConvBn::new(aligned, Activation::Identity, fused, device),
        }
    }

    fn wire<F: Flow>(&self, flow: &mut F, map: F::Map) -> F::Map {
        let map = self.blocks.iter().fold(map, |x, block| block.wire(flow, x));
        let mean = flow.global_pool(map.clone(), GlobalPool::Average);
        let gate = flow.conv(mean, &self.gate, Activation::Identity);
        let gate = flow.apply(gate, Gate::Sigmoid);
        let gated = flow.scale(map.clone(), gate);
        let gated = flow.conv_bn(gated, &self.gated, Padding::Even);
        let alignment = flow.conv_bn(map, &self.align_dw, Padding::Even);
        let alignment = flow.conv_bn(alignment, &self.align_pw, Padding::Even);
        let classes = flow.conv(gated.clone(), &self.classes, Activation::Identity);
        let classes = flow.aligned_logit(classes, alignment);
        let boxes = flow.conv(gated, &self.boxes, Activation::Identity);
        flow.concatenate(classes, boxes)
    }

    #[cfg(feature = "tensors")]
    fn fuse(self) -> Self {
        Self {
            blocks: self.blocks.into_iter().map(DpModule::fuse).collect(),
            gated: self.gated.fuse(),
            align_dw: self.align_dw.fuse(),
            align_pw: self.align_pw.fuse(),
            ..self
        }
    }
}

impl PicoHeadV2 {
    /// A freshly initialized head.
    pub fn new(
        channels: usize,
        num_classes: usize,
        blocks: usize,
        fused: bool,
        device: &Device,
    ) -> Self {
        let level = || Level::new(channels, num_classes, blocks, fused, device);
        Self { levels: STRIDES.map(|_| level()).into() }
    }

    /// Class logits, then box logits, as channels of one map a level.
    pub fn wire<F: Flow>(&self, flow: &mut F, maps: [F::Map; 4]) -> Vec<F::Map> {
        self.levels.iter().zip(maps).map(|(level, map)| level.wire(flow, map)).collect()
    }

    /// The deployed form.
    #[must_use]
    #[cfg(feature = "tensors")]
    pub fn fuse(self) -> Self {
        Self { levels: self.levels.into_iter().map(Level::fuse).collect() }
    }
}
