//! Pictures become entries.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use models::gallery::{
    Class, ContentId, Gallery, GalleryStream, Growing, Summary, check_embedding,
};
use models::image::RgbImage;
use models::recognizer::class_thumbnail;
use rayon::prelude::*;

use super::crops::{Cropper, Crops};
use super::learn::Learn;
use super::wanted::{Unusable, Wanted, read_metadata};
use super::{
    CLASSES, Change, ENTRIES, IndexKind, Values, check_extractor, counted, many, open_to_change,
    say_reach, say_stale, summary,
};
use crate::cli::{DeviceKind, Embedder};
use crate::data::label::Labels;
use crate::data::store::{PictureError, PictureProblem, decode_picture, read_file, read_picture};

/// Pictures decoded and embedded at once.
const CHUNK: usize = 128;

/// Embeds pictures into a new gallery, which then learns from its entries what it can. Pictures that cannot be used
/// are named and left out.
#[derive(Debug, Args)]
#[command(
    after_help = "Example (one sub-folder per class):\n  magpie gallery build --images photos \
    --extractor lite0.safetensors --out gallery.bin"
)]
pub(super) struct Build {
    /// Folder with one sub-folder per class, or a list file.
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
    learn: Learn,
    #[command(flatten)]
    options: Options,
}

/// Writes a gallery without entries.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie gallery new --extractor lite0.safetensors \
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

/// Adds pictures to a gallery. Those that it has already are not embedded again. A gallery that has grown by a
/// quarter since it learned from its entries learns anew.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie gallery add gallery.bin --images photos --extractor \
    lite0.safetensors\n  magpie gallery add gallery.bin --class Mug --extractor \
    lite0.safetensors mug1.jpg mug2.jpg\n\nEnds with 1 where nothing can be used; where one of \
    the files given with --class cannot, after the others were added.")]
pub(super) struct Add {
    /// Gallery file.
    gallery: PathBuf,
    /// Folder with one sub-folder per class, or a list file.
    #[arg(long, conflicts_with_all = ["class", "pictures"])]
    images: Option<PathBuf>,
    /// Class of the pictures that follow.
    #[arg(long)]
    class: Option<String>,
    /// Pictures of one class.
    pictures: Vec<PathBuf>,
    #[command(flatten)]
    learn: Learn,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
struct Options {
    /// Model file of the extractor.
    #[arg(long)]
    extractor: PathBuf,
    /// JSON file: class name → metadata shown with it, e.g. {"Mug": {"price": "9 €"}}.
    #[arg(long)]
    metadata: Option<PathBuf>,
    #[command(flatten)]
    crops: Crops,
    /// Fails, and changes nothing, where a picture or a folder of a class cannot be used.
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
    unusable: Unusable,
}

impl Build {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let wanted = Wanted::listed(&self.images, self.options.strict)?;
        let mut inputs = self.options.inputs();
        inputs.push(&self.images);
        inputs.extend(wanted.pictures.iter().map(|(_, path)| path.as_path()));
        let change = Change::of(&self.out, &inputs)?;
        say_replaced(&self.out);
        let embedder = Embedder::open(&self.options.extractor, self.options.device)?;
        let dim = embedder.embedding_dim();
        let (id, values) = (embedder.id.clone(), self.values.into());
        let cropper = self.options.crops.open(None, self.options.device, &embedder, &wanted)?;
        let mut gallery = GalleryStream::new(dim, id, values, change.scratch()?);
        gallery.set_crop(cropper.crop());
        let added =
            self.options.add(&mut gallery, Known::default(), &embedder, &cropper, &wanted)?;
        if gallery.is_empty() {
            bail!("{}: none of the pictures can be used; see above", self.images.display());
        }
        let (config, why) = self.index.config(gallery.len());
        if let Some(why) = why {
            println!("index: {} ({why})", super::index_name(config));
        }
        let (classes, entries) = (gallery.classes().len(), gallery.len());
        say_reach(config, change.finish(gallery, config)?, entries);
        let left_out = wanted.left_out_text(&added.unusable);
        if self.learn.is_wanted(entries) {
            let mut gallery = super::open(&self.out)?;
            if self.learn.first(&mut gallery)? {
                change.save(&gallery)?;
            }
        }
        println!("{}{left_out}", counted(&self.out, classes, entries, cropper.crop())?);
        Ok(())
    }
}

/// Says what a gallery loses that is built anew, if there is one. Before anything is embedded: the command can still
/// be stopped.
fn say_replaced(path: &Path) {
    let Ok(mut file) = File::open(path) else { return };
    let Ok(old) = Summary::read(&mut file) else { return };
    let described = old.classes.iter().filter(|class| !class.metadata.is_empty()).count();
    let threshold = if old.min_similarity.is_some() { " and a threshold" } else { "" };
    eprintln!(
        "note: {} is replaced; the gallery before had {}, metadata of {}{threshold}; `magpie gallery add` keeps them",
        path.display(),
        many(old.entries, ENTRIES),
        many(described, CLASSES)
    );
}

