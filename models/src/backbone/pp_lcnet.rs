//! PP-LCNet: depthwise-separable blocks with hard-swish, squeeze-excite in the last stage.
//!
//! Source: "PP-LCNet: A Lightweight CPU Convolutional Neural Network",
//! <https://arxiv.org/abs/2109.15099>, Table 1.
//! Agrees with PaddleClas `ppcls/arch/backbone/legendary_models/pp_lcnet.py` @ d178931, without
//! the classifier behind the pooled features.

use serde::{Deserialize, Serialize};

#[cfg(feature = "tensors")]
use crate::layers::Eager;
use crate::layers::{
    Activation, Conv, ConvBn, ConvShape, Flow, Gate, GlobalPool, Padding, SqueezeExcite,
    make_divisible,
};
use crate::limits::{DROPOUTS, LimitError, MAX_WIDTH, SCALES, within};
#[cfg(feature = "tensors")]
use crate::values::Tensor;
use crate::values::{Device, Module};

/// `(kernel, channels in, channels out, stride, squeeze-excite)`
type Block = (usize, usize, usize, usize, bool);

/// Every block, by stage.
const STAGES: [&[Block]; 5] = [
    &[(3, 16, 32, 1, false)],
    &[(3, 32, 64, 2, false), (3, 64, 64, 1, false)],
    &[(3, 64, 128, 2, false), (3, 128, 128, 1, false)],
    &[
        (3, 128, 256, 2, false),
        (5, 256, 256, 1, false),
        (5, 256, 256, 1, false),
        (5, 256, 256, 1, false),
        (5, 256, 256, 1, false),
        (5, 256, 256, 1, false),
    ],
    &[(5, 256, 512, 2, true), (5, 512, 512, 1, true)],
];

/// Configuration of [`PpLcNet`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PpLcNetConfig {
    /// Multiplies every channel count, rounded to a multiple of 8: 0.25, 0.35, 0.5, 0.75, 1, 1.5,
    /// 2 or 2.5 in the paper.
    pub scale: f64,
    /// Width of the pooled features, 1280 in the paper; `None` keeps only the feature maps.
    pub class_expand: Option<usize>,
    /// Probability of the dropout before the pooled features, 0.2 in the paper.
    pub dropout: f64,
    /// Whether normalization is folded into the convolutions (deployed form).
    #[serde(default)]
    pub fused: bool,
}

impl PpLcNetConfig {
    fn channels(&self, channels: usize) -> usize {
        make_divisible(channels as f64 * self.scale)
    }

    /// Width of the pooled features.
    pub fn features(&self) -> usize {
        self.class_expand.unwrap_or(self.channels(512))
    }

    /// Channels of the three feature maps of stride 8, 16 and 32.
    pub fn feature_channels(&self) -> [usize; 3] {
        [128, 256, 512].map(|c| self.channels(c))
    }

    /// Whether a network can be made of it.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check(&self) -> Result<(), LimitError> {
        within("scale", self.scale, &SCALES)?;
        within("class_expand", self.class_expand.unwrap_or(1), &(1..=MAX_WIDTH))?;
        within("dropout", self.dropout, &DROPOUTS)
    }

    /// A freshly initialized network.
    pub fn init(&self, device: &Device) -> PpLcNet {
        let stage = |index: usize| {
            STAGES[index]
                .iter()
                .map(|&(kernel, channels_in, channels_out, stride, se)| {
                    DepthwiseSeparable::new(
                        ConvShape::depthwise(self.channels(channels_in), kernel, stride),
                        self.channels(channels_out),
                        se,
                        self.fused,
                        device,
                    )
                })
                .collect()
        };
        PpLcNet {
            conv1: ConvBn::new(
                ConvShape::dense(3, self.channels(16), 3, 2),
                Activation::HardSwish,
                self.fused,
                device,
            ),
            blocks2: stage(0),
            blocks3: stage(1),
            blocks4: stage(2),
            blocks5: stage(3),
            blocks6: stage(4),
            last_conv: self.class_expand.map(|expand| {
                Conv::new(ConvShape::pointwise(self.channels(512), expand), false, device)
            }),
            dropout: self.dropout,
        }
    }
}

