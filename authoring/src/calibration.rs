//! From which similarity on an answer is believed.
//!
//! Open-set recognition: a threshold lets through answers about known things (true accepts) and
//! about unknown ones (false accepts). The terms are those of ISO/IEC 19795-1. The threshold is laid on a score: the
//! similarity of the best class, less a share of the second one's where the lead counts, too.

use models::gallery::{self, Source};
use serde::Serialize;
use thiserror::Error;

use crate::plot::{Axis, Curve, Plot};

/// Points of a curve.
const POINTS: usize = 101;
/// Unknown pictures mistaken for a class from which the class may have its own threshold.
const LEAST_MISTAKES: usize = 3;
/// Known pictures below which the interval of a share spans half of the scale.
pub(crate) const LEAST_KNOWN: usize = 10;
/// Standard deviations around a share that hold it with 95 % confidence.
const DEVIATIONS: f64 = 1.96;

/// One picture, asked with its class in the gallery and without.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Best score and whether its class was right; `None` where the class is not there at all.
    pub known: Option<(f32, bool)>,
    /// Best score among other classes, and that class; `None` where there is no other.
    pub stranger: Option<(f32, usize)>,
}

/// Trials of a gallery by their scores.
pub fn scored(trials: &[gallery::Trial], lead_weight: f32) -> Vec<Trial> {
    let scored = |trial: &gallery::Trial| Trial {
        known: trial.known.map(|(asked, right)| (asked.score(lead_weight), right)),
        stranger: trial.stranger.map(|asked| (asked.score(lead_weight), asked.class)),
    };
    trials.iter().map(scored).collect()
}

/// What a threshold does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Least score of an answer.
    pub threshold: f32,
    /// Share of unknown things that are given a name.
    pub false_accept: f64,
    /// Share of known things that are given a name.
    pub answered: f64,
    /// Share of known things that are given their own name.
    pub right: f64,
}

/// How many of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Share {
    /// How many.
    pub count: usize,
    /// All.
    pub of: usize,
}

impl Share {
    /// `0..=1`; `None` of nothing.
    pub fn value(self) -> Option<f64> {
        (self.of > 0).then(|| self.count as f64 / self.of as f64)
    }

    /// Where the share of all things lies that these were drawn from, with 95 % confidence.
    ///
    /// Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    pub fn interval(self) -> [f64; 2] {
        let Some(share) = self.value() else { return [0.0, 1.0] };
        let (n, square) = (self.of as f64, DEVIATIONS * DEVIATIONS);
        let middle = share + square / (2.0 * n);
        let half = DEVIATIONS * (share * (1.0 - share) / n + square / (4.0 * n * n)).sqrt();
        let scale = 1.0 + square / n;
        [((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0)]
    }
}

/// A threshold and what it does.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// Least score of an answer.
    pub threshold: f32,
    /// Unknown things that are given a name at it.
    pub named: Share,
    /// Known things that are given a name at it.
    pub answered: Share,
    /// Known things that are given their own name at it.
    pub right: Share,
    /// Known things that are given their own name without any threshold.
    pub right_without: Share,
    /// Pictures asked.
    pub pictures: usize,
    /// The same for thresholds over the whole range.
    pub curve: Vec<Point>,
}

/// Why a threshold is not worth keeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Doubt {
    /// Nothing says what unknown things look like.
    #[error("no picture of an unknown thing")]
    NoStrangers,
    /// The wanted share is less than one of them.
    #[error("{of} pictures of unknown things: {needed} are needed to measure so small a share")]
    FewStrangers {
        /// How many there are.
        of: usize,
        /// One over the wanted share.
        needed: usize,
    },
    /// The shares of known things say little.
    #[error("{of} pictures of known things: at least {LEAST_KNOWN} are needed")]
    FewKnown {
        /// How many there are.
        of: usize,
    },
    /// Hardly anything is answered any more.
    #[error("of {without} right answers {left} are left")]
    FewRight {
        /// Without a threshold.
        without: usize,
        /// With it.
        left: usize,
    },
}

fn share(of: impl Iterator<Item = bool>) -> Share {
    of.fold(Share::default(), |Share { count, of }, is_one| Share {
        count: count + usize::from(is_one),
        of: of + 1,
    })
}

/// Unknown things that are named, known ones that are, and those that are named rightly.
fn shares(trials: &[Trial], threshold: f32) -> [Share; 3] {
    let strangers = trials.iter().filter_map(|t| t.stranger);
    let known = trials.iter().filter_map(|t| t.known);
    [
        share(strangers.map(|(s, _)| s >= threshold)),
        share(known.clone().map(|(s, _)| s >= threshold)),
        share(known.map(|(s, right)| right && s >= threshold)),
    ]
}

