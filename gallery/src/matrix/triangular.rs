//! Symmetric matrices as products of a triangular one with itself.

use super::product::{View, add_product, multiply};

/// Columns that are factored or solved for together.
const BLOCK: usize = 48;
/// Rows that are changed together.
const STRIP: usize = 192;

/// Cholesky's factor of a symmetric matrix that is positive: `matrix = L Lᵀ`, in the place of its lower half.
/// `false` where the matrix is not positive, whose values are then of no use.
///
/// # Shapes
///
/// - `matrix`: `[dim, dim]`; above the diagonal is neither read nor of use then
pub(crate) fn factor(matrix: &mut [f32], dim: usize) -> bool {
    for start in (0..dim).step_by(BLOCK) {
        let end = (start + BLOCK).min(dim);
        for column in start..end {
            let product = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let own = &matrix[column * dim..(column + 1) * dim];
            let before = &own[start..column];
            let pivot = f64::from(own[column]) - product(before, before);
            if !(pivot > 0.0 && pivot.is_finite()) {
                return false;
            }
            let pivot = pivot.sqrt();
            matrix[column * dim + column] = pivot as f32;
            let (head, below) = matrix.split_at_mut((column + 1) * dim);
            let before = &head[column * dim + start..column * dim + column];
            for row in below.chunks_exact_mut(dim) {
                let rest = f64::from(row[column]) - product(&row[start..column], before);
                row[column] = (rest / pivot) as f32;
            }
        }
        // What is left of the rows below.
        let columns: Vec<f32> = (end..dim)
            .flat_map(|row| matrix[row * dim + start..row * dim + end].iter().copied())
            .collect();
        let width = end - start;
        for first in (end..dim).step_by(STRIP) {
            let last = (first + STRIP).min(dim);
            let strip = View::part(&columns, width, first - end..last - end, 0..width);
            let until = View::part(&columns, width, 0..last - end, 0..width);
            let out = &mut matrix[first * dim + end..];
            add_product(strip, until.transposed(), -1.0, out, dim);
        }
    }
    true
}

/// Solves `L y = x` for every row `x` and puts `y` into its place.
///
/// # Shapes
///
/// - `lower`: `[dim, dim]`, as [`factor`] leaves it
/// - `rows`: `[count, dim]`
pub(crate) fn solve_rows(lower: &[f32], dim: usize, rows: &mut [f32]) {
    solve_behind(lower, dim, 0, rows);
}

/// [`solve_rows`] for rows that are 0 before `first`, without these values.
fn solve_behind(lower: &[f32], dim: usize, first: usize, rows: &mut [f32]) {
    let length = dim - first;
    let count = rows.len() / length.max(1);
    for start in (0..length).step_by(BLOCK) {
        let end = (start + BLOCK).min(length);
        let block = first + start..first + end;
        if start > 0 {
            let known: Vec<f32> =
                rows.chunks_exact(length).flat_map(|row| row[..start].iter().copied()).collect();
            let part = View::part(lower, dim, block.clone(), first..first + start);
            let out = &mut rows[start..];
            add_product(View::of(&known, start), part.transposed(), -1.0, out, length);
        }
        let inverse = inverse(lower, dim, block);
        let width = end - start;
        let rest = View::part(rows, length, 0..count, start..end);
        let solved = multiply(rest, View::of(&inverse, width).transposed());
        for (row, solved) in rows.chunks_exact_mut(length).zip(solved.chunks_exact(width)) {
            row[start..end].copy_from_slice(solved);
        }
    }
}

/// `L⁻ᵀ`: its rows are the columns of `L⁻¹`. Nothing is computed of the half that is 0.
///
/// # Shapes
///
/// - `lower`: `[dim, dim]`, as [`factor`] leaves it
/// - output: `[dim, dim]`
pub(crate) fn inverse_transposed(lower: &[f32], dim: usize) -> Vec<f32> {
    let mut all = vec![0.0; dim * dim];
    for first in (0..dim).step_by(BLOCK) {
        let (count, length) = (BLOCK.min(dim - first), dim - first);
        let mut rows = vec![0.0; count * length];
        (0..count).for_each(|row| rows[row * length + row] = 1.0);
        solve_behind(lower, dim, first, &mut rows);
        for (to, row) in all[first * dim..].chunks_exact_mut(dim).zip(rows.chunks_exact(length)) {
            to[first..].copy_from_slice(row);
        }
    }
    all
}

/// The inverse of a block on the diagonal, `[block, block]`.
fn inverse(lower: &[f32], dim: usize, block: std::ops::Range<usize>) -> Vec<f32> {
    let (start, width) = (block.start, block.len());
    let mut inverse = vec![0.0_f32; width * width];
    for row in 0..width {
        let own = &lower[(start + row) * dim + start..];
        for column in 0..=row {
            let mut sum = f64::from(u8::from(row == column));
            for term in column..row {
                sum -= f64::from(own[term]) * f64::from(inverse[term * width + column]);
            }
            inverse[row * width + column] = (sum / f64::from(own[row])) as f32;
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn factors_and_solutions_fit_the_matrix(
            dim in 1_usize..220,
            seed in any::<u64>(),
        ) {
            let mut next = super::super::noise(seed);
            let values: Vec<f32> = (0..dim * dim).map(|_| next()).collect();
            let view = View::of(&values, dim);
            let mut matrix = multiply(view, view.transposed());
            (0..dim).for_each(|i| matrix[i * dim + i] += dim as f32 * 0.1);
            let mut lower = matrix.clone();
            prop_assert!(factor(&mut lower, dim));
            for row in 0..dim {
                for column in 0..=row {
                    let product: f64 = (0..=column)
                        .map(|k| f64::from(lower[row * dim + k]) * f64::from(lower[column * dim + k]))
                        .sum();
                    let wanted = f64::from(matrix[row * dim + column]);
                    prop_assert!((product - wanted).abs() < 1e-3 * dim as f64, "{product} {wanted}");
                }
            }
            let inverse = inverse_transposed(&lower, dim);
            for row in 0..dim {
                for column in 0..dim {
                    let product: f64 = (0..=row)
                        .map(|k| f64::from(lower[row * dim + k]) * f64::from(inverse[column * dim + k]))
                        .sum();
                    let wanted = f64::from(u8::from(row == column));
                    prop_assert!((product - wanted).abs() < 1e-2, "{product} {wanted}");
                    prop_assert!(row >= column || inverse[column * dim + row] == 0.0);
                }
            }
            let rows: Vec<f32> = (0..3 * dim).map(|_| next()).collect();
            let mut solved = rows.clone();
            solve_rows(&lower, dim, &mut solved);
            for (row, solved) in rows.chunks_exact(dim).zip(solved.chunks_exact(dim)) {
                for (i, wanted) in row.iter().enumerate() {
                    let product: f64 = (0..=i)
                        .map(|k| f64::from(lower[i * dim + k]) * f64::from(solved[k]))
                        .sum();
                    prop_assert!((product - f64::from(*wanted)).abs() < 1e-2, "{product} {wanted}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_positive_has_no_factor() {
        assert!(!factor(&mut [1.0, 2.0, 2.0, 1.0], 2));
        assert!(!factor(&mut [f32::NAN], 1));
        assert!(!factor(&mut [0.0], 1));
        assert!(factor(&mut [], 0));
    }
}
