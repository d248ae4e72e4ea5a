//! `magpie publish`: page, engine and bundle as one folder for any static host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use burn::tensor::Device;
use clap::{Args, ValueEnum};
use models::bundle::{Bundle, MANIFEST_NAME, Manifest};
use models::detector::DetectionThresholds;
use models::gallery::Gallery;
use models::image::RgbImage;
use models::model_file::sha256_hex;
use models::recognizer::{RecognizerSettings, WholeImage};

use serde::{Deserialize, Serialize};

use super::gallery::Rule;
use super::{open_model, read, size, write};

/// Folder of the bundle inside the site.
pub(super) const BUNDLE_FOLDER: &str = "bundle";
/// Keeps the site in the visitor's browser.
pub(super) const SERVICE_WORKER: &str = "sw.js";
/// What it has in the place of a digest of the site.
const UNPUBLISHED: &str = "unpublished";
/// List of the files that it keeps.
pub(super) const PRECACHE: &str = "precache.json";
/// What the browser needs to install the page.
const APP_MANIFEST: &str = "app.webmanifest";
/// What the engines' files are named after.
const ENGINES: [&str; 3] = ["cpu", "relaxed", "webgpu"];
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
    #[arg(long)]
    min_similarity: Option<f32>,
    /// Least score of an object.
    #[arg(long, default_value_t = DetectionThresholds::default().score)]
    min_score: f32,
    /// Overlap (IoU) from which two answers are one; 0.05 in PP-ShiTu.
    #[arg(long, default_value_t = RecognizerSettings::default().recognition_nms_iou)]
    recognition_nms_iou: f32,
    /// When the whole picture is recognised as one object.
    #[arg(long, value_enum, default_value_t)]
    whole_image: Whole,
    /// Which class is the answer.
    #[arg(long, value_enum, default_value_t)]
    rule: Rule,
    /// Entries that vote.
    #[arg(long, default_value_t = 5)]
    neighbours: usize,
    /// Licence and source of pictures or weights, a sentence; may be repeated.
    #[arg(long)]
    note: Vec<String>,
}

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
    #[expect(clippy::print_stdout, reason = "progress")]
    pub fn run(&self) -> anyhow::Result<()> {
        let extractor = open_model(&self.extractor)?;
        let detector = self.detector.as_deref().map(open_model).transpose()?;
        let gallery = Gallery::from_bytes(&read(&self.gallery)?)
            .with_context(|| self.gallery.display().to_string())?;
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
        let bundle = Bundle::assemble(
            self.title.clone(),
            extractor.bytes,
            detector.map(|d| d.bytes),
            &gallery,
            settings,
            notes,
        )?;

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
        write(&site.join("samples.json"), &serde_json::to_vec(&samples)?)?;

        keep_offline(site, &self.title)?;
        open_again(site)?;
        new.take_place(&self.out)?;
        let total = folder_size(&self.out)?;
        println!("{}: {} in all, checked", self.out.display(), size(total));
        Ok(())
    }
}

/// What the service worker keeps, by when it is needed.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Precache {
    page: Vec<String>,
    engines: BTreeMap<String, Vec<String>>,
    bundle: Vec<String>,
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
    let (precache, version) = precache(site)?;
    write(&site.join(PRECACHE), &serde_json::to_vec_pretty(&precache)?)?;
    let text = String::from_utf8(read(&worker)?).with_context(|| worker.display().to_string())?;
    write(&worker, text.replacen(UNPUBLISHED, &version, 1).as_bytes())
}

/// The files of a site by when they are needed, and a digest of them all.
pub(super) fn precache(site: &Path) -> anyhow::Result<(Precache, String)> {
    let mut names = Vec::new();
    list_files(site, "", &mut names)?;
    names.sort();
    let mut precache = Precache { page: vec!["./".to_owned()], ..Precache::default() };
    let mut everything = Vec::new();
    for name in names.into_iter().filter(|name| ![SERVICE_WORKER, PRECACHE].contains(&&**name)) {
        let digest = sha256_hex(&read(&site.join(&name))?);
        everything.extend(format!("{digest} {name}\n").into_bytes());
        let engine = ENGINES.iter().find(|engine| name.starts_with(&format!("worker-{engine}")));
        match engine {
            Some(engine) => {
                precache.engines.entry((*engine).to_owned()).or_default().push(name);
            }
            None if name.starts_with(BUNDLE_FOLDER) => precache.bundle.push(name),
            None => precache.page.push(name),
        }
    }
    let version = sha256_hex(&everything)[..16].to_owned();
    Ok((precache, version))
}

/// Names of all files below a folder, relative to it.
fn list_files(folder: &Path, prefix: &str, names: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list_files(&entry.path(), &format!("{name}/"), names)?;
        } else {
            names.push(name);
        }
    }
    Ok(())
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

/// Opens a site's bundle from the disk and runs the pipeline on its first sample, or on the first
/// picture of its gallery.
#[expect(clippy::print_stdout, reason = "progress")]
pub(super) fn open_again(site: &Path) -> anyhow::Result<()> {
    let folder = site.join(BUNDLE_FOLDER);
    let path = folder.join(MANIFEST_NAME);
    let manifest =
        Manifest::from_bytes(&read(&path)?).with_context(|| path.display().to_string())?;
    for file in &manifest.files {
        println!("  {:>9}  {}", size(file.bytes), file.name);
        manifest.check(&file.name, &read(&folder.join(&file.name))?)?;
    }
    let recognizer =
        Bundle::open(&manifest, |name| std::fs::read(folder.join(name)).ok(), &Device::flex())?;
    let samples = site.join("samples.json");
    let names: Vec<String> = match std::fs::read(&samples) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).with_context(|| samples.display().to_string())?
        }
        Err(_) => Vec::new(),
    };
    let gallery = recognizer.gallery();
    let picture = match names.first() {
        Some(name) => crate::data::store::read_picture(&site.join(name))?,
        None if gallery.thumbnail(0).is_empty() => return Ok(()),
        None => RgbImage::decode(gallery.thumbnail(0))?,
    };
    let (found, _) = pollster::block_on(recognizer.recognize(&picture, || 0.0))?;
    let answers: Vec<&str> = found
        .iter()
        .filter_map(|r| r.matches.first())
        .map(|m| gallery.classes()[m.class].label.as_str())
        .collect();
    println!("opened again: {} object(s) found in the first sample: {answers:?}", found.len());
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

fn folder_size(folder: &Path) -> anyhow::Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += if metadata.is_dir() { folder_size(&entry.path())? } else { metadata.len() };
    }
    Ok(total)
}
