//! Which class is the answer, and which threshold belongs to it.

use clap::{Args, ValueEnum};
use models::gallery::{AnswerRule, Calibration, Gallery, Source, Test};
use serde_json::{Value, json};

use super::{ENTRIES, PICTURES, many};
pub(super) use authoring::adaptation::{rule_name, shown};
use authoring::calibration::Share;

/// Entries that vote by default.
pub(super) const NEIGHBORS: usize = 5;

/// Which class is the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Rule {
    /// That of the most similar entry.
    #[default]
    Nearest,
    /// The one that most of the nearest entries have.
    Vote,
    /// The one whose mean embedding is most similar.
    #[value(alias = "centroid")]
    ClassMean,
}

impl Rule {
    /// Its name in JSON and files.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Vote => "vote",
            Self::ClassMean => "centroid",
        }
    }

    /// Its name as a value of `--rule`.
    pub(super) fn option(self) -> &'static str {
        match self {
            Self::ClassMean => "class-mean",
            rule => rule.kind(),
        }
    }

    /// `neighbors` is the number of entries that vote.
    pub(super) fn answer(self, neighbors: usize) -> AnswerRule {
        match self {
            Self::Nearest => AnswerRule::Nearest,
            Self::Vote => AnswerRule::Vote { neighbors },
            Self::ClassMean => AnswerRule::ClassMean,
        }
    }
}

/// What known things are told from unknown ones by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum TestKind {
    /// The similarity alone, unless another one gives more right answers by more than chance.
    #[default]
    Auto,
    /// The similarity of the best class.
    Similarity,
    /// Its lead over the second class.
    Lead,
    /// Both, weighted by a logistic regression or by quarters.
    Both,
}

impl TestKind {
    /// The test that is asked for, if one is.
    pub(super) fn wanted(self) -> Option<Test> {
        match self {
            Self::Auto => None,
            Self::Similarity => Some(Test::Similarity),
            Self::Lead => Some(Test::Lead),
            Self::Both => Some(Test::Both),
        }
    }
}

/// Which rule is asked for.
#[derive(Debug, Default, Args)]
pub(in crate::command) struct Answer {
    /// Which class is the answer; by default the rule that the gallery's kept threshold was measured with,
    /// else nearest.
    #[arg(long, value_enum)]
    rule: Option<Rule>,
    /// Entries that vote; by default as many as voted then, else 5.
    #[arg(long, alias = "neighbours", value_parser = crate::cli::ranges::count)]
    neighbors: Option<usize>,
}

impl Answer {
    /// Whether a rule is asked for.
    pub(in crate::command) fn is_given(&self) -> bool {
        self.rule.is_some()
    }

    /// The rule for a gallery.
    pub(in crate::command) fn of(&self, gallery: &Gallery) -> AnswerRule {
        let kept = gallery.measured_rule().unwrap_or_default();
        let voted = match kept {
            AnswerRule::Vote { neighbors } => neighbors,
            _ => NEIGHBORS,
        };
        let rule = self.rule.map_or(kept, |rule| rule.answer(voted));
        if self.neighbors.is_some() && !matches!(rule, AnswerRule::Vote { .. }) {
            let rule = rule_name(rule);
            eprintln!("note: --neighbors counts with --rule vote only; the rule is {rule}");
        }
        match (rule, self.neighbors) {
            (AnswerRule::Vote { .. }, Some(neighbors)) => AnswerRule::Vote { neighbors },
            (rule, _) => rule,
        }
    }
}

/// Says that a threshold is not good for a rule, where the gallery keeps one of another rule.
pub(in crate::command) fn other_rule(gallery: &Gallery, rule: AnswerRule) -> Option<String> {
    let measured = gallery.measured_rule().filter(|measured| *measured != rule)?;
    Some(format!(
        "note: the gallery's threshold was measured with rule {}, not with {}; measure it for this one by \
         `magpie gallery calibrate --rule … --write`",
        rule_name(measured),
        rule_name(rule)
    ))
}

/// The threshold that is published and where it comes from, with the rule.
pub(in crate::command) fn threshold_text(
    gallery: &Gallery,
    given: Option<f32>,
    least: f32,
    rule: AnswerRule,
) -> String {
    let calibration = gallery.calibration().filter(|_| given.is_none());
    let from = match (given, gallery.min_similarity()) {
        (Some(_), _) => "given by --min-similarity",
        (None, Some(_)) => match calibration.map(|calibration| calibration.source().0) {
            Some(Source::Gallery) => {
                "measured by `magpie gallery calibrate` from the gallery itself"
            }
            Some(Source::Pictures) => "measured by `magpie gallery calibrate`",
            // One of names, or of an older program.
            None => "kept in the gallery",
        },
        (None, None) => "default, not measured: `magpie gallery calibrate --write` measures one",
    };
    let calibration = calibration.filter(|_| gallery.measured_rule() == Some(rule));
    format!("threshold {} ({from}), rule {}", least_text(calibration, least), rule_name(rule))
}

/// What a gallery keeps of its calibration.
pub(in crate::command) fn kept_text(gallery: &Gallery) -> Option<String> {
    let (least, rule) = (gallery.min_similarity()?, gallery.measured_rule()?);
    let Some(calibration) = gallery.calibration() else {
        return Some(format!("{}, for rule {}", shown(least), rule_name(rule)));
    };
    let share = 100.0 * calibration.false_accept();
    let from = source_text(calibration.source());
    let learned = format!("{from}, {share:.3} % of unknown things named").replace(".000 %", " %");
    let least = least_text(gallery.calibration(), least);
    Some(format!("{least}, measured with rule {} {learned}", rule_name(rule)))
}

