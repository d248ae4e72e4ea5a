//! Cross entropy with label smoothing.
//!
//! Agrees with PaddleClas `ppcls/loss/celoss.py` @ d178931.

use burn::tensor::{Int, Tensor, activation};

/// Mean of [`cross_entropy_by_row`].
///
/// # Shapes
///
/// - `logits`: `[batch, classes]`
/// - `targets`: `[batch]`, class index in `0..classes`
/// - output: `[1]`
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>, epsilon: f64) -> Tensor<1> {
    cross_entropy_by_row(logits, targets, epsilon).mean()
}

/// `−Σ t·log softmax(logits)` with `t = (1 − ε)·onehot + ε / classes` (`reduction: none`).
///
/// # Shapes
///
/// - `logits`: `[batch, classes]`
/// - `targets`: `[batch]`, class index in `0..classes`
/// - output: `[batch]`
pub fn cross_entropy_by_row(logits: Tensor<2>, targets: Tensor<1, Int>, epsilon: f64) -> Tensor<1> {
    let log_softmax = activation::log_softmax(logits, 1);
    let of_target = log_softmax.clone().gather(1, targets.unsqueeze_dim(1));
    let mut loss = of_target * (epsilon - 1.0);
    if epsilon != 0.0 {
        loss = loss - log_softmax.mean_dim(1) * epsilon;
    }
    loss.squeeze_dim(1)
}

/// Mean of `−Σ softmax(labels)·log softmax(logits)`.
///
/// The softmax of the labels is the reference's: it is applied to whatever is given, even to
/// probabilities.
///
/// # Shapes
///
/// - `logits`, `labels`: `[batch, classes]`
/// - output: `[1]`
pub fn soft_cross_entropy(logits: Tensor<2>, labels: Tensor<2>) -> Tensor<1> {
    let wanted = activation::softmax(labels, 1);
    (activation::log_softmax(logits, 1) * wanted).sum_dim(1).mean().neg()
}
