//! What an owner does with mouse, finger and keyboard, apart from the list of classes.

use std::rc::Rc;

use gloo_events::{EventListener, EventListenerOptions};
use page::dialog::{ask_name, ask_whether};
use page::dom::{by_id, document, window};
use page::language::{self, say};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{
    ClipboardEvent, DataTransfer, DragEvent, Element, HtmlElement, HtmlInputElement,
    HtmlSelectElement, KeyboardEvent,
};

use super::classes::{DRAGGED, ask_where, key_listener, target};
use super::{Studio, browser, camera, classes, cropping, deliver};
use crate::app::{Event, Goal, Select};
use crate::project::{Action, ClassId, Crop, Settings, name, texts};
use crate::view::{class_of, texts_of};

/// Listens for as long as the result lives.
pub(super) fn connect(studio: &Rc<Studio>) -> Vec<EventListener> {
    let mut listeners = Vec::new();
    connect_inputs(studio, &mut listeners);
    connect_buttons(studio, &mut listeners);
    connect_drops(studio, &mut listeners);
    connect_settings(studio, &mut listeners);
    classes::connect(studio, &mut listeners);
    camera::connect(studio, &mut listeners);
    cropping::connect(studio, &mut listeners);
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
    let hear = studio.clone();
    listeners.push(EventListener::new(&window(), "pagehide", move |_| {
        // What is being written in a field counts.
        if let Some(field) = document().active_element()
            && let Some(field) = field.dyn_ref::<HtmlElement>()
        {
            let _ = field.blur();
        }
        deliver(&hear, Event::Ending);
    }));
    listeners
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
    let (hear, input) = (studio.clone(), by_id::<HtmlInputElement>("picture"));
    listeners.push(EventListener::new(&input.clone(), "change", move |_| {
        let Some(file) = input.files().and_then(|files| files.get(0)) else { return };
        input.set_value("");
        hear.try_picture(JsValue::from(file.clone()), file.name());
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
    on_click("write-site", |studio| {
        // At once: browsers show the question for a folder only while they handle a click.
        let asked = browser::call("pickFolder", &[]);
        let studio = studio.clone();
        spawn_local(async move {
            if browser::settled(asked).await.is_ok() {
                deliver(&studio, Event::Want(Goal::Folder));
            }
        });
    });
    on_click("take", |studio| deliver(studio, Event::TakeOffer(true)));
    on_click("leave", |studio| deliver(studio, Event::TakeOffer(false)));
    on_click("crop-chosen", |studio| {
        if let Some(id) = studio.only_chosen() {
            cropping::open(studio, id);
        }
    });
    on_click("film", |studio| camera::open(studio, camera::Purpose::Photographs(None)));
    on_click("film-try", |studio| camera::open(studio, camera::Purpose::Try));
    on_click("new-project", |studio| deliver(studio, Event::Switch(None)));
    on_click("remove-project", |studio| {
        let studio = studio.clone();
        ask_whether(&say("project.remove.sure"), &say("project.remove"), move || {
            deliver(&studio, Event::RemoveProject);
        });
    });
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

/// How the gallery is made, and which project is open.
fn connect_settings(studio: &Rc<Studio>, listeners: &mut Vec<EventListener>) {
    let mut on_change = |id: &str, act: fn(&Rc<Studio>, &str)| {
        let (studio, select) = (studio.clone(), by_id::<HtmlSelectElement>(id));
        listeners.push(EventListener::new(&select.clone(), "change", move |_| {
            act(&studio, &select.value());
        }));
    };
    on_change("projects", |studio, id| {
        deliver(studio, Event::Switch(Some(id.to_owned())));
    });
    on_change("part", |studio, value| {
        let crop = Crop::named(value);
        deliver(studio, Event::Do(Action::Settings(Settings { crop, ..studio.settings() })));
    });
    on_change("named", |studio, value| {
        let named = value.parse().unwrap_or(Settings::default().named);
        deliver(studio, Event::Do(Action::Settings(Settings { named, ..studio.settings() })));
    });
    let (hear, adapt) = (studio.clone(), by_id::<HtmlInputElement>("adapt"));
    listeners.push(EventListener::new(&adapt.clone(), "change", move |_| {
        let adapt = adapt.checked();
        deliver(&hear, Event::Do(Action::Settings(Settings { adapt, ..hear.settings() })));
    }));
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

/// Keys that count wherever the focus is.
fn global_key(studio: &Rc<Studio>, event: &KeyboardEvent) {
    if !(event.ctrl_key() || event.meta_key()) || event.alt_key() {
        return;
    }
    let wanted = match (event.key().to_lowercase().as_str(), event.shift_key()) {
        ("z", false) => Event::Undo,
        ("z", true) | ("y", false) => Event::Redo,
        _ => return,
    };
    if target(event).is_some_and(|element| is_field(&element) && !is_taken_over(studio, &element)) {
        return;
    }
    event.prevent_default();
    deliver(studio, wanted);
}

/// Whether what stands in a field is what the project has: then nothing is there for the browser to take back.
fn is_taken_over(studio: &Studio, field: &Element) -> bool {
    let Some(input) = field.dyn_ref::<HtmlInputElement>() else {
        return field.tag_name() == "SELECT" && field.closest("dialog").is_ok_and(|d| d.is_none());
    };
    if ["checkbox", "file"].contains(&input.type_().as_str()) {
        return true;
    }
    if input.id() == "title" {
        return name(&input.value()).unwrap_or_default() == studio.title();
    }
    match class_of(field) {
        Some((_, Some(id))) if field.class_name() == "name" => input.value() == studio.label(id),
        Some((section, Some(id))) => {
            texts_of(&section).is_some_and(|(_, pairs)| texts(pairs) == studio.metadata(id))
        }
        _ => false,
    }
}
