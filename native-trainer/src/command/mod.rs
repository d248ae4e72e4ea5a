//! One file a command; each reads its arguments, calls the library, prints what a person needs.

pub mod bench;
mod connections;
pub mod data;
pub mod detect;
mod draft;
mod earlier;
pub mod eval;
pub mod export;
pub mod extract;
mod failures;
mod foreign;
pub mod gallery;
mod hosting;
pub mod import;
mod owned;
mod peers;
mod place;
mod probe;
pub mod publish;
mod ranges;
pub mod recognize;
pub mod report;
pub mod scene;
pub mod serve;
mod site;
pub mod train;
pub mod verify;
pub mod worker;

use std::path::Path;

use anyhow::{Context, bail};
use burn::tensor::Device;
use clap::ValueEnum;
use failures::Failures;
use models::detector::Detector;
use models::extractor::Extractor;
use models::image::RgbImage;
use models::model_file::{Architecture, ModelFile, ModelFileError, model_id};
use models::prepared::{Prepared, Target};
use models::weights::Weights;

use crate::data::list_file::Samples;
use crate::data::store::PictureError;
use crate::embedding::{embed_named, embed_pictures, embed_usable};
use crate::files;
use crate::metric::retrieval::Embedded;

/// The model file in the folder of a run.
const MODEL_NAME: &str = "model.safetensors";

/// Where tensors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum DeviceKind {
    /// This machine's processor.
    #[default]
    Cpu,
    /// NVIDIA GPUs, the first one first.
    #[cfg(feature = "cuda")]
    Cuda,
    /// The best GPU: through Vulkan, Metal or Direct3D.
    #[cfg(feature = "wgpu")]
    Wgpu,
}

impl DeviceKind {
    /// The device, for training.
    pub fn open(self) -> Device {
        match self {
            Self::Cpu => Device::flex(),
            #[cfg(feature = "cuda")]
            Self::Cuda => Device::cuda(0),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
        }
    }

    /// What networks run on outside training.
    ///
    /// # Errors
    ///
    /// Where there is no such device.
    pub fn target(self) -> anyhow::Result<Target> {
        match self {
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Ok(Target::from(&pollster::block_on(models::kernels::gpu::Gpu::open())?)),
            device => Ok(Target::from(&device.open())),
        }
    }

    /// The device behind `index` others of its kind. The processor is as many devices as are asked
    /// for, which share its cores.
    #[cfg_attr(
        not(any(feature = "cuda", feature = "wgpu")),
        expect(unused_variables, reason = "processors are not counted")
    )]
    pub fn open_next(self, index: usize) -> Device {
        match self {
            Self::Cpu => Device::flex(),
            #[cfg(feature = "cuda")]
            Self::Cuda => Device::cuda(index),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Device::wgpu(burn::tensor::DeviceKind::DiscreteGpu(index)),
        }
    }
}

/// Reads a text file: a list, metadata, a recipe.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    Ok(files::read(path, files::TEXT_LIMIT)?)
}

/// Reads a list or a folder of classes and says what of it is not taken.
fn samples(path: &Path) -> anyhow::Result<Samples> {
    let samples = Samples::read(path)?;
    say_remarks(&samples);
    Ok(samples)
}

fn say_remarks(samples: &Samples) {
    for line in samples.remarks() {
        eprintln!("{line}");
    }
}

/// Writes a file whole, its folder included, in the place of an older one.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    Ok(files::write(path, bytes)?)
}

/// A model file in memory with the short name that galleries carry.
struct OpenModel {
    file: ModelFile,
    bytes: Vec<u8>,
    id: String,
}

