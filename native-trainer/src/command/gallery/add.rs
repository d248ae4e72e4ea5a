//! Pictures become entries.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use models::gallery::{Crop, Gallery, GalleryStream, Growing, Metadata, Summary};

use super::crops::{Chosen, Crops};
use super::learn::Learn;
use super::wanted::{Unusable, Wanted, read_metadata};
use super::{
    CLASSES, Change, ENTRIES, IndexKind, Values, check_extractor, counted, digest_of_model, many,
    open_to_change, say_reach, say_stale, summary,
};
use crate::cli::{DeviceKind, Embedder};
use crate::networks;
use crate::terminal::audience;
use authoring::embedding_shard::Head;
use authoring::label::Labels;
use authoring::{self, Cropper, Event, Known};

/// Pictures between two lines about how far a command has come.
const SAID: usize = 128;

/// Embeds pictures into a new gallery, which then learns from its entries what it can. Pictures that cannot be used
/// are named and left out.
#[derive(Debug, Args)]
#[command(
    after_help = "Example (one sub-folder per class):\n  magpie gallery build --images photos \
    --extractor lite0.safetensors --out gallery.bin\n\nOf the shards that `magpie embed` made, in any order:\n  \
    magpie gallery build --shards shards --extractor lite0.safetensors --out gallery.bin"
)]
pub(super) struct Build {
    /// Folder with one sub-folder per class, a zip file of one, or a list file.
    #[arg(long, required_unless_present = "shards")]
    images: Option<PathBuf>,
    /// All embedding shards of a list, or folders of them, in the place of its pictures. The gallery is the one that the
    /// pictures make.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "images")]
    shards: Vec<PathBuf>,
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
    /// Model file of the extractor; `general` is the one that magpie brings along.
    #[arg(long, default_value = networks::GENERAL)]
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
    /// Folder with one sub-folder per class, a zip file of one, or a list file.
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
    /// Model file of the extractor; `general` is the one that magpie brings along.
    #[arg(long, default_value = networks::GENERAL)]
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
        let strict = self.options.strict;
        let wanted = match &self.images {
            Some(images) => Wanted::listed(images, strict)?,
            None => Wanted::in_shards(&self.shards, strict)?,
        };
        let mut inputs = self.options.inputs();
        inputs.extend(self.images.as_deref());
        inputs.extend(wanted.files());
        let change = Change::anew(&self.out, &inputs)?;
        let crops = &self.options.crops;
        let crop = wanted.head().map(|head| crops.in_shards(head)).transpose()?.flatten();
        let detector = match crop {
            Some(_) => None,
            None => crops.check(None, &self.options.extractor)?,
        };
        let metadata = self.options.metadata(&Labels::default(), &wanted)?;
        let before = of_before(&self.out);
        let embedder = Embedder::open(&self.options.extractor, self.options.device)?;
        let dim = embedder.embedding_dim();
        let (id, values) = (embedder.id.clone(), self.values.into());
        if let Some(head) = wanted.head() {
            self.options.check_networks(head, &embedder, detector.as_deref(), crop)?;
        }
        let chosen = match crop {
            Some(crop) => Chosen::known(crop),
            None => crops.choose(None, detector.as_deref(), self.options.device)?,
        };
        let mut cropper = chosen.cropper(&embedder, &wanted)?;
        let mut gallery = GalleryStream::new(dim, id, values, change.scratch()?);
        gallery.set_crop(cropper.crop());
        let added =
            self.options.add(&mut gallery, Known::default(), &mut cropper, &wanted, metadata)?;
        if gallery.is_empty() {
            bail!("{}: none of the pictures can be used; see above", self.pictures());
        }
        let (config, why) = self.index.config(gallery.len());
        if let Some(why) = why {
            println!("index: {} ({why})", super::index_name(config));
        }
        let (classes, entries) = (gallery.classes().len(), gallery.len());
        say_reach(config, change.finish(gallery, config)?, entries);
        let left_out = wanted.left_out_text(&added.unusable);
        if self.learn.is_wanted(entries, &mut |text| println!("{text}")) {
            let mut gallery = super::open(&self.out)?;
            if self.learn.first(&mut gallery)? {
                change.save(&gallery)?;
            }
        }
        println!("{}{left_out}", counted(&self.out, classes, entries, cropper.crop())?);
        if let Some(before) = before {
            let out = self.out.display();
            eprintln!(
                "note: {out}: another gallery was there, with {before}; `magpie gallery add` keeps them"
            );
        }
        Ok(())
    }
}

