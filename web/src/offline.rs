//! The site for visits without a network: a service worker keeps its files.

use gloo_events::EventListener;
use js_sys::{Object, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use wasm_engine::protocol::Backend;

use crate::begun::module_name;
use web_sys::{MessageEvent, ServiceWorkerContainer, ServiceWorkerRegistration};

use crate::dom::window;

/// Where `magpie publish` leaves the service worker.
const WORKER: &str = "sw.js";

/// The browser's service workers; `None` where it has none, or none for pages without a secure
/// connection.
fn container() -> Option<ServiceWorkerContainer> {
    let navigator = window().navigator();
    let there = Reflect::has(&navigator, &JsValue::from_str("serviceWorker")).unwrap_or_default();
    there.then(|| navigator.service_worker())
}

/// Calls `then` once everything is kept that this page needs.
pub(crate) fn listen(then: impl Fn() + 'static) -> Option<EventListener> {
    let container = container()?;
    Some(EventListener::new(&container, "message", move |event| {
        let data = event.dyn_ref::<MessageEvent>().map(MessageEvent::data).unwrap_or_default();
        if Reflect::has(&data, &JsValue::from_str("kept")).unwrap_or_default() {
            then();
        }
    }))
}

/// Keeps the page, this engine and the bundle. A site that was not published, or a browser that
/// keeps nothing, goes on needing the network.
pub(crate) fn keep(backend: Backend) {
    spawn_local(async move {
        // Nobody waits for this, and the page works without.
        let _ = ask(backend).await;
    });
}

async fn ask(backend: Backend) -> Result<(), JsValue> {
    let Some(container) = container() else { return Ok(()) };
    JsFuture::from(container.register(WORKER)).await?;
    let ready: ServiceWorkerRegistration =
        JsFuture::from(container.ready()?).await?.unchecked_into();
    let message = Object::new();
    Reflect::set(&message, &"keep".into(), &module_name(backend).into())?;
    match ready.active() {
        Some(worker) => worker.post_message(&message),
        None => Ok(()),
    }
}
