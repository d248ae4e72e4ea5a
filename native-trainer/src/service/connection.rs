//! Connections: each is served beside all others, and each request within its limits; at the end what was begun is
//! answered.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::Service;
use super::http::{Body, Call, Response, empty};
use super::limits::drain;
use super::problem::{Answered, Kind, Problem};
use super::routes::{Way, Who};
use super::seat::Seat;
use super::tls::Tls;
use crate::cli::no_port;
use crate::publishing::connections::{Busy, Watched};
use crate::publishing::host::names_one_host;
use crate::terminal::{Note, before_end};

/// Within which TLS must be agreed on, a request's headers must have come, and the next request of a connection.
const HEADERS_WITHIN: Duration = Duration::from_secs(15);
/// Bytes of a request's headers at most.
const HEADERS: usize = 64 << 10;
/// Within which requests that were begun are answered at the end.
const GRACE: Duration = Duration::from_secs(20);
/// Between two looks at whether they are.
const LOOK: Duration = Duration::from_millis(20);

/// Accepts connections until the process is told to end.
///
/// # Errors
///
/// A port that is taken.
pub(super) async fn serve(
    service: Arc<Service>,
    place: (IpAddr, u16),
    site: &Path,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(place).await.map_err(|error| no_port(place, error))?;
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
    let local = listener.local_addr()?;
    if !place.0.is_loopback() && service.gate.read.is_none() {
        eprintln!(
            "note: whoever reaches this address may ask; --token-file-read lets in only who has a token"
        );
    }
    if !place.0.is_loopback() && service.tls.is_none() && service.gate.change.is_some() {
        eprintln!(
            "note: tokens go over the network as they are; --certificate and --key encrypt them, and so does a proxy before \
             this"
        );
    }
    // Whoever reads the address may end it at once.
    let owners = if service.manage { ", the owner's page at /manage/" } else { "" };
    eprintln!("{}: served until Ctrl-C ends it, with the API at /v1/{owners}, at", site.display());
    let scheme = if service.tls.is_some() { "https" } else { "http" };
    println!("{scheme}://{local}/");
    if service.tls.is_some() {
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            if let Some(tls) = &service.tls {
                tls.follow().await;
            }
        });
    }
    let (connections, mut told) = (service.host.connections.clone(), false);
    let mut stop = ending.clone();
    loop {
        let next = connections.accept(&listener, &mut told);
        let Some(stream) = before(&mut stop, next).await else { break };
        let (service, ending) = (Arc::clone(&service), ending.clone());
        connections.spawn(stream, |stream| speak(stream, service, ending));
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
    let mut next = std::pin::pin!(next);
    let mut stop = std::pin::pin!(stop.wait_for(|stop| *stop));
    std::future::poll_fn(|context| {
        if stop.as_mut().poll(context).is_ready() {
            return std::task::Poll::Ready(None);
        }
        next.as_mut().poll(context).map(Some)
    })
    .await
}

/// Serves one connection, encrypted if the service has a certificate.
async fn speak(stream: Watched, service: Arc<Service>, mut ending: watch::Receiver<bool>) {
    let place = Place { busy: stream.busy(), from: stream.peer() };
    let Some(acceptor) = service.tls.as_ref().map(Tls::acceptor) else {
        return talk(stream, place, service, ending).await;
    };
    let shaken = tokio::time::timeout(HEADERS_WITHIN, acceptor.accept(stream));
    // Who says nothing, or something else than TLS, is let go.
    if let Some(Ok(Ok(stream))) = before(&mut ending, shaken).await {
        talk(stream, place, service, ending).await;
    }
}

/// What is known of a connection whatever is said by it.
#[derive(Clone)]
struct Place {
    busy: Busy,
    from: Option<IpAddr>,
}

