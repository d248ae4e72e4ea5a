//! What was learned stands for a while, although labels have changed since.

use std::time::Duration;

use models::gallery::{AdaptationMap, Crop, Folds, Gallery, GalleryError};

use super::{
    Dropped, MOST_UNASKED, MapOutcome, Options, Outcome, ThresholdOutcome, calibrate_by_itself,
    clock, map_text,
};

/// Share of the entries that maps of before have to know, so that they stand for those of now.
const LEAST_KNOWN: f64 = 0.9;

/// What a gallery learned, for one of the same pictures under other labels.
#[derive(Debug, Clone)]
pub struct Kept {
    map: Option<AdaptationMap>,
    outcome: MapOutcome,
    folds: Option<Folds>,
    options: Options,
    crop: Crop,
}

impl Kept {
    /// Of a gallery that has learned by [`adapt_and_calibrate`](super::adapt_and_calibrate).
    pub fn of(gallery: &Gallery, learned: &Outcome, options: &Options) -> Self {
        Self {
            map: gallery.map().cloned(),
            outcome: learned.map,
            folds: learned.folds.clone(),
            options: *options,
            crop: gallery.crop(),
        }
    }

    /// Which part of a picture the entries are of.
    pub fn crop(&self) -> Crop {
        self.crop
    }

    /// Whether it was learned by the same options, from nearly the same pictures as a gallery has.
    pub fn fits(&self, gallery: &Gallery, options: &Options) -> bool {
        let knows = |folds: &Folds| folds.share_of(gallery) >= LEAST_KNOWN;
        self.options == *options
            && gallery.len() <= MOST_UNASKED
            && self.crop == gallery.crop()
            && self.map.is_some() == self.folds.is_some()
            && self.folds.as_ref().is_none_or(knows)
    }
}

/// Gives a gallery the map that is kept, and measures rule, threshold and probabilities of its labels behind it. What
/// [`adapt_and_calibrate`](super::adapt_and_calibrate) learns is nearly that, and takes many times as long.
///
/// # Errors
///
/// As of [`adapt_and_calibrate`](super::adapt_and_calibrate).
pub fn calibrate_behind(gallery: &mut Gallery, kept: &Kept) -> Result<Outcome, GalleryError> {
    let clock = clock();
    gallery.check_entries()?;
    gallery.set_map(kept.map.clone())?;
    let threshold = if kept.options.calibrate {
        calibrate_by_itself(gallery, kept.folds.as_ref(), kept.options.false_accept)?
    } else {
        ThresholdOutcome::NotAsked
    };
    Ok(Outcome {
        map: kept.outcome,
        threshold,
        dropped: Dropped::default(),
        folds: kept.folds.clone(),
        map_took: Duration::ZERO,
        took: clock(),
        kept_map: map_text(gallery),
    })
}
