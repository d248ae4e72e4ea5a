//! What the pair losses share: who is of one class, and how far apart.

use burn::tensor::{Bool, Int, Tensor, activation};
use models::extractor::l2_normalize;
use thiserror::Error;

/// Farther than any distance, lower than any similarity.
pub(super) const FAR: f64 = 1e9;

/// A batch that a loss cannot be computed on.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum BatchError {
    /// A loss that compares classes got one class only.
    #[error("the batch holds one class only; sample at least two classes a batch")]
    OneClass,
    /// A loss that relies on the order of the batch got another order.
    #[error(
        "the loss expects {expected} pictures of one class in a row, but row {row} breaks that; \
         use the PK sampler with samples_per_class = {expected}"
    )]
    Order {
        /// Pictures of one class in a row.
        expected: usize,
        /// First row that is of another class.
        row: usize,
    },
    /// A loss that looks at a teacher got none.
    #[error("the loss compares with a teacher; name one: extractor.teacher.weights = \"…\"")]
    NoTeacher,
    /// A bank row or a batch row of another width.
    #[error("the memory bank is {bank} wide, the embedding {embedding}; make them equal")]
    Width {
        /// Values of a bank row.
        bank: usize,
        /// Values of an embedding.
        embedding: usize,
    },
    /// More rows than the bank has.
    #[error("a batch of {batch} does not fit into a memory bank of {bank}; enlarge the bank")]
    BankTooSmall {
        /// Rows of the bank.
        bank: usize,
        /// Rows of the batch.
        batch: usize,
    },
}

/// Default of the losses' `normalize`.
pub(super) fn default_normalize() -> bool {
    true
}

/// A loss on the similarities of rows and columns: within a batch they are the same, against a
/// memory they are not.
pub(super) trait PairLoss {
    /// Whether the features are brought to unit length first.
    fn normalizes(&self) -> bool;

    /// The loss of the similarities of rows to columns.
    ///
    /// # Shapes
    ///
    /// - `similarity`, `same` (whether two are of one class): `[batch, memory]`
    /// - output: `[1]`
    fn of_similarities(&self, similarity: Tensor<2>, same: Tensor<2, Bool>) -> Tensor<1>;

    /// The loss of rows against columns, on [`Self::features`].
    ///
    /// # Shapes
    ///
    /// - `rows`: `[batch, dim]`, `row_targets`: `[batch]`
    /// - `columns`: `[memory, dim]`, `column_targets`: `[memory]`
    /// - output: `[1]`
    fn between(
        &self,
        rows: Tensor<2>,
        row_targets: Tensor<1, Int>,
        columns: Tensor<2>,
        column_targets: Tensor<1, Int>,
    ) -> Tensor<1> {
        let similarity = rows.matmul(columns.transpose());
        self.of_similarities(similarity, same_class(row_targets, column_targets))
    }

    /// Features as the loss compares them.
    fn features(&self, features: Tensor<2>) -> Tensor<2> {
        if self.normalizes() { l2_normalize(features) } else { features }
    }

    /// The loss within a batch.
    fn within(&self, features: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
        let features = self.features(features);
        self.between(features.clone(), targets.clone(), features, targets)
    }
}

/// Refuses a batch without negatives.
///
/// # Errors
///
/// [`BatchError::OneClass`].
pub fn check_two_classes(targets: &[i32]) -> Result<(), BatchError> {
    if targets.iter().any(|t| *t != targets[0]) { Ok(()) } else { Err(BatchError::OneClass) }
}

/// Refuses a batch that does not hold `samples` pictures of each class in a row.
///
/// # Errors
///
/// [`BatchError::Order`] with the first row at fault.
pub fn check_order(targets: &[i32], samples: usize) -> Result<(), BatchError> {
    let samples = samples.max(1);
    let breaks = |(row, target): (usize, &i32)| *target != targets[row - row % samples];
    let row = targets.iter().enumerate().find(|&entry| breaks(entry)).map(|(row, _)| row);
    // A batch that ends within a class is short of pictures.
    let row = row.or((!targets.len().is_multiple_of(samples)).then_some(targets.len()));
    row.map_or(Ok(()), |row| Err(BatchError::Order { expected: samples, row }))
}

/// `[rows, columns]`, true where the classes are equal.
pub(super) fn same_class(rows: Tensor<1, Int>, columns: Tensor<1, Int>) -> Tensor<2, Bool> {
    let shape = [rows.dims()[0], columns.dims()[0]];
    rows.unsqueeze_dim::<2>(1).expand(shape).equal(columns.unsqueeze_dim::<2>(0).expand(shape))
}

/// `[batch, batch]`, true where both rows lie in the same run of `samples` rows.
pub(super) fn same_run(features: &Tensor<2>, samples: usize) -> Tensor<2, Bool> {
    let batch = features.dims()[0] as i64;
    let rows: Tensor<1, Int> = Tensor::arange(0..batch, &features.device());
    let runs = rows.div_scalar(samples.max(1) as i64);
    same_class(runs.clone(), runs)
}

/// The diagonal of a `[batch, batch]` matrix.
pub(super) fn diagonal(features: &Tensor<2>) -> Tensor<2, Bool> {
    same_run(features, 1)
}

/// Squared L2 distances of all pairs of rows, `[batch, batch]`, at least 0.
pub(super) fn squared_distances(features: Tensor<2>) -> Tensor<2> {
    let squares = features.clone().powi_scalar(2).sum_dim(1);
    let products = features.clone().matmul(features.transpose());
    (squares.clone() + squares.transpose() - products * 2.0).clamp_min(0.0)
}

/// Largest value of each row among `mask`, `[batch, 1]`.
pub(super) fn max_of(values: Tensor<2>, mask: Tensor<2, Bool>) -> Tensor<2> {
    values.mask_fill(mask.bool_not(), -FAR).max_dim(1)
}

/// Smallest value of each row among `mask`, `[batch, 1]`.
pub(super) fn min_of(values: Tensor<2>, mask: Tensor<2, Bool>) -> Tensor<2> {
    values.mask_fill(mask.bool_not(), FAR).min_dim(1)
}

/// `max(x, 0)`, mean over all values.
pub(super) fn hinge(x: Tensor<2>) -> Tensor<1> {
    activation::relu(x).mean()
}

/// `ln Σ exp` over each row, `[batch, 1]`.
pub(super) fn log_sum_exp(x: Tensor<2>) -> Tensor<2> {
    let largest = x.clone().detach().max_dim(1);
    (x - largest.clone()).exp().sum_dim(1).log() + largest
}

/// `ln (1 + exp x)` without overflow.
pub(super) fn softplus<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activation::relu(x.clone()) + (x.abs().neg().exp() + 1.0).log()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_in_another_order_names_the_row() {
        assert_eq!(check_order(&[4, 4, 1, 1], 2), Ok(()));
        assert_eq!(check_order(&[4, 4, 1, 2], 2), Err(BatchError::Order { expected: 2, row: 3 }));
        assert_eq!(check_order(&[4, 4, 1], 2), Err(BatchError::Order { expected: 2, row: 3 }));
    }

    #[test]
    fn one_class_is_refused() {
        assert_eq!(check_two_classes(&[3, 3]), Err(BatchError::OneClass));
        assert_eq!(check_two_classes(&[3, 1]), Ok(()));
    }
}
