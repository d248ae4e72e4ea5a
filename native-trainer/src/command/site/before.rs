//! What a site keeps of the gallery that lay beside it.

use std::path::Path;

use models::gallery::Gallery;

use crate::files;
use authoring::adaptation::foreign_threshold;
use authoring::label::Labels;

/// The gallery of the last time, if there is one that can be read.
pub(super) fn before(path: &Path) -> Option<Gallery> {
    let bytes = files::read(path, u64::MAX).ok()?;
    Gallery::from_bytes(&bytes).ok()
}

/// Whether two galleries have entries of one network and one part of pictures.
fn are_alike(gallery: &Gallery, before: &Gallery) -> bool {
    before.model() == gallery.model() && before.crop() == gallery.crop()
}

/// Takes over a threshold that was measured with other pictures or given by hand, with the map that it was measured
/// behind; whether there was one. The same pictures make it anew only if their embeddings are compared alike.
pub(super) fn keep_threshold(gallery: &mut Gallery, before: &Gallery) -> anyhow::Result<bool> {
    let Some(least) = foreign_threshold(before).filter(|_| are_alike(gallery, before)) else {
        return Ok(false);
    };
    gallery.share_map(before)?;
    gallery.set_min_similarity(Some(least))?;
    if let Some(rule) = before.measured_rule() {
        gallery.set_measured_rule(rule);
    }
    gallery.set_calibration(before.calibration().cloned());
    Ok(true)
}

/// Classes keep the metadata that they had, and their thresholds where embeddings are compared as before; what other
/// commands did to them and does not stay is named.
pub(super) fn keep_classes(
    gallery: &mut Gallery,
    before: &Gallery,
    classes: &Labels,
) -> anyhow::Result<()> {
    let is_alike = are_alike(gallery, before) && before.map() == gallery.map();
    for class in before.classes() {
        let now = classes.find(&class.label);
        let threshold = class.min_similarity.filter(|_| is_alike);
        if let Some(now) = now.filter(|_| !class.metadata.is_empty() || threshold.is_some()) {
            gallery.describe_class(now, class.metadata.clone(), threshold)?;
        }
        let mut lost = Vec::new();
        if now.is_none() && !class.metadata.is_empty() {
            lost.push("its metadata: no folder has its name");
        }
        if now.is_none() && class.min_similarity.is_some() {
            lost.push("its own threshold: no folder has its name");
        }
        if now.is_some() && class.min_similarity.is_some() && threshold.is_none() {
            lost.push(
                "its own threshold: the similarities are others; give it again by `magpie gallery describe`",
            );
        }
        for what in lost {
            eprintln!("note: {}: not kept: {what}", class.label);
        }
    }
    Ok(())
}
