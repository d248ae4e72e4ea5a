//! Which test tells known things from unknown ones best, and from which score on.

use super::probability::{Logistic, curve, logistic};
use super::{Asked, Calibration, Source, Trial};

/// What known things are told from unknown ones by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// The similarity of the best class.
    Similarity,
    /// Its lead over the second class.
    Lead,
    /// Both, weighted as a logistic regression says or by quarters.
    Both,
}

impl Test {
    /// All of them, the plainest first.
    pub const ALL: [Self; 3] = [Self::Similarity, Self::Lead, Self::Both];

    /// Its name in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Similarity => "similarity",
            Self::Lead => "lead",
            Self::Both => "similarity and lead",
        }
    }
}

/// A calibration and what it was chosen for.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// What is kept.
    pub calibration: Calibration,
    /// Least similarity at which no more unknown things are named, where similarity alone tells.
    pub min_similarity: f32,
    /// Of every known thing that is asked: whether it gets its own name.
    pub right: Vec<bool>,
    /// Of every known thing: the probability that a curve gave it which did not see it, and whether it was right.
    /// Empty for too few.
    pub held: Vec<(f32, bool)>,
}

/// The least score at which no more than a share of unknown things is named; `low` where all of them may be.
pub(crate) fn least_score(strangers: impl Iterator<Item = f32>, share: f64, low: f32) -> f32 {
    let mut scores: Vec<f32> = strangers.collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    // So many may stay at or above it; the next one must be below.
    let allowed = (share * scores.len() as f64).floor() as usize;
    scores.get(allowed).map_or(low, |first_out| first_out.next_up())
}

/// Weights of the second class that are tried beside the one of the logistic regression, which weighs all pictures
/// alike although few unknown ones decide.
const WEIGHTS: [f32; 3] = [0.25, 0.5, 0.75];

/// Weights of the second class in the score where both count.
fn weights_of_both(trials: &[Trial]) -> Vec<f32> {
    weight_of_both(trials).into_iter().chain(WEIGHTS).collect()
}

/// The weight that a logistic regression gives it; `None` where similarity or lead says nothing.
fn weight_of_both(trials: &[Trial]) -> Option<f32> {
    let point = |asked: &Asked, target: f64| {
        ([f64::from(asked.similarity), f64::from(asked.lead())], target)
    };
    let right = trials.iter().filter_map(|trial| trial.known).filter(|(_, right)| *right);
    let mut points: Vec<_> = right.map(|(asked, _)| point(&asked, 1.0)).collect();
    points.extend(trials.iter().filter_map(|trial| trial.stranger).map(|s| point(&s, 0.0)));
    let Logistic { slopes: [similarity, lead], .. } = logistic(&points);
    (similarity > 0.0 && lead > 0.0).then(|| (lead / (similarity + lead)) as f32)
}

/// Whether right answers of one way are more than those of another by more than chance: by more than one
/// standard error of the difference, all pictures being the same.
pub(crate) fn is_better(candidate: &[bool], before: &[bool]) -> bool {
    let pairs = || candidate.iter().zip(before);
    let gained = pairs().filter(|(now, then)| **now && !**then).count() as f64;
    let lost = pairs().filter(|(now, then)| !**now && **then).count() as f64;
    gained - lost > (gained + lost).sqrt()
}

/// Which test, threshold and probabilities fit trials, so that at most a share of unknown things is named. By
/// similarity alone unless `test` says otherwise or another one gives more right answers by more than chance.
/// `None` without any answer, or for a share that is not below 1.
pub fn fit(
    trials: &[Trial],
    source: Source,
    false_accept: f64,
    test: Option<Test>,
) -> Option<Fitted> {
    if !(0.0..1.0).contains(&false_accept) {
        return None;
    }
    let weights = Test::ALL.into_iter().filter(|candidate| test.is_none_or(|t| t == *candidate));
    let weights = weights.flat_map(|candidate| match candidate {
        Test::Similarity => vec![0.0],
        Test::Lead => vec![1.0],
        Test::Both => weights_of_both(trials),
    });
    let tried: Vec<Tried> = weights.filter_map(|w| Tried::of(trials, false_accept, w)).collect();
    let fallback = Tried::of(trials, false_accept, 0.0)?;
    let min_similarity = fallback.least;
    let first = tried.first().unwrap_or(&fallback);
    let best = tried.iter().fold(first, |best, tried| {
        let more = tried.count() > best.count() && is_better(&tried.right, &first.right);
        if more { tried } else { best }
    });
    let answers: Vec<(f32, bool)> = (trials.iter().filter_map(|trial| trial.known))
        .map(|(asked, right)| (asked.score(best.lead_weight), right))
        .collect();
    let curve = curve(&answers);
    let calibration = Calibration {
        source,
        asked: trials.len(),
        false_accept,
        lead_weight: best.lead_weight,
        least: best.least,
        probability: curve.knots,
    };
    Some(Fitted { calibration, min_similarity, right: best.right.clone(), held: curve.held })
}

/// What a weight of the second class comes to.
struct Tried {
    lead_weight: f32,
    least: f32,
    right: Vec<bool>,
}

impl Tried {
    fn of(trials: &[Trial], false_accept: f64, lead_weight: f32) -> Option<Self> {
        let score = |asked: &Asked| asked.score(lead_weight);
        let known = trials.iter().filter_map(|trial| trial.known);
        let strangers = trials.iter().filter_map(|trial| trial.stranger).map(|s| score(&s));
        let all = known.clone().map(|(asked, _)| score(&asked)).chain(strangers.clone());
        let low = all.reduce(f32::min)?;
        let least = least_score(strangers, false_accept, low);
        let right = known.map(|(asked, right)| right && score(&asked) >= least).collect();
        Some(Self { lead_weight, least, right })
    }

    fn count(&self) -> usize {
        self.right.iter().filter(|right| **right).count()
    }
}
