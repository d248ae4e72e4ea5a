//! Embeddings of listed pictures, through the same functions as the browser.

use models::extractor::Extractor;
use models::gallery::PictureId;
use models::image::RgbImage;
use models::prepared::{Network, Prepared};
use models::recognizer::{RecognizeError, embed};

use crate::data::list_file::{Sample, Samples};
use crate::data::store::{PictureError, decode_picture, read_file};
use crate::metric::retrieval::Embedded;

/// Pictures decoded at once.
const CHUNK: usize = 256;

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

/// Embeds every picture of a list.
///
/// # Errors
///
/// The first picture that cannot be used, or a device that failed.
pub fn embed_samples(extractor: &impl Runs, samples: &Samples) -> anyhow::Result<Embedded> {
    let (embedded, _) = embed_usable(extractor, samples, |error| Err(error.into()))?;
    Ok(embedded)
}

/// Embeds the pictures of a list that can be used and returns with them their positions in the list.
///
/// # Errors
///
/// A device that failed, and what `refused` makes of a picture that cannot be used: with `Ok` it is left out.
pub fn embed_usable(
    extractor: &impl Runs,
    samples: &Samples,
    mut refused: impl FnMut(PictureError) -> anyhow::Result<()>,
) -> anyhow::Result<(Embedded, Vec<usize>)> {
    let mut embedded = Embedded::default();
    let mut used = Vec::with_capacity(samples.samples.len());
    for (index, chunk) in samples.samples.chunks(CHUNK).enumerate() {
        let mut pictures = Vec::with_capacity(chunk.len());
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
            embedded.values.extend(extractor.answers(&pictures)?);
        }
    }
    Ok((embedded, used))
}

/// Reads and decodes files on all threads, in order.
fn read_all(samples: &[Sample]) -> Vec<Result<(PictureId, RgbImage), PictureError>> {
    use rayon::prelude::*;
    let read = |sample: &Sample| {
        let bytes = read_file(&sample.path)?;
        Ok((PictureId::of(&bytes), decode_picture(&sample.path, &bytes)?))
    };
    samples.par_iter().map(read).collect()
}

/// Embeds decoded pictures.
///
/// # Errors
///
/// A device that failed.
pub fn embed_pictures(
    extractor: &Prepared<Extractor>,
    pictures: &[RgbImage],
) -> Result<Vec<Vec<f32>>, RecognizeError> {
    pollster::block_on(embed(extractor, pictures))
}
