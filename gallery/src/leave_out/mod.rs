//! A gallery asked about its own entries: each as if its picture were not there, which is a known thing, and as if
//! its class were not there, which is an unknown one.
//!
//! Photographs of a class come in series, each like the next, which is more alike than what will be asked later.
//! So a class of eight entries or more is asked by halves, in the order in which they came: with a picture its
//! half is left out, too.
//!
//! All answers come from one pass over the entries for each picture that is asked. Products are summed in one
//! order on every machine, so that the same gallery learns the same thresholds everywhere.

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

/// Rules that are tried, the plainest first.
pub const RULES: [AnswerRule; 3] =
    [AnswerRule::Nearest, AnswerRule::ClassMean, AnswerRule::Vote { neighbors: 5 }];

/// Products of values that are computed at most: half a minute of one thread.
const MOST_PRODUCTS: u64 = 100_000_000_000;
/// Pictures that are asked even where these are more.
const LEAST_QUERIES: usize = 200;
/// Pictures that are asked at most: an interval of a share is below a point then.
const MOST_QUERIES: usize = 10_000;
/// Entries of a class from which on it is asked by halves.
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

impl Gallery {
    /// What the gallery's entries say of answer rule, test and threshold, so that at most a share of unknown
    /// things is named: of `rules` the first, unless another one names more known things rightly by more than
    /// chance. `None` without an answer. See [`Self::leave_one_out`] for what is asked.
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
        let mut first: Option<Vec<bool>> = None;
        let mut best: Option<LearnedBy> = None;
        for (rule, trials) in rules.iter().zip(self.leave_one_out(rules)?) {
            let Some(fitted) = fit(&trials, Source::Gallery, false_accept, test) else { continue };
            let count = |right: &[bool]| right.iter().filter(|right| **right).count();
            let first = first.get_or_insert_with(|| fitted.right.clone());
            let is_best = best.as_ref().is_none_or(|best| {
                count(&fitted.right) > count(&best.fitted.right) && is_better(&fitted.right, first)
            });
            if is_best {
                best = Some(LearnedBy { rule: *rule, trials, fitted });
            }
        }
        Ok(best)
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
    /// a class of eight entries or more so does the half of the class that it came with.
    ///
    /// # Errors
    ///
    /// [`GalleryError::ZeroEntry`] for an entry without a direction.
    pub fn leave_one_out(&self, rules: &[AnswerRule]) -> Result<Vec<Vec<Trial>>, GalleryError> {
        self.check_entries()?;
        let entries: Vec<usize> = self.entries().collect();
        let products = (entries.len() as u64).saturating_mul(self.index().dim() as u64).max(1);
        let most =
            (MOST_PRODUCTS / products).clamp(LEAST_QUERIES as u64, MOST_QUERIES as u64) as usize;
        let count = most.min(entries.len());
        let asked: Vec<usize> = (0..count).map(|place| place * entries.len() / count).collect();
        let around = Around::of(self, entries);
        let blocks: Vec<Range<usize>> = (0..count.div_ceil(BLOCK))
            .map(|block| block * BLOCK..((block + 1) * BLOCK).min(count))
            .collect();
        let answered = |block: Range<usize>| around.ask(&asked[block], rules);
        #[cfg(feature = "parallel")]
        let answered: Vec<_> = blocks.into_par_iter().map(answered).collect();
        #[cfg(not(feature = "parallel"))]
        let answered: Vec<_> = blocks.into_iter().map(answered).collect();
        let mut trials = vec![Vec::with_capacity(count); rules.len()];
        for of_picture in answered.into_iter().flatten() {
            trials.iter_mut().zip(of_picture).for_each(|(all, trial)| all.push(trial));
        }
        Ok(trials)
    }
}

