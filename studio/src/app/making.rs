//! From sorted photographs to figures, a gallery or a site: the engine is opened, looks at each photograph once, and puts
//! together what it has seen. Figures are made anew, unasked, after the project has changed.

use std::collections::BTreeSet;

use super::figures::{Answer, Figures, Measured};
use super::given::{GivenFile, Handle};
use super::listed::{Listed, ListedPhoto, Sight, lacks_classes, sight_of};
use super::opening::OpenedGallery;
use super::{App, Command, Look, Sentence, Why};
use crate::project::{Part, PhotoId};

/// Photographs from which on learning anew takes so long that figures come before it.
const NEARLY_FROM: usize = 250;

/// What the owner wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Figures that say how good it is.
    Figures,
    /// The same at once after a change, by what was learned before it.
    Nearly,
    /// The gallery as a file.
    Gallery,
    /// The site as a ZIP archive.
    Site,
    /// The site as files of a folder.
    Folder,
}

/// What the engine says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum EngineEvent {
    /// It is open: how many photographs it looks at beside each other, and names of what it has seen before.
    Opened(usize, Vec<String>),
    /// It cannot be opened, or has stopped; in its own words.
    Failed(String),
    /// It has looked at a photograph, or at a part of it.
    Looked(PhotoId, Option<Part>, Seeing),
    /// Parts that are done, of how many.
    Progress(usize, usize),
    /// It has made what was wanted, with figures where they were measured.
    Made(Option<Box<Figures>>),
    /// It has recognized a picture, or says why not.
    Asked(Handle, Result<Box<Answer>, String>),
    /// It has opened a gallery, or says why not; the files of it.
    GalleryOpened(Vec<Handle>, Result<Box<OpenedGallery>, String>),
}

/// What came of looking at a photograph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seeing {
    Usable,
    /// Damaged, or of one color.
    Unusable,
    /// The browser does not have it any more.
    Gone,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Idle,
    Opening(Goal),
    /// What is looked at just now.
    Looking(Goal, BTreeSet<Sight>),
    Working(Goal, Option<(usize, usize)>),
}

/// A picture that is none of the photographs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Trying {
    /// It waits until the gallery is there, or is looked at.
    Waiting(Handle, String),
    /// What the gallery answers.
    Answered(String, Box<Answer>),
}

/// From sorted photographs to what the owner wants.
#[derive(Debug)]
pub(super) struct Making {
    phase: Phase,
    /// Nobody has asked for it, and nobody waits.
    is_quiet: bool,
    /// What the owner wants as soon as the engine has done what it does.
    next: Option<Goal>,
    /// Photographs that it looks at beside each other; `None` while no engine is open.
    beside: Option<usize>,
    known: BTreeSet<Sight>,
    unusable: BTreeSet<Sight>,
    /// What was asked for, and the change after which it was.
    photos: Vec<ListedPhoto>,
    change: u64,
    /// Photographs to look at when it began, and when that was.
    of: usize,
    begun: f64,
    last: f64,
    /// Whether the engine has the gallery that was measured last.
    has_gallery: bool,
    pub(super) measured: Option<Measured>,
    pub(super) trying: Option<Trying>,
}

impl Default for Making {
    fn default() -> Self {
        Self {
            phase: Phase::Idle,
            is_quiet: false,
            next: None,
            beside: None,
            known: BTreeSet::new(),
            unusable: BTreeSet::new(),
            photos: Vec::new(),
            change: 0,
            of: 0,
            begun: 0.0,
            last: 0.0,
            has_gallery: false,
            measured: None,
            trying: None,
        }
    }
}

impl Making {
    /// How far it is, of how much; nothing of what nobody waits for.
    pub(super) fn progress(&self) -> Option<(usize, usize)> {
        match &self.phase {
            _ if self.is_quiet => None,
            Phase::Idle => None,
            Phase::Opening(_) => Some((0, 0)),
            Phase::Looking(..) => Some((self.done(), self.of)),
            Phase::Working(_, progress) => Some(progress.unwrap_or((0, 0))),
        }
    }

    /// Photographs that nobody has looked at.
    fn missing(&self) -> usize {
        let is_missing =
            |photo: &&ListedPhoto| sight_of(&photo.record).is_some_and(|id| !self.is_seen(&id));
        self.photos.iter().filter(is_missing).count()
    }

