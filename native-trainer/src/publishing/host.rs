//! A site's folder as a host sends it: parts, packed copies, headers, other origins.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_staticfile::{
    AcceptEncoding, Body, ResolveParams, ResolveResult, ResponseBuilder, Static,
};

use super::connections::Connections;
use super::hosting;

/// Tries to open a file where handles have run out.
const TRIES: usize = 60;
/// Too many open files: of the process, of the system.
const OUT_OF_HANDLES: [i32; 2] = [24, 23];
/// What a page of another origin may read of an answer, beside what it always may.
const EXPOSED: &str = "accept-ranges, content-encoding, content-length, content-range, etag";
/// Methods that are answered.
const METHODS: &str = "GET, HEAD, OPTIONS";

/// A folder as it is served.
pub(crate) struct Host {
    files: Static,
    headers: HeaderMap,
    /// Whose pages may read the files.
    origins: Vec<HeaderValue>,
    /// Those that it is served through, which make room where handles run out.
    pub(crate) connections: Connections,
}

impl Host {
    /// A folder whose files pages of `origins` may read.
    pub(crate) fn new(site: &Path, origins: Vec<HeaderValue>) -> Self {
        let mut files = Static::new(site);
        files.allowed_encodings(AcceptEncoding::all());
        let root = site.to_owned();
        files.resolver.set_rewrite(move |params| std::future::ready(own(&root, params)));
        let mut headers: HeaderMap = hosting::HEADERS
            .into_iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        // A browser never shows an old site.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(hosting::ASK_AGAIN));
        // What was packed for one browser is not for another.
        let vary = if origins.is_empty() { "accept-encoding" } else { "accept-encoding, origin" };
        headers.insert(header::VARY, HeaderValue::from_static(vary));
        Self { files, headers, origins, connections: Connections::default() }
    }

    /// What a request is answered.
    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Response<Body> {
        if !names_one_host(&request) {
            return empty(StatusCode::BAD_REQUEST);
        }
        let (mut parts, _) = request.into_parts();
        let origin = parts.headers.get(header::ORIGIN).cloned();
        let is_head = parts.method == Method::HEAD;
        let policy = worker_policy(&parts.uri);
        let mut response = match parts.method {
            Method::GET | Method::HEAD => {
                // The headers of a whole file are the same without it.
                parts.method = Method::GET;
                choose_coding(&mut parts.headers, is_head);
                self.file(&Request::from_parts(parts, ())).await
            }
            Method::OPTIONS => with_methods(empty(StatusCode::NO_CONTENT)),
            _ => with_methods(empty(StatusCode::METHOD_NOT_ALLOWED)),
        };
        if is_head {
            *response.body_mut() = Body::Empty;
        }
        response.headers_mut().extend(self.headers.clone());
        if let Some(policy) = policy {
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        self.admit(origin, response.headers_mut());
        response
    }

    /// A file, or the reason why there is none.
    async fn file(&self, request: &Request<()>) -> Response<Body> {
        for _ in 0..TRIES {
            let failed = match self.files.resolver.resolve_request(request).await {
                Ok(found) => return found_file(request, found),
                Err(error) => error,
            };
            if failed.raw_os_error().is_some_and(|code| OUT_OF_HANDLES.contains(&code)) {
                self.connections.make_room().await;
                continue;
            }
            // A path through a file, or one that no file can have.
            return empty(match failed.kind() {
                ErrorKind::NotFound
                | ErrorKind::NotADirectory
                | ErrorKind::InvalidInput
                | ErrorKind::InvalidFilename => StatusCode::NOT_FOUND,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            });
        }
        let mut busy = empty(StatusCode::SERVICE_UNAVAILABLE);
        busy.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        busy
    }

    /// Says which pages of other origins may read an answer.
    fn admit(&self, asking: Option<HeaderValue>, headers: &mut HeaderMap) {
        let every = HeaderValue::from_static("*");
        let admitted = match asking {
            _ if self.origins.contains(&every) => every,
            Some(origin) if self.origins.contains(&origin) => origin,
            _ => return,
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, admitted);
        let more = [
            ("cross-origin-resource-policy", "cross-origin"),
            ("access-control-expose-headers", EXPOSED),
            ("access-control-allow-methods", METHODS),
            ("access-control-allow-headers", "range, if-range"),
            ("access-control-max-age", "600"),
        ];
        headers.extend(
            more.map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            }),
        );
    }
}

