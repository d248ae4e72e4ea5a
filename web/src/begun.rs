//! What `www/start.js` has found out and begun before the page's own code was there.

use js_sys::{Function, Object, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_engine::protocol::Backend;
use web_sys::Worker;

use crate::dom::window;

/// A WebGPU adapter of this browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Adapter {
    /// Computed on the processor; slower than the CPU engine.
    pub(crate) software: bool,
}

fn get(object: &JsValue, key: &str) -> JsValue {
    Reflect::get(object, &JsValue::from_str(key)).unwrap_or_default()
}

/// One of the things that are there.
pub(crate) fn begun(key: &str) -> JsValue {
    get(&get(&window(), "magpie"), key)
}

/// The adapter; `None` where there is no WebGPU or no adapter.
pub(crate) fn adapter() -> Option<Adapter> {
    let adapter = begun("adapter");
    adapter.is_object().then(|| Adapter { software: get(&adapter, "software").is_truthy() })
}

/// The engine that the page's address asks for, or that suits the adapter.
pub(crate) fn backend() -> Backend {
    let webgpu = begun("backend").as_string().as_deref() == Some(Backend::WebGpu.name());
    if webgpu { Backend::WebGpu } else { Backend::Cpu }
}

/// Absolute address of the bundle's manifest.
pub(crate) fn manifest() -> String {
    begun("manifest").as_string().unwrap_or_default()
}

/// What the files of a backend's engine are named after in this browser.
pub(crate) fn module_name(backend: Backend) -> String {
    let name = begun("moduleName").dyn_into::<Function>();
    let name = name.and_then(|name| name.call1(&JsValue::NULL, &backend.name().into()));
    name.ok().and_then(|name| name.as_string()).unwrap_or_default()
}

/// The worker of a backend, and what it has said so far.
///
/// # Errors
///
/// What the browser says where it starts none.
pub(crate) fn start_worker(backend: Backend) -> Result<(Worker, Vec<JsValue>), JsValue> {
    let start: Function = begun("start").dyn_into()?;
    let engine: Object = start.call1(&JsValue::NULL, &backend.name().into())?.dyn_into()?;
    let early = js_sys::Array::from(&get(&engine, "early"));
    Ok((get(&engine, "worker").dyn_into()?, early.iter().collect()))
}
