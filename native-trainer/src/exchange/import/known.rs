//! Networks that others have published, known by name: architecture, preprocessing and names of the tensors.
//!
//! Agrees with PaddleClas `ppcls/configs/GeneralRecognitionV2`, `ppcls/configs/GeneralRecognition` @ d178931 and
//! PaddleDetection `configs/picodet/legacy_model/application/mainbody_detection` @ 666f597.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use burn::tensor::Device;
use models::backbone::{BackboneConfig, PpLcNetConfig, PpLcNetV2Config};
use models::detector::{DetectorBackbone, DetectorConfig, DetectorVariant};
use models::extractor::ExtractorConfig;
use models::image::ResizeFilter;
use models::model_file::Architecture;
use models::neck::NeckConfig;
use models::preprocess::Preprocess;
use models::weights::Weights;

use super::{ImportError, arrays, paddle_name};

/// Most bytes of a published file that are read. The largest, with the head that trained it, has 413 MB.
const LIMIT: u64 = 1 << 30;

/// Names that an error gives of each kind.
const SHOWN: usize = 3;

/// The share of a network's tensors from which a file resembles it.
const RESEMBLES: f64 = 0.5;

/// The folder of a recognition model's backbone.
const BACKBONE: &str = "backbone.";

/// A network that others have published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// PP-ShiTuV2's extractor: PP-LCNetV2 with `BNNeck`.
    PpShituV2,
    /// PP-ShiTu's first extractor: PP-LCNet x2.5 with a linear neck.
    PpShituV1,
    /// The detector of both: PicoDet, one foreground class.
    PpShituMainbody,
}

impl Known {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::PpShituV2, Self::PpShituV1, Self::PpShituMainbody];

    /// What it is called here.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PpShituV2 => "pp-shitu-v2",
            Self::PpShituV1 => "pp-shitu-v1",
            Self::PpShituMainbody => "pp-shitu-mainbody",
        }
    }

    /// The file that its makers publish.
    pub const fn file(self) -> &'static str {
        match self {
            Self::PpShituV2 => "general_PPLCNetV2_base_pretrained_v1.0.pdparams",
            Self::PpShituV1 => "general_PPLCNet_x2_5_pretrained_v1.0.pdparams",
            Self::PpShituMainbody => "picodet_lcnet_x2_5_640_mainbody.pdparams",
        }
    }

    /// What it is, in a line.
    pub const fn about(self) -> &'static str {
        match self {
            Self::PpShituV2 => "PP-ShiTuV2's extractor, PP-LCNetV2 with 512 values",
            Self::PpShituV1 => "PP-ShiTu's first extractor, PP-LCNet x2.5 with 512 values",
            Self::PpShituMainbody => "PP-ShiTu's mainbody detector, PicoDet at 640 × 640",
        }
    }

    /// The network. The dropout is that of training: the reference multiplies by what it keeps afterwards, and a
    /// `BNNeck` has learned its means so.
    pub fn architecture(self) -> Architecture {
        let (scale, dropout, fused) = (2.5, 0.2, false);
        match self {
            Self::PpShituV2 => Architecture::Extractor(ExtractorConfig {
                backbone: BackboneConfig::PpLcNetV2(PpLcNetV2Config {
                    scale: 1.0,
                    depths: [2, 2, 6, 2],
                    class_expand: 512,
                    shitu: true,
                    dropout,
                    fused,
                }),
                neck: Some(NeckConfig::BnNeck),
            }),
            Self::PpShituV1 => Architecture::Extractor(ExtractorConfig {
                backbone: BackboneConfig::PpLcNet(PpLcNetConfig {
                    scale,
                    class_expand: Some(1280),
                    dropout,
                    fused,
                }),
                neck: Some(NeckConfig::Fc { embedding_dim: 512 }),
            }),
            Self::PpShituMainbody => Architecture::Detector(DetectorConfig {
                variant: DetectorVariant::First,
                backbone: DetectorBackbone::PpLcNet,
                backbone_scale: scale,
                neck_channels: 128,
                num_classes: 1,
                head_blocks: 4,
                fused,
            }),
        }
    }

    /// What its weights expect of an image.
    pub fn preprocess(self) -> Preprocess {
        let (side, filter) = match self {
            Self::PpShituV2 | Self::PpShituV1 => (224, ResizeFilter::OpencvLinear),
            Self::PpShituMainbody => (640, ResizeFilter::OpencvCubic),
        };
        Preprocess { filter, ..Preprocess::square(side) }
    }

    /// Reads the published file of this network; what only training needs is left out.
    ///
    /// # Errors
    ///
    /// [`ImportError`]; for the weights of another network [`ImportError::Other`], which says what differs.
    ///
    /// ```
    /// use native_trainer::exchange::import::{ImportError, Known};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let path = folder.path().join(Known::PpShituV2.file());
    /// # std::fs::write(&path, b"\x80\x04}.")?;
    /// match Known::PpShituV2.read(&path) {
    ///     Ok(weights) => println!("{} tensors", weights.tensors.len()),
    ///     Err(ImportError::Other { difference, .. }) => println!("{difference}"),
    ///     Err(other) => return Err(other.into()),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(self, path: &Path) -> Result<Weights, ImportError> {
        let mut weights = Weights::default();
        let mut theirs = BTreeMap::new();
        for (name, tensor) in arrays(path, LIMIT)? {
            if let Some(here) = paddle_name(&name) {
                theirs.insert(here.clone(), name);
                weights.tensors.insert(here, tensor);
            }
        }
        match Difference::of(self, &weights, &theirs) {
            None => Ok(weights),
            Some(difference) => Err(ImportError::Other { path: path.to_owned(), difference }),
        }
    }

    /// The tensors of the network with their shapes.
    fn shapes(self) -> BTreeMap<String, Vec<usize>> {
        let device = Device::flex();
        let weights = match self.architecture() {
            Architecture::Extractor(config) => Weights::from_module(&config.init(&device)),
            detector => detector
                .detector(&device)
                .map(|network| Weights::from_module(&network))
                .unwrap_or_default(),
        };
        weights.tensors.into_iter().map(|(name, tensor)| (name, tensor.shape)).collect()
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a file differs from a known network.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The network that was wanted.
    pub wanted: Known,
    /// Tensors of that network.
    pub tensors: usize,
    /// Those of them that are not in the file, by their paths here.
    pub missing: Vec<String>,
    /// Tensors of the file that the network does not have, by their names in the file.
    pub unknown: Vec<String>,
    /// Tensors of another shape: name in the file, shape there, shape in the network.
    pub shapes: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// What the file is more likely to hold.
    pub resembles: Option<Resemblance>,
}

