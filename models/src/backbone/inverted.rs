//! Networks of inverted residual blocks: `MobileNetV3`, `MobileNetV4`-Conv, `EfficientNet-B0`.
//!
//! Source: "Searching for `MobileNetV3`", <https://arxiv.org/abs/1905.02244>, Tables 1 and 2; "`MobileNetV4`",
//! <https://arxiv.org/abs/2404.10518>, Tables 11 and 12; "`EfficientNet`", <https://arxiv.org/abs/1905.11946>, Table 1.
//! Agrees with timm 1.0 `mobilenetv3.py` and `efficientnet.py` without the classifier, and with torchvision's
//! `mobilenetv3.py` and `efficientnet.py`, of which the first adds 1e-3 to a variance.
//! Differences: no stochastic depth; a scale multiplies every channel count, the last one too.

use serde::{Deserialize, Serialize};

#[cfg(feature = "tensors")]
use crate::layers::Eager;
use crate::layers::{
    Activation, BATCH_NORM_EPSILON, ConvBn, ConvShape, Flow, Gate, GlobalPool, Padding,
    SqueezeExcite, make_divisible,
};
use crate::limits::{LimitError, SCALES, within};
#[cfg(feature = "tensors")]
use crate::values::Tensor;
use crate::values::{Device, Module};

/// What may be added to a variance.
const EPSILONS: std::ops::RangeInclusive<f64> = 1e-12..=1.0;

/// Which network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvertedNetwork {
    /// `MobileNetV3`-Small.
    MobilenetV3Small,
    /// `MobileNetV3`-Large.
    MobilenetV3Large,
    /// `MobileNetV4`-Conv-Small.
    MobilenetV4Small,
    /// `MobileNetV4`-Conv-Medium.
    MobilenetV4Medium,
    /// `EfficientNet-B0`.
    EfficientnetB0,
}

/// One block of a network at scale 1.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// Kernel of a depthwise convolution before the widening one; 0 where there is none.
    start: usize,
    /// Kernel of the widening convolution; 0 where there is none.
    expansion: usize,
    /// Channels between the widening and the narrowing convolution.
    wide: usize,
    /// Kernel of the depthwise convolution between them; 0 where there is none.
    kernel: usize,
    stride: usize,
    squeeze: bool,
    /// Channels of the narrowing convolution; 0 where the widening one is all.
    out: usize,
    activation: Activation,
}

/// One convolution.
const fn conv(kernel: usize, stride: usize, wide: usize, activation: Activation) -> Row {
    Row { start: 0, expansion: kernel, wide, kernel: 0, stride, squeeze: false, out: 0, activation }
}

/// A depthwise and a narrowing convolution.
const fn separable(stride: usize, squeeze: bool, wide: usize, out: usize, act: Activation) -> Row {
    Row { start: 0, expansion: 0, wide, kernel: 3, stride, squeeze, out, activation: act }
}

/// A widening, a depthwise and a narrowing convolution.
const fn inverted(
    kernel: usize,
    stride: usize,
    squeeze: bool,
    wide: usize,
    out: usize,
    activation: Activation,
) -> Row {
    Row { start: 0, expansion: 1, wide, kernel, stride, squeeze, out, activation }
}

/// The universal inverted bottleneck of `MobileNetV4`.
const fn universal(start: usize, kernel: usize, stride: usize, wide: usize, out: usize) -> Row {
    let (expansion, squeeze, activation) = (1, false, Activation::Relu);
    Row { start, expansion, wide, kernel, stride, squeeze, out, activation }
}

const RE: Activation = Activation::Relu;
const HS: Activation = Activation::HardSwish;
const SI: Activation = Activation::Silu;

const V3_SMALL: &[Row] = &[
    separable(2, true, 16, 16, RE),
    inverted(3, 2, false, 72, 24, RE),
    inverted(3, 1, false, 88, 24, RE),
    inverted(5, 2, true, 96, 40, HS),
    inverted(5, 1, true, 240, 40, HS),
    inverted(5, 1, true, 240, 40, HS),
    inverted(5, 1, true, 120, 48, HS),
    inverted(5, 1, true, 144, 48, HS),
    inverted(5, 2, true, 288, 96, HS),
    inverted(5, 1, true, 576, 96, HS),
    inverted(5, 1, true, 576, 96, HS),
    conv(1, 1, 576, HS),
];

