//! Trains the networks, builds the gallery, publishes the bundle.
//!
//! The library behind the `magpie` command; losses, heads, sampling, augmentation and metrics live
//! here because the browser needs none of them.
//!
//! # Tour
//!
//! | you want to | call |
//! |---|---|
//! | know which images there are and what they show | [`Samples::read`] |
//! | say how a network is trained | [`Recipe::read`]: a TOML file, or the name of a recipe that is built in, and changes |
//! | train | [`train_recipe`] |
//! | measure an extractor | [`embed_samples`], then [`retrieval_metrics`] |
//! | measure a detector | [`detection_metrics`] |
//! | let a gallery learn from its own entries | [`authoring::adaptation::adapt_and_calibrate`] |
//! | take weights of timm, torchvision or PaddlePaddle | [`read_network`], [`read_paddle`], [`Known::read`] |
//! | hand a network to another runtime | [`model_files`] |
//!
//! `examples/train.rs` and `examples/evaluate.rs` are whole programs. Recognition itself, galleries and bundles are
//! in the crate [`models`].
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | cuda | training and evaluation on NVIDIA GPUs |
//! | wgpu | the same on any GPU (Vulkan, Metal, Direct3D) |

// First: its `println!` and `eprintln!` are those of all modules below.
#[doc(hidden)]
#[macro_use]
pub mod terminal;

#[doc(hidden)]
pub mod allocator;
#[doc(hidden)]
pub mod assign;
mod certificate;
#[doc(hidden)]
pub mod checkpoint;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod command;
#[doc(hidden)]
pub mod comparison;
pub mod data;
#[doc(hidden)]
pub mod ema;
pub mod embedding;
pub mod exchange;
#[doc(hidden)]
pub mod files;
#[doc(hidden)]
pub mod head;
#[doc(hidden)]
pub mod library;
pub mod loss;
#[doc(hidden)]
pub mod loss_scale;
pub mod metric;
pub mod networks;
#[doc(hidden)]
pub mod optimizer;
#[doc(hidden)]
pub mod page;
pub mod postgres;
#[doc(hidden)]
pub mod program;
#[doc(hidden)]
pub mod progress;
mod publishing;
#[doc(hidden)]
pub mod random;
pub mod recipe;
#[doc(hidden)]
pub mod replica;
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod schedule;
mod service;
#[doc(hidden)]
pub mod text;
pub mod train;

pub use data::list_file::Samples;
pub use embedding::embed_samples;
pub use exchange::export::{Format, model_files};
pub use exchange::import::{Known, Named, Origin, read_network, read_paddle, read_pytorch};
pub use metric::detection::{DetectionMetrics, detection_metrics};
pub use metric::retrieval::{Embedded, RetrievalMetrics, retrieval_metrics};
pub use recipe::Recipe;
pub use train::train_recipe;
