//! Matrix products in whole numbers: weights of 8 bits, activations of 7.
//!
//! Every column of weights has a scale. The scale of the activations is found while they are there:
//! each row runs from its least to its largest value in 127 steps, so that nothing has to be known of
//! the pictures beforehand and a bright pixel costs the others no precision. Products of four pairs
//! are one instruction in browsers with relaxed SIMD, which wants 7 bits on one side.

use std::cell::RefCell;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::{
    Aligned, activated, activated_value, extremes, larger, load, smaller, store, with_band,
};
use crate::kernels::Activation;
use crate::kernels::cpu::dispatch;
use crate::kernels::threads::{self, for_chunks};

/// Codes of a block of the left side that stay in the second-level cache.
const BLOCK_CODES: usize = 1 << 16;
/// Rows of a block are a multiple of it.
const TILE: usize = 4;
/// Columns of a panel: two vectors of 32-bit sums.
const COLUMNS: usize = 8;
/// Pairs whose products are summed by one instruction.
const GROUP: usize = 4;
/// Steps between a row's least and largest value.
const STEPS: f32 = 127.0;

/// Weights of the columns of a panel for a group of rows, one column after the other.
type Weights = [i8; COLUMNS * GROUP];

/// `[rows, columns]` of weights with a bias a column, as whole numbers.
#[derive(Debug)]
pub(crate) struct QuantizedMatrix {
    /// Panel after panel, group after group; what is missing is zero.
    panels: Vec<Weights>,
    /// What one step of a column's weights is worth.
    scales: Aligned,
    /// Each column's weights added up, in their own scale.
    sums: Aligned,
    bias: Aligned,
    rows: usize,
    columns: usize,
}

/// A block of the left side as codes.
#[derive(Default)]
struct Codes {
    values: Vec<u8>,
    /// What a step is worth, and the least value, of each row.
    rows: Vec<[f32; 2]>,
}

thread_local! {
    /// Room for codes, kept from picture to picture.
    static CODES: RefCell<Codes> = RefCell::new(Codes::default());
}

impl QuantizedMatrix {
    /// Packs weights given as `weight(row, column)`.
    pub(crate) fn new(
        [rows, columns]: [usize; 2],
        weight: impl Fn(usize, usize) -> f32,
        bias: &[f32],
    ) -> Self {
        let (groups, panels) = (rows.div_ceil(GROUP), columns.div_ceil(COLUMNS));
        let zeros = || Aligned::zeros(panels * COLUMNS);
        let (mut scales, mut sums, mut padded) = (zeros(), zeros(), zeros());
        padded[..columns].copy_from_slice(&bias[..columns]);
        let mut packed = vec![[0; COLUMNS * GROUP]; groups * panels];
        for column in 0..columns {
            let largest = (0..rows).map(|row| weight(row, column).abs()).fold(0.0, f32::max);
            let scale = largest / f32::from(i8::MAX);
            let panel = &mut packed[column / COLUMNS * groups..][..groups];
            let mut sum = 0;
            for row in 0..rows {
                let steps = if scale > 0.0 { (weight(row, column) / scale).round() } else { 0.0 };
                panel[row / GROUP][column % COLUMNS * GROUP + row % GROUP] = steps as i8;
                sum += i32::from(steps as i8);
            }
            scales[column] = scale;
            sums[column] = sum as f32 * scale;
        }
        Self { panels: packed, scales, sums, bias: padded, rows, columns }
    }

    /// As [`super::PackedMatrix::multiply`].
    pub(crate) fn multiply(
        &self,
        x: &[f32],
        activation: Activation,
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) {
        if x.len() == self.rows {
            let count = threads::piece(self.columns, COLUMNS, usize::MAX);
            return for_chunks(out, count, |index, out| {
                let columns = index * count..index * count + out.len();
                let residual = residual.map(|r| &r[columns.clone()]);
                Block { x, matrix: self, columns, activation, residual, out }.run();
            });
        }
        let most = (BLOCK_CODES / self.rows.max(1)).next_multiple_of(TILE);
        let count = threads::piece(out.len() / self.columns, TILE, most);
        for_chunks(out, count * self.columns, |index, out| {
            let start = index * count;
            let rows = out.len() / self.columns;
            let block = Block {
                x: &x[start * self.rows..(start + rows) * self.rows],
                matrix: self,
                columns: 0..self.columns,
                activation,
                residual: residual.map(|r| &r[start * self.columns..][..out.len()]),
                out,
            };
            block.run();
        });
    }

