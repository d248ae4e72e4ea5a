//! Errors as problem documents (RFC 9457), with a sentence that says what to do.

use authoring::label::quoted;
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use models::image::ImageError;
use serde::Serialize;

use super::http::{Response, typed};
use super::schema::described;
use crate::postgres::PostgresError;

/// Kinds of problems: the name that `type` ends with, the status, the title.
macro_rules! kinds {
    ($($kind:ident, $name:literal, $status:ident, $title:literal;)*) => {
        /// What kind of problem it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Kind { $(#[doc = $title] $kind,)* }

        impl Kind {
            /// All kinds.
            pub(crate) const ALL: &[Self] = &[$(Self::$kind),*];

            /// The name that `type` ends with.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// The status of its answers.
            pub(crate) fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status,)* }
            }

            /// What it is in a few words.
            pub(crate) fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)* }
            }
        }
    };
}

kinds! {
    Request, "request", BAD_REQUEST, "The request is malformed or incomplete";
    Token, "token", UNAUTHORIZED, "A token is missing or wrong";
    ReadOnly, "read-only", FORBIDDEN, "The service changes nothing";
    Origin, "origin", FORBIDDEN, "The page's origin is not let in";
    Host, "host", MISDIRECTED_REQUEST, "The request is for another host";
    NotFound, "not-found", NOT_FOUND, "Nothing is there";
    Method, "method", METHOD_NOT_ALLOWED, "The method is not for this path";
    Timeout, "timeout", REQUEST_TIMEOUT, "The request took too long to come";
    Conflict, "conflict", CONFLICT, "The site or its gallery does not allow it";
    Changed, "changed", PRECONDITION_FAILED, "The gallery has changed";
    TooLarge, "too-large", PAYLOAD_TOO_LARGE, "More than is taken at once";
    Format, "format", UNSUPPORTED_MEDIA_TYPE, "A format that is not read";
    Image, "image", UNPROCESSABLE_ENTITY, "An image cannot be used";
    Value, "value", UNPROCESSABLE_ENTITY, "A value cannot be taken";
    Gallery, "gallery", UNPROCESSABLE_ENTITY, "The file is no gallery that can be used";
    Key, "idempotency-key", UNPROCESSABLE_ENTITY, "The key belongs to another request";
    Busy, "busy", TOO_MANY_REQUESTS, "The service is busy";
    Failed, "failed", INTERNAL_SERVER_ERROR, "The service failed";
    Ending, "ending", SERVICE_UNAVAILABLE, "The service ends or is behind";
    Database, "database", SERVICE_UNAVAILABLE, "The database cannot be reached";
    Storage, "storage", INSUFFICIENT_STORAGE, "The change cannot be kept";
}

/// An error that is answered.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    pub(crate) detail: String,
    /// In seconds, where trying again helps.
    pub(crate) retry_after: Option<u32>,
}

described! {
    /// A problem document, RFC 9457.
    #[derive(Debug, Clone, Serialize)]
    pub(crate) struct Document = "Problem" {
        /// Its kind, as a link to the page that explains it.
        #[serde(rename = "type")]
        kind: String,
        /// The kind in a few words.
        title: &'static str,
        /// Status of the answer.
        status: u16,
        /// What is wrong and what to do, in a sentence.
        detail: String,
    }
}

/// What to do where a database was not asked, and where it has changed nothing.
pub(crate) const AGAIN: &str = "send it again";
pub(crate) const UNCHANGED: &str = "nothing has changed; send it again";

/// Characters of a text of a request that a sentence shows at most.
const SHOWN: usize = 60;

/// A text of a request as a sentence shows it: in quotes, and not all of a long one.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => quoted(&format!("{}…", &text[..end])),
        None => quoted(text),
    }
}

/// What handlers fail with.
pub(crate) type Answered<T = Response> = Result<T, Problem>;

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let retry_after = match kind {
            Kind::Busy | Kind::Ending => Some(1),
            Kind::Database => Some(5),
            _ => None,
        };
        Self { kind, detail: detail.into(), retry_after }
    }

    /// A request that cannot be read.
    pub(crate) fn request(detail: impl Into<String>) -> Self {
        Self::new(Kind::Request, detail)
    }

    /// A value that is out of its range, or is none that can be used.
    pub(crate) fn value(detail: impl Into<String>) -> Self {
        Self::new(Kind::Value, detail)
    }

    /// An image that cannot be used.
    pub(crate) fn image(error: &ImageError) -> Self {
        let kind = match error {
            ImageError::UnknownFormat | ImageError::Unsupported { .. } => Kind::Format,
            ImageError::TooLarge { .. } => Kind::TooLarge,
            _ => Kind::Image,
        };
        Self::new(kind, error.to_string())
    }

    /// The service itself failed; the reason is told to its owner alone.
    pub(crate) fn failed(error: &anyhow::Error) -> Self {
        eprintln!("{}", crate::terminal::sentence(error));
        let detail = "the service failed at this request; its standard error says why";
        Self::new(Kind::Failed, detail)
    }

    /// The database could not be asked, or refuses.
    pub(crate) fn of_database(error: PostgresError, what: &str) -> Self {
        if error.is_held() {
            let detail = "another process has been changing the gallery for long; send it again";
            return Self::new(Kind::Busy, detail);
        }
        if error.is_lost() {
            eprintln!("the database: {error}");
            return Self::new(Kind::Database, format!("the database does not answer; {what}"));
        }
        Self::failed(&error.into())
    }

    /// As it is answered.
    pub(crate) fn document(&self) -> Document {
        Document {
            kind: format!("/v1/#{}", self.kind.name()),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: self.detail.clone(),
        }
    }

    /// The answer.
    pub(crate) fn response(&self) -> Response {
        let text = serde_json::to_vec(&self.document()).unwrap_or_default();
        let mut response = typed(text, "application/problem+json");
        *response.status_mut() = self.kind.status();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == Kind::Token {
            let bearer = HeaderValue::from_static("Bearer realm=\"magpie\"");
            headers.insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}
