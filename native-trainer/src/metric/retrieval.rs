//! Retrieval: recall@k, mean average precision and their kin.
//!
//! Agrees with PaddleClas `ppcls/engine/evaluation/retrieval.py` and `ppcls/metric/metrics.py`
//! @ d178931: a query's own picture (same label and same id) gets similarity 0, keeps its rank and
//! never counts as a match; queries without any match in the gallery are left out of the rates.
//! The rule of re-identification, no match by the same camera, is the same with cameras as ids.

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
    /// `(k, share of matches among the k best)`, mean over all queries, those without any match
    /// included.
    pub precision_at_k: Vec<(usize, f64)>,
    /// Mean over queries of the number of matches divided by the rank of the last one, from 1.
    pub mean_inverse_negative_penalty: f64,
    /// The same with ranks from 0, as the reference computes it; infinite where a query's only
    /// match comes first.
    pub mean_inverse_negative_penalty_from_zero: f64,
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
    let ranked: Vec<Ranks> = (0..query.len())
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
            let hits = similarities.iter().enumerate().filter(|(_, (_, hit))| *hit);
            Ranks(hits.map(|(rank, _)| rank).collect())
        })
        .collect();
    let matched: Vec<&Ranks> = ranked.iter().filter(|ranks| !ranks.0.is_empty()).collect();
    let mean = |of: &dyn Fn(&Ranks) -> f64| {
        matched.iter().map(|ranks| of(ranks)).sum::<f64>() / matched.len().max(1) as f64
    };
    let all = ranked.len().max(1) as f64;
    RetrievalMetrics {
        recall_at_k: top_k
            .iter()
            .map(|&k| (k, mean(&|ranks| f64::from(u8::from(ranks.among(k) > 0)))))
            .collect(),
        mean_average_precision: mean(&Ranks::average_precision),
        precision_at_k: top_k
            .iter()
            .map(|&k| {
                let shares = ranked.iter().map(|ranks| ranks.among(k) as f64 / k.max(1) as f64);
                (k, shares.sum::<f64>() / all)
            })
            .collect(),
        mean_inverse_negative_penalty: mean(&|ranks| ranks.share_until_last(1)),
        mean_inverse_negative_penalty_from_zero: mean(&|ranks| ranks.share_until_last(0)),
        queries: matched.len(),
    }
}

/// Ranks of a query's matches, from 0, ascending.
struct Ranks(Vec<usize>);

impl Ranks {
    /// Matches among the `k` best.
    fn among(&self, k: usize) -> usize {
        self.0.iter().filter(|rank| **rank < k).count()
    }

    /// Mean precision at each match.
    fn average_precision(&self) -> f64 {
        let precisions =
            self.0.iter().enumerate().map(|(found, rank)| (found + 1) as f64 / (rank + 1) as f64);
        precisions.sum::<f64>() / self.0.len() as f64
    }

    /// Matches divided by the rank of the last one, ranks starting at `first`.
    fn share_until_last(&self, first: usize) -> f64 {
        self.0.last().map_or(0.0, |last| self.0.len() as f64 / (last + first) as f64)
    }
}

/// How features become a binary code of ±1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binarization {
    /// By sign: for features around 0, such as those behind `tanh`.
    Sign,
    /// By rounding: for features within 0..=1.
    Round,
}

impl Binarization {
    /// The code; a sign of exactly 0 stays 0, as in the reference.
    pub fn apply(self, features: &[f32]) -> Vec<f32> {
        let code = |value: &f32| match self {
            Self::Sign if *value == 0.0 => 0.0,
            Self::Sign => value.signum(),
            Self::Round => 2.0 * value.round_ties_even() - 1.0,
        };
        features.iter().map(code).collect()
    }
}

/// Bits that differ between two codes of ±1: `(bits − inner product) / 2`.
pub fn hamming_distance(a: &[f32], b: &[f32]) -> f32 {
    let product: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    (a.len() as f32 - product) / 2.0
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
