//! What a gallery learned, for an owner who reads it in a page: sentences without columns, and without commands.

use models::gallery::{Candidate, LeftOut};

use super::{MapOutcome, Outcome, ThresholdOutcome, rule_name, shown};
use crate::calibration::{Doubt, LEAST_KNOWN, Share};
use crate::words::counted;

impl Outcome {
    /// What was learned, what is kept of it, and why the rest is not: sentences for one who knows no command.
    /// [`Self::lines`] are for a terminal.
    pub fn sentences(&self) -> Vec<String> {
        let mut told = of_map(&self.map, self.kept_map.as_deref());
        told.extend(self.dropped.text().map(|text| sentence(&text)));
        told.extend(of_threshold(&self.threshold));
        told
    }
}

/// A sentence of what is said in the middle of one.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}

fn of_map(map: &MapOutcome, kept: Option<&str>) -> Vec<String> {
    match map {
        MapOutcome::NotAsked => Vec::new(),
        MapOutcome::Kept(chosen) => {
            let mut told = tried(chosen);
            told.extend(kept.map(|text| format!("The map is kept: {text}.")));
            told
        }
        MapOutcome::NoHelp(best) => {
            let mut told = best.as_ref().map(tried).unwrap_or_default();
            told.push(
                "No map helps: more of the pictures that are left out would have to be recognized with it, by more \
                 than two standard errors, and not fewer of the classes that are."
                    .to_owned(),
            );
            let stays =
                if kept.is_some() { "The map of before stays." } else { "The gallery has none." };
            told.push(stays.to_owned());
            told
        }
        MapOutcome::TooFew { classes, several } => vec![format!(
            "No map is learned: half of the classes, and four at least, need two pictures or more. Here {several} of \
             {classes} have them."
        )],
        MapOutcome::AllEqual => vec![
            "No map is learned: all entries are the same, so that nothing tells them apart."
                .to_owned(),
        ],
    }
}

/// What leaving out says of a map.
fn tried(map: &Candidate) -> Vec<String> {
    let tried = |what: &str, measured: &LeftOut| {
        let [before, after] = measured.shares().map(|share| 100.0 * share);
        format!(
            "Of {} {what}, {before:.1} % are recognized without the map and {after:.1} % with it: {:+.1} ± {:.1} points.",
            counted(measured.pictures, "picture", "pictures"),
            after - before,
            100.0 * measured.standard_error
        )
    };
    vec![
        tried("that the map has not seen", &map.pictures),
        tried("of classes that the map has not seen", &map.classes),
    ]
}

fn of_threshold(threshold: &ThresholdOutcome) -> Vec<String> {
    match threshold {
        ThresholdOutcome::NotAsked => Vec::new(),
        ThresholdOutcome::Stays(least) => vec![format!(
            "The threshold {} stays: the gallery itself has not measured it.",
            shown(*least)
        )],
        ThresholdOutcome::NoAnswer => {
            vec!["No threshold is measured: that takes two classes or more.".to_owned()]
        }
        ThresholdOutcome::Kept(measured) => vec![
            format!(
                "The threshold is measured with {}, by the answer rule {}.",
                counted(measured.trials.len(), "entry", "entries"),
                rule_name(measured.rule)
            ),
            of_things([measured.right, measured.best_right], measured.named),
        ],
        ThresholdOutcome::Doubtful(_, doubts) => {
            let told = |doubt: &Doubt| format!("No threshold is kept: {doubt}. {}", advice(doubt));
            doubts.iter().map(told).collect()
        }
    }
}

/// Of known things those that get their own name, with and without a threshold; of unknown things those that get one.
fn of_things([right, best_right]: [Share; 2], named: Share) -> String {
    let unknown = if named.of == 0 {
        "there were no unknown things to measure with".to_owned()
    } else {
        format!("of unknown things {} get a name", percent(named))
    };
    format!(
        "Of known things {} get their own name ({} without a threshold), {unknown}.",
        percent(right),
        percent(best_right)
    )
}

