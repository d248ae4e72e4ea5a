//! One device, one recognizer.

mod pointed;

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

#[cfg(feature = "cpu")]
use burn::tensor::Device;
use models::bundle::{Manifest, Opening};
use models::detector::Detection;
use models::gallery::{Gallery, Match, Shards};
use models::image::RgbImage;
use models::image::resize;
use models::inference;
use models::inference::Target;
#[cfg(feature = "webgpu")]
use models::inference::gpu::Gpu;
use models::recognizer::{Recognition, Recognizer, Timings};
use models::tracker::Tracker;
use serde_bytes::ByteBuf;
use web_sys::RequestCache;

use crate::error::{bundle_error, failed, is_damaged, part_error, refused};
use crate::fetch::{Download, WHOLE, fetch};
use crate::input::{decode, thumbnail_of};
use crate::local_edits::{LocalEdits, Taught};
use crate::measure;
use crate::parts::fetcher;
use crate::protocol::{
    AlikePair, Answer, Arithmetic, Backend, BundleInfo, Change, Edit, EngineError, ErrorKind,
    GalleryView, LocatedObject, Picture, Recognized, RecognizedObject, Response, Stage, StageTimes,
    Thresholds,
};
use crate::refresh::{Newer, Publication, Published, thresholds};
use crate::scope::now;
use crate::threads;

/// Recognised pictures that can still be taught from.
const REMEMBERED: usize = 2;
/// Pairs of classes that are told to be alike at most.
const ALIKE: usize = 20;
/// How parts of a gallery are asked for: again, past all that keeps copies, where the first are damaged.
const CACHES: [RequestCache; 2] = [RequestCache::Default, RequestCache::Reload];

/// JPEG quality of a crop that is shown.
const CROP_QUALITY: u8 = 90;

/// A loaded bundle on a device.
pub(crate) struct Engine {
    recognizer: Recognizer,
    edits: LocalEdits,
    /// Whether the visitor has set thresholds.
    tuned: bool,
    manifest_url: String,
    /// Name of the published file with the classes' pictures.
    pictures: Option<String>,
    /// Whether they are in the gallery.
    pictured: bool,
    /// Names of the published gallery's shards.
    shards: Vec<String>,
    /// As the last publication has it, to tell a newer one by.
    manifest: Manifest,
    seen: VecDeque<Seen>,
    /// Of the camera whose frames come.
    tracker: Tracker,
}

/// A recognised picture.
struct Seen {
    id: u32,
    image: RgbImage,
    found: Vec<Recognition>,
    /// How many of the last ones somebody pointed at.
    pointed: usize,
    timings: StageTimes,
    embedded: usize,
}

/// Makes what a backend computes on.
#[cfg_attr(
    not(feature = "webgpu"),
    expect(clippy::unused_async, reason = "only WebGPU has to be waited for")
)]
pub(crate) async fn open_target(backend: Backend) -> Result<Target, EngineError> {
    match backend {
        #[cfg(feature = "cpu")]
        Backend::Cpu => Ok(Target::from(&Device::flex())),
        #[cfg(feature = "webgpu")]
        Backend::WebGpu => match Gpu::open().await {
            Ok(gpu) => Ok(Target::from(&gpu)),
            Err(error) => Err(EngineError::new(ErrorKind::Device, error.to_string())),
        },
        #[allow(unreachable_patterns, reason = "each module is built with one backend")]
        other => Err(EngineError::new(
            ErrorKind::Device,
            format!("this module has no {} engine", other.name()),
        )),
    }
}

