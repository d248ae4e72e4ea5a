//! What a gallery has learned about its own answers: when a thing is known, and how sure that is.
//!
//! The score of an answer is the similarity of its best class less a share of the second class's, so that one
//! number between 0 and 1, `lead_weight`, covers three tests: by similarity (0), by the lead of the best class
//! over the second (1), and by both. Everything that is stored is a sum or a product of 64-bit numbers in a
//! fixed order, so that the same trials give the same bytes on every machine.

mod elementary;
mod fit;
mod probability;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub(crate) use fit::is_better;
pub use fit::{Fitted, Test, fit};

/// Most knots of a curve of probabilities.
pub const MAX_KNOTS: usize = 32;

/// What was answered to a query, as far as a test needs it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    /// The best class.
    pub class: usize,
    /// Its similarity.
    pub similarity: f32,
    /// Similarity of the most similar other class; 0 where there is none.
    pub second: f32,
}

impl Asked {
    /// How far the best class is ahead of the others.
    pub fn lead(&self) -> f32 {
        self.similarity - self.second
    }

    /// The number that a threshold is laid on.
    pub fn score(&self, lead_weight: f32) -> f32 {
        self.similarity - lead_weight * self.second
    }
}

/// One picture, asked with its class in the gallery and as if its class were not there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// What was answered and whether it was right; `None` where the gallery has nothing else of the class.
    pub known: Option<(Asked, bool)>,
    /// What was answered by other classes; `None` where there is none.
    pub stranger: Option<Asked>,
}

/// What answers were measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The gallery's own entries, each asked without its picture.
    Gallery,
    /// Pictures that the gallery was not built from.
    Pictures,
}

/// When an answer is believed, and how sure it is; measured for one gallery and one answer rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Calibration {
    source: Source,
    asked: usize,
    false_accept: f64,
    lead_weight: f32,
    least: f32,
    probability: Vec<[f32; 2]>,
}

/// The same as files have it, unchecked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    source: Source,
    asked: usize,
    false_accept: f64,
    lead_weight: f32,
    least: f32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    probability: Vec<[f32; 2]>,
}

impl From<Calibration> for Stored {
    fn from(calibration: Calibration) -> Self {
        let Calibration { source, asked, false_accept, lead_weight, least, probability } =
            calibration;
        Self { source, asked, false_accept, lead_weight, least, probability }
    }
}

impl TryFrom<Stored> for Calibration {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let Stored { source, asked, false_accept, lead_weight, least, probability } = stored;
        if !(0.0..1.0).contains(&false_accept) {
            return Err(format!("calibration: a share of {false_accept}"));
        }
        if !(0.0..=1.0).contains(&lead_weight) {
            return Err(format!("calibration: a lead weight of {lead_weight}"));
        }
        // A cosine less at most another one.
        if !(-2.5..=2.5).contains(&least) {
            return Err(format!("calibration: a least score of {least}"));
        }
        if probability.len() > MAX_KNOTS {
            return Err(format!("calibration: {} knots", probability.len()));
        }
        let in_range =
            |[score, share]: &[f32; 2]| (-2.5..=2.5).contains(score) && (0.0..=1.0).contains(share);
        let rises = |pair: &[[f32; 2]]| pair[0][0] < pair[1][0] && pair[0][1] <= pair[1][1];
        if !probability.iter().all(in_range) || !probability.windows(2).all(rises) {
            return Err("calibration: its knots do not rise".to_owned());
        }
        Ok(Self { source, asked, false_accept, lead_weight, least, probability })
    }
}

impl Calibration {
    /// What it was measured on, and how many pictures these were.
    pub fn source(&self) -> (Source, usize) {
        (self.source, self.asked)
    }

    /// The share of unknown things that may get a name.
    pub fn false_accept(&self) -> f64 {
        self.false_accept
    }

    /// The share of the second class's similarity that is taken off the best one's, `0..=1`.
    pub fn lead_weight(&self) -> f32 {
        self.lead_weight
    }

    /// What known things are told from unknown ones by.
    pub fn test(&self) -> Test {
        match self.lead_weight {
            0.0 => Test::Similarity,
            1.0 => Test::Lead,
            _ => Test::Both,
        }
    }

    /// Least score of an answer about a known thing.
    pub fn least_score(&self) -> f32 {
        self.least
    }

    /// Whether an answer is about a known thing.
    pub fn is_known(&self, asked: &Asked) -> bool {
        asked.score(self.lead_weight) >= self.least
    }

    /// The similarity from which on an answer would be believed, the other classes being as they are.
    pub fn least_similarity(&self, asked: &Asked) -> f32 {
        self.least + self.lead_weight * asked.second
    }

    /// Scores and probabilities, both rising; straight lines in between.
    pub fn knots(&self) -> &[[f32; 2]] {
        &self.probability
    }

    /// How probable it is that the best class is the right one, of a thing that the gallery has, `0..=1`. `None`
    /// where too few pictures were asked to say so.
    pub fn probability(&self, asked: &Asked) -> Option<f32> {
        probability::at(&self.probability, asked.score(self.lead_weight))
    }
}
