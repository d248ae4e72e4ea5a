//! What is published while the page is open.
//!
//! A gallery is downloaded beside the engine, which answers meanwhile, and handed over when it is whole.

use models::bundle::Manifest;
use models::gallery::{Gallery, GalleryError, Shards};
use models::recognizer::RecognizerSettings;

use crate::error::damaged;
use crate::fetch::{fetch, fetch_newest};
use crate::protocol::{EngineError, Thresholds};

/// What the engine has, to tell a newer publication by.
pub(crate) struct Publication {
    pub(crate) manifest_url: String,
    /// As it was published last.
    pub(crate) manifest: Manifest,
}

/// A newer publication.
pub(crate) struct Newer {
    pub(crate) manifest: Manifest,
    pub(crate) published: Published,
}

impl Newer {
    /// What the page shows of it: title, notes, thresholds.
    pub(crate) fn about(&self) -> (String, Vec<String>, Thresholds) {
        let Manifest { title, notes, settings, .. } = &self.manifest;
        (title.clone(), notes.clone(), thresholds(settings))
    }
}

/// What must be reached by these settings.
pub(crate) fn thresholds(settings: &RecognizerSettings) -> Thresholds {
    Thresholds { min_similarity: settings.min_similarity, min_score: settings.detection.score }
}

/// Its gallery.
pub(crate) enum Published {
    /// The one that is there.
    Same,
    /// In one file.
    Whole(Box<Gallery>),
    /// In parts that are fetched when they are needed.
    Sharded(Box<Shards>),
}

impl Publication {
    /// Downloads what was published since; `None` where that is nothing.
    pub(crate) async fn newer(&self) -> Result<Option<Newer>, EngineError> {
        let bytes = fetch_newest(&self.manifest_url).await?;
        let manifest = Manifest::from_bytes(&bytes)?;
        // Another extractor would need the page to load anew.
        if manifest == self.manifest || manifest.extractor.file != self.manifest.extractor.file {
            return Ok(None);
        }
        let is_known = manifest.gallery == self.manifest.gallery
            && manifest.thumbnails == self.manifest.thumbnails;
        let folder = self.manifest_url.rsplit_once('/').map_or("", |(folder, _)| folder);
        let folder = format!("{folder}/");
        let published = if is_known {
            Published::Same
        } else if manifest.shards.is_empty() {
            let pictures = manifest.thumbnails.as_deref();
            Published::Whole(Box::new(read_gallery(&folder, &manifest.gallery, pictures).await?))
        } else {
            let head = fetch(&format!("{folder}{}", manifest.gallery)).await?;
            let shards = manifest.read_directory(&head).map_err(|error| damaged(&error))?;
            Published::Sharded(Box::new(shards))
        };
        Ok(Some(Newer { manifest, published }))
    }
}

/// A gallery of the site with its thumbnails. Their own checksums say whether they are whole.
async fn read_gallery(
    folder: &str,
    name: &str,
    pictures: Option<&str>,
) -> Result<Gallery, EngineError> {
    let damaged = |error: GalleryError| damaged(&error);
    let read = async |name: &str| {
        let bytes = fetch(&format!("{folder}{name}")).await?;
        Gallery::from_bytes(&bytes).map_err(damaged)
    };
    let mut gallery = read(name).await?;
    if let Some(pictures) = pictures {
        gallery.take_thumbnails(&read(pictures).await?).map_err(damaged)?;
    }
    Ok(gallery)
}
