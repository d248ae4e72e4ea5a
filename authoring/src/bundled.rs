//! A gallery with its networks as the bundle that a page opens.

use models::bundle::{Bundle, BundleError, Published};
use models::gallery::{AnswerRule, Crop, Gallery, GalleryError, ShardOptions, Sharded};
use models::recognizer::RecognizerSettings;

/// How the note of a model file begins that names the file of its weights, which visitors do not read.
pub const WEIGHTS_OF: &str = "Weights of ";
/// Bytes of a gallery's file from which a page fetches it in parts: at 20 Mbit/s it would take seven seconds.
pub const CUT_FROM: usize = 16 << 20;

/// How a page recognizes with a gallery, as far as nobody asks for something else.
pub fn settings(gallery: &Gallery) -> RecognizerSettings {
    let default = RecognizerSettings::default();
    RecognizerSettings {
        min_similarity: gallery.min_similarity().unwrap_or(default.min_similarity),
        middle: gallery.crop() == Crop::Middle,
        answer: gallery.measured_rule().unwrap_or_default(),
        ..default
    }
}

/// Licenses and sources for visitors: `given` ones, and those that model files carry.
pub fn notes<'a>(given: Vec<String>, of_models: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut notes = given;
    for note in of_models.into_iter().map(str::trim).filter(|note| is_for_visitors(note)) {
        if !notes.iter().any(|known| known == note) {
            notes.push(note.to_owned());
        }
    }
    notes
}

/// Whether a note of a model is shown on the page: not the name of the file that its weights came in.
fn is_for_visitors(note: &str) -> bool {
    !note.is_empty() && !note.starts_with(WEIGHTS_OF)
}

/// Cuts a gallery into shards as an answer rule searches it.
///
/// # Errors
///
/// [`GalleryError`]
pub fn cut(
    gallery: &Gallery,
    rule: AnswerRule,
    options: &ShardOptions,
) -> Result<Sharded, GalleryError> {
    // Where the classes' means answer, these are what is searched.
    match rule {
        AnswerRule::ClassMean => gallery.of_means()?.to_shards(options),
        _ => gallery.to_shards(options),
    }
}

/// The networks' files.
#[derive(Debug, Clone, Copy)]
pub struct Models<'a> {
    /// Makes embeddings.
    pub extractor: &'a [u8],
    /// Finds objects.
    pub detector: Option<&'a [u8]>,
}

/// Networks and gallery as a bundle, the latter in shards if it is given so.
///
/// # Errors
///
/// [`BundleError`]
pub fn bundle(
    title: &str,
    models: Models<'_>,
    (gallery, sharded): (&Gallery, Option<&Sharded>),
    settings: RecognizerSettings,
    notes: Vec<String>,
) -> Result<Bundle, BundleError> {
    Bundle::assemble(
        title.to_owned(),
        models.extractor.to_vec(),
        models.detector.map(<[u8]>::to_vec),
        sharded.map_or(Published::Whole(gallery), Published::Sharded),
        settings,
        notes,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visitors_read_licenses_once_but_no_names_of_weight_files() {
        let of_models = [
            " Pictures: Noto Emoji (Apache-2.0).",
            "",
            "Weights of efficientnet-lite0.pth.",
            "Own.",
        ];
        let notes = notes(vec!["Own.".to_owned()], of_models);
        assert_eq!(notes, ["Own.", "Pictures: Noto Emoji (Apache-2.0)."]);
    }
}
