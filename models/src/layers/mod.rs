//! Blocks shared by the networks: convolution, batch normalization, squeeze-excite.
//!
//! Source: the building blocks of PP-LCNet, <https://arxiv.org/abs/2109.15099>, and PicoDet,
//! <https://arxiv.org/abs/2111.00902>.
//! Agrees with PaddleClas `ppcls/arch/backbone/legendary_models/pp_lcnet{,_v2}.py` @ d178931.
//! Differences: convolutions run through `crate::operators`; `ConvBn::fuse` also folds batch normalization that the reference's export
//! leaves to its runtime.

#[cfg(feature = "tensors")]
mod eager;
mod flow;
#[cfg(feature = "tensors")]
mod forward;
mod pool;
mod tokens;

#[cfg(feature = "tensors")]
use burn::module::Flag;

pub use crate::activation::Activation;
#[cfg(feature = "tensors")]
pub use eager::Eager;
pub use flow::{Flow, Gate, GlobalPool, LENGTH_EPSILON, SCORE_EPSILON, SCORE_MARGIN};
#[cfg(feature = "tensors")]
pub use forward::downscale_dropout;
pub use pool::{Pick, Pool};
pub use tokens::{Grid, Resampling, Rotary, Tokens};

#[cfg(feature = "tensors")]
pub use crate::values::values_of;
use crate::values::{Device, Module, Param, RunningState, Tensor, of_param, of_state, state};
pub(crate) use crate::values::{constant, normal};

/// Added to a variance before its square root; the reference's value.
pub const BATCH_NORM_EPSILON: f64 = 1e-5;

/// Share of a batch's statistics that enters the running statistics (the reference writes it as
/// momentum 0.9 on the old value).
pub const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// Where a strided convolution puts its padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// `(kernel − 1) / 2` on every side.
    Even,
    /// As TensorFlow's `SAME`: of an even side the odd pixels are a stride-2 convolution's centers.
    Same,
    /// None: what is left of a side behind the last whole window is not read. Only for patches, whose kernel is as
    /// wide as their stride.
    Nothing,
    /// So many pixels above, to the left, below and to the right, each fewer than the kernel has.
    Sides([usize; 4]),
}

/// Size and position of a convolution's kernel.
#[derive(Debug, Clone, Copy)]
pub struct ConvShape {
    /// Channels of the input.
    pub channels_in: usize,
    /// Channels of the output.
    pub channels_out: usize,
    /// Side of the square kernel; padding is `(kernel − 1) / 2`.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Groups of channels that see nothing of each other; as many as channels in a depthwise convolution.
    groups: usize,
}

impl ConvShape {
    /// A dense convolution.
    pub const fn dense(
        channels_in: usize,
        channels_out: usize,
        kernel: usize,
        stride: usize,
    ) -> Self {
        Self { channels_in, channels_out, kernel, stride, groups: 1 }
    }

    /// One filter a channel.
    pub const fn depthwise(channels: usize, kernel: usize, stride: usize) -> Self {
        Self { channels_in: channels, channels_out: channels, kernel, stride, groups: channels }
    }

    /// A convolution of groups of channels.
    pub const fn grouped(
        channels_in: usize,
        channels_out: usize,
        kernel: usize,
        stride: usize,
        groups: usize,
    ) -> Self {
        Self { channels_in, channels_out, kernel, stride, groups }
    }

    /// A 1×1 convolution.
    pub const fn pointwise(channels_in: usize, channels_out: usize) -> Self {
        Self::dense(channels_in, channels_out, 1, 1)
    }
}

/// Two-dimensional convolution with symmetric padding.
#[derive(Module, Debug)]
pub struct Conv {
    /// `[channels_out, channels_in / groups, kernel, kernel]`
    pub weight: Param<Tensor<4>>,
    /// `[channels_out]`
    pub bias: Option<Param<Tensor<1>>>,
    stride: usize,
    groups: usize,
}

impl Conv {
    /// Draws the weight from `N(0, √(2 / fan_in))` with `fan_in = channels_in / groups · kernel²`;
    /// the bias is zero.
    pub fn new(shape: ConvShape, bias: bool, device: &Device) -> Self {
        let ConvShape { channels_in, kernel, groups, .. } = shape;
        let fan_in = channels_in / groups * kernel * kernel;
        Self::with_deviation(shape, (2.0 / fan_in as f64).sqrt(), bias, device)
    }

    /// [`Self::new`] with a weight from `N(0, std)`.
    pub fn with_deviation(shape: ConvShape, std: f64, bias: bool, device: &Device) -> Self {
        let ConvShape { channels_in, channels_out, kernel, stride, groups } = shape;
        Self {
            weight: normal([channels_out, channels_in / groups, kernel, kernel], std, device),
            bias: bias.then(|| constant([channels_out], 0.0, device)),
            stride,
            groups,
        }
    }