/// A gallery's entries, with what does not depend on what is asked.
struct Around<'a> {
    gallery: &'a Gallery,
    entries: Vec<usize>,
    pictures: Vec<ContentId>,
    /// Which part of its class each one came with.
    series: Vec<usize>,
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
    fn of(gallery: &'a Gallery, entries: Vec<usize>) -> Self {
        let dim = gallery.index().dim();
        let mut sums = vec![0.0_f64; gallery.classes().len() * dim];
        for entry in &entries {
            let sum = &mut sums[gallery.entry_class(*entry) * dim..][..dim];
            let vector = gallery.index().vector(*entry);
            sum.iter_mut().zip(&*vector).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        let pictures = entries.iter().map(|entry| gallery.identity(*entry)).collect();
        let (counts, mut met) = (gallery.counts(), vec![0; gallery.classes().len()]);
        let series = (entries.iter())
            .map(|entry| {
                let class = gallery.entry_class(*entry);
                met[class] += 1;
                let (place, count) = (met[class] - 1, counts[class]);
                if count < SERIES_FROM { place } else { place * 2 / count }
            })
            .collect();
        Self { gallery, entries, pictures, series, sums }
    }

    fn class(&self, place: usize) -> usize {
        self.gallery.entry_class(self.entries[place])
    }

    /// Trials of some entries, of each by every rule.
    fn ask(&self, asked: &[usize], rules: &[AnswerRule]) -> Vec<Vec<Trial>> {
        let dim = self.gallery.index().dim();
        let queries: Vec<Vec<f32>> = (asked.iter())
            .map(|place| {
                let vector = self.gallery.index().vector(self.entries[*place]);
                // Every entry has a direction.
                unit(&vector, dim).unwrap_or_else(|_| vector.into_owned())
            })
            .collect();
        let mut similarities = vec![vec![0.0_f32; self.entries.len()]; asked.len()];
        for (place, entry) in self.entries.iter().enumerate() {
            let vector = self.gallery.index().vector(*entry);
            for (query, row) in queries.iter().zip(&mut similarities) {
                row[place] = product(query, &vector);
            }
        }
        let trials = |(place, row): (&usize, &Vec<f32>)| self.trials(*place, row, rules);
        asked.iter().zip(&similarities).map(trials).collect()
    }

    /// The trials of one entry, from its similarities to all.
    fn trials(&self, asked: usize, row: &[f32], rules: &[AnswerRule]) -> Vec<Trial> {
        let (picture, class, series) =
            (self.pictures[asked], self.class(asked), self.series[asked]);
        let is_own = |place: &usize| {
            self.pictures[*place] == picture
                || self.series[*place] == series && self.class(*place) == class
        };
        let own: Vec<usize> = (0..row.len()).filter(is_own).collect();
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

    /// The means without the entries of the picture that is asked.
    fn by_class_mean(&self, near: &[Near], own: &[usize]) -> Option<Asked> {
        let dim = self.gallery.index().dim();
        let mean = |class: usize| {
            let mut sum = self.sums[class * dim..][..dim].to_vec();
            for place in own.iter().filter(|place| self.class(**place) == class) {
                let vector = self.gallery.index().vector(self.entries[*place]);
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
mod tests {
    use super::*;
    use crate::answer::Question;
    use crate::class::Class;
    use crate::index::VectorType;
    use proptest::prelude::*;

    const DIM: usize = 19;

    fn noise(seed: usize) -> f32 {
        let x = (seed as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let x = (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((x >> 40) as f32) / (1_u64 << 24) as f32 - 0.5
    }

    /// Classes of several pictures around a middle of their own.
    fn world(classes: usize, each: usize, spread: f32, seed: usize) -> Gallery {
        let mut gallery = Gallery::with_type(DIM, "m", VectorType::F32);
        for class in 0..classes {
            let label = format!("{class}");
            gallery.add_class(Class { label, ..Class::default() }, Vec::new());
        }
        for entry in 0..classes * each {
            let class = entry % classes;
            let embedding: Vec<f32> = (0..DIM)
                .map(|i| {
                    noise(seed + class * 1009 + i) + spread * noise(seed + 7 + entry * 31 + i * 17)
                })
                .collect();
            gallery.add_image(class, &embedding, ContentId::of(&entry.to_le_bytes())).unwrap();
        }
        gallery
    }

    /// The same by taking entries out and asking what is left.
    fn plain(gallery: &Gallery, rule: AnswerRule) -> Vec<Trial> {
        let question = Question { rule, ..Question::best(3) };
        let asked = |gallery: &Gallery, query: &[f32]| {
            let answer = gallery.answer(query, &question).unwrap();
            let best = answer.best()?;
            let second = best.similarity - answer.lead;
            Some(Asked { class: best.class, similarity: best.similarity, second })
        };
        (gallery.entries())
            .map(|entry| {
                let query = gallery.index().vector(entry).into_owned();
                let class = gallery.entry_class(entry);
                let picture = gallery.identity(entry);
                let halves = |entry: usize| {
                    let of: Vec<usize> =
                        gallery.entries().filter(|e| gallery.entry_class(*e) == class).collect();
                    let place = of.iter().position(|e| *e == entry);
                    place.map(|place| if of.len() < 8 { place } else { place * 2 / of.len() })
                };
                let with_it =
                    |e: &usize| gallery.identity(*e) == picture || halves(*e) == halves(entry);
                let of_picture: Vec<usize> = gallery.entries().filter(with_it).collect();
                let mut others = gallery.clone();
                others.remove_entries(&of_picture).unwrap();
                let known = (others.counts()[class] > 0).then(|| asked(&others, &query)).flatten();
                let of_class: Vec<usize> =
                    others.entries().filter(|e| others.entry_class(*e) == class).collect();
                others.remove_entries(&of_class).unwrap();
                Trial {
                    known: known.map(|asked| (asked, asked.class == class)),
                    stranger: asked(&others, &query),
                }
            })
            .collect()
    }

    fn same(fast: &Asked, plain: &Asked) -> bool {
        fast.class == plain.class
            && (fast.similarity - plain.similarity).abs() < 1e-5
            && (fast.second - plain.second).abs() < 1e-5
    }

    fn check(gallery: &Gallery) {
        let rules = [RULES[0], RULES[1], RULES[2], AnswerRule::Vote { neighbors: 2 }];
        for (rule, trials) in rules.into_iter().zip(gallery.leave_one_out(&rules).unwrap()) {
            let expected = plain(gallery, rule);
            assert_eq!(trials.len(), expected.len());
            for (place, (fast, plain)) in trials.iter().zip(&expected).enumerate() {
                let known = match (&fast.known, &plain.known) {
                    (Some((a, right)), Some((b, expected))) => same(a, b) && right == expected,
                    (a, b) => a.is_none() && b.is_none(),
                };
                let stranger = match (&fast.stranger, &plain.stranger) {
                    (Some(a), Some(b)) => same(a, b),
                    (a, b) => a.is_none() && b.is_none(),
                };
                assert!(known && stranger, "{rule:?}, {place}: {fast:?} is not {plain:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn leaving_one_out_is_what_taking_it_out_and_asking_gives(
            classes in 1_usize..6, each in 1_usize..6, spread in 0.2_f32..3.0, seed in 0_usize..1000,
        ) {
            check(&world(classes, each, spread, seed));
        }
    }

    #[test]
    fn a_picture_in_two_classes_is_left_out_of_both() {
        let mut gallery = world(3, 4, 1.0, 5);
        let again = gallery.index().vector(4).into_owned();
        gallery.add_image(2, &again, gallery.content_id(4)).unwrap();
        let gone = gallery.entries().nth(7).unwrap();
        gallery.set_index(crate::index::IndexConfig::hnsw()).unwrap();
        gallery.remove(gone).unwrap();
        check(&gallery);
        let of = |gallery: &Gallery, place: usize| gallery.leave_one_out(&RULES).unwrap()[0][place];
        assert!(of(&gallery, 4).known.unwrap().0.similarity < SAME);
    }

    #[test]
    fn a_class_of_many_is_asked_by_halves() {
        let gallery = world(2, 9, 1.5, 3);
        check(&gallery);
        // A series of copies is no answer to itself: the other half is.
        let mut series = Gallery::with_type(DIM, "m", VectorType::F32);
        for label in ["a", "b"] {
            let class =
                series.add_class(Class { label: label.to_owned(), ..Class::default() }, Vec::new());
            for entry in 0..8_usize {
                let place = class * 2 + entry / 4;
                let embedding: Vec<f32> = (0..DIM).map(|i| noise(place * 101 + i)).collect();
                let id = ContentId::of(&[class as u8, entry as u8]);
                series.add_image(class, &embedding, id).unwrap();
            }
        }
        check(&series);
        let trials = series.leave_one_out(&RULES[..1]).unwrap().remove(0);
        assert!(trials.iter().all(|trial| trial.known.unwrap().0.similarity < 0.9));
    }

    #[test]
    fn a_large_gallery_is_asked_at_even_steps() {
        let gallery = world(3, 4, 1.0, 5);
        let all = gallery.leave_one_out(&RULES[..1]).unwrap().remove(0);
        assert_eq!(all.len(), 12);
        let bytes = |gallery: &Gallery| {
            let learned = gallery.calibrate_itself(&RULES, 0.05, None).unwrap().unwrap();
            let mut gallery = gallery.clone();
            let LearnedBy { rule, fitted, .. } = learned;
            gallery.keep_learned(rule, fitted.min_similarity, fitted.calibration).unwrap();
            gallery.to_bytes()
        };
        assert!(bytes(&gallery) == bytes(&gallery.clone()));
    }

    #[test]
    fn a_rule_is_taken_where_it_helps_by_more_than_chance() {
        // Many noisy pictures a class: their mean is what they share.
        let noisy = world(6, 30, 3.0, 11);
        let learned = noisy.calibrate_itself(&RULES, 0.05, None).unwrap().unwrap();
        assert_eq!(learned.rule, AnswerRule::ClassMean);
        assert_eq!(learned.trials.len(), 180);
        // One picture a class says nothing about known things.
        let single = world(6, 1, 1.0, 11);
        let learned = single.calibrate_itself(&RULES, 0.05, None).unwrap().unwrap();
        assert!(learned.trials.iter().all(|trial| trial.known.is_none()));
        assert_eq!((learned.rule, learned.fitted.held.len()), (AnswerRule::Nearest, 0));
        assert_eq!(Gallery::new(4, "m").calibrate_itself(&RULES, 0.05, None), Ok(None));
    }
}
