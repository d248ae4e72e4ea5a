//! Trains the networks, builds the gallery, publishes the bundle.
//!
//! The library behind the `magpie` command; losses, heads, sampling, augmentation and metrics live
//! here because the browser needs none of them.

// First: its `println!` and `eprintln!` are those of all modules below.
#[macro_use]
pub mod terminal;

pub mod allocator;
pub mod assign;
pub mod checkpoint;
pub mod cli;
pub mod command;
pub mod data;
pub mod ema;
pub mod embedding;
pub mod exchange;
pub mod files;
pub mod head;
pub mod loss;
pub mod loss_scale;
pub mod metric;
pub mod optimizer;
pub mod plot;
pub mod postgres;
pub mod progress;
mod publishing;
pub mod random;
pub mod recipe;
pub mod replica;
pub mod report;
pub mod schedule;
pub mod train;
