//! ResNet with basic or bottleneck blocks, in the plain form and in the "vd" form.
//!
//! Source: "Deep Residual Learning for Image Recognition", <https://arxiv.org/abs/1512.03385>; the
//! "vd" form is "Bag of Tricks for Image Classification with Convolutional Neural Networks",
//! <https://arxiv.org/abs/1812.01187>, §4.2.
//! Agrees with PaddleClas `ppcls/arch/backbone/legendary_models/resnet.py` and
//! `variant_models/resnet_variant.py` @ d178931, without the classifier.
//! Differences: width, stem and the stride of the first stage are free, so that small pictures get
//! a small network.

use serde::{Deserialize, Serialize};

#[cfg(feature = "tensors")]
use crate::layers::Eager;
pub use crate::layers::GlobalPool;
use crate::layers::{Activation, ConvBn, ConvShape, Flow, Padding};
use crate::limits::{LimitError, MAX_BLOCKS, within};
#[cfg(feature = "tensors")]
use crate::values::Tensor;
use crate::values::{Device, Module};

/// Channels that the first stage may have: two at least, of which a stem may take half, and at most a
/// sixteenth of the widest layer's.
const WIDTHS: std::ops::RangeInclusive<usize> = 2..=512;

/// What a residual block consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResidualBlock {
    /// Two 3×3 convolutions.
    Basic,
    /// 1×1, 3×3 with the stride, 1×1 to four times the width.
    Bottleneck,
}

impl ResidualBlock {
    fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// The first convolutions, stride 2 together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResNetStem {
    /// One 7×7 convolution: the plain form.
    Single7x7,
    /// Three 3×3 convolutions through half the width: the "vd" form.
    Triple3x3,
    /// One 3×3 convolution, for small pictures.
    Single3x3,
}

/// How a block's input reaches its output where their shapes differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shortcut {
    /// 1×1 convolution with the block's stride: the plain form.
    StridedConv,
    /// 2×2 average pool with the block's stride, then a 1×1 convolution: the "vd" form.
    AveragePool,
}

/// Configuration of [`ResNet`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// What a block consists of.
    pub block: ResidualBlock,
    /// Blocks a stage; `[3, 4, 6, 3]` in `ResNet50`.
    pub depths: [usize; 4],
    /// Channels of the first stage's 3×3 convolutions, doubled from stage to stage; 64 in the
    /// reference.
    pub width: usize,
    /// The first convolutions.
    pub stem: ResNetStem,
    /// Whether the stem ends in `ReLU`; not in the cross-batch-memory and re-identification recipes.
    #[serde(default = "yes")]
    pub stem_activation: bool,
    /// 3×3 maximum of stride 2 behind the stem.
    #[serde(default = "yes")]
    pub max_pool: bool,
    /// Stride of the first stage; 1 in the reference.
    #[serde(default = "one")]
    pub first_stage_stride: usize,
    /// Stride of the last stage: 2, or 1 in the `last_stage_stride1` variant.
    #[serde(default = "two")]
    pub last_stage_stride: usize,
    /// How shapes are matched.
    pub shortcut: Shortcut,
    /// How the last map becomes a vector.
    #[serde(default)]
    pub pool: GlobalPool,
    /// Whether normalization is folded (deployed form).
    #[serde(default)]
    pub fused: bool,
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn two() -> usize {
    2
}

impl ResNetConfig {
    /// `ResNet50`.
    pub fn resnet50() -> Self {
        Self {
            block: ResidualBlock::Bottleneck,
            depths: [3, 4, 6, 3],
            width: 64,
            stem: ResNetStem::Single7x7,
            stem_activation: true,
            max_pool: true,
            first_stage_stride: 1,
            last_stage_stride: 2,
            shortcut: Shortcut::StridedConv,
            pool: GlobalPool::Average,
            fused: false,
        }
    }

    /// `ResNet50_vd`.
    pub fn resnet50_vd() -> Self {
        let (stem, shortcut) = (ResNetStem::Triple3x3, Shortcut::AveragePool);
        Self { stem, shortcut, ..Self::resnet50() }
    }

    /// Width of the pooled features.
    pub fn features(&self) -> usize {
        self.width * 8 * self.block.expansion()
    }

    /// Channels of the feature maps of the last three stages; of stride 8, 16 and 32 with the paper's strides.
    pub fn feature_channels(&self) -> [usize; 3] {
        [2, 4, 8].map(|times| self.width * times * self.block.expansion())
    }

    /// Whether a network can be made of it.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check(&self) -> Result<(), LimitError> {
        self.depths.iter().try_for_each(|depth| within("depths", *depth, &(1..=MAX_BLOCKS)))?;
        within("width", self.width, &WIDTHS)?;
        within("first_stage_stride", self.first_stage_stride, &(1..=2))?;
        within("last_stage_stride", self.last_stage_stride, &(1..=2))
    }

    /// A freshly initialized network.
    pub fn init(&self, device: &Device) -> ResNet {
        let (width, fused) = (self.width, self.fused);
        let conv = |shape, activation| ConvBn::new(shape, activation, fused, device);
        let last = if self.stem_activation { Activation::Relu } else { Activation::Identity };
        let stem_convs = match self.stem {
            ResNetStem::Single7x7 => vec![conv(ConvShape::dense(3, width, 7, 2), last)],
            ResNetStem::Single3x3 => vec![conv(ConvShape::dense(3, width, 3, 2), last)],
            ResNetStem::Triple3x3 => vec![
                conv(ConvShape::dense(3, width / 2, 3, 2), Activation::Relu),
                conv(ConvShape::dense(width / 2, width / 2, 3, 1), Activation::Relu),
                conv(ConvShape::dense(width / 2, width, 3, 1), last),
            ],
        };
        let mut blocks = Vec::new();
        let mut channels = width;
        for (stage, depth) in self.depths.into_iter().enumerate() {
            for index in 0..depth {
                let stride = match (index, stage) {
                    (0, 0) => self.first_stage_stride,
                    (0, 3) => self.last_stage_stride,
                    (0, _) => 2,
                    _ => 1,
                };
                let shape = ConvShape::dense(channels, width << stage, 3, stride);
                let block = Residual::new(self.block, shape, self.shortcut, fused, device);
                channels = shape.channels_out * self.block.expansion();
                blocks.push(block);
            }
        }
        let depths = self.depths;
        ResNet { stem_convs, blocks, max_pool: self.max_pool, pool: self.pool, depths }
    }
}

