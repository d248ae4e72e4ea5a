//! EfficientNet-Lite0 to -Lite4: inverted residual blocks with `ReLU6`, without squeeze-excite.
//!
//! Source: "EfficientNet", <https://arxiv.org/abs/1905.11946>, Table 1 and section 3.3, in the Lite
//! form of its authors (`tensorflow/tpu`, `efficientnet/lite`): `ReLU6` for swish; the stem, the head
//! and the repeats of the first and the last stage stay as they are in every size.
//! Strided convolutions are padded as TensorFlow does, batch normalization adds 1e-3 to a variance,
//! so that the published `ImageNet` weights fit.

use serde::{Deserialize, Serialize};

#[cfg(feature = "tensors")]
use crate::layers::Eager;
use crate::layers::{Activation, ConvBn, ConvShape, Flow, GlobalPool, Padding};
use crate::limits::LimitError;
#[cfg(feature = "tensors")]
use crate::values::Tensor;
use crate::values::{Device, Module};

/// Repeats, kernel, stride of the first, expansion and output channels of every stage.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];
/// Stages after which a picture is about to be halved, and the last: strides 8, 16 and 32.
const MAP_STAGES: [usize; 3] = [2, 4, 6];
/// Channels of the stem.
const STEM: usize = 32;
/// Channels of the last convolution.
const HEAD: usize = 1280;
/// Added to a variance before its square root.
const EPSILON: f64 = 1e-3;

/// How wide and deep the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LiteSize {
    /// Width 1.0, depth 1.0; published for 224 × 224.
    #[default]
    Lite0,
    /// Width 1.0, depth 1.1; published for 240 × 240.
    Lite1,
    /// Width 1.1, depth 1.2; published for 260 × 260.
    Lite2,
    /// Width 1.2, depth 1.4; published for 280 × 280.
    Lite3,
    /// Width 1.4, depth 1.8; published for 300 × 300.
    Lite4,
}

impl LiteSize {
    /// All of them, the smallest first.
    pub const ALL: [Self; 5] = [Self::Lite0, Self::Lite1, Self::Lite2, Self::Lite3, Self::Lite4];

    /// Width and depth in tenths of Lite0's.
    const fn tenths(self) -> (usize, usize) {
        match self {
            Self::Lite0 => (10, 10),
            Self::Lite1 => (10, 11),
            Self::Lite2 => (11, 12),
            Self::Lite3 => (12, 14),
            Self::Lite4 => (14, 18),
        }
    }

    /// Side in pixels of the square input that the published weights expect.
    pub const fn side(self) -> u32 {
        match self {
            Self::Lite0 => 224,
            Self::Lite1 => 240,
            Self::Lite2 => 260,
            Self::Lite3 => 280,
            Self::Lite4 => 300,
        }
    }

    /// Channels of a stage: a multiple of 8, at least nine tenths of what the width asks for.
    const fn channels(self, stage: usize) -> usize {
        let wanted = STAGES[stage].4 * self.tenths().0;
        let rounded = (wanted + 40) / 80 * 8;
        if rounded * 100 < wanted * 9 { rounded + 8 } else { rounded }
    }

    /// Blocks before the ends of strides 8, 16 and 32.
    fn ends(self) -> [usize; 3] {
        MAP_STAGES.map(|last| (0..=last).map(|stage| self.repeats(stage)).sum())
    }

    /// Blocks of a stage; the first and the last have as many in every size.
    const fn repeats(self, stage: usize) -> usize {
        let repeats = STAGES[stage].0;
        if stage == 0 || stage + 1 == STAGES.len() {
            repeats
        } else {
            (repeats * self.tenths().1).div_ceil(10)
        }
    }
}

/// Configuration of [`EfficientNetLite`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EfficientNetLiteConfig {
    /// How wide and deep it is; Lite0 unless said.
    #[serde(default)]
    pub size: LiteSize,
    /// Whether normalization is folded (deployed form).
    #[serde(default)]
    pub fused: bool,
}

impl EfficientNetLiteConfig {
    /// Width of the pooled features.
    pub const fn features(&self) -> usize {
        HEAD
    }

    /// Channels of the three feature maps of stride 8, 16 and 32.
    pub const fn feature_channels(&self) -> [usize; 3] {
        let [c3, c4, c5] = MAP_STAGES;
        [self.size.channels(c3), self.size.channels(c4), self.size.channels(c5)]
    }

