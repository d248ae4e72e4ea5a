//! A gallery learns a map from its own entries.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::{Args, ValueEnum};
use models::gallery::{AdaptOptions, AdaptationKind, Candidate, Gallery, LearnedMap, LeftOut};
use serde_json::{Value, json};

use super::learn::When;
use super::{open_to_change, summary};
use authoring::adaptation::{
    Dropped, MapOutcome, Options, adapt_and_calibrate, drop_thresholds, keep_map, map_text,
};

/// Learns from the gallery's own entries which directions of the embeddings matter, and keeps that as a map.
///
/// Nothing is embedded: the entries are kept as they came, and a map between them and what is compared is added,
/// which queries go through as well. Recall@1 by the nearest entry is measured without and with it, first with
/// pictures and then with classes that the map was not learned from; it is kept only if the first rises by more than
/// two standard errors, and the second does not fall by as much. A threshold of before is dropped, because cosines are
/// others then, and one is measured on the entries, each behind a map that did not see it.
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
    /// Share of the same variance in every direction that the variance within classes is mixed with, from 0.0001
    /// to 1; by default the best of several.
    #[arg(long, value_parser = crate::cli::ranges::strength)]
    strength: Option<f32>,
    /// Whether the gallery measures answer rule and threshold behind a new map on its entries, as `magpie gallery
    /// calibrate --write` does.
    #[arg(long, value_enum, default_value_t)]
    calibrate: When,
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

impl Adapt {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let (mut gallery, change) = open_to_change(&self.gallery)?;
        if self.none {
            if gallery.map().is_none() {
                bail!("{}: the gallery has no map", self.gallery.display());
            }
            gallery.set_map(None)?;
            let dropped = drop_thresholds(&mut gallery)?.text();
            change.save(&gallery)?;
            if self.json {
                println!("{}", json!({"map": null, "threshold_dropped": dropped.is_some()}));
                return Ok(());
            }
            println!("the map is gone; entries are compared as the extractor gives them");
            if let Some(dropped) = dropped {
                println!("{dropped}; measure anew by `magpie gallery calibrate --write`");
            }
            println!("{}", summary(&self.gallery, &gallery)?);
            return Ok(());
        }
        let options = AdaptOptions { kind: self.kind.wanted(), strength: self.strength };
        let start = Instant::now();
        let learned = gallery.learn_map(&options)?;
        let took = start.elapsed();
        let kept = keep_map(&mut gallery, &learned)?;
        let dropped = kept.and_then(Dropped::text);
        let mut threshold = Vec::new();
        if kept.is_some() {
            if self.calibrate == When::Auto {
                let options = Options { adapt: false, ..Options::default() };
                threshold = adapt_and_calibrate(&mut gallery, &options)?.lines();
            }
            change.save(&gallery)?;
        }
        if self.json {
            let mut told = told_json(&gallery, &learned, took);
            told["threshold_dropped"] = dropped.is_some().into();
            told["min_similarity"] = gallery.min_similarity().into();
            println!("{told}");
            return Ok(());
        }
        let lines = MapOutcome::of(&learned).lines(map_text(&gallery).as_deref(), took);
        lines.iter().chain(&dropped).chain(&threshold).for_each(|line| println!("{line}"));
        println!("{}", summary(&self.gallery, &gallery)?);
        Ok(())
    }
}

/// What a map is, for machines.
pub(super) fn map_json(gallery: &Gallery) -> Value {
    gallery.map().map_or(Value::Null, |map| json!(map.about()))
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
