//! Embeddings of listed pictures, through the same functions as the browser.

use models::extractor::Extractor;
use models::image::RgbImage;
use models::prepared::Prepared;
use models::recognizer::{RecognizeError, embed};

use crate::data::list_file::Samples;
use crate::data::store::{PictureError, read_picture};
use crate::metric::retrieval::Embedded;

/// Pictures decoded at once.
const CHUNK: usize = 256;

/// Embeds every picture of a list.
///
/// # Errors
///
/// The first picture that cannot be used, or a device that failed.
pub fn embed_samples(
    extractor: &Prepared<Extractor>,
    samples: &Samples,
) -> anyhow::Result<Embedded> {
    let mut embedded = Embedded::default();
    for chunk in samples.samples.chunks(CHUNK) {
        let paths: Vec<_> = chunk.iter().map(|s| s.path.as_path()).collect();
        let pictures: Vec<RgbImage> = decode_all(&paths).into_iter().collect::<Result<_, _>>()?;
        for embedding in embed_pictures(extractor, &pictures)? {
            embedded.values.extend(embedding);
        }
        embedded.labels.extend(chunk.iter().map(|s| s.label));
        embedded.ids.extend(chunk.iter().map(|s| s.id.clone()));
    }
    Ok(embedded)
}

/// Decodes files on all threads, in order.
pub fn decode_all(paths: &[&std::path::Path]) -> Vec<Result<RgbImage, PictureError>> {
    use rayon::prelude::*;
    paths.par_iter().map(|path| read_picture(path)).collect()
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
