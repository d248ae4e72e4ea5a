//! Pixels of what the browser shows, by `www/package/pixels.js`, which the package reads them with, too.

use js_sys::{Function, Object, Promise, Reflect, Uint8Array};
use serde_bytes::ByteBuf;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use wasm_engine::protocol::Picture;
use web_sys::{File, HtmlCanvasElement, ImageBitmap};

use super::startup::begun;

/// Pixels of a source as it is at the time of the call, drawn on `canvas` where one is given; `None` where the
/// browser gives none, or others than those that it shows.
pub(crate) async fn read(source: &JsValue, canvas: Option<&HtmlCanvasElement>) -> Option<Picture> {
    let options = Object::new();
    if let Some(canvas) = canvas {
        Reflect::set(&options, &"canvas".into(), canvas).ok()?;
    }
    let read: Function = begun("readPixels").dyn_into().ok()?;
    let promise: Promise = read.call2(&JsValue::NULL, source, &options).ok()?.dyn_into().ok()?;
    let pixels = JsFuture::from(promise).await.ok()?;
    let value = |name: &str| Reflect::get(&pixels, &name.into()).ok();
    let side = |name: &str| Some(value(name)?.as_f64()? as u32);
    let rgba: Uint8Array = value("rgba")?.dyn_into().ok()?;
    Some(Picture::Pixels {
        width: side("width")?,
        height: side("height")?,
        rgba: ByteBuf::from(rgba.to_vec()),
    })
}

/// A file as the browser decodes it, upright as the engine sees it; `None` where it cannot.
pub(crate) async fn decode_upright(file: &File, bytes: &Uint8Array) -> Option<ImageBitmap> {
    let decode: Function = begun("decodeUpright").dyn_into().ok()?;
    let promise: Promise = decode.call2(&JsValue::NULL, file, bytes).ok()?.dyn_into().ok()?;
    JsFuture::from(promise).await.ok()?.dyn_into().ok()
}
