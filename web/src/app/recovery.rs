//! What the page does when its engine stops: it starts it again, on the processor where the graphics
//! device is gone, and asks once more about the picture that was being looked at.

use wasm_bindgen_futures::spawn_local;
use wasm_engine::protocol::{Backend, EngineError};

use super::{Shared, choice, filming, recognize_pixels, start_engine};
use crate::language::say;
use crate::{text, view, widgets};

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

/// What follows an engine that stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Another one of its kind.
    Again,
    /// The processor in its place.
    Processor,
    /// Nothing but a sentence.
    GiveUp,
}

impl Health {
    /// Takes in that an engine stopped; `interrupted` says whether a picture was being looked at.
    fn stop(&mut self, backend: Backend, interrupted: bool) -> Next {
        self.stops += 1;
        // A picture that stops two engines is not given to a third.
        self.interrupted = interrupted && self.stops == 1;
        if self.stops == 1 {
            return Next::Again;
        }
        if backend == Backend::WebGpu {
            *self = Self { stops: 0, interrupted, fell_back: true };
            return Next::Processor;
        }
        Next::GiveUp
    }
}

/// The engine stopped, or its device is gone.
pub(super) fn stopped(app: &Shared, error: &EngineError) {
    view::progress(None);
    let goes_on = {
        let mut state = app.borrow_mut();
        let interrupted = state.sent.take().is_some() && state.film.camera.is_none();
        state.ready = false;
        let backend = state.backend;
        match state.health.stop(backend, interrupted) {
            Next::Again => true,
            Next::Processor => {
                state.backend = Backend::Cpu;
                choice::gave_up(&mut state);
                true
            }
            Next::GiveUp => false,
        }
    };
    if !goes_on {
        filming::stop(app);
        let backend = app.borrow().backend;
        return widgets::status(&text::stopped(error, backend), "failed");
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
    widgets::status(&say(key), "done");
    if interrupted {
        recognize_pixels(app, view::canvas().into());
    }
}

/// The engine answered about a picture.
pub(super) fn answered(app: &Shared) {
    app.borrow_mut().health.stops = 0;
}

#[cfg(test)]
mod tests {
    use wasm_engine::protocol::Backend;

    use super::{Health, Next};

    #[test]
    fn the_first_stop_starts_the_engine_again_with_its_picture() {
        let mut health = Health::default();
        assert_eq!(health.stop(Backend::WebGpu, true), Next::Again);
        assert!(health.interrupted && !health.fell_back);
    }

    #[test]
    fn the_second_stop_takes_the_processor() {
        let mut health = Health::default();
        health.stop(Backend::WebGpu, true);
        assert_eq!(health.stop(Backend::WebGpu, true), Next::Processor);
        assert!(health.interrupted && health.fell_back);
    }

    #[test]
    fn the_processor_has_two_stops_as_well() {
        let mut health = Health::default();
        health.stop(Backend::WebGpu, false);
        health.stop(Backend::WebGpu, false);
        assert_eq!(health.stop(Backend::Cpu, false), Next::Again);
        assert_eq!(health.stop(Backend::Cpu, false), Next::GiveUp);
    }

    #[test]
    fn a_picture_that_stops_two_engines_is_dropped() {
        let mut health = Health::default();
        health.stop(Backend::Cpu, true);
        assert_eq!(health.stop(Backend::Cpu, true), Next::GiveUp);
        assert!(!health.interrupted);
    }
}
