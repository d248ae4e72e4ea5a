//! What a gallery holds and what it answers.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use models::gallery::{Alike, Class, Crop, Gallery, IndexConfig, Question};
use models::model_file::model_id;
use serde_json::json;

use super::adapt::map_json;
use super::answer::{kept_text, shown, unknown_text};
use super::{
    Answer, CLASSES, ENTRIES, change, check_extractor, index_name, many, open, other_rule, sure,
};
use crate::cli::Failures;
use crate::cli::{DeviceKind, Embedder, read_wanted, size};
use crate::data::store::read_picture;
use crate::files::{self, wanted::MODEL};
use crate::networks;
use authoring::adaptation::map_text;
use authoring::label::{printable, quoted};

/// Classes that look alike are shown from this cosine of their mean embeddings on.
const ALIKE: f32 = 0.9;
/// What sums in another order may differ by.
const ROUNDING: f32 = 1e-5;
/// Pairs of classes that look alike, and groups of those that are the same, shown at most.
const PAIRS: usize = 10;
/// Classes of such a group that are named.
const SHOWN: usize = 3;

/// Says what a gallery holds.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie gallery list gallery.bin")]
pub(super) struct List {
    /// Gallery file.
    gallery: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Says how large a gallery is, how it is searched and why, and which classes look alike.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie gallery stats gallery.bin")]
pub(super) struct Stats {
    /// Gallery file.
    gallery: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Says which classes pictures are most similar to, each picture taken whole.
///
/// A picture that cannot be used is named, the others are done, and the command ends with 1.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  magpie gallery search gallery.bin --extractor lite0.safetensors query.jpg\n\n`94 % sure` says: when the \
    gallery was calibrated, 94 of 100 such answers were right, of things whose class it has. It says nothing of other \
    things: these are held off by the threshold, and one that passes it may be called sure as well."
)]
pub(super) struct Search {
    /// Gallery file.
    gallery: PathBuf,
    /// Pictures.
    #[arg(required = true)]
    pictures: Vec<PathBuf>,
    /// Model file of the extractor that built the gallery; `general` is the one that magpie brings along.
    #[arg(long, default_value = networks::GENERAL)]
    extractor: PathBuf,
    /// Classes shown per picture.
    #[arg(short, long, default_value_t = 5, value_parser = crate::cli::ranges::count)]
    k: usize,
    #[command(flatten)]
    answer: Answer,
    /// Only classes of this label; may be repeated.
    #[arg(long)]
    class: Vec<String>,
    /// Only classes with this metadata, as name=text; may be repeated.
    #[arg(long = "where")]
    metadata: Vec<String>,
    /// Only classes at least so similar.
    #[arg(long, allow_negative_numbers = true, value_parser = crate::cli::ranges::cosine)]
    min_similarity: Option<f32>,
    /// How much of the index is searched: entries in view (hnsw), lists (ivf), entries compared
    /// again (binary).
    #[arg(long = "ef-search", alias = "effort", value_parser = crate::cli::ranges::count)]
    ef: Option<usize>,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
    /// Prints one JSON object per picture.
    #[arg(long)]
    json: bool,
}

/// Checks every byte of a gallery, that its index finds every entry, and, if asked, that it is of a
/// model.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie gallery verify gallery.bin --extractor \
    lite0.safetensors")]
pub(super) struct Verify {
    /// Gallery file.
    gallery: PathBuf,
    /// Model file of the extractor that should have built it.
    #[arg(long)]
    extractor: Option<PathBuf>,
}

impl List {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let gallery = open(&self.gallery)?;
        let counts = gallery.counts();
        if self.json {
            let classes: Vec<_> = (gallery.classes().iter().zip(counts))
                .map(|(class, entries)| {
                    json!({"label": class.label, "metadata": class.metadata,
                           "min_similarity": class.min_similarity, "entries": entries})
                })
                .collect();
            let (model, dim, entries) = (gallery.model(), gallery.dim(), gallery.len());
            println!(
                "{}",
                json!({"model": model, "dim": dim, "entries": entries, "classes": classes,
                       "min_similarity": gallery.min_similarity(), "rule": gallery.measured_rule(),
                       "calibration": gallery.calibration(),
                       "map": map_json(&gallery)})
            );
            return Ok(());
        }
        println!("model       {}", gallery.model());
        println!("dimensions  {}", gallery.dim());
        println!("classes     {}", gallery.classes().len());
        println!("entries     {}", gallery.len());
        if let Some(map) = map_text(&gallery) {
            println!("map         {map}");
        }
        if let Some(kept) = kept_text(&gallery) {
            println!("threshold   {kept}");
        }
        for (class, count) in gallery.classes().iter().zip(counts) {
            println!("{count:>6}  {}", printable(&class.label));
            for (name, text) in &class.metadata {
                println!("        {}={}", printable(name), printable(text));
            }
            if let Some(least) = class.min_similarity {
                println!("        threshold {}", shown(least));
            }
        }
        Ok(())
    }
}

