//! What goes wrong below the engine, in the page's terms.

use models::bundle::BundleError;
use models::gallery::GalleryError;
use models::model_file::ModelFileError;
use models::recognizer::RecognizeError;

use crate::parts::PartError;
use crate::protocol::{EngineError, ErrorKind};

/// What went wrong while a picture was looked at.
pub(crate) fn failed(error: &RecognizeError) -> EngineError {
    match error {
        RecognizeError::Gallery(error) => refused(error),
        other => EngineError::new(ErrorKind::Device, other.to_string()),
    }
}

/// Why a gallery stays as it is.
pub(crate) fn refused(error: &GalleryError) -> EngineError {
    EngineError::new(ErrorKind::Gallery, error.to_string())
}

/// Whether the answer failed for bytes of the gallery that are not what was published.
pub(crate) fn is_damaged(error: &PartError) -> bool {
    matches!(error, PartError::Recognize(RecognizeError::Gallery(_)))
}

/// What went wrong between a picture and its answer.
pub(crate) fn part_error(error: PartError) -> EngineError {
    match error {
        PartError::Fetch(error) => error,
        // A gallery that is only looked into fails where its bytes are damaged.
        PartError::Recognize(RecognizeError::Gallery(error)) => {
            EngineError::new(ErrorKind::Corrupted, error.to_string())
        }
        PartError::Recognize(error) => failed(&error),
    }
}

/// Why a bundle cannot be used.
pub(crate) fn bundle_error(error: BundleError) -> EngineError {
    let kind = match &error {
        BundleError::Truncated { .. } => ErrorKind::Truncated,
        BundleError::Corrupted { .. } => ErrorKind::Corrupted,
        BundleError::Format { .. }
        | BundleError::Model { source: ModelFileError::Format { .. }, .. }
        | BundleError::Gallery { source: GalleryError::Version { .. }, .. } => ErrorKind::TooNew,
        _ => ErrorKind::Bundle,
    };
    EngineError::new(kind, error.to_string())
}
