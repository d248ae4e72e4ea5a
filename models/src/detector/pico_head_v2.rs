//! The head of the newer PicoDet: class and box have convolutions of their own, and a second class
//! score says how well a point's box fits.
//!
//! Sources: PP-PicoDet, <https://arxiv.org/abs/2111.00902>, in its release of 2022; the alignment is
//! that of TOOD, <https://arxiv.org/abs/2108.07755>, §3.1.
//! Follows PaddleDetection `ppdet/modeling/heads/pico_head.py` (`PicoHeadV2`) @ 666f597; there are
//! no recorded numbers of it to compare with. Difference: the score `√(σ(class)·σ(alignment))` is
//! given back as the logit whose sigmoid it is, so that decoding and losses read both heads alike.

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};

use super::pan::{ACTIVATION, DpModule, KERNEL};
use super::pico_head::{PRIOR_BIAS, prediction};
use super::{LevelOutput, REG_MAX, STRIDES};
use crate::kernels::{channels_first, channels_last};
use crate::layers::{Activation, Conv, ConvBn, ConvShape, global_average_pool};

/// Under the root of the two scores' product; the reference's value.
const SCORE_EPSILON: f64 = 1e-9;
/// Scores stay this far from 1, where the logit ends.
const SCORE_MARGIN: f64 = 1e-6;

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

    fn forward(&self, map: Tensor<4>) -> LevelOutput {
        let map = self.blocks.iter().fold(map, |x, block| block.forward(x));
        let gate = activation::sigmoid(self.gate.forward(global_average_pool(map.clone())));
        let gated = channels_first(channels_last(map.clone()) * channels_last(gate));
        let gated = self.gated.forward(gated);
        let alignment = self.align_pw.forward(self.align_dw.forward(map));
        let class = activation::sigmoid(self.classes.forward(gated.clone()));
        let score = (class * activation::sigmoid(alignment) + SCORE_EPSILON).sqrt();
        let score = score.clamp_max(1.0 - SCORE_MARGIN);
        LevelOutput {
            class_logits: score.clone().log() - (score.neg() + 1.0).log(),
            box_logits: self.boxes.forward(gated),
        }
    }

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
    /// A freshly initialised head.
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

    /// Predicts on every level.
    ///
    /// # Shapes
    ///
    /// - `maps`: `[batch, channels, height / s, width / s]` for s = 8, 16, 32, 64
    pub fn forward(&self, maps: [Tensor<4>; 4]) -> Vec<LevelOutput> {
        self.levels.iter().zip(maps).map(|(level, map)| level.forward(map)).collect()
    }

    /// The deployed form.
    #[must_use]
    pub fn fuse(self) -> Self {
        Self { levels: self.levels.into_iter().map(Level::fuse).collect() }
    }
}
