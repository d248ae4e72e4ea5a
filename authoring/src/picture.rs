//! Pictures that come as the bytes of a file, and why one cannot be used.

use std::path::Path;

use models::gallery::GalleryError;
use models::image::{Format, ImageError, RgbImage};
use thiserror::Error;

/// First bytes of a file by which [`is_thumbnail`] knows it.
pub const BEGINNING: usize = 64;

/// Whether somebody else's bytes can be the thumbnail of a class: none, or a file that begins as a picture that is read.
pub fn is_thumbnail(bytes: &[u8]) -> bool {
    bytes.is_empty() || Format::of_bytes(&bytes[..bytes.len().min(BEGINNING)]).is_readable()
}

/// A picture that cannot be used, by name.
#[derive(Debug, Error)]
#[error("{}", self.text())]
pub struct PictureError {
    /// The file.
    pub path: String,
    /// Why.
    pub source: PictureProblem,
}

impl PictureError {
    /// Names the file that something is wrong with.
    pub fn new(path: &Path, source: impl Into<PictureProblem>) -> Self {
        Self { path: path.display().to_string(), source: source.into() }
    }

    /// Of a file that could not be read; the error names the file itself.
    pub fn unread(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::new(path, PictureProblem::File(Box::new(error)))
    }

    fn text(&self) -> String {
        match &self.source {
            // It names the file itself.
            PictureProblem::File(error) => error.to_string(),
            problem => format!("{}: {problem}", self.path),
        }
    }
}

/// Why a picture cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PictureProblem {
    /// The file cannot be read.
    #[error(transparent)]
    File(Box<dyn std::error::Error + Send + Sync>),
    /// The bytes cannot be decoded.
    #[error(transparent)]
    Decode(#[from] ImageError),
    /// Nothing is to be seen in it.
    #[error(
        "all its pixels have one color: nothing can be learned from it; take another picture of the thing"
    )]
    OneColor,
    /// Nothing but its content is known.
    #[error("what becomes an entry of it is not known: let the engine look at the picture again")]
    NotLookedAt,
    /// It was looked at elsewhere, where this was said.
    #[error("{0}")]
    Kept(String),
    /// What the extractor makes of it is no embedding.
    #[error(transparent)]
    Embedding(#[from] GalleryError),
}

/// Decodes the bytes of a file.
///
/// # Errors
///
/// [`PictureError`], naming the file.
pub fn decode_picture(path: &Path, bytes: &[u8]) -> Result<RgbImage, PictureError> {
    RgbImage::decode(bytes).map_err(|error| PictureError::new(path, error))
}