impl New {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let change = Change::of(&self.gallery, &[&self.extractor])?;
        let embedder = Embedder::open(&self.extractor, DeviceKind::Cpu)?;
        if self.gallery.exists() {
            bail!("{}: there is a file already; take it away first", self.gallery.display());
        }
        let dim = embedder.embedding_dim();
        let gallery = Gallery::with_type(dim, embedder.id, self.values.into());
        change.save(&gallery)?;
        println!("{}", summary(&self.gallery, &gallery)?);
        Ok(())
    }
}

impl Add {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let wanted = match (&self.images, &self.class) {
            (Some(images), _) => Wanted::listed(images, self.options.strict)?,
            (None, Some(class)) if !self.pictures.is_empty() => {
                Wanted::named(class, &self.pictures)?
            }
            _ => bail!(
                "say what to add: `--class NAME` with the pictures of that class, or `--images FOLDER` with \
                 one sub-folder per class"
            ),
        };
        let (mut gallery, change) = open_to_change(&self.gallery)?;
        let embedder = Embedder::open(&self.options.extractor, self.options.device)?;
        check_extractor(&gallery, &self.gallery, &self.options.extractor, &embedder.id)?;
        let (known, before) = (Known::of(&gallery), gallery.len());
        let had = (!gallery.is_empty()).then(|| gallery.crop());
        let cropper = self.options.crops.open(had, self.options.device, &embedder, &wanted)?;
        if had.is_none() {
            gallery.set_crop(cropper.crop());
        }
        let added = self.options.add(&mut gallery, known, &embedder, &cropper, &wanted)?;
        gallery.connect();
        let failed = added.unusable.count();
        if added.added + added.known == 0 {
            bail!(
                "none of the pictures can be used; see above: {} is as before",
                self.gallery.display()
            );
        }
        let learned = added.added > 0 && self.learn.again(&mut gallery, before)?;
        change.save(&gallery)?;
        if added.added > 0 && !learned {
            say_stale(&gallery);
        }
        let left_out = wanted.left_out_text(&added.unusable);
        println!("{} added, {} there already{left_out}", added.added, added.known);
        println!("{}", summary(&self.gallery, &gallery)?);
        if wanted.is_named && failed > 0 {
            bail!(
                "{failed} of the files given with --class cannot be used; the others are in the gallery"
            );
        }
        Ok(())
    }
}

impl Options {
    /// Files that are read besides the pictures.
    fn inputs(&self) -> Vec<&Path> {
        [Some(&self.extractor), self.metadata.as_ref(), self.crops.detector()]
            .into_iter()
            .flatten()
            .map(|p| &**p)
            .collect()
    }

    /// Adds what the gallery does not have yet, in the order of the list.
    fn add(
        &self,
        gallery: &mut impl Growing,
        mut known: Known,
        embedder: &Embedder,
        cropper: &Cropper,
        wanted: &Wanted,
    ) -> anyhow::Result<Outcome> {
        // The gallery itself walks over all of them.
        let labels = || gallery.all_classes().iter().map(|class| class.label.as_str());
        let mut classes: Labels = labels().collect();
        wanted.say_look_alikes(labels());
        let metadata = read_metadata(self.metadata.as_deref(), &classes, wanted)?;
        let mut done = Outcome::default();
        for (index, chunk) in wanted.pictures.chunks(CHUNK).enumerate() {
            let (mut places, mut pictures) = (Vec::new(), Vec::new());
            for ((label, path), read) in chunk.iter().zip(read_all(chunk, &known)) {
                match read {
                    Ok((id, picture)) => {
                        places.push((label.as_str(), path.as_path(), id));
                        pictures.push(picture);
                    }
                    Err(error) if self.strict => return Err(error.into()),
                    Err(error) => done.unusable.add(&error, wanted.is_named),
                }
            }
            let (mut fresh, mut files, mut counts) = (Vec::new(), Vec::new(), Vec::new());
            for ((_, path, id), picture) in places.iter().zip(&pictures) {
                let parts = match picture {
                    Some(picture) if !cropper.has_seen(*id) => cropper.parts(picture)?,
                    _ => Vec::new(),
                };
                files.extend(parts.iter().map(|_| *path));
                counts.push(parts.len());
                fresh.extend(parts);
            }
            let mut embedded = embedder.embed_files(&fresh, &files)?.into_iter();
            for (((label, path, id), picture), count) in
                places.into_iter().zip(&pictures).zip(counts)
            {
                let embeddings: Vec<Vec<f32>> = match (picture, cropper.seen(id)) {
                    (Some(_), Some(seen)) => seen,
                    (Some(_), None) => embedded.by_ref().take(count).collect(),
                    (None, _) => known.vectors(gallery, id)?,
                };
                if embeddings.is_empty() {
                    bail!("{}: has no embedding", path.display());
                }
                if let Err(error) = embeddings.iter().try_for_each(|row| check_embedding(row)) {
                    let error = PictureError::new(path, error);
                    if self.strict {
                        return Err(error.into());
                    }
                    done.unusable.add(&error, wanted.is_named);
                    continue;
                }
                let class = class_of(gallery, &mut classes, label)?;
                if !gallery.shows(class) {
                    // A picture that another class has was not decoded.
                    let picture = picture.clone().or_else(|| read_picture(path).ok());
                    if let Some(picture) = picture {
                        gallery.put_thumbnail(class, class_thumbnail(&picture)?)?;
                    }
                }
                let other = known.other_class(gallery, class, id);
                if known.insert(gallery, class, id, embeddings.len()) {
                    if let Some(other) = other {
                        let other = gallery.all_classes()[other].label.clone();
                        done.unusable.share(path, label, &other);
                    }
                    for embedding in &embeddings {
                        gallery.put_entry(class, embedding, id)?;
                    }
                    done.added += 1;
                } else {
                    done.known += 1;
                }
            }
            println!("{}/{} pictures", index * CHUNK + chunk.len(), wanted.pictures.len());
        }
        done.unusable.end(wanted, &classes);
        for (label, facts) in metadata {
            if let Some(class) = classes.find(&label) {
                gallery.put_metadata(class, facts)?;
            }
        }
        Ok(done)
    }
}

