//! How good a gallery is, as data for a page.

use models::gallery::{ContentId, Gallery, LeftOut};
use serde::Serialize;

use crate::adaptation::{MapOutcome, Outcome, ThresholdOutcome, rule_name};
use crate::calibration::{Point, Share, calibrate, scored};
use crate::quality::{Double, Mistaken, Outlier, Quality, Suspect};

/// A class and its photographs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClassFigures {
    /// Its name.
    pub label: String,
    /// Different photographs.
    pub photos: usize,
    /// Those that are recognized without themselves, of those that were asked.
    pub right: [usize; 2],
}

/// What a map that is learned from the photographs does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MapFigures {
    /// Whether the gallery has it.
    pub kept: bool,
    /// Photographs that were asked behind a map that was learned without them.
    pub of: usize,
    /// Those of them that are recognized without a map.
    pub before: usize,
    /// Those of them that are recognized behind it.
    pub after: usize,
}

/// Known and unknown things at the threshold: how many, of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OpenFigures {
    /// Known things that are named rightly.
    pub right: [usize; 2],
    /// Known things that are named wrongly.
    pub wrong: [usize; 2],
    /// Unknown things that are named.
    pub named: [usize; 2],
}

/// What a page shows of a gallery; photographs are places in the list, classes are places in `classes`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// In the gallery's order.
    pub classes: Vec<ClassFigures>,
    /// Photographs that are entries.
    pub photos: usize,
    /// Photographs that are not.
    pub left_out: Vec<usize>,
    /// The part of a photograph that is an entry.
    pub crop: &'static str,
    /// How that was chosen, a line; empty if it was given.
    pub crop_text: String,
    /// What was learned, in sentences.
    pub lines: Vec<String>,
    /// Whether the gallery has a map that was learned now.
    pub adapted: bool,
    /// What the best map does, if one was learned.
    pub map: Option<MapFigures>,
    /// The answer rule that was measured.
    pub rule: Option<String>,
    /// The threshold that was measured.
    pub min_similarity: Option<f32>,
    /// Percent and standard error of photographs whose class is the first answer, and among the first five.
    pub recall: [Option<[f64; 2]>; 2],
    /// At the threshold.
    pub open: Option<OpenFigures>,
    /// Why no threshold is kept, sentences.
    pub doubts: Vec<String>,
    /// What thresholds over the whole range do.
    pub curve: Vec<Point>,
    /// The most frequent first.
    pub mistaken: Vec<Mistaken>,
    /// The clearest first.
    pub suspects: Vec<Suspect>,
    /// Those in two classes first.
    pub doubles: Vec<Double>,
    /// Photographs that are like no other one, the most lonely first.
    pub outliers: Vec<Outlier>,
    /// Classes with too few photographs, and their number, the fewest first.
    pub few: Vec<[usize; 2]>,
    /// Photographs in which a detector found nothing.
    pub empty: Vec<usize>,
    /// What would help, the most first.
    pub advice: Vec<String>,
}

impl Figures {
    /// Of a gallery that has learned; `contents` are those of the list, as [`crate::add`] returns them.
    pub fn of(
        gallery: &Gallery,
        learned: &Outcome,
        quality: &Quality,
        contents: &[Option<ContentId>],
        crop_text: &str,
    ) -> Self {
        let share = |share: Share| [share.count, share.of];
        let left_out = contents.iter().enumerate().filter(|(_, content)| content.is_none());
        let counts = photos_by_class(gallery);
        let classes = gallery.classes().iter().zip(counts).zip(&quality.found_of_class);
        Self {
            classes: classes
                .map(|((class, photos), found)| ClassFigures {
                    label: class.label.clone(),
                    photos,
                    right: share(*found),
                })
                .collect(),
            photos: quality.photos,
            left_out: left_out.map(|(place, _)| place).collect(),
            crop: gallery.crop().name(),
            crop_text: crop_text.to_owned(),
            lines: learned.lines(),
            adapted: matches!(learned.map, MapOutcome::Kept(_)),
            map: of_map(&learned.map),
            rule: gallery.measured_rule().map(rule_name),
            min_similarity: gallery.min_similarity(),
            recall: [quality.recall(0), quality.recall(1)],
            open: quality.open.map(|open| OpenFigures {
                right: share(open.right),
                wrong: share(open.wrong),
                named: share(open.named),
            }),
            doubts: quality.doubts.clone(),
            curve: curve(&learned.threshold),
            mistaken: quality.mistaken.clone(),
            suspects: quality.suspects.clone(),
            doubles: quality.doubles.clone(),
            outliers: quality.outliers.clone(),
            few: quality.few.iter().map(|(class, count)| [*class, *count]).collect(),
            empty: quality.empty.clone(),
            advice: quality.advice.iter().map(|(_, text)| text.clone()).collect(),
        }
    }
}

/// What the best map does.
fn of_map(outcome: &MapOutcome) -> Option<MapFigures> {
    let (kept, candidate) = match outcome {
        MapOutcome::Kept(candidate) => (true, candidate),
        MapOutcome::NoHelp(Some(candidate)) => (false, candidate),
        _ => return None,
    };
    let LeftOut { pictures, before, after, .. } = candidate.pictures;
    Some(MapFigures { kept, of: pictures, before, after })
}

/// Different photographs of each class.
fn photos_by_class(gallery: &Gallery) -> Vec<usize> {
    let mut contents = vec![std::collections::BTreeSet::new(); gallery.classes().len()];
    for entry in gallery.entries() {
        if let Some(of_class) = contents.get_mut(gallery.entry_class(entry)) {
            of_class.insert(gallery.content_id(entry));
        }
    }
    contents.iter().map(std::collections::BTreeSet::len).collect()
}

/// What thresholds do, if it was measured.
fn curve(threshold: &ThresholdOutcome) -> Vec<Point> {
    let (ThresholdOutcome::Kept(measured) | ThresholdOutcome::Doubtful(measured, _)) = threshold
    else {
        return Vec::new();
    };
    let trials = scored(&measured.trials, measured.calibration.lead_weight());
    calibrate(&trials, measured.false_accept).map_or_else(Vec::new, |calibration| calibration.curve)
}
