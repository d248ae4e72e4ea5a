//! Matrix products with a packed right side: 1×1 convolutions, linear layers, laid-out windows.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::depthwise::BLOCK;
use super::{BlockedMap, Ending, lanes, load, smooth, store, with_band};
use crate::activation::Activation;
use crate::simd::{dispatch, larger, smaller};
use crate::threads::{self, for_chunks};
use gallery::aligned::Aligned;

/// Values of the left side that a block covers: they stay in the second-level cache while one
/// panel after the other passes.
const BLOCK_VALUES: usize = 1 << 16;

/// Rows of the tile that what is left of a block is made of, for vectors of a few registers.
const SMALL_TILE: usize = 4;

/// Values after which the first-level caches of most processors begin anew: rows that lie so far apart
/// push each other out.
const CACHE_WAY: usize = 1024;

/// Steps that are worked out between two counts. Chromium's compiler runs out of registers with more than one.
const UNROLLED: usize = if cfg!(target_arch = "wasm32") { 1 } else { 2 };

/// Vectors of a panel's row: with two, a value of the left side is used twice once loaded.
const PANEL_VECTORS: usize = 2;

/// Rows that are worked on at once with vectors of this many values: as many as the registers hold sums for,
/// beside a panel's row and one value.
const fn tile_height(lanes: usize) -> usize {
    match lanes {
        16 => 14,
        8 => 6,
        _ => SMALL_TILE,
    }
}

/// Rows whose multiples leave no tile half empty, of so many.
const fn even_rows(lanes: usize, rows: usize) -> usize {
    match lanes {
        // Any even number is made of sixes and fours, but for two, which few rows would be cut into.
        8 if rows < 32 => SMALL_TILE,
        8 => 2,
        _ => tile_height(lanes),
    }
}

/// `[rows, columns]` of weights with a bias a column, cut into panels of two vectors' width.
///
/// A panel holds its columns row by row, so that a tile reads it from front to back. The last panel
/// is one vector wide where that is enough; what is missing from its last vector is zero.
#[derive(Debug)]
pub(crate) struct PackedMatrix {
    panels: Aligned<f32>,
    bias: Aligned<f32>,
    rows: usize,
    columns: usize,
    width: usize,
    /// Where the result lies, if it does not lie row by row.
    blocks: Option<BlockedMap>,
}

impl PackedMatrix {
    /// Packs weights given as `weight(row, column)`.
    pub(crate) fn new(
        [rows, columns]: [usize; 2],
        weight: impl Fn(usize, usize) -> f32,
        bias: &[f32],
    ) -> Self {
        let width = PANEL_VECTORS * lanes();
        let padded_columns = columns.next_multiple_of(width / PANEL_VECTORS);
        let mut packed = Aligned::zeros(rows * padded_columns);
        for first in (0..columns).step_by(width) {
            let width = width.min(padded_columns - first);
            let panel = packed[first * rows..].chunks_exact_mut(width);
            for (row, values) in panel.take(rows).enumerate() {
                for (column, value) in (first..columns).zip(values) {
                    *value = weight(row, column);
                }
            }
        }
        let mut padded = Aligned::zeros(padded_columns);
        padded[..columns].copy_from_slice(&bias[..columns]);
        Self { panels: packed, bias: padded, rows, columns, width, blocks: None }
    }

    /// Has the result written in blocks of channels, with zeros in the padding.
    pub(super) fn write_blocks(&mut self, map: BlockedMap) {
        self.blocks = Some(map);
    }

    /// Where rows go.
    fn place(&self) -> Place {
        self.blocks.map_or_else(|| Place::rows(self.columns), BlockedMap::place)
    }

    /// See [`tile_height`].
    fn tile_height(&self) -> usize {
        tile_height(self.width / PANEL_VECTORS)
    }

