//! Losses: each a formula over tensors that returns one number.

mod cross_entropy;
mod detection;
mod supervised_contrastive;
mod triplet_angular_margin;

pub use cross_entropy::cross_entropy;
pub use detection::{distribution_focal, giou, varifocal};
pub use supervised_contrastive::SupervisedContrastive;
pub use triplet_angular_margin::{AbsoluteTerms, TripletAngularMargin};