    /// As [`super::PackedMatrix::multiply_lines`].
    pub(super) fn multiply_lines(
        &self,
        width: usize,
        make: impl Fn(usize, &mut [f32]) + Sync,
        activation: Activation,
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let (made, line) = (width * self.rows, width * self.columns);
        let lines = threads::piece(out.len() / line, 1, BLOCK_CODES / made.max(1));
        for_chunks(out, lines * line, |index, out| {
            let first = index * lines;
            with_band(out.len() / line * made, |band| {
                for (number, rows) in band.chunks_exact_mut(made).enumerate() {
                    make(first + number, rows);
                }
                let block = Block {
                    x: band,
                    matrix: self,
                    columns: 0..self.columns,
                    activation,
                    residual: residual.map(|r| &r[first * line..][..out.len()]),
                    out,
                };
                block.run();
            });
        });
    }
}

/// Some rows of the result, or some columns of its only one.
struct Block<'a> {
    x: &'a [f32],
    matrix: &'a QuantizedMatrix,
    /// From a panel's first.
    columns: Range<usize>,
    activation: Activation,
    residual: Option<&'a [f32]>,
    out: &'a mut [f32],
}

/// A block and room for its codes, which has to be there already: what vector code is inlined into
/// must not lie behind a call.
struct Work<'a>(Block<'a>, &'a mut Codes);

impl WithSimd for Work<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self(mut block, codes) = self;
        block.encode(simd, codes);
        let groups = block.matrix.rows.div_ceil(GROUP);
        let count = codes.rows.len();
        for first in block.columns.clone().step_by(COLUMNS) {
            let panel = &block.matrix.panels[first / COLUMNS * groups..][..groups];
            let mut row = 0;
            while row + TILE <= count {
                block.tile::<S, TILE>(simd, codes, row, first, panel);
                row += TILE;
            }
            while row < count {
                block.tile::<S, 1>(simd, codes, row, first, panel);
                row += 1;
            }
        }
    }
}

impl Block<'_> {
    fn run(self) {
        CODES.with_borrow_mut(|codes| dispatch(Work(self, codes)));
    }

    /// Turns the left side into codes.
    #[inline(always)]
    fn encode<S: Simd>(&self, simd: S, codes: &mut Codes) {
        let depth = self.matrix.rows;
        let padded = depth.next_multiple_of(GROUP);
        let count = self.x.len() / depth;
        codes.values.resize(count * padded, 0);
        codes.rows.clear();
        let rows = codes.values.chunks_exact_mut(padded);
        for (x, row) in self.x.chunks_exact(depth).zip(rows) {
            let (least, largest) = ends(simd, x);
            let range = largest - least;
            let per_value = if range > 0.0 { STEPS / range } else { 0.0 };
            encode_row(x, per_value, 0.5 - least * per_value, row);
            if depth < padded {
                row[depth..].fill(0);
            }
            codes.rows.push([range / STEPS, least]);
        }
    }

    /// So many rows of one panel's columns.
    #[inline(always)]
    fn tile<S: Simd, const ROWS: usize>(
        &mut self,
        simd: S,
        codes: &Codes,
        row: usize,
        first: usize,
        panel: &[Weights],
    ) {
        let padded = panel.len() * GROUP;
        let values = &codes.values[row * padded..][..ROWS * padded];
        let lines: [&[[u8; GROUP]]; ROWS] =
            std::array::from_fn(|tile| values[tile * padded..][..padded].as_chunks().0);
        let sums = products(lines, panel);
        let QuantizedMatrix { scales, sums: weights, bias, .. } = self.matrix;
        let [scales, weights, bias] =
            [scales, weights, bias].map(|values| &values[first..first + COLUMNS]);
        let columns = self.columns.len();
        let valid = (self.columns.end - first).min(COLUMNS);
        for (tile, sums) in sums.iter().enumerate() {
            let [step, least] = codes.rows[row + tile];
            let at = (row + tile) * columns + first - self.columns.start;
            let out = &mut self.out[at..at + valid];
            let residual = self.residual.map(|residual| &residual[at..at + valid]);
            if valid == COLUMNS && S::F32_LANES <= COLUMNS {
                let (step, least) = (simd.splat_f32s(step), simd.splat_f32s(least));
                for from in (0..COLUMNS).step_by(S::F32_LANES) {
                    let load = |values: &[f32]| load::<S>(&values[from..]);
                    let shift = simd.mul_add_e_f32s(least, load(weights), load(bias));
                    let scale = simd.mul_f32s(step, load(scales));
                    let value = simd.mul_add_e_f32s(load(sums), scale, shift);
                    let value = match residual {
                        Some(residual) => simd.add_f32s(value, load(residual)),
                        None => value,
                    };
                    store::<S>(&mut out[from..], activated(simd, value, self.activation));
                }
                continue;
            }
            for (column, out) in out.iter_mut().enumerate() {
                let shift = least * weights[column] + bias[column];
                let value = sums[column] * (step * scales[column]) + shift;
                let value = value + residual.map_or(0.0, |residual| residual[column]);
                *out = activated_value(value, self.activation);
            }
        }
    }
}

