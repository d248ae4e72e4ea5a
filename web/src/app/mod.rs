//! State of the page and what changes it: [`update`] takes an [`Event`] and says what is to be done. Both are plain
//! data; [`crate::perform`] and [`crate::view`] do it.

mod asking;
mod choice;
mod command;
mod event;
mod failure;
mod filming;
mod given;
mod pointing;
mod recovery;
mod replies;
#[cfg(test)]
mod tests;
mod watch;

use std::rc::Rc;

use serde_bytes::ByteBuf;
use wasm_engine::protocol::{
    Arithmetic, Backend, Edit, EngineError, Picture, Recognized, Request, Thresholds,
};

use asking::Asking;
use choice::Choosing;
use command::Commands;
pub(crate) use command::{Command, Computed, Look, Sentence, Show, Source};
pub(crate) use event::{
    Adapter, CameraEvent, CameraState, Change, Choice, Cost, Event, Facing, Frame, Given, Handle,
    Outcome, Part, PointEvent, Reading, Timer, Visitor,
};
pub(crate) use failure::Failure;
use failure::{Doing, FileKind};
use filming::Filming;
use given::Giving;
use pointing::Pointing;
use recovery::Health;

/// What the browser says when the page begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Beginning {
    /// The engine that is under way.
    pub(crate) backend: Backend,
    /// The graphics adapter, if there is one.
    pub(crate) adapter: Option<Adapter>,
    /// Whether the page chooses the engine; not where its address does.
    pub(crate) chooses: bool,
    /// What a visit before has measured.
    pub(crate) choice: Option<Choice>,
    /// Answers that WebGPU may give in one visit.
    pub(crate) most_answers: Option<u32>,
    /// Whether the bundle is the site's own: only that is kept with it.
    pub(crate) own_bundle: bool,
}

/// A picture that was sent to the worker.
#[derive(Debug)]
struct Sent {
    id: u32,
    /// What it is, where it came as a file.
    kind: Option<FileKind>,
    /// Kept until the answer, for formats that only the browser can decode.
    bitmap: Option<Handle>,
}

/// Everything that the page remembers.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct App {
    backend: Backend,
    adapter: Option<Adapter>,
    own_bundle: bool,
    /// What the loaded networks compute in.
    arithmetic: Arithmetic,
    ready: bool,
    next_id: u32,
    sent: Option<Sent>,
    /// Came before the engine was ready.
    waiting: Option<(Vec<u8>, Option<Handle>)>,
    giving: Giving,
    asking: Asking,
    film: Filming,
    pointing: Pointing,
    /// The newest answer, to be shown again when the gallery changes.
    shown: Option<Rc<Recognized>>,
    /// Whether everything is kept that the page needs.
    kept: bool,
    /// Whether parts of the gallery are fetched when they are needed.
    in_parts: bool,
    /// What the status line says.
    told: Option<(Sentence, Look)>,
    health: Health,
    choosing: Choosing,
    visitor: Visitor,
    /// Whether the gallery's panel is open, and what is looked for in it.
    panel: bool,
    filter: String,
    /// Whether the panel of details is open.
    inside: bool,
    /// As the bundle has them.
    published: Option<Thresholds>,
    /// As the visitor wants them.
    tuned: Option<Thresholds>,
}

impl App {
    /// A page that begins.
    pub(crate) fn new(beginning: Beginning) -> Self {
        Self {
            backend: beginning.backend,
            adapter: beginning.adapter,
            own_bundle: beginning.own_bundle,
            arithmetic: Arithmetic::F32,
            ready: false,
            next_id: 1,
            sent: None,
            waiting: None,
            giving: Giving::default(),
            asking: Asking::default(),
            film: Filming::default(),
            pointing: Pointing::default(),
            shown: None,
            kept: false,
            in_parts: false,
            told: None,
            health: Health::default(),
            choosing: Choosing::new(beginning.chooses, beginning.choice, beginning.most_answers),
            visitor: Visitor::default(),
            panel: false,
            filter: String::new(),
            inside: false,
            published: None,
            tuned: None,
        }
    }

    /// Whether something that the browser holds is still needed.
    pub(crate) fn needs(&self, handle: Handle) -> bool {
        let sent = self.sent.as_ref().and_then(|sent| sent.bitmap);
        let waiting = self.waiting.as_ref().and_then(|(_, bitmap)| *bitmap);
        [sent, waiting].contains(&Some(handle)) || self.giving.needs(handle)
    }
}

/// Changes the state by what happened; what is to be done about it, in order.
pub(crate) fn update(app: &mut App, event: Event) -> Vec<Command> {
    let mut out = Commands::default();
    take(app, event, &mut out);
    for command in &out.0 {
        app.giving.see(command);
        if let Command::Show(Show::Status(sentence, look)) = command {
            app.told = Some((sentence.clone(), *look));
        }
    }
    out.0
}

