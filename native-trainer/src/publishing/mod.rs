//! A page with its gallery as a folder of static files: put together, checked, replaced and served.

pub(crate) mod connections;
pub(crate) mod draft;
pub(crate) mod earlier;
pub(crate) mod evidence;
mod foreign;
pub(crate) mod host;
pub(crate) mod hosting;
pub(crate) mod names;
pub(crate) mod opened;
pub(crate) mod owned;
pub(crate) mod peers;
mod place;
pub(crate) mod site;
