//! Re-ranking by shared neighbors.
//!
//! Source: "Re-ranking Person Re-identification with k-reciprocal Encoding",
//! <https://arxiv.org/abs/1701.08398>.
//! Agrees with PaddleClas `ppcls/metric/metrics.py` and `ppcls/utils/re_ranking.py` @ d178931.
//! Difference: neighbors and their weights are kept as short lists; no matrix over all pairs
//! exists, and the weights are f32 where the reference rounds them to f16.

use std::collections::{BTreeSet, HashMap};

use rayon::prelude::*;

use authoring::neighbors::{self, inner_products};

/// Options; the defaults are the reference's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReRanking {
    /// Neighbors that are looked at for reciprocity.
    pub k1: usize,
    /// Neighbors whose weights are averaged.
    pub k2: usize,
    /// Share of the original distance in the result.
    pub lambda: f32,
    /// The original distance.
    pub distance: Distance,
}

/// A distance of two rows `a` and `b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Distance {
    /// `‖a‖² + ‖b‖² − 2·a·b`
    #[default]
    SquaredL2,
    /// `a·b − 2·(‖a‖² + ‖b‖²)`: what the reference computes for features that are not of unit
    /// length, its two factors being swapped. Only for figures to be compared with its own.
    ReferenceSwapped,
}

impl Default for ReRanking {
    fn default() -> Self {
        Self { k1: 20, k2: 6, lambda: 0.3, distance: Distance::SquaredL2 }
    }
}

/// An item's weights on others, by ascending position.
type Weights = Vec<(usize, f32)>;

/// All items as rows, with what a row needs to be computed again.
struct Items<'a> {
    rows: Vec<&'a [f32]>,
    squares: Vec<f32>,
    distance: Distance,
}

impl Items<'_> {
    /// Distances from one item to all, divided by the largest of them.
    fn distances(&self, item: usize) -> Vec<f32> {
        let row = self.rows[item];
        let mut distances: Vec<f32> = inner_products(row, self.rows.iter().copied())
            .zip(&self.squares)
            .map(|(product, square)| {
                let squares = self.squares[item] + square;
                match self.distance {
                    Distance::SquaredL2 => (squares - 2.0 * product).max(0.0),
                    Distance::ReferenceSwapped => product - 2.0 * squares,
                }
            })
            .collect();
        let largest = distances.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // Rows that are all alike have no distance to divide by.
        let largest = if largest == 0.0 { 1.0 } else { largest };
        distances.iter_mut().for_each(|d| *d /= largest);
        distances
    }
}

/// Distances from every query to every gallery item, smaller being nearer.
///
/// # Shapes
///
/// - `query`: `[queries, dim]`, `gallery`: `[items, dim]`, row-major, any length
/// - output: `[queries, items]`
pub fn re_rank(query: &[f32], gallery: &[f32], dim: usize, options: ReRanking) -> Vec<f32> {
    if dim == 0 || query.is_empty() || gallery.is_empty() {
        return Vec::new();
    }
    let rows: Vec<&[f32]> = query.chunks_exact(dim).chain(gallery.chunks_exact(dim)).collect();
    let squares = rows.iter().map(|row| row.iter().map(|v| v * v).sum()).collect();
    let items = Items { rows, squares, distance: options.distance };
    let (count, queries) = (items.rows.len(), query.len() / dim);

    // An item is its own nearest neighbor.
    let neighbors: Vec<Vec<usize>> = (0..count)
        .into_par_iter()
        .map(|item| {
            // Sign and order change together, to the last bit.
            let nearness: Vec<f32> = items.distances(item).into_iter().map(|d| -d).collect();
            neighbors::best(&nearness, options.k1 + 1)
        })
        .collect();
    let weights: Vec<Weights> = (0..count)
        .into_par_iter()
        .map(|item| reciprocal_weights(item, &neighbors, &items.distances(item), options.k1))
        .collect();
    let weights = if options.k2 > 1 {
        (0..count)
            .into_par_iter()
            .map(|item| mean_weights(&neighbors[item], &weights, options.k2))
            .collect()
    } else {
        weights
    };
    // Who has weight on an item.
    let mut holders: Vec<Weights> = vec![Vec::new(); count];
    for (item, row) in weights.iter().enumerate() {
        row.iter().for_each(|(on, weight)| holders[*on].push((item, *weight)));
    }
    (0..queries)
        .into_par_iter()
        .flat_map_iter(|item| {
            let mut shared = vec![0.0_f32; count];
            for (on, weight) in &weights[item] {
                for (holder, other) in &holders[*on] {
                    shared[*holder] += weight.min(*other);
                }
            }
            let distances = items.distances(item);
            (queries..count)
                .map(|other| {
                    let jaccard = 1.0 - shared[other] / (2.0 - shared[other]);
                    jaccard * (1.0 - options.lambda) + distances[other] * options.lambda
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Neighbors within the first `k + 1` that have the item among their own.
fn reciprocal(item: usize, neighbors: &[Vec<usize>], k: usize) -> BTreeSet<usize> {
    let first = |i: usize| neighbors[i].iter().take(k + 1);
    first(item).copied().filter(|&other| first(other).any(|back| *back == item)).collect()
}

fn reciprocal_weights(
    item: usize,
    neighbors: &[Vec<usize>],
    distances: &[f32],
    k1: usize,
) -> Weights {
    let own = reciprocal(item, neighbors, k1);
    let mut expanded = own.clone();
    let half = (k1 as f64 / 2.0).round_ties_even() as usize;
    for &candidate in &own {
        let theirs = reciprocal(candidate, neighbors, half);
        if 3 * theirs.intersection(&own).count() > 2 * theirs.len() {
            expanded.extend(theirs);
        }
    }
    let sum: f32 = expanded.iter().map(|&i| (-distances[i]).exp()).sum();
    expanded.into_iter().map(|i| (i, (-distances[i]).exp() / sum)).collect()
}

/// Mean of the weights of the first `k2` neighbors.
fn mean_weights(neighbors: &[usize], weights: &[Weights], k2: usize) -> Weights {
    let first = &neighbors[..k2.min(neighbors.len())];
    let mut sums: HashMap<usize, f32> = HashMap::new();
    for (on, weight) in first.iter().flat_map(|&other| &weights[other]) {
        *sums.entry(*on).or_default() += weight;
    }
    let mut mean: Weights =
        sums.into_iter().map(|(on, sum)| (on, sum / first.len() as f32)).collect();
    mean.sort_unstable_by_key(|(on, _)| *on);
    mean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_with_the_neighbors_of_the_query_moves_up() {
        // Two clusters; the query lies in the first, as does the far corner of it.
        let query = [0.0, 0.0];
        let gallery = [0.1, 0.0, 0.0, 0.1, 0.1, 0.1, 5.0, 5.0, 5.1, 5.0, 5.0, 5.1];
        let options = ReRanking { k1: 3, k2: 2, lambda: 0.3, ..ReRanking::default() };
        let distances = re_rank(&query, &gallery, 2, options);
        assert_eq!(distances.len(), 6);
        assert!(distances[..3].iter().all(|d| *d < 0.5), "{distances:?}");
        assert!(distances[3..].iter().all(|d| *d > 0.9), "{distances:?}");
    }

    #[test]
    fn nothing_gives_nothing() {
        assert!(re_rank(&[], &[1.0], 1, ReRanking::default()).is_empty());
        assert_eq!(re_rank(&[1.0], &[1.0], 1, ReRanking::default()).len(), 1);
    }
}
