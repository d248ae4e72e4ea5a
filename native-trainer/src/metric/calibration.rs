//! From which similarity on an answer is believed.
//!
//! Open-set recognition: a threshold lets through answers about known things (true accepts) and
//! about unknown ones (false accepts). The terms are those of ISO/IEC 19795-1.

use std::fmt::Write as _;

use serde::Serialize;

/// Points of a curve.
const POINTS: usize = 101;
/// Unknown pictures mistaken for a class from which the class may have its own threshold.
const LEAST_MISTAKES: usize = 3;

/// One picture, asked with its class in the gallery and without.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Best similarity and whether its class was right; `None` where the class is not there at all.
    pub known: Option<(f32, bool)>,
    /// Best similarity among other classes, and that class; `None` where there is no other.
    pub stranger: Option<(f32, usize)>,
}

/// What a threshold does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Least similarity of an answer.
    pub threshold: f32,
    /// Share of unknown things that are given a name.
    pub false_accept: f64,
    /// Share of known things that are given a name.
    pub answered: f64,
    /// Share of known things that are given their own name.
    pub right: f64,
}

/// A threshold and what it does.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// Least similarity of an answer.
    pub threshold: f32,
    /// Share of unknown things that are given a name at it.
    pub false_accept: f64,
    /// Share of known things that are given a name at it.
    pub answered: f64,
    /// Share of known things that are given their own name at it.
    pub right: f64,
    /// Pictures asked.
    pub pictures: usize,
    /// The same for thresholds over the whole range.
    pub curve: Vec<Point>,
}

fn share(count: usize, of: usize) -> f64 {
    if of == 0 { 0.0 } else { count as f64 / of as f64 }
}

fn point(trials: &[Trial], threshold: f32) -> Point {
    let strangers: Vec<f32> = trials.iter().filter_map(|t| t.stranger).map(|(s, _)| s).collect();
    let known: Vec<(f32, bool)> = trials.iter().filter_map(|t| t.known).collect();
    let named = known.iter().filter(|(s, _)| *s >= threshold);
    Point {
        threshold,
        false_accept: share(strangers.iter().filter(|s| **s >= threshold).count(), strangers.len()),
        answered: share(named.clone().count(), known.len()),
        right: share(named.filter(|(_, right)| *right).count(), known.len()),
    }
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
    // So many may stay at or above the threshold; the next one must be below it.
    let allowed = (false_accept * strangers.len() as f64).floor() as usize;
    let threshold = strangers.get(allowed).map_or(low, |first_out| above(*first_out));
    let Point { false_accept, answered, right, .. } = point(trials, threshold);
    let step = (high - low) / (POINTS - 1) as f32;
    let curve = (0..POINTS).map(|i| point(trials, low + step * i as f32)).collect();
    Some(Calibration { threshold, false_accept, answered, right, pictures: trials.len(), curve })
}

impl Calibration {
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

    /// The curve as a picture: shares over the threshold, the chosen one marked.
    pub fn svg(&self) -> String {
        const W: f64 = 640.0;
        const H: f64 = 400.0;
        const LEFT: f64 = 60.0;
        const TOP: f64 = 30.0;
        let first = self.curve.first().map_or(0.0, |p| f64::from(p.threshold));
        let last = self.curve.last().map_or(1.0, |p| f64::from(p.threshold));
        let x = |t: f64| LEFT + (t - first) / (last - first).max(1e-9) * (W - LEFT - 20.0);
        let y = |share: f64| TOP + (1.0 - share) * (H - TOP - 60.0);
        let line = |colour: &str, value: fn(&Point) -> f64| {
            let points = self.curve.iter().fold(String::new(), |mut text, p| {
                let _ = write!(text, "{:.1},{:.1} ", x(f64::from(p.threshold)), y(value(p)));
                text
            });
            let points = points.trim_end();
            format!(
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{points}\"/>\n"
            )
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {W} {H}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"{W}\" height=\"{H}\" \
             fill=\"#fff\"/>\n"
        );
        for step in 0..=4 {
            let share = f64::from(step) / 4.0;
            let _ = writeln!(
                svg,
                "<path stroke=\"#ddd\" d=\"M{LEFT} {0:.1}H{1}\"/><text x=\"{2}\" y=\"{3:.1}\" \
                 text-anchor=\"end\">{4:.0} %</text>",
                y(share),
                W - 20.0,
                LEFT - 6.0,
                y(share) + 4.0,
                100.0 * share
            );
            let at = first + share * (last - first);
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{at:.2}</text>",
                x(at),
                H - 42.0
            );
        }
        svg.push_str(&line("#2a7", |p| p.right));
        svg.push_str(&line("#27c", |p| p.answered));
        svg.push_str(&line("#c33", |p| p.false_accept));
        let threshold = f64::from(self.threshold);
        let _ = writeln!(
            svg,
            "<path stroke=\"#000\" stroke-dasharray=\"4 3\" d=\"M{0:.1} {TOP}V{1:.1}\"/>\
             <text x=\"{0:.1}\" y=\"{2}\" text-anchor=\"middle\">{threshold:.3}</text>",
            x(threshold),
            y(0.0),
            TOP - 8.0
        );
        for (place, (colour, name)) in
            [("#2a7", "known, right"), ("#27c", "known, answered"), ("#c33", "unknown, named")]
                .into_iter()
                .enumerate()
        {
            let left = LEFT + 170.0 * place as f64;
            let _ = writeln!(
                svg,
                "<rect x=\"{left}\" y=\"{0}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
                 <text x=\"{1}\" y=\"{2}\">{name}</text>",
                H - 24.0,
                left + 18.0,
                H - 13.0
            );
        }
        svg.push_str("</svg>\n");
        svg
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
            prop_assert!(calibration.false_accept <= wanted);
            let strangers = trials.iter().filter_map(|t| t.stranger).map(|(s, _)| s);
            // The next lower similarity of an unknown thing would break it.
            let lower = strangers.filter(|s| *s < calibration.threshold).fold(f32::NAN, f32::max);
            if !lower.is_nan() {
                prop_assert!(point(&trials, lower).false_accept > wanted);
            }
            prop_assert!(calibration.right <= calibration.answered);
            for pair in calibration.curve.windows(2) {
                prop_assert!(pair[1].false_accept <= pair[0].false_accept);
                prop_assert!(pair[1].right <= pair[0].right);
            }
            for (_, threshold) in calibration.stricter_classes(&trials, wanted) {
                prop_assert!(threshold > calibration.threshold);
            }
            prop_assert!(roxmltree::Document::parse(&calibration.svg()).is_ok());
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
        assert_eq!((half.false_accept, half.answered, half.right), (0.5, 0.75, 0.5));
        assert_eq!(half.stricter_classes(&trials, 0.5), vec![(1, above(0.6))]);
        let none = calibrate(&trials, 0.0).unwrap();
        assert_eq!((none.threshold, none.answered, none.right), (above(0.7), 0.5, 0.5));
        assert_eq!(calibrate(&[], 0.1), None);
    }
}
