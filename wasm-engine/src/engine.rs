//! One device, one recognizer.

use std::collections::VecDeque;

use burn::tensor::Device;
use models::bundle::{Bundle, BundleError, Manifest};
use models::detector::Detection;
use models::gallery::{Gallery, Match};
use models::image::RgbImage;
use models::recognizer::{Recognition, RecognizeError, Recognizer, class_thumbnail};
use serde_bytes::ByteBuf;

use crate::fetch::{Files, now};
use crate::protocol::{
    Answer, Backend, BundleInfo, Change, Edit, EngineError, ErrorKind, GalleryView, LocatedObject,
    Picture, Recognized, RecognizedObject, Response, StageTimes,
};
use crate::visitor::{Lesson, Visitor};

/// Recognised pictures that can still be taught from.
const REMEMBERED: usize = 2;

/// A loaded bundle on a device.
pub(crate) struct Engine {
    recognizer: Recognizer,
    visitor: Visitor,
    manifest_url: String,
    /// SHA-256 of the extractor: another one would need the page to load anew.
    extractor: String,
    seen: VecDeque<Seen>,
}

/// A recognised picture.
struct Seen {
    id: u32,
    image: RgbImage,
    found: Vec<Recognition>,
    timings: StageTimes,
}

/// Makes the device of a backend.
#[cfg_attr(
    not(feature = "webgpu"),
    expect(clippy::unused_async, reason = "only WebGPU has to be waited for")
)]
pub(crate) async fn open_device(backend: Backend) -> Result<Device, EngineError> {
    match backend {
        #[cfg(feature = "cpu")]
        Backend::Cpu => Ok(Device::flex()),
        #[cfg(feature = "webgpu")]
        Backend::WebGpu => Device::wgpu_options()
            .init_async()
            .await
            .map_err(|error| EngineError::new(ErrorKind::Device, format!("{error:?}"))),
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
        progress: impl Fn(u64, u64),
    ) -> Result<(Self, BundleInfo), EngineError> {
        let device = open_device(backend).await?;
        let bytes = Files::fetch(manifest_url, |_| ()).await?;
        let manifest = Manifest::from_bytes(&bytes).map_err(bundle_error)?;
        let total: u64 = manifest
            .used_files()
            .filter_map(|name| manifest.file(name).ok())
            .map(|file| file.bytes)
            .sum();
        let folder = manifest_url.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut files = Files::default();
        let mut before = 0;
        for name in manifest.used_files() {
            let url = format!("{folder}/{name}");
            let bytes = Files::fetch(&url, |loaded| progress(before + loaded, total)).await?;
            before += bytes.len() as u64;
            files.insert(name, bytes);
        }
        let mut recognizer =
            Bundle::open(&manifest, |name| files.take(name), &device).map_err(bundle_error)?;
        let visitor = Visitor::open(&mut recognizer, &manifest.gallery).await;
        let info = BundleInfo {
            title: manifest.title,
            classes: recognizer.gallery().classes().len(),
            entries: recognizer.gallery().len(),
            notes: manifest.notes,
            backend,
        };
        let engine = Self {
            recognizer,
            visitor,
            manifest_url: manifest_url.to_owned(),
            extractor: manifest.extractor.file,
            seen: VecDeque::new(),
        };
        Ok((engine, info))
    }

    /// Says what is in a picture.
    pub(crate) async fn recognize(
        &mut self,
        id: u32,
        picture: Picture,
    ) -> Result<Recognized, EngineError> {
        let start = now();
        let image = decode(picture)?;
        let decoded = now();
        let (found, timings) =
            self.recognizer.recognize(&image, now).await.map_err(|error| failed(&error))?;
        let timings = StageTimes {
            decode: decoded - start,
            detect: timings.detect,
            embed: timings.embed,
            search: timings.search,
        };
        let seen = Seen { id, image, found, timings };
        let recognized = self.described(&seen);
        self.seen.push_back(seen);
        if self.seen.len() > REMEMBERED {
            self.seen.pop_front();
        }
        Ok(recognized)
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
    pub(crate) fn search(&self, embedding: &[f32], top_k: usize) -> Result<Response, EngineError> {
        let found = self
            .recognizer
            .search(embedding, top_k)
            .map_err(|error| EngineError::new(ErrorKind::Gallery, error.to_string()))?;
        Ok(Response::Found { answers: found.iter().map(|m| self.answer(m)).collect() })
    }

    fn answer(&self, found: &Match) -> Answer {
        let gallery = self.recognizer.gallery();
        let class = &gallery.classes()[found.class];
        Answer {
            label: class.label.clone(),
            similarity: found.similarity,
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
            timings: seen.timings,
        }
    }

    /// What the gallery holds.
    pub(crate) fn list(&self, filter: &str) -> GalleryView {
        self.visitor.view(self.recognizer.gallery(), filter)
    }

    /// The gallery as a file.
    pub(crate) fn export(&self) -> Vec<u8> {
        self.recognizer.gallery().to_bytes()
    }

    /// Changes the gallery.
    pub(crate) async fn edit(&mut self, edit: Edit) -> Result<Response, EngineError> {
        let lesson = match &edit {
            Edit::Teach { picture, object, .. } => self.lesson(*picture, *object)?,
            Edit::Add { picture, .. } => {
                let image = decode(picture.clone())?;
                let thumbnail = thumbnail_of(&image)?;
                Some(Lesson { thumbnail, embedding: self.embedding(&image).await? })
            }
            _ => None,
        };
        let change = self.visitor.edit(&mut self.recognizer, edit, lesson).await?;
        self.edited(change)
    }

    /// Takes the last change back.
    pub(crate) async fn undo(&mut self) -> Result<Response, EngineError> {
        self.visitor.undo(&mut self.recognizer).await?;
        self.edited(Change::Undone)
    }

    /// Goes back to the published gallery.
    pub(crate) async fn reset(&mut self) -> Result<Response, EngineError> {
        let published = self.published(self.visitor.published()).await?;
        self.visitor.reset(&mut self.recognizer, published).await?;
        self.edited(Change::Reset)
    }

    /// Takes a gallery that was published since; `None` where there is none.
    pub(crate) async fn refresh(&mut self) -> Result<Option<Response>, EngineError> {
        let bytes = Files::fetch_newest(&self.manifest_url).await?;
        let manifest = Manifest::from_bytes(&bytes).map_err(bundle_error)?;
        if manifest.gallery == self.visitor.published() || manifest.extractor.file != self.extractor
        {
            return Ok(None);
        }
        let published = self.published(&manifest.gallery).await?;
        self.visitor.publish(&mut self.recognizer, &manifest.gallery, published).await?;
        self.edited(Change::Published).map(Some)
    }

    /// A gallery of the site. Its own checksums say whether it is whole.
    async fn published(&self, name: &str) -> Result<Gallery, EngineError> {
        let folder = self.manifest_url.rsplit_once('/').map_or("", |(folder, _)| folder);
        let bytes = Files::fetch(&format!("{folder}/{name}"), |_| ()).await?;
        Gallery::from_bytes(&bytes)
            .map_err(|error| EngineError::new(ErrorKind::Corrupted, error.to_string()))
    }

    /// What there is to say after a change: the gallery, and the newest picture's answers now.
    fn edited(&mut self, change: Change) -> Result<Response, EngineError> {
        for seen in &mut self.seen {
            for recognition in &mut seen.found {
                let (matches, known) = self
                    .recognizer
                    .answer(&recognition.embedding)
                    .map_err(|error| EngineError::new(ErrorKind::Gallery, error.to_string()))?;
                (recognition.matches, recognition.known) = (matches, known);
            }
        }
        let again = self.seen.back().map(|seen| self.described(seen));
        Ok(Response::Edited { change, gallery: self.list(""), again })
    }

    /// The object of a picture that is still at hand.
    fn lesson(&self, picture: u32, object: usize) -> Result<Option<Lesson>, EngineError> {
        let seen = self.seen.iter().find(|seen| seen.id == picture);
        let Some((seen, found)) = seen.and_then(|seen| Some((seen, seen.found.get(object)?)))
        else {
            return Ok(None);
        };
        let thumbnail = thumbnail_of(&seen.image.crop(&found.bbox))?;
        Ok(Some(Lesson { thumbnail, embedding: found.embedding.clone() }))
    }
}

fn decode(picture: Picture) -> Result<RgbImage, EngineError> {
    match picture {
        Picture::Encoded(bytes) => RgbImage::decode(&bytes),
        Picture::Pixels { width, height, rgba } => RgbImage::from_rgba(width, height, &rgba),
    }
    .map_err(|error| EngineError::new(ErrorKind::Picture, error.to_string()))
}

fn thumbnail_of(picture: &RgbImage) -> Result<Vec<u8>, EngineError> {
    class_thumbnail(picture)
        .map_err(|error| EngineError::new(ErrorKind::Picture, error.to_string()))
}

fn failed(error: &RecognizeError) -> EngineError {
    EngineError::new(ErrorKind::Device, error.to_string())
}

fn bundle_error(error: BundleError) -> EngineError {
    let kind = match &error {
        BundleError::Truncated { .. } => ErrorKind::Truncated,
        BundleError::Corrupted { .. } => ErrorKind::Corrupted,
        BundleError::Format { .. } => ErrorKind::TooNew,
        _ => ErrorKind::Bundle,
    };
    EngineError::new(kind, error.to_string())
}
