//! What comes in, and what is told on the way.

use std::path::Path;

use models::detector::Detector;
use models::extractor::Extractor;
use models::gallery::ContentId;
use models::image::RgbImage;
use models::inference::Prepared;
use models::preprocess::thumbnail;
use models::recognizer::class_thumbnail;

use crate::memory::Memory;
use crate::picture::{PictureError, decode_picture};

/// The networks that look at photographs.
#[derive(Clone, Copy)]
pub struct Networks<'a> {
    /// Embeds.
    pub extractor: &'a Prepared<Extractor>,
    /// Finds main bodies; without one whole pictures or their middles are embedded.
    pub detector: Option<&'a Prepared<Detector>>,
}

/// Photographs with what they show, in an order that decides the order of classes and entries.
pub trait Photos: Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// The class of one.
    fn label(&self, place: usize) -> &str;

    /// What it is called, for messages.
    fn path(&self, place: usize) -> &Path;

    /// Its file.
    ///
    /// # Errors
    ///
    /// [`PictureError`] where it cannot be had.
    fn bytes(&self, place: usize) -> Result<Vec<u8>, PictureError>;

    /// The content of its file and the file; without the file if only what is known of the photograph is there.
    ///
    /// # Errors
    ///
    /// As [`Self::bytes`].
    fn read(&self, place: usize) -> Result<(ContentId, Option<Vec<u8>>), PictureError> {
        let bytes = self.bytes(place)?;
        Ok((ContentId::of(&bytes), Some(bytes)))
    }

    /// What is known of some that come with their embeddings; `None` where the files are to be looked at.
    ///
    /// # Errors
    ///
    /// Where that cannot be had, which ends the work.
    fn remembered(&self, _places: &[usize]) -> anyhow::Result<Option<Memory>> {
        Ok(None)
    }

    /// A JPEG of it as a class shows it; `None` if it cannot be had.
    fn class_thumbnail(&self, place: usize) -> Option<Vec<u8>> {
        class_thumbnail(&decoded(self, place)?).ok()
    }

    /// A JPEG of it whose longer side has `side` pixels at most; `None` if it cannot be had.
    fn figure(&self, place: usize, side: u32, quality: u8) -> Option<Vec<u8>> {
        thumbnail(&decoded(self, place)?, side, quality).ok()
    }
}

/// The pixels of a photograph, if they can be had.
fn decoded(photos: &(impl Photos + ?Sized), place: usize) -> Option<RgbImage> {
    decode_picture(photos.path(place), &photos.bytes(place).ok()?).ok()
}

/// What happens while photographs become entries.
pub enum Event<'a> {
    /// A photograph cannot be used.
    LeftOut {
        /// Which, and why.
        error: &'a PictureError,
    },
    /// A photograph is in two classes.
    Shared {
        /// The photograph.
        path: &'a Path,
        /// Its class in the list.
        label: &'a str,
        /// The class that has it already.
        other: &'a str,
    },
    /// Some more are done.
    Done {
        /// Photographs that are done.
        photos: usize,
        /// All.
        of: usize,
        /// What is known of them by now.
        memory: &'a Memory,
    },
}

/// Hears what happens; its error stops the work.
pub type Listener<'a> = dyn FnMut(Event<'_>) -> anyhow::Result<()> + 'a;
