//! Supervised contrastive loss: every other picture of the class is a right answer among the batch.
//!
//! Source: "Supervised Contrastive Learning", <https://arxiv.org/abs/2004.11362>, Eq. 2.
//! Agrees with PaddleClas `ppcls/loss/supconloss.py` @ d178931 with `contrast_mode: all` and equal
//! temperatures. Difference: positives follow from the labels, so that views of a class need not be
//! adjacent; an anchor without any positive counts 0.

use burn::tensor::{Bool, Int, Tensor, activation};
use models::extractor::l2_normalize;
use serde::{Deserialize, Serialize};

/// Takes a picture itself out of the softmax: far below any cosine over any temperature.
const OUT: f64 = -1e9;

/// `−mean over positives of log softmax(cosine / temperature)`, mean over anchors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SupervisedContrastive {
    /// 0.07 in the paper.
    pub temperature: f64,
}

impl SupervisedContrastive {
    /// # Shapes
    ///
    /// - `features`: `[batch, dim]`, any length
    /// - `targets`: `[batch]`
    /// - output: `[1]`
    pub fn forward(&self, features: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
        let features = l2_normalize(features);
        let batch = features.dims()[0];
        let device = features.device();
        let itself: Tensor<2, Bool> = Tensor::<2>::eye(batch, &device).bool();
        let logits = features.clone().matmul(features.transpose()) / self.temperature;
        let log_softmax = activation::log_softmax(logits.mask_fill(itself.clone(), OUT), 1);
        let rows = targets.clone().unsqueeze_dim::<2>(1).expand([batch, batch]);
        let columns = targets.unsqueeze_dim::<2>(0).expand([batch, batch]);
        let positive = rows.equal(columns).float().mask_fill(itself, 0.0);
        let count = positive.clone().sum_dim(1).clamp_min(1.0);
        ((log_softmax * positive).sum_dim(1) / count).mean().neg()
    }
}
