//! Batch normalization fused with its activation, and bias with activation.

use super::{
    Activation, Map, PIECE, Piece, Replicas, copied, for_pieces, multiply_add, sum_chunks, zeros,
};
use crate::activation::{
    gelu, gelu_slope, gelu_tanh, gelu_tanh_slope, quick_gelu, quick_gelu_slope, silu, silu_slope,
};

/// Pixels of a piece.
fn pixels_a_piece(channels: usize) -> usize {
    (PIECE / channels.max(1)).max(1)
}

/// Mean and squared deviation from it, for every channel of a piece.
struct Moments<'a> {
    values: &'a [f32],
    channels: usize,
    length: usize,
}

impl Moments<'_> {
    #[inline(always)]
    fn piece(&self, index: usize) -> &[f32] {
        let start = index * self.length;
        &self.values[start..(start + self.length).min(self.values.len())]
    }
}

impl Piece for Moments<'_> {
    #[inline(always)]
    fn run(&self, index: usize, sums: &mut [f32]) {
        let channels = self.channels;
        let (mean, deviation) = sums.split_at_mut(channels);
        let values = self.piece(index);
        for pixel in values.chunks_exact(channels) {
            for c in 0..channels {
                mean[c] += pixel[c];
            }
        }
        let share = channels as f32 / values.len() as f32;
        mean.iter_mut().for_each(|m| *m *= share);
        for pixel in values.chunks_exact(channels) {
            for c in 0..channels {
                let apart = pixel[c] - mean[c];
                deviation[c] = multiply_add(apart, apart, deviation[c]);
            }
        }
    }
}

/// Mean and biased variance of every channel.
///
/// Every piece finds its own mean and squared deviations in two passes through the cache, because
/// `E[x²] − E[x]²` cancels in f32; pieces are joined by the parallel form of the variance (Chan,
/// Golub and `LeVeque`, 1979).
pub(super) fn statistics(x: &Map) -> (Vec<f32>, Vec<f32>) {
    let channels = x.channels;
    let length = pixels_a_piece(channels) * channels;
    let moments = Moments { values: x.values(), channels, length };
    let count = x.values().len().div_ceil(length.max(1));
    let mut pieces = vec![0.0; count * 2 * channels];
    for_pieces(&mut pieces, 2 * channels, &moments);
    let total = (x.batch * x.height * x.width) as f32;
    let share = |index: usize| (moments.piece(index).len() / channels) as f32 / total;
    let mut mean = vec![0.0; channels];
    let mut variance = vec![0.0; channels];
    for (index, sums) in pieces.chunks_exact(2 * channels).enumerate() {
        mean.iter_mut().zip(sums).for_each(|(m, s)| *m += s * share(index));
    }
    for (index, sums) in pieces.chunks_exact(2 * channels).enumerate() {
        let (means, deviations) = sums.split_at(channels);
        for c in 0..channels {
            let apart = means[c] - mean[c];
            variance[c] += deviations[c] / total + apart * apart * share(index);
        }
    }
    (mean, variance)
}

