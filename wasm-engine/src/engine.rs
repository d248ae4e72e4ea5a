//! One device, one recognizer. The engine's work is in the modules below: what it opens, recognizes, is shown by
//! pointing, is taught, and measures.

mod adapt;
mod measure;
mod open;
mod pointed;
mod recognize;
mod teach;

use std::collections::VecDeque;

use models::bundle::Manifest;
use models::gallery::Match;
use models::image::RgbImage;
use models::recognizer::{Recognition, Recognizer};
use models::tracker::Tracker;
use serde_bytes::ByteBuf;

use adapt::Learning;
pub(crate) use adapt::Lesson;

use crate::local_edits::LocalEdits;
use crate::protocol::{Answer, Recognized, RecognizedObject, StageTimes, Thresholds};
use crate::refresh::{Publication, thresholds};
use crate::threads;

/// A loaded bundle on a device.
pub(crate) struct Engine {
    recognizer: Recognizer,
    edits: LocalEdits,
    /// Whether the visitor has set thresholds.
    tuned: bool,
    manifest_url: String,
    /// Name of the published file with the classes' pictures.
    pictures: Option<String>,
    /// Whether they are in the gallery.
    pictured: bool,
    /// Names of the published gallery's shards.
    shards: Vec<String>,
    /// As the last publication has it, to tell a newer one by.
    manifest: Manifest,
    seen: VecDeque<Seen>,
    /// Of the camera whose frames come.
    tracker: Tracker,
    learning: Learning,
}

/// A recognized picture.
struct Seen {
    id: u32,
    image: RgbImage,
    found: Vec<Recognition>,
    /// How many of the last ones somebody pointed at.
    pointed: usize,
    timings: StageTimes,
    embedded: usize,
}

impl Engine {
    fn address(&self, name: &str) -> String {
        let folder = self.manifest_url.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{folder}/{name}")
    }

    /// What a newer publication is told apart by.
    pub(crate) fn publication(&self) -> Publication {
        Publication { manifest_url: self.manifest_url.clone(), manifest: self.manifest.clone() }
    }

    /// What must be reached now.
    pub(crate) fn thresholds(&self) -> Thresholds {
        thresholds(self.recognizer.settings())
    }

    fn set_thresholds(&mut self, wanted: Thresholds) {
        let published = self.manifest.settings.min_similarity;
        let settings = self.recognizer.settings_mut();
        // What is no number stays as it is.
        if wanted.min_similarity.is_finite() {
            // The page's slider shows two digits of the published one.
            let is_published = (published * 100.0).round() == wanted.min_similarity * 100.0;
            let wanted = if is_published { published } else { wanted.min_similarity };
            settings.min_similarity = wanted.clamp(-1.0, 1.0);
        }
        if wanted.min_score.is_finite() {
            settings.detection.score = wanted.min_score.clamp(0.0, 1.0);
        }
    }

    fn answer(&self, found: &Match) -> Answer {
        let gallery = self.recognizer.gallery();
        let class = &gallery.classes()[found.class];
        let everyones = self.recognizer.settings().min_similarity;
        Answer {
            label: class.label.clone(),
            similarity: found.similarity,
            min_similarity: class.min_similarity.unwrap_or(everyones),
            probability: None,
            metadata: class.metadata.clone().into_iter().collect(),
            thumbnail: ByteBuf::from(gallery.thumbnail(found.class)),
        }
    }

    /// Says of the best answer how probable it is, and from which similarity on it is believed.
    fn judge(answers: &mut [Answer], probability: Option<f32>, least: f32) {
        if let Some(best) = answers.first_mut() {
            (best.probability, best.min_similarity) = (probability, least);
        }
    }

    fn described(&self, seen: &Seen) -> Recognized {
        let object = |r: &Recognition| {
            let mut answers: Vec<Answer> = r.matches.iter().map(|m| self.answer(m)).collect();
            Self::judge(&mut answers, r.probability, r.least_similarity);
            RecognizedObject {
                bbox: [r.bbox.x1, r.bbox.y1, r.bbox.x2, r.bbox.y2],
                detection_score: r.detection_score,
                known: r.known,
                answers,
                embedding: r.embedding.clone(),
            }
        };
        Recognized {
            picture: seen.id,
            width: seen.image.width(),
            height: seen.image.height(),
            objects: seen.found.iter().map(object).collect(),
            pointed: seen.pointed,
            timings: seen.timings,
            embedded: seen.embedded,
            threads: threads::count(),
            memory: measure::memory(),
        }
    }

    fn object(&self, picture: u32, object: usize) -> Option<(&Seen, &Recognition)> {
        let seen = self.seen.iter().find(|seen| seen.id == picture)?;
        Some((seen, seen.found.get(object)?))
    }
}
