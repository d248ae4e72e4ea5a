//! The page's controls, and the messages that they make.

use std::rc::Rc;

use gloo_events::EventListener;
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use wasm_bindgen_futures::spawn_local;
use wasm_engine::protocol::Backend;
use web_sys::{HtmlButtonElement, HtmlElement, HtmlSelectElement};

use super::filming::{self, Event};
use super::{App, Message, Shared, ask, choice, update};
use crate::dom::{by_id, document, query_parameter, window};
use crate::language;
use crate::{camera, details, input, offline, pointing, teaching, text};

/// Milliseconds between two looks whether a newer gallery was published.
const LOOK_AGAIN: i32 = 60_000;

/// Wires the page's controls.
pub(super) fn connect(app: &Shared) {
    let send = |app: &Shared| {
        let app = app.clone();
        move |message: Message| update(&app, message)
    };
    let deliver = send(app);
    let mut listeners = input::listen(Rc::new(move |given| deliver(Message::Given(given))));
    for (id, message) in [
        ("camera", (|| Message::Camera(Event::Toggle)) as fn() -> Message),
        ("turn", || Message::Camera(Event::Turn)),
        ("torch", || Message::Camera(Event::Torch)),
    ] {
        let button: HtmlButtonElement = by_id(id);
        let deliver = send(app);
        listeners.push(EventListener::new(&button, "click", move |_| deliver(message())));
    }
    let select: HtmlSelectElement = by_id("language");
    let deliver = Rc::new(send(app));
    listeners.push(EventListener::new(&select.clone(), "change", move |_| {
        let (code, deliver) = (select.value(), deliver.clone());
        spawn_local(async move {
            language::choose(&code).await;
            deliver(Message::Language);
        });
    }));
    let select: HtmlSelectElement = by_id("backend");
    choice::begin(&mut app.borrow_mut());
    let deliver = send(app);
    listeners.push(EventListener::new(&select.clone(), "change", move |_| {
        deliver(Message::Backend(select.value()));
    }));
    listeners.extend(teaching::listen(&ask(app)));
    listeners.extend(details::listen(&ask(app)));
    listeners.extend(pointing::listen(&ask(app)));
    let deliver = send(app);
    listeners.push(EventListener::new(&document(), "visibilitychange", move |_| {
        if !document().hidden() {
            deliver(Message::Camera(Event::PageShown));
            deliver(Message::LookAgain);
        }
    }));
    listeners.extend(filming::listen(app));
    let deliver = send(app);
    listeners.extend(camera::on_devices(move || deliver(Message::Camera(Event::Devices))));
    let state = app.clone();
    let kept = move || {
        state.borrow_mut().kept = true;
        let sentence = text::offline(state.borrow().in_parts);
        by_id::<HtmlElement>("offline").set_text_content(Some(&sentence));
    };
    let state = app.clone();
    listeners.extend(offline::listen(kept, move || to_keep(&state.borrow())));
    app.borrow_mut().listeners = listeners;
    let deliver = send(app);
    let again = Closure::<dyn FnMut()>::new(move || {
        if !document().hidden() {
            deliver(Message::LookAgain);
        }
    });
    let _ = window().set_interval_with_callback_and_timeout_and_arguments_0(
        again.as_ref().unchecked_ref(),
        LOOK_AGAIN,
    );
    // It is needed as long as the page.
    again.forget();
}

/// The engine that is kept for visits without a network, once it is there. Only a bundle of this site is kept
/// with it.
pub(super) fn to_keep(state: &App) -> Option<Backend> {
    (state.ready && query_parameter("bundle").is_none()).then_some(state.backend)
}
