//! Parts of a gallery in shards, from the site's host.

use models::gallery::{Fetched, Part};
use web_sys::RequestCache;

use crate::error::PartError;
use crate::fetch::Download;
use crate::protocol::{EngineError, ErrorKind};

/// What fetches parts of the files `shards` in `folder`, all at once. One kind of closure, so that the
/// pipeline is compiled once for it. With [`RequestCache::Reload`] the host itself is asked.
pub(crate) fn fetcher(
    folder: String,
    shards: Vec<String>,
    cache: RequestCache,
) -> impl AsyncFn(Vec<Part>) -> Result<Fetched, PartError> {
    async move |parts: Vec<Part>| {
        let start = |part: &Part| {
            let name = shards.get(part.shard).map_or("", String::as_str);
            let length = part.range.end - part.range.start;
            Download::start(format!("{folder}{name}"), part.range.clone(), length, cache, |_| ())
        };
        let downloads: Vec<Download> = parts.iter().map(start).collect();
        let mut fetched = Vec::with_capacity(parts.len());
        for (part, download) in parts.into_iter().zip(downloads) {
            let bytes = download.finish().await.map_err(|error| {
                let message = format!("a part of the gallery is missing: {}", error.message);
                PartError::Fetch(EngineError::new(ErrorKind::Fetch, message))
            })?;
            fetched.push((part, bytes));
        }
        Ok(fetched)
    }
}
