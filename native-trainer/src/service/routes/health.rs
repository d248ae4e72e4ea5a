//! Whether the service lives, its figures, its description and the page to try it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;

use super::typed;
use crate::service::Service;
use crate::service::metrics::Now;
use crate::service::problem::{Answered, Kind, Problem};

/// Whether the process answers at all.
#[utoipa::path(
    get, path = "/healthz", tag = "service",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain"))
)]
pub(crate) async fn health() -> Response {
    typed("ok\n", "text/plain")
}

/// Whether it takes requests.
#[utoipa::path(
    get, path = "/readyz", tag = "service",
    responses(
        (status = 200, description = "It does", body = String, content_type = "text/plain"),
        (status = 503, description = "It ends", body = crate::service::problem::Document, content_type = "application/problem+json")
    )
)]
pub(crate) async fn ready(State(service): State<Arc<Service>>) -> Answered<Response> {
    if service.is_ending() {
        return Err(Problem::new(Kind::Ending, "the service ends"));
    }
    Ok(typed("ready\n", "text/plain"))
}

/// Figures for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "service",
    responses((status = 200, description = "Text format 0.0.4", body = String, content_type = "text/plain"))
)]
pub(crate) async fn metrics(State(service): State<Arc<Service>>) -> Response {
    let snapshot = service.store.current();
    let now = Now {
        waiting: service.queue.len(),
        working: service.working(),
        classes: snapshot.gallery.classes().len(),
        entries: snapshot.gallery.len(),
        version: snapshot.version,
        journal: service.store.journal_bytes(),
        up: service.begun.elapsed(),
    };
    typed(service.metrics.text(&now), "text/plain; version=0.0.4; charset=utf-8")
}

/// Describes the service as `OpenAPI` 3.1.
pub(crate) async fn openapi(State(service): State<Arc<Service>>) -> Response {
    typed(service.description.clone(), "application/json")
}

/// A page to try the service.
pub(crate) async fn page() -> Response {
    let mut response = typed(include_str!("../page.html"), "text/html; charset=utf-8");
    let policy = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self' blob:; connect-src \
                  'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}

/// Its script.
pub(crate) async fn script() -> Response {
    typed(include_str!("../try.js"), "text/javascript; charset=utf-8")
}
