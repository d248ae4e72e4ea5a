//! What a person should know about a COCO file.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::terminal::counted;

/// Examples that a finding names.
const EXAMPLES: usize = 3;

/// What predicates begin with, of several and of one.
const VERBS: [(&str, &str); 5] = [
    ("are ", "is "),
    ("have ", "has "),
    ("lie ", "lies "),
    ("name ", "names "),
    ("reach ", "reaches "),
];

/// A kind of finding; the errors come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Problem {
    /// `annotations` is empty.
    OnlyBackground,
    /// No annotation gives a box to learn.
    NoBoxes,
    /// A picture without an id by which annotations could name it.
    ImageWithoutId,
    /// A picture without a file name.
    ImageWithoutName,
    /// One id for several pictures.
    SameId,
    /// One file under several ids, with different boxes.
    SameFile,
    /// A width or height that no picture has.
    ImpossibleSize,
    /// An annotation of a picture that is not listed.
    UnknownImage,
    /// An annotation without four numbers.
    NoBox,
    /// An `iscrowd` that is neither 0 nor 1.
    UnclearCrowd,
    /// A box with a number that is not finite.
    NotFinite,
    /// A picture that is not where it is looked for.
    MissingPicture,
    /// A picture whose header cannot be read.
    BrokenPicture,
    /// Sizes of the file that are those of the pictures before their EXIF orientation turns them.
    StoredSize,
    /// Sizes of the file that are not those of the pictures.
    OtherSize,
    /// All boxes are given as shares of their pictures' sides instead of pixels.
    Shares,
    /// A box that lies mostly outside its picture.
    Outside,
    /// A picture that is listed again with the same boxes.
    ListedAgain,
    /// A file with the content of another one, with different boxes.
    SameContent,
    /// A file with the content of another one and the same boxes.
    SameAgain,
    /// A box without area.
    NoArea,
    /// A crowd.
    Crowd,
    /// A box that its picture has already.
    SameBox,
    /// A box that reaches over the edge of its picture.
    OverEdge,
    /// A box with a side below one pixel.
    Thin,
    /// A picture that its EXIF orientation turns without its size telling.
    Turned,
    /// A category that is not listed.
    UnknownCategory,
    /// A picture without boxes.
    Background,
    /// Pictures of the same names in another folder.
    OtherFolder,
    /// Pascal VOC: an object that is marked as difficult.
    Difficult,
    /// Pascal VOC: a box whose first corner lies behind its second.
    SwappedCorners,
    /// Pascal VOC: a corner that is not finite.
    EndlessCorner,
    /// Pascal VOC: a picture that is named like its annotation, not as it says.
    NamedAlike,
}

impl Problem {
    /// Whether training would fail on it or learn something false.
    pub fn is_error(self) -> bool {
        self <= Self::Outside
    }
}

/// All findings of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub kind: Problem,
    /// How often.
    pub count: usize,
    /// Of how many boxes or pictures.
    pub of: usize,
    /// The first ones.
    pub examples: Vec<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, count, of, examples } = self;
        match kind {
            // What is left out is said of all.
            Problem::OnlyBackground | Problem::NoBoxes => {
                write!(f, "{}, 0 boxes: ", counted(*of, "picture", "pictures"))?;
            }
            Problem::NoArea | Problem::Crowd | Problem::SameBox => {
                write!(f, "{}, {count} left out: ", counted(*of, "box", "boxes"))?;
            }
            Problem::Difficult | Problem::EndlessCorner => {
                write!(f, "{}, {count} left out: ", counted(*of, "object", "objects"))?;
            }
            Problem::SameId => write!(f, "{} ", counted(*count, "id", "ids"))?,
            Problem::SameFile | Problem::SameContent | Problem::SameAgain => {
                write!(f, "{} ", counted(*count, "picture", "pictures"))?;
            }
            Problem::OtherFolder => {}
            Problem::Shares => write!(f, "all {} ", counted(*count, "box", "boxes"))?,
            kind => {
                let (one, many) = kind.subject();
                write!(f, "{count} of {} ", counted(*of, one, many))?;
            }
        }
        if *kind == Problem::NoBoxes {
            write!(f, "none of the {count} annotations gives one")?;
        }
        let predicate = kind.predicate();
        let of_one = VERBS.iter().filter(|_| *count == 1).find_map(|(many, one)| {
            predicate.strip_prefix(many).map(|rest| format!("{one}{rest}"))
        });
        f.write_str(of_one.as_deref().unwrap_or(predicate))?;
        if !examples.is_empty() {
            let more = if examples.len() < *count { ", …" } else { "" };
            write!(f, " ({}{more})", examples.join(", "))?;
        }
        f.write_str(kind.advice())
    }
}

impl Problem {
    /// One and several of them.
    fn subject(self) -> (&'static str, &'static str) {
        match self {
            Self::UnknownImage | Self::NoBox | Self::UnclearCrowd | Self::UnknownCategory => {
                ("annotation", "annotations")
            }
            Self::NotFinite
            | Self::Outside
            | Self::OverEdge
            | Self::Thin
            | Self::SwappedCorners => ("box", "boxes"),
            _ => ("picture", "pictures"),
        }
    }

