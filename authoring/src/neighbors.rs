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

/// Rows that are compared together: their sums fit the registers of every processor, and of WebAssembly.
const SIDE_BY_SIDE: usize = 8;
/// Queries that are asked together, for each of which a row is read once.
const TOGETHER: usize = 4;

/// Rows that many others are compared with: inner products as by [`inner_products`], to the last bit, at a multiple of
/// their speed. Each is a sum from left to right; several of them go side by side.
#[derive(Debug)]
pub struct Rows {
    count: usize,
    dim: usize,
    /// Of each group of rows the first values, then the second ones, and so on.
    groups: Vec<[f32; SIDE_BY_SIDE]>,
}

impl Rows {
    /// # Shapes
    ///
    /// - `rows`: `[count, dim]`
    pub fn new(rows: &[f32], dim: usize) -> Self {
        let count = rows.len() / dim.max(1);
        let mut groups = vec![[0.0; SIDE_BY_SIDE]; count.div_ceil(SIDE_BY_SIDE) * dim];
        for (place, row) in rows.chunks_exact(dim.max(1)).enumerate() {
            let group = &mut groups[place / SIDE_BY_SIDE * dim..][..dim];
            group.iter_mut().zip(row).for_each(|(side, value)| side[place % SIDE_BY_SIDE] = *value);
        }
        Self { count, dim, groups }
    }

    /// Inner products of each query with all rows.
    pub fn products(&self, queries: &[&[f32]]) -> Vec<Vec<f32>> {
        let room = || Vec::with_capacity(self.count.next_multiple_of(SIDE_BY_SIDE));
        let mut products: Vec<Vec<f32>> = queries.iter().map(|_| room()).collect();
        for (queries, products) in queries.chunks(TOGETHER).zip(products.chunks_mut(TOGETHER)) {
            // Where fewer are left, the last one is asked again.
            let query = |place: usize| &queries[place.min(queries.len() - 1)][..self.dim];
            let queries = std::array::from_fn(query);
            for group in self.groups.chunks_exact(self.dim.max(1)) {
                let sums = sums(queries, group);
                products.iter_mut().zip(sums).for_each(|(products, sums)| products.extend(sums));
            }
        }
        products.iter_mut().for_each(|products| products.truncate(self.count));
        products
    }
}

/// Sums that stay in registers: those of each query are a variable of their own. They begin as those of the standard
/// library do.
fn sums(
    [first, second, third, fourth]: [&[f32]; TOGETHER],
    group: &[[f32; SIDE_BY_SIDE]],
) -> [[f32; SIDE_BY_SIDE]; TOGETHER] {
    let none = [-0.0_f32; SIDE_BY_SIDE];
    let (mut a, mut b, mut c, mut d) = (none, none, none, none);
    let queries = first.iter().zip(second).zip(third).zip(fourth);
    for ((((first, second), third), fourth), values) in queries.zip(group) {
        a = added(a, *first, values);
        b = added(b, *second, values);
        c = added(c, *third, values);
        d = added(d, *fourth, values);
    }
    [a, b, c, d]
}

#[inline]
fn added(
    sums: [f32; SIDE_BY_SIDE],
    query: f32,
    values: &[f32; SIDE_BY_SIDE],
) -> [f32; SIDE_BY_SIDE] {
    std::array::from_fn(|side| sums[side] + query * values[side])
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

    proptest! {
        #[test]
        fn products_of_many_are_those_of_one_by_one(
            dim in 1_usize..40,
            count in 0_usize..30,
            asked in 0_usize..10,
            seed in 0_usize..1000,
        ) {
            let value = |place: usize| ((place * 37 + seed) as f32 * 0.71).sin() * 3.0;
            let rows: Vec<f32> = (0..count * dim).map(value).collect();
            let queries: Vec<f32> = (0..asked * dim).map(|place| value(place + 7777)).collect();
            let queries: Vec<&[f32]> = queries.chunks_exact(dim).collect();
            let bits = |products: Vec<f32>| products.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            let products = Rows::new(&rows, dim).products(&queries);
            prop_assert_eq!(products.len(), asked);
            for (query, products) in queries.into_iter().zip(products) {
                let wanted = inner_products(query, rows.chunks_exact(dim)).collect();
                prop_assert_eq!(bits(products), bits(wanted));
            }
        }
    }

    #[test]
    fn products_are_those_of_rows() {
        let rows = [1.0, 0.0, 0.6, 0.8];
        let products: Vec<f32> = inner_products(&[0.0, 2.0], rows.chunks_exact(2)).collect();
        assert_eq!(products, [0.0, 1.6]);
    }
}
