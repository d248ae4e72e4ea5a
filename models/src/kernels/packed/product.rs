//! Matrix products with a packed right side: 1×1 convolutions, linear layers, laid-out windows.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::{Aligned, activated, lanes, load, store, with_band};
use crate::kernels::Activation;
use crate::kernels::cpu::dispatch;
use crate::kernels::threads::{self, for_chunks};

/// Values of the left side that a block covers: they stay in the second-level cache while one
/// panel after the other passes.
const BLOCK_VALUES: usize = 1 << 16;

/// Rows of a block are a multiple of it, and it is one of every tile's height.
const BLOCK_STEP: usize = 12;

/// Vectors of a panel's row: with two, a value of the left side is used twice once loaded.
const PANEL_VECTORS: usize = 2;

/// `[rows, columns]` of weights with a bias a column, cut into panels of two vectors' width.
///
/// A panel holds its columns row by row, so that a tile reads it from front to back. The last panel
/// is one vector wide where that is enough; what is missing from its last vector is zero.
#[derive(Debug)]
pub(crate) struct PackedMatrix {
    panels: Aligned,
    bias: Aligned,
    rows: usize,
    columns: usize,
    width: usize,
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
        Self { panels: packed, bias: padded, rows, columns, width }
    }

    /// Rows that are worked on at once: as many as the registers hold sums for, beside a panel's
    /// row and one value.
    fn tile_height(&self) -> usize {
        match self.width / PANEL_VECTORS {
            16 => 12,
            8 => 6,
            _ => 4,
        }
    }

    /// `activation(x · weights + bias + residual)`.
    ///
    /// # Shapes
    ///
    /// - `x`: `[count, rows]`
    /// - `residual`, `out`: `[count, columns]`
    pub(crate) fn multiply(
        &self,
        x: &[f32],
        activation: Activation,
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) {
        if x.len() == self.rows {
            return self.multiply_row(x, activation, residual, out);
        }
        let most = (BLOCK_VALUES / self.rows.max(1)).next_multiple_of(BLOCK_STEP);
        let count = threads::piece(out.len() / self.columns, self.tile_height(), most);
        for_chunks(out, count * self.columns, |index, out| {
            let start = index * count;
            let rows = out.len() / self.columns;
            dispatch(Block {
                x: &x[start * self.rows..(start + rows) * self.rows],
                matrix: self,
                columns: 0..self.columns,
                activation,
                residual: residual.map(|r| &r[start * self.columns..][..out.len()]),
                out,
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
            dispatch(Block { x, matrix: self, columns, activation, residual, out });
        });
    }

    /// [`Self::multiply`] of rows that are made a few lines of pixels at a time, so that they never
    /// leave the cache. `make` writes the rows of one line over what an earlier line left.
    ///
    /// # Shapes
    ///
    /// - a line: `[width, rows]`
    /// - `residual`, `out`: `[lines, width, columns]`
    pub(super) fn multiply_lines(
        &self,
        width: usize,
        make: impl Fn(usize, &mut [f32]) + Sync,
        activation: Activation,
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let (made, line) = (width * self.rows, width * self.columns);
        let lines = threads::piece(out.len() / line, 1, BLOCK_VALUES / made.max(1));
        for_chunks(out, lines * line, |index, out| {
            let first = index * lines;
            with_band(out.len() / line * made, |band| {
                for (number, rows) in band.chunks_exact_mut(made).enumerate() {
                    make(first + number, rows);
                }
                dispatch(Block {
                    x: band,
                    matrix: self,
                    columns: 0..self.columns,
                    activation,
                    residual: residual.map(|r| &r[first * line..][..out.len()]),
                    out,
                });
            });
        });
    }
}

/// Some rows of the result, or some columns of its only one.
struct Block<'a> {
    x: &'a [f32],
    matrix: &'a PackedMatrix,
    /// From a panel's first.
    columns: Range<usize>,
    activation: Activation,
    residual: Option<&'a [f32]>,
    out: &'a mut [f32],
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.matrix.tile_height() {
            12 => self.run::<S, 12>(simd),
            6 => self.run::<S, 6>(simd),
            _ => self.run::<S, 4>(simd),
        }
    }
}

