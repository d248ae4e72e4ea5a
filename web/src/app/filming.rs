//! The camera while the page is open: asked for, running, paused, gone. There is one stream at most, and the
//! button says whether there is one.

use gloo_events::EventListener;
use wasm_bindgen::JsCast;
use wasm_bindgen::JsValue;
use wasm_bindgen::closure::Closure;
use wasm_bindgen_futures::spawn_local;
use web_sys::{EventTarget, HtmlElement, MediaStream};

use super::{Message, Shared, choice, recognize, update};
use crate::camera::{self, Camera, Change, Facing};
use crate::dom::{by_id, document, set_attributes, window};
use crate::language::say;
use crate::{view, widgets};

/// Milliseconds before a frame is tried again after one that failed, doubled with each more, and the most.
const BACK_OFF: i32 = 250;
const MOST_BACK_OFF: i32 = 8000;

/// Milliseconds in which a visitor and the browser give a camera; some browsers never say.
const ASKING: i32 = 30_000;

/// Milliseconds between two looks whether somebody is still at the answers.
const HELD: i32 = 200;

/// What concerns the camera.
pub(crate) enum Event {
    /// The camera's button.
    Toggle,
    /// The button for the other camera.
    Turn,
    /// The button of the torch.
    Torch,
    /// The browser has given a camera, or not, to the asking of this number.
    Given(u32, Facing, Result<MediaStream, JsValue>),
    /// Whether the film of the camera of this number has begun.
    Began(u32, bool),
    /// What happened to the camera of this number.
    Changed(u32, Change),
    /// Cameras came or went.
    Devices,
    /// The page is looked at again.
    PageShown,
}

/// The camera, and what is waited for.
#[derive(Default)]
pub(super) struct Filming {
    /// The one that is on.
    pub(super) camera: Option<Camera>,
    /// Number of the asking that is not answered yet.
    asked: Option<u32>,
    /// Number of the next asking.
    next: u32,
    /// Whether a frame is being read.
    reading: bool,
    /// Whether a finger or a button of a mouse is down on the answers.
    pressed: bool,
    /// The camera that ended while nobody looked at the page.
    ended_unseen: Option<Facing>,
}

impl Filming {
    /// Whether there is a camera, or one is asked for.
    pub(super) fn is_on(&self) -> bool {
        self.camera.is_some() || self.asked.is_some()
    }
}

/// Listens to fingers on the answers for as long as the result lives.
pub(super) fn listen(app: &Shared) -> Vec<EventListener> {
    let answers: HtmlElement = by_id("answers");
    let press = |target: &EventTarget, name: &'static str, pressed: bool| {
        let app = app.clone();
        EventListener::new(target, name, move |_| app.borrow_mut().film.pressed = pressed)
    };
    vec![
        press(&answers, "pointerdown", true),
        press(&document(), "pointerup", false),
        press(&document(), "pointercancel", false),
    ]
}

/// Whether somebody is at the answers to a frame: the next ones would take a button away under a finger or
/// the focus.
fn is_held(app: &Shared) -> bool {
    let film = &app.borrow().film;
    let focused = || {
        let answers: HtmlElement = by_id("answers");
        let element = document().active_element();
        element.is_some_and(|element| {
            element.tag_name() == "BUTTON" && answers.contains(Some(&element))
        })
    };
    film.camera.is_some() && (film.pressed || focused())
}

/// Whether the answer to a frame is shown: not under somebody's finger, nor in the place of what is said of a
/// camera that is away.
pub(super) fn may_show(app: &Shared) -> bool {
    let muted = app.borrow().film.camera.as_ref().is_some_and(|camera| camera.muted);
    !muted && !is_held(app)
}

/// Takes up what happened.
pub(super) fn happened(app: &Shared, event: Event) {
    match event {
        Event::Toggle => {
            let (on, asked) = {
                let film = &app.borrow().film;
                (film.camera.is_some(), film.asked.is_some())
            };
            if on {
                stop(app);
                widgets::status(&say("ready"), "done");
            } else if !asked {
                // Who asks twice is asked once.
                start(app, Facing::Back);
            }
        }
        Event::Turn => {
            let facing = app.borrow().film.camera.as_ref().map(|camera| camera.facing);
            if let Some(facing) = facing {
                // Many devices have one camera at a time.
                stop(app);
                start(app, facing.turned());
            }
        }
        Event::Torch => {
            let mut state = app.borrow_mut();
            let torch = state.film.camera.as_mut().and_then(Camera::switch_torch);
            let pressed = if torch == Some(true) { "true" } else { "false" };
            set_attributes(&by_id("torch"), &[("aria-pressed", pressed)]);
        }
        Event::Given(id, facing, given) => given_camera(app, id, facing, given),
        Event::Began(id, begun) => began(app, id, begun),
        Event::Changed(id, change) if is_current(app, id) => changed(app, change),
        Event::Changed(..) => {}
        Event::Devices => {
            let ended = app.borrow().film.camera.as_ref().map(Camera::has_ended);
            match ended {
                Some(true) => changed(app, Change::Ended),
                Some(false) => offer_turning(app),
                None => {}
            }
        }
        Event::PageShown => page_shown(app),
    }
}

