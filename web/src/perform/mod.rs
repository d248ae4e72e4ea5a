//! What the page does in the browser: files, camera, storage, the worker.

pub(crate) mod camera;
pub(crate) mod engine_client;
pub(crate) mod input;
pub(crate) mod offline;
pub(crate) mod pixels;
pub(crate) mod samples;
pub(crate) mod startup;
