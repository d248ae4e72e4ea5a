//! Connections: each is served beside all others, and each request within its limits; at the end what was begun is
//! answered.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tower_service::Service as _;

use super::Service;
use super::limits::drain;
use super::problem::{Answered, Kind, Problem};
use super::routes;
use crate::cli::no_port;
use crate::terminal::{Note, before_end};

/// Within which a request's headers must have come, and the next request of a connection.
const HEADERS_WITHIN: Duration = Duration::from_secs(15);
/// Bytes of a request's headers at most.
const HEADERS: usize = 64 << 10;
/// Within which requests that were begun are answered at the end.
const GRACE: Duration = Duration::from_secs(20);
/// What metrics call the site's own files.
const SITE: &str = "/{site}";
/// Between two looks at whether they are.
const LOOK: Duration = Duration::from_millis(20);

/// What encrypts connections.
#[cfg(feature = "tls")]
pub(super) type Security = tokio_rustls::TlsAcceptor;
/// What encrypts connections: nothing in this build.
#[cfg(not(feature = "tls"))]
pub(super) type Security = std::convert::Infallible;

/// Accepts connections until the process is told to end.
///
/// # Errors
///
/// A port that is taken.
pub(super) async fn serve(
    service: Arc<Service>,
    security: Option<Security>,
    (address, port): (IpAddr, u16),
    site: &Path,
) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind((address, port)).await.map_err(|error| no_port(port, error))?;
    let (end, ending) = watch::channel(false);
    let (ended, has_ended) = std::sync::mpsc::channel::<()>();
    let ends = Arc::clone(&service);
    before_end(move || {
        ends.ending.store(true, Ordering::Release);
        // Where nobody listens it has ended already.
        let _ = end.send(true);
        let _ = has_ended.recv_timeout(GRACE + LOOK);
    });
    let note =
        Note::new("; what was begun is answered, and every change that was answered is kept");
    let scheme = if security.is_some() { "https" } else { "http" };
    let local = listener.local_addr()?;
    if !address.is_loopback() && service.gate.read.is_none() {
        eprintln!(
            "note: whoever reaches this address may ask; --token-file-read lets in only who has a token"
        );
    }
    // Whoever reads the address may end it at once.
    eprintln!("{}: served until Ctrl-C ends it, with the API at /v1/, at", site.display());
    println!("{scheme}://{local}/");
    let (connections, mut told) = (service.host.connections.clone(), false);
    let app = routes::router().with_state(Arc::clone(&service));
    let mut stop = ending.clone();
    loop {
        let next = connections.accept(&listener, &mut told);
        let Some(stream) = before(&mut stop, next).await else { break };
        let (app, service, ending) = (app.clone(), Arc::clone(&service), ending.clone());
        let security = security.clone();
        connections.spawn(stream, |stream| async move {
            match security {
                None => speak(stream, app, service, ending).await,
                #[cfg(feature = "tls")]
                Some(security) => {
                    // A client that shakes hands slowly holds nobody up.
                    let shaken =
                        tokio::time::timeout(HEADERS_WITHIN, security.accept(stream)).await;
                    if let Ok(Ok(stream)) = shaken {
                        speak(stream, app, service, ending).await;
                    }
                }
                #[cfg(not(feature = "tls"))]
                Some(never) => match never {},
            }
        });
    }
    drop(listener);
    let begin = Instant::now();
    while (service.working() > 0 || !connections.is_empty()) && begin.elapsed() < GRACE {
        tokio::time::sleep(LOOK).await;
    }
    service.queue.end();
    service.store.end();
    drop(note);
    let _note =
        Note::new("; what was begun was answered, and every change that was answered is kept");
    drop(ended);
    // The process ends by the signal that it got.
    std::future::pending().await
}

/// What a future gives, unless the end comes first.
async fn before<T>(stop: &mut watch::Receiver<bool>, next: impl Future<Output = T>) -> Option<T> {
    let (mut next, mut stop) = (std::pin::pin!(next), std::pin::pin!(stop.wait_for(|stop| *stop)));
    std::future::poll_fn(|context| {
        if stop.as_mut().poll(context).is_ready() {
            return std::task::Poll::Ready(None);
        }
        next.as_mut().poll(context).map(Some)
    })
    .await
}