impl Engine {
    /// Downloads a bundle and puts it on a device.
    pub(crate) async fn open(
        manifest_url: &str,
        backend: Backend,
        arithmetic: Option<Arithmetic>,
        progress: impl Fn(u64, u64) + Clone + 'static,
    ) -> Result<(Self, BundleInfo), EngineError> {
        let target = open_target(backend).await?;
        let bytes = fetch(manifest_url).await?;
        let manifest = Manifest::from_bytes(&bytes).map_err(bundle_error)?;
        let total: u64 = manifest
            .used_files()
            .filter_map(|name| manifest.file(name).ok())
            .map(|file| file.bytes)
            .sum();
        let folder = manifest_url.rsplit_once('/').map_or("", |(folder, _)| folder);
        // All at once; while one still comes in, another is made ready.
        let received: Rc<[Cell<u64>]> = manifest.used_files().map(|_| Cell::new(0)).collect();
        let downloads: Vec<Download> = (manifest.used_files().enumerate())
            .map(|(index, name)| {
                let (received, progress) = (received.clone(), progress.clone());
                let bytes = manifest.file(name).map_or(0, |file| file.bytes);
                let address = format!("{folder}/{name}");
                Download::start(address, WHOLE, bytes, RequestCache::Default, move |loaded| {
                    received[index].set(loaded);
                    progress(received.iter().map(Cell::get).sum(), total);
                })
            })
            .collect();
        let mut opening = Opening::new(&manifest, target);
        if let Some(arithmetic) = arithmetic {
            opening = opening.with_arithmetic(match arithmetic {
                Arithmetic::F32 => inference::Arithmetic::F32,
                Arithmetic::I8 => inference::Arithmetic::I8,
            });
        }
        for (name, download) in manifest.used_files().zip(downloads) {
            opening.take(name, download.finish().await?).map_err(bundle_error)?;
        }
        let mut recognizer = opening.finish().map_err(bundle_error)?;
        let edits = LocalEdits::open(&mut recognizer, manifest_url).await;
        let info = BundleInfo {
            title: manifest.title.clone(),
            classes: recognizer.gallery().classes().len()
                + recognizer.shards().map_or(0, Shards::classes),
            entries: recognizer.gallery().len() + recognizer.shards().map_or(0, Shards::entries),
            in_parts: recognizer.shards().is_some(),
            notes: manifest.notes.clone(),
            backend,
            arithmetic: match recognizer.extractor().arithmetic() {
                inference::Arithmetic::F32 => Arithmetic::F32,
                inference::Arithmetic::I8 => Arithmetic::I8,
            },
            detects: manifest.detector.is_some(),
            thresholds: thresholds(recognizer.settings()),
        };
        let engine = Self {
            recognizer,
            edits,
            tuned: false,
            manifest_url: manifest_url.to_owned(),
            pictured: manifest.pictures.is_none(),
            pictures: manifest.pictures.clone(),
            shards: manifest.shards.clone(),
            manifest,
            seen: VecDeque::new(),
            tracker: Tracker::default(),
        };
        Ok((engine, info))
    }

    /// Address of the file with the classes' pictures, as long as they are missing.
    pub(crate) fn missing_pictures(&self) -> Option<String> {
        self.pictures.as_ref().filter(|_| !self.pictured).map(|name| self.address(name))
    }

    /// Takes the classes' pictures in; what cannot be read is left out, as answers do without.
    pub(crate) fn take_thumbnails(&mut self, bytes: &[u8]) -> Response {
        if !self.pictured
            && let Ok(pictures) = Gallery::from_bytes(bytes)
        {
            self.pictured = self.recognizer.take_thumbnails(&pictures).is_ok();
            self.edits.take_thumbnails(&pictures);
        }
        let again = self.seen.back().map(|seen| self.described(seen));
        Response::Pictured { again }
    }

    /// Sees to it that no picture is missing before the gallery is changed or given away.
    pub(crate) async fn wait_for_pictures(&mut self) {
        if let Some(address) = self.missing_pictures()
            && let Ok(bytes) = fetch(&address).await
        {
            self.take_thumbnails(&bytes);
        }
    }

    fn address(&self, name: &str) -> String {
        let folder = self.manifest_url.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{folder}/{name}")
    }

    /// Says what is in a picture.
    pub(crate) async fn recognize(
        &mut self,
        id: u32,
        picture: Picture,
        follow: bool,
    ) -> Result<Recognized, EngineError> {
        let start = now();
        let image = decode(picture)?;
        let decoded = now();
        if !follow {
            self.tracker = Tracker::default();
        }
        let (found, timings) = self.look(&image, follow).await?;
        let embedded = timings.embedded;
        let timings = stage_times(decoded - start, timings);
        let seen = Seen { id, image, found, pointed: 0, timings, embedded };
        let recognized = self.described(&seen);
        self.seen.push_back(seen);
        if self.seen.len() > REMEMBERED {
            self.seen.pop_front();
        }
        Ok(recognized)
    }

    async fn look(
        &mut self,
        image: &RgbImage,
        follow: bool,
    ) -> Result<(Vec<Recognition>, Timings), EngineError> {
        for cache in CACHES {
            let fetch = fetcher(self.address(""), self.shards.clone(), cache);
            let tracker = follow.then_some(&mut self.tracker);
            match self.recognizer.recognize_with(image, tracker, &fetch, &now).await {
                Err(error) if cache == RequestCache::Default && is_damaged(&error) => (),
                recognized => return recognized.map_err(part_error),
            }
        }
        Err(EngineError::new(ErrorKind::Corrupted, "a part of the gallery is damaged"))
    }

    /// Says where things are in a picture.
    pub(crate) async fn locate(&self, id: u32, picture: Picture) -> Result<Response, EngineError> {
        let image = decode(picture)?;
        let found = self.recognizer.detect(&image).await.map_err(|error| failed(&error))?;
        let object = |found: &Detection| LocatedObject {
            bbox: [found.bbox.x1, found.bbox.y1, found.bbox.x2, found.bbox.y2],
            detection_score: found.score,
        };
        let (width, height) = (image.width(), image.height());
        Ok(Response::Located { id, width, height, objects: found.iter().map(object).collect() })
    }

