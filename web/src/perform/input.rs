//! Ways in which a picture reaches the page.

use gloo_events::{EventListener, EventListenerOptions};
use wasm_bindgen::JsCast;
use web_sys::{
    ClipboardEvent, DataTransfer, DragEvent, Element, Event, File, HtmlElement, HtmlInputElement,
};

use crate::view::dom::{by_id, document};

/// What a visitor gives.
pub(crate) enum Gift {
    /// A file, of whatever kind.
    File(File),
    /// The address of something.
    Address(String),
    /// Neither.
    Nothing,
}

/// Where it goes.
type Deliver = std::rc::Rc<dyn Fn(Gift)>;

/// Listens for chosen, dropped and pasted things for as long as the result lives.
pub(crate) fn listen(deliver: Deliver) -> Vec<EventListener> {
    let mut listeners = Vec::new();
    let input: HtmlInputElement = by_id("file");
    listeners.push(EventListener::new(&input, "change", {
        let (deliver, input) = (deliver.clone(), input.clone());
        move |_| {
            if let Some(file) = input.files().and_then(|files| files.get(0)) {
                deliver(Gift::File(file));
            }
            // The same file may be chosen again.
            input.set_value("");
        }
    }));
    let zone: HtmlElement = by_id("drop");
    let options = EventListenerOptions::enable_prevent_default();
    for name in ["dragenter", "dragover", "dragleave", "drop"] {
        let (deliver, zone) = (deliver.clone(), zone.clone());
        listeners.push(EventListener::new_with_options(
            &document(),
            name,
            options,
            move |event: &Event| {
                event.prevent_default();
                let over = matches!(event.type_().as_str(), "dragenter" | "dragover");
                let _ = zone.class_list().toggle_with_force("over", over);
                if event.type_() == "drop" {
                    let data = event.dyn_ref::<DragEvent>().and_then(DragEvent::data_transfer);
                    deliver(data.as_ref().map_or(Gift::Nothing, given));
                }
            },
        ));
    }
    listeners.push(EventListener::new(&document(), "paste", move |event| {
        // Text for a field is for that field.
        let target = event.target().and_then(|target| target.dyn_into::<Element>().ok());
        if target.is_some_and(|element| element.tag_name() == "INPUT") {
            return;
        }
        let data = event.dyn_ref::<ClipboardEvent>().and_then(ClipboardEvent::clipboard_data);
        match data.as_ref().map_or(Gift::Nothing, given) {
            // Somebody pastes something else for another reason.
            Gift::Nothing => {}
            given => deliver(given),
        }
    }));
    listeners
}

/// The first file, or else the first address.
fn given(data: &DataTransfer) -> Gift {
    if let Some(file) = data.files().and_then(|files| files.get(0)) {
        return Gift::File(file);
    }
    for kind in ["text/uri-list", "text/plain"] {
        let text = data.get_data(kind).unwrap_or_default();
        let line =
            text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        if let Some(line) = line.filter(|line| line.contains('/') && !line.contains(' ')) {
            return Gift::Address(line.to_owned());
        }
    }
    Gift::Nothing
}
