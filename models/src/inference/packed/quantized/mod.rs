//! Matrix products in int8: weights of 8 bits, activations of 7.
//!
//! Every column of weights has a scale. The scale of the activations is found while they are there:
//! each row runs from its least to its largest value in 125 steps, zero among them, so that nothing
//! has to be known of the pictures beforehand and a bright pixel costs the others no precision. Products
//! of four pairs are one instruction in browsers with relaxed SIMD, which wants 7 bits on one side.

#[cfg(not(all(target_arch = "wasm32", feature = "relaxed")))]
mod portable;
#[cfg(all(target_arch = "wasm32", feature = "relaxed"))]
mod relaxed;

use std::cell::RefCell;
use std::ops::Range;

use pulp::{Simd, WithSimd};

#[cfg(not(all(target_arch = "wasm32", feature = "relaxed")))]
use self::portable::{encoded, finished, products};
#[cfg(all(target_arch = "wasm32", feature = "relaxed"))]
use self::relaxed::{encoded, finished, products};
use super::{Ending, smooth, with_band};
use crate::activation::Activation;
use crate::simd::{dispatch, extremes, larger, smaller};
use crate::threads::{self, for_chunks};

/// Codes of a block of the left side that stay in the second-level cache.
const BLOCK_CODES: usize = 1 << 16;
/// Rows that are worked on at once.
const TILE: usize = 4;
/// Columns of a panel: two vectors of 32-bit sums. No product has fewer.
pub(super) const COLUMNS: usize = 8;
/// Pairs whose products are summed by one instruction.
const GROUP: usize = 4;
/// Values that are encoded at once, into a word of each of their quarters' first, second, … values:
/// shifts put them there where moving bytes about would take more.
const BLOCK: usize = 4 * GROUP;
/// Steps between a row's least and largest value: with rounding on both sides they stay within 7 bits.
const STEPS: f32 = 125.0;
/// Rows of less are taken for nothing: their steps could not be told in floats.
const LEAST_RANGE: f32 = 1e-30;
/// Added to a value, leaves it rounded to an integer in the lowest bits.
const ROUNDING: f32 = 8_388_608.0;

/// Weights of the columns of a panel for a word of codes, one column after the other.
type Weights = [i8; COLUMNS * GROUP];

/// What a panel's sums are turned into results by, a value a column.
#[derive(Debug, Clone, Copy, Default)]
struct Scales {
    /// What one step of the weights is worth.
    step: [f32; COLUMNS],
    /// The weights added up, in their own scale.
    sum: [f32; COLUMNS],
    bias: [f32; COLUMNS],
}

/// A row of the left side.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// What a step of its codes is worth.
    step: f32,
    /// What a code of nothing is worth.
    least: f32,
}

/// `[rows, columns]` of weights with a bias per column, as int8.
#[derive(Debug)]
pub(crate) struct QuantizedMatrix {
    /// Panel after panel, word after word. The last panel overlaps the one before where they do not divide
    /// the columns.
    panels: Vec<Weights>,
    /// Of every panel.
    scales: Vec<Scales>,
    rows: usize,
    columns: usize,
}

/// A block of the left side as codes.
#[derive(Default)]
struct Codes {
    /// Four codes each, the first in the lowest byte.
    words: Vec<u32>,
    rows: Vec<Row>,
}

thread_local! {
    /// Room for codes, kept from picture to picture.
    static CODES: RefCell<Codes> = RefCell::new(Codes::default());
}

/// The word and the byte of it that a row's value is encoded in.
fn place(value: usize, values: usize) -> (usize, usize) {
    if value < values / BLOCK * BLOCK {
        (value / BLOCK * GROUP + value % GROUP, value % BLOCK / GROUP)
    } else {
        (value / GROUP, value % GROUP)
    }
}

