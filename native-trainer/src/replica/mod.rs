//! One batch trained by several replicas of a network: on several devices of this machine, and in
//! other processes, on this machine or others, that run `magpie worker`.
//!
//! The process that trains is the first replica and the [`Hub`] of the others. In each step it
//! sends every replica the weights and its pictures, collects the networks' outputs, computes the
//! losses over the whole batch, which compare every picture with every other, and sends each
//! replica the gradients of its outputs; what comes back are the gradients of the weights, whose
//! sum is the step's. Batch normalization takes its statistics over all replicas in both
//! directions ([`models::operators::replicas`]), so the step is, but for rounding, the one that a
//! single device would take. Optimizer, averages, memories of losses, checkpoints and data stay
//! with the first replica; a worker needs an address and nothing else, and forgets everything
//! between two runs.
//!
//! A worker that is lost is given up: the others are called back from the pass ([`Hub::go_on_without`]), and the step
//! is taken anew with its part of the batch shared among those that are left. Once a worker answers at its address
//! again, it takes its place between two epochs (`join.rs`).
//!
//! Both sides may have to know a secret, and connections may be encrypted (`trust.rs`, `wire.rs`). Whatever comes from
//! another process is held against what this run can need before memory is taken for it or anything computed with it
//! (`cost.rs`, `message.rs`); who is silent for too long is given up (`socket.rs`), and strangers push out only each other
//! (`crowd.rs`).

mod cost;
mod crowd;
mod door;
mod error;
mod hub;
mod join;
mod link;
mod message;
mod runner;
mod socket;
#[cfg(test)]
mod tests;
mod trust;
mod wire;
mod worker;

use burn::module::Module;
use burn::tensor::Tensor;
use models::detector::Detector;
use models::extractor::{Extractor, Features};
use models::inference::Network;

pub use door::{Terms, listen};
pub use error::{LinkError, ReplicaError};
pub use hub::{Hub, Pass, share};
pub use join::{PORT, worker_address};
pub use runner::Runner;
pub use trust::{Secret, Trust};

/// A network whose forward pass can be shared by replicas.
pub trait Replica: Module + Network {
    /// What the losses are computed from.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, 3, height, width]`, normalized
    /// - output: `[batch, values]` each
    fn outputs(&self, x: Tensor<4>) -> Vec<Tensor<2>>;
}

/// The backbone's features and the raw embedding.
impl Replica for Extractor {
    fn outputs(&self, x: Tensor<4>) -> Vec<Tensor<2>> {
        let Features { backbone, raw_embedding } = self.forward(x);
        vec![backbone, raw_embedding]
    }
}

/// [`Detector::forward_points`], one row a picture.
impl Replica for Detector {
    fn outputs(&self, x: Tensor<4>) -> Vec<Tensor<2>> {
        vec![self.forward_points(x).flatten(1, 2)]
    }
}