/// Reads a model file.
fn open_model(path: &Path) -> anyhow::Result<OpenModel> {
    if path.is_dir() {
        let inside = path.join(MODEL_NAME);
        if inside.is_file() {
            bail!(
                "{}: is a folder; give the model file in it: {}",
                path.display(),
                inside.display()
            );
        }
        bail!(
            "{}: is a folder; give a model file, as {MODEL_NAME} in a run's folder",
            path.display()
        );
    }
    let bytes = files::read(path, files::MODEL_LIMIT)?;
    let file = ModelFile::from_bytes(&bytes).map_err(|error| match error {
        ModelFileError::Description { .. } if Weights::from_bytes(&bytes).is_ok() => anyhow::anyhow!(
            "these are weights without a description of their network, as checkpoints and `magpie import --trainable` \
             hold them, to train on from; give the model file: `magpie export RUN --out model.safetensors` writes that \
             of a run, `magpie import --out` that of other weights"
        ),
        error => error.into(),
    });
    let file = file.with_context(|| path.display().to_string())?;
    Ok(OpenModel { file, id: model_id(&bytes), bytes })
}

/// A detector on a device, which answers something.
fn open_detector(path: &Path, device: DeviceKind) -> anyhow::Result<Prepared<Detector>> {
    let name = || path.display().to_string();
    let detector = open_model(path)?.file.prepare_detector(device.target()?).with_context(name)?;
    probe::check_detector(&detector).with_context(name)?;
    Ok(detector)
}

/// An extractor on a device, for whole lists of pictures.
struct Embedder {
    extractor: Prepared<Extractor>,
    /// The short name that galleries carry.
    id: String,
    embedding_dim: usize,
}

impl Embedder {
    fn open(path: &Path, device: DeviceKind) -> anyhow::Result<Self> {
        let OpenModel { file, id, .. } = open_model(path)?;
        let embedding_dim = match &file.description.architecture {
            Architecture::Extractor(config) => config.embedding_dim(),
            Architecture::Detector(_) => 0,
        };
        let extractor = file.prepare_extractor(device.target()?);
        let extractor = extractor.with_context(|| path.display().to_string())?;
        Ok(Self { extractor, id, embedding_dim })
    }

    /// Values of an embedding.
    fn embedding_dim(&self) -> usize {
        self.embedding_dim
    }

    fn embed_pictures(&self, pictures: &[RgbImage]) -> anyhow::Result<Vec<Vec<f32>>> {
        Ok(embed_pictures(&self.extractor, pictures)?)
    }

    /// The same; errors name the file of a picture.
    fn embed_files(&self, pictures: &[RgbImage], files: &[&Path]) -> anyhow::Result<Vec<Vec<f32>>> {
        let name =
            |place: usize| files.get(place).map_or(String::new(), |f| f.display().to_string());
        Ok(embed_named(&self.extractor, pictures, name)?)
    }

    /// Of pictures that figures are made of. One that cannot be used ends the command unless it is to be left
    /// out; its number is returned with the others' embeddings.
    fn embed_measured(
        &self,
        samples: &Samples,
        skip_bad: bool,
    ) -> anyhow::Result<(Embedded, usize)> {
        let mut failures = Failures::default();
        let refused = |error| measured(error, skip_bad, &mut failures);
        let (embedded, _) = embed_usable(&self.extractor, samples, refused)?;
        Ok((embedded, failures.count()))
    }

    /// Embeds what can be used; returns the positions of that in the list, too.
    fn embed_usable(
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
fn measured(error: PictureError, skip_bad: bool, failures: &mut Failures) -> anyhow::Result<()> {
    if !skip_bad {
        bail!("{error}; take it away, or leave it out of the figures with --skip-bad");
    }
    failures.add(&error);
    Ok(())
}

/// Why there is no listening on a port, and what to do.
fn no_port(port: u16, error: std::io::Error) -> anyhow::Error {
    let advice = "give another --port (0: any that is free)";
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow::anyhow!("port {port} is in use by another program; stop that one, or {advice}")
        }
        _ => anyhow::Error::from(error).context(format!("port {port} cannot be had; {advice}")),
    }
}

/// A file size for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
