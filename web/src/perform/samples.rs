//! Pictures that lie on the site: the published samples, and the one that the page's address names.

use std::rc::Rc;

use gloo_events::EventListener;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{File, HtmlElement, Url};

use crate::dom::{append, by_id, element, fetch, query_parameter, set_attributes, window};
use crate::text;

/// Where a picture of the site goes; `None` where it could not be had.
type Deliver = Rc<dyn Fn(Option<File>)>;

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

/// Offers the published sample pictures.
pub(crate) async fn offer(deliver: Deliver) {
    let names = published().await.unwrap_or_default();
    by_id::<HtmlElement>("sample-section").set_hidden(names.is_empty());
    let strip: HtmlElement = by_id("samples");
    for (index, name) in names.into_iter().enumerate() {
        let button = element("button", "sample", "");
        set_attributes(&button, &[("type", "button"), ("aria-label", &text::sample(index + 1))]);
        let image = element("img", "", "");
        set_attributes(&image, &[("src", &name), ("alt", "")]);
        append(&button, &[&image]);
        append(&strip, &[&button]);
        let deliver = deliver.clone();
        let on_click = EventListener::new(&button, "click", move |_| {
            let (deliver, name) = (deliver.clone(), name.clone());
            spawn_local(async move { deliver(fetch_picture(&name).await) });
        });
        // As long as the button.
        on_click.forget();
    }
}

/// Names the sample buttons in the language that was chosen since.
pub(crate) fn rename() {
    let strip: HtmlElement = by_id("samples");
    let buttons = strip.children();
    for index in 0..buttons.length() {
        if let Some(button) = buttons.item(index) {
            let _ = button.set_attribute("aria-label", &text::sample(index as usize + 1));
        }
    }
}

async fn published() -> Option<Vec<String>> {
    let response = fetch("samples.json").await?;
    let json = JsFuture::from(response.json().ok()?).await.ok()?;
    serde_wasm_bindgen::from_value(json).ok()
}
