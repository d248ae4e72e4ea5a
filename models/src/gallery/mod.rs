//! The gallery: labelled embeddings that a query is compared with.
//!
//! A gallery holds classes (label, thumbnail, free-form metadata) and entries (one embedding each,
//! of one class). How entries are searched is the business of an [`Index`]; the exact scan of
//! [`FlatIndex`] is the one that exists, and every other kind fits behind the same interface.

mod flat;
mod format;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use flat::FlatIndex;
pub use format::{MAGIC, MAX_DIM, MAX_ENTRIES, VERSION, VectorType};

/// Why a gallery could not be read or changed.
#[derive(Debug, Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum GalleryError {
    /// The bytes do not begin like a gallery.
    #[error("not a gallery file; build one with `magpie gallery build`")]
    NotAGallery,
    /// Written by a later program.
    #[error("gallery format {got} is newer than the {supported} this program reads; update it")]
    Version {
        /// Version in the file.
        got: u32,
        /// Newest version that can be read.
        supported: u32,
    },
    /// Bytes are missing or too many.
    #[error("gallery is cut off or padded: {what} needs {expected} bytes, got {got}")]
    Length {
        /// Part of the file.
        what: &'static str,
        /// Bytes needed.
        expected: u64,
        /// Bytes there.
        got: u64,
    },
    /// A section's checksum does not fit its bytes.
    #[error("gallery is damaged in its {what}; fetch or build it again")]
    Checksum {
        /// Part of the file.
        what: &'static str,
    },
    /// A value that no writer produces.
    #[error("gallery is inconsistent: {what}; build it again")]
    Inconsistent {
        /// What contradicts what.
        what: String,
    },
    /// An embedding of another width.
    #[error("embedding has {got} values, the gallery holds {expected}")]
    Dimension {
        /// Width of the gallery's embeddings.
        expected: usize,
        /// Width given.
        got: usize,
    },
    /// A value that is infinite or not a number.
    #[error("embedding holds a value that is not finite")]
    NotFinite,
    /// Made by another extractor than the one that queries it.
    #[error(
        "gallery belongs to another model (gallery {gallery}, model {model}); build it again with \
         this model"
    )]
    OtherModel {
        /// Model named in the gallery.
        gallery: String,
        /// Model in use.
        model: String,
    },
}

/// Free-form facts about a class: link, price, description.
pub type Metadata = BTreeMap<String, String>;

/// One thing that can be recognised.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// Name shown to people; any script, spaces allowed.
    pub label: String,
    /// Shown with the label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: Metadata,
}

/// An entry and how similar it is to the query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Position of the entry in the gallery.
    pub entry: usize,
    /// Inner product with the query: for unit embeddings the cosine, `−1..=1`.
    pub similarity: f32,
}

/// A way to search embeddings.
pub trait Index: Send + Sync {
    /// The `k` most similar entries, best first; equal ones in the order they were added.
    ///
    /// # Shapes
    ///
    /// - `query`: `[dim]`, unit length
    fn search(&self, query: &[f32], k: usize) -> Vec<Hit>;

    /// Adds an embedding behind the others.
    fn add(&mut self, embedding: &[f32]);

    /// Number of entries.
    fn len(&self) -> usize;

    /// Whether there is no entry.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The embedding of an entry, `[dim]`.
    fn embedding(&self, entry: usize) -> &[f32];
}

/// A class found for a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// Position of the class in the gallery.
    pub class: usize,
    /// Cosine of its nearest entry, `−1..=1`.
    pub similarity: f32,
}

/// Labelled embeddings. See the [module](self).
pub struct Gallery {
    dim: usize,
    model: String,
    classes: Vec<Class>,
    thumbnails: Vec<Thumbnail>,
    entry_classes: Vec<u32>,
    index: Box<dyn Index>,
}

/// An encoded picture, or its place in the file that the gallery was read from.
type Thumbnail = Vec<u8>;

impl std::fmt::Debug for Gallery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gallery")
            .field("dim", &self.dim)
            .field("model", &self.model)
            .field("classes", &self.classes.len())
            .field("entries", &self.entry_classes.len())
            .finish_non_exhaustive()
    }
}

impl Gallery {
    /// An empty gallery for embeddings of `dim` values made by `model` (a hash of its weights).
    pub fn new(dim: usize, model: impl Into<String>) -> Self {
        Self {
            dim,
            model: model.into(),
            classes: Vec::new(),
            thumbnails: Vec::new(),
            entry_classes: Vec::new(),
            index: Box::new(FlatIndex::new(dim)),
        }
    }

    /// Adds a class and returns its position; `thumbnail` is an encoded picture or empty.
    pub fn add_class(&mut self, class: Class, thumbnail: Vec<u8>) -> usize {
        self.classes.push(class);
        self.thumbnails.push(thumbnail);
        self.classes.len() - 1
    }

