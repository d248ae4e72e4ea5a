//! Retrieval: recall@k, mean average precision and their kin.
//!
//! Agrees with PaddleClas `ppcls/engine/evaluation/retrieval.py` and `ppcls/metric/metrics.py`
//! @ d178931: a query's own picture (same label and same id) gets similarity 0, keeps its rank and
//! never counts as a match; queries without any match in the gallery are left out of the rates.
//! The rule of re-identification, no match by the same camera, is the same with cameras as ids.
//! Difference: the same content is the query's own picture, too, whatever its path, id or label.

use std::collections::HashSet;

use models::gallery::ContentId;

use crate::terminal::counted;
use authoring::neighbors::{self, inner_products};

/// Embeddings with what they show.
#[derive(Debug, Clone, Default)]
pub struct Embedded {
    /// `[items, dim]`, row-major.
    pub values: Vec<f32>,
    /// Class of every item.
    pub labels: Vec<usize>,
    /// Identity of every item's picture, as its list has it: a picture, a camera.
    pub ids: Vec<String>,
    /// Content of every item's picture; empty where nobody knows.
    pub contents: Vec<ContentId>,
}

impl Embedded {
    /// The content of an item's picture.
    fn content(&self, item: usize) -> Option<ContentId> {
        self.contents.get(item).copied().filter(|content| content.is_known())
    }

    /// Whether an item is the query itself and so no answer to it: the same content, or the same class with
    /// the same id.
    pub fn is_itself(&self, item: usize, queries: &Self, query: usize) -> bool {
        let (here, there) = (self.content(item), queries.content(query));
        (here.is_some() && here == there)
            || (self.labels[item] == queries.labels[query] && self.ids[item] == queries.ids[query])
    }

    /// Items whose content is in a gallery, too.
    pub fn also_in(&self, gallery: &Self) -> usize {
        let known: HashSet<ContentId> =
            (0..gallery.len()).filter_map(|i| gallery.content(i)).collect();
        (0..self.len()).filter_map(|i| self.content(i)).filter(|c| known.contains(c)).count()
    }

    /// Items whose content another one before them has.
    pub fn repeated(&self) -> usize {
        let mut seen = HashSet::new();
        (0..self.len()).filter_map(|i| self.content(i)).filter(|c| !seen.insert(*c)).count()
    }

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
    /// Queries that have a match in the gallery. The others are counted out.
    pub queries: usize,
    /// Queries that are the only picture of their class in the gallery: with themselves their match is gone.
    pub alone: usize,
}

/// What is to be said of queries that are in the gallery themselves (`None`: the queries are the gallery), or
/// have no match in it.
pub fn remarks(
    queries: &Embedded,
    gallery: Option<&Embedded>,
    metrics: &RetrievalMetrics,
) -> Vec<String> {
    let all = queries.len();
    let (of_queries, of_pictures) =
        (counted(all, "query", "queries"), counted(all, "picture", "pictures"));
    let are = |count: usize| if count == 1 { "is" } else { "are" };
    let mut remarks = Vec::new();
    match gallery.map_or_else(|| queries.repeated(), |gallery| queries.also_in(gallery)) {
        0 => (),
        count if gallery.is_some() => remarks.push(format!(
            "{count} of {of_queries} {} in the gallery, each searched without itself",
            are(count)
        )),
        count => remarks.push(format!(
            "{count} of {of_pictures} {} the content of another one; no picture is an answer to itself",
            if count == 1 { "has" } else { "have" }
        )),
    }
    if metrics.alone > 0 {
        remarks.push(format!(
            "{} of {of_queries} {} counted out: the gallery has no other picture of their class",
            metrics.alone,
            are(metrics.alone)
        ));
    }
    let foreign = all - metrics.queries - metrics.alone;
    if foreign > 0 {
        remarks.push(format!(
            "{foreign} of {of_queries} {} counted out: the gallery does not have their class",
            are(foreign)
        ));
    }
    remarks
}