    /// Values between the beginnings of rows of the left side as a tile of this many can read them best.
    fn row_step(&self) -> usize {
        let crowded = self.tile_height() > 8 && self.rows.is_multiple_of(CACHE_WAY);
        if crowded { self.rows + lanes() } else { self.rows }
    }

    /// `activation(x · weights + bias + residual)`.
    ///
    /// # Shapes
    ///
    /// - `x`: `[count, rows]`
    /// - `residual`, `out`: `[count, columns]`, but for an `out` in blocks
    pub(crate) fn multiply(
        &self,
        x: &[f32],
        activation: Activation,
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) {
        if x.len() == self.rows && self.blocks.is_none() {
            return self.multiply_row(x, activation, residual, out);
        }
        let most = (BLOCK_VALUES / self.rows.max(1)).next_multiple_of(self.tile_height());
        let place = self.place();
        let rows = out.len() / self.columns;
        let height = if self.blocks.is_some() { 1 } else { even_rows(lanes(), rows) };
        let lines = threads::piece(out.len() / place.line, height, (most / place.rows).max(1));
        let step = self.row_step();
        for_chunks(out, lines * place.line, |index, out| {
            let start = index * lines * place.rows;
            let rows = out.len() / place.line * place.rows;
            if let Some(map) = self.blocks {
                map.clear_padding(out);
            }
            let x = &x[start * self.rows..][..rows * self.rows];
            let residual = residual.map(|r| &r[start * self.columns..][..rows * self.columns]);
            let columns = 0..self.columns;
            let (matrix, x_step) = (self, self.rows);
            let block = Block {
                x,
                step: x_step,
                count: rows,
                matrix,
                columns,
                activation,
                residual,
                place,
                out,
            };
            if step == self.rows {
                return dispatch(block);
            }
            with_band(rows * step, |band| {
                spread(x, band, self.rows, step);
                dispatch(Block { x: band, step, ..block });
            });
        });
    }

    /// [`Self::multiply`] of one row, of which a thread gets some columns.
    fn multiply_row(
        &self,
        x: &[f32],
        activation: Activation,
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let count = threads::piece(self.columns, self.width, usize::MAX);
        for_chunks(out, count, |index, out| {
            let columns = index * count..index * count + out.len();
            let residual = residual.map(|r| &r[columns.clone()]);
            let place = Place::rows(out.len());
            let (matrix, step) = (self, self.rows);
            dispatch(Block {
                x,
                step,
                count: 1,
                matrix,
                columns,
                activation,
                residual,
                place,
                out,
            });
        });
    }

    /// [`Self::multiply`] of rows that are made a few lines of pixels at a time, so that they never
    /// leave the cache. `make` writes the rows of some lines, from one on, over what earlier lines left.
    ///
    /// # Shapes
    ///
    /// - a line: `[width, rows]`
    /// - `residual`, `out`: `[lines, width, columns]`, but for an `out` in blocks
    pub(super) fn multiply_lines(
        &self,
        width: usize,
        make: impl Fn(usize, &mut [f32]) + Sync,
        activation: Activation,
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let (made, place) = (width * self.rows, self.place());
        let line = self.blocks.map_or(width * self.columns, BlockedMap::line);
        let lines = threads::piece(out.len() / line, 1, BLOCK_VALUES / made.max(1));
        let step = self.row_step();
        for_chunks(out, lines * line, |index, out| {
            let first = index * lines;
            if let Some(map) = self.blocks {
                map.clear_padding(out);
            }
            // Where rows lie further apart than they are made, they are made behind all others first.
            let count = out.len() / line;
            let (room, spare) =
                (count * width * step, if step == self.rows { 0 } else { count * made });
            with_band(room + spare, |band| {
                let (band, spare) = band.split_at_mut(room);
                if spare.is_empty() {
                    make(first, band);
                } else {
                    make(first, spare);
                    spread(spare, band, self.rows, step);
                }
                dispatch(Block {
                    x: band,
                    step,
                    count: count * width,
                    matrix: self,
                    columns: 0..self.columns,
                    activation,
                    residual: residual.map(|r| {
                        &r[first * width * self.columns..][..count * width * self.columns]
                    }),
                    place,
                    out,
                });
            });
        });
    }
}