/// Convolutions around which the input is added.
#[derive(Module, Debug)]
pub struct Residual {
    conv0: ConvBn,
    conv1: ConvBn,
    conv2: Option<ConvBn>,
    short: Option<ConvBn>,
    pool_stride: usize,
}

impl Residual {
    /// A freshly initialized block; `shape` is that of its strided 3×3 convolution, with the
    /// block's own input channels.
    pub fn new(
        block: ResidualBlock,
        shape: ConvShape,
        shortcut: Shortcut,
        fused: bool,
        device: &Device,
    ) -> Self {
        let ConvShape { channels_in, channels_out: width, stride, .. } = shape;
        let conv = |shape, activation| ConvBn::new(shape, activation, fused, device);
        let channels_out = width * block.expansion();
        let matches = channels_in == channels_out && stride == 1;
        let conv_stride = if shortcut == Shortcut::AveragePool { 1 } else { stride };
        let short = ConvShape::dense(channels_in, channels_out, 1, conv_stride);
        let (conv0, conv1, conv2) = match block {
            ResidualBlock::Basic => (
                conv(shape, Activation::Relu),
                conv(ConvShape::dense(width, width, 3, 1), Activation::Identity),
                None,
            ),
            ResidualBlock::Bottleneck => (
                conv(ConvShape::pointwise(channels_in, width), Activation::Relu),
                conv(ConvShape::dense(width, width, 3, stride), Activation::Relu),
                Some(conv(ConvShape::pointwise(width, channels_out), Activation::Identity)),
            ),
        };
        Self {
            conv0,
            conv1,
            conv2,
            short: (!matches).then(|| conv(short, Activation::Identity)),
            pool_stride: if shortcut == Shortcut::AveragePool { stride } else { 1 },
        }
    }

    /// The block's wiring.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let y = flow.conv_bn(x.clone(), &self.conv0, Padding::Even);
        let mut y = flow.conv_bn(y, &self.conv1, Padding::Even);
        if let Some(conv) = &self.conv2 {
            y = flow.conv_bn(y, conv, Padding::Even);
        }
        let shortcut = match &self.short {
            Some(conv) => {
                let x = if self.pool_stride > 1 { flow.average_pool(x) } else { x };
                flow.conv_bn(x, conv, Padding::Even)
            }
            None => x,
        };
        flow.add_relu(y, shortcut)
    }

    /// # Shapes
    ///
    /// - `x`: `[batch, channels_in, height, width]`
    /// - output: `[batch, channels_out, ⌈height / stride⌉, ⌈width / stride⌉]`
    #[cfg(feature = "tensors")]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        Eager::planes(x, |flow, x| self.wire(flow, x))
    }

    /// The deployed form: every normalization folded into its convolution.
    #[must_use]
    #[cfg(feature = "tensors")]
    pub fn fuse(self) -> Self {
        Self {
            conv0: self.conv0.fuse(),
            conv1: self.conv1.fuse(),
            conv2: self.conv2.map(ConvBn::fuse),
            short: self.short.map(ConvBn::fuse),
            ..self
        }
    }
}

/// The ResNet backbone.
#[derive(Module, Debug)]
pub struct ResNet {
    stem_convs: Vec<ConvBn>,
    blocks: Vec<Residual>,
    max_pool: bool,
    #[module(skip)]
    pool: GlobalPool,
    #[module(skip)]
    depths: [usize; 4],
}

impl ResNet {
    /// Feature maps of the last three stages, see [`ResNetConfig::feature_channels`].
    pub fn wire_maps<F: Flow>(&self, flow: &mut F, x: F::Map) -> [F::Map; 3] {
        let mut x = x;
        for conv in &self.stem_convs {
            x = flow.conv_bn(x, conv, Padding::Even);
        }
        if self.max_pool {
            x = flow.max_pool(x);
        }
        let mut blocks = self.blocks.iter();
        let mut run = |depth: usize, x| {
            blocks.by_ref().take(depth).fold(x, |x, block| block.wire(&mut *flow, x))
        };
        let [first, second, third, fourth] = self.depths;
        let x = run(first, x);
        let c3 = run(second, x);
        let c4 = run(third, c3.clone());
        let c5 = run(fourth, c4.clone());
        [c3, c4, c5]
    }

    /// Pooled features before the classifier.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let [_, _, x] = self.wire_maps(flow, x);
        flow.global_pool(x, self.pool)
    }

    /// Pooled features before the classifier, at once.
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
            stem_convs: self.stem_convs.into_iter().map(ConvBn::fuse).collect(),
            blocks: self.blocks.into_iter().map(Residual::fuse).collect(),
            ..self
        }
    }
}
