//! Embeddings of listed pictures, through the same functions as the browser.

use models::extractor::Extractor;
use models::image::RgbImage;
use models::prepared::{Network, Prepared};
use models::recognizer::{RecognizeError, embed};

use crate::data::list_file::Samples;
use crate::data::store::{PictureError, read_picture};
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
    let mut embedded = Embedded::default();
    for chunk in samples.samples.chunks(CHUNK) {
        let paths: Vec<_> = chunk.iter().map(|s| s.path.as_path()).collect();
        let pictures: Vec<RgbImage> = decode_all(&paths).into_iter().collect::<Result<_, _>>()?;
        embedded.values.extend(extractor.answers(&pictures)?);
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
