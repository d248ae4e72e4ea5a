//! Cross-batch memory: embeddings of earlier batches as further pairs of a loss.
//!
//! Source: "Cross-Batch Memory for Embedding Learning", <https://arxiv.org/abs/1912.06798>.
//! Agrees with PaddleClas `ppcls/loss/xbm.py` and the `_XBM` losses @ d178931. Difference: whether
//! the bank is full is a flag of its own; the reference reads it off the last label, which fails
//! for label 0. The pointer and the counter belong to the state that a checkpoint keeps.

use std::collections::BTreeMap;

use burn::tensor::{Device, Int, Tensor, TensorData};
use models::weights::NamedTensor;
use serde::{Deserialize, Serialize};

use super::pairs::{BatchError, PairLoss};
use super::{Contrastive, TripletAngularMargin};

/// The loss that gets the further pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum CrossBatchLoss {
    /// `ContrastiveLoss_XBM`
    Contrastive(Contrastive),
    /// `TripletAngularMarginLoss_XBM`
    TripletAngularMargin(TripletAngularMargin),
}

impl CrossBatchLoss {
    fn pairs(&self) -> &dyn PairLoss {
        match self {
            Self::Contrastive(loss) => loss,
            Self::TripletAngularMargin(loss) => loss,
        }
    }
}

/// Options of [`CrossBatch`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossBatchConfig {
    /// The loss, within the batch and against the bank.
    pub loss: CrossBatchLoss,
    /// Rows of the bank; 55,000 in the reference's recipe.
    pub size: usize,
    /// Factor of the loss against the bank; 1 in the reference.
    pub bank_weight: f64,
    /// Batches before the bank is used; 1,000 in the reference.
    pub start: usize,
}

/// Embeddings and classes of the last batches, oldest overwritten first.
///
/// A batch is never split: where it would pass the end, it overwrites the last rows, and the next
/// one begins at the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryBank {
    size: usize,
    dim: usize,
    features: Vec<f32>,
    targets: Vec<i32>,
    pointer: usize,
    full: bool,
}

impl MemoryBank {
    /// An empty bank of `size` rows.
    pub fn new(size: usize, dim: usize) -> Self {
        let (features, targets) = (vec![0.0; size * dim], vec![0; size]);
        Self { size, dim, features, targets, pointer: 0, full: false }
    }

    /// Takes in a batch.
    ///
    /// # Errors
    ///
    /// [`BatchError`]: rows of another width, or more of them than the bank has.
    pub fn enqueue(&mut self, features: &[f32], targets: &[i32]) -> Result<(), BatchError> {
        let batch = targets.len();
        if batch > self.size {
            return Err(BatchError::BankTooSmall { bank: self.size, batch });
        }
        if features.len() != batch * self.dim {
            let embedding = features.len() / batch.max(1);
            return Err(BatchError::Width { bank: self.dim, embedding });
        }
        let wraps = self.pointer + batch > self.size;
        let start = if wraps { self.size - batch } else { self.pointer };
        self.features[start * self.dim..(start + batch) * self.dim].copy_from_slice(features);
        self.targets[start..start + batch].copy_from_slice(targets);
        self.pointer = if wraps { 0 } else { start + batch };
        self.full |= start + batch == self.size;
        Ok(())
    }

    /// Rows that hold something.
    pub fn len(&self) -> usize {
        if self.full { self.size } else { self.pointer }
    }

    /// Whether nothing was taken in yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Row that the next batch begins at.
    pub fn pointer(&self) -> usize {
        self.pointer
    }

    /// Values of the rows that hold something, and their classes.
    pub fn rows(&self) -> (&[f32], &[i32]) {
        (&self.features[..self.len() * self.dim], &self.targets[..self.len()])
    }

    fn tensors(&self, device: &Device) -> (Tensor<2>, Tensor<1, Int>) {
        let (features, targets) = self.rows();
        let rows = targets.len();
        (
            Tensor::from_data(TensorData::new(features.to_vec(), [rows, self.dim]), device),
            Tensor::from_data(TensorData::new(targets.to_vec(), [rows]), device),
        )
    }
}

/// A loss within the batch plus the same against the bank. It is its own state: a checkpoint
/// serializes it whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CrossBatch {
    config: CrossBatchConfig,
    bank: MemoryBank,
    batches: usize,
}

impl CrossBatch {
    /// An empty bank for embeddings of this width.
    pub fn new(config: CrossBatchConfig, embedding_dim: usize) -> Self {
        Self { config, bank: MemoryBank::new(config.size, embedding_dim), batches: 0 }
    }

