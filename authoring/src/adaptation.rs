//! What a gallery learns from its own entries without a further picture: a map, an answer rule, a threshold and
//! probabilities.
//!
//! ```no_run
//! use models::gallery::Gallery;
//! use authoring::adaptation::{Options, adapt_and_calibrate};
//!
//! let mut gallery = Gallery::from_bytes(&std::fs::read("gallery.bin")?)?;
//! let outcome = adapt_and_calibrate(&mut gallery, &Options::default())?;
//! for line in outcome.lines() {
//!     println!("{line}");
//! }
//! if outcome.changed() {
//!     std::fs::write("gallery.bin", gallery.to_bytes())?;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod kept;
mod sentences;

use std::time::Duration;

use models::gallery::{
    AdaptOptions, AdaptationKind, AdaptationMap, AnswerRule, Calibration, Candidate, Crop, Folds,
    Gallery, GalleryError, LearnedBy, LearnedMap, RULES, Source, Trial,
};

use crate::calibration::{Doubt, Share, calibrate, scored};
use crate::words::counted;

pub use kept::{Kept, calibrate_behind};
use sentences::percent;

/// Share of unknown things that a gallery may name by its own measure.
pub const FALSE_ACCEPT: f64 = 0.05;
/// What is taken instead where that leaves too few of the right answers.
const LARGER: f64 = 0.1;
/// Right answers are too few where those that are left are fewer than one of so many.
const FEW: usize = 3;
/// Entries up to which a gallery learns unasked: seconds on one thread.
pub const MOST_UNASKED: usize = 50_000;

/// What a gallery is to learn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// A map, kept if it helps; default `true`.
    pub adapt: bool,
    /// Only a map of this kind; default `None`, the better one.
    pub kind: Option<AdaptationKind>,
    /// Answer rule, threshold and probabilities; default `true`. What was measured with other pictures stays, unless
    /// the map changes.
    pub calibrate: bool,
    /// Share of unknown things that may be named, above 0 and below 1; default [`FALSE_ACCEPT`]. A tenth
    /// is taken where less leaves fewer than a third of the right answers.
    pub false_accept: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { adapt: true, kind: None, calibrate: true, false_accept: FALSE_ACCEPT }
    }
}

/// What came of a map.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum MapOutcome {
    /// None was to be learned.
    NotAsked,
    /// It helps and is the gallery's now.
    Kept(Candidate),
    /// None helps by more than two standard errors; what there was stays.
    NoHelp(Option<Candidate>),
    /// Too few classes have two pictures.
    TooFew {
        /// Classes that have a picture.
        classes: usize,
        /// Of these, those that have two or more.
        several: usize,
    },
    /// All entries are the same.
    AllEqual,
}

/// What came of a calibration.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ThresholdOutcome {
    /// None was to be measured.
    NotAsked,
    /// It is the gallery's now.
    Kept(Box<Measured>),
    /// It is not worth keeping; the gallery has no threshold.
    Doubtful(Box<Measured>, Vec<Doubt>),
    /// The one that was measured with other pictures, or given by hand, stays.
    Stays(f32),
    /// The entries answer nothing: there is one class at most.
    NoAnswer,
}

/// What the entries say, each asked without its picture and without its class.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The answer rule, chosen by the entries.
    pub rule: AnswerRule,
    /// Share of unknown things that may be named.
    pub false_accept: f64,
    /// Test, least score and probabilities.
    pub calibration: Calibration,
    /// Known things whose best class is the right one, without a threshold: recall@1.
    pub best_right: Share,
    /// Known things that get their own name.
    pub right: Share,
    /// Known things that get any name.
    pub answered: Share,
    /// Unknown things that get a name.
    pub named: Share,
    /// Positions of the entries that were asked.
    pub entries: Vec<usize>,
    /// What was answered to each of these.
    pub trials: Vec<Trial>,
}

/// Thresholds that were measured with other cosines, and are gone.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Dropped {
    /// That of the gallery.
    pub threshold: Option<f32>,
    /// Number of classes that had one of their own.
    pub classes: usize,
}

/// What a gallery learned.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The map.
    pub map: MapOutcome,
    /// Rule, threshold and probabilities.
    pub threshold: ThresholdOutcome,
    /// What a new map made void.
    pub dropped: Dropped,
    /// Maps that did not see some of the entries, which the threshold was measured behind.
    pub folds: Option<Folds>,
    /// Time of the map; zero where there is no clock.
    pub map_took: Duration,
    /// Time of all; zero where there is no clock.
    pub took: Duration,
    kept_map: Option<String>,
}

