//! One device, one recognizer.

use burn::tensor::Device;
use models::bundle::{Bundle, BundleError, Manifest};
use models::image::RgbImage;
use models::recognizer::Recognizer;
use serde_bytes::ByteBuf;

use crate::fetch::{Files, now};
use crate::protocol::{
    Answer, Backend, BundleInfo, EngineError, ErrorKind, Picture, Recognized, RecognizedObject,
    StageTimes,
};

/// A loaded bundle on a device.
pub(crate) struct Engine {
    recognizer: Recognizer,
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
        let recognizer =
            Bundle::open(&manifest, |name| files.take(name), &device).map_err(bundle_error)?;
        let info = BundleInfo {
            title: manifest.title,
            classes: recognizer.gallery().classes().len(),
            entries: recognizer.gallery().len(),
            notes: manifest.notes,
            backend,
        };
        Ok((Self { recognizer }, info))
    }

    /// Says what is in a picture.
    pub(crate) async fn recognize(&self, picture: Picture) -> Result<Recognized, EngineError> {
        let start = now();
        let image = match picture {
            Picture::Encoded(bytes) => RgbImage::decode(&bytes),
            Picture::Pixels { width, height, rgba } => RgbImage::from_rgba(width, height, &rgba),
        }
        .map_err(|error| EngineError::new(ErrorKind::Picture, error.to_string()))?;
        let decoded = now();
        let (found, timings) = self
            .recognizer
            .recognize(&image, now)
            .await
            .map_err(|error| EngineError::new(ErrorKind::Device, error.to_string()))?;
        let gallery = self.recognizer.gallery();
        let objects = found
            .into_iter()
            .map(|r| RecognizedObject {
                bbox: [r.bbox.x1, r.bbox.y1, r.bbox.x2, r.bbox.y2],
                detection_score: r.detection_score,
                known: r.known,
                answers: r
                    .matches
                    .iter()
                    .map(|m| {
                        let class = &gallery.classes()[m.class];
                        Answer {
                            label: class.label.clone(),
                            similarity: m.similarity,
                            metadata: class.metadata.clone().into_iter().collect(),
                            thumbnail: ByteBuf::from(gallery.thumbnail(m.class)),
                        }
                    })
                    .collect(),
                embedding: r.embedding,
            })
            .collect();
        Ok(Recognized {
            width: image.width(),
            height: image.height(),
            objects,
            timings: StageTimes {
                decode: decoded - start,
                detect: timings.detect,
                embed: timings.embed,
                search: timings.search,
            },
        })
    }
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
