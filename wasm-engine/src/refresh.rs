//! A gallery that is published while the page is open.
//!
//! It is downloaded beside the engine, which answers meanwhile, and handed over when it is whole.

use models::bundle::Manifest;
use models::gallery::{Gallery, GalleryError, Shards};

use crate::failure::{bundle_error, refused};
use crate::fetch::{fetch, fetch_newest};
use crate::protocol::{EngineError, ErrorKind};

/// What the engine has, to tell a newer publication by.
pub(crate) struct Publication {
    pub(crate) manifest_url: String,
    /// File name of the gallery.
    pub(crate) gallery: String,
    /// File name of the classes' thumbnails.
    pub(crate) pictures: Option<String>,
    /// File name of the extractor: another one would need the page to load anew.
    pub(crate) extractor: String,
}

/// A newer publication.
pub(crate) struct Newer {
    pub(crate) manifest: Manifest,
    pub(crate) published: Published,
}

/// Its gallery.
pub(crate) enum Published {
    /// In one file.
    Whole(Box<Gallery>),
    /// In parts that are fetched when they are needed.
    Sharded(Box<Shards>),
}

impl Publication {
    /// Downloads what was published since; `None` where that is nothing.
    pub(crate) async fn newer(&self) -> Result<Option<Newer>, EngineError> {
        let bytes = fetch_newest(&self.manifest_url).await?;
        let manifest = Manifest::from_bytes(&bytes).map_err(bundle_error)?;
        let known = manifest.gallery == self.gallery && manifest.pictures == self.pictures;
        if known || manifest.extractor.file != self.extractor {
            return Ok(None);
        }
        let folder = self.manifest_url.rsplit_once('/').map_or("", |(folder, _)| folder);
        let folder = format!("{folder}/");
        let published = if manifest.shards.is_empty() {
            let pictures = manifest.pictures.as_deref();
            Published::Whole(Box::new(read_gallery(&folder, &manifest.gallery, pictures).await?))
        } else {
            let head = fetch(&format!("{folder}{}", manifest.gallery)).await?;
            Published::Sharded(Box::new(
                manifest.read_head(&head).map_err(|error| refused(&error))?,
            ))
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
    let damaged = |error: GalleryError| EngineError::new(ErrorKind::Corrupted, error.to_string());
    let read = async |name: &str| {
        let bytes = fetch(&format!("{folder}{name}")).await?;
        Gallery::from_bytes(&bytes).map_err(damaged)
    };
    let mut gallery = read(name).await?;
    if let Some(pictures) = pictures {
        gallery.take_pictures(&read(pictures).await?).map_err(damaged)?;
    }
    Ok(gallery)
}
