//! One network in one file: deployed weights with what is needed to run them.
//!
//! A safetensors file whose metadata holds, under `magpie`, a JSON description. The trainer exports
//! it, the gallery builder and the bundle use it, the browser runs it.

mod architecture;
#[cfg(feature = "tensors")]
mod trained;

use std::collections::HashMap;
use std::fmt::Write;

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::detector::Detector;
use crate::extractor::Extractor;
use crate::inference::Arithmetic;
use crate::inference::{Prepared, Target};
use crate::limits::LimitError;
use crate::preprocess::Preprocess;
use crate::values::Device;
use crate::weights::{Precision, Weights, WeightsError};

pub use architecture::Architecture;
#[cfg(feature = "tensors")]
pub use trained::Trained;

const METADATA_KEY: &str = "magpie";
/// Newest version of the description.
const FORMAT: u32 = 2;

/// Why a model file could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelFileError {
    /// The tensors do not fit.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// There is no description, or it cannot be read.
    #[error("no description of the model inside: {reason}; export it with `magpie export`")]
    Description {
        /// What is wrong with it.
        reason: String,
    },
    /// A newer program has written it.
    #[error(
        "the description of the model inside has format {got}; this program reads up to {known}: use a newer one, \
         or export the model again with this one"
    )]
    Format {
        /// In the file.
        got: u32,
        /// Newest that can be read.
        known: u32,
    },
    /// The description asks for what no network has.
    #[error("the description of the model inside cannot be used: {0}; export it again")]
    Limits(#[from] LimitError),
    /// The file holds the other kind of network.
    #[error("this is {got}, not {expected}; give the other of the two")]
    Kind {
        /// Wanted.
        expected: &'static str,
        /// There.
        got: &'static str,
    },
}

/// What of a description is read first, whatever else is in it.
#[derive(Deserialize)]
struct Version {
    #[serde(default = "first_format")]
    format: u32,
}

/// The version of a description without a number: it is written from 2 on, so that files of version 1 stay as they are,
/// byte for byte.
const fn first_format() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
const fn is_first_format(format: &u32) -> bool {
    *format == first_format()
}

/// A description as it is written: with its version.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default = "first_format", skip_serializing_if = "is_first_format")]
    format: u32,
    architecture: Architecture,
    preprocess: Preprocess,
    #[serde(default, skip_serializing_if = "Arithmetic::is_default")]
    arithmetic: Arithmetic,
    #[serde(default)]
    notes: String,
}

impl From<Written> for ModelDescription {
    fn from(written: Written) -> Self {
        let Written { architecture, preprocess, arithmetic, notes, .. } = written;
        Self { architecture, preprocess, arithmetic, notes }
    }
}

impl From<ModelDescription> for Written {
    fn from(description: ModelDescription) -> Self {
        let format = description.format();
        let ModelDescription { architecture, preprocess, arithmetic, notes } = description;
        Self { format, architecture, preprocess, arithmetic, notes }
    }
}

/// What a network needs besides its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct ModelDescription {
    /// The network.
    pub architecture: Architecture,
    /// From a picture to its input.
    pub preprocess: Preprocess,
    /// How its products are computed on a CPU.
    pub arithmetic: Arithmetic,
    /// Where the weights come from: recipe, data, seed, license.
    pub notes: String,
}

impl ModelDescription {
    /// The description in a model file, whose tensors are left unread.
    ///
    /// # Errors
    ///
    /// [`ModelFileError`] for bytes that begin like no model file, or a description that cannot be read.
    pub fn of_file(bytes: &[u8]) -> Result<Self, ModelFileError> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(WeightsError::unreadable)?;
        let text =
            metadata.metadata().as_ref().and_then(|m| m.get(METADATA_KEY)).ok_or_else(|| {
                ModelFileError::Description { reason: "nothing there".to_owned() }
            })?;
        let description = Self::from_json(text)?;
        description.check()?;
        Ok(description)
    }

    /// The first version that has all that it says.
    fn format(&self) -> u32 {
        let plain = Preprocess::square(1);
        let Preprocess { fit, channels, .. } = self.preprocess;
        let is_first = (fit, channels) == (plain.fit, plain.channels)
            && !matches!(self.architecture, Architecture::GraphDetector(_));
        if is_first { first_format() } else { 2 }
    }

    fn from_json(text: &str) -> Result<Self, ModelFileError> {
        let unread =
            |error: serde_json::Error| ModelFileError::Description { reason: error.to_string() };
        let Version { format } = serde_json::from_str(text).map_err(unread)?;
        if format > FORMAT {
            return Err(ModelFileError::Format { got: format, known: FORMAT });
        }
        serde_json::from_str(text).map_err(unread)
    }

    /// Whether a network can be made and run as it says.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check(&self) -> Result<(), LimitError> {
        self.architecture.check().map_err(|error| error.under("architecture"))?;
        let input = self.architecture.check_input(&self.preprocess);
        input.map_err(|error| error.under("preprocess"))
    }
}