/// Answers the requests of one connection.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    place: Place,
    service: Arc<Service>,
    mut ending: watch::Receiver<bool>,
) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let (service, place) = (Arc::clone(&service), place.clone());
        async move { std::io::Result::Ok(service.answer(request, &place).await) }
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
    async fn answer(self: Arc<Self>, request: Request<Incoming>, from: &Place) -> Response {
        let begin = Instant::now();
        let working = Working::begin(&self);
        let (method, way) =
            (request.method().clone(), Way::of(request.method(), request.uri().path()));
        let (name, is_site) = (way.name(), matches!(way, Way::Site));
        let origin = request.headers().get(header::ORIGIN).cloned();
        let answered = Arc::clone(&self).admitted(way, request, from).await;
        let mut response = answered.unwrap_or_else(|problem| problem.response());
        let headers = response.headers_mut();
        if !is_site {
            self.gate.expose(origin.as_ref(), headers);
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            if !headers.contains_key(header::CACHE_CONTROL) {
                // Of what has a tag a cache asks whether it is still so.
                let rule = if headers.contains_key(header::ETAG) { "no-cache" } else { "no-store" };
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(rule));
            }
        }
        let method = match method {
            Method::GET
            | Method::HEAD
            | Method::POST
            | Method::PUT
            | Method::PATCH
            | Method::DELETE
            | Method::OPTIONS => method.as_str(),
            _ => "other",
        };
        self.metrics.answered(name, method, response.status().as_u16(), begin.elapsed());
        drop(working);
        response
    }

    async fn admitted(
        self: Arc<Self>,
        way: Way,
        request: Request<Incoming>,
        from: &Place,
    ) -> Answered {
        // Until it is answered.
        let seat = match self.check(&way, &request, &from.busy) {
            Ok(seat) => seat.map(Arc::new),
            Err(problem) => {
                drain(request.into_body(), self.limits.body).await;
                return Err(problem);
            }
        };
        let (route, place) = match way {
            Way::Site => return Ok(self.host.answer(request).await.map(Body::File)),
            _ if request.method() == Method::OPTIONS => return Ok(empty(StatusCode::NO_CONTENT)),
            Way::Route(route, place) => (route, place),
            Way::Door(path) => return Ok(to_the_page(path)),
            Way::Method(_, methods) => return Ok(wrong_method(&methods)),
            Way::Nowhere => return Err(nowhere()),
        };
        if matches!(route.who, Who::Readers | Who::Keepers)
            && let Err(problem) = self.store.look().await
        {
            drain(request.into_body(), self.limits.body).await;
            return Err(problem);
        }
        let (head, body) = request.into_parts();
        let call = Call { head, body, place, from: from.from, seat: seat.clone() };
        let answer = route.answer(Arc::clone(&self), call);
        // First for its body, then for its answer.
        let Ok(answer) = tokio::time::timeout(2 * self.limits.time, answer).await else {
            let seconds = 2 * self.limits.time.as_secs();
            let what = if route.who == Who::Keepers {
                "a change may have been kept: ask for the gallery's version"
            } else {
                "send it again, or less at once"
            };
            let detail = format!("the request was not answered within {seconds} seconds; {what}");
            return Err(Problem::new(Kind::Ending, detail));
        };
        answer
    }

    /// Whether a request is answered at all, and its place among those that are worked on.
    fn check<B>(&self, way: &Way, request: &Request<B>, busy: &Busy) -> Answered<Option<Seat>> {
        let (method, headers) = (request.method(), request.headers());
        if !names_one_host(request) {
            let detail = "a request of HTTP/1.1 has one Host header (RFC 9112); send the name that the service is \
                          asked by";
            return Err(Problem::request(detail));
        }
        self.gate.admit_host(request.uri(), headers)?;
        let who = match way {
            Way::Site => return self.gate.admit(headers, false).map(|()| None),
            Way::Route(route, _) => route.who,
            Way::Door(_) => Who::Anybody,
            Way::Method(..) | Way::Nowhere => Who::Watchers,
        };
        if who == Who::Anybody || method == Method::OPTIONS {
            return Ok(None);
        }
        self.gate.admit_origin(method, headers)?;
        self.gate.admit(headers, who == Who::Keepers)?;
        if who == Who::Watchers {
            return Ok(None);
        }
        if self.is_ending() {
            return Err(Problem::new(Kind::Ending, "the service ends"));
        }
        self.budget.enter(busy).map(Some)
    }
}

fn nowhere() -> Problem {
    let detail = "there is no such path; /v1/openapi.json lists those that there are";
    Problem::new(Kind::NotFound, detail)
}

/// Leads to the page; in words that hold also where a proxy gives the service a folder of its own.
fn to_the_page(path: &str) -> Response {
    let mut response = empty(StatusCode::PERMANENT_REDIRECT);
    if let Ok(to) = HeaderValue::try_from(format!("{}/", path.trim_start_matches('/'))) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

fn wrong_method(methods: &str) -> Response {
    let detail = format!("this path does not take this method; it takes {methods}");
    let mut response = Problem::new(Kind::Method, detail).response();
    if let Ok(methods) = HeaderValue::from_str(methods) {
        response.headers_mut().insert(header::ALLOW, methods);
    }
    response
}
