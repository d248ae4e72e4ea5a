//! The hand-written operators against Burn's own, forward and backward.
#![cfg(all(feature = "flex", feature = "train"))]

use burn::backend::ops::ConvOptions;
use burn::tensor::{Device, Distribution, Gradients, Tensor, module::conv2d};
use models::operators::mixed::{self, HalfFloat};
use models::operators::{
    Activation, add_relu, batch_norm_act, bias_act, dense_conv2d, depthwise_conv2d,
};

fn device() -> Device {
    Device::flex().autodiff()
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device()).require_grad()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().expect("floats")
}

/// Sums over a few thousand f32 terms in another order differ by this much of their scale.
fn assert_near(what: &str, got: Vec<f32>, expected: Vec<f32>) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-3_f32, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 2e-4 * scale, "{what}: off by {worst} at scale {scale}");
}

/// A loss that gives every output its own gradient.
fn backward<const D: usize>(output: Tensor<D>, weights: &Tensor<D>) -> Gradients {
    (output * weights.clone().detach()).sum().backward()
}

#[test]
fn depthwise_convolution_and_its_gradients() {
    for (channels, height, width, kernel, stride) in [
        (3, 8, 8, 3, 1),
        (5, 9, 7, 3, 2),
        (4, 16, 12, 5, 1),
        (4, 8, 8, 5, 2),
        (2, 4, 4, 5, 1),
        (2, 2, 2, 5, 2),
        (3, 1, 1, 3, 1),
        (3, 6, 5, 1, 1),
        (8, 33, 31, 3, 2),
        (6, 9, 8, 7, 1),
    ] {
        let what = format!("{channels}×{height}×{width} k{kernel} s{stride}");
        let x = random([2, channels, height, width]);
        let weight = random([channels, 1, kernel, kernel]);
        let pad = (kernel - 1) / 2;
        let options = ConvOptions::new([stride, stride], [pad, pad], [1, 1], channels);
        let expected = conv2d(x.clone(), weight.clone(), None, options);
        let got = depthwise_conv2d(x.clone(), weight.clone(), stride);
        assert_eq!(got.dims(), expected.dims(), "{what}");
        assert_near(&what, values(got.clone()), values(expected.clone()));
        let upstream = random(got.dims());
        let (ours, theirs) = (backward(got, &upstream), backward(expected, &upstream));
        let gradient = |t: &Tensor<4>, g: &Gradients| values(t.grad(g).expect("a gradient"));
        assert_near(&format!("{what} dx"), gradient(&x, &ours), gradient(&x, &theirs));
        assert_near(&format!("{what} dw"), gradient(&weight, &ours), gradient(&weight, &theirs));
    }
}

#[test]
fn dense_convolution_and_its_gradients() {
    for (batch, channels_in, channels_out, height, width, kernel, stride) in [
        (1, 3, 5, 4, 4, 1, 1),
        (3, 8, 2, 1, 1, 1, 1),
        (2, 16, 32, 7, 5, 1, 1),
        (2, 4, 6, 7, 8, 1, 2),
        (9, 3, 8, 12, 11, 3, 2),
        (2, 5, 4, 6, 6, 3, 1),
        (2, 3, 4, 2, 3, 7, 2),
        (1, 2, 3, 1, 1, 3, 1),
        // Many windows: laid out in bands that do not divide the height, summed in pieces.
        (8, 16, 4, 40, 37, 3, 1),
        (9, 32, 8, 50, 47, 3, 2),
        (4, 8, 6, 33, 40, 1, 1),
    ] {
        let what = format!("{channels_in}→{channels_out} {height}×{width} k{kernel} s{stride}");
        let x = random([batch, channels_in, height, width]);
        let weight = random([channels_out, channels_in, kernel, kernel]);
        let pad = (kernel - 1) / 2;
        let options = ConvOptions::new([stride, stride], [pad, pad], [1, 1], 1);
        let expected = conv2d(x.clone(), weight.clone(), None, options);
        let got = dense_conv2d(x.clone(), weight.clone(), stride);
        assert_eq!(got.dims(), expected.dims(), "{what}");
        assert_near(&what, values(got.clone()), values(expected.clone()));
        let upstream = random(got.dims());
        let (ours, theirs) = (backward(got, &upstream), backward(expected, &upstream));
        let gradient = |t: &Tensor<4>, g: &Gradients| values(t.grad(g).expect("a gradient"));
        assert_near(&format!("{what} dx"), gradient(&x, &ours), gradient(&x, &theirs));
        assert_near(&format!("{what} dw"), gradient(&weight, &ours), gradient(&weight, &theirs));
    }
}

