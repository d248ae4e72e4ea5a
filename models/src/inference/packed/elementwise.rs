//! What a network does between its convolutions: plain loops over contiguous values.

use pulp::{NullaryFnOnce, Simd, WithSimd};

use super::{Extent, activated};
use crate::activation::Activation;
use crate::activation::smooth::{gelu, gelu_tanh, quick_gelu, silu};
use crate::simd::dispatch;
use crate::threads::{self, for_chunks};

/// A loop that is compiled for the machine's vectors.
struct Loop<F>(F);

impl<F: FnOnce()> NullaryFnOnce for Loop<F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        (self.0)();
    }
}

pub(super) fn vectorised(body: impl FnOnce()) {
    dispatch(Loop(body));
}

/// `activation(x + other)`, in place.
pub(crate) fn add(x: &mut [f32], other: &[f32], activation: Activation) {
    vectorised(
        #[inline(always)]
        || match activation {
            Activation::Relu => x.iter_mut().zip(other).for_each(|(x, o)| *x = (*x + o).max(0.0)),
            _ => x.iter_mut().zip(other).for_each(|(x, o)| *x += o),
        },
    );
    if !matches!(activation, Activation::Identity | Activation::Relu) {
        activate(x, activation);
    }
}

/// An activation, in place.
pub(crate) fn activate(x: &mut [f32], activation: Activation) {
    let count = threads::piece(x.len(), 1, usize::MAX);
    for_chunks(x, count, |_, x| dispatch(Activate { x, activation }));
}

/// [`activate`] of what a thread has.
pub(super) struct Activate<'a> {
    pub(super) x: &'a mut [f32],
    pub(super) activation: Activation,
}

impl WithSimd for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, activation } = self;
        if activation.is_smooth() {
            smooth(simd, x, activation);
        } else {
            each(
                simd,
                x,
                #[inline(always)]
                |simd, x| activated(simd, x, activation),
            );
        }
    }
}

/// An activation that [`Activation::is_smooth`], in place; any other leaves the values as they are.
#[inline(always)]
pub(super) fn smooth<S: Simd>(simd: S, x: &mut [f32], activation: Activation) {
    match activation {
        Activation::Identity | Activation::Relu | Activation::Relu6 | Activation::HardSwish => {}
        Activation::Silu => each(
            simd,
            x,
            #[inline(always)]
            |simd, x| silu(simd, x),
        ),
        Activation::Gelu => each(
            simd,
            x,
            #[inline(always)]
            |simd, x| gelu(simd, x),
        ),
        Activation::QuickGelu => each(
            simd,
            x,
            #[inline(always)]
            |simd, x| quick_gelu(simd, x),
        ),
        Activation::GeluTanh => each(
            simd,
            x,
            #[inline(always)]
            |simd, x| gelu_tanh(simd, x),
        ),
    }
}

#[inline(always)]
fn each<S: Simd>(simd: S, x: &mut [f32], function: impl Fn(S, S::f32s) -> S::f32s) {
    let (vectors, left) = S::as_mut_simd_f32s(x);
    for vector in vectors {
        *vector = function(simd, *vector);
    }
    if !left.is_empty() {
        let vector = function(simd, simd.partial_load_f32s(left));
        simd.partial_store_f32s(left, vector);
    }
}

/// The sum of what `term` makes of the values: sixteen sums side by side fill the machine's vectors.
#[inline(always)]
fn sum_of(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let (parts, left) = values.as_chunks::<16>();
    let mut sums = [0.0; 16];
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += term(*value));
    }
    sums.iter().sum::<f32>() + left.iter().map(|value| term(*value)).sum::<f32>()
}

/// Every pixel's channels brought to mean 0 and variance 1, then `x · scale + shift`, in place.
pub(crate) fn layer_norm(x: &mut [f32], scale: &[f32], shift: &[f32], epsilon: f32) {
    let channels = scale.len();
    let count = threads::piece(x.len() / channels, 1, usize::MAX);
    for_chunks(x, count * channels, |_, x| {
        vectorised(
            #[inline(always)]
            || {
                for pixel in x.chunks_exact_mut(channels) {
                    let share = 1.0 / channels as f32;
                    let mean = sum_of(pixel, |value| value) * share;
                    let variance = sum_of(pixel, |value| (value - mean) * (value - mean)) * share;
                    let factor = 1.0 / (variance + epsilon).sqrt();
                    for ((value, scale), shift) in pixel.iter_mut().zip(scale).zip(shift) {
                        *value = (*value - mean) * factor * scale + shift;
                    }
                }
            },
        );
    });
}

/// `x · other`, in place.
pub(crate) fn multiply(x: &mut [f32], other: &[f32]) {
    vectorised(
        #[inline(always)]
        || x.iter_mut().zip(other).for_each(|(x, o)| *x *= o),
    );
}

/// A function of every value, in place.
pub(crate) fn apply(x: &mut [f32], function: impl Fn(f32) -> f32) {
    x.iter_mut().for_each(|x| *x = function(*x));
}

/// `x · scale + shift`, one of each a channel, in place.
pub(crate) fn affine(x: &mut [f32], scale: &[f32], shift: &[f32]) {
    for pixel in x.chunks_exact_mut(scale.len()) {
        for ((value, scale), shift) in pixel.iter_mut().zip(scale).zip(shift) {
            *value = *value * scale + shift;
        }
    }
}

