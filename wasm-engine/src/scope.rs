//! The worker's global object: its clock, its errors in words, and promises with a limit.

use js_sys::{Array, Function, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{DedicatedWorkerGlobalScope, WorkerGlobalScope};

/// The worker's global object.
pub(crate) fn scope() -> DedicatedWorkerGlobalScope {
    js_sys::global().unchecked_into()
}

/// Milliseconds since the worker started.
pub(crate) fn now() -> f64 {
    let scope: WorkerGlobalScope = scope().unchecked_into();
    scope.performance().map_or(0.0, |performance| performance.now())
}

/// What a promise comes to, or an error if it takes longer than `milliseconds`.
pub(crate) async fn within(promise: Promise, milliseconds: i32) -> Result<JsValue, JsValue> {
    let scope: WorkerGlobalScope = scope().unchecked_into();
    let mut timer = None;
    let mut start = |_, reject: Function| {
        let reason = js_sys::Error::new("no answer in time");
        timer = scope
            .set_timeout_with_callback_and_timeout_and_arguments_1(&reject, milliseconds, &reason)
            .ok();
    };
    let limit = Promise::new(&mut start);
    let result = JsFuture::from(Promise::race(&Array::of2(&promise, &limit))).await;
    if let Some(timer) = timer {
        scope.clear_timeout_with_handle(timer);
    }
    result
}

/// A JavaScript error in words.
pub(crate) fn text(error: &JsValue) -> String {
    Reflect::get(error, &JsValue::from_str("message"))
        .ok()
        .and_then(|message| message.as_string())
        .unwrap_or_else(|| format!("{error:?}"))
}
