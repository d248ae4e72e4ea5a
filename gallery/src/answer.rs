//! From entries that are similar to the class that they speak for.

use std::collections::BTreeMap;

use crate::answer_rule::AnswerRule;
use crate::calibration::Asked;
use crate::class::Class;
use crate::embedding::unit;
use crate::error::GalleryError;
use crate::gallery::Gallery;
use crate::index::{Metric, Search, VectorIndex, VectorType};
use crate::map::AdaptationMap;

/// Cosine from which on a query is the picture of an entry: what rounding an entry to bytes leaves is above it.
pub(crate) const SAME: f32 = 0.9995;

/// Values of a mean that are no more than this are what rounding left of entries that cancel each other out.
pub(crate) const CANCELLED: f32 = 1e-6;

/// A class found for a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// Position of the class in the gallery.
    pub class: usize,
    /// Cosine of its nearest entry, or of its mean embedding where that is the rule, `−1..=1`.
    pub similarity: f32,
}

/// What a gallery answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// Classes, best first.
    pub matches: Vec<Match>,
    /// Similarity of the best class less that of the most similar other one; the best's own where there is no
    /// other. 0 without any class.
    pub lead: f32,
    /// How probable it is that the best class is the right one, of a thing that the gallery has, `0..=1`. `None`
    /// where the gallery has not been calibrated with this rule, or only some classes were asked for.
    pub probability: Option<f32>,
    /// Least similarity at which the best class is the answer, by what the gallery learned from its own trials;
    /// `None` as above. A class's own threshold is not in it.
    pub least_similarity: Option<f32>,
    /// Whether it is, by the same.
    known: Option<bool>,
}

impl Answer {
    /// Similarity of the best class, if there is one.
    pub fn best(&self) -> Option<Match> {
        self.matches.first().copied()
    }
}

/// What a gallery is asked.
///
/// ```
/// use gallery::{AnswerRule, Class, Gallery, Question};
///
/// let mut gallery = Gallery::new(2, "my extractor");
/// for (label, embedding) in [("red tea", [1.0, 0.0]), ("green tea", [0.9, 0.2]), ("mug", [0.0, 1.0])] {
///     let class = Class { label: label.to_owned(), ..Class::default() };
///     let class = gallery.add_class(class, Vec::new());
///     gallery.add(class, &embedding)?;
/// }
/// let is_green = |class: &Class| class.label.starts_with("green");
/// let question = Question { classes: Some(&is_green), ..Question::best(3) };
/// let found = gallery.search_with(&[1.0, 0.0], &question)?;
/// assert_eq!(found.len(), 1);
/// assert_eq!(gallery.classes()[found[0].class].label, "green tea");
///
/// let by_vote = Question { rule: AnswerRule::Vote { neighbors: 3 }, ..Question::best(1) };
/// assert_eq!(gallery.search_with(&[1.0, 0.0], &by_vote)?[0].class, 0);
/// # Ok::<(), gallery::GalleryError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// Classes that are returned at most.
    pub k: usize,
    /// Which class is the answer.
    pub rule: AnswerRule,
    /// Only classes for which it is true.
    pub classes: Option<&'a (dyn Fn(&Class) -> bool + Sync)>,
    /// See [`Search::ef_search`].
    pub ef_search: Option<usize>,
}

impl Question<'_> {
    /// The `k` best classes by their nearest entries.
    pub fn best(k: usize) -> Self {
        Self { k, rule: AnswerRule::Nearest, classes: None, ef_search: None }
    }
}

impl AdaptationMap {
    /// A query as it is compared with the entries of a gallery that has this map, of unit length.
    ///
    /// # Shapes
    ///
    /// - `embedding`: `[dim]`
    /// - output: `[values]`
    ///
    /// # Errors
    ///
    /// [`GalleryError::Dimension`], [`GalleryError::NotFinite`], [`GalleryError::ZeroLength`] where nothing is left of it.
    pub fn query(&self, embedding: &[f32]) -> Result<Vec<f32>, GalleryError> {
        self.apply(&unit(embedding, self.dim())?).ok_or(GalleryError::ZeroLength)
    }
}

