//! One network in one file: deployed weights with what is needed to run them.
//!
//! A safetensors file whose metadata holds, under `magpie`, a JSON description. The trainer exports
//! it, the gallery builder and the bundle use it, the browser runs it.

use std::collections::HashMap;

use burn::tensor::Device;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::detector::{Detector, DetectorConfig};
use crate::extractor::{Extractor, ExtractorConfig};
use crate::kernels::Arithmetic;
use crate::prepared::{Prepared, Target};
use crate::preprocess::Preprocess;
use crate::weights::{Precision, Weights, WeightsError};

const METADATA_KEY: &str = "magpie";

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
    /// The file holds the other kind of network.
    #[error("this is {got}, not {expected}; give the other of the two")]
    Kind {
        /// Wanted.
        expected: &'static str,
        /// There.
        got: &'static str,
    },
}

/// Which network, with its options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Makes embeddings.
    Extractor(ExtractorConfig),
    /// Finds objects.
    Detector(DetectorConfig),
}

impl Architecture {
    fn kind(&self) -> &'static str {
        match self {
            Self::Extractor(_) => "an extractor",
            Self::Detector(_) => "a detector",
        }
    }
}

/// What a network needs besides its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelDescription {
    /// The network.
    pub architecture: Architecture,
    /// From a picture to its input.
    pub preprocess: Preprocess,
    /// How its products are computed on a CPU.
    #[serde(default, skip_serializing_if = "Arithmetic::is_default")]
    pub arithmetic: Arithmetic,
    /// Where the weights come from: recipe, data, seed, licence.
    #[serde(default)]
    pub notes: String,
}

/// A description and the weights that belong to it.
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
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(WeightsError::Format)?;
        let text =
            metadata.metadata().as_ref().and_then(|m| m.get(METADATA_KEY)).ok_or_else(|| {
                ModelFileError::Description { reason: "nothing there".to_owned() }
            })?;
        let description = serde_json::from_str(text)
            .map_err(|error| ModelFileError::Description { reason: error.to_string() })?;
        Ok(Self { description, weights: Weights::from_vec(bytes)? })
    }

    /// Writes a file; the same model gives the same bytes.
    ///
    /// # Errors
    ///
    /// [`ModelFileError::Weights`] where a shape does not fit its values.
    pub fn to_bytes(&self, precision: Precision) -> Result<Vec<u8>, ModelFileError> {
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
            other @ Architecture::Detector(_) => {
                Err(ModelFileError::Kind { expected: "an extractor", got: other.kind() })
            }
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
        match self.description.architecture {
            Architecture::Detector(config) => Ok(self.weights.load_into(config.init(device))?),
            other @ Architecture::Extractor(_) => {
                Err(ModelFileError::Kind { expected: "a detector", got: other.kind() })
            }
        }
    }
}

/// Lower-case hexadecimal SHA-256 of a file.
pub fn sha256_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
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