/// The one number that decides, and what it is of if that is not the similarity alone.
fn least_text(calibration: Option<&Calibration>, least: f32) -> String {
    let score = |calibration: &Calibration| shown(calibration.least_score());
    match calibration.map(|calibration| (calibration, calibration.test())) {
        None | Some((_, Test::Similarity)) => shown(least),
        Some((calibration, Test::Lead)) => {
            format!("{} of the lead over the second class", score(calibration))
        }
        Some((calibration, Test::Both)) => format!(
            "{} of the similarity less {} of the second class's",
            score(calibration),
            shown(calibration.lead_weight())
        ),
    }
}

/// Why an answer is called unknown. The threshold is told as [`kept_text`] tells it.
pub(super) fn unknown_text(
    gallery: &Gallery,
    answer: &models::gallery::Answer,
    everyones: f32,
) -> String {
    let least = gallery.least_similarity(answer, everyones);
    let own = answer.best().and_then(|best| gallery.classes()[best.class].min_similarity);
    if own == Some(least) {
        return format!("unknown: below the class's own threshold {}", shown(least));
    }
    // The lead decides, too: the similarity that would do depends on the second class.
    let calibration = gallery.calibration().filter(|_| answer.least_similarity == Some(least));
    match calibration.filter(|calibration| calibration.lead_weight() > 0.0) {
        Some(calibration) => format!(
            "unknown: below the threshold {}; beside this second class a similarity of {} would do",
            least_text(Some(calibration), least),
            shown(least)
        ),
        None => format!("unknown: below the threshold {}", shown(least)),
    }
}

/// What a calibration was measured on.
pub(super) fn source_text((source, asked): (Source, usize)) -> String {
    match source {
        Source::Gallery => format!("from the gallery itself ({})", many(asked, ENTRIES)),
        Source::Pictures => format!("from {}", many(asked, PICTURES)),
    }
}

/// What known things are told by, with its numbers.
pub(super) fn test_text(calibration: &Calibration) -> String {
    let (name, least) = (calibration.test().name(), shown(calibration.least_score()));
    match calibration.test() {
        Test::Similarity => format!("known by {name}, from {least} on"),
        Test::Lead => format!("known by the {name} over the second class, from {least} on"),
        Test::Both => {
            let weight = shown(calibration.lead_weight());
            format!(
                "known by {name}: similarity less {weight} of the second class's, from {least} on"
            )
        }
    }
}

/// How sure an answer is, in words; nothing where the gallery cannot say so.
pub(in crate::command) fn sure(probability: Option<f32>) -> Option<String> {
    Some(format!("{:.0} % sure", 100.0 * probability?))
}

/// Says that a kept threshold was measured before the gallery changed; `None` without one.
pub(super) fn stale(gallery: &Gallery) -> Option<String> {
    let least = gallery.min_similarity()?;
    let is_measured = gallery.calibration().is_some();
    let when = if is_measured { "was measured before" } else { "is older than" };
    Some(format!(
        "note: the threshold {} {when} this change; measure it again by `magpie gallery calibrate --write`",
        least_text(gallery.calibration(), least)
    ))
}

/// A share with its counts and interval, for machines.
pub(super) fn counted(share: Share) -> Value {
    json!({"count": share.count, "of": share.of, "interval": share.interval()})
}

/// The same as a sentence shows it.
pub(super) fn told(share: Share) -> String {
    let Share { count, of } = share;
    let Some(value) = share.value() else { return "not measured: there are none".to_owned() };
    let [low, high] = share.interval().map(|bound| 100.0 * bound);
    format!("{:.2} % ({count} of {of}; {low:.1} to {high:.1} %)", 100.0 * value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_gallery_keeps_is_the_default() {
        let mut gallery = Gallery::new(4, "m");
        let asked = |rule, neighbors| Answer { rule, neighbors };
        assert_eq!(asked(None, None).of(&gallery), AnswerRule::Nearest);
        let five = AnswerRule::Vote { neighbors: 5 };
        assert_eq!(asked(Some(Rule::Vote), None).of(&gallery), five);
        gallery.set_measured_rule(AnswerRule::ClassMean);
        assert_eq!(asked(None, None).of(&gallery), AnswerRule::Nearest, "without a threshold");
        gallery.set_min_similarity(Some(0.75)).unwrap();
        assert_eq!(asked(None, Some(9)).of(&gallery), AnswerRule::ClassMean);
        assert_eq!(asked(Some(Rule::Nearest), None).of(&gallery), AnswerRule::Nearest);
        let told = other_rule(&gallery, AnswerRule::Nearest).unwrap();
        assert!(told.contains("measured with rule class-mean, not with nearest"), "{told}");
        assert_eq!(other_rule(&gallery, AnswerRule::ClassMean), None);
        gallery.set_measured_rule(AnswerRule::Vote { neighbors: 7 });
        assert_eq!(asked(None, None).of(&gallery), AnswerRule::Vote { neighbors: 7 });
        let nine = AnswerRule::Vote { neighbors: 9 };
        assert_eq!(asked(None, Some(9)).of(&gallery), nine);
    }

    #[test]
    fn cosines_are_shown_without_zeros_behind() {
        for (cosine, text) in [
            (0.5, "0.5"),
            (0.806_49, "0.8065"),
            (1.0, "1"),
            (-0.25, "-0.25"),
            (0.0, "0"),
            (1e-30, "1e-30"),
        ] {
            assert_eq!(shown(cosine), text);
        }
    }
}
