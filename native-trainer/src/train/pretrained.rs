//! Weights that training begins with.

use std::path::Path;

use anyhow::Context;
use burn::module::Module;
use models::weights::{Weights, WeightsError};

/// What the names of a network's backbone begin with.
const BACKBONE: &str = "backbone.";

/// Reads a file of weights and tries them on a network.
///
/// # Errors
///
/// Names the file that cannot be read or does not fit.
pub(super) fn read<M: Module>(path: &Path, network: M) -> anyhow::Result<Weights> {
    let name = || path.display().to_string();
    let bytes = std::fs::read(path).with_context(name)?;
    let weights = Weights::from_bytes(&bytes).with_context(name)?;
    put(network, &weights).with_context(name)?;
    Ok(weights)
}

/// Puts weights into a network: the backbone's all, others where there are any. What the network
/// has no place for (a classifier) is left out.
pub(super) fn put<M: Module>(network: M, weights: &Weights) -> Result<M, WeightsError> {
    let mut all = Weights::from_module(&network);
    for (name, tensor) in &mut all.tensors {
        match weights.tensors.get(name) {
            Some(given) => tensor.clone_from(given),
            None if name.starts_with(BACKBONE) => {
                return Err(WeightsError::Missing { name: name.clone() });
            }
            None => (),
        }
    }
    all.load_into(network)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use models::backbone::EfficientNetLite0Config;
    use models::detector::{DetectorBackbone, DetectorConfig, DetectorVariant};
    use models::extractor::{BackboneConfig, ExtractorConfig};

    #[test]
    fn a_detector_begins_with_an_extractors_backbone() {
        let device = Device::flex();
        let backbone = BackboneConfig::EfficientNetLite0(EfficientNetLite0Config::default());
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
