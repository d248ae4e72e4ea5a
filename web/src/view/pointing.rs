//! What the visitor points at in the picture: a frame that is drawn, a place that is tapped or clicked, a frame
//! that is moved by keys.

use std::cell::Cell;
use std::rc::Rc;

use gloo_events::{EventListener, EventListenerOptions};
use wasm_bindgen::JsCast;
use web_sys::{Element, Event, HtmlElement, KeyboardEvent, PointerEvent};

use crate::command::{Command, Part, Sender};
use crate::dom::by_id;

/// Pixels of the window that a finger moves before it draws.
const STEADY: f64 = 8.0;
/// Sides of the squares around a place that is tapped, as parts of the picture's shorter side.
const SQUARES: [f64; 3] = [0.25, 0.45, 0.75];
/// Least side of a frame, as a part of the picture's.
const LEAST: f64 = 0.02;
/// How far a key moves a frame, as a part of the picture's side.
const STEP: f64 = 0.02;
/// The frame that keys begin with.
const MIDDLE: Part = [0.3, 0.3, 0.7, 0.7];

/// A finger, or a mouse's button, that is down.
#[derive(Clone, Copy)]
struct Stroke {
    pointer: i32,
    /// Where it came down, as parts of the picture's sides.
    from: (f64, f64),
    /// The same in pixels of the window.
    at: (f64, f64),
    /// Whether it may draw: a finger moves the page unless the visitor marks.
    draws: bool,
    drawing: bool,
}

#[derive(Clone)]
struct Pointing {
    stroke: Rc<Cell<Option<Stroke>>>,
    part: Rc<Cell<Part>>,
    ask: Sender,
}

/// Listens to the picture for as long as the result lives.
pub(crate) fn listen(ask: &Sender) -> Vec<EventListener> {
    let pointing = Pointing {
        stroke: Rc::new(Cell::new(None)),
        part: Rc::new(Cell::new(MIDDLE)),
        ask: ask.clone(),
    };
    let stage: HtmlElement = by_id("stage");
    let mut listeners = Vec::new();
    for (name, act) in [
        ("pointerdown", Pointing::down as fn(&Pointing, &PointerEvent)),
        ("pointermove", Pointing::moved),
        ("pointerup", Pointing::up),
        ("pointercancel", Pointing::cancelled),
    ] {
        let pointing = pointing.clone();
        listeners.push(EventListener::new(&stage, name, move |event| {
            if let Some(event) = event.dyn_ref() {
                act(&pointing, event);
            }
        }));
    }
    let options = EventListenerOptions::enable_prevent_default();
    let keys = pointing.clone();
    let frame: HtmlElement = by_id("frame");
    listeners.push(EventListener::new_with_options(&frame, "keydown", options, move |event| {
        if let Some(key) = event.dyn_ref() {
            keys.key(event, key);
        }
    }));
    for (id, act) in [
        ("mark", (|pointing| pointing.begin()) as fn(&Pointing)),
        ("look", |pointing| pointing.look(vec![pointing.part.get()])),
        ("unmark", |_| end()),
    ] {
        let pointing = pointing.clone();
        let button: HtmlElement = by_id(id);
        listeners.push(EventListener::new(&button, "click", move |_| act(&pointing)));
    }
    listeners
}

/// Whether the visitor marks.
fn marks() -> bool {
    by_id::<HtmlElement>("stage").class_list().contains("marking")
}

/// Shows or hides the frame and its buttons.
fn marking(on: bool) {
    let _ = by_id::<HtmlElement>("stage").class_list().toggle_with_force("marking", on);
    for (id, shown) in [("mark", !on), ("look", on), ("unmark", on), ("frame", on)] {
        by_id::<HtmlElement>(id).set_hidden(!shown);
    }
}

/// Marks no more.
pub(crate) fn end() {
    let was = marks();
    marking(false);
    if was {
        let _ = by_id::<HtmlElement>("mark").focus();
    }
}

/// Puts the frame where it belongs.
fn place([left, top, right, bottom]: Part) {
    let frame: HtmlElement = by_id("frame");
    for (property, part) in
        [("left", left), ("top", top), ("width", right - left), ("height", bottom - top)]
    {
        let _ = frame.style().set_property(property, &format!("{:.2}%", part * 100.0));
    }
}

