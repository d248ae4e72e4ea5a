//! What `www/studio/start.js` does for the studio.

use js_sys::{Array, Function, Promise, Reflect, Uint8Array};
use page::dom::window;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{File, HtmlElement};

use crate::app::{Keeper, Prepared};
use crate::project::PhotoId;

pub(super) fn get(object: &JsValue, key: &str) -> JsValue {
    Reflect::get(object, &JsValue::from_str(key)).unwrap_or_default()
}

/// Calls one of its functions.
pub(super) fn call(name: &str, arguments: &[JsValue]) -> Result<JsValue, JsValue> {
    let function: Function = get(&get(&window(), "studio"), name).dyn_into()?;
    function.apply(&JsValue::NULL, &arguments.iter().collect::<Array>())
}

/// Calls one of its functions, and waits for what that promises.
pub(super) async fn ask(name: &str, arguments: &[JsValue]) -> Result<JsValue, JsValue> {
    JsFuture::from(call(name, arguments)?.dyn_into::<Promise>()?).await
}

/// Who keeps the project, and what was kept.
pub(super) async fn open() -> (Keeper, Option<Vec<u8>>) {
    let opened = ask("open", &[]).await.unwrap_or_default();
    let keeper = match get(&opened, "keeper").as_string().as_deref() {
        Some("own") => Keeper::Own,
        Some("elsewhere") => Keeper::Elsewhere,
        _ => Keeper::Nowhere,
    };
    let project = get(&opened, "project").dyn_into::<Uint8Array>().ok();
    (keeper, project.map(|bytes| bytes.to_vec()))
}

/// Keeps the project; whether there was room.
pub(super) async fn save(bytes: &[u8]) -> bool {
    let kept = ask("save", &[Uint8Array::from(bytes).into()]).await;
    kept.is_ok_and(|kept| kept.is_truthy())
}

/// Looks at a photograph.
pub(super) async fn prepare(file: &File) -> Prepared {
    let Ok(prepared) = ask("prepare", &[file.into()]).await else { return Prepared::Broken };
    let id = get(&prepared, "id").dyn_into::<Uint8Array>().ok();
    let id = id.and_then(|id| <[u8; 16]>::try_from(id.to_vec()).ok());
    match id {
        Some(id) => Prepared::Photo(PhotoId(id), get(&prepared, "kept").is_truthy()),
        None => Prepared::Broken,
    }
}

/// Shows the small picture of a photograph in an image.
pub(super) fn show_picture(image: &HtmlElement, photo: PhotoId) {
    // Without it the place stays empty.
    let _ = call("show", &[image.into(), photo.to_string().into()]);
}

/// Forgets every photograph but these.
pub(super) async fn keep_only(photos: &[PhotoId]) {
    let ids: Array = photos.iter().map(|id| JsValue::from_str(&id.to_string())).collect();
    // What stays takes room, and is tried again at the next visit.
    let _ = ask("keepOnly", &[ids.into()]).await;
}

/// Files that were chosen, dropped or pasted, each with its folders.
pub(super) async fn given(source: Result<JsValue, JsValue>) -> Vec<(File, String)> {
    let given = match source.and_then(JsCast::dyn_into::<Promise>) {
        Ok(given) => JsFuture::from(given).await.unwrap_or_default(),
        Err(_) => JsValue::UNDEFINED,
    };
    let Ok(given) = given.dyn_into::<Array>() else { return Vec::new() };
    let file = |given: JsValue| {
        let file: File = get(&given, "file").dyn_into().ok()?;
        // Composed, so that a folder copied from a system that decomposes names is the class that it was there.
        let path = js_sys::JsString::from(get(&given, "path")).normalize("NFC");
        Some((file, String::from(path)))
    };
    given.iter().filter_map(file).collect()
}

/// Asks what is given, at once: browsers forget what was dropped when its event has ended.
pub(super) fn take(source: &JsValue) -> Result<JsValue, JsValue> {
    call("given", std::slice::from_ref(source))
}
