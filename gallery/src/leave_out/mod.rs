//! A gallery asked about its own entries: each as if its picture were not there, which is a known thing, and as if
//! its class were not there, which is an unknown one.
//!
//! Photographs of a class come in series, each like the next, which is more alike than what will be asked later.
//! So a class of eight pictures or more is asked by halves, in the order in which they came: with a picture its
//! half is left out, too. In a class of six or seven the picture that is most similar to it is left out. In smaller
//! ones what a picture less costs outweighs that.
//!
//! The map of an adapted gallery was learned from the entries that are asked. So these are asked in folds, each
//! behind a map of the same kind and strength that saw neither their pictures (known things) nor their classes
//! (unknown things).
//!
//! All answers come from one pass over the entries for each picture that is asked. Products are summed in one
//! order on every machine, so that the same gallery learns the same thresholds everywhere.

mod behind;
mod folds;

use std::collections::HashMap;
use std::ops::Range;

#[cfg(feature = "parallel")]
use rayon::prelude::*;

use crate::answer::{CANCELLED, SAME};
use crate::answer_rule::AnswerRule;
use crate::calibration::{Asked, Calibration, Fitted, Source, Test, Trial, fit, is_better};
use crate::class::ContentId;
use crate::embedding::unit;
use crate::error::GalleryError;
use crate::gallery::Gallery;

use behind::Compared;
pub use folds::{FoldPart, Folds};

/// Rules that are tried, the plainest first.
pub const RULES: [AnswerRule; 3] =
    [AnswerRule::Nearest, AnswerRule::ClassMean, AnswerRule::Vote { neighbors: 5 }];

/// Products of values that are computed at most: half a minute of one thread.
const MOST_PRODUCTS: u64 = 100_000_000_000;
/// Pictures that are asked even where these are more.
const LEAST_QUERIES: usize = 200;
/// Pictures that are asked at most: an interval of a share is below a point then.
const MOST_QUERIES: usize = 10_000;
/// Pictures of a class from which on a picture is asked without the one that is most similar to it.
const NEXT_FROM: usize = 6;
/// Pictures of a class from which on it is asked by halves.
const SERIES_FROM: usize = 8;
/// Pictures that are asked together.
const BLOCK: usize = 16;
/// Sums of a product that go side by side.
const LANES: usize = 16;

/// What a gallery learned from its own entries.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnedBy {
    /// The rule that names most known things rightly.
    pub rule: AnswerRule,
    /// Every picture that was asked, by this rule.
    pub trials: Vec<Trial>,
    /// The test, the threshold and the probabilities.
    pub fitted: Fitted,
}

impl LearnedBy {
    /// What trials of each of some rules say, as [`Gallery::calibrate_itself`] chooses.
    pub fn of(
        rules: &[AnswerRule],
        trials: &[Vec<Trial>],
        false_accept: f64,
        test: Option<Test>,
    ) -> Option<Self> {
        let mut first: Option<Vec<bool>> = None;
        let mut best: Option<Self> = None;
        for (rule, trials) in rules.iter().zip(trials) {
            let Some(fitted) = fit(trials, Source::Gallery, false_accept, test) else { continue };
            let count = |right: &[bool]| right.iter().filter(|right| **right).count();
            let first = first.get_or_insert_with(|| fitted.right.clone());
            let is_best = best.as_ref().is_none_or(|best| {
                count(&fitted.right) > count(&best.fitted.right) && is_better(&fitted.right, first)
            });
            if is_best {
                best = Some(Self { rule: *rule, trials: trials.clone(), fitted });
            }
        }
        best
    }
}

impl Gallery {
    /// Rules in the order in which they are tried: of an adapted gallery class means come first, the others stay as they
    /// are. Its map is the one behind which class means answer best, and no picture of the same visit answers for
    /// another one.
    pub fn rules_in_order(&self, rules: &[AnswerRule]) -> Vec<AnswerRule> {
        let mut rules = rules.to_vec();
        if self.map().is_some() {
            rules.sort_by_key(|rule| *rule != AnswerRule::ClassMean);
        }
        rules
    }

    /// What the gallery's entries say of answer rule, test and threshold, so that at most a share of unknown
    /// things is named: of `rules` the first [in order](Self::rules_in_order), unless another one names more known
    /// things rightly by more than chance. `None` without an answer. See [`Self::leave_one_out`] for what is asked.
    ///
    /// # Errors
    ///
    /// As [`Self::leave_one_out`].
    pub fn calibrate_itself(
        &self,
        rules: &[AnswerRule],
        false_accept: f64,
        test: Option<Test>,
    ) -> Result<Option<LearnedBy>, GalleryError> {
        let rules = self.rules_in_order(rules);
        Ok(LearnedBy::of(&rules, &self.leave_one_out(&rules)?, false_accept, test))
    }

