//! Retrieval: recall@k and mean average precision.
//!
//! Agrees with PaddleClas `ppcls/engine/evaluation/retrieval.py` and `ppcls/metric/metrics.py`
//! @ d178931: a query's own picture (same label and same id) gets similarity 0, keeps its rank and
//! never counts as a match; queries without any match in the gallery are left out of the rates.

/// Embeddings with what they show.
#[derive(Debug, Clone, Default)]
pub struct Embedded {
    /// `[items, dim]`, row-major.
    pub values: Vec<f32>,
    /// Class of every item.
    pub labels: Vec<usize>,
    /// Identity of every item's picture.
    pub ids: Vec<String>,
}

impl Embedded {
    /// Number of items.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// The rates of one evaluation, each `0..=1`.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrievalMetrics {
    /// `(k, share of queries with a match among the k best)`.
    pub recall_at_k: Vec<(usize, f64)>,
    /// Mean over queries of the mean precision at each match.
    pub mean_average_precision: f64,
    /// Queries that have a match in the gallery.
    pub queries: usize,
}

/// Compares every query with the whole gallery.
pub fn retrieval_metrics(
    query: &Embedded,
    gallery: &Embedded,
    top_k: &[usize],
) -> RetrievalMetrics {
    use rayon::prelude::*;
    let dim = query.values.len() / query.len().max(1);
    let ranked: Vec<Option<(usize, f64)>> = (0..query.len())
        .into_par_iter()
        .map(|q| {
            let row = &query.values[q * dim..(q + 1) * dim];
            let mut similarities: Vec<(f32, bool)> = gallery
                .values
                .chunks_exact(dim)
                .enumerate()
                .map(|(g, other)| {
                    let same = gallery.labels[g] == query.labels[q];
                    if same && gallery.ids[g] == query.ids[q] {
                        return (0.0, false);
                    }
                    (row.iter().zip(other).map(|(a, b)| a * b).sum(), same)
                })
                .collect();
            similarities.sort_by(|a, b| b.0.total_cmp(&a.0));
            first_rank_and_precision(similarities.iter().map(|(_, hit)| *hit))
        })
        .collect();
    let ranked: Vec<(usize, f64)> = ranked.into_iter().flatten().collect();
    let count = ranked.len().max(1) as f64;
    RetrievalMetrics {
        recall_at_k: top_k
            .iter()
            .map(|&k| (k, ranked.iter().filter(|(rank, _)| *rank < k).count() as f64 / count))
            .collect(),
        mean_average_precision: ranked.iter().map(|(_, precision)| precision).sum::<f64>() / count,
        queries: ranked.len(),
    }
}

/// Rank of the first hit, from 0, and mean precision at each hit; `None` without a hit.
fn first_rank_and_precision(hits: impl Iterator<Item = bool>) -> Option<(usize, f64)> {
    let (mut first, mut found, mut sum) = (None, 0, 0.0);
    for (rank, _) in hits.enumerate().filter(|(_, hit)| *hit) {
        first.get_or_insert(rank);
        found += 1;
        sum += f64::from(found) / (rank + 1) as f64;
    }
    first.map(|rank| (rank, sum / f64::from(found)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedded(rows: &[([f32; 2], usize, &str)]) -> Embedded {
        Embedded {
            values: rows.iter().flat_map(|(v, _, _)| *v).collect(),
            labels: rows.iter().map(|(_, label, _)| *label).collect(),
            ids: rows.iter().map(|(_, _, id)| (*id).to_owned()).collect(),
        }
    }

    #[test]
    fn counts_by_hand() {
        let gallery = embedded(&[
            ([1.0, 0.0], 0, "a"),
            ([0.8, 0.6], 1, "b"),
            ([0.6, 0.8], 0, "c"),
            ([0.0, 1.0], 1, "d"),
        ]);
        // Ranks: a b c d. Matches of class 1: b and d.
        let query = embedded(&[([1.0, 0.0], 1, "q"), ([1.0, 0.0], 9, "no match")]);
        let metrics = retrieval_metrics(&query, &gallery, &[1, 2]);
        assert_eq!(metrics.queries, 1);
        assert_eq!(metrics.recall_at_k, [(1, 0.0), (2, 1.0)]);
        assert!((metrics.mean_average_precision - (1.0 / 2.0 + 2.0 / 4.0) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn a_query_never_finds_its_own_picture() {
        let all = embedded(&[([1.0, 0.0], 0, "a"), ([0.9, 0.1], 0, "b"), ([0.0, 1.0], 1, "c")]);
        let metrics = retrieval_metrics(&all, &all, &[1]);
        // "c" has no other picture of its class.
        assert_eq!(metrics.queries, 2);
        assert_eq!(metrics.recall_at_k, [(1, 1.0)]);
    }
}
