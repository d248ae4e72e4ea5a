//! What an owner does with mouse, finger and keyboard. Classes and photographs come and go, so the list of them
//! listens for all of them.

use std::rc::Rc;

use gloo_events::{EventListener, EventListenerOptions};
use page::dialog::{ask_name, ask_whether};
use page::dom::{by_id, document, window};
use page::language::{self, say, say_with};
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{
    ClipboardEvent, DataTransfer, DragEvent, Element, Event as Happened, HtmlElement,
    HtmlInputElement, HtmlSelectElement, KeyboardEvent, MouseEvent,
};

use super::{Studio, browser, deliver};
use crate::app::{Event, Goal, Select};
use crate::project::{Action, ClassId, PhotoId};
use crate::view::{class_of, fill, photo_of, texts_of};

/// By which photographs of this page are known while they are dragged.
const DRAGGED: &str = "application/x-magpie-photos";
/// Id of the list of names of classes.
const LABELS: &str = "labels";

/// Listens for as long as the result lives.
pub(super) fn connect(studio: &Rc<Studio>) -> Vec<EventListener> {
    let mut listeners = Vec::new();
    connect_inputs(studio, &mut listeners);
    connect_buttons(studio, &mut listeners);
    connect_drops(studio, &mut listeners);
    connect_classes(studio, &mut listeners);
    let hear = studio.clone();
    listeners.push(key_listener(&document(), move |event| global_key(&hear, event)));
    let hear = studio.clone();
    listeners.push(EventListener::new(&document(), "visibilitychange", move |_| {
        if document().hidden() {
            deliver(&hear, Event::Leaving);
        }
    }));
    let hear = studio.clone();
    let options = EventListenerOptions::enable_prevent_default();
    listeners.push(EventListener::new_with_options(
        &window(),
        "beforeunload",
        options,
        move |event| {
            // The browser asks whether the page may end.
            if hear.would_lose() {
                event.prevent_default();
            }
        },
    ));
    listeners
}

