//! What `magpie site` prints at its end.

use std::time::Duration;

use models::gallery::Candidate;
use serde_json::json;

use super::super::gallery::{Wanted, kept_text};
use super::beside::Beside;
use super::{Arguments, Outcome, Written};
use crate::terminal::counted;
use authoring::adaptation::MapOutcome;
use authoring::quality::Quality;

/// Sentences of advice that are printed; the report has all.
const ADVICE: usize = 3;

impl Arguments {
    /// Prints what came of the photographs.
    pub(super) fn say(
        &self,
        outcome: &Outcome,
        quality: &Quality,
        wanted: &Wanted,
        beside: &Beside,
        took: Duration,
    ) {
        let Outcome { gallery, learned, added, removed, embedded, known, unusable, .. } = outcome;
        let has_report = self.report == Written::Auto;
        let left_out = added.contents.iter().filter(|content| content.is_none()).count();
        let adapted = matches!(learned.map, MapOutcome::Kept(_));
        if self.json {
            let [first, fifth] = [0, 1].map(|of| quality.recall(of));
            let open = quality.open.map(|open| {
                json!({"right": open.right.value(), "wrong": open.wrong.value(),
                       "unknown_named": open.named.value()})
            });
            let advice: Vec<&str> = quality.advice.iter().map(|(_, text)| text.as_str()).collect();
            println!(
                "{}",
                json!({
                    "site": self.out, "gallery": beside.gallery,
                    "report": has_report.then_some(&beside.report),
                    "classes": gallery.classes().len(), "pictures": quality.photos,
                    "embedded": embedded, "known": known, "removed": removed, "left_out": left_out,
                    "crop": gallery.crop(), "adapted": adapted,
                    "rule": gallery.measured_rule(), "min_similarity": gallery.min_similarity(),
                    "recall_at_1": first.map(|[rate, _]| rate / 100.0),
                    "recall_at_1_error": first.map(|[_, error]| error / 100.0),
                    "recall_at_5": fifth.map(|[rate, _]| rate / 100.0),
                    "recall_at_5_error": fifth.map(|[_, error]| error / 100.0),
                    "open": open, "mistaken": quality.mistaken.len(),
                    "suspects": quality.suspects.len(), "doubles": quality.doubles.len(),
                    "advice": advice, "seconds": took.as_secs_f64(),
                })
            );
            return;
        }
        let gone = if *removed > 0 { format!(", {removed} gone") } else { String::new() };
        let again = match added.contents.len() - left_out - embedded - known {
            0 => String::new(),
            some => format!(", {some} the same as others"),
        };
        println!(
            "{}, {}: {embedded} embedded, {known} known from before{again}{gone}{}",
            counted(gallery.classes().len(), "class", "classes"),
            counted(quality.photos, "picture", "pictures"),
            wanted.left_out_text(unusable)
        );
        match (quality.recall(0), quality.recall(1)) {
            _ if gallery.classes().len() == 1 => {
                println!(
                    "there is one class: everything gets its name until there is a second one"
                );
            }
            (Some([first, error]), Some([fifth, other])) => println!(
                "named rightly, each picture asked without itself: {first:.1} ± {error:.1} % at the first answer, \
                 {fifth:.1} ± {other:.1} % among five{}",
                if adapted { "; adapted" } else { "" }
            ),
            _ => println!("no class has two different pictures: how good it is cannot be measured"),
        }
        if let Some(text) = map_text(&learned.map, outcome.stays) {
            println!("{text}");
        }
        for doubt in &quality.doubts {
            println!("no threshold is kept: {doubt}");
        }
        if let Some(kept) = kept_text(gallery).filter(|_| outcome.stays) {
            println!("threshold kept: {kept}; --calibrate always measures one on these pictures");
        }
        if let Some(open) = quality.open {
            let percent = |share: Option<f64>| share.map_or(0.0, |share| 100.0 * share);
            println!(
                "at the threshold: {:.1} % of known things named rightly, {:.1} % wrongly; {:.1} % of unknown things named",
                percent(open.right.value()),
                percent(open.wrong.value()),
                percent(open.named.value())
            );
        }
        for (_, text) in quality.advice.iter().take(ADVICE) {
            println!("  {text}");
        }
        let more = quality.advice.len().saturating_sub(ADVICE);
        if more > 0 && has_report {
            println!("  {more} more in the report");
        }
        if has_report {
            println!("report  {}", beside.report.display());
        }
        println!("site    {} ({:.1} s)", self.out.display(), took.as_secs_f64());
        println!("show it by: magpie serve {}", self.out.display());
    }
}

/// What became of the map, in a sentence; nothing if none was to be learned.
fn map_text(map: &MapOutcome, stays: bool) -> Option<String> {
    let percent = |shares: [f64; 2]| {
        let [before, after] = shares.map(|share| 100.0 * share);
        format!("{before:.1} → {after:.1} %")
    };
    let rows = |candidate: &Candidate| {
        let [pictures, classes] =
            [&candidate.pictures, &candidate.classes].map(|measured| percent(measured.shares()));
        format!("recall@1 {pictures} with pictures left out, {classes} with classes left out")
    };
    Some(match map {
        MapOutcome::NotAsked if stays => {
            "adapted as before: the threshold that stays was measured so".to_owned()
        }
        MapOutcome::Kept(candidate) => format!("adapted: {}", rows(candidate)),
        MapOutcome::NoHelp(Some(candidate)) => format!(
            "not adapted: pictures left out have to gain more than two standard errors, and classes left out not to \
             lose more than two; {}",
            rows(candidate)
        ),
        MapOutcome::NoHelp(None) => "not adapted: no map helps".to_owned(),
        MapOutcome::TooFew { classes, several } => format!(
            "not adapted: that needs two pictures or more of half of the classes, and of four at least; here \
             {several} of {classes} have them"
        ),
        MapOutcome::AllEqual => "not adapted: all entries are the same".to_owned(),
        _ => return None,
    })
}
