//! Figures of merit.

pub mod detection;
pub mod retrieval;
