//! What an owner does with classes and photographs. They come and go, so the list of them listens for all of them.

use std::rc::Rc;

use gloo_events::{EventListener, EventListenerOptions};
use page::dialog::ask_name;
use page::dom::{by_id, document, window};
use page::language::{say, say_with};
use wasm_bindgen::JsCast;
use web_sys::{
    DragEvent, Element, Event as Happened, HtmlElement, HtmlInputElement, KeyboardEvent, MouseEvent,
};

use super::{Studio, camera, cropping, deliver};
use crate::app::{Event, Select};
use crate::project::{Action, PhotoId};
use crate::view::{class_of, fill, photo_of, texts_of};

/// By which photographs of this page are known while they are dragged.
pub(super) const DRAGGED: &str = "application/x-magpie-photos";
/// Id of the list of names of classes.
const LABELS: &str = "labels";

/// Keys that may be taken from the browser.
pub(super) fn key_listener(
    target: &web_sys::EventTarget,
    act: impl Fn(&KeyboardEvent) + 'static,
) -> EventListener {
    let options = EventListenerOptions::enable_prevent_default();
    EventListener::new_with_options(target, "keydown", options, move |event| {
        if let Some(event) = event.dyn_ref() {
            act(event);
        }
    })
}

pub(super) fn target(event: &Happened) -> Option<Element> {
    event.target()?.dyn_into().ok()
}

/// Asks what the chosen photographs show.
pub(super) fn ask_where(studio: &Rc<Studio>) {
    let studio = studio.clone();
    ask_name(&say("move.to"), &say("move.it"), "", Some(LABELS), move |label| {
        deliver(&studio, Event::NameChosen(label));
    });
}

pub(super) fn connect(studio: &Rc<Studio>, listeners: &mut Vec<EventListener>) {
    let list: HtmlElement = by_id("classes");
    for id in ["figures", "tried"] {
        let (hear, place) = (studio.clone(), by_id::<HtmlElement>(id));
        listeners.push(EventListener::new(&place, "click", move |event| {
            let found = target(event);
            let found = found.and_then(|element| element.closest("[data-find]").ok().flatten());
            if let Some(id) = found.and_then(|found| found.get_attribute("data-find")) {
                lead_to(&hear, &id);
            }
        }));
    }
    let hear = studio.clone();
    listeners.push(EventListener::new(&list, "dblclick", move |event| {
        if let Some(id) = target(event).and_then(|element| photo_of(&element)) {
            cropping::open(&hear, id);
        }
    }));
    let hear = studio.clone();
    listeners.push(EventListener::new(&list, "click", move |event| {
        if let (Some(element), Some(event)) = (target(event), event.dyn_ref::<MouseEvent>()) {
            clicked(&hear, &element, event);
        }
    }));
    let hear = studio.clone();
    listeners.push(EventListener::new(&list, "change", move |event| {
        let Some(element) = target(event) else { return };
        let Some((section, Some(id))) = class_of(&element) else { return };
        if element.class_name() == "name" {
            let name: HtmlInputElement = element.unchecked_into();
            deliver(&hear, Event::Do(Action::Rename(id, name.value())));
            // Also where nothing has changed.
            name.set_value(&hear.label(id));
        } else if let Some((told, pairs)) = texts_of(&section) {
            deliver(&hear, Event::Do(Action::Describe(id, pairs)));
            fill(&told, &hear.metadata(id));
        }
    }));
    let hear = studio.clone();
    listeners.push(EventListener::new(&list, "dragstart", move |event| {
        let photo = target(event).and_then(|element| photo_of(&element));
        let data = event.dyn_ref::<DragEvent>().and_then(DragEvent::data_transfer);
        let (Some(id), Some(data)) = (photo, data) else { return };
        if !hear.is_chosen(id) {
            deliver(&hear, Event::Select(Select::Only(id)));
        }
        let _ = data.set_data(DRAGGED, &id.to_string());
        data.set_effect_allowed("move");
    }));
    let hear = studio.clone();
    listeners.push(key_listener(&list, move |event| photo_key(&hear, event)));
    listeners.push(EventListener::new(&list, "focusin", |event| {
        let Some(element) = target(event) else { return };
        if photo_of(&element).is_none() {
            return;
        }
        // The tab key comes back to it.
        let before = element
            .parent_element()
            .and_then(|strip| strip.query_selector("[tabindex='0']").ok().flatten());
        if let Some(before) = before {
            let _ = before.set_attribute("tabindex", "-1");
        }
        let _ = element.set_attribute("tabindex", "0");
    }));
}

/// Chooses a photograph and leads to it.
fn lead_to(studio: &Rc<Studio>, id: &str) {
    let Some(photo) = PhotoId::parse(id) else { return };
    deliver(studio, Event::Select(Select::Only(photo)));
    let shown = document().query_selector(&format!("#classes [data-id='{photo}']")).ok().flatten();
    if let Some(shown) = shown.and_then(|shown| shown.dyn_into::<HtmlElement>().ok()) {
        let _ = shown.focus();
        shown.scroll_into_view();
    }
}

