//! How long the parts of the pipeline take, measured the same way on a server and in a page.

use crate::image::RgbImage;
use crate::preprocess::Preprocess;
use crate::recognizer::{RecognizeError, Recognizer};
use gallery::{Metric, Search, VectorIndex, VectorType};

/// Runs before the first that counts.
const WARM_UP: usize = 3;
/// Milliseconds that a timed run takes at least: browsers round their clocks to a tenth of one.
/// Stages that are over sooner are run several times in a row.
const LEAST: f64 = 3.0;
/// Most runs in a row that are added after one that no clock has seen.
const MOST_IN_A_ROW: f64 = 300.0;
/// Sides of the drawn picture: what a phone's camera gives a page.
const DRAWN: (u32, u32) = (1280, 960);

/// A part of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The detector's network alone, on a picture of its size.
    DetectorNetwork,
    /// The extractor's network alone, on a picture of its size.
    ExtractorNetwork,
    /// Finding the objects of a picture: resize, network, decoding, suppression.
    Detect,
    /// Embedding this many crops at once: resize, network.
    Embed(usize),
    /// Searching the recognizer's gallery.
    Search,
    /// Searching this many random entries, stored as bytes, one after the other.
    SearchIn(usize),
    /// All of it for one picture.
    Recognize,
}

impl Stage {
    /// What is measured of a bundle; one without a detector finds nothing.
    pub fn all(detects: bool) -> Vec<Self> {
        let found: &[Self] = if detects { &[Self::DetectorNetwork, Self::Detect] } else { &[] };
        let others = [
            Self::ExtractorNetwork,
            Self::Embed(1),
            Self::Embed(4),
            Self::Embed(16),
            Self::Search,
            Self::SearchIn(1_000),
            Self::SearchIn(10_000),
            Self::SearchIn(100_000),
            Self::Recognize,
        ];
        [found, &others].concat()
    }

    /// Its name in a report.
    pub fn name(self) -> String {
        match self {
            Self::DetectorNetwork => "detector network".to_owned(),
            Self::ExtractorNetwork => "extractor network".to_owned(),
            Self::Detect => "detect".to_owned(),
            Self::Embed(crops) => format!("embed {crops}"),
            Self::Search => "search".to_owned(),
            Self::SearchIn(entries) => format!("search in {entries}"),
            Self::Recognize => "recognize".to_owned(),
        }
    }
}

/// A picture with something everywhere, the same every time.
pub fn drawn() -> RgbImage {
    drawn_in(DRAWN.0, DRAWN.1)
}

/// A picture like [`drawn`] of the size that a network takes.
pub fn drawn_for(input: &Preprocess) -> RgbImage {
    drawn_in(input.width, input.height)
}

fn drawn_in(width: u32, height: u32) -> RgbImage {
    let bytes = (0..width * height * 3).map(|index| (index * 7 % 251) as u8).collect();
    RgbImage::from_rgb(width, height, bytes).expect("as many bytes as pixels ask for")
}

