//! What a module for another language calls: the command itself, and the parts of commands that such a module holds on
//! to between two calls.
//!
//! Everything here is what a command does, on values in memory: the same input gives the same bytes.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use authoring::adaptation::{MOST_UNASKED, Options, adapt_again};
use authoring::embedding::EmbeddingError;
use authoring::label::Labels;
use authoring::picture::{PictureError, PictureProblem};
use authoring::{Added, Cropper, Event, Known, Networks, Photos, label};
use models::detector::Detector;
use models::gallery::{AdaptationMap, Gallery, StreamError, has_grown};
use models::inference::{Prepared, RunError};
use models::recognizer::RecognizeError;

use crate::checkpoint::CheckpointError;
use crate::command::gallery;
use crate::data::coco::CocoError;
use crate::data::list_file::DataError;
use crate::exchange::import::ImportError;
use crate::files::FileError;
use crate::recipe::RecipeError;
use crate::terminal::audience::{Audience, Stopped, before};
use crate::train::folder::FolderError;
use crate::{cli, networks, program};

pub use crate::cli::{DeviceKind, Embedder};
pub use crate::data::store::{decode_picture, read_file};
pub use crate::networks::GENERAL;
pub use crate::publishing::opened::{Object, OpenBundle, Recognized};
pub use crate::terminal::{audience, sentence};

/// Runs the command that the words name, without its name, before an audience.
///
/// # Errors
///
/// [`Stopped`] by the audience; else what the command says.
pub fn call(
    words: Vec<OsString>,
    audience: Arc<dyn Audience>,
) -> Result<anyhow::Result<()>, Stopped> {
    before(audience, || program::call(words))
}

/// What kind of thing went wrong, for languages that tell errors apart by kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A file or folder is not there.
    Missing,
    /// A file or folder may not be read or written.
    Denied,
    /// Something else is wrong with a file or folder, or with the disk.
    File,
    /// A network gave no answer.
    Device,
    /// What is in a file or was given.
    Data,
}

impl Fault {
    /// That of an error.
    pub fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(Self::of_cause).unwrap_or(Self::Data)
    }

    fn of_cause(cause: &Cause) -> Option<Self> {
        if let Some(cause) = spoken_for(cause) {
            return Self::of_cause(cause);
        }
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            return Some(Self::of_kind(error.kind()));
        }
        if let Some(error) = cause.downcast_ref::<FileError>() {
            return Some(match error {
                FileError::Missing { .. } => Self::Missing,
                FileError::ReadOnly { .. } => Self::Denied,
                FileError::Read { source, .. }
                | FileError::Write { source, .. }
                | FileError::Append { source, .. }
                | FileError::Remove { source, .. } => Self::of_kind(source.kind()),
                _ => Self::File,
            });
        }
        cause.downcast_ref::<RunError>().map(|_| Self::Device)
    }

    fn of_kind(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NotFound => Self::Missing,
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::Denied,
            _ => Self::File,
        }
    }
}

type Cause = dyn std::error::Error + 'static;

/// What an error is about that speaks for its cause alone: such a cause is not in the chain.
fn spoken_for(error: &Cause) -> Option<&Cause> {
    let file: Option<&FileError> = None
        .or_else(|| match error.downcast_ref()? {
            DataError::File(error) => Some(error),
            _ => None,
        })
        .or_else(|| match error.downcast_ref()? {
            RecipeError::Read(error) => Some(error),
            _ => None,
        })
        .or_else(|| match error.downcast_ref()? {
            FolderError::File(error) => Some(error),
            _ => None,
        })
        .or_else(|| match error.downcast_ref()? {
            CocoError::File(error) => Some(error),
            _ => None,
        })
        .or_else(|| match error.downcast_ref()? {
            CheckpointError::File(error) => Some(error),
            _ => None,
        })
        .or_else(|| match error.downcast_ref()? {
            ImportError::File(error) => Some(error),
            _ => None,
        });
    if let Some(error) = file {
        return Some(error);
    }
    if let Some(PictureError { source: PictureProblem::File(error), .. }) = error.downcast_ref() {
        return Some(&**error);
    }
    if let Some(StreamError::File(error)) = error.downcast_ref() {
        return Some(error);
    }
    if let Some(FolderError::Checkpoint(error)) = error.downcast_ref() {
        return Some(error);
    }
    if let Some(EmbeddingError::Recognize(error)) = error.downcast_ref() {
        return Some(error);
    }
    match error.downcast_ref() {
        Some(RecognizeError::Run(error)) => Some(error),
        _ => None,
    }
}

/// The detector of a path, as `magpie detect --detector` takes it; without one the program's own.
///
/// # Errors
///
/// A file that is no detector, a program without one.
pub fn open_detector(
    path: Option<&Path>,
    device: DeviceKind,
) -> anyhow::Result<Prepared<Detector>> {
    cli::open_detector(&networks::detector_alone(path)?, device)
}

/// Reads a gallery of any size.
///
/// # Errors
///
/// A file that cannot be read or is no whole gallery.
pub fn open_gallery(path: &Path) -> anyhow::Result<Gallery> {
    gallery::open(path)
}

/// Writes a gallery in the place of one of before, of which nobody is changing anything.
///
/// # Errors
///
/// A place where something else lies, a disk that refuses.
pub fn save_gallery(path: &Path, gallery: &Gallery) -> anyhow::Result<()> {
    gallery::Change::anew(path, &[])?.save(gallery)
}