    /// The bank as it is.
    pub fn bank(&self) -> &MemoryBank {
        &self.bank
    }

    /// The state as named tensors: numbers up to 2²⁴ are exact in f32.
    pub(super) fn to_tensors(&self) -> [(&'static str, NamedTensor); 3] {
        let MemoryBank { dim, pointer, full, .. } = self.bank;
        let (features, targets) = self.bank.rows();
        let cursor = [pointer as f32, f32::from(u8::from(full)), self.batches as f32];
        let tensor =
            |shape: &[usize], values: Vec<f32>| NamedTensor { shape: shape.into(), values };
        [
            ("features", tensor(&[targets.len(), dim], features.to_vec())),
            ("targets", tensor(&[targets.len()], targets.iter().map(|t| *t as f32).collect())),
            ("cursor", tensor(&[3], cursor.to_vec())),
        ]
    }

    /// Takes [`Self::to_tensors`] back; `false` where they are not those of a bank of this size.
    pub(super) fn restore(&mut self, tensors: &BTreeMap<String, NamedTensor>) -> bool {
        let part = |name: &str| tensors.get(name).map(|tensor| tensor.values.as_slice());
        let (Some(features), Some(targets), Some(&[pointer, full, batches])) =
            (part("features"), part("targets"), part("cursor"))
        else {
            return false;
        };
        let mut bank = MemoryBank::new(self.bank.size, self.bank.dim);
        if targets.len() > bank.size || features.len() != targets.len() * bank.dim {
            return false;
        }
        bank.features[..features.len()].copy_from_slice(features);
        bank.targets.iter_mut().zip(targets).for_each(|(to, from)| *to = *from as i32);
        bank.pointer = pointer as usize;
        bank.full = full != 0.0;
        if bank.len() != targets.len() {
            return false;
        }
        self.bank = bank;
        self.batches = batches as usize;
        true
    }

    /// Once `start` batches have passed, the batch enters the bank and then meets it: its own rows
    /// are among the bank's.
    ///
    /// # Shapes
    ///
    /// - `features`: `[batch, dim]`, `targets`: the same rows' classes
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// [`BatchError`]: the batch does not fit the bank.
    pub fn forward(
        &mut self,
        features: Tensor<2>,
        targets: &[i32],
    ) -> Result<Tensor<1>, BatchError> {
        let device = features.device();
        let classes: Tensor<1, Int> =
            Tensor::from_data(TensorData::new(targets.to_vec(), [targets.len()]), &device);
        let loss = self.config.loss.pairs();
        let features = loss.features(features);
        let against = |columns, column_classes| {
            loss.between(features.clone(), classes.clone(), columns, column_classes)
        };
        let within = against(features.clone(), classes.clone());
        self.batches += 1;
        if self.batches <= self.config.start {
            return Ok(within);
        }
        let values: Vec<f32> = features
            .clone()
            .detach()
            .into_data()
            .convert::<f32>()
            .try_into_vec()
            .expect("a float tensor");
        self.bank.enqueue(&values, targets)?;
        let (columns, column_classes) = self.bank.tensors(&device);
        Ok(within + against(columns, column_classes) * self.config.bank_weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_passes_the_end_overwrites_the_last_rows() {
        let mut bank = MemoryBank::new(5, 1);
        bank.enqueue(&[1.0, 2.0], &[0, 0]).unwrap();
        assert_eq!((bank.len(), bank.pointer()), (2, 2));
        bank.enqueue(&[3.0, 4.0], &[1, 1]).unwrap();
        bank.enqueue(&[5.0, 6.0], &[0, 0]).unwrap();
        assert_eq!((bank.len(), bank.pointer()), (5, 0));
        assert_eq!(bank.rows().0, [1.0, 2.0, 3.0, 5.0, 6.0]);
        bank.enqueue(&[7.0], &[0]).unwrap();
        assert_eq!((bank.len(), bank.pointer()), (5, 1));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut bank = MemoryBank::new(2, 2);
        assert_eq!(
            bank.enqueue(&[0.0; 6], &[1, 1, 1]),
            Err(BatchError::BankTooSmall { bank: 2, batch: 3 })
        );
        assert_eq!(bank.enqueue(&[0.0; 3], &[1]), Err(BatchError::Width { bank: 2, embedding: 3 }));
        assert!(bank.is_empty());
    }
}
