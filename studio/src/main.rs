//! The studio: from photographs to a site that recognizes what they show, in a page that sends nothing anywhere.

mod app;
mod project;
mod stored;
mod zip;

fn main() {}