    fn done(&self) -> usize {
        match &self.phase {
            Phase::Looking(_, under_way) => {
                self.of.saturating_sub(self.missing().max(under_way.len()))
            }
            _ => 0,
        }
    }

    fn is_seen(&self, sight: &Sight) -> bool {
        self.known.contains(sight) || self.unusable.contains(sight)
    }

    /// Seconds that looking will take, once there is something to tell it from.
    pub(super) fn seconds_left(&self) -> Option<u32> {
        let (done, spent) = (self.done(), self.last - self.begun);
        if self.is_quiet || done < 4 || spent <= 0.0 {
            return None;
        }
        Some((spent / done as f64 * (self.of - done) as f64 / 1000.0).ceil() as u32)
    }

    /// Whether something is under way that the owner waits for.
    pub(super) fn is_busy(&self) -> bool {
        self.phase != Phase::Idle && !self.is_quiet
    }

    /// Whether photographs can be looked at one by one, for instance to show their main bodies.
    pub(super) const fn is_open(&self) -> bool {
        self.beside.is_some()
    }

    /// Takes what an engine has seen that was opened for something else.
    pub(super) fn learn(&mut self, seen: impl IntoIterator<Item = PhotoId>) {
        self.known.extend(seen.into_iter().map(|id| (id, None)));
    }
}

/// The owner wants something.
pub(super) fn want(app: &mut App, now: f64, goal: Goal, out: &mut Vec<Command>) {
    if app.making.is_busy() || !app.can_begin() {
        return;
    }
    if lacks_classes(&app.project) {
        return app.say(Sentence::Key("two.classes"), Look::Failed);
    }
    app.left_out.clear();
    app.out = 0;
    let making = &mut app.making;
    let is_running = making.phase != Phase::Idle;
    making.is_quiet = false;
    let said = match &mut making.phase {
        Phase::Idle => "looking",
        Phase::Opening(wanted) => {
            *wanted = goal;
            "opening"
        }
        Phase::Looking(wanted, _) => {
            *wanted = goal;
            "looking"
        }
        Phase::Working(..) => {
            making.next = Some(goal);
            "making"
        }
    };
    if is_running {
        return app.say(Sentence::Key(said), Look::Busy);
    }
    begin(app, now, goal, out);
}

/// Measures anew what the owner has changed, unless the owner waits for something or goes on changing.
pub(super) fn renew(app: &mut App, now: f64, change: u64, out: &mut Vec<Command>) {
    let is_stale = |measured: &Measured| measured.stale;
    let measured = app.making.measured.as_ref();
    let is_long = measured.is_some_and(|measured| measured.photos.len() >= NEARLY_FROM);
    let goal = if is_long { Goal::Nearly } else { Goal::Figures };
    measure_unasked(app, now, (change, goal), is_stale, out);
}

/// Learns anew what figures take from before a change, unless the owner waits for something or has gone on.
pub(super) fn learn_anew(app: &mut App, now: f64, change: u64, out: &mut Vec<Command>) {
    let are_nearly = |measured: &Measured| measured.figures.are_nearly;
    measure_unasked(app, now, (change, Goal::Figures), are_nearly, out);
}

fn measure_unasked(
    app: &mut App,
    now: f64,
    (change, goal): (u64, Goal),
    is_due: impl Fn(&Measured) -> bool,
    out: &mut Vec<Command>,
) {
    let is_free = app.making.phase == Phase::Idle && app.can_begin();
    if change != app.change || !is_free || lacks_classes(&app.project) {
        return;
    }
    let Some(measured) = app.making.measured.as_mut().filter(|measured| is_due(measured)) else {
        return;
    };
    measured.renewing = true;
    app.making.is_quiet = true;
    begin(app, now, goal, out);
}

fn begin(app: &mut App, now: f64, goal: Goal, out: &mut Vec<Command>) {
    app.making.photos = Listed::of(&app.project, &BTreeSet::new()).photos;
    if app.making.beside.is_some() {
        begin_to_look(app, now, goal, out);
    } else {
        app.making.phase = Phase::Opening(goal);
        say_busy(app, "opening");
        out.push(Command::OpenEngine);
    }
}