/// `activation(x · scale + shift)` with the statistics of one batch.
pub(super) struct Normalization {
    mean: Vec<f32>,
    inverse_deviation: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Normalization {
    pub(super) fn new(
        mean: &[f32],
        variance: &[f32],
        gamma: &[f32],
        beta: &[f32],
        epsilon: f64,
    ) -> Self {
        let inverse_deviation: Vec<f32> =
            variance.iter().map(|v| 1.0 / (v + epsilon as f32).sqrt()).collect();
        let scale: Vec<f32> = gamma.iter().zip(&inverse_deviation).map(|(g, i)| g * i).collect();
        let shift = beta.iter().zip(mean.iter().zip(&scale)).map(|(b, (m, s))| b - m * s).collect();
        Self { mean: mean.to_vec(), inverse_deviation, scale, shift }
    }

    pub(super) fn forward(&self, x: &Map, activation: Activation) -> Map {
        let mut out = zeros(x.values().len());
        let length = pixels_a_piece(x.channels) * x.channels;
        let piece = Forward { normalization: self, values: x.values(), length, activation };
        for_pieces(&mut out, length, &piece);
        Map::from_values(out, x.shape())
    }

    /// Gradients with respect to the input, gamma and beta; the latter two are this replica's part.
    pub(super) fn backward(
        &self,
        x: &Map,
        grad: Map,
        activation: Activation,
        replicas: Option<&Replicas>,
    ) -> (Map, Vec<f32>, Vec<f32>) {
        let (channels, values) = (x.channels, x.values());
        let length = pixels_a_piece(channels) * channels;
        let backward =
            Backward { normalization: self, values, upstream: grad.values(), length, activation };
        let mut pieces = vec![0.0; values.len().div_ceil(length.max(1)) * 2 * channels];
        for_pieces(&mut pieces, 2 * channels, &BackwardSums(&backward));
        let sums = sum_chunks(&pieces, 2 * channels);
        let (dbeta, centered) = sums.split_at(channels);
        let dgamma: Vec<f32> =
            centered.iter().zip(&self.inverse_deviation).map(|(s, i)| s * i).collect();

        // dx = scale·(g − mean g − x̂·mean(g·x̂)), written as scale·g + slope·x + offset; the means
        // are over all replicas' pixels.
        let pixels = x.batch * x.height * x.width;
        let together = replicas.map(|replicas| replicas.sums(pixels, [&dgamma, dbeta].concat()));
        let (count, all_dgamma, all_dbeta) = match &together {
            Some((count, sums)) => (*count, &sums[..channels], &sums[channels..]),
            None => (pixels as f32, &dgamma[..], dbeta),
        };
        let slopes: Vec<f32> = (0..channels)
            .map(|c| -self.scale[c] * all_dgamma[c] / count * self.inverse_deviation[c])
            .collect();
        let offsets: Vec<f32> = (0..channels)
            .map(|c| -self.scale[c] * all_dbeta[c] / count - slopes[c] * self.mean[c])
            .collect();
        let input = BackwardInput {
            normalization: self,
            values,
            length,
            activation,
            slopes: &slopes,
            offsets: &offsets,
        };
        (changed(grad, length, &input), dgamma, dbeta.to_vec())
    }
}

/// A piece is a run of output pixels.
struct Forward<'a> {
    normalization: &'a Normalization,
    values: &'a [f32],
    length: usize,
    activation: Activation,
}

impl Forward<'_> {
    #[inline(always)]
    fn each(&self, index: usize, out: &mut [f32], activation: impl Fn(f32) -> f32) {
        let Normalization { scale, shift, .. } = self.normalization;
        let channels = scale.len();
        let (scale, shift) = (&scale[..channels], &shift[..channels]);
        let input = &self.values[index * self.length..][..out.len()];
        for (out, x) in out.chunks_exact_mut(channels).zip(input.chunks_exact(channels)) {
            for c in 0..channels {
                out[c] = activation(multiply_add(x[c], scale[c], shift[c]));
            }
        }
    }
}

impl Piece for Forward<'_> {
    #[inline(always)]
    fn run(&self, index: usize, out: &mut [f32]) {
        match self.activation {
            Activation::Identity => self.each(index, out, |z| z),
            Activation::Relu => self.each(index, out, |z| z.max(0.0)),
            Activation::HardSwish => self.each(index, out, hard_swish),
            Activation::Relu6 => self.each(index, out, |z| z.clamp(0.0, 6.0)),
            Activation::Silu => self.each(index, out, silu),
            Activation::Gelu => self.each(index, out, gelu),
            Activation::QuickGelu => self.each(index, out, quick_gelu),
            Activation::GeluTanh => self.each(index, out, gelu_tanh),
        }
    }
}

struct Backward<'a> {
    normalization: &'a Normalization,
    values: &'a [f32],
    upstream: &'a [f32],
    length: usize,
    activation: Activation,
}

