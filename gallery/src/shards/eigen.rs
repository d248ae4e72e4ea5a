//! The directions in which vectors vary most.
//!
//! Source: Jacobi's method with cyclic sweeps (Golub and Van Loan, "Matrix Computations", §8.5). It is
//! short, gives orthogonal directions whatever the matrix, and the same on every machine.

/// Sweeps over all pairs; convergence is quadratic, and directions that are nearly right serve.
const SWEEPS: usize = 8;
/// Pairs that are as good as apart already, as a share of the trace.
const APART: f64 = 1e-10;

/// The eigenvectors of a symmetric matrix, those of the largest eigenvalues first.
///
/// # Shapes
///
/// - `matrix`: `[dim, dim]`
/// - output: `[dim]` each
pub(super) fn vectors(mut matrix: Vec<f64>, dim: usize) -> Vec<Vec<f32>> {
    let mut vectors = vec![0.0_f64; dim * dim];
    (0..dim).for_each(|i| vectors[i * dim + i] = 1.0);
    let trace: f64 = (0..dim).map(|i| matrix[i * dim + i]).sum();
    for _ in 0..SWEEPS {
        let mut turned = false;
        for p in 0..dim {
            for q in p + 1..dim {
                let off = matrix[p * dim + q];
                if off.abs() <= APART * trace {
                    continue;
                }
                turned = true;
                let (at_p, at_q) = (matrix[p * dim + p], matrix[q * dim + q]);
                let theta = (at_q - at_p) / (2.0 * off);
                let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
                let sine = tangent * cosine;
                turn(&mut matrix, dim, p, q, cosine, sine);
                for row in 0..dim {
                    // The matrix stays symmetric: its columns are its rows but where both were turned.
                    matrix[row * dim + p] = matrix[p * dim + row];
                    matrix[row * dim + q] = matrix[q * dim + row];
                }
                matrix[p * dim + p] = at_p - tangent * off;
                matrix[q * dim + q] = at_q + tangent * off;
                (matrix[p * dim + q], matrix[q * dim + p]) = (0.0, 0.0);
                turn(&mut vectors, dim, p, q, cosine, sine);
            }
        }
        if !turned {
            break;
        }
    }
    let mut order: Vec<usize> = (0..dim).collect();
    order.sort_by(|a, b| matrix[b * dim + b].total_cmp(&matrix[a * dim + a]));
    let row = |i: usize| vectors[i * dim..(i + 1) * dim].iter().map(|v| *v as f32).collect();
    order.into_iter().map(row).collect()
}

/// Turns two rows into each other.
fn turn(matrix: &mut [f64], dim: usize, p: usize, q: usize, cosine: f64, sine: f64) {
    let (head, tail) = matrix.split_at_mut(q * dim);
    let (first, second) = (&mut head[p * dim..(p + 1) * dim], &mut tail[..dim]);
    for (a, b) in first.iter_mut().zip(second) {
        (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_axes_of_a_turned_matrix() {
        // Eigenvalues 1 to 8 in directions that a reflection has turned.
        let dim = 8;
        let normal: Vec<f64> = (0..dim).map(|i| f64::from(i as u32 + 1)).collect();
        let square: f64 = normal.iter().map(|v| v * v).sum();
        let mirrored =
            |i: usize, j: usize| f64::from(u8::from(i == j)) - 2.0 * normal[i] * normal[j] / square;
        let matrix: Vec<f64> = (0..dim * dim)
            .map(|place| {
                let (i, j) = (place / dim, place % dim);
                (0..dim).map(|k| mirrored(i, k) * (k + 1) as f64 * mirrored(k, j)).sum()
            })
            .collect();
        for (rank, vector) in vectors(matrix, dim).iter().enumerate() {
            let product: f64 =
                (0..dim).map(|i| f64::from(vector[i]) * mirrored(i, dim - 1 - rank)).sum();
            assert!((product.abs() - 1.0).abs() < 1e-6, "{rank}: {product}");
        }
    }

    #[test]
    fn directions_stay_orthogonal_where_nothing_varies() {
        for (place, vector) in vectors(vec![0.0; 25], 5).iter().enumerate() {
            let expected: Vec<f32> = (0..5).map(|i| f32::from(u8::from(i == place))).collect();
            assert_eq!(*vector, expected);
        }
    }
}
