//! A network's steps computed one after the other with Burn's tensors.

use burn::backend::ops::MaxPoolOptions;
use burn::prelude::s;
use burn::tensor::{Device, Tensor, TensorData, activation, module::max_pool2d};

use super::{
    Affine, BatchNorm, Conv, ConvBn, Flow, Gate, GlobalPool, LENGTH_EPSILON, LayerNorm, Padding,
    Pick, Pool, Rotary, SCORE_EPSILON, SCORE_MARGIN, Tokens,
};
use crate::operators::{self, Activation, channels_first, channels_last};
use crate::values::Param;

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
            Padding::Nothing => layer.forward_patches(x),
            Padding::Sides(sides) => layer.forward_sides(x, sides),
        })
    }

    fn conv(&mut self, x: Tensor<4>, layer: &Conv, activation: Activation) -> Tensor<4> {
        channels_last(layer.forward_activated(channels_first(x), activation))
    }

    fn batch_norm(&mut self, x: Tensor<4>, layer: &BatchNorm) -> Tensor<4> {
        channels_last(layer.forward(channels_first(x), Activation::Identity))
    }

    fn layer_norm(&mut self, x: Tensor<4>, layer: &LayerNorm) -> Tensor<4> {
        let channels = x.dims()[3];
        let row = |values: Tensor<1>| values.reshape([1, 1, 1, channels]);
        let centered = x.clone() - x.mean_dim(3);
        let variance = centered.clone().powi_scalar(2).mean_dim(3);
        let normalized = centered / (variance + layer.epsilon()).sqrt();
        normalized * row(layer.weight.val()) + row(layer.bias.val())
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

    fn multiply(&mut self, a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
        a * b
    }

    fn tokens(&mut self, x: Tensor<4>, layer: &Tokens) -> Tensor<4> {
        let [batch, height, width, channels] = x.dims();
        let [before, added] = layer.forward([height, width]);
        let x = x.reshape([batch, 1, height * width, channels]);
        let x = match added {
            Some(added) => x + added.unsqueeze(),
            None => x,
        };
        match before {
            Some(before) => Tensor::cat(vec![repeated(before, batch), x], 2),
            None => x,
        }
    }

    fn learned(&mut self, x: Tensor<4>, pixels: &Param<Tensor<2>>) -> Tensor<4> {
        repeated(pixels.val(), x.dims()[0])
    }

    fn first(&mut self, x: Tensor<4>) -> Tensor<4> {
        x.narrow(2, 0, 1)
    }

    fn behind(&mut self, x: Tensor<4>, before: usize, like: &Tensor<4>) -> Tensor<4> {
        let ([batch, _, pixels, channels], [_, height, width, _]) = (x.dims(), like.dims());
        x.narrow(2, before, pixels - before).reshape([batch, height, width, channels])
    }

    fn rotate(&mut self, x: Tensor<4>, rotary: &Rotary, like: &Tensor<4>) -> Tensor<4> {
        let ([batch, _, pixels, channels], [_, height, width, _]) = (x.dims(), like.dims());
        let Rotary { head, before, .. } = *rotary;
        let (half, heads, device) = (head / 2, channels / head, x.device());
        // The tokens before the pixels have angles of 0.
        let table = |values: Vec<f32>, of_zero: f32| {
            let values = [vec![of_zero; before * half], values].concat();
            Tensor::<4>::from_data(TensorData::new(values, [1, pixels, 1, half]), &device)
        };
        let [cosines, sines] = rotary.angles([height, width]);
        let (cosines, sines) = (table(cosines, 1.0), table(sines, 0.0));
        let x = x.reshape([batch, pixels, heads, head]);
        let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let first = a.clone() * cosines.clone() - b.clone() * sines.clone();
        let second = b * cosines + a * sines;
        Tensor::cat(vec![first, second], 3).reshape([batch, 1, pixels, channels])
    }

    fn attend(&mut self, [queries, keys, values]: [Tensor<4>; 3], heads: usize) -> Tensor<4> {
        let [batch, height, width, channels] = queries.dims();
        let head = channels / heads;
        let apart = |x: Tensor<4>| {
            let [_, height, width, _] = x.dims();
            x.reshape([batch, height * width, heads, head]).swap_dims(1, 2)
        };
        let queries = apart(queries) / (head as f64).sqrt();
        let scores = queries.matmul(apart(keys).swap_dims(2, 3));
        let mean = activation::softmax(scores, 3).matmul(apart(values));
        mean.swap_dims(1, 2).reshape([batch, height, width, channels])
    }

    fn unit_length(&mut self, x: Tensor<4>) -> Tensor<4> {
        let length = (x.clone().powi_scalar(2).sum_dim(3) + LENGTH_EPSILON).sqrt();
        x / length
    }

    fn affine(&mut self, x: Tensor<4>, layer: &Affine) -> Tensor<4> {
        let channels = x.dims()[3];
        let row = |values: Tensor<1>| values.reshape([1, 1, 1, channels]);
        x * row(layer.weight.val()) + row(layer.bias.val())
    }

    fn pool(&mut self, x: Tensor<4>, pool: &Pool) -> Tensor<4> {
        windows(x, pool)
    }

    fn pick(&mut self, x: Tensor<4>, Pick { start, count, groups }: Pick) -> Tensor<4> {
        let [batch, height, width, _] = x.dims();
        let x = x.narrow(3, start, count);
        if groups == 1 {
            return x;
        }
        let runs = x.reshape([batch * height * width, groups, count / groups]);
        runs.swap_dims(1, 2).reshape([batch, height, width, count])
    }

    fn enlarge(&mut self, x: Tensor<4>, [down, right]: [usize; 2]) -> Tensor<4> {
        let [b, h, w, c] = x.dims();
        let x = x.reshape([b, h, 1, w, 1, c]).expand([b, h, down, w, right, c]);
        x.reshape([b, h * down, w * right, c])
    }
}