/// Every pixel times the gate, in place.
pub(crate) fn scale_channels(x: &mut [f32], gate: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for pixel in x.chunks_exact_mut(gate.len()) {
                pixel.iter_mut().zip(gate).for_each(|(value, gate)| *value *= gate);
            }
        },
    );
}

/// The mean of all pixels.
pub(crate) fn global_average(x: &[f32], out: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            out.fill(0.0);
            for pixel in x.chunks_exact(out.len()) {
                out.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
            }
            let share = out.len() as f32 / x.len() as f32;
            out.iter_mut().for_each(|sum| *sum *= share);
        },
    );
}

/// The largest of all pixels, channel by channel.
pub(crate) fn global_maximum(x: &[f32], out: &mut [f32]) {
    out.fill(f32::NEG_INFINITY);
    for pixel in x.chunks_exact(out.len()) {
        out.iter_mut().zip(pixel).for_each(|(most, value)| *most = most.max(*value));
    }
}

/// The channels of each pixel of all maps, one map after the other.
pub(crate) fn concatenate(maps: [(&[f32], usize); 2], out: &mut [f32]) {
    let [(a, left), (b, right)] = maps;
    let both = left + right;
    let count = threads::piece(out.len() / both, 1, usize::MAX);
    for_chunks(out, count * both, |index, out| {
        let first = index * count;
        let pixels =
            a[first * left..].chunks_exact(left).zip(b[first * right..].chunks_exact(right));
        for (pixel, (a, b)) in out.chunks_exact_mut(both).zip(pixels) {
            pixel[..left].copy_from_slice(a);
            pixel[left..].copy_from_slice(b);
        }
    });
}

/// Every pixel four times.
pub(crate) fn upsample(x: &[f32], extent: Extent, out: &mut [f32]) {
    let line = extent.line();
    for (from, to) in x.chunks_exact(line).zip(out.chunks_exact_mut(4 * line)) {
        let (first, second) = to.split_at_mut(2 * line);
        let pairs = first.chunks_exact_mut(2 * extent.channels);
        for (pixel, pair) in from.chunks_exact(extent.channels).zip(pairs) {
            pair[..extent.channels].copy_from_slice(pixel);
            pair[extent.channels..].copy_from_slice(pixel);
        }
        second.copy_from_slice(first);
    }
}

/// The pixels under each square of `side` pixels at every second pixel, `before` of them outside
/// the picture; `visit` gets the output pixel and one covered input pixel after the other.
fn for_each_covered(
    extent: Extent,
    [side, before]: [usize; 2],
    mut visit: impl FnMut(usize, usize),
) {
    let covered = |at: usize, input: usize| {
        (2 * at).saturating_sub(before)..(2 * at + side - before).min(input)
    };
    let (height, width) = (extent.height.div_ceil(2), extent.width.div_ceil(2));
    for oy in 0..height {
        for ox in 0..width {
            for y in covered(oy, extent.height) {
                for x in covered(ox, extent.width) {
                    visit(oy * width + ox, y * extent.width + x);
                }
            }
        }
    }
}

/// Largest of 3×3 pixels, stride 2, one pixel of padding.
pub(crate) fn max_pool(x: &[f32], extent: Extent, out: &mut [f32]) {
    let channels = extent.channels;
    out.fill(f32::NEG_INFINITY);
    for_each_covered(extent, [3, 1], |to, from| {
        let (to, from) = (&mut out[to * channels..][..channels], &x[from * channels..]);
        to.iter_mut().zip(from).for_each(|(most, value)| *most = most.max(*value));
    });
}

/// Mean of 2×2 pixels, stride 2; at an odd border of those that are there.
pub(crate) fn average_pool(x: &[f32], extent: Extent, out: &mut [f32]) {
    let channels = extent.channels;
    let width = extent.width.div_ceil(2);
    out.fill(0.0);
    for_each_covered(extent, [2, 0], |to, from| {
        let covered = |at: usize, side: usize| (side - 2 * at).min(2);
        let count = covered(to / width, extent.height) * covered(to % width, extent.width);
        let share = 1.0 / count as f32;
        let (to, from) = (&mut out[to * channels..][..channels], &x[from * channels..]);
        to.iter_mut().zip(from).for_each(|(sum, value)| *sum += value * share);
    });
}

/// The logit of `√(σ(class) · σ(alignment) + epsilon)`, kept `margin` below 1; in place of the
/// class logits, of which each pixel has as many as there are values an alignment.
pub(crate) fn aligned_logit(class: &mut [f32], alignment: &[f32], [epsilon, margin]: [f32; 2]) {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    let classes = class.len() / alignment.len();
    for (logits, alignment) in class.chunks_exact_mut(classes).zip(alignment) {
        for logit in logits {
            let score = (sigmoid(*logit) * sigmoid(*alignment) + epsilon).sqrt().min(1.0 - margin);
            *logit = score.ln() - (1.0 - score).ln();
        }
    }
}

/// Brings every pixel's vector to unit length, in place.
pub(crate) fn unit_length(x: &mut [f32], channels: usize, epsilon: f32) {
    for pixel in x.chunks_exact_mut(channels) {
        let length = (pixel.iter().map(|v| v * v).sum::<f32>() + epsilon).sqrt();
        pixel.iter_mut().for_each(|value| *value /= length);
    }
}
