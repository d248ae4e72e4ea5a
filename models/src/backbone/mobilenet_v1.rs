//! `MobileNetV1`: thirteen depthwise-separable blocks with `ReLU`.
//!
//! Source: "`MobileNets`", <https://arxiv.org/abs/1704.04861>, Table 1.
//! Agrees with PaddleClas `ppcls/arch/backbone/legendary_models/mobilenet_v1.py` @ d178931, without
//! the classifier.

use serde::{Deserialize, Serialize};

#[cfg(feature = "tensors")]
use crate::layers::Eager;
use crate::layers::{Activation, ConvBn, ConvShape, Flow, GlobalPool, Padding};
use crate::limits::{LimitError, SCALES, within};
#[cfg(feature = "tensors")]
use crate::values::Tensor;
use crate::values::{Device, Module};

/// Output channels at scale 1 and stride of every block.
const BLOCKS: [(usize, usize); 13] = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
];

/// Blocks up to the end of each feature map.
const MAP_ENDS: [usize; 3] = [5, 11, 13];

/// Configuration of [`MobileNetV1`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MobileNetV1Config {
    /// Multiplies every channel count, rounded down.
    pub scale: f64,
    /// Whether normalization is folded (deployed form).
    #[serde(default)]
    pub fused: bool,
}

impl MobileNetV1Config {
    fn channels(&self, channels: usize) -> usize {
        (channels as f64 * self.scale) as usize
    }

    /// Width of the pooled features.
    pub fn features(&self) -> usize {
        self.channels(1024)
    }

    /// Channels of the three feature maps of stride 8, 16 and 32.
    pub fn feature_channels(&self) -> [usize; 3] {
        [256, 512, 1024].map(|channels| self.channels(channels))
    }

    /// Whether a network can be made of it.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check(&self) -> Result<(), LimitError> {
        within("scale", self.scale, &SCALES)
    }

    /// A freshly initialized network.
    pub fn init(&self, device: &Device) -> MobileNetV1 {
        let conv = |shape| ConvBn::new(shape, Activation::Relu, self.fused, device);
        let mut channels = self.channels(32);
        let blocks = BLOCKS.map(|(out, stride)| {
            let (channels_in, channels_out) = (channels, self.channels(out));
            channels = channels_out;
            Separable {
                depthwise_conv: conv(ConvShape::depthwise(channels_in, 3, stride)),
                pointwise_conv: conv(ConvShape::pointwise(channels_in, channels_out)),
            }
        });
        MobileNetV1 {
            conv: conv(ConvShape::dense(3, self.channels(32), 3, 2)),
            blocks: blocks.into(),
        }
    }
}

/// Depthwise 3×3, pointwise 1×1.
#[derive(Module, Debug)]
struct Separable {
    depthwise_conv: ConvBn,
    pointwise_conv: ConvBn,
}

/// The `MobileNetV1` backbone.
#[derive(Module, Debug)]
pub struct MobileNetV1 {
    conv: ConvBn,
    blocks: Vec<Separable>,
}

impl MobileNetV1 {
    /// Feature maps of stride 8, 16 and 32.
    pub fn wire_maps<F: Flow>(&self, flow: &mut F, x: F::Map) -> [F::Map; 3] {
        let mut x = flow.conv_bn(x, &self.conv, Padding::Even);
        let mut from = 0;
        MAP_ENDS.map(|end| {
            for block in &self.blocks[from..end] {
                x = flow.conv_bn(x.clone(), &block.depthwise_conv, Padding::Even);
                x = flow.conv_bn(x.clone(), &block.pointwise_conv, Padding::Even);
            }
            from = end;
            x.clone()
        })
    }

    /// Pooled features before the classifier.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let [_, _, x] = self.wire_maps(flow, x);
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
        let fuse = |block: Separable| Separable {
            depthwise_conv: block.depthwise_conv.fuse(),
            pointwise_conv: block.pointwise_conv.fuse(),
        };
        Self { conv: self.conv.fuse(), blocks: self.blocks.into_iter().map(fuse).collect() }
    }
}