fn clicked(studio: &Rc<Studio>, element: &Element, event: &MouseEvent) {
    if let Some(id) = photo_of(element) {
        let has_no_keys = window()
            .match_media("(hover: none)")
            .ok()
            .flatten()
            .is_some_and(|query| query.matches());
        let select = if event.shift_key() {
            Select::To(id)
        } else if event.ctrl_key() || event.meta_key() || has_no_keys {
            Select::Toggle(id)
        } else {
            Select::Only(id)
        };
        return deliver(studio, Event::Select(select));
    }
    let button = element.closest("[data-do]").ok().flatten();
    let Some(button) = button else { return };
    let Some((section, class)) = class_of(&button) else { return };
    match (button.get_attribute("data-do").as_deref(), class) {
        (Some("all"), class) => deliver(studio, Event::Select(Select::All(class))),
        (Some("remove"), Some(id)) => deliver(studio, Event::Do(Action::RemoveClass(id))),
        (Some("merge"), Some(id)) => {
            let question = say_with("merge.into", &[("label", &studio.label(id))]);
            let studio = studio.clone();
            ask_name(&question, &say("merge"), "", Some(LABELS), move |label| {
                match studio.named(&label) {
                    Some(other) => deliver(&studio, Event::Do(Action::Merge(id, other))),
                    None => deliver(&studio, Event::NoClass(label)),
                }
            });
        }
        (Some("camera"), class) => camera::open(studio, camera::Purpose::Photographs(class)),
        (Some("texts"), Some(id)) => {
            let Some((told, _)) = texts_of(&section) else { return };
            told.set_hidden(!told.hidden());
            let open = if told.hidden() { "false" } else { "true" };
            let _ = button.set_attribute("aria-expanded", open);
            if !told.hidden() {
                fill(&told, &studio.metadata(id));
                let first = told.query_selector("input").ok().flatten();
                if let Some(first) = first.and_then(|first| first.dyn_into::<HtmlElement>().ok()) {
                    let _ = first.focus();
                }
            }
        }
        _ => {}
    }
}

/// Keys on a photograph.
fn photo_key(studio: &Rc<Studio>, event: &KeyboardEvent) {
    let Some(element) = target(event) else { return };
    let Some(id) = photo_of(&element) else { return };
    let chooses = event.ctrl_key() || event.meta_key();
    if event.alt_key() {
        return;
    }
    let is_chosen = studio.is_chosen(id);
    // What is done with the chosen ones is done with this one where it is none of them.
    let choose_it = || {
        if !is_chosen {
            deliver(studio, Event::Select(Select::Only(id)));
        }
    };
    match event.key().as_str() {
        " " => deliver(studio, Event::Select(Select::Toggle(id))),
        "Enter" | "m" | "M" if !chooses => {
            choose_it();
            ask_where(studio);
        }
        "Delete" | "Backspace" => {
            choose_it();
            deliver(studio, Event::RemoveChosen);
        }
        "c" | "C" if !chooses => cropping::open(studio, id),
        "Escape" => deliver(studio, Event::Select(Select::Nothing)),
        "a" if chooses => {
            let class = class_of(&element).and_then(|(_, class)| class);
            deliver(studio, Event::Select(Select::All(class)));
        }
        key => {
            let Some(next) = neighbor(&element, key) else { return };
            let _ = next.focus();
            if event.shift_key()
                && let Some(next) = photo_of(&next)
            {
                if !is_chosen {
                    deliver(studio, Event::Select(Select::Only(id)));
                }
                deliver(studio, Event::Select(Select::To(next)));
            }
        }
    }
    event.prevent_default();
}

/// The photograph to which a key leads.
fn neighbor(element: &Element, key: &str) -> Option<HtmlElement> {
    let strip = element.parent_element()?;
    let photos = strip.children();
    let count = photos.length() as i32;
    let top = |place: i32| {
        let photo: HtmlElement = photos.item(place as u32)?.dyn_into().ok()?;
        Some(photo.offset_top())
    };
    let own = (0..count).find(|place| photos.item(*place as u32).as_ref() == Some(element))?;
    let in_row = (0..count).take_while(|place| top(*place) == top(0)).count() as i32;
    let place = match key {
        "ArrowLeft" => own - 1,
        "ArrowRight" => own + 1,
        "ArrowUp" => own - in_row,
        "ArrowDown" => own + in_row,
        "Home" => 0,
        "End" => count - 1,
        _ => return None,
    };
    let place = if (0..count).contains(&place) { place } else { own };
    photos.item(place as u32)?.dyn_into().ok()
}
