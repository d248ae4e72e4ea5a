//! A gallery, or a site of ours, is opened: its classes and entries become a part of the project.

use serde::Deserialize;

use super::given::{GivenGallery, Handle};
use super::{App, Command, Look, Sentence};
use crate::project::{Action, Crop, NewPhoto, PhotoId, Settings, Table};

/// A class of a gallery.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct OpenedClass {
    /// Its name.
    pub(crate) label: String,
    /// Names and texts.
    pub(crate) metadata: Vec<(String, String)>,
}

/// A photograph of which a gallery has embeddings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct OpenedPhoto {
    /// Content id of its file.
    pub(crate) content: String,
    /// The place of its class.
    pub(crate) class: usize,
}

/// A gallery that the engine has opened; what it has seen is kept.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct OpenedGallery {
    /// What its site is called; empty for a gallery alone.
    pub(crate) title: String,
    /// The part of photographs that its entries are of.
    pub(crate) crop: String,
    /// In order.
    pub(crate) classes: Vec<OpenedClass>,
    /// In the order of their entries.
    pub(crate) photos: Vec<OpenedPhoto>,
}

/// A gallery was given.
pub(super) fn open(app: &mut App, gallery: GivenGallery, out: &mut Vec<Command>) {
    if app.making.is_busy() || !app.can_begin() {
        out.extend(gallery.handles().into_iter().map(Command::LetGo));
        return app.say(Sentence::Key("wait.coming"), Look::Failed);
    }
    app.is_opening = true;
    app.say(Sentence::Key("opening.gallery"), Look::Busy);
    out.push(Command::OpenGallery(gallery));
}

/// The engine has opened it, or says why not.
pub(super) fn opened(
    app: &mut App,
    files: Vec<Handle>,
    opened: Result<Box<OpenedGallery>, String>,
    out: &mut Vec<Command>,
) {
    out.extend(files.into_iter().map(Command::LetGo));
    // One that was stopped.
    if !std::mem::take(&mut app.is_opening) {
        return;
    }
    let opened = match opened {
        Ok(opened) => opened,
        Err(words) => return app.say(Sentence::NoGallery(words), Look::Failed),
    };
    let label = |class: usize| opened.classes.get(class).map(|class| class.label.clone());
    let mut photos = Vec::with_capacity(opened.photos.len());
    for (number, photo) in opened.photos.iter().enumerate() {
        if let (Some(id), Some(label)) = (PhotoId::parse(&photo.content), label(photo.class)) {
            // Names that are in the order of the entries.
            let name = format!("gallery/{:06}", number + 1);
            photos.push(NewPhoto { id, name, label: Some(label) });
        }
    }
    app.making.learn(photos.iter().map(|photo| photo.id));
    let (classes, count) = (opened.classes.len(), photos.len());
    let told = opened.classes.iter().map(|class| (class.label.clone(), class.metadata.clone()));
    let crop = Crop::named(&opened.crop);
    let settings = Settings { crop, ..app.project.settings() };
    app.gift = app.gift.wrapping_add(1);
    let mut actions = vec![Action::Add(photos)];
    actions.extend(opened.classes.iter().map(|class| Action::AddClass(class.label.clone())));
    actions.push(Action::Read(Table::of(told.collect())));
    actions.push(Action::Settings(settings));
    if app.project.title().is_empty() && !opened.title.is_empty() {
        actions.push(Action::Title(opened.title.clone()));
    }
    let mut has_changed = false;
    for action in actions {
        has_changed |= app.history.act(&mut app.project, action, Some(app.gift));
    }
    if has_changed {
        super::keeping::changed(app, out);
    }
    app.say(Sentence::Opened(classes, count), Look::Done);
}
