//! What a lesson changes in a gallery.

use std::collections::BTreeSet;

use super::LessonChange;
use crate::class::{Class, ContentId};
use crate::error::GalleryError;
use crate::gallery::Gallery;
use crate::index::Search;

/// Cosine from which two embeddings are of the same image: rounding to 8 bits moves it by 0.00005, two frames of a
/// burst are further apart.
const SAME: f32 = 0.9995;
/// How far off a similarity to a rounded row may be.
const ROUNDING: f32 = 0.01;

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Entries added.
    pub added: usize,
    /// Entries that left another class.
    pub moved: usize,
}

/// Makes one change to a gallery.
///
/// # Errors
///
/// [`GalleryError`] for an embedding or a file that does not fit, [`GalleryError::NoLabel`] for a class that is
/// not there; the gallery is as before then.
pub fn apply(gallery: &mut Gallery, change: &LessonChange) -> Result<Applied, GalleryError> {
    let class_of = |gallery: &Gallery, label: &str| {
        gallery
            .class_by_label(label)
            .ok_or_else(|| GalleryError::NoLabel { label: label.to_owned() })
    };
    match change {
        LessonChange::Teach { label, embedding, thumbnail } => {
            teach(gallery, label, embedding, thumbnail)
        }
        LessonChange::Rename { from, to } => {
            let class = class_of(gallery, from)?;
            gallery.rename_class(class, to)?;
            Ok(Applied::default())
        }
        LessonChange::Remove { label } => {
            let class = class_of(gallery, label)?;
            gallery.remove_class(class)?;
            Ok(Applied::default())
        }
        LessonChange::Import { gallery: bytes } => {
            let merged = gallery.merge(&Gallery::from_bytes(bytes)?)?;
            Ok(Applied { added: merged.added, moved: 0 })
        }
        LessonChange::Reset => Ok(Applied::default()),
    }
}

/// The newest lesson about an image wins: entries of the same image leave their classes.
fn teach(
    gallery: &mut Gallery,
    label: &str,
    embedding: &[f32],
    thumbnail: &[u8],
) -> Result<Applied, GalleryError> {
    let known = gallery.class_by_label(label);
    let class = known.unwrap_or_else(|| {
        let class = Class { label: label.to_owned(), ..Class::default() };
        gallery.add_class(class, thumbnail.to_vec())
    });
    // The same lesson in two galleries is one when they are merged.
    let bytes: Vec<u8> = embedding.iter().flat_map(|value| value.to_le_bytes()).collect();
    let added = same_image(gallery, embedding).and_then(|same| {
        let (own, others): (Vec<usize>, Vec<usize>) =
            same.into_iter().partition(|entry| gallery.entry_class(*entry) == class);
        if own.is_empty() {
            gallery.add_image(class, embedding, ContentId::of(&bytes))?;
        }
        Ok((own.is_empty(), others))
    });
    let (is_new, others) = match added {
        Ok(added) => added,
        Err(error) => {
            if known.is_none() {
                gallery.remove_class(class)?;
            }
            return Err(error);
        }
    };
    let label_of = |entry: &usize| gallery.classes()[gallery.entry_class(*entry)].label.clone();
    let left: BTreeSet<String> = others.iter().map(label_of).collect();
    gallery.remove_entries(&others)?;
    let applied = Applied { added: usize::from(is_new), moved: others.len() };
    // A class that was only a slip is not left behind without an image.
    for label in left {
        if let Some(class) = gallery.class_by_label(&label)
            && gallery.counts()[class] == 0
        {
            gallery.remove_class(class)?;
        }
    }
    Ok(applied)
}

/// Entries of the same image. Rounding to 8 bits changes a row's length, too, which its similarity holds: cosines
/// are taken to the row itself.
fn same_image(gallery: &Gallery, embedding: &[f32]) -> Result<Vec<usize>, GalleryError> {
    let unit = crate::embedding::unit(embedding, gallery.dim())?;
    let hits = gallery.stored().search(&unit, &Search::range(SAME - ROUNDING))?;
    let is_same = |entry: &usize| {
        let row = gallery.embedding(*entry);
        let product: f32 = unit.iter().zip(&*row).map(|(a, b)| a * b).sum();
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        product >= SAME * length
    };
    Ok(hits.into_iter().map(|hit| hit.entry).filter(is_same).collect())
}