impl Gallery {
    /// The `k` most similar classes, best first, each with its nearest entry.
    ///
    /// # Errors
    ///
    /// [`GalleryError::Dimension`] or [`GalleryError::NotFinite`] for a query that is no embedding
    /// of this gallery.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<Match>, GalleryError> {
        self.search_with(query, &Question::best(k))
    }

    /// The best classes by some rule, best first.
    ///
    /// # Shapes
    ///
    /// - `query`: `[dim]`
    ///
    /// # Errors
    ///
    /// As [`Self::search`].
    pub fn search_with(
        &self,
        query: &[f32],
        question: &Question<'_>,
    ) -> Result<Vec<Match>, GalleryError> {
        Ok(self.answer(query, question)?.matches)
    }

    /// The best classes by some rule with the lead of the first, and how sure that one is. Lead and probability are
    /// the same however many classes are asked for.
    ///
    /// # Shapes
    ///
    /// - `query`: `[dim]`
    ///
    /// # Errors
    ///
    /// As [`Self::search`].
    pub fn answer(&self, query: &[f32], question: &Question<'_>) -> Result<Answer, GalleryError> {
        let query = self.mapped(unit(query, self.dim())?)?;
        // The second class decides, too.
        let wider = Question { k: question.k.max(2), ..*question };
        let mut matches = match question.rule {
            AnswerRule::Nearest => self.nearest(&query, &wider)?,
            AnswerRule::Vote { neighbors } => self.vote(&query, neighbors.max(1), &wider)?,
            AnswerRule::ClassMean => self.by_class_mean(&query, &wider)?,
        };
        let Some(Match { class, similarity }) = matches.first().copied() else {
            return Ok(Answer::default());
        };
        let others = matches.iter().filter(|other| other.class != class);
        let second = others.map(|other| other.similarity).reduce(f32::max).unwrap_or(0.0);
        let asked = Asked { class, similarity, second };
        let fits = question.classes.is_none() && self.measured_rule() == Some(question.rule);
        let calibration = self.calibration().filter(|_| fits);
        matches.truncate(question.k);
        Ok(Answer {
            matches,
            lead: asked.lead(),
            probability: calibration.and_then(|calibration| calibration.probability(&asked)),
            least_similarity: calibration.map(|calibration| calibration.least_similarity(&asked)),
            known: calibration.map(|calibration| calibration.is_known(&asked)),
        })
    }

    /// Whether the best class of an answer is believed. A class's own threshold comes first; then what the gallery
    /// learned of lead and similarity, as long as `least` is the gallery's own threshold; else `least` alone.
    pub fn is_known(&self, answer: &Answer, least: f32) -> bool {
        let Some(best) = answer.best() else { return false };
        let own = self.classes.get(best.class).and_then(|class| class.min_similarity);
        match (own, answer.known) {
            (Some(own), _) => best.similarity >= own,
            (None, Some(known)) if self.min_similarity == Some(least) => known,
            (None, _) => best.similarity >= least,
        }
    }

    /// The similarity from which on the best class of an answer would be believed, as [`Self::is_known`] decides.
    pub fn least_similarity(&self, answer: &Answer, least: f32) -> f32 {
        let own = answer.best().and_then(|best| self.classes.get(best.class)?.min_similarity);
        let learned = answer.least_similarity.filter(|_| self.min_similarity == Some(least));
        own.or(learned).unwrap_or(least)
    }

    /// Which classes are asked for; `None`: all.
    fn admitted(&self, question: &Question<'_>) -> Option<Vec<bool>> {
        let admits = question.classes?;
        Some(self.classes.iter().map(admits).collect())
    }

    fn nearest(&self, query: &[f32], question: &Question<'_>) -> Result<Vec<Match>, GalleryError> {
        let k = question.k;
        let admitted = self.admitted(question);
        let of_class = |entry: usize| admitted.as_ref().is_none_or(|a| a[self.entry_class(entry)]);
        // A class may fill the best places with many entries, so widen until k classes are seen.
        let mut width = k.saturating_mul(4).max(16);
        loop {
            let mut search = Search { ef_search: question.ef_search, ..Search::best(width) };
            if admitted.is_some() {
                search.filter = Some(&of_class);
            }
            let hits = self.index.search(query, &search)?;
            let mut matches: Vec<Match> = Vec::with_capacity(k.min(self.classes.len()));
            for hit in &hits {
                let class = self.entry_class(hit.entry);
                if matches.len() < k && matches.iter().all(|m| m.class != class) {
                    matches.push(Match { class, similarity: hit.similarity });
                }
            }
            if matches.len() == k || hits.len() < width || width >= self.index.len() {
                return Ok(matches);
            }
            width = width.saturating_mul(4);
        }
    }

    /// All classes that vote and the nearest ones, the elected first.
    fn vote(
        &self,
        query: &[f32],
        neighbors: usize,
        question: &Question<'_>,
    ) -> Result<Vec<Match>, GalleryError> {
        // The nearest entry of each class, then the votes reorder.
        let mut matches = self.nearest(query, question)?;
        let admitted = self.admitted(question);
        let of_class = |entry: usize| admitted.as_ref().is_none_or(|a| a[self.entry_class(entry)]);
        let mut search = Search { ef_search: question.ef_search, ..Search::best(neighbors) };
        if admitted.is_some() {
            search.filter = Some(&of_class);
        }
        let mut votes: BTreeMap<usize, (f32, f32)> = BTreeMap::new();
        for hit in self.index.search(query, &search)? {
            let class = self.entry_class(hit.entry);
            let (sum, _) = votes.entry(class).or_insert((0.0, hit.similarity));
            *sum += hit.similarity.max(0.0);
        }
        for (class, (_, similarity)) in &votes {
            if matches.iter().all(|m| m.class != *class) {
                matches.push(Match { class: *class, similarity: *similarity });
            }
        }
        // The picture of an entry is its class's, however many others stand around it.
        let voted = |m: &Match| match votes.get(&m.class) {
            _ if m.similarity >= SAME => f32::INFINITY,
            Some((sum, _)) => *sum,
            None => 0.0,
        };
        matches.sort_by(|a, b| {
            let by_vote = voted(b).total_cmp(&voted(a));
            by_vote.then(b.similarity.total_cmp(&a.similarity)).then(a.class.cmp(&b.class))
        });
        Ok(matches)
    }

    fn by_class_mean(
        &self,
        query: &[f32],
        question: &Question<'_>,
    ) -> Result<Vec<Match>, GalleryError> {
        let admitted = self.admitted(question);
        let wanted = |class: usize| admitted.as_ref().is_none_or(|admitted| admitted[class]);
        let mut search = Search::best(question.k);
        if admitted.is_some() {
            search.filter = Some(&wanted);
        }
        let hits = self.class_means().search(query, &search)?;
        let found = |hit: crate::index::Hit| Match { class: hit.entry, similarity: hit.similarity };
        Ok(hits.into_iter().map(found).collect())
    }

    /// The mean embedding of every class, of unit length. One without entries, or whose entries cancel each
    /// other out, has none: zeros that are taken out of the index.
    pub fn class_means(&self) -> &VectorIndex {
        self.class_means.get_or_init(|| self.compute_means())
    }

    fn compute_means(&self) -> VectorIndex {
        let dim = self.index.dim();
        let mut sums = vec![0.0_f32; self.classes.len() * dim];
        for entry in self.entries() {
            let sum = &mut sums[self.entry_class(entry) * dim..][..dim];
            sum.iter_mut().zip(&*self.index.vector(entry)).for_each(|(s, v)| *s += v);
        }
        let mut means = VectorIndex::new(dim, Metric::InnerProduct, VectorType::F32);
        for ((class, count), sum) in self.counts().into_iter().enumerate().zip(sums.chunks(dim)) {
            let most = sum.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
            let mean = Some(sum).filter(|_| most > CANCELLED * count as f32);
            let mean = mean.and_then(|sum| unit(sum, dim).ok());
            let there = mean.is_some();
            means.add(&mean.unwrap_or_else(|| vec![0.0; dim])).expect("of the gallery's width");
            if !there {
                means.remove(class).expect("added just now");
            }
        }
        means
    }
}