fn point(trials: &[Trial], threshold: f32) -> Point {
    let [false_accept, answered, right] =
        shares(trials, threshold).map(|share| share.value().unwrap_or(0.0));
    Point { threshold, false_accept, answered, right }
}

/// A share as an option takes it: not below, three digits.
fn at_least(count: usize, of: usize) -> Option<f64> {
    let share = (1000.0 * count as f64 / of.max(1) as f64).ceil() / 1000.0;
    (share < 1.0).then_some(share)
}

impl Doubt {
    /// What to do about it; `trials` are those that it was found in, and `source` is what was asked.
    pub fn advice(&self, trials: &[Trial], source: Source) -> String {
        let own = source == Source::Gallery;
        match *self {
            Self::NoStrangers if own => {
                "the gallery has one class: add another one, or ask pictures of other things by --query".to_owned()
            }
            Self::NoStrangers => {
                "add pictures of things that the gallery does not have to --query, in folders of any other name"
                    .to_owned()
            }
            Self::FewStrangers { of, needed } => {
                let what = if own { "pictures to the gallery" } else { "of such pictures" };
                let add = format!("add {} or more {what}", needed.saturating_sub(of));
                at_least(1, of)
                    .map_or(add.clone(), |share| format!("{add}, or give --false-accept {share}"))
            }
            Self::FewKnown { of } => {
                let what = if own {
                    "pictures to the gallery, of classes that have one"
                } else {
                    "pictures of the gallery's classes"
                };
                format!("add {} or more {what}", LEAST_KNOWN.saturating_sub(of))
            }
            Self::FewRight { .. } => {
                let works = match workable(trials) {
                    Some(share) => {
                        format!("--false-accept {share} keeps half of them with these pictures")
                    }
                    None => "no --false-accept keeps half of them with these pictures".to_owned(),
                };
                format!(
                    "{works}; more pictures of each class, an extractor trained on such pictures, another extractor \
                     or another --rule tell known things from unknown ones better"
                )
            }
        }
    }
}

/// The least share of named unknown things, in steps of 0.001, at which half of the right answers are left and which
/// these pictures can measure.
pub fn workable(trials: &[Trial]) -> Option<f64> {
    let known = trials.iter().filter_map(|t| t.known);
    let mut right: Vec<f32> = known.filter(|(_, right)| *right).map(|(s, _)| s).collect();
    right.sort_by(|a, b| b.total_cmp(a));
    let threshold = *right.get(right.len().div_ceil(2).checked_sub(1)?)?;
    let named = share(trials.iter().filter_map(|t| t.stranger).map(|(s, _)| s >= threshold));
    at_least(named.count.max(1), named.of)
}

/// The next greater number.
fn above(value: f32) -> f32 {
    value.next_up()
}

/// The least threshold at which no more than a share of unknown things is given a name; `None`
/// without any trial.
pub fn calibrate(trials: &[Trial], false_accept: f64) -> Option<Calibration> {
    let mut strangers: Vec<f32> =
        trials.iter().filter_map(|t| t.stranger).map(|(s, _)| s).collect();
    let known = trials.iter().filter_map(|t| t.known).map(|(s, _)| s);
    let (low, high) = known
        .chain(strangers.iter().copied())
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), s| (low.min(s), high.max(s)));
    if low > high {
        return None;
    }
    strangers.sort_by(|a, b| b.total_cmp(a));
    // `allowed` of them may stay at or above the threshold; the next one must be below it.
    let allowed = (false_accept * strangers.len() as f64).floor() as usize;
    let threshold = strangers.get(allowed).map_or(low, |first_out| above(*first_out));
    let [named, answered, right] = shares(trials, threshold);
    let [.., right_without] = shares(trials, f32::NEG_INFINITY);
    let step = (high - low) / (POINTS - 1) as f32;
    let curve = (0..POINTS).map(|i| point(trials, low + step * i as f32)).collect();
    let pictures = trials.len();
    Some(Calibration { threshold, named, answered, right, right_without, pictures, curve })
}

