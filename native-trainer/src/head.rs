//! Classification heads that exist only in training.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Int, Tensor};
use models::extractor::l2_normalize;
use serde::{Deserialize, Serialize};

/// Which head, with its options.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum HeadConfig {
    /// A linear layer without bias, drawn from N(0, 0.001²): the head of PP-ShiTuV2.
    Fc,
    /// See [`ArcMargin`].
    ArcMargin {
        /// Angle added for the target class, in radians; 0.2 in PP-ShiTuV1.
        margin: f64,
        /// Factor of the cosines; 30 in PP-ShiTuV1.
        scale: f64,
    },
}

impl HeadConfig {
    /// A freshly initialised head.
    pub fn init(&self, embedding_dim: usize, classes: usize, device: &Device) -> Head {
        let shape = [embedding_dim, classes];
        match *self {
            Self::Fc => Head::Fc(Fc {
                weight: Initializer::Normal { mean: 0.0, std: 0.001 }.init(shape, device),
            }),
            Self::ArcMargin { margin, scale } => {
                let std = (2.0 / (embedding_dim + classes) as f64).sqrt();
                let weight = Initializer::Normal { mean: 0.0, std }.init(shape, device);
                Head::ArcMargin(ArcMargin { weight, margin, scale })
            }
        }
    }
}

/// Turns embeddings into class logits.
#[derive(Module, Debug)]
pub enum Head {
    /// See [`Fc`].
    Fc(Fc),
    /// See [`ArcMargin`].
    ArcMargin(ArcMargin),
}

impl Head {
    /// # Shapes
    ///
    /// - `raw_embedding`: `[batch, embedding_dim]`, any length
    /// - `targets`: `[batch]`, class index in `0..classes`
    /// - output: `[batch, classes]`
    pub fn forward(&self, raw_embedding: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<2> {
        match self {
            Self::Fc(head) => raw_embedding.matmul(head.weight.val()),
            Self::ArcMargin(head) => head.forward(raw_embedding, targets),
        }
    }
}

/// Linear layer without bias.
#[derive(Module, Debug)]
pub struct Fc {
    /// `[embedding_dim, classes]`
    pub weight: Param<Tensor<2>>,
}

/// Additive angular margin.
///
/// Source: Deng et al., "ArcFace", CVPR 2019, <https://arxiv.org/abs/1801.07698>, Eq. 3.
/// Agrees with PaddleClas `ppcls/arch/gears/arcmargin.py` @ d178931 (`easy_margin = false`).
#[derive(Module, Debug)]
pub struct ArcMargin {
    /// `[embedding_dim, classes]`
    pub weight: Param<Tensor<2>>,
    /// Radians.
    pub margin: f64,
    /// Factor of the cosines.
    pub scale: f64,
}

impl ArcMargin {
    /// `s·cos(θ + m)` for the target class, `s·cos θ` for the others.
    ///
    /// Where `θ + m` would pass π the target logit falls back to `s·(cos θ − m·sin m)`, so that the
    /// loss stays monotonic in `θ`.
    ///
    /// # Shapes
    ///
    /// - `raw_embedding`: `[batch, embedding_dim]`, any length
    /// - `targets`: `[batch]`
    /// - output: `[batch, classes]`
    pub fn forward(&self, raw_embedding: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<2> {
        let weight = l2_normalize(self.weight.val().transpose()).transpose();
        let cos = l2_normalize(raw_embedding).matmul(weight);
        let classes = cos.dims()[1];
        // The reference keeps 1e-6 under the root so that the gradient stays finite at cos = ±1.
        let sin = (cos.clone().powi_scalar(2).neg() + (1.0 + 1e-6)).sqrt();
        let phi = cos.clone() * self.margin.cos() - sin * self.margin.sin();
        let fallback = cos.clone() - self.margin * self.margin.sin();
        let past_pi = cos.clone().lower_equal_elem((std::f64::consts::PI - self.margin).cos());
        let target_logits = phi.mask_where(past_pi, fallback);
        let is_target = targets.one_hot::<2>(classes).bool();
        cos.mask_where(is_target, target_logits) * self.scale
    }
}
