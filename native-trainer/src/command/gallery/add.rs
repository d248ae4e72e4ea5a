//! Pictures become entries.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use models::gallery::{Class, Gallery, Metadata, PictureId};
use models::image::RgbImage;
use models::recognizer::class_thumbnail;

use super::super::{DeviceKind, Embedder, read};
use super::{IndexKind, Values, open_to_change, save, summary};
use crate::data::list_file::Samples;
use crate::data::store::{PictureError, decode_picture};

/// Pictures decoded and embedded at once.
const CHUNK: usize = 128;

/// Embeds pictures into a new gallery. Pictures that cannot be used are named and left out.
#[derive(Debug, Args)]
#[command(
    after_help = "Example (one sub-folder a class):\n  magpie gallery build --images photos \
    --extractor weights/extractor.safetensors --out gallery.bin"
)]
pub(super) struct Build {
    /// Folder with one sub-folder a class, or a list file.
    #[arg(long)]
    images: PathBuf,
    /// Gallery file to write.
    #[arg(long)]
    out: PathBuf,
    /// How entries are found.
    #[arg(long, value_enum, default_value_t)]
    index: IndexKind,
    /// How embeddings are stored.
    #[arg(long, value_enum, default_value_t)]
    values: Values,
    #[command(flatten)]
    options: Options,
}

/// Writes a gallery without entries.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie gallery new --extractor weights/extractor.safetensors \
    gallery.bin")]
pub(super) struct New {
    /// Gallery file to write.
    gallery: PathBuf,
    /// Model file of the extractor.
    #[arg(long)]
    extractor: PathBuf,
    /// How embeddings are stored.
    #[arg(long, value_enum, default_value_t)]
    values: Values,
}

/// Adds pictures to a gallery. Those that it has already are not embedded again.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie gallery add gallery.bin --images photos --extractor \
    weights/extractor.safetensors\n  magpie gallery add gallery.bin --class Mug --extractor \
    weights/extractor.safetensors mug1.jpg mug2.jpg")]
pub(super) struct Add {
    /// Gallery file.
    gallery: PathBuf,
    /// Folder with one sub-folder a class, or a list file.
    #[arg(long, conflicts_with = "class", required_unless_present = "class")]
    images: Option<PathBuf>,
    /// Class of the pictures that follow.
    #[arg(long, requires = "pictures")]
    class: Option<String>,
    /// Pictures of one class.
    #[arg(requires = "class")]
    pictures: Vec<PathBuf>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
struct Options {
    /// Model file of the extractor.
    #[arg(long)]
    extractor: PathBuf,
    /// JSON file: class name → facts shown with it, e.g. {"Mug": {"price": "9 €"}}.
    #[arg(long)]
    metadata: Option<PathBuf>,
    /// Fails where a picture cannot be used.
    #[arg(long)]
    strict: bool,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
}

/// What adding pictures came to.
#[derive(Debug, Default)]
struct Outcome {
    added: usize,
    known: usize,
    left_out: usize,
}

impl Build {
    #[expect(clippy::print_stdout, reason = "progress")]
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let wanted = listed(&self.images)?;
        let embedder = Embedder::open(&self.options.extractor, self.options.device)?;
        let dim = embedder.embedding_dim();
        let mut gallery = Gallery::with_type(dim, embedder.id.clone(), self.values.into());
        let added = self.options.add(&mut gallery, &embedder, &wanted)?;
        if gallery.is_empty() {
            bail!("{}: none of the pictures can be used", self.images.display());
        }
        let (config, why) = self.index.config(gallery.len());
        gallery.set_index(config)?;
        save(&self.out, &gallery)?;
        if let Some(why) = why {
            println!("index: {} ({why})", super::index_name(config));
        }
        println!("{}{}", summary(&self.out, &gallery)?, added.left_out_text());
        Ok(())
    }
}

impl New {
    #[expect(clippy::print_stdout, reason = "the command's answer")]
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let embedder = Embedder::open(&self.extractor, DeviceKind::Cpu)?;
        if self.gallery.exists() {
            bail!("{}: there is a file already; take it away first", self.gallery.display());
        }
        let dim = embedder.embedding_dim();
        let gallery = Gallery::with_type(dim, embedder.id, self.values.into());
        save(&self.gallery, &gallery)?;
        println!("{}", summary(&self.gallery, &gallery)?);
        Ok(())
    }
}

impl Add {
    #[expect(clippy::print_stdout, reason = "progress")]
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let wanted = match (&self.images, &self.class) {
            (Some(images), _) => listed(images)?,
            (None, Some(class)) => {
                self.pictures.iter().map(|path| (class.clone(), path.clone())).collect()
            }
            (None, None) => bail!("give --images, or --class with pictures"),
        };
        let (mut gallery, change) = open_to_change(&self.gallery)?;
        let embedder = Embedder::open(&self.options.extractor, self.options.device)?;
        gallery.check_model(&embedder.id).with_context(|| self.gallery.display().to_string())?;
        let added = self.options.add(&mut gallery, &embedder, &wanted)?;
        change.save(&gallery)?;
        println!("{} added, {} there already{}", added.added, added.known, added.left_out_text());
        println!("{}", summary(&self.gallery, &gallery)?);
        Ok(())
    }
}

impl Outcome {
    fn left_out_text(&self) -> String {
        match self.left_out {
            0 => String::new(),
            some => format!("; {some} pictures left out"),
        }
    }
}

/// Class and file of every picture of a folder or list.
fn listed(images: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let Samples { samples, labels, .. } = Samples::read(images)?;
    Ok(samples.into_iter().map(|s| (labels[s.label].clone(), s.path)).collect())
}

