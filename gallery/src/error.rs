//! Why a gallery cannot be read, changed or searched.

use thiserror::Error;

use crate::index::{IndexError, VectorType};

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
    #[error(
        "gallery is cut off or padded: {what} needs {expected} bytes, got {got}; fetch or build it again"
    )]
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
    /// What is stored is whole, but answers cannot come of it.
    #[error("the gallery cannot answer as it should: {what}")]
    Unanswerable {
        /// What keeps it from that, and what mends it.
        what: String,
    },
    /// An embedding of another width.
    #[error(
        "the embedding has {got} values, the gallery holds {expected}; embed with the extractor that made the gallery"
    )]
    Dimension {
        /// Width of the gallery's embeddings.
        expected: usize,
        /// Width given.
        got: usize,
    },
    /// A value that is infinite or not a number.
    #[error(
        "the embedding holds a value that is not finite: the extractor's weights or the picture are unusable; take \
         another one"
    )]
    NotFinite,
    /// An embedding without a direction.
    #[error(
        "the embedding has length zero: the extractor's weights or the picture are unusable; take another one"
    )]
    ZeroLength,
    /// An entry without a direction.
    #[error(
        "entry {entry}, of class {label:?}, has length zero: the extractor's weights or the picture \
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
    /// An entry that is not there.
    #[error(
        "there is no entry {entry}; positions may change with every removal, so ask for them again"
    )]
    NoEntry {
        /// Position of the entry.
        entry: usize,
    },
    /// A class that is not there.
    #[error(
        "there is no class of number {class}; numbers go from 0 to the number of classes less 1"
    )]
    NoClass {
        /// The class.
        class: usize,
    },
    /// A label that no class has.
    #[error("there is no class {label:?}; list the classes for those that there are")]
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
            IndexError::NoEntry { entry } => Self::NoEntry { entry },
            IndexError::Options { what } => Self::Options { what },
            error => Self::Inconsistent { what: format!("index: {error}") },
        }
    }
}
