//! What a site has that the next publishing into its folder does not keep: options are not remembered.

use models::bundle::{MANIFEST_NAME, Manifest};
use models::recognizer::RecognizerSettings;

use super::draft::Draft;
use super::names::{BUNDLE_FOLDER, SAMPLES};
use crate::cli::read;
use crate::terminal::counted;

/// Options that a command was given, or that its gallery decides: what they say of the site is meant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given {
    pub(crate) title: bool,
    pub(crate) threshold: bool,
    pub(crate) rule: bool,
}

/// What a site that stands there says of itself.
fn manifest(site: &Draft) -> Option<Manifest> {
    site.before()?;
    let bytes = read(&site.place().join(BUNDLE_FOLDER).join(MANIFEST_NAME)).ok()?;
    Manifest::from_bytes(&bytes).ok()
}

/// The title of a site that stands there.
pub(crate) fn title(site: &Draft) -> Option<String> {
    manifest(site).map(|manifest| manifest.title)
}

/// What goes, a phrase each with the option that keeps it. Nothing if no site stands there, or its manifest cannot
/// be read.
pub(crate) fn not_kept(
    site: &Draft,
    title: &str,
    notes: &[String],
    samples: usize,
    settings: &RecognizerSettings,
    given: Given,
) -> Vec<String> {
    let place = site.place();
    let Some(manifest) = manifest(site) else { return Vec::new() };
    let mut lost = Vec::new();
    if manifest.title != title && !given.title {
        lost.push(format!("the title {:?} (--title)", manifest.title));
    }
    for note in manifest.notes.iter().filter(|note| !notes.contains(note)) {
        lost.push(format!("the note {note:?} (--note)"));
    }
    let before: Vec<String> = read(&place.join(SAMPLES))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    if samples == 0 && !before.is_empty() {
        lost.push(format!("{} (--sample)", counted(before.len(), "sample", "samples")));
    }
    let old = manifest.settings;
    let mut number = |name: &str, before: f32, option: &str, now: f32| {
        if (before - now).abs() > f32::EPSILON {
            lost.push(format!("{name} {before} ({option}): the new one is {now}"));
        }
    };
    if !given.threshold {
        number("the threshold", old.min_similarity, "--min-similarity", settings.min_similarity);
    }
    number("the least score", old.detection.score, "--min-score", settings.detection.score);
    let overlap = (old.recognition_nms_iou, settings.recognition_nms_iou);
    number("the overlap", overlap.0, "--recognition-nms-iou", overlap.1);
    if old.whole_image != settings.whole_image {
        lost.push("when the whole picture is recognized (--whole-image)".to_owned());
    }
    if old.answer != settings.answer && !given.rule {
        lost.push("the rule of the answer (--rule)".to_owned());
    }
    lost
}
