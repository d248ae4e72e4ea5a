//! Triplet losses on distances.
//!
//! Agrees with PaddleClas `ppcls/loss/{triplet,msmloss,trihardloss,emlloss}.py` @ d178931.
//! Differences: every class may occur any number of times in [`BatchHardTriplet`]; the reference
//! needs each equally often. The gradient of [`MarginSampleMining`] is that of its value; the
//! reference's is twice that, because it meets the hardest pair from both ends.

use burn::tensor::{Bool, Int, Tensor};
use models::extractor::l2_normalize;
use serde::{Deserialize, Serialize};

use super::pairs::{
    diagonal, hinge, max_of, min_of, same_class, same_run, softplus, squared_distances,
};

/// Squared distances stay above this under the root.
const DISTANCE_EPSILON: f64 = 1e-12;

/// `mean [hardest positive − hardest negative + margin]₊`, on L2 distances: `TripletLossV2` with
/// `normalize`, `TripletLoss` without.
///
/// Source: "In Defense of the Triplet Loss", <https://arxiv.org/abs/1703.07737>, Eq. 5.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchHardTriplet {
    /// 0.5 in `TripletLossV2`, 1 in `TripletLoss`.
    pub margin: f64,
    /// Whether the features are brought to unit length first.
    #[serde(default = "super::pairs::default_normalize")]
    pub normalize: bool,
}

impl BatchHardTriplet {
    /// # Shapes
    ///
    /// - `features`: `[batch, dim]`
    /// - `targets`: `[batch]`; two classes at least
    /// - output: `[1]`
    pub fn forward(&self, features: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
        let features = if self.normalize { l2_normalize(features) } else { features };
        let same = same_class(targets.clone(), targets);
        let distance = squared_distances(features).clamp_min(DISTANCE_EPSILON).sqrt();
        let positive = max_of(distance.clone(), same.clone());
        let negative = min_of(distance, same.bool_not());
        hinge(positive - negative + self.margin)
    }
}

/// Hardest pairs by squared distance of unit features, a run of rows being a class.
fn hardest(features: Tensor<2>, samples_per_class: usize) -> (Tensor<2>, Tensor<2>) {
    let same = same_run(&features, samples_per_class);
    let distance = squared_distances(l2_normalize(features));
    (max_of(distance.clone(), same.clone()), min_of(distance, same.bool_not()))
}

/// One triplet a batch: its farthest positive pair against its nearest negative pair (`MSMLoss`).
///
/// Source: "Margin Sample Mining Loss", <https://arxiv.org/abs/1710.00478>, Eq. 6.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarginSampleMining {
    /// 0.1 in the reference.
    pub margin: f64,
    /// Rows of one class in a row; the loss goes by the order of the batch, not by `targets`.
    pub samples_per_class: usize,
}

impl MarginSampleMining {
    /// # Shapes
    ///
    /// - `features`: `[batch, dim]`, see [`super::check_order`]
    /// - output: `[1]`
    pub fn forward(&self, features: Tensor<2>) -> Tensor<1> {
        let (positive, negative) = hardest(features, self.samples_per_class);
        hinge((positive.max() - negative.min() + self.margin).unsqueeze())
    }
}

/// The hardest triplet of every row (`TriHardLoss`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriHard {
    /// 0.1 in the reference.
    pub margin: f64,
    /// Rows of one class in a row; the loss goes by the order of the batch, not by `targets`.
    pub samples_per_class: usize,
}

impl TriHard {
    /// # Shapes
    ///
    /// - `features`: `[batch, dim]`, see [`super::check_order`]
    /// - output: `[1]`
    pub fn forward(&self, features: Tensor<2>) -> Tensor<1> {
        let (positive, negative) = hardest(features, self.samples_per_class);
        hinge(positive - negative + self.margin)
    }
}

/// Smooth triplet loss over all pairs of a row (`EmlLoss`), on squared distances.
///
/// With `b` = farthest positive − nearest negative and `θ` = mean of `e^{p − farthest}` times mean
/// of `e^{nearest − n}`: `S(min(b, T)) + A(max(b, T)) − S(T)`, where `S(x) = ln(1 + βθeˣ) / ln(1 + β)`
/// and `A(x) = (ln θ + x + ln β) / ln(1 + β)` continues it linearly.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eml {
    /// `T`, 20 in the reference.
    pub threshold: f64,
    /// `β`, 100,000 in the reference.
    pub beta: f64,
    /// Rows of one class in a row; the loss goes by the order of the batch, not by `targets`.
    pub samples_per_class: usize,
}

impl Eml {
    /// # Shapes
    ///
    /// - `features`: `[batch, dim]`, see [`super::check_order`]; two rows of a class at least
    /// - output: `[1]`
    pub fn forward(&self, features: Tensor<2>) -> Tensor<1> {
        let same = same_run(&features, self.samples_per_class);
        let others = same.clone().bool_and(diagonal(&features).bool_not());
        let distance = squared_distances(features);
        let farthest = max_of(distance.clone(), others.clone());
        let nearest = min_of(distance.clone(), same.clone().bool_not());
        // Masked exponents are far below 0: their terms vanish.
        let mean_exp = |exponent: Tensor<2>, mask: Tensor<2, Bool>| {
            let count = mask.clone().float().sum_dim(1);
            exponent.mask_fill(mask.bool_not(), -super::pairs::FAR).exp().sum_dim(1) / count
        };
        let theta = mean_exp(distance.clone() - farthest.clone(), others)
            * mean_exp(nearest.clone() - distance, same.bool_not());
        let log_theta = theta.log();
        let gap = farthest - nearest;
        let log_beta = self.beta.ln();
        let smooth = |x: Tensor<2>| softplus(log_theta.clone() + x + log_beta);
        let linear = |x: Tensor<2>| log_theta.clone() + x + log_beta;
        let threshold = gap.clone().detach() * 0.0 + self.threshold;
        let below = smooth(gap.clone().clamp_max(self.threshold));
        let above = linear(gap.clamp_min(self.threshold));
        (below + above - smooth(threshold)).mean() / (1.0 + self.beta).ln()
    }
}