/// Copies rows to where they begin `step` values after each other.
fn spread(from: &[f32], to: &mut [f32], row: usize, step: usize) {
    for (from, to) in from.chunks_exact(row).zip(to.chunks_mut(step)) {
        to[..row].copy_from_slice(from);
    }
}

/// Where rows of a result are written: line by line, and in each column by column or block by block.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Rows of a line.
    pub(super) rows: usize,
    /// Values of a line.
    pub(super) line: usize,
    /// Values before a line's first row.
    pub(super) start: usize,
    /// Values between the beginnings of a line's rows.
    pub(super) step: usize,
    /// Values between the beginnings of a row's blocks.
    pub(super) block: usize,
}

/// Where a row goes: its line, and which of that it is.
#[derive(Clone, Copy)]
struct Spot {
    line: usize,
    row: usize,
}

impl Place {
    /// Row by row, each a line.
    fn rows(columns: usize) -> Self {
        Self { rows: 1, line: columns, start: 0, step: columns, block: BLOCK }
    }
}

/// Some rows of the result, or some columns of its only one.
struct Block<'a> {
    x: &'a [f32],
    /// Values between the beginnings of its rows.
    step: usize,
    /// Its rows.
    count: usize,
    matrix: &'a PackedMatrix,
    /// From a panel's first.
    columns: Range<usize>,
    activation: Activation,
    residual: Option<&'a [f32]>,
    place: Place,
    out: &'a mut [f32],
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Known while this is compiled, so that a module has the tiles of its own vectors alone.
        match S::F32_LANES {
            // Sides of maps are mostly multiples of 7.
            16 => self.with_ending::<S, { tile_height(16) }, 7>(simd),
            8 => self.with_ending::<S, { tile_height(8) }, { tile_height(8) }>(simd),
            _ => self.with_ending::<S, SMALL_TILE, SMALL_TILE>(simd),
        }
    }
}

