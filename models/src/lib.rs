//! Networks, preprocessing, gallery and the recognition pipeline: one definition for the trainer,
//! the tests and the browser.
//!
//! Bytes and pictures in, values out: this crate reads no file, knows no browser and names no
//! backend outside [`kernels`]. A module imports only from the lines above it:
//!
//! | module | what |
//! |---|---|
//! | [`geometry`], [`limits`], [`image`] | boxes; how large networks may be; decoded pictures |
//! | [`preprocess`] | picture → network input |
//! | [`kernels`], [`layers`] | operators; blocks shared by the networks |
//! | `plan` | the steps of a network on the CPU, weights packed |
//! | [`backbone`], [`neck`] | PP-LCNet, PP-LCNetV2; FC, BNNeck |
//! | [`detector`], [`extractor`] | picture → boxes; picture → embedding |
//! | [`weights`], [`model_file`], [`gallery`] | named tensors; a network in a file; labelled embeddings |
//! | [`prepared`] | a network ready to run on a device |
//! | [`recognizer`] | detect → crop → embed → search |
//! | [`bundle`] | all of it as files for a static host |

mod aligned;
pub mod backbone;
pub mod bench;
pub mod bundle;
pub mod detector;
pub mod extractor;
pub mod gallery;
pub mod geometry;
pub mod image;
pub mod kernels;
pub mod layers;
pub mod limits;
pub mod model_file;
pub mod neck;
#[cfg(feature = "flex")]
mod plan;
pub mod prepared;
pub mod preprocess;
pub mod recognizer;
pub mod tracker;
pub mod weights;