fn take(app: &mut App, event: Event, out: &mut Commands) {
    match event {
        Event::Begin => {
            choice::begin(app, out);
            start_engine(app, out);
        }
        Event::Visitor(visitor) => app.visitor = visitor,
        Event::Given(given) => given::given(app, given, out),
        Event::AskedFor(given) => given::asked_for(app, given, out),
        Event::Came(number, given) => given::came(app, number, given, out),
        Event::Decoded(reading, bytes, bitmap) => given::decoded(app, reading, bytes, bitmap, out),
        Event::Unreadable(reading) => given::unreadable(app, reading, out),
        Event::Pixels(next_id, picture) => given::pixels(app, next_id, picture, out),
        Event::Camera(event) => filming::happened(app, event, out),
        Event::Point(event) => pointing::happened(app, event, out),
        Event::Language => replies::speak(app, out),
        Event::Backend(name) => choice::chosen(app, name, out),
        Event::BackendSure(name) => choice::sure(app, &name, out),
        Event::Measured(trial, outcome) => choice::measured(app, trial, outcome, out),
        Event::Time(Timer::Frame) => filming::next_frame(app, out),
        Event::Time(Timer::Quiet(moves)) => choice::quiet(app, moves, out),
        Event::Time(Timer::Asking(id, facing)) => {
            let event = CameraEvent::Answered { id, facing, given: false };
            filming::happened(app, event, out);
        }
        Event::Engine(response) => replies::engine_spoke(app, response, out),
        Event::NotStarted(error) => recovery::failed(app, error, Doing::Other, out),
        Event::LookAgain => {
            if app.ready {
                out.send(Request::Refresh);
            }
            choice::consider(app, out);
        }
        Event::Ask(request) => asking::ask(app, request, out),
        Event::Panel(open) => {
            app.panel = open;
            list(app, out);
        }
        Event::Filter(filter) => {
            app.filter = filter;
            list(app, out);
        }
        Event::Inside(open) => {
            app.inside = open;
            look_inside(app, out);
        }
        Event::AsPublished => {
            app.tuned = None;
            if let Some(published) = app.published.filter(|_| app.ready) {
                out.send(Request::Tune(published));
            }
        }
        Event::Hold => filming::stop(app, out),
        Event::Import(file) => out.add(Command::ReadGallery(file)),
        Event::GalleryRead(Some(bytes)) => {
            let import = Edit::Import { bytes: ByteBuf::from(bytes) };
            asking::ask(app, Request::Edit(import), out);
        }
        Event::GalleryRead(None) => out.say("no.file", Look::Failed),
        Event::Kept => {
            app.kept = true;
            out.show(Show::Offline { in_parts: app.in_parts });
        }
        Event::KeeperChanged => keep(app, out),
    }
}

/// Starts the worker of the chosen backend; an earlier one ends.
fn start_engine(app: &mut App, out: &mut Commands) {
    out.say("starting", Look::Busy);
    (app.ready, app.sent) = (false, None);
    app.giving.forgotten();
    app.asking.forget();
    recovery::started(app);
    choice::started(app);
    let is_plain = app.health.is_plain && app.backend == Backend::Cpu;
    let engine = Command::StartEngine(app.backend);
    out.add(if is_plain { Command::StartPlainEngine } else { engine });
}

/// What went wrong while the visitor was about this.
fn failure(app: &App, error: EngineError, doing: Doing) -> Sentence {
    Sentence::Failure(Failure::of(&error, doing, app.backend), error.message)
}

/// Says what went wrong.
fn fail(app: &App, error: EngineError, doing: Doing, out: &mut Commands) {
    out.status(failure(app, error, doing), Look::Failed);
}

/// Forgets the last picture's answers.
fn clear(app: &mut App, out: &mut Commands) {
    out.show(Show::NoAnswers);
    app.pointing.forget();
    pointing::end(app, out);
}

fn recognize(app: &mut App, picture: Picture, bitmap: Option<Handle>, out: &mut Commands) {
    let id = app.next_id;
    app.next_id = id.wrapping_add(1);
    let kind = match &picture {
        Picture::Encoded(bytes) => Some(FileKind::of(bytes)),
        Picture::Pixels { .. } => None,
    };
    app.sent = Some(Sent { id, kind, bitmap });
    let follow = app.film.camera.is_some();
    if !follow && !given::is_quiet(app) {
        out.say("recognizing", Look::Busy);
    }
    out.send(Request::Recognize { id, picture, follow });
}

/// Asks what the gallery holds, where somebody looks at it.
fn list(app: &App, out: &mut Commands) {
    // One that is not there yet tells by itself.
    if app.panel && app.ready {
        out.send(Request::List { filter: app.filter.clone() });
    }
}

/// Asks for the objects of the shown picture as the network was given them, where somebody looks at them.
fn look_inside(app: &App, out: &mut Commands) {
    let shown = app.shown.as_ref().filter(|_| app.inside);
    out.show(Show::Crops(shown.cloned()));
    for object in 0..shown.map_or(0, |shown| shown.objects.len()) {
        let picture = shown.map_or(0, |shown| shown.picture);
        out.send(Request::Crop { picture, object });
    }
}

/// Keeps the site for visits without a network, with the engine that is there. Only a bundle of this site is kept
/// with it.
fn keep(app: &App, out: &mut Commands) {
    if app.ready && app.own_bundle {
        out.add(Command::Keep(app.backend));
    }
}