/// A share in percent with its standard error.
pub(super) fn percent(share: Share) -> String {
    match share.value() {
        Some(value) => format!("{:.1} ± {:.1} %", 100.0 * value, 100.0 * error(share)),
        None => "not measured".to_owned(),
    }
}

/// Standard error of a share.
fn error(share: Share) -> f64 {
    let value = share.value().unwrap_or_default();
    (value * (1.0 - value) / share.of.max(1) as f64).sqrt()
}

/// What an owner does about a doubt, who has the gallery's own pictures alone.
fn advice(doubt: &Doubt) -> String {
    match *doubt {
        Doubt::NoStrangers => "Add another class.".to_owned(),
        Doubt::FewStrangers { of, needed } => {
            format!("Add {} or more pictures.", needed.saturating_sub(of))
        }
        Doubt::FewKnown { of } => {
            let missing = LEAST_KNOWN.saturating_sub(of);
            format!("Add {missing} or more pictures of classes that have one.")
        }
        Doubt::FewRight { .. } => {
            "More pictures of each class tell known things from unknown ones better.".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use models::gallery::{AdaptationKind, Candidate, LeftOut};

    use super::super::{Dropped, MapOutcome, Outcome, ThresholdOutcome};
    use super::{Share, of_things};

    fn told(map: MapOutcome, threshold: ThresholdOutcome, kept: Option<&str>) -> Vec<String> {
        let outcome = Outcome {
            map,
            threshold,
            dropped: Dropped { threshold: Some(0.75), classes: 1 },
            folds: None,
            map_took: std::time::Duration::ZERO,
            took: std::time::Duration::ZERO,
            kept_map: kept.map(str::to_owned),
        };
        outcome.sentences()
    }

    #[test]
    fn what_was_not_measured_is_said() {
        let [some, none] = [Share { count: 3, of: 4 }, Share { count: 0, of: 0 }];
        let told = of_things([some, some], some);
        assert!(told.ends_with(", of unknown things 75.0 ± 21.7 % get a name."), "{told}");
        let told = of_things([some, some], none);
        let share = "75.0 ± 21.7 %";
        assert_eq!(
            told,
            format!(
                "Of known things {share} get their own name ({share} without a threshold), there were no unknown things \
                 to measure with."
            )
        );
    }

    #[test]
    fn an_owner_reads_sentences() {
        let pictures = LeftOut { pictures: 200, before: 150, after: 170, standard_error: 0.02 };
        let classes = LeftOut { pictures: 1, before: 1, after: 1, standard_error: 0.0 };
        let kind = AdaptationKind::Whitening;
        let chosen = Candidate { kind, strength: 0.1, pictures, classes };
        assert_eq!(
            told(MapOutcome::Kept(chosen), ThresholdOutcome::Stays(0.625), Some("whitening")),
            [
                "Of 200 pictures that the map has not seen, 75.0 % are recognized without the map and 85.0 % with it: \
                 +10.0 ± 2.0 points.",
                "Of 1 picture of classes that the map has not seen, 100.0 % are recognized without the map and 100.0 % \
                 with it: +0.0 ± 0.0 points.",
                "The map is kept: whitening.",
                "Threshold 0.75 and the thresholds of 1 class are dropped: cosines are others now.",
                "The threshold 0.625 stays: the gallery itself has not measured it.",
            ]
        );
        let few = MapOutcome::TooFew { classes: 9, several: 0 };
        for map in [MapOutcome::NoHelp(None), few, MapOutcome::AllEqual] {
            for sentence in told(map, ThresholdOutcome::NoAnswer, None) {
                let is_sentence =
                    sentence.ends_with('.') && sentence.starts_with(char::is_uppercase);
                assert!(
                    is_sentence && !sentence.contains("  ") && !sentence.contains('`'),
                    "{sentence}"
                );
            }
        }
    }
}
