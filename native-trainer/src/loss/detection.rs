//! Losses of the detector: varifocal, distribution-focal, generalized IoU.
//!
//! Agrees with PaddleDetection `ppdet/modeling/losses/{varifocal_loss,gfocal_loss,iou_loss}.py`
//! @ 666f597.

use burn::tensor::{Int, Tensor, activation};

/// Share of a background point's error that counts.
const ALPHA: f64 = 0.75;

/// Kept under divisions of areas.
const AREA_EPSILON: f64 = 1e-10;

/// Varifocal loss of every point and class, not reduced.
///
/// Source: <https://arxiv.org/abs/2008.13367>, Eq. 2, γ = 2, weighted by the IoU for objects.
///
/// # Shapes
///
/// - `logits`, `targets`: `[points, classes]`; a target is the IoU at its object's class, else 0
/// - output: `[points, classes]`
pub fn varifocal(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<2> {
    let score = activation::sigmoid(logits.clone());
    let error = (score - targets.clone()).abs();
    let background = error.powi_scalar(2) * ALPHA;
    let is_object = targets.clone().greater_elem(0.0);
    let weight = background.mask_where(is_object, targets.clone());
    binary_cross_entropy(logits, targets) * weight
}

/// `softplus(x) − x·t`, in the form that does not overflow.
fn binary_cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<2> {
    let magnitude = logits.clone().abs();
    let log_term = (magnitude.neg().exp() + 1.0).log();
    activation::relu(logits.clone()) - logits * targets + log_term
}

/// Distribution-focal loss of every side, not reduced.
///
/// Source: <https://arxiv.org/abs/2006.04388>, Eq. 6.
///
/// # Shapes
///
/// - `logits`: `[sides, bins]`
/// - `targets`: `[sides]`, distance in strides, in `0..bins − 1`
/// - output: `[sides]`
pub fn distribution_focal(logits: Tensor<2>, targets: Tensor<1>) -> Tensor<1> {
    let left = targets.clone().floor();
    let left_index: Tensor<1, Int> = left.clone().int();
    let right_weight = targets - left;
    let log_softmax = activation::log_softmax(logits, 1);
    let pick = |index: Tensor<1, Int>| {
        log_softmax.clone().gather(1, index.unsqueeze_dim(1)).squeeze_dim::<1>(1)
    };
    let left_loss = pick(left_index.clone()) * (right_weight.clone() - 1.0);
    left_loss - pick(left_index + 1) * right_weight
}

/// `1 − GIoU` of every pair, not reduced.
///
/// Source: <https://arxiv.org/abs/1902.09630>, Algorithm 1.
///
/// # Shapes
///
/// - `boxes`, `targets`: `[pairs, 4]`, x1, y1, x2, y2
/// - output: `[pairs]`
pub fn giou(boxes: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let sides = |boxes: &Tensor<2>| [0, 1, 2, 3].map(|i| boxes.clone().narrow(1, i, 1));
    let [ax1, ay1, ax2, ay2] = sides(&boxes);
    let [bx1, by1, bx2, by2] = sides(&targets);
    let positive = |x: Tensor<2>| activation::relu(x);
    let intersection =
        positive(ax2.clone().min_pair(bx2.clone()) - ax1.clone().max_pair(bx1.clone()))
            * positive(ay2.clone().min_pair(by2.clone()) - ay1.clone().max_pair(by1.clone()));
    let area = |x1: &Tensor<2>, y1: &Tensor<2>, x2: &Tensor<2>, y2: &Tensor<2>| {
        (x2.clone() - x1.clone()) * (y2.clone() - y1.clone())
    };
    let union = area(&ax1, &ay1, &ax2, &ay2) + area(&bx1, &by1, &bx2, &by2) - intersection.clone()
        + AREA_EPSILON;
    let hull = (ax2.max_pair(bx2) - ax1.min_pair(bx1)) * (ay2.max_pair(by2) - ay1.min_pair(by1))
        + AREA_EPSILON;
    let iou = intersection / union.clone();
    let loss = (iou - (hull.clone() - union) / hull).neg() + 1.0;
    loss.squeeze_dim(1)
}
