//! The page: pictures in, boxes and answers out.
//!
//! Data flows one way: an input makes a [`app::Message`], [`app::update`] changes the state and
//! talks to the worker, [`view`] shows the state.

mod app;
mod command;
mod perform;
mod view;

use perform::{camera, engine_client, input, offline, pixels, samples, startup};
use view::{card, details, dialog, dom, language, pointing, teaching, text, widgets};

fn main() {
    wasm_bindgen_futures::spawn_local(app::start());
}
