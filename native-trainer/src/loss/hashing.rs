//! Losses for binary codes: features whose signs are the code.
//!
//! Agrees with PaddleClas `ppcls/loss/deephashloss.py` @ d178931.

use burn::tensor::{Int, Tensor, activation};
use serde::{Deserialize, Serialize};

use super::cross_entropy;
use super::pairs::{same_class, softplus, squared_distances};

/// Similar codes near, others at least `2·bits` apart, and a classifier on top (`DSHSDLoss`).
///
/// Source: "Deep Supervised Hashing Based on Stable Distribution", IEEE Access 2019.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dshsd {
    /// Factor of the pair term; 0.05 in the reference's recipe.
    pub alpha: f64,
    /// One logistic decision a class instead of one softmax.
    #[serde(default)]
    pub multi_label: bool,
}

impl Dshsd {
    /// # Shapes
    ///
    /// - `features`: `[batch, bits]`
    /// - `logits`: `[batch, classes]`
    /// - `targets`: `[batch]`
    /// - output: `[1]`
    pub fn forward(
        &self,
        features: Tensor<2>,
        logits: Tensor<2>,
        targets: Tensor<1, Int>,
    ) -> Tensor<1> {
        let bits = features.dims()[1] as f64;
        let same = same_class(targets.clone(), targets.clone());
        let distance = squared_distances(features);
        let apart = activation::relu(distance.clone().neg() + 2.0 * bits);
        let pairs = (distance.mask_fill(same.clone().bool_not(), 0.0) + apart.mask_fill(same, 0.0))
            .mean()
            / 2.0;
        let classification = if self.multi_label {
            let classes = logits.dims()[1];
            let wanted =
                same_class(targets, Tensor::arange(0..classes as i64, &logits.device())).float();
            (softplus(logits.clone()) - logits * wanted).sum_dim(1).mean()
        } else {
            cross_entropy(logits, targets, 0.0)
        };
        classification + pairs * self.alpha
    }
}

/// Half inner products stay within this, so that their exponentials stay finite.
const LARGEST_PRODUCT: f64 = 50.0;

/// Likelihood of pair similarities, and agreement of features with their signs (`LCDSHLoss`).
///
/// Source: "Locality-Constrained Deep Supervised Hashing for Image Retrieval", IJCAI 2017.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lcdsh {
    /// Factor of the agreement; 3 in the reference.
    pub lambda: f64,
}

impl Lcdsh {
    /// # Shapes
    ///
    /// - `features`: `[batch, bits]`
    /// - `targets`: `[batch]`
    /// - output: `[1]`
    pub fn forward(&self, features: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
        let same = same_class(targets.clone(), targets).float();
        let products = |f: Tensor<2>| f.clone().matmul(f.transpose()) / 2.0;
        let real = products(features.clone()).clamp(-LARGEST_PRODUCT, LARGEST_PRODUCT);
        let binary = products(features.sign().detach());
        // +1 for one class, −1 otherwise.
        let sign = same * 2.0 - 1.0;
        let likelihood = softplus((sign * real.clone()).neg()).mean();
        let agreement = activation::sigmoid(real) - activation::sigmoid(binary);
        likelihood + agreement.powi_scalar(2).mean() * self.lambda
    }
}

/// Largest cosine: the distance stays above 0, where its logarithm is taken.
const LARGEST_COSINE: f64 = 0.99;

/// Cauchy cross entropy of Hamming-like distances (`DCHLoss`).
///
/// Source: "Deep Cauchy Hashing for Hamming Space Retrieval", CVPR 2018.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dch {
    /// Scale of the distances; 20 in the reference.
    pub gamma: f64,
    /// Factor of the quantization term; 0.1 in the reference.
    pub lambda: f64,
}

impl Dch {
    /// # Shapes
    ///
    /// - `features`: `[batch, bits]`
    /// - `targets`: `[batch]`; two classes at least
    /// - output: `[1]`
    pub fn forward(&self, features: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
        let [_, bits] = features.dims();
        let same = same_class(targets.clone(), targets).float();
        let different = same.clone().neg() + 1.0;
        let pairs = same.clone().mean().reshape([1, 1]);
        // Rare similar pairs count as much as the many others together.
        let weight = same.clone() / pairs.clone() + different / (pairs.neg() + 1.0);
        let distance = |cosine: Tensor<2>| {
            (cosine.clamp_max(LARGEST_COSINE).neg() + 1.0) * (bits as f64 / 2.0)
        };
        let length = |f: &Tensor<2>| f.clone().powi_scalar(2).sum_dim(1).sqrt();
        let lengths = length(&features);
        let cosine = features.clone().matmul(features.clone().transpose())
            / lengths.clone().matmul(lengths.clone().transpose());
        let scaled = distance(cosine) / self.gamma;
        let likelihood =
            (weight * (same * scaled.clone().log() + (scaled.recip() + 1.0).log())).mean();
        let to_ones = features.abs().sum_dim(1) / (lengths * (bits as f64).sqrt());
        let quantization = (distance(to_ones) / self.gamma + 1.0).log().mean();
        likelihood + quantization * self.lambda
    }
}