impl Calibration {
    /// Why the threshold is not worth keeping, where no more than a share of unknown things should be named.
    pub fn doubts(&self, false_accept: f64) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        // Rounding must not ask for one more.
        let needed = (1.0 / false_accept - 1e-6).ceil() as usize;
        match self.named.of {
            0 => doubts.push(Doubt::NoStrangers),
            of if of < needed => doubts.push(Doubt::FewStrangers { of, needed }),
            _ => (),
        }
        if self.right.of < LEAST_KNOWN {
            doubts.push(Doubt::FewKnown { of: self.right.of });
        }
        let (left, without) = (self.right.count, self.right_without.count);
        if 2 * left < without || left == 0 {
            doubts.push(Doubt::FewRight { without, left });
        }
        doubts
    }

    /// Classes that unknown things are mistaken for more often than allowed even above the common
    /// threshold, with the threshold that each needs.
    pub fn stricter_classes(&self, trials: &[Trial], false_accept: f64) -> Vec<(usize, f32)> {
        let classes = trials.iter().filter_map(|t| t.stranger).map(|(_, c)| c).max();
        let mut stricter = Vec::new();
        for class in 0..=classes.unwrap_or_default() {
            let mistaken = trials.iter().filter_map(|t| t.stranger).filter(|(_, c)| *c == class);
            let mut similarities: Vec<f32> = mistaken.map(|(s, _)| s).collect();
            if similarities.len() < LEAST_MISTAKES {
                continue;
            }
            similarities.sort_by(|a, b| b.total_cmp(a));
            let allowed = (false_accept * similarities.len() as f64).floor() as usize;
            let threshold = similarities.get(allowed).map_or(self.threshold, |s| above(*s));
            if threshold > self.threshold {
                stricter.push((class, threshold));
            }
        }
        stricter
    }

    /// The curve as an image: shares over the threshold, the chosen one marked.
    pub fn plot(&self) -> Plot {
        let curve = |name: &str, color, share: fn(&Point) -> f64| Curve {
            name: name.to_owned(),
            color,
            points: self.curve.iter().map(|p| (f64::from(p.threshold), share(p))).collect(),
        };
        let thresholds = self.curve.iter().map(|point| f64::from(point.threshold));
        let threshold = f64::from(self.threshold);
        Plot {
            title: "shares over the least similarity or score of an answer".to_owned(),
            size: [640.0, 360.0],
            background: Some("#fff"),
            x: Axis::over(thresholds, 5, |value| format!("{value:.2}")),
            y: Axis::new([0.0, 1.0], 5, |share| format!("{:.0} %", 100.0 * share)),
            curves: vec![
                curve("known, right", "#2a7", |p| p.right),
                curve("known, answered", "#27c", |p| p.answered),
                curve("unknown, named", "#c33", |p| p.false_accept),
            ],
            mark: Some((threshold, format!("{threshold:.3}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trials() -> impl Strategy<Value = Vec<Trial>> {
        let known = prop::option::of((-1.0_f32..1.0, any::<bool>()));
        let stranger = prop::option::of((-1.0_f32..1.0, 0_usize..4));
        let trial = (known, stranger).prop_map(|(known, stranger)| Trial { known, stranger });
        prop::collection::vec(trial, 0..60)
    }

    #[test]
    fn each_doubt_has_its_advice_and_names_a_rate_that_works() {
        // Ten known things at 0.5 to 0.59; of twenty unknown ones four are above the middle of them.
        let known = (0..10).map(|i| Some((0.5 + 0.01 * i as f32, true)));
        let near = (0..20).map(|i| Some((if i < 4 { 0.8 } else { 0.1 }, 0)));
        let mut trials: Vec<Trial> = known.map(|known| Trial { known, stranger: None }).collect();
        trials.extend(near.map(|stranger| Trial { known: None, stranger }));
        let told = |wanted| -> Vec<String> {
            let doubts = calibrate(&trials, wanted).unwrap().doubts(wanted);
            doubts.iter().map(|doubt| doubt.advice(&trials, Source::Pictures)).collect()
        };
        let few_right = "--false-accept 0.2 keeps half of them with these pictures; ";
        let said = told(0.01);
        assert_eq!(said[0], "add 80 or more of such pictures, or give --false-accept 0.05");
        assert!(said[1].starts_with(few_right), "{said:?}");
        assert!(told(0.1)[0].starts_with(few_right));
        assert_eq!(told(0.2), Vec::<String>::new(), "the rate that is named works");

        for trial in &mut trials {
            trial.stranger = trial.stranger.map(|(_, class)| (0.9, class));
        }
        assert_eq!(workable(&trials), None);
        assert_eq!(workable(&[]), None);
        let few = Doubt::FewKnown { of: 4 };
        assert_eq!(
            few.advice(&trials, Source::Pictures),
            "add 6 or more pictures of the gallery's classes"
        );
        assert_eq!(
            few.advice(&trials, Source::Gallery),
            "add 6 or more pictures to the gallery, of classes that have one"
        );
        let nothing = Doubt::NoStrangers.advice(&trials, Source::Gallery);
        assert!(nothing.starts_with("the gallery has one class: "), "{nothing}");
    }

    proptest! {
        #[test]
        fn the_threshold_is_the_least_that_keeps_the_promise(
            trials in trials(),
            wanted in 0.0_f64..0.5,
        ) {
            let Some(calibration) = calibrate(&trials, wanted) else {
                prop_assert!(trials.iter().all(|t| t.known.is_none() && t.stranger.is_none()));
                return Ok(());
            };
            prop_assert!(calibration.named.value().unwrap_or(0.0) <= wanted);
            let strangers = trials.iter().filter_map(|t| t.stranger).map(|(s, _)| s);
            // The next lower similarity of an unknown thing would break it.
            let lower = strangers.filter(|s| *s < calibration.threshold).fold(f32::NAN, f32::max);
            if !lower.is_nan() {
                prop_assert!(point(&trials, lower).false_accept > wanted);
            }
            prop_assert!(calibration.right.count <= calibration.answered.count);
            prop_assert!(calibration.right.count <= calibration.right_without.count);
            for share in [calibration.named, calibration.right] {
                let [low, high] = share.interval();
                prop_assert!(0.0 <= low && low <= high && high <= 1.0);
                let value = share.value().unwrap_or(low);
                prop_assert!(low <= value + 1e-12 && value <= high + 1e-12);
            }
            for pair in calibration.curve.windows(2) {
                prop_assert!(pair[1].false_accept <= pair[0].false_accept);
                prop_assert!(pair[1].right <= pair[0].right);
            }
            for (_, threshold) in calibration.stricter_classes(&trials, wanted) {
                prop_assert!(threshold > calibration.threshold);
            }
            let svg = calibration.plot().to_svg();
            prop_assert!(roxmltree::Document::parse(&svg).is_ok() && !svg.contains("NaN"), "{svg}");
        }
    }

    #[test]
    fn counts_by_hand() {
        let trial = |known, right, stranger, class| Trial {
            known: Some((known, right)),
            stranger: Some((stranger, class)),
        };
        let trials = [
            trial(0.9, true, 0.5, 0),
            trial(0.8, true, 0.7, 1),
            trial(0.7, false, 0.6, 1),
            trial(0.4, true, 0.3, 1),
        ];
        let half = calibrate(&trials, 0.5).unwrap();
        assert_eq!(half.threshold, above(0.5));
        let of_four = |count| Share { count, of: 4 };
        assert_eq!([half.named, half.answered, half.right], [2, 3, 2].map(of_four));
        assert_eq!(half.right_without, of_four(3));
        assert_eq!(half.stricter_classes(&trials, 0.5), vec![(1, above(0.6))]);
        let none = calibrate(&trials, 0.0).unwrap();
        assert_eq!(
            (none.threshold, none.answered, none.right),
            (above(0.7), of_four(2), of_four(2))
        );
        assert_eq!(calibrate(&[], 0.1), None);
    }

    #[test]
    fn what_is_not_worth_keeping_says_why() {
        let trials = |known: usize, strangers: usize| {
            let known = (0..known)
                .map(|i| Trial { known: Some((0.5 + i as f32 * 1e-4, true)), stranger: None });
            let strangers = (0..strangers)
                .map(|i| Trial { known: None, stranger: Some((0.1 + i as f32 * 1e-4, 0)) });
            known.chain(strangers).collect::<Vec<_>>()
        };
        let doubts = |trials: &[Trial], share| calibrate(trials, share).unwrap().doubts(share);
        assert_eq!(doubts(&trials(10, 100), 0.01), []);
        assert_eq!(doubts(&trials(10, 20), 0.05), []);
        let few = Doubt::FewStrangers { of: 99, needed: 100 };
        assert_eq!(doubts(&trials(10, 99), 0.01), [few]);
        assert_eq!(doubts(&trials(10, 0), 0.01), [Doubt::NoStrangers]);
        assert_eq!(doubts(&trials(9, 100), 0.01), [Doubt::FewKnown { of: 9 }]);
        // Strangers that look like the better half of the known.
        let mut alike = trials(11, 100);
        alike.push(Trial { known: None, stranger: Some((0.500_65, 0)) });
        alike.push(Trial { known: None, stranger: Some((0.500_65, 0)) });
        let few = Doubt::FewRight { without: 11, left: 4 };
        assert_eq!(doubts(&alike, 0.01), [few]);
        assert_eq!(few.to_string(), "of 11 right answers 4 are left");
    }

    #[test]
    fn intervals_are_wilsons() {
        // By the formula, in double precision.
        let [low, high] = Share { count: 5, of: 107 }.interval();
        assert!((low - 0.0201).abs() < 2e-4 && (high - 0.1048).abs() < 2e-4, "{low} {high}");
        let [low, high] = Share { count: 0, of: 100 }.interval();
        assert!(low < 1e-12 && (high - 0.0370).abs() < 1e-4, "{low} {high}");
        assert_eq!(Share::default().interval(), [0.0, 1.0]);
    }
}
