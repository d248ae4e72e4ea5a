//! A gallery is asked about a picture that is none of its photographs.

use std::path::Path;

use models::gallery::{ContentId, Crop, Gallery, Question};
use models::image::RgbImage;

use super::Workshop;
use crate::bundled::settings;
use crate::neighbors;

/// Classes that are named.
const CLASSES: usize = 5;
/// Photographs that are shown.
const SIMILAR: usize = 6;

/// What a gallery answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Whether a page would give the first name.
    pub known: bool,
    /// How probable the first name is, if that was measured.
    pub probability: Option<f32>,
    /// Classes with their similarities, best first.
    pub matches: Vec<(String, f32)>,
    /// Photographs that are most like it, each once.
    pub similar: Vec<Similar>,
}

/// A photograph that is like a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Similar {
    /// The photograph.
    pub id: ContentId,
    /// Its class.
    pub label: String,
    /// Cosine of the embeddings as the extractor gives them.
    pub similarity: f32,
}

impl Workshop {
    /// Asks a gallery that was measured here about a picture, as a page would: about its main body, if there is one.
    ///
    /// # Errors
    ///
    /// As [`crate::Record::look`], and for a gallery of another extractor.
    pub fn ask(
        &self,
        gallery: &Gallery,
        name: &Path,
        file: &[u8],
        pixels: Option<RgbImage>,
    ) -> anyhow::Result<Asked> {
        gallery.check_model(&self.model)?;
        let record = self.look(name, file, pixels)?;
        let crop = if self.detects() { Crop::Main } else { gallery.crop() };
        let seen = record.memory.entries(record.id, crop);
        let seen = seen.or_else(|| record.memory.entries(record.id, Crop::Never));
        let query = seen.and_then(|entries| entries.last().copied().cloned()).unwrap_or_default();
        let settings = settings(gallery);
        let question = Question { rule: settings.answer, ..Question::best(CLASSES) };
        let answer = gallery.answer(&query, &question)?;
        let label = |class: usize| gallery.classes()[class].label.clone();
        Ok(Asked {
            known: gallery.is_known(&answer, settings.min_similarity),
            probability: answer.probability,
            matches: (answer.matches.iter())
                .map(|found| (label(found.class), found.similarity))
                .collect(),
            similar: similar(gallery, &query, |entry| label(gallery.entry_class(entry))),
        })
    }
}

fn similar(gallery: &Gallery, query: &[f32], label: impl Fn(usize) -> String) -> Vec<Similar> {
    let entries: Vec<usize> = gallery.entries().collect();
    let cosine = |entry: &usize| {
        gallery.embedding(*entry).iter().zip(query).map(|(value, query)| value * query).sum()
    };
    let cosines: Vec<f32> = entries.iter().map(cosine).collect();
    let mut found: Vec<Similar> = Vec::with_capacity(SIMILAR);
    // A photograph may have two entries.
    for place in neighbors::best(&cosines, 2 * SIMILAR) {
        let id = gallery.content_id(entries[place]);
        if found.len() < SIMILAR && found.iter().all(|known| known.id != id) {
            found.push(Similar { id, label: label(entries[place]), similarity: cosines[place] });
        }
    }
    found
}
