//! Products of codes by relaxed SIMD's own instructions.

use core::arch::wasm32::{
    f32x4, f32x4_add, f32x4_convert_i32x4, f32x4_extract_lane, f32x4_mul, f32x4_relaxed_madd,
    f32x4_relaxed_max, f32x4_relaxed_min, f32x4_splat, i8x16, i32x4_relaxed_dot_i8x16_i7x16_add,
    i32x4_shl, i32x4_splat, u32x4_extract_lane, u32x4_shr, v128, v128_or,
};

use super::{BLOCK, COLUMNS, Ending, GROUP, Row, Scales, Weights};

/// A block's codes: those of the quarters' first values in the first word.
#[inline(always)]
pub(super) fn encoded(block: &[f32; BLOCK], per_value: f32, offset: f32) -> [u32; GROUP] {
    let (per_value, offset) = (f32x4_splat(per_value), f32x4_splat(offset));
    let code = |quarter: usize| -> v128 {
        let x = &block[quarter * GROUP..][..GROUP];
        f32x4_relaxed_madd(f32x4(x[0], x[1], x[2], x[3]), per_value, offset)
    };
    // What is above a code is shifted out; a constant would be made anew for every block.
    let low = v128_or(u32x4_shr(i32x4_shl(code(0), 24), 24), i32x4_shl(code(1), 8));
    let words = v128_or(low, v128_or(i32x4_shl(code(2), 16), i32x4_shl(code(3), 24)));
    [
        u32x4_extract_lane::<0>(words),
        u32x4_extract_lane::<1>(words),
        u32x4_extract_lane::<2>(words),
        u32x4_extract_lane::<3>(words),
    ]
}

/// Sums of products of some rows of codes with a panel's columns.
#[inline(always)]
pub(super) fn products<const ROWS: usize>(
    lines: [&[u32]; ROWS],
    panel: &[Weights],
) -> [[v128; 2]; ROWS] {
    let half = |w: &[i8]| -> v128 {
        i8x16(
            w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10], w[11], w[12], w[13],
            w[14], w[15],
        )
    };
    let lines = lines.map(|line| &line[..panel.len()]);
    let mut sums = [[i32x4_splat(0); 2]; ROWS];
    for (word, weights) in panel.iter().enumerate() {
        let weights = [half(&weights[..16]), half(&weights[16..])];
        for (sums, line) in sums.iter_mut().zip(&lines) {
            let codes = i32x4_splat(line[word].cast_signed());
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = i32x4_relaxed_dot_i8x16_i7x16_add(weights, codes, *sum);
            }
        }
    }
    sums
}

/// A row's results from its sums.
#[inline(always)]
pub(super) fn finished<const GATED: bool>(
    sums: [v128; 2],
    row: &Row,
    scales: &Scales,
    residual: Option<&[f32; COLUMNS]>,
    ending: &Ending,
) -> [f32; COLUMNS] {
    let (step, least) = (f32x4_splat(row.step), f32x4_splat(row.least));
    let (low, high) = (f32x4_splat(ending.low), f32x4_splat(ending.high));
    let within = |x| f32x4_relaxed_min(f32x4_relaxed_max(x, low), high);
    let half = |half: usize| {
        let load = |values: &[f32; COLUMNS]| -> v128 {
            let at = half * 4;
            f32x4(values[at], values[at + 1], values[at + 2], values[at + 3])
        };
        let shift = f32x4_relaxed_madd(least, load(&scales.sum), load(&scales.bias));
        let scale = f32x4_mul(step, load(&scales.step));
        let value = f32x4_relaxed_madd(f32x4_convert_i32x4(sums[half]), scale, shift);
        let value = residual.map_or(value, |residual| f32x4_add(value, load(residual)));
        if GATED {
            let (slope, middle) = (f32x4_splat(ending.slope), f32x4_splat(ending.middle));
            f32x4_mul(value, within(f32x4_relaxed_madd(value, slope, middle)))
        } else {
            within(value)
        }
    };
    let [a, b] = [half(0), half(1)];
    [
        f32x4_extract_lane::<0>(a),
        f32x4_extract_lane::<1>(a),
        f32x4_extract_lane::<2>(a),
        f32x4_extract_lane::<3>(a),
        f32x4_extract_lane::<0>(b),
        f32x4_extract_lane::<1>(b),
        f32x4_extract_lane::<2>(b),
        f32x4_extract_lane::<3>(b),
    ]
}
