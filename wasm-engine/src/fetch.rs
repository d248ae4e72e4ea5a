//! Downloads that say how far they are, and go on where they broke off.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use js_sys::{Array, Function, Map, Promise, Reflect, Uint8Array};
use models::bundle::MAX_FILE_BYTES;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, future_to_promise};
use web_sys::{
    AbortSignal, Headers, ReadableStreamDefaultReader, RequestCache, RequestInit, Response,
    WorkerGlobalScope,
};

use crate::protocol::{EngineError, ErrorKind};
use crate::ranges::{self, Said};
use crate::scope::{scope, text, within};
use crate::storage::Beginning;

/// Tries of one file.
const TRIES: u32 = 4;
/// Milliseconds before the second; each wait is twice the one before.
const FIRST_WAIT: i32 = 300;
/// Bytes that are set aside because somebody says that they will come.
const MOST_RESERVED: u64 = 1 << 27;
/// Bytes from which a file is kept while it comes in: smaller ones come anew in no time.
const KEPT_FROM: u64 = 1 << 20;
/// Milliseconds without a byte after which a host is taken for gone.
const STALLED: i32 = 20_000;
/// The host's answer when it sends a part of a file.
const PARTIAL_CONTENT: u16 = 206;
/// The host's answer when it has no such part.
const RANGE_NOT_SATISFIABLE: u16 = 416;
/// The host's answers that another try may change: it took too long, or is asked too much.
const TRY_AGAIN: [u16; 2] = [408, 429];

