//! What the page does when its engine stops: it starts it again, on the processor where the graphics
//! device is gone, and asks once more about the picture that was being looked at.

use wasm_bindgen_futures::spawn_local;
use wasm_engine::protocol::{Backend, EngineError};

use super::{Shared, choice, filming, recognize_pixels, start_engine};
use crate::language::say;
use crate::{text, view};

/// What became of the engines so far.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Times that the engine stopped since it last answered.
    stops: u32,
    /// Whether a picture waits for the next engine.
    interrupted: bool,
    /// Whether the graphics device was given up.
    pub(super) fell_back: bool,
}

/// The engine stopped, or its device is gone.
pub(super) fn stopped(app: &Shared, error: &EngineError) {
    view::progress(None);
    let goes_on = {
        let mut state = app.borrow_mut();
        let interrupted = state.sent.take().is_some() && state.film.camera.is_none();
        state.ready = false;
        state.health.stops += 1;
        // A picture that stops two engines is not given to a third.
        state.health.interrupted = interrupted && state.health.stops == 1;
        let again = state.health.stops == 1;
        if !again && state.backend == Backend::WebGpu {
            state.backend = Backend::Cpu;
            state.health = Health { stops: 0, interrupted, fell_back: true };
            choice::gave_up(&mut state);
            true
        } else {
            again
        }
    };
    if !goes_on {
        filming::stop(app);
        let backend = app.borrow().backend;
        return view::status(&text::stopped(error, backend), "failed");
    }
    // Not from inside what the old engine says.
    let app = app.clone();
    spawn_local(async move { start_engine(&app) });
}

/// The engine is there, perhaps once more.
pub(super) fn ready(app: &Shared) {
    let (stops, interrupted, fell_back) = {
        let health = &mut app.borrow_mut().health;
        (health.stops, std::mem::take(&mut health.interrupted), health.fell_back)
    };
    let key = if fell_back {
        "recovered.cpu"
    } else if stops > 0 {
        "recovered"
    } else {
        "ready"
    };
    view::status(&say(key), "done");
    if interrupted {
        recognize_pixels(app, view::canvas().into());
    }
}

/// The engine answered about a picture.
pub(super) fn answered(app: &Shared) {
    app.borrow_mut().health.stops = 0;
}
