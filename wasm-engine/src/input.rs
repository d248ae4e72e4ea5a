//! Images as the page gives them.

use models::image::{ImageError, RgbImage};
use models::recognizer::class_thumbnail;

use crate::protocol::{EngineError, ErrorKind, Picture};

/// The pixels of what the page gave.
pub(crate) fn decode(picture: Picture) -> Result<RgbImage, EngineError> {
    match picture {
        Picture::Encoded(bytes) => RgbImage::decode(&bytes),
        Picture::Pixels { width, height, rgba } => RgbImage::from_rgba(width, height, &rgba),
    }
    .map_err(|error| {
        let kind = match error {
            ImageError::UnknownFormat
            | ImageError::Unsupported { .. }
            | ImageError::Unusual { .. }
            | ImageError::TooLarge { .. } => ErrorKind::Format,
            _ => ErrorKind::Picture,
        };
        EngineError::new(kind, error.to_string())
    })
}

/// The thumbnail of a class that is made of this image.
pub(crate) fn thumbnail_of(picture: &RgbImage) -> Result<Vec<u8>, EngineError> {
    class_thumbnail(picture)
        .map_err(|error| EngineError::new(ErrorKind::Picture, error.to_string()))
}