/// Learns a map and then rule, threshold and probabilities from the gallery's own entries, and keeps in the gallery
/// what is worth it.
///
/// # Errors
///
/// [`GalleryError::ZeroEntry`] for an entry without a direction, [`GalleryError::Options`] for what was fetched of
/// shards; the gallery is as before then.
pub fn adapt_and_calibrate(
    gallery: &mut Gallery,
    options: &Options,
) -> Result<Outcome, GalleryError> {
    let clock = clock();
    gallery.check_entries()?;
    let (mut map, mut dropped) = (MapOutcome::NotAsked, Dropped::default());
    if options.adapt {
        let learned = gallery.learn_map(&AdaptOptions { kind: options.kind, strength: None })?;
        dropped = keep_map(gallery, &learned)?.unwrap_or_default();
        map = MapOutcome::of(&learned);
    }
    let map_took = clock();
    let (mut threshold, mut folds) = (ThresholdOutcome::NotAsked, None);
    if options.calibrate {
        folds = foreign_threshold(gallery).is_none().then(|| Folds::of(gallery)).flatten();
        threshold = calibrate_by_itself(gallery, folds.as_ref(), options.false_accept)?;
    }
    let kept_map = map_text(gallery);
    Ok(Outcome { map, threshold, dropped, folds, map_took, took: clock(), kept_map })
}

/// Lets a gallery that has grown learn anew, as [`adapt_and_calibrate`] does: a map of the kind that it has. Without one it
/// learns none if its threshold was measured with other pictures, which a first map would make void.
///
/// # Errors
///
/// As of [`adapt_and_calibrate`].
pub fn adapt_again(gallery: &mut Gallery, options: &Options) -> Result<Outcome, GalleryError> {
    let map = gallery.map().map(AdaptationMap::about);
    let options = Options {
        adapt: options.adapt && (map.is_some() || foreign_threshold(gallery).is_none()),
        kind: map.map(|map| map.kind).filter(|kind| *kind == AdaptationKind::Lda),
        ..*options
    };
    adapt_and_calibrate(gallery, &options)
}

/// Tells the time since it was made; always zero where there is no clock, as in WebAssembly.
fn clock() -> impl Fn() -> Duration {
    #[cfg(not(target_family = "wasm"))]
    let start = std::time::Instant::now();
    move || {
        #[cfg(target_family = "wasm")]
        return Duration::ZERO;
        #[cfg(not(target_family = "wasm"))]
        start.elapsed()
    }
}

/// Gives a gallery the map that was learned, and takes out the thresholds of gallery and classes, which were measured
/// with other cosines; `None` where the map is no other one.
///
/// # Errors
///
/// A map that leaves nothing of an entry; then the gallery is as before.
pub fn keep_map(
    gallery: &mut Gallery,
    learned: &LearnedMap,
) -> Result<Option<Dropped>, GalleryError> {
    let LearnedMap::Helps { map, .. } = learned else { return Ok(None) };
    // What was measured behind the same map holds.
    if gallery.map() == Some(&**map) {
        return Ok(None);
    }
    gallery.set_map(Some((**map).clone()))?;
    drop_thresholds(gallery).map(Some)
}

/// Takes out the thresholds of gallery and classes.
///
/// # Errors
///
/// Metadata of a class that cannot be kept.
pub fn drop_thresholds(gallery: &mut Gallery) -> Result<Dropped, GalleryError> {
    let own: Vec<usize> = (0..gallery.classes().len())
        .filter(|class| gallery.classes()[*class].min_similarity.is_some())
        .collect();
    for class in &own {
        let metadata = gallery.classes()[*class].metadata.clone();
        gallery.describe_class(*class, metadata, None)?;
    }
    let threshold = gallery.min_similarity();
    if threshold.is_some() {
        gallery.set_min_similarity(None)?;
    }
    Ok(Dropped { threshold, classes: own.len() })
}

/// The threshold, if it was measured with other pictures or given by hand.
pub fn foreign_threshold(gallery: &Gallery) -> Option<f32> {
    let own = gallery.calibration().is_some_and(|kept| kept.source().0 == Source::Gallery);
    gallery.min_similarity().filter(|_| !own)
}