/// See [`Flow::pool`].
///
/// # Shapes
///
/// - `x`: `[batch, height, width, channels]`
/// - output: `[batch, rows, columns, channels]`, of the windows that the pool has
fn windows(x: Tensor<4>, pool: &Pool) -> Tensor<4> {
    let [_, height, width, _] = x.dims();
    let sides = [height, width];
    let [rows, columns] = pool.windows(sides);
    let ([kernel_y, kernel_x], [down, right]) = (pool.kernel, pool.stride);
    let fill = match pool.pool {
        GlobalPool::Average => 0.0,
        GlobalPool::Max => f32::NEG_INFINITY,
    };
    // As far as the last windows reach; what no window covers goes.
    let reach = [(rows - 1) * down + kernel_y, (columns - 1) * right + kernel_x];
    let [above, left, ..] = pool.padding;
    let behind = |axis: usize| {
        let before = pool.padding[axis];
        (reach[axis] + 1).saturating_sub(sides[axis] + before + 1)
    };
    let padded = channels_first(x).pad((left, behind(1), above, behind(0)), fill);
    let padded = channels_last(padded).narrow(1, 0, reach[0]).narrow(2, 0, reach[1]);
    // Each tap of the windows is a map of its own.
    let taps = (0..kernel_y * kernel_x).map(|tap| {
        let (ky, kx) = (tap / kernel_x, tap % kernel_x);
        let end = [ky + (rows - 1) * down + 1, kx + (columns - 1) * right + 1];
        padded.clone().slice(s![.., ky..end[0]; down as isize, kx..end[1]; right as isize, ..])
    });
    let pooled = match pool.pool {
        GlobalPool::Max => taps.reduce(Tensor::max_pair),
        GlobalPool::Average => taps.reduce(|sum, tap| sum + tap),
    };
    let Some(pooled) = pooled else { return padded };
    if pool.pool == GlobalPool::Max {
        return pooled;
    }
    let shares = (0..rows * columns).map(|place| {
        let (_, high) = pool.covered(0, place / columns, height);
        let (_, wide) = pool.covered(1, place % columns, width);
        1.0 / (high * wide) as f32
    });
    let shares = TensorData::new(shares.collect::<Vec<f32>>(), [1, rows, columns, 1]);
    let device = pooled.device();
    pooled * Tensor::<4>::from_data(shares, &device)
}

/// `[pixels, channels]` as a line of every picture.
fn repeated(pixels: Tensor<2>, batch: usize) -> Tensor<4> {
    let [count, channels] = pixels.dims();
    pixels.reshape([1, 1, count, channels]).expand([batch, 1, count, channels])
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
