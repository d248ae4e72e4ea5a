//! Galleries are changed without embedding anything.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{ArgGroup, Args};
use models::gallery::{Class, ContentId, Gallery, Metadata};

use super::wanted::checked;
use super::{
    Change, ENTRIES, IndexKind, Values, class_of, find_class, index_name, many, noun, open,
    open_to_change, say_reach, say_stale, summary,
};
use crate::cli::read_wanted;
use crate::data::left_out::listed;
use crate::files;
use crate::files::wanted::{GALLERY, IMAGE};
use authoring::label::{Labels, check_metadata, nearest, quoted};

/// Takes classes, or single pictures, out of a gallery.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  magpie gallery remove gallery.bin --class Mug\n  magpie gallery \
    remove gallery.bin --image photos/Mug/blurred.jpg",
    group(ArgGroup::new("what").required(true).multiple(true))
)]
pub(super) struct Remove {
    /// Gallery file.
    gallery: PathBuf,
    /// A class; may be repeated.
    #[arg(long, group = "what")]
    class: Vec<String>,
    /// A picture that was added, found by its content; may be repeated.
    #[arg(long = "image", alias = "picture", group = "what")]
    image: Vec<PathBuf>,
}

/// Gives a class another label; if the label is taken, the classes merge: the one that had it keeps its
/// metadata and threshold.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie gallery rename gallery.bin Mug \"Coffee mug\"")]
pub(super) struct Rename {
    /// Gallery file.
    gallery: PathBuf,
    /// Label now.
    from: String,
    /// Label then.
    to: String,
}

/// Says more about a class: metadata shown with it, and its own threshold.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie gallery describe gallery.bin Mug --set price=\"9 €\" \
    --unset link --min-similarity 0.7")]
pub(super) struct Describe {
    /// Gallery file.
    gallery: PathBuf,
    /// The class.
    #[arg(required_unless_present = "class", conflicts_with = "class")]
    label: Option<String>,
    /// The class, as other commands take it.
    #[arg(long)]
    class: Option<String>,
    /// Metadata, as name=text; may be repeated.
    #[arg(long)]
    set: Vec<String>,
    /// Name of metadata to remove; may be repeated.
    #[arg(long)]
    unset: Vec<String>,
    /// Least cosine for this answer; `none`: everyone's.
    #[arg(long, allow_negative_numbers = true)]
    min_similarity: Option<String>,
}

/// Writes one gallery with the classes and entries of several; the files given stay as they are unless --out names
/// one of them.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie gallery merge shop.bin supplier.bin --out all.bin")]
pub(super) struct Merge {
    /// Gallery files of one model.
    #[arg(required = true, num_args = 2..)]
    galleries: Vec<PathBuf>,
    /// Gallery file to write.
    #[arg(long)]
    out: PathBuf,
}

/// Drops removed entries and builds the index anew; can change how entries are found and stored.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  magpie gallery compact gallery.bin --values i8 --out small.bin"
)]
pub(super) struct Compact {
    /// Gallery file.
    gallery: PathBuf,
    /// How entries are found; by default as before.
    #[arg(long, value_enum)]
    index: Option<IndexKind>,
    /// How embeddings are stored; by default as before.
    #[arg(long, value_enum)]
    values: Option<Values>,
    /// Gallery file to write; by default the same.
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Remove {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let (mut gallery, change) = open_to_change(&self.gallery)?;
        let there: HashSet<ContentId> = gallery.entries().map(|e| gallery.content_id(e)).collect();
        let mut pictures = Vec::new();
        for path in &self.image {
            let picture = ContentId::of(&read_wanted(path, IMAGE)?);
            if !there.contains(&picture) {
                bail!(
                    "{}: no entry was made from this picture; `magpie gallery list` shows what there is",
                    path.display()
                );
            }
            pictures.push(picture);
        }
        let mut removed = Vec::new();
        for label in &self.class {
            let class = class_of(&gallery, label)?;
            removed.push(format!(
                "removed class {}: {}",
                quoted(&gallery.classes()[class].label),
                many(gallery.counts()[class], ENTRIES)
            ));
            gallery.remove_class(class)?;
        }
        let before = gallery.len();
        gallery.remove_images(&pictures)?;
        if !pictures.is_empty() {
            removed.push(format!("removed by picture: {}", many(before - gallery.len(), ENTRIES)));
        }
        change.save(&gallery)?;
        for line in removed {
            println!("{line}");
        }
        say_stale(&gallery);
        println!("{}", summary(&self.gallery, &gallery)?);
        Ok(())
    }
}

