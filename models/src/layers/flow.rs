//! What a network's wiring is written against.
//!
//! A network says once which layer follows which, as a function over a [`Flow`]. [`Eager`] computes
//! every step at once with Burn's tensors: training, and inference on a GPU. The inference plan of
//! the CPU (`crate::inference::plan`) writes the same steps down, with weights packed and normalization
//! folded, and runs them later for as many pictures as come.

use burn::backend::ops::MaxPoolOptions;
use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData, activation, module::max_pool2d};

use super::{BatchNorm, Conv, ConvBn, Padding};
use crate::operators::{self, Activation, channels_first, channels_last};

/// Added to a squared length before its root, so that an all-zero row stays finite.
pub const LENGTH_EPSILON: f64 = 1e-12;

/// Under the root of [`Flow::aligned_logit`]'s product; the reference's value.
pub const SCORE_EPSILON: f64 = 1e-9;

/// [`Flow::aligned_logit`]'s scores stay this far from 1, where the logit ends.
pub const SCORE_MARGIN: f64 = 1e-6;

/// Functions of single values that are no [`Activation`] behind a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// `1 / (1 + e^{−x})`, in PP-LCNetV2 (whose reference calls the attribute hard-sigmoid).
    Sigmoid,
    /// `clip(x / 6 + 1/2, 0, 1)`, in PP-LCNet.
    HardSigmoid,
    /// The hyperbolic tangent, of necks that make binary codes.
    Tanh,
}

/// How the last map becomes a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GlobalPool {
    /// The mean.
    #[default]
    Average,
    /// The maximum.
    Max,
}

/// The steps that networks consist of.
///
/// A map is `height × width` pixels of `channels` values each, for every picture of the batch; a
/// vector is a map of one pixel.
pub trait Flow {
    /// An activation map.
    type Map: Clone;

    /// Convolution, normalization (where the layer still has one) and activation.
    fn conv_bn(&mut self, x: Self::Map, layer: &ConvBn, padding: Padding) -> Self::Map;

    /// Convolution and activation, padded evenly.
    fn conv(&mut self, x: Self::Map, layer: &Conv, activation: Activation) -> Self::Map;

    /// Normalization alone.
    fn batch_norm(&mut self, x: Self::Map, layer: &BatchNorm) -> Self::Map;

    /// `x · weight + bias` at every pixel; the weight is `[channels_in, channels_out]`.
    fn linear(
        &mut self,
        x: Self::Map,
        weight: &Param<Tensor<2>>,
        bias: &Param<Tensor<1>>,
    ) -> Self::Map;

    /// A function of every value.
    fn apply(&mut self, x: Self::Map, function: Gate) -> Self::Map;

    /// An activation with nothing before it.
    fn activate(&mut self, x: Self::Map, activation: Activation) -> Self::Map;

    /// See [`super::downscale_dropout`].
    fn dropout(&mut self, x: Self::Map, probability: f64) -> Self::Map;

    /// Every channel of `x` times its value in `gate`, a map of one pixel.
    fn scale(&mut self, x: Self::Map, gate: Self::Map) -> Self::Map;

    /// Sum of two maps.
    fn add(&mut self, a: Self::Map, b: Self::Map) -> Self::Map;

    /// `max(a + b, 0)`
    fn add_relu(&mut self, a: Self::Map, b: Self::Map) -> Self::Map;

    /// The channels of `a`, then those of `b`.
    fn concatenate(&mut self, a: Self::Map, b: Self::Map) -> Self::Map;

    /// Twice as high and wide, every pixel repeated.
    fn upsample(&mut self, x: Self::Map) -> Self::Map;

    /// Largest of 3×3 pixels, stride 2, padded evenly.
    fn max_pool(&mut self, x: Self::Map) -> Self::Map;

    /// Mean of 2×2 pixels, stride 2; at an odd border of the pixels that are there.
    fn average_pool(&mut self, x: Self::Map) -> Self::Map;

    /// One pixel from all.
    fn global_pool(&mut self, x: Self::Map, pool: GlobalPool) -> Self::Map;

    /// The logit of `√(σ(class) · σ(alignment) + ε)`, kept below 1.
    ///
    /// `class` has any number of channels, `alignment` one.
    fn aligned_logit(&mut self, class: Self::Map, alignment: Self::Map) -> Self::Map;

    /// Brings every pixel's vector to unit length; zero vectors stay zero.
    fn unit_length(&mut self, x: Self::Map) -> Self::Map;
}

/// Computes every step at once.
///
/// Its maps are `[batch, height, width, channels]`: on that view sums, their gradients and
/// concatenation run over contiguous values, and the operators of [`operators`] take it without a
/// copy.
#[derive(Debug, Clone, Copy, Default)]
pub struct Eager;

impl Eager {
    /// Runs a step that takes and gives `[batch, channels, height, width]`.
    pub fn planes(x: Tensor<4>, step: impl FnOnce(&mut Self, Tensor<4>) -> Tensor<4>) -> Tensor<4> {
        channels_first(step(&mut Self, channels_last(x)))
    }

    /// Runs a step from pictures `[batch, channels, height, width]` to vectors `[batch, values]`.
    pub fn pooled(x: Tensor<4>, step: impl FnOnce(&mut Self, Tensor<4>) -> Tensor<4>) -> Tensor<2> {
        step(&mut Self, channels_last(x)).flatten(1, 3)
    }

