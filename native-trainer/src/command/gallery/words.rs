//! Names of classes become entries.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use anyhow::{Context, bail};
use authoring::label::{checked, label, quoted};
use clap::Args;
use models::gallery::{Class, ContentId, Gallery};
use rayon::prelude::*;

use super::{CLASSES, Change, Values, check_extractor, many, say_stale, summary};
use crate::cli::{DeviceKind, Embedder};
use crate::files;
use crate::networks::GENERAL;
use crate::progress::Progress;
use crate::text::{TextParts, TextTower, words_beside};

/// What stands for the name of a class in a template.
const PLACE: &str = "{}";
/// Most bytes of a list of classes.
const LIST_LIMIT: u64 = 16 << 20;
/// Most bytes of a name.
const LONGEST: usize = 4096;
/// The threshold of a gallery of names alone, until one is measured. LAION's data sets kept pairs of an image and its
/// own text from 0.28 on (<https://arxiv.org/abs/2210.08402>); names of classes say less than such texts.
const LEAST: f32 = 0.2;

/// Adds names of classes to a gallery of CLIP: what has no picture in the gallery is recognized by its name.
///
/// Pictures and names may be in one gallery. The tower of texts that embeds the names is needed here alone, not in the
/// page; `magpie import` of a file of CLIP has written it beside the extractor.
#[derive(Debug, Args)]
#[command(
    after_help = "Example (one name a line):\n  magpie import clip/model.safetensors --out clip.safetensors\n  magpie \
    gallery words classes.txt --extractor clip.safetensors --template \"a photo of a {}.\"\n  magpie gallery calibrate \
    gallery.bin --query photos --extractor clip.safetensors --write\n\nA gallery of names alone gets the threshold 0.2, \
    which is not measured: `magpie gallery calibrate --query` measures one with pictures, and how sure answers are."
)]
pub(super) struct Words {
    /// Text file with the name of one class a line.
    classes: PathBuf,
    /// Model file of CLIP's tower of images.
    #[arg(long)]
    extractor: PathBuf,
    /// File of the tower of texts; without it the one that lies beside the extractor: clip.words.safetensors.
    #[arg(long = "words", value_name = "FILE")]
    tower_file: Option<PathBuf>,
    /// Text in which {} stands for the name; may be repeated: the entry is then the mean of all.
    #[arg(long, value_name = "TEXT", default_value = PLACE)]
    template: Vec<String>,
    /// Gallery file to write, or to add to if it is there.
    #[arg(long, default_value = "gallery.bin")]
    out: PathBuf,
    /// How embeddings of a new gallery are stored.
    #[arg(long, value_enum, default_value_t)]
    values: Values,
}

/// A name as an entry.
struct Entry {
    id: ContentId,
    embedding: Vec<f32>,
    /// Whether one of its texts was cut.
    is_cut: bool,
}

