//! Downloads that say how far they are, and go on where they broke off.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use js_sys::{Function, Map, Promise, Reflect, Uint8Array};
use models::bundle::MAX_FILE_BYTES;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, future_to_promise};
use web_sys::{
    DedicatedWorkerGlobalScope, Headers, ReadableStreamDefaultReader, RequestCache, RequestInit,
    Response, WorkerGlobalScope,
};

use crate::protocol::{EngineError, ErrorKind};
use crate::storage::Beginning;

/// Tries of one file.
const TRIES: u32 = 4;
/// Milliseconds before the second; each wait is twice the one before.
const FIRST_WAIT: i32 = 300;
/// Bytes that are set aside because somebody says that they will come.
const MOST_RESERVED: u64 = 1 << 27;
/// Bytes from which a file is kept while it comes in: smaller ones come anew in no time.
const KEPT_FROM: u64 = 1 << 20;
/// The host's answer when it sends a part of a file.
const PARTIAL_CONTENT: u16 = 206;

/// The worker's global object.
pub(crate) fn scope() -> DedicatedWorkerGlobalScope {
    js_sys::global().unchecked_into()
}

/// Milliseconds since the worker started.
pub(crate) fn now() -> f64 {
    let scope: WorkerGlobalScope = scope().unchecked_into();
    scope.performance().map_or(0.0, |performance| performance.now())
}

/// Downloads a file.
pub(crate) async fn fetch(url: &str) -> Fetched {
    fetch_with(url, WHOLE, RequestCache::Default, &mut Vec::new(), &|_| (), None).await
}

/// Bytes of a file.
type Part = Range<u64>;

/// All bytes of a file, however many.
pub(crate) const WHOLE: Part = 0..u64::MAX;

/// A file, or why it could not be had.
type Fetched = Result<Vec<u8>, EngineError>;

/// A download that goes on by itself.
pub(crate) struct Download {
    end: Promise,
    result: Rc<RefCell<Option<Fetched>>>,
}

impl Download {
    /// Begins; `bytes` are expected, and `progress` gets those received so far. A large file is kept
    /// while it comes in.
    pub(crate) fn start(
        url: String,
        part: Part,
        bytes: u64,
        progress: impl Fn(u64) + 'static,
    ) -> Self {
        let result = Rc::new(RefCell::new(None));
        let slot = result.clone();
        let end = future_to_promise(async move {
            slot.replace(Some(fetch_expected(&url, part, bytes, progress).await));
            Ok(JsValue::UNDEFINED)
        });
        Self { end, result }
    }

    /// The file, once it is there.
    pub(crate) async fn finish(self) -> Fetched {
        // It says how it went through the result alone.
        let _ = JsFuture::from(self.end).await;
        let never = || EngineError::new(ErrorKind::Fetch, "a download has stopped");
        self.result.take().unwrap_or_else(|| Err(never()))
    }
}

/// Downloads a file that may have changed since it was last asked for.
pub(crate) async fn fetch_newest(url: &str) -> Fetched {
    fetch_with(url, WHOLE, RequestCache::NoCache, &mut Vec::new(), &|_| (), None).await
}

/// Downloads a part of which so many bytes are expected.
async fn fetch_expected(url: &str, part: Part, expected: u64, progress: impl Fn(u64)) -> Fetched {
    // A vector that grows leaves holes as large as itself.
    let mut bytes = Vec::with_capacity(expected.min(MOST_RESERVED) as usize);
    let name = url.rsplit('/').next().unwrap_or_default();
    let opened = if part == WHOLE && (KEPT_FROM..MAX_FILE_BYTES).contains(&expected) {
        Beginning::open(name).await
    } else {
        None
    };
    let Some((kept, before)) = opened else {
        return fetch_with(url, part, RequestCache::Default, &mut bytes, &progress, None).await;
    };
    // Of a whole file there is nothing to ask for.
    if (before.len() as u64) < expected {
        bytes.extend(before);
    }
    progress(bytes.len() as u64);
    let fetched =
        fetch_with(url, part, RequestCache::Default, &mut bytes, &progress, Some(&kept)).await;
    if fetched.is_ok() {
        kept.forget().await;
    }
    fetched
}

/// Downloads what is missing of a part behind `bytes`, and returns all of it.
async fn fetch_with(
    url: &str,
    part: Part,
    cache: RequestCache,
    bytes: &mut Vec<u8>,
    progress: &dyn Fn(u64),
    kept: Option<&Beginning>,
) -> Fetched {
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        match go_on(url, &part, cache, bytes, progress, kept).await {
            Ok(()) => return Ok(std::mem::take(bytes)),
            Err(Failure { error, lost: false }) => return Err(error),
            Err(Failure { lost: true, .. }) => sleep(wait).await,
        }
        wait *= 2;
    }
    go_on(url, &part, cache, bytes, progress, kept).await.map_err(|failure| failure.error)?;
    Ok(std::mem::take(bytes))
}

