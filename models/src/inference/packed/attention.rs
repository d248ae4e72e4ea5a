//! What transformers do between their products: tokens, rotations, attention.

use pulp::{Simd, WithSimd};

use super::{load, store, with_band};
use crate::activation::smooth::exponentials;
use crate::simd::dispatch;
use crate::threads::{self, for_chunks};

/// Scores that are worked on at once: they stay in the second-level cache.
const BLOCK_VALUES: usize = 1 << 16;

/// Values of a line of keys are filled up to a multiple of this, the machine's widest vector.
const KEY_LINE: usize = 16;

/// Values between two channels of keys that [`transpose`] has laid out for this many tokens.
pub(crate) const fn key_step(tokens: usize) -> usize {
    tokens.next_multiple_of(KEY_LINE)
}

/// The tokens `before` all others, then those of `x` with `added`, if there is anything to add.
pub(crate) fn tokens(x: &[f32], before: &[f32], added: &[f32], out: &mut [f32]) {
    let (first, rest) = out.split_at_mut(before.len());
    first.copy_from_slice(before);
    rest.copy_from_slice(&x[..rest.len()]);
    rest.iter_mut().zip(added).for_each(|(value, added)| *value += added);
}

/// Turns pairs of channels of each head by angles of a token's place, in place; `before` tokens have none.
///
/// # Shapes
///
/// - `x`: `[tokens, heads, 2, half]`
/// - `cosines`, `sines`: `[tokens − before, half]`
pub(crate) fn rotate(
    x: &mut [f32],
    channels: usize,
    before: usize,
    half: usize,
    [cosines, sines]: [&[f32]; 2],
) {
    let angles = cosines.chunks_exact(half).zip(sines.chunks_exact(half));
    for (token, (cosines, sines)) in x[before * channels..].chunks_exact_mut(channels).zip(angles) {
        for head in token.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            let pairs = first.iter_mut().zip(second).zip(cosines.iter().zip(sines));
            for ((a, b), (cosine, sine)) in pairs {
                (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
            }
        }
    }
}

/// Lays keys out for [`attend`], times a factor.
///
/// # Shapes
///
/// - `x`: `[tokens, channels]`
/// - `out`: `[channels, key_step(tokens)]`
pub(crate) fn transpose(x: &[f32], channels: usize, factor: f32, out: &mut [f32]) {
    let step = out.len() / channels;
    let count = threads::piece(channels, KEY_LINE, usize::MAX);
    for_chunks(out, count * step, |index, out| {
        let first = index * count;
        // As many tokens at a time as fill a line of the cache.
        for (block, tokens) in x.chunks(KEY_LINE * channels).enumerate() {
            for (column, line) in out.chunks_exact_mut(step).enumerate() {
                let line = &mut line[block * KEY_LINE..][..KEY_LINE];
                line.fill(0.0);
                let values = tokens[first + column..].iter().step_by(channels);
                line.iter_mut().zip(values).for_each(|(key, value)| *key = value * factor);
            }
        }
    });
}

/// Of each query the mean of the values, weighted by the softmax of its products with the keys, head by head.
///
/// # Shapes
///
/// - `queries`, `out`: `[queries, channels]`
/// - `keys`: `[channels, key_step(tokens)]`
/// - `values`: `[tokens, channels]`
pub(crate) fn attend(
    queries: &[f32],
    keys: &[f32],
    values: &[f32],
    [channels, heads]: [usize; 2],
    out: &mut [f32],
) {
    let tokens = values.len() / channels;
    if tokens == 0 {
        // Of an image that is smaller than a patch.
        return out.fill(0.0);
    }
    let step = key_step(tokens);
    let most = (BLOCK_VALUES / step).max(1);
    let count = threads::piece(out.len() / channels, 1, most);
    for_chunks(out, count * channels, |index, out| {
        let queries = &queries[index * count * channels..][..out.len()];
        with_band(out.len() / channels * step, |scores| {
            dispatch(Attend { queries, keys, values, channels, heads, tokens, scores, out });
        });
    });
}

/// Some queries against all keys.
struct Attend<'a> {
    queries: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    channels: usize,
    heads: usize,
    tokens: usize,
    scores: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Known while this is compiled: as many rows as the registers hold sums for.
        match S::F32_LANES {
            16 => self.run::<S, 12>(simd),
            8 => self.run::<S, 6>(simd),
            _ => self.run::<S, 4>(simd),
        }
    }
}

