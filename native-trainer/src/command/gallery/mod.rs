//! `magpie gallery`: makes, changes, searches and measures galleries.

mod adapt;
mod add;
mod answer;
mod calibrate;
mod change;
mod crops;
mod learn;
mod postgres;
mod shards;
mod show;
mod wanted;
mod words;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use models::gallery::{Crop, Gallery, GalleryStream, IndexConfig, MAGIC, check_file};
use models::model_file::sha256_hex;

use crate::cli::{Values, open_model, size};
use crate::files::wanted::GALLERY;
use crate::files::{self, Lock, Scratch, Writer};
use crate::service::is_kept;
use crate::terminal;
pub(super) use answer::{Answer, kept_text, other_rule, sure, threshold_text};
use authoring::label::{label, nearest, quoted};
pub(super) use crops::{Choice, Crops, spelled};
pub(super) use learn::Learn;
pub(super) use wanted::{Unusable, Wanted};

/// What a shard of embeddings is called behind its name until it is whole.
pub(super) const BEGUN: &str = ".begun";

/// Makes, changes, searches and measures galleries.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(add::Build),
    New(add::New),
    Add(add::Add),
    Remove(change::Remove),
    Rename(change::Rename),
    Describe(change::Describe),
    Adapt(adapt::Adapt),
    Merge(change::Merge),
    Compact(change::Compact),
    #[command(alias = "inspect")]
    List(show::List),
    Stats(show::Stats),
    Search(show::Search),
    Verify(show::Verify),
    Calibrate(calibrate::Calibrate),
    Push(postgres::Push),
    Pull(postgres::Pull),
    Ask(postgres::Ask),
    Words(words::Words),
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Files that cannot be read or written, galleries that are damaged or of another model.
    pub fn run(&self) -> anyhow::Result<()> {
        match &self.command {
            Command::Build(command) => command.run(),
            Command::New(command) => command.run(),
            Command::Add(command) => command.run(),
            Command::Remove(command) => command.run(),
            Command::Rename(command) => command.run(),
            Command::Describe(command) => command.run(),
            Command::Adapt(command) => command.run(),
            Command::Merge(command) => command.run(),
            Command::Compact(command) => command.run(),
            Command::List(command) => command.run(),
            Command::Stats(command) => command.run(),
            Command::Search(command) => command.run(),
            Command::Verify(command) => command.run(),
            Command::Calibrate(command) => command.run(),
            Command::Push(command) => command.run(),
            Command::Pull(command) => command.run(),
            Command::Ask(command) => command.run(),
            Command::Words(command) => command.run(),
        }
    }
}

/// How entries are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum IndexKind {
    /// What is best for the number of entries.
    #[default]
    Auto,
    /// Compares with every entry; exact.
    Flat,
    /// A graph: the fastest with many entries, slow to build.
    Hnsw,
    /// Lists around centroids.
    Ivf,
    /// Sign bits, the best of which are compared again.
    Binary,
}

impl IndexKind {
    /// The configuration, and why where it was chosen here.
    fn config(self, entries: usize) -> (IndexConfig, Option<String>) {
        match self {
            Self::Auto => {
                let (config, why) = IndexConfig::recommended(entries);
                (config, Some(why))
            }
            Self::Flat => (IndexConfig::Flat, None),
            Self::Hnsw => (IndexConfig::hnsw(), None),
            Self::Ivf => (IndexConfig::Ivf { lists: 0 }, None),
            Self::Binary => (IndexConfig::Binary, None),
        }
    }
}

/// A configuration in words.
fn index_name(config: IndexConfig) -> String {
    match config {
        IndexConfig::Flat => "flat".to_owned(),
        IndexConfig::Hnsw { m, ef_construction } => {
            format!("hnsw, M {m}, ef_construction {ef_construction}")
        }
        IndexConfig::Ivf { lists: 0 } => "ivf".to_owned(),
        IndexConfig::Ivf { lists } => format!("ivf, {lists} lists"),
        IndexConfig::Binary => "binary".to_owned(),
    }
}

/// A word for one thing and the word for several.
type Noun = (&'static str, &'static str);

const CLASSES: Noun = ("class", "classes");
const ENTRIES: Noun = ("entry", "entries");
const PICTURES: Noun = ("picture", "pictures");

/// This many of something.
fn many(count: usize, (one, several): Noun) -> String {
    terminal::counted(count, one, several)
}

/// Says how many entries searches in a graph cannot come to; other kinds leave none out.
fn say_reach(config: IndexConfig, unreachable: usize, entries: usize) {
    if !matches!(config, IndexConfig::Hnsw { .. }) {
        return;
    }
    match unreachable {
        0 if entries == 1 => println!("graph: searches come to the one entry"),
        0 => println!("graph: searches come to all {entries} entries"),
        some => {
            println!("graph: searches do not come to {some} of {}", many(entries, ENTRIES));
        }
    }
}

/// Says that a kept threshold was measured before the gallery changed.
fn say_stale(gallery: &Gallery) {
    if let Some(told) = answer::stale(gallery) {
        eprintln!("{told}");
    }
}

/// SHA-256 of a model file.
pub(super) fn digest_of_model(path: &Path) -> anyhow::Result<String> {
    Ok(sha256_hex(&open_model(path)?.bytes))
}

