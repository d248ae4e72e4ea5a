//! What the owner decides: which photographs there are, what each shows, and what is told of each class.
//!
//! Every change of a [`Project`] is a list of [`Change`]s, and each of them gives its opposite when it is applied, so
//! that [`History`] takes any number of changes back without a copy of the project.

mod action;
mod change;
mod history;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub(crate) use action::{Action, NewPhoto};
pub(crate) use change::Change;
pub(crate) use history::History;
pub(crate) use table::{Table, TableError};

/// Most letters of a name or a title.
pub(crate) const LONGEST_NAME: usize = 200;
/// Most letters of a text about a class.
pub(crate) const LONGEST_TEXT: usize = 4000;
/// Most texts about a class.
pub(crate) const MOST_TEXTS: usize = 64;

/// The first 16 bytes of the SHA-256 of an image file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PhotoId(pub(crate) [u8; 16]);

impl fmt::Display for PhotoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PhotoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl PhotoId {
    /// The id that [`fmt::Display`] writes; `None` where it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut id = [0; 16];
        for (byte, place) in id.iter_mut().zip((0..32).step_by(2)) {
            *byte = u8::from_str_radix(text.get(place..place + 2)?, 16).ok()?;
        }
        Some(Self(id))
    }
}

/// A class of this project; never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClassId(pub(crate) u32);

/// A part of a photograph: its left, upper, right and lower edge, as parts of width and height; 65,535 is all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Part(pub(crate) [u16; 4]);

impl Part {
    /// Least side, as a share: less is a slip of the finger.
    const LEAST: u16 = u16::MAX / 50;

    /// The part between two corners that are shares of width and height; `None` for nearly nothing and for nearly all.
    pub(crate) fn between(corners: [f64; 4]) -> Option<Self> {
        let [x1, y1, x2, y2] =
            corners.map(|share| (share.clamp(0.0, 1.0) * f64::from(u16::MAX)).round() as u16);
        let part = Self([x1.min(x2), y1.min(y2), x1.max(x2), y1.max(y2)]);
        let Self([left, upper, right, lower]) = part;
        let is_seen = right - left >= Self::LEAST && lower - upper >= Self::LEAST;
        let is_all = right - left >= u16::MAX - 1 && lower - upper >= u16::MAX - 1;
        (is_seen && !is_all).then_some(part)
    }

    /// Its edges as shares.
    pub(crate) fn shares(self) -> [f64; 4] {
        self.0.map(|edge| f64::from(edge) / f64::from(u16::MAX))
    }
}

/// Which part of each photograph becomes an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crop {
    /// The whole.
    Never,
    /// Its middle.
    Middle,
    /// Its main body.
    Main,
    /// The whole and the main body.
    Both,
}

impl Crop {
    /// All of them with the names that the engine has for them.
    pub(crate) const NAMES: [(Self, &'static str); 4] = [
        (Self::Never, "never"),
        (Self::Middle, "middle"),
        (Self::Main, "main"),
        (Self::Both, "both"),
    ];

    /// The engine's name.
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(crop, _)| *crop == self).map_or("never", |(_, name)| name)
    }

    /// The part of a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(crop, _)| *crop)
    }
}

/// How the gallery is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Which part of a photograph counts; `None`: what is measured better.
    pub(crate) crop: Option<Crop>,
    /// Whether the gallery learns from its photographs how to compare, if that helps.
    pub(crate) adapt: bool,
    /// Percent of unknown things that may be given a name.
    pub(crate) named: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self { crop: None, adapt: true, named: 5 }
    }
}

/// A photograph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Photo {
    /// Of its file.
    pub(crate) id: PhotoId,
    /// What its file is called, with its folders.
    pub(crate) name: String,
    /// What it shows; `None` where the owner has not said.
    pub(crate) class: Option<ClassId>,
    /// The part that its owner has chosen; `None`: what [`Settings::crop`] says.
    pub(crate) part: Option<Part>,
}

