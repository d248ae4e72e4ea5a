//! What would help a gallery most, in sentences.

use std::collections::BTreeSet;

use models::gallery::ContentId;

use super::{FEW, Quality};
use crate::words::counted;

/// One of this many: fewer are not worth a sentence.
const SHARE: usize = 20;
/// Classes named in a sentence.
const NAMED: usize = 3;

/// Names of classes, the first of them.
fn named(labels: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = labels.collect();
    let more = all.len().saturating_sub(NAMED);
    let shown = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

const PICTURES: [&str; 2] = ["picture", "pictures"];

fn pictures(count: usize) -> String {
    counted(count, PICTURES[0], PICTURES[1])
}

/// What would help; `wrong_of_few` photographs of classes with few are not named rightly.
pub(super) fn advice(
    quality: &Quality,
    contents: &[Option<ContentId>],
    wrong_of_few: usize,
) -> Vec<(usize, String)> {
    let mut advice: Vec<(usize, String)> = Vec::new();
    let label = |class: usize| quality.labels[class].clone();
    let lost = contents.iter().filter(|content| content.is_none()).count();
    if lost > 0 {
        advice.push((
            lost,
            format!("Replace {}, which cannot be used and is left out.", pictures(lost)).replace(
                "pictures, which cannot be used and is",
                "pictures, which cannot be used and are",
            ),
        ));
    }
    for pair in quality.mistaken.iter().take(NAMED) {
        let [one, other] = pair.classes.map(label);
        advice.push((
            pair.times,
            format!(
                "{one} and {other} are mistaken for each other ({} of {}): take pictures that show what tells them \
                 apart, or make them one class.",
                pair.times,
                pictures(pair.of)
            ),
        ));
    }
    let shared = quality.doubles.iter().filter(|double| !double.one_class);
    let shared: BTreeSet<usize> = shared.flat_map(|double| double.photos).collect();
    // Its other class is the one that it looks like, and that is said of it below.
    let suspects = quality.suspects.iter().filter(|suspect| !shared.contains(&suspect.photo));
    let suspects = suspects.count();
    if suspects > 0 {
        let (look, those) = match suspects {
            1 => ("looks", "it, if it lies"),
            _ => ("look", "those that lie"),
        };
        advice.push((
            suspects,
            format!(
                "{} {look} as if of another class: move {those} in the wrong folder.",
                pictures(suspects)
            ),
        ));
    }
    let across = quality.doubles.iter().filter(|double| !double.one_class).count();
    if across > 0 {
        advice.push((
            2 * across,
            format!(
                "{} in two classes: keep each in one.",
                counted(across, "picture is", "pictures are")
            ),
        ));
    }
    let missing: usize = quality.few.iter().map(|(_, count)| FEW - count).sum();
    if !quality.few.is_empty() {
        let classes = counted(quality.few.len(), "class has", "classes have");
        advice.push((
            wrong_of_few,
            format!(
                "{classes} fewer than {FEW} pictures ({}): {} more, from other sides and in other light, would give \
                 each {FEW}.",
                named(quality.few.iter().map(|(class, _)| label(*class))),
                missing
            ),
        ));
    }
    let empty = quality.empty.len();
    if empty > 0 {
        advice.push((
            empty,
            format!(
                "No object was found in {}: take them nearer, or on a plain ground.",
                pictures(empty)
            ),
        ));
    }
    advice.extend(of_threshold(quality));
    advice.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    advice
}

/// What would help where known things are called unknown, or unknown ones get a name.
fn of_threshold(quality: &Quality) -> Vec<(usize, String)> {
    let mut advice = Vec::new();
    if let Some(open) = quality.open {
        let unnamed = open.right.of.saturating_sub(open.right.count + open.wrong.count);
        if unnamed * SHARE > open.right.of {
            advice.push((
                unnamed,
                format!(
                    "{unnamed} of {} of the classes are called unknown at the threshold: more pictures of each class, as \
                     visitors take them, let it name more.",
                    pictures(open.right.of)
                ),
            ));
        }
        if open.named.count * SHARE > open.named.of {
            advice.push((
                open.named.count,
                format!(
                    "{} of {} unknown things get a name: pictures of such things, given to `magpie gallery calibrate \
                     --query FOLDER --write`, measure a stricter threshold.",
                    open.named.count, open.named.of
                ),
            ));
        }
    }
    if quality.labels.len() == 1 {
        advice.push((
            quality.photos,
            "There is one class, and everything gets its name: add a second one, of what it is to be told from."
                .to_owned(),
        ));
    }
    advice
}
