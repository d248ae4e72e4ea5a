//! What the page listens to, as events.

use std::rc::Rc;

use gloo_events::EventListener;
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use wasm_bindgen_futures::spawn_local;
use web_sys::{EventTarget, HtmlElement, HtmlInputElement, HtmlSelectElement};

use super::input::{self, Gift};
use super::{Page, camera, deliver, offline, samples, sender};
use crate::app::{CameraEvent, CameraState, Event, Given};
use crate::view::dom::{by_id, document, window};
use crate::view::{details, language, pointing, teaching};

/// Milliseconds between two looks whether a newer gallery was published.
const LOOK_AGAIN: i32 = 60_000;

/// Listens to the page's controls for as long as the result lives.
pub(super) fn connect(page: &Rc<Page>) -> Vec<EventListener> {
    let ask = sender(page);
    let mut listeners = Vec::new();
    let giving = page.clone();
    listeners.extend(input::listen(Rc::new(move |gift| {
        let given = match gift {
            Gift::File(file) => Given::File(giving.hold(file.into())),
            Gift::Address(address) => Given::Address { own: samples::is_own(&address), address },
            Gift::Nothing => Given::Nothing,
        };
        deliver(&giving, Event::Given(given));
    })));
    for (id, event) in [
        ("camera", CameraEvent::Toggle),
        ("turn", CameraEvent::Turn),
        ("torch", CameraEvent::Torch),
    ] {
        let (ask, button) = (ask.clone(), by_id::<HtmlElement>(id));
        listeners.push(EventListener::new(&button, "click", move |_| {
            ask(Event::Camera(event.clone()));
        }));
    }
    let select: HtmlSelectElement = by_id("language");
    let asking = ask.clone();
    listeners.push(EventListener::new(&select.clone(), "change", move |_| {
        let (code, ask) = (select.value(), asking.clone());
        spawn_local(async move {
            language::choose(&code).await;
            ask(Event::Language);
        });
    }));
    let select: HtmlSelectElement = by_id("backend");
    let asking = ask.clone();
    listeners.push(EventListener::new(&select.clone(), "change", move |_| {
        asking(Event::Backend(select.value()));
    }));
    listeners.extend(teaching::listen(&ask));
    listeners.extend(details::listen(&ask));
    listeners.extend(pointing::listen(&ask));
    listeners.push(import(page));
    listeners.extend(fingers(page));
    listeners.extend(visits(page));
    let asking = ask.clone();
    listeners.extend(offline::listen(move |event| asking(event)));
    listeners
}

/// A gallery file to add.
fn import(page: &Rc<Page>) -> EventListener {
    let (page, import) = (page.clone(), by_id::<HtmlInputElement>("import"));
    EventListener::new(&import.clone(), "change", move |_| {
        if let Some(file) = import.files().and_then(|files| files.get(0)) {
            deliver(&page, Event::Import(page.hold(file.into())));
        }
        // The same file may be chosen again.
        import.set_value("");
    })
}

/// Fingers on the answers.
fn fingers(page: &Rc<Page>) -> [EventListener; 3] {
    let answers: HtmlElement = by_id("answers");
    let press = |target: &EventTarget, name: &'static str, pressed: bool| {
        let ask = sender(page);
        EventListener::new(target, name, move |_| ask(Event::Camera(CameraEvent::Pressed(pressed))))
    };
    [
        press(&answers, "pointerdown", true),
        press(&document(), "pointerup", false),
        press(&document(), "pointercancel", false),
    ]
}

/// The visitor comes back, time passes, and cameras come and go.
fn visits(page: &Rc<Page>) -> Vec<EventListener> {
    let mut listeners = Vec::new();
    let showing = page.clone();
    listeners.push(EventListener::new(&document(), "visibilitychange", move |_| {
        if !document().hidden() {
            let ended = showing.camera_state().is_some_and(|state| state.ended);
            deliver(&showing, Event::Camera(CameraEvent::PageShown(ended)));
            deliver(&showing, Event::LookAgain);
        }
    }));
    let changing = page.clone();
    listeners.extend(camera::on_devices(move || {
        let page = changing.clone();
        spawn_local(async move {
            let names = camera::names().await;
            let state: Option<CameraState> = page.camera_state();
            deliver(&page, Event::Camera(CameraEvent::Devices(state, names)));
        });
    }));
    let ask = sender(page);
    let again = Closure::<dyn FnMut()>::new(move || {
        if !document().hidden() {
            ask(Event::LookAgain);
        }
    });
    let _ = window().set_interval_with_callback_and_timeout_and_arguments_0(
        again.as_ref().unchecked_ref(),
        LOOK_AGAIN,
    );
    // It is needed as long as the page.
    again.forget();
    listeners
}
