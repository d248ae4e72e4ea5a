//! How entries become an answer.

use serde::{Deserialize, Serialize};

use crate::limits::MAX_ENTRIES;

/// Which class a query is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum AnswerRule {
    /// That of the most similar entry.
    #[default]
    Nearest,
    /// The one that most of the nearest entries have, each counted by its cosine; steadier where
    /// some pictures are labeled wrongly.
    Vote {
        /// Entries that are asked, at least 1.
        #[serde(rename = "neighbours", alias = "neighbors")]
        neighbors: usize,
    },
    /// The one whose mean embedding is most similar; steadier where a class has many pictures that
    /// look alike.
    // `centroid` is its name in files.
    #[serde(rename = "centroid", alias = "class_mean")]
    ClassMean,
}

impl AnswerRule {
    /// The same with a number of voting entries that a gallery can have.
    pub(crate) fn in_range(self) -> Self {
        match self {
            Self::Vote { neighbors } => Self::Vote { neighbors: neighbors.clamp(1, MAX_ENTRIES) },
            rule => rule,
        }
    }

    /// Fails for a number of voting entries that no gallery has, in a sentence.
    pub(crate) fn check(self) -> Result<(), String> {
        match self {
            Self::Vote { neighbors } if self != self.in_range() => {
                Err(format!("header: a vote of {neighbors} entries"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it is the default, which files do not mention.
    pub fn is_nearest(&self) -> bool {
        *self == Self::Nearest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_files_stay_and_the_fields_names_are_read() {
        let written = |rule: AnswerRule| serde_json::to_string(&rule).unwrap();
        let five = AnswerRule::Vote { neighbors: 5 };
        assert_eq!(written(five), r#"{"kind":"vote","neighbours":5}"#);
        assert_eq!(written(AnswerRule::ClassMean), r#"{"kind":"centroid"}"#);
        for (text, rule) in [
            (r#"{"kind":"vote","neighbours":5}"#, five),
            (r#"{"kind":"vote","neighbors":5}"#, five),
            (r#"{"kind":"centroid"}"#, AnswerRule::ClassMean),
            (r#"{"kind":"class_mean"}"#, AnswerRule::ClassMean),
        ] {
            assert_eq!(serde_json::from_str::<AnswerRule>(text).unwrap(), rule, "{text}");
        }
    }
}
