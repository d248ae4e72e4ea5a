//! The page: pictures in, boxes and answers out.
//!
//! Data flows one way: what happens becomes an [`app::Event`], [`app::update`] changes the state and says what is to
//! be done, [`perform`] does it, and has [`view`] show what is to be seen.

mod app;
mod perform;
mod view;

fn main() {
    // A panic ends as a trap without words, and a page that does nothing any more.
    std::panic::set_hook(Box::new(|panic| perform::tell_end(&panic.to_string())));
    wasm_bindgen_futures::spawn_local(perform::start());
}