fn is_current(app: &Shared, id: u32) -> bool {
    app.borrow().film.camera.as_ref().is_some_and(|camera| camera.id == id)
}

fn tell(app: &Shared) -> impl Fn(Event) + Clone + 'static {
    let app = app.clone();
    move |event| update(&app, Message::Camera(event))
}

fn start(app: &Shared, facing: Facing) {
    choice::disturbed(app);
    let id = {
        let film = &mut app.borrow_mut().film;
        film.next = film.next.wrapping_add(1);
        film.asked = Some(film.next);
        film.next
    };
    widgets::status(&say("camera.starting"), "busy");
    let telling = tell(app);
    let give_up = telling.clone();
    spawn_local(async move {
        let given = camera::ask(facing).await;
        telling(Event::Given(id, facing, given));
    });
    // What comes later is switched off again.
    let late = Closure::once_into_js(move || give_up(Event::Given(id, facing, Err(JsValue::NULL))));
    let _ = window()
        .set_timeout_with_callback_and_timeout_and_arguments_0(late.unchecked_ref(), ASKING);
}

fn given_camera(app: &Shared, id: u32, facing: Facing, given: Result<MediaStream, JsValue>) {
    if app.borrow_mut().film.asked.take_if(|asked| *asked == id).is_none() {
        // Something else was given meanwhile.
        if let Ok(stream) = given {
            camera::stop(&stream);
        }
        return;
    }
    let Ok(stream) = given else {
        widgets::status(&say("camera.refused"), "failed");
        return;
    };
    let telling = tell(app);
    let camera = Camera::new(stream, id, facing, move |change| telling(Event::Changed(id, change)));
    let begins = camera.play();
    app.borrow_mut().film.camera = Some(camera);
    by_id::<HtmlElement>("camera").set_text_content(Some(&say("camera.stop")));
    let tell = tell(app);
    spawn_local(async move { tell(Event::Began(id, begins.await)) });
}

fn began(app: &Shared, id: u32, begun: bool) {
    if !is_current(app, id) {
        return;
    }
    // It may have come dead.
    if app.borrow().film.camera.as_ref().is_some_and(Camera::has_ended) {
        return changed(app, Change::Ended);
    }
    if !begun {
        stop(app);
        widgets::status(&say("camera.silent"), "failed");
        return;
    }
    let (torch, muted) = {
        let mut state = app.borrow_mut();
        state.shown = None;
        let Some(camera) = &mut state.film.camera else { return };
        camera.plays = true;
        // With its first frame the browser's word counts.
        camera.muted |= camera.is_muted();
        (camera.torch, camera.muted)
    };
    by_id::<HtmlElement>("torch").set_hidden(torch.is_none());
    view::clear();
    if muted {
        widgets::status(&say("camera.muted"), "failed");
    }
    offer_turning(app);
    next_frame(app);
}

/// Shows the button for the other camera where there is one.
fn offer_turning(app: &Shared) {
    let app = app.clone();
    spawn_local(async move {
        let several = camera::are_several().await;
        if app.borrow().film.camera.is_some() {
            by_id::<HtmlElement>("turn").set_hidden(!several);
        }
    });
}

fn changed(app: &Shared, change: Change) {
    match change {
        Change::Ended => {
            let facing = app.borrow().film.camera.as_ref().map(|camera| camera.facing);
            stop(app);
            if document().hidden() {
                // Phones take it from a page that nobody looks at.
                app.borrow_mut().film.ended_unseen = facing;
            }
            widgets::status(&say("camera.gone"), "failed");
        }
        Change::Muted | Change::Unmuted => {
            let muted = change == Change::Muted;
            if let Some(camera) = &mut app.borrow_mut().film.camera {
                camera.muted = muted;
            }
            if muted {
                widgets::status(&say("camera.muted"), "failed");
            } else {
                go_on(app);
            }
        }
    }
}