impl Build {
    /// What holds the pictures, for errors.
    fn pictures(&self) -> String {
        let given = self.images.as_ref().or_else(|| self.shards.first());
        given.map_or(String::new(), |path| path.display().to_string())
    }
}

/// What a gallery has that is about to be built anew, if there is one.
fn of_before(path: &Path) -> Option<String> {
    let old = Summary::read(&mut File::open(path).ok()?).ok()?;
    let described = old.classes.iter().filter(|class| !class.metadata.is_empty()).count();
    let mut had =
        vec![many(old.entries, ENTRIES), format!("metadata of {}", many(described, CLASSES))];
    had.extend(old.min_similarity.map(|_| "a threshold".to_owned()));
    had.extend(old.map.map(|_| "a map".to_owned()));
    had.extend((old.crop != Crop::Never).then(|| format!("crop {}", old.crop.name())));
    Some(had.join(", "))
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
        let detector = self.options.crops.check(had, &self.options.extractor)?;
        let labels: Labels = gallery.classes().iter().map(|class| class.label.as_str()).collect();
        let metadata = self.options.metadata(&labels, &wanted)?;
        let chosen = self.options.crops.choose(had, detector.as_deref(), self.options.device)?;
        let mut cropper = chosen.cropper(&embedder, &wanted)?;
        if had.is_none() {
            gallery.set_crop(cropper.crop());
        }
        let added = self.options.add(&mut gallery, known, &mut cropper, &wanted, metadata)?;
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

    /// Fails where shards are of other networks.
    fn check_networks(
        &self,
        head: &Head,
        embedder: &Embedder,
        detector: Option<&Path>,
        crop: Option<Crop>,
    ) -> anyhow::Result<()> {
        if head.extractor != embedder.digest {
            bail!(
                "the shards are of another extractor than {}; give --extractor as `magpie embed` had it ({})",
                self.extractor.display(),
                head.words
            );
        }
        // What is measured depends on whether a detector looks.
        if crop.is_none() && head.detector != detector.map(digest_of_model).transpose()? {
            bail!(
                "the shards are of another detector; give --detector as `magpie embed` had it ({})",
                head.words
            );
        }
        Ok(())
    }

    /// Metadata of classes that are in the gallery or on their way into it: read before anything is embedded.
    fn metadata(
        &self,
        classes: &Labels,
        wanted: &Wanted,
    ) -> anyhow::Result<BTreeMap<String, Metadata>> {
        read_metadata(self.metadata.as_deref(), classes, wanted)
    }

    /// Adds what the gallery does not have yet, in the order of the list.
    fn add(
        &self,
        gallery: &mut impl Growing,
        known: Known,
        cropper: &mut Cropper<'_>,
        wanted: &Wanted,
        metadata: BTreeMap<String, Metadata>,
    ) -> anyhow::Result<Outcome> {
        // The gallery itself walks over all of them.
        let labels = || gallery.all_classes().iter().map(|class| class.label.as_str());
        let mut classes: Labels = labels().collect();
        wanted.say_look_alikes(labels());
        let mut unusable = Unusable::default();
        let mut tell = |event: Event<'_>| {
            if let Event::Done { photos, of, .. } = event {
                audience::progress("pictures", photos, of);
            }
            match event {
                Event::LeftOut { error } if self.strict => bail!("{error}"),
                Event::LeftOut { error } => unusable.add(error, wanted.is_named),
                Event::Shared { path, label, other } => unusable.share(path, label, other),
                Event::Done { photos, of, .. } if photos == of || photos % SAID == 0 => {
                    println!("{photos}/{of} pictures");
                }
                Event::Done { .. } => (),
            }
            Ok(())
        };
        let done = authoring::add(gallery, known, &mut classes, wanted, cropper, &mut tell)?;
        unusable.end(wanted, &classes);
        for (label, facts) in metadata {
            if let Some(class) = classes.find(&label) {
                gallery.put_metadata(class, facts)?;
            }
        }
        Ok(Outcome { added: done.added, known: done.known, unusable })
    }
}
