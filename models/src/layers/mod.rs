//! Blocks shared by the networks: convolution, batch normalization, squeeze-excite.
//!
//! Source: the building blocks of PP-LCNet, <https://arxiv.org/abs/2109.15099>, and PicoDet,
//! <https://arxiv.org/abs/2111.00902>.
//! Agrees with PaddleClas `ppcls/arch/backbone/legendary_models/pp_lcnet{,_v2}.py` @ d178931.
//! Differences: convolutions run through [`crate::operators`]; [`ConvBn::fuse`] also folds batch normalization that the reference's export
//! leaves to its runtime.

mod flow;
mod fresh;

pub use crate::operators::Activation;
pub use flow::{Eager, Flow, Gate, GlobalPool, LENGTH_EPSILON, SCORE_EPSILON, SCORE_MARGIN};
pub(crate) use fresh::{constant, normal};

use crate::operators::{self, channels_first, channels_last};
use burn::module::{Flag, Module, Param, RunningState};
use burn::tensor::{Device, Tensor};

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
    /// 1, or `channels_in`: a depthwise convolution.
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
        let ConvShape { channels_in, channels_out, kernel, stride, groups } = shape;
        let fan_in = channels_in / groups * kernel * kernel;
        let std = (2.0 / fan_in as f64).sqrt();
        Self {
            weight: normal([channels_out, channels_in / groups, kernel, kernel], std, device),
            bias: bias.then(|| constant([channels_out], 0.0, device)),
            stride,
            groups,
        }
    }

    /// Convolves `x`.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, channels_in, height, width]`
    /// - output: `[batch, channels_out, ⌈height / stride⌉, ⌈width / stride⌉]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.bias {
            Some(_) => self.forward_activated(x, Activation::Identity),
            None => self.convolve(x),
        }
    }

    /// [`Self::forward`] with the activation behind it.
    ///
    /// # Shapes
    ///
    /// As [`Self::forward`].
    pub fn forward_activated(&self, x: Tensor<4>, activation: Activation) -> Tensor<4> {
        let y = self.convolve(x);
        match &self.bias {
            Some(bias) => operators::bias_act(y, bias.val(), activation),
            None => activation.forward(y),
        }
    }

    fn convolve(&self, x: Tensor<4>) -> Tensor<4> {
        let weight = self.weight.val();
        if self.groups == 1 {
            operators::dense_conv2d(x, weight, self.stride)
        } else {
            operators::depthwise_conv2d(x, weight, self.stride)
        }
    }

    /// Weight and bias, zeros where there is none, for a caller that goes on without tensors, on the
    /// CPU.
    pub fn values(&self) -> (Vec<f32>, Vec<f32>) {
        let [channels_out, ..] = self.weight.dims();
        let bias = self.bias.as_ref().map(|bias| values_of(bias.val()));
        (values_of(self.weight.val()), bias.unwrap_or_else(|| vec![0.0; channels_out]))
    }

    /// Step between neighboring centers in both directions.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Pixels added before and behind a side of this many, and the pixels of the side that comes out.
    pub fn reach(&self, side: usize, padding: Padding) -> (usize, usize, usize) {
        let ([.., kernel], stride) = (self.weight.dims(), self.stride);
        match padding {
            Padding::Even => {
                let before = (kernel - 1) / 2;
                (before, before, (side + 2 * before - kernel) / stride + 1)
            }
            Padding::Same => {
                let out = side.div_ceil(stride);
                let total = ((out - 1) * stride + kernel).saturating_sub(side);
                (total / 2, total - total / 2, out)
            }
        }
    }

    /// Whether every channel has a filter of its own.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1
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
            running_mean: RunningState::new(Tensor::zeros([channels], device)),
            running_var: RunningState::new(Tensor::ones([channels], device)),
            training: Param::from_bool(true),
        }
    }

    /// Normalizes `x` and applies `activation`.
    ///
    /// On a training device the batch's own statistics are used, and the running ones move towards
    /// them; elsewhere, or while the module is frozen, the running ones are used.
    ///
    /// # Shapes
    ///
    /// - `x`, output: `[batch, channels, height, width]`
    pub fn forward(&self, x: Tensor<4>, activation: Activation) -> Tensor<4> {
        if !(x.device().is_autodiff() && self.training.is_enabled()) {
            let (scale, shift) = self.affine(&x.device());
            let channels = scale.dims()[0];
            let scaled = channels_last(x) * scale.reshape([1, 1, 1, channels]);
            return operators::bias_act(channels_first(scaled), shift, activation);
        }
        let (output, mean, variance) = operators::batch_norm_act(
            x,
            self.weight.val(),
            self.bias.val(),
            self.epsilon,
            activation,
        );
        for (state, batch) in [(&self.running_mean, mean), (&self.running_var, variance)] {
            let old = state.value_sync().to_device(&batch.device());
            let new = old * (1.0 - BATCH_NORM_MOMENTUM) + batch.detach() * BATCH_NORM_MOMENTUM;
            state.update(new.detach());
        }
        output
    }

    /// [`Self::affine`] for a caller that goes on without tensors, on the CPU.
    pub fn affine_values(&self) -> (Vec<f32>, Vec<f32>) {
        let [weight, bias] = [&self.weight, &self.bias].map(|param| values_of(param.val()));
        let [mean, variance] =
            [&self.running_mean, &self.running_var].map(|state| values_of(state.value()));
        let epsilon = self.epsilon as f32;
        let scale: Vec<f32> =
            weight.iter().zip(&variance).map(|(w, v)| w / (v + epsilon).sqrt()).collect();
        let shift = bias.iter().zip(mean.iter().zip(&scale)).map(|(b, (m, s))| b - m * s).collect();
        (scale, shift)
    }

    /// The normalization outside training as `x · scale + shift`.
    ///
    /// # Shapes
    ///
    /// - scale, shift: `[channels]`
    pub fn affine(&self, device: &Device) -> (Tensor<1>, Tensor<1>) {
        let mean = self.running_mean.value().to_device(device);
        let variance = self.running_var.value().to_device(device);
        let scale = self.weight.val() / (variance + self.epsilon).sqrt();
        let shift = self.bias.val() - mean * scale.clone();
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

    /// Convolves, normalizes and activates `x`.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, channels_in, height, width]`
    /// - output: `[batch, channels_out, ⌈height / stride⌉, ⌈width / stride⌉]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.bn {
            Some(bn) => bn.forward(self.conv.forward(x), self.activation),
            None => self.conv.forward_activated(x, self.activation),
        }
    }

    /// [`Self::forward`] as TensorFlow pads it (`SAME`), for strides of 1 and 2: with 2, of an even
    /// side the odd pixels are the centers, not the even ones.
    ///
    /// # Shapes
    ///
    /// As [`Self::forward`].
    pub(crate) fn forward_same(&self, x: Tensor<4>) -> Tensor<4> {
        if self.conv.stride == 1 {
            return self.forward(x);
        }
        // One more row or column in front makes the odd pixels even; the first center is then a
        // padded one and is dropped before its values enter any statistics.
        let [_, _, height, width] = x.dims();
        let [top, left] = [height, width].map(|side| usize::from(side % 2 == 0));
        let trim = |y: Tensor<4>| {
            let [_, _, height, width] = y.dims();
            y.narrow(2, top, height - top).narrow(3, left, width - left)
        };
        let x = x.pad((left, 0, top, 0), 0.0);
        match &self.bn {
            Some(bn) => bn.forward(trim(self.conv.forward(x)), self.activation),
            None => trim(self.conv.forward_activated(x, self.activation)),
        }
    }

    /// Folds the normalization into the convolution's weight and bias.
    #[must_use]
    pub fn fuse(self) -> Self {
        match self.folded() {
            Some((weight, bias)) => Self {
                conv: Conv {
                    weight: Param::from_tensor(weight),
                    bias: Some(Param::from_tensor(bias)),
                    ..self.conv
                },
                bn: None,
                ..self
            },
            None => self,
        }
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

    /// Weight and bias with the normalization folded in; `None` once fused.
    fn folded(&self) -> Option<(Tensor<4>, Tensor<1>)> {
        let weight = self.conv.weight.val();
        let (scale, shift) = self.bn.as_ref()?.affine(&weight.device());
        let channels = scale.dims()[0];
        Some((weight * scale.reshape([channels, 1, 1, 1]), shift))
    }

    /// Sums parallel depthwise branches of different kernel sizes into one convolution with bias
    /// and the given activation: kernels are padded with zeros to the largest.
    ///
    /// Source: structural re-parameterization, <https://arxiv.org/abs/2101.03697>, §3.3.
    pub(crate) fn merge(branches: &[Self], activation: Activation) -> Option<Self> {
        let largest = branches.iter().map(|b| b.conv.weight.dims()[2]).max()?;
        let mut sum: Option<(Tensor<4>, Tensor<1>)> = None;
        for branch in branches {
            let (weight, bias) = branch.folded()?;
            let pad = (largest - weight.dims()[2]) / 2;
            let weight = weight.pad((pad, pad, pad, pad), 0.0);
            sum = Some(match sum {
                Some((w, b)) => (w + weight, b + bias),
                None => (weight, bias),
            });
        }
        let (weight, bias) = sum?;
        Some(Self {
            conv: Conv {
                weight: Param::from_tensor(weight),
                bias: Some(Param::from_tensor(bias)),
                stride: branches[0].conv.stride,
                groups: branches[0].conv.groups,
            },
            bn: None,
            activation,
        })
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
    gate: Gate,
}

impl SqueezeExcite {
    /// A freshly initialized block.
    pub fn new(channels: usize, gate: Gate, device: &Device) -> Self {
        Self {
            conv1: Conv::new(ConvShape::pointwise(channels, channels / 4), true, device),
            conv2: Conv::new(ConvShape::pointwise(channels / 4, channels), true, device),
            gate,
        }
    }

    /// Gates `x`.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let mean = flow.global_pool(x.clone(), GlobalPool::Average);
        let squeezed = flow.conv(mean, &self.conv1, Activation::Relu);
        let excitation = flow.conv(squeezed, &self.conv2, Activation::Identity);
        let gate = flow.apply(excitation, self.gate);
        flow.scale(x, gate)
    }

    /// Gates `x` at once.
    ///
    /// # Shapes
    ///
    /// - `x`, output: `[batch, channels, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        Eager::planes(x, |flow, x| self.wire(flow, x))
    }
}

/// The values of a tensor of floats on the CPU, row-major.
pub fn values_of<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("parameters are 32-bit floats")
}

/// Dropout that masks without rescaling in training and scales by `1 − probability` outside it.
///
/// The reference puts it before the embedding of its LCNet family, so weights learned there expect
/// the factor.
///
/// # Shapes
///
/// - `x`, output: any
pub fn downscale_dropout<const D: usize>(x: Tensor<D>, probability: f64) -> Tensor<D> {
    if probability == 0.0 {
        return x;
    }
    if x.device().is_autodiff() {
        let keep = Tensor::<D>::random(
            x.shape(),
            burn::tensor::Distribution::Bernoulli(1.0 - probability),
            &x.device(),
        );
        return x * keep;
    }
    x * (1.0 - probability)
}

/// Rounds a channel count to a multiple of 8 without losing more than a tenth.
pub(crate) fn make_divisible(value: f64) -> usize {
    let rounded = (((value + 4.0) / 8.0).floor() * 8.0).max(8.0);
    if rounded < 0.9 * value { rounded as usize + 8 } else { rounded as usize }
}