fn page_shown(app: &Shared) {
    let unseen = app.borrow_mut().film.ended_unseen.take();
    let running = app.borrow().film.camera.as_ref().map(|c| (c.facing, c.has_ended()));
    match (running, unseen) {
        (Some((facing, true)), _) => {
            stop(app);
            start(app, facing);
        }
        (Some((_, false)), _) => go_on(app),
        (None, Some(facing)) => start(app, facing),
        (None, None) => {}
    }
}

/// Frames come again: some browsers pause a film that was away.
fn go_on(app: &Shared) {
    let plays = app.borrow().film.camera.as_ref().filter(|camera| camera.plays).map(Camera::play);
    if let Some(plays) = plays {
        spawn_local(async move {
            plays.await;
        });
        next_frame(app);
    }
}

/// Switches the camera off, and forgets one that was asked for.
pub(super) fn stop(app: &Shared) {
    let running = {
        let film = &mut app.borrow_mut().film;
        (film.asked, film.ended_unseen) = (None, None);
        film.camera.take()
    };
    if running.is_some() {
        choice::consider(app);
        // A frame that is still looked at would take the place of what comes next.
        app.borrow_mut().sent = None;
        by_id::<HtmlElement>("camera").set_text_content(Some(&say("camera.start")));
        for id in ["turn", "torch"] {
            by_id::<HtmlElement>(id).set_hidden(true);
        }
        set_attributes(&by_id("torch"), &[("aria-pressed", "false")]);
    }
}

/// Sends the camera's newest frame once the last one is answered.
pub(super) fn next_frame(app: &Shared) {
    if app.borrow().film.camera.is_none() {
        return;
    }
    let app = app.clone();
    // A turn of the event loop lets the page draw and the visitor stop the camera.
    let later = Closure::once_into_js(move || take_frame(&app));
    let _ = window().request_animation_frame(later.unchecked_ref());
}

fn take_frame(app: &Shared) {
    if is_held(app) {
        return later(app, HELD);
    }
    if app.borrow().film.camera.is_some() && choice::relieve(app) {
        // The next engine begins with the next frame.
        return;
    }
    let (id, frame) = {
        let mut state = app.borrow_mut();
        let (ready, busy) = (state.ready, state.sent.is_some() || state.film.reading);
        let Some(camera) = &state.film.camera else { return };
        let waits = busy || !camera.plays || camera.muted || document().hidden();
        if waits || !(ready || camera.fresh) {
            return;
        }
        let (id, frame) = (camera.id, camera.frame());
        state.film.reading = frame.is_some();
        (id, frame)
    };
    let Some(frame) = frame else {
        // Its first one is on its way.
        return next_frame(app);
    };
    let app = app.clone();
    spawn_local(async move {
        let picture = frame.await;
        let (ready, fresh) = {
            let mut state = app.borrow_mut();
            state.film.reading = false;
            let ready = state.ready && state.sent.is_none();
            let camera = state.film.camera.as_mut().filter(|camera| camera.id == id);
            (ready, camera.map(|camera| std::mem::take(&mut camera.fresh)))
        };
        let Some(fresh) = fresh else {
            // Another camera may wait.
            return next_frame(&app);
        };
        if let Some(picture) = picture {
            if fresh {
                show_frame(&app);
            }
            if ready {
                recognize(&app, picture, None);
            }
        } else {
            stop(&app);
            widgets::status(&say("pixels.falsified"), "failed");
        }
    });
}

/// Shows the frame that was read last: the one that is being looked at.
pub(super) fn show_frame(app: &Shared) {
    let drawn = app.borrow().film.camera.as_ref().map(Camera::drawn);
    if let Some(canvas) = drawn {
        view::frame(&canvas);
    }
}

/// The frame was answered.
pub(super) fn answered(app: &Shared) {
    if let Some(camera) = &mut app.borrow_mut().film.camera {
        camera.failures = 0;
    }
}

/// A frame could not be looked at: the next one is tried after a while.
pub(super) fn failed(app: &Shared) {
    let wait = {
        let mut state = app.borrow_mut();
        let Some(camera) = &mut state.film.camera else { return };
        camera.failures += 1;
        (BACK_OFF << camera.failures.min(10)).min(MOST_BACK_OFF)
    };
    later(app, wait);
}

/// The next frame after some milliseconds.
fn later(app: &Shared, wait: i32) {
    let app = app.clone();
    let later = Closure::once_into_js(move || next_frame(&app));
    let _ =
        window().set_timeout_with_callback_and_timeout_and_arguments_0(later.unchecked_ref(), wait);
}
