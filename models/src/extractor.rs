//! Feature extraction: backbone → neck → unit embedding.
//!
//! Agrees with PaddleClas `ppcls/arch/__init__.py` (`RecModel`) @ d178931; the head that trains it
//! belongs to the trainer.

use serde::{Deserialize, Serialize};

use crate::backbone::{Backbone, BackboneConfig};
use crate::inference::Network;
#[cfg(feature = "tensors")]
use crate::layers::Eager;
use crate::layers::Flow;
use crate::limits::LimitError;
use crate::neck::{Neck, NeckConfig};
#[cfg(feature = "tensors")]
use crate::operators::channels_last;
use crate::preprocess::Preprocess;
#[cfg(feature = "tensors")]
use crate::values::Tensor;
use crate::values::{Device, Module};

/// Configuration of [`Extractor`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtractorConfig {
    /// The backbone.
    pub backbone: BackboneConfig,
    /// The neck; without one the pooled features are the embedding.
    pub neck: Option<NeckConfig>,
}

impl ExtractorConfig {
    /// Width of the backbone's pooled features.
    pub fn features(&self) -> usize {
        self.backbone.features()
    }

    /// Width of the embedding.
    pub fn embedding_dim(&self) -> usize {
        let features = self.features();
        self.neck.map_or(features, |neck| neck.embedding_dim(features))
    }

    /// The configuration of [`Extractor::fuse`]'s result.
    #[must_use]
    pub fn fused(&self) -> Self {
        Self { backbone: self.backbone.fused(), ..self.clone() }
    }

    /// Whether a network can be made of it.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check(&self) -> Result<(), LimitError> {
        self.backbone.check().map_err(|error| error.under("backbone"))?;
        self.neck.map_or(Ok(()), |neck| neck.check()).map_err(|error| error.under("neck"))
    }

    /// Whether such inputs can be given to it.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check_input(&self, preprocess: &Preprocess) -> Result<(), LimitError> {
        self.backbone.check_input([preprocess.height, preprocess.width])
    }

    /// A freshly initialized extractor.
    pub fn init(&self, device: &Device) -> Extractor {
        Extractor {
            backbone: self.backbone.init(device),
            neck: self.neck.map(|neck| neck.init(self.features(), device)),
        }
    }
}

/// Turns pictures into embeddings.
#[derive(Module, Debug)]
pub struct Extractor {
    backbone: Backbone,
    neck: Option<Neck>,
}

/// What the extractor computes on the way.
#[cfg(feature = "tensors")]
#[derive(Debug, Clone)]
pub struct Features {
    /// Pooled features of the backbone, `[batch, features]`.
    pub backbone: Tensor<2>,
    /// The embedding before it is brought to unit length, `[batch, embedding_dim]`.
    pub raw_embedding: Tensor<2>,
}

impl Extractor {
    /// Pooled features of the backbone and the embedding before it is brought to unit length.
    fn wire_features<F: Flow>(&self, flow: &mut F, x: F::Map) -> (F::Map, F::Map) {
        let features = self.backbone.wire(flow, x);
        let raw_embedding = match &self.neck {
            Some(neck) => neck.wire(flow, features.clone()),
            None => features.clone(),
        };
        (features, raw_embedding)
    }

    /// From a picture to its unit embedding.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let (_, raw_embedding) = self.wire_features(flow, x);
        flow.unit_length(raw_embedding)
    }

    /// Backbone and neck.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, 3, height, width]`, normalized
    #[cfg(feature = "tensors")]
    pub fn forward(&self, x: Tensor<4>) -> Features {
        let (features, raw_embedding) = self.wire_features(&mut Eager, channels_last(x));
        Features { backbone: features.flatten(1, 3), raw_embedding: raw_embedding.flatten(1, 3) }
    }

    /// Unit embeddings.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, 3, height, width]`, normalized
    /// - output: `[batch, embedding_dim]`, unit L2 norm per row
    #[cfg(feature = "tensors")]
    pub fn embed(&self, x: Tensor<4>) -> Tensor<2> {
        Eager::pooled(x, |flow, x| self.wire(flow, x))
    }

    /// The deployed form, see [`ExtractorConfig::fused`].
    #[must_use]
    #[cfg(feature = "tensors")]
    pub fn fuse(self) -> Self {
        Self { backbone: self.backbone.fuse(), ..self }
    }
}

impl Network for Extractor {
    type Reading = ();

    fn reading(&self) {}

    fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> Vec<F::Map> {
        vec![Self::wire(self, flow, x)]
    }
}

/// Scales every row to unit length.
///
/// # Shapes
///
/// - `x`: `[batch, dim]`
/// - output: `[batch, dim]`, unit L2 norm per row (zero rows stay zero)
#[cfg(feature = "tensors")]
pub fn l2_normalize(x: Tensor<2>) -> Tensor<2> {
    Eager::vectors(x, Eager::unit_length)
}
