//! Which network a file holds: its options, the trained form and the deployed form.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::{ModelDescription, ModelFile};
use crate::detector::{Detector, DetectorConfig};
use crate::extractor::{Extractor, ExtractorConfig};
use crate::inference::Arithmetic;
use crate::limits::LimitError;
use crate::preprocess::Preprocess;
use crate::weights::{Weights, WeightsError};

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
    /// Whether a network can be made of it without taking more memory than networks do.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check(&self) -> Result<(), LimitError> {
        match self {
            Self::Extractor(config) => config.check(),
            Self::Detector(config) => config.check(),
        }
    }

    /// Whether such inputs can be given to it.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check_input(&self, preprocess: &Preprocess) -> Result<(), LimitError> {
        preprocess.check()?;
        match self {
            Self::Extractor(_) => Ok(()),
            Self::Detector(_) => DetectorConfig::check_input(preprocess),
        }
    }

    /// The network with its trained weights, as training goes on from it.
    ///
    /// # Errors
    ///
    /// [`WeightsError`] if a tensor is missing, is left over or has another shape.
    pub fn load(&self, weights: Weights, device: &Device) -> Result<Trained, WeightsError> {
        match self {
            Self::Extractor(config) => {
                let network = weights.load_into(config.init(device))?;
                Ok(Trained::Extractor(config.clone(), network))
            }
            Self::Detector(config) => {
                let network = weights.load_into(config.init(device))?;
                Ok(Trained::Detector(config.clone(), network))
            }
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Extractor(_) => "an extractor",
            Self::Detector(_) => "a detector",
        }
    }
}

/// A network in the form that is trained, with its options.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "one value per process")]
pub enum Trained {
    /// Makes embeddings.
    Extractor(ExtractorConfig, Extractor),
    /// Finds objects.
    Detector(DetectorConfig, Detector),
}

impl Trained {
    /// The weights in the form that is trained.
    pub fn weights(&self) -> Weights {
        match self {
            Self::Extractor(_, network) => Weights::from_module(network),
            Self::Detector(_, network) => Weights::from_module(network),
        }
    }

    /// The deployed form: normalization folded into convolutions, parallel branches summed, products in 32-bit
    /// floats. `notes` say where the weights come from.
    pub fn deploy(self, preprocess: Preprocess, notes: String) -> ModelFile {
        let (architecture, weights) = match self {
            Self::Extractor(config, network) => {
                (Architecture::Extractor(config.fused()), Weights::from_module(&network.fuse()))
            }
            Self::Detector(config, network) => {
                (Architecture::Detector(config.fused()), Weights::from_module(&network.fuse()))
            }
        };
        let arithmetic = Arithmetic::F32;
        let description = ModelDescription { architecture, preprocess, arithmetic, notes };
        ModelFile { description, weights }
    }
}
