//! `magpie gallery`: pictures become a gallery file.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use models::gallery::{Class, Gallery, Metadata, VectorType};
use serde_json::json;

use super::{DeviceKind, open_model, read, size, write};
use crate::data::list_file::Samples;
use crate::data::store::thumbnail;
use crate::embedding::{decode_all, embed_pictures};

/// Side of a thumbnail in pixels: what the page shows at double density.
const THUMBNAIL_SIDE: u32 = 64;
/// JPEG quality of a thumbnail.
const THUMBNAIL_QUALITY: u8 = 78;
/// Pictures decoded and embedded at once.
const CHUNK: usize = 128;

/// Builds and shows galleries.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(Build),
    Inspect(Inspect),
}

/// Embeds pictures into a gallery file. Pictures that cannot be used are named and left out.
#[derive(Debug, Args)]
#[command(
    after_help = "Example (one sub-folder a class):\n  magpie gallery build --images photos \
    --extractor weights/extractor.safetensors --out gallery.bin"
)]
struct Build {
    /// Folder with one sub-folder a class, or a list file.
    #[arg(long)]
    images: PathBuf,
    /// Model file of the extractor.
    #[arg(long)]
    extractor: PathBuf,
    /// JSON file: class name → facts shown with it, e.g. {"Mug": {"price": "9 €"}}.
    #[arg(long)]
    metadata: Option<PathBuf>,
    /// Fails where a picture cannot be used.
    #[arg(long)]
    strict: bool,
    /// Gallery file to write.
    #[arg(long)]
    out: PathBuf,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
}

/// Says what a gallery holds.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie gallery inspect gallery.bin")]
struct Inspect {
    /// Gallery file.
    gallery: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Files that cannot be read or written; no usable picture at all.
    pub fn run(&self) -> anyhow::Result<()> {
        match &self.command {
            Command::Build(build) => build.run(),
            Command::Inspect(inspect) => inspect.run(),
        }
    }
}

impl Build {
    #[expect(clippy::print_stdout, clippy::print_stderr, reason = "progress and warnings")]
    fn run(&self) -> anyhow::Result<()> {
        let model = open_model(&self.extractor)?;
        let samples = Samples::read(&self.images)?;
        let metadata = read_metadata(self.metadata.as_deref(), &samples.labels)?;
        let preprocess = model.file.description.preprocess.clone();
        let device = self.device.open();
        let extractor = model.file.into_extractor(&device)?;

        let mut embedded: Vec<(usize, Vec<f32>)> = Vec::new();
        let mut thumbnails: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let mut skipped = 0;
        for (index, chunk) in samples.samples.chunks(CHUNK).enumerate() {
            let paths: Vec<&Path> = chunk.iter().map(|s| s.path.as_path()).collect();
            let mut pictures = Vec::with_capacity(chunk.len());
            let mut labels = Vec::with_capacity(chunk.len());
            for (sample, decoded) in chunk.iter().zip(decode_all(&paths)) {
                match decoded {
                    Ok(picture) => {
                        labels.push(sample.label);
                        if let Entry::Vacant(entry) = thumbnails.entry(sample.label) {
                            entry.insert(thumbnail(&picture, THUMBNAIL_SIDE, THUMBNAIL_QUALITY)?);
                        }
                        pictures.push(picture);
                    }
                    Err(error) if self.strict => return Err(error.into()),
                    Err(error) => {
                        skipped += 1;
                        eprintln!("left out: {error}");
                    }
                }
            }
            let embeddings = embed_pictures(&extractor, &preprocess, &pictures, &device)?;
            embedded.extend(labels.into_iter().zip(embeddings));
            let done = (index * CHUNK + chunk.len()).min(samples.samples.len());
            println!("embedded {done}/{} pictures", samples.samples.len());
        }
        if embedded.is_empty() {
            bail!("{}: none of the pictures can be used", self.images.display());
        }

        let dim = embedded[0].1.len();
        let mut gallery = Gallery::new(dim, model.id);
        // Classes whose pictures were all left out do not appear.
        let mut positions: BTreeMap<usize, usize> = BTreeMap::new();
        for (label, thumbnail) in thumbnails {
            let name = samples.labels[label].clone();
            let metadata = metadata.get(&name).cloned().unwrap_or_default();
            positions.insert(label, gallery.add_class(Class { label: name, metadata }, thumbnail));
        }
        for (label, embedding) in embedded {
            gallery.add(positions[&label], &embedding)?;
        }
        let bytes = gallery.to_bytes(VectorType::F16);
        write(&self.out, &bytes)?;
        println!(
            "{}: {} classes, {} pictures, {}{}",
            self.out.display(),
            gallery.classes().len(),
            gallery.len(),
            size(bytes.len() as u64),
            if skipped > 0 { format!("; {skipped} pictures left out") } else { String::new() },
        );
        Ok(())
    }
}

impl Inspect {
    #[expect(clippy::print_stdout, reason = "the command's answer")]
    fn run(&self) -> anyhow::Result<()> {
        let gallery = Gallery::from_bytes(&read(&self.gallery)?)
            .with_context(|| self.gallery.display().to_string())?;
        let mut counts = vec![0_usize; gallery.classes().len()];
        for class in gallery.entry_classes() {
            counts[*class as usize] += 1;
        }
        if self.json {
            let classes: Vec<_> = gallery
                .classes()
                .iter()
                .zip(counts)
                .map(|(class, entries)| {
                    json!({"label": class.label, "metadata": class.metadata, "entries": entries})
                })
                .collect();
            let (model, dim, entries) = (gallery.model(), gallery.dim(), gallery.len());
            println!(
                "{}",
                json!({"model": model, "dim": dim, "entries": entries, "classes": classes})
            );
            return Ok(());
        }
        println!("model       {}", gallery.model());
        println!("dimensions  {}", gallery.dim());
        println!("classes     {}", gallery.classes().len());
        println!("entries     {}", gallery.len());
        for (class, count) in gallery.classes().iter().zip(counts) {
            println!("{count:>6}  {}", class.label);
        }
        Ok(())
    }
}

fn read_metadata(
    path: Option<&Path>,
    labels: &[String],
) -> anyhow::Result<BTreeMap<String, Metadata>> {
    let Some(path) = path else { return Ok(BTreeMap::new()) };
    let metadata: BTreeMap<String, Metadata> = serde_json::from_slice(&read(path)?)
        .with_context(|| format!("{}: expected {{class: {{name: text}}}}", path.display()))?;
    if let Some(name) = metadata.keys().find(|name| !labels.contains(name)) {
        bail!("{}: there is no class {name:?}", path.display());
    }
    Ok(metadata)
}
