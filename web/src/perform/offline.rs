//! The site for visits without a network: a service worker keeps its files.

use gloo_events::EventListener;
use js_sys::{Object, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use wasm_engine::protocol::Backend;

use web_sys::{MessageEvent, ServiceWorkerContainer, ServiceWorkerRegistration};

use super::startup::{keep_site, module_name};
use crate::app::Event;
use crate::view::dom::window;

/// The browser's service workers; `None` where it has none, or none for pages without a secure
/// connection.
fn container() -> Option<ServiceWorkerContainer> {
    let navigator = window().navigator();
    // Where it may not be used, some browsers throw already here.
    let container = Reflect::get(&navigator, &JsValue::from_str("serviceWorker")).ok()?;
    container.is_object().then(|| container.unchecked_into())
}

/// Tells once everything is kept that this page needs, and when a service worker takes the place of another: that
/// one has to be asked again.
pub(crate) fn listen(tell: impl Fn(Event) + 'static) -> Option<EventListener> {
    let container = container()?;
    Some(EventListener::new(&container, "message", move |event| {
        let data = event.dyn_ref::<MessageEvent>().map(MessageEvent::data).unwrap_or_default();
        let says = |key: &str| Reflect::has(&data, &JsValue::from_str(key)).unwrap_or_default();
        if says("kept") {
            tell(Event::Kept);
        } else if says("activated") {
            tell(Event::KeeperChanged);
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
    let registration: ServiceWorkerRegistration =
        JsFuture::from(keep_site()?).await?.unchecked_into();
    // One that is on its way says when it is there, and is asked then: the one before would keep files for
    // nobody.
    if registration.installing().is_some() || registration.waiting().is_some() {
        return Ok(());
    }
    let ready: ServiceWorkerRegistration =
        JsFuture::from(container.ready()?).await?.unchecked_into();
    let message = Object::new();
    Reflect::set(&message, &"keep".into(), &module_name(backend).into())?;
    match ready.active() {
        Some(worker) => worker.post_message(&message),
        None => Ok(()),
    }
}
