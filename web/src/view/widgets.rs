//! Small parts of the page that several others show: the status line, a thumbnail.

use js_sys::{Array, Uint8Array};
use wasm_bindgen::JsCast;
use web_sys::{Blob, BlobPropertyBag, HtmlElement, HtmlImageElement, Url};

use super::dom::{by_id, element};
use super::text;
use crate::app::{Look, Sentence};

/// Says what the page is doing.
pub(crate) fn status(sentence: &Sentence, look: Look) {
    let line: HtmlElement = by_id("status");
    line.set_text_content(Some(&text::status(sentence)));
    let words = text::own_words(sentence).unwrap_or_default();
    by_id::<HtmlElement>("own-words").set_text_content(Some(&words));
    line.set_class_name(match look {
        Look::Busy => "busy",
        Look::Done => "done",
        Look::Failed => "failed",
    });
}

/// An encoded picture.
pub(crate) fn thumbnail(encoded: &[u8]) -> HtmlElement {
    let image: HtmlImageElement = element("img", "thumbnail", "").unchecked_into();
    image.set_alt("");
    let parts = Array::of1(&Uint8Array::from(encoded));
    let options = BlobPropertyBag::new();
    options.set_type("image/jpeg");
    if let Ok(blob) = Blob::new_with_u8_array_sequence_and_options(&parts, &options)
        && let Ok(url) = Url::create_object_url_with_blob(&blob)
    {
        image.set_src(&url);
        // The address is needed until the picture is there, or is found to be none.
        let once = wasm_bindgen::closure::Closure::once_into_js(move || {
            let _ = Url::revoke_object_url(&url);
        });
        image.set_onload(Some(once.unchecked_ref()));
        image.set_onerror(Some(once.unchecked_ref()));
    }
    image.unchecked_into()
}
