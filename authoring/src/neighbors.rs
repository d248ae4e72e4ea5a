//! Which rows score best: exact, with equal ones in the order of their positions.
//!
//! The gallery's index is for unit vectors that stay. Metrics compare rows of any length, most of them once, and
//! their figures are those of sums from left to right, whatever order of summation is fastest.

/// Inner products of a row with others.
pub fn inner_products<'a>(
    row: &'a [f32],
    others: impl Iterator<Item = &'a [f32]>,
) -> impl Iterator<Item = f32> {
    others.map(move |other| row.iter().zip(other).map(|(a, b)| a * b).sum())
}

/// Positions of the `k` greatest scores, greatest first.
pub fn best(scores: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let by_score = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    if k < order.len() {
        order.select_nth_unstable_by(k, by_score);
        order.truncate(k);
    }
    order.sort_unstable_by(by_score);
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_best_are_the_first_of_a_stable_sort(
            scores in prop::collection::vec((-3_i8..3).prop_map(f32::from), 0..40),
            k in 0_usize..50,
        ) {
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
            order.truncate(k);
            prop_assert_eq!(best(&scores, k), order);
        }
    }

    #[test]
    fn products_are_those_of_rows() {
        let rows = [1.0, 0.0, 0.6, 0.8];
        let products: Vec<f32> = inner_products(&[0.0, 2.0], rows.chunks_exact(2)).collect();
        assert_eq!(products, [0.0, 1.6]);
    }
}
