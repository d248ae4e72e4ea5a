//! Why a graph could not be taken over.

use std::fmt;

use thiserror::Error;

use super::model::OPERATOR_SETS;

/// Kinds of nodes that are listed; more fill a terminal.
const MOST_SHOWN: usize = 40;

/// Why a graph could not be taken over.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// It cannot be read.
    #[error("{reason}; export it again")]
    Damaged {
        /// What is wrong.
        reason: String,
    },
    /// It is written in a set of operators that is not read.
    #[error(
        "it is written in operator set {got}; this program reads {} to {}: export it with opset_version=17",
        OPERATOR_SETS.start(),
        OPERATOR_SETS.end()
    )]
    OperatorSet {
        /// In the file.
        got: i64,
    },
    /// It asks for more memory or time than a network takes.
    #[error("{what} is more than any network here takes; export a smaller one")]
    TooLarge {
        /// What is too large.
        what: String,
    },
    /// It has more steps, channels or pixels than a network may have here.
    #[error("{0}; export a smaller network")]
    Limit(#[from] models::LimitError),
    /// Its input is no image.
    #[error("its input cannot be given an image: {reason}")]
    Input {
        /// What it is.
        reason: String,
    },
    /// There is no such output.
    #[error("{reason}; --output takes the name of a value of the graph that is a vector")]
    Output {
        /// What is missing.
        reason: String,
    },
    /// It is no detector of its description.
    #[error(
        "{reason}; a file of JSON describes another detector (docs/onnx.md), as --detector FILE.json"
    )]
    Detector {
        /// What does not fit.
        reason: String,
    },
    /// Nodes that have no step here, all of them.
    #[error("it holds what no step here does:{}", listed(.0))]
    Refused(Vec<Refused>),
    /// The steps that came of it do not compute what the graph does.
    #[error(
        "what came of it differs from {from} by {worst} where the largest value is {largest}; nothing was written: \
         please report the file"
    )]
    Differs {
        /// What with.
        from: String,
        /// The largest difference.
        worst: f32,
        /// The largest value.
        largest: f32,
    },
    /// A reference cannot be compared with.
    #[error(
        "{reason}; --check takes an input and its output as NumPy's .npy files of 32-bit floats"
    )]
    Reference {
        /// What is wrong.
        reason: String,
    },
}

/// Nodes of an operator that have no step here, for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The operator.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// How often.
    pub count: usize,
    /// The first node's name.
    pub first: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operator, reason, count, first } = self;
        let (operator, first, reason) = (shown(operator), shown(first), shown(reason));
        write!(f, "{operator} ({count} ×, first {first}): {reason}")
    }
}

/// What a file says, without what would steer a terminal, and no longer than a few lines.
fn shown(text: &str) -> String {
    text.chars().take(400).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn listed(refused: &[Refused]) -> String {
    if refused.is_empty() {
        return "\n  an answer that no node makes of the image".to_owned();
    }
    let shown = refused.iter().take(MOST_SHOWN).map(|refused| format!("\n  {refused}"));
    let more = refused.len().saturating_sub(MOST_SHOWN);
    let more = (more > 0).then(|| format!("\n  and {more} more kinds"));
    shown.chain(more).collect()
}

/// Equal operators and reasons as one.
pub(super) fn counted(all: Vec<Refused>) -> Vec<Refused> {
    let mut counted: Vec<Refused> = Vec::new();
    for refused in all {
        let is_it = |known: &&mut Refused| {
            known.operator == refused.operator && known.reason == refused.reason
        };
        match counted.iter_mut().find(is_it) {
            Some(known) => known.count += refused.count,
            None => counted.push(refused),
        }
    }
    counted
}

impl OnnxError {
    pub(super) fn damaged(reason: String) -> Self {
        Self::Damaged { reason }
    }
}
