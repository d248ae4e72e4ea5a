//! A gallery learns a map from its own entries.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::{Args, ValueEnum};
use models::gallery::{
    AdaptOptions, Adaptation, AdaptationKind, AdaptationMap, Candidate, Gallery, LearnedMap,
    LeftOut,
};
use serde_json::{Value, json};

use super::answer::shown;
use super::{CLASSES, PICTURES, many, open_to_change, summary};

/// Share of new entries from which a map is learned anew.
const NEW_SHARE: f64 = 0.25;

/// Learns from the gallery's own entries which directions of the embeddings matter, and keeps that as a map.
///
/// Nothing is embedded: the entries are kept as they came, and a map between them and what is compared is added,
/// which queries go through as well. Recall@1 by the nearest entry is measured without and with it, first with
/// pictures and then with classes that the map was not learned from; it is kept only if both rise by more than the
/// standard error. A threshold of before is dropped: cosines are others then.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  magpie gallery adapt gallery.bin\n  magpie gallery adapt gallery.bin --none"
)]
pub(super) struct Adapt {
    /// Gallery file.
    gallery: PathBuf,
    /// Takes the map away.
    #[arg(long, conflicts_with_all = ["kind", "strength"])]
    none: bool,
    /// What the map does.
    #[arg(long, value_enum, default_value_t)]
    kind: Kind,
    /// Share of the same variance in every direction that the variance within classes is mixed with, above 0 and
    /// at most 1; by default the best of several.
    #[arg(long, value_parser = strength)]
    strength: Option<f32>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// What a map does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Kind {
    /// What helps pictures and classes that come later most.
    #[default]
    Auto,
    /// Directions in which pictures of one class differ count less.
    Whitening,
    /// The directions of the class means alone: for galleries to which no class is added. Measured with pictures
    /// alone.
    Lda,
}

impl Kind {
    fn wanted(self) -> Option<AdaptationKind> {
        match self {
            Self::Auto => None,
            Self::Whitening => Some(AdaptationKind::Whitening),
            Self::Lda => Some(AdaptationKind::Lda),
        }
    }
}

fn strength(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("a strength is above 0 and at most 1".to_owned()),
    }
}

impl Adapt {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let (mut gallery, change) = open_to_change(&self.gallery)?;
        if self.none {
            if gallery.map().is_none() {
                bail!("{}: the gallery has no map", self.gallery.display());
            }
            gallery.set_map(None)?;
            let dropped = drop_thresholds(&mut gallery)?;
            change.save(&gallery)?;
            if self.json {
                println!("{}", json!({"map": null, "threshold_dropped": dropped.is_some()}));
                return Ok(());
            }
            println!("the map is gone; entries are compared as the extractor gives them");
            dropped.iter().for_each(|told| println!("{told}"));
            println!("{}", summary(&self.gallery, &gallery)?);
            return Ok(());
        }
        let options = AdaptOptions { kind: self.kind.wanted(), strength: self.strength };
        let start = Instant::now();
        let learned = gallery.learn_map(&options)?;
        let took = start.elapsed();
        let dropped = keep(&mut gallery, &learned)?;
        if matches!(learned, LearnedMap::Helps { .. }) {
            change.save(&gallery)?;
        }
        if self.json {
            let mut told = told_json(&gallery, &learned, took);
            told["threshold_dropped"] = dropped.is_some().into();
            println!("{told}");
            return Ok(());
        }
        say(&gallery, &learned, took);
        dropped.iter().for_each(|told| println!("{told}"));
        println!("{}", summary(&self.gallery, &gallery)?);
        Ok(())
    }
}

/// Gives a gallery the map that was learned; what is to be said of its threshold.
fn keep(gallery: &mut Gallery, learned: &LearnedMap) -> anyhow::Result<Option<String>> {
    let LearnedMap::Helps { map, .. } = learned else { return Ok(None) };
    // What was measured behind the same map holds.
    if gallery.map() == Some(&**map) {
        return Ok(None);
    }
    gallery.set_map(Some((**map).clone()))?;
    drop_thresholds(gallery)
}

/// Whether a command learns a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(in crate::command) enum When {
    /// If it helps.
    Auto,
    /// Not.
    #[default]
    Never,
}

/// Learns a map for a gallery that is new; whether it was kept.
pub(super) fn first(gallery: &mut Gallery) -> anyhow::Result<bool> {
    let start = Instant::now();
    let learned = gallery.learn_map(&AdaptOptions::default())?;
    keep(gallery, &learned)?;
    say(gallery, &learned, start.elapsed());
    Ok(matches!(learned, LearnedMap::Helps { .. }))
}