impl QuantizedMatrix {
    /// Packs weights given as `weight(row, column)`, of at least [`COLUMNS`] columns.
    pub(crate) fn new(
        [rows, columns]: [usize; 2],
        weight: impl Fn(usize, usize) -> f32,
        bias: &[f32],
    ) -> Self {
        let (words, panels) = (rows.div_ceil(GROUP), columns.div_ceil(COLUMNS));
        let mut scales = vec![Scales::default(); panels];
        let mut packed = vec![[0; COLUMNS * GROUP]; words * panels];
        let in_panels = (0..panels).flat_map(|panel| {
            let first = (panel * COLUMNS).min(columns - COLUMNS);
            (0..COLUMNS).map(move |lane| (panel, lane, first + lane))
        });
        for (panel, lane, column) in in_panels {
            let largest = (0..rows).map(|row| weight(row, column).abs()).fold(0.0, f32::max);
            let step = largest / f32::from(i8::MAX);
            let mut sum = 0;
            for row in 0..rows {
                let steps = if step > 0.0 { (weight(row, column) / step).round() } else { 0.0 };
                let (word, byte) = place(row, rows);
                packed[panel * words + word][lane * GROUP + byte] = steps as i8;
                sum += i32::from(steps as i8);
            }
            let scales = &mut scales[panel];
            scales.step[lane] = step;
            scales.sum[lane] = sum as f32 * step;
            scales.bias[lane] = bias[column];
        }
        Self { panels: packed, scales, rows, columns }
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
            // A panel that overlaps the one before cannot be another thread's.
            let whole = self.columns.is_multiple_of(COLUMNS);
            let least = if whole { COLUMNS } else { self.columns };
            let count = threads::piece(self.columns, least, usize::MAX);
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
                make(first, band);
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
        let ending = Ending::of(block.activation);
        if ending.is_gated {
            block.panels::<true>(codes, ending);
        } else {
            block.panels::<false>(codes, ending);
        }
        smooth(simd, block.out, block.activation);
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
        let words = depth.div_ceil(GROUP);
        codes.words.resize(self.x.len() / depth * words, 0);
        codes.rows.clear();
        for (x, words) in self.x.chunks_exact(depth).zip(codes.words.chunks_exact_mut(words)) {
            let (least, largest) = ends(simd, x);
            let range = largest - least;
            let per_value = if range > LEAST_RANGE { STEPS / range } else { 0.0 };
            // A step above the lowest: what is least may be rounded down.
            let zero_point = (1.0 - least * per_value).round_ties_even();
            encode_row(x, per_value, zero_point, words);
            let step = range / STEPS;
            codes.rows.push(Row { step, least: -zero_point * step });
        }
    }

    /// All columns.
    #[inline(always)]
    fn panels<const GATED: bool>(&mut self, codes: &Codes, ending: &Ending) {
        let words = self.matrix.rows.div_ceil(GROUP);
        let count = codes.rows.len();
        for first in self.columns.clone().step_by(COLUMNS) {
            let panel = first / COLUMNS;
            let first = first.min(self.matrix.columns - COLUMNS);
            let scales = &self.matrix.scales[panel];
            let panel = &self.matrix.panels[panel * words..][..words];
            let mut row = 0;
            while row < count {
                if TILE <= count {
                    // The last tile overlaps the one before: fewer rows would take as long.
                    let start = row.min(count - TILE);
                    self.tile::<TILE, GATED>(codes, start, first, panel, scales, ending);
                    row = start + TILE;
                } else {
                    self.tile::<1, GATED>(codes, row, first, panel, scales, ending);
                    row += 1;
                }
            }
        }
    }

    /// This many rows of one panel's columns.
    #[inline(always)]
    fn tile<const ROWS: usize, const GATED: bool>(
        &mut self,
        codes: &Codes,
        row: usize,
        first: usize,
        panel: &[Weights],
        scales: &Scales,
        ending: &Ending,
    ) {
        let words = panel.len();
        let lines = &codes.words[row * words..][..ROWS * words];
        let lines: [&[u32]; ROWS] = std::array::from_fn(|tile| &lines[tile * words..][..words]);
        let sums = products(lines, panel);
        let columns = self.columns.len();
        let start = row * columns + first - self.columns.start;
        let all = start..start + (ROWS - 1) * columns + COLUMNS;
        let residual = self.residual.map(|residual| &residual[all.clone()]);
        let out = &mut self.out[all];
        let rows = &codes.rows[row..row + ROWS];
        for tile in 0..ROWS {
            let at = tile * columns;
            let residual = residual.and_then(|residual| residual[at..].first_chunk());
            let values = finished::<GATED>(sums[tile], &rows[tile], scales, residual, ending);
            out[at..at + COLUMNS].copy_from_slice(&values);
        }
    }
}

/// Least and largest of zero and a row's values.
#[inline(always)]
fn ends<S: Simd>(simd: S, x: &[f32]) -> (f32, f32) {
    let (vectors, rest) = S::as_simd_f32s(x);
    let (mut least, mut largest) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
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
    let ends = extremes(simd, least, largest);
    rest.iter().fold(ends, |(least, largest), x| (least.min(*x), largest.max(*x)))
}