impl Block<'_> {
    #[inline(always)]
    fn run<S: Simd, const TILE: usize>(mut self, simd: S) {
        let PackedMatrix { rows, width, .. } = *self.matrix;
        assert_eq!(width, PANEL_VECTORS * S::F32_LANES, "packed for the vectors of this machine");
        let count = self.x.len() / rows;
        let Range { start, end } = self.columns;
        for first in (start..end).step_by(width) {
            let values = &self.matrix.panels[first * rows..];
            if end - first > S::F32_LANES {
                self.panel::<S, TILE, 2>(simd, count, first, &values[..rows * width]);
            } else {
                self.panel::<S, TILE, 1>(simd, count, first, &values[..rows * S::F32_LANES]);
            }
        }
    }

    /// All rows of a panel of so many vectors.
    #[inline(always)]
    fn panel<S: Simd, const TILE: usize, const VECTORS: usize>(
        &mut self,
        simd: S,
        count: usize,
        first: usize,
        values: &[f32],
    ) {
        let (vectors, _) = S::as_simd_f32s(values);
        let (steps, _) = vectors.as_chunks::<VECTORS>();
        let mut row = 0;
        while row + TILE <= count {
            self.tile::<S, TILE, VECTORS>(simd, row, first, steps);
            row += TILE;
        }
        // What is left, in smaller tiles.
        while row + 4 <= count {
            self.tile::<S, 4, VECTORS>(simd, row, first, steps);
            row += 4;
        }
        while row < count {
            self.tile::<S, 1, VECTORS>(simd, row, first, steps);
            row += 1;
        }
    }

    /// `TILE` rows of one panel's columns.
    #[inline(always)]
    fn tile<S: Simd, const TILE: usize, const VECTORS: usize>(
        &mut self,
        simd: S,
        row: usize,
        first: usize,
        steps: &[[S::f32s; VECTORS]],
    ) {
        let depth = steps.len();
        let x = &self.x[row * self.matrix.rows..][..TILE * self.matrix.rows];
        let lines: [&[f32]; TILE] = std::array::from_fn(|tile| &x[tile * depth..][..depth]);
        let bias = &self.matrix.bias[first..];
        let start: [S::f32s; VECTORS] =
            std::array::from_fn(|vector| load::<S>(&bias[vector * S::F32_LANES..]));
        let mut sums = [start; TILE];
        for (step, weights) in steps.iter().enumerate() {
            for tile in 0..TILE {
                let value = simd.splat_f32s(lines[tile][step]);
                for vector in 0..VECTORS {
                    sums[tile][vector] =
                        simd.mul_add_e_f32s(value, weights[vector], sums[tile][vector]);
                }
            }
        }
        let columns = self.columns.len();
        let valid = (self.columns.end - first).min(VECTORS * S::F32_LANES);
        for (tile, sums) in sums.into_iter().enumerate() {
            let at = (row + tile) * columns + first - self.columns.start;
            let out = &mut self.out[at..at + valid];
            let residual = self.residual.map(|residual| &residual[at..at + valid]);
            for (vector, sum) in sums.into_iter().enumerate() {
                let from = vector * S::F32_LANES;
                if from + S::F32_LANES <= valid {
                    let sum = match residual {
                        Some(residual) => simd.add_f32s(sum, load::<S>(&residual[from..])),
                        None => sum,
                    };
                    store::<S>(&mut out[from..], activated(simd, sum, self.activation));
                } else if from < valid {
                    let sum = match residual {
                        Some(residual) => {
                            simd.add_f32s(sum, simd.partial_load_f32s(&residual[from..]))
                        }
                        None => sum,
                    };
                    simd.partial_store_f32s(
                        &mut out[from..],
                        activated(simd, sum, self.activation),
                    );
                }
            }
        }
    }
}
