//! State of the studio and what changes it: [`update`] takes an [`Event`] and says what is to be done. Both are plain
//! data; [`crate::perform`] and [`crate::view`] do it.

mod coming;
mod command;
mod event;
mod figures;
mod given;
mod incoming;
mod keeping;
mod listed;
mod making;
mod opening;
mod seen;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::project::{Action, ClassId, History, PhotoId, Project, Table};

use coming::Coming;
pub(crate) use command::{Command, Look, Sentence};
pub(crate) use event::{Event, Keeper, Prepared, Select, Shelved, Why};
pub(crate) use figures::{Answer, Figures, Measured, Point};
pub(crate) use given::{GivenFile, GivenGallery, Handle};
pub(crate) use incoming::Offer;
pub(crate) use listed::{Listed, record_name};
use making::Making;
pub(crate) use making::{EngineEvent, Goal, Seeing, Trying};
pub(crate) use seen::{Lack, Seen, SeenClass};

/// Most names of things that are left out.
const MOST_NAMES: usize = 200;

/// Whether the browser has what the project is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Keeping {
    /// It has.
    #[default]
    Kept,
    /// It will be asked to keep it soon.
    Due,
    /// It keeps it just now; whether something has changed since.
    UnderWay(bool),
}

/// Everything that the page remembers.
#[derive(Debug)]
pub(crate) struct App {
    project: Project,
    history: History,
    keeper: Keeper,
    keeping: Keeping,
    /// Projects of this browser.
    shelf: Vec<Shelved>,
    /// Counts changes of the project.
    change: u64,
    chosen: BTreeSet<PhotoId>,
    /// Where a range of chosen photographs begins.
    anchor: Option<PhotoId>,
    coming: Coming,
    making: Making,
    /// Whether a gallery is being opened.
    is_opening: bool,
    gift: u32,
    /// Photographs of this gift that came in.
    came: usize,
    /// The class on which it was put.
    onto: Option<ClassId>,
    /// Photographs of this gift that are in another class than the one that they were put on.
    elsewhere: Vec<(PhotoId, String)>,
    left_out: Vec<(String, Why)>,
    /// Things that are left out of this gift.
    out: usize,
    /// Whether the browser had no room for something.
    is_full: bool,
    status: (Sentence, Look),
}

impl App {
    /// A page that begins.
    pub(crate) fn new() -> Self {
        Self {
            project: Project::default(),
            history: History::default(),
            keeper: Keeper::Nowhere,
            keeping: Keeping::default(),
            shelf: Vec::new(),
            change: 0,
            chosen: BTreeSet::new(),
            anchor: None,
            coming: Coming::default(),
            making: Making::default(),
            is_opening: false,
            gift: 0,
            came: 0,
            onto: None,
            elsewhere: Vec::new(),
            left_out: Vec::new(),
            out: 0,
            is_full: false,
            status: (Sentence::Key("starting"), Look::Busy),
        }
    }

    /// Whether something goes with the page that the browser does not keep: all, or photographs that still come in.
    pub(crate) fn would_lose(&self) -> bool {
        let is_kept = self.keeper != Keeper::Nowhere || self.project.photos().is_empty();
        !is_kept || !self.coming.is_done()
    }

    /// Whether the engine is open.
    pub(crate) const fn has_engine(&self) -> bool {
        self.making.is_open()
    }

    /// Whether a photograph is chosen.
    pub(crate) fn is_chosen(&self, id: PhotoId) -> bool {
        self.chosen.contains(&id)
    }

    /// The photograph that is chosen alone.
    pub(crate) fn only_chosen(&self) -> Option<PhotoId> {
        self.chosen.first().copied().filter(|_| self.chosen.len() == 1)
    }

    /// What is known of the photographs.
    pub(crate) const fn project(&self) -> &Project {
        &self.project
    }

    fn say(&mut self, sentence: Sentence, look: Look) {
        self.status = (sentence, look);
    }

    fn leave_out(&mut self, name: String, why: Why) {
        self.out += 1;
        if self.left_out.len() < MOST_NAMES {
            self.left_out.push((name, why));
        }
    }
}

/// Changes the state by what happened at a time in milliseconds; what is to be done about it, in order.
pub(crate) fn update(app: &mut App, now: f64, event: Event) -> Vec<Command> {
    let mut out = Vec::new();
    take(app, now, event, &mut out);
    out.push(Command::Show);
    out
}