fn calibrate_by_itself(
    gallery: &mut Gallery,
    folds: Option<&Folds>,
    false_accept: f64,
) -> Result<ThresholdOutcome, GalleryError> {
    if let Some(least) = foreign_threshold(gallery) {
        return Ok(ThresholdOutcome::Stays(least));
    }
    let rules = gallery.rules_in_order(&RULES);
    let trials = gallery.leave_one_out_behind(folds, &rules)?;
    let entries = gallery.asked_entries();
    let mut share = false_accept;
    let (measured, doubts) = loop {
        let Some(learned) = LearnedBy::of(&rules, &trials, share, None) else {
            return Ok(ThresholdOutcome::NoAnswer);
        };
        let least = learned.fitted.min_similarity;
        let Some((measured, mut doubts)) = Measured::of(learned, share, &entries) else {
            return Ok(ThresholdOutcome::NoAnswer);
        };
        let is_few = |doubt: &Doubt| match doubt {
            Doubt::FewRight { without, left } => *left == 0 || FEW * left < *without,
            _ => true,
        };
        doubts.retain(is_few);
        let few_right = |doubt: &Doubt| matches!(doubt, Doubt::FewRight { .. });
        let is_sound = doubts.iter().all(few_right);
        // A name for what is unknown is worse than none for what is known.
        if doubts.is_empty() || is_sound && share >= LARGER {
            gallery.keep_learned(measured.rule, least, measured.calibration.clone())?;
            return Ok(ThresholdOutcome::Kept(Box::new(measured)));
        }
        if !is_sound {
            break (measured, doubts);
        }
        share = LARGER;
    };
    // What was measured of other entries is worth no more.
    gallery.set_min_similarity(None)?;
    Ok(ThresholdOutcome::Doubtful(Box::new(measured), doubts))
}

impl Measured {
    fn of(learned: LearnedBy, false_accept: f64, entries: &[usize]) -> Option<(Self, Vec<Doubt>)> {
        let LearnedBy { rule, trials, fitted } = learned;
        let calibration = fitted.calibration;
        let shares = calibrate(&scored(&trials, calibration.lead_weight()), false_accept)?;
        let doubts = shares.doubts(false_accept);
        let measured = Self {
            rule,
            false_accept,
            calibration,
            best_right: shares.right_without,
            right: shares.right,
            answered: shares.answered,
            named: shares.named,
            entries: entries.to_vec(),
            trials,
        };
        Some((measured, doubts))
    }
}

impl MapOutcome {
    /// Of what was learned.
    pub fn of(learned: &LearnedMap) -> Self {
        match learned {
            LearnedMap::Helps { chosen, .. } => Self::Kept(*chosen),
            LearnedMap::TooFew { classes, several } => {
                Self::TooFew { classes: *classes, several: *several }
            }
            LearnedMap::AllEqual => Self::AllEqual,
            LearnedMap::NoHelp { best } => Self::NoHelp(*best),
            _ => Self::NoHelp(None),
        }
    }

    /// In sentences; `kept` is what the gallery's map is.
    pub fn lines(&self, kept: Option<&str>, took: Duration) -> Vec<String> {
        let seconds = took.as_secs_f64();
        match self {
            Self::NotAsked => Vec::new(),
            Self::Kept(chosen) => {
                let mut lines = measured_lines(chosen);
                lines.extend(kept.map(|text| format!("kept: {text} ({seconds:.1} s)")));
                lines
            }
            Self::NoHelp(best) => {
                let mut lines = best.as_ref().map(measured_lines).unwrap_or_default();
                let stays = if kept.is_some() {
                    "the map of before stays; `magpie gallery adapt --none` takes it away"
                } else {
                    "the gallery stays without one"
                };
                lines.push(format!(
                    "no map helps: pictures left out have to gain more than two standard errors, and classes left out not \
                     to lose more than two ({seconds:.1} s); {stays}"
                ));
                lines
            }
            Self::TooFew { classes, several } => vec![format!(
                "no map: it needs two pictures or more of half of the classes, and of four at least; here {several} of \
                 {classes} have them"
            )],
            Self::AllEqual => {
                vec![
                    "no map: all entries are the same, so that nothing tells them apart".to_owned(),
                ]
            }
        }
    }
}