/// Downloads a file.
pub(crate) async fn fetch(url: &str) -> Fetched {
    Loading::new(url, WHOLE, RequestCache::Default).load(&mut Vec::new(), &|_| (), None).await
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
    /// while it comes in. With [`RequestCache::Reload`] nothing that a cache or the service worker has kept
    /// is taken.
    pub(crate) fn start(
        url: String,
        part: Part,
        bytes: u64,
        cache: RequestCache,
        progress: impl Fn(u64) + 'static,
    ) -> Self {
        let result = Rc::new(RefCell::new(None));
        let slot = result.clone();
        let end = future_to_promise(async move {
            slot.replace(Some(fetch_expected(&url, part, bytes, cache, progress).await));
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
    Loading::new(url, WHOLE, RequestCache::NoCache).load(&mut Vec::new(), &|_| (), None).await
}

/// Downloads a part of which `expected` bytes are to come.
async fn fetch_expected(
    url: &str,
    part: Part,
    expected: u64,
    cache: RequestCache,
    progress: impl Fn(u64),
) -> Fetched {
    // A vector that grows leaves holes as large as itself.
    let mut bytes = Vec::with_capacity(expected.min(MOST_RESERVED) as usize);
    let name = url.rsplit('/').next().unwrap_or_default();
    let opened = if part == WHOLE && (KEPT_FROM..MAX_FILE_BYTES).contains(&expected) {
        Beginning::open(name, expected).await
    } else {
        None
    };
    let loading = Loading { expected: Some(expected), ..Loading::new(url, part, cache) };
    let Some((mut kept, before)) = opened else {
        return loading.load(&mut bytes, &progress, None).await;
    };
    // Of a whole file there is nothing to ask for.
    if (before.len() as u64) < expected {
        bytes.extend(before);
    } else {
        kept.restart();
    }
    progress(bytes.len() as u64);
    let fetched = loading.load(&mut bytes, &progress, Some(&mut kept)).await;
    if fetched.is_ok() {
        kept.forget().await;
    }
    fetched
}

/// What is downloaded, and how.
struct Loading<'a> {
    url: &'a str,
    part: Part,
    cache: RequestCache,
    /// Bytes of the part, where that is known.
    expected: Option<u64>,
    /// Whether the host is asked for parts of files. One that sends something else is asked for whole files.
    in_parts: Cell<bool>,
    /// Whether a part has ended in an error before its first byte.
    empty: Cell<bool>,
}

/// A request, which ends with this: one that stays silent would hold up a connection that others need.
struct Request {
    controller: JsValue,
}

impl Request {
    fn new() -> Result<Self, JsValue> {
        let kind: Function =
            Reflect::get(&js_sys::global(), &"AbortController".into())?.dyn_into()?;
        Ok(Self { controller: Reflect::construct(&kind, &Array::new())? })
    }

    fn signal(&self) -> Result<AbortSignal, JsValue> {
        Ok(Reflect::get(&self.controller, &"signal".into())?.unchecked_into())
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let abort = Reflect::get(&self.controller, &"abort".into());
        if let Some(Ok(abort)) = abort.ok().map(JsCast::dyn_into::<Function>) {
            // What cannot be ended ends by itself.
            let _ = abort.call0(&self.controller);
        }
    }
}

/// Why a download ended early.
struct Failure {
    reason: String,
    then: Then,
}

/// What may still help.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The connection broke or the host is busy: the rest is asked for after a pause.
    Again,
    /// What the host sends is not the part that was asked for: the whole file is asked for, and what was kept
    /// is not trusted.
    Whole,
    /// A part cannot be had, perhaps for want of a connection: the whole file is asked for.
    Unranged,
    /// The host sent the end too early.
    Short,
    /// Nothing.
    End,
}

fn failure(reason: impl Into<String>, then: Then) -> Failure {
    Failure { reason: reason.into(), then }
}

impl<'a> Loading<'a> {
    fn new(url: &'a str, part: Part, cache: RequestCache) -> Self {
        Self {
            url,
            part,
            cache,
            expected: None,
            in_parts: Cell::new(true),
            empty: Cell::new(false),
        }
    }

    /// Downloads what is missing of the part behind `bytes`, and returns all of it.
    async fn load(
        &self,
        bytes: &mut Vec<u8>,
        progress: &dyn Fn(u64),
        mut kept: Option<&mut Beginning>,
    ) -> Fetched {
        let mut wait = FIRST_WAIT;
        for tried in 1.. {
            let Err(Failure { reason, then }) = self.go_on(bytes, progress, kept.as_deref()).await
            else {
                return Ok(std::mem::take(bytes));
            };
            if matches!(then, Then::Whole | Then::End) {
                // What does not fit is not kept for the next visit either.
                if let Some(kept) = &mut kept {
                    kept.restart();
                }
            }
            if matches!(then, Then::Whole | Then::Unranged) {
                self.in_parts.set(false);
                bytes.clear();
            }
            if then == Then::Short && tried >= TRIES {
                // Whoever checks the file says what is wrong with it.
                break;
            }
            if then == Then::End || tried >= TRIES {
                let message = format!("{} could not be loaded: {reason}", self.url);
                return Err(EngineError::new(ErrorKind::Fetch, message));
            }
            if then != Then::Whole {
                sleep(wait).await;
                wait *= 2;
            }
        }
        Ok(std::mem::take(bytes))
    }

    /// The request for what follows `next`, and whether it is for a part.
    fn options(&self, next: u64) -> Result<(RequestInit, bool), JsValue> {
        let options = RequestInit::new();
        options.set_cache(self.cache);
        let ranged = self.in_parts.get() && (next > 0 || self.part.end != WHOLE.end);
        if ranged {
            let headers = Headers::new()?;
            let last = if self.part.end == WHOLE.end {
                String::new()
            } else {
                self.part.end.saturating_sub(1).to_string()
            };
            headers.set("range", &format!("bytes={next}-{last}"))?;
            options.set_headers(&headers);
        }
        Ok((options, ranged))
    }

    /// Downloads what is still missing of the part. What has come stays in `bytes` when the connection
    /// breaks; where the host sends no parts, the next try begins anew, and what is not of the part is
    /// left out.
    async fn go_on(
        &self,
        bytes: &mut Vec<u8>,
        progress: &dyn Fn(u64),
        kept: Option<&Beginning>,
    ) -> Result<(), Failure> {
        let lost = |error: JsValue| failure(text(&error), Then::Again);
        let scope: WorkerGlobalScope = scope().unchecked_into();
        let next = self.part.start + bytes.len() as u64;
        let (options, ranged) = self.options(next).map_err(lost)?;
        let request = Request::new().map_err(lost)?;
        options.set_signal(Some(&request.signal().map_err(lost)?));
        let asked = match self.cache {
            RequestCache::Default if bytes.is_empty() && self.part == WHOLE => {
                asked_ahead(self.url)
            }
            _ => None,
        };
        let asked = asked.unwrap_or_else(|| scope.fetch_with_str_and_init(self.url, &options));
        // A slice of a packed file cannot be unpacked, which looks like a broken connection.
        let broken = |error: &JsValue| {
            let again = ranged && self.empty.replace(true);
            failure(text(error), if again { Then::Unranged } else { Then::Again })
        };
        let response = within(asked, STALLED).await.map_err(|error| {
            let Failure { reason, then } = broken(&error);
            failure(reason + elsewhere(self.url), then)
        })?;
        let response: Response = response.unchecked_into();
        let status = response.status();
        if ranged && status == RANGE_NOT_SATISFIABLE {
            return Err(failure("the host has no such part", Then::Whole));
        }
        if !response.ok() {
            let busy = status >= 500 || TRY_AGAIN.contains(&status);
            let then = if busy { Then::Again } else { Then::End };
            return Err(failure(format!("the host answered {status}"), then));
        }
        // Where in the file the answer is.
        let mut at = next;
        if status != PARTIAL_CONTENT {
            bytes.clear();
            at = 0;
        } else if !ranged || !self.is_part(&response.headers(), next) {
            return Err(failure("the host sent another part", Then::Whole));
        }
        let nothing = if ranged { Then::Whole } else { Then::End };
        let body = response.body().ok_or_else(|| failure("no content", nothing))?;
        let reader: ReadableStreamDefaultReader = body.get_reader().unchecked_into();
        let before = bytes.len();
        loop {
            let chunk = within(reader.read(), STALLED).await.map_err(|error| {
                if bytes.len() == before { broken(&error) } else { lost(error) }
            })?;
            let get = |key: &str| Reflect::get(&chunk, &JsValue::from_str(key));
            if get("done").is_ok_and(|done| done.is_truthy()) {
                let wanted = match self.part.end {
                    end if end == WHOLE.end => self.expected,
                    end => Some(end.saturating_sub(self.part.start)),
                };
                // A browser may take a broken download of a packed file for whole.
                return match wanted {
                    Some(wanted) if (bytes.len() as u64) < wanted => {
                        let reason = format!("it ended after {} of {wanted} bytes", bytes.len());
                        Err(failure(reason, if ranged { Then::Whole } else { Then::Short }))
                    }
                    _ => Ok(()),
                };
            }
            let value: Uint8Array = get("value").map_err(lost)?.unchecked_into();
            let wanted = self.part.start + bytes.len() as u64;
            let (start, end) = (wanted.max(at), self.part.end.min(at + u64::from(value.length())));
            if end > start {
                if bytes.len() as u64 + (end - start) > MAX_FILE_BYTES {
                    return Err(failure("it is too large", Then::End));
                }
                let value = value.subarray((start - at) as u32, (end - at) as u32);
                bytes.extend(value.to_vec());
                if let Some(kept) = kept {
                    kept.keep(bytes);
                }
                progress(bytes.len() as u64);
            }
            at += u64::from(value.length());
            if at >= self.part.end {
                // The host may have more to send; a reader that is dropped lets it go.
                let _ = reader.cancel();
                return Ok(());
            }
        }
    }

    /// Whether a partial answer is what was asked for.
    fn is_part(&self, headers: &Headers, next: u64) -> bool {
        let get = |name: &str| headers.get(name).ok().flatten();
        let (encoding, kind) = (get("content-encoding"), get("content-type"));
        let range = get("content-range");
        let said =
            Said { encoding: encoding.as_deref(), kind: kind.as_deref(), range: range.as_deref() };
        // What is expected of a part is the length of that part alone.
        let total = self.expected.filter(|_| self.part.end == WHOLE.end);
        ranges::is_part(said, next, total)
    }
}

/// Advice where a file of another origin cannot be fetched: browsers do not tell why.
fn elsewhere(url: &str) -> &'static str {
    let scope: WorkerGlobalScope = scope().unchecked_into();
    let own = scope.location().origin();
    let is_own = url.strip_prefix(&own).is_some_and(|path| path.starts_with('/'));
    // A program is of no origin.
    if is_own || !own.starts_with("http") {
        return "";
    }
    "; its host has to send Access-Control-Allow-Origin to this page (CORS), and the page's content \
     security policy to allow it (connect-src)"
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