const V3_LARGE: &[Row] = &[
    separable(1, false, 16, 16, RE),
    inverted(3, 2, false, 64, 24, RE),
    inverted(3, 1, false, 72, 24, RE),
    inverted(5, 2, true, 72, 40, RE),
    inverted(5, 1, true, 120, 40, RE),
    inverted(5, 1, true, 120, 40, RE),
    inverted(3, 2, false, 240, 80, HS),
    inverted(3, 1, false, 200, 80, HS),
    inverted(3, 1, false, 184, 80, HS),
    inverted(3, 1, false, 184, 80, HS),
    inverted(3, 1, true, 480, 112, HS),
    inverted(3, 1, true, 672, 112, HS),
    inverted(5, 2, true, 672, 160, HS),
    inverted(5, 1, true, 960, 160, HS),
    inverted(5, 1, true, 960, 160, HS),
    conv(1, 1, 960, HS),
];

const V4_SMALL: &[Row] = &[
    conv(3, 2, 32, RE),
    conv(1, 1, 32, RE),
    conv(3, 2, 96, RE),
    conv(1, 1, 64, RE),
    universal(5, 5, 2, 192, 96),
    universal(0, 3, 1, 192, 96),
    universal(0, 3, 1, 192, 96),
    universal(0, 3, 1, 192, 96),
    universal(0, 3, 1, 192, 96),
    universal(3, 0, 1, 384, 96),
    universal(3, 3, 2, 576, 128),
    universal(5, 5, 1, 512, 128),
    universal(0, 5, 1, 512, 128),
    universal(0, 5, 1, 384, 128),
    universal(0, 3, 1, 512, 128),
    universal(0, 3, 1, 512, 128),
    conv(1, 1, 960, RE),
];

const V4_MEDIUM: &[Row] = &[
    Row { expansion: 3, kernel: 0, ..inverted(0, 2, false, 128, 48, RE) },
    universal(3, 5, 2, 192, 80),
    universal(3, 3, 1, 160, 80),
    universal(3, 5, 2, 480, 160),
    universal(3, 3, 1, 640, 160),
    universal(3, 3, 1, 640, 160),
    universal(3, 5, 1, 640, 160),
    universal(3, 3, 1, 640, 160),
    universal(3, 0, 1, 640, 160),
    universal(0, 0, 1, 320, 160),
    universal(3, 0, 1, 640, 160),
    universal(5, 5, 2, 960, 256),
    universal(5, 5, 1, 1024, 256),
    universal(3, 5, 1, 1024, 256),
    universal(3, 5, 1, 1024, 256),
    universal(0, 0, 1, 1024, 256),
    universal(3, 0, 1, 1024, 256),
    universal(3, 5, 1, 512, 256),
    universal(5, 5, 1, 1024, 256),
    universal(0, 0, 1, 1024, 256),
    universal(0, 0, 1, 1024, 256),
    universal(5, 0, 1, 512, 256),
    conv(1, 1, 960, RE),
];

const EFFICIENT_B0: &[Row] = &[
    separable(1, true, 32, 16, SI),
    inverted(3, 2, true, 96, 24, SI),
    inverted(3, 1, true, 144, 24, SI),
    inverted(5, 2, true, 144, 40, SI),
    inverted(5, 1, true, 240, 40, SI),
    inverted(3, 2, true, 240, 80, SI),
    inverted(3, 1, true, 480, 80, SI),
    inverted(3, 1, true, 480, 80, SI),
    inverted(5, 1, true, 480, 112, SI),
    inverted(5, 1, true, 672, 112, SI),
    inverted(5, 1, true, 672, 112, SI),
    inverted(5, 2, true, 672, 192, SI),
    inverted(5, 1, true, 1152, 192, SI),
    inverted(5, 1, true, 1152, 192, SI),
    inverted(5, 1, true, 1152, 192, SI),
    inverted(3, 1, true, 1152, 320, SI),
];

