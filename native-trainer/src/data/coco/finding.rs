//! What a person should know about a COCO file.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Examples that a finding names.
const EXAMPLES: usize = 3;

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
        let Self { kind, count, of, .. } = self;
        let more = if self.examples.len() < *count { ", …" } else { "" };
        let named = format!("{}{more}", self.examples.join(", "));
        let named = if self.examples.is_empty() { named } else { format!(" ({named})") };
        match kind {
            Problem::OnlyBackground => write!(
                f,
                "{of} pictures, 0 boxes: `annotations` is empty; draw a box round each object"
            ),
            Problem::NoBoxes => write!(
                f,
                "{of} pictures, 0 boxes: none of the {count} annotations gives one; draw a box round each object"
            ),
            Problem::ImageWithoutId => write!(
                f,
                "{count} of {of} pictures without a usable `id`{named}; give each a whole number or a text"
            ),
            Problem::ImageWithoutName => {
                write!(f, "{count} of {of} pictures without a `file_name`{named}")
            }
            Problem::SameId => write!(
                f,
                "{count} id(s) stand for several pictures{named}: whose boxes are whose is lost; give each \
                 picture an id of its own"
            ),
            Problem::SameFile => write!(
                f,
                "{count} picture(s) under several ids with different boxes{named}; put all boxes of a picture \
                 under one id"
            ),
            Problem::SameContent => write!(
                f,
                "{count} picture(s) with the content of another one and different boxes{named}; keep one of them"
            ),
            Problem::ImpossibleSize => write!(
                f,
                "{count} of {of} pictures with a `width` or `height` that no picture has{named}; write whole \
                 pixels, or leave both out"
            ),
            Problem::UnknownImage => write!(
                f,
                "{count} of {of} annotations name a picture that `images` does not list{named}; take them out, or \
                 list their pictures"
            ),
            Problem::NoBox => write!(
                f,
                "{count} of {of} annotations without a `bbox` of four numbers{named}; write [left, top, width, \
                 height] in pixels"
            ),
            Problem::UnclearCrowd => {
                write!(
                    f,
                    "{count} of {of} annotations with an `iscrowd` that is neither 0 nor 1{named}"
                )
            }
            Problem::NotFinite => {
                write!(
                    f,
                    "{count} of {of} boxes with a number that is not finite{named}; correct them"
                )
            }
            Problem::MissingPicture => write!(f, "{count} of {of} pictures are not there{named}"),
            Problem::BrokenPicture => write!(f, "{count} of {of} pictures cannot be used{named}"),
            Problem::StoredSize => write!(
                f,
                "{count} of {of} pictures are turned by their EXIF orientation, and the file gives their size \
                 before that{named}: its boxes lie elsewhere in the upright picture; take the orientation out of \
                 the pictures (exiftool -Orientation= FILE), or turn size and boxes"
            ),
            Problem::OtherSize => write!(
                f,
                "{count} of {of} pictures have another size than the file says{named}: boxes are pixels of the \
                 pictures that are there; scale the boxes, or bring the pictures that they were drawn on"
            ),
            Problem::Outside => {
                write!(
                    f,
                    "{count} of {of} boxes lie mostly outside their picture{named}; correct them"
                )
            }
            Problem::ListedAgain => {
                write!(f, "{count} of {of} pictures are listed again and taken once{named}")
            }
            Problem::SameAgain => write!(
                f,
                "{count} of {of} pictures with the content and the boxes of another one{named}"
            ),
            Problem::NoArea => write!(f, "{of} boxes, {count} left out: without area{named}"),
            Problem::Crowd => write!(f, "{of} boxes, {count} left out: crowds{named}"),
            Problem::SameBox => {
                write!(f, "{of} boxes, {count} left out: the same box of a picture again{named}")
            }
            Problem::OverEdge => write!(
                f,
                "{count} of {of} boxes reach over the edge of their picture; the part inside is taken{named}"
            ),
            Problem::Turned => write!(
                f,
                "{count} of {of} pictures are turned by their EXIF orientation, which their size does not tell; \
                 boxes are taken as those of the upright picture{named}"
            ),
            Problem::UnknownCategory => write!(
                f,
                "{count} of {of} annotations with a category that `categories` does not list{named}; the boxes are \
                 taken, since all categories are one"
            ),
            Problem::Background => {
                write!(f, "{count} of {of} pictures without boxes: taken as background{named}")
            }
            Problem::OtherFolder => {
                write!(
                    f,
                    "pictures of these names lie in several folders{named}; the first is taken"
                )
            }
            Problem::Difficult => write!(f, "{of} objects, {count} left out: difficult{named}"),
            Problem::SwappedCorners => {
                write!(f, "{count} of {of} boxes with swapped corners: put right{named}")
            }
            Problem::EndlessCorner => {
                write!(f, "{of} objects, {count} left out: corners that are not finite{named}")
            }
            Problem::NamedAlike => write!(
                f,
                "{count} of {of} pictures are not named as `<filename>` says, but like their annotation{named}"
            ),
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
    /// One more, of so many boxes or pictures.
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