#[test]
fn dense_convolution_of_16_bit_floats_and_its_gradients() {
    let x = random([3, 24, 13, 11]);
    for (half, kernel, stride, rounding) in [
        (HalfFloat::F16, 3, 2, 1.0 / 1024.0),
        (HalfFloat::F16, 1, 1, 1.0 / 1024.0),
        (HalfFloat::Bf16, 3, 1, 1.0 / 128.0),
    ] {
        let what = format!("{half:?} k{kernel} s{stride}");
        let weight = random([16, 24, kernel, kernel]);
        let run = || dense_conv2d(x.clone(), weight.clone(), stride);
        let (whole, mixed) = (run(), mixed::within(Some(half), run));
        let upstream = random(whole.dims());
        let gradients = [&whole, &mixed].map(|output| backward(output.clone(), &upstream));
        let of = |tensor: &Tensor<4>| {
            gradients.each_ref().map(|g| values(tensor.grad(g).expect("a gradient")))
        };
        for [whole, mixed] in [[whole, mixed].map(values), of(&x), of(&weight)] {
            let length = |values: &[f32]| values.iter().map(|v| v * v).sum::<f32>().sqrt();
            let difference: Vec<f32> = whole.iter().zip(&mixed).map(|(a, b)| a - b).collect();
            let apart = length(&difference) / length(&whole);
            // Each factor is rounded once, so is each sum, and Burn's CPU backend adds in 16 bits as
            // well; that something is rounded shows that it is 16 bits.
            assert!((rounding / 50.0..6.0 * rounding).contains(&apart), "{what}: {apart}");
        }
    }
}

#[test]
fn bias_with_activation_whoever_holds_the_input() {
    for activation in Activation::ALL {
        let x = (random([2, 5, 3, 4]) * 3.0).inner();
        let bias = random([5]).inner();
        let expected = activation.forward(x.clone() + bias.clone().reshape([1, 5, 1, 1]));
        let shared = bias_act(x.clone(), bias.clone(), activation);
        assert_near("shared", values(shared), values(expected.clone()));
        let expected = values(expected);
        let owned = bias_act(x * 1.0, bias, activation);
        assert_near("owned", values(owned), expected);
    }
}

#[test]
fn batch_normalization_with_activation_and_its_gradients() {
    for activation in Activation::ALL {
        for shape in [[4, 3, 5, 6], [8, 2, 1, 1], [2, 5, 9, 4]] {
            let what = format!("{activation:?} {shape:?}");
            // Wide enough that hard-swish saturates on both sides.
            let x = random(shape);
            let gamma = (random([shape[1]]) * 3.0).detach().require_grad();
            let beta = random([shape[1]]);
            let epsilon = 1e-5;
            let (got, mean, variance) =
                batch_norm_act(x.clone(), gamma.clone(), beta.clone(), epsilon, activation);

            let channel = |t: Tensor<1>| t.reshape([1, shape[1], 1, 1]);
            let average = |t: Tensor<4>| t.mean_dim(0).mean_dim(2).mean_dim(3);
            let expected_mean = average(x.clone());
            let centered = x.clone() - expected_mean.clone();
            let expected_variance = average(centered.clone().powi_scalar(2));
            let normalized = centered / (expected_variance.clone() + epsilon).sqrt();
            let expected =
                activation.forward(normalized * channel(gamma.clone()) + channel(beta.clone()));

            assert_near(&what, values(got.clone()), values(expected.clone()));
            assert_near(&what, values(mean), values(expected_mean));
            assert_near(&what, values(variance), values(expected_variance));
            let upstream = random(shape);
            let (ours, theirs) = (backward(got, &upstream), backward(expected, &upstream));
            let dx = |g: &Gradients| values(x.grad(g).expect("a gradient"));
            assert_near(&format!("{what} dx"), dx(&ours), dx(&theirs));
            for (name, parameter) in [("dγ", &gamma), ("dβ", &beta)] {
                let gradient = |g: &Gradients| values(parameter.grad(g).expect("a gradient"));
                assert_near(&format!("{what} {name}"), gradient(&ours), gradient(&theirs));
            }
        }
    }
}

#[test]
fn sums_cut_at_zero_and_their_gradients() {
    for shape in [[2, 3, 4, 5], [1, 1, 1, 1], [3, 40, 17, 19]] {
        let (a, b) = (random(shape), random(shape));
        let expected = burn::tensor::activation::relu(a.clone() + b.clone());
        let got = add_relu(a.clone(), b.clone());
        assert_eq!(values(got.clone()), values(expected.clone()), "{shape:?}");
        // Summands that nobody else holds are overwritten.
        let owned = add_relu(a.clone() * 1.0, b.clone() * 1.0);
        assert_eq!(values(owned), values(expected.clone()), "{shape:?} owned");
        let upstream = random(shape);
        let (ours, theirs) = (backward(got, &upstream), backward(expected, &upstream));
        for summand in [&a, &b] {
            let gradient = |g: &Gradients| values(summand.grad(g).expect("a gradient"));
            assert_eq!(gradient(&ours), gradient(&theirs), "{shape:?}");
        }
        // Both summands may be one.
        let doubled = add_relu(a.clone(), a.clone());
        let expected = burn::tensor::activation::relu(a.clone() * 2.0);
        assert_near("doubled", values(doubled.clone()), values(expected.clone()));
        let (ours, theirs) = (backward(doubled, &upstream), backward(expected, &upstream));
        let gradient = |g: &Gradients| values(a.grad(g).expect("a gradient"));
        assert_near("doubled gradient", gradient(&ours), gradient(&theirs));
    }
}