impl Words {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        if let Some(template) = self.template.iter().find(|template| !template.contains(PLACE)) {
            bail!(
                "--template {}: write {PLACE} where the name of the class belongs",
                quoted(template)
            );
        }
        let labels = self.labels()?;
        let beside = words_beside(&self.extractor);
        let path = self.tower_file.as_deref().unwrap_or(&beside);
        let change = Change::of(&self.out, &[&self.classes, &self.extractor, path])?;
        let embedder = Embedder::open(&self.extractor, DeviceKind::Cpu)?;
        let tower = self.tower(path, &embedder)?;
        let mut gallery = if self.out.exists() {
            let gallery = super::open(&self.out)?;
            check_extractor(&gallery, &self.out, &self.extractor, &embedder.id)?;
            gallery
        } else {
            let dim = embedder.embedding_dim();
            Gallery::with_type(dim, embedder.id.clone(), self.values.into())
        };
        let had_entries = !gallery.is_empty();
        let progress = Progress::new("names", labels.len());
        let entries: Vec<Entry> = labels
            .par_iter()
            .map(|label| {
                let entry = self.entry(&tower, label);
                progress.advance(1);
                entry
            })
            .collect();
        drop(progress);
        say_cut(&labels, &entries, tower.most_tokens());
        let (added, known) = add(&mut gallery, labels, &entries)?;
        if !had_entries && gallery.min_similarity().is_none() {
            gallery.set_min_similarity(Some(LEAST))?;
        }
        change.save(&gallery)?;
        println!("names of {} added, {known} there already", many(added, CLASSES));
        if !had_entries {
            println!(
                "threshold {LEAST}, which is not measured: `magpie gallery calibrate --query` measures one with pictures"
            );
        } else if added > 0 {
            say_stale(&gallery);
            println!(
                "pictures are more similar to pictures than to names: a class with pictures wins over one of its name \
                 alone"
            );
        }
        println!("{}", summary(&self.out, &gallery)?);
        Ok(())
    }

    /// The tower of texts, which has to be that of the extractor.
    fn tower(&self, path: &std::path::Path, embedder: &Embedder) -> anyhow::Result<TextTower> {
        let shown = path.display();
        if self.tower_file.is_none() && self.extractor.as_os_str() == GENERAL {
            bail!(
                "{GENERAL} was not learned with texts; give by --extractor a network of CLIP, which `magpie import` reads \
                 with its tower of texts"
            );
        }
        if !path.exists() {
            bail!(
                "{shown}: there is no tower of texts; `magpie import` of a file of CLIP writes it beside the model file, \
                 or give it with --words"
            );
        }
        let bytes = files::read(path, files::MODEL_LIMIT)?;
        let read = TextParts::from_bytes(&bytes).and_then(|(parts, id)| Ok((parts.tower()?, id)));
        let (tower, id) = read.with_context(|| shown.to_string())?;
        let (extractor, wanted) = (self.extractor.display(), embedder.embedding_dim());
        if tower.dim() != wanted {
            bail!(
                "{shown}: its embeddings have {} values, those of {extractor} {wanted}; give the two that one `magpie \
                 import` has written",
                tower.dim()
            );
        }
        if id != embedder.id && self.tower_file.is_none() {
            bail!(
                "{shown}: belongs to another model than {extractor} ({id}, not {}); give the two that one `magpie \
                 import` has written, or --words if {extractor} came of that model",
                embedder.id
            );
        }
        Ok(tower)
    }

    /// The names of the list, each once.
    fn labels(&self) -> anyhow::Result<Vec<String>> {
        let bytes = files::read(&self.classes, LIST_LIMIT)?;
        let text = files::text(bytes).map_err(|error| {
            anyhow::anyhow!("{}:{}: {error}", self.classes.display(), error.line())
        })?;
        let (mut labels, mut there) = (Vec::new(), HashSet::new());
        for (line, text) in text.lines().enumerate().filter(|(_, text)| label(text).is_some()) {
            let place = || format!("{}:{}", self.classes.display(), line + 1);
            if text.len() > LONGEST {
                bail!("{}: a name has {LONGEST} bytes at most; shorten it", place());
            }
            let label = checked(text).with_context(place)?;
            if there.insert(label.clone()) {
                labels.push(label);
            }
        }
        if labels.is_empty() {
            bail!("{}: holds no name; write the name of one class a line", self.classes.display());
        }
        Ok(labels)
    }

    /// The mean of a name's embeddings in all templates, and what stands for these words as an entry.
    fn entry(&self, tower: &TextTower, label: &str) -> Entry {
        let texts: Vec<String> =
            self.template.iter().map(|template| template.replace(PLACE, label)).collect();
        // No file of an image begins so.
        let id = ContentId::of(format!("words\n{}", texts.join("\n")).as_bytes());
        let (mut embedding, mut is_cut) = (vec![0.0; tower.dim()], false);
        for text in &texts {
            let embedded = tower.embed(text);
            embedding.iter_mut().zip(embedded.values).for_each(|(sum, value)| *sum += value);
            is_cut |= embedded.is_cut;
        }
        Entry { id, embedding, is_cut }
    }
}

/// Says once that names are too long.
fn say_cut(labels: &[String], entries: &[Entry], most: usize) {
    let mut cut = labels.iter().zip(entries).filter(|(_, entry)| entry.is_cut);
    if let Some((first, _)) = cut.next() {
        let start: String = first.chars().take(40).collect();
        let others = match cut.count() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        eprintln!(
            "note: {} …{others}: what is behind {most} tokens has no part in the embedding",
            quoted(&start)
        );
    }
}

/// Adds names; how many were new, and how many were there.
fn add(
    gallery: &mut Gallery,
    labels: Vec<String>,
    entries: &[Entry],
) -> anyhow::Result<(usize, usize)> {
    let there: BTreeSet<ContentId> = gallery.entries().map(|at| gallery.content_id(at)).collect();
    // An older gallery may spell a label otherwise.
    let mut classes: HashMap<String, usize> = HashMap::new();
    for (class, known) in gallery.classes().iter().enumerate() {
        classes.entry(label(&known.label).unwrap_or_else(|| known.label.clone())).or_insert(class);
    }
    let (mut added, mut known) = (0, 0);
    for (label, entry) in labels.into_iter().zip(entries) {
        if there.contains(&entry.id) {
            known += 1;
            continue;
        }
        let class = *classes.entry(label.clone()).or_insert_with(|| {
            gallery.add_class(Class { label: label.clone(), ..Class::default() }, Vec::new())
        });
        let is_added = gallery.add_image(class, &entry.embedding, entry.id);
        is_added.with_context(|| quoted(&label))?;
        added += 1;
    }
    gallery.connect();
    Ok((added, known))
}
