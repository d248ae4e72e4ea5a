//! Contrastive losses on cosines, N-pairs, and cosface on pairs.
//!
//! Agrees with PaddleClas `ppcls/loss/{contrastiveloss,npairsloss,pairwisecosface}.py` @ d178931.

use burn::tensor::{Bool, Int, Tensor};
use models::extractor::l2_normalize;
use serde::{Deserialize, Serialize};

use super::cross_entropy;
use super::pairs::{PairLoss, diagonal, log_sum_exp, same_class, softplus};

/// Takes a pair out of a sum of exponentials; the reference's value.
const OUT: f64 = -99_999_999.0;

/// `Σ same, s < 1 − ε (1 − s) + Σ different, s > margin s`, summed over rows, divided by the batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contrastive {
    /// Negatives below this cosine count nothing; 0.5 in the reference.
    pub margin: f64,
    /// Positives nearer to 1 than this count nothing (the row itself); 1e-5 in the reference.
    #[serde(default = "default_epsilon")]
    pub epsilon: f64,
    /// Whether the features are brought to unit length first.
    #[serde(default = "super::pairs::default_normalize")]
    pub normalize: bool,
}

fn default_epsilon() -> f64 {
    1e-5
}

impl Contrastive {
    /// # Shapes
    ///
    /// - `features`: `[batch, dim]`
    /// - `targets`: `[batch]`
    /// - output: `[1]`
    pub fn forward(&self, features: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
        self.within(features, targets)
    }
}

impl PairLoss for Contrastive {
    fn normalizes(&self) -> bool {
        self.normalize
    }

    fn of_similarities(&self, similarity: Tensor<2>, same: Tensor<2, Bool>) -> Tensor<1> {
        let batch = similarity.dims()[0] as f64;
        let positive = same.clone().bool_and(similarity.clone().lower_elem(1.0 - self.epsilon));
        let negative = same.bool_not().bool_and(similarity.clone().greater_elem(self.margin));
        let pull = (similarity.clone().neg() + 1.0).mask_fill(positive.bool_not(), 0.0);
        let push = similarity.mask_fill(negative.bool_not(), 0.0);
        (pull.sum() + push.sum()) / batch
    }
}

/// Cross entropy of anchors against positives, the right answer being the row's own number, plus
/// `½·reg·mean ‖f‖²` over all rows (`NpairsLoss`). Rows alternate anchor, positive, anchor, ….
///
/// Source: "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", NIPS 2016.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NPairs {
    /// 0.01 in the reference.
    pub regularization: f64,
}

impl NPairs {
    /// # Shapes
    ///
    /// - `features`: `[batch, dim]`, `batch` even, see [`super::check_order`] with 2
    /// - output: `[1]`
    pub fn forward(&self, features: Tensor<2>) -> Tensor<1> {
        let [batch, dim] = features.dims();
        let pairs = features.clone().reshape([batch / 2, 2, dim]);
        let side = |k: usize| pairs.clone().narrow(1, k, 1).reshape([batch / 2, dim]);
        let logits = side(0).matmul(side(1).transpose());
        let targets = Tensor::arange(0..(batch / 2) as i64, &features.device());
        let length = features.powi_scalar(2).sum_dim(1).mean();
        cross_entropy(logits, targets, 0.0) + length * (self.regularization / 2.0)
    }
}

/// `softplus(ln Σ e^{−γ·s₊} + ln Σ e^{γ·(s₋ + margin)})`, mean over rows (`PairwiseCosface`).
///
/// Source: "Circle Loss", <https://arxiv.org/abs/2002.10857>, Eq. 1, in its cosface form.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairwiseCosface {
    /// 0.35 in the logo recipe.
    pub margin: f64,
    /// `γ`, 64 in the logo recipe.
    pub gamma: f64,
}

impl PairwiseCosface {
    /// # Shapes
    ///
    /// - `features`: `[batch, dim]`, any length
    /// - `targets`: `[batch]`
    /// - output: `[1]`
    pub fn forward(&self, features: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
        let same = same_class(targets.clone(), targets);
        let positive: Tensor<2, Bool> = same.clone().bool_and(diagonal(&features).bool_not());
        let features = l2_normalize(features);
        let similarity = features.clone().matmul(features.transpose());
        let pull = (similarity.clone() * -self.gamma).mask_fill(positive.bool_not(), OUT);
        let push = ((similarity + self.margin) * self.gamma).mask_fill(same, OUT);
        softplus(log_sum_exp(pull) + log_sum_exp(push)).mean()
    }
}
