//! Pictures that lie on the site: the published samples, and the one that the page's address names.

use wasm_bindgen_futures::JsFuture;
use web_sys::{File, Url};

use crate::view::dom::{fetch, query_parameter, window};

/// The picture that the page's address asks for.
pub(crate) fn asked_for() -> Option<String> {
    query_parameter("image")
}

/// Downloads a picture of this site; `None` where there is none at this address.
pub(crate) async fn fetch_picture(address: &str) -> Option<File> {
    let blob = JsFuture::from(fetch(address).await?.blob().ok()?).await.ok()?;
    File::new_with_blob_sequence(&js_sys::Array::of1(&blob), address).ok()
}

/// Whether an address lies on this site.
pub(crate) fn is_own(address: &str) -> bool {
    let location = window().location();
    let own = |url: Url| location.origin().is_ok_and(|origin| origin == url.origin());
    let base = location.href().unwrap_or_default();
    Url::new_with_base(address, &base).is_ok_and(own)
}

/// Addresses of the published samples.
pub(crate) async fn published() -> Vec<String> {
    names().await.unwrap_or_default()
}

async fn names() -> Option<Vec<String>> {
    let response = fetch("samples.json").await?;
    let json = JsFuture::from(response.json().ok()?).await.ok()?;
    serde_wasm_bindgen::from_value(json).ok()
}
