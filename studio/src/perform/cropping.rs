//! A photograph as a whole: which part of it the engine has found, and which one its owner chooses, by pointer or by
//! numbers.

use std::rc::Rc;

use gloo_events::{EventListener, EventListenerOptions};
use page::dom::by_id;
use page::language::say;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::spawn_local;
use web_sys::{HtmlDialogElement, HtmlElement, HtmlInputElement, PointerEvent};

use super::{Studio, browser, deliver, engine};
use crate::app::Event;
use crate::project::{Part, PhotoId};

/// The fields of the edges.
const EDGES: [&str; 4] = ["crop-left", "crop-upper", "crop-right", "crop-lower"];

/// The photograph that is shown.
pub(crate) struct Shown {
    photo: PhotoId,
    address: String,
    /// Where the pointer went down.
    from: Option<[f64; 2]>,
    /// Corners of the part, as shares.
    corners: Option<[f64; 4]>,
}

fn dialog() -> HtmlDialogElement {
    by_id("crop")
}

/// Shows a photograph.
pub(super) fn open(studio: &Rc<Studio>, photo: PhotoId) {
    let Some((name, part)) = studio.photo(photo) else { return };
    by_id::<HtmlElement>("crop-name").set_text_content(Some(&name));
    by_id::<HtmlElement>("crop-found").set_hidden(true);
    by_id::<HtmlElement>("crop-says").set_text_content(Some(&say("crop.hint")));
    let corners = part.map(Part::shares);
    let shown = Shown { photo, address: String::new(), from: None, corners };
    studio.shown.replace(Some(shown));
    show(corners, true);
    if dialog().show_modal().is_err() {
        dialog().set_open(true);
    }
    let studio = studio.clone();
    spawn_local(async move {
        let address = browser::ask("addressOfWhole", &[photo.to_string().into()]).await;
        let Some(address) = address.ok().and_then(|address| address.as_string()) else { return };
        let image: HtmlElement = by_id("crop-image");
        let _ = image.set_attribute("src", &address);
        if let Some(shown) = studio.shown.borrow_mut().as_mut() {
            shown.address = address;
        }
        // An engine is not opened for this alone.
        if !studio.has_engine() {
            return;
        }
        let found = engine::find(photo).await;
        let is_same = studio.shown.borrow().as_ref().is_some_and(|shown| shown.photo == photo);
        if let Some(found) = found.filter(|_| is_same) {
            place("crop-found", Some(found));
            by_id::<HtmlElement>("crop-says").set_text_content(Some(&say("crop.found")));
        }
    });
}

/// Puts a frame around a part of the photograph.
fn place(frame: &str, corners: Option<[f64; 4]>) {
    let frame: HtmlElement = by_id(frame);
    frame.set_hidden(corners.is_none());
    let Some([x1, y1, x2, y2]) = corners else { return };
    let sides = [
        ("left", x1.min(x2)),
        ("top", y1.min(y2)),
        ("width", (x2 - x1).abs()),
        ("height", (y2 - y1).abs()),
    ];
    for (side, share) in sides {
        // A browser takes any percentage.
        let _ = frame.style().set_property(side, &format!("{:.2}%", 100.0 * share));
    }
}

fn show(corners: Option<[f64; 4]>, writes: bool) {
    place("crop-part", corners);
    if writes {
        let edges = corners.unwrap_or([0.0, 0.0, 1.0, 1.0]);
        for (field, share) in EDGES.into_iter().zip(edges) {
            by_id::<HtmlInputElement>(field).set_value(&format!("{:.0}", 100.0 * share));
        }
    }
}

/// Where a pointer is on the photograph, as shares.
fn at(event: &PointerEvent) -> [f64; 2] {
    let bounds = by_id::<HtmlElement>("crop-stage").get_bounding_client_rect();
    let share = |place: f64, from: f64, side: f64| ((place - from) / side.max(1.0)).clamp(0.0, 1.0);
    [
        share(event.client_x().into(), bounds.left(), bounds.width()),
        share(event.client_y().into(), bounds.top(), bounds.height()),
    ]
}