/// A description and the weights that belong to it.
///
#[cfg_attr(feature = "flex", doc = "```")]
#[cfg_attr(not(feature = "flex"), doc = "```ignore")]
/// use models::backbone::{BackboneConfig, MobileNetV1Config};
/// use models::extractor::ExtractorConfig;
/// use models::model_file::{Trained, model_id};
/// use models::weights::Precision;
/// use models::{Device, ModelFile, Preprocess, RgbImage};
///
/// // A network of drawn weights; `magpie train` writes such a file with learned ones.
/// let device = Device::flex();
/// let backbone = BackboneConfig::MobileNetV1(MobileNetV1Config { scale: 0.25, fused: false });
/// let config = ExtractorConfig { backbone, neck: None };
/// let network = Trained::Extractor(config.clone(), config.init(&device));
/// let model = network.deploy(Preprocess::square(32), "drawn weights".to_owned());
/// let bytes = model.to_bytes(Precision::F16)?;
///
/// let model = ModelFile::from_bytes(&bytes)?;
/// assert_eq!(model.description.notes, "drawn weights");
/// // A gallery carries this name of the extractor that made it.
/// assert_eq!(model_id(&bytes).len(), 16);
///
/// let extractor = model.prepare_extractor(&device)?;
/// let image = RgbImage::from_rgb(1, 1, vec![10, 20, 30])?;
/// let embedding = pollster::block_on(extractor.run(&[image]))?;
/// assert_eq!(embedding.len(), config.embedding_dim());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ModelFile {
    /// What the weights are for.
    pub description: ModelDescription,
    /// The weights of the deployed (fused) form.
    pub weights: Weights,
}

impl ModelFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`ModelFileError`]
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelFileError> {
        Self::from_vec(bytes.to_vec())
    }

    /// [`Self::from_bytes`] of bytes that go while they are read; see [`Weights::from_vec`].
    ///
    /// # Errors
    ///
    /// As [`Self::from_bytes`].
    pub fn from_vec(bytes: Vec<u8>) -> Result<Self, ModelFileError> {
        let description = ModelDescription::of_file(&bytes)?;
        Ok(Self { description, weights: Weights::from_vec(bytes)? })
    }

    /// Writes a file; the same model gives the same bytes.
    ///
    /// # Errors
    ///
    /// [`ModelFileError::Weights`] where a shape does not fit its values, or values do not fit the
    /// precision or are no finite numbers; [`ModelFileError::Limits`].
    pub fn to_bytes(&self, precision: Precision) -> Result<Vec<u8>, ModelFileError> {
        self.description.check()?;
        self.weights.check()?;
        let text = serde_json::to_string(&self.description)
            .map_err(|error| ModelFileError::Description { reason: error.to_string() })?;
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), text)]);
        Ok(self.weights.to_bytes(precision, Some(metadata))?)
    }

    /// Builds the extractor on a device.
    ///
    /// # Errors
    ///
    /// [`ModelFileError::Kind`] for a detector, [`ModelFileError::Weights`] where tensors do not
    /// fit.
    pub fn into_extractor(self, device: &Device) -> Result<Extractor, ModelFileError> {
        match self.description.architecture {
            Architecture::Extractor(config) => Ok(self.weights.load_into(config.init(device))?),
            other => Err(ModelFileError::Kind { expected: "an extractor", got: other.kind() }),
        }
    }

    /// [`Self::into_extractor`], ready to run as the description says.
    ///
    /// # Errors
    ///
    /// As [`Self::into_extractor`].
    pub fn prepare_extractor(
        self,
        target: impl Into<Target>,
    ) -> Result<Prepared<Extractor>, ModelFileError> {
        let target = target.into();
        let (preprocess, arithmetic) = self.execution();
        let network = self.into_extractor(&target.device())?;
        Ok(Prepared::with_arithmetic(&network, &preprocess, arithmetic, target))
    }

    /// [`Self::into_detector`], ready to run as the description says.
    ///
    /// # Errors
    ///
    /// As [`Self::into_detector`].
    pub fn prepare_detector(
        self,
        target: impl Into<Target>,
    ) -> Result<Prepared<Detector>, ModelFileError> {
        let target = target.into();
        let (preprocess, arithmetic) = self.execution();
        let network = self.into_detector(&target.device())?;
        Ok(Prepared::with_arithmetic(&network, &preprocess, arithmetic, target))
    }

    fn execution(&self) -> (Preprocess, Arithmetic) {
        (self.description.preprocess.clone(), self.description.arithmetic)
    }

    /// Builds the detector on a device.
    ///
    /// # Errors
    ///
    /// [`ModelFileError::Kind`] for an extractor, [`ModelFileError::Weights`] where tensors do not
    /// fit.
    pub fn into_detector(self, device: &Device) -> Result<Detector, ModelFileError> {
        let architecture = &self.description.architecture;
        let wrong = ModelFileError::Kind { expected: "a detector", got: architecture.kind() };
        Ok(self.weights.load_into(architecture.detector(device).ok_or(wrong)?)?)
    }
}

/// Lower-case hexadecimal SHA-256 of a file.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

/// Short name of a model: the first 16 digits of its file's SHA-256. A gallery carries the name of
/// the extractor that made it.
pub fn model_id(bytes: &[u8]) -> String {
    let mut id = sha256_hex(bytes);
    id.truncate(16);
    id
}

#[cfg(all(test, feature = "flex"))]
mod tests;