/// Depthwise k×k, optional squeeze-excite, pointwise 1×1; hard-swish behind both convolutions.
#[derive(Module, Debug)]
pub struct DepthwiseSeparable {
    dw_conv: ConvBn,
    se: Option<SqueezeExcite>,
    pw_conv: ConvBn,
}

impl DepthwiseSeparable {
    /// A freshly initialized block; `depthwise` gives the kernel, the stride and the input width.
    pub fn new(
        depthwise: ConvShape,
        channels_out: usize,
        squeeze_excite: bool,
        fused: bool,
        device: &Device,
    ) -> Self {
        let channels_in = depthwise.channels_in;
        Self {
            dw_conv: ConvBn::new(depthwise, Activation::HardSwish, fused, device),
            se: squeeze_excite.then(|| SqueezeExcite::new(channels_in, Gate::HardSigmoid, device)),
            pw_conv: ConvBn::new(
                ConvShape::pointwise(channels_in, channels_out),
                Activation::HardSwish,
                fused,
                device,
            ),
        }
    }

    /// The block's wiring.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let x = flow.conv_bn(x, &self.dw_conv, Padding::Even);
        let x = match &self.se {
            Some(se) => se.wire(flow, x),
            None => x,
        };
        flow.conv_bn(x, &self.pw_conv, Padding::Even)
    }

    /// # Shapes
    ///
    /// - `x`: `[batch, channels_in, height, width]`
    /// - output: `[batch, channels_out, ⌈height / stride⌉, ⌈width / stride⌉]`
    #[cfg(feature = "tensors")]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        Eager::planes(x, |flow, x| self.wire(flow, x))
    }

    /// The deployed form.
    #[must_use]
    #[cfg(feature = "tensors")]
    pub fn fuse(self) -> Self {
        Self { dw_conv: self.dw_conv.fuse(), pw_conv: self.pw_conv.fuse(), ..self }
    }
}

/// The PP-LCNet backbone.
#[derive(Module, Debug)]
pub struct PpLcNet {
    conv1: ConvBn,
    blocks2: Vec<DepthwiseSeparable>,
    blocks3: Vec<DepthwiseSeparable>,
    blocks4: Vec<DepthwiseSeparable>,
    blocks5: Vec<DepthwiseSeparable>,
    blocks6: Vec<DepthwiseSeparable>,
    last_conv: Option<Conv>,
    dropout: f64,
}

impl PpLcNet {
    /// Feature maps of stride 8, 16 and 32.
    pub fn wire_maps<F: Flow>(&self, flow: &mut F, x: F::Map) -> [F::Map; 3] {
        let x = flow.conv_bn(x, &self.conv1, Padding::Even);
        let mut run = |blocks: &[DepthwiseSeparable], x| {
            blocks.iter().fold(x, |x, block| block.wire(&mut *flow, x))
        };
        let x = run(&self.blocks2, x);
        let x = run(&self.blocks3, x);
        let c3 = run(&self.blocks4, x);
        let c4 = run(&self.blocks5, c3.clone());
        let c5 = run(&self.blocks6, c4.clone());
        [c3, c4, c5]
    }

    /// Pooled features before the classifier: `class_expand` values, or the channels of the last
    /// map without it.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let [_, _, c5] = self.wire_maps(flow, x);
        let pooled = flow.global_pool(c5, GlobalPool::Average);
        let features = match &self.last_conv {
            Some(conv) => flow.conv(pooled, conv, Activation::HardSwish),
            None => pooled,
        };
        flow.dropout(features, self.dropout)
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
        let fuse = |blocks: Vec<DepthwiseSeparable>| {
            blocks.into_iter().map(DepthwiseSeparable::fuse).collect()
        };
        Self {
            conv1: self.conv1.fuse(),
            blocks2: fuse(self.blocks2),
            blocks3: fuse(self.blocks3),
            blocks4: fuse(self.blocks4),
            blocks5: fuse(self.blocks5),
            blocks6: fuse(self.blocks6),
            ..self
        }
    }
}