/// Least and largest value of a row that is not empty.
#[inline(always)]
fn ends<S: Simd>(simd: S, x: &[f32]) -> (f32, f32) {
    let (vectors, rest) = S::as_simd_f32s(x);
    let least = rest.iter().fold(f32::INFINITY, |a, b| a.min(*b));
    let largest = rest.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let (mut least, mut largest) = (simd.splat_f32s(least), simd.splat_f32s(largest));
    // Four at once: each comparison waits for the one before.
    let (fours, vectors) = vectors.as_chunks::<4>();
    for [a, b, c, d] in fours {
        let low = smaller(simd, smaller(simd, *a, *b), smaller(simd, *c, *d));
        let high = larger(simd, larger(simd, *a, *b), larger(simd, *c, *d));
        (least, largest) = (smaller(simd, least, low), larger(simd, largest, high));
    }
    for vector in vectors {
        (least, largest) = (smaller(simd, least, *vector), larger(simd, largest, *vector));
    }
    extremes(simd, least, largest)
}

/// `⌊x · per_value + offset⌋`, which lies in 0 to 127.
#[cfg(not(all(target_arch = "wasm32", feature = "relaxed")))]
#[inline(always)]
fn encode_row(x: &[f32], per_value: f32, offset: f32, codes: &mut [u8]) {
    for (code, x) in codes.iter_mut().zip(x) {
        *code = (x * per_value + offset) as u8;
    }
}

/// The same with WebAssembly's own instructions.
#[cfg(all(target_arch = "wasm32", feature = "relaxed"))]
#[inline(always)]
fn encode_row(x: &[f32], per_value: f32, offset: f32, codes: &mut [u8]) {
    use core::arch::wasm32::{
        f32x4, f32x4_relaxed_madd, f32x4_splat, i8x16_extract_lane, i16x8_narrow_i32x4,
        i32x4_relaxed_trunc_f32x4, u8x16_narrow_i16x8, v128,
    };
    let (factor, summand) = (f32x4_splat(per_value), f32x4_splat(offset));
    let (blocks, rest) = x.as_chunks::<16>();
    let (to, to_rest) = codes.split_at_mut(blocks.len() * 16);
    for (block, code) in blocks.iter().zip(to.as_chunks_mut::<16>().0) {
        let quarter = |i: usize| -> v128 {
            let x = f32x4(block[i], block[i + 1], block[i + 2], block[i + 3]);
            i32x4_relaxed_trunc_f32x4(f32x4_relaxed_madd(x, factor, summand))
        };
        let (low, high) = (
            i16x8_narrow_i32x4(quarter(0), quarter(4)),
            i16x8_narrow_i32x4(quarter(8), quarter(12)),
        );
        let all = u8x16_narrow_i16x8(low, high);
        *code = [
            i8x16_extract_lane::<0>(all).cast_unsigned(),
            i8x16_extract_lane::<1>(all).cast_unsigned(),
            i8x16_extract_lane::<2>(all).cast_unsigned(),
            i8x16_extract_lane::<3>(all).cast_unsigned(),
            i8x16_extract_lane::<4>(all).cast_unsigned(),
            i8x16_extract_lane::<5>(all).cast_unsigned(),
            i8x16_extract_lane::<6>(all).cast_unsigned(),
            i8x16_extract_lane::<7>(all).cast_unsigned(),
            i8x16_extract_lane::<8>(all).cast_unsigned(),
            i8x16_extract_lane::<9>(all).cast_unsigned(),
            i8x16_extract_lane::<10>(all).cast_unsigned(),
            i8x16_extract_lane::<11>(all).cast_unsigned(),
            i8x16_extract_lane::<12>(all).cast_unsigned(),
            i8x16_extract_lane::<13>(all).cast_unsigned(),
            i8x16_extract_lane::<14>(all).cast_unsigned(),
            i8x16_extract_lane::<15>(all).cast_unsigned(),
        ];
    }
    for (code, x) in to_rest.iter_mut().zip(rest) {
        *code = (x * per_value + offset) as u8;
    }
}