/// The class of a label, as commands find it.
///
/// # Errors
///
/// Names the nearest label where none is this one.
pub fn class_of(gallery: &Gallery, label: &str) -> anyhow::Result<usize> {
    gallery::class_of(gallery, label)
}

/// A label as it is kept.
///
/// # Errors
///
/// One of which nothing can be seen, and one that steers how text is shown.
pub fn checked_label(text: &str) -> anyhow::Result<String> {
    Ok(label::checked(text)?)
}

/// A picture in memory with its class.
#[derive(Debug)]
pub struct Photo {
    /// As [`checked_label`] returns it.
    pub label: String,
    /// What it is called, for messages.
    pub name: PathBuf,
    /// Its file.
    pub bytes: Vec<u8>,
}

struct Shelf<'a>(&'a [Photo]);

impl Photos for Shelf<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn label(&self, place: usize) -> &str {
        &self.0[place].label
    }

    fn path(&self, place: usize) -> &Path {
        &self.0[place].name
    }

    fn bytes(&self, place: usize) -> Result<Vec<u8>, PictureError> {
        Ok(self.0[place].bytes.clone())
    }
}

/// Adds pictures to a gallery as `magpie gallery add` does, with the part of each that the gallery's entries show. Where
/// `learns`, a gallery that has grown by a quarter since it learned from its entries learns anew.
///
/// # Errors
///
/// Networks that do not fit the gallery, a gallery that takes no more, what `tell` says.
pub fn add(
    gallery: &mut Gallery,
    (extractor, detector): (&Embedder, Option<&Prepared<Detector>>),
    photos: &[Photo],
    learns: bool,
    tell: &mut dyn FnMut(Event<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Added> {
    gallery.check_model(&extractor.id)?;
    let crop = gallery.crop();
    anyhow::ensure!(
        !crop.needs_detector() || detector.is_some(),
        "the gallery's entries are those of main bodies (crop {}): give a detector, too",
        crop.name()
    );
    let (known, before) = (Known::of(gallery), gallery.len());
    let mut labels: Labels = gallery.classes().iter().map(|class| class.label.as_str()).collect();
    let mut cropper = Cropper::new(Networks { extractor: extractor.network(), detector }, crop);
    let added = authoring::add(gallery, known, &mut labels, &Shelf(photos), &mut cropper, tell)?;
    gallery.connect();
    let then = gallery.map().map_or(before, |map| AdaptationMap::about(map).entries);
    let is_due = has_grown(then, gallery.len()) && gallery.len() <= MOST_UNASKED;
    if learns && added.added > 0 && is_due {
        adapt_again(gallery, &Options::default())?;
    }
    Ok(added)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::audience::Heard;

    struct Deaf;

    impl Audience for Deaf {
        fn answer(&self, _: &str) -> Heard {
            Heard::GoOn
        }

        fn remark(&self, _: &str) -> Heard {
            Heard::GoOn
        }

        fn progress(&self, _: &str, _: u64, _: u64) -> Heard {
            Heard::GoOn
        }
    }

    fn said(words: &[&str]) -> anyhow::Error {
        let words = words.iter().map(OsString::from).collect();
        call(words, Arc::new(Deaf)).unwrap().unwrap_err()
    }

    #[test]
    fn faults_are_told_apart_by_what_was_met() {
        let missing = said(&["gallery", "list", "nowhere/gallery.bin"]);
        assert_eq!(Fault::of(&missing), Fault::Missing, "{missing:#}");
        let picture = anyhow::Error::from(read_file(Path::new("nowhere.png")).unwrap_err());
        assert_eq!(Fault::of(&picture), Fault::Missing);
        for words in [
            &["train", "--config", "nowhere/recipe.toml", "--out", "x"][..],
            &["gallery", "build", "--images", "nowhere", "--out", "x.bin"],
        ] {
            let error = said(words);
            assert_eq!(Fault::of(&error), Fault::Missing, "{error:#}");
        }
        let other = crate::data::store::decode_picture(Path::new("a"), b"text").unwrap_err();
        assert_eq!(Fault::of(&other.into()), Fault::Data);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Fault::of(&open_gallery(dir.path()).unwrap_err()), Fault::File);
        let device = RunError::Device { reason: "gone".to_owned() };
        assert_eq!(Fault::of(&anyhow::Error::from(device).context("site")), Fault::Device);
        let run = RecognizeError::Run(RunError::Device { reason: "gone".to_owned() });
        assert_eq!(Fault::of(&EmbeddingError::Recognize(run).into()), Fault::Device);
        let denied = std::io::Error::from(ErrorKind::PermissionDenied);
        assert_eq!(Fault::of(&anyhow::Error::from(denied)), Fault::Denied);
    }

    #[test]
    fn wrong_words_are_a_sentence() {
        let error = said(&["gallery", "list"]);
        assert!(error.to_string().contains("were not provided: <GALLERY>"), "{error}");
        let error = said(&["recognize", "--device", "abacus", "a", "b"]);
        let text = error.to_string();
        assert!(text.starts_with("invalid value 'abacus' for '--device"), "{text}");
        assert!(text.contains("[possible values: cpu") && !text.contains('\n'), "{text}");
        assert_eq!(Fault::of(&error), Fault::Data);
    }
}
