//! Is there a WebGPU adapter, and is it a real one?

use js_sys::{Function, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::dom::window;

/// A WebGPU adapter of this browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Adapter {
    /// Computed on the processor; slower than the CPU engine.
    pub(crate) software: bool,
}

/// Asks the browser; `None` where there is no WebGPU or no adapter.
///
/// Through reflection, because the bindings of WebGPU are not stable.
pub(crate) async fn detect() -> Option<Adapter> {
    let get = |object: &JsValue, key: &str| {
        Reflect::get(object, &JsValue::from_str(key)).ok().filter(|v| !v.is_undefined())
    };
    let gpu = get(&window().navigator().into(), "gpu")?;
    let request: Function = get(&gpu, "requestAdapter")?.dyn_into().ok()?;
    let promise: Promise = request.call0(&gpu).ok()?.dyn_into().ok()?;
    let adapter = JsFuture::from(promise).await.ok().filter(|a| !a.is_null())?;
    let flag = |object: &JsValue| get(object, "isFallbackAdapter").map(|v| v.is_truthy());
    let software = get(&adapter, "info").and_then(|info| flag(&info)).or_else(|| flag(&adapter));
    Some(Adapter { software: software.unwrap_or(false) })
}