    fn predicate(self) -> &'static str {
        match self {
            Self::OnlyBackground => "`annotations` is empty",
            Self::NoBoxes => "",
            Self::ImageWithoutId => "without a usable `id`",
            Self::ImageWithoutName => "without a `file_name`",
            Self::SameId => "for several pictures",
            Self::SameFile => "under several ids with different boxes",
            Self::ImpossibleSize => "with a `width` or `height` that no picture has",
            Self::UnknownImage => "name a picture that `images` does not list",
            Self::NoBox => "without a `bbox` of four numbers",
            Self::UnclearCrowd => "with an `iscrowd` that is neither 0 nor 1",
            Self::NotFinite => "with a number that is not finite",
            Self::MissingPicture => "are not there",
            Self::BrokenPicture => "cannot be used",
            Self::StoredSize => {
                "are turned by their EXIF orientation, and the file gives their size before that"
            }
            Self::OtherSize => "have another size than the file says",
            Self::Shares => "lie between 0 and 1: they are shares of the picture, not pixels",
            Self::Outside => "lie mostly outside their picture",
            Self::ListedAgain => "are listed again and taken once",
            Self::SameContent => "with the content of another one and different boxes",
            Self::SameAgain => "with the content and the boxes of another one",
            Self::NoArea => "without area",
            Self::Crowd => "crowds",
            Self::SameBox => "the same box of a picture again",
            Self::OverEdge => "reach over the edge of their picture; the part inside is taken",
            Self::Thin => "with a side below one pixel: hardly anything can be learned from it",
            Self::Turned => {
                "are turned by their EXIF orientation, which their size does not tell; boxes are taken as those \
                 of the upright picture"
            }
            Self::UnknownCategory => "with a category that `categories` does not list",
            Self::Background => "without boxes: taken as background",
            Self::OtherFolder => "pictures of these names lie in several folders",
            Self::Difficult => "difficult",
            Self::SwappedCorners => "with swapped corners: put right",
            Self::EndlessCorner => "corners that are not finite",
            Self::NamedAlike => "are not named as `<filename>` says, but like their annotation",
        }
    }

    /// What to do, where the finding does not say it already.
    fn advice(self) -> &'static str {
        match self {
            Self::OnlyBackground | Self::NoBoxes => "; draw a box round each object",
            Self::ImageWithoutId => "; give each an integer or a text",
            Self::SameId => ": whose boxes are whose is lost; give each picture an id of its own",
            Self::SameFile => "; put all boxes of a picture under one id",
            Self::SameContent => "; keep one of them",
            Self::ImpossibleSize => "; write whole pixels, or leave both out",
            Self::UnknownImage => "; take them out, or list their pictures",
            Self::NoBox => "; write [left, top, width, height] in pixels",
            Self::NotFinite | Self::Outside => "; correct them",
            Self::Shares => {
                "; write [left, top, width, height] in pixels: left and width times the picture's width, top and \
                 height times its height"
            }
            Self::StoredSize => {
                ": boxes lie elsewhere in the upright picture; take the orientation out of the pictures (exiftool \
                 -Orientation= FILE), or turn size and boxes"
            }
            Self::OtherSize => {
                ": boxes are pixels of the pictures that are there; scale the boxes, or bring the pictures that \
                 they were drawn on"
            }
            Self::UnknownCategory => "; the boxes are taken, since all categories are one",
            Self::OtherFolder => "; the first is taken",
            _ => "",
        }
    }
}

/// Numbers as a file holds them.
pub(super) fn numbers(numbers: &[f64; 4]) -> String {
    // A reader of JSON may be off by a last digit.
    let [a, b, c, d] = numbers.map(|number| number as f32);
    format!("[{a}, {b}, {c}, {d}]")
}

/// Findings while they are gathered.
#[derive(Debug, Clone, Default)]
pub(super) struct Findings(BTreeMap<Problem, Finding>);

impl Findings {
    /// One more, among `of` boxes or pictures.
    pub(super) fn add(&mut self, kind: Problem, of: usize, example: impl FnOnce() -> String) {
        let fresh = || Finding { kind, count: 0, of, examples: Vec::new() };
        let finding = self.0.entry(kind).or_insert_with(fresh);
        finding.count += 1;
        if finding.examples.len() < EXAMPLES {
            finding.examples.push(example());
        }
    }

    /// A finding that is known whole.
    pub(super) fn put(&mut self, finding: Finding) {
        self.0.insert(finding.kind, finding);
    }

    /// Says of how many, once that is known.
    pub(super) fn set_total(&mut self, kind: Problem, of: usize) {
        if let Some(finding) = self.0.get_mut(&kind) {
            finding.of = of;
        }
    }

    pub(super) fn has_errors(&self) -> bool {
        self.0.keys().any(|kind| kind.is_error())
    }

    /// Errors first.
    pub(super) fn into_vec(self) -> Vec<Finding> {
        self.0.into_values().collect()
    }
}