    /// Weight and bias, zeros where there is none, for a caller that goes on without tensors, on the
    /// CPU.
    pub fn values(&self) -> (Vec<f32>, Vec<f32>) {
        let [channels_out, ..] = self.weight.dims();
        let bias = self.bias.as_ref().map(of_param);
        (of_param(&self.weight), bias.unwrap_or_else(|| vec![0.0; channels_out]))
    }

    /// Step between neighboring centers in both directions.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Of height and width: pixels added before and behind, and the pixels that come out.
    pub fn reach(&self, sides: [usize; 2], padding: Padding) -> [(usize, usize, usize); 2] {
        std::array::from_fn(|axis| self.reach_along(axis, sides[axis], padding))
    }

    fn reach_along(&self, axis: usize, side: usize, padding: Padding) -> (usize, usize, usize) {
        let ([.., kernel], stride) = (self.weight.dims(), self.stride);
        match padding {
            Padding::Sides(sides) => {
                let (before, behind) = (sides[axis], sides[axis + 2]);
                (before, behind, (side + before + behind).saturating_sub(kernel) / stride + 1)
            }
            Padding::Even => {
                let before = (kernel - 1) / 2;
                (before, before, (side + 2 * before - kernel) / stride + 1)
            }
            Padding::Nothing => (0, 0, side / stride),
            Padding::Same => {
                let out = side.div_ceil(stride);
                let total = ((out - 1) * stride + kernel).saturating_sub(side);
                (total / 2, total - total / 2, out)
            }
        }
    }

    /// Groups of channels that see nothing of each other.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Whether every channel has a filter of its own.
    pub fn is_depthwise(&self) -> bool {
        let [channels_out, each, ..] = self.weight.dims();
        self.groups > 1 && each == 1 && channels_out == self.groups
    }

    /// Weights of a layer whose groups are no single channels, as those of a dense one: with zeros between channels
    /// that see nothing of each other. Of any other layer they stay as they are.
    pub fn ungrouped(&self, weight: Vec<f32>) -> Vec<f32> {
        if self.groups == 1 || self.is_depthwise() {
            return weight;
        }
        let [channels_out, each, height, width] = self.weight.dims();
        let filter = each * height * width;
        let mut dense = vec![0.0; weight.len() * self.groups];
        let places = dense.chunks_exact_mut(filter * self.groups);
        for (index, (to, from)) in places.zip(weight.chunks_exact(filter)).enumerate() {
            let group = index / (channels_out / self.groups);
            to[group * filter..][..filter].copy_from_slice(from);
        }
        dense
    }
}

/// Batch normalization over `[batch, channels, height, width]`, fused with the activation behind it.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// Scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// Mean used outside training, `[channels]`.
    pub running_mean: RunningState<Tensor<1>>,
    /// Biased variance used outside training, `[channels]`.
    pub running_var: RunningState<Tensor<1>>,
    #[cfg(feature = "tensors")]
    training: Param<Flag>,
    epsilon: f64,
}

impl BatchNorm {
    /// Scale 1, shift 0, mean 0, variance 1; [`BATCH_NORM_EPSILON`].
    pub fn new(channels: usize, device: &Device) -> Self {
        Self::with_epsilon(channels, BATCH_NORM_EPSILON, device)
    }

    /// [`Self::new`] with another number added to the variance.
    pub fn with_epsilon(channels: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            epsilon,
            weight: constant([channels], 1.0, device),
            bias: constant([channels], 0.0, device),
            running_mean: state(channels, 0.0, device),
            running_var: state(channels, 1.0, device),
            #[cfg(feature = "tensors")]
            training: Param::from_bool(true),
        }
    }

    /// [`Self::affine`] for a caller that goes on without tensors, on the CPU.
    pub fn affine_values(&self) -> (Vec<f32>, Vec<f32>) {
        let [weight, bias] = [&self.weight, &self.bias].map(of_param);
        let [mean, variance] = [&self.running_mean, &self.running_var].map(of_state);
        let epsilon = self.epsilon as f32;
        let scale: Vec<f32> =
            weight.iter().zip(&variance).map(|(w, v)| w / (v + epsilon).sqrt()).collect();
        let shift = bias.iter().zip(mean.iter().zip(&scale)).map(|(b, (m, s))| b - m * s).collect();
        (scale, shift)
    }
}

/// Convolution without bias, batch normalization, activation; after [`Self::fuse`] a convolution
/// with bias and the activation.
#[derive(Module, Debug)]
pub struct ConvBn {
    /// The convolution.
    pub conv: Conv,
    /// Absent once fused.
    pub bn: Option<BatchNorm>,
    #[module(skip)]
    activation: Activation,
}

