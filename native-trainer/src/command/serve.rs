//! `magpie serve`: a static file server for looking at a published site.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Args;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_staticfile::{
    AcceptEncoding, Body, ResolveParams, ResolveResult, ResponseBuilder, Static,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::cli::no_port;
use crate::publishing::connections::Connections;
use crate::publishing::hosting;
use crate::terminal::{Note, sentence};

/// Serves a folder on this machine, with the headers that let the page use threads.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  magpie serve site --port 8080\n  magpie serve site --cors \
    https://example.org")]
pub struct Arguments {
    /// Published site.
    site: PathBuf,
    /// Port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Lets pages of another origin fetch the files, as <https://example.org>; `*`: pages of any. May be
    /// repeated.
    #[arg(long, value_name = "ORIGIN")]
    cors: Vec<String>,
}

/// Within which a request's headers must have come, and the next request of a connection.
const HEADERS_WITHIN: Duration = Duration::from_secs(15);
/// Tries to open a file where handles have run out.
const TRIES: usize = 60;
/// Too many open files: of the process, of the system.
const OUT_OF_HANDLES: [i32; 2] = [24, 23];
/// What a page of another origin may read of an answer, beside what it always may.
const EXPOSED: &str = "accept-ranges, content-encoding, content-length, content-range, etag";
/// Methods that are answered.
const METHODS: &str = "GET, HEAD, OPTIONS";

impl Arguments {
    /// Serves until the process is ended.
    ///
    /// # Errors
    ///
    /// A port that is taken, a folder that is not there, an origin that is none.
    pub fn run(&self) -> anyhow::Result<()> {
        if !self.site.join("index.html").is_file() {
            return Err(anyhow!("{}: no index.html there; publish first", self.site.display()));
        }
        let origins = self.cors.iter().map(|text| origin(text)).collect::<Result<_, _>>()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let site = self.site.display().to_string();
        runtime.block_on(serve(Server::new(&self.site, origins), &site, self.port))
    }
}

/// An origin as browsers send it.
fn origin(text: &str) -> anyhow::Result<HeaderValue> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_host = |rest: &str| {
        !rest.is_empty() && !rest.contains(|c: char| "/?#@, ".contains(c) || !c.is_ascii_graphic())
    };
    if text != "*" && !rest.is_some_and(is_host) {
        bail!("--cors {text}: write an origin without a path, as https://example.org, or *");
    }
    Ok(HeaderValue::from_str(&text.to_ascii_lowercase())?)
}

async fn serve(server: Server, site: &str, port: u16) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|error| no_port(port, error))?;
    let _standing = Note::new("; the site is served no more");
    let address = listener.local_addr()?;
    // Whoever reads the address may end it at once.
    eprintln!("{site}: served until Ctrl-C ends it, at");
    println!("http://{address}/");
    let (server, mut told) = (Arc::new(server), false);
    loop {
        let stream = server.connections.accept(&listener, &mut told).await;
        let serving = Arc::clone(&server);
        server.connections.spawn(stream, |stream| async move {
            let answer = service_fn(|request| {
                let server = Arc::clone(&serving);
                async move { std::io::Result::Ok(server.answer(request).await) }
            });
            let mut connection = hyper::server::conn::http1::Builder::new();
            connection.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN);
            let served = connection.serve_connection(TokioIo::new(stream), answer).await;
            // A browser that closes a page in the middle of a file, or says nothing more, is no failure.
            if let Err(error) = served
                && !(error.is_incomplete_message() || error.is_canceled() || error.is_timeout())
                && !is_gone(&error)
            {
                eprintln!("{}", sentence(&error.into()));
            }
        });
    }
}

/// Whether the other end has closed the connection.
fn is_gone(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    source.and_then(|source| source.downcast_ref::<std::io::Error>()).is_some_and(|error| {
        matches!(
            error.kind(),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected
        )
    })
}

/// A folder as it is served.
struct Server {
    files: Static,
    headers: HeaderMap,
    /// Whose pages may read the files.
    origins: Vec<HeaderValue>,
    connections: Connections,
}

impl Server {
    fn new(site: &Path, origins: Vec<HeaderValue>) -> Self {
        let mut files = Static::new(site);
        files.allowed_encodings(AcceptEncoding::all());
        let root = site.to_owned();
        files.resolver.set_rewrite(move |params| std::future::ready(Ok(only_fresh(&root, params))));
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

    async fn answer<B>(&self, request: Request<B>) -> Response<Body> {
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
                ErrorKind::NotADirectory | ErrorKind::InvalidInput | ErrorKind::InvalidFilename => {
                    StatusCode::NOT_FOUND
                }
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

/// Sends no packed copy that is older than its file: somebody has changed the file by hand.
fn only_fresh(site: &Path, mut params: ResolveParams) -> ResolveParams {
    let mut file = site.join(&params.path);
    if params.is_dir_request {
        file.push("index.html");
    }
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let written = changed(&file);
    let is_fresh = |ending: &str| {
        let mut copy = file.clone().into_os_string();
        copy.push(ending);
        changed(Path::new(&copy)) >= written
    };
    let accepted = &mut params.accept_encoding;
    (accepted.br, accepted.gzip) =
        (accepted.br && is_fresh(".br"), accepted.gzip && is_fresh(".gz"));
    params
}
