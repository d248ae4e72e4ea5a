//! Necks: from the backbone's pooled features to the embedding.
//!
//! Agrees with PaddleClas `ppcls/arch/gears/{fc,bnneck,vehicle_neck}.py` @ d178931. Difference: the shift of
//! [`BnNeck`] is frozen at 0, as its paper and the shipped recipes intend; the reference's code
//! leaves it trainable unless the configuration says otherwise.

use serde::{Deserialize, Serialize};

#[cfg(feature = "tensors")]
use crate::layers::Eager;
use crate::layers::{Activation, BatchNorm, Conv, ConvShape, Flow, Gate, constant, normal};
use crate::limits::{LimitError, MAX_WIDTH, within};
use crate::values::{Device, Module, Param, Tensor, frozen};

/// Configuration of [`Neck`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum NeckConfig {
    /// Linear layer to `embedding_dim` values.
    Fc {
        /// Width of the embedding.
        embedding_dim: usize,
    },
    /// Batch normalization; the width stays.
    BnNeck,
    /// A 1×1 convolution with bias to `embedding_dim` values: the neck of the vehicle and logo
    /// recipes.
    Vehicle {
        /// Width of the embedding.
        embedding_dim: usize,
    },
    /// `tanh`, for features whose signs become a binary code; the width stays.
    Tanh,
    /// [`Self::Fc`] with `tanh` behind it: the end of the reference's `PPLCNet_x2_5_Tanh`.
    FcTanh {
        /// Length of the code.
        embedding_dim: usize,
    },
}

impl NeckConfig {
    /// A freshly initialized neck for features of this width.
    pub fn init(&self, features: usize, device: &Device) -> Neck {
        match *self {
            Self::Fc { embedding_dim } => Neck::Fc(FcNeck::new(features, embedding_dim, device)),
            Self::BnNeck => Neck::BnNeck(BnNeck::new(features, device)),
            Self::Vehicle { embedding_dim } => {
                Neck::Vehicle(VehicleNeck::new(features, embedding_dim, device))
            }
            Self::Tanh => Neck::Tanh(TanhNeck::default()),
            Self::FcTanh { embedding_dim } => {
                Neck::FcTanh(FcNeck::new(features, embedding_dim, device))
            }
        }
    }

    /// Whether a neck can be made of it.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check(&self) -> Result<(), LimitError> {
        within("embedding_dim", self.embedding_dim(1), &(1..=MAX_WIDTH))
    }

    /// Width of the embedding for features of this width.
    pub fn embedding_dim(&self, features: usize) -> usize {
        match *self {
            Self::Fc { embedding_dim }
            | Self::Vehicle { embedding_dim }
            | Self::FcTanh { embedding_dim } => embedding_dim,
            Self::BnNeck | Self::Tanh => features,
        }
    }
}

/// Turns pooled features into the embedding, before it is brought to unit length.
#[derive(Module, Debug)]
pub enum Neck {
    /// See [`FcNeck`].
    Fc(FcNeck),
    /// See [`BnNeck`].
    BnNeck(BnNeck),
    /// See [`VehicleNeck`].
    Vehicle(VehicleNeck),
    /// See [`NeckConfig::Tanh`].
    Tanh(TanhNeck),
    /// See [`NeckConfig::FcTanh`].
    FcTanh(FcNeck),
}

/// `tanh`, nothing learned.
#[derive(Module, Debug, Default)]
pub struct TanhNeck {}

impl Neck {
    /// From a vector of the features to one of `embedding_dim` values, of any length.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        match self {
            Self::Fc(neck) => neck.wire(flow, x),
            Self::BnNeck(neck) => neck.wire(flow, x),
            Self::Vehicle(neck) => neck.wire(flow, x),
            Self::Tanh(_) => flow.apply(x, Gate::Tanh),
            Self::FcTanh(neck) => {
                let y = neck.wire(flow, x);
                flow.apply(y, Gate::Tanh)
            }
        }
    }

    /// # Shapes
    ///
    /// - `x`: `[batch, features]`
    /// - output: `[batch, embedding_dim]`, any length
    #[cfg(feature = "tensors")]
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        Eager::vectors(x, |flow, x| self.wire(flow, x))
    }
}

/// `x · W + b`; `W` is drawn by Xavier's normal rule.
#[derive(Module, Debug)]
pub struct FcNeck {
    /// `[features, embedding_dim]`
    pub weight: Param<Tensor<2>>,
    /// `[embedding_dim]`
    pub bias: Param<Tensor<1>>,
}

impl FcNeck {
    /// A freshly initialized layer.
    pub fn new(features: usize, embedding_dim: usize, device: &Device) -> Self {
        let std = (2.0 / (features + embedding_dim) as f64).sqrt();
        Self {
            weight: normal([features, embedding_dim], std, device),
            bias: constant([embedding_dim], 0.0, device),
        }
    }

    /// The neck's wiring.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        flow.linear(x, &self.weight, &self.bias)
    }

    /// # Shapes
    ///
    /// - `x`: `[batch, features]`
    /// - output: `[batch, embedding_dim]`
    #[cfg(feature = "tensors")]
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        Eager::vectors(x, |flow, x| self.wire(flow, x))
    }
}

/// A 1×1 convolution with bias on the pooled map.
#[derive(Module, Debug)]
pub struct VehicleNeck {
    /// The convolution.
    pub conv: Conv,
}

impl VehicleNeck {
    /// A freshly initialized layer.
    pub fn new(features: usize, embedding_dim: usize, device: &Device) -> Self {
        Self { conv: Conv::new(ConvShape::pointwise(features, embedding_dim), true, device) }
    }

    /// The neck's wiring.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        flow.conv(x, &self.conv, Activation::Identity)
    }

    /// # Shapes
    ///
    /// - `x`: `[batch, features]`
    /// - output: `[batch, embedding_dim]`
    #[cfg(feature = "tensors")]
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        Eager::vectors(x, |flow, x| self.wire(flow, x))
    }
}

/// Batch normalization with the shift frozen at 0.
///
/// Source: "Bag of Tricks and a Strong Baseline for Deep Person Re-identification",
/// <https://arxiv.org/abs/1903.07071>, §3.6.
#[derive(Module, Debug)]
pub struct BnNeck {
    /// The normalization.
    pub feat_bn: BatchNorm,
}

impl BnNeck {
    /// Scale 1, shift 0.
    pub fn new(features: usize, device: &Device) -> Self {
        let mut feat_bn = BatchNorm::new(features, device);
        feat_bn.bias = frozen(feat_bn.bias);
        Self { feat_bn }
    }

    /// The neck's wiring.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        flow.batch_norm(x, &self.feat_bn)
    }

    /// # Shapes
    ///
    /// - `x`, output: `[batch, features]`
    #[cfg(feature = "tensors")]
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        Eager::vectors(x, |flow, x| self.wire(flow, x))
    }
}
