//! `magpie recognize`: says what is in pictures, with a published bundle.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use models::bundle::{Bundle, MAX_FILE_BYTES, Manifest};
use models::gallery::{Fetched, Part};
use serde_json::json;

use super::gallery::sure;
use crate::cli::Failures;
use crate::cli::{DeviceKind, probe};
use crate::data::store::read_picture;
use crate::files;
use crate::publishing::site::{bundle_of, read_manifest};
use crate::terminal::counted;
use authoring::label::printable;

/// Finds and names the objects of pictures, exactly as the page does.
///
/// A picture that cannot be used is named, the others are done, and the command ends with 1.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  magpie recognize site shelf.jpg\n\n`94 % sure` says: when the \
    gallery was calibrated, 94 of 100 such answers were right, of things whose class it has. It says nothing of other \
    things: these are held off by the threshold, and one that passes it may be called sure as well."
)]
pub struct Arguments {
    /// Published site, or its folder with manifest.json; then pictures.
    #[arg(required = true, num_args = 1.., value_names = ["SITE", "PICTURES"])]
    names: Vec<PathBuf>,
    /// The site, so that all names are pictures.
    #[arg(long, hide = true)]
    bundle: Option<PathBuf>,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
    /// Prints one JSON object per picture, embeddings included.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// A bundle or a picture that cannot be used.
    pub fn run(&self) -> anyhow::Result<()> {
        let (site, pictures) = self.places()?;
        let bundle = &bundle_of(site);
        let manifest = read_manifest(bundle)?;
        let file = |name: &str| files::read(&bundle.join(name), MAX_FILE_BYTES).ok();
        let mut recognizer = Bundle::open(&manifest, file, self.device.target()?)
            .with_context(|| bundle.display().to_string())?;
        if let Some(detector) = recognizer.detector() {
            probe::check_detector(detector).with_context(|| bundle.display().to_string())?;
        }
        let start = Instant::now();
        let mut failures = Failures::new(self.json);
        for path in pictures {
            let Some(picture) = failures.take(path, read_picture(path)) else { continue };
            let clock = || start.elapsed().as_secs_f64() * 1000.0;
            let read = async |parts| read_parts(bundle, &manifest, parts);
            let recognized = recognizer.recognize_with(&picture, None, &read, &clock);
            let (found, timings) = pollster::block_on(recognized)?;
            let label = |class: usize| &recognizer.gallery().classes()[class].label;
            if self.json {
                let objects: Vec<_> = found
                    .iter()
                    .map(|r| {
                        json!({
                            "bbox": [r.bbox.x1, r.bbox.y1, r.bbox.x2, r.bbox.y2],
                            "detection_score": r.detection_score,
                            "known": r.known,
                            "probability": r.probability,
                            "matches": r.matches.iter().map(|m| json!({
                                "label": label(m.class), "similarity": m.similarity,
                            })).collect::<Vec<_>>(),
                            "embedding": r.embedding,
                        })
                    })
                    .collect();
                let picture = path.display().to_string();
                println!(
                    "{}",
                    json!({"picture": picture, "objects": objects, "timings_ms": timings})
                );
                continue;
            }
            println!(
                "{}: {}; {:.0} ms detect, {:.0} ms embed, {:.1} ms search",
                path.display(),
                counted(found.len(), "object", "objects"),
                timings.detect,
                timings.embed,
                timings.search
            );
            for r in &found {
                let b = &r.bbox;
                let answer = match r.matches.first() {
                    Some(m) if r.known => {
                        let label = printable(label(m.class));
                        match sure(r.probability) {
                            Some(sure) => {
                                format!("{label} ({sure}, similarity {:.2})", m.similarity)
                            }
                            None => format!("{label} ({:.2})", m.similarity),
                        }
                    }
                    Some(m) => {
                        format!(
                            "unknown (nearest: {}, {:.2})",
                            printable(label(m.class)),
                            m.similarity
                        )
                    }
                    None => "the gallery is empty".to_owned(),
                };
                println!("  [{:.0}, {:.0}, {:.0}, {:.0}]  {answer}", b.x1, b.y1, b.x2, b.y2);
            }
        }
        failures.end()
    }

    /// Site and pictures.
    fn places(&self) -> anyhow::Result<(&Path, &[PathBuf])> {
        if let Some(bundle) = &self.bundle {
            return Ok((bundle, &self.names));
        }
        let [site, pictures @ ..] = &self.names[..] else { bail!("which pictures? name one") };
        if site.is_file() {
            bail!(
                "{}: a file; name the published site first: magpie recognize SITE {}",
                site.display(),
                site.display()
            );
        }
        if pictures.is_empty() {
            bail!(
                "which pictures? name them behind the site: magpie recognize {} PICTURE",
                site.display()
            );
        }
        Ok((site, pictures))
    }
}

/// Parts of a gallery in shards, from the bundle's folder.
fn read_parts(bundle: &Path, manifest: &Manifest, parts: Vec<Part>) -> anyhow::Result<Fetched> {
    let read = |part: Part| {
        let name = manifest.shards.get(part.shard).context("a shard that the manifest lacks")?;
        let path = bundle.join(name);
        let mut bytes = Vec::new();
        let length = part.range.end - part.range.start;
        let mut file = File::open(&path).with_context(|| path.display().to_string())?;
        file.seek(SeekFrom::Start(part.range.start))?;
        file.take(length).read_to_end(&mut bytes)?;
        Ok((part, bytes))
    };
    parts.into_iter().map(read).collect()
}
