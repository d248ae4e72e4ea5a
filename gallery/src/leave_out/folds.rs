//! Entries of an adapted gallery asked behind maps that did not see them.

use std::collections::HashSet;

use super::{Around, Series};
use crate::adapt::Teaching;
use crate::answer_rule::AnswerRule;
use crate::calibration::Trial;
use crate::error::GalleryError;
use crate::gallery::Gallery;
use crate::mapped::mapped_rows;

/// Groups of classes, each of which is left out by halves of its pictures: a map sees three of four pictures.
const GROUPS: usize = 2;
/// Groups of classes, each of which is left out whole.
const CLASSES: usize = 5;

/// What a map does not see.
#[derive(Clone, Copy)]
enum Fold {
    /// Half of the pictures of a group of classes, which are known things then.
    Pictures { group: usize, half: usize },
    /// A group of classes, whose pictures are unknown things then.
    Classes { group: usize },
}

impl Fold {
    /// All of them, in one order.
    fn all() -> Vec<Self> {
        let pictures = (0..2 * GROUPS).map(|i| Self::Pictures { group: i / 2, half: i % 2 });
        pictures.chain((0..CLASSES).map(|group| Self::Classes { group })).collect()
    }

    /// Whether it has pictures of a part of a class.
    fn has(self, class: usize, part: usize) -> bool {
        match self {
            Self::Pictures { group, half } => class % GROUPS == group && part % 2 == half,
            Self::Classes { group } => class % CLASSES == group,
        }
    }
}

impl Gallery {
    /// [`Self::leave_one_out`] of entries behind maps that did not see them. Without a trial where the others teach
    /// no map.
    pub(super) fn in_folds(
        &self,
        teaching: &Teaching,
        entries: &[usize],
        series: &Series,
        asked: &[usize],
        rules: &[AnswerRule],
    ) -> Result<Vec<Vec<Trial>>, GalleryError> {
        let none = Trial { known: None, stranger: None };
        let mut trials = vec![vec![none; asked.len()]; rules.len()];
        for fold in Fold::all() {
            let has =
                |place: &usize| fold.has(self.entry_class(entries[*place]), series.parts[*place]);
            let left_out: HashSet<_> =
                (0..entries.len()).filter(has).map(|place| series.pictures[place]).collect();
            let places: Vec<usize> = (0..asked.len()).filter(|i| has(&asked[*i])).collect();
            if places.is_empty() {
                continue;
            }
            let mut unseen = vec![false; self.index().positions()];
            for (entry, picture) in entries.iter().zip(&series.pictures) {
                unseen[*entry] = left_out.contains(picture);
            }
            let Some(map) = teaching.learn(&|entry| !unseen[entry]) else { continue };
            let rows = mapped_rows(&map, self.stored())?;
            let some: Vec<usize> = places.iter().map(|i| asked[*i]).collect();
            let answered = Around::of(self, &rows, entries, series).ask_all(&some, rules);
            for (all, of_rule) in trials.iter_mut().zip(answered) {
                for (i, trial) in places.iter().zip(of_rule) {
                    match fold {
                        Fold::Pictures { .. } => all[*i].known = trial.known,
                        Fold::Classes { .. } => all[*i].stranger = trial.stranger,
                    }
                }
            }
        }
        Ok(trials)
    }
}