impl Attend<'_> {
    #[inline(always)]
    fn run<S: Simd, const TILE: usize>(self, simd: S) {
        let Self { queries, keys, values, channels, heads, tokens, scores, out } = self;
        let (width, step) = (channels / heads, key_step(tokens));
        let rows = out.len() / channels;
        for first in (0..channels).step_by(width) {
            let query = Lines { values: &queries[first..], step: channels };
            let key = Lines { values: &keys[first * step..], step };
            let sides = [rows, width, step];
            product::<S, TILE>(simd, query, key, sides, scores, step);
            for row in scores.chunks_exact_mut(step) {
                let row = &mut row[..tokens];
                let share = 1.0 / exponentials(simd, row);
                row.iter_mut().for_each(|value| *value *= share);
            }
            let weight = Lines { values: scores, step };
            let value = Lines { values: &values[first..], step: channels };
            let sides = [rows, tokens, width];
            product::<S, TILE>(simd, weight, value, sides, &mut out[first..], channels);
        }
    }
}

/// Lines whose beginnings lie `step` values apart.
#[derive(Clone, Copy)]
struct Lines<'a> {
    values: &'a [f32],
    step: usize,
}

/// `out[row, column] = Σ left[row, term] · right[term, column]`, rows of `out` being `out_step` apart.
#[inline(always)]
fn product<S: Simd, const TILE: usize>(
    simd: S,
    left: Lines<'_>,
    right: Lines<'_>,
    [rows, depth, columns]: [usize; 3],
    out: &mut [f32],
    out_step: usize,
) {
    let lanes = S::F32_LANES;
    // The last rows once more are no slower than a few alone.
    let height = if rows < TILE { 1 } else { TILE };
    let mut first = 0;
    while first < columns {
        let room = columns - first;
        let mut row = 0;
        while row < rows {
            let at = [row.min(rows - height), first];
            match (room >= 2 * lanes, room >= lanes, height == 1) {
                (true, _, false) => tile::<S, TILE, 2>(simd, left, right, depth, at, out, out_step),
                (true, _, true) => tile::<S, 1, 2>(simd, left, right, depth, at, out, out_step),
                (_, true, false) => tile::<S, TILE, 1>(simd, left, right, depth, at, out, out_step),
                (_, true, true) => tile::<S, 1, 1>(simd, left, right, depth, at, out, out_step),
                _ => narrow::<S>(simd, left, right, [depth, room, height], at, out, out_step),
            }
            row += height;
        }
        first += if room >= 2 * lanes { 2 * lanes } else { lanes };
    }
}

/// `TILE` rows and as many columns as vectors hold.
#[inline(always)]
fn tile<S: Simd, const TILE: usize, const VECTORS: usize>(
    simd: S,
    left: Lines<'_>,
    right: Lines<'_>,
    depth: usize,
    [row, first]: [usize; 2],
    out: &mut [f32],
    out_step: usize,
) {
    let lines: [&[f32]; TILE] =
        std::array::from_fn(|tile| &left.values[(row + tile) * left.step..][..depth]);
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; TILE];
    #[expect(clippy::needless_range_loop, reason = "one place of several lines")]
    for term in 0..depth {
        let line = &right.values[term * right.step + first..][..VECTORS * S::F32_LANES];
        // A plain loop: `from_fn` with loads that may stop in the middle is not unrolled.
        let mut terms = [simd.splat_f32s(0.0); VECTORS];
        for (terms, values) in terms.iter_mut().zip(line.chunks_exact(S::F32_LANES)) {
            *terms = load::<S>(values);
        }
        for tile in 0..TILE {
            let value = simd.splat_f32s(lines[tile][term]);
            for vector in 0..VECTORS {
                sums[tile][vector] = simd.mul_add_e_f32s(value, terms[vector], sums[tile][vector]);
            }
        }
    }
    for (tile, sums) in sums.into_iter().enumerate() {
        let line = &mut out[(row + tile) * out_step + first..][..VECTORS * S::F32_LANES];
        for (vector, sum) in sums.into_iter().enumerate() {
            store::<S>(&mut line[vector * S::F32_LANES..], sum);
        }
    }
}