    /// The embedding of a picture of one thing.
    pub(crate) async fn embed(&self, picture: Picture) -> Result<Vec<f32>, EngineError> {
        self.embedding(&decode(picture)?).await
    }

    async fn embedding(&self, image: &RgbImage) -> Result<Vec<f32>, EngineError> {
        let embeddings = self.recognizer.embed(std::slice::from_ref(image)).await;
        let embedding = embeddings.map_err(|error| failed(&error))?.pop();
        embedding.ok_or_else(|| EngineError::new(ErrorKind::Device, "the network gave nothing"))
    }

    /// The classes that are most similar to an embedding.
    pub(crate) async fn search(
        &mut self,
        embedding: Vec<f32>,
        top_k: usize,
    ) -> Result<Response, EngineError> {
        let asked = [embedding];
        self.fetch_near(&asked).await?;
        let found = self.recognizer.search(&asked[0], top_k).map_err(|error| refused(&error))?;
        Ok(Response::Found { answers: found.iter().map(|m| self.answer(m)).collect() })
    }

    /// Recognises by other thresholds from now on, the newest picture at once.
    pub(crate) async fn tune(&mut self, wanted: Thresholds) -> Result<Response, EngineError> {
        self.set_thresholds(wanted);
        self.tuned = true;
        let newest = self.seen.back().map(|seen| seen.image.clone());
        if let Some(image) = newest {
            let (found, timings) = self.look(&image, false).await?;
            if let Some(seen) = self.seen.back_mut() {
                seen.embedded = timings.embedded;
                seen.timings = stage_times(seen.timings.decode, timings);
                // What somebody pointed at stays.
                let pointed = seen.found.split_off(seen.found.len() - seen.pointed);
                seen.found = found;
                seen.found.extend(pointed);
            }
            self.answer_again()?;
        }
        let again = self.seen.back().map(|seen| self.described(seen));
        Ok(Response::Tuned { thresholds: self.thresholds(), again })
    }

    fn set_thresholds(&mut self, wanted: Thresholds) {
        let settings = self.recognizer.settings_mut();
        // What is no number stays as it is.
        if wanted.min_similarity.is_finite() {
            settings.min_similarity = wanted.min_similarity.clamp(-1.0, 1.0);
        }
        if wanted.min_score.is_finite() {
            settings.detection.score = wanted.min_score.clamp(0.0, 1.0);
        }
    }

    /// An object of a picture that is still at hand, in the size that the network takes.
    pub(crate) fn crop(&self, picture: u32, object: usize) -> Result<Response, EngineError> {
        let bytes = match self.object(picture, object) {
            Some((seen, found)) => {
                let input = self.recognizer.extractor().preprocess();
                let crop = seen.image.crop(&found.bbox);
                resize(&crop, input.width, input.height, input.filter)
                    .encode_jpeg(CROP_QUALITY)
                    .map_err(|error| EngineError::new(ErrorKind::Picture, error.to_string()))?
            }
            None => Vec::new(),
        };
        Ok(Response::Cropped { picture, object, bytes: bytes.into() })
    }

    /// Classes that may be mistaken for each other: those whose means are as similar as an answer
    /// has to be.
    pub(crate) fn alike(&self) -> Response {
        let gallery = self.recognizer.gallery();
        let least = self.recognizer.settings().min_similarity;
        let label = |class: usize| gallery.classes()[class].label.clone();
        let alike = gallery.alike(least, ALIKE);
        let pairs = alike.pairs.into_iter().map(|(first, second, similarity)| AlikePair {
            first: label(first),
            second: label(second),
            similarity,
        });
        Response::Alike { pairs: pairs.collect() }
    }

    /// Runs a part of the pipeline several times.
    pub(crate) async fn measure(&self, stage: Stage, runs: usize) -> Result<Response, EngineError> {
        measure::measure(&self.recognizer, stage, runs).await
    }

    fn answer(&self, found: &Match) -> Answer {
        let gallery = self.recognizer.gallery();
        let class = &gallery.classes()[found.class];
        let everyones = self.recognizer.settings().min_similarity;
        Answer {
            label: class.label.clone(),
            similarity: found.similarity,
            min_similarity: class.min_similarity.unwrap_or(everyones),
            metadata: class.metadata.clone().into_iter().collect(),
            thumbnail: ByteBuf::from(gallery.thumbnail(found.class)),
        }
    }

