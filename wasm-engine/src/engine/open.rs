//! A bundle on a device: downloaded, opened, completed with its thumbnails, replaced by a newer publication.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use models::bundle::{Manifest, Opening};
use models::gallery::{Gallery, Shards};
use models::inference;
use models::inference::Target;
#[cfg(feature = "webgpu")]
use models::inference::gpu::Gpu;
use models::tracker::Tracker;
use web_sys::RequestCache;

use super::Engine;
use super::adapt::Learning;
use crate::fetch::{Download, WHOLE, fetch};
use crate::local_edits::LocalEdits;
use crate::protocol::{Arithmetic, Backend, BundleInfo, Change, EngineError, ErrorKind, Response};
use crate::refresh::{Newer, Published, thresholds};

/// Makes what a backend computes on.
#[cfg_attr(
    not(feature = "webgpu"),
    expect(clippy::unused_async, reason = "only WebGPU has to be waited for")
)]
pub(crate) async fn open_target(backend: Backend) -> Result<Target, EngineError> {
    match backend {
        #[cfg(feature = "cpu")]
        Backend::Cpu => Ok(Target::cpu()),
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
        let manifest = Manifest::from_bytes(&bytes)?;
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
            opening.take(name, download.finish().await?)?;
        }
        let mut recognizer = opening.finish()?;
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
            pictured: manifest.thumbnails.is_none(),
            pictures: manifest.thumbnails.clone(),
            shards: manifest.shards.clone(),
            manifest,
            seen: VecDeque::new(),
            tracker: Tracker::default(),
            learning: Learning::default(),
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

    /// Takes what was published since.
    pub(crate) fn take_newer(&mut self, newer: Newer) -> Result<Response, EngineError> {
        let Newer { manifest, published } = newer;
        let published = match published {
            Published::Same => None,
            Published::Whole(gallery) => {
                self.recognizer.set_shards(None)?;
                Some(*gallery)
            }
            Published::Sharded(shards) => {
                let empty = shards.empty_gallery();
                self.recognizer.set_shards(Some(*shards))?;
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
            (self.pictures, self.pictured) = (manifest.thumbnails.clone(), true);
            self.shards.clone_from(&manifest.shards);
            self.edits.publish(&mut self.recognizer, published)?;
        }
        self.manifest = manifest;
        self.edited(Change::Published, None)
    }
}
