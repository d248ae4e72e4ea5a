//! What goes in and out as JSON. `openapi.rs` describes the service from these types.

mod corrections;
mod gallery;
mod images;

pub(crate) use corrections::*;
pub(crate) use gallery::*;
pub(crate) use images::*;