/// Serves one connection.
async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    app: Router,
    service: Arc<Service>,
    mut ending: watch::Receiver<bool>,
) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let (app, service) = (app.clone(), Arc::clone(&service));
        async move { std::io::Result::Ok(service.answer(app, request.map(Body::new)).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN).max_buf_size(HEADERS);
    let mut served = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), answer));
    let mut stop = std::pin::pin!(ending.wait_for(|ending| *ending));
    let mut told = false;
    // A client that goes in the middle of an answer, or says nothing more, is no failure.
    let _ = std::future::poll_fn(|context| {
        if !told && stop.as_mut().poll(context).is_ready() {
            told = true;
            served.as_mut().graceful_shutdown();
        }
        served.as_mut().poll(context)
    })
    .await;
}

/// Counts a request while it is worked on.
struct Working(Arc<Service>);

impl Working {
    fn begin(service: &Arc<Service>) -> Self {
        service.working.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(service))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.working.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Service {
    /// Answers a request within all limits.
    async fn answer(self: Arc<Self>, app: Router, request: Request) -> Response {
        let begin = Instant::now();
        let working = Working::begin(&self);
        let (method, route) = (request.method().clone(), routes::name_of(request.uri().path()));
        let origin = request.headers().get(header::ORIGIN).cloned();
        let mut response = match self.admitted(app, request).await {
            Ok(response) => response,
            Err(problem) => problem.into_response(),
        };
        let headers = response.headers_mut();
        if route != SITE {
            self.gate.expose(origin.as_ref(), headers);
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            if !headers.contains_key(header::CACHE_CONTROL) {
                // Of what has a tag a cache asks whether it is still so.
                let rule = if headers.contains_key(header::ETAG) { "no-cache" } else { "no-store" };
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(rule));
            }
        }
        let name = match method {
            Method::GET
            | Method::HEAD
            | Method::POST
            | Method::PUT
            | Method::PATCH
            | Method::DELETE
            | Method::OPTIONS => method.as_str(),
            _ => "other",
        };
        self.metrics.answered(route, name, response.status().as_u16(), begin.elapsed());
        drop(working);
        response
    }

    async fn admitted(&self, mut app: Router, request: Request) -> Result<Response, Problem> {
        let (path, method) = (request.uri().path().to_owned(), request.method().clone());
        // Until it is answered.
        let _place = match self.check(&request) {
            Ok(place) => place,
            Err(problem) => {
                drain(request.into_body(), self.limits.body).await;
                return Err(problem);
            }
        };
        if routes::name_of(&path) == SITE {
            let response = self.host.answer(request).await;
            return Ok(response.map(Body::new));
        }
        if method == Method::OPTIONS {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        // First for its body, then for its answer.
        match tokio::time::timeout(2 * self.limits.time, app.call(request)).await {
            Ok(response) => Ok(infallible(response)),
            Err(_late) => {
                let seconds = self.limits.time.as_secs();
                let what = if routes::changes(&method, &path) {
                    "a change may have been kept: ask for the gallery's version"
                } else {
                    "send it again, or less at once"
                };
                let detail =
                    format!("the request was not answered within {seconds} seconds; {what}");
                Err(Problem::new(Kind::Ending, detail))
            }
        }
    }

    /// Whether a request is answered at all, and its place among those that are worked on.
    fn check(&self, request: &Request) -> Answered<Option<OwnedSemaphorePermit>> {
        let (path, method, headers) = (request.uri().path(), request.method(), request.headers());
        match routes::name_of(path) {
            SITE => return self.gate.admit(headers, false).map(|()| None),
            // A probe has no token, and is answered also where all places are taken.
            "/healthz" | "/readyz" | "/v1/" | "/v1/try.js" | "/v1/openapi.json" => return Ok(None),
            _ if method == Method::OPTIONS => return Ok(None),
            _ => (),
        }
        self.gate.admit_origin(method, headers)?;
        self.gate.admit(headers, routes::changes(method, path))?;
        if routes::name_of(path) == "/v1/{none}" {
            let detail = "there is no such path; /v1/openapi.json lists those that there are";
            return Err(Problem::new(Kind::NotFound, detail));
        }
        if path == "/metrics" {
            return Ok(None);
        }
        if self.is_ending() {
            return Err(Problem::new(Kind::Ending, "the service ends"));
        }
        self.budget.enter().map(Some)
    }
}

fn infallible(response: Result<Response, std::convert::Infallible>) -> Response {
    match response {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