    /// Runs a step from vectors to vectors, `[batch, values]` each.
    pub fn vectors(
        x: Tensor<2>,
        step: impl FnOnce(&mut Self, Tensor<4>) -> Tensor<4>,
    ) -> Tensor<2> {
        let [batch, values] = x.dims();
        step(&mut Self, x.reshape([batch, 1, 1, values])).flatten(1, 3)
    }
}

impl Flow for Eager {
    type Map = Tensor<4>;

    fn conv_bn(&mut self, x: Tensor<4>, layer: &ConvBn, padding: Padding) -> Tensor<4> {
        let x = channels_first(x);
        channels_last(match padding {
            Padding::Even => layer.forward(x),
            Padding::Same => layer.forward_same(x),
        })
    }

    fn conv(&mut self, x: Tensor<4>, layer: &Conv, activation: Activation) -> Tensor<4> {
        channels_last(layer.forward_activated(channels_first(x), activation))
    }

    fn batch_norm(&mut self, x: Tensor<4>, layer: &BatchNorm) -> Tensor<4> {
        channels_last(layer.forward(channels_first(x), Activation::Identity))
    }

    fn linear(
        &mut self,
        x: Tensor<4>,
        weight: &Param<Tensor<2>>,
        bias: &Param<Tensor<1>>,
    ) -> Tensor<4> {
        let [batch, height, width, channels] = x.dims();
        let weight = weight.val();
        let [_, channels_out] = weight.dims();
        let rows = x.reshape([batch * height * width, channels]);
        let y = rows.matmul(weight) + bias.val().unsqueeze();
        y.reshape([batch, height, width, channels_out])
    }

    fn apply(&mut self, x: Tensor<4>, function: Gate) -> Tensor<4> {
        match function {
            Gate::Sigmoid => activation::sigmoid(x),
            Gate::HardSigmoid => activation::hard_sigmoid(x, 1.0 / 6.0, 0.5),
            Gate::Tanh => x.tanh(),
        }
    }

    fn activate(&mut self, x: Tensor<4>, activation: Activation) -> Tensor<4> {
        activation.forward(x)
    }

    fn dropout(&mut self, x: Tensor<4>, probability: f64) -> Tensor<4> {
        super::downscale_dropout(x, probability)
    }

    fn scale(&mut self, x: Tensor<4>, gate: Tensor<4>) -> Tensor<4> {
        x * gate
    }

    fn add(&mut self, a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
        a + b
    }

    fn add_relu(&mut self, a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
        channels_last(operators::add_relu(channels_first(a), channels_first(b)))
    }

    fn concatenate(&mut self, a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
        Tensor::cat(vec![a, b], 3)
    }

    fn upsample(&mut self, x: Tensor<4>) -> Tensor<4> {
        let [b, h, w, c] = x.dims();
        let x = x.reshape([b, h, 1, w, 1, c]).expand([b, h, 2, w, 2, c]);
        x.reshape([b, 2 * h, 2 * w, c])
    }

    fn max_pool(&mut self, x: Tensor<4>) -> Tensor<4> {
        let options = MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]);
        channels_last(max_pool2d(channels_first(x), options))
    }

    fn average_pool(&mut self, x: Tensor<4>) -> Tensor<4> {
        average_pool(x)
    }

    fn global_pool(&mut self, x: Tensor<4>, pool: GlobalPool) -> Tensor<4> {
        let [batch, height, width, channels] = x.dims();
        let pixels = x.reshape([batch, height * width, channels]);
        let pooled = match pool {
            GlobalPool::Average => pixels.mean_dim(1),
            GlobalPool::Max => pixels.max_dim(1),
        };
        pooled.reshape([batch, 1, 1, channels])
    }

    fn aligned_logit(&mut self, class: Tensor<4>, alignment: Tensor<4>) -> Tensor<4> {
        let class = activation::sigmoid(class);
        let score = (class * activation::sigmoid(alignment) + SCORE_EPSILON).sqrt();
        let score = score.clamp_max(1.0 - SCORE_MARGIN);
        score.clone().log() - (score.neg() + 1.0).log()
    }

    fn unit_length(&mut self, x: Tensor<4>) -> Tensor<4> {
        let length = (x.clone().powi_scalar(2).sum_dim(3) + LENGTH_EPSILON).sqrt();
        x / length
    }
}

/// See [`Flow::average_pool`].
///
/// # Shapes
///
/// - `x`: `[batch, height, width, channels]`
/// - output: `[batch, ⌈height / 2⌉, ⌈width / 2⌉, channels]`
fn average_pool(x: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    let (rows, columns) = (height.div_ceil(2), width.div_ceil(2));
    let (below, right) = (2 * rows - height, 2 * columns - width);
    let padded = if below + right > 0 {
        channels_last(channels_first(x).pad((0, right, 0, below), 0.0))
    } else {
        x
    };
    let sums = padded.reshape([batch * rows, 2, columns, 2 * channels]).sum_dim(1);
    let sums = sums.reshape([batch * rows * columns, 2, channels]).sum_dim(1);
    let mean = sums.reshape([batch, rows, columns, channels]) / 4.0;
    if below + right == 0 {
        return mean;
    }
    // A border cell holds half as many pixels a missing row or column.
    let device: Device = mean.device();
    let factor = |count: usize, missing: usize, shape: [usize; 4]| {
        let mut factors = vec![1.0_f32; count];
        if missing > 0 {
            factors[count - 1] = 2.0;
        }
        Tensor::<4>::from_data(TensorData::new(factors, shape), &device)
    };
    mean * factor(rows, below, [1, rows, 1, 1]) * factor(columns, right, [1, 1, columns, 1])
}