impl Stats {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let gallery = open(&self.gallery)?;
        let bytes = files::length(&self.gallery, u64::MAX)?;
        let index = gallery.index();
        let mut counts = gallery.counts();
        counts.sort_unstable();
        let empty = counts.iter().filter(|count| **count == 0).count();
        let middle = counts.get(counts.len() / 2).copied().unwrap_or_default();
        let most = counts.last().copied().unwrap_or_default();
        let least = counts.first().copied().unwrap_or_default();
        let removed = index.positions() - index.len();
        let values = index.vector_type().name();
        let thumbnails: usize =
            (0..gallery.classes().len()).map(|c| gallery.thumbnail(c).len()).sum();
        let (recommended, why) = IndexConfig::recommended(gallery.len());
        let alike = gallery.closest_pairs(ALIKE, PAIRS);
        if self.json {
            let Alike { pairs, equal, complete } = &alike;
            let label = |class: usize| gallery.classes()[class].label.as_str();
            let equal: Vec<_> = (equal.iter().take(PAIRS))
                .map(
                    |group| json!({"classes": group.len(), "first": first_labels(&gallery, group)}),
                )
                .collect();
            let alike: Vec<_> = pairs
                .iter()
                .map(|(a, b, cosine)| json!({"classes": [label(*a), label(*b)], "cosine": cosine}))
                .collect();
            println!(
                "{}",
                json!({
                    "bytes": bytes, "model": gallery.model(), "dim": gallery.dim(),
                    "values": values, "classes": gallery.classes().len(), "entries": gallery.len(),
                    "removed": removed, "thumbnail_bytes": thumbnails,
                    "entries_a_class": {"least": least, "median": middle, "most": most},
                    "index": index.config(), "recommended": recommended, "why": why,
                    "min_similarity": gallery.min_similarity(), "rule": gallery.measured_rule(),
                    "crop": gallery.crop().name(),
                    "calibration": gallery.calibration(),
                    "map": map_json(&gallery), "alike": alike, "equal": equal, "all_compared": complete,
                })
            );
            return Ok(());
        }
        println!("file        {} ({} of it thumbnails)", size(bytes), size(thumbnails as u64));
        println!("model       {}", gallery.model());
        println!("embeddings  {} × {} {values}", gallery.len(), gallery.dim());
        println!("classes     {}", gallery.classes().len());
        // A picture may have two entries.
        let what = if gallery.crop() == Crop::Both { "entries  " } else { "pictures " };
        if least == most {
            println!("{what}   {least} per class");
        } else {
            println!("{what}   {least} to {most} per class, median {middle}");
        }
        if gallery.crop() != Crop::Never {
            println!("crop        {}", gallery.crop().name());
        }
        println!("removed     {} still in the file", many(removed, ENTRIES));
        if let Some(map) = map_text(&gallery) {
            println!("map         {map}");
        }
        if let Some(kept) = kept_text(&gallery) {
            println!("threshold   {kept}");
        }
        println!("index       {}", index_name(index.config()));
        println!("recommended {} ({why})", index_name(recommended));
        if empty > 0 {
            let (have, are) = if empty == 1 { ("has", "is") } else { ("have", "are") };
            println!("{} {have} no picture and {are} never an answer", many(empty, CLASSES));
        }
        say_alike(&gallery, &alike);
        Ok(())
    }
}

/// Labels of the first classes of a group.
fn first_labels<'a>(gallery: &'a Gallery, group: &[usize]) -> Vec<&'a str> {
    group.iter().take(SHOWN).map(|class| gallery.classes()[*class].label.as_str()).collect()
}

/// Says which classes are alike or the same.
fn say_alike(gallery: &Gallery, Alike { pairs, equal, complete }: &Alike) {
    let label = |class: usize| quoted(&gallery.classes()[class].label);
    if pairs.is_empty() && equal.is_empty() && *complete {
        println!("alike       no two classes with a cosine of {ALIKE} or more");
    }
    for (a, b, cosine) in pairs {
        println!("alike       {} and {}: {cosine:.3}", label(*a), label(*b));
    }
    for group in equal.iter().take(PAIRS) {
        let names: Vec<String> = first_labels(gallery, group).into_iter().map(quoted).collect();
        let more = if group.len() > SHOWN { ", …" } else { "" };
        println!("the same    {} classes: {}{more}", group.len(), names.join(", "));
    }
    if equal.len() > PAIRS {
        let groups = ("more group of classes", "more groups of classes");
        println!("the same    {}", many(equal.len() - PAIRS, groups));
    }
    if !complete {
        println!("alike       there are too many to compare each with each: pairs may be missing");
    }
}