/// `round(x · per_value) + zero_point`, which lies in 0 to 127, where [`place`] says.
#[inline(always)]
fn encode_row(x: &[f32], per_value: f32, zero_point: f32, words: &mut [u32]) {
    let offset = ROUNDING + zero_point;
    let (blocks, rest) = x.as_chunks::<BLOCK>();
    let (to, to_rest) = words.split_at_mut(blocks.len() * GROUP);
    for (block, words) in blocks.iter().zip(to.as_chunks_mut::<GROUP>().0) {
        *words = encoded(block, per_value, offset);
    }
    for (word, values) in to_rest.iter_mut().zip(rest.chunks(GROUP)) {
        let codes = values.iter().map(|x| (x * per_value + offset).to_bits() ^ ROUNDING.to_bits());
        *word = codes.enumerate().fold(0, |word, (byte, code)| word | code << (8 * byte));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::exact;
    use super::*;
    use crate::noise::noise;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_are_near_to_those_of_floats(
            count in 1_usize..11,
            rows in 1_usize..70,
            columns in COLUMNS..40,
            activation in prop::sample::select(Activation::ALL.to_vec()),
            seed in any::<u64>(),
        ) {
            let mut next = noise(seed);
            let x: Vec<f32> = (0..count * rows).map(|_| next() + 0.3).collect();
            let weights: Vec<f32> = (0..rows * columns).map(|_| next()).collect();
            let bias: Vec<f32> = (0..columns).map(|_| next()).collect();
            let residual: Vec<f32> = (0..count * columns).map(|_| next()).collect();
            let at = |row: usize, column: usize| weights[row * columns + column];
            let matrix = QuantizedMatrix::new([rows, columns], at, &bias);
            let mut out = vec![f32::NAN; count * columns];
            matrix.multiply(&x, activation, Some(&residual), &mut out);
            for row in 0..count {
                let x = &x[row * rows..][..rows];
                for (column, bias) in bias.iter().enumerate() {
                    let sum: f32 = (0..rows).map(|i| x[i] * at(i, column)).sum();
                    let place = row * columns + column;
                    let exact = exact(activation, sum + bias + residual[place]);
                    // Half a step of a row (its range is at most 2) and of a weight, for each of the
                    // terms; the activation's slope is at most 1.5.
                    let (activations, kernel) = (0.5 * 2.0 / STEPS, 0.5 / 127.0 * 1.3);
                    let most = 1.5 * (activations + kernel) * rows as f32 + 1e-4;
                    prop_assert!((out[place] - exact).abs() <= most, "{} {exact}", out[place]);
                }
            }

            // Lines that are made on the way give the same bits.
            let mut lines = vec![f32::NAN; count * columns];
            let make = |line: usize, to: &mut [f32]| to.copy_from_slice(&x[line * rows..][..to.len()]);
            matrix.multiply_lines(1, make, activation, Some(&residual), &mut lines);
            prop_assert_eq!(lines, out);
        }
    }

    proptest! {
        #[test]
        fn codes_are_of_seven_bits_and_half_a_step_off_at_most(
            x in prop::collection::vec(-1.0_f32..1.0, 1..70),
            shift in -2.0_f32..2.0,
            scale in prop::sample::select(vec![1e-40_f32, 1e-28, 1e-3, 1.0, 1e4, 1e30]),
        ) {
            let x: Vec<f32> = x.into_iter().map(|x| (x + shift) * scale).collect();
            let matrix = QuantizedMatrix::new([x.len(), COLUMNS], |_, _| 1.0, &[0.0; COLUMNS]);
            let mut codes = Codes::default();
            let block = Block {
                x: &x,
                matrix: &matrix,
                columns: 0..COLUMNS,
                activation: Activation::Identity,
                residual: None,
                out: &mut [],
            };
            block.encode(pulp::Scalar::new(), &mut codes);
            let Row { step, least } = codes.rows[0];
            for (value, x) in x.iter().enumerate() {
                let (word, byte) = place(value, matrix.rows);
                let code = codes.words[word].to_le_bytes()[byte];
                prop_assert!(code <= 127, "{code}");
                let off = (least + f32::from(code) * step - x).abs();
                prop_assert!(off <= (0.501 * step).max(LEAST_RANGE), "{off} of {step}");
            }
        }
    }

    #[test]
    fn every_value_has_a_place_of_its_own() {
        for values in 1..80 {
            let mut places: Vec<(usize, usize)> = (0..values).map(|v| place(v, values)).collect();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), values);
            assert!(
                places.iter().all(|(word, byte)| *word < values.div_ceil(GROUP) && *byte < GROUP)
            );
        }
    }

    #[test]
    fn rows_of_one_value_and_columns_of_zeros_are_near() {
        let matrix =
            QuantizedMatrix::new([5, COLUMNS + 1], |_, column| column as f32, &[0.25; COLUMNS + 1]);
        let mut out = [f32::NAN; 2 * (COLUMNS + 1)];
        matrix.multiply(&[0.5; 10], Activation::Identity, None, &mut out);
        for (place, got) in out.into_iter().enumerate() {
            let exact = 2.5 * (place % (COLUMNS + 1)) as f32 + 0.25;
            assert!((got - exact).abs() <= 1e-5, "{got} {exact}");
        }
    }
}
