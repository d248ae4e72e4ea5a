//! What the page does when its engine stops: it starts it again, on the processor where the graphics
//! device is gone, and asks once more about the picture that was being looked at.

use wasm_engine::protocol::{Backend, EngineError};

use super::command::{Command, Commands, Look, Show, Source};
use super::{App, Doing, choice, fail, filming, start_engine};

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
pub(super) fn stopped(app: &mut App, error: EngineError, out: &mut Commands) {
    out.show(Show::Progress(None));
    let interrupted = app.sent.take().is_some() && app.film.camera.is_none();
    app.ready = false;
    match app.health.stop(app.backend, interrupted) {
        Next::Again => start_engine(app, out),
        Next::Processor => {
            app.backend = Backend::Cpu;
            choice::gave_up(app, out);
            start_engine(app, out);
        }
        Next::GiveUp => {
            filming::stop(app, out);
            fail(app, error, Doing::Other, out);
        }
    }
}

/// The engine is there, perhaps once more.
pub(super) fn ready(app: &mut App, out: &mut Commands) {
    let key = if app.health.fell_back {
        "recovered.cpu"
    } else if app.health.stops > 0 {
        "recovered"
    } else {
        "ready"
    };
    out.say(key, Look::Done);
    if std::mem::take(&mut app.health.interrupted) {
        out.add(Command::ReadPixels(Source::Canvas, app.next_id));
    }
}

/// The engine answered about a picture.
pub(super) fn answered(app: &mut App) {
    app.health.stops = 0;
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
