//! The operators composed of Burn's own, for every backend without a kernel of its own.

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
        Activation::Silu => B::float_mul(x.clone(), B::sigmoid(x)),
        Activation::Gelu => B::float_mul(x.clone(), normal_share::<B>(x)),
        activation @ (Activation::QuickGelu | Activation::GeluTanh) => {
            let [argument, _] = in_sigmoid::<B>(activation, x.clone());
            B::float_mul(x, B::sigmoid(argument))
        }
    }
}

/// The argument of the sigmoid that such an activation multiplies its value by, and `x` times the argument's derivative.
fn in_sigmoid<B: Backend>(activation: Activation, x: FloatTensor<B>) -> [FloatTensor<B>; 2] {
    if activation == Activation::QuickGelu {
        let argument = B::float_mul_scalar(x, Activation::QUICK.into());
        return [argument.clone(), argument];
    }
    let [first, third] = Activation::TANH;
    let square = B::float_mul(x.clone(), x.clone());
    [1.0, 3.0].map(|factor| {
        let cubic = B::float_mul_scalar(square.clone(), (factor * third).into());
        B::float_mul(x.clone(), B::float_add_scalar(cubic, first.into()))
    })
}

/// Φ, by the error function.
fn normal_share<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let scaled = B::float_mul_scalar(x, std::f32::consts::FRAC_1_SQRT_2.into());
    let twice = B::float_add_scalar(B::float_erf(scaled), 1.0_f32.into());
    B::float_mul_scalar(twice, 0.5_f32.into())
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
            let [x, gamma, mean, variance] = [&x, &gamma, &mean, &variance].map(Clone::clone);
            let normalized = B::batch_norm(x, gamma, beta, mean, variance, epsilon);
            activation_backward::<B>(activation, normalized, grad)
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
    let own = [&result.gamma_grad, &result.beta_grad].map(|t| host::<B>(t.clone()));
    let line = line_of_others::<B>(replicas, own, x, [gamma, mean, variance], epsilon);
    (B::float_add(result.x_grad, line), result.gamma_grad, result.beta_grad)
}

/// The gradient before an activation, of what came in and the gradient behind it.
fn activation_backward<B: Backend>(
    activation: Activation,
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let dtype = get_or_init_device_settings::<B>(&x.device()).bool_dtype;
    match activation {
        Activation::Identity => grad,
        Activation::Relu6 => {
            let above = B::float_greater_equal_elem(x.clone(), 6.0_f32.into(), dtype);
            let below = B::float_lower_equal_elem(x, 0.0_f32.into(), dtype);
            let grad = B::float_mask_fill(grad, above, 0.0_f32.into());
            B::float_mask_fill(grad, below, 0.0_f32.into())
        }
        Activation::Relu => B::relu_backward(B::relu(x), grad),
        Activation::Gelu => {
            // d/dx x·Φ(x) = Φ(x) + x·φ(x), with φ(x) = e^{−x²/2} / √(2π). Burn's own is another approximation's.
            let square = B::float_mul_scalar(B::float_mul(x.clone(), x.clone()), (-0.5_f32).into());
            let density = B::float_mul_scalar(B::float_exp(square), 0.398_942_3_f32.into());
            let slope = B::float_add(normal_share::<B>(x.clone()), B::float_mul(x, density));
            B::float_mul(grad, slope)
        }
        Activation::QuickGelu | Activation::GeluTanh => {
            // d/dx x·σ(g(x)) = σ·(1 + x·g′(x)·(1 − σ))
            let [argument, slope] = in_sigmoid::<B>(activation, x);
            let share = B::sigmoid(argument);
            let rest = B::float_add_scalar(B::float_neg(share.clone()), 1.0_f32.into());
            let slope = B::float_add_scalar(B::float_mul(slope, rest), 1.0_f32.into());
            B::float_mul(grad, B::float_mul(share, slope))
        }
        Activation::Silu => {
            // d/dx x·σ(x) = σ(x)·(1 + x·(1 − σ(x)))
            let share = B::sigmoid(x.clone());
            let rest = B::float_add_scalar(B::float_neg(share.clone()), 1.0_f32.into());
            let slope = B::float_add_scalar(B::float_mul(x, rest), 1.0_f32.into());
            B::float_mul(grad, B::float_mul(share, slope))
        }
        Activation::HardSwish => {
            // d/dz z·clip(z/6 + 1/2, 0, 1): z/3 + 1/2 inside (−3, 3), 0 below, 1 above.
            let slope =
                B::float_add_scalar(B::float_div_scalar(x.clone(), 3.0_f32.into()), 0.5_f32.into());
            let above = B::float_greater_equal_elem(x.clone(), 3.0_f32.into(), dtype);
            let below = B::float_lower_equal_elem(x, (-3.0_f32).into(), dtype);
            let slope = B::float_mask_fill(slope, above, 1.0_f32.into());
            let slope = B::float_mask_fill(slope, below, 0.0_f32.into());
            B::float_mul(grad, slope)
        }
    }
}

/// What the other replicas add to the gradient of a normalization's input; `own` are this one's gradients of
/// gamma and beta.
///
/// Burn takes the means of the gradient over this replica's pixels: what the others' change
/// in them is a line in x for every channel.
fn line_of_others<B: Backend>(
    replicas: Replicas,
    own: [Vec<f32>; 2],
    x: FloatTensor<B>,
    [gamma, mean, variance]: [FloatTensor<B>; 3],
    epsilon: f64,
) -> FloatTensor<B> {
    let channels = gamma.shape()[0];
    let pixels = x.shape().num_elements() / channels;
    let [gamma, mean, variance] = [gamma, mean, variance].map(|t| host::<B>(t));
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
    B::float_add(B::float_mul(x, row(slopes)), row(offsets))
}

/// The values of a tensor of floats.
pub(super) fn host<B: Backend>(tensor: FloatTensor<B>) -> Vec<f32> {
    let data = try_read_sync(B::float_into_data(tensor));
    let data = data.expect("training runs where the device can be waited for");
    let data = data.expect("a device that computes answers");
    data.convert::<f32>().try_into_vec().expect("the data was converted to f32")
}
