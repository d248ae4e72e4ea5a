//! State of the studio and what changes it: [`update`] takes an [`Event`] and says what is to be done. Both are plain
//! data; [`crate::perform`] and [`crate::view`] do it.

mod coming;
mod command;
mod event;
mod given;
mod making;
mod seen;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::project::{Action, ClassId, History, NewPhoto, PhotoId, Project, Table};
use crate::stored;

use coming::Coming;
pub(crate) use command::{Command, Look, Sentence};
pub(crate) use event::{Event, Keeper, Prepared, Select, Why};
pub(crate) use given::{GivenFile, Handle};
use making::Making;
pub(crate) use making::{EngineEvent, Figures, Goal, Listed, Measured, Seeing};
pub(crate) use seen::{Seen, SeenClass};

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
    chosen: BTreeSet<PhotoId>,
    /// Where a range of chosen photographs begins.
    anchor: Option<PhotoId>,
    coming: Coming,
    making: Making,
    gift: u32,
    /// Photographs of this gift that came in.
    came: usize,
    /// The class on which it was put.
    onto: Option<ClassId>,
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
            chosen: BTreeSet::new(),
            anchor: None,
            coming: Coming::default(),
            making: Making::default(),
            gift: 0,
            came: 0,
            onto: None,
            left_out: Vec::new(),
            out: 0,
            is_full: false,
            status: (Sentence::Key("starting"), Look::Busy),
        }
    }

    /// Whether something goes with the page that the browser does not keep.
    pub(crate) fn would_lose(&self) -> bool {
        self.keeper == Keeper::Nowhere && !self.project.photos().is_empty()
    }

    /// Whether a photograph is chosen.
    pub(crate) fn is_chosen(&self, id: PhotoId) -> bool {
        self.chosen.contains(&id)
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
        Event::Begin(keeper, kept) => begin(app, keeper, kept, out),
        Event::Given(files, onto) => give(app, now, files, onto, out),
        Event::Prepared(handle, prepared) => come(app, now, handle, prepared, out),
        Event::Want(goal) => making::want(app, now, goal, out),
        Event::Engine(event) => making::happened(app, now, event, out),
        Event::Cancel if app.making.is_busy() => making::cancel(app, out),
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
        Event::Undo => {
            if app.history.back(&mut app.project) {
                app.say(Sentence::Key("undone"), Look::Done);
                changed(app, out);
            }
        }
        Event::Redo => {
            if app.history.forth(&mut app.project) {
                app.say(Sentence::Key("redone"), Look::Done);
                changed(app, out);
            }
        }
        Event::NoClass(label) => app.say(Sentence::NoClass(label), Look::Failed),
        Event::Select(select) => choose(app, &select),
        Event::Table(Some(text)) => match Table::read(&text) {
            Ok(table) => {
                let known = |label: &str| app.project.named(label).is_some();
                let told: BTreeSet<&str> =
                    table.rows().map(|(label, _)| label).filter(|label| known(label)).collect();
                let told = told.len();
                act_quietly(app, Action::Read(table), out);
                let look = if told == 0 { Look::Failed } else { Look::Done };
                app.say(Sentence::Told(told), look);
            }
            Err(error) => app.say(Sentence::Table(error), Look::Failed),
        },
        Event::Table(None) => app.say(Sentence::Key("no.file"), Look::Failed),
        Event::StartOver => {
            out.extend(app.coming.cancel().into_iter().map(Command::LetGo));
            (app.project, app.history) = (Project::default(), History::default());
            out.push(Command::KeepOnly(Vec::new()));
            app.left_out.clear();
            app.making = Making::default();
            out.push(Command::EndEngine);
            app.say(Sentence::Key("ready"), Look::Done);
            changed(app, out);
        }
        Event::Saved(kept) => saved(app, kept, out),
        Event::TimeToSave | Event::Leaving => {
            if app.keeping == Keeping::Due && app.keeper == Keeper::Own {
                save(app, out);
            }
        }
        Event::Language => {}
    }
}

fn begin(app: &mut App, keeper: Keeper, kept: Option<Vec<u8>>, out: &mut Vec<Command>) {
    app.keeper = keeper;
    match kept.map(|bytes| stored::read(&bytes)) {
        _ if keeper == Keeper::Elsewhere => app.say(Sentence::Key("elsewhere"), Look::Failed),
        Some(Ok(project)) => {
            // What was removed at the last visit cannot be had back.
            out.push(Command::KeepOnly(project.photos().iter().map(|photo| photo.id).collect()));
            app.project = project;
            app.say(Sentence::Key("came.back"), Look::Done);
        }
        // What is kept stays as it is: a newer page may read it.
        Some(Err(stored::StoredError::Newer(_))) => {
            app.keeper = Keeper::Nowhere;
            app.say(Sentence::Key("newer"), Look::Failed);
        }
        Some(Err(_)) => app.say(Sentence::Key("damaged"), Look::Failed),
        None => app.say(Sentence::Key("ready"), Look::Done),
    }
}

