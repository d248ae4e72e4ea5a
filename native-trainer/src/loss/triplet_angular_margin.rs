//! Triplet loss on cosines with absolute bounds, the metric loss of PP-ShiTuV2.
//!
//! Agrees with PaddleClas `ppcls/loss/tripletangularmarginloss.py` @ d178931. Difference: an
//! absolute negative term within its bound counts 0; the reference counts a constant 1 there, which
//! changes the printed value and no gradient, and which [`AbsoluteTerms::reference_constant`]
//! brings back.

use burn::tensor::{Bool, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::pairs::{PairLoss, hinge};

/// The reference's similarity of a pair that does not count.
const NO_PAIR: f64 = 10.0;

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
    #[serde(default = "super::pairs::default_normalize")]
    pub normalize: bool,
    /// Absent: the difference alone.
    pub absolute: Option<AbsoluteTerms>,
}

impl TripletAngularMargin {
    /// # Shapes
    ///
    /// - `features`: `[batch, dim]`
    /// - `targets`: `[batch]`; every class at least once, two classes at least
    /// - output: `[1]`
    pub fn forward(&self, features: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
        self.within(features, targets)
    }
}

impl PairLoss for TripletAngularMargin {
    fn normalizes(&self) -> bool {
        self.normalize
    }

    fn of_similarities(&self, similarity: Tensor<2>, same: Tensor<2, Bool>) -> Tensor<1> {
        // Cosines lie in −1..=1; if a row has no such pair, its terms vanish.
        let positive = similarity.clone().mask_fill(same.clone().bool_not(), NO_PAIR).min_dim(1);
        let negative = similarity.mask_fill(same, -NO_PAIR).max_dim(1);
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