impl Rename {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let (mut gallery, change) = open_to_change(&self.gallery)?;
        let class = class_of(&gallery, &self.from)?;
        let (before, joining) = (gallery.classes().len(), gallery.classes()[class].clone());
        // An older gallery may spell the same label otherwise.
        let to = match find_class(&gallery, &self.to) {
            Some(other) if other != class => gallery.classes()[other].label.clone(),
            _ => checked(&self.to)?,
        };
        if joining.label == to {
            println!("{} has this label; nothing changed", quoted(&to));
            return Ok(());
        }
        let now = gallery.rename_class(class, &to)?;
        change.save(&gallery)?;
        let merged = gallery.classes().len() < before;
        let pictures = gallery.counts()[now];
        let how = if merged { "joined" } else { "renamed to" };
        println!("{} {how} {}; pictures: {pictures}", quoted(&self.from), quoted(&to));
        if merged {
            say_stale(&gallery);
        }
        for lost in left_behind(&joining, &gallery.classes()[now]) {
            println!("left out: {lost} of {}; {} has its own", quoted(&self.from), quoted(&to));
        }
        Ok(())
    }
}

/// What is said about a class that joined another one and is not said any more.
fn left_behind(joining: &Class, joined: &Class) -> Vec<String> {
    let mut lost = Vec::new();
    for (key, text) in &joining.metadata {
        if joined.metadata.get(key.as_str()) != Some(text) {
            lost.push(format!("{key}={text}"));
        }
    }
    if let Some(least) = joining.min_similarity
        && joined.min_similarity != Some(least)
    {
        lost.push(format!("the threshold {least}"));
    }
    lost
}

impl Describe {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let (mut gallery, change) = open_to_change(&self.gallery)?;
        let label = self.label.as_ref().or(self.class.as_ref()).context("which class?")?;
        let class = class_of(&gallery, label)?;
        let now = &gallery.classes()[class];
        let (mut metadata, mut threshold): (Metadata, _) =
            (now.metadata.clone(), now.min_similarity);
        let mut given = HashSet::new();
        for fact in &self.set {
            let (name, text) =
                pair(fact).with_context(|| format!("--set {fact}: write --set name=text"))?;
            if !given.insert(name) {
                bail!("--set {name}: is given twice; give it once");
            }
            check_metadata(name, text.trim()).context("--set")?;
            metadata.insert(name.to_owned(), text.trim().to_owned());
        }
        for name in &self.unset {
            if !given.insert(name) {
                bail!("--unset {name}: is given twice, or to --set, too; give it once");
            }
            if metadata.remove(name).is_none() {
                bail!("--unset {name}: {}", lacking(label, name, &now.metadata));
            }
        }
        match self.min_similarity.as_deref() {
            None => (),
            Some("none") => threshold = None,
            Some(text) => {
                let value: f32 = text.parse().ok().with_context(|| {
                    format!("--min-similarity {text}: write a cosine from -1 to 1, or `none`")
                })?;
                if !(-1.0..=1.0).contains(&value) {
                    bail!("--min-similarity {text}: write a cosine from -1 to 1, or `none`");
                }
                threshold = Some(value);
            }
        }
        gallery.describe_class(class, metadata, threshold)?;
        change.save(&gallery)?;
        println!("{}", serde_json::to_string_pretty(&gallery.classes()[class])?);
        Ok(())
    }
}