/// Milliseconds of each of `runs` runs of a stage, after a few that do not count. `clock` gives
/// milliseconds from any origin.
///
/// # Errors
///
/// [`RecognizeError`]
pub async fn measure(
    recognizer: &Recognizer,
    stage: Stage,
    picture: &RgbImage,
    runs: usize,
    clock: impl Fn() -> f64,
) -> Result<Vec<f64>, RecognizeError> {
    let crops = match (stage, recognizer.detector()) {
        (Stage::Embed(crops), _) => vec![picture.clone(); crops],
        (Stage::ExtractorNetwork, _) => vec![drawn_for(recognizer.extractor().preprocess())],
        (Stage::DetectorNetwork, Some(detector)) => vec![drawn_for(detector.preprocess())],
        _ => vec![picture.clone()],
    };
    let embedding = match stage {
        Stage::Search => recognizer.embed(&crops).await?.pop().unwrap_or_default(),
        _ => Vec::new(),
    };
    let entries = match stage {
        Stage::SearchIn(entries) => random_entries(recognizer.gallery().index().dim(), entries),
        _ => VectorIndex::new(1, Metric::InnerProduct, VectorType::I8),
    };
    let once = async || -> Result<(), RecognizeError> {
        match stage {
            Stage::DetectorNetwork => {
                if let Some(detector) = recognizer.detector() {
                    drop(detector.run(&crops).await?);
                }
            }
            Stage::ExtractorNetwork => drop(recognizer.extractor().run(&crops).await?),
            Stage::Detect => drop(recognizer.detect(picture).await?),
            Stage::Embed(_) => drop(recognizer.embed(&crops).await?),
            Stage::Search => drop(recognizer.answer(&embedding)?),
            Stage::SearchIn(_) => {
                let found = entries.search(&entries.vector(0), &Search::best(10));
                drop(found.map_err(gallery::GalleryError::from)?);
            }
            Stage::Recognize => drop(recognizer.recognize(picture, &clock).await?),
        }
        Ok(())
    };
    let mut in_a_row = 1;
    let mut times = Vec::with_capacity(runs);
    for run in 0..WARM_UP + runs {
        let start = clock();
        for _ in 0..in_a_row {
            once().await?;
        }
        let taken = clock() - start;
        if run >= WARM_UP {
            times.push(taken / f64::from(in_a_row));
        } else if taken < LEAST {
            // A clock that did not move says as little as one that moved by one step.
            let each = (taken / f64::from(in_a_row)).max(LEAST / MOST_IN_A_ROW);
            in_a_row = (LEAST / each).ceil() as u32;
        }
    }
    Ok(times)
}

/// An index of random unit vectors, the same every time.
fn random_entries(dim: usize, entries: usize) -> VectorIndex {
    let mut index = VectorIndex::new(dim, Metric::InnerProduct, VectorType::I8);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut vector = vec![0.0_f32; dim];
    for _ in 0..entries {
        for value in &mut vector {
            // Knuth's MMIX generator; the low bits are the weak ones.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *value = (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        }
        let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        vector.iter_mut().for_each(|v| *v /= length);
        index.add(&vector).expect("finite and of the index's width");
    }
    index
}

/// What many runs of a stage come to, in milliseconds.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Figures {
    /// Name of the stage.
    pub what: String,
    /// Runs that counted.
    pub runs: usize,
    /// Half of the runs took no longer.
    pub median_ms: f64,
    /// The shortest.
    pub least_ms: f64,
    /// 95 of 100 runs took no longer.
    pub p95_ms: f64,
}

impl Figures {
    /// Sums up the times of at least one run.
    pub fn of(what: impl Into<String>, mut milliseconds: Vec<f64>) -> Self {
        milliseconds.sort_by(f64::total_cmp);
        let runs = milliseconds.len();
        let at = |part: usize| milliseconds.get((runs * part / 100).min(runs.saturating_sub(1)));
        let at = |part| at(part).copied().unwrap_or(f64::NAN);
        Self { what: what.into(), runs, median_ms: at(50), least_ms: at(0), p95_ms: at(95) }
    }

    /// Whether the runs differ so much that something else must have been running.
    pub fn is_wide(&self) -> bool {
        self.p95_ms > 2.0 * self.median_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_sorted_times() {
        let figures = Figures::of("x", (1..=100).rev().map(f64::from).collect());
        assert_eq!((figures.runs, figures.least_ms), (100, 1.0));
        assert_eq!((figures.median_ms, figures.p95_ms), (51.0, 96.0));
        assert!(!figures.is_wide());
        let alone = Figures::of("x", vec![4.0]);
        assert_eq!((alone.least_ms, alone.median_ms, alone.p95_ms), (4.0, 4.0, 4.0));
        assert!(Figures::of("x", vec![1.0, 1.0, 9.0]).is_wide());
    }

    #[test]
    fn made_up_entries_are_unit_vectors_that_find_themselves() {
        let entries = random_entries(64, 50);
        for entry in 0..50 {
            let vector = entries.vector(entry);
            let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
            // Bytes keep two digits.
            assert!((length - 1.0).abs() < 0.02, "{length}");
            let hits = entries.search(&vector, &Search::best(1)).expect("of the width");
            assert_eq!(hits[0].entry, entry);
        }
    }
}