/// Columns that fill no vector.
#[inline(always)]
fn narrow<S: Simd>(
    simd: S,
    left: Lines<'_>,
    right: Lines<'_>,
    [depth, columns, height]: [usize; 3],
    [row, first]: [usize; 2],
    out: &mut [f32],
    out_step: usize,
) {
    for row in row..row + height {
        let line = &left.values[row * left.step..][..depth];
        let mut sum = simd.splat_f32s(0.0);
        for (term, value) in line.iter().enumerate() {
            let terms = &right.values[term * right.step + first..][..columns];
            let value = simd.splat_f32s(*value);
            sum = simd.mul_add_e_f32s(value, simd.partial_load_f32s(terms), sum);
        }
        simd.partial_store_f32s(&mut out[row * out_step + first..][..columns], sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::noise;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn attention_equals_a_plain_loop(
            // A probe, and all that can be left of tiles.
            queries in 1_usize..40,
            tokens in 1_usize..50,
            heads in 1_usize..4,
            width in prop::sample::select(vec![4_usize, 8, 20, 32, 64]),
            seed in any::<u64>(),
        ) {
            let mut next = noise(seed);
            let channels = heads * width;
            let mut draw = |count: usize| -> Vec<f32> { (0..count).map(|_| 3.0 * next()).collect() };
            let (q, k, v) = (draw(queries * channels), draw(tokens * channels), draw(tokens * channels));
            let factor = 1.0 / (width as f32).sqrt();
            let mut keys = vec![f32::NAN; channels * key_step(tokens)];
            transpose(&k, channels, factor, &mut keys);
            let mut out = vec![f32::NAN; queries * channels];
            attend(&q, &keys, &v, [channels, heads], &mut out);
            for query in 0..queries {
                for head in 0..heads {
                    let part = |values: &[f32], row: usize| -> Vec<f64> {
                        let from = row * channels + head * width;
                        values[from..from + width].iter().map(|value| f64::from(*value)).collect()
                    };
                    let asked = part(&q, query);
                    let scores: Vec<f64> = (0..tokens)
                        .map(|token| {
                            let key = part(&k, token);
                            asked.iter().zip(&key).map(|(a, b)| a * b).sum::<f64>() * f64::from(factor)
                        })
                        .collect();
                    let most = scores.iter().copied().fold(f64::MIN, f64::max);
                    let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
                    let sum: f64 = weights.iter().sum();
                    for channel in 0..width {
                        let mean: f64 = (0..tokens)
                            .map(|token| weights[token] / sum * part(&v, token)[channel])
                            .sum();
                        let got = f64::from(out[query * channels + head * width + channel]);
                        prop_assert!((got - mean).abs() < 1e-4, "{got} against {mean}");
                    }
                }
            }
        }
    }

    #[test]
    fn rotations_turn_pairs_and_leave_the_first_tokens() {
        let (channels, half) = (8, 2);
        let x: Vec<f32> = (0..24).map(|value| value as f32).collect();
        let angles: Vec<f32> = vec![0.3, -1.2, 0.0, 2.5];
        let cosines: Vec<f32> = angles.iter().map(|angle| angle.cos()).collect();
        let sines: Vec<f32> = angles.iter().map(|angle| angle.sin()).collect();
        let mut turned = x.clone();
        rotate(&mut turned, channels, 1, half, [&cosines, &sines]);
        assert_eq!(turned[..channels], x[..channels]);
        for token in 1..3 {
            for head in 0..2 {
                for pair in 0..half {
                    let at = token * channels + head * 2 * half + pair;
                    let (a, b) = (x[at], x[at + half]);
                    let angle = angles[(token - 1) * half + pair];
                    assert!((turned[at] - (a * angle.cos() - b * angle.sin())).abs() < 1e-5);
                    assert!((turned[at + half] - (b * angle.cos() + a * angle.sin())).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn tokens_stand_before_pixels_with_what_is_added() {
        let mut out = [0.0; 6];
        tokens(&[1.0, 2.0, 3.0, 4.0], &[7.0, 8.0], &[0.5; 4], &mut out);
        assert_eq!(out, [7.0, 8.0, 1.5, 2.5, 3.5, 4.5]);
        tokens(&[1.0, 2.0, 3.0, 4.0], &[7.0, 8.0], &[], &mut out);
        assert_eq!(out, [7.0, 8.0, 1.0, 2.0, 3.0, 4.0]);
        tokens(&[1.0, 2.0], &[5.0, 6.0], &[], &mut out[..2]);
        assert_eq!(out[..2], [5.0, 6.0]);
    }
}
