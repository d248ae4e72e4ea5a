//! Embeddings of pictures, through the same functions as the browser's recognition.

use models::extractor::Extractor;
use models::image::RgbImage;
use models::image::geometry::BBox;
use models::inference::{Network, Prepared};
use models::recognizer::{RecognizeError, embed};
use thiserror::Error;

/// Embeddings are of unit length, or all zeros; what is shorter than half of it is taken for the latter.
const LEAST_LENGTH: f32 = 0.5;

/// Why pictures have no embeddings that could be compared.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EmbeddingError {
    /// Values that are no finite numbers.
    #[error(
        "{picture}: its embedding holds values that are no finite numbers: the extractor's weights overflow \
         or are damaged; export it again with --precision f32, or take another one"
    )]
    NotFinite {
        /// The picture.
        picture: String,
    },
    /// Nothing but zeros.
    #[error(
        "{picture}: its embedding is all zeros, which are alike to everything: the extractor's weights are \
         damaged or have not been learned; take another one"
    )]
    Zero {
        /// The picture.
        picture: String,
    },
    /// The device failed.
    #[error(transparent)]
    Recognize(#[from] RecognizeError),
}

/// Whether unit embeddings can be compared; `name` tells the picture of a place.
///
/// # Errors
///
/// [`EmbeddingError::NotFinite`], [`EmbeddingError::Zero`]
pub fn check_embeddings(
    values: &[f32],
    dim: usize,
    name: impl Fn(usize) -> String,
) -> Result<(), EmbeddingError> {
    for (place, row) in values.chunks_exact(dim.max(1)).enumerate() {
        let squares: f32 = row.iter().map(|value| value * value).sum();
        if !squares.is_finite() {
            return Err(EmbeddingError::NotFinite { picture: name(place) });
        }
        if squares < LEAST_LENGTH * LEAST_LENGTH {
            return Err(EmbeddingError::Zero { picture: name(place) });
        }
    }
    Ok(())
}

/// What runs a network over pictures: one device, or several together.
pub trait Runs {
    /// The network's answers to pictures of any size.
    ///
    /// # Shapes
    ///
    /// - output: `[images.len(), values]`, row-major
    ///
    /// # Errors
    ///
    /// A device that failed.
    fn answers(&self, images: &[RgbImage]) -> anyhow::Result<Vec<f32>>;
}

impl<N: Network> Runs for Prepared<N> {
    fn answers(&self, images: &[RgbImage]) -> anyhow::Result<Vec<f32>> {
        Ok(pollster::block_on(self.run(images))?)
    }
}

/// The middle of a picture.
pub fn middle(picture: &RgbImage) -> RgbImage {
    picture.crop(&BBox::middle(picture.width(), picture.height()))
}

/// Embeds decoded pictures; errors tell them by their number.
///
/// # Errors
///
/// [`EmbeddingError`] of the first whose embedding cannot be compared, or a device that failed.
pub fn embed_pictures(
    extractor: &Prepared<Extractor>,
    pictures: &[RgbImage],
) -> Result<Vec<Vec<f32>>, EmbeddingError> {
    let name = |place: usize| format!("picture {} of {}", place + 1, pictures.len());
    embed_named(extractor, pictures, name)
}

/// The same; `name` tells the picture of a place in errors.
///
/// # Errors
///
/// As [`embed_pictures`].
pub fn embed_named(
    extractor: &Prepared<Extractor>,
    pictures: &[RgbImage],
    name: impl Fn(usize) -> String,
) -> Result<Vec<Vec<f32>>, EmbeddingError> {
    let embeddings = pollster::block_on(embed(extractor, pictures))?;
    for (place, embedding) in embeddings.iter().enumerate() {
        check_embeddings(embedding, embedding.len(), |_| name(place))?;
    }
    Ok(embeddings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_compared_is_told_with_its_picture() {
        let name = |place: usize| format!("picture {place}");
        check_embeddings(&[0.6, 0.8, -1.0, 0.0], 2, name).unwrap();
        let refused = |row: [f32; 2]| {
            let values = [[0.6, 0.8], row].concat();
            check_embeddings(&values, 2, name).unwrap_err()
        };
        for row in [[f32::NAN, 1.0], [f32::INFINITY, 0.0], [0.0, f32::NEG_INFINITY]] {
            let error = refused(row);
            let is_it =
                matches!(&error, EmbeddingError::NotFinite { picture } if picture == "picture 1");
            assert!(is_it, "{row:?}: {error}");
        }
        for row in [[0.0, 0.0], [1e-20, -1e-20]] {
            let error = refused(row);
            let is_it =
                matches!(&error, EmbeddingError::Zero { picture } if picture == "picture 1");
            assert!(is_it, "{row:?}: {error}");
        }
    }
}
