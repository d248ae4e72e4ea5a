//! Losses between a student and a teacher.
//!
//! Agrees with PaddleClas `ppcls/loss/{dmlloss,kldivloss,distanceloss,rkdloss}.py` @ d178931. The
//! caller detaches the teacher where it shall not learn.

use burn::tensor::{Tensor, activation};
use models::extractor::l2_normalize;
use serde::{Deserialize, Serialize};

use super::pairs::diagonal;

/// Added within logarithms of probabilities.
const PROBABILITY_EPSILON: f64 = 1e-12;

/// `½·(KL(p‖q) + KL(q‖p))` of the softmaxes, summed over classes, mean over rows (`DMLLoss`).
///
/// Source: "Deep Mutual Learning", <https://arxiv.org/abs/1706.00384>, Eq. 5.
///
/// # Shapes
///
/// - `student`, `teacher`: logits, `[batch, classes]`
/// - output: `[1]`
pub fn mutual_learning(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    let student = activation::softmax(student, 1);
    let teacher = activation::softmax(teacher, 1);
    let log = |p: &Tensor<2>| (p.clone() + PROBABILITY_EPSILON).log();
    let divergence =
        |of: &Tensor<2>, from: &Tensor<2>| (of.clone() * (log(of) - log(from))).sum_dim(1).mean();
    (divergence(&student, &teacher) + divergence(&teacher, &student)) / 2.0
}

/// `T²·KL(teacher ‖ student)` of softmaxes at temperature `T`, mean over rows (`KLDivLoss`, where
/// `T` is 4).
///
/// Source: "Distilling the Knowledge in a Neural Network", <https://arxiv.org/abs/1503.02531>.
///
/// # Shapes
///
/// - `student`, `teacher`: logits, `[batch, classes]`
/// - output: `[1]`
pub fn kl_divergence(student: Tensor<2>, teacher: Tensor<2>, temperature: f64) -> Tensor<1> {
    let student = activation::log_softmax(student / temperature, 1);
    let teacher = activation::log_softmax(teacher / temperature, 1);
    let divergence = (teacher.clone().exp() * (teacher - student)).sum_dim(1).mean();
    divergence * (temperature * temperature)
}

/// How [`distance`] measures a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DistanceKind {
    /// `x²`
    L2,
    /// `|x|`
    L1,
    /// `x² / 2` within 1, `|x| − 1/2` outside
    SmoothL1,
}

/// Mean over all values of the differences (`DistanceLoss`).
///
/// # Shapes
///
/// - `student`, `teacher`: equal
/// - output: `[1]`
pub fn distance<const D: usize>(
    student: Tensor<D>,
    teacher: Tensor<D>,
    kind: DistanceKind,
) -> Tensor<1> {
    let difference = student - teacher;
    match kind {
        DistanceKind::L2 => difference.powi_scalar(2).mean(),
        DistanceKind::L1 => difference.abs().mean(),
        DistanceKind::SmoothL1 => {
            // Inside, the clamped part is the whole: a²/2; outside it is 1: |x| − 1/2.
            let size = difference.abs();
            let clamped = size.clone().clamp_max(1.0);
            (clamped.clone() * (size - clamped / 2.0)).mean()
        }
    }
}

/// `1 − cos` of each row and the teacher's, mean over rows: what directions lack. Both are brought to
/// unit length, so this is half of the squared distance of what retrieval compares.
///
/// # Shapes
///
/// - `student`, `teacher`: `[batch, dim]`
/// - output: `[1]`
pub fn cosine_distance(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    let cosines = (l2_normalize(student) * l2_normalize(teacher)).sum_dim(1);
    (cosines.neg() + 1.0).mean()
}

/// Pair distances under the root stay above this.
const PAIR_EPSILON: f64 = 1e-12;

/// Distances of all pairs, each set divided by its own mean, compared by smooth L1 (`RkdDistance`).
///
/// Source: "Relational Knowledge Distillation", <https://arxiv.org/abs/1904.05068>, §3.2.1.
///
/// # Shapes
///
/// - `student`: `[batch, dim]`, `teacher`: `[batch, other dim]`
/// - output: `[1]`
pub fn relational_distance(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    let relative = |features: Tensor<2>| {
        let squares = features.clone().powi_scalar(2).sum_dim(1);
        let products = features.clone().matmul(features.clone().transpose());
        let squared = squares.clone() + squares.transpose() - products * 2.0;
        let distance = squared.clamp_min(PAIR_EPSILON).sqrt().mask_fill(diagonal(&features), 0.0);
        let count = distance.clone().greater_elem(0.0).float().sum();
        let mean = distance.clone().sum() / count;
        distance / mean.unsqueeze()
    };
    distance(relative(student), relative(teacher), DistanceKind::SmoothL1)
}

/// Cosines of the angles of all triples of rows, compared by smooth L1 (`RKdAngle`).
///
/// Source: "Relational Knowledge Distillation", <https://arxiv.org/abs/1904.05068>, §3.2.2.
///
/// # Shapes
///
/// - `student`: `[batch, dim]`, `teacher`: `[batch, other dim]`
/// - output: `[1]`
pub fn relational_angle(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    let angles = |features: Tensor<2>| {
        let difference: Tensor<3> =
            features.clone().unsqueeze_dim::<3>(0) - features.unsqueeze_dim::<3>(1);
        let length = (difference.clone().powi_scalar(2).sum_dim(2) + PAIR_EPSILON).sqrt();
        let direction = difference / length;
        direction.clone().matmul(direction.swap_dims(1, 2))
    };
    distance(angles(student), angles(teacher), DistanceKind::SmoothL1)
}