fn take(app: &mut App, now: f64, event: Event, out: &mut Vec<Command>) {
    // Another tab has the project: whatever is done here would be lost.
    if app.keeper == Keeper::Elsewhere && !matches!(event, Event::Begin(..)) {
        if let Event::Given(files, _) = event {
            out.extend(files.into_iter().map(|file| Command::LetGo(file.handle)));
        }
        return;
    }
    match event {
        Event::Begin(keeper, kept, shelf) => keeping::begin(app, keeper, kept, shelf, out),
        Event::Given(files, onto) => incoming::give(app, now, files, onto, out),
        Event::Prepared(handle, prepared) => incoming::come(app, now, handle, prepared, out),
        Event::TakeOffer(is_taken) => incoming::take_offer(app, is_taken, out),
        Event::Want(goal) => making::want(app, now, goal, out),
        Event::Engine(event) => making::happened(app, now, event, out),
        Event::Try(file) => making::ask(app, now, file, out),
        Event::Cancel if app.making.is_busy() || app.is_opening => {
            app.is_opening = false;
            making::cancel(app, out);
        }
        Event::Cancel => {
            out.extend(app.coming.cancel().into_iter().map(Command::LetGo));
            app.say(Sentence::Added(app.came, app.out), Look::Done);
        }
        Event::Do(action) => act(app, action, out),
        Event::MoveChosen(class) => {
            let label = class.and_then(|id| app.project.class(id));
            let label = label.map_or(String::new(), |class| class.label.clone());
            let photos: Vec<PhotoId> = app.chosen.iter().copied().collect();
            let moved = Sentence::Moved(photos.len(), label);
            if act_quietly(app, Action::Move(photos, class), out) {
                app.say(moved, Look::Done);
            }
        }
        Event::NameChosen(label) => {
            let photos: Vec<PhotoId> = app.chosen.iter().copied().collect();
            let moved = Sentence::Moved(photos.len(), label.trim().to_owned());
            if act_quietly(app, Action::Split(photos, label), out) {
                app.say(moved, Look::Done);
            }
        }
        Event::RemoveChosen => {
            let photos: Vec<PhotoId> = app.chosen.iter().copied().collect();
            let removed = Sentence::Removed(photos.len());
            if act_quietly(app, Action::Remove(photos), out) {
                app.say(removed, Look::Done);
            }
        }
        Event::Crop(id, part) => {
            if act_quietly(app, Action::Crop(id, part), out) {
                let said = if part.is_some() { "cropped" } else { "uncropped" };
                app.say(Sentence::Key(said), Look::Done);
            }
        }
        Event::Undo => {
            if app.history.back(&mut app.project) {
                app.say(Sentence::Key("undone"), Look::Done);
                keeping::changed(app, out);
            }
        }
        Event::Redo => {
            if app.history.forth(&mut app.project) {
                app.say(Sentence::Key("redone"), Look::Done);
                keeping::changed(app, out);
            }
        }
        Event::NoClass(label) => app.say(Sentence::NoClass(label), Look::Failed),
        Event::Select(select) => choose(app, &select),
        Event::Table(Some(text)) => match Table::read(&text) {
            Ok(table) => tell(app, table, out),
            Err(error) => app.say(Sentence::Table(error), Look::Failed),
        },
        Event::Table(None) => app.say(Sentence::Key("no.file"), Look::Failed),
        Event::StartOver => {
            out.extend(app.coming.cancel().into_iter().map(Command::LetGo));
            (app.project, app.history) = (Project::default(), History::default());
            out.push(Command::KeepOnly(Vec::new()));
            app.left_out.clear();
            app.elsewhere.clear();
            app.is_opening = false;
            app.making = Making::default();
            out.push(Command::EndEngine);
            app.say(Sentence::Key("ready"), Look::Done);
            keeping::changed(app, out);
        }
        Event::Switch(to) => keeping::switch(app, to, out),
        Event::RemoveProject => {
            if app.keeper == Keeper::Own {
                app.keeping = Keeping::Kept;
                making::end(app, out);
                out.push(Command::RemoveProject);
            }
        }
        Event::Saved(kept) => keeping::saved(app, kept, out),
        Event::TimeToRenew(change) => making::renew(app, now, change, out),
        Event::TimeToLearn(change) => making::learn_anew(app, now, change, out),
        Event::TimeToSave | Event::Leaving => keeping::save(app, out),
        Event::Ending => keeping::save_now(app, out),
        Event::Language => {}
    }
}

/// Does what the owner wants, and says so.
fn act(app: &mut App, action: Action, out: &mut Vec<Command>) {
    let said = match &action {
        Action::RemoveClass(id) => Some(Sentence::Removed(app.project.of(Some(*id)).count())),
        _ => None,
    };
    if act_quietly(app, action, out) {
        app.say(said.unwrap_or(Sentence::Key("changed")), Look::Done);
    }
}

/// Whether something has changed.
fn act_quietly(app: &mut App, action: Action, out: &mut Vec<Command>) -> bool {
    let has_changed = app.history.act(&mut app.project, action, None);
    if has_changed {
        keeping::changed(app, out);
    }
    has_changed
}

/// Tells what a table says of classes, and names its rows that name none.
fn tell(app: &mut App, table: Table, out: &mut Vec<Command>) {
    let rows: BTreeSet<String> = table.rows().map(|(label, _)| label.to_owned()).collect();
    let is_known = |label: &String| app.project.named(label).is_some();
    let (told, missing): (Vec<String>, Vec<String>) = rows.into_iter().partition(is_known);
    act_quietly(app, Action::Read(table), out);
    if app.coming.is_done() {
        app.left_out.clear();
        app.out = 0;
    }
    let (told, count) = (told.len(), missing.len());
    for label in missing {
        app.leave_out(label, Why::NoClass);
    }
    let look = if told == 0 { Look::Failed } else { Look::Done };
    app.say(Sentence::Told(told, count), look);
}

fn choose(app: &mut App, select: &Select) {
    match *select {
        Select::Only(id) => {
            app.chosen = BTreeSet::from([id]);
            app.anchor = Some(id);
        }
        Select::Toggle(id) => {
            if !app.chosen.remove(&id) {
                app.chosen.insert(id);
            }
            app.anchor = Some(id);
        }
        Select::To(id) => {
            let class = app.project.photo(id).map(|photo| photo.class);
            let row: Vec<PhotoId> = class
                .map(|class| app.project.of(class).map(|photo| photo.id).collect())
                .unwrap_or_default();
            let place = |id: PhotoId| row.iter().position(|other| *other == id);
            let to = place(id);
            // A range begins in the same class, or is this one alone.
            let from = app.anchor.and_then(place).or(to);
            if let (Some(from), Some(to)) = (from, to) {
                app.chosen = row[from.min(to)..=from.max(to)].iter().copied().collect();
                app.anchor = Some(row[from]);
            }
        }
        Select::All(class) => {
            app.chosen = app.project.of(class).map(|photo| photo.id).collect();
        }
        Select::Nothing => app.chosen.clear(),
    }
    app.chosen.retain(|id| app.project.photo(*id).is_some());
}