impl InvertedNetwork {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::MobilenetV3Small,
        Self::MobilenetV3Large,
        Self::MobilenetV4Small,
        Self::MobilenetV4Medium,
        Self::EfficientnetB0,
    ];

    const fn rows(self) -> &'static [Row] {
        match self {
            Self::MobilenetV3Small => V3_SMALL,
            Self::MobilenetV3Large => V3_LARGE,
            Self::MobilenetV4Small => V4_SMALL,
            Self::MobilenetV4Medium => V4_MEDIUM,
            Self::EfficientnetB0 => EFFICIENT_B0,
        }
    }

    /// Channels of the stem and of the last convolution, and what both end with.
    const fn ends(self) -> (usize, usize, Activation) {
        match self {
            Self::MobilenetV3Small => (16, 1024, HS),
            Self::MobilenetV3Large => (16, 1280, HS),
            Self::MobilenetV4Small | Self::MobilenetV4Medium => (32, 1280, RE),
            Self::EfficientnetB0 => (32, 1280, SI),
        }
    }

    const fn is_efficient(self) -> bool {
        matches!(self, Self::EfficientnetB0)
    }
}

/// Configuration of [`Inverted`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvertedConfig {
    /// Which network.
    pub network: InvertedNetwork,
    /// Multiplies every channel count.
    #[serde(default = "one")]
    pub scale: f64,
    /// Added to a variance before its square root: 1e-5 in timm, 1e-3 in torchvision's `MobileNetV3`.
    #[serde(default = "usual_epsilon")]
    pub epsilon: f64,
    /// Whether strided convolutions are padded as TensorFlow does: in timm's networks whose names begin with `tf_`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub same_padding: bool,
    /// Whether normalization is folded (deployed form).
    #[serde(default)]
    pub fused: bool,
}

fn one() -> f64 {
    1.0
}

fn usual_epsilon() -> f64 {
    BATCH_NORM_EPSILON
}

impl InvertedConfig {
    /// At scale 1, with timm's number added to a variance, not folded.
    pub const fn new(network: InvertedNetwork) -> Self {
        Self { network, scale: 1.0, epsilon: BATCH_NORM_EPSILON, same_padding: false, fused: false }
    }

    fn channels(&self, channels: usize) -> usize {
        make_divisible(channels as f64 * self.scale)
    }

    /// Width of the pooled features.
    pub fn features(&self) -> usize {
        self.channels(self.network.ends().1)
    }

    /// Channels of the three feature maps of stride 8, 16 and 32.
    pub fn feature_channels(&self) -> [usize; 3] {
        self.map_ends().map(|end| {
            let Row { out, wide, .. } = self.network.rows()[end - 1];
            self.channels(if out > 0 { out } else { wide })
        })
    }

    /// Blocks up to the end of each feature map.
    fn map_ends(&self) -> [usize; 3] {
        let strides = self.network.rows().iter().scan(2, |stride, row| {
            *stride *= row.stride;
            Some(*stride)
        });
        let mut ends = [0; 3];
        for (index, stride) in strides.enumerate() {
            for (end, wanted) in ends.iter_mut().zip([8, 16, 32]) {
                if stride <= wanted {
                    *end = index + 1;
                }
            }
        }
        ends
    }

