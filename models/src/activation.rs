//! Activations behind convolutions.

#[cfg(feature = "tensors")]
use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

/// Function applied after a convolution and its normalization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// `x`
    Identity = 0,
    /// `max(x, 0)`
    Relu = 1,
    /// `x · clip(x + 3, 0, 6) / 6`
    HardSwish = 2,
    /// `clip(x, 0, 6)`
    Relu6 = 3,
}

#[cfg(feature = "tensors")]
impl Activation {
    /// Applies the function elementwise.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Identity => x,
            Self::Relu => activation::relu(x),
            Self::HardSwish => {
                let gate = activation::hard_sigmoid(x.clone(), 1.0 / 6.0, 0.5);
                x * gate
            }
            Self::Relu6 => x.clamp(0.0, 6.0),
        }
    }

    pub(crate) fn from_index(index: usize) -> Self {
        [Self::Identity, Self::Relu, Self::HardSwish, Self::Relu6][index]
    }
}
