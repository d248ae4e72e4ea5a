//! The gallery learns its map anew from what the visitor has taught, by the rule of `magpie gallery add`: in a worker
//! beside, while this engine answers with the map that it has.

use models::gallery::{Gallery, has_grown};
use models::recognizer::Recognizer;

use super::Engine;
use crate::protocol::{EngineError, Response};

/// Entries up to which a page lets a gallery learn: seconds on one thread.
const MOST_ENTRIES: usize = 20_000;

/// What the engine knows of its gallery's learning.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Learning {
    /// Counts changes of the gallery.
    edition: u32,
    /// Entries from which it last learned nothing better.
    vain: usize,
    /// Whether it has learned more than what was published.
    adapted: bool,
}

/// A gallery that is to learn.
pub(crate) struct Lesson {
    /// Its file.
    pub(crate) gallery: Vec<u8>,
    edition: u32,
}

impl Engine {
    /// The gallery, if it has a map and has grown by a quarter since it learned that.
    pub(crate) fn to_learn(&self) -> Option<Lesson> {
        let gallery = self.recognizer.own_gallery();
        let learned = gallery.map().filter(|_| gallery.has_originals())?.about().entries;
        let is_worth = has_grown(learned.max(self.learning.vain), gallery.len());
        (is_worth && gallery.len() <= MOST_ENTRIES)
            .then(|| Lesson { gallery: gallery.to_bytes(), edition: self.learning.edition })
    }

    /// Takes what came of a lesson; `None` where nothing better was found, or nobody could learn. What belongs to a
    /// gallery of before is left out. The answer is what the page is told.
    pub(crate) fn take_learned(
        &mut self,
        lesson: &Lesson,
        learned: Option<Gallery>,
    ) -> Result<Option<Response>, EngineError> {
        if lesson.edition != self.learning.edition {
            return Ok(None);
        }
        let Some(gallery) = learned else {
            self.learning.vain = self.recognizer.own_gallery().len();
            return Ok(None);
        };
        // Its map may be the one that it had, and its threshold another.
        self.learning.vain = gallery.len();
        self.recognizer.replace_gallery(gallery)?;
        self.learning.adapted = true;
        self.adapted().map(Some)
    }

    /// After a change of the gallery, which may have the published map again: then the published thresholds hold again,
    /// which the page is told.
    pub(crate) fn follow_map(&mut self) -> Result<Option<Response>, EngineError> {
        if !self.learning.adapted || !self.edits.is_as_published(&self.recognizer) {
            return Ok(None);
        }
        (self.learning.adapted, self.learning.vain) = (false, 0);
        self.adapted().map(Some)
    }

    /// That the gallery is another one than the one that a lesson was made of.
    pub(super) fn changed(&mut self) {
        self.learning.edition = self.learning.edition.wrapping_add(1);
    }

    fn adapted(&mut self) -> Result<Response, EngineError> {
        let published = &self.manifest.settings;
        let (least, answer) = if self.learning.adapted {
            own_rule(&self.recognizer)
        } else {
            (published.min_similarity, published.answer)
        };
        let settings = self.recognizer.settings_mut();
        settings.answer = answer;
        if !self.tuned {
            settings.min_similarity = least;
        }
        self.answer_again()?;
        let again = self.seen.back().map(|seen| self.described(seen));
        Ok(Response::Adapted { thresholds: self.thresholds(), again })
    }
}

/// Threshold and answer rule of the gallery itself, else those that hold.
fn own_rule(recognizer: &Recognizer) -> (f32, models::gallery::AnswerRule) {
    let (gallery, settings) = (recognizer.own_gallery(), recognizer.settings());
    (
        gallery.min_similarity().unwrap_or(settings.min_similarity),
        gallery.measured_rule().unwrap_or(settings.answer),
    )
}
