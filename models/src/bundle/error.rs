//! Why a bundle cannot be assembled or opened.

use gallery::GalleryError;
use thiserror::Error;

use crate::model_file::ModelFileError;

/// Why a bundle could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The manifest is no JSON of the right form.
    #[error("manifest cannot be read: {reason}; publish the bundle again")]
    Manifest {
        /// What the reader found.
        reason: String,
    },
    /// Published by a later program.
    #[error("bundle format {got} is newer than the {supported} this program reads; update it")]
    Format {
        /// Format of the bundle.
        got: u32,
        /// Newest format that can be read.
        supported: u32,
    },
    /// A file is shorter or longer than the manifest says.
    #[error("{name} is incomplete: {got} of {expected} bytes; publish or load it again")]
    Truncated {
        /// Name of the file.
        name: String,
        /// Bytes in the manifest.
        expected: u64,
        /// Bytes there.
        got: u64,
    },
    /// A file's bytes are not the published ones.
    #[error("{name} is damaged: its checksum is not the published one; publish or load it again")]
    Corrupted {
        /// Name of the file.
        name: String,
    },
    /// The manifest uses a file that it does not list.
    #[error("{name} is not listed in the manifest; publish the bundle again")]
    Unlisted {
        /// Name of the file.
        name: String,
    },
    /// A network cannot be built from its file.
    #[error("{name}: {source}")]
    Model {
        /// Name of the file.
        name: String,
        /// Why.
        source: ModelFileError,
    },
    /// The gallery cannot be read.
    #[error("{name}: {source}")]
    Gallery {
        /// Name of the file.
        name: String,
        /// Why.
        source: GalleryError,
    },
}
