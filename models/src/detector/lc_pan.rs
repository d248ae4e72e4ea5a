//! LC-PAN: the neck of the newer PicoDet, pairs of depthwise-separable blocks in place of CSP layers.
//!
//! Source: PP-PicoDet, <https://arxiv.org/abs/2111.00902>, in its release of 2022.
//! Follows PaddleDetection `ppdet/modeling/necks/lc_pan.py` (`LCPAN`) @ 666f597; there are no
//! recorded numbers of it to compare with.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::csp_pan::{DpModule, KERNEL, concatenate, pointwise, upsample};
use crate::backbone::DepthwiseSeparable;
use crate::kernels::{channels_first, channels_last};
use crate::layers::{ConvBn, ConvShape};

/// Keeps the joined width, then halves it.
#[derive(Module, Debug)]
struct Pair {
    wide: DepthwiseSeparable,
    narrow: DepthwiseSeparable,
}

impl Pair {
    fn new(channels: usize, fused: bool, device: &Device) -> Self {
        let block = |channels_out| {
            let shape = ConvShape::depthwise(2 * channels, KERNEL, 1);
            DepthwiseSeparable::new(shape, channels_out, false, fused, device)
        };
        Self { wide: block(2 * channels), narrow: block(channels) }
    }

    fn forward(&self, a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
        self.narrow.forward(self.wide.forward(concatenate(a, b)))
    }

    fn fuse(self) -> Self {
        Self { wide: self.wide.fuse(), narrow: self.narrow.fuse() }
    }
}

/// The neck of the newer [`crate::detector::Detector`].
#[derive(Module, Debug)]
pub struct LcPan {
    conv_t: Vec<ConvBn>,
    first_top_conv: DpModule,
    second_top_conv: DpModule,
    top_down_blocks: Vec<Pair>,
    downsamples: Vec<DpModule>,
    bottom_up_blocks: Vec<Pair>,
}

impl LcPan {
    /// A freshly initialised neck.
    pub fn new(channels_in: [usize; 3], channels: usize, fused: bool, device: &Device) -> Self {
        let pairs = || (0..2).map(|_| Pair::new(channels, fused, device)).collect();
        let downsample = || DpModule::new(channels, 2, fused, device);
        Self {
            conv_t: channels_in.map(|c| pointwise(c, channels, fused, device)).to_vec(),
            first_top_conv: downsample(),
            second_top_conv: downsample(),
            top_down_blocks: pairs(),
            downsamples: vec![downsample(), downsample()],
            bottom_up_blocks: pairs(),
        }
    }

    /// Fuses the backbone's maps.
    ///
    /// # Shapes
    ///
    /// - inputs: `[batch, c, height / s, width / s]` for s = 8, 16, 32
    /// - outputs: `[batch, channels, height / s, width / s]` for s = 8, 16, 32, 64
    pub fn forward(&self, maps: [Tensor<4>; 3]) -> [Tensor<4>; 4] {
        let [c3, c4, c5] = maps;
        let c3 = self.conv_t[0].forward(c3);
        let c4 = self.conv_t[1].forward(c4);
        let c5 = self.conv_t[2].forward(c5);
        let n4 = self.top_down_blocks[0].forward(upsample(c5.clone()), c4);
        let p3 = self.top_down_blocks[1].forward(upsample(n4.clone()), c3);
        let p4 = self.bottom_up_blocks[0].forward(self.downsamples[0].forward(p3.clone()), n4);
        let p5 =
            self.bottom_up_blocks[1].forward(self.downsamples[1].forward(p4.clone()), c5.clone());
        let p6 = channels_last(self.first_top_conv.forward(c5))
            + channels_last(self.second_top_conv.forward(p5.clone()));
        [p3, p4, p5, channels_first(p6)]
    }

    /// The deployed form.
    #[must_use]
    pub fn fuse(self) -> Self {
        let pairs = |pairs: Vec<Pair>| pairs.into_iter().map(Pair::fuse).collect();
        Self {
            conv_t: self.conv_t.into_iter().map(ConvBn::fuse).collect(),
            first_top_conv: self.first_top_conv.fuse(),
            second_top_conv: self.second_top_conv.fuse(),
            top_down_blocks: pairs(self.top_down_blocks),
            downsamples: self.downsamples.into_iter().map(DpModule::fuse).collect(),
            bottom_up_blocks: pairs(self.bottom_up_blocks),
        }
    }
}