    /// Whether a network can be made of it: always, because nothing of its size is free.
    ///
    /// # Errors
    ///
    /// None.
    pub const fn check(&self) -> Result<(), LimitError> {
        Ok(())
    }

    fn conv(&self, shape: ConvShape, activation: Activation, device: &Device) -> ConvBn {
        ConvBn::with_epsilon(shape, activation, self.fused, EPSILON, device)
    }

    /// A freshly initialized network.
    pub fn init(&self, device: &Device) -> EfficientNetLite {
        let mut channels = STEM;
        let mut blocks = Vec::new();
        for (stage, (_, kernel, first_stride, expansion, _)) in STAGES.into_iter().enumerate() {
            let channels_out = self.size.channels(stage);
            for repeat in 0..self.size.repeats(stage) {
                let stride = if repeat == 0 { first_stride } else { 1 };
                let wide = channels * expansion;
                let relu6 = |shape| self.conv(shape, Activation::Relu6, device);
                blocks.push(InvertedResidual {
                    expand: (expansion > 1).then(|| relu6(ConvShape::pointwise(channels, wide))),
                    depthwise: relu6(ConvShape::depthwise(wide, kernel, stride)),
                    project: self.conv(
                        ConvShape::pointwise(wide, channels_out),
                        Activation::Identity,
                        device,
                    ),
                    residual: stride == 1 && channels == channels_out,
                });
                channels = channels_out;
            }
        }
        EfficientNetLite {
            ends: self.size.ends(),
            stem: self.conv(ConvShape::dense(3, STEM, 3, 2), Activation::Relu6, device),
            blocks,
            head: Some(self.conv(ConvShape::pointwise(channels, HEAD), Activation::Relu6, device)),
        }
    }

    /// A freshly initialized network for [`EfficientNetLite::wire_maps`] alone: without the
    /// convolution behind them.
    pub fn init_maps(&self, device: &Device) -> EfficientNetLite {
        EfficientNetLite { head: None, ..self.init(device) }
    }
}

/// Widen by 1×1, filter by depthwise, narrow by 1×1, with the input added where shapes agree.
#[derive(Module, Debug)]
struct InvertedResidual {
    expand: Option<ConvBn>,
    depthwise: ConvBn,
    project: ConvBn,
    residual: bool,
}

impl InvertedResidual {
    fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let wide = match &self.expand {
            Some(expand) => flow.conv_bn(x.clone(), expand, Padding::Even),
            None => x.clone(),
        };
        let filtered = flow.conv_bn(wide, &self.depthwise, Padding::Same);
        let y = flow.conv_bn(filtered, &self.project, Padding::Even);
        if self.residual { flow.add(x, y) } else { y }
    }

    #[cfg(feature = "tensors")]
    fn fuse(self) -> Self {
        Self {
            expand: self.expand.map(ConvBn::fuse),
            depthwise: self.depthwise.fuse(),
            project: self.project.fuse(),
            ..self
        }
    }
}

/// An EfficientNet-Lite backbone.
#[derive(Module, Debug)]
pub struct EfficientNetLite {
    #[module(skip)]
    ends: [usize; 3],
    stem: ConvBn,
    blocks: Vec<InvertedResidual>,
    head: Option<ConvBn>,
}

impl EfficientNetLite {
    /// Feature maps of stride 8, 16 and 32: where the picture is about to be halved, and the last.
    pub fn wire_maps<F: Flow>(&self, flow: &mut F, x: F::Map) -> [F::Map; 3] {
        let mut x = flow.conv_bn(x, &self.stem, Padding::Same);
        let mut from = 0;
        self.ends.map(|end| {
            x = self.blocks[from..end].iter().fold(x.clone(), |x, block| block.wire(flow, x));
            from = end;
            x.clone()
        })
    }

