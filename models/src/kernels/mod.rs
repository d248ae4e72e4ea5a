//! Operators that the networks spend their training time in, as an extension of Burn's backends.
//!
//! The model code calls the functions of this module and never names a backend. On the CPU
//! backend they run hand-written loops (`cpu`); on every other backend they are composed of
//! Burn's own operators, which is also what the CPU loops are tested against.
//!
//! Why they exist: Burn's CPU backend computes the weight gradient of a grouped convolution with
//! one convolution a group, batch normalisation with a dozen passes over the activations, and
//! keeps channels apart in memory, which leaves short inner loops on the small maps that these
//! networks are made of.

#[cfg(feature = "flex")]
mod cpu;
#[cfg(feature = "train")]
mod gradients;
#[cfg(feature = "flex")]
pub(crate) mod packed;
#[cfg(all(feature = "threads", target_family = "wasm"))]
pub mod pool;
pub mod replicas;
pub(crate) mod threads;

use burn::backend::{Backend, backend_extension, ops::ConvOptions, tensor::FloatTensor};
use burn::tensor::{Tensor, activation};
use replicas::Replicas;
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
    /// `clip(x, 0, 6)`
    Relu6 = 3,
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
            Self::Relu6 => x.clamp(0.0, 6.0),
        }
    }

    pub(crate) fn from_index(index: usize) -> Self {
        [Self::Identity, Self::Relu, Self::HardSwish, Self::Relu6][index]
    }
}

/// How a network's products are computed on the CPU outside training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arithmetic {
    /// In 32-bit floats.
    #[default]
    F32,
    /// Products of at least 32 terms in 8-bit whole numbers, everything else in floats: half of the
    /// time in a browser with relaxed SIMD. In one without, and on a GPU, all in floats.
    I8,
}

impl Arithmetic {
    /// Whether it is the one that is not mentioned.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

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

    /// Normalisation with given statistics, then the activation.
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

/// Batch normalisation over the statistics of this batch, then the activation.
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

/// The operators composed of Burn's own, for every backend without a kernel of its own.
mod generic {
    use super::{Activation, Backend, ConvOptions, FloatTensor, Replicas};
    use burn::backend::{TensorMetadata, get_or_init_device_settings};
    use burn::tensor::{Shape, TensorData, try_read_sync};

    fn options(kernel: usize, stride: usize, groups: usize) -> ConvOptions<2> {
        let padding = (kernel - 1) / 2;
        ConvOptions::new([stride, stride], [padding, padding], [1, 1], groups)
    }

    pub(super) fn channels_out<B: Backend>(weight: &FloatTensor<B>) -> usize {
        weight.shape()[0]
    }

    fn kernel<B: Backend>(weight: &FloatTensor<B>) -> usize {
        weight.shape()[2]
    }

    pub(super) fn conv<B: Backend>(
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        stride: usize,
        groups: usize,
    ) -> FloatTensor<B> {
        let options = options(kernel::<B>(&weight), stride, groups);
        B::conv2d(x, weight, None, options)
    }

    pub(super) fn conv_x_backward<B: Backend>(
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        grad: FloatTensor<B>,
        stride: usize,
        groups: usize,
    ) -> FloatTensor<B> {
        let options = options(kernel::<B>(&weight), stride, groups);
        B::conv2d_x_backward(x, weight, grad, options)
    }

    pub(super) fn conv_weight_backward<B: Backend>(
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        grad: FloatTensor<B>,
        stride: usize,
        groups: usize,
    ) -> FloatTensor<B> {
        let options = options(kernel::<B>(&weight), stride, groups);
        B::conv2d_weight_backward(x, weight, grad, options)
    }

    pub(super) fn activate<B: Backend>(x: FloatTensor<B>, activation: usize) -> FloatTensor<B> {
        match Activation::from_index(activation) {
            Activation::Identity => x,
            Activation::Relu => B::relu(x),
            Activation::HardSwish => {
                let gate = B::hard_sigmoid(x.clone(), (1.0_f32 / 6.0).into(), 0.5_f32.into());
                B::float_mul(x, gate)
            }
            Activation::Relu6 => B::float_clamp(x, 0.0_f32.into(), 6.0_f32.into()),
        }
    }

