//! Matrices of 32-bit floats: products, triangular factors and the directions of most variance.
//!
//! Every value is a sum in one order, with a product rounded before it is added, whatever the width of the
//! processor's registers: the same input gives the same bits on every machine.

mod product;
mod triangular;

pub(crate) use product::{View, multiply, products_of_columns};
pub(crate) use triangular::{factor, inverse_transposed, solve_rows};

/// Rounds of the search for directions: each makes what is left of other directions smaller by the ratio of
/// their variances.
const ROUNDS: usize = 4;
/// Share of the mean that is added to a matrix of products before it is factored: directions that are the
/// same but for rounding stay apart.
const RIDGE: f32 = 1e-6;

/// Numbers between −1 and 1 that look drawn at random.
pub(crate) fn noise(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Rows of unit length at right angles that span the same as given rows. Rows that the others span already
/// become rows of noise.
///
/// # Shapes
///
/// - `rows`: `[count, dim]`, `count` at most `dim`
pub(crate) fn orthonormal(mut rows: Vec<f32>, dim: usize) -> Vec<f32> {
    // The second time mends what rounding left of the first.
    for _ in 0..2 {
        let count = rows.len() / dim;
        let view = View::of(&rows, dim);
        let mut products = multiply(view, view.transposed());
        let trace: f32 = (0..count).map(|i| products[i * count + i]).sum();
        let least = (RIDGE * trace / count as f32).max(f32::MIN_POSITIVE);
        (0..count).for_each(|i| products[i * count + i] += least);
        if !factor(&mut products, count) {
            break;
        }
        // Rows of `L⁻¹ rows` are the columns that are solved for.
        let mut columns = transposed(&rows, dim);
        solve_rows(&products, count, &mut columns);
        rows = transposed(&columns, count);
    }
    for row in rows.chunks_exact_mut(dim) {
        let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        if length > 0.0 {
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
        }
    }
    rows
}

/// Directions of unit length, at right angles, in which a symmetric matrix is largest, found by powers of it:
/// nearly those of its largest eigenvalues, in no order.
///
/// Source: subspace iteration (Golub and Van Loan, "Matrix Computations", §8.2.4), from seeded noise (Halko,
/// Martinsson and Tropp, "Finding structure with randomness", 2011, algorithm 4.4).
///
/// # Shapes
///
/// - `matrix`: `[dim, dim]`
/// - output: `[count, dim]`
pub(crate) fn largest_directions(matrix: &[f32], dim: usize, count: usize) -> Vec<f32> {
    let mut next = noise(1);
    let start: Vec<f32> = (0..count * dim).map(|_| next()).collect();
    (0..ROUNDS).fold(start, |directions, _| nearer_directions(&directions, matrix, dim))
}

/// The same by one round from directions that are nearly those: of a matrix that is nearly the same.
///
/// # Shapes
///
/// - `directions`: `[count, dim]`
/// - `matrix`: `[dim, dim]`
/// - output: `[count, dim]`
pub(crate) fn nearer_directions(directions: &[f32], matrix: &[f32], dim: usize) -> Vec<f32> {
    orthonormal(multiply(View::of(directions, dim), View::of(matrix, dim)), dim)
}

/// A matrix with its rows as columns.
///
/// # Shapes
///
/// - `values`: `[rows, columns]`
/// - output: `[columns, rows]`
pub(crate) fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns.max(1);
    let mut turned = vec![0.0; values.len()];
    for (row, from) in values.chunks_exact(columns.max(1)).enumerate() {
        let to = turned.iter_mut().skip(row).step_by(rows);
        to.zip(from).for_each(|(to, from)| *to = *from);
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(count: usize, seed: u64) -> Vec<f32> {
        let mut next = noise(seed);
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn rows_become_orthonormal_and_span_the_same() {
        let (count, dim) = (7, 20);
        let mut rows = random(count * dim, 3);
        // Two that are nearly one.
        for i in 0..dim {
            rows[dim + i] = rows[i] + 1e-3 * rows[dim + i];
        }
        let basis = orthonormal(rows.clone(), dim);
        for i in 0..count {
            for j in 0..count {
                let product: f32 = (0..dim).map(|k| basis[i * dim + k] * basis[j * dim + k]).sum();
                let wanted = f32::from(u8::from(i == j));
                assert!((product - wanted).abs() < 1e-3, "{i} {j} {product}");
            }
        }
        for row in rows.chunks_exact(dim) {
            let mut rest = row.to_vec();
            for direction in basis.chunks_exact(dim) {
                let product: f32 = row.iter().zip(direction).map(|(a, b)| a * b).sum();
                rest.iter_mut().zip(direction).for_each(|(rest, v)| *rest -= product * v);
            }
            assert!(rest.iter().all(|v| v.abs() < 0.01), "{rest:?}");
        }
    }

    #[test]
    fn the_largest_directions_are_those_of_the_largest_variance() {
        // Variances 1, 1/4, 1/16 … along directions at right angles.
        let dim = 12;
        let axes = orthonormal(random(dim * dim, 9), dim);
        let mut matrix = vec![0.0; dim * dim];
        for (rank, axis) in axes.chunks_exact(dim).enumerate() {
            let variance = 0.25_f32.powi(rank as i32);
            for i in 0..dim {
                for j in 0..dim {
                    matrix[i * dim + j] += variance * axis[i] * axis[j];
                }
            }
        }
        let found = largest_directions(&matrix, dim, 3);
        for axis in axes.chunks_exact(dim).take(3) {
            let inside: f32 = found
                .chunks_exact(dim)
                .map(|row| row.iter().zip(axis).map(|(a, b)| a * b).sum::<f32>().powi(2))
                .sum();
            assert!(inside > 0.99, "{inside}");
        }
        assert_eq!(found, largest_directions(&matrix, dim, 3));
    }
}
