//! Losses: each a formula over tensors that returns one number.
//!
//! Losses on pairs take features of any length and the classes of the rows; those that go by the
//! order of the batch instead say so, and [`check_order`] refuses another order. [`LossKind`] lists those that a
//! recipe can name.

mod center;
mod contrastive;
mod cross_batch;
mod cross_entropy;
mod detection;
mod distillation;
mod hashing;
mod kind;
mod pairs;
#[cfg(test)]
mod properties;
mod supervised_contrastive;
mod triplet;
mod triplet_angular_margin;

pub use center::Center;
pub use contrastive::{Contrastive, NPairs, PairwiseCosface};
pub use cross_batch::{CrossBatch, CrossBatchConfig, CrossBatchLoss, MemoryBank};
pub use cross_entropy::{cross_entropy, cross_entropy_by_row, soft_cross_entropy};
pub use detection::{distribution_focal, giou, varifocal};
pub use distillation::{
    DistanceKind, cosine_distance, distance, kl_divergence, mutual_learning, relational_angle,
    relational_distance,
};
pub use hashing::{Dch, Dshsd, Lcdsh};
pub use kind::{LossBatch, LossInput, LossKind, LossTerm, Losses};
pub use pairs::{BatchError, check_order, check_two_classes};
pub use supervised_contrastive::SupervisedContrastive;
pub use triplet::{BatchHardTriplet, Eml, MarginSampleMining, TriHard};
pub use triplet_angular_margin::{AbsoluteTerms, TripletAngularMargin};
