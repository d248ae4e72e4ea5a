//! Operators that the networks spend their training time in, as an extension of Burn's backends.
//!
//! The model code calls the three functions of this module and never names a backend. On the CPU
//! backend they run hand-written loops ([`cpu`]); on every other backend they are composed of
//! Burn's own operators, which is also what the CPU loops are tested against.
//!
//! Why they exist: Burn computes the weight gradient of a grouped convolution with one
//! convolution a group, and batch normalisation with a dozen passes over the activations. Both
//! dominate the training time of depthwise-separable networks on a CPU.

#[cfg(feature = "flex")]
mod cpu;
#[cfg(feature = "train")]
mod gradients;

use burn::backend::{Backend, backend_extension, ops::ConvOptions, tensor::FloatTensor};
use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

/// Function applied after a convolution and its normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// `x`
    Identity = 0,
    /// `max(x, 0)`
    Relu = 1,
    /// `x · clip(x + 3, 0, 6) / 6`
    HardSwish = 2,
}

impl Activation {
    /// Applies the function elementwise.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Identity => x,
            Self::Relu => activation::relu(x),
            Self::HardSwish => {
                let gate = activation::hard_sigmoid(x.clone(), 1.0 / 6.0, 0.5);
                x * gate
            }
        }
    }

    pub(crate) fn from_index(index: usize) -> Self {
        [Self::Identity, Self::Relu, Self::HardSwish][index]
    }
}

/// The extension trait; implemented for each backend that the binary enables.
///
/// Not part of the crate's face: call [`depthwise_conv2d`], [`pointwise_conv2d`] and
/// [`batch_norm_act`] instead.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "cube"),
    Autodiff: cfg(feature = "train")
)]
pub trait NetworkOps: Backend {
    /// See [`depthwise_conv2d`].
    fn depthwise(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        generic::depthwise::<Self>(x, weight, stride)
    }

    /// Gradients of [`depthwise_conv2d`] with respect to the input and the weight.
    fn depthwise_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        generic::depthwise_backward::<Self>(x, weight, grad, stride)
    }

    /// See [`pointwise_conv2d`].
    fn pointwise(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::conv2d(x, weight, None, ConvOptions::new([1, 1], [0, 0], [1, 1], 1))
    }

    /// Gradients of [`pointwise_conv2d`] with respect to the input and the weight.
    fn pointwise_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        generic::pointwise_backward::<Self>(x, weight, grad)
    }

    /// See [`batch_norm_act`]; returns `(output, mean, variance)`.
    fn norm_act(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        activation: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        generic::norm_act::<Self>(x, gamma, beta, epsilon, activation)
    }

    /// Gradients of [`batch_norm_act`] with respect to the input, gamma and beta.
    #[expect(clippy::too_many_arguments, reason = "the saved state of one fused operator")]
    fn norm_act_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f64,
        activation: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        generic::norm_act_backward::<Self>(
            x, gamma, beta, mean, variance, grad, epsilon, activation,
        )
    }
}

#[cfg(feature = "cube")]
impl NetworkOps for burn::backend::Cube {}

/// Depthwise convolution, one filter a channel, odd square kernel, padding `(k − 1) / 2`.
///
/// # Shapes
///
/// - `x`: `[batch, channels, height, width]`
/// - `weight`: `[channels, 1, k, k]`
/// - output: `[batch, channels, ⌈height / stride⌉, ⌈width / stride⌉]`
pub fn depthwise_conv2d(x: Tensor<4>, weight: Tensor<4>, stride: usize) -> Tensor<4> {
    Tensor::from_dispatch(burn::backend::Dispatch::depthwise(
        x.into_dispatch(),
        weight.into_dispatch(),
        stride,
    ))
}

/// 1×1 convolution of stride 1 without bias.
///
/// # Shapes
///
/// - `x`: `[batch, channels_in, height, width]`
/// - `weight`: `[channels_out, channels_in, 1, 1]`
/// - output: `[batch, channels_out, height, width]`
pub fn pointwise_conv2d(x: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(burn::backend::Dispatch::pointwise(
        x.into_dispatch(),
        weight.into_dispatch(),
    ))
}

/// Batch normalisation over the statistics of this batch, then the activation.
///
/// Returns the output, the batch mean and the biased batch variance (what the reference's CPU
/// build keeps as running variance).
///
/// # Shapes
///
/// - `x`: `[batch, channels, height, width]`
/// - `gamma`, `beta`, mean, variance: `[channels]`
/// - output: as `x`
pub fn batch_norm_act(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    activation: Activation,
) -> (Tensor<4>, Tensor<1>, Tensor<1>) {
    let (output, mean, variance) = burn::backend::Dispatch::norm_act(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        epsilon,
        activation as usize,
    );
    (Tensor::from_dispatch(output), Tensor::from_dispatch(mean), Tensor::from_dispatch(variance))
}