/// Why a download ended early.
struct Failure {
    error: EngineError,
    /// Whether the connection broke, so that another try may do better.
    lost: bool,
}

/// Downloads what is still missing of a part. What has come stays in `bytes` when the connection
/// breaks; where the host sends no parts, the next try begins anew, and what is not of the part is
/// left out.
async fn go_on(
    url: &str,
    part: &Part,
    cache: RequestCache,
    bytes: &mut Vec<u8>,
    progress: &dyn Fn(u64),
    kept: Option<&Beginning>,
) -> Result<(), Failure> {
    let failure = |reason: String, lost: bool| Failure {
        error: EngineError::new(ErrorKind::Fetch, format!("{url} could not be loaded: {reason}")),
        lost,
    };
    let lost = |error: JsValue| failure(text(&error), true);
    let scope: WorkerGlobalScope = scope().unchecked_into();
    let options = RequestInit::new();
    options.set_cache(cache);
    let next = part.start + bytes.len() as u64;
    if next > 0 || part.end != WHOLE.end {
        // Browsers ask for the plain file then, so that the parts fit each other. What a file of
        // another version would mix up, the checksums see.
        let headers = Headers::new().map_err(lost)?;
        let last = if part.end == WHOLE.end {
            String::new()
        } else {
            part.end.saturating_sub(1).to_string()
        };
        headers.set("range", &format!("bytes={next}-{last}")).map_err(lost)?;
        options.set_headers(&headers);
    }
    let asked = match cache {
        RequestCache::Default if bytes.is_empty() && *part == WHOLE => asked_ahead(url),
        _ => None,
    };
    let asked = asked.unwrap_or_else(|| scope.fetch_with_str_and_init(url, &options));
    let response: Response = JsFuture::from(asked).await.map_err(lost)?.unchecked_into();
    if !response.ok() {
        return Err(failure(format!("the host answered {}", response.status()), false));
    }
    // Where in the file the answer is.
    let mut at = next;
    if response.status() != PARTIAL_CONTENT {
        bytes.clear();
        at = 0;
    }
    let body = response.body().ok_or_else(|| failure("no content".to_owned(), false))?;
    let reader: ReadableStreamDefaultReader = body.get_reader().unchecked_into();
    loop {
        let chunk = JsFuture::from(reader.read()).await.map_err(lost)?;
        let get = |key: &str| Reflect::get(&chunk, &JsValue::from_str(key));
        if get("done").is_ok_and(|done| done.is_truthy()) {
            return Ok(());
        }
        let value: Uint8Array = get("value").map_err(lost)?.unchecked_into();
        let wanted = part.start + bytes.len() as u64;
        let (start, end) = (wanted.max(at), part.end.min(at + u64::from(value.length())));
        if end > start {
            if bytes.len() as u64 + (end - start) > MAX_FILE_BYTES {
                return Err(failure("it is too large".to_owned(), false));
            }
            let value = value.subarray((start - at) as u32, (end - at) as u32);
            bytes.extend(value.to_vec());
            if let Some(kept) = kept {
                kept.keep(bytes);
            }
            progress(bytes.len() as u64);
        }
        at += u64::from(value.length());
        if at >= part.end {
            // The host may have more to send; a reader that is dropped lets it go.
            let _ = reader.cancel();
            return Ok(());
        }
    }
}

/// The answer to what `worker.js` has asked for already; it can be taken once.
fn asked_ahead(url: &str) -> Option<Promise> {
    let ahead = Reflect::get(&js_sys::global(), &JsValue::from_str("ahead")).ok()?;
    let ahead: Map = ahead.dyn_into().ok()?;
    let asked = ahead.get(&JsValue::from_str(url));
    ahead.delete(&JsValue::from_str(url));
    asked.dyn_into().ok()
}

async fn sleep(milliseconds: i32) {
    let scope: WorkerGlobalScope = scope().unchecked_into();
    let mut start = |resolve: Function, _| {
        // A timer that cannot be set would only mean no wait.
        let _ = scope.set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, milliseconds);
    };
    let _ = JsFuture::from(Promise::new(&mut start)).await;
}

/// A JavaScript error in words.
fn text(error: &JsValue) -> String {
    Reflect::get(error, &JsValue::from_str("message"))
        .ok()
        .and_then(|message| message.as_string())
        .unwrap_or_else(|| format!("{error:?}"))
}
