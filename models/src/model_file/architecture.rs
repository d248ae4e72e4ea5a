//! Which network a file holds, with its options.

use serde::{Deserialize, Serialize};

use crate::detector::{Detector, DetectorConfig, GraphDetectorConfig};
use crate::extractor::ExtractorConfig;
use crate::limits::LimitError;
use crate::preprocess::Preprocess;
use crate::values::Device;

/// Which network, with its options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Makes embeddings.
    Extractor(ExtractorConfig),
    /// Finds objects.
    Detector(DetectorConfig),
    /// Finds objects, by steps that another program wrote down.
    GraphDetector(GraphDetectorConfig),
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
            Self::GraphDetector(config) => config.check(),
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
            Self::Extractor(config) => config.check_input(preprocess),
            Self::Detector(_) => DetectorConfig::check_input(preprocess),
            Self::GraphDetector(config) => config.check_input(preprocess),
        }
    }

    /// What it is called in sentences.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Extractor(_) => "an extractor",
            Self::Detector(_) | Self::GraphDetector(_) => "a detector",
        }
    }

    /// A freshly initialized detector; none of an extractor.
    pub fn detector(&self, device: &Device) -> Option<Detector> {
        match self {
            Self::Extractor(_) => None,
            Self::Detector(config) => Some(config.init(device)),
            Self::GraphDetector(config) => Some(config.init(device)),
        }
    }
}
