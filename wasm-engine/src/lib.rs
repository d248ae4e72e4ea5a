//! The recognition engine in a Web Worker.
//!
//! [`protocol`] is what page and worker say to each other and all that the page imports. The rest
//! exists only in the worker: one module for the processor, one for WebGPU, so that no visitor
//! downloads the engine that his device cannot use.

pub mod protocol;

#[cfg(all(feature = "author", target_family = "wasm"))]
mod author;
#[cfg(all(feature = "engine", target_family = "wasm"))]
mod engine;
#[cfg(all(feature = "engine", target_family = "wasm"))]
mod error;
#[cfg(all(feature = "engine", target_family = "wasm"))]
mod fetch;
#[cfg(all(feature = "engine", target_family = "wasm"))]
mod input;
#[cfg(all(feature = "engine", target_family = "wasm"))]
mod learner;
#[cfg(all(feature = "engine", target_family = "wasm"))]
mod local_edits;
#[cfg(all(feature = "engine", target_family = "wasm"))]
mod parts;
#[cfg(any(test, all(feature = "engine", target_family = "wasm")))]
mod ranges;
#[cfg(all(feature = "engine", target_family = "wasm"))]
mod refresh;
#[cfg(all(feature = "engine", target_family = "wasm"))]
mod scope;
#[cfg(all(feature = "engine", target_family = "wasm"))]
mod storage;
#[cfg(all(feature = "engine", target_family = "wasm"))]
mod threads;
#[cfg(all(feature = "engine", target_family = "wasm"))]
mod worker;

#[cfg(all(feature = "engine", target_family = "wasm"))]
pub use worker::run;

#[cfg(all(feature = "author", target_family = "wasm"))]
pub use author::author;

#[cfg(all(feature = "threads", target_family = "wasm"))]
pub use threads::{gather, help, to_share};
