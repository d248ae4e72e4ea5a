//! What is to be seen, as plain data: the view compares it with what it shows.

use std::collections::BTreeMap;

use crate::project::{ClassId, PhotoId, Settings};

use super::listed::lacks_classes;
use super::{App, Keeper, Look, Measured, Offer, Sentence, Shelved, Trying, Why};

/// A photograph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenPhoto {
    /// Which.
    pub(crate) id: PhotoId,
    /// What its file is called, without its folders.
    pub(crate) name: String,
    /// Whether it is chosen.
    pub(crate) chosen: bool,
    /// Whether only a part of it counts.
    pub(crate) cropped: bool,
}

/// A class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenClass {
    /// Which; `None` for photographs that show nothing yet.
    pub(crate) id: Option<ClassId>,
    /// Its name.
    pub(crate) label: String,
    /// Its names and texts.
    pub(crate) metadata: Vec<(String, String)>,
    /// In order.
    pub(crate) photos: Vec<SeenPhoto>,
    /// Whether it has few photographs.
    pub(crate) few: bool,
}

/// Everything.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    /// What the site is called.
    pub(crate) title: String,
    /// In order; first those that show nothing yet, if there are any.
    pub(crate) classes: Vec<SeenClass>,
    /// All photographs.
    pub(crate) photos: usize,
    /// Chosen photographs.
    pub(crate) chosen: usize,
    /// Whether a step can be taken back, and done again.
    pub(crate) undo: (bool, bool),
    /// Photographs that were looked at, of how many.
    pub(crate) progress: Option<(usize, usize)>,
    /// Seconds that the rest will take.
    pub(crate) seconds_left: Option<u32>,
    /// What was left out.
    pub(crate) left_out: Vec<(String, Why)>,
    /// The status line.
    pub(crate) status: (Sentence, Look),
    /// How good it is.
    pub(crate) measured: Option<Measured>,
    /// A picture that is none of the photographs, and what the gallery answers.
    pub(crate) trying: Option<Trying>,
    /// Why nothing can be made; `None` where something can.
    pub(crate) lack: Option<Lack>,
    /// How the gallery is made.
    pub(crate) settings: Settings,
    /// Photographs that were there already and may be moved.
    pub(crate) offer: Option<Offer>,
    /// Projects of this browser.
    pub(crate) shelf: Vec<Shelved>,
    /// Where the project is kept.
    pub(crate) keeper: Keeper,
}

/// Why nothing can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// Photographs of two classes.
    Classes,
    /// Something is under way.
    Busy,
}

/// Photographs of a class below which the studio asks for more.
const FEW: usize = 5;

impl App {
    /// What is to be seen now.
    pub(crate) fn seen(&self) -> Seen {
        let mut by_class: BTreeMap<Option<ClassId>, Vec<SeenPhoto>> = BTreeMap::new();
        for photo in self.project.photos() {
            by_class.entry(photo.class).or_default().push(SeenPhoto {
                id: photo.id,
                name: photo.name.rsplit('/').next().unwrap_or_default().to_owned(),
                chosen: self.chosen.contains(&photo.id),
                cropped: photo.part.is_some(),
            });
        }
        let none = by_class.remove(&None).map(|photos| SeenClass {
            id: None,
            label: String::new(),
            metadata: Vec::new(),
            photos,
            few: false,
        });
        let classes = self.project.classes().iter().map(|class| {
            let photos = by_class.remove(&Some(class.id)).unwrap_or_default();
            SeenClass {
                id: Some(class.id),
                label: class.label.clone(),
                metadata: class.metadata.clone(),
                few: !photos.is_empty() && photos.len() < FEW,
                photos,
            }
        });
        Seen {
            title: self.project.title().to_owned(),
            classes: none.into_iter().chain(classes).collect(),
            photos: self.project.photos().len(),
            chosen: self.chosen.len(),
            undo: (self.history.can_go_back(), self.history.can_go_forth()),
            progress: self.coming.progress().or_else(|| self.making.progress()),
            seconds_left: self.coming.seconds_left().or_else(|| self.making.seconds_left()),
            left_out: self.left_out.clone(),
            status: self.status.clone(),
            measured: self.making.measured.clone(),
            trying: self.making.trying.clone(),
            lack: if !self.can_begin() || self.making.is_busy() {
                Some(Lack::Busy)
            } else {
                lacks_classes(&self.project).then_some(Lack::Classes)
            },
            settings: self.project.settings(),
            offer: self.offer(),
            shelf: self.shelf(),
            keeper: self.keeper,
        }
    }

    /// The projects, the open one with its title of now.
    fn shelf(&self) -> Vec<Shelved> {
        let mut shelf = self.shelf.clone();
        for project in shelf.iter_mut().filter(|project| project.open) {
            self.project.title().clone_into(&mut project.title);
        }
        shelf
    }
}