impl Block<'_> {
    #[inline(always)]
    fn with_ending<S: Simd, const TILE: usize, const HALF: usize>(self, simd: S) {
        if Ending::of(self.activation).is_gated {
            self.run::<S, TILE, HALF, true>(simd);
        } else {
            self.run::<S, TILE, HALF, false>(simd);
        }
    }

    #[inline(always)]
    fn run<S: Simd, const TILE: usize, const HALF: usize, const GATED: bool>(mut self, simd: S) {
        let PackedMatrix { rows, width, .. } = *self.matrix;
        assert_eq!(width, PANEL_VECTORS * S::F32_LANES, "packed for the vectors of this machine");
        let Range { start, end } = self.columns;
        let count = self.count;
        for first in (start..end).step_by(width) {
            let values = &self.matrix.panels[first * rows..];
            if end - first > S::F32_LANES {
                self.panel::<S, TILE, HALF, GATED, 2>(simd, count, first, &values[..rows * width]);
            } else {
                self.panel::<S, TILE, HALF, GATED, 1>(
                    simd,
                    count,
                    first,
                    &values[..rows * S::F32_LANES],
                );
            }
        }
        smooth(simd, self.out, self.activation);
    }

    /// All rows of a panel of this many vectors, in tiles of `TILE` rows; what is left in smaller ones, the
    /// last of which overlaps the one before: fewer rows would take as long.
    #[inline(always)]
    fn panel<
        S: Simd,
        const TILE: usize,
        const HALF: usize,
        const GATED: bool,
        const VECTORS: usize,
    >(
        &mut self,
        simd: S,
        count: usize,
        first: usize,
        values: &[f32],
    ) {
        let (vectors, _) = S::as_simd_f32s(values);
        let (steps, _) = vectors.as_chunks::<VECTORS>();
        let mut row = 0;
        // Where the next tile goes, which is a division for the last alone.
        let mut spot = Spot { line: 0, row: 0 };
        while row < count {
            let left = count - row;
            let height = if TILE < left && left <= 2 * SMALL_TILE {
                // Two small tiles instead of one and what is left of another.
                SMALL_TILE
            } else if left + TILE / 7 >= TILE && TILE <= count {
                TILE
            } else if left > SMALL_TILE && left != 2 * SMALL_TILE && HALF <= count {
                HALF
            } else {
                SMALL_TILE
            };
            let height = if height > count { 1 } else { height };
            let start = row.min(count - height);
            if start < row {
                spot = Spot { line: start / self.place.rows, row: start % self.place.rows };
            }
            spot = if height == 1 {
                self.tile::<S, 1, GATED, VECTORS>(simd, start, first, steps, spot)
            } else if height == TILE {
                self.tile::<S, TILE, GATED, VECTORS>(simd, start, first, steps, spot)
            } else if HALF < TILE && height == HALF {
                self.tile::<S, HALF, GATED, VECTORS>(simd, start, first, steps, spot)
            } else {
                self.tile::<S, SMALL_TILE, GATED, VECTORS>(simd, start, first, steps, spot)
            };
            row = start + height;
        }
    }

    /// `TILE` rows of one panel's columns, of which the first goes to a spot; that of the row behind them.
    #[inline(always)]
    fn tile<S: Simd, const TILE: usize, const GATED: bool, const VECTORS: usize>(
        &mut self,
        simd: S,
        row: usize,
        first: usize,
        steps: &[[S::f32s; VECTORS]],
        spot: Spot,
    ) -> Spot {
        let depth = steps.len();
        let lines: [&[f32]; TILE] =
            std::array::from_fn(|tile| &self.x[(row + tile) * self.step..][..depth]);
        let bias = &self.matrix.bias[first..];
        let start: [S::f32s; VECTORS] =
            std::array::from_fn(|vector| load::<S>(&bias[vector * S::F32_LANES..]));
        let mut sums = [start; TILE];
        // A few steps at once: counting takes instructions that a processor whose core another thread shares is short of.
        let (parts, rest) = steps.as_chunks::<UNROLLED>();
        let heads: [&[[f32; UNROLLED]]; TILE] =
            std::array::from_fn(|tile| &lines[tile].as_chunks().0[..parts.len()]);
        for (part, weights) in parts.iter().enumerate() {
            for step in 0..UNROLLED {
                for tile in 0..TILE {
                    let value = simd.splat_f32s(heads[tile][part][step]);
                    for vector in 0..VECTORS {
                        sums[tile][vector] =
                            simd.mul_add_e_f32s(value, weights[step][vector], sums[tile][vector]);
                    }
                }
            }
        }
        let done = depth - rest.len();
        for (step, weights) in rest.iter().enumerate() {
            for tile in 0..TILE {
                let value = simd.splat_f32s(lines[tile][done + step]);
                for vector in 0..VECTORS {
                    sums[tile][vector] =
                        simd.mul_add_e_f32s(value, weights[vector], sums[tile][vector]);
                }
            }
        }
        let columns = self.columns.len();
        let valid = (self.columns.end - first).min(VECTORS * S::F32_LANES);
        let ending = Ending::of(self.activation);
        let (low, high) = (simd.splat_f32s(ending.low), simd.splat_f32s(ending.high));
        let (slope, middle) = (simd.splat_f32s(ending.slope), simd.splat_f32s(ending.middle));
        let within = |x| smaller(simd, larger(simd, x, low), high);
        let activated = |x: S::f32s| {
            if GATED {
                simd.mul_f32s(x, within(simd.mul_add_e_f32s(x, slope, middle)))
            } else {
                within(x)
            }
        };
        let column = first - self.columns.start;
        let Place { rows, line, start, step, block } = self.place;
        let start = start + column / BLOCK * block + column % BLOCK;
        // A block is as wide as a panel at least, or as a vector.
        let apart = if S::F32_LANES < BLOCK { S::F32_LANES } else { block };
        let is_whole = valid == VECTORS * S::F32_LANES;
        let mut spot = spot;
        for (tile, sums) in sums.into_iter().enumerate() {
            let to = spot.line * line + start + spot.row * step;
            spot.row += 1;
            if spot.row == rows {
                spot = Spot { line: spot.line + 1, row: 0 };
            }
            let at = (row + tile) * columns + column;
            let residual = self.residual.map(|residual| &residual[at..at + valid]);
            let last = to + (VECTORS - 1) * apart;
            if is_whole {
                let out = &mut self.out[to..last + S::F32_LANES];
                for (vector, sum) in sums.into_iter().enumerate() {
                    let sum = match residual {
                        Some(residual) => {
                            simd.add_f32s(sum, load::<S>(&residual[vector * S::F32_LANES..]))
                        }
                        None => sum,
                    };
                    store::<S>(&mut out[vector * apart..], activated(sum));
                }
                continue;
            }
            // All vectors of a panel but the last are full.
            for (vector, sum) in sums.into_iter().enumerate() {
                let from = vector * S::F32_LANES;
                let count = S::F32_LANES.min(valid - from);
                let sum = match residual {
                    Some(residual) => {
                        let residual = &residual[from..from + count];
                        simd.add_f32s(sum, simd.partial_load_f32s(residual))
                    }
                    None => sum,
                };
                let to = to + vector * apart;
                simd.partial_store_f32s(&mut self.out[to..to + count], activated(sum));
            }
        }
        spot
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
        fn products_equal_a_plain_loop(
            // One line, and all that can be left of tiles.
            count in 1_usize..60,
            // Rows that would crowd a cache are copied apart.
            rows in prop::sample::select(vec![1_usize, 7, 32, 65, 1024]),
            columns in 1_usize..70,
            width in 1_usize..4,
            is_added in any::<bool>(),
            activation in prop::sample::select(Activation::ALL.to_vec()),
            seed in any::<u64>(),
        ) {
            let mut next = noise(seed);
            let mut draw = |count: usize| -> Vec<f32> { (0..count).map(|_| next()).collect() };
            let (weight, bias) = (draw(rows * columns), draw(columns));
            let (x, residual) = (draw(count * rows), draw(count * columns));
            let residual = is_added.then_some(&residual[..]);
            let at = |row: usize, column: usize| weight[row * columns + column];
            let matrix = PackedMatrix::new([rows, columns], at, &bias);
            let expected: Vec<f32> = (0..count * columns)
                .map(|index| {
                    let (line, column) = (index / columns, index % columns);
                    let terms = (0..rows).map(|row| x[line * rows + row] * at(row, column));
                    let added = residual.map_or(0.0, |residual| residual[index]);
                    terms.sum::<f32>() + bias[column] + added
                })
                .map(|sum| exact(activation, sum))
                .collect();
            let near = |out: &[f32]| {
                out.iter().zip(&expected).all(|(got, wanted)| (got - wanted).abs() < 1e-3)
            };
            let mut out = vec![f32::NAN; count * columns];
            matrix.multiply(&x, activation, residual, &mut out);
            prop_assert!(near(&out), "at once");
            // The same in lines of some pixels each.
            let lines = count / width;
            let mut out = vec![f32::NAN; lines * width * columns];
            let make = |line: usize, made: &mut [f32]| {
                made.copy_from_slice(&x[line * width * rows..][..made.len()]);
            };
            let residual = residual.map(|residual| &residual[..out.len()]);
            matrix.multiply_lines(width, make, activation, residual, &mut out);
            prop_assert!(near(&out), "line by line");
        }
    }
}
