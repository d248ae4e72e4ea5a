//! What the service answers: one table, by which requests are led and from which the description is written.

pub(crate) mod classes;
pub(crate) mod corrections;
pub(crate) mod entries;
pub(crate) mod gallery;
pub(crate) mod health;
pub(crate) mod manage;
pub(crate) mod recognize;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use serde::Serialize;
use serde_json::Value;

use super::Service;
use super::asked::decoded;
use super::change::Changed;
use super::http::{Call, Response, empty, typed};
use super::problem::{Answered, Problem};
use super::schema::{Described, Schemas};
use super::store::{Asking, Doing, More, Snapshot, Told};
use super::types::{
    AdaptOptions, AddOptions, CalibrateOptions, ClassChange, ClassOf, ClassPage, CorrectionOptions,
    CorrectionPage, CorrectionTaken, CorrectionsAccepted, CorrectionsRejected, DetectOptions,
    Detected, EmbedOptions, Embedded, EntriesGone, EntriesMoved, EntryChange, EntryOptions,
    EntryPage, Images, ListOptions, Nothing, PageOptions, RecognizeOptions, Recognized, Rejected,
    SearchOptions, Searched, Statistics,
};

/// An answer on its way.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Answered> + Send>>;
/// The schema of a type.
pub(crate) type Schema = fn(&mut Schemas) -> Value;

/// Who is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Whoever asks, also where all places are taken: a probe has no token.
    Anybody,
    /// Who may read, also where all places are taken.
    Watchers,
    /// Who may read.
    Readers,
    /// Who may change the gallery.
    Keepers,
}

/// What a request brings.
pub(crate) enum Takes {
    /// Options in the address.
    Address(Schema),
    /// Images in one of three ways, with options beside them.
    Images(Schema),
    /// Images or embeddings.
    Queries(Schema),
    /// Options as JSON.
    Json(Schema),
    /// A file.
    File,
}

