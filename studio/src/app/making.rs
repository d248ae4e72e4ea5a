//! From sorted photographs to figures, a gallery or a site: the engine is opened, looks at each photograph once, and puts
//! together what it has seen.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{App, Command, Look, Sentence, Why};
use crate::project::{PhotoId, Project};

/// What the owner wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Figures that say how good it is.
    Figures,
    /// The gallery as a file.
    Gallery,
    /// The site as a ZIP archive.
    Site,
}

/// A photograph as the engine knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ListedPhoto {
    /// Content id of its file.
    pub(crate) content: String,
    /// What its file is called.
    pub(crate) name: String,
    /// What it shows.
    pub(crate) label: String,
}

/// What is told of a class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ListedClass {
    label: String,
    metadata: Vec<(String, String)>,
}

/// The project as the engine takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Listed {
    title: String,
    /// By label, then by name.
    pub(crate) photos: Vec<ListedPhoto>,
    /// Which part of a photograph counts; by default what is measured better.
    crop: Option<String>,
    adapt: bool,
    calibrate: bool,
    classes: Vec<ListedClass>,
    samples: Vec<()>,
}

impl Listed {
    /// Whether there is nothing to tell apart.
    fn is_too_few(&self) -> bool {
        let mut labels = self.photos.iter().map(|photo| &photo.label);
        let first = labels.next();
        labels.all(|label| Some(label) == first)
    }

    /// The sorted photographs of a project.
    fn of(project: &Project, unusable: &BTreeSet<PhotoId>) -> Self {
        let labels: BTreeMap<_, _> =
            project.classes().iter().map(|class| (class.id, class.label.as_str())).collect();
        let photo = |photo: &crate::project::Photo| {
            let label = labels.get(&photo.class?)?;
            (!unusable.contains(&photo.id)).then(|| ListedPhoto {
                content: photo.id.to_string(),
                name: photo.name.clone(),
                label: (*label).to_owned(),
            })
        };
        let mut photos: Vec<ListedPhoto> = project.photos().iter().filter_map(photo).collect();
        photos.sort_by(|one, other| (&one.label, &one.name).cmp(&(&other.label, &other.name)));
        let told = project.classes().iter().filter(|class| !class.metadata.is_empty());
        let told = told.map(|class| ListedClass {
            label: class.label.clone(),
            metadata: class.metadata.clone(),
        });
        let title = project.title();
        Self {
            title: if title.is_empty() { "Magpie" } else { title }.to_owned(),
            photos,
            crop: None,
            adapt: true,
            calibrate: true,
            classes: told.collect(),
            samples: Vec::new(),
        }
    }
}

/// A class in figures.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct FigureClass {
    /// Its name.
    pub(crate) label: String,
    /// Its photographs.
    pub(crate) photos: usize,
}

/// What is asked about, though it is none of the classes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Open {
    /// Photographs with the right answer, of how many.
    pub(crate) right: (usize, usize),
    /// Photographs with a wrong answer, of how many.
    pub(crate) wrong: (usize, usize),
    /// Photographs of nothing known that are given a name all the same, of how many.
    pub(crate) named: (usize, usize),
}

/// Two classes that are mistaken for each other.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Mistaken {
    /// What it is, and what it is taken for.
    pub(crate) classes: (usize, usize),
    /// How often.
    pub(crate) times: usize,
    /// Of how many.
    pub(crate) of: usize,
    /// A photograph, and the one that it is taken for.
    pub(crate) photos: (usize, usize),
}

/// A photograph that may be of another class.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Suspect {
    /// Which.
    pub(crate) photo: usize,
    /// The class in which it is.
    pub(crate) class: usize,
    /// The class whose photographs it looks like.
    pub(crate) looks: usize,
}

/// Two photographs that are the same or nearly so.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Double {
    /// Which.
    pub(crate) photos: (usize, usize),
    /// Whether both are of one class.
    pub(crate) one_class: bool,
}

/// How good it is; photographs and classes by their places in the lists.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Figures {
    /// In order.
    pub(crate) classes: Vec<FigureClass>,
    /// Photographs that the gallery knows.
    pub(crate) photos: usize,
    /// Percent that are recognized at the first answer with their standard error, and the same among five.
    pub(crate) recall: Vec<Option<(f64, f64)>>,
    /// With photographs of nothing known.
    pub(crate) open: Option<Open>,
    /// The most frequent first.
    pub(crate) mistaken: Vec<Mistaken>,
    /// The surest first.
    pub(crate) suspects: Vec<Suspect>,
    /// The same photograph twice.
    pub(crate) doubles: Vec<Double>,
    /// Photographs that could not be used.
    pub(crate) left_out: Vec<usize>,
}