    /// Pooled features before the classifier: 1280 values.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let [_, _, x] = self.wire_maps(flow, x);
        let x = match &self.head {
            Some(head) => flow.conv_bn(x, head, Padding::Even),
            None => x,
        };
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
            ends: self.ends,
            stem: self.stem.fuse(),
            blocks: self.blocks.into_iter().map(InvertedResidual::fuse).collect(),
            head: self.head.map(ConvBn::fuse),
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::backend::ops::ConvOptions;
    use burn::tensor::{Distribution, module::conv2d};

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_into_vec().expect("floats")
    }

    fn assert_near(what: &str, got: &[f32], expected: &[f32]) {
        assert_eq!(got.len(), expected.len(), "{what}");
        let scale = expected.iter().fold(1e-3_f32, |m, v| m.max(v.abs()));
        let worst = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // Sums in another order.
        assert!(worst <= 1e-4 * scale, "{what}: off by {worst} at scale {scale}");
    }

    /// What TensorFlow's documentation says: the total depends on the side, the odd one goes last.
    fn padding(side: usize, kernel: usize) -> (usize, usize) {
        let total = ((side.div_ceil(2) - 1) * 2 + kernel).saturating_sub(side);
        (total / 2, total - total / 2)
    }

    #[test]
    fn strided_convolutions_are_padded_as_tensorflow_does() {
        let device = Device::flex();
        for (height, width) in [(8, 8), (7, 8), (8, 5), (9, 11), (2, 3)] {
            for kernel in [3, 5] {
                let shape = ConvShape::dense(2, 3, kernel, 2);
                let conv = ConvBn::new(shape, Activation::Identity, true, &device);
                let x =
                    Tensor::random([2, 2, height, width], Distribution::Normal(0.0, 1.0), &device);
                let ((top, bottom), (left, right)) =
                    (padding(height, kernel), padding(width, kernel));
                let padded = x.clone().pad((left, right, top, bottom), 0.0);
                let options = ConvOptions::new([2, 2], [0, 0], [1, 1], 1);
                let expected = conv2d(padded, conv.conv.weight.val(), None, options);
                let what = format!("{height}×{width} k{kernel}");
                assert_near(&what, &values(conv.forward_same(x)), &values(expected));
            }
        }
    }

    #[test]
    fn feature_maps_have_the_strides_and_channels_they_say() {
        let device = Device::flex();
        let config = EfficientNetLiteConfig::default();
        let network = config.init_maps(&device);
        let maps = network.wire_maps(&mut Eager, Tensor::zeros([1, 64, 96, 3], &device));
        let [c3, c4, c5] = config.feature_channels();
        let expected = [[1, 8, 12, c3], [1, 4, 6, c4], [1, 2, 3, c5]];
        assert_eq!(maps.map(|map| map.dims()), expected);
    }

    #[test]
    fn sizes_are_as_published() {
        // Channels and blocks of each stage as the authors' code rounds them; parameters without the
        // classifier of 1,280,000 + 1,000: their table says 4.7, 5.4, 6.1, 8.2 and 13.0 million in all.
        let expected = [
            (LiteSize::Lite0, [16, 24, 40, 80, 112, 192, 320], [1, 2, 2, 3, 3, 4, 1]),
            (LiteSize::Lite1, [16, 24, 40, 80, 112, 192, 320], [1, 3, 3, 4, 4, 5, 1]),
            (LiteSize::Lite2, [16, 24, 48, 88, 120, 208, 352], [1, 3, 3, 4, 4, 5, 1]),
            (LiteSize::Lite3, [24, 32, 48, 96, 136, 232, 384], [1, 3, 3, 5, 5, 6, 1]),
            (LiteSize::Lite4, [24, 32, 56, 112, 160, 272, 448], [1, 4, 4, 6, 6, 8, 1]),
        ];
        assert_eq!(expected.map(|(size, _, _)| size), LiteSize::ALL);
        for (size, channels, repeats) in expected {
            assert_eq!(std::array::from_fn(|stage| size.channels(stage)), channels, "{size:?}");
            assert_eq!(std::array::from_fn(|stage| size.repeats(stage)), repeats, "{size:?}");
        }
    }

    #[test]
    fn the_deployed_form_gives_the_same_features() {
        let device = Device::flex();
        let network = EfficientNetLiteConfig::default().init(&device);
        let x = Tensor::random([1, 3, 64, 40], Distribution::Normal(0.0, 1.0), &device);
        let before = values(network.forward(x.clone()));
        assert_eq!(before.len(), HEAD);
        assert_near("fused", &values(network.fuse().forward(x)), &before);
    }
}
