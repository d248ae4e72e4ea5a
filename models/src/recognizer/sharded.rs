//! A recognizer over a gallery in shards: what is fetched before its embeddings are answered.

use gallery::{Budget, Fetched, Gallery, GalleryError, Part, Shards};

use super::{RecognizeError, Recognizer};

/// Bytes of fetched lists that are kept: what 500 queries fetch at the default budget of 64 kB.
const MOST_KEPT: u64 = 32 << 20;

/// A published gallery that is fetched from.
#[derive(Debug)]
pub(super) struct SearchedShards {
    pub(super) shards: Shards,
    /// What is searched beside it; the recognizer's gallery is this and what was fetched.
    pub(super) own: Gallery,
}

impl SearchedShards {
    /// Takes parts in as `fetch` has them; where it fails, piece by piece.
    async fn fetch<E: From<RecognizeError>>(
        &mut self,
        parts: Vec<Part>,
        fetch: &impl AsyncFn(Vec<Part>) -> Result<Fetched, E>,
    ) -> Result<(), E> {
        if parts.is_empty() {
            return Ok(());
        }
        let pieces = self.shards.apart(&parts);
        let fetched = match fetch(parts).await {
            Ok(fetched) => fetched,
            Err(error) => fetch(pieces).await.map_err(|_again| error)?,
        };
        for (part, bytes) in fetched {
            self.shards.take(&part, &bytes).map_err(RecognizeError::Gallery)?;
        }
        Ok(())
    }
}

impl Recognizer {
    /// The gallery that can be changed: the one that is searched, without what was fetched.
    pub fn own_gallery(&self) -> &Gallery {
        self.sharded.as_ref().map_or(&self.gallery, |sharded| &sharded.own)
    }

    /// Searches a gallery in shards as well from now on, or no longer.
    ///
    /// # Errors
    ///
    /// [`GalleryError::OtherModel`] or [`GalleryError::Dimension`]; all stays as it is then.
    pub fn set_shards(&mut self, shards: Option<Shards>) -> Result<(), GalleryError> {
        let mut own = self.own_gallery().clone();
        self.sharded = match shards {
            Some(shards) => {
                let empty = shards.empty_gallery();
                own.check_comparable(&empty)?;
                own.share_map(&empty)?;
                Some(SearchedShards { shards, own: own.clone() })
            }
            None => None,
        };
        self.gallery = own;
        Ok(())
    }

    /// The gallery in shards that is searched as well.
    pub fn shards(&self) -> Option<&Shards> {
        self.sharded.as_ref().map(|sharded| &sharded.shards)
    }

    /// Fetches what a gallery in shards has near to embeddings, and what is said about the classes that
    /// they are answered with. Without shards there is nothing to do.
    ///
    /// # Errors
    ///
    /// [`RecognizeError::Gallery`], or what `fetch` says.
    pub async fn fetch_near<E: From<RecognizeError>>(
        &mut self,
        embeddings: &[Vec<f32>],
        fetch: &impl AsyncFn(Vec<Part>) -> Result<Fetched, E>,
    ) -> Result<(), E> {
        let failed = |error: GalleryError| E::from(RecognizeError::Gallery(error));
        let Some(sharded) = &mut self.sharded else { return Ok(()) };
        sharded.shards.forget_beyond(MOST_KEPT);
        let queries = embeddings.iter().map(Vec::as_slice);
        let parts = sharded.shards.missing(queries, Budget::default()).map_err(failed)?;
        sharded.fetch(parts, fetch).await?;
        self.gather(embeddings).map_err(failed)?;
        let mut labels = Vec::new();
        for embedding in embeddings {
            let found = self.search(embedding, self.settings.top_k).map_err(failed)?;
            labels.extend(found.iter().map(|m| self.gallery.classes()[m.class].label.clone()));
        }
        let Some(sharded) = &mut self.sharded else { return Ok(()) };
        let parts = sharded.shards.missing_metadata(labels.iter().map(String::as_str));
        // Answers do without pictures where these cannot be had.
        if !parts.is_empty() && sharded.fetch(parts, fetch).await.is_ok() {
            self.gather(embeddings).map_err(failed)?;
        }
        Ok(())
    }

    /// Searches what was fetched near to embeddings as well.
    ///
    /// # Errors
    ///
    /// [`GalleryError`] for what is no embedding of this gallery.
    pub fn gather(&mut self, embeddings: &[Vec<f32>]) -> Result<(), GalleryError> {
        let Some(sharded) = &self.sharded else { return Ok(()) };
        for embedding in embeddings {
            let near = sharded.shards.neighborhood(embedding, Budget::default())?;
            self.gallery.merge(&near)?;
        }
        Ok(())
    }
}
