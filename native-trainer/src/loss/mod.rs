//! Losses: each a formula over tensors that returns one number.

mod cross_entropy;
mod detection;
mod triplet_angular_margin;

pub use cross_entropy::cross_entropy;
pub use detection::{distribution_focal, giou, varifocal};
pub use triplet_angular_margin::{AbsoluteTerms, TripletAngularMargin};
