//! The frame with which the visitor marks a part of the picture, and what listens to fingers, mouse and keys there.

use gloo_events::{EventListener, EventListenerOptions};
use wasm_bindgen::JsCast;
use web_sys::{Element, HtmlElement, KeyboardEvent, PointerEvent};

use super::Sender;
use super::dom::by_id;
use crate::app::{Event, Part, PointEvent};

/// Keys that the frame takes from the page.
const KEYS: [&str; 6] = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Enter", " "];

/// Listens to the picture for as long as the result lives.
pub(crate) fn listen(ask: &Sender) -> Vec<EventListener> {
    let stage: HtmlElement = by_id("stage");
    let mut listeners = Vec::new();
    for (name, read) in [
        ("pointerdown", down as fn(&PointerEvent) -> Option<PointEvent>),
        ("pointermove", |event| Some(moved(event))),
        ("pointerup", |event| Some(up(event))),
        ("pointercancel", |_| Some(PointEvent::Canceled)),
    ] {
        let ask = ask.clone();
        listeners.push(EventListener::new(&stage, name, move |event| {
            if let Some(event) = event.dyn_ref().and_then(read) {
                ask(Event::Point(event));
            }
        }));
    }
    let options = EventListenerOptions::enable_prevent_default();
    let asking = ask.clone();
    let frame: HtmlElement = by_id("frame");
    listeners.push(EventListener::new_with_options(&frame, "keydown", options, move |event| {
        let Some(key) = event.dyn_ref::<KeyboardEvent>() else { return };
        if KEYS.contains(&key.key().as_str()) {
            event.prevent_default();
        }
        asking(Event::Point(PointEvent::Key(key.key(), key.shift_key())));
    }));
    for (id, event) in
        [("mark", PointEvent::Begin), ("look", PointEvent::Look), ("unmark", PointEvent::Leave)]
    {
        let ask = ask.clone();
        let button: HtmlElement = by_id(id);
        listeners.push(EventListener::new(&button, "click", move |_| {
            ask(Event::Point(event.clone()));
        }));
    }
    listeners
}

/// Shows or hides the frame and its buttons.
pub(crate) fn mark(on: bool) {
    let _ = by_id::<HtmlElement>("stage").class_list().toggle_with_force("marking", on);
    for (id, shown) in [("mark", !on), ("look", on), ("unmark", on), ("frame", on)] {
        by_id::<HtmlElement>(id).set_hidden(!shown);
    }
}

/// Puts the frame where it belongs.
pub(crate) fn place([left, top, right, bottom]: Part) {
    let frame: HtmlElement = by_id("frame");
    for (property, part) in
        [("left", left), ("top", top), ("width", right - left), ("height", bottom - top)]
    {
        let _ = frame.style().set_property(property, &format!("{:.2}%", part * 100.0));
    }
}

/// Hears a finger outside of the picture, too.
pub(crate) fn capture(pointer: i32) {
    // A finger that is gone already draws no more.
    let _ = by_id::<HtmlElement>("stage").set_pointer_capture(pointer);
}

/// In pixels of the window.
fn at(event: &PointerEvent) -> (f64, f64) {
    (f64::from(event.client_x()), f64::from(event.client_y()))
}

/// As parts of the picture's sides.
fn spot(event: &PointerEvent) -> (f64, f64) {
    let rect = by_id::<HtmlElement>("stage").get_bounding_client_rect();
    let part = |at: f64, from: f64, length: f64| ((at - from) / length.max(1.0)).clamp(0.0, 1.0);
    let (x, y) = at(event);
    (part(x, rect.left(), rect.width()), part(y, rect.top(), rect.height()))
}

fn down(event: &PointerEvent) -> Option<PointEvent> {
    (event.button() == 0 && event.is_primary()).then(|| PointEvent::Down {
        pointer: event.pointer_id(),
        at: at(event),
        part: spot(event),
        finger: event.pointer_type() == "touch",
    })
}

fn moved(event: &PointerEvent) -> PointEvent {
    PointEvent::Moved { pointer: event.pointer_id(), at: at(event), part: spot(event) }
}

fn up(event: &PointerEvent) -> PointEvent {
    let target = event.target().and_then(|target| target.dyn_into::<Element>().ok());
    let rect = by_id::<HtmlElement>("stage").get_bounding_client_rect();
    PointEvent::Up {
        pointer: event.pointer_id(),
        on_box: target.is_some_and(|target| target.class_list().contains("box")),
        sides: (rect.width(), rect.height()),
    }
}