/// Compares every query with the whole gallery.
///
/// ```
/// use native_trainer::metric::retrieval::{Embedded, retrieval_metrics};
///
/// // Unit embeddings of two values, two images per class.
/// let images = Embedded {
///     values: vec![1.0, 0.0, 0.8, 0.6, 0.0, 1.0, 0.96, 0.28],
///     labels: vec![0, 0, 1, 1],
///     ids: ["a.jpg", "b.jpg", "c.jpg", "d.jpg"].map(str::to_owned).to_vec(),
///     ..Embedded::default()
/// };
/// // Every image is searched among the others.
/// let metrics = retrieval_metrics(&images, &images, &[1, 3]);
/// assert_eq!(metrics.queries, 4);
/// assert_eq!(metrics.recall_at_k, [(1, 0.0), (3, 1.0)]);
/// ```
pub fn retrieval_metrics(
    query: &Embedded,
    gallery: &Embedded,
    top_k: &[usize],
) -> RetrievalMetrics {
    use rayon::prelude::*;
    let dim = query.values.len() / query.len().max(1);
    let ranked: Vec<(Ranks, bool)> = (0..query.len())
        .into_par_iter()
        .map(|q| {
            let row = &query.values[q * dim..(q + 1) * dim];
            let has_class = gallery.labels.contains(&query.labels[q]);
            let mut similarities: Vec<f32> =
                inner_products(row, gallery.values.chunks_exact(dim)).collect();
            let itself: Vec<bool> =
                (0..gallery.len()).map(|g| gallery.is_itself(g, query, q)).collect();
            for (similarity, _) in similarities.iter_mut().zip(&itself).filter(|(_, own)| **own) {
                *similarity = 0.0;
            }
            let is_hit = |g: usize| !itself[g] && gallery.labels[g] == query.labels[q];
            let ranked = neighbors::best(&similarities, gallery.len());
            let hits = ranked.into_iter().enumerate().filter(|(_, g)| is_hit(*g));
            (Ranks(hits.map(|(rank, _)| rank).collect()), has_class)
        })
        .collect();
    let alone = ranked.iter().filter(|(ranks, has_class)| *has_class && ranks.0.is_empty()).count();
    let ranked: Vec<Ranks> = ranked.into_iter().map(|(ranks, _)| ranks).collect();
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
        alone,
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
            contents: Vec::new(),
        }
    }

    /// The same items, from files with these bytes.
    fn with_contents(mut items: Embedded, files: &[&str]) -> Embedded {
        items.contents = files.iter().map(|file| ContentId::of(file.as_bytes())).collect();
        items
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
        assert_eq!((metrics.queries, metrics.alone), (2, 1));
        assert_eq!(metrics.recall_at_k, [(1, 1.0)]);
    }

    #[test]
    fn the_same_content_is_the_same_picture_under_any_name_and_class() {
        let rows = [([1.0, 0.0], 0, "a"), ([0.9, 0.1], 1, "b"), ([0.0, 1.0], 1, "c")];
        let files = ["A", "B", "C"];
        let queries = with_contents(embedded(&rows), &files);
        let alone = retrieval_metrics(&queries, &queries, &[1, 2]);
        assert_eq!(alone.recall_at_k, [(1, 0.5), (2, 1.0)]);
        let rows = [([1.0, 0.0], 0, "x/a"), ([0.9, 0.1], 1, "x/b"), ([0.0, 1.0], 1, "x/c")];
        let gallery = with_contents(embedded(&rows), &files);
        let metrics = retrieval_metrics(&queries, &gallery, &[1, 2]);
        assert_eq!(metrics, alone, "by another path");
        assert_eq!(
            remarks(&queries, Some(&gallery), &metrics),
            [
                "3 of 3 queries are in the gallery, each searched without itself",
                "1 of 3 queries is counted out: the gallery has no other picture of their class",
            ]
        );
        // The copy in another class would be the nearest, and wrong.
        let rows = [([1.0, 0.0], 1, "x/a"), ([0.9, 0.1], 0, "x/d"), ([0.8, 0.2], 2, "x/e")];
        let gallery = with_contents(embedded(&rows), &["A", "D", "E"]);
        let query =
            with_contents(embedded(&[([1.0, 0.0], 0, "a"), ([1.0, 0.0], 7, "f")]), &["A", "F"]);
        let metrics = retrieval_metrics(&query, &gallery, &[1]);
        assert_eq!((metrics.recall_at_k[0].1, metrics.queries, metrics.alone), (1.0, 1, 0));
        assert_eq!(
            remarks(&query, Some(&gallery), &metrics),
            [
                "1 of 2 queries is in the gallery, each searched without itself",
                "1 of 2 queries is counted out: the gallery does not have their class",
            ]
        );
        // Nobody knows the content.
        let unknown = with_contents(embedded(&[([1.0, 0.0], 0, "a")]), &[]);
        assert_eq!(retrieval_metrics(&unknown, &gallery, &[1]).queries, 1);
    }

    #[test]
    fn a_picture_that_is_listed_twice_is_no_answer_to_itself() {
        let rows = [([1.0, 0.0], 0, "a"), ([1.0, 0.0], 0, "copy"), ([0.9, 0.1], 1, "b")];
        let all = with_contents(embedded(&rows), &["A", "A", "B"]);
        let metrics = retrieval_metrics(&all, &all, &[1]);
        assert_eq!((metrics.queries, metrics.alone), (0, 3));
        let told = remarks(&all, None, &metrics);
        assert!(told[0].starts_with("1 of 3 pictures has the content of another one"), "{told:?}");
    }
}