/// Recall@1 before and after, with the standard error of the difference.
fn measured_lines(candidate: &Candidate) -> Vec<String> {
    let mut lines =
        vec!["recall@1, nearest entry          as they are  adapted  difference".to_owned()];
    for (what, measured) in
        [("pictures left out", &candidate.pictures), ("classes left out", &candidate.classes)]
    {
        let [before, after] = measured.shares().map(|share| 100.0 * share);
        lines.push(format!(
            "{:<33}{before:>9.1} %{after:>7.1} %  {:+.1} ± {:.1} ({} pictures)",
            what,
            after - before,
            100.0 * measured.standard_error,
            measured.pictures
        ));
    }
    lines
}

/// What a gallery's map is, in a line.
pub fn map_text(gallery: &Gallery) -> Option<String> {
    let map = gallery.map()?;
    let about = map.about();
    // A picture may have two entries.
    let (one, several) =
        if gallery.crop() == Crop::Both { ("entry", "entries") } else { ("picture", "pictures") };
    Some(format!(
        "{}, strength {}, {} → {} values, learned from {}",
        about.kind,
        shown(about.strength),
        map.dim(),
        about.values,
        counted(about.entries, one, several)
    ))
}

/// A number with as many digits as matter.
pub fn shown(value: f32) -> String {
    let text = format!("{value:.4}");
    match text.trim_end_matches('0').trim_end_matches('.') {
        "0" | "-0" if value != 0.0 => format!("{value:e}"),
        "-0" => "0".to_owned(),
        text => text.to_owned(),
    }
}

impl Dropped {
    /// In a sentence; `None` of nothing.
    pub fn text(self) -> Option<String> {
        let threshold = self.threshold.map(|least| format!("threshold {}", shown(least)));
        let classes = (self.classes > 0)
            .then(|| format!("the thresholds of {}", counted(self.classes, "class", "classes")));
        let are = if self.classes > 0 { "are" } else { "is" };
        let dropped: Vec<String> = threshold.into_iter().chain(classes).collect();
        (!dropped.is_empty())
            .then(|| format!("{} {are} dropped: cosines are others now", dropped.join(" and ")))
    }
}

impl ThresholdOutcome {
    fn lines(&self) -> Vec<String> {
        match self {
            Self::NotAsked => Vec::new(),
            Self::Stays(least) => vec![format!(
                "threshold {} stays: it was not measured by the gallery itself",
                shown(*least)
            )],
            Self::NoAnswer => {
                vec!["no threshold: the gallery needs two classes or more".to_owned()]
            }
            Self::Kept(measured) => vec![format!(
                "calibrated by {}: rule {}, known by {}; known things right {} ({} without a threshold), unknown \
                 things named {}",
                counted(measured.trials.len(), "entry", "entries"),
                rule_name(measured.rule),
                measured.calibration.test().name(),
                percent(measured.right),
                percent(measured.best_right),
                percent(measured.named)
            )],
            Self::Doubtful(measured, doubts) => {
                let scores = scored(&measured.trials, measured.calibration.lead_weight());
                let mut lines: Vec<String> = (doubts.iter())
                    .map(|doubt| {
                        format!("no threshold: {doubt}; {}", doubt.advice(&scores, Source::Gallery))
                    })
                    .collect();
                lines.push(
                    "`magpie gallery calibrate` shows more, also with pictures that are not in the gallery (--query)"
                        .to_owned(),
                );
                lines
            }
        }
    }
}

/// A rule in words, as options name it.
pub fn rule_name(rule: AnswerRule) -> String {
    match rule {
        AnswerRule::Nearest => "nearest".to_owned(),
        AnswerRule::Vote { neighbors } => format!("vote of {neighbors}"),
        AnswerRule::ClassMean => "class-mean".to_owned(),
    }
}

impl Outcome {
    /// Whether the gallery is another one now.
    pub fn changed(&self) -> bool {
        matches!(self.map, MapOutcome::Kept(_))
            || matches!(self.threshold, ThresholdOutcome::Kept(_) | ThresholdOutcome::Doubtful(..))
    }

    /// In sentences, each a line: recall@1 and answers before and after with their standard errors, what is kept, and
    /// why the rest is not.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.map.lines(self.kept_map.as_deref(), self.map_took);
        lines.extend(self.dropped.text());
        lines.extend(self.threshold.lines());
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use models::gallery::{Class, ContentId, Metadata, VectorType};

    const DIM: usize = 24;

