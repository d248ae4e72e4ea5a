//! The description of the service, written from its types.

use serde_json::json;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::problem::Kind;
use super::routes::{classes, entries, gallery, health, recognize};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Magpie",
        description = "Image recognition with the bundle of a published site. Errors are problem documents (RFC 9457).",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    paths(
        recognize::recognize, recognize::detect, recognize::embed, recognize::search,
        classes::list, classes::one, classes::thumbnail, classes::change, classes::remove,
        entries::list, entries::add, entries::remove_one, entries::remove, entries::move_to,
        gallery::statistics, gallery::download, gallery::replace, gallery::adapt, gallery::calibrate, gallery::undo,
        health::health, health::ready, health::metrics
    ),
    tags(
        (name = "images", description = "What is in images"),
        (name = "classes", description = "Classes of the gallery"),
        (name = "entries", description = "Entries of the gallery"),
        (name = "gallery", description = "The gallery as a whole"),
        (name = "service", description = "Health and figures")
    ),
    modifiers(&Token)
)]
struct Service;

/// The token that changes need.
struct Token;

impl Modify for Token {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("token", scheme);
    }
}

/// The description as JSON.
///
/// # Errors
///
/// None that is known: the description is one of values.
pub(crate) fn text() -> Result<String, serde_json::Error> {
    let mut description = Service::openapi();
    env!("CARGO_PKG_VERSION").clone_into(&mut description.info.version);
    let mut value = serde_json::to_value(&description)?;
    let problem = |kind: &Kind| {
        let status = kind.status().as_u16();
        json!({"name": kind.name(), "status": status, "title": kind.title()})
    };
    // What `type` of a problem document leads to on the page.
    value["x-problems"] = Kind::ALL.iter().map(problem).collect();
    serde_json::to_string(&value)
}