/// Sums of products of some rows of codes with a panel's columns.
#[cfg(not(all(target_arch = "wasm32", feature = "relaxed")))]
#[inline(always)]
fn products<const ROWS: usize>(
    lines: [&[[u8; GROUP]]; ROWS],
    panel: &[Weights],
) -> [[f32; COLUMNS]; ROWS] {
    let mut sums = [[0_i32; COLUMNS]; ROWS];
    for (group, weights) in panel.iter().enumerate() {
        for (sums, line) in sums.iter_mut().zip(&lines) {
            let codes = line[group];
            for (column, sum) in sums.iter_mut().enumerate() {
                for (member, code) in codes.iter().enumerate() {
                    *sum += i32::from(*code) * i32::from(weights[column * GROUP + member]);
                }
            }
        }
    }
    sums.map(|sums| sums.map(|sum| sum as f32))
}

/// The same with relaxed SIMD's instruction for it.
#[cfg(all(target_arch = "wasm32", feature = "relaxed"))]
#[inline(always)]
fn products<const ROWS: usize>(
    lines: [&[[u8; GROUP]]; ROWS],
    panel: &[Weights],
) -> [[f32; COLUMNS]; ROWS] {
    use core::arch::wasm32::{
        f32x4_convert_i32x4, f32x4_extract_lane, i8x16, i32x4_relaxed_dot_i8x16_i7x16_add,
        i32x4_splat, v128,
    };
    let half = |w: &[i8]| -> v128 {
        i8x16(
            w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10], w[11], w[12], w[13],
            w[14], w[15],
        )
    };
    let lines = lines.map(|line| &line[..panel.len()]);
    let mut sums = [[i32x4_splat(0); 2]; ROWS];
    for (group, weights) in panel.iter().enumerate() {
        let weights = [half(&weights[..16]), half(&weights[16..])];
        for (sums, line) in sums.iter_mut().zip(&lines) {
            let codes = i32x4_splat(i32::from_le_bytes(line[group]));
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = i32x4_relaxed_dot_i8x16_i7x16_add(weights, codes, *sum);
            }
        }
    }
    sums.map(|[low, high]| {
        let (low, high) = (f32x4_convert_i32x4(low), f32x4_convert_i32x4(high));
        [
            f32x4_extract_lane::<0>(low),
            f32x4_extract_lane::<1>(low),
            f32x4_extract_lane::<2>(low),
            f32x4_extract_lane::<3>(low),
            f32x4_extract_lane::<0>(high),
            f32x4_extract_lane::<1>(high),
            f32x4_extract_lane::<2>(high),
            f32x4_extract_lane::<3>(high),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_are_near_to_those_of_floats(
            count in 1_usize..11,
            rows in 1_usize..70,
            columns in 1_usize..40,
            seed in any::<u64>(),
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
            };
            let x: Vec<f32> = (0..count * rows).map(|_| next() + 0.3).collect();
            let weights: Vec<f32> = (0..rows * columns).map(|_| next()).collect();
            let bias: Vec<f32> = (0..columns).map(|_| next()).collect();
            let residual: Vec<f32> = (0..count * columns).map(|_| next()).collect();
            let at = |row: usize, column: usize| weights[row * columns + column];
            let matrix = QuantizedMatrix::new([rows, columns], at, &bias);
            let mut out = vec![f32::NAN; count * columns];
            matrix.multiply(&x, Activation::HardSwish, Some(&residual), &mut out);
            for row in 0..count {
                let x = &x[row * rows..][..rows];
                for (column, bias) in bias.iter().enumerate() {
                    let sum: f32 = (0..rows).map(|i| x[i] * at(i, column)).sum();
                    let place = row * columns + column;
                    let exact = activated_value(
                        sum + bias + residual[place],
                        Activation::HardSwish,
                    );
                    // Half a step of a row (its range is at most 2) and of a weight, for each of the
                    // terms; the activation's slope is at most 1.5.
                    let (activations, kernel) = (0.5 * 2.0 / STEPS, 0.5 / 127.0 * 1.3);
                    let most = 1.5 * (activations + kernel) * rows as f32 + 1e-4;
                    prop_assert!((out[place] - exact).abs() <= most, "{} {exact}", out[place]);
                }
            }

            // Lines that are made on the way give the same bits.
            let mut lines = vec![f32::NAN; count * columns];
            let make = |line: usize, to: &mut [f32]| to.copy_from_slice(&x[line * rows..][..rows]);
            matrix.multiply_lines(1, make, Activation::HardSwish, Some(&residual), &mut lines);
            prop_assert_eq!(lines, out);
        }
    }

    #[test]
    fn rows_of_one_value_and_columns_of_zeros_are_exact() {
        let matrix = QuantizedMatrix::new([5, 2], |_, column| column as f32, &[0.25, -1.0]);
        let mut out = [f32::NAN; 4];
        matrix.multiply(&[0.5; 10], Activation::Identity, None, &mut out);
        assert_eq!(out, [0.25, 1.5, 0.25, 1.5]);
    }
}
