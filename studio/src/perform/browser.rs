//! What `www/studio/start.js` does for the studio.

use js_sys::{Array, Function, Promise, Reflect, Uint8Array};
use page::dom::window;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::HtmlElement;

use crate::app::{Keeper, Prepared, Shelved};
use crate::project::PhotoId;

pub(super) fn get(object: &JsValue, key: &str) -> JsValue {
    Reflect::get(object, &JsValue::from_str(key)).unwrap_or_default()
}

fn text(object: &JsValue, key: &str) -> String {
    get(object, key).as_string().unwrap_or_default()
}

/// Calls one of its functions.
pub(super) fn call(name: &str, arguments: &[JsValue]) -> Result<JsValue, JsValue> {
    let function: Function = get(&get(&window(), "studio"), name).dyn_into()?;
    function.apply(&JsValue::NULL, &arguments.iter().collect::<Array>())
}

/// What a call promises.
pub(super) async fn settled(called: Result<JsValue, JsValue>) -> Result<JsValue, JsValue> {
    JsFuture::from(called?.dyn_into::<Promise>()?).await
}

/// Calls one of its functions, and waits for what that promises.
pub(super) async fn ask(name: &str, arguments: &[JsValue]) -> Result<JsValue, JsValue> {
    settled(call(name, arguments)).await
}

/// What an error says.
pub(super) fn words(error: &JsValue) -> String {
    let message = get(error, "message").as_string();
    message.or_else(|| error.as_string()).unwrap_or_else(|| format!("{error:?}"))
}

/// Who keeps the project, what was kept, and which projects there are.
pub(super) async fn open() -> (Keeper, Option<Vec<u8>>, Vec<Shelved>) {
    let opened = ask("open", &[]).await.unwrap_or_default();
    let keeper = match text(&opened, "keeper").as_str() {
        "own" => Keeper::Own,
        "elsewhere" => Keeper::Elsewhere,
        _ => Keeper::Nowhere,
    };
    let project = get(&opened, "project").dyn_into::<Uint8Array>().ok();
    let projects = get(&opened, "projects").dyn_into::<Array>().unwrap_or_default();
    let shelved = |project: JsValue| Shelved {
        id: text(&project, "id"),
        title: text(&project, "title"),
        open: get(&project, "open").is_truthy(),
    };
    (keeper, project.map(|bytes| bytes.to_vec()), projects.iter().map(shelved).collect())
}

/// Keeps the project; whether there was room.
pub(super) async fn save(bytes: &[u8], title: &str) -> bool {
    let kept = ask("save", &[Uint8Array::from(bytes).into(), title.into()]).await;
    kept.is_ok_and(|kept| kept.is_truthy())
}

/// Keeps the project while the page ends. A browser that has no room for that keeps what it had.
pub(super) fn save_now(bytes: &[u8]) {
    let _ = call("saveNow", &[Uint8Array::from(bytes).into()]);
}

/// Opens another project, or a new one: the page is loaded again.
pub(super) async fn choose(to: Option<&str>) -> Result<(), JsValue> {
    ask("choose", &[to.map_or(JsValue::UNDEFINED, JsValue::from)]).await.map(drop)
}

/// Looks at a photograph.
pub(super) async fn prepare(file: &JsValue) -> Prepared {
    let Ok(prepared) = ask("prepare", std::slice::from_ref(file)).await else {
        return Prepared::Broken;
    };
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

/// Files that were chosen, dropped or pasted, each with its folders; those of archives give themselves when they are
/// asked.
pub(super) async fn given(source: Result<JsValue, JsValue>) -> Vec<(JsValue, String)> {
    let given = settled(source).await.unwrap_or_default();
    let Ok(given) = given.dyn_into::<Array>() else { return Vec::new() };
    let file = |given: JsValue| {
        // Composed, so that a folder copied from a system that decomposes names is the class that it was there.
        let path = js_sys::JsString::from(get(&given, "path")).normalize("NFC");
        (get(&given, "file"), String::from(path))
    };
    given.iter().map(file).collect()
}

/// Asks what is given, at once: browsers forget what was dropped when its event has ended.
pub(super) fn take(source: &JsValue) -> Result<JsValue, JsValue> {
    call("given", std::slice::from_ref(source))
}