/// What is under way, if somebody waits for it.
fn say_busy(app: &mut App, key: &'static str) {
    if !app.making.is_quiet {
        app.say(Sentence::Key(key), Look::Busy);
    }
}

fn begin_to_look(app: &mut App, now: f64, goal: Goal, out: &mut Vec<Command>) {
    let making = &mut app.making;
    making.unusable.clear();
    making.of = making.missing();
    (making.begun, making.last) = (now, now);
    making.phase = Phase::Looking(goal, BTreeSet::new());
    say_busy(app, "looking");
    look_on(app, out);
}

/// Looks at the next photographs, or makes what is wanted where all are known.
fn look_on(app: &mut App, out: &mut Vec<Command>) {
    let making = &mut app.making;
    let beside = making.beside.unwrap_or(1);
    let Phase::Looking(goal, under_way) = &mut making.phase else { return };
    for photo in &making.photos {
        if under_way.len() >= beside {
            return;
        }
        let Some(sight) = sight_of(&photo.record) else { continue };
        let is_seen = making.known.contains(&sight) || making.unusable.contains(&sight);
        if !is_seen && under_way.insert(sight) {
            out.push(Command::Look(sight.0, photo.name.clone(), sight.1));
        }
    }
    if !under_way.is_empty() {
        return;
    }
    let goal = *goal;
    let listed = Listed::of(&app.project, &making.unusable);
    if listed.is_too_few() {
        let is_quiet = making.is_quiet;
        stop(making);
        if !is_quiet {
            app.say(Sentence::Key("two.classes"), Look::Failed);
        }
        return;
    }
    // What the owner did meanwhile counts: photographs that came are looked at as well.
    making.photos.clone_from(&listed.photos);
    let missing = making.missing();
    if missing > 0 {
        making.of += missing;
        return look_on(app, out);
    }
    making.change = app.change;
    making.phase = Phase::Working(goal, None);
    say_busy(app, "making");
    out.push(Command::Make(goal, Box::new(listed)));
}

/// Nothing is under way any more.
fn stop(making: &mut Making) {
    making.phase = Phase::Idle;
    making.is_quiet = false;
    making.next = None;
    if let Some(measured) = &mut making.measured {
        measured.renewing = false;
    }
}

/// The engine has said something.
pub(super) fn happened(app: &mut App, now: f64, event: EngineEvent, out: &mut Vec<Command>) {
    match (event, &mut app.making.phase) {
        (EngineEvent::Opened(beside, known), Phase::Opening(goal)) => {
            let goal = *goal;
            app.making.beside = Some(beside.max(1));
            app.making.has_gallery = false;
            app.making.known = known.iter().filter_map(|name| sight_of(name)).collect();
            begin_to_look(app, now, goal, out);
        }
        (EngineEvent::Looked(id, part, seen), Phase::Looking(_, under_way)) => {
            under_way.remove(&(id, part));
            app.making.last = now;
            let why = match seen {
                Seeing::Usable => None,
                Seeing::Unusable => Some(Why::Unusable),
                Seeing::Gone => Some(Why::Gone),
            };
            if let Some(why) = why {
                app.making.unusable.insert((id, part));
                let name = app.project.photo(id).map(|photo| photo.name.clone());
                let name = name.unwrap_or_default();
                // Unasked, the same one is named again and again.
                if !app.making.is_quiet || !app.left_out.contains(&(name.clone(), why.clone())) {
                    app.leave_out(name, why);
                }
            } else {
                app.making.known.insert((id, part));
            }
            look_on(app, out);
        }
        (EngineEvent::Looked(id, part, Seeing::Usable), _) => {
            app.making.known.insert((id, part));
        }
        (EngineEvent::Progress(done, of), Phase::Working(_, progress)) => {
            *progress = Some((done, of));
        }
        (EngineEvent::Made(figures), Phase::Working(goal, _)) => {
            let goal = *goal;
            made(app, now, goal, figures, out);
        }
        (EngineEvent::Asked(handle, answer), _) => answered(app, handle, answer, out),
        (EngineEvent::GalleryOpened(files, opened), _) => {
            super::opening::opened(app, files, opened, out);
        }
        (EngineEvent::Failed(words), phase) if *phase != Phase::Idle => {
            stop(&mut app.making);
            forget_engine(app, out);
            app.say(Sentence::Engine(words), Look::Failed);
        }
        _ => {}
    }
}