    /// Keeps what was learned: least similarity, rule and calibration.
    ///
    /// # Errors
    ///
    /// [`GalleryError::NotFinite`]
    pub fn keep_learned(
        &mut self,
        rule: AnswerRule,
        least: f32,
        calibration: Calibration,
    ) -> Result<(), GalleryError> {
        self.set_min_similarity(Some(least))?;
        self.set_measured_rule(rule);
        self.set_calibration(Some(calibration));
        Ok(())
    }

    /// Asks entries as if their pictures were not in the gallery, and as if their classes were not, by some rules;
    /// trials of each rule, in the order of the entries. Of a large gallery entries at even steps are asked. What
    /// is of the same picture, or the same embedding where nobody knows the picture, counts as that picture, and in
    /// a class of eight pictures or more so does the half of the class that it came with, in one of six or seven the
    /// most similar other picture.
    ///
    /// # Errors
    ///
    /// [`GalleryError::ZeroEntry`] for an entry without a direction.
    pub fn leave_one_out(&self, rules: &[AnswerRule]) -> Result<Vec<Vec<Trial>>, GalleryError> {
        self.check_entries()?;
        self.leave_one_out_behind(Folds::of(self).as_ref(), rules)
    }

    /// [`Self::leave_one_out`] with the maps that are there already: [`Folds::of`] the gallery, or of one with the same
    /// pictures under other labels. Pictures that these do not know have no trial.
    ///
    /// # Errors
    ///
    /// As [`Self::leave_one_out`].
    pub fn leave_one_out_behind(
        &self,
        folds: Option<&Folds>,
        rules: &[AnswerRule],
    ) -> Result<Vec<Vec<Trial>>, GalleryError> {
        let (entries, asked) = (self.entries().collect::<Vec<_>>(), self.asked_places());
        let series = Series::of(self, &entries);
        if let Some(folds) = folds {
            return self.in_folds(folds, &entries, &series, &asked, rules);
        }
        let rows = Compared::Index(self.index());
        Ok(Around::of(self, rows, &entries, &series).ask_all(&asked, rules))
    }

    /// Positions of the entries that [`Self::leave_one_out`] asks, in the order of its trials.
    pub fn asked_entries(&self) -> Vec<usize> {
        let entries: Vec<usize> = self.entries().collect();
        self.asked_places().into_iter().map(|place| entries[place]).collect()
    }

    /// The same as places among all entries.
    fn asked_places(&self) -> Vec<usize> {
        let products = (self.len() as u64).saturating_mul(self.index().dim() as u64).max(1);
        let most =
            (MOST_PRODUCTS / products).clamp(LEAST_QUERIES as u64, MOST_QUERIES as u64) as usize;
        let count = most.min(self.len());
        (0..count).map(|place| place * self.len() / count).collect()
    }
}

/// Which pictures came together.
struct Series {
    /// Of every entry the picture that it shows.
    pictures: Vec<ContentId>,
    /// Of every entry the part of its class that it came with.
    parts: Vec<usize>,
    /// Pictures of every class.
    counts: Vec<usize>,
}

impl Series {
    fn of(gallery: &Gallery, entries: &[usize]) -> Self {
        let pictures: Vec<ContentId> =
            entries.iter().map(|entry| gallery.identity(*entry)).collect();
        // A picture may have several entries.
        let mut places: HashMap<(usize, ContentId), usize> = HashMap::new();
        let mut counts = vec![0; gallery.classes().len()];
        for (entry, picture) in entries.iter().zip(&pictures) {
            let class = gallery.entry_class(*entry);
            places.entry((class, *picture)).or_insert_with(|| {
                counts[class] += 1;
                counts[class] - 1
            });
        }
        let part = |(entry, picture): (&usize, &ContentId)| {
            let class = gallery.entry_class(*entry);
            let (place, count) = (places[&(class, *picture)], counts[class]);
            if count < SERIES_FROM { place } else { place * 2 / count }
        };
        let parts = entries.iter().zip(&pictures).map(part).collect();
        Self { pictures, parts, counts }
    }
}

/// A gallery's entries, with what does not depend on what is asked.
struct Around<'a> {
    gallery: &'a Gallery,
    rows: Compared<'a>,
    entries: &'a [usize],
    series: &'a Series,
    /// Of every class the sum of its embeddings.
    sums: Vec<f64>,
}

/// What the entries of a class are to a picture.
#[derive(Clone, Copy)]
struct Near {
    /// Similarity and place of the nearest entry.
    best: Option<(f32, usize)>,
    sum: f64,
    count: usize,
}

