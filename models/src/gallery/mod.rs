//! The gallery: labelled embeddings that a query is compared with.
//!
//! A gallery holds classes (label, thumbnail, free-form metadata) and entries (one embedding each,
//! of one class). How entries are searched is the business of its [`VectorIndex`]; which class the
//! found entries speak for is that of an [`AnswerRule`].

#[cfg(test)]
mod against_a_map;
mod alike;
mod answer;
#[cfg(feature = "parallel")]
mod check;
mod edit;
mod embedding;
mod format;
#[cfg(feature = "parallel")]
mod growing;
mod index;
mod lessons;
mod metadata;
mod sections;
mod shards;
#[cfg(feature = "parallel")]
mod stream;

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use alike::Alike;
pub use answer::{AnswerRule, Match, Question};
#[cfg(feature = "parallel")]
pub use check::check_file;
pub use edit::Merged;
pub use embedding::check_embedding;
pub use format::{MAGIC, MAX_DIM, MAX_ENTRIES, StreamError, VERSION};
#[cfg(feature = "parallel")]
pub use growing::Growing;
pub use index::{
    Filter, Hit, IndexConfig, IndexError, Metric, Search, UnknownVectorType, VectorIndex,
    VectorType,
};
pub use lessons::{
    Applied, LESSONS_MAGIC, LESSONS_VERSION, Lesson, LessonChange, Lessons, LessonsError,
    MAX_LESSONS, apply,
};
pub use metadata::Metadata;
#[cfg(feature = "parallel")]
pub use shards::ShardOptions;
pub use shards::{Budget, Fetched, Part, SHARDS_MAGIC, SHARDS_VERSION, Sharded, Shards};
#[cfg(feature = "parallel")]
pub use stream::GalleryStream;

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
    /// An embedding without a direction.
    #[error("the embedding has length zero: the extractor's weights or the image are unusable")]
    ZeroLength,
    /// An entry without a direction.
    #[error(
        "entry {entry}, of class {label:?}, has length zero: the extractor's weights or the image \
         were unusable; take it out and add its picture again"
    )]
    ZeroEntry {
        /// Position of the entry.
        entry: usize,
        /// Label of its class.
        label: String,
    },
    /// A value that is too large or too small for the way values are stored.
    #[error(
        "entry {entry} holds {value:e}, which does not fit {vector_type}; store embeddings as f32, \
         or build the gallery again"
    )]
    DoesNotFit {
        /// Position of the entry.
        entry: usize,
        /// The value.
        value: f32,
        /// How values are stored.
        vector_type: VectorType,
    },
    /// A class that is not there.
    #[error("class {class} is not there")]
    NoClass {
        /// The class.
        class: usize,
    },
    /// A label that no class has.
    #[error("there is no class {label:?}")]
    NoLabel {
        /// The label.
        label: String,
    },
    /// Options of an index beyond what is allowed.
    #[error("{what}")]
    Options {
        /// Which, and what is allowed.
        what: String,
    },
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

impl From<IndexError> for GalleryError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Dimension { expected, got } => Self::Dimension { expected, got },
            IndexError::NotFinite => Self::NotFinite,
            IndexError::Options { what } => Self::Options { what },
            error => Self::Inconsistent { what: format!("index: {error}") },
        }
    }
}

/// One thing that can be recognised.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// Name shown to people; any script, spaces allowed.
    pub label: String,
    /// Shown with the label.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// Least cosine for this answer, where it is not everyone's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_similarity: Option<f32>,
}

/// Which picture an entry was made from: the first half of the SHA-256 of its file. All zeros where
/// nobody said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PictureId(pub [u8; 16]);

impl PictureId {
    /// Of a file's bytes.
    pub fn of(file: &[u8]) -> Self {
        use sha2::Digest;
        let digest = sha2::Sha256::digest(file);
        Self(std::array::from_fn(|i| digest[i]))
    }

