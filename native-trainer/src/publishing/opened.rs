//! A bundle that is open to recognize with.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

use anyhow::{Context, bail};
use models::bundle::{Bundle, MAX_FILE_BYTES};
use models::gallery::{Fetched, Gallery, Part};
use models::image::RgbImage;
use models::recognizer::{Recognition, Recognizer, Timings};
use serde_json::{Value, json};

use super::site::{bundle_of, read_manifest};
use crate::cli::{DeviceKind, open_detector, open_extractor_file, probe};
use crate::files;

/// A recognizer with what its bundle says beside it. Several threads may ask at once; of a gallery in shards they are
/// answered one after another.
pub struct OpenBundle {
    recognizer: RwLock<Recognizer>,
    title: String,
    /// Files of a gallery in shards.
    shards: Vec<PathBuf>,
}

/// What is in a picture.
#[derive(Debug)]
pub struct Recognized {
    /// Most similar first.
    pub objects: Vec<Object>,
    /// Milliseconds of each part.
    pub timings: Timings,
}

/// An object of a picture.
#[derive(Debug)]
pub struct Object {
    /// Where it is and what.
    pub recognition: Recognition,
    /// Labels of its matches.
    pub labels: Vec<String>,
}

impl OpenBundle {
    /// Opens the bundle of a site, or the folder of a bundle.
    ///
    /// # Errors
    ///
    /// A folder without a bundle that can be used.
    pub fn open(site: &Path, device: DeviceKind) -> anyhow::Result<Self> {
        let bundle = &bundle_of(site);
        let manifest = read_manifest(bundle)?;
        let file = |name: &str| files::read(&bundle.join(name), MAX_FILE_BYTES).ok();
        let recognizer = Bundle::open(&manifest, file, device.target()?)
            .with_context(|| bundle.display().to_string())?;
        if let Some(detector) = recognizer.detector() {
            probe::check_detector(detector).with_context(|| bundle.display().to_string())?;
        }
        Ok(Self {
            recognizer: RwLock::new(recognizer),
            title: manifest.title,
            shards: manifest.shards.iter().map(|name| bundle.join(name)).collect(),
        })
    }

    /// The same of networks and a gallery that are not published, with the settings that `magpie publish` gives them.
    ///
    /// # Errors
    ///
    /// Networks that cannot be used, a gallery of another extractor.
    pub fn of_parts(
        extractor: &Path,
        detector: Option<&Path>,
        gallery: Gallery,
        device: DeviceKind,
    ) -> anyhow::Result<Self> {
        let file = open_extractor_file(extractor)?;
        gallery.check_model(&file.id)?;
        let network = file.file.prepare_extractor(device.target()?);
        let network = network.with_context(|| extractor.display().to_string())?;
        let detector = detector.map(|path| open_detector(path, device)).transpose()?;
        let settings = authoring::bundled::settings(&gallery);
        let recognizer = Recognizer::new(detector, network, gallery, settings);
        Ok(Self { recognizer: RwLock::new(recognizer), title: String::new(), shards: Vec::new() })
    }

    /// Title of the site.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The recognizer itself, which nobody changes meanwhile.
    pub fn recognizer(&self) -> RwLockReadGuard<'_, Recognizer> {
        self.recognizer.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers from another gallery from now on, by what that one has measured.
    ///
    /// # Errors
    ///
    /// A gallery of another extractor, a bundle whose gallery is in shards.
    pub fn replace_gallery(&self, gallery: Gallery) -> anyhow::Result<()> {
        if !self.shards.is_empty() {
            bail!(
                "its gallery is in shards, which cannot be replaced; publish it whole, by `magpie publish --shards never`"
            );
        }
        let settings = authoring::bundled::settings(&gallery);
        let mut recognizer = self.recognizer.write().unwrap_or_else(PoisonError::into_inner);
        recognizer.replace_gallery(gallery)?;
        let now = recognizer.settings_mut();
        (now.min_similarity, now.answer) = (settings.min_similarity, settings.answer);
        now.middle = settings.middle;
        Ok(())
    }

    /// Says what is in a picture.
    ///
    /// # Errors
    ///
    /// A device that failed, shards that cannot be read.
    pub fn recognize(&self, picture: &RgbImage) -> anyhow::Result<Recognized> {
        let start = Instant::now();
        let clock = || start.elapsed().as_secs_f64() * 1000.0;
        if self.shards.is_empty() {
            let recognizer = self.recognizer();
            let (found, timings) = pollster::block_on(recognizer.recognize(picture, clock))?;
            return Ok(Recognized::of(found, timings, recognizer.gallery()));
        }
        let mut recognizer = self.recognizer.write().unwrap_or_else(PoisonError::into_inner);
        let read = async |parts| read_parts(&self.shards, parts);
        let recognized = recognizer.recognize_with(picture, None, &read, &clock);
        let (found, timings) = pollster::block_on(recognized)?;
        Ok(Recognized::of(found, timings, recognizer.gallery()))
    }
}

impl Recognized {
    fn of(found: Vec<Recognition>, timings: Timings, gallery: &Gallery) -> Self {
        let label = |class: usize| gallery.classes()[class].label.clone();
        let object = |recognition: Recognition| Object {
            labels: recognition.matches.iter().map(|m| label(m.class)).collect(),
            recognition,
        };
        Self { objects: found.into_iter().map(object).collect(), timings }
    }

    /// As `magpie recognize --json` prints it of a picture.
    pub fn to_json(&self, picture: &str) -> Value {
        let objects: Vec<_> = self.objects.iter().map(Object::to_json).collect();
        json!({"picture": picture, "objects": objects, "timings_ms": self.timings})
    }
}

impl Object {
    fn to_json(&self) -> Value {
        let r = &self.recognition;
        let matches = self.labels.iter().zip(&r.matches);
        json!({
            "bbox": [r.bbox.x1, r.bbox.y1, r.bbox.x2, r.bbox.y2],
            "detection_score": r.detection_score,
            "known": r.known,
            "probability": r.probability,
            "matches": matches.map(|(label, m)| json!({
                "label": label, "similarity": m.similarity,
            })).collect::<Vec<_>>(),
            "embedding": r.embedding,
        })
    }
}

/// Parts of a gallery in shards, from the bundle's folder.
fn read_parts(shards: &[PathBuf], parts: Vec<Part>) -> anyhow::Result<Fetched> {
    let read = |part: Part| {
        let path = shards.get(part.shard).context("a shard that the manifest lacks")?;
        let mut bytes = Vec::new();
        let length = part.range.end - part.range.start;
        let mut file = File::open(path).with_context(|| path.display().to_string())?;
        file.seek(SeekFrom::Start(part.range.start))?;
        file.take(length).read_to_end(&mut bytes)?;
        Ok((part, bytes))
    };
    parts.into_iter().map(read).collect()
}