impl<'a> Around<'a> {
    fn of(
        gallery: &'a Gallery,
        rows: Compared<'a>,
        entries: &'a [usize],
        series: &'a Series,
    ) -> Self {
        let dim = rows.dim();
        let mut sums = vec![0.0_f64; gallery.classes().len() * dim];
        for entry in entries {
            let sum = &mut sums[gallery.entry_class(*entry) * dim..][..dim];
            let vector = rows.row(*entry);
            sum.iter_mut().zip(&*vector).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        Self { gallery, rows, entries, series, sums }
    }

    /// Trials of some entries by their places, of each rule.
    fn ask_all(&self, asked: &[usize], rules: &[AnswerRule]) -> Vec<Vec<Trial>> {
        let blocks: Vec<Range<usize>> = (0..asked.len().div_ceil(BLOCK))
            .map(|block| block * BLOCK..((block + 1) * BLOCK).min(asked.len()))
            .collect();
        let answered = |block: Range<usize>| self.ask(&asked[block], rules);
        #[cfg(feature = "parallel")]
        let answered: Vec<_> = blocks.into_par_iter().map(answered).collect();
        #[cfg(not(feature = "parallel"))]
        let answered: Vec<_> = blocks.into_iter().map(answered).collect();
        let mut trials = vec![Vec::with_capacity(asked.len()); rules.len()];
        for of_picture in answered.into_iter().flatten() {
            trials.iter_mut().zip(of_picture).for_each(|(all, trial)| all.push(trial));
        }
        trials
    }

    fn class(&self, place: usize) -> usize {
        self.gallery.entry_class(self.entries[place])
    }

    /// Trials of some entries, of each by every rule.
    fn ask(&self, asked: &[usize], rules: &[AnswerRule]) -> Vec<Vec<Trial>> {
        let dim = self.rows.dim();
        let queries: Vec<Vec<f32>> = (asked.iter())
            .map(|place| {
                let vector = self.rows.row(self.entries[*place]);
                // Every entry has a direction.
                unit(&vector, dim).unwrap_or_else(|_| vector.into_owned())
            })
            .collect();
        let mut similarities = vec![vec![0.0_f32; self.entries.len()]; asked.len()];
        for (place, entry) in self.entries.iter().enumerate() {
            let vector = self.rows.row(*entry);
            for (query, row) in queries.iter().zip(&mut similarities) {
                row[place] = product(query, &vector);
            }
        }
        let trials = |(place, row): (&usize, &Vec<f32>)| self.trials(*place, row, rules);
        asked.iter().zip(&similarities).map(trials).collect()
    }

    /// The trials of one entry, from its similarities to all.
    fn trials(&self, asked: usize, row: &[f32], rules: &[AnswerRule]) -> Vec<Trial> {
        let Series { pictures, parts, .. } = self.series;
        let (picture, class, part) = (pictures[asked], self.class(asked), parts[asked]);
        let is_own = |place: &usize| {
            pictures[*place] == picture || parts[*place] == part && self.class(*place) == class
        };
        let mut own: Vec<usize> = (0..row.len()).filter(is_own).collect();
        self.leave_out_next(asked, row, &mut own);
        let none = Near { best: None, sum: 0.0, count: 0 };
        let mut near = vec![none; self.gallery.classes().len()];
        let mut own_places = own.iter().copied().peekable();
        for (place, similarity) in row.iter().copied().enumerate() {
            if own_places.next_if_eq(&place).is_some() {
                continue;
            }
            let class = &mut near[self.class(place)];
            class.sum += f64::from(similarity);
            class.count += 1;
            if class.best.is_none_or(|(best, _)| best < similarity) {
                class.best = Some((similarity, place));
            }
        }
        let is_known = near[class].count > 0;
        let mut without = near.clone();
        without[class] = none;
        let trial = |rule: &AnswerRule| {
            let answer = |near: &[Near], left_out: Option<usize>| match rule {
                AnswerRule::Nearest => by_nearest(near),
                AnswerRule::ClassMean => self.by_class_mean(near, &own),
                AnswerRule::Vote { neighbors } => {
                    let is_there = |place: &usize| {
                        own.binary_search(place).is_err()
                            && left_out.is_none_or(|class| self.class(*place) != class)
                    };
                    self.by_vote(near, row, *neighbors, &is_there)
                }
            };
            let known = if is_known { answer(&near, None) } else { None };
            Trial {
                known: known.map(|asked| (asked, asked.class == class)),
                stranger: answer(&without, Some(class)),
            }
        };
        rules.iter().map(trial).collect()
    }

    /// Adds the entries of the picture of its class that is most similar to an asked one, where a class has as many
    /// pictures as that asks for.
    fn leave_out_next(&self, asked: usize, row: &[f32], own: &mut Vec<usize>) {
        let Series { pictures, counts, .. } = self.series;
        let class = self.class(asked);
        if !(NEXT_FROM..SERIES_FROM).contains(&counts[class]) {
            return;
        }
        let is_other = |place: &usize| self.class(*place) == class && !own.contains(place);
        let others: Vec<usize> = (0..row.len()).filter(is_other).collect();
        // Of equal ones the first.
        let nearest = others.iter().copied().reduce(|a, b| if row[b] > row[a] { b } else { a });
        if let Some(picture) = nearest.map(|place| pictures[place]) {
            own.extend(others.into_iter().filter(|place| pictures[*place] == picture));
            own.sort_unstable();
        }
    }

    /// The means without the entries of the picture that is asked.
    fn by_class_mean(&self, near: &[Near], own: &[usize]) -> Option<Asked> {
        let dim = self.rows.dim();
        let mean = |class: usize| {
            let mut sum = self.sums[class * dim..][..dim].to_vec();
            for place in own.iter().filter(|place| self.class(**place) == class) {
                let vector = self.rows.row(self.entries[*place]);
                sum.iter_mut().zip(&*vector).for_each(|(sum, value)| *sum -= f64::from(*value));
            }
            let most = sum.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
            let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
            (most > f64::from(CANCELLED) * near[class].count as f64).then_some(length)
        };
        best_two(near.iter().enumerate().filter_map(|(class, near)| {
            if near.count == 0 {
                return None;
            }
            Some((class, (near.sum / mean(class)?) as f32, class))
        }))
    }

    fn by_vote(
        &self,
        near: &[Near],
        row: &[f32],
        neighbors: usize,
        is_there: &dyn Fn(&usize) -> bool,
    ) -> Option<Asked> {
        let order = |a: &usize, b: &usize| row[*b].total_cmp(&row[*a]).then(a.cmp(b));
        let mut places: Vec<usize> = (0..row.len()).filter(is_there).collect();
        let neighbors = neighbors.max(1).min(places.len());
        if neighbors < places.len() {
            places.select_nth_unstable_by(neighbors, order);
            places.truncate(neighbors);
        }
        places.sort_by(order);
        let mut votes: Vec<(usize, f32)> = Vec::new();
        for place in places {
            let (class, vote) = (self.class(place), row[place].max(0.0));
            match votes.iter_mut().find(|(of, _)| *of == class) {
                Some((_, sum)) => *sum += vote,
                None => votes.push((class, vote)),
            }
        }
        let nearest = by_nearest(near)?;
        let similarity = |class: usize| near[class].best.map_or(0.0, |(best, _)| best);
        let voted = |class: usize, votes: f32| {
            if similarity(class) >= SAME { f32::INFINITY } else { votes }
        };
        let (class, _) = votes.into_iter().map(|(class, sum)| (class, voted(class, sum))).reduce(
            |best, other| {
                let order = (best.1.total_cmp(&other.1))
                    .then(similarity(best.0).total_cmp(&similarity(other.0)))
                    .then(other.0.cmp(&best.0));
                if order.is_lt() { other } else { best }
            },
        )?;
        let second =
            if class == nearest.class { nearest.second } else { similarity(nearest.class) };
        Some(Asked { class, similarity: similarity(class), second })
    }
}

/// Places the nearest entry of each class: of equal ones the first.
fn by_nearest(near: &[Near]) -> Option<Asked> {
    best_two(near.iter().enumerate().filter_map(|(class, near)| {
        let (similarity, place) = near.best?;
        Some((class, similarity, place))
    }))
}

/// The best class and the similarity of the second, from classes with a similarity and what decides between equal
/// ones: the lower.
fn best_two(classes: impl Iterator<Item = (usize, f32, usize)>) -> Option<Asked> {
    let mut best: Option<(usize, f32, usize)> = None;
    let mut second: Option<f32> = None;
    for (class, similarity, order) in classes {
        match best {
            Some((_, most, first)) if similarity < most || similarity == most && order > first => {
                second = Some(second.map_or(similarity, |second| second.max(similarity)));
            }
            _ => {
                second = best.map(|(_, most, _)| most).or(second);
                best = Some((class, similarity, order));
            }
        }
    }
    let (class, similarity, _) = best?;
    Some(Asked { class, similarity, second: second.unwrap_or(0.0) })
}

/// The inner product, summed in one order on every machine.
fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a.zip(b) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests;