/// Learns the map anew of an adapted gallery that has grown by a quarter since; whether it did.
pub(super) fn again(gallery: &mut Gallery) -> anyhow::Result<bool> {
    let Some(before) = gallery.map().map(AdaptationMap::about) else { return Ok(false) };
    let new = gallery.len().saturating_sub(before.entries);
    if (new as f64) < NEW_SHARE * before.entries as f64 {
        return Ok(false);
    }
    let kind = (before.kind == AdaptationKind::Lda).then_some(AdaptationKind::Lda);
    let start = Instant::now();
    let learned = gallery.learn_map(&AdaptOptions { kind, strength: None })?;
    let dropped = keep(gallery, &learned)?;
    println!(
        "the map was learned from {}, there are {} more:",
        many(before.entries, PICTURES),
        new
    );
    say(gallery, &learned, start.elapsed());
    dropped.iter().for_each(|told| println!("{told}"));
    Ok(matches!(learned, LearnedMap::Helps { .. }))
}

/// Takes out the thresholds of gallery and classes, which were measured with other cosines; what is to be said of that.
fn drop_thresholds(gallery: &mut Gallery) -> anyhow::Result<Option<String>> {
    let own: Vec<usize> = (0..gallery.classes().len())
        .filter(|class| gallery.classes()[*class].min_similarity.is_some())
        .collect();
    for class in &own {
        let metadata = gallery.classes()[*class].metadata.clone();
        gallery.describe_class(*class, metadata, None)?;
    }
    let mut dropped = Vec::new();
    if let Some(least) = gallery.min_similarity() {
        gallery.set_min_similarity(None)?;
        dropped.push(format!("threshold {}", shown(least)));
    }
    if !own.is_empty() {
        dropped.push(format!("the thresholds of {}", many(own.len(), CLASSES)));
    }
    Ok((!dropped.is_empty()).then(|| {
        let (what, are) = (dropped.join(" and "), if own.is_empty() { "is" } else { "are" });
        format!(
            "{what} {are} dropped: cosines are others now; measure anew by `magpie gallery calibrate --write` with \
             --query"
        )
    }))
}

/// What a map is, in a line.
pub(super) fn map_text(gallery: &Gallery) -> Option<String> {
    let map = gallery.map()?;
    let Adaptation { kind, strength, entries, values } = map.about();
    Some(format!(
        "{kind}, strength {}, {} → {values} values, learned from {}",
        shown(strength),
        map.dim(),
        many(entries, PICTURES)
    ))
}

/// The same for machines.
pub(super) fn map_json(gallery: &Gallery) -> Value {
    gallery.map().map_or(Value::Null, |map| json!(map.about()))
}

fn say(gallery: &Gallery, learned: &LearnedMap, took: Duration) {
    let seconds = took.as_secs_f64();
    match learned {
        LearnedMap::Helps { chosen, .. } => {
            say_measured(chosen);
            if let Some(text) = map_text(gallery) {
                println!("kept: {text} ({seconds:.1} s)");
            }
        }
        LearnedMap::NoHelp { best } => {
            best.iter().for_each(say_measured);
            let stays = if gallery.map().is_some() {
                "the map of before stays; `--none` takes it away"
            } else {
                "the gallery stays as it is"
            };
            println!("no map helps by more than the standard error ({seconds:.1} s); {stays}");
        }
        LearnedMap::TooFew { classes, several } => println!(
            "{several} of {} have two pictures or more; a map needs that of half of them, and of four at least. The \
             gallery stays as it is: add pictures",
            many(*classes, CLASSES)
        ),
        _ => println!("the gallery stays as it is"),
    }
}

fn say_measured(candidate: &Candidate) {
    println!("recall@1, nearest entry          as they are  adapted  difference");
    for (what, measured) in
        [("pictures left out", &candidate.pictures), ("classes left out", &candidate.classes)]
    {
        let [before, after] = measured.shares().map(|share| 100.0 * share);
        println!(
            "{:<33}{before:>9.1} %{after:>7.1} %  {:+.1} ± {:.1} ({} pictures)",
            what,
            after - before,
            100.0 * measured.standard_error,
            measured.pictures
        );
    }
}

fn told_json(gallery: &Gallery, learned: &LearnedMap, took: Duration) -> Value {
    let left_out = |measured: &LeftOut| {
        let [before, after] = measured.shares();
        json!({"pictures": measured.pictures, "recall_at_1": after, "recall_at_1_before": before,
               "standard_error": measured.standard_error})
    };
    let candidate = |candidate: &Candidate| {
        json!({"kind": candidate.kind, "strength": candidate.strength,
               "pictures_left_out": left_out(&candidate.pictures),
               "classes_left_out": left_out(&candidate.classes)})
    };
    let (kept, best) = match learned {
        LearnedMap::Helps { chosen, .. } => (true, Some(candidate(chosen))),
        LearnedMap::NoHelp { best } => (false, best.as_ref().map(candidate)),
        _ => (false, None),
    };
    json!({"kept": kept, "measured": best, "map": map_json(gallery), "seconds": took.as_secs_f64()})
}