impl Options {
    /// Adds what the gallery does not have yet, in the order of the list.
    #[expect(clippy::print_stdout, clippy::print_stderr, reason = "progress and warnings")]
    fn add(
        &self,
        gallery: &mut Gallery,
        embedder: &Embedder,
        wanted: &[(String, PathBuf)],
    ) -> anyhow::Result<Outcome> {
        let mut known = Known::of(gallery);
        // Of several classes of a label the first, as the gallery itself has it, which walks over all.
        let mut classes: HashMap<String, usize> = HashMap::new();
        for (class, Class { label, .. }) in gallery.classes().iter().enumerate() {
            classes.entry(label.clone()).or_insert(class);
        }
        let metadata = read_metadata(self.metadata.as_deref(), &classes, wanted)?;
        let mut done = Outcome::default();
        for (index, chunk) in wanted.chunks(CHUNK).enumerate() {
            let (mut places, mut pictures) = (Vec::new(), Vec::new());
            for ((label, _), read) in chunk.iter().zip(read_all(chunk, &known)) {
                match read {
                    Ok((id, picture)) => {
                        places.push((label.as_str(), id));
                        pictures.push(picture);
                    }
                    Err(error) if self.strict => return Err(error.into()),
                    Err(error) => {
                        done.left_out += 1;
                        eprintln!("left out: {error}");
                    }
                }
            }
            let fresh: Vec<RgbImage> = pictures.iter().flatten().cloned().collect();
            let mut embeddings = embedder.embed_pictures(&fresh)?.into_iter();
            for ((label, id), picture) in places.into_iter().zip(&pictures) {
                let embedding = match picture {
                    Some(_) => embeddings.next().context("an embedding for every picture")?,
                    None => known.vector(gallery, id).context("known pictures have vectors")?,
                };
                let class = *classes.entry(label.to_owned()).or_insert_with(|| {
                    let class = Class { label: label.to_owned(), ..Class::default() };
                    gallery.add_class(class, Vec::new())
                });
                if gallery.thumbnail(class).is_empty()
                    && let Some(picture) = picture
                {
                    gallery.set_thumbnail(class, class_thumbnail(picture)?)?;
                }
                if known.insert(gallery, class, id) {
                    gallery.add_picture(class, &embedding, id)?;
                    done.added += 1;
                } else {
                    done.known += 1;
                }
            }
            let count = (index * CHUNK + chunk.len()).min(wanted.len());
            println!("{count}/{} pictures", wanted.len());
        }
        for (label, facts) in metadata {
            if let Some(class) = classes.get(&label).copied() {
                let threshold = gallery.classes()[class].min_similarity;
                gallery.describe_class(class, facts, threshold)?;
            }
        }
        Ok(done)
    }
}

/// Where pictures are in a gallery.
struct Known {
    /// Positions of the entries of a picture.
    entries: HashMap<PictureId, Vec<usize>>,
}

impl Known {
    fn of(gallery: &Gallery) -> Self {
        let mut entries: HashMap<PictureId, Vec<usize>> = HashMap::new();
        for entry in gallery.entries() {
            entries.entry(gallery.picture(entry)).or_default().push(entry);
        }
        entries.remove(&PictureId::default());
        Self { entries }
    }

    fn contains(&self, id: PictureId) -> bool {
        self.entries.contains_key(&id)
    }

    fn vector(&self, gallery: &Gallery, id: PictureId) -> Option<Vec<f32>> {
        let entry = *self.entries.get(&id)?.first()?;
        Some(gallery.index().vector(entry).into_owned())
    }

    /// Takes note of the next entry of the gallery; `false` where the class has the picture.
    fn insert(&mut self, gallery: &Gallery, class: usize, id: PictureId) -> bool {
        let entries = self.entries.entry(id).or_default();
        let has = |entry: &usize| {
            *entry < gallery.index().positions() && gallery.entry_class(*entry) == class
        };
        if entries.iter().any(has) {
            return false;
        }
        entries.push(gallery.index().positions());
        true
    }
}

/// Reads files on all threads and decodes those that are not known, in order.
fn read_all(
    wanted: &[(String, PathBuf)],
    known: &Known,
) -> Vec<Result<(PictureId, Option<RgbImage>), PictureError>> {
    use rayon::prelude::*;
    wanted
        .par_iter()
        .map(|(_, path)| {
            let bytes = std::fs::read(path).map_err(|error| PictureError::new(path, error))?;
            let id = PictureId::of(&bytes);
            if known.contains(id) {
                return Ok((id, None));
            }
            Ok((id, Some(decode_picture(path, &bytes)?)))
        })
        .collect()
}

fn read_metadata(
    path: Option<&Path>,
    classes: &HashMap<String, usize>,
    wanted: &[(String, PathBuf)],
) -> anyhow::Result<BTreeMap<String, Metadata>> {
    let Some(path) = path else { return Ok(BTreeMap::new()) };
    let metadata: BTreeMap<String, Metadata> = serde_json::from_slice(&read(path)?)
        .with_context(|| format!("{}: expected {{class: {{name: text}}}}", path.display()))?;
    let wanted: HashSet<&str> = wanted.iter().map(|(label, _)| label.as_str()).collect();
    let there = |name: &str| classes.contains_key(name) || wanted.contains(name);
    if let Some(name) = metadata.keys().find(|name| !there(name)) {
        bail!("{}: there is no class {name:?}", path.display());
    }
    Ok(metadata)
}
