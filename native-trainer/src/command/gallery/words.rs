//! Words become entries.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use models::gallery::{Class, ContentId, Gallery};

use super::{CLASSES, Change, Values, check_extractor, find_class, many, say_stale, summary};
use crate::cli::{DeviceKind, Embedder};
use crate::files;
use crate::text::{TextTower, words_beside};
use authoring::label::{label, quoted};

/// What stands for the name of a class in a template.
const PLACE: &str = "{}";

/// Most bytes of a list of classes.
const LIST_LIMIT: u64 = 16 << 20;

/// Adds names of classes to a gallery of CLIP: pictures of a class that has no picture are recognized by its name.
///
/// The gallery may hold pictures, too. The tower of texts that embeds the names is needed here alone; `magpie import` has
/// written it beside the extractor.
#[derive(Debug, Args)]
#[command(
    after_help = "Example (one name a line):\n  magpie import model.safetensors --out clip.safetensors\n  magpie gallery \
    words classes.txt --extractor clip.safetensors --template \"a photo of a {}.\""
)]
pub(super) struct Words {
    /// Text file with the name of one class a line.
    classes: PathBuf,
    /// Model file of CLIP's tower of images.
    #[arg(long)]
    extractor: PathBuf,
    /// File of the tower of texts; without it the one that lies beside the extractor: clip.words.safetensors.
    #[arg(long, value_name = "FILE")]
    words: Option<PathBuf>,
    /// Text in which {} stands for the name; may be repeated: an entry is then the mean of all.
    #[arg(long, value_name = "TEXT", default_value = PLACE)]
    template: Vec<String>,
    /// Gallery file to write, or to add to if it is there.
    #[arg(long, default_value = "gallery.bin")]
    out: PathBuf,
    /// How embeddings of a new gallery are stored.
    #[arg(long, value_enum, default_value_t)]
    values: Values,
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
        let path = self.words.as_deref().unwrap_or(&beside);
        let change = Change::of(&self.out, &[&self.classes, &self.extractor, path])?;
        let embedder = Embedder::open(&self.extractor, DeviceKind::Cpu)?;
        if !path.exists() {
            bail!(
                "{}: there is no tower of texts; `magpie import` of a file of CLIP that has one writes it there, or give \
                 its file with --words",
                path.display()
            );
        }
        let bytes = files::read(path, files::MODEL_LIMIT)?;
        let tower = TextTower::from_bytes(&bytes).with_context(|| path.display().to_string())?;
        if tower.description().extractor != embedder.id {
            bail!(
                "{}: belongs to another extractor than {} ({}, not {}); give the two that one `magpie import` has written",
                path.display(),
                self.extractor.display(),
                tower.description().extractor,
                embedder.id
            );
        }
        let mut gallery = if self.out.exists() {
            let gallery = super::open(&self.out)?;
            check_extractor(&gallery, &self.out, &self.extractor, &embedder.id)?;
            gallery
        } else {
            let dim = embedder.embedding_dim();
            Gallery::with_type(dim, embedder.id.clone(), self.values.into())
        };
        let had_entries = !gallery.is_empty();
        let (mut added, mut known) = (0, 0);
        for label in labels {
            let (id, embedding) = self.embedded(&tower, &label)?;
            let class = find_class(&gallery, &label).unwrap_or_else(|| {
                gallery.add_class(Class { label, ..Class::default() }, Vec::new())
            });
            let is_there = |entry: usize| gallery.content_id(entry) == id;
            if (0..gallery.len()).any(is_there) {
                known += 1;
            } else {
                gallery.add_image(class, &embedding, id)?;
                added += 1;
            }
        }
        gallery.connect();
        change.save(&gallery)?;
        if added > 0 && had_entries {
            say_stale(&gallery);
        }
        println!("words of {} added, {known} there already", many(added, CLASSES));
        println!("{}", summary(&self.out, &gallery)?);
        Ok(())
    }

    /// The names of the list, each once.
    fn labels(&self) -> anyhow::Result<Vec<String>> {
        let bytes = files::read(&self.classes, LIST_LIMIT)?;
        let text = files::text(bytes).map_err(|error| {
            anyhow::anyhow!("{}:{}: {error}", self.classes.display(), error.line())
        })?;
        let mut labels: Vec<String> = Vec::new();
        for label in text.lines().filter_map(label) {
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
        if labels.is_empty() {
            bail!("{}: holds no name; write the name of one class a line", self.classes.display());
        }
        Ok(labels)
    }

    /// The mean of a name's embeddings in all templates, and what stands for these words as an entry.
    fn embedded(&self, tower: &TextTower, label: &str) -> anyhow::Result<(ContentId, Vec<f32>)> {
        let texts: Vec<String> =
            self.template.iter().map(|template| template.replace(PLACE, label)).collect();
        let mut mean = vec![0.0; tower.dim()];
        for text in &texts {
            let embedding = tower.embed(text)?;
            mean.iter_mut().zip(embedding).for_each(|(sum, value)| *sum += value);
        }
        // No file of an image begins so.
        let id = ContentId::of(format!("words\n{}", texts.join("\n")).as_bytes());
        Ok((id, mean))
    }
}