/// What photographs show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Class {
    /// Which.
    pub(crate) id: ClassId,
    /// Its name, which no other class has.
    pub(crate) label: String,
    /// Names and texts, in the owner's order.
    pub(crate) metadata: Vec<(String, String)>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Project {
    title: String,
    settings: Settings,
    classes: Vec<Class>,
    photos: Vec<Photo>,
}

impl Project {
    /// A project that was kept; `None` where its parts do not belong together.
    pub(crate) fn assemble(
        title: String,
        settings: Settings,
        classes: Vec<Class>,
        photos: Vec<Photo>,
    ) -> Option<Self> {
        let labels: BTreeMap<&str, ClassId> =
            classes.iter().map(|class| (class.label.as_str(), class.id)).collect();
        let ids: BTreeSet<ClassId> = classes.iter().map(|class| class.id).collect();
        let photo_ids: BTreeSet<PhotoId> = photos.iter().map(|photo| photo.id).collect();
        let is_whole = labels.len() == classes.len()
            && ids.len() == classes.len()
            && photo_ids.len() == photos.len()
            && photos.iter().all(|photo| photo.class.is_none_or(|id| ids.contains(&id)));
        is_whole.then_some(Self { title, settings, classes, photos })
    }

    /// What the site is called; empty where the owner has not said.
    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    /// How the gallery is made.
    pub(crate) const fn settings(&self) -> Settings {
        self.settings
    }

    /// In the order in which they are shown.
    pub(crate) fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// In the order in which they are shown.
    pub(crate) fn photos(&self) -> &[Photo] {
        &self.photos
    }

    /// Whether there is nothing.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.classes.is_empty() && self.photos.is_empty()
    }

    /// A class.
    pub(crate) fn class(&self, id: ClassId) -> Option<&Class> {
        self.classes.iter().find(|class| class.id == id)
    }

    /// The class of a name.
    pub(crate) fn named(&self, label: &str) -> Option<&Class> {
        self.classes.iter().find(|class| class.label == label)
    }

    /// A photograph.
    pub(crate) fn photo(&self, id: PhotoId) -> Option<&Photo> {
        self.photos.iter().find(|photo| photo.id == id)
    }

    /// Photographs of a class, or those of none.
    pub(crate) fn of(&self, class: Option<ClassId>) -> impl Iterator<Item = &Photo> {
        self.photos.iter().filter(move |photo| photo.class == class)
    }

    /// An id that no class has.
    fn free_id(&self, history: u32) -> ClassId {
        let highest = self.classes.iter().map(|class| class.id.0).max();
        ClassId(highest.map_or(0, |id| id.wrapping_add(1)).max(history))
    }
}

/// A text as a name: in one line, without blanks at its ends, and not too long; `None` where nothing would be seen of it.
pub(crate) fn name(text: &str) -> Option<String> {
    const INVISIBLE: [char; 5] = ['\u{ad}', '\u{200b}', '\u{2060}', '\u{180e}', '\u{feff}'];
    // What would turn or break the text behind it, as the commands have it.
    let steers =
        |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let text: String = text.chars().map(|c| if steers(c) { ' ' } else { c }).collect();
    let is_blank = |letter: char| letter.is_whitespace() || INVISIBLE.contains(&letter);
    let text: String = text.trim_matches(is_blank).chars().take(LONGEST_NAME).collect();
    let text = text.trim_end_matches(is_blank);
    (!text.is_empty()).then(|| text.to_owned())
}

/// A class's texts as far as they may be kept: names of one line, each once, and none without a text.
pub(crate) fn texts(pairs: impl IntoIterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut kept: Vec<(String, String)> = Vec::new();
    for (key, text) in pairs {
        let Some(key) = name(&key) else { continue };
        let text: String = text.trim().chars().take(LONGEST_TEXT).collect();
        if let Some((_, before)) = kept.iter_mut().find(|(known, _)| *known == key) {
            *before = text;
        } else if kept.len() < MOST_TEXTS {
            kept.push((key, text));
        }
    }
    kept.retain(|(_, text)| !text.is_empty());
    kept
}