impl Backward<'_> {
    /// Calls `visit(channel, x, g)` for every value of a piece, g being the gradient before the
    /// activation.
    #[inline(always)]
    fn each(
        &self,
        index: usize,
        slope: impl Fn(f32) -> f32,
        mut visit: impl FnMut(usize, f32, f32),
    ) {
        let Normalization { scale, shift, .. } = self.normalization;
        let channels = scale.len();
        let (scale, shift) = (&scale[..channels], &shift[..channels]);
        let start = index * self.length;
        let end = (start + self.length).min(self.values.len());
        let inputs = self.values[start..end].chunks_exact(channels);
        let gradients = self.upstream[start..end].chunks_exact(channels);
        for (x, g) in inputs.zip(gradients) {
            for c in 0..channels {
                let g = g[c] * slope(multiply_add(x[c], scale[c], shift[c]));
                visit(c, x[c], g);
            }
        }
    }

    #[inline(always)]
    fn each_with_slope(&self, index: usize, visit: impl FnMut(usize, f32, f32)) {
        match self.activation {
            Activation::Identity => self.each(index, |_| 1.0, visit),
            Activation::Relu => self.each(index, |z| if z > 0.0 { 1.0 } else { 0.0 }, visit),
            Activation::HardSwish => self.each(index, hard_swish_slope, visit),
            Activation::Silu => self.each(index, silu_slope, visit),
            Activation::Gelu => self.each(index, gelu_slope, visit),
            Activation::QuickGelu => self.each(index, quick_gelu_slope, visit),
            Activation::GeluTanh => self.each(index, gelu_tanh_slope, visit),
            Activation::Relu6 => {
                self.each(index, |z| if z > 0.0 && z < 6.0 { 1.0 } else { 0.0 }, visit);
            }
        }
    }
}

/// Sums of g and g·(x − mean) a channel.
struct BackwardSums<'a>(&'a Backward<'a>);

impl Piece for BackwardSums<'_> {
    #[inline(always)]
    fn run(&self, index: usize, sums: &mut [f32]) {
        let mean = &self.0.normalization.mean;
        let (plain, centered) = sums.split_at_mut(mean.len());
        self.0.each_with_slope(index, |c, x, g| {
            plain[c] += g;
            centered[c] = multiply_add(g, x - mean[c], centered[c]);
        });
    }
}

/// Gradient with respect to the input; a piece holds the upstream gradient and is overwritten.
struct BackwardInput<'a> {
    normalization: &'a Normalization,
    values: &'a [f32],
    length: usize,
    activation: Activation,
    slopes: &'a [f32],
    offsets: &'a [f32],
}

impl BackwardInput<'_> {
    #[inline(always)]
    fn each(&self, index: usize, piece: &mut [f32], slope: impl Fn(f32) -> f32) {
        let Normalization { scale, shift, .. } = self.normalization;
        let channels = scale.len();
        let (scale, shift) = (&scale[..channels], &shift[..channels]);
        let (slopes, offsets) = (&self.slopes[..channels], &self.offsets[..channels]);
        let inputs = &self.values[index * self.length..][..piece.len()];
        for (grad, x) in piece.chunks_exact_mut(channels).zip(inputs.chunks_exact(channels)) {
            for c in 0..channels {
                let g = grad[c] * slope(multiply_add(x[c], scale[c], shift[c]));
                grad[c] = multiply_add(g, scale[c], multiply_add(x[c], slopes[c], offsets[c]));
            }
        }
    }
}

impl Piece for BackwardInput<'_> {
    #[inline(always)]
    fn run(&self, index: usize, piece: &mut [f32]) {
        match self.activation {
            Activation::Identity => self.each(index, piece, |_| 1.0),
            Activation::Relu => self.each(index, piece, |z| if z > 0.0 { 1.0 } else { 0.0 }),
            Activation::HardSwish => self.each(index, piece, hard_swish_slope),
            Activation::Silu => self.each(index, piece, silu_slope),
            Activation::Gelu => self.each(index, piece, gelu_slope),
            Activation::QuickGelu => self.each(index, piece, quick_gelu_slope),
            Activation::GeluTanh => self.each(index, piece, gelu_tanh_slope),
            Activation::Relu6 => {
                self.each(index, piece, |z| if z > 0.0 && z < 6.0 { 1.0 } else { 0.0 });
            }
        }
    }
}

