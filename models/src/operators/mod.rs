//! Operators that the networks spend their training time in, as an extension of Burn's backends.
//!
//! The model code calls the functions of this module and never names a backend. On the CPU
//! backend they run hand-written loops (`cpu`); on every other backend they are composed of
//! Burn's own operators, which is also what the CPU loops are tested against.
//!
//! Why they exist: Burn's CPU backend computes the weight gradient of a grouped convolution with
//! one convolution a group, batch normalization with a dozen passes over the activations, and
//! keeps channels apart in memory, which leaves short inner loops on the small maps that these
//! networks are made of.

#[cfg(feature = "flex")]
pub(crate) mod cpu;
mod generic;
#[cfg(feature = "train")]
mod gradients;
pub mod mixed;
pub mod replicas;
mod scoped;

use burn::backend::{Backend, backend_extension, ops::ConvOptions, tensor::FloatTensor};
use burn::tensor::Tensor;
use replicas::Replicas;

pub use crate::activation::Activation;

/// The extension trait; implemented for each backend that the binary enables.
///
/// Not part of the crate's face: call [`depthwise_conv2d`], [`dense_conv2d`], [`bias_act`],
/// [`add_relu`] and [`batch_norm_act`] instead.
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
        let channels = generic::channels_out::<Self>(&weight);
        generic::conv::<Self>(x, weight, stride, channels)
    }

    /// Gradient of [`depthwise_conv2d`] with respect to the input.
    fn depthwise_x_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        let channels = generic::channels_out::<Self>(&weight);
        generic::conv_x_backward::<Self>(x, weight, grad, stride, channels)
    }

    /// Gradient of [`depthwise_conv2d`] with respect to the weight.
    fn depthwise_weight_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        let channels = generic::channels_out::<Self>(&weight);
        generic::conv_weight_backward::<Self>(x, weight, grad, stride, channels)
    }

    /// See [`dense_conv2d`].
    fn dense(x: FloatTensor<Self>, weight: FloatTensor<Self>, stride: usize) -> FloatTensor<Self> {
        generic::conv::<Self>(x, weight, stride, 1)
    }

    /// Gradient of [`dense_conv2d`] with respect to the input.
    fn dense_x_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        generic::conv_x_backward::<Self>(x, weight, grad, stride, 1)
    }

    /// Gradient of [`dense_conv2d`] with respect to the weight.
    fn dense_weight_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        generic::conv_weight_backward::<Self>(x, weight, grad, stride, 1)
    }

    /// See [`bias_act`].
    fn bias_act(
        x: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        activation: usize,
    ) -> FloatTensor<Self> {
        generic::bias_act::<Self>(x, bias, activation)
    }

    /// See [`add_relu`].
    fn add_relu(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::relu(Self::float_add(a, b))
    }

    /// Gradient of [`add_relu`] with respect to either summand, from its output.
    fn add_relu_backward(output: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::relu_backward(output, grad)
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

    /// Mean and biased variance of every channel of a batch.
    fn statistics(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let result = Self::batch_norm_train(x, gamma, beta, epsilon);
        (result.mean, result.variance)
    }

    /// Normalization with given statistics, then the activation.
    fn norm_with(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
        activation: usize,
    ) -> FloatTensor<Self> {
        let output = Self::batch_norm(x, gamma, beta, mean, variance, epsilon);
        generic::activate::<Self>(output, activation)
    }

    /// Gradients of [`batch_norm_act`] with respect to the input, gamma and beta.
    ///
    /// With replicas, the input's counts what all of them make of the statistics; those of gamma and
    /// beta are this replica's part.
    #[allow(clippy::too_many_arguments, reason = "the saved state of one fused operator")]
    fn norm_act_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f64,
        activation: usize,
        replicas: Option<Replicas>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        generic::norm_act_backward::<Self>(
            x, gamma, beta, mean, variance, grad, epsilon, activation, replicas,
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

/// Convolution of one group without bias, odd square kernel, padding `(k − 1) / 2`.
///
/// # Shapes
///
/// - `x`: `[batch, channels_in, height, width]`
/// - `weight`: `[channels_out, channels_in, k, k]`
/// - output: `[batch, channels_out, ⌈height / stride⌉, ⌈width / stride⌉]`
pub fn dense_conv2d(x: Tensor<4>, weight: Tensor<4>, stride: usize) -> Tensor<4> {
    Tensor::from_dispatch(burn::backend::Dispatch::dense(
        x.into_dispatch(),
        weight.into_dispatch(),
        stride,
    ))
}

/// `activation(x + bias)`, one bias a channel.
///
/// # Shapes
///
/// - `x`, output: `[batch, channels, height, width]`
/// - `bias`: `[channels]`
pub fn bias_act(x: Tensor<4>, bias: Tensor<1>, activation: Activation) -> Tensor<4> {
    Tensor::from_dispatch(burn::backend::Dispatch::bias_act(
        x.into_dispatch(),
        bias.into_dispatch(),
        activation as usize,
    ))
}

/// `max(a + b, 0)`: the end of a residual block.
///
/// # Shapes
///
/// - `a`, `b`, output: `[batch, channels, height, width]`
pub fn add_relu(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    assert_eq!(a.dims(), b.dims(), "summands have one shape");
    Tensor::from_dispatch(burn::backend::Dispatch::add_relu(a.into_dispatch(), b.into_dispatch()))
}

/// The channels-last view of an activation map: free where a kernel of this module made it.
///
/// Work done on this view (sums, means, concatenation) keeps the layout that the kernels want.
///
/// # Shapes
///
/// - `x`: `[batch, channels, height, width]`
/// - output: `[batch, height, width, channels]`
pub fn channels_last(x: Tensor<4>) -> Tensor<4> {
    x.permute([0, 2, 3, 1])
}

/// The way back from [`channels_last`].
///
/// # Shapes
///
/// - `x`: `[batch, height, width, channels]`
/// - output: `[batch, channels, height, width]`
pub fn channels_first(x: Tensor<4>) -> Tensor<4> {
    x.permute([0, 3, 1, 2])
}

/// Batch normalization over the statistics of this batch, then the activation.
///
/// Inside [`replicas::within`] the batch is that of all replicas.
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
