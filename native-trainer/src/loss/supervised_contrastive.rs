//! Supervised contrastive loss: every other picture of the class is a right answer among the batch.
//!
//! Source: "Supervised Contrastive Learning", <https://arxiv.org/abs/2004.11362>, Eq. 2.
//! Agrees with PaddleClas `ppcls/loss/supconloss.py` @ d178931 with `contrast_mode: all`.
//! Difference: positives follow from the labels, so that views of a class need not be
//! adjacent; an anchor without any positive counts 0.

use burn::tensor::{Int, Tensor, activation};
use models::extractor::l2_normalize;
use serde::{Deserialize, Serialize};

use super::pairs::{diagonal, same_class};

/// Takes a picture itself out of the softmax: far below any cosine over any temperature.
const OUT: f64 = -1e9;

/// `−mean over positives of log softmax(cosine / temperature)`, mean over anchors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SupervisedContrastive {
    /// 0.07 in the paper.
    pub temperature: f64,
    /// The loss is multiplied by `temperature / base_temperature`; absent: by 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_temperature: Option<f64>,
}

impl SupervisedContrastive {
    /// # Shapes
    ///
    /// - `features`: `[batch, dim]`, any length
    /// - `targets`: `[batch]`
    /// - output: `[1]`
    pub fn forward(&self, features: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
        let features = l2_normalize(features);
        let itself = diagonal(&features);
        let logits = features.clone().matmul(features.transpose()) / self.temperature;
        let log_softmax = activation::log_softmax(logits.mask_fill(itself.clone(), OUT), 1);
        let positive = same_class(targets.clone(), targets).float().mask_fill(itself, 0.0);
        let count = positive.clone().sum_dim(1).clamp_min(1.0);
        let factor = self.base_temperature.map_or(1.0, |base| self.temperature / base);
        ((log_softmax * positive).sum_dim(1) / count).mean() * -factor
    }
}
