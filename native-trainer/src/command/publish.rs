//! `magpie publish`: page, engine and bundle as one folder for any static host.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use models::bundle::{Bundle, MANIFEST_NAME, Published};
use models::detector::DetectionThresholds;
use models::gallery::{AnswerRule, Gallery, ShardOptions, Sharded};
use models::model_file::ModelFile;
use models::recognizer::{RecognizerSettings, WholeImage};

use super::gallery::Rule;
use super::site::{BUNDLE_FOLDER, PRECACHE, SAMPLES, SERVICE_WORKER, Site, own_files};
use super::{hosting, open_model, peers, read, size, write};

/// What the service worker has in the place of a digest of the site.
const UNPUBLISHED: &str = "unpublished";
/// What the browser needs to install the page.
const APP_MANIFEST: &str = "app.webmanifest";
/// Folder of the sample pictures inside the site.
const SAMPLES_FOLDER: &str = "samples";

/// Writes a complete static site, then opens it again and recognises a picture with it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie publish --extractor weights/extractor.safetensors \
    --detector weights/detector.safetensors --gallery gallery.bin --out site")]
pub struct Arguments {
    /// Model file of the extractor that built the gallery.
    #[arg(long)]
    extractor: PathBuf,
    /// Model file of the detector; without one every picture is one object.
    #[arg(long)]
    detector: Option<PathBuf>,
    /// Gallery file.
    #[arg(long)]
    gallery: PathBuf,
    /// Built page and engine, as `trunk build --release` leaves them.
    #[arg(long, default_value = "dist")]
    page: PathBuf,
    /// Folder to write; only a site published before is replaced.
    #[arg(long)]
    out: PathBuf,
    /// Title of the page.
    #[arg(long, default_value = "Magpie")]
    title: String,
    /// Sample pictures offered on the page; may be repeated.
    #[arg(long)]
    sample: Vec<PathBuf>,
    /// Least cosine for an answer; by default what `gallery calibrate` kept in the gallery, else 0.5.
    #[arg(long, value_parser = super::ranges::cosine)]
    min_similarity: Option<f32>,
    /// Least score of an object.
    #[arg(long, default_value_t = DetectionThresholds::default().score, value_parser = super::ranges::score)]
    min_score: f32,
    /// Overlap (IoU) from which two answers are one; 0.05 in PP-ShiTu.
    #[arg(long, default_value_t = RecognizerSettings::default().recognition_nms_iou, value_parser = super::ranges::score)]
    recognition_nms_iou: f32,
    /// When the whole picture is recognised as one object.
    #[arg(long, value_enum, default_value_t)]
    whole_image: Whole,
    /// Which class is the answer.
    #[arg(long, value_enum, default_value_t)]
    rule: Rule,
    /// Entries that vote.
    #[arg(long, default_value_t = 5, value_parser = super::ranges::count)]
    neighbours: usize,
    /// Whether a visitor's page fetches parts of the gallery for each object instead of all of it
    /// once. Answers are nearly the same; docs/gallery.md says how nearly.
    #[arg(long, value_enum, default_value_t)]
    shards: Cut,
    /// Largest file of such a gallery, in megabytes of 1,048,576 bytes; some hosts take no more than 25.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    shard_size: u16,
    /// Folder of npm's packages (`node_modules`): those of ONNX Runtime Web, LiteRT.js and TensorFlow.js
    /// in it are offered for comparison in the site's `bench/`, beside these networks in their formats.
    #[arg(long)]
    peers: Option<PathBuf>,
    /// Licence and source of pictures or weights, a sentence; may be repeated.
    #[arg(long)]
    note: Vec<String>,
}

/// When a gallery is published in shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Cut {
    /// Where its file has more than 16 MB.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Not at all.
    Never,
}

/// Bytes of a gallery from which `auto` cuts it: at 20 Mbit/s it would take seven seconds.
const CUT_FROM: usize = 16 << 20;

/// When the whole picture is recognised as one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Whole {
    /// Beside the found objects, as PP-ShiTu does.
    Always,
    /// Where nothing was found.
    #[default]
    Fallback,
    /// Not at all.
    Never,
}

