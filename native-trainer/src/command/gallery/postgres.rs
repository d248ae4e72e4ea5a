//! Galleries in `PostgreSQL`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use models::gallery::Crop;

use super::{CLASSES, Change, IndexKind, PICTURES, counted, many, open, say_reach};
use crate::cli::Failures;
use crate::cli::{DeviceKind, Embedder};
use crate::data::store::read_picture;
use crate::networks;
use crate::postgres::PostgresGallery;

/// Where the server is.
#[derive(Debug, Args)]
struct Server {
    /// Address of a PostgreSQL with pgvector, as <postgres://user:password@host/database>; by
    /// default what the environment's `MAGPIE_POSTGRES` says, which no list of processes shows.
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
            None => std::env::var("MAGPIE_POSTGRES")
                .context("give the server's address by --server or in MAGPIE_POSTGRES")?,
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
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
}

impl Push {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let gallery = open(&self.gallery)?;
        self.server.connect()?.push(&gallery, |what| eprintln!("waiting: {what}"))?;
        let (classes, entries) = (gallery.classes().len(), gallery.len());
        let (classes, pictures) = (many(classes, CLASSES), many(entries, PICTURES));
        println!("{}: {classes}, {pictures} pushed", self.server.name);
        if gallery.map().is_some() {
            println!("without the map: PostgreSQL compares entries as the extractor gives them");
        }
        Ok(())
    }
}

impl Pull {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let change = Change::anew(&self.gallery, &[])?;
        let gallery = self.server.connect()?.pull(change.scratch()?)?;
        let (classes, entries) = (gallery.classes().len(), gallery.len());
        let (config, _) = self.index.config(entries);
        say_reach(config, change.finish(gallery, config)?, entries);
        println!("{}", counted(&self.gallery, classes, entries, Crop::Never)?);
        Ok(())
    }
}

impl Ask {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let embedder = Embedder::open(&self.extractor, self.device)?;
        let mut server = self.server.connect()?;
        let mut failures = Failures::new(false);
        let mut named = Vec::new();
        let mut embeddings = Vec::new();
        for path in &self.pictures {
            let Some(picture) = failures.take(path, read_picture(path)) else { continue };
            named.push(path);
            embeddings.extend(embedder.embed_pictures(&[picture])?);
        }
        let named_both = || {
            format!("{} on the server, asked with {}", self.server.name, self.extractor.display())
        };
        let answers = server.search(&embedder.id, &embeddings, self.k).with_context(named_both)?;
        for (path, answers) in named.iter().zip(answers) {
            println!("{}:", path.display());
            for (label, m) in answers {
                println!("  {:.3}  {label}", m.similarity);
            }
        }
        failures.end()
    }
}
