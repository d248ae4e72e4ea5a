//! Networks, preprocessing, gallery and the recognition pipeline: one definition for the trainer,
//! the tests and the browser.
//!
//! Bytes and pictures in, values out: this crate reads no file, knows no browser and names no
//! backend outside [`operators`]. A module imports only from the lines above it:
//!
//! | module | what |
//! |---|---|
//! | `aligned`, [`limits`], [`threads`] | values that begin at a cache line; how large networks may be; work on several threads |
//! | [`operators`] | operators of training, as an extension of Burn |
//! | [`image`], [`layers`] | decoded images, boxes, resizing; blocks shared by the networks |
//! | [`preprocess`], [`gallery`], [`weights`] | image → network input; labeled embeddings; named tensors |
//! | [`inference`] | a network ready to run on a device: steps, packed weights, shaders |
//! | [`backbone`], [`neck`], [`tracker`] | PP-LCNet, PP-LCNetV2, MobileNetV1, ResNet, EfficientNet-Lite0; FC, BNNeck, vehicle neck, tanh; objects over a camera's frames |
//! | [`detector`], [`extractor`] | image → boxes; image → embedding |
//! | [`model_file`] | a network with its description in one file |
//! | [`recognizer`] | detect → crop → embed → search |
//! | [`timing`], [`bundle`] | how long its parts take; all of it as files for a static host |

mod aligned;
pub mod backbone;
pub mod bundle;
pub mod detector;
pub mod extractor;
pub mod gallery;
pub mod image;
pub mod inference;
pub mod layers;
pub mod limits;
pub mod model_file;
pub mod neck;
pub mod operators;
pub mod preprocess;
pub mod recognizer;
pub mod threads;
pub mod timing;
pub mod tracker;
pub mod weights;
