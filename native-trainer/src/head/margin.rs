//! Heads whose target logit has a margin to pass.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, activation};

use super::is_target;

/// Additive angular margin.
///
/// Source: Deng et al., "ArcFace", CVPR 2019, <https://arxiv.org/abs/1801.07698>, Eq. 3.
/// Agrees with PaddleClas `ppcls/arch/gears/arcmargin.py` @ d178931.
#[derive(Module, Debug)]
pub struct ArcMargin {
    /// `[embedding_dim, classes]`
    pub weight: Param<Tensor<2>>,
    /// Radians.
    pub margin: f64,
    /// Factor of the cosines.
    pub scale: f64,
    /// Leaves a target with a negative cosine as it is.
    pub easy_margin: bool,
}

impl ArcMargin {
    /// `s·cos(θ + m)` for the target class, `s·cos θ` for the others.
    ///
    /// Where `θ + m` would pass π the target logit falls back to `s·(cos θ − m·sin m)`, so that the
    /// loss stays monotonic in `θ`.
    ///
    /// # Shapes
    ///
    /// - `cos`: `[batch, classes]`, cosines of embeddings and class weights
    /// - `targets`: `[batch]`
    /// - output: `[batch, classes]`
    pub(super) fn logits(&self, cos: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<2> {
        let classes = cos.dims()[1];
        // The reference keeps 1e-6 under the root so that the gradient stays finite at cos = ±1.
        let sin = (cos.clone().powi_scalar(2).neg() + (1.0 + 1e-6)).sqrt();
        let phi = cos.clone() * self.margin.cos() - sin * self.margin.sin();
        let (fallback, falls_back) = if self.easy_margin {
            (cos.clone(), cos.clone().lower_equal_elem(0.0))
        } else {
            let past_pi = (std::f64::consts::PI - self.margin).cos();
            let fallback = cos.clone() - self.margin * self.margin.sin();
            (fallback, cos.clone().lower_equal_elem(past_pi))
        };
        let target_logits = phi.mask_where(falls_back, fallback);
        cos.mask_where(is_target(targets, classes), target_logits) * self.scale
    }
}

/// Additive margin on the cosine.
///
/// Source: Wang et al., "CosFace", CVPR 2018, <https://arxiv.org/abs/1801.09414>, Eq. 4.
/// Agrees with PaddleClas `ppcls/arch/gears/cosmargin.py` @ d178931.
#[derive(Module, Debug)]
pub struct CosMargin {
    /// `[embedding_dim, classes]`
    pub weight: Param<Tensor<2>>,
    /// Taken off the target's cosine.
    pub margin: f64,
    /// Factor of the cosines.
    pub scale: f64,
}

impl CosMargin {
    /// `s·(cos θ − m)` for the target class, `s·cos θ` for the others.
    ///
    /// # Shapes
    ///
    /// As [`ArcMargin::logits`].
    pub(super) fn logits(&self, cos: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<2> {
        let target = is_target(targets, cos.dims()[1]).float();
        (cos - target * self.margin) * self.scale
    }
}

/// Circle loss as a head: pairs far from their optimum weigh more.
///
/// Source: Sun et al., "Circle Loss", CVPR 2020, <https://arxiv.org/abs/2002.10857>, Eq. 4–8.
/// Agrees with PaddleClas `ppcls/arch/gears/circlemargin.py` @ d178931.
#[derive(Module, Debug)]
pub struct CircleMargin {
    /// `[embedding_dim, classes]`
    pub weight: Param<Tensor<2>>,
    /// Distance from the optima 1 and 0 that is still allowed.
    pub margin: f64,
    /// Factor of the logits.
    pub scale: f64,
}

impl CircleMargin {
    /// `s·α₊·(cos θ − (1 − m))` for the target class with `α₊ = [1 + m − cos θ]₊`, and
    /// `s·α₋·(cos θ − m)` for the others with `α₋ = [cos θ + m]₊`; no gradient through the weights.
    ///
    /// # Shapes
    ///
    /// As [`ArcMargin::logits`].
    pub(super) fn logits(&self, cos: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<2> {
        let fixed = cos.clone().detach();
        let pull = activation::relu(fixed.clone().neg() + (1.0 + self.margin));
        let push = activation::relu(fixed + self.margin);
        let positive = pull * (cos.clone() - (1.0 - self.margin));
        let negative = push * (cos.clone() - self.margin);
        negative.mask_where(is_target(targets, cos.dims()[1]), positive) * self.scale
    }
}
