//! A margin that adapts to how good a picture is, as told by the length of its embedding.

use burn::module::{Module, Param, RunningState};
use burn::tensor::{Int, Tensor};

use super::is_target;

/// Keeps cosines and angles away from the ends of their ranges.
const EPSILON: f64 = 1e-3;
/// Lengths are brought into this range before their statistics.
const LENGTHS: [f64; 2] = [0.001, 100.0];
/// Mean and standard deviation of the lengths before any batch was seen.
const FIRST_STATISTICS: [f64; 2] = [20.0, 100.0];

/// Adaptive margin.
///
/// Source: Kim et al., "AdaFace", CVPR 2022, <https://arxiv.org/abs/2204.00964>, Eq. 12–15.
/// Agrees with PaddleClas `ppcls/arch/gears/adamargin.py` @ d178931. Difference: the class weights
/// learn; the reference's recorded steps pass them no gradient.
#[derive(Module, Debug)]
pub struct AdaMargin {
    /// `[embedding_dim, classes]`
    pub weight: Param<Tensor<2>>,
    mean: RunningState<Tensor<1>>,
    deviation: RunningState<Tensor<1>>,
    margin: f64,
    scale: f64,
    slope: f64,
    momentum: f64,
}

impl AdaMargin {
    /// A head that has seen no batch; the options are those of
    /// [`HeadConfig::AdaMargin`](super::HeadConfig).
    pub fn new(
        weight: Param<Tensor<2>>,
        margin: f64,
        scale: f64,
        slope: f64,
        momentum: f64,
    ) -> Self {
        let device = weight.val().device();
        let state = |value| RunningState::new(Tensor::full([1], value, &device));
        let [mean, deviation] = FIRST_STATISTICS.map(state);
        Self { weight, mean, deviation, margin, scale, slope, momentum }
    }

    /// Running mean and standard deviation of the lengths, `[1]` each.
    pub fn statistics(&self) -> [Tensor<1>; 2] {
        [self.mean.value_sync(), self.deviation.value_sync()]
    }

    /// With `q = clip(h·(‖x‖ − mean) / deviation, −1, 1)`: `s·(cos(θ − m·q) − m − m·q)` for the
    /// target class, `s·cos θ` for the others. No gradient through the length.
    ///
    /// # Shapes
    ///
    /// - `cos`: `[batch, classes]`, cosines of embeddings and class weights
    /// - `raw_embedding`: `[batch, embedding_dim]`, any length; two rows at least
    /// - `targets`: `[batch]`
    /// - output: `[batch, classes]`
    pub(super) fn logits(
        &self,
        cos: Tensor<2>,
        raw_embedding: Tensor<2>,
        targets: Tensor<1, Int>,
    ) -> Tensor<2> {
        let squares = raw_embedding.detach().powi_scalar(2).sum_dim(1);
        let length = squares.sqrt().clamp(LENGTHS[0], LENGTHS[1]);
        let batch_mean = length.clone().mean();
        let apart = length.clone() - batch_mean.clone().unsqueeze();
        let count = (length.dims()[0] as f64 - 1.0).max(1.0);
        let batch_deviation = (apart.powi_scalar(2).sum() / count).sqrt();
        let update = |state: &RunningState<Tensor<1>>, batch: Tensor<1>| {
            let old = state.value_sync().to_device(&batch.device());
            let new = (batch * self.momentum + old * (1.0 - self.momentum)).detach();
            state.update(new.clone());
            new
        };
        let mean = update(&self.mean, batch_mean);
        let deviation = update(&self.deviation, batch_deviation);
        let quality = (length - mean.unsqueeze()) / (deviation + EPSILON).unsqueeze();
        let share = (quality * self.slope).clamp(-1.0, 1.0) * self.margin;

        // Sums of angles in place of arcs: what GPUs make of acos is good to three digits only.
        let cos = cos.clamp(EPSILON - 1.0, 1.0 - EPSILON);
        let target = is_target(targets, cos.dims()[1]).float();
        let own = (cos.clone() * target.clone()).sum_dim(1);
        let sine = (own.clone().powi_scalar(2).neg() + 1.0).sqrt();
        let turned = own.clone() * share.clone().cos() + sine * share.clone().sin();
        // θ − share stays within [ε, π − ε].
        let too_near = own.clone().greater((share.clone() + EPSILON).clamp_min(0.0).cos());
        let too_far = own.clone().lower((share.clone() - EPSILON).clamp_max(0.0).cos().neg());
        let turned = turned.mask_fill(too_near, EPSILON.cos()).mask_fill(too_far, -EPSILON.cos());
        let cos = cos + target.clone() * (turned - own);
        (cos - target * (share + self.margin)) * self.scale
    }
}