fn made(
    app: &mut App,
    now: f64,
    goal: Goal,
    figures: Option<Box<Figures>>,
    out: &mut Vec<Command>,
) {
    let (is_quiet, next) = (app.making.is_quiet, app.making.next);
    stop(&mut app.making);
    let (photos, stale) = (app.making.photos.clone(), app.change != app.making.change);
    app.making.has_gallery = true;
    // Places that name nothing would end the page.
    if let Some(figures) = figures.filter(|figures| figures.are_of(photos.len())) {
        let figures = *figures;
        app.making.measured = Some(Measured { figures, photos, stale, renewing: false });
    }
    if let Some(next) = next {
        return begin(app, now, next, out);
    }
    if !is_quiet {
        let sentence = match goal {
            Goal::Figures | Goal::Nearly => "measured",
            Goal::Gallery => "gallery.saved",
            Goal::Site => "site.saved",
            Goal::Folder => "site.written",
        };
        app.say(Sentence::Key(sentence), Look::Done);
    }
    let are_nearly = |measured: &Measured| measured.figures.are_nearly;
    if stale {
        out.push(Command::RenewLater(app.change));
    } else if app.making.measured.as_ref().is_some_and(are_nearly) {
        out.push(Command::LearnLater(app.change));
    }
    if let Some(Trying::Waiting(handle, name)) = &app.making.trying {
        out.push(Command::Ask(*handle, name.clone()));
    }
}

/// A picture is to be recognized by what the photographs are now.
pub(super) fn ask(app: &mut App, now: f64, file: GivenFile, out: &mut Vec<Command>) {
    if !app.can_begin() || lacks_classes(&app.project) {
        out.push(Command::LetGo(file.handle));
        let why = if app.can_begin() { "two.classes" } else { "wait.coming" };
        return app.say(Sentence::Key(why), Look::Failed);
    }
    if let Some(Trying::Waiting(before, _)) = &app.making.trying {
        out.push(Command::LetGo(*before));
    }
    let name = file.path.rsplit('/').next().unwrap_or_default().to_owned();
    app.making.trying = Some(Trying::Waiting(file.handle, name.clone()));
    let measured = &app.making.measured;
    let is_fresh = measured.as_ref().is_some_and(|measured| !measured.stale);
    if app.making.has_gallery && is_fresh && app.making.phase == Phase::Idle {
        out.push(Command::Ask(file.handle, name));
        app.say(Sentence::Key("trying"), Look::Busy);
    } else if !app.making.is_busy() {
        want(app, now, Goal::Figures, out);
    }
}

fn answered(
    app: &mut App,
    handle: Handle,
    answer: Result<Box<Answer>, String>,
    out: &mut Vec<Command>,
) {
    out.push(Command::LetGo(handle));
    let waiting = app.making.trying.take();
    let (name, answer) = match (waiting, answer) {
        (Some(Trying::Waiting(of, name)), answer) if of == handle => (name, answer),
        // An answer to a picture before.
        (waiting, _) => {
            app.making.trying = waiting;
            return;
        }
    };
    match answer {
        Ok(answer) => {
            app.making.trying = Some(Trying::Answered(name, answer));
            app.say(Sentence::Key("tried"), Look::Done);
        }
        Err(words) => app.say(Sentence::Engine(words), Look::Failed),
    }
}

/// Without an engine: the next one is opened anew.
fn forget_engine(app: &mut App, out: &mut Vec<Command>) {
    app.making.beside = None;
    app.making.has_gallery = false;
    if let Some(Trying::Waiting(handle, _)) = app.making.trying {
        app.making.trying = None;
        out.push(Command::LetGo(handle));
    }
    out.push(Command::EndEngine);
}

/// Ends the engine, and what it does.
pub(super) fn end(app: &mut App, out: &mut Vec<Command>) {
    stop(&mut app.making);
    forget_engine(app, out);
}

/// The owner does not want it any more.
pub(super) fn cancel(app: &mut App, out: &mut Vec<Command>) {
    end(app, out);
    app.say(Sentence::Key("stopped"), Look::Done);
}

impl App {
    /// Whether nothing is coming in that what is made would lack.
    pub(super) fn can_begin(&self) -> bool {
        self.coming.is_done() && !self.is_opening
    }
}
