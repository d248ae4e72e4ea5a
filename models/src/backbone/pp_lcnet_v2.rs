//! PP-LCNetV2: re-parameterised depthwise convolutions, split pointwise convolutions, a shortcut
//! in the last stage; `ReLU` throughout. Includes the variant that PP-ShiTuV2 embeds with.
//!
//! Agrees with PaddleClas `ppcls/arch/backbone/legendary_models/pp_lcnet_v2.py` and
//! `ppcls/arch/backbone/variant_models/pp_lcnetv2_variant.py` @ d178931, without the classifier.
//! Differences: the spare fused convolution that the reference carries through training does not
//! exist here before [`PpLcNetV2::fuse`]; fusing also folds batch normalization.

use serde::{Deserialize, Serialize};

#[cfg(feature = "tensors")]
use crate::layers::Eager;
use crate::layers::{
    Activation, Conv, ConvBn, ConvShape, Flow, Gate, GlobalPool, Padding, SqueezeExcite,
    make_divisible,
};
use crate::limits::{DROPOUTS, LimitError, MAX_BLOCKS, MAX_WIDTH, SCALES, within};
#[cfg(feature = "tensors")]
use crate::values::Tensor;
use crate::values::{Device, Module};

/// One row a stage.
struct Stage {
    channels_in: usize,
    kernel: usize,
    options: RepOptions,
}

/// The optional parts of a [`RepDepthwiseSeparable`] block.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent parts, each there or not")]
pub struct RepOptions {
    /// Two pointwise convolutions through half the width instead of one.
    pub split_pointwise: bool,
    /// Parallel depthwise branches with kernels 5, 3 and, at stride 1, 1.
    pub rep: bool,
    /// Squeeze-excite behind the depthwise convolution.
    pub squeeze_excite: bool,
    /// Adds the input to the output where their shapes agree.
    pub shortcut: bool,
}

const PLAIN: RepOptions =
    RepOptions { split_pointwise: false, rep: false, squeeze_excite: false, shortcut: false };

const STAGES: [Stage; 4] = [
    Stage { channels_in: 64, kernel: 3, options: PLAIN },
    Stage { channels_in: 128, kernel: 3, options: PLAIN },
    Stage {
        channels_in: 256,
        kernel: 5,
        options: RepOptions {
            split_pointwise: true,
            rep: true,
            squeeze_excite: true,
            shortcut: false,
        },
    },
    Stage {
        channels_in: 512,
        kernel: 5,
        options: RepOptions {
            split_pointwise: false,
            rep: true,
            squeeze_excite: false,
            shortcut: true,
        },
    },
];

/// Configuration of [`PpLcNetV2`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PpLcNetV2Config {
    /// Multiplies every channel count, rounded to a multiple of 8: small 0.75, base 1, large 1.25.
    pub scale: f64,
    /// Blocks a stage: small `[2, 2, 4, 2]`, base `[2, 2, 6, 2]`, large `[2, 2, 8, 2]`.
    pub depths: [usize; 4],
    /// Width of the pooled features: 1280, or 512 in the `ShiTu` variant.
    pub class_expand: usize,
    /// The `ShiTu` variant: the last stage keeps stride 16, and the last convolution has a bias and
    /// no activation.
    pub shitu: bool,
    /// Probability of the dropout before the pooled features, 0.2 in the reference.
    pub dropout: f64,
    /// Whether branches and normalization are folded (deployed form).
    #[serde(default)]
    pub fused: bool,
}

impl PpLcNetV2Config {
    fn channels(&self, channels: usize) -> usize {
        make_divisible(channels as f64 * self.scale)
    }

    /// Width of the pooled features.
    pub const fn features(&self) -> usize {
        self.class_expand
    }

    /// Channels of the three feature maps of stride 8, 16 and 32; with `shitu`, the last one's stride is 16.
    pub fn feature_channels(&self) -> [usize; 3] {
        [256, 512, 1024].map(|channels| self.channels(channels))
    }