/// The class of a label, which is made if it is not there.
fn class_of(
    gallery: &mut impl Growing,
    classes: &mut Labels,
    label: &str,
) -> anyhow::Result<usize> {
    if let Some(class) = classes.find(label) {
        return Ok(class);
    }
    let class = gallery.put_class(Class { label: label.to_owned(), ..Class::default() })?;
    classes.insert(label, class);
    Ok(class)
}

/// Where pictures are in a gallery.
#[derive(Default)]
struct Known {
    /// Positions of the entries of a picture.
    entries: HashMap<ContentId, Vec<usize>>,
}

impl Known {
    fn of(gallery: &Gallery) -> Self {
        let mut entries: HashMap<ContentId, Vec<usize>> = HashMap::new();
        for entry in gallery.entries() {
            entries.entry(gallery.content_id(entry)).or_default().push(entry);
        }
        entries.remove(&ContentId::default());
        Self { entries }
    }

    fn contains(&self, id: ContentId) -> bool {
        self.entries.contains_key(&id)
    }

    /// The embeddings of a picture's entries in one class, of which there are several if its parts are entries.
    fn vectors(&self, gallery: &mut impl Growing, id: ContentId) -> anyhow::Result<Vec<Vec<f32>>> {
        let Some(entries) = self.entries.get(&id) else { return Ok(Vec::new()) };
        let class = entries.first().and_then(|entry| gallery.class_of(*entry));
        let mut vectors = Vec::new();
        for entry in entries {
            if gallery.class_of(*entry) == class {
                vectors.extend(gallery.embedding_of(*entry)?);
            }
        }
        Ok(vectors)
    }

    /// Another class that has the picture.
    fn other_class(&self, gallery: &impl Growing, class: usize, id: ContentId) -> Option<usize> {
        let entries = self.entries.get(&id)?;
        entries.iter().filter_map(|entry| gallery.class_of(*entry)).find(|other| *other != class)
    }

    /// Takes note of the next entries of the gallery, `count` of them; `false` where the class has the picture.
    fn insert(
        &mut self,
        gallery: &impl Growing,
        class: usize,
        id: ContentId,
        count: usize,
    ) -> bool {
        let entries = self.entries.entry(id).or_default();
        if entries.iter().any(|entry| gallery.class_of(*entry) == Some(class)) {
            return false;
        }
        let next = gallery.next_entry();
        entries.extend(next..next + count);
        true
    }
}

/// Reads files on all threads and decodes those that are not known, in order.
fn read_all(
    wanted: &[(String, PathBuf)],
    known: &Known,
) -> Vec<Result<(ContentId, Option<RgbImage>), PictureError>> {
    wanted
        .par_iter()
        .map(|(_, path)| {
            let bytes = read_file(path)?;
            let id = ContentId::of(&bytes);
            if known.contains(id) {
                return Ok((id, None));
            }
            let picture = decode_picture(path, &bytes)?;
            if picture.is_one_color() {
                return Err(PictureError::new(path, PictureProblem::OneColor));
            }
            Ok((id, Some(picture)))
        })
        .collect()
}