fn give(
    app: &mut App,
    now: f64,
    files: Vec<GivenFile>,
    onto: Option<ClassId>,
    out: &mut Vec<Command>,
) {
    let sorted = given::sort(files);
    out.extend(sorted.unwanted.into_iter().map(Command::LetGo));
    if app.coming.is_done() {
        app.gift = app.gift.wrapping_add(1);
        (app.came, app.out) = (0, 0);
        app.left_out.clear();
    }
    for name in sorted.others {
        app.leave_out(name, Why::NoPhoto);
    }
    if sorted.wanted.is_empty() {
        if app.coming.is_done() {
            app.say(Sentence::Key("no.photos"), Look::Failed);
        }
        return;
    }
    app.onto = onto;
    app.say(Sentence::Key("adding"), Look::Busy);
    app.coming.add(sorted.wanted, now);
    prepare_more(app, out);
}

fn prepare_more(app: &mut App, out: &mut Vec<Command>) {
    while let Some(handle) = app.coming.begin() {
        out.push(Command::Prepare(handle));
    }
}

fn come(app: &mut App, now: f64, handle: Handle, prepared: Prepared, out: &mut Vec<Command>) {
    let mut photos = Vec::new();
    let mut is_kept = true;
    for (wanted, prepared) in app.coming.take(handle, prepared, now) {
        out.push(Command::LetGo(wanted.handle));
        match prepared {
            Prepared::Broken => app.leave_out(wanted.path, Why::Broken),
            Prepared::Photo(id, kept) => {
                is_kept &= kept;
                let is_there = app.project.photo(id).is_some()
                    || photos.iter().any(|photo: &NewPhoto| photo.id == id);
                if is_there {
                    app.leave_out(wanted.path, Why::Double);
                    continue;
                }
                // What it was put on counts, whatever its folder says.
                let onto = app.onto.and_then(|id| app.project.class(id));
                let label = onto.map(|class| class.label.clone()).or(wanted.label);
                photos.push(NewPhoto { id, name: wanted.path, label });
            }
        }
    }
    app.came += photos.len();
    // Before anything is saved: a project names no photograph that is not kept.
    if !is_kept && app.keeper == Keeper::Own {
        app.keeper = Keeper::Nowhere;
        app.is_full = true;
    }
    if app.history.act(&mut app.project, Action::Add(photos), Some(app.gift)) {
        changed(app, out);
    }
    prepare_more(app, out);
    if app.coming.is_done() {
        if app.is_full {
            app.say(Sentence::Key("full"), Look::Failed);
        } else {
            let look = if app.came == 0 { Look::Failed } else { Look::Done };
            app.say(Sentence::Added(app.came, app.out), look);
        }
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
        changed(app, out);
    }
    has_changed
}

/// What belongs to a project that has changed.
fn changed(app: &mut App, out: &mut Vec<Command>) {
    let there: BTreeSet<PhotoId> = app.project.photos().iter().map(|photo| photo.id).collect();
    app.chosen.retain(|id| there.contains(id));
    app.anchor = app.anchor.filter(|id| there.contains(id));
    if let Some(measured) = &mut app.making.measured {
        measured.stale = true;
    }
    if app.keeper != Keeper::Own {
        return;
    }
    match &mut app.keeping {
        Keeping::Kept => {
            app.keeping = Keeping::Due;
            out.push(Command::SaveLater);
        }
        Keeping::Due => {}
        Keeping::UnderWay(since) => *since = true,
    }
}

fn save(app: &mut App, out: &mut Vec<Command>) {
    app.keeping = Keeping::UnderWay(false);
    out.push(Command::Save(stored::write(&app.project)));
}

fn saved(app: &mut App, kept: bool, out: &mut Vec<Command>) {
    let since = app.keeping == Keeping::UnderWay(true);
    app.keeping = Keeping::Kept;
    if !kept {
        app.keeper = Keeper::Nowhere;
        app.say(Sentence::Key("full"), Look::Failed);
    } else if since {
        app.keeping = Keeping::Due;
        out.push(Command::SaveLater);
    }
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
