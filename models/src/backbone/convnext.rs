//! `ConvNeXt`: 7×7 depthwise convolutions and layers of 1×1 convolutions, normalized over the channels of a pixel.
//!
//! Source: "A `ConvNet` for the 2020s", <https://arxiv.org/abs/2201.03545>.
//! Agrees with timm 1.0 `convnext.py` (and torchvision's) without the classifier: the features are normalized behind the
//! pool.
//! Differences: the layer scale is part of a block's last convolution, into which import folds it; fresh weights of
//! that convolution are drawn small instead. No stochastic depth.

use serde::{Deserialize, Serialize};

#[cfg(feature = "tensors")]
use crate::layers::Eager;
use crate::layers::{Activation, Conv, ConvBn, ConvShape, Flow, GlobalPool, LayerNorm, Padding};
use crate::limits::{LimitError, MAX_BLOCKS, within};
#[cfg(feature = "tensors")]
use crate::values::Tensor;
use crate::values::{Device, Module};

/// Channels that a stage may have.
const WIDTHS: std::ops::RangeInclusive<usize> = 1..=4096;

/// Added to a variance before its square root.
const EPSILON: f64 = 1e-6;

/// Deviation of the weights of a block's last convolution in a fresh network.
const QUIET: f64 = 1e-3;

/// Configuration of [`ConvNext`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvNextConfig {
    /// Channels of each stage; `[96, 192, 384, 768]` in Tiny.
    pub widths: [usize; 4],
    /// Blocks of each stage; `[3, 3, 9, 3]` in Tiny.
    pub depths: [usize; 4],
    /// The deployed form, which is the same: it has no normalization that could be folded.
    #[serde(default)]
    pub fused: bool,
}

impl ConvNextConfig {
    /// `ConvNeXt`-Tiny.
    pub const fn tiny() -> Self {
        Self { widths: [96, 192, 384, 768], depths: [3, 3, 9, 3], fused: false }
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
    pub fn init(&self, device: &Device) -> ConvNext {
        let conv = |shape| ConvBn::new(shape, Activation::Identity, true, device);
        let norm = |channels| LayerNorm::new(channels, EPSILON, device);
        let block = |width: usize| Block {
            depthwise: conv(ConvShape::depthwise(width, 7, 1)),
            norm: norm(width),
            widen: Conv::new(ConvShape::pointwise(width, 4 * width), true, device),
            narrow: Conv::with_deviation(
                ConvShape::pointwise(4 * width, width),
                QUIET,
                true,
                device,
            ),
        };
        let mut before = None;
        let stages = self.widths.into_iter().zip(self.depths).map(|(width, depth)| {
            let (channels, side) = before.replace(width).map_or((3, 4), |before| (before, 2));
            Stage {
                patches: conv(ConvShape::dense(channels, width, side, side)),
                // The first stage's patches are normalized, all others' pixels.
                norm: norm(if side == 4 { width } else { channels }),
                blocks: (0..depth).map(|_| block(width)).collect(),
            }
        });
        ConvNext { stages: stages.collect(), norm: norm(self.features()) }
    }
}

/// Pixels are mixed, then channels, and the input is added.
#[derive(Module, Debug)]
struct Block {
    depthwise: ConvBn,
    norm: LayerNorm,
    widen: Conv,
    narrow: Conv,
}

impl Block {
    fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let y = flow.conv_bn(x.clone(), &self.depthwise, Padding::Even);
        let y = flow.layer_norm(y, &self.norm);
        let y = flow.conv(y, &self.widen, Activation::Gelu);
        let y = flow.conv(y, &self.narrow, Activation::Identity);
        flow.add(x, y)
    }
}

/// Patches become pixels, which blocks work on.
#[derive(Module, Debug)]
struct Stage {
    patches: ConvBn,
    norm: LayerNorm,
    blocks: Vec<Block>,
}

/// A `ConvNeXt` backbone.
#[derive(Module, Debug)]
pub struct ConvNext {
    stages: Vec<Stage>,
    norm: LayerNorm,
}

impl ConvNext {
    /// Feature maps of all stages.
    fn wire_stages<F: Flow>(&self, flow: &mut F, x: F::Map) -> Vec<F::Map> {
        let mut x = x;
        let mut maps = Vec::with_capacity(self.stages.len());
        for (index, Stage { patches, norm, blocks }) in self.stages.iter().enumerate() {
            if index > 0 {
                x = flow.layer_norm(x, norm);
            }
            x = flow.conv_bn(x, patches, Padding::Nothing);
            if index == 0 {
                x = flow.layer_norm(x, norm);
            }
            x = blocks.iter().fold(x, |x, block| block.wire(flow, x));
            maps.push(x.clone());
        }
        maps
    }

    /// Feature maps of stride 8, 16 and 32.
    pub fn wire_maps<F: Flow>(&self, flow: &mut F, x: F::Map) -> [F::Map; 3] {
        let maps = self.wire_stages(flow, x);
        std::array::from_fn(|index| maps[index + 1].clone())
    }

    /// Pooled and normalized features before the classifier.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let [_, _, x] = self.wire_maps(flow, x);
        let x = flow.global_pool(x, GlobalPool::Average);
        flow.layer_norm(x, &self.norm)
    }

    /// Pooled and normalized features before the classifier, at once.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, 3, height, width]`
    /// - output: `[batch, features]`
    #[cfg(feature = "tensors")]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        Eager::pooled(x, |flow, x| self.wire(flow, x))
    }

    /// The deployed form: the same.
    #[must_use]
    #[cfg(feature = "tensors")]
    pub fn fuse(self) -> Self {
        self
    }
}
