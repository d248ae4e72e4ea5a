//! Training data: lists of pictures, sampling, augmentation, batches.

pub mod archive;
pub mod augment;
pub mod backdrop;
pub mod boxed;
pub mod check;
pub mod coco;
pub mod cut_out;
mod folder;
pub mod held_out;
pub mod layouts;
pub mod left_out;
pub mod list_file;
pub mod operator;
mod row;
pub mod sampler;
pub mod scenes;
pub mod store;
