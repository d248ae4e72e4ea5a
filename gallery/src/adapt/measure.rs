//! Recall@1 of pictures and of classes that were left out.
//!
//! Photographs of a class come in series, each like the next, which is more alike than what will be asked later. So
//! a picture is asked without the third of its class that is most similar to it.

use super::learn::Space;
use super::sample::Sample;
use crate::matrix::{View, multiply};

/// Of the other pictures of a class, one of so many counts as of the same series: the most similar ones.
const SERIES_SHARE: usize = 3;

/// Recall@1 by nearest entry before and after a map, of pictures that it was not learned from.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LeftOut {
    /// Pictures asked.
    pub pictures: usize,
    /// Of these, answered rightly without a map.
    pub before: usize,
    /// Answered rightly with it.
    pub after: usize,
    /// Standard error of the difference of both shares.
    pub standard_error: f64,
}

impl LeftOut {
    pub(super) fn between(before: &Trial, after: &Trial) -> Self {
        let both: Vec<(bool, bool)> = (before.right.iter())
            .zip(&after.right)
            .filter_map(|(b, a)| Some(((*b)?, (*a)?)))
            .collect();
        let count = |of: fn(&(bool, bool)) -> bool| both.iter().filter(|pair| of(pair)).count();
        let (pictures, gained, lost) =
            (both.len(), count(|(b, a)| !*b && *a), count(|(b, a)| *b && !*a));
        let of = pictures.max(1) as f64;
        let difference = (gained as f64 - lost as f64) / of;
        let variance = (gained + lost) as f64 / of - difference * difference;
        Self {
            pictures,
            before: count(|(b, _)| *b),
            after: count(|(_, a)| *a),
            standard_error: (variance.max(0.0) / of).sqrt(),
        }
    }

    /// Recall@1 without and with the map, `0..=1`.
    pub fn shares(&self) -> [f64; 2] {
        [self.before, self.after].map(|right| right as f64 / self.pictures.max(1) as f64)
    }

    /// How much recall@1 rises, `−1..=1`.
    pub fn gain(&self) -> f64 {
        let [before, after] = self.shares();
        after - before
    }

    /// Whether it rises by more than two standard errors.
    pub fn helps(&self) -> bool {
        self.gain() > 2.0 * self.standard_error
    }

    /// Whether it falls by more than two standard errors.
    pub fn harms(&self) -> bool {
        self.gain() < -2.0 * self.standard_error
    }
}

/// Answers to the pictures that are asked: right, wrong, or not asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Trial {
    right: Vec<Option<bool>>,
}

impl Trial {
    /// Without a map: pictures left out, then classes left out.
    pub(super) fn before(sample: &Sample) -> [Self; 2] {
        let (dim, mean) = (sample.dim, sample.mean());
        let rows: Vec<f32> = (sample.asked.iter())
            .flat_map(|entry| {
                let row = &sample.values()[entry * dim..(entry + 1) * dim];
                row.iter().zip(mean).map(|(v, mean)| v + mean)
            })
            .collect();
        let products = cosines(rows, dim);
        let [mut pictures, mut classes] = [Self::default(), Self::default()];
        pictures.take(sample, &products, &|_| true, false);
        (0..2).for_each(|half| {
            classes.take(sample, &products, &|entry| sample.class(entry) % 2 == half, true);
        });
        [pictures, classes]
    }

    /// Asks some pictures behind a map, all others or those of the same halves of classes being there.
    pub(super) fn ask(
        &mut self,
        sample: &Sample,
        space: &Space,
        rows: &[f32],
        of: &dyn Fn(usize) -> bool,
        halves: bool,
    ) {
        let width = space.width;
        let there = (sample.asked.iter()).filter(|entry| !halves || of(**entry));
        let there: Vec<f32> = there
            .flat_map(|entry| {
                space.rows(sample)[entry * width..(entry + 1) * width].iter().copied()
            })
            .collect();
        let mapped = multiply(View::of(&there, width), View::of(rows, width).transposed());
        let products = cosines(mapped, rows.len() / width);
        self.take_of(sample, &products, of, halves);
    }

    fn take(
        &mut self,
        sample: &Sample,
        products: &[f32],
        of: &dyn Fn(usize) -> bool,
        halves: bool,
    ) {
        let asked = &sample.asked;
        let places: Vec<usize> =
            (0..asked.len()).filter(|place| !halves || of(asked[*place])).collect();
        let some: Vec<f32> = (places.iter())
            .flat_map(|place| places.iter().map(move |other| products[place * asked.len() + other]))
            .collect();
        self.take_of(sample, &some, of, halves);
    }

    /// Takes answers from cosines between all that are asked, or those of one half of the classes.
    fn take_of(
        &mut self,
        sample: &Sample,
        cosines: &[f32],
        of: &dyn Fn(usize) -> bool,
        halves: bool,
    ) {
        self.right.resize(sample.asked.len(), None);
        let there: Vec<usize> =
            (0..sample.asked.len()).filter(|place| !halves || of(sample.asked[*place])).collect();
        let class = |place: usize| sample.class(sample.asked[place]);
        for (own, cosines) in cosines.chunks_exact(there.len().max(1)).enumerate() {
            let place = there[own];
            if !of(sample.asked[place]) {
                continue;
            }
            let is_own = |other: &usize| class(there[*other]) == class(place);
            let same: Vec<f32> = (0..there.len())
                .filter(|other| *other != own && is_own(other))
                .map(|other| cosines[other])
                .collect();
            let others = (0..there.len()).filter(|other| !is_own(other));
            let others = others.map(|other| cosines[other]).reduce(f32::max);
            self.right[place] = without_series(same).map(|own| others.is_none_or(|o| own > o));
        }
    }
}

/// The greatest of some similarities without those of the series; `None` of none.
fn without_series(mut similarities: Vec<f32>) -> Option<f32> {
    similarities.sort_by(|a, b| b.total_cmp(a));
    similarities.get(similarities.len() / SERIES_SHARE).copied()
}

/// Cosines between all rows, `[rows, rows]`.
fn cosines(mut rows: Vec<f32>, width: usize) -> Vec<f32> {
    for row in rows.chunks_exact_mut(width) {
        let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let scale = 1.0 / length.max(f64::MIN_POSITIVE);
        row.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32);
    }
    let view = View::of(&rows, width);
    multiply(view, view.transposed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_similar_third_is_of_the_same_series() {
        assert_eq!(without_series(Vec::new()), None);
        assert_eq!(without_series(vec![0.2]), Some(0.2));
        assert_eq!(without_series(vec![0.2, 0.9]), Some(0.9));
        assert_eq!(without_series(vec![0.2, 0.9, 0.5]), Some(0.5));
        assert_eq!(without_series(vec![0.1, 0.7, 0.2, 0.9, 0.5, 0.3]), Some(0.5));
    }
}
