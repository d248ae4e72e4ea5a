//! Products of matrices.

#![allow(clippy::inline_always, reason = "vector code is chosen where a loop is inlined into")]

use pulp::Arch;

/// Rows of the left side that are computed together.
const ROWS: usize = 6;
/// Columns of the right side that are computed together: a register or two, or four in a browser.
const COLUMNS: usize = 16;
/// Rows of a symmetric product that are computed together.
const STRIP: usize = 192;
/// Terms of a sum that are computed together: what is packed of them fits the cache.
const TERMS: usize = 256;

/// A matrix as it lies in memory.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_step: usize,
    column_step: usize,
}

impl<'a> View<'a> {
    /// Rows that lie one behind the other.
    pub(crate) fn of(values: &'a [f32], columns: usize) -> Self {
        let rows = values.len() / columns.max(1);
        Self { values, rows, columns, row_step: columns, column_step: 1 }
    }

    /// Some columns of some rows that are `step` values apart.
    pub(super) fn part(
        values: &'a [f32],
        step: usize,
        rows: std::ops::Range<usize>,
        columns: std::ops::Range<usize>,
    ) -> Self {
        let start = (rows.start * step + columns.start).min(values.len());
        let (rows, columns) = (rows.len(), columns.len());
        Self { values: &values[start..], rows, columns, row_step: step, column_step: 1 }
    }

    /// The matrix with its rows as columns.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_step: self.column_step,
            column_step: self.row_step,
            ..self
        }
    }

    #[inline(always)]
    fn at(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.row_step + column * self.column_step]
    }
}

/// The product of two matrices, `[a.rows, b.columns]`.
pub(crate) fn multiply(a: View<'_>, b: View<'_>) -> Vec<f32> {
    let mut out = vec![0.0; a.rows * b.columns];
    add_product(a, b, 1.0, &mut out, b.columns);
    out
}

/// Products of all columns with each other, `[columns, columns]`.
pub(crate) fn products_of_columns(values: &[f32], columns: usize) -> Vec<f32> {
    let view = View::of(values, columns);
    let mut out = vec![0.0; columns * columns];
    for first in (0..columns).step_by(STRIP) {
        let last = (first + STRIP).min(columns);
        let strip = View::part(values, columns, 0..view.rows, first..last).transposed();
        let until = View::part(values, columns, 0..view.rows, 0..last);
        add_product(strip, until, 1.0, &mut out[first * columns..], columns);
    }
    for row in 0..columns {
        for column in 0..row {
            out[column * columns + row] = out[row * columns + column];
        }
    }
    out
}

/// Adds `sign` times a product to rows that are `step` values apart.
pub(super) fn add_product(a: View<'_>, b: View<'_>, sign: f32, out: &mut [f32], step: usize) {
    Arch::new().dispatch(Product { a, b, sign, out, step });
}

struct Product<'a, 'b> {
    a: View<'a>,
    b: View<'a>,
    sign: f32,
    out: &'b mut [f32],
    step: usize,
}

impl pulp::NullaryFnOnce for Product<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { a, b, sign, out, step } = self;
        let panels = b.columns.div_ceil(COLUMNS);
        let most = a.columns.min(TERMS);
        let mut right = vec![[0.0_f32; COLUMNS]; panels * most];
        let mut left = vec![[0.0_f32; ROWS]; most];
        for first in (0..a.columns).step_by(TERMS) {
            let terms = (a.columns - first).min(TERMS);
            for (panel, packed) in right.chunks_exact_mut(terms).take(panels).enumerate() {
                let start = panel * COLUMNS;
                let count = (b.columns - start).min(COLUMNS);
                for (term, packed) in packed.iter_mut().enumerate() {
                    *packed = [0.0; COLUMNS];
                    for (column, packed) in packed[..count].iter_mut().enumerate() {
                        *packed = b.at(first + term, start + column);
                    }
                }
            }
            for start in (0..a.rows).step_by(ROWS) {
                let count = (a.rows - start).min(ROWS);
                for (term, packed) in left[..terms].iter_mut().enumerate() {
                    for (row, packed) in packed[..count].iter_mut().enumerate() {
                        *packed = a.at(start + row, first + term);
                    }
                }
                for (panel, right) in right.chunks_exact(terms).take(panels).enumerate() {
                    let sums = tile(&left[..terms], right);
                    let place = panel * COLUMNS;
                    let width = (b.columns - place).min(COLUMNS);
                    for (row, sums) in sums[..count].iter().enumerate() {
                        let out = &mut out[(start + row) * step + place..][..width];
                        out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sign * sum);
                    }
                }
            }
        }
    }
}

/// Sums that stay in registers: each row is a variable of its own.
#[inline(always)]
fn tile(left: &[[f32; ROWS]], right: &[[f32; COLUMNS]]) -> [[f32; COLUMNS]; ROWS] {
    let zero = [0.0_f32; COLUMNS];
    let (mut a, mut b, mut c, mut d, mut e, mut f) = (zero, zero, zero, zero, zero, zero);
    for (left, right) in left.iter().zip(right) {
        a = added(a, left[0], right);
        b = added(b, left[1], right);
        c = added(c, left[2], right);
        d = added(d, left[3], right);
        e = added(e, left[4], right);
        f = added(f, left[5], right);
    }
    [a, b, c, d, e, f]
}

#[inline(always)]
fn added(sums: [f32; COLUMNS], left: f32, right: &[f32; COLUMNS]) -> [f32; COLUMNS] {
    std::array::from_fn(|lane| sums[lane] + left * right[lane])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same in the order that is promised.
    fn plain(a: View<'_>, b: View<'_>) -> Vec<f32> {
        let mut out = Vec::new();
        for row in 0..a.rows {
            for column in 0..b.columns {
                let mut all = 0.0_f32;
                for first in (0..a.columns).step_by(TERMS) {
                    let mut sum = 0.0_f32;
                    for term in first..(first + TERMS).min(a.columns) {
                        sum += a.at(row, term) * b.at(term, column);
                    }
                    all += sum;
                }
                out.push(all);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn equals_a_plain_loop_to_the_last_bit(
            rows in 0_usize..20,
            terms in 1_usize..600,
            columns in 1_usize..40,
            seed in any::<u64>(),
            turned in any::<[bool; 2]>(),
        ) {
            let mut next = super::super::noise(seed);
            let left: Vec<f32> = (0..rows * terms).map(|_| next()).collect();
            let right: Vec<f32> = (0..terms * columns).map(|_| next()).collect();
            let a = if turned[0] && rows > 0 {
                View::of(&left, rows).transposed()
            } else {
                View::of(&left, terms)
            };
            let b = if turned[1] { View::of(&right, terms).transposed() } else { View::of(&right, columns) };
            prop_assert_eq!(multiply(a, b), plain(a, b));
        }
    }
}