impl Search {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let gallery = open(&self.gallery)?;
        let embedder = Embedder::open(&self.extractor, self.device)?.query(&gallery);
        check_extractor(&gallery, &self.gallery, &self.extractor, &embedder.id)?;
        let classes: Vec<&str> = self
            .class
            .iter()
            .map(|label| Ok(gallery.classes()[super::class_of(&gallery, label)?].label.as_str()))
            .collect::<anyhow::Result<_>>()?;
        let metadata = change::metadata(&self.metadata)?;
        let admits = |class: &Class| {
            let has = |(name, text): (&&str, &&str)| {
                class.metadata.get(name).is_some_and(|value| value == text)
            };
            (classes.is_empty() || classes.contains(&class.label.as_str()))
                && metadata.iter().all(has)
        };
        let filtered = !self.class.is_empty() || !metadata.is_empty();
        let question = Question {
            k: self.k,
            rule: self.answer.of(&gallery),
            classes: if filtered { Some(&admits) } else { None },
            ef_search: self.ef,
        };
        if let Some(told) = other_rule(&gallery, question.rule).filter(|_| !self.json) {
            eprintln!("{told}");
        }
        let mut failures = Failures::new(self.json);
        for path in &self.pictures {
            let Some(picture) = failures.take(path, read_picture(path)) else { continue };
            let embedding = embedder.embed_pictures(&[picture])?;
            let start = Instant::now();
            let answer = gallery.answer(&embedding[0], &question)?;
            let ms = start.elapsed().as_secs_f64() * 1e3;
            let mut found = answer.matches.clone();
            found.retain(|m| self.min_similarity.is_none_or(|least| m.similarity >= least));
            let label = |class: usize| gallery.classes()[class].label.as_str();
            let everyones = gallery.min_similarity().unwrap_or(f32::NEG_INFINITY);
            let known = gallery.is_known(&answer, everyones);
            if self.json {
                let matches: Vec<_> = found
                    .iter()
                    .map(|m| json!({"label": label(m.class), "similarity": m.similarity}))
                    .collect();
                let picture = path.display().to_string();
                println!(
                    "{}",
                    json!({"picture": picture, "matches": matches, "lead": answer.lead,
                           "probability": answer.probability.filter(|_| known), "search_ms": ms})
                );
                continue;
            }
            println!("{}: searched in {ms:.2} ms", path.display());
            for m in &found {
                println!("  {:.3}  {}", m.similarity, printable(label(m.class)));
            }
            match found.first() {
                Some(best) => {
                    if !known {
                        println!("  {}", unknown_text(&gallery, &answer, everyones));
                    } else if let Some(sure) = sure(answer.probability) {
                        println!("  {sure}, similarity {:.2}", best.similarity);
                    }
                }
                None if gallery.is_empty() => println!("  the gallery is empty"),
                None => println!("  no class fits {}", self.filters()),
            }
        }
        failures.end()
    }

    /// The options that keep classes out.
    fn filters(&self) -> String {
        let options = [
            (!self.class.is_empty(), "--class"),
            (!self.metadata.is_empty(), "--where"),
            (self.min_similarity.is_some(), "--min-similarity"),
        ];
        let given = options.into_iter().filter(|(is_given, _)| *is_given);
        given.map(|(_, option)| option).collect::<Vec<_>>().join(" and ")
    }
}

impl Verify {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let gallery = open(&self.gallery)?;
        if let Some(path) = &self.extractor {
            check_extractor(&gallery, &self.gallery, path, &model_id(&read_wanted(path, MODEL)?))?;
        }
        let shown = self.gallery.display();
        gallery.check_answers().with_context(|| shown.to_string())?;
        let (index, entries) = (gallery.index(), gallery.len());
        let unreachable = index.unreachable();
        if unreachable > 0 {
            bail!(
                "{shown}: searches in its graph do not come to {unreachable} of {entries} entries; \
                 `magpie gallery compact {shown}` links them in"
            );
        }
        let mut lost = 0;
        for entry in gallery.entries() {
            let vector = index.vector(entry);
            let found = index.search(&vector, &models::gallery::Search::best(1))?;
            // Rounding leaves lengths a little different: a longer neighbor may be the nearest.
            let own: f32 = vector.iter().map(|v| v * v).sum();
            if found.first().is_none_or(|hit| hit.similarity < own - ROUNDING) {
                lost += 1;
            }
        }
        // A graph or lists may miss some; more than one in a hundred is no good index.
        if lost * 100 > entries {
            bail!(
                "{shown}: searches miss {lost} of {entries} entries; `magpie gallery compact {shown} \
                 --index flat` misses none, a larger --ef-search fewer"
            );
        }
        let reach = match lost {
            0 => "searches come to all of them".to_owned(),
            some => format!("searches do not come to {some} of them"),
        };
        let classes = many(gallery.classes().len(), CLASSES);
        if entries == 0 {
            println!(
                "{shown}: whole, and empty: {classes}, no entries; everything is unknown until `magpie gallery add` \
                 adds some"
            );
            return Ok(());
        }
        let entries = many(entries, ENTRIES);
        println!("{shown}: whole; {classes}, {entries}; {reach}");
        Ok(())
    }
}
