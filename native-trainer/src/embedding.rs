//! Embeddings of listed pictures, through the same functions as the browser.

use models::extractor::Extractor;
use models::gallery::ContentId;
use models::image::RgbImage;
use models::image::geometry::BBox;
use models::inference::{Network, Prepared};
use models::recognizer::{RecognizeError, embed};
use thiserror::Error;

use crate::data::list_file::{Sample, Samples};
use crate::data::store::{PictureError, decode_picture, read_file};
use crate::metric::retrieval::Embedded;

/// Pictures decoded at once.
const CHUNK: usize = 256;
/// Embeddings are of unit length, or all zeros; what is shorter than half of it is taken for the latter.
const LEAST_LENGTH: f32 = 0.5;

/// Why pictures have no embeddings that could be compared.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EmbeddingError {
    /// A picture that cannot be used.
    #[error(transparent)]
    Picture(#[from] PictureError),
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
pub(crate) fn middle(picture: &RgbImage) -> RgbImage {
    picture.crop(&BBox::middle(picture.width(), picture.height()))
}

/// Embeds every picture of a list.
///
/// # Errors
///
/// [`EmbeddingError`] of the first picture that cannot be used, or a device that failed.
pub fn embed_samples(extractor: &impl Runs, samples: &Samples) -> anyhow::Result<Embedded> {
    let (embedded, _) = embed_usable(extractor, samples, |error| Err(error.into()))?;
    Ok(embedded)
}

/// Embeds the pictures of a list that can be used and returns with them their positions in the list.
///
/// # Errors
///
/// [`EmbeddingError`] of embeddings that cannot be compared, a device that failed, and what `refused` makes of
/// a picture that cannot be used: with `Ok` it is left out.
pub fn embed_usable(
    extractor: &impl Runs,
    samples: &Samples,
    mut refused: impl FnMut(PictureError) -> anyhow::Result<()>,
) -> anyhow::Result<(Embedded, Vec<usize>)> {
    let mut embedded = Embedded::default();
    let mut used = Vec::with_capacity(samples.samples.len());
    for (index, chunk) in samples.samples.chunks(CHUNK).enumerate() {
        let mut pictures = Vec::with_capacity(chunk.len());
        let first = used.len();
        for (place, (sample, read)) in chunk.iter().zip(read_all(chunk)).enumerate() {
            match read {
                Ok((content, picture)) => {
                    embedded.labels.push(sample.label);
                    embedded.ids.push(sample.id.clone());
                    embedded.contents.push(content);
                    used.push(index * CHUNK + place);
                    pictures.push(picture);
                }
                Err(error) => refused(error)?,
            }
        }
        if !pictures.is_empty() {
            let values = extractor.answers(&pictures)?;
            let name = |place: usize| {
                let sample = used.get(first + place).and_then(|place| samples.samples.get(*place));
                sample.map_or(String::new(), |sample| sample.path.display().to_string())
            };
            check_embeddings(&values, values.len() / pictures.len(), name)?;
            embedded.values.extend(values);
        }
    }
    Ok((embedded, used))
}

/// Reads and decodes files on all threads, in order.
fn read_all(samples: &[Sample]) -> Vec<Result<(ContentId, RgbImage), PictureError>> {
    use rayon::prelude::*;
    let read = |sample: &Sample| {
        let bytes = read_file(&sample.path)?;
        Ok((ContentId::of(&bytes), decode_picture(&sample.path, &bytes)?))
    };
    samples.par_iter().map(read).collect()
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
