//! The camera: while its button is held down frames become photographs of a class, or one of them is recognized.

use std::rc::Rc;

use gloo_events::{EventListener, EventListenerOptions};
use js_sys::Array;
use page::dom::by_id;
use page::language::{say, say_count};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::spawn_local;
use web_sys::{Event as Happened, HtmlDialogElement, HtmlElement, KeyboardEvent};

use super::classes::key_listener;
use super::{Studio, browser};
use crate::project::ClassId;

/// What frames are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Photographs of a class, or of none yet.
    Photographs(Option<ClassId>),
    /// A picture that is to be recognized.
    Try,
}

fn video() -> JsValue {
    by_id::<HtmlElement>("film-video").into()
}

fn tell(words: &str) {
    by_id::<HtmlElement>("film-says").set_text_content(Some(words));
}

/// Asks for the camera and shows it.
pub(super) fn open(studio: &Rc<Studio>, purpose: Purpose) {
    studio.purpose.set(Some(purpose));
    let take = if purpose == Purpose::Try { "film.try" } else { "film.hold" };
    by_id::<HtmlElement>("film-take").set_text_content(Some(&say(take)));
    tell(&say("film.opening"));
    let dialog: HtmlDialogElement = by_id("camera");
    if dialog.show_modal().is_err() {
        dialog.set_open(true);
    }
    spawn_local(async move {
        let opened = browser::ask("openCamera", &[video()]).await;
        let is_shown = by_id::<HtmlDialogElement>("camera").open();
        match opened {
            Ok(_) if is_shown => {
                tell(&say(if take == "film.try" { "film.press" } else { "film.hint" }));
            }
            // It was closed before the browser gave a camera.
            Ok(_) => drop(browser::call("closeCamera", &[video()])),
            Err(_) => tell(&say("film.none")),
        }
    });
}

/// The frames of a press become what they are for.
fn release(studio: &Rc<Studio>) {
    if !studio.is_pressed.replace(false) {
        return;
    }
    let Some(purpose) = studio.purpose.get() else { return };
    let ended = browser::call("endBurst", &[]);
    let studio = studio.clone();
    spawn_local(async move {
        let frames = browser::settled(ended).await.unwrap_or_default();
        let frames = frames.dyn_into::<Array>().unwrap_or_default();
        let name = |frame: &JsValue| browser::get(frame, "name").as_string().unwrap_or_default();
        match purpose {
            Purpose::Photographs(class) => {
                tell(&say_count("film.taken", frames.length() as usize));
                let frames = frames.iter().map(|frame| (frame.clone(), name(&frame)));
                studio.give(frames.collect(), class);
            }
            Purpose::Try => {
                let frame = frames.get(0);
                if frame.is_object() {
                    by_id::<HtmlDialogElement>("camera").close();
                    let name = name(&frame);
                    studio.try_picture(frame, name);
                }
            }
        }
    });
}

fn press(studio: &Rc<Studio>) {
    if !studio.is_pressed.replace(true) {
        let _ = browser::call("beginBurst", &[video()]);
    }
}

/// Listens for as long as the result lives.
pub(super) fn connect(studio: &Rc<Studio>, listeners: &mut Vec<EventListener>) {
    let button: HtmlElement = by_id("film-take");
    let hear = studio.clone();
    let options = EventListenerOptions::enable_prevent_default();
    listeners.push(EventListener::new_with_options(
        &button,
        "pointerdown",
        options,
        move |event| {
            // A long press asks for no menu, and selects nothing.
            event.prevent_default();
            press(&hear);
        },
    ));
    for ending in ["pointerup", "pointercancel", "pointerleave", "blur"] {
        let hear = studio.clone();
        listeners.push(EventListener::new(&button, ending, move |_| release(&hear)));
    }
    let hear = studio.clone();
    let is_press = |key: &str| [" ", "Enter"].contains(&key);
    listeners.push(key_listener(&button, move |event| {
        if is_press(&event.key()) {
            event.prevent_default();
            if !event.repeat() {
                press(&hear);
            }
        }
    }));
    let hear = studio.clone();
    listeners.push(EventListener::new(&button, "keyup", move |event: &Happened| {
        if event.dyn_ref::<KeyboardEvent>().is_some_and(|event| is_press(&event.key())) {
            release(&hear);
        }
    }));
    let dialog: HtmlDialogElement = by_id("camera");
    listeners.push(EventListener::new(&by_id::<HtmlElement>("film-close"), "click", {
        let dialog = dialog.clone();
        move |_| dialog.close()
    }));
    let hear = studio.clone();
    listeners.push(EventListener::new(&dialog, "close", move |_| {
        hear.is_pressed.set(false);
        hear.purpose.set(None);
        let _ = browser::call("closeCamera", &[video()]);
    }));
}