/// Fails for a gallery that another extractor made, naming both files.
pub(super) fn check_extractor(
    gallery: &Gallery,
    path: &Path,
    extractor: &Path,
    id: &str,
) -> anyhow::Result<()> {
    if gallery.model() == id {
        return Ok(());
    }
    bail!(
        "{}: belongs to another model than {} (gallery {}, model {id}); give the extractor that made it, \
         or build the gallery again with this one",
        path.display(),
        extractor.display(),
        gallery.model()
    )
}

/// Reads a gallery of any size: whoever has the memory may have the file.
pub(crate) fn open(path: &Path) -> anyhow::Result<Gallery> {
    let bytes = files::read(path, u64::MAX).map_err(|error| error.wanted(GALLERY))?;
    let read = Gallery::from_bytes(&bytes).with_context(|| path.display().to_string());
    read.map_err(|error| files::told_as_own(error, path, GALLERY))
}

/// A gallery file that is going to be written. Nobody else changes it until this is dropped.
pub(crate) struct Change<'a> {
    path: &'a Path,
    _lock: Lock,
}

/// Opens a gallery that is going to be written back.
fn open_to_change(path: &Path) -> anyhow::Result<(Gallery, Change<'_>)> {
    // One that is not there is named before a lock is laid beside it.
    files::length(path, u64::MAX).map_err(|error| error.wanted(GALLERY))?;
    let change = Change::of(path, &[])?;
    Ok((open(path)?, change))
}

impl<'a> Change<'a> {
    /// Checks that a gallery can be written, and not over what is read for it; then waits until nobody else changes
    /// it.
    fn of(path: &'a Path, inputs: &[&Path]) -> anyhow::Result<Self> {
        files::check_outputs(&[path], inputs)?;
        if is_kept(path) {
            bail!(
                "{}: belongs to a service, whose journal goes on from it; download its gallery (GET /v1/gallery/file), \
                 change that, and send it back (PUT)",
                path.display()
            );
        }
        Ok(Self { path, _lock: Lock::acquire(path)? })
    }

    /// The same of one that is written anew: a file that is no gallery is not replaced.
    pub(crate) fn anew(path: &'a Path, inputs: &[&Path]) -> anyhow::Result<Self> {
        let change = Self::of(path, inputs)?;
        let mut first = Vec::new();
        if let Ok(file) = File::open(path) {
            file.take(MAGIC.len() as u64).read_to_end(&mut first)?;
        }
        if !first.is_empty() && first != MAGIC {
            bail!(
                "{}: is there already and is no gallery; choose another name for the gallery",
                path.display()
            );
        }
        Ok(change)
    }

    /// Scratch files for a gallery that comes in.
    fn scratch(&self) -> anyhow::Result<[Scratch; 2]> {
        Ok([Scratch::beside(self.path)?, Scratch::beside(self.path)?])
    }

    /// Writes a gallery in the place of the one of before.
    pub(crate) fn save(&self, gallery: &Gallery) -> anyhow::Result<()> {
        self.write(|writer| Ok(gallery.write_to(writer)?))
    }

    /// Writes a gallery that has come in; the number of entries that its index does not come to.
    fn finish(
        &self,
        gallery: GalleryStream<Scratch>,
        config: IndexConfig,
    ) -> anyhow::Result<usize> {
        let mut unreachable = 0;
        self.write(|writer| {
            unreachable = gallery.finish(config, writer)?;
            Ok(())
        })?;
        Ok(unreachable)
    }

    /// What cannot be read again takes no other's place.
    fn write(
        &self,
        write_to: impl FnOnce(&mut Writer) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        files::replace_verified(self.path, write_to, |file| {
            check_file(file).with_context(|| {
                format!("{}: cannot be written so; nothing was changed", self.path.display())
            })
        })
    }
}

/// What entries are called: a picture may have two.
fn noun(crop: Crop) -> Noun {
    if crop == Crop::Both { ENTRIES } else { PICTURES }
}

/// One line about a gallery that was written.
fn summary(path: &Path, gallery: &Gallery) -> anyhow::Result<String> {
    counted(path, gallery.classes().len(), gallery.len(), gallery.crop())
}

/// The same about one that is in memory no more.
fn counted(path: &Path, classes: usize, entries: usize, crop: Crop) -> anyhow::Result<String> {
    let bytes = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
    let (classes, pictures) = (many(classes, CLASSES), many(entries, noun(crop)));
    Ok(format!("{}: {classes}, {pictures}, {}", path.display(), size(bytes)))
}

/// The class of a label: the one that is spelled so, else the first that has the same name.
fn find_class(gallery: &Gallery, text: &str) -> Option<usize> {
    gallery.class_by_label(text).or_else(|| {
        let wanted = label(text);
        gallery.classes().iter().position(|class| label(&class.label) == wanted)
    })
}

/// The same; the error names the nearest that is there.
pub(crate) fn class_of(gallery: &Gallery, text: &str) -> anyhow::Result<usize> {
    find_class(gallery, text).with_context(|| {
        let shown = quoted(text);
        match nearest(text, gallery.classes().iter().map(|class| class.label.as_str())) {
            Some(near) => format!("there is no class {shown}; did you mean {}?", quoted(near)),
            None if gallery.classes().is_empty() => {
                format!("there is no class {shown}: the gallery is empty")
            }
            None => format!(
                "there is no class {shown}; `magpie gallery list` shows those that there are"
            ),
        }
    })
}
