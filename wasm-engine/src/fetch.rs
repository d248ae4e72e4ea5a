//! Downloads with progress.

use std::collections::HashMap;

use js_sys::{Reflect, Uint8Array};
use models::bundle::MAX_FILE_BYTES;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    DedicatedWorkerGlobalScope, ReadableStreamDefaultReader, RequestCache, RequestInit, Response,
    WorkerGlobalScope,
};

use crate::protocol::{EngineError, ErrorKind};

/// The worker's global object.
pub(crate) fn scope() -> DedicatedWorkerGlobalScope {
    js_sys::global().unchecked_into()
}

/// Milliseconds since the worker started.
pub(crate) fn now() -> f64 {
    let scope: WorkerGlobalScope = scope().unchecked_into();
    scope.performance().map_or(0.0, |performance| performance.now())
}

/// Downloaded files by name.
#[derive(Default)]
pub(crate) struct Files(HashMap<String, Vec<u8>>);

impl Files {
    pub(crate) fn insert(&mut self, name: &str, bytes: Vec<u8>) {
        self.0.insert(name.to_owned(), bytes);
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Vec<u8>> {
        self.0.remove(name)
    }

    /// Downloads a file; `progress` gets the bytes received so far.
    pub(crate) async fn fetch(url: &str, progress: impl Fn(u64)) -> Result<Vec<u8>, EngineError> {
        Self::fetch_with(url, RequestCache::Default, progress).await
    }

    /// Downloads a file that may have changed since it was last asked for.
    pub(crate) async fn fetch_newest(url: &str) -> Result<Vec<u8>, EngineError> {
        Self::fetch_with(url, RequestCache::NoCache, |_| ()).await
    }

    async fn fetch_with(
        url: &str,
        cache: RequestCache,
        progress: impl Fn(u64),
    ) -> Result<Vec<u8>, EngineError> {
        let failed = |reason: String| {
            EngineError::new(ErrorKind::Fetch, format!("{url} could not be loaded: {reason}"))
        };
        let scope: WorkerGlobalScope = scope().unchecked_into();
        let options = RequestInit::new();
        options.set_cache(cache);
        let response: Response = JsFuture::from(scope.fetch_with_str_and_init(url, &options))
            .await
            .map_err(|error| failed(text(&error)))?
            .unchecked_into();
        if !response.ok() {
            return Err(failed(format!("the host answered {}", response.status())));
        }
        let body = response.body().ok_or_else(|| failed("no content".to_owned()))?;
        let reader: ReadableStreamDefaultReader = body.get_reader().unchecked_into();
        let mut bytes = Vec::new();
        loop {
            let chunk =
                JsFuture::from(reader.read()).await.map_err(|error| failed(text(&error)))?;
            let get = |key: &str| Reflect::get(&chunk, &JsValue::from_str(key));
            if get("done").is_ok_and(|done| done.is_truthy()) {
                return Ok(bytes);
            }
            let value = get("value").map_err(|error| failed(text(&error)))?;
            let value: Uint8Array = value.unchecked_into();
            if (bytes.len() + value.length() as usize) as u64 > MAX_FILE_BYTES {
                return Err(failed("it is too large".to_owned()));
            }
            bytes.extend(value.to_vec());
            progress(bytes.len() as u64);
        }
    }
}

/// A JavaScript error in words.
fn text(error: &JsValue) -> String {
    Reflect::get(error, &JsValue::from_str("message"))
        .ok()
        .and_then(|message| message.as_string())
        .unwrap_or_else(|| format!("{error:?}"))
}
