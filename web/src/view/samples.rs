//! The strip of published sample pictures.

use gloo_events::EventListener;
use web_sys::HtmlElement;

use super::dom::{append, by_id, element, set_attributes};
use super::{Sender, text};
use crate::app::{Event, Given};

/// Offers the sample pictures at these addresses.
pub(crate) fn offer(addresses: Vec<String>, ask: &Sender) {
    by_id::<HtmlElement>("sample-section").set_hidden(addresses.is_empty());
    let strip: HtmlElement = by_id("samples");
    for (index, address) in addresses.into_iter().enumerate() {
        let button = element("button", "sample", "");
        set_attributes(&button, &[("type", "button"), ("aria-label", &text::sample(index + 1))]);
        let image = element("img", "", "");
        set_attributes(&image, &[("src", &address), ("alt", "")]);
        append(&button, &[&image]);
        append(&strip, &[&button]);
        let ask = ask.clone();
        let on_click = EventListener::new(&button, "click", move |_| {
            ask(Event::Given(Given::Address { address: address.clone(), own: true }));
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
