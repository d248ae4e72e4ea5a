//! Images as the page gives them.

use models::image::RgbImage;
use models::recognizer::class_thumbnail;

use crate::protocol::{EngineError, Picture};

/// The pixels of what the page gave.
pub(crate) fn decode(picture: Picture) -> Result<RgbImage, EngineError> {
    Ok(match picture {
        Picture::Encoded(bytes) => RgbImage::decode(&bytes)?,
        Picture::Pixels { width, height, rgba } => RgbImage::from_rgba(width, height, &rgba)?,
    })
}

/// The thumbnail of a class that is made of this image.
pub(crate) fn thumbnail_of(picture: &RgbImage) -> Result<Vec<u8>, EngineError> {
    Ok(class_thumbnail(picture)?)
}
