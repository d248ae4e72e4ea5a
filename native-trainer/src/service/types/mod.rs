//! What goes in and out as JSON. `openapi.rs` describes the service from these types.

mod gallery;
mod images;

pub(crate) use gallery::*;
pub(crate) use images::*;
