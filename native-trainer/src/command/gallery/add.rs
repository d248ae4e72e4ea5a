//! Pictures become entries.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use models::gallery::{Class, Gallery, GalleryStream, Metadata, PictureId};
use models::image::RgbImage;
use models::recognizer::class_thumbnail;

use super::super::{DeviceKind, Embedder, read};
use super::{IndexKind, Values, counted, finish, open_to_change, save, scratch, summary};
use crate::data::list_file::Samples;
use crate::data::store::{PictureError, decode_picture, read_file};

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
        let (id, values) = (embedder.id.clone(), self.values.into());
        let mut gallery = GalleryStream::new(dim, id, values, scratch(&self.out)?);
        let added = self.options.add(&mut gallery, Known::default(), &embedder, &wanted)?;
        if gallery.is_empty() {
            bail!("{}: none of the pictures can be used", self.images.display());
        }
        let (config, why) = self.index.config(gallery.len());
        if let Some(why) = why {
            println!("index: {} ({why})", super::index_name(config));
        }
        let (classes, entries) = (gallery.classes().len(), gallery.len());
        finish(&self.out, gallery, config)?;
        println!("{}{}", counted(&self.out, classes, entries)?, added.left_out_text());
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
        let known = Known::of(&gallery);
        let added = self.options.add(&mut gallery, known, &embedder, &wanted)?;
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
        gallery: &mut impl Growing,
        mut known: Known,
        embedder: &Embedder,
        wanted: &[(String, PathBuf)],
    ) -> anyhow::Result<Outcome> {
        // Of several classes of a label the first, as the gallery itself has it, which walks over all.
        let mut classes: HashMap<String, usize> = HashMap::new();
        for (class, Class { label, .. }) in gallery.known_classes().iter().enumerate() {
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
                    None => known.vector(gallery, id)?.context("known pictures have vectors")?,
                };
                let class = if let Some(class) = classes.get(label) {
                    *class
                } else {
                    let class = Class { label: label.to_owned(), ..Class::default() };
                    let place = gallery.put_class(class)?;
                    classes.insert(label.to_owned(), place);
                    place
                };
                if !gallery.has_picture(class)
                    && let Some(picture) = picture
                {
                    gallery.put_thumbnail(class, class_thumbnail(picture)?)?;
                }
                if known.insert(gallery, class, id) {
                    gallery.put(class, &embedding, id)?;
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
                gallery.describe(class, facts)?;
            }
        }
        Ok(done)
    }
}

/// A gallery that pictures are added to: one in memory, or one on its way into a file.
trait Growing {
    fn known_classes(&self) -> &[Class];
    /// Number of entries, and the class of one.
    fn positions(&self) -> usize;
    fn class_of(&self, entry: usize) -> Option<usize>;
    /// The embedding of an entry.
    fn embedding(&mut self, entry: usize) -> anyhow::Result<Option<Vec<f32>>>;
    fn has_picture(&self, class: usize) -> bool;
    fn put_class(&mut self, class: Class) -> anyhow::Result<usize>;
    fn put_thumbnail(&mut self, class: usize, thumbnail: Vec<u8>) -> anyhow::Result<()>;
    fn put(&mut self, class: usize, embedding: &[f32], id: PictureId) -> anyhow::Result<()>;
    /// Gives a class other metadata.
    fn describe(&mut self, class: usize, metadata: Metadata) -> anyhow::Result<()>;
}

impl Growing for Gallery {
    fn known_classes(&self) -> &[Class] {
        self.classes()
    }

    fn positions(&self) -> usize {
        self.index().positions()
    }

    fn class_of(&self, entry: usize) -> Option<usize> {
        (entry < self.positions()).then(|| self.entry_class(entry))
    }

    fn embedding(&mut self, entry: usize) -> anyhow::Result<Option<Vec<f32>>> {
        let there = entry < self.positions();
        Ok(there.then(|| self.index().vector(entry).into_owned()))
    }

    fn has_picture(&self, class: usize) -> bool {
        !self.thumbnail(class).is_empty()
    }

    fn put_class(&mut self, class: Class) -> anyhow::Result<usize> {
        Ok(self.add_class(class, Vec::new()))
    }

    fn put_thumbnail(&mut self, class: usize, thumbnail: Vec<u8>) -> anyhow::Result<()> {
        Ok(self.set_thumbnail(class, thumbnail)?)
    }

    fn put(&mut self, class: usize, embedding: &[f32], id: PictureId) -> anyhow::Result<()> {
        Ok(self.add_picture(class, embedding, id)?)
    }

    fn describe(&mut self, class: usize, metadata: Metadata) -> anyhow::Result<()> {
        let threshold = self.classes()[class].min_similarity;
        Ok(self.describe_class(class, metadata, threshold)?)
    }
}

impl Growing for GalleryStream<File> {
    fn known_classes(&self) -> &[Class] {
        self.classes()
    }

    fn positions(&self) -> usize {
        self.len()
    }

    fn class_of(&self, entry: usize) -> Option<usize> {
        self.entry_class(entry)
    }

    fn embedding(&mut self, entry: usize) -> anyhow::Result<Option<Vec<f32>>> {
        Ok(self.vector(entry)?)
    }

    fn has_picture(&self, class: usize) -> bool {
        self.has_thumbnail(class)
    }

    fn put_class(&mut self, class: Class) -> anyhow::Result<usize> {
        Ok(self.add_class(class, &[])?)
    }

    fn put_thumbnail(&mut self, class: usize, thumbnail: Vec<u8>) -> anyhow::Result<()> {
        Ok(self.set_thumbnail(class, &thumbnail)?)
    }

    fn put(&mut self, class: usize, embedding: &[f32], id: PictureId) -> anyhow::Result<()> {
        Ok(self.add_picture(class, embedding, id)?)
    }

    fn describe(&mut self, class: usize, metadata: Metadata) -> anyhow::Result<()> {
        Ok(self.describe_class(class, metadata, None)?)
    }
}

/// Where pictures are in a gallery.
#[derive(Default)]
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

    fn vector(
        &self,
        gallery: &mut impl Growing,
        id: PictureId,
    ) -> anyhow::Result<Option<Vec<f32>>> {
        let entry = self.entries.get(&id).and_then(|entries| entries.first());
        entry.map_or(Ok(None), |entry| gallery.embedding(*entry))
    }

    /// Takes note of the next entry of the gallery; `false` where the class has the picture.
    fn insert(&mut self, gallery: &impl Growing, class: usize, id: PictureId) -> bool {
        let entries = self.entries.entry(id).or_default();
        if entries.iter().any(|entry| gallery.class_of(*entry) == Some(class)) {
            return false;
        }
        entries.push(gallery.positions());
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
            let bytes = read_file(path)?;
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