    pub(super) fn bias_act<B: Backend>(
        x: FloatTensor<B>,
        bias: FloatTensor<B>,
        activation: usize,
    ) -> FloatTensor<B> {
        let channels = bias.shape()[0];
        let bias = B::float_reshape(bias, Shape::new([1, channels, 1, 1]));
        activate::<B>(B::float_add(x, bias), activation)
    }

    pub(super) fn norm_act<B: Backend>(
        x: FloatTensor<B>,
        gamma: FloatTensor<B>,
        beta: FloatTensor<B>,
        epsilon: f64,
        activation: usize,
    ) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
        let result = B::batch_norm_train(x, gamma, beta, epsilon);
        let output = activate::<B>(result.output, activation);
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
        replicas: Option<Replicas>,
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
                let dtype = get_or_init_device_settings::<B>(&normalised.device()).bool_dtype;
                match activation {
                    Activation::Identity => grad,
                    Activation::Relu6 => {
                        let above =
                            B::float_greater_equal_elem(normalised.clone(), 6.0_f32.into(), dtype);
                        let below = B::float_lower_equal_elem(normalised, 0.0_f32.into(), dtype);
                        let grad = B::float_mask_fill(grad, above, 0.0_f32.into());
                        B::float_mask_fill(grad, below, 0.0_f32.into())
                    }
                    Activation::Relu => B::relu_backward(B::relu(normalised), grad),
                    Activation::HardSwish => {
                        // d/dz z·clip(z/6 + 1/2, 0, 1): z/3 + 1/2 inside (−3, 3), 0 below, 1 above.
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
        let Some(replicas) = replicas else {
            let result = B::batch_norm_train_backward(x, gamma, mean, variance, epsilon, grad);
            return (result.x_grad, result.gamma_grad, result.beta_grad);
        };
        let result = B::batch_norm_train_backward(
            x.clone(),
            gamma.clone(),
            mean.clone(),
            variance.clone(),
            epsilon,
            grad,
        );
        // Burn takes the means of the gradient over this replica's pixels: what the others' change
        // in them is a line in x for every channel.
        let channels = gamma.shape()[0];
        let pixels = x.shape().num_elements() / channels;
        let [gamma, mean, variance] = [gamma, mean, variance].map(|t| host::<B>(t));
        let own = [&result.gamma_grad, &result.beta_grad].map(|t| host::<B>(t.clone()));
        let (total, sums) = replicas.sums(pixels, own.concat());
        let (mut slopes, mut offsets) = (vec![0.0; channels], vec![0.0; channels]);
        for c in 0..channels {
            let apart = |own: f32, all: f32| own / pixels as f32 - all / total;
            let inverse_deviation = 1.0 / (variance[c] + epsilon as f32).sqrt();
            let scale = gamma[c] * inverse_deviation;
            slopes[c] = scale * inverse_deviation * apart(own[0][c], sums[c]);
            offsets[c] = scale * apart(own[1][c], sums[channels + c]) - slopes[c] * mean[c];
        }
        let device = x.device();
        let row = |values: Vec<f32>| {
            let data = TensorData::new(values, [1, channels, 1, 1]);
            B::float_from_data(data, &device)
        };
        let line = B::float_add(B::float_mul(x, row(slopes)), row(offsets));
        (B::float_add(result.x_grad, line), result.gamma_grad, result.beta_grad)
    }

    /// The values of a tensor of floats.
    pub(super) fn host<B: Backend>(tensor: FloatTensor<B>) -> Vec<f32> {
        let data = try_read_sync(B::float_into_data(tensor));
        let data = data.expect("training runs where the device can be waited for");
        let data = data.expect("a device that computes answers");
        data.convert::<f32>().try_into_vec().expect("the data was converted to f32")
    }
}