/// The operators composed of Burn's own, for every backend without a kernel of its own.
mod generic {
    use super::{Activation, Backend, ConvOptions, FloatTensor};
    use burn::backend::{TensorMetadata, get_or_init_device_settings};
    use burn::tensor::Shape;

    fn options(kernel: usize, stride: usize, groups: usize) -> ConvOptions<2> {
        let padding = (kernel - 1) / 2;
        ConvOptions::new([stride, stride], [padding, padding], [1, 1], groups)
    }

    pub(super) fn depthwise<B: Backend>(
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        stride: usize,
    ) -> FloatTensor<B> {
        let [channels, _, kernel, _] = weight.shape().dims();
        B::conv2d(x, weight, None, options(kernel, stride, channels))
    }

    pub(super) fn depthwise_backward<B: Backend>(
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        grad: FloatTensor<B>,
        stride: usize,
    ) -> (FloatTensor<B>, FloatTensor<B>) {
        let [channels, _, kernel, _] = weight.shape().dims();
        let options = options(kernel, stride, channels);
        (
            B::conv2d_x_backward(x.clone(), weight.clone(), grad.clone(), options.clone()),
            B::conv2d_weight_backward(x, weight, grad, options),
        )
    }

    /// `[batch, channels, h, w]` → `[channels, batch · h · w]`.
    pub(super) fn channel_rows<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
        let [batch, channels, h, w] = x.shape().dims();
        B::float_reshape(B::float_swap_dims(x, 0, 1), Shape::new([channels, batch * h * w]))
    }

    pub(super) fn pointwise_backward<B: Backend>(
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        grad: FloatTensor<B>,
    ) -> (FloatTensor<B>, FloatTensor<B>) {
        let [channels_out, channels_in, _, _] = weight.shape().dims();
        let [batch, _, h, w] = x.shape().dims();
        let grad_rows = channel_rows::<B>(grad);
        let x_rows = channel_rows::<B>(x);
        let weight = B::float_reshape(weight, Shape::new([channels_out, channels_in]));
        let x_grad = B::float_matmul(B::float_transpose(weight), grad_rows.clone());
        let x_grad = B::float_swap_dims(
            B::float_reshape(x_grad, Shape::new([channels_in, batch, h, w])),
            0,
            1,
        );
        let weight_grad = B::float_matmul(grad_rows, B::float_transpose(x_rows));
        (x_grad, B::float_reshape(weight_grad, Shape::new([channels_out, channels_in, 1, 1])))
    }

    pub(super) fn norm_act<B: Backend>(
        x: FloatTensor<B>,
        gamma: FloatTensor<B>,
        beta: FloatTensor<B>,
        epsilon: f64,
        activation: usize,
    ) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
        let result = B::batch_norm_train(x, gamma, beta, epsilon);
        let output = match Activation::from_index(activation) {
            Activation::Identity => result.output,
            Activation::Relu => B::relu(result.output),
            Activation::HardSwish => {
                let gate =
                    B::hard_sigmoid(result.output.clone(), (1.0_f32 / 6.0).into(), 0.5_f32.into());
                B::float_mul(result.output, gate)
            }
        };
        (output, result.mean, result.variance)
    }

    #[expect(clippy::too_many_arguments, reason = "the saved state of one fused operator")]
    pub(super) fn norm_act_backward<B: Backend>(
        x: FloatTensor<B>,
        gamma: FloatTensor<B>,
        beta: FloatTensor<B>,
        mean: FloatTensor<B>,
        variance: FloatTensor<B>,
        grad: FloatTensor<B>,
        epsilon: f64,
        activation: usize,
    ) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
        let grad = match Activation::from_index(activation) {
            Activation::Identity => grad,
            activation => {
                let normalised = B::batch_norm(
                    x.clone(),
                    gamma.clone(),
                    beta,
                    mean.clone(),
                    variance.clone(),
                    epsilon,
                );
                match activation {
                    Activation::Identity => grad,
                    Activation::Relu => B::relu_backward(B::relu(normalised), grad),
                    Activation::HardSwish => {
                        // d/dz z·clip(z/6 + 1/2, 0, 1): z/3 + 1/2 inside (−3, 3), 0 below, 1 above.
                        let dtype =
                            get_or_init_device_settings::<B>(&normalised.device()).bool_dtype;
                        let slope = B::float_add_scalar(
                            B::float_div_scalar(normalised.clone(), 3.0_f32.into()),
                            0.5_f32.into(),
                        );
                        let above =
                            B::float_greater_equal_elem(normalised.clone(), 3.0_f32.into(), dtype);
                        let below = B::float_lower_equal_elem(normalised, (-3.0_f32).into(), dtype);
                        let slope = B::float_mask_fill(slope, above, 1.0_f32.into());
                        let slope = B::float_mask_fill(slope, below, 0.0_f32.into());
                        B::float_mul(grad, slope)
                    }
                }
            }
        };
        let result = B::batch_norm_train_backward(x, gamma, mean, variance, epsilon, grad);
        (result.x_grad, result.gamma_grad, result.beta_grad)
    }
}
