//! What is to be seen, as plain data: the view compares it with what it shows.

use std::collections::BTreeMap;

use crate::project::{ClassId, PhotoId};

use super::{App, Keeper, Look, Measured, Sentence, Why};

/// A photograph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenPhoto {
    /// Which.
    pub(crate) id: PhotoId,
    /// What its file is called, without its folders.
    pub(crate) name: String,
    /// Whether it is chosen.
    pub(crate) chosen: bool,
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
    /// Whether something can be made: not while something is under way.
    pub(crate) can_make: bool,
    /// Where the project is kept.
    pub(crate) keeper: Keeper,
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
            can_make: self.coming.is_done() && !self.making.is_busy(),
            keeper: self.keeper,
        }
    }
}
