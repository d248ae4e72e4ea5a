//! How many things of composed pictures the published demo finds and names rightly.

use std::fmt;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use super::magpie;
use crate::steps::output;

/// Overlap (IoU) from which a box is that of a thing.
const HIT: f64 = 0.5;

/// What became of the things of some pictures, and of boxes that lie on none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Score {
    things: usize,
    found: usize,
    right: usize,
    wrong: usize,
    strays: usize,
    named_strays: usize,
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
        writeln!(f, "   {} things", self.things)?;
        let parts = [
            ("found (IoU 0.5)", self.found),
            ("named rightly", self.right),
            ("named wrongly", self.wrong),
            ("found and not named", self.found - self.right - self.wrong),
        ];
        for (what, count) in parts {
            writeln!(f, "   {count:5}  {:5.1} %  {what}", percent(count, self.things))?;
        }
        write!(f, "   {:5}  boxes on no thing, {} of them named", self.strays, self.named_strays)
    }
}

/// Recognizes 1.jpg, 2.jpg, … of a folder and compares the answers with 1.json, 2.json, …
///
/// A site without a detector takes each picture as one object, which counts as found.
pub(super) fn score(
    site: &Path,
    pictures: &Path,
    count: u32,
    has_detector: bool,
) -> anyhow::Result<Score> {
    let mut command = magpie();
    command.args(["recognize", "--json"]).arg(site);
    command.args((1..=count).map(|number| pictures.join(format!("{number}.jpg"))));
    let answers = output(&mut command).context("`magpie recognize` failed")?;
    let mut score = Score::default();
    for (line, number) in answers.lines().zip(1..=count) {
        let path = pictures.join(format!("{number}.json"));
        let things = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let least = if has_detector { HIT } else { 0.0 };
        score.add(&serde_json::from_slice(&things)?, &serde_json::from_str(line)?, least);
    }
    Ok(score)
}

impl Score {
    /// Adds the things of one picture, and the objects that were recognized in it; a box is that of a thing from an
    /// overlap of `least` on.
    fn add(&mut self, things: &Value, answer: &Value, least: f64) {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let (things, objects) = (list(things), list(&answer["objects"]));
        let mut taken = vec![false; objects.len()];
        for thing in &things {
            self.things += 1;
            let best = objects
                .iter()
                .enumerate()
                .filter(|(index, _)| !taken[*index])
                .map(|(index, object)| (overlap(&thing["bbox"], &object["bbox"]), index))
                .filter(|(overlap, _)| *overlap >= least)
                .max_by(|a, b| a.0.total_cmp(&b.0));
            let Some((_, index)) = best else { continue };
            taken[index] = true;
            self.found += 1;
            let object = &objects[index];
            if object["known"] == true {
                let is_right = object["matches"][0]["label"] == thing["label"];
                *(if is_right { &mut self.right } else { &mut self.wrong }) += 1;
            }
        }
        for (object, _) in objects.iter().zip(taken).filter(|(_, taken)| !taken) {
            self.strays += 1;
            self.named_strays += usize::from(object["known"] == true);
        }
    }
}

/// Intersection over union; 0 where there are no boxes.
fn overlap(a: &Value, b: &Value) -> f64 {
    let corners = |value: &Value| -> Option<[f64; 4]> {
        let numbers: Vec<f64> = value.as_array()?.iter().filter_map(Value::as_f64).collect();
        numbers.try_into().ok()
    };
    let (Some(a), Some(b)) = (corners(a), corners(b)) else { return 0.0 };
    let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0);
    let area = |c: &[f64; 4]| (c[2] - c[0]) * (c[3] - c[1]);
    let both = side(0) * side(1);
    both / (area(&a) + area(&b) - both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_found_by_its_box_and_right_by_its_name() {
        let thing = |x: f64, label: &str| serde_json::json!({"bbox": [x, 0.0, x + 10.0, 10.0], "label": label});
        let object = |x: f64, label: &str, known: bool| {
            serde_json::json!({
                "bbox": [x, 0.0, x + 10.0, 10.0], "known": known, "matches": [{"label": label}]
            })
        };
        let things = serde_json::json!([
            thing(0.0, "a"),
            thing(20.0, "b"),
            thing(40.0, "c"),
            thing(60.0, "d")
        ]);
        let objects = [
            object(1.0, "a", true),
            object(21.0, "x", true),
            object(40.0, "c", false),
            object(66.0, "d", true),
        ];
        let mut score = Score::default();
        score.add(&things, &serde_json::json!({"objects": objects}), HIT);
        let expected =
            Score { things: 4, found: 3, right: 1, wrong: 1, strays: 1, named_strays: 1 };
        assert_eq!(score, expected);
        assert!(score.to_string().contains("75.0 %  found"), "{score}");
        let whole = serde_json::json!({"bbox": [0.0, 0.0, 99.0, 99.0], "known": true, "matches": [{"label": "a"}]});
        let alone = serde_json::json!([thing(0.0, "a")]);
        score.add(&alone, &serde_json::json!({"objects": [whole]}), 0.0);
        assert_eq!((score.found, score.right), (4, 2));
    }
}