/// Keys that may be taken from the browser.
fn key_listener(
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

fn target(event: &Happened) -> Option<Element> {
    event.target()?.dyn_into().ok()
}

fn is_field(element: &Element) -> bool {
    ["INPUT", "SELECT", "TEXTAREA"].contains(&element.tag_name().as_str())
        || element.closest("dialog").ok().flatten().is_some()
}

fn connect_inputs(studio: &Rc<Studio>, listeners: &mut Vec<EventListener>) {
    for id in ["folder", "files"] {
        let (studio, input) = (studio.clone(), by_id::<HtmlInputElement>(id));
        listeners.push(EventListener::new(&input.clone(), "change", move |_| {
            let Some(files) = input.files() else { return };
            let taken = browser::take(&files);
            // The same ones may be chosen again.
            input.set_value("");
            let studio = studio.clone();
            spawn_local(async move { studio.give(browser::given(taken).await, None) });
        }));
    }
    let (hear, input) = (studio.clone(), by_id::<HtmlInputElement>("table"));
    listeners.push(EventListener::new(&input.clone(), "change", move |_| {
        let Some(file) = input.files().and_then(|files| files.get(0)) else { return };
        input.set_value("");
        let studio = hear.clone();
        spawn_local(async move {
            let text = JsFuture::from(file.text()).await.ok().and_then(|text| text.as_string());
            deliver(&studio, Event::Table(text));
        });
    }));
    let (hear, title) = (studio.clone(), by_id::<HtmlInputElement>("title"));
    listeners.push(EventListener::new(&title.clone(), "change", move |_| {
        deliver(&hear, Event::Do(Action::Title(title.value())));
    }));
    let (hear, select) = (studio.clone(), by_id::<HtmlSelectElement>("language"));
    listeners.push(EventListener::new(&select.clone(), "change", move |_| {
        let (studio, code) = (hear.clone(), select.value());
        spawn_local(async move {
            language::choose(&code).await;
            studio.speak();
        });
    }));
}

fn connect_buttons(studio: &Rc<Studio>, listeners: &mut Vec<EventListener>) {
    let mut on_click = |id: &str, act: fn(&Rc<Studio>)| {
        let studio = studio.clone();
        let button: HtmlElement = by_id(id);
        listeners.push(EventListener::new(&button, "click", move |_| act(&studio)));
    };
    on_click("undo", |studio| deliver(studio, Event::Undo));
    on_click("redo", |studio| deliver(studio, Event::Redo));
    on_click("stop", |studio| deliver(studio, Event::Cancel));
    on_click("remove", |studio| deliver(studio, Event::RemoveChosen));
    on_click("choose-none", |studio| deliver(studio, Event::Select(Select::Nothing)));
    on_click("move", ask_where);
    on_click("measure", |studio| deliver(studio, Event::Want(Goal::Figures)));
    on_click("save-gallery", |studio| deliver(studio, Event::Want(Goal::Gallery)));
    on_click("save-site", |studio| deliver(studio, Event::Want(Goal::Site)));
    on_click("add-class", |studio| {
        let studio = studio.clone();
        ask_name(&say("add.class.name"), &say("make"), "", None, move |label| {
            deliver(&studio, Event::Do(Action::AddClass(label)));
        });
    });
    on_click("start-over", |studio| {
        let studio = studio.clone();
        ask_whether(&say("start.over.sure"), &say("start.over"), move || {
            deliver(&studio, Event::StartOver);
        });
    });
}

/// Asks what the chosen photographs show.
fn ask_where(studio: &Rc<Studio>) {
    let studio = studio.clone();
    ask_name(&say("move.to"), &say("move.it"), "", Some(LABELS), move |label| {
        deliver(&studio, Event::NameChosen(label));
    });
}

fn connect_drops(studio: &Rc<Studio>, listeners: &mut Vec<EventListener>) {
    let options = EventListenerOptions::enable_prevent_default();
    for name in ["dragenter", "dragover", "dragleave", "drop"] {
        let studio = studio.clone();
        listeners.push(EventListener::new_with_options(&document(), name, options, move |event| {
            let Some(event) = event.dyn_ref::<DragEvent>() else { return };
            event.prevent_default();
            dragged(&studio, event);
        }));
    }
    let hear = studio.clone();
    listeners.push(EventListener::new(&document(), "paste", move |event| {
        let data = event.dyn_ref::<ClipboardEvent>().and_then(ClipboardEvent::clipboard_data);
        let is_for_field = target(event).is_some_and(|element| is_field(&element));
        let Some(data) = data.filter(|_| !is_for_field) else { return };
        if data.files().is_none_or(|files| files.length() == 0) {
            return;
        }
        take(&hear, &data, None);
    }));
}

/// Files are given, or photographs of this page are moved, to the class under the pointer.
fn dragged(studio: &Rc<Studio>, event: &DragEvent) {
    let class = target(event).and_then(|element| class_of(&element));
    let is_over = matches!(event.type_().as_str(), "dragenter" | "dragover");
    let zone = match &class {
        Some((section, _)) => section.clone(),
        None => by_id("drop"),
    };
    let _ = zone.class_list().toggle_with_force("over", is_over);
    let Some(data) = event.data_transfer() else { return };
    let is_own = data.types().includes(&DRAGGED.into(), 0);
    if is_over {
        let effect = match (is_own, &class) {
            (true, None) => "none",
            (true, Some(_)) => "move",
            (false, _) => "copy",
        };
        data.set_drop_effect(effect);
    }
    if event.type_() != "drop" {
        return;
    }
    let onto = class.map(|(_, id)| id);
    match (is_own, onto) {
        (true, Some(id)) => deliver(studio, Event::MoveChosen(id)),
        (true, None) => {}
        (false, onto) => take(studio, &data, onto.flatten()),
    }
}

fn take(studio: &Rc<Studio>, data: &DataTransfer, onto: Option<ClassId>) {
    let taken = browser::take(data);
    let studio = studio.clone();
    spawn_local(async move { studio.give(browser::given(taken).await, onto) });
}

fn connect_classes(studio: &Rc<Studio>, listeners: &mut Vec<EventListener>) {
    let list: HtmlElement = by_id("classes");
    let figures: HtmlElement = by_id("figures");
    let hear = studio.clone();
    listeners.push(EventListener::new(&figures, "click", move |event| {
        let found = target(event).and_then(|element| element.closest("[data-find]").ok().flatten());
        if let Some(id) = found.and_then(|found| found.get_attribute("data-find")) {
            lead_to(&hear, &id);
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

/// Keys that count wherever the focus is.
fn global_key(studio: &Rc<Studio>, event: &KeyboardEvent) {
    if target(event).is_some_and(|element| is_field(&element)) {
        return;
    }
    if !(event.ctrl_key() || event.meta_key()) || event.alt_key() {
        return;
    }
    let wanted = match (event.key().to_lowercase().as_str(), event.shift_key()) {
        ("z", false) => Event::Undo,
        ("z", true) | ("y", false) => Event::Redo,
        _ => return,
    };
    event.prevent_default();
    deliver(studio, wanted);
}
