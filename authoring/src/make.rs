//! Photographs become a gallery that has learned from them, and that becomes a site: the steps of `magpie site` in
//! their order.

use std::collections::BTreeSet;

use models::gallery::{ContentId, Gallery, GalleryError, IndexConfig, VectorType};

use crate::adaptation::{
    Kept, MOST_UNASKED, Options, Outcome, adapt_and_calibrate, calibrate_behind,
};
use crate::crops::Cropper;
use crate::entries::{Added, Known, add};
use crate::label::Labels;
use crate::memory::Memory;
use crate::photos::{Listener, Photos};

/// Photographs that are a gallery's entries.
#[derive(Debug)]
pub struct Gathered {
    /// The gallery, which has learned nothing yet.
    pub gallery: Gallery,
    /// Its classes.
    pub classes: Labels,
    /// What became of each photograph.
    pub added: Added,
    /// What is known of the photographs of the list, and of no others.
    pub memory: Memory,
    /// Different photographs of the list that a network looked at.
    pub looked: usize,
}

/// Makes a gallery of photographs; `model` is the short name of the extractor's file, and `dim` the values of its
/// embeddings. The part of each that becomes an entry is the cropper's.
///
/// # Errors
///
/// As [`add`].
pub fn gather(
    mut cropper: Cropper<'_>,
    (model, dim): (&str, usize),
    photos: &dyn Photos,
    tell: &mut Listener<'_>,
) -> anyhow::Result<Gathered> {
    let mut gallery = Gallery::with_type(dim, model, VectorType::F16);
    gallery.set_crop(cropper.crop());
    let mut classes = Labels::default();
    let known = Known::default();
    let added = add(&mut gallery, known, &mut classes, photos, &mut cropper, tell)?;
    let ids: BTreeSet<ContentId> = added.contents.iter().flatten().copied().collect();
    let looked = |id: &&ContentId| cropper.has_looked_at(**id);
    let looked = ids.iter().filter(looked).count();
    let mut memory = std::mem::take(&mut cropper.memory);
    memory.retain(|id| ids.contains(&id));
    Ok(Gathered { gallery, classes, added, memory, looked })
}

/// Lets a gallery learn from its entries, after it got the index for their number. One of more than [`MOST_UNASKED`]
/// learns nothing.
///
/// # Errors
///
/// As [`adapt_and_calibrate`].
pub fn learn(gallery: &mut Gallery, options: &Options) -> Result<Outcome, GalleryError> {
    gallery.set_index(IndexConfig::recommended(gallery.len()).0)?;
    let mut options = *options;
    if gallery.len() > MOST_UNASKED {
        (options.adapt, options.calibrate) = (false, false);
    }
    adapt_and_calibrate(gallery, &options)
}

/// [`learn`] by what a gallery of the same photographs learned under other labels.
///
/// # Errors
///
/// As [`adapt_and_calibrate`].
pub(crate) fn learn_behind(gallery: &mut Gallery, kept: &Kept) -> Result<Outcome, GalleryError> {
    gallery.set_index(IndexConfig::recommended(gallery.len()).0)?;
    calibrate_behind(gallery, kept)
}
