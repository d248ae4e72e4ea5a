//! The studio: from photographs to a site that recognizes what they show, in a page that sends nothing anywhere.
//!
//! Data flows one way: what happens becomes an [`app::Event`], [`app::update`] changes the state and says what is to
//! be done, [`perform`] does it, and has [`view`] show what is to be seen.

mod app;
mod perform;
mod project;
mod stored;
mod view;
mod zip;

fn main() {
    // A panic ends as a trap without words, and a page that does nothing any more.
    std::panic::set_hook(Box::new(|panic| web_sys::console::error_1(&panic.to_string().into())));
    wasm_bindgen_futures::spawn_local(perform::start());
}
