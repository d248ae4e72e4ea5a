//! What the service answers, by subject.

pub(crate) mod classes;
pub(crate) mod entries;
pub(crate) mod gallery;
pub(crate) mod health;
pub(crate) mod recognize;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use serde::Serialize;

use super::Service;
use super::problem::{Answered, Kind, Problem};
use super::store::{Asking, Doing, Snapshot, Told};

/// All paths.
pub(crate) fn router() -> Router<Arc<Service>> {
    Router::new()
        .route("/healthz", get(health::health))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/v1/", get(health::page))
        .route("/v1/try.js", get(health::script))
        .route("/v1/openapi.json", get(health::openapi))
        .route("/v1/recognize", post(recognize::recognize))
        .route("/v1/detect", post(recognize::detect))
        .route("/v1/embed", post(recognize::embed))
        .route("/v1/search", post(recognize::search))
        .route("/v1/classes", get(classes::list))
        .route(
            "/v1/classes/{label}",
            get(classes::one).patch(classes::change).delete(classes::remove),
        )
        .route("/v1/classes/{label}/thumbnail", get(classes::thumbnail))
        .route("/v1/entries", get(entries::list).post(entries::add))
        .route("/v1/entries/{id}", delete(entries::remove_one))
        .route("/v1/entries/move", post(entries::move_to))
        .route("/v1/entries/remove", post(entries::remove))
        .route("/v1/undo", post(gallery::undo))
        .route("/v1/gallery", get(gallery::statistics))
        .route("/v1/gallery/file", put(gallery::replace).get(gallery::download))
        .route("/v1/gallery/adapt", post(gallery::adapt))
        .route("/v1/gallery/calibrate", post(gallery::calibrate))
        .method_not_allowed_fallback(async || {
            Problem::new(
                Kind::Method,
                "this path does not take this method; /v1/openapi.json lists what it takes",
            )
        })
}

/// The name of a path in metrics, which are few.
pub(crate) fn name_of(path: &str) -> &'static str {
    const PATHS: [&str; 18] = [
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/",
        "/v1/try.js",
        "/v1/openapi.json",
        "/v1/recognize",
        "/v1/detect",
        "/v1/embed",
        "/v1/search",
        "/v1/classes",
        "/v1/entries",
        "/v1/entries/move",
        "/v1/entries/remove",
        "/v1/undo",
        "/v1/gallery",
        "/v1/gallery/file",
        "/v1/gallery/adapt",
    ];
    match PATHS.iter().find(|known| **known == path) {
        Some(known) => known,
        None if path == "/v1/gallery/calibrate" => "/v1/gallery/calibrate",
        None if path.starts_with("/v1/classes/") => "/v1/classes/{label}",
        None if path.starts_with("/v1/entries/") => "/v1/entries/{id}",
        None if path.starts_with("/v1/") => "/v1/{none}",
        None => "/{site}",
    }
}

/// Whether a request changes the gallery.
pub(crate) fn changes(method: &Method, path: &str) -> bool {
    let asks = ["/v1/recognize", "/v1/detect", "/v1/embed", "/v1/search"].contains(&path);
    ![Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
        && !(asks && method == Method::POST)
}

/// A value as JSON.
fn json(value: &impl Serialize) -> Answered {
    let text = serde_json::to_vec(value).map_err(|error| Problem::failed(&error.into()))?;
    Ok(typed(text, "application/json"))
}

fn typed(body: impl Into<Bytes>, kind: &'static str) -> Response {
    let mut response = Response::new(Body::from(body.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Marks an answer as one of a version of the gallery.
fn tagged(mut response: Response, tag: &str) -> Response {
    if let Ok(tag) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// What is said of the gallery, unless the sender has it already.
fn of_version(
    headers: &HeaderMap,
    snapshot: &Snapshot,
    answer: impl FnOnce() -> Answered,
) -> Answered {
    let known = tags(headers, &header::IF_NONE_MATCH)?.is_some_and(|known| {
        known.iter().any(|known| known == "*" || known.trim_start_matches("W/") == snapshot.tag)
    });
    let response = if known { StatusCode::NOT_MODIFIED.into_response() } else { answer()? };
    Ok(tagged(response, &snapshot.tag))
}

/// The tags that a header lists.
fn tags(headers: &HeaderMap, name: &header::HeaderName) -> Answered<Option<Vec<String>>> {
    let mut all: Option<Vec<String>> = None;
    for value in headers.get_all(name) {
        let text =
            value.to_str().map_err(|_letters| Problem::request(format!("{name} is not ASCII")))?;
        let tags = text.split(',').map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty());
        all.get_or_insert_default().extend(tags);
    }
    Ok(all)
}

/// What a change depends on, and the key under which its answer is kept.
struct Conditions {
    matching: Option<Vec<String>>,
    key: Option<String>,
}

/// Characters of a key at most.
const KEY: usize = 255;

impl Conditions {
    fn of(headers: &HeaderMap) -> Answered<Self> {
        let key = headers.get("idempotency-key").map(|key| {
            let text = key.to_str().ok().map(|key| key.trim().trim_matches('"').to_owned());
            text.filter(|key| (1..=KEY).contains(&key.len())).ok_or_else(|| {
                Problem::request(format!("an Idempotency-Key has 1 to {KEY} ASCII characters"))
            })
        });
        Ok(Self { matching: tags(headers, &header::IF_MATCH)?, key: key.transpose()? })
    }

    fn asking(self, doing: Doing, digest: String) -> Asking {
        let key = self.key.map(|key| (key, digest));
        Asking { doing, matching: self.matching, key, more: None }
    }
}

/// Has a change made and answers it.
async fn changed(service: &Service, asking: Asking) -> Answered {
    let Told { tag, answer, replayed } = service.store.change(asking).await?;
    if !replayed {
        service.metrics.changed();
    }
    let mut response = tagged(json(&answer)?, &tag);
    if replayed {
        let name = header::HeaderName::from_static("idempotent-replayed");
        response.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
    Ok(response)
}
