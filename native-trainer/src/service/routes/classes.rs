//! Classes are listed, named, described, taken out.

use std::sync::Arc;

use authoring::label::label;
use axum::extract::{Path, Request, State};
use axum::http::header;
use axum::response::Response;

use super::{Conditions, changed, json, of_version, typed};
use crate::service::Service;
use crate::service::asked::{Asked, Filter};
use crate::service::change::{Change, Least, class_of};
use crate::service::problem::{Answered, Document, Kind, Problem};
use crate::service::store::{Doing, Snapshot};
use crate::service::types::{Changed, ClassChange, ClassOf, Classes, ListOptions};

/// Lists classes.
#[utoipa::path(
    get, path = "/v1/classes", tag = "classes", params(ListOptions),
    responses(
        (status = 200, description = "A page of the classes, in the gallery's order", body = Classes),
        (status = 304, description = "The sender has this version"),
        (status = "default", description = "A problem", body = Document, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Answered<Response> {
    let (parts, _) = request.into_parts();
    let options: ListOptions = Asked::from_parts(&parts)?.options()?;
    let limit = options.limit()?;
    let snapshot = service.store.current();
    of_version(&parts.headers, &snapshot, || {
        let wanted = options.q.as_deref().map(str::to_lowercase);
        let filter = Filter { class: options.class, r#where: options.r#where };
        let fits = |class: &usize| {
            let class = &snapshot.gallery.classes()[*class];
            let has = |text: &String| class.label.to_lowercase().contains(text);
            filter.admits(class) && wanted.as_ref().is_none_or(has)
        };
        let fitting: Vec<usize> = (0..snapshot.gallery.classes().len()).filter(fits).collect();
        let page = fitting.iter().skip(options.offset).take(limit);
        let classes: Vec<ClassOf> = page.map(|class| class_as(&snapshot, *class)).collect();
        let end = options.offset.saturating_add(classes.len());
        let next = (end < fitting.len() && !classes.is_empty()).then_some(end);
        json(&Classes { version: snapshot.version, total: fitting.len(), next, classes })
    })
}

fn class_as(snapshot: &Snapshot, class: usize) -> ClassOf {
    let gallery = &snapshot.gallery;
    let entries = snapshot.counts().get(class).copied().unwrap_or_default();
    ClassOf::new(&gallery.classes()[class], entries, !gallery.thumbnail(class).is_empty())
}

/// Says what a class is.
#[utoipa::path(
    get, path = "/v1/classes/{label}", tag = "classes", params(("label" = String, Path, description = "Label of the class")),
    responses(
        (status = 200, description = "The class", body = ClassOf),
        (status = 304, description = "The sender has this version"),
        (status = "default", description = "A problem", body = Document, content_type = "application/problem+json")
    )
)]
pub(crate) async fn one(
    State(service): State<Arc<Service>>,
    Path(text): Path<String>,
    request: Request,
) -> Answered<Response> {
    let snapshot = service.store.current();
    let class = class_of(&snapshot.gallery, &text)?;
    of_version(request.headers(), &snapshot, || json(&class_as(&snapshot, class)))
}

/// Shows a class.
#[utoipa::path(
    get, path = "/v1/classes/{label}/thumbnail", tag = "classes",
    params(("label" = String, Path, description = "Label of the class")),
    responses(
        (status = 200, description = "A small JPEG", body = Vec<u8>, content_type = "image/jpeg"),
        (status = 304, description = "The sender has this version"),
        (status = "default", description = "A problem", body = Document, content_type = "application/problem+json")
    )
)]
pub(crate) async fn thumbnail(
    State(service): State<Arc<Service>>,
    Path(text): Path<String>,
    request: Request,
) -> Answered<Response> {
    let snapshot = service.store.current();
    let class = class_of(&snapshot.gallery, &text)?;
    let bytes = snapshot.gallery.thumbnail(class);
    if bytes.is_empty() {
        return Err(Problem::new(Kind::NotFound, "this class has no thumbnail"));
    }
    of_version(request.headers(), &snapshot, || {
        let mut response = typed(bytes.to_vec(), "image/jpeg");
        let same = axum::http::HeaderValue::from_static("nosniff");
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, same);
        Ok(response)
    })
}

/// Gives a class another label, metadata or threshold.
#[utoipa::path(
    patch, path = "/v1/classes/{label}", tag = "classes",
    params(
        ("label" = String, Path, description = "Label of the class"),
        ("If-Match" = Option<String>, Header, description = "Tags of which the gallery must have one"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key brings the same answer")
    ),
    request_body = ClassChange,
    responses(
        (status = 200, description = "What has changed", body = Changed),
        (status = "default", description = "A problem", body = Document, content_type = "application/problem+json")
    ),
    security(("token" = []))
)]
pub(crate) async fn change(
    State(service): State<Arc<Service>>,
    Path(text): Path<String>,
    request: Request,
) -> Answered<Response> {
    let conditions = Conditions::of(request.headers())?;
    let mut asked = Asked::read(&service, request).await?;
    let change: ClassChange = asked.options()?;
    let blank = |text: &String| label(text).is_none();
    if change.metadata.keys().any(blank) {
        return Err(Problem::value("metadata need a name that can be seen"));
    }
    let least = change.min_similarity.map(|least| least.map_or(Least::None, Least::Cosine));
    let metadata = change.metadata;
    let doing = Change::Class { class: text, label: change.label, metadata, least };
    changed(&service, conditions.asking(Doing::Change(doing), asked.digest)).await
}

/// Takes a class out with its entries.
#[utoipa::path(
    delete, path = "/v1/classes/{label}", tag = "classes",
    params(
        ("label" = String, Path, description = "Label of the class"),
        ("If-Match" = Option<String>, Header, description = "Tags of which the gallery must have one"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key brings the same answer")
    ),
    responses(
        (status = 200, description = "What has changed", body = Changed),
        (status = "default", description = "A problem", body = Document, content_type = "application/problem+json")
    ),
    security(("token" = []))
)]
pub(crate) async fn remove(
    State(service): State<Arc<Service>>,
    Path(class): Path<String>,
    request: Request,
) -> Answered<Response> {
    let conditions = Conditions::of(request.headers())?;
    let asked = Asked::read(&service, request).await?;
    let doing = Doing::Change(Change::RemoveClass { class });
    changed(&service, conditions.asking(doing, asked.digest)).await
}