impl From<Whole> for WholeImage {
    fn from(whole: Whole) -> Self {
        match whole {
            Whole::Always => Self::Always,
            Whole::Fallback => Self::Fallback,
            Whole::Never => Self::Never,
        }
    }
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Files that cannot be read or written, parts that do not belong together.
    pub fn run(&self) -> anyhow::Result<()> {
        let extractor = open_model(&self.extractor)?;
        let detector = self.detector.as_deref().map(open_model).transpose()?;
        let file = read(&self.gallery)?;
        let gallery =
            Gallery::from_bytes(&file).with_context(|| self.gallery.display().to_string())?;
        let cut = match self.shards {
            Cut::Auto => file.len() > CUT_FROM,
            Cut::Always => true,
            Cut::Never => false,
        };
        drop(file);
        let mut notes = self.note.clone();
        for model in [Some(&extractor), detector.as_ref()].into_iter().flatten() {
            let note = model.file.description.notes.trim();
            if !note.is_empty() && !notes.iter().any(|n| n == note) {
                notes.push(note.to_owned());
            }
        }
        let default = RecognizerSettings::default();
        let settings = RecognizerSettings {
            min_similarity: self
                .min_similarity
                .or(gallery.min_similarity())
                .unwrap_or(default.min_similarity),
            recognition_nms_iou: self.recognition_nms_iou,
            whole_image: self.whole_image.into(),
            answer: self.rule.answer(self.neighbours),
            detection: DetectionThresholds { score: self.min_score, ..Default::default() },
            ..default
        };
        let sharded = if cut { Some(self.cut(&gallery, settings.answer)?) } else { None };
        let compared: Vec<&ModelFile> =
            [Some(&extractor), detector.as_ref()].into_iter().flatten().map(|m| &m.file).collect();
        let bundle = Bundle::assemble(
            self.title.clone(),
            extractor.bytes.clone(),
            detector.as_ref().map(|d| d.bytes.clone()),
            sharded.as_ref().map_or(Published::Whole(&gallery), Published::Sharded),
            settings,
            notes,
        )?;
        drop(sharded);

        if !self.page.join("index.html").is_file() {
            bail!(
                "{}: no built page there; run `trunk build --release` in the project first",
                self.page.display()
            );
        }
        let new = Replacement::begin(&self.out)?;
        let site = new.folder.as_path();
        copy_folder(&self.page, site)?;
        let folder = site.join(BUNDLE_FOLDER);
        for (name, bytes) in &bundle.files {
            write(&folder.join(name), bytes)?;
        }
        write(&folder.join(MANIFEST_NAME), &serde_json::to_vec_pretty(&bundle.manifest)?)?;
        let mut samples = Vec::new();
        for (index, path) in self.sample.iter().enumerate() {
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("jpg");
            let name = format!("{SAMPLES_FOLDER}/{}.{extension}", index + 1);
            write(&site.join(&name), &read(path)?)?;
            samples.push(name);
        }
        write(&site.join(SAMPLES), &serde_json::to_vec(&samples)?)?;

        if let Some(packages) = &self.peers {
            let runtimes = peers::add(site, packages, &compared)?;
            println!("for comparison in bench/: {}", runtimes.join(", "));
        } else {
            peers::leave_out(site)?;
        }
        keep_offline(site, &self.title)?;
        Site::Folder(site.to_owned()).open_again()?;
        let mut names = own_files(site)?;
        names.extend([SERVICE_WORKER, PRECACHE].map(str::to_owned));
        names.retain(|name| site.join(name).is_file());
        let sizes = hosting::prepare(site, &names)?;
        new.take_place(&self.out)?;
        println!(
            "{}: {} in all, {} where the host sends packed files; checked",
            self.out.display(),
            size(sizes.plain),
            size(sizes.packed)
        );
        Ok(())
    }
}

impl Arguments {
    /// Cuts the gallery into shards and says what a visitor downloads.
    fn cut(&self, gallery: &Gallery, rule: AnswerRule) -> anyhow::Result<Sharded> {
        let options =
            ShardOptions { shard_bytes: u64::from(self.shard_size) << 20, ..Default::default() };
        // Where the classes' means answer, these are what is searched.
        let sharded = match rule {
            AnswerRule::Centroid => gallery.of_means()?.to_shards(&options)?,
            _ => gallery.to_shards(&options)?,
        };
        let all: usize = sharded.shards.iter().map(Vec::len).sum();
        println!(
            "the gallery comes in {} shards, {} in all: a page downloads {} of it at first, then at \
             most 64 kB for an object that it has not met",
            sharded.shards.len(),
            size(all as u64),
            size(sharded.head.len() as u64)
        );
        Ok(sharded)
    }
}

/// Tells the page's service worker which files there are, and the browser's menu the title.
fn keep_offline(site: &Path, title: &str) -> anyhow::Result<()> {
    let worker = site.join(SERVICE_WORKER);
    if !worker.is_file() {
        return Ok(());
    }
    let app = site.join(APP_MANIFEST);
    if app.is_file() {
        let mut manifest: serde_json::Value = serde_json::from_slice(&read(&app)?)?;
        (manifest["name"], manifest["short_name"]) = (title.into(), title.into());
        write(&app, &serde_json::to_vec_pretty(&manifest)?)?;
    }
    let (precache, version) = Site::Folder(site.to_owned()).precache(own_files(site)?)?;
    write(&site.join(PRECACHE), &serde_json::to_vec_pretty(&precache)?)?;
    let text = String::from_utf8(read(&worker)?).with_context(|| worker.display().to_string())?;
    write(&worker, text.replacen(UNPUBLISHED, &version, 1).as_bytes())
}

/// A site that is written beside its place, so that there is always a whole one.
struct Replacement {
    folder: PathBuf,
}

impl Replacement {
    /// Refuses a place that holds something else than a site.
    fn begin(out: &Path) -> anyhow::Result<Self> {
        let occupied = out.exists() && std::fs::read_dir(out)?.next().is_some();
        if occupied && !out.join(BUNDLE_FOLDER).join(MANIFEST_NAME).is_file() {
            bail!("{}: holds other files; choose an empty folder", out.display());
        }
        let folder = beside(out, "part");
        // What an interrupted run left.
        remove_folder(&folder)?;
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self { folder })
    }

    fn take_place(self, out: &Path) -> anyhow::Result<()> {
        let old = beside(out, "old");
        remove_folder(&old)?;
        let named = || out.display().to_string();
        if out.exists() {
            std::fs::rename(out, &old).with_context(named)?;
        }
        std::fs::rename(&self.folder, out).with_context(named)?;
        remove_folder(&old)
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // Only there where something went wrong, which is what people are told.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A folder of a like name in the same place.
fn beside(out: &Path, ending: &str) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{ending}"));
    out.with_file_name(name)
}

fn remove_folder(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        // What the build left for itself.
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir_all(&target)?;
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)
                .with_context(|| entry.path().display().to_string())?;
        }
    }
    Ok(())
}