#[inline(always)]
fn hard_swish(z: f32) -> f32 {
    z * (z * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0)
}

/// Derivative of hard-swish.
#[inline(always)]
fn hard_swish_slope(z: f32) -> f32 {
    if z <= -3.0 {
        0.0
    } else if z >= 3.0 {
        1.0
    } else {
        z * (1.0 / 3.0) + 0.5
    }
}

struct Bias<'a> {
    bias: &'a [f32],
    activation: Activation,
}

impl Bias<'_> {
    #[inline(always)]
    fn each(&self, piece: &mut [f32], activation: impl Fn(f32) -> f32) {
        let channels = self.bias.len();
        for pixel in piece.chunks_exact_mut(channels) {
            for (value, bias) in pixel.iter_mut().zip(self.bias) {
                *value = activation(*value + bias);
            }
        }
    }
}

impl Piece for Bias<'_> {
    #[inline(always)]
    fn run(&self, _: usize, piece: &mut [f32]) {
        match self.activation {
            Activation::Identity => self.each(piece, |z| z),
            Activation::Relu => self.each(piece, |z| z.max(0.0)),
            Activation::HardSwish => self.each(piece, hard_swish),
            Activation::Relu6 => self.each(piece, |z| z.clamp(0.0, 6.0)),
            Activation::Silu => self.each(piece, silu),
            Activation::Gelu => self.each(piece, gelu),
            Activation::QuickGelu => self.each(piece, quick_gelu),
            Activation::GeluTanh => self.each(piece, gelu_tanh),
        }
    }
}

/// `activation(x + bias)`, in place where nobody else holds `x`.
pub(super) fn bias_act(x: Map, bias: &[f32], activation: Activation) -> Map {
    let length = pixels_a_piece(x.channels) * x.channels;
    changed(x, length, &Bias { bias, activation })
}

/// Runs a [`Piece`] over a map's values, in place where nobody else holds them.
fn changed(mut x: Map, length: usize, piece: &impl Piece) -> Map {
    let all = x.values().len();
    if x.tensor.layout().start_offset() == 0
        && let Some(values) = x.tensor.try_storage_mut::<f32>()
        && values.len() == all
    {
        for_pieces(values, length, piece);
        return x;
    }
    let mut values = copied(x.values());
    for_pieces(&mut values, length, piece);
    Map::from_values(values, x.shape())
}

struct AddRelu<'a>(&'a [f32]);

impl Piece for AddRelu<'_> {
    #[inline(always)]
    fn run(&self, index: usize, piece: &mut [f32]) {
        let other = &self.0[index * PIECE..][..piece.len()];
        piece.iter_mut().zip(other).for_each(|(value, other)| *value = (*value + other).max(0.0));
    }
}

/// `max(a + b, 0)`, in place where nobody else holds `a`.
pub(super) fn add_relu(a: Map, b: &Map) -> Map {
    changed(a, PIECE, &AddRelu(b.values()))
}

struct Mask<'a>(&'a [f32]);

impl Piece for Mask<'_> {
    #[inline(always)]
    fn run(&self, index: usize, piece: &mut [f32]) {
        let output = &self.0[index * PIECE..][..piece.len()];
        for (grad, output) in piece.iter_mut().zip(output) {
            *grad = if *output > 0.0 { *grad } else { 0.0 };
        }
    }
}

/// The gradient where the output is positive, in place where nobody else holds it.
pub(super) fn add_relu_backward(output: &Map, grad: Map) -> Map {
    changed(grad, PIECE, &Mask(output.values()))
}