/// What the worker may do whose script is asked for; `None` for other files.
fn worker_policy(address: &Uri) -> Option<HeaderValue> {
    if !hosting::is_worker(address.path()) {
        return None;
    }
    let bundle = address.query().and_then(hosting::bundle_origin);
    HeaderValue::try_from(hosting::worker_policy(bundle.as_deref())).ok()
}

/// Leaves of the codings that a client takes those that it does not rule out. A part is one of the file itself:
/// bytes of a packed copy would be at other places than the client asks for.
fn choose_coding(headers: &mut HeaderMap, is_head: bool) {
    if is_head {
        headers.remove(header::RANGE);
    }
    let asked = headers.remove(header::ACCEPT_ENCODING);
    if headers.contains_key(header::RANGE) {
        return;
    }
    let Some(asked) = asked.as_ref().and_then(|value| value.to_str().ok()) else { return };
    let is_wanted = |coding: &&str| {
        let weight = coding.split(';').skip(1).find_map(|part| part.trim().strip_prefix("q="));
        weight
            .and_then(|weight| weight.trim().parse::<f32>().ok())
            .is_none_or(|weight| weight > 0.0)
    };
    let wanted: Vec<&str> = asked.split(',').filter(is_wanted).collect();
    if let Ok(value) = HeaderValue::from_str(&wanted.join(",")) {
        headers.insert(header::ACCEPT_ENCODING, value);
    }
}

/// The answer with what was found.
fn found_file(request: &Request<()>, found: ResolveResult) -> Response<Body> {
    let (kind, length) = match &found {
        ResolveResult::Found(file) => (file.content_type.clone(), file.size),
        _ => (None, 0),
    };
    let Ok(mut response) = ResponseBuilder::new().request(request).build(found) else {
        return empty(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let (status, headers) = (response.status(), response.headers_mut());
    if status == StatusCode::PARTIAL_CONTENT
        && let Some(Ok(kind)) = kind.map(HeaderValue::try_from)
        && !headers.contains_key(header::CONTENT_TYPE)
    {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    if status == StatusCode::RANGE_NOT_SATISFIABLE
        && let Ok(all) = HeaderValue::try_from(format!("bytes */{length}"))
    {
        headers.insert(header::CONTENT_RANGE, all);
    }
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}

fn with_methods(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(METHODS));
    response
}

/// Whether a request says in one way whom it is for, as RFC 9112 wants it of HTTP/1.1.
pub(crate) fn names_one_host<B>(request: &Request<B>) -> bool {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    hosts == 1 || (hosts == 0 && request.version() < Version::HTTP_11)
}

/// Sends only what lies in the folder: a link may lead to what was never meant for others, as the file of a token. And
/// sends no packed copy that is older than its file: somebody has changed the file by hand.
fn own(site: &Path, mut params: ResolveParams) -> std::io::Result<ResolveParams> {
    let site = site.canonicalize()?;
    let mut file = site.join(&params.path);
    if params.is_dir_request {
        file.push("index.html");
    }
    let leads_out = |path: &Path| path.canonicalize().is_ok_and(|whole| !whole.starts_with(&site));
    if leads_out(&file) {
        return Err(ErrorKind::NotFound.into());
    }
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let written = changed(&file);
    let is_fresh = |ending: &str| {
        let mut copy = file.clone().into_os_string();
        copy.push(ending);
        let copy = PathBuf::from(copy);
        changed(&copy) >= written && !leads_out(&copy)
    };
    let accepted = &mut params.accept_encoding;
    (accepted.br, accepted.gzip) =
        (accepted.br && is_fresh(".br"), accepted.gzip && is_fresh(".gz"));
    Ok(params)
}
