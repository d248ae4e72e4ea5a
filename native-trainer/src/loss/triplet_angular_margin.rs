//! Triplet loss on cosines with absolute bounds, the metric loss of PP-ShiTuV2.
//!
//! Agrees with PaddleClas `ppcls/loss/tripletangularmarginloss.py` @ d178931. Difference: an
//! absolute negative term within its bound counts 0; the reference counts a constant 1 there, which
//! changes the printed value and no gradient, and which [`AbsoluteTerms::reference_constant`]
//! brings back.

use burn::tensor::{Bool, Int, Tensor};
use models::extractor::l2_normalize;
use serde::{Deserialize, Serialize};

/// Bounds on the cosines themselves, beside their difference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbsoluteTerms {
    /// Factor of both terms; 0.1 in PP-ShiTuV2.
    pub weight: f64,
    /// A positive pair should be at least this similar; 0.8 in PP-ShiTuV2.
    pub positive: f64,
    /// A negative pair should be at most this similar; 0.4 in PP-ShiTuV2.
    pub negative: f64,
    /// Adds the reference's constant.
    #[serde(default)]
    pub reference_constant: bool,
}

/// `mean [hardest negative − hardest positive + margin]₊`, on cosines.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TripletAngularMargin {
    /// 0.5 in PP-ShiTuV2.
    pub margin: f64,
    /// Whether the features are brought to unit length first.
    #[serde(default = "yes")]
    pub normalize: bool,
    /// Absent: the difference alone.
    pub absolute: Option<AbsoluteTerms>,
}

fn yes() -> bool {
    true
}

impl TripletAngularMargin {
    /// # Shapes
    ///
    /// - `features`: `[batch, dim]`
    /// - `targets`: `[batch]`; every class at least once, two classes at least
    /// - output: `[1]`
    pub fn forward(&self, features: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
        let features = if self.normalize { l2_normalize(features) } else { features };
        let similarity = features.clone().matmul(features.transpose());
        let batch = similarity.dims()[0];
        let rows = targets.clone().unsqueeze_dim::<2>(1).expand([batch, batch]);
        let columns = targets.unsqueeze_dim::<2>(0).expand([batch, batch]);
        let same: Tensor<2, Bool> = rows.equal(columns);
        // Cosines lie in −1..=1, so 2 and −2 never win.
        let positive = similarity.clone().mask_fill(same.clone().bool_not(), 2.0).min_dim(1);
        let negative = similarity.mask_fill(same, -2.0).max_dim(1);
        let hinge = |x: Tensor<2>| burn::tensor::activation::relu(x).mean();
        let relative = hinge(negative.clone() - positive.clone() + self.margin);
        let Some(absolute) = self.absolute else { return relative };
        let too_far = hinge(positive.neg() + absolute.positive);
        let excess = negative - absolute.negative;
        let mut too_near = hinge(excess.clone());
        if absolute.reference_constant {
            too_near = too_near + excess.lower_equal_elem(0.0).float().mean();
        }
        relative + (too_far + too_near) * absolute.weight
    }
}
