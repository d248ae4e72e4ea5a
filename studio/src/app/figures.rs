//! How good a gallery is, as the engine says it. Photographs and classes are places in lists.

use serde::Deserialize;

use super::listed::ListedPhoto;

/// A class in figures.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct FigureClass {
    /// Its name.
    pub(crate) label: String,
    /// Its photographs.
    pub(crate) photos: usize,
    /// Photographs that are recognized without themselves, of how many.
    #[serde(default)]
    pub(crate) right: (usize, usize),
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

/// What learning from the photographs how to compare them does.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct MapEffect {
    /// Whether the gallery compares so.
    pub(crate) kept: bool,
    /// Photographs that were asked.
    pub(crate) of: usize,
    /// Those that are recognized without it.
    pub(crate) before: usize,
    /// Those that are recognized with it.
    pub(crate) after: usize,
}

/// A threshold, and what it does.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Point {
    /// Least score of an answer.
    pub(crate) threshold: f32,
    /// Share of unknown things that are given a name.
    pub(crate) false_accept: f64,
    /// Share of known things that are given their own name.
    pub(crate) right: f64,
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

/// A photograph that is like no other one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Outlier {
    /// Which.
    pub(crate) photo: usize,
    /// Its class.
    pub(crate) class: usize,
}

/// How good it is.
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
    /// What learning from the photographs does.
    #[serde(default)]
    pub(crate) map: Option<MapEffect>,
    /// What thresholds do, the lowest first.
    #[serde(default)]
    pub(crate) curve: Vec<Point>,
    /// The part of a photograph that counts.
    #[serde(default)]
    pub(crate) crop: String,
    /// The most frequent first.
    pub(crate) mistaken: Vec<Mistaken>,
    /// The surest first.
    pub(crate) suspects: Vec<Suspect>,
    /// The same photograph twice.
    pub(crate) doubles: Vec<Double>,
    /// Photographs that are like no other one.
    #[serde(default)]
    pub(crate) outliers: Vec<Outlier>,
    /// Classes with too few photographs, and how many these are.
    #[serde(default)]
    pub(crate) few: Vec<(usize, usize)>,
    /// Photographs that could not be used.
    pub(crate) left_out: Vec<usize>,
    /// Whether they go by what was learned before labels changed.
    #[serde(skip)]
    pub(crate) are_nearly: bool,
}

impl Figures {
    /// Whether all places in it name something.
    pub(super) fn are_of(&self, photos: usize) -> bool {
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
        let outliers =
            self.outliers.iter().all(|outlier| outlier.photo < photos && outlier.class < classes);
        let few = self.few.iter().all(|(class, _)| *class < classes);
        mistaken
            && suspects
            && doubles
            && outliers
            && few
            && self.left_out.iter().all(|place| *place < photos)
    }
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
    /// Whether new ones are on their way, unasked.
    pub(crate) renewing: bool,
}

/// A photograph that is like a picture.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Similar {
    /// Content id of its file.
    pub(crate) content: String,
    /// Its class.
    pub(crate) label: String,
    /// How similar it is.
    pub(crate) similarity: f32,
}

/// What the gallery answers about a picture.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Answer {
    /// Where the browser has the picture.
    pub(crate) address: String,
    /// Whether a page would give the first name.
    pub(crate) known: bool,
    /// How probable the first name is, if that was measured.
    pub(crate) probability: Option<f32>,
    /// Classes with their similarities, best first.
    pub(crate) matches: Vec<(String, f32)>,
    /// Photographs that are most like it.
    pub(crate) similar: Vec<Similar>,
}