    /// Whether anybody said.
    pub fn is_known(self) -> bool {
        self != Self::default()
    }
}

/// Labelled embeddings. See the [module](self).
#[derive(Clone)]
pub struct Gallery {
    model: String,
    classes: Vec<Class>,
    thumbnails: Vec<Thumbnail>,
    entry_classes: Vec<u32>,
    pictures: Vec<PictureId>,
    index: VectorIndex,
    /// Least cosine of an answer, as measured on pictures held back.
    min_similarity: Option<f32>,
    /// The rule that it was measured with.
    rule: AnswerRule,
    /// The mean embedding of every class, made when first asked for.
    centroids: OnceLock<VectorIndex>,
}

/// An encoded picture.
type Thumbnail = Vec<u8>;

impl std::fmt::Debug for Gallery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gallery")
            .field("dim", &self.dim())
            .field("model", &self.model)
            .field("classes", &self.classes.len())
            .field("entries", &self.len())
            .field("index", &self.index.config())
            .finish_non_exhaustive()
    }
}

impl Gallery {
    /// An empty gallery for embeddings of `dim` values made by `model` (a hash of its weights),
    /// stored as 16-bit floats and scanned exactly.
    pub fn new(dim: usize, model: impl Into<String>) -> Self {
        Self::with_type(dim, model, VectorType::default())
    }

    /// An empty gallery whose embeddings are stored in another way.
    pub fn with_type(dim: usize, model: impl Into<String>, vector_type: VectorType) -> Self {
        Self {
            model: model.into(),
            classes: Vec::new(),
            thumbnails: Vec::new(),
            entry_classes: Vec::new(),
            pictures: Vec::new(),
            index: VectorIndex::new(dim, Metric::InnerProduct, vector_type),
            min_similarity: None,
            rule: AnswerRule::default(),
            centroids: OnceLock::new(),
        }
    }

    fn class(&self, class: usize) -> Result<&Class, GalleryError> {
        self.classes.get(class).ok_or(GalleryError::NoClass { class })
    }

    /// Values of an embedding.
    pub fn dim(&self) -> usize {
        self.index.dim()
    }

    /// Hash of the extractor's weights that made the embeddings.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// All classes.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The first class of a label.
    pub fn class_by_label(&self, label: &str) -> Option<usize> {
        self.classes.iter().position(|class| class.label == label)
    }

    /// The encoded picture of a class; empty where it has none.
    pub fn thumbnail(&self, class: usize) -> &[u8] {
        self.thumbnails.get(class).map_or(&[], Vec::as_slice)
    }

    /// Positions of the entries, in order; not all numbers where some were taken out.
    pub fn entries(&self) -> impl Iterator<Item = usize> {
        (0..self.index.positions()).filter(|entry| self.index.contains(*entry))
    }

    /// Class of an entry.
    ///
    /// # Panics
    ///
    /// For a position that never was.
    pub fn entry_class(&self, entry: usize) -> usize {
        self.entry_classes[entry] as usize
    }

    /// Picture that an entry was made from.
    ///
    /// # Panics
    ///
    /// For a position that never was.
    pub fn picture(&self, entry: usize) -> PictureId {
        self.pictures[entry]
    }

    /// Number of entries of every class.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        self.entries().for_each(|entry| counts[self.entry_class(entry)] += 1);
        counts
    }

    /// How entries are searched.
    pub fn index(&self) -> &VectorIndex {
        &self.index
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
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

    /// Fails unless `other` holds embeddings that can be compared with these.
    ///
    /// # Errors
    ///
    /// [`GalleryError::OtherModel`], [`GalleryError::Dimension`]
    pub fn check_comparable(&self, other: &Self) -> Result<(), GalleryError> {
        other.check_model(&self.model)?;
        if other.dim() == self.dim() {
            return Ok(());
        }
        Err(GalleryError::Dimension { expected: self.dim(), got: other.dim() })
    }
}

#[cfg(test)]
mod tests;
