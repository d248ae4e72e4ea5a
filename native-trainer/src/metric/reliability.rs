//! Whether probabilities come true: of answers that were said to be sure to 80 %, four of five should be right.

use serde::Serialize;

use authoring::plot::{Axis, Curve, Plot};

/// Parts of the scale from 0 to 1.
const BINS: usize = 10;

/// Answers of about the same probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Answers.
    pub count: usize,
    /// Mean of their probabilities.
    pub said: f64,
    /// Share of them that were right.
    pub right: f64,
}

/// How probabilities came true.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reliability {
    /// Tenths of the scale that have answers, by rising probability.
    pub bins: Vec<Bin>,
    /// How far shares are from what was said, on average over all answers (expected calibration error).
    pub error: f64,
}

impl Reliability {
    /// Of probabilities and whether their answers were right; `None` without any.
    ///
    /// Source: Guo et al., "On calibration of modern neural networks", ICML 2017, §2.
    pub fn of(answers: &[(f32, bool)]) -> Option<Self> {
        let mut sums = [(0_usize, 0.0_f64, 0_usize); BINS];
        for (probability, right) in answers {
            let place = (f64::from(*probability) * BINS as f64) as usize;
            let (count, said, all_right) = &mut sums[place.min(BINS - 1)];
            *count += 1;
            *said += f64::from(*probability);
            *all_right += usize::from(*right);
        }
        let bins: Vec<Bin> = (sums.into_iter())
            .filter(|(count, ..)| *count > 0)
            .map(|(count, said, right)| {
                let all = count as f64;
                Bin { count, said: said / all, right: right as f64 / all }
            })
            .collect();
        let off = |bin: &Bin| bin.count as f64 * (bin.said - bin.right).abs();
        let error = bins.iter().map(off).sum::<f64>() / answers.len().max(1) as f64;
        (!bins.is_empty()).then_some(Self { bins, error })
    }

    /// Shares over probabilities, beside the line on which they would be the same.
    pub fn plot(&self) -> Plot {
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        let even = Curve {
            name: "as said".to_owned(),
            color: "#999",
            points: vec![(0.0, 0.0), (1.0, 1.0)],
        };
        let came = Curve {
            name: format!("right (expected calibration error {:.1} %)", 100.0 * self.error),
            color: "#27c",
            points: self.bins.iter().map(|bin| (bin.said, bin.right)).collect(),
        };
        Plot {
            title: "share of right answers over the probability that was said".to_owned(),
            size: [640.0, 360.0],
            background: Some("#fff"),
            x: Axis::new([0.0, 1.0], 6, percent),
            y: Axis::new([0.0, 1.0], 6, percent),
            curves: vec![even, came],
            mark: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bins_by_hand() {
        let answers = [(0.81, true), (0.89, true), (0.85, false), (0.85, true), (0.1, false)];
        let reliability = Reliability::of(&answers).unwrap();
        assert_eq!(reliability.bins.len(), 2);
        let [low, high] = [reliability.bins[0], reliability.bins[1]];
        assert_eq!((low.count, low.right, high.count, high.right), (1, 0.0, 4, 0.75));
        assert!((high.said - 0.85).abs() < 1e-6);
        assert!((reliability.error - (0.1 + 4.0 * 0.1) / 5.0).abs() < 1e-6);
        assert_eq!(Reliability::of(&[]), None);
    }

    proptest! {
        #[test]
        fn any_answers_make_a_curve(
            answers in prop::collection::vec((0.0_f32..=1.0, any::<bool>()), 1..50),
        ) {
            let reliability = Reliability::of(&answers).unwrap();
            prop_assert!((0.0..=1.0).contains(&reliability.error));
            let counted: usize = reliability.bins.iter().map(|bin| bin.count).sum();
            prop_assert_eq!(counted, answers.len());
            let svg = reliability.plot().to_svg();
            prop_assert!(roxmltree::Document::parse(&svg).is_ok() && !svg.contains("NaN"), "{svg}");
        }
    }
}
