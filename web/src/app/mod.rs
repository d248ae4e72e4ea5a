//! State of the page and what changes it: [`update`] takes an [`Event`] and says what is to be done. Both are plain
//! data; [`crate::perform`] and [`crate::view`] do it.

mod choice;
mod command;
mod event;
mod failure;
mod filming;
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

use choice::Choosing;
use command::Commands;
pub(crate) use command::{Command, Computed, Look, Sentence, Show, Source};
pub(crate) use event::{
    Adapter, CameraEvent, CameraState, Change, Choice, Cost, Event, Facing, Frame, Given, Handle,
    Outcome, Part, PointEvent, Timer, Visitor,
};
pub(crate) use failure::Failure;
use failure::{Doing, FileKind};
use filming::Filming;
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

/// A picture that the page's address names.
#[derive(Debug)]
enum AskedFor {
    /// It is on its way.
    Coming,
    /// It is there, or it is none.
    Come(Given),
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
    film: Filming,
    pointing: Pointing,
    /// The newest answer, to be shown again when the gallery changes.
    shown: Option<Rc<Recognized>>,
    /// Whether everything is kept that the page needs.
    kept: bool,
    /// Whether parts of the gallery are fetched when they are needed.
    in_parts: bool,
    /// The picture that the page's address names, until it may be looked at.
    asked_for: Option<AskedFor>,
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
    /// Whether a gallery file is being added.
    importing: bool,
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
            film: Filming::default(),
            pointing: Pointing::default(),
            shown: None,
            kept: false,
            in_parts: false,
            asked_for: None,
            health: Health::default(),
            choosing: Choosing::new(beginning.chooses, beginning.choice, beginning.most_answers),
            visitor: Visitor::default(),
            panel: false,
            filter: String::new(),
            inside: false,
            published: None,
            importing: false,
        }
    }

    /// Whether something that the browser holds is still needed.
    pub(crate) fn needs(&self, handle: Handle) -> bool {
        let sent = self.sent.as_ref().and_then(|sent| sent.bitmap);
        let waiting = self.waiting.as_ref().and_then(|(_, bitmap)| *bitmap);
        let asked_for = match &self.asked_for {
            Some(AskedFor::Come(Given::File(file))) => Some(*file),
            _ => None,
        };
        [sent, waiting, asked_for].contains(&Some(handle))
    }
}

/// Changes the state by what happened; what is to be done about it, in order.
pub(crate) fn update(app: &mut App, event: Event) -> Vec<Command> {
    let mut out = Commands::default();
    take(app, event, &mut out);
    out.0
}

fn take(app: &mut App, event: Event, out: &mut Commands) {
    match event {
        Event::Begin => {
            choice::begin(app, out);
            start_engine(app, out);
        }
        Event::Visitor(visitor) => app.visitor = visitor,
        Event::Given(given) => take_given(app, given, out),
        Event::AskedFor(Given::Address { address, own: true }) => {
            app.asked_for = Some(AskedFor::Coming);
            out.add(Command::Fetch { address, asked: true });
        }
        // Another site is not asked for anything, but the visitor is told.
        Event::AskedFor(given) | Event::AskedForCame(given) => {
            if app.ready {
                app.asked_for = None;
                take_given(app, given, out);
            } else {
                app.asked_for = Some(AskedFor::Come(given));
            }
        }
        Event::Decoded(bytes, bitmap) => {
            choice::disturbed(app, out);
            choice::relieve(app, out);
            app.shown = None;
            clear(app, out);
            out.show(Show::Top);
            out.add(bitmap.map_or(Command::Show(Show::NoPicture), Command::ShowPicture));
            if app.ready {
                recognize(app, Picture::Encoded(ByteBuf::from(bytes)), bitmap, out);
            } else {
                app.waiting = Some((bytes, bitmap));
            }
        }
        Event::Unreadable => refuse(app, Sentence::Key("no.picture"), out),
        Event::Pixels(next_id, picture) => {
            // Something else may have come first.
            if app.next_id != next_id || app.film.camera.is_some() {
                return;
            }
            match picture {
                Some(picture) => recognize(app, picture, None, out),
                None => out.say("pixels.falsified", Look::Failed),
            }
        }
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
        Event::NotStarted(error) => fail(app, error, Doing::Other, out),
        Event::LookAgain => {
            if app.ready {
                out.send(Request::Refresh);
            }
            choice::consider(app, out);
        }
        Event::Ask(request) => out.send(request),
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
            if let Some(published) = app.published {
                out.send(Request::Tune(published));
            }
        }
        Event::Hold => filming::stop(app, out),
        Event::Import(file) => out.add(Command::ReadGallery(file)),
        Event::GalleryRead(Some(bytes)) => {
            app.importing = true;
            out.send(Request::Edit(Edit::Import { bytes: ByteBuf::from(bytes) }));
        }
        Event::GalleryRead(None) => out.say("no.file", Look::Failed),
        Event::Kept => {
            app.kept = true;
            out.show(Show::Offline { in_parts: app.in_parts });
        }
        Event::KeeperChanged => keep(app, out),
    }
}

fn take_given(app: &mut App, given: Given, out: &mut Commands) {
    match given {
        Given::Nothing => refuse(app, Sentence::Key("no.picture"), out),
        Given::Address { own: false, .. } => refuse(app, Sentence::Key("other.site"), out),
        Given::Address { address, own: true } => {
            out.say("loading.picture", Look::Busy);
            out.add(Command::Fetch { address, asked: false });
        }
        Given::File(file) => {
            filming::stop(app, out);
            out.add(Command::ReadFile(file));
        }
    }
}

/// Starts the worker of the chosen backend; an earlier one ends.
fn start_engine(app: &mut App, out: &mut Commands) {
    out.say("starting", Look::Busy);
    (app.ready, app.sent) = (false, None);
    choice::started(app);
    out.add(Command::StartEngine(app.backend));
}

/// Says why what was given is not looked at. A camera that runs goes on; an older picture is not shown any more.
fn refuse(app: &mut App, sentence: Sentence, out: &mut Commands) {
    if app.film.camera.is_none() {
        (app.sent, app.waiting, app.shown) = (None, None, None);
        clear(app, out);
        out.show(Show::NoPicture);
    }
    out.status(sentence, Look::Failed);
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
    if !follow {
        out.say("recognizing", Look::Busy);
    }
    out.send(Request::Recognize { id, picture, follow });
}

/// Asks what the gallery holds, where somebody looks at it.
fn list(app: &App, out: &mut Commands) {
    if app.panel {
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
