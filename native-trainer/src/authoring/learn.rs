//! What a gallery learns from its own entries before it is published.

use models::gallery::{AdaptOptions, Gallery, GalleryError, LearnedBy, LearnedMap, RULES};

/// What is to be learned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wishes {
    /// Whether a map is learned, if it helps.
    pub adapt: bool,
    /// Whether answer rule, threshold and probabilities are learned.
    pub calibrate: bool,
    /// Largest share of unknown things that may be named.
    pub false_accept: f64,
}

impl Default for Wishes {
    fn default() -> Self {
        Self { adapt: true, calibrate: true, false_accept: 0.05 }
    }
}

/// What was learned; `None` of what was not wanted, or what the entries do not say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Learned {
    /// What came of the map, which the gallery has if it helps.
    pub map: Option<LearnedMap>,
    /// Answer rule, trials and calibration, which the gallery keeps.
    pub by: Option<LearnedBy>,
}

/// Adapts and calibrates a gallery by its own entries.
///
/// # Errors
///
/// [`GalleryError`] of entries that cannot be compared.
pub fn learn(gallery: &mut Gallery, wishes: &Wishes) -> Result<Learned, GalleryError> {
    let mut learned = Learned::default();
    if wishes.adapt {
        let map = gallery.learn_map(&AdaptOptions::default())?;
        if let LearnedMap::Helps { map, .. } = &map {
            gallery.set_map(Some((**map).clone()))?;
        }
        learned.map = Some(map);
    }
    if wishes.calibrate {
        learned.by = gallery.calibrate_itself(&RULES, wishes.false_accept, None)?;
        if let Some(LearnedBy { rule, fitted, .. }) = &learned.by {
            gallery.keep_learned(*rule, fitted.min_similarity, fitted.calibration.clone())?;
        }
    }
    Ok(learned)
}
