//! Products of codes as plain loops.

use super::{BLOCK, COLUMNS, Ending, GROUP, ROUNDING, Row, Scales, Weights};

/// A block's codes: those of the quarters' first values in the first word.
#[inline(always)]
pub(super) fn encoded(block: &[f32; BLOCK], per_value: f32, offset: f32) -> [u32; GROUP] {
    std::array::from_fn(|lane| {
        let code = |quarter: usize| (block[quarter * GROUP + lane] * per_value + offset).to_bits();
        // What is above a code is shifted out, but of the lowest.
        code(0) ^ ROUNDING.to_bits() ^ code(1) << 8 ^ code(2) << 16 ^ code(3) << 24
    })
}

/// Sums of products of some rows of codes with a panel's columns.
#[inline(always)]
pub(super) fn products<const ROWS: usize>(
    lines: [&[u32]; ROWS],
    panel: &[Weights],
) -> [[i32; COLUMNS]; ROWS] {
    let mut sums = [[0_i32; COLUMNS]; ROWS];
    for (word, weights) in panel.iter().enumerate() {
        for (sums, line) in sums.iter_mut().zip(&lines) {
            let codes = line[word].to_le_bytes();
            for (sum, weights) in sums.iter_mut().zip(weights.as_chunks::<GROUP>().0) {
                for (code, weight) in codes.iter().zip(weights) {
                    *sum += i32::from(*code) * i32::from(*weight);
                }
            }
        }
    }
    sums
}

/// A row's results from its sums.
#[inline(always)]
pub(super) fn finished<const GATED: bool>(
    sums: [i32; COLUMNS],
    row: &Row,
    scales: &Scales,
    residual: Option<&[f32; COLUMNS]>,
    ending: &Ending,
) -> [f32; COLUMNS] {
    std::array::from_fn(|column| {
        let shift = row.least * scales.sum[column] + scales.bias[column];
        let value = sums[column] as f32 * (row.step * scales.step[column]) + shift;
        let value = value + residual.map_or(0.0, |residual| residual[column]);
        if GATED {
            let gate = value * ending.slope + ending.middle;
            value * gate.max(ending.low).min(ending.high)
        } else {
            value.max(ending.low).min(ending.high)
        }
    })
}
