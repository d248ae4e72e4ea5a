//! Files are given; photographs among them come in, and what does not is named.

use super::coming::Coming;
use super::given::{self, GivenFile, Handle};
use super::{App, Command, Keeper, Look, Prepared, Sentence, Why, keeping, opening};
use crate::project::{Action, ClassId, NewPhoto, PhotoId};

/// Photographs that were there already, with the classes that they were put on, as the owner is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    /// How many.
    pub(crate) photos: usize,
    /// The class, if it is one alone.
    pub(crate) label: Option<String>,
}

/// Files were given.
pub(super) fn give(
    app: &mut App,
    now: f64,
    files: Vec<GivenFile>,
    onto: Option<ClassId>,
    out: &mut Vec<Command>,
) {
    let sorted = given::sort(files);
    out.extend(sorted.unwanted.into_iter().map(Command::LetGo));
    if let Some(gallery) = sorted.gallery {
        return opening::open(app, gallery, out);
    }
    if app.coming.is_done() {
        app.gift = app.gift.wrapping_add(1);
        (app.came, app.out) = (0, 0);
        app.left_out.clear();
        app.elsewhere.clear();
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
    prepare_more(&mut app.coming, out);
}

fn prepare_more(coming: &mut Coming, out: &mut Vec<Command>) {
    while let Some(handle) = coming.begin() {
        out.push(Command::Prepare(handle));
    }
}

/// A photograph was looked at.
pub(super) fn come(
    app: &mut App,
    now: f64,
    handle: Handle,
    prepared: Prepared,
    out: &mut Vec<Command>,
) {
    let mut photos: Vec<NewPhoto> = Vec::new();
    let mut is_kept = true;
    for (wanted, prepared) in app.coming.take(handle, prepared, now) {
        out.push(Command::LetGo(wanted.handle));
        match prepared {
            Prepared::Broken if given::is_foreign(&wanted.path) => {
                app.leave_out(wanted.path, Why::NoDecoder);
            }
            Prepared::Broken => app.leave_out(wanted.path, Why::Broken),
            Prepared::Photo(id, kept) => {
                is_kept &= kept;
                // What it was put on counts, whatever its folder says.
                let onto = app.onto.and_then(|id| app.project.class(id));
                let label = onto.map(|class| class.label.clone()).or(wanted.label);
                let before = photos.iter().find(|photo| photo.id == id);
                let before = before.map(|photo| photo.label.clone());
                match before.or_else(|| app.label_of(id)) {
                    Some(before) => double(app, wanted.path, id, before, label),
                    None => photos.push(NewPhoto { id, name: wanted.path, label }),
                }
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
        keeping::changed(app, out);
    }
    prepare_more(&mut app.coming, out);
    if app.coming.is_done() {
        arrived(app, out);
    }
}

/// A photograph that is there already is named with its class, and may be moved to the one that it was put on.
fn double(app: &mut App, path: String, id: PhotoId, before: Option<String>, label: Option<String>) {
    let label = label.as_deref().and_then(crate::project::name);
    if let Some(label) = label.filter(|label| before.as_ref() != Some(label)) {
        app.elsewhere.push((id, label));
    }
    app.leave_out(path, Why::Double(before));
}

/// All that was given has been looked at.
fn arrived(app: &mut App, out: &mut Vec<Command>) {
    if app.is_full {
        app.say(Sentence::Key("full"), Look::Failed);
    } else {
        let look = if app.came == 0 { Look::Failed } else { Look::Done };
        app.say(Sentence::Added(app.came, app.out), look);
    }
    if app.making.measured.is_some() {
        out.push(Command::RenewLater(app.change));
    }
}

/// Photographs that were there already go where they were put, or stay.
pub(super) fn take_offer(app: &mut App, is_taken: bool, out: &mut Vec<Command>) {
    let places = std::mem::take(&mut app.elsewhere);
    let count = places.len();
    if is_taken && super::act_quietly(app, Action::Place(places), out) {
        app.say(Sentence::Placed(count), Look::Done);
    }
}

impl App {
    /// The class of a photograph that is there: its name, or that it is not sorted yet.
    #[expect(
        clippy::option_option,
        reason = "a photograph that is not there, and one without a class"
    )]
    fn label_of(&self, id: PhotoId) -> Option<Option<String>> {
        let photo = self.project.photo(id)?;
        let class = photo.class.and_then(|class| self.project.class(class));
        Some(class.map(|class| class.label.clone()))
    }

    /// What the owner is asked about photographs that were there already.
    pub(super) fn offer(&self) -> Option<Offer> {
        let (_, first) = self.elsewhere.first().filter(|_| self.coming.is_done())?;
        let is_one = self.elsewhere.iter().all(|(_, label)| label == first);
        Some(Offer { photos: self.elsewhere.len(), label: is_one.then(|| first.clone()) })
    }
}
