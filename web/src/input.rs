//! Ways in which a picture reaches the page.

use gloo_events::{EventListener, EventListenerOptions};
use wasm_bindgen::JsCast;
use web_sys::{ClipboardEvent, DragEvent, Event, File, FileList, HtmlElement, HtmlInputElement};

use crate::dom::{by_id, document};

/// Where input goes: a file, or nothing usable.
type Deliver = std::rc::Rc<dyn Fn(Option<File>)>;

/// Listens for chosen, dropped and pasted files for as long as the result lives.
pub(crate) fn listen(deliver: Deliver) -> Vec<EventListener> {
    let mut listeners = Vec::new();
    let input: HtmlInputElement = by_id("file");
    listeners.push(EventListener::new(&input, "change", {
        let (deliver, input) = (deliver.clone(), input.clone());
        move |_| {
            if let Some(file) = first(input.files().as_ref()) {
                deliver(Some(file));
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
                    let files = event
                        .dyn_ref::<DragEvent>()
                        .and_then(DragEvent::data_transfer)
                        .and_then(|data| data.files());
                    deliver(first(files.as_ref()));
                }
            },
        ));
    }
    listeners.push(EventListener::new(&document(), "paste", move |event| {
        let files = event
            .dyn_ref::<ClipboardEvent>()
            .and_then(ClipboardEvent::clipboard_data)
            .and_then(|data| data.files());
        if let Some(file) = first(files.as_ref()) {
            deliver(Some(file));
        }
    }));
    listeners
}

fn first(files: Option<&FileList>) -> Option<File> {
    files.and_then(|files| files.get(0))
}
