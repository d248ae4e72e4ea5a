//! One batch trained by several replicas of a network: on several devices of this machine, and in
//! other processes, on this machine or others, that run `magpie worker`.
//!
//! The process that trains is the first replica and the [`Hub`] of the others. In each step it
//! sends every replica the weights and its pictures, collects the networks' outputs, computes the
//! losses over the whole batch, which compare every picture with every other, and sends each
//! replica the gradients of its outputs; what comes back are the gradients of the weights, whose
//! sum is the step's. Batch normalisation takes its statistics over all replicas in both
//! directions ([`models::kernels::replicas`]), so the step is, but for rounding, the one that a
//! single device would take. Optimiser, averages, memories of losses, checkpoints and data stay
//! with the first replica; a worker needs an address and nothing else, and forgets everything
//! between two runs.
//!
//! Connections are neither encrypted nor authenticated: a worker listens on this machine alone
//! unless told otherwise.

mod hub;
mod link;
mod message;
#[cfg(test)]
mod tests;
mod worker;

use std::net::{TcpListener, TcpStream};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use models::detector::Detector;
use models::extractor::{Extractor, Features};
use models::prepared::Network;

pub use hub::{Hub, Pass, ReplicaError, Runner, share};
pub use link::LinkError;

/// A network whose forward pass can be shared by replicas.
pub trait Replica: Module + Network {
    /// What the losses are computed from.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, 3, height, width]`, normalised
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

/// Computes for every run that connects, one after the other; `told` hears of them.
///
/// # Errors
///
/// The listener's. A run that ends in an error is told and does not end the worker.
pub fn listen(listener: &TcpListener, device: &Device, told: impl Fn(&str)) -> std::io::Result<()> {
    loop {
        let (stream, address) = listener.accept()?;
        told(&format!("{address}: a run begins"));
        match serve(stream, device) {
            Ok(()) => told(&format!("{address}: the run has ended")),
            Err(error) => told(&format!("{address}: {error}")),
        }
    }
}

fn serve(stream: TcpStream, device: &Device) -> Result<(), LinkError> {
    worker::serve(link::Link::over(stream)?, device)
}