    /// Adds an embedding of a class, brought to unit length.
    ///
    /// # Errors
    ///
    /// [`GalleryError::Dimension`], [`GalleryError::NotFinite`], or [`GalleryError::Inconsistent`]
    /// for a class that is not there.
    pub fn add(&mut self, class: usize, embedding: &[f32]) -> Result<(), GalleryError> {
        if class >= self.classes.len() {
            return Err(GalleryError::Inconsistent { what: format!("class {class} is not there") });
        }
        let unit = self.checked(embedding)?;
        self.index.add(&unit);
        self.entry_classes.push(class as u32);
        Ok(())
    }

    /// The `k` most similar classes, best first, each with its nearest entry.
    ///
    /// # Errors
    ///
    /// [`GalleryError::Dimension`] or [`GalleryError::NotFinite`] for a query that is no embedding
    /// of this gallery.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<Match>, GalleryError> {
        let query = self.checked(query)?;
        // A class may fill the best places with many entries, so widen until k classes are seen.
        let mut width = k.saturating_mul(4).max(16);
        loop {
            let hits = self.index.search(&query, width);
            let mut matches: Vec<Match> = Vec::with_capacity(k);
            for hit in &hits {
                let class = self.entry_classes[hit.entry] as usize;
                if matches.len() < k && matches.iter().all(|m| m.class != class) {
                    matches.push(Match { class, similarity: hit.similarity });
                }
            }
            if matches.len() == k || hits.len() == self.index.len() || hits.len() < width {
                return Ok(matches);
            }
            width = width.saturating_mul(4);
        }
    }

    fn checked(&self, embedding: &[f32]) -> Result<Vec<f32>, GalleryError> {
        if embedding.len() != self.dim {
            return Err(GalleryError::Dimension { expected: self.dim, got: embedding.len() });
        }
        let norm = embedding.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        if !norm.is_finite() {
            return Err(GalleryError::NotFinite);
        }
        let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        Ok(embedding.iter().map(|v| (f64::from(*v) * scale) as f32).collect())
    }

    /// Values of an embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Hash of the extractor's weights that made the embeddings.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// All classes.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The encoded picture of a class; empty where it has none.
    pub fn thumbnail(&self, class: usize) -> &[u8] {
        self.thumbnails.get(class).map_or(&[], Vec::as_slice)
    }

    /// Class of every entry.
    pub fn entry_classes(&self) -> &[u32] {
        &self.entry_classes
    }

    /// The unit embedding of an entry, `[dim]`.
    pub fn embedding(&self, entry: usize) -> &[f32] {
        self.index.embedding(entry)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entry_classes.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entry_classes.is_empty()
    }

    /// Fails unless the gallery was made by `model`.
    ///
    /// # Errors
    ///
    /// [`GalleryError::OtherModel`]
    pub fn check_model(&self, model: &str) -> Result<(), GalleryError> {
        if self.model == model {
            return Ok(());
        }
        Err(GalleryError::OtherModel { gallery: self.model.clone(), model: model.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn embedding(dim: usize) -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(-1.0_f32..1.0, dim)
            .prop_filter("a direction", |v| v.iter().any(|x| x.abs() > 1e-3))
    }

    proptest! {
        #[test]
        fn search_equals_a_full_sort_by_class(
            entries in prop::collection::vec((0_usize..6, embedding(5)), 0..60),
            query in embedding(5),
            k in 0_usize..8,
        ) {
            let mut gallery = Gallery::new(5, "m");
            for class in 0..6 {
                gallery.add_class(Class { label: class.to_string(), ..Class::default() }, vec![]);
            }
            for (class, embedding) in &entries {
                gallery.add(*class, embedding).unwrap();
            }
            let unit = gallery.checked(&query).unwrap();
            let mut best = BTreeMap::new();
            for (entry, (class, _)) in entries.iter().enumerate() {
                let similarity: f32 =
                    gallery.embedding(entry).iter().zip(&unit).map(|(a, b)| a * b).sum();
                let slot = best.entry(*class).or_insert(f32::NEG_INFINITY);
                *slot = slot.max(similarity);
            }
            let mut expected: Vec<f32> = best.values().copied().collect();
            expected.sort_by(|a, b| b.total_cmp(a));
            expected.truncate(k);
            let found = gallery.search(&query, k).unwrap();
            prop_assert_eq!(found.len(), expected.len());
            for (m, similarity) in found.iter().zip(expected) {
                prop_assert!((m.similarity - similarity).abs() < 1e-5);
                prop_assert!((best[&m.class] - m.similarity).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn rejects_what_is_no_embedding() {
        let mut gallery = Gallery::new(3, "m");
        gallery.add_class(Class::default(), vec![]);
        assert_eq!(gallery.add(0, &[1.0]), Err(GalleryError::Dimension { expected: 3, got: 1 }));
        assert_eq!(gallery.add(0, &[1.0, f32::NAN, 0.0]), Err(GalleryError::NotFinite));
        assert!(gallery.add(1, &[1.0, 0.0, 0.0]).is_err());
        assert!(gallery.search(&[0.0; 2], 1).is_err());
        assert!(gallery.is_empty());
    }

    #[test]
    fn names_both_models_when_they_differ() {
        let gallery = Gallery::new(3, "one");
        assert!(gallery.check_model("one").is_ok());
        let message = gallery.check_model("two").unwrap_err().to_string();
        assert!(message.contains("one") && message.contains("two"));
    }
}
