//! A model file that a command is given.

use std::path::Path;

use anyhow::{Context, bail};
use models::detector::Detector;
use models::inference::Prepared;
use models::model_file::{Architecture, ModelFile, ModelFileError, model_id};
use models::weights::Weights;

use super::{DeviceKind, probe};
use crate::files;
use crate::networks;
use crate::train::folder::MODEL;

/// A model file in memory with the short name that galleries carry.
pub(crate) struct OpenModel {
    pub(crate) file: ModelFile,
    pub(crate) bytes: Vec<u8>,
    pub(crate) id: String,
}

/// Reads the model file of an extractor.
pub(crate) fn open_extractor_file(path: &Path) -> anyhow::Result<OpenModel> {
    let model = open_model(path)?;
    match model.file.description.architecture {
        Architecture::Extractor(_) => Ok(model),
        _ => other_kind(path, "an extractor", "a detector"),
    }
}

/// Reads the model file of a detector.
pub(crate) fn open_detector_file(path: &Path) -> anyhow::Result<OpenModel> {
    let model = open_model(path)?;
    match model.file.description.architecture {
        Architecture::Extractor(_) => other_kind(path, "a detector", "an extractor"),
        _ => Ok(model),
    }
}

/// The error of a file that holds the other kind of network.
fn other_kind<T>(path: &Path, expected: &'static str, got: &'static str) -> anyhow::Result<T> {
    Err(ModelFileError::Kind { expected, got }).with_context(|| path.display().to_string())
}

/// Reads a model file.
pub(crate) fn open_model(path: &Path) -> anyhow::Result<OpenModel> {
    if let Some(bytes) = networks::built_in(path) {
        let file = ModelFile::from_bytes(bytes).with_context(|| path.display().to_string())?;
        return Ok(OpenModel { file, id: model_id(bytes), bytes: bytes.to_vec() });
    }
    if path.is_dir() {
        let inside = path.join(MODEL);
        if inside.is_file() {
            bail!(
                "{}: is a folder; give the model file in it: {}",
                path.display(),
                inside.display()
            );
        }
        bail!("{}: is a folder; give a model file, as {MODEL} in a run's folder", path.display());
    }
    let bytes = files::read(path, files::MODEL_LIMIT);
    let bytes = bytes.map_err(|error| error.wanted(files::wanted::MODEL))?;
    if let Some(kind) =
        files::kind_of_bytes(&bytes).filter(|kind| !files::wanted::MODEL.starts_with(kind))
    {
        bail!("{}: is {kind}; give {}", path.display(), files::wanted::MODEL);
    }
    let file = ModelFile::from_bytes(&bytes).map_err(|error| match error {
        ModelFileError::Description { .. } if Weights::from_bytes(&bytes).is_ok() => anyhow::anyhow!(
            "these are weights without a description of their network, as checkpoints and `magpie import --trainable` \
             hold them, to train on from; give the model file: `magpie export RUN --out model.safetensors` writes that \
             of a run, `magpie import --out` that of other weights"
        ),
        error @ ModelFileError::Weights(_) => match foreign(path) {
            Some(remedy) => anyhow::anyhow!("this is no model file, but one of another program; {remedy}"),
            None => error.into(),
        },
        error => error.into(),
    });
    let file = file.with_context(|| path.display().to_string())?;
    Ok(OpenModel { file, id: model_id(&bytes), bytes })
}

/// What to do with a file of another program, by its ending.
fn foreign(path: &Path) -> Option<String> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    match ending.as_str() {
        "onnx" | "pth" | "pt" | "bin" | "pdparams" => {
            let name = path.display();
            Some(format!("`magpie import {name} --out model.safetensors` takes its network over"))
        }
        "tflite" => Some(
            "take the file that it was made of, by `magpie import`, or give the model file"
                .to_owned(),
        ),
        _ => None,
    }
}

/// A detector on a device, which answers something.
pub(crate) fn open_detector(path: &Path, device: DeviceKind) -> anyhow::Result<Prepared<Detector>> {
    let name = || path.display().to_string();
    let detector = open_model(path)?.file.prepare_detector(device.target()?).with_context(name)?;
    probe::check_detector(&detector).with_context(name)?;
    Ok(detector)
}
