//! PP-LCNetV2: re-parameterised depthwise convolutions, split pointwise convolutions, a shortcut
//! in the last stage; `ReLU` throughout. Includes the variant that PP-ShiTuV2 embeds with.
//!
//! Agrees with PaddleClas `ppcls/arch/backbone/legendary_models/pp_lcnet_v2.py` and
//! `ppcls/arch/backbone/variant_models/pp_lcnetv2_variant.py` @ d178931, without the classifier.
//! Differences: the spare fused convolution that the reference carries through training does not
//! exist here before [`PpLcNetV2::fuse`]; fusing also folds batch normalisation.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::kernels::{add_relu, channels_first, channels_last};
use crate::layers::{
    Activation, Conv, ConvBn, ConvShape, Gate, SqueezeExcite, downscale_dropout,
    global_average_pool, make_divisible,
};

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
    /// Whether branches and normalisation are folded (deployed form).
    #[serde(default)]
    pub fused: bool,
}

impl PpLcNetV2Config {
    fn channels(&self, channels: usize) -> usize {
        make_divisible(channels as f64 * self.scale)
    }

    /// A freshly initialised network.
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
    /// A freshly initialised block; `depthwise` gives the largest kernel, the stride and the input
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

    /// # Shapes
    ///
    /// - `x`: `[batch, channels_in, height, width]`
    /// - output: `[batch, channels_out, ⌈height / stride⌉, ⌈width / stride⌉]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        // Where a map is used twice, it is used channels-last: sums and their gradients then run
        // over contiguous values.
        let x = channels_last(x);
        let input = self.shortcut.then(|| x.clone());
        let mut y = if let Some(conv) = &self.dw_conv {
            conv.forward(channels_first(x))
        } else {
            let branch = |branch: &ConvBn| channels_last(branch.forward(channels_first(x.clone())));
            let (last, others) =
                self.dw_conv_list.split_last().expect("a block without dw_conv has branches");
            let last = branch(last);
            match others.iter().map(branch).reduce(|sum, y| sum + y) {
                Some(sum) => add_relu(channels_first(sum), channels_first(last)),
                None => Activation::Relu.forward(channels_first(last)),
            }
        };
        if let Some(se) = &self.se {
            y = se.forward(y);
        }
        for conv in [&self.pw_conv, &self.pw_conv_1, &self.pw_conv_2].into_iter().flatten() {
            y = conv.forward(y);
        }
        match input {
            Some(input) => channels_first(channels_last(y) + input),
            None => y,
        }
    }

    /// The deployed form: branches merged, normalisation folded.
    #[must_use]
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
    /// Pooled features before the classifier (the recognition embedding's source).
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, 3, height, width]`
    /// - output: `[batch, class_expand]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.stem_block.forward(self.stem.forward(x));
        let x = self.stages.iter().flatten().fold(x, |x, block| block.forward(x));
        let x = self.last_conv.forward(global_average_pool(x));
        let x = if self.shitu { x } else { Activation::Relu.forward(x) };
        downscale_dropout(x.flatten(1, 3), self.dropout)
    }

    /// The deployed form: branches merged, normalisation folded.
    #[must_use]
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
