//! For people who want to know why: thresholds to move, and what the network was given.

use gloo_events::EventListener;
use wasm_engine::protocol::{Recognized, Request, Thresholds};
use web_sys::{HtmlButtonElement, HtmlDetailsElement, HtmlElement, HtmlInputElement};

use super::dom::{append, by_id, document, element, set_attributes};
use super::language::say;
use super::{Sender, card, text, widgets};
use crate::app::Event;

/// The sliders and what stands beside them.
const SLIDERS: [(&str, &str); 2] =
    [("min-similarity", "min-similarity-value"), ("min-score", "min-score-value")];

/// Listens to the panel for as long as the result lives.
pub(crate) fn listen(ask: &Sender) -> Vec<EventListener> {
    let mut listeners = Vec::new();
    for (slider, value) in SLIDERS {
        let slider: HtmlInputElement = by_id(slider);
        // The number moves along; the answers follow once the hand is taken off.
        listeners
            .push(EventListener::new(&slider.clone(), "input", move |_| write(&slider, value)));
    }
    for (slider, _) in SLIDERS {
        let ask = ask.clone();
        let slider: HtmlInputElement = by_id(slider);
        listeners.push(EventListener::new(&slider, "change", move |_| {
            let [min_similarity, min_score] = SLIDERS
                .map(|(slider, _)| by_id::<HtmlInputElement>(slider).value_as_number() as f32);
            ask(Event::Ask(Request::Tune(Thresholds { min_similarity, min_score })));
        }));
    }
    let button: HtmlButtonElement = by_id("as-published");
    let asking = ask.clone();
    listeners.push(EventListener::new(&button, "click", move |_| asking(Event::AsPublished)));
    let panel: HtmlDetailsElement = by_id("inside");
    let ask = ask.clone();
    listeners.push(EventListener::new(&panel.clone(), "toggle", move |_| {
        ask(Event::Inside(panel.open()));
    }));
    listeners
}

/// Moves the sliders to where the engine's thresholds are; `published` says whether the bundle has the same.
pub(crate) fn show_thresholds(thresholds: Thresholds, published: bool) {
    for ((slider, value), number) in
        SLIDERS.into_iter().zip([thresholds.min_similarity, thresholds.min_score])
    {
        let slider: HtmlInputElement = by_id(slider);
        slider.set_value(&format!("{number:.2}"));
        write(&slider, value);
    }
    by_id::<HtmlButtonElement>("as-published").set_disabled(published);
}

fn write(slider: &HtmlInputElement, value: &str) {
    by_id::<HtmlElement>(value).set_text_content(Some(&slider.value()));
}

/// Lists the objects of a picture, with room for what the network was given of each.
pub(crate) fn look(result: Option<&Recognized>) {
    let list: HtmlElement = by_id("crops");
    list.set_text_content(None);
    let Some(result) = result else { return };
    for (index, object) in result.objects.iter().enumerate() {
        let item = element("li", "crop", "");
        set_attributes(&item, &[("id", &id(result.picture, index))]);
        // The network's input is stretched; people see it as it is in the picture.
        let [x1, y1, x2, y2] = object.bbox;
        let aspect = format!("{:.3}", (x2 - x1) / (y2 - y1).max(1.0));
        let _ = item.style().set_property("--aspect", &aspect);
        let facts = element("div", "facts", "");
        // The whole picture has no frame, and so no number.
        let name = if card::is_whole(result, object) {
            say("whole")
        } else {
            let number = card::number(result, index);
            append(&facts, &[&element("span", "number", &number.to_string())]);
            text::crop_of(number)
        };
        set_attributes(&item, &[("data-name", &name)]);
        for answer in &object.answers {
            let near = format!("{:.3} {}", answer.similarity, answer.label);
            append(&facts, &[&element("span", "near", &near)]);
        }
        append(&item, &[&facts]);
        append(&list, &[&item]);
    }
}

/// Shows what the network was given of an object.
pub(crate) fn cropped(picture: u32, object: usize, bytes: &[u8]) {
    let place = document().get_element_by_id(&id(picture, object));
    if let Some(item) = place.filter(|_| !bytes.is_empty()) {
        let image = widgets::thumbnail(bytes);
        let name = item.get_attribute("data-name").unwrap_or_default();
        set_attributes(&image, &[("alt", &name)]);
        let _ = item.prepend_with_node_1(&image);
    }
}

/// An answer may come when its picture is not shown any more.
fn id(picture: u32, object: usize) -> String {
    format!("crop-{picture}-{object}")
}
