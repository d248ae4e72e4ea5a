//! A worker beside the engine's, in which a gallery learns anew: the module that makes sites has all that it takes.

use js_sys::{Function, Promise, Reflect, Uint8Array};
use models::gallery::Gallery;
use wasm_bindgen::{JsCast, JsValue};

use crate::scope::{scope, within};

/// Milliseconds that the worker may take, download included.
const PATIENCE: i32 = 120_000;

/// The gallery of a file with what it has learned anew; `None` where nothing better was found, or where the browser has no
/// such worker: then it stays as it is.
pub(crate) async fn learned(gallery: &[u8]) -> Option<Gallery> {
    let file = asked(gallery).await.ok()?.dyn_into::<Uint8Array>().ok()?;
    Gallery::from_bytes(&file.to_vec()).ok()
}

/// `worker.js` knows where its own file lies and starts the worker.
async fn asked(gallery: &[u8]) -> Result<JsValue, JsValue> {
    let learn: Function = Reflect::get(&scope(), &"learn".into())?.dyn_into()?;
    let coming: Promise = learn.call1(&scope(), &Uint8Array::from(gallery))?.dyn_into()?;
    within(coming, PATIENCE).await
}