fn pointed(studio: &Studio, event: &PointerEvent) {
    let mut shown = studio.shown.borrow_mut();
    let Some(shown) = shown.as_mut() else { return };
    match event.type_().as_str() {
        "pointerdown" => {
            shown.from = Some(at(event));
            let stage: HtmlElement = by_id("crop-stage");
            // Without it the frame ends where the photograph does.
            let _ = stage.set_pointer_capture(event.pointer_id());
        }
        "pointermove" => {
            let Some([x1, y1]) = shown.from else { return };
            let [x2, y2] = at(event);
            shown.corners = Some([x1.min(x2), y1.min(y2), x1.max(x2), y1.max(y2)]);
            show(shown.corners, true);
        }
        _ => shown.from = None,
    }
}

/// The part that the fields name.
fn written() -> Option<[f64; 4]> {
    let mut corners = [0.0; 4];
    for (corner, field) in corners.iter_mut().zip(EDGES) {
        let percent: f64 = by_id::<HtmlInputElement>(field).value().parse().ok()?;
        *corner = (percent / 100.0).clamp(0.0, 1.0);
    }
    Some(corners)
}

fn close(studio: &Rc<Studio>, choose: impl FnOnce(&Shown) -> Option<Option<Part>>) {
    let chosen =
        studio.shown.borrow().as_ref().and_then(|shown| Some((shown.photo, choose(shown)?)));
    dialog().close();
    if let Some((photo, part)) = chosen {
        deliver(studio, Event::Crop(photo, part));
    }
}

/// Listens for as long as the result lives.
pub(super) fn connect(studio: &Rc<Studio>, listeners: &mut Vec<EventListener>) {
    let stage: HtmlElement = by_id("crop-stage");
    for name in ["pointerdown", "pointermove", "pointerup", "pointercancel"] {
        let hear = studio.clone();
        let options = EventListenerOptions::enable_prevent_default();
        listeners.push(EventListener::new_with_options(&stage, name, options, move |event| {
            event.prevent_default();
            if let Some(event) = event.dyn_ref::<PointerEvent>() {
                pointed(&hear, event);
            }
        }));
    }
    for field in EDGES {
        let hear = studio.clone();
        let field: HtmlInputElement = by_id(field);
        listeners.push(EventListener::new(&field, "input", move |_| {
            let corners = written();
            if let (Some(shown), Some(_)) = (hear.shown.borrow_mut().as_mut(), corners) {
                shown.corners = corners;
                show(corners, false);
            }
        }));
    }
    let mut on_click = |id: &str, act: fn(&Rc<Studio>)| {
        let studio = studio.clone();
        let button: HtmlElement = by_id(id);
        listeners.push(EventListener::new(&button, "click", move |_| act(&studio)));
    };
    on_click("crop-use", |studio| {
        close(studio, |shown| Some(shown.corners.and_then(Part::between)));
    });
    on_click("crop-whole", |studio| close(studio, |_| Some(None)));
    on_click("crop-close", |studio| close(studio, |_| None));
    let hear = studio.clone();
    listeners.push(EventListener::new(&dialog(), "close", move |_| {
        let Some(shown) = hear.shown.take() else { return };
        let image: HtmlElement = by_id("crop-image");
        let _ = image.remove_attribute("src");
        let _ = browser::call("letGo", &[JsValue::from_str(&shown.address)]);
        lead_back(shown.photo);
    }));
}

/// The focus goes back to the photograph.
fn lead_back(photo: PhotoId) {
    let query = format!("#classes [data-id='{photo}']");
    let shown = page::dom::document().query_selector(&query).ok().flatten();
    if let Some(shown) = shown.and_then(|shown| shown.dyn_into::<HtmlElement>().ok()) {
        let _ = shown.focus();
    }
}
