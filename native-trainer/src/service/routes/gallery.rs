//! The gallery as a whole: statistics, its file, what it learns, undo.

use std::sync::Arc;

use authoring::adaptation::{
    FALSE_ACCEPT, Options, adapt_and_calibrate, drop_thresholds, map_text, rule_name,
};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use models::gallery::{AdaptationKind, Crop, Gallery, IndexConfig};
use serde_json::json as value;

use super::{Conditions, changed, json, of_version, typed};
use crate::service::Service;
use crate::service::asked::{Asked, file};
use crate::service::change::{Change, refused};
use crate::service::problem::{Answered, Document, Kind, Problem};
use crate::service::store::{Doing, Remake};
use crate::service::types::{Changed, LearnOptions, MapKind, Statistics};

fn index_name(config: IndexConfig) -> &'static str {
    match config {
        IndexConfig::Flat => "flat",
        IndexConfig::Hnsw { .. } => "hnsw",
        IndexConfig::Ivf { .. } => "ivf",
        IndexConfig::Binary => "binary",
    }
}

/// Says what the gallery is.
#[utoipa::path(
    get, path = "/v1/gallery", tag = "gallery",
    responses(
        (status = 200, description = "Statistics", body = Statistics),
        (status = 304, description = "The sender has this version"),
        (status = "default", description = "A problem", body = Document, content_type = "application/problem+json")
    )
)]
pub(crate) async fn statistics(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Answered<Response> {
    let snapshot = service.store.current();
    of_version(request.headers(), &snapshot, || {
        let gallery = &snapshot.gallery;
        let mut counts = snapshot.counts().to_vec();
        counts.sort_unstable();
        let at = |place: usize| counts.get(place).copied().unwrap_or_default();
        json(&Statistics {
            version: snapshot.version,
            title: service.title.clone(),
            model: gallery.model().to_owned(),
            dim: gallery.dim(),
            values: gallery.index().vector_type().name().to_owned(),
            classes: gallery.classes().len(),
            entries: gallery.len(),
            entries_a_class: [at(0), at(counts.len() / 2), at(counts.len().saturating_sub(1))],
            index: index_name(gallery.index().config()).to_owned(),
            crop: gallery.crop().name().to_owned(),
            detector: service.has_detector,
            top_k: service.settings.top_k,
            min_similarity: snapshot.min_similarity.into(),
            rule: rule_name(snapshot.rule),
            calibrated: gallery.calibration().is_some(),
            map: map_text(gallery),
            changes: service.gate.change.is_some(),
        })
    })
}

/// Downloads the gallery's file.
#[utoipa::path(
    get, path = "/v1/gallery/file", tag = "gallery",
    responses(
        (status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 304, description = "The sender has this version"),
        (status = "default", description = "A problem", body = Document, content_type = "application/problem+json")
    )
)]
pub(crate) async fn download(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Answered<Response> {
    let snapshot = service.store.current();
    of_version(request.headers(), &snapshot, || {
        let mut response = typed(snapshot.file(), "application/octet-stream");
        let name = HeaderValue::from_static("attachment; filename=\"gallery.bin\"");
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
        Ok(response)
    })
}

/// Takes another gallery of the same extractor.
#[utoipa::path(
    put, path = "/v1/gallery/file", tag = "gallery",
    params(
        ("If-Match" = Option<String>, Header, description = "Tags of which the gallery must have one"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key brings the same answer")
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "What has changed", body = Changed),
        (status = "default", description = "A problem", body = Document, content_type = "application/problem+json")
    ),
    security(("token" = []))
)]
pub(crate) async fn replace(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Answered<Response> {
    let conditions = Conditions::of(request.headers())?;
    let (parts, body) = request.into_parts();
    let bytes = file(&service, &parts.headers, body).await?;
    let digest = models::model_file::sha256_hex(&bytes);
    let middle = service.settings.middle;
    let remake: Remake = Box::new(move |current| {
        let gallery = Gallery::from_bytes(&bytes).map_err(refused)?;
        current.check_comparable(&gallery).map_err(refused)?;
        gallery.check_answers().map_err(refused)?;
        if (gallery.crop() == Crop::Middle) != middle {
            let detail = format!(
                "its entries show other parts of images (crop {}) than this site looks at; publish it",
                gallery.crop().name()
            );
            return Err(Problem::new(Kind::Conflict, detail));
        }
        Ok((gallery, value!({})))
    });
    changed(&service, conditions.asking(Doing::Remake(remake), digest)).await
}

/// Learns a map, answer rule, threshold and probabilities from the gallery's own entries, and keeps what helps.
#[utoipa::path(
    post, path = "/v1/gallery/adapt", tag = "gallery", request_body = LearnOptions,
    params(
        ("If-Match" = Option<String>, Header, description = "Tags of which the gallery must have one"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key brings the same answer")
    ),
    responses(
        (status = 200, description = "What has changed, and what was learned", body = Changed),
        (status = "default", description = "A problem", body = Document, content_type = "application/problem+json")
    ),
    security(("token" = []))
)]
pub(crate) async fn adapt(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Answered<Response> {
    learn(&service, request, true).await
}

/// Measures answer rule, threshold and probabilities on the gallery's own entries.
#[utoipa::path(
    post, path = "/v1/gallery/calibrate", tag = "gallery", request_body = LearnOptions,
    params(
        ("If-Match" = Option<String>, Header, description = "Tags of which the gallery must have one"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key brings the same answer")
    ),
    responses(
        (status = 200, description = "What has changed, and what was learned", body = Changed),
        (status = "default", description = "A problem", body = Document, content_type = "application/problem+json")
    ),
    security(("token" = []))
)]
pub(crate) async fn calibrate(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Answered<Response> {
    learn(&service, request, false).await
}

async fn learn(service: &Service, request: Request, adapt: bool) -> Answered<Response> {
    let conditions = Conditions::of(request.headers())?;
    let mut asked = Asked::read(service, request).await?;
    let LearnOptions { kind, false_accept, always } = asked.options()?;
    let false_accept = false_accept.unwrap_or(FALSE_ACCEPT);
    if !(false_accept > 0.0 && false_accept < 1.0) {
        return Err(Problem::value("false_accept is a share above 0 and below 1"));
    }
    let options = Options {
        adapt: adapt && kind != MapKind::None,
        kind: match kind {
            MapKind::Whitening => Some(AdaptationKind::Whitening),
            MapKind::Lda => Some(AdaptationKind::Lda),
            MapKind::Auto | MapKind::None => None,
        },
        calibrate: true,
        false_accept,
    };
    let remake: Remake = Box::new(move |current| {
        let mut gallery = current.clone();
        if adapt && kind == MapKind::None && gallery.map().is_some() {
            gallery.set_map(None).map_err(refused)?;
            drop_thresholds(&mut gallery).map_err(refused)?;
        }
        if always {
            gallery.set_min_similarity(None).map_err(refused)?;
        }
        let outcome = adapt_and_calibrate(&mut gallery, &options).map_err(refused)?;
        Ok((gallery, value!({"lines": outcome.lines()})))
    });
    changed(service, conditions.asking(Doing::Remake(remake), asked.digest)).await
}

/// Takes the last change back, and the one before it when it is called again. Of changes that were folded into the
/// gallery's file the last 32 can be taken back.
#[utoipa::path(
    post, path = "/v1/undo", tag = "gallery",
    params(
        ("If-Match" = Option<String>, Header, description = "Tags of which the gallery must have one"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key brings the same answer")
    ),
    responses(
        (status = 200, description = "The gallery as it was before", body = Changed),
        (status = "default", description = "A problem", body = Document, content_type = "application/problem+json")
    ),
    security(("token" = []))
)]
pub(crate) async fn undo(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Answered<Response> {
    let conditions = Conditions::of(request.headers())?;
    let asked = Asked::read(&service, request).await?;
    changed(&service, conditions.asking(Doing::Change(Change::Undo), asked.digest)).await
}