    /// Whether a network can be made of it.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check(&self) -> Result<(), LimitError> {
        within("scale", self.scale, &SCALES)?;
        self.depths.iter().try_for_each(|depth| within("depths", *depth, &(1..=MAX_BLOCKS)))?;
        within("class_expand", self.class_expand, &(1..=MAX_WIDTH))?;
        within("dropout", self.dropout, &DROPOUTS)
    }

    /// A freshly initialized network.
    pub fn init(&self, device: &Device) -> PpLcNetV2 {
        let stem = self.channels(32);
        let stages = STAGES.iter().zip(self.depths).enumerate().map(|(index, (stage, depth))| {
            let channels_in = self.channels(stage.channels_in);
            let channels_out = self.channels(stage.channels_in * 2);
            let first_stride = if self.shitu && index == 3 { 1 } else { 2 };
            (0..depth)
                .map(|block| {
                    let (width, stride) =
                        if block == 0 { (channels_in, first_stride) } else { (channels_out, 1) };
                    let depthwise = ConvShape::depthwise(width, stage.kernel, stride);
                    let mut options = stage.options;
                    // The reference decides on the shortcut before the ShiTu variant changes the
                    // stride, and widths differ there in any case.
                    options.shortcut &= block > 0;
                    RepDepthwiseSeparable::new(depthwise, channels_out, options, self.fused, device)
                })
                .collect()
        });
        let shape = ConvShape::pointwise(self.channels(1024), self.class_expand);
        PpLcNetV2 {
            stem: ConvBn::new(
                ConvShape::dense(3, stem, 3, 2),
                Activation::Relu,
                self.fused,
                device,
            ),
            stem_block: RepDepthwiseSeparable::new(
                ConvShape::depthwise(stem, 3, 1),
                self.channels(64),
                PLAIN,
                self.fused,
                device,
            ),
            stages: stages.collect(),
            last_conv: Conv::new(shape, self.shitu, device),
            shitu: self.shitu,
            dropout: self.dropout,
        }
    }
}

/// Depthwise convolution (one or several branches), optional squeeze-excite, one or two pointwise
/// convolutions, optional shortcut.
#[derive(Module, Debug)]
pub struct RepDepthwiseSeparable {
    dw_conv: Option<ConvBn>,
    dw_conv_list: Vec<ConvBn>,
    se: Option<SqueezeExcite>,
    pw_conv: Option<ConvBn>,
    pw_conv_1: Option<ConvBn>,
    pw_conv_2: Option<ConvBn>,
    shortcut: bool,
}

impl RepDepthwiseSeparable {
    /// A freshly initialized block; `depthwise` gives the largest kernel, the stride and the input
    /// width.
    pub fn new(
        depthwise: ConvShape,
        channels_out: usize,
        options: RepOptions,
        fused: bool,
        device: &Device,
    ) -> Self {
        let ConvShape { channels_in, kernel, stride, .. } = depthwise;
        let branches = options.rep && !fused;
        let pointwise = |channels_in, channels_out| {
            ConvBn::new(
                ConvShape::pointwise(channels_in, channels_out),
                Activation::Relu,
                fused,
                device,
            )
        };
        let whole = !options.split_pointwise;
        Self {
            dw_conv: (!branches).then(|| ConvBn::new(depthwise, Activation::Relu, fused, device)),
            dw_conv_list: [5, 3, 1]
                .into_iter()
                .filter(|&k| branches && k <= kernel && (k > 1 || stride == 1))
                .map(|k| {
                    let shape = ConvShape::depthwise(channels_in, k, stride);
                    ConvBn::new(shape, Activation::Identity, fused, device)
                })
                .collect(),
            se: options
                .squeeze_excite
                .then(|| SqueezeExcite::new(channels_in, Gate::Sigmoid, device)),
            pw_conv: whole.then(|| pointwise(channels_in, channels_out)),
            pw_conv_1: (!whole).then(|| pointwise(channels_in, channels_out / 2)),
            pw_conv_2: (!whole).then(|| pointwise(channels_out / 2, channels_out)),
            shortcut: options.shortcut && stride == 1 && channels_in == channels_out,
        }
    }