/// Figures with the photographs that they are about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Measured {
    /// The engine's.
    pub(crate) figures: Figures,
    /// The photographs, in the order in which the figures name them.
    pub(crate) photos: Vec<ListedPhoto>,
    /// Whether the project has changed since.
    pub(crate) stale: bool,
}

/// What the engine says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum EngineEvent {
    /// It is open: how many photographs it looks at beside each other, and those that it has looked at before.
    Opened(usize, Vec<PhotoId>),
    /// It cannot be opened, or has stopped; in its own words.
    Failed(String),
    /// It has looked at a photograph.
    Looked(PhotoId, Seeing),
    /// Parts that are done, of how many.
    Progress(usize, usize),
    /// It has made what was wanted, with figures where they were measured.
    Made(Option<Box<Figures>>),
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
    /// Photographs that are looked at just now.
    Looking(Goal, BTreeSet<PhotoId>),
    Working(Goal, Option<(usize, usize)>),
}

/// From sorted photographs to what the owner wants.
#[derive(Debug)]
pub(super) struct Making {
    phase: Phase,
    /// Photographs that it looks at beside each other; `None` while no engine is open.
    beside: Option<usize>,
    known: BTreeSet<PhotoId>,
    unusable: BTreeSet<PhotoId>,
    /// What was asked for.
    photos: Vec<ListedPhoto>,
    /// Photographs to look at when it began, and when that was.
    of: usize,
    begun: f64,
    last: f64,
    pub(super) measured: Option<Measured>,
}

impl Default for Making {
    fn default() -> Self {
        Self {
            phase: Phase::Idle,
            beside: None,
            known: BTreeSet::new(),
            unusable: BTreeSet::new(),
            photos: Vec::new(),
            of: 0,
            begun: 0.0,
            last: 0.0,
            measured: None,
        }
    }
}

impl Making {
    /// How far it is, of how much.
    pub(super) fn progress(&self) -> Option<(usize, usize)> {
        match &self.phase {
            Phase::Idle => None,
            Phase::Opening(_) => Some((0, 0)),
            Phase::Looking(..) => Some((self.done(), self.of)),
            Phase::Working(_, progress) => Some(progress.unwrap_or((0, 0))),
        }
    }

    /// Photographs that nobody has looked at.
    fn missing(&self) -> usize {
        let is_missing = |photo: &&ListedPhoto| {
            PhotoId::parse(&photo.content).is_some_and(|id| !self.is_seen(id))
        };
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

    fn is_seen(&self, id: PhotoId) -> bool {
        self.known.contains(&id) || self.unusable.contains(&id)
    }

    /// Seconds that looking will take, once there is something to tell it from.
    pub(super) fn seconds_left(&self) -> Option<u32> {
        let (done, spent) = (self.done(), self.last - self.begun);
        if done < 4 || spent <= 0.0 {
            return None;
        }
        Some((spent / done as f64 * (self.of - done) as f64 / 1000.0).ceil() as u32)
    }

    /// Whether something is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.phase != Phase::Idle
    }
}

/// The owner wants something.
pub(super) fn want(app: &mut App, now: f64, goal: Goal, out: &mut Vec<Command>) {
    if app.making.is_busy() || !app.coming.is_done() {
        return;
    }
    let listed = Listed::of(&app.project, &BTreeSet::new());
    if listed.is_too_few() {
        return app.say(Sentence::Key("two.classes"), Look::Failed);
    }
    app.making.photos = listed.photos;
    app.left_out.clear();
    app.out = 0;
    if app.making.beside.is_some() {
        begin_to_look(app, now, goal, out);
    } else {
        app.making.phase = Phase::Opening(goal);
        app.say(Sentence::Key("opening"), Look::Busy);
        out.push(Command::OpenEngine);
    }
}

