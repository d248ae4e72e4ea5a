//! Embeddings of listed pictures, through the same functions as the browser.

pub use authoring::embedding::{EmbeddingError, Runs, check_embeddings};
use models::gallery::ContentId;
use models::image::RgbImage;

use crate::data::list_file::{Sample, Samples};
use crate::data::store::{PictureError, decode_picture, read_file};
use crate::metric::retrieval::Embedded;

/// Pictures decoded at once.
const CHUNK: usize = 256;

/// Embeds every picture of a list.
///
/// # Errors
///
/// [`PictureError`] of the first picture that cannot be used, [`EmbeddingError`], or a device that failed.
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