    /// The block's wiring.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let input = self.shortcut.then(|| x.clone());
        let mut y = if let Some(conv) = &self.dw_conv {
            flow.conv_bn(x, conv, Padding::Even)
        } else {
            let mut branch = |branch| flow.conv_bn(x.clone(), branch, Padding::Even);
            let branches: Vec<F::Map> = self.dw_conv_list.iter().map(&mut branch).collect();
            let mut sum = branches.into_iter();
            let first = sum.next().expect("a block without dw_conv has branches");
            match sum.next_back() {
                Some(last) => {
                    let sum = sum.fold(first, |sum, y| flow.add(sum, y));
                    flow.add_relu(sum, last)
                }
                None => flow.activate(first, Activation::Relu),
            }
        };
        if let Some(se) = &self.se {
            y = se.wire(flow, y);
        }
        for conv in [&self.pw_conv, &self.pw_conv_1, &self.pw_conv_2].into_iter().flatten() {
            y = flow.conv_bn(y, conv, Padding::Even);
        }
        match input {
            Some(input) => flow.add(y, input),
            None => y,
        }
    }

    /// # Shapes
    ///
    /// - `x`: `[batch, channels_in, height, width]`
    /// - output: `[batch, channels_out, ⌈height / stride⌉, ⌈width / stride⌉]`
    #[cfg(feature = "tensors")]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        Eager::planes(x, |flow, x| self.wire(flow, x))
    }

    /// The deployed form: branches merged, normalization folded.
    #[must_use]
    #[cfg(feature = "tensors")]
    pub fn fuse(self) -> Self {
        let merged = ConvBn::merge(&self.dw_conv_list, Activation::Relu);
        Self {
            dw_conv: merged.or(self.dw_conv.map(ConvBn::fuse)),
            dw_conv_list: Vec::new(),
            pw_conv: self.pw_conv.map(ConvBn::fuse),
            pw_conv_1: self.pw_conv_1.map(ConvBn::fuse),
            pw_conv_2: self.pw_conv_2.map(ConvBn::fuse),
            ..self
        }
    }
}

/// The PP-LCNetV2 backbone.
#[derive(Module, Debug)]
pub struct PpLcNetV2 {
    stem: ConvBn,
    stem_block: RepDepthwiseSeparable,
    stages: Vec<Vec<RepDepthwiseSeparable>>,
    last_conv: Conv,
    shitu: bool,
    dropout: f64,
}

impl PpLcNetV2 {
    /// Feature maps of the last three stages, see [`PpLcNetV2Config::feature_channels`].
    pub fn wire_maps<F: Flow>(&self, flow: &mut F, x: F::Map) -> [F::Map; 3] {
        let x = flow.conv_bn(x, &self.stem, Padding::Even);
        let x = self.stem_block.wire(flow, x);
        let mut run = |stage: usize, x| {
            self.stages[stage].iter().fold(x, |x, block| block.wire(&mut *flow, x))
        };
        let x = run(0, x);
        let c3 = run(1, x);
        let c4 = run(2, c3.clone());
        let c5 = run(3, c4.clone());
        [c3, c4, c5]
    }

    /// Pooled features before the classifier (the recognition embedding's source): `class_expand`
    /// values.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let [_, _, x] = self.wire_maps(flow, x);
        let pooled = flow.global_pool(x, GlobalPool::Average);
        let last = if self.shitu { Activation::Identity } else { Activation::Relu };
        let features = flow.conv(pooled, &self.last_conv, last);
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

    /// The deployed form: branches merged, normalization folded.
    #[must_use]
    #[cfg(feature = "tensors")]
    pub fn fuse(self) -> Self {
        Self {
            stem: self.stem.fuse(),
            stem_block: self.stem_block.fuse(),
            stages: self
                .stages
                .into_iter()
                .map(|blocks| blocks.into_iter().map(RepDepthwiseSeparable::fuse).collect())
                .collect(),
            ..self
        }
    }
}