impl ConvBn {
    /// A freshly initialized block; `fused` makes the deployed form.
    pub fn new(shape: ConvShape, activation: Activation, fused: bool, device: &Device) -> Self {
        Self::with_epsilon(shape, activation, fused, BATCH_NORM_EPSILON, device)
    }

    /// [`Self::new`] with another number added to the variance.
    pub fn with_epsilon(
        shape: ConvShape,
        activation: Activation,
        fused: bool,
        epsilon: f64,
        device: &Device,
    ) -> Self {
        let bn = || BatchNorm::with_epsilon(shape.channels_out, epsilon, device);
        Self { conv: Conv::new(shape, fused, device), bn: (!fused).then(bn), activation }
    }

    /// The activation behind the convolution.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Weight and bias of the convolution with the normalization folded in, if there still is one,
    /// for a caller that goes on without tensors, on the CPU.
    ///
    /// # Shapes
    ///
    /// - weight: `[channels_out, channels_in / groups, kernel, kernel]`, row-major
    /// - bias: `[channels_out]`
    pub fn folded_values(&self) -> (Vec<f32>, Vec<f32>) {
        let (mut weight, bias) = self.conv.values();
        let Some(bn) = &self.bn else { return (weight, bias) };
        let (scale, shift) = bn.affine_values();
        let filter = weight.len() / scale.len();
        for (filter, scale) in weight.chunks_exact_mut(filter).zip(&scale) {
            filter.iter_mut().for_each(|value| *value *= scale);
        }
        (weight, shift)
    }
}

/// Normalization of every pixel over its channels.
///
/// Source: "Layer Normalization", <https://arxiv.org/abs/1607.06450>.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// Scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[channels]`.
    pub bias: Param<Tensor<1>>,
    epsilon: f64,
}

impl LayerNorm {
    /// Scale 1, shift 0; `epsilon` is added to a variance before its square root.
    pub fn new(channels: usize, epsilon: f64, device: &Device) -> Self {
        let (weight, bias) = (constant([channels], 1.0, device), constant([channels], 0.0, device));
        Self { weight, bias, epsilon }
    }

    /// Added to a variance before its square root.
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// Scale and shift for a caller that goes on without tensors, on the CPU.
    pub fn values(&self) -> [Vec<f32>; 2] {
        [&self.weight, &self.bias].map(of_param)
    }
}

/// A factor and a summand a channel, which training learns like any weight.
#[derive(Module, Debug)]
pub struct Affine {
    /// The factors, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// The summands, `[channels]`.
    pub bias: Param<Tensor<1>>,
}

impl Affine {
    /// Factors 1, summands 0.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self { weight: constant([channels], 1.0, device), bias: constant([channels], 0.0, device) }
    }

    /// Factors and summands for a caller that goes on without tensors, on the CPU.
    pub fn values(&self) -> [Vec<f32>; 2] {
        [&self.weight, &self.bias].map(of_param)
    }
}

/// Scales every channel by a gate computed from the channel means.
///
/// Source: <https://arxiv.org/abs/1709.01507>; reduction 4.
#[derive(Module, Debug)]
pub struct SqueezeExcite {
    /// `channels → channels / 4`
    pub conv1: Conv,
    /// `channels / 4 → channels`
    pub conv2: Conv,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    gate: Gate,
}

impl SqueezeExcite {
    /// A freshly initialized block with `ReLU`.
    pub fn new(channels: usize, gate: Gate, device: &Device) -> Self {
        Self::with_width(channels, channels / 4, Activation::Relu, gate, device)
    }

    /// [`Self::new`] through a width of its own, with the activation behind the first convolution.
    pub fn with_width(
        channels: usize,
        width: usize,
        activation: Activation,
        gate: Gate,
        device: &Device,
    ) -> Self {
        Self {
            conv1: Conv::new(ConvShape::pointwise(channels, width), true, device),
            conv2: Conv::new(ConvShape::pointwise(width, channels), true, device),
            activation,
            gate,
        }
    }

    /// Gates `x`.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let mean = flow.global_pool(x.clone(), GlobalPool::Average);
        let squeezed = flow.conv(mean, &self.conv1, self.activation);
        let excitation = flow.conv(squeezed, &self.conv2, Activation::Identity);
        let gate = flow.apply(excitation, self.gate);
        flow.scale(x, gate)
    }
}

/// Rounds a channel count to a multiple of 8 without losing more than a tenth.
pub(crate) fn make_divisible(value: f64) -> usize {
    let rounded = (((value + 4.0) / 8.0).floor() * 8.0).max(8.0);
    if rounded < 0.9 * value { rounded as usize + 8 } else { rounded as usize }
}
