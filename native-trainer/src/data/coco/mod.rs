//! Boxes in COCO's JSON, every category taken as foreground.
//!
//! Source: the conversion described with PP-ShiTu's mainbody detector: one category for all.

mod finding;
mod foreground;
mod loose;
mod place;
mod read;
mod record;
mod voc;
mod written;

use std::path::{Path, PathBuf};

use models::image::Header;
use models::image::geometry::BBox;
use thiserror::Error;

use crate::files::{self, FileError};

pub use finding::{Finding, Problem};
pub use foreground::{Part, foreground};
pub use voc::from_voc;
pub use written::Written;

use read::Draft;

/// Why boxes could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CocoError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The text is no JSON or XML, or a part of it is missing.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// The file holds something else than pictures with boxes.
    #[error("{}: {reason}", path.display())]
    Form {
        /// The file or folder.
        path: PathBuf,
        /// What it lacks.
        reason: String,
    },
    /// Training would fail on the file or learn something false.
    #[error("{}: {}", path.display(), listed(findings, looked_in))]
    Unusable {
        /// The COCO file.
        path: PathBuf,
        /// All that is wrong.
        findings: Vec<Finding>,
        /// Where its pictures were looked for.
        looked_in: Vec<PathBuf>,
    },
    /// What was to be written could not be trained on.
    #[error("{}: not written, since it could not be trained on: {}", path.display(), listed(findings, looked_in))]
    NotWritten {
        /// The COCO file.
        path: PathBuf,
        /// All that is wrong.
        findings: Vec<Finding>,
        /// Where its pictures were looked for.
        looked_in: Vec<PathBuf>,
    },
    /// Pascal VOC: there are objects, and all of them are left out.
    #[error("{}: no object is left to learn: {}{}", path.display(), told(findings), to_keep(findings))]
    NoObjectLeft {
        /// The folder of annotations.
        path: PathBuf,
        /// Why they are left out.
        findings: Vec<Finding>,
    },
    /// A name that no JSON can hold.
    #[error("{}: the name is not UTF-8; rename it", path.display())]
    Name {
        /// The picture.
        path: PathBuf,
    },
}

/// The findings that are errors, and where missing pictures were looked for.
fn listed(findings: &[Finding], looked_in: &[PathBuf]) -> String {
    let text = |finding: &Finding| match finding.kind {
        Problem::MissingPicture => format!("{finding}; {}", advice(looked_in)),
        _ => finding.to_string(),
    };
    findings
        .iter()
        .filter(|finding| finding.kind.is_error())
        .map(text)
        .collect::<Vec<_>>()
        .join("; ")
}

/// All findings as one sentence.
fn told(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What to do if objects are left out as difficult.
fn to_keep(findings: &[Finding]) -> &'static str {
    let is_difficult = |finding: &Finding| finding.kind == Problem::Difficult;
    if findings.iter().any(is_difficult) {
        "; write <difficult>0</difficult> for those that are to be learned"
    } else {
        ""
    }
}

/// What to do about pictures that are in none of the folders.
fn advice(looked_in: &[PathBuf]) -> String {
    let folders: Vec<String> =
        looked_in.iter().map(|folder| folder.display().to_string()).collect();
    format!(
        "looked in {}; name their folder: --images FOLDER, detector.coco_images (detector.eval_coco_images) in a \
         recipe, --part FILE,images=FOLDER of `magpie data coco-foreground`",
        folders.join(", ")
    )
}

/// A picture and its boxes.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxedPicture {
    /// The file.
    pub path: PathBuf,
    /// In its pixels, each with an area of its own inside the picture; crowds left out.
    pub boxes: Vec<BBox>,
}

/// What a COCO file gives to learn or to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxedPictures {
    /// In the order of the file.
    pub pictures: Vec<BoxedPicture>,
    /// What is left out or changed; no errors.
    pub notes: Vec<Finding>,
}

/// Reads a COCO file and the headers of its pictures.
///
/// Pictures lie in `images`; by default beside the file, in `images` or in a folder named like the file, here or
/// one level up. `seen` is told their number after each.
///
/// # Errors
///
/// [`CocoError::Unusable`] names everything that training would fail on or learn something false from.
pub fn read(
    path: &Path,
    images: Option<&Path>,
    seen: &(impl Fn(usize) + Sync),
) -> Result<BoxedPictures, CocoError> {
    let mut draft = Draft::of_file(path, images)?;
    draft.look_at_headers(seen);
    let notes = draft.check(|findings, looked_in| {
        let path = path.to_owned();
        CocoError::Unusable { path, findings, looked_in }
    })?;
    Ok(BoxedPictures { pictures: draft.into_pictures(), notes })
}

/// A COCO file with all that is wrong with it.
#[derive(Debug, Clone)]
pub struct Inspection<T> {
    /// Every picture that is there, in the order of the file, with what was asked of it.
    pub pictures: Vec<(PathBuf, Result<T, String>)>,
    /// Boxes that are taken.
    pub boxes: usize,
    /// Errors first.
    pub findings: Vec<Finding>,
    /// What to do about pictures that are not there.
    pub advice: Option<String>,
}

/// Reads a COCO file however wrong it is, and hands each picture that is there to `examine`; `same` is a text by
/// which equal files are known.
///
/// # Errors
///
/// [`CocoError`] where the file itself cannot be read.
pub fn inspect<T: Send>(
    path: &Path,
    images: Option<&Path>,
    examine: impl Fn(&Path) -> Result<T, String> + Sync,
    same: impl Fn(&T) -> &str,
    seen: &(impl Fn(usize) + Sync),
) -> Result<Inspection<T>, CocoError> {
    let mut draft = Draft::of_file(path, images)?;
    let answer = |path: &Path| {
        let answer = examine(path)?;
        Ok((header(path)?, answer))
    };
    let answers = draft.look(answer, seen);
    draft.compare_contents(&answers, same);
    Ok(draft.into_inspection(answers))
}

/// Reads a picture's header.
fn header(path: &Path) -> Result<Header, String> {
    let bytes = files::read(path, files::IMAGE_LIMIT).map_err(|error| error.to_string())?;
    Header::read(&bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