    /// Classes of pictures that vary most along the first values, which tell no class from another.
    fn moved(classes: usize, pictures: usize) -> Gallery {
        let mut state = 3_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut gallery = Gallery::with_type(DIM, "m", VectorType::F32);
        for class in 0..classes {
            gallery.add_class(Class { label: format!("{class}"), ..Class::default() }, Vec::new());
            let middle: Vec<f32> = (0..DIM).map(|_| 0.3 * next()).collect();
            for picture in 0..pictures {
                let spread = |i: usize| if i < DIM / 4 { 2.0 } else { 0.25 };
                let embedding: Vec<f32> =
                    (0..DIM).map(|i| 0.5 + middle[i] + spread(i) * next()).collect();
                let id = ContentId::of(&[class as u8, picture as u8]);
                gallery.add_image(class, &embedding, id).unwrap();
            }
        }
        gallery
    }

    #[test]
    fn a_map_rule_and_threshold_are_learned_and_said() {
        let mut gallery = moved(30, 6);
        gallery.set_min_similarity(Some(0.75)).unwrap();
        gallery.describe_class(3, Metadata::default(), Some(0.5)).unwrap();
        let outcome = adapt_and_calibrate(&mut gallery, &Options::default()).unwrap();
        assert!(matches!(outcome.map, MapOutcome::Kept(_)), "{outcome:?}");
        let ThresholdOutcome::Kept(measured) = &outcome.threshold else { panic!("{outcome:?}") };
        assert_eq!(outcome.dropped, Dropped { threshold: Some(0.75), classes: 1 });
        assert_eq!(gallery.calibration(), Some(&measured.calibration));
        assert_eq!(gallery.measured_rule(), Some(measured.rule));
        assert_eq!((measured.entries.len(), measured.trials.len()), (180, 180));
        let named = measured.named.value().unwrap();
        assert!(named <= measured.false_accept, "{named}");
        assert!(outcome.changed());
        let said = outcome.lines().join("\n");
        for part in
            ["classes left out", "kept: whitening", "are dropped", "calibrated by 180 entries"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        // The same entries teach the same again.
        let bytes = gallery.to_bytes();
        adapt_and_calibrate(&mut gallery, &Options::default()).unwrap();
        assert!(gallery.to_bytes() == bytes);
    }

    #[test]
    fn few_right_answers_are_told_by_a_tenth_of_the_unknown() {
        // Without the map hardly anything is told apart.
        let mut gallery = moved(30, 6);
        let options = Options { adapt: false, ..Options::default() };
        let outcome = adapt_and_calibrate(&mut gallery, &options).unwrap();
        let ThresholdOutcome::Kept(measured) = &outcome.threshold else { panic!("{outcome:?}") };
        assert_eq!((outcome.map, measured.false_accept), (MapOutcome::NotAsked, 0.1));
        assert!(measured.named.value().unwrap() <= 0.1);
    }

    #[test]
    fn what_says_too_little_is_not_kept_and_what_others_measured_stays() {
        let learn =
            |gallery: &mut Gallery| adapt_and_calibrate(gallery, &Options::default()).unwrap();
        let mut single = moved(9, 1);
        let outcome = learn(&mut single);
        assert_eq!(outcome.map, MapOutcome::TooFew { classes: 9, several: 0 });
        assert!(matches!(&outcome.threshold, ThresholdOutcome::Doubtful(..)), "{outcome:?}");
        assert_eq!((single.min_similarity(), single.map()), (None, None));
        let said = outcome.lines().join("\n");
        assert!(said.contains("of four at least; here 0 of 9 have them"), "{said}");
        assert!(said.contains("add 11 or more pictures to the gallery"), "{said}");

        single.set_min_similarity(Some(0.625)).unwrap();
        let outcome = learn(&mut single);
        assert_eq!(outcome.threshold, ThresholdOutcome::Stays(0.625));
        assert!(!outcome.changed() && single.min_similarity() == Some(0.625));

        let none = learn(&mut Gallery::new(4, "m"));
        assert_eq!(none.threshold, ThresholdOutcome::NoAnswer);
        let mut same = Gallery::new(4, "m");
        for class in 0..6 {
            same.add_class(Class { label: format!("{class}"), ..Class::default() }, Vec::new());
            (0..3).for_each(|_| same.add(class, &[0.1, 0.7, 0.3, 0.2]).unwrap());
        }
        let outcome = learn(&mut same);
        assert_eq!(outcome.map, MapOutcome::AllEqual);
        assert!(outcome.lines()[0].contains("all entries are the same"), "{:?}", outcome.lines());
    }
}
