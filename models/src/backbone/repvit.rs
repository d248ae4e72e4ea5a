//! `RepViT`: depthwise mixing of pixels, then 1×1 mixing of channels, as a vision transformer has it.
//!
//! Source: "`RepViT`: Revisiting Mobile CNN From `ViT` Perspective", <https://arxiv.org/abs/2307.09283>.
//! Agrees with timm 1.0 `repvit.py` without the classifiers.
//! Difference: the three parallel branches of a pixel mixer are one depthwise convolution, whose normalization stays;
//! import sums them (structural re-parameterization, <https://arxiv.org/abs/2101.03697>, §3.3).

use serde::{Deserialize, Serialize};

#[cfg(feature = "tensors")]
use crate::layers::Eager;
use crate::layers::{
    Activation, ConvBn, ConvShape, Flow, Gate, GlobalPool, Padding, SqueezeExcite,
};
use crate::limits::{LimitError, MAX_BLOCKS, within};
#[cfg(feature = "tensors")]
use crate::values::Tensor;
use crate::values::{Device, Module};

/// Channels that a stage may have.
const WIDTHS: std::ops::RangeInclusive<usize> = 8..=4096;

/// Configuration of [`RepVit`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepVitConfig {
    /// Channels of each stage; `[48, 96, 192, 384]` in M0.9.
    pub widths: [usize; 4],
    /// Blocks of each stage behind its halving; `[2, 2, 14, 2]` in M0.9.
    pub depths: [usize; 4],
    /// Whether normalization is folded (deployed form).
    #[serde(default)]
    pub fused: bool,
}

impl RepVitConfig {
    /// `RepViT`-M0.9.
    pub const fn m0_9() -> Self {
        Self { widths: [48, 96, 192, 384], depths: [2, 2, 14, 2], fused: false }
    }

    /// `RepViT`-M1.0.
    pub const fn m1_0() -> Self {
        Self { widths: [56, 112, 224, 448], depths: [2, 2, 14, 2], fused: false }
    }

    /// Width of the pooled features.
    pub const fn features(&self) -> usize {
        self.widths[3]
    }

    /// Channels of the three feature maps of stride 8, 16 and 32.
    pub const fn feature_channels(&self) -> [usize; 3] {
        [self.widths[1], self.widths[2], self.widths[3]]
    }

    /// Whether a network can be made of it.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check(&self) -> Result<(), LimitError> {
        self.depths.iter().try_for_each(|depth| within("depths", *depth, &(1..=MAX_BLOCKS)))?;
        self.widths.iter().try_for_each(|width| within("widths", *width, &WIDTHS))
    }

    /// A freshly initialized network.
    pub fn init(&self, device: &Device) -> RepVit {
        let conv = |shape, activation| ConvBn::new(shape, activation, self.fused, device);
        let linear = |shape| conv(shape, Activation::Identity);
        let [first, ..] = self.widths;
        let half = (first / 2).max(1);
        let stem = vec![
            conv(ConvShape::dense(3, half, 3, 2), Activation::Gelu),
            linear(ConvShape::dense(half, first, 3, 2)),
        ];
        let block = |width: usize, squeeze: bool, halved_from: Option<usize>| Block {
            mixer: halved_from.is_none().then(|| linear(ConvShape::depthwise(width, 3, 1))),
            squeeze: squeeze.then(|| {
                let reduced = ((width / 4 + 4) / 8 * 8).max(8);
                SqueezeExcite::with_width(width, reduced, Activation::Relu, Gate::Sigmoid, device)
            }),
            halve: halved_from.map(|from| linear(ConvShape::depthwise(from, 3, 2))),
            across: halved_from.map(|from| linear(ConvShape::pointwise(from, width))),
            widen: conv(ConvShape::pointwise(width, 2 * width), Activation::Gelu),
            narrow: linear(ConvShape::pointwise(2 * width, width)),
        };
        let (mut blocks, mut ends, mut before) = (Vec::new(), [0; 4], None);
        for (stage, (width, depth)) in self.widths.into_iter().zip(self.depths).enumerate() {
            if let Some(before) = before {
                blocks.extend([block(before, false, None), block(width, false, Some(before))]);
            }
            // Every second block has a squeeze-excite.
            blocks.extend((0..depth).map(|index| block(width, index % 2 == 0, None)));
            (ends[stage], before) = (blocks.len(), Some(width));
        }
        RepVit { stem, blocks, ends }
    }
}

/// Pixels are mixed, or the map is halved; then channels are mixed.
#[derive(Module, Debug)]
struct Block {
    mixer: Option<ConvBn>,
    squeeze: Option<SqueezeExcite>,
    halve: Option<ConvBn>,
    across: Option<ConvBn>,
    widen: ConvBn,
    narrow: ConvBn,
}

impl Block {
    fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let mut x = x;
        if let Some(mixer) = &self.mixer {
            x = flow.conv_bn(x, mixer, Padding::Even);
        }
        if let Some(squeeze) = &self.squeeze {
            x = squeeze.wire(flow, x);
        }
        for conv in [&self.halve, &self.across].into_iter().flatten() {
            x = flow.conv_bn(x, conv, Padding::Even);
        }
        let wide = flow.conv_bn(x.clone(), &self.widen, Padding::Even);
        let narrow = flow.conv_bn(wide, &self.narrow, Padding::Even);
        flow.add(x, narrow)
    }

    #[cfg(feature = "tensors")]
    fn fuse(self) -> Self {
        Self {
            mixer: self.mixer.map(ConvBn::fuse),
            halve: self.halve.map(ConvBn::fuse),
            across: self.across.map(ConvBn::fuse),
            widen: self.widen.fuse(),
            narrow: self.narrow.fuse(),
            ..self
        }
    }
}

/// A `RepViT` backbone.
#[derive(Module, Debug)]
pub struct RepVit {
    stem: Vec<ConvBn>,
    blocks: Vec<Block>,
    #[module(skip)]
    ends: [usize; 4],
}

impl RepVit {
    /// Feature maps of stride 8, 16 and 32.
    pub fn wire_maps<F: Flow>(&self, flow: &mut F, x: F::Map) -> [F::Map; 3] {
        let mut x = self.stem.iter().fold(x, |x, conv| flow.conv_bn(x, conv, Padding::Even));
        let mut from = 0;
        let [_, c3, c4, c5] = self.ends.map(|end| {
            x = self.blocks[from..end].iter().fold(x.clone(), |x, block| block.wire(flow, x));
            from = end;
            x.clone()
        });
        [c3, c4, c5]
    }

    /// Pooled features before the classifiers.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let [_, _, x] = self.wire_maps(flow, x);
        flow.global_pool(x, GlobalPool::Average)
    }

    /// Pooled features before the classifiers, at once.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, 3, height, width]`
    /// - output: `[batch, features]`
    #[cfg(feature = "tensors")]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        Eager::pooled(x, |flow, x| self.wire(flow, x))
    }

    /// The deployed form: every normalization folded into its convolution.
    #[must_use]
    #[cfg(feature = "tensors")]
    pub fn fuse(self) -> Self {
        Self {
            stem: self.stem.into_iter().map(ConvBn::fuse).collect(),
            blocks: self.blocks.into_iter().map(Block::fuse).collect(),
            ..self
        }
    }
}