/// What is said of metadata that a class does not have: what it has.
fn lacking(label: &str, name: &str, metadata: &Metadata) -> String {
    let names: Vec<&str> = metadata.into_iter().map(|(name, _)| name.as_str()).collect();
    let there = match nearest(name, names.iter().copied()) {
        _ if names.is_empty() => "it has none".to_owned(),
        Some(near) => format!("did you mean {}?", quoted(near)),
        None => format!("it has {}", listed(names.iter().map(|name| quoted(name)))),
    };
    format!("class {} has no metadata of this name; {there}", quoted(label))
}

impl Merge {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let (first, others) = self.galleries.split_first().context("at least two galleries")?;
        // It may be one of them, which nobody else must change until it is written.
        let change = Change::anew(&self.out, &[])?;
        let mut gallery = open(first)?;
        let mut added = 0;
        for path in others {
            let mut other = open(path)?;
            if other.model() != gallery.model() {
                bail!(
                    "{}: belongs to another model than {} ({} and {}); build one of them again with the \
                     other's extractor",
                    path.display(),
                    first.display(),
                    other.model(),
                    gallery.model()
                );
            }
            spell_alike(&gallery, &mut other)?;
            if gallery.is_empty() {
                gallery.share_map(&other)?;
            } else if gallery.crop() != other.crop() {
                eprintln!(
                    "note: {}: its entries were made with --crop {}, those of {} with {}",
                    path.display(),
                    other.crop().name(),
                    first.display(),
                    gallery.crop().name()
                );
            }
            if other.map().is_some() && other.map() != gallery.map() {
                eprintln!(
                    "note: {}: its map is not taken over, nor its threshold; learn one of all entries by \
                     `magpie gallery adapt`",
                    path.display()
                );
            }
            let merged = gallery.merge(&other).with_context(|| path.display().to_string())?;
            added += merged.added;
            println!(
                "{}: {}, {} added, {} there already",
                path.display(),
                many(merged.new_classes, ("new class", "new classes")),
                many(merged.added, noun(gallery.crop())),
                merged.known
            );
        }
        change.save(&gallery)?;
        if added > 0 {
            say_stale(&gallery);
        }
        println!("{}", summary(&self.out, &gallery)?);
        Ok(())
    }
}

/// Gives classes that have the name of one of `gallery`, spelled otherwise, its spelling.
fn spell_alike(gallery: &Gallery, other: &mut Gallery) -> anyhow::Result<()> {
    let labels: Labels = gallery.classes().iter().map(|class| class.label.as_str()).collect();
    let spelled: Vec<(String, String)> = other
        .classes()
        .iter()
        .filter_map(|class| {
            let label = &gallery.classes()[labels.find(&class.label)?].label;
            (*label != class.label).then(|| (class.label.clone(), label.clone()))
        })
        .collect();
    for (from, to) in spelled {
        if let Some(class) = other.class_by_label(&from) {
            other.rename_class(class, &to)?;
        }
    }
    Ok(())
}

impl Compact {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let out = self.out.as_ref().unwrap_or(&self.gallery);
        files::length(&self.gallery, u64::MAX).map_err(|error| error.wanted(GALLERY))?;
        let change = Change::anew(out, &[])?;
        let mut gallery = open(&self.gallery)?;
        if let Some(values) = self.values {
            gallery.set_vector_type(values.into())?;
        }
        let (config, why) = match self.index {
            Some(kind) => kind.config(gallery.len()),
            None => (gallery.index().config(), None),
        };
        gallery.set_index(config)?;
        change.save(&gallery)?;
        let why = why.map_or(String::new(), |why| format!(" ({why})"));
        println!("index: {}{why}", index_name(config));
        say_reach(config, gallery.index().unreachable(), gallery.len());
        println!("{}", summary(out, &gallery)?);
        Ok(())
    }
}

/// A fact's name and text; none without a name.
fn pair(fact: &str) -> Option<(&str, &str)> {
    let (name, text) = fact.split_once('=')?;
    let name = name.trim();
    (!name.is_empty()).then_some((name, text))
}

/// Facts as `name=text` that a class must have.
pub(super) fn metadata(given: &[String]) -> anyhow::Result<BTreeMap<&str, &str>> {
    given
        .iter()
        .map(|fact| pair(fact).with_context(|| format!("--where {fact}: write --where name=text")))
        .collect()
}