    fn described(&self, seen: &Seen) -> Recognized {
        let object = |r: &Recognition| RecognizedObject {
            bbox: [r.bbox.x1, r.bbox.y1, r.bbox.x2, r.bbox.y2],
            detection_score: r.detection_score,
            known: r.known,
            answers: r.matches.iter().map(|m| self.answer(m)).collect(),
            embedding: r.embedding.clone(),
        };
        Recognized {
            picture: seen.id,
            width: seen.image.width(),
            height: seen.image.height(),
            objects: seen.found.iter().map(object).collect(),
            pointed: seen.pointed,
            timings: seen.timings,
            embedded: seen.embedded,
            threads: threads::count(),
            memory: measure::memory(),
        }
    }

    /// What the gallery holds.
    pub(crate) fn list(&self, filter: &str) -> GalleryView {
        self.edits.view(&self.recognizer, filter)
    }

    /// The gallery as a file.
    pub(crate) fn export(&self) -> Vec<u8> {
        self.recognizer.own_gallery().to_bytes()
    }

    /// Changes the gallery.
    pub(crate) async fn edit(&mut self, edit: Edit) -> Result<Response, EngineError> {
        let lesson = match &edit {
            Edit::Teach { picture, object, .. } => self.lesson(*picture, *object)?,
            Edit::Add { picture, .. } => {
                let image = decode(picture.clone())?;
                let thumbnail = thumbnail_of(&image)?;
                Some(Taught { thumbnail, embedding: self.embedding(&image).await? })
            }
            _ => None,
        };
        // A camera's newest frame may be another than the one that was taught from.
        let shown = match &edit {
            Edit::Teach { picture, .. } => Some(*picture),
            _ => None,
        };
        let change = self.edits.edit(&mut self.recognizer, edit, lesson).await?;
        self.edited(change, shown)
    }

    /// Takes the last change back.
    pub(crate) async fn undo(&mut self) -> Result<Response, EngineError> {
        self.edits.undo(&mut self.recognizer).await?;
        self.edited(Change::Undone, None)
    }

    /// Goes back to the published gallery.
    pub(crate) async fn reset(&mut self) -> Result<Response, EngineError> {
        self.edits.reset(&mut self.recognizer).await?;
        self.edited(Change::Reset, None)
    }

    /// What a newer publication is told apart by.
    pub(crate) fn publication(&self) -> Publication {
        Publication { manifest_url: self.manifest_url.clone(), manifest: self.manifest.clone() }
    }

    /// What must be reached now.
    pub(crate) fn thresholds(&self) -> Thresholds {
        thresholds(self.recognizer.settings())
    }

    /// Takes what was published since.
    pub(crate) fn take_newer(&mut self, newer: Newer) -> Result<Response, EngineError> {
        let Newer { manifest, published } = newer;
        let published = match published {
            Published::Same => None,
            Published::Whole(gallery) => {
                self.recognizer.set_shards(None).map_err(|error| refused(&error))?;
                Some(*gallery)
            }
            Published::Sharded(shards) => {
                let empty = shards.empty_gallery();
                self.recognizer.set_shards(Some(*shards)).map_err(|error| refused(&error))?;
                Some(empty)
            }
        };
        // What the visitor has set stays.
        let now = self.thresholds();
        *self.recognizer.settings_mut() = manifest.settings.clone();
        if let Some(tuned) = self.tuned.then_some(now) {
            self.set_thresholds(tuned);
        }
        if let Some(published) = published {
            (self.pictures, self.pictured) = (manifest.pictures.clone(), true);
            self.shards.clone_from(&manifest.shards);
            self.edits.publish(&mut self.recognizer, published)?;
        }
        self.manifest = manifest;
        self.edited(Change::Published, None)
    }

    /// What there is to say after a change: the gallery, and the answers now of a picture that is at hand, or
    /// of the newest.
    fn edited(&mut self, change: Change, shown: Option<u32>) -> Result<Response, EngineError> {
        self.answer_again()?;
        let shown = self.seen.iter().find(|seen| Some(seen.id) == shown).or(self.seen.back());
        let again = shown.map(|seen| self.described(seen));
        Ok(Response::Edited { change, gallery: self.list(""), again })
    }

    /// The object of a picture that is still at hand.
    fn lesson(&self, picture: u32, object: usize) -> Result<Option<Taught>, EngineError> {
        let Some((seen, found)) = self.object(picture, object) else { return Ok(None) };
        let thumbnail = thumbnail_of(&seen.image.crop(&found.bbox))?;
        Ok(Some(Taught { thumbnail, embedding: found.embedding.clone() }))
    }

    fn object(&self, picture: u32, object: usize) -> Option<(&Seen, &Recognition)> {
        let seen = self.seen.iter().find(|seen| seen.id == picture)?;
        Some((seen, seen.found.get(object)?))
    }
}

fn stage_times(decode: f64, Timings { detect, embed, search, .. }: Timings) -> StageTimes {
    StageTimes { decode, detect, embed, search }
}
