//! Whether the service lives, its figures, its description and the page to try it.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{self, HeaderValue};

use crate::service::Service;
use crate::service::corrections::Corrections;
use crate::service::http::{Call, typed};
use crate::service::metrics::Now;
use crate::service::problem::{Answered, Kind, Problem};

/// How long counting what waits may take.
const COUNTED: Duration = Duration::from_secs(1);

/// Whether the process answers at all.
pub(crate) async fn health(_: Arc<Service>, _: Call) -> Answered {
    Ok(typed("ok\n", "text/plain"))
}

/// Whether it takes requests.
pub(crate) async fn ready(service: Arc<Service>, _: Call) -> Answered {
    if service.is_ending() {
        return Err(Problem::new(Kind::Ending, "the service ends"));
    }
    service.store.look().await?;
    Ok(typed("ready\n", "text/plain"))
}

/// How many corrections wait. A database that does not answer holds nobody up.
async fn waiting(corrections: &Arc<Corrections>) -> usize {
    let asked = Arc::clone(corrections);
    let counted = tokio::task::spawn_blocking(move || asked.len());
    match tokio::time::timeout(COUNTED, counted).await {
        Ok(Ok(count)) => count,
        Ok(Err(_)) | Err(_) => corrections.known(),
    }
}

/// Figures for Prometheus.
pub(crate) async fn metrics(service: Arc<Service>, _: Call) -> Answered {
    let snapshot = service.store.current();
    let corrections = match &service.corrections {
        Some(corrections) => waiting(corrections).await,
        None => 0,
    };
    let now = Now {
        waiting: service.queue.len(),
        working: service.working(),
        classes: snapshot.gallery.classes().len(),
        entries: snapshot.gallery.len(),
        version: snapshot.version,
        journal: service.store.journal_bytes(),
        corrections,
        up: service.begun.elapsed(),
    };
    Ok(typed(service.metrics.text(&now), "text/plain; version=0.0.4; charset=utf-8"))
}

/// Describes the service as `OpenAPI` 3.1.
pub(crate) async fn openapi(service: Arc<Service>, _: Call) -> Answered {
    Ok(typed(service.description.clone(), "application/json"))
}

/// A page to try the service.
pub(crate) async fn page(_: Arc<Service>, _: Call) -> Answered {
    let mut response = typed(include_str!("../page.html"), "text/html; charset=utf-8");
    let policy = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self' blob:; connect-src \
                  'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    Ok(response)
}

/// Its script.
pub(crate) async fn script(_: Arc<Service>, _: Call) -> Answered {
    Ok(typed(include_str!("../try.js"), "text/javascript; charset=utf-8"))
}
