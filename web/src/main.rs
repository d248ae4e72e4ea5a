//! The page: pictures in, boxes and answers out.
//!
//! Data flows one way: an input makes a [`app::Message`], [`app::update`] changes the state and
//! talks to the worker, [`view`] shows the state.

mod app;
mod camera;
mod card;
mod command;
mod details;
mod dialog;
mod dom;
mod engine_client;
mod input;
mod language;
mod offline;
mod pixels;
mod pointing;
mod samples;
mod startup;
mod teaching;
mod text;
mod view;
mod widgets;

fn main() {
    wasm_bindgen_futures::spawn_local(app::start());
}