/// Where an event is, as parts of the picture's sides.
fn spot(event: &PointerEvent) -> (f64, f64) {
    let rect = by_id::<HtmlElement>("stage").get_bounding_client_rect();
    let part = |at: f64, from: f64, length: f64| ((at - from) / length.max(1.0)).clamp(0.0, 1.0);
    let (x, y) = (f64::from(event.client_x()), f64::from(event.client_y()));
    (part(x, rect.left(), rect.width()), part(y, rect.top(), rect.height()))
}

/// The squares around a place that are offered to the engine.
fn squares((x, y): (f64, f64)) -> Vec<Part> {
    let rect = by_id::<HtmlElement>("stage").get_bounding_client_rect();
    let (width, height) = (rect.width().max(1.0), rect.height().max(1.0));
    let square = |side: f64| {
        let half = side * width.min(height) / 2.0;
        let (across, down) = ((half / width).min(0.5), (half / height).min(0.5));
        // A square at the edge moves into the picture.
        let (x, y) = (x.clamp(across, 1.0 - across), y.clamp(down, 1.0 - down));
        [x - across, y - down, x + across, y + down]
    };
    SQUARES.map(square).to_vec()
}

impl Pointing {
    fn begin(&self) {
        (self.ask)(Command::Hold);
        self.part.set(MIDDLE);
        place(MIDDLE);
        marking(true);
        let _ = by_id::<HtmlElement>("frame").focus();
    }

    fn look(&self, parts: Vec<Part>) {
        end();
        (self.ask)(Command::Look(parts));
    }

    fn down(&self, event: &PointerEvent) {
        if event.button() != 0 || !event.is_primary() {
            return;
        }
        let draws = marks() || event.pointer_type() != "touch";
        self.stroke.set(Some(Stroke {
            pointer: event.pointer_id(),
            from: spot(event),
            at: (f64::from(event.client_x()), f64::from(event.client_y())),
            draws,
            drawing: false,
        }));
    }

    fn moved(&self, event: &PointerEvent) {
        let Some(mut stroke) = self.stroke.get().filter(|s| s.pointer == event.pointer_id()) else {
            return;
        };
        let far = (f64::from(event.client_x()) - stroke.at.0)
            .hypot(f64::from(event.client_y()) - stroke.at.1);
        if !stroke.drawing && far < STEADY {
            return;
        }
        if !stroke.draws {
            return self.stroke.set(None);
        }
        if !stroke.drawing {
            (self.ask)(Command::Hold);
            // A frame may be drawn past the picture's edge.
            let _ = by_id::<HtmlElement>("stage").set_pointer_capture(stroke.pointer);
            marking(true);
        }
        stroke.drawing = true;
        self.stroke.set(Some(stroke));
        let ((x, y), (left, top)) = (spot(event), stroke.from);
        let part = [x.min(left), y.min(top), x.max(left), y.max(top)];
        self.part.set(part);
        place(part);
    }

    fn up(&self, event: &PointerEvent) {
        let Some(stroke) = self.stroke.take().filter(|s| s.pointer == event.pointer_id()) else {
            return;
        };
        let target = event.target().and_then(|target| target.dyn_into::<Element>().ok());
        if stroke.drawing {
            let [left, top, right, bottom] = self.part.get();
            if right - left >= LEAST && bottom - top >= LEAST {
                self.look(vec![self.part.get()]);
            } else {
                end();
            }
        } else if !target.is_some_and(|target| target.class_list().contains("box")) {
            // A box that was found leads to its card.
            self.look(squares(stroke.from));
        }
    }

    fn cancelled(&self, _: &PointerEvent) {
        if self.stroke.take().is_some_and(|stroke| stroke.drawing) {
            end();
        }
    }

    fn key(&self, event: &Event, key: &KeyboardEvent) {
        let [left, top, right, bottom] = self.part.get();
        let (across, down) = match key.key().as_str() {
            "ArrowLeft" => (-STEP, 0.0),
            "ArrowRight" => (STEP, 0.0),
            "ArrowUp" => (0.0, -STEP),
            "ArrowDown" => (0.0, STEP),
            "Enter" | " " => {
                event.prevent_default();
                return self.look(vec![self.part.get()]);
            }
            "Escape" => return end(),
            _ => return,
        };
        event.prevent_default();
        let part = if key.shift_key() {
            let right = (right + across).clamp((left + LEAST).min(1.0), 1.0);
            [left, top, right, (bottom + down).clamp((top + LEAST).min(1.0), 1.0)]
        } else {
            let across = across.clamp(-left, 1.0 - right);
            let down = down.clamp(-top, 1.0 - bottom);
            [left + across, top + down, right + across, bottom + down]
        };
        self.part.set(part);
        place(part);
    }
}
