//! Galleries in `PostgreSQL`.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use authoring::label::printable;
use clap::Args;
use models::gallery::{Crop, GalleryReader};

use super::{CLASSES, Change, IndexKind, PICTURES, counted, many, say_reach};
use crate::cli::Failures;
use crate::cli::{DeviceKind, Embedder};
use crate::data::store::read_picture;
use crate::files::{self, wanted::GALLERY};
use crate::networks;
use crate::postgres::{PostgresGallery, Query, ServerIndex};

/// Where the server is.
#[derive(Debug, Args)]
struct Server {
    /// Address of a PostgreSQL with pgvector, as <postgres://user:password@host/database>; by
    /// default what the environment's `MAGPIE_POSTGRES` says, which no list of processes shows. With `?sslmode=require`
    /// the connection is encrypted.
    #[arg(long)]
    server: Option<String>,
    /// Name of the gallery there: small letters, digits and _.
    #[arg(long, default_value = "magpie")]
    name: String,
}

impl Server {
    fn connect(&self) -> anyhow::Result<PostgresGallery> {
        let address = match &self.server {
            Some(address) => address.clone(),
            None => std::env::var("MAGPIE_POSTGRES").map_err(|_unset| {
                anyhow!("give the server's address by --server or in MAGPIE_POSTGRES")
            })?,
        };
        Ok(PostgresGallery::connect(&address, &self.name)?)
    }
}

/// Puts a gallery into PostgreSQL with pgvector, in the place of the one of that name.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  magpie gallery push gallery.bin --server postgres://shop@db.local/shop \
    --name groceries"
)]
pub(super) struct Push {
    /// Gallery file.
    gallery: PathBuf,
    #[command(flatten)]
    server: Server,
    /// How entries are found there.
    #[arg(long, value_enum, default_value_t)]
    index: IndexKind,
}

/// Takes a gallery from PostgreSQL with pgvector.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  magpie gallery pull gallery.bin --server postgres://shop@db.local/shop \
    --name groceries"
)]
pub(super) struct Pull {
    /// Gallery file to write.
    gallery: PathBuf,
    #[command(flatten)]
    server: Server,
    /// How entries are found in the file.
    #[arg(long, value_enum, default_value_t)]
    index: IndexKind,
}

/// Says which classes of a gallery in PostgreSQL pictures are most similar to.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  magpie gallery ask --server postgres://shop@db.local/shop --name \
    groceries --extractor lite0.safetensors query.jpg"
)]
pub(super) struct Ask {
    /// Pictures.
    #[arg(required = true)]
    pictures: Vec<PathBuf>,
    #[command(flatten)]
    server: Server,
    /// Model file of the extractor that built the gallery; `general` is the one that magpie brings along.
    #[arg(long, default_value = networks::GENERAL)]
    extractor: PathBuf,
    /// Classes shown a picture.
    #[arg(short, long, default_value_t = 5, value_parser = crate::cli::ranges::count)]
    k: usize,
    /// How entries are found: what was pushed with --index, or `flat`, which is exact; `auto` takes what was pushed.
    #[arg(long, value_enum, default_value_t)]
    index: IndexKind,
    /// How much of the index is searched: entries in view (hnsw, binary), lists (ivf).
    #[arg(long = "ef-search", value_parser = crate::cli::ranges::count)]
    ef: Option<usize>,
    /// Only classes of this label; may be repeated.
    #[arg(long)]
    class: Vec<String>,
    /// Only classes with this metadata, as name=text; may be repeated.
    #[arg(long = "where")]
    metadata: Vec<String>,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
}

/// The kind of an index on a server.
fn on_server(index: IndexKind) -> Option<ServerIndex> {
    match index {
        IndexKind::Auto => None,
        IndexKind::Flat => Some(ServerIndex::Flat),
        IndexKind::Hnsw => Some(ServerIndex::Hnsw),
        IndexKind::Ivf => Some(ServerIndex::Ivf),
        IndexKind::Binary => Some(ServerIndex::Binary),
    }
}

/// Says what has to be waited for.
fn waits(what: &str) {
    eprintln!("waiting: {what}");
}

impl Push {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        // One that is not there is named as a gallery.
        files::length(&self.gallery, u64::MAX).map_err(|error| error.wanted(GALLERY))?;
        let named = || self.gallery.display().to_string();
        let file = BufReader::new(File::open(&self.gallery).with_context(named)?);
        let mut gallery = GalleryReader::open(file).with_context(named)?;
        let index = self.server.connect()?.push(&mut gallery, on_server(self.index), waits)?;
        let summary = gallery.summary();
        let (classes, entries) = (summary.classes.len(), summary.entries);
        let (classes, pictures) = (many(classes, CLASSES), many(entries, PICTURES));
        println!("{}: {classes}, {pictures} pushed, index {}", self.server.name, index.name());
        Ok(())
    }
}

impl Pull {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let change = Change::anew(&self.gallery, &[])?;
        let gallery = self.server.connect()?.pull(change.scratch()?, waits)?;
        let (classes, entries) = (gallery.classes().len(), gallery.len());
        let (config, _) = self.index.config(entries);
        say_reach(config, change.finish(gallery, config)?, entries);
        println!("{}", counted(&self.gallery, classes, entries, Crop::Never)?);
        Ok(())
    }
}

impl Ask {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let pair = |text: &String| {
            let (name, value) =
                text.split_once('=').ok_or_else(|| anyhow!("--where {text}: write name=text"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        let metadata = self.metadata.iter().map(pair).collect::<anyhow::Result<_>>()?;
        let embedder = Embedder::open(&self.extractor, self.device)?;
        let mut server = self.server.connect()?;
        let embedder = embedder.query_of(server.crop(waits)?);
        let mut failures = Failures::new(false);
        let mut named = Vec::new();
        let mut embeddings = Vec::new();
        for path in &self.pictures {
            let Some(picture) = failures.take(path, read_picture(path)) else { continue };
            named.push(path);
            embeddings.extend(embedder.embed_pictures(&[picture])?);
        }
        let query = Query {
            model: embedder.id.clone(),
            k: self.k,
            index: on_server(self.index),
            ef_search: self.ef,
            classes: self.class.clone(),
            metadata,
        };
        let named_both = || {
            format!("{} on the server, asked with {}", self.server.name, self.extractor.display())
        };
        let answers = server.search(&query, &embeddings, waits).with_context(named_both)?;
        for (path, answers) in named.iter().zip(answers) {
            println!("{}:", path.display());
            for (label, m) in answers {
                println!("  {:.3}  {}", m.similarity, printable(&label));
            }
        }
        failures.end()
    }
}