/// A known network that a file has most in common with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resemblance {
    /// The network.
    Network(Known),
    /// Its backbone alone: weights of `ImageNet`.
    Backbone(Known),
}

impl Difference {
    /// `theirs` has the names in the file by the paths here.
    fn of(wanted: Known, weights: &Weights, theirs: &BTreeMap<String, String>) -> Option<Self> {
        let expected = wanted.shapes();
        let in_file = |name: &str| theirs.get(name).map_or(name, String::as_str).to_owned();
        let there = &weights.tensors;
        let missing: Vec<String> =
            expected.keys().filter(|name| !there.contains_key(*name)).cloned().collect();
        let unknown: Vec<String> =
            there.keys().filter(|name| !expected.contains_key(*name)).map(|n| in_file(n)).collect();
        let shapes: Vec<_> = there
            .iter()
            .filter_map(|(name, tensor)| {
                let shape = expected.get(name).filter(|shape| **shape != tensor.shape)?;
                Some((in_file(name), tensor.shape.clone(), shape.clone()))
            })
            .collect();
        if missing.is_empty() && unknown.is_empty() && shapes.is_empty() {
            return None;
        }
        let same = there.len().saturating_sub(unknown.len() + shapes.len());
        let resembles = match same as f64 / expected.len().max(1) as f64 {
            share if share > RESEMBLES => None,
            _ => resemblance(weights),
        };
        Some(Self { wanted, tensors: expected.len(), missing, unknown, shapes, resembles })
    }
}

/// The known network, or its backbone alone, that most tensors are of; none if they are too few.
fn resemblance(weights: &Weights) -> Option<Resemblance> {
    if weights.tensors.is_empty() {
        return None;
    }
    let mut best = (RESEMBLES, None);
    for known in Known::ALL {
        let expected = known.shapes();
        let share = |prefix: &str| {
            let named = expected.iter();
            let wanted: Vec<_> = named
                .filter_map(|(name, shape)| Some((name.strip_prefix(prefix)?, shape)))
                .collect();
            let met = wanted.iter().filter(|(name, shape)| {
                weights.tensors.get(*name).is_some_and(|tensor| tensor.shape == **shape)
            });
            met.count() as f64 / wanted.len().max(1) as f64
        };
        for (share, it) in [
            (share(""), Resemblance::Network(known)),
            (share(BACKBONE), Resemblance::Backbone(known)),
        ] {
            if share > best.0 {
                best = (share, Some(it));
            }
        }
    }
    best.1
}

/// A few of many names.
fn some(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names.take(SHOWN).collect::<Vec<_>>().join(", "))
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, tensors, missing, unknown, shapes, resembles } = self;
        let mut parts = Vec::new();
        if !missing.is_empty() {
            let names = some(missing.iter().cloned());
            parts.push(format!("{} of {tensors} tensors are missing ({names})", missing.len()));
        }
        if !unknown.is_empty() {
            let names = some(unknown.iter().cloned());
            parts.push(format!("{} are not part of it ({names})", unknown.len()));
        }
        if !shapes.is_empty() {
            let names = some(
                shapes.iter().map(|(name, got, shape)| format!("{name}: {got:?}, not {shape:?}")),
            );
            parts.push(format!("{} have another shape ({names})", shapes.len()));
        }
        let told = match resembles {
            Some(Resemblance::Network(known)) => {
                format!("it resembles {known}: give --known {known}")
            }
            Some(Resemblance::Backbone(known)) => format!(
                "it resembles the backbone of {known} alone, as it is trained on ImageNet: give {}",
                known.file()
            ),
            None => format!(
                "give {}, or, for a network of your own, its recipe: -c recipe.toml",
                wanted.file()
            ),
        };
        write!(f, "not the weights of {wanted}: {}; {told}", parts.join(", "))
    }
}
