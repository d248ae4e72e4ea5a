//! Entries of an adapted gallery asked behind maps that did not see them.

use std::collections::HashSet;

use super::behind::{Behind, Compared, Kept, Originals};
use super::{Around, Series};
use crate::adapt::Teaching;
use crate::answer_rule::AnswerRule;
use crate::calibration::Trial;
use crate::class::ContentId;
use crate::error::GalleryError;
use crate::gallery::Gallery;
use crate::map::AdaptationMap;

/// Groups of classes, each of which is left out by halves of its pictures: a map sees three of four pictures.
const GROUPS: usize = 2;
/// Groups of classes, each of which is left out whole.
const CLASSES: usize = 5;

/// A map, and what it did not see.
#[derive(Debug, Clone, PartialEq)]
struct Fold {
    /// `None` where the others teach none.
    map: Option<AdaptationMap>,
    left_out: HashSet<ContentId>,
}

/// Maps of the kind and strength of a gallery's own, each learned without some of its pictures: so every entry is asked
/// behind one that did not see it.
///
/// They hold for the same pictures under other labels, too, but then they are not those that these labels teach.
#[derive(Debug, Clone, PartialEq)]
pub struct Folds {
    /// Each without half of the pictures of a group of classes, which are known things then.
    pictures: Vec<Fold>,
    /// Each without a group of classes, whose pictures are unknown things then.
    classes: Vec<Fold>,
    /// Rows behind the maps: those of pictures, then those of classes.
    kept: Kept,
}

/// Entries of a gallery, and what they are compared with.
#[derive(Debug, Clone)]
pub struct FoldPart {
    /// Positions of the entries.
    pub entries: Vec<usize>,
    /// Values of a row.
    pub dim: usize,
    /// Of every entry of the gallery, in the order of [`Gallery::entries`]: `[entries, dim]`.
    pub rows: Vec<f32>,
}

impl Folds {
    /// Those of a gallery; `None` without a map, or for what was fetched of shards.
    pub fn of(gallery: &Gallery) -> Option<Self> {
        let teaching = Teaching::of(gallery)?;
        let entries: Vec<usize> = gallery.entries().collect();
        let series = Series::of(gallery, &entries);
        let fold = |has: &dyn Fn(usize, usize) -> bool| {
            let is_left_out =
                |place: &usize| has(gallery.entry_class(entries[*place]), series.parts[*place]);
            let left_out: HashSet<ContentId> = (0..entries.len())
                .filter(is_left_out)
                .map(|place| series.pictures[place])
                .collect();
            let mut is_unseen = vec![false; gallery.index().positions()];
            for (entry, picture) in entries.iter().zip(&series.pictures) {
                is_unseen[*entry] = left_out.contains(picture);
            }
            // Nobody asks a map that left nothing out.
            let learns = !left_out.is_empty();
            let map = learns.then(|| teaching.learn(&|entry| !is_unseen[entry])).flatten();
            Fold { map, left_out }
        };
        let pictures = (0..2 * GROUPS)
            .map(|i| fold(&|class, part| class % GROUPS == i / 2 && part % 2 == i % 2));
        let classes = (0..CLASSES).map(|group| fold(&|class, _| class % CLASSES == group));
        let (pictures, classes) = (pictures.collect(), classes.collect());
        Some(Self { pictures, classes, kept: Kept::default() })
    }

    /// The share of a gallery's entries whose pictures were left out of a map, `0..=1`.
    pub fn share_of(&self, gallery: &Gallery) -> f64 {
        let is_known = |entry: &usize| {
            let picture = gallery.identity(*entry);
            self.pictures.iter().any(|fold| fold.left_out.contains(&picture))
        };
        gallery.entries().filter(is_known).count() as f64 / gallery.len().max(1) as f64
    }

    /// The entries of a gallery in parts, each with all rows behind a map that did not see the part, or as they are stored
    /// where the others teach no map. Entries of pictures that no map left out are in none.
    ///
    /// # Errors
    ///
    /// What is behind a map cannot be stored.
    pub fn parts(&self, gallery: &Gallery) -> Result<Vec<FoldPart>, GalleryError> {
        let entries: Vec<usize> = gallery.entries().collect();
        let pictures: Vec<ContentId> =
            entries.iter().map(|entry| gallery.identity(*entry)).collect();
        let all: Vec<usize> = (0..entries.len()).collect();
        let originals = Originals::of(gallery.stored());
        let part = |(place, fold, places): (usize, &Fold, Vec<usize>)| {
            let behind = fold.map.as_ref().map(|map| self.kept.rows(place, map, &originals));
            let behind = behind.transpose()?;
            let as_stored = Compared::Index(gallery.stored());
            let compared = behind.as_ref().map_or(as_stored, Behind::compared);
            let mut rows = Vec::with_capacity(entries.len() * compared.dim());
            entries.iter().for_each(|entry| rows.extend_from_slice(&compared.row(*entry)));
            let own = places.into_iter().map(|place| entries[place]).collect();
            Ok(FoldPart { entries: own, dim: compared.dim(), rows })
        };
        self::parts(&self.pictures, &pictures, all).into_iter().map(part).collect()
    }
}

/// Places of pictures by the fold that left them out, the first one of several; of no fold without any. Each with the
/// fold's own place.
fn parts<'a>(
    folds: &'a [Fold],
    pictures: &[ContentId],
    mut places: Vec<usize>,
) -> Vec<(usize, &'a Fold, Vec<usize>)> {
    let mut parts = Vec::new();
    for (place, fold) in folds.iter().enumerate() {
        let own: Vec<usize>;
        (own, places) =
            places.into_iter().partition(|place| fold.left_out.contains(&pictures[*place]));
        if !own.is_empty() {
            parts.push((place, fold, own));
        }
    }
    parts
}

impl Gallery {
    /// [`Self::leave_one_out`] of entries behind maps that did not see them. Without a trial where the others teach
    /// no map.
    pub(super) fn in_folds(
        &self,
        folds: &Folds,
        entries: &[usize],
        series: &Series,
        asked: &[usize],
        rules: &[AnswerRule],
    ) -> Result<Vec<Vec<Trial>>, GalleryError> {
        let none = Trial { known: None, stranger: None };
        let mut trials = vec![vec![none; asked.len()]; rules.len()];
        let pictures: Vec<ContentId> = asked.iter().map(|place| series.pictures[*place]).collect();
        let originals = Originals::of(self.stored());
        let Folds { pictures: of_pictures, classes: of_classes, kept } = folds;
        for (folds, first, are_known) in
            [(of_pictures, 0, true), (of_classes, of_pictures.len(), false)]
        {
            for (place, fold, places) in parts(folds, &pictures, (0..asked.len()).collect()) {
                let Some(map) = &fold.map else { continue };
                let behind = kept.rows(first + place, map, &originals)?;
                let some: Vec<usize> = places.iter().map(|i| asked[*i]).collect();
                let answered =
                    Around::of(self, behind.compared(), entries, series).ask_all(&some, rules);
                for (all, of_rule) in trials.iter_mut().zip(answered) {
                    for (i, trial) in places.iter().zip(of_rule) {
                        if are_known {
                            all[*i].known = trial.known;
                        } else {
                            all[*i].stranger = trial.stranger;
                        }
                    }
                }
            }
        }
        Ok(trials)
    }
}