fn begin_to_look(app: &mut App, now: f64, goal: Goal, out: &mut Vec<Command>) {
    let making = &mut app.making;
    making.unusable.clear();
    making.of = making.missing();
    (making.begun, making.last) = (now, now);
    making.phase = Phase::Looking(goal, BTreeSet::new());
    app.say(Sentence::Key("looking"), Look::Busy);
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
        let Some(id) = PhotoId::parse(&photo.content) else { continue };
        let is_seen = making.known.contains(&id) || making.unusable.contains(&id);
        if !is_seen && under_way.insert(id) {
            out.push(Command::Look(id, photo.name.clone()));
        }
    }
    if !under_way.is_empty() {
        return;
    }
    let goal = *goal;
    let listed = Listed::of(&app.project, &making.unusable);
    if listed.is_too_few() {
        making.phase = Phase::Idle;
        return app.say(Sentence::Key("two.classes"), Look::Failed);
    }
    // What the owner did meanwhile counts: photographs that came are looked at as well.
    making.photos.clone_from(&listed.photos);
    let missing = making.missing();
    if missing > 0 {
        making.of += missing;
        return look_on(app, out);
    }
    making.phase = Phase::Working(goal, None);
    app.say(Sentence::Key("making"), Look::Busy);
    out.push(Command::Make(goal, Box::new(listed)));
}

/// The engine has said something.
pub(super) fn happened(app: &mut App, now: f64, event: EngineEvent, out: &mut Vec<Command>) {
    match (event, &mut app.making.phase) {
        (EngineEvent::Opened(beside, known), Phase::Opening(goal)) => {
            let goal = *goal;
            app.making.beside = Some(beside.max(1));
            app.making.known = known.into_iter().collect();
            begin_to_look(app, now, goal, out);
        }
        (EngineEvent::Looked(id, seen), Phase::Looking(_, under_way)) => {
            under_way.remove(&id);
            app.making.last = now;
            let why = match seen {
                Seeing::Usable => None,
                Seeing::Unusable => Some(Why::Unusable),
                Seeing::Gone => Some(Why::Gone),
            };
            if let Some(why) = why {
                app.making.unusable.insert(id);
                let name = app.project.photo(id).map(|photo| photo.name.clone());
                app.leave_out(name.unwrap_or_default(), why);
            } else {
                app.making.known.insert(id);
            }
            look_on(app, out);
        }
        (EngineEvent::Looked(id, Seeing::Usable), _) => drop(app.making.known.insert(id)),
        (EngineEvent::Progress(done, of), Phase::Working(_, progress)) => {
            *progress = Some((done, of));
        }
        (EngineEvent::Made(figures), Phase::Working(goal, _)) => {
            let goal = *goal;
            let photos = app.making.photos.clone();
            // Places that name nothing would end the page.
            if let Some(figures) = figures.filter(|figures| figures.are_of(photos.len())) {
                app.making.measured = Some(Measured { figures: *figures, photos, stale: false });
            }
            app.making.phase = Phase::Idle;
            let sentence = match goal {
                Goal::Figures => "measured",
                Goal::Gallery => "gallery.saved",
                Goal::Site => "site.saved",
            };
            app.say(Sentence::Key(sentence), Look::Done);
        }
        (EngineEvent::Failed(words), phase) if *phase != Phase::Idle => {
            *phase = Phase::Idle;
            app.making.beside = None;
            out.push(Command::EndEngine);
            app.say(Sentence::Engine(words), Look::Failed);
        }
        _ => {}
    }
}

/// The owner does not want it any more.
pub(super) fn cancel(app: &mut App, out: &mut Vec<Command>) {
    app.making.phase = Phase::Idle;
    app.making.beside = None;
    out.push(Command::EndEngine);
    app.say(Sentence::Key("stopped"), Look::Done);
}

impl Figures {
    /// Whether all places in it name something.
    fn are_of(&self, photos: usize) -> bool {
        let classes = self.classes.len();
        let mistaken = self.mistaken.iter().all(|pair| {
            pair.classes.0.max(pair.classes.1) < classes
                && pair.photos.0.max(pair.photos.1) < photos
        });
        let suspects = self
            .suspects
            .iter()
            .all(|suspect| suspect.photo < photos && suspect.class.max(suspect.looks) < classes);
        let doubles = self.doubles.iter().all(|pair| pair.photos.0.max(pair.photos.1) < photos);
        mistaken && suspects && doubles && self.left_out.iter().all(|place| *place < photos)
    }
}
