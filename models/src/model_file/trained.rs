//! A network in the form that is trained, and the deployed form made of it.

use super::{Architecture, ModelDescription, ModelFile};
use crate::detector::{Detector, DetectorConfig, GraphDetectorConfig};
use crate::extractor::{Extractor, ExtractorConfig};
use crate::inference::Arithmetic;
use crate::preprocess::Preprocess;
use crate::values::Device;
use crate::weights::{Weights, WeightsError};

impl Architecture {
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
            Self::GraphDetector(config) => {
                let network = weights.load_into(config.init(device))?;
                Ok(Trained::GraphDetector(config.clone(), network))
            }
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
    /// Finds objects, by steps that another program wrote down; it is not trained here.
    GraphDetector(GraphDetectorConfig, Detector),
}

impl Trained {
    /// The weights in the form that is trained.
    pub fn weights(&self) -> Weights {
        match self {
            Self::Extractor(_, network) => Weights::from_module(network),
            Self::Detector(_, network) | Self::GraphDetector(_, network) => {
                Weights::from_module(network)
            }
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
            Self::GraphDetector(config, network) => {
                (Architecture::GraphDetector(config), Weights::from_module(&network))
            }
        };
        let arithmetic = Arithmetic::F32;
        let description = ModelDescription { architecture, preprocess, arithmetic, notes };
        ModelFile { description, weights }
    }
}
