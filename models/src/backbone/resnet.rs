//! ResNet with basic or bottleneck blocks, in the plain form and in the "vd" form.
//!
//! Source: "Deep Residual Learning for Image Recognition", <https://arxiv.org/abs/1512.03385>; the
//! "vd" form is "Bag of Tricks for Image Classification with Convolutional Neural Networks",
//! <https://arxiv.org/abs/1812.01187>, §4.2.
//! Agrees with PaddleClas `ppcls/arch/backbone/legendary_models/resnet.py` and
//! `variant_models/resnet_variant.py` @ d178931, without the classifier.
//! Differences: width, stem and the stride of the first stage are free, so that small pictures get
//! a small network.

use burn::backend::ops::MaxPoolOptions;
use burn::module::Module;
use burn::tensor::{Device, Tensor, module::max_pool2d};
use serde::{Deserialize, Serialize};

use crate::kernels::{add_relu, channels_first, channels_last};
use crate::layers::{Activation, ConvBn, ConvShape, global_average_pool};

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

/// How the last map becomes a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GlobalPool {
    /// The mean.
    #[default]
    Average,
    /// The maximum.
    Max,
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
    /// Whether normalisation is folded (deployed form).
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

    /// A freshly initialised network.
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
        ResNet { stem_convs, blocks, max_pool: self.max_pool, pool: self.pool }
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
    /// A freshly initialised block; `shape` is that of its strided 3×3 convolution, with the
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

    /// # Shapes
    ///
    /// - `x`: `[batch, channels_in, height, width]`
    /// - output: `[batch, channels_out, ⌈height / stride⌉, ⌈width / stride⌉]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        // Used twice, therefore channels-last.
        let x = channels_last(x);
        let y = self.conv1.forward(self.conv0.forward(channels_first(x.clone())));
        let y = match &self.conv2 {
            Some(conv) => conv.forward(y),
            None => y,
        };
        let x = match &self.short {
            Some(conv) => {
                let x = if self.pool_stride > 1 { average_pool(x) } else { x };
                conv.forward(channels_first(x))
            }
            None => channels_first(x),
        };
        add_relu(y, x)
    }

    /// The deployed form: every normalisation folded into its convolution.
    #[must_use]
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

/// Mean over 2×2 pixels, stride 2; at an odd border over the pixels that are there.
///
/// # Shapes
///
/// - `x`: `[batch, height, width, channels]`
/// - output: `[batch, ⌈height / 2⌉, ⌈width / 2⌉, channels]`
fn average_pool(x: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    let (rows, columns) = (height.div_ceil(2), width.div_ceil(2));
    let (below, right) = (2 * rows - height, 2 * columns - width);
    let padded = if below + right > 0 {
        channels_last(channels_first(x).pad((0, right, 0, below), 0.0))
    } else {
        x
    };
    let sums = padded.reshape([batch * rows, 2, columns, 2 * channels]).sum_dim(1);
    let sums = sums.reshape([batch * rows * columns, 2, channels]).sum_dim(1);
    let mean = sums.reshape([batch, rows, columns, channels]) / 4.0;
    if below + right == 0 {
        return mean;
    }
    // A border cell holds half as many pixels a missing row or column.
    let device = mean.device();
    let factor = |count: usize, missing: usize, shape: [usize; 4]| {
        let mut factors = vec![1.0_f32; count];
        if missing > 0 {
            factors[count - 1] = 2.0;
        }
        Tensor::<4>::from_data(burn::tensor::TensorData::new(factors, shape), &device)
    };
    mean * factor(rows, below, [1, rows, 1, 1]) * factor(columns, right, [1, 1, columns, 1])
}

/// The ResNet backbone.
#[derive(Module, Debug)]
pub struct ResNet {
    stem_convs: Vec<ConvBn>,
    blocks: Vec<Residual>,
    max_pool: bool,
    #[module(skip)]
    pool: GlobalPool,
}

impl ResNet {
    /// Pooled features before the classifier.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, 3, height, width]`
    /// - output: `[batch, features]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let mut x = self.stem_convs.iter().fold(x, |x, conv| conv.forward(x));
        if self.max_pool {
            let options = MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]);
            x = max_pool2d(x, options);
        }
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        match self.pool {
            GlobalPool::Average => global_average_pool(x).flatten(1, 3),
            GlobalPool::Max => {
                let [batch, channels, height, width] = x.dims();
                let pixels = channels_last(x).reshape([batch, height * width, channels]);
                pixels.max_dim(1).reshape([batch, channels])
            }
        }
    }

    /// The deployed form: every normalisation folded into its convolution.
    #[must_use]
    pub fn fuse(self) -> Self {
        Self {
            stem_convs: self.stem_convs.into_iter().map(ConvBn::fuse).collect(),
            blocks: self.blocks.into_iter().map(Residual::fuse).collect(),
            ..self
        }
    }
}