/// What an answer is.
pub(crate) enum Gives {
    /// JSON.
    Json(Schema),
    /// JSON about a version of the gallery, which the sender may have already.
    Version(Schema),
    /// Bytes about a version of the gallery.
    File(&'static str),
    /// Bytes about nothing that has a version.
    Picture(&'static str),
    /// A text.
    Text(&'static str),
}

/// A request that is answered.
pub(crate) struct Route {
    pub(crate) method: Method,
    /// A name in braces stands for any text.
    pub(crate) path: &'static str,
    /// What it is about.
    pub(crate) tag: &'static str,
    /// What it does.
    pub(crate) does: &'static str,
    pub(crate) who: Who,
    pub(crate) takes: Takes,
    pub(crate) gives: Gives,
    answer: fn(Arc<Service>, Call) -> Answering,
}

fn of<T: Described>(all: &mut Schemas) -> Value {
    all.of::<T>()
}

macro_rules! routes {
    ($($method:ident $path:literal $tag:literal $does:literal $who:ident $takes:expr => $gives:expr, $answer:path;)*) => {
        /// All of them.
        pub(crate) static ROUTES: &[Route] = &[$(Route {
            method: Method::$method,
            path: $path,
            tag: $tag,
            does: $does,
            who: Who::$who,
            takes: $takes,
            gives: $gives,
            answer: |service, call| Box::pin($answer(service, call)),
        }),*];
    };
}

routes! {
    POST "/v1/recognize" "images" "Names the objects of images." Readers
        Takes::Images(of::<RecognizeOptions>) => Gives::Json(of::<Images<Recognized>>), recognize::recognize;
    POST "/v1/detect" "images" "Finds the objects of images." Readers
        Takes::Images(of::<DetectOptions>) => Gives::Json(of::<Images<Detected>>), recognize::detect;
    POST "/v1/embed" "images" "Embeds images." Readers
        Takes::Images(of::<EmbedOptions>) => Gives::Json(of::<Images<Embedded>>), recognize::embed;
    POST "/v1/search" "images"
        "Finds the classes that are most similar to embeddings or to images, each image as it would become an entry." Readers
        Takes::Queries(of::<SearchOptions>) => Gives::Json(of::<Images<Searched>>), recognize::search;
    GET "/v1/classes" "classes" "Lists classes, in the gallery's order." Readers
        Takes::Address(of::<ListOptions>) => Gives::Version(of::<ClassPage>), classes::list;
    GET "/v1/classes/{label}" "classes" "Says what a class is." Readers
        Takes::Address(of::<Nothing>) => Gives::Version(of::<ClassOf>), classes::one;
    PATCH "/v1/classes/{label}" "classes" "Gives a class another label, metadata or threshold." Keepers
        Takes::Json(of::<ClassChange>) => Gives::Json(of::<Changed>), classes::change;
    DELETE "/v1/classes/{label}" "classes" "Takes a class out with its entries." Keepers
        Takes::Address(of::<Nothing>) => Gives::Json(of::<Changed>), classes::remove;
    GET "/v1/classes/{label}/thumbnail" "classes" "Shows a class." Readers
        Takes::Address(of::<Nothing>) => Gives::File("image/jpeg"), classes::thumbnail;
    GET "/v1/entries" "entries" "Lists entries, in the gallery's order." Readers
        Takes::Address(of::<EntryOptions>) => Gives::Version(of::<EntryPage>), entries::list;
    POST "/v1/entries" "entries" "Adds images. Those that their class has already are not added again." Keepers
        Takes::Images(of::<AddOptions>) => Gives::Json(of::<Changed>), entries::add;
    DELETE "/v1/entries/{id}" "entries" "Takes an entry out; of an image that has several parts, all." Keepers
        Takes::Address(of::<EntryChange>) => Gives::Json(of::<Changed>), entries::remove_one;
    POST "/v1/entries/remove" "entries" "Takes entries out, all or none." Keepers
        Takes::Json(of::<EntriesGone>) => Gives::Json(of::<Changed>), entries::remove;
    POST "/v1/entries/move" "entries" "Gives entries another class, all or none." Keepers
        Takes::Json(of::<EntriesMoved>) => Gives::Json(of::<Changed>), entries::move_to;
    GET "/v1/gallery" "gallery" "Says what the gallery is." Readers
        Takes::Address(of::<Nothing>) => Gives::Version(of::<Statistics>), gallery::statistics;
    GET "/v1/gallery/file" "gallery" "Downloads the gallery's file." Readers
        Takes::Address(of::<Nothing>) => Gives::File("application/octet-stream"), gallery::download;
    PUT "/v1/gallery/file" "gallery" "Takes another gallery of the same extractor." Keepers
        Takes::File => Gives::Json(of::<Changed>), gallery::replace;
    POST "/v1/gallery/adapt" "gallery"
        "Learns a map, answer rule, threshold and probabilities from the gallery's own entries, and keeps what helps." Keepers
        Takes::Json(of::<AdaptOptions>) => Gives::Json(of::<Changed>), gallery::adapt;
    POST "/v1/gallery/calibrate" "gallery"
        "Measures answer rule, threshold and probabilities on the gallery's own entries." Keepers
        Takes::Json(of::<CalibrateOptions>) => Gives::Json(of::<Changed>), gallery::calibrate;
    POST "/v1/undo" "gallery" "Takes the last change back, and the one before it when it is called again." Keepers
        Takes::Address(of::<Nothing>) => Gives::Json(of::<Changed>), gallery::undo;
    POST "/v1/corrections" "corrections"
        "Keeps what a visitor says that an image or an embedding is, until the owner decides." Readers
        Takes::Queries(of::<CorrectionOptions>) => Gives::Json(of::<CorrectionTaken>), corrections::add;
    GET "/v1/corrections" "corrections" "Lists corrections that wait, oldest first." Keepers
        Takes::Address(of::<PageOptions>) => Gives::Json(of::<CorrectionPage>), corrections::list;
    GET "/v1/corrections/{id}/thumbnail" "corrections" "Shows a correction that waits." Keepers
        Takes::Address(of::<Nothing>) => Gives::Picture("image/jpeg"), corrections::thumbnail;
    POST "/v1/corrections/accept" "corrections"
        "Adds corrections to the gallery, all or none, as what they are said to be or as another class." Keepers
        Takes::Json(of::<CorrectionsAccepted>) => Gives::Json(of::<Changed>), corrections::accept;
    POST "/v1/corrections/reject" "corrections" "Takes corrections away, all or none." Keepers
        Takes::Json(of::<CorrectionsRejected>) => Gives::Json(of::<Rejected>), corrections::reject;
    GET "/v1/" "service" "Shows a page to try the service." Anybody
        Takes::Address(of::<Nothing>) => Gives::Text("text/html"), health::page;
    GET "/v1/try.js" "service" "Sends the page's script." Anybody
        Takes::Address(of::<Nothing>) => Gives::Text("text/javascript"), health::script;
    GET "/v1/openapi.json" "service" "Describes the service as OpenAPI 3.1." Anybody
        Takes::Address(of::<Nothing>) => Gives::Text("application/json"), health::openapi;
    GET "/manage/" "manage" "Shows the owner's page." Anybody
        Takes::Address(of::<Nothing>) => Gives::Text("text/html"), manage::page;
    GET "/manage/manage.css" "manage" "Sends how it looks." Anybody
        Takes::Address(of::<Nothing>) => Gives::Text("text/css"), manage::style;
    GET "/manage/manage.js" "manage" "Sends its script." Anybody
        Takes::Address(of::<Nothing>) => Gives::Text("text/javascript"), manage::script;
    GET "/manage/parts.js" "manage" "Sends what its script uses." Anybody
        Takes::Address(of::<Nothing>) => Gives::Text("text/javascript"), manage::parts;
    GET "/manage/sentences.json" "manage" "Sends its sentences." Anybody
        Takes::Address(of::<Nothing>) => Gives::Json(of::<BTreeMap<String, BTreeMap<String, String>>>), manage::sentences;
    GET "/healthz" "service" "Says whether the process answers at all." Anybody
        Takes::Address(of::<Nothing>) => Gives::Text("text/plain"), health::health;
    GET "/readyz" "service" "Says whether the service takes requests." Anybody
        Takes::Address(of::<Nothing>) => Gives::Text("text/plain"), health::ready;
    GET "/metrics" "service" "Has figures for Prometheus, text format 0.0.4." Watchers
        Takes::Address(of::<Nothing>) => Gives::Text("text/plain"), health::metrics;
}

/// Where a request leads to.
pub(crate) enum Way {
    /// To a route; with the text in the place of the name in braces, as it is in the address.
    Route(&'static Route, String),
    /// To a path that does not take its method, but these.
    Method(&'static str, String),
    /// To a page of the service, for whoever leaves the slash out.
    Door(&'static str),
    /// To no path below `/v1/` that there is.
    Nowhere,
    /// To the site's own files.
    Site,
}

impl Way {
    /// Where a request leads to; HEAD is answered as GET.
    pub(crate) fn of(method: &Method, path: &str) -> Self {
        let wanted = if *method == Method::HEAD { &Method::GET } else { method };
        // A path without a name in braces goes before one with it.
        let is_exact = ROUTES.iter().any(|route| route.path == path);
        let fitting: Vec<(&Route, &str)> = ROUTES
            .iter()
            .filter(|route| !is_exact || route.path == path)
            .filter_map(|route| Some((route, place_in(route.path, path)?)))
            .collect();
        if let Some((route, place)) = fitting.iter().find(|(route, _)| route.method == *wanted) {
            return Self::Route(route, (*place).to_owned());
        }
        if let Some((first, _)) = fitting.first() {
            let mut methods: Vec<&str> =
                fitting.iter().map(|(route, _)| route.method.as_str()).collect();
            if methods.contains(&"GET") {
                methods.push("HEAD");
            }
            methods.push("OPTIONS");
            return Self::Method(first.path, methods.join(", "));
        }
        if let Some(door) = ["/v1", "/manage"].into_iter().find(|door| *door == path) {
            let methods = "GET, HEAD, OPTIONS".to_owned();
            let is_read = *wanted == Method::GET;
            return if is_read { Self::Door(door) } else { Self::Method(door, methods) };
        }
        match path {
            path if path.starts_with("/v1/") => Self::Nowhere,
            _ => Self::Site,
        }
    }

    /// What metrics call it; there are few names.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Route(route, _) => route.path,
            Self::Method(path, _) | Self::Door(path) => path,
            Self::Nowhere => "/v1/{none}",
            Self::Site => "/{site}",
        }
    }
}

/// The text of a path in the place of the name in braces; an empty one without a name.
fn place_in<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let Some((before, rest)) = pattern.split_once('{') else {
        return (pattern == path).then_some("");
    };
    let (_, behind) = rest.split_once('}')?;
    let place = path.strip_prefix(before)?.strip_suffix(behind)?;
    (!place.is_empty() && !place.contains('/')).then_some(place)
}

impl Route {
    /// Answers a request.
    pub(crate) async fn answer(&self, service: Arc<Service>, mut call: Call) -> Answered {
        call.place = decoded(&call.place)?;
        (self.answer)(service, call).await
    }
}

/// A value as JSON.
fn json(value: &impl Serialize) -> Answered {
    let text = serde_json::to_vec(value).map_err(|error| Problem::failed(&error.into()))?;
    Ok(typed(text, "application/json"))
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
    let response = if known { empty(StatusCode::NOT_MODIFIED) } else { answer()? };
    Ok(tagged(response, &snapshot.tag))
}

/// The tags that a header lists.
fn tags(headers: &HeaderMap, name: &HeaderName) -> Answered<Option<Vec<String>>> {
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
            let is_key = |key: &String| {
                (1..=KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
            };
            text.filter(is_key).ok_or_else(|| {
                Problem::request(format!(
                    "an Idempotency-Key has 1 to {KEY} printable ASCII characters and no blank"
                ))
            })
        });
        Ok(Self { matching: tags(headers, &header::IF_MATCH)?, key: key.transpose()? })
    }

    fn asking(self, doing: Doing, digest: String) -> Asking {
        let key = self.key.map(|key| (key, digest));
        Asking { doing, matching: self.matching, key, more: More::default() }
    }
}

/// Has a change made and answers it.
async fn changed(service: &Service, asking: Asking) -> Answered {
    let Told { tag, answer, replayed, changed } = service.store.change(asking).await?;
    if changed {
        service.metrics.changed();
    }
    let mut response = tagged(json(&answer)?, &tag);
    if replayed {
        let name = HeaderName::from_static("idempotent-replayed");
        response.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_one_route_each() {
        let way = |method: Method, path: &str| match Way::of(&method, path) {
            Way::Route(route, place) => format!("{} {} {place}", route.method, route.path),
            Way::Method(path, methods) => format!("{path}: {methods}"),
            other => other.name().to_owned(),
        };
        for (method, path, wanted) in [
            (Method::GET, "/v1/classes", "GET /v1/classes "),
            (Method::HEAD, "/v1/classes/a%2Fb", "GET /v1/classes/{label} a%2Fb"),
            (Method::GET, "/v1/classes/a/thumbnail", "GET /v1/classes/{label}/thumbnail a"),
            (Method::GET, "/v1/classes/a/b", "/v1/{none}"),
            (Method::GET, "/v1/classes/", "/v1/{none}"),
            (Method::DELETE, "/v1/entries/00", "DELETE /v1/entries/{id} 00"),
            (Method::POST, "/v1/entries/move", "POST /v1/entries/move "),
            (Method::DELETE, "/v1/entries/move", "/v1/entries/move: POST, OPTIONS"),
            (
                Method::PUT,
                "/v1/classes/a",
                "/v1/classes/{label}: GET, PATCH, DELETE, HEAD, OPTIONS",
            ),
            (Method::HEAD, "/v1", "/v1"),
            (Method::GET, "/manage", "/manage"),
            (Method::GET, "/manage/", "GET /manage/ "),
            (Method::GET, "/manage/else", "/{site}"),
            (Method::GET, "/v1/corrections/00/thumbnail", "GET /v1/corrections/{id}/thumbnail 00"),
            (Method::GET, "/v1/corrections/accept", "/v1/corrections/accept: POST, OPTIONS"),
            (Method::POST, "/v1", "/v1: GET, HEAD, OPTIONS"),
            (Method::GET, "/index.html", "/{site}"),
        ] {
            assert_eq!(way(method.clone(), path), wanted, "{method} {path}");
        }
        for (place, route) in ROUTES.iter().enumerate() {
            let same = |other: &Route| (&other.method, other.path) == (&route.method, route.path);
            assert!(!ROUTES[..place].iter().any(same), "{} is there twice", route.path);
        }
    }
}
