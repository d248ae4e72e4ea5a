//! Embeds what a command is given, and says what becomes of a picture that cannot be used.

use std::path::Path;

use anyhow::{Context, bail};
use authoring::embedding::{Runs, embed_pictures, middle};
use models::extractor::Extractor;
use models::gallery::{Crop, Gallery};
use models::image::RgbImage;
use models::inference::Prepared;
use models::model_file::{Architecture, sha256_hex};

use super::{DeviceKind, Failures, OpenModel, open_model};
use crate::data::list_file::Samples;
use crate::data::store::PictureError;
use crate::embedding::embed_usable;
use crate::metric::retrieval::Embedded;

/// An extractor on a device, for whole lists of pictures.
pub struct Embedder {
    extractor: Prepared<Extractor>,
    /// The short name that galleries carry.
    pub id: String,
    /// SHA-256 of the model file.
    pub(crate) digest: String,
    embedding_dim: usize,
    /// Whether the middles of pictures are looked at.
    middle: bool,
}

/// An extractor that looks at the middles of pictures.
struct Middles<'a>(&'a Prepared<Extractor>);

impl Runs for Middles<'_> {
    fn answers(&self, images: &[RgbImage]) -> anyhow::Result<Vec<f32>> {
        self.0.answers(&images.iter().map(middle).collect::<Vec<_>>())
    }
}

impl Embedder {
    /// Opens a model file, or a network that the program brings along.
    ///
    /// # Errors
    ///
    /// A file that is no extractor, a device that is not there.
    pub fn open(path: &Path, device: DeviceKind) -> anyhow::Result<Self> {
        let OpenModel { file, id, bytes } = open_model(path)?;
        let digest = sha256_hex(&bytes);
        let embedding_dim = match &file.description.architecture {
            Architecture::Extractor(config) => config.embedding_dim(),
            Architecture::Detector(_) | Architecture::GraphDetector(_) => 0,
        };
        let extractor = file.prepare_extractor(device.target()?);
        let extractor = extractor.with_context(|| path.display().to_string())?;
        Ok(Self { extractor, id, digest, embedding_dim, middle: false })
    }

    /// Embeds queries of a gallery from now on: their middles, if the gallery's entries are those of middles.
    #[must_use]
    pub fn query(self, gallery: &Gallery) -> Self {
        self.query_of(gallery.crop())
    }

    /// The same of a gallery whose entries are that part of their images.
    #[must_use]
    pub fn query_of(mut self, crop: Crop) -> Self {
        self.middle = crop == Crop::Middle;
        self
    }

    /// Values of an embedding.
    pub fn embedding_dim(&self) -> usize {
        self.embedding_dim
    }

    /// Unit embeddings of pictures.
    ///
    /// # Errors
    ///
    /// Embeddings that cannot be compared, a device that failed.
    pub fn embed_pictures(&self, pictures: &[RgbImage]) -> anyhow::Result<Vec<Vec<f32>>> {
        if self.middle {
            let middles: Vec<RgbImage> = pictures.iter().map(middle).collect();
            return Ok(embed_pictures(&self.extractor, &middles)?);
        }
        Ok(embed_pictures(&self.extractor, pictures)?)
    }

    /// The network itself.
    pub fn network(&self) -> &Prepared<Extractor> {
        &self.extractor
    }

    /// Of pictures that figures are made of. One that cannot be used ends the command unless it is to be left
    /// out; its number is returned with the others' embeddings.
    pub(crate) fn embed_measured(
        &self,
        samples: &Samples,
        skip_bad: bool,
    ) -> anyhow::Result<(Embedded, usize)> {
        let mut failures = Failures::default();
        let refused = |error| measured(error, skip_bad, &mut failures);
        let (embedded, _) = if self.middle {
            embed_usable(&Middles(&self.extractor), samples, refused)?
        } else {
            embed_usable(&self.extractor, samples, refused)?
        };
        Ok((embedded, failures.count()))
    }

    /// Embeds what can be used; returns the positions of that in the list, too.
    pub(crate) fn embed_usable(
        &self,
        samples: &Samples,
        failures: &mut Failures,
    ) -> anyhow::Result<(Embedded, Vec<usize>)> {
        embed_usable(&self.extractor, samples, |error| {
            failures.add(&error);
            Ok(())
        })
    }
}

/// What becomes of a picture that cannot be measured with.
pub(crate) fn measured(
    error: PictureError,
    skip_bad: bool,
    failures: &mut Failures,
) -> anyhow::Result<()> {
    if !skip_bad {
        bail!("{error}; take it away, or leave it out of the figures with --skip-bad");
    }
    failures.add(&error);
    Ok(())
}