    /// Whether a network can be made of it.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check(&self) -> Result<(), LimitError> {
        within("scale", self.scale, &SCALES)?;
        within("epsilon", self.epsilon, &EPSILONS)
    }

    fn conv(&self, shape: ConvShape, activation: Activation, device: &Device) -> ConvBn {
        ConvBn::with_epsilon(shape, activation, self.fused, self.epsilon, device)
    }

    fn block(&self, row: Row, channels: usize, device: &Device) -> Block {
        let Row { start, expansion, kernel, stride, squeeze, activation, .. } = row;
        let [wide, out] = [row.wide, row.out].map(|channels| self.channels(channels));
        let (wide, out) =
            (if expansion > 0 { wide } else { channels }, (row.out > 0).then_some(out));
        // The first convolution that is not 1×1 has the stride, but for one before the widening where another is.
        let [first, second] = if kernel > 0 { [1, stride] } else { [stride, 1] };
        let conv = |shape, activation| self.conv(shape, activation, device);
        let squeezed =
            |reduced, inner, gate| SqueezeExcite::with_width(wide, reduced, inner, gate, device);
        let from_start = if start > 0 { 1 } else { first };
        Block {
            start: (start > 0)
                .then(|| conv(ConvShape::depthwise(channels, start, first), Activation::Identity)),
            expand: (expansion > 0)
                .then(|| conv(ConvShape::dense(channels, wide, expansion, from_start), activation)),
            depthwise: (kernel > 0)
                .then(|| conv(ConvShape::depthwise(wide, kernel, second), activation)),
            squeeze: squeeze.then(|| {
                if self.network.is_efficient() {
                    squeezed((channels / 4).max(1), Activation::Silu, Gate::Sigmoid)
                } else {
                    let reduced = make_divisible(wide as f64 / 4.0);
                    squeezed(reduced, Activation::Relu, Gate::HardSigmoid)
                }
            }),
            project: out.map(|out| conv(ConvShape::pointwise(wide, out), Activation::Identity)),
            residual: stride == 1 && out == Some(channels),
        }
    }

    /// A freshly initialized network.
    pub fn init(&self, device: &Device) -> Inverted {
        let (stem, head, activation) = self.network.ends();
        let mut channels = self.channels(stem);
        let stem = self.conv(ConvShape::dense(3, channels, 3, 2), activation, device);
        let mut blocks = Vec::new();
        for row in self.network.rows() {
            blocks.push(self.block(*row, channels, device));
            channels = self.channels(if row.out > 0 { row.out } else { row.wide });
        }
        let head = ConvShape::pointwise(channels, self.channels(head));
        let is_v3 = matches!(
            self.network,
            InvertedNetwork::MobilenetV3Small | InvertedNetwork::MobilenetV3Large
        );
        let head =
            ConvBn::with_epsilon(head, activation, self.fused || is_v3, self.epsilon, device);
        let pool_first = !self.network.is_efficient();
        let padding = if self.same_padding { Padding::Same } else { Padding::Even };
        Inverted { ends: self.map_ends(), stem, blocks, head, pool_first, padding }
    }
}

/// Widen, filter, narrow, with the input added where shapes agree.
#[derive(Module, Debug)]
struct Block {
    start: Option<ConvBn>,
    expand: Option<ConvBn>,
    depthwise: Option<ConvBn>,
    squeeze: Option<SqueezeExcite>,
    project: Option<ConvBn>,
    residual: bool,
}

impl Block {
    fn wire<F: Flow>(&self, flow: &mut F, x: F::Map, padding: Padding) -> F::Map {
        let mut y = x.clone();
        for conv in [&self.start, &self.expand, &self.depthwise].into_iter().flatten() {
            y = flow.conv_bn(y, conv, padding);
        }
        if let Some(squeeze) = &self.squeeze {
            y = squeeze.wire(flow, y);
        }
        if let Some(project) = &self.project {
            y = flow.conv_bn(y, project, Padding::Even);
        }
        if self.residual { flow.add(x, y) } else { y }
    }

    #[cfg(feature = "tensors")]
    fn fuse(self) -> Self {
        Self {
            start: self.start.map(ConvBn::fuse),
            expand: self.expand.map(ConvBn::fuse),
            depthwise: self.depthwise.map(ConvBn::fuse),
            project: self.project.map(ConvBn::fuse),
            ..self
        }
    }
}

/// A network of inverted residual blocks.
#[derive(Module, Debug)]
pub struct Inverted {
    #[module(skip)]
    ends: [usize; 3],
    stem: ConvBn,
    blocks: Vec<Block>,
    head: ConvBn,
    pool_first: bool,
    #[module(skip)]
    padding: Padding,
}

impl Inverted {
    /// Feature maps of stride 8, 16 and 32.
    pub fn wire_maps<F: Flow>(&self, flow: &mut F, x: F::Map) -> [F::Map; 3] {
        let padding = self.padding;
        let mut x = flow.conv_bn(x, &self.stem, padding);
        let mut from = 0;
        self.ends.map(|end| {
            let blocks = self.blocks[from..end].iter();
            x = blocks.fold(x.clone(), |x, block| block.wire(flow, x, padding));
            from = end;
            x.clone()
        })
    }

    /// Pooled features before the classifier.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let [_, _, mut x] = self.wire_maps(flow, x);
        if self.pool_first {
            x = flow.global_pool(x, GlobalPool::Average);
            return flow.conv_bn(x, &self.head, Padding::Even);
        }
        x = flow.conv_bn(x, &self.head, Padding::Even);
        flow.global_pool(x, GlobalPool::Average)
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
            stem: self.stem.fuse(),
            blocks: self.blocks.into_iter().map(Block::fuse).collect(),
            head: self.head.fuse(),
            ..self
        }
    }
}
