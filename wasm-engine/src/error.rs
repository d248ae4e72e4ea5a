//! What goes wrong below the engine, in the page's terms.

use models::bundle::BundleError;
use models::gallery::{GalleryError, LessonsError};
use models::image::ImageError;
use models::model_file::ModelFileError;
use models::recognizer::RecognizeError;

use crate::protocol::{EngineError, ErrorKind};

/// What can go wrong between a picture and its answer.
pub(crate) enum PartError {
    /// A part of the gallery could not be had.
    Fetch(EngineError),
    /// The pipeline has no answer.
    Recognize(RecognizeError),
}

impl PartError {
    /// Whether bytes of the gallery are not what was published.
    pub(crate) const fn is_damaged(&self) -> bool {
        matches!(self, Self::Recognize(RecognizeError::Gallery(_)))
    }
}

impl From<RecognizeError> for PartError {
    fn from(error: RecognizeError) -> Self {
        Self::Recognize(error)
    }
}

impl From<PartError> for EngineError {
    fn from(error: PartError) -> Self {
        match error {
            PartError::Fetch(error) => error,
            // A gallery that is only looked into fails where its bytes are damaged.
            PartError::Recognize(RecognizeError::Gallery(error)) => damaged(&error),
            PartError::Recognize(error) => error.into(),
        }
    }
}

/// A published gallery that cannot be read.
pub(crate) fn damaged(error: &GalleryError) -> EngineError {
    EngineError::new(ErrorKind::Corrupted, error.to_string())
}

impl From<RecognizeError> for EngineError {
    fn from(error: RecognizeError) -> Self {
        match error {
            RecognizeError::Gallery(error) => error.into(),
            other => Self::new(ErrorKind::Device, other.to_string()),
        }
    }
}

impl From<GalleryError> for EngineError {
    fn from(error: GalleryError) -> Self {
        Self::new(ErrorKind::Gallery, error.to_string())
    }
}

impl From<LessonsError> for EngineError {
    fn from(error: LessonsError) -> Self {
        Self::new(ErrorKind::Gallery, error.to_string())
    }
}

impl From<ImageError> for EngineError {
    fn from(error: ImageError) -> Self {
        Self::new(Self::kind_of(&error), error.to_string())
    }
}

impl EngineError {
    /// What to do about a picture that cannot be decoded.
    pub(crate) const fn kind_of(error: &ImageError) -> ErrorKind {
        match error {
            ImageError::UnknownFormat
            | ImageError::Unsupported { .. }
            | ImageError::Unusual { .. }
            | ImageError::TooLarge { .. } => ErrorKind::Format,
            _ => ErrorKind::Picture,
        }
    }
}

impl From<BundleError> for EngineError {
    fn from(error: BundleError) -> Self {
        let kind = match &error {
            BundleError::Truncated { .. } => ErrorKind::Truncated,
            BundleError::Corrupted { .. } => ErrorKind::Corrupted,
            BundleError::Format { .. }
            | BundleError::Model { source: ModelFileError::Format { .. }, .. }
            | BundleError::Gallery { source: GalleryError::Version { .. }, .. } => {
                ErrorKind::TooNew
            }
            _ => ErrorKind::Bundle,
        };
        Self::new(kind, error.to_string())
    }
}
