//! What `www/start.js` has found out and begun before the page's own code was there.

use js_sys::{Function, Object, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_engine::protocol::Backend;
use web_sys::{AbortSignal, Worker};

use crate::app::{Adapter, Choice};
use crate::view::dom::window;

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

/// The engine that is under way: the one that the page's address asks for, or that a visit before has chosen.
pub(crate) fn backend() -> Backend {
    let webgpu = begun("backend").as_string().as_deref() == Some(Backend::WebGpu.name());
    if webgpu { Backend::WebGpu } else { Backend::Cpu }
}

/// Whether the page chooses the engine; not where its address does.
pub(crate) fn chooses() -> bool {
    !begun("wanted").is_string()
}

fn call(key: &str, argument: &JsValue) -> Result<JsValue, JsValue> {
    begun(key).dyn_into::<Function>()?.call1(&JsValue::NULL, argument)
}

/// What a visit before has measured.
pub(crate) fn kept() -> Option<Choice> {
    read_choice(call("kept", &JsValue::UNDEFINED).unwrap_or_default())
}

/// What was measured; `None` where there is nothing.
pub(crate) fn read_choice(choice: JsValue) -> Option<Choice> {
    choice.is_object().then(|| serde_wasm_bindgen::from_value(choice).ok()).flatten()
}

/// Forgets it.
pub(crate) fn forget() {
    // Where it cannot be forgotten, there is nothing.
    let _ = call("forget", &JsValue::UNDEFINED);
}

/// The processor from the next visit on as well; `why` is kept with it.
pub(crate) fn leave(why: &str) {
    // What cannot be kept is found out again.
    let _ = call("leave", &why.into());
}

/// The engine that suits this device and bundle, measured where no visit before has: a promise of what is kept,
/// or of `null` where there is nothing to choose from.
///
/// # Errors
///
/// Where the page's script is not there.
pub(crate) fn choose(signal: &AbortSignal) -> Result<Promise, JsValue> {
    call("choose", signal)?.dyn_into()
}

/// Answers that WebGPU may give in one visit, on a platform that is known to end pages which use it for long.
pub(crate) fn most_answers() -> Option<u32> {
    begun("mostAnswers").as_f64().map(|most| most as u32)
}

/// Says that the page has stopped, and why.
pub(crate) fn tell_end(words: &str) {
    web_sys::console::error_1(&words.into());
    let unable = get(&window(), "unable");
    // Without the script that says it the console has the words.
    if let Ok(say) = get(&unable, "say").dyn_into::<Function>() {
        let _ = say.call2(&unable, &"unable.stopped".into(), &words.into());
    }
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

/// Has the browser keep the site for visits without a network.
///
/// # Errors
///
/// What the browser says where it keeps none.
pub(crate) fn keep_site() -> Result<Promise, JsValue> {
    let keep: Function = begun("keepSite").dyn_into()?;
    keep.call0(&JsValue::NULL)?.dyn_into()
}

/// The worker of a backend, and what it has said so far.
///
/// # Errors
///
/// What the browser says where it starts none.
pub(crate) fn start_worker(
    backend: Backend,
    is_plain: bool,
) -> Result<(Worker, Vec<JsValue>), JsValue> {
    let start: Function = begun("start").dyn_into()?;
    let engine = start.call2(&JsValue::NULL, &backend.name().into(), &is_plain.into())?;
    let engine: Object = engine.dyn_into()?;
    let early = js_sys::Array::from(&get(&engine, "early"));
    Ok((get(&engine, "worker").dyn_into()?, early.iter().collect()))
}
