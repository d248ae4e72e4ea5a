//! What the page does when its engine stops: it starts it again, on the processor where the graphics
//! device is gone, there without threads and relaxed SIMD, and gives it the picture that is on the stage.

use wasm_engine::protocol::{Backend, EngineError};

use super::command::{Commands, Look, Show};
use super::given::Again;
use super::{App, Doing, choice, fail, filming, start_engine};

/// What became of the engines so far.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Times that the engine stopped since it last answered.
    stops: u32,
    /// Whether the graphics device was given up.
    pub(super) fell_back: bool,
    /// Whether the processor computes without threads and relaxed SIMD.
    pub(super) is_plain: bool,
    /// Why there is no engine, and none is on its way.
    end: Option<EngineError>,
}

/// What follows an engine that stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Another one of its kind.
    Again,
    /// The processor in its place.
    Processor,
    /// The plain engine of the processor.
    Plain,
    /// Nothing but a sentence.
    GiveUp,
}

impl Health {
    /// Takes in that an engine stopped.
    fn stop(&mut self, backend: Backend) -> Next {
        self.stops += 1;
        if self.stops == 1 {
            return Next::Again;
        }
        if backend == Backend::WebGpu {
            *self = Self { fell_back: true, ..Self::default() };
            return Next::Processor;
        }
        if !self.is_plain {
            // One more stop is the last.
            (self.stops, self.is_plain) = (1, true);
            return Next::Plain;
        }
        Next::GiveUp
    }
}

/// The engine stopped, or its device is gone.
pub(super) fn stopped(app: &mut App, error: EngineError, out: &mut Commands) {
    out.show(Show::Progress(None));
    (app.ready, app.sent) = (false, None);
    match app.health.stop(app.backend) {
        Next::Again | Next::Plain => start_engine(app, out),
        Next::Processor => {
            app.backend = Backend::Cpu;
            choice::gave_up(app, out);
            start_engine(app, out);
        }
        Next::GiveUp => {
            filming::stop(app, out);
            app.giving.forgotten();
            app.asking.forget();
            failed(app, error, Doing::Other, out);
        }
    }
}

/// Something failed that is about no picture; without it there may be no engine.
pub(super) fn failed(app: &mut App, error: EngineError, doing: Doing, out: &mut Commands) {
    if !app.ready {
        app.health.end = Some(error.clone());
    }
    fail(app, error, doing, out);
}

/// Says why there is no engine, if none is on its way; whether that is so.
pub(super) fn tell_end(app: &App, out: &mut Commands) -> bool {
    let Some(error) = app.health.end.clone() else { return false };
    fail(app, error, Doing::Other, out);
    true
}

/// An engine is on its way.
pub(super) fn started(app: &mut App) {
    app.health.end = None;
}

/// The engine is there, perhaps once more; how it is given the picture on the stage.
pub(super) fn ready(app: &App, out: &mut Commands) -> Again {
    let (key, again) = if app.health.fell_back {
        ("recovered.cpu", Again::Quiet)
    } else if app.health.stops > 0 {
        ("recovered", Again::Quiet)
    } else {
        ("ready", Again::Aloud)
    };
    out.say(key, Look::Done);
    // An answer that was not seen yet is told.
    if app.shown.is_some() { again } else { Again::Aloud }
}

/// The engine answered about a picture that was not answered before.
pub(super) fn answered(app: &mut App) {
    app.health.stops = 0;
}

#[cfg(test)]
mod tests {
    use wasm_engine::protocol::Backend;

    use super::{Health, Next};

    #[test]
    fn the_first_stop_starts_the_engine_again() {
        let mut health = Health::default();
        assert_eq!(health.stop(Backend::WebGpu), Next::Again);
        assert!(!health.fell_back);
    }

    #[test]
    fn the_second_stop_takes_the_processor() {
        let mut health = Health::default();
        health.stop(Backend::WebGpu);
        assert_eq!(health.stop(Backend::WebGpu), Next::Processor);
        assert!(health.fell_back);
    }

    #[test]
    fn the_processor_has_two_stops_as_well_and_its_plain_engine_one() {
        let mut health = Health::default();
        health.stop(Backend::WebGpu);
        health.stop(Backend::WebGpu);
        assert_eq!(health.stop(Backend::Cpu), Next::Again);
        assert_eq!(health.stop(Backend::Cpu), Next::Plain);
        assert!(health.is_plain && health.fell_back);
        assert_eq!(health.stop(Backend::Cpu), Next::GiveUp);
    }

    #[test]
    fn a_plain_engine_that_has_answered_has_two_stops() {
        let mut health = Health::default();
        health.stop(Backend::Cpu);
        assert_eq!(health.stop(Backend::Cpu), Next::Plain);
        health.stops = 0;
        assert_eq!(health.stop(Backend::Cpu), Next::Again);
        assert_eq!(health.stop(Backend::Cpu), Next::GiveUp);
    }
}
