//! State of the page and what changes it.

mod choice;
mod controls;
mod filming;
mod recovery;
mod replies;
mod watch;

use std::cell::RefCell;
use std::rc::Rc;

use gloo_events::EventListener;
use js_sys::Uint8Array;
use serde_bytes::ByteBuf;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use wasm_engine::protocol::{Arithmetic, Backend, Edit, Picture, Recognized, Request, Response};
use web_sys::{File, ImageBitmap};

use crate::command::{Command, Sender};
use crate::engine_client::EngineClient;
use crate::input::Given;
use crate::language::{self, say};
use crate::startup::{self, Adapter};
use crate::{details, pixels, samples, text, view, widgets};
use choice::Choosing;
use controls::connect;
use filming::Filming;
use recovery::Health;
use replies::{engine_spoke, speak};

/// What happened.
pub(crate) enum Message {
    /// The visitor gave something.
    Given(Given),
    /// The bytes of a file and the picture as the browser decoded it, if it could.
    Decoded(Vec<u8>, Option<ImageBitmap>),
    /// Something of the camera.
    Camera(filming::Event),
    /// The worker spoke.
    Engine(Response),
    /// The visitor chose an engine, or leaves the choice to the page; as the list has it.
    Backend(String),
    /// The page speaks another language.
    Language,
    /// The visitor wants something of the gallery.
    Gallery(Command),
    /// The page is looked at again, or some time has passed.
    LookAgain,
}

/// A picture that was sent to the worker.
struct Sent {
    id: u32,
    /// Kept until the answer, for formats that only the browser can decode.
    bitmap: Option<ImageBitmap>,
}

/// A picture that the page's address names.
enum AskedFor {
    /// It is on its way.
    Coming,
    /// It is there, or it is none.
    Come(Given),
}

/// Everything that the page remembers.
pub(crate) struct App {
    backend: Backend,
    adapter: Option<Adapter>,
    /// What the loaded networks compute in.
    arithmetic: Arithmetic,
    engine: Option<EngineClient>,
    ready: bool,
    next_id: u32,
    sent: Option<Sent>,
    /// Came before the engine was ready.
    waiting: Option<(Vec<u8>, Option<ImageBitmap>)>,
    film: Filming,
    /// The newest answer, to be shown again when the gallery changes.
    shown: Option<Recognized>,
    /// Whether everything is kept that the page needs.
    kept: bool,
    /// Whether parts of the gallery are fetched when they are needed.
    in_parts: bool,
    /// The picture that the page's address names, until it may be looked at.
    asked_for: Option<AskedFor>,
    health: Health,
    choosing: Choosing,
    listeners: Vec<EventListener>,
}

type Shared = Rc<RefCell<App>>;

/// Starts the page.
pub(crate) async fn start() {
    language::begin().await;
    let app = Rc::new(RefCell::new(App {
        backend: startup::backend(),
        adapter: startup::adapter(),
        arithmetic: Arithmetic::F32,
        engine: None,
        ready: false,
        next_id: 1,
        sent: None,
        waiting: None,
        film: Filming::default(),
        shown: None,
        kept: false,
        in_parts: false,
        asked_for: None,
        health: Health::default(),
        choosing: Choosing::default(),
        listeners: Vec::new(),
    }));
    connect(&app);
    start_engine(&app);
    let deliver = {
        let app = app.clone();
        Rc::new(move |file: Option<File>| {
            update(&app, Message::Given(file.map_or(Given::Nothing, Given::File)));
        })
    };
    spawn_local(samples::offer(deliver));
    if let Some(address) = samples::asked_for() {
        app.borrow_mut().asked_for = Some(AskedFor::Coming);
        let app = app.clone();
        spawn_local(async move {
            // Another site is not asked for anything, but the visitor is told.
            let given = if samples::is_own(&address) {
                samples::fetch_picture(&address).await.map_or(Given::Nothing, Given::File)
            } else {
                Given::Address(address)
            };
            let ready = app.borrow().ready;
            if ready {
                update(&app, Message::Given(given));
            } else {
                app.borrow_mut().asked_for = Some(AskedFor::Come(given));
            }
        });
    }
    // The page's inputs live as long as the page.
    std::mem::forget(app);
}

/// Where parts of the page send what the visitor wants of the gallery.
fn ask(app: &Shared) -> Sender {
    let app = app.clone();
    Rc::new(move |wish| update(&app, Message::Gallery(wish)))
}

/// Starts the worker of the chosen backend; an earlier one ends.
fn start_engine(app: &Shared) {
    widgets::status(&say("starting"), "busy");
    let deliver = {
        let app = app.clone();
        move |response| update(&app, Message::Engine(response))
    };
    let backend = app.borrow().backend;
    let started = EngineClient::start(backend, deliver);
    let mut state = app.borrow_mut();
    state.ready = false;
    state.sent = None;
    choice::started(&mut state);
    match started {
        Ok(engine) => state.engine = Some(engine),
        Err(error) => widgets::status(&text::failure(&error), "failed"),
    }
}

/// Changes the state by what happened.
pub(crate) fn update(app: &Shared, message: Message) {
    match message {
        Message::Given(Given::Nothing) => refuse(app, &say("no.picture")),
        // No other site is asked for anything.
        Message::Given(Given::Address(address)) if !samples::is_own(&address) => {
            refuse(app, &say("other.site"));
        }
        Message::Given(Given::Address(address)) => {
            widgets::status(&say("loading.picture"), "busy");
            let app = app.clone();
            spawn_local(async move {
                let file = samples::fetch_picture(&address).await;
                update(&app, Message::Given(file.map_or(Given::Nothing, Given::File)));
            });
        }
        Message::Given(Given::File(file)) => {
            filming::stop(app);
            let app = app.clone();
            spawn_local(async move {
                if let Some((bytes, bitmap)) = read(&file).await {
                    update(&app, Message::Decoded(bytes, bitmap));
                } else {
                    refuse(&app, &say("no.picture"));
                }
            });
        }
        Message::Decoded(bytes, bitmap) => {
            choice::disturbed(app);
            choice::relieve(app);
            app.borrow_mut().shown = None;
            view::clear();
            view::to_top();
            match &bitmap {
                Some(bitmap) => view::picture(bitmap),
                None => view::stage(false),
            }
            if app.borrow().ready {
                recognize(app, Picture::Encoded(ByteBuf::from(bytes)), bitmap);
            } else {
                app.borrow_mut().waiting = Some((bytes, bitmap));
            }
        }
        Message::Camera(event) => filming::happened(app, event),
        Message::Language => speak(app),
        Message::Backend(name) => choice::chosen(app, &name),
        Message::Engine(response) => engine_spoke(app, response),
        Message::LookAgain => {
            if app.borrow().ready {
                send(app, &Request::Refresh);
            }
            choice::consider(app);
        }
        Message::Gallery(Command::Send(request)) => send(app, &request),
        Message::Gallery(Command::LookInside) => {
            details::look(app.borrow().shown.as_ref(), &ask(app));
        }
        Message::Gallery(Command::Look(parts)) => {
            let shown = app.borrow().shown.as_ref().map(|shown| {
                let sides = [shown.width, shown.height, shown.width, shown.height].map(f64::from);
                let regions = parts
                    .iter()
                    .map(|part| std::array::from_fn(|side| (part[side] * sides[side]) as f32));
                Request::Look { picture: shown.picture, regions: regions.collect() }
            });
            if let Some(request) = shown {
                filming::stop(app);
                widgets::status(&say("recognizing"), "busy");
                send(app, &request);
            }
        }
        Message::Gallery(Command::Hold) => filming::stop(app),
        Message::Gallery(Command::Import(file)) => {
            let app = app.clone();
            spawn_local(async move {
                match JsFuture::from(file.array_buffer()).await {
                    Ok(buffer) => {
                        let bytes = ByteBuf::from(Uint8Array::new(&buffer).to_vec());
                        send(&app, &Request::Edit(Edit::Import { bytes }));
                    }
                    Err(_) => widgets::status(&say("no.file"), "failed"),
                }
            });
        }
    }
}

/// Says why what was given is not looked at. A camera that runs goes on; an older picture is not shown any more.
fn refuse(app: &Shared, message: &str) {
    let mut state = app.borrow_mut();
    if state.film.camera.is_some() {
        return widgets::status(message, "failed");
    }
    (state.sent, state.waiting, state.shown) = (None, None, None);
    view::refuse(message);
}

fn recognize(app: &Shared, picture: Picture, bitmap: Option<ImageBitmap>) {
    let (id, follow) = {
        let mut state = app.borrow_mut();
        let id = state.next_id;
        state.next_id = id.wrapping_add(1);
        state.sent = Some(Sent { id, bitmap });
        if state.film.camera.is_none() {
            widgets::status(&say("recognizing"), "busy");
        }
        (id, state.film.camera.is_some())
    };
    send(app, &Request::Recognize { id, picture, follow });
}

fn send(app: &Shared, request: &Request) {
    if let Some(engine) = &app.borrow().engine
        && let Err(error) = engine.send(request)
    {
        widgets::status(&text::failure(&error), "failed");
    }
}

/// Asks about the pixels of something that the browser has decoded, unless something else comes first.
fn recognize_pixels(app: &Shared, source: JsValue) {
    let app = app.clone();
    spawn_local(async move {
        let id = app.borrow().next_id;
        let picture = pixels::read(&source, None).await;
        let state = app.borrow();
        if state.next_id != id || state.film.camera.is_some() {
            return;
        }
        drop(state);
        match picture {
            Some(picture) => recognize(&app, picture, None),
            None => widgets::status(&say("pixels.falsified"), "failed"),
        }
    });
}

/// Bytes of a file, and the picture as the browser decodes it.
async fn read(file: &File) -> Option<(Vec<u8>, Option<ImageBitmap>)> {
    let buffer = JsFuture::from(file.array_buffer()).await.ok()?;
    let bytes = Uint8Array::new(&buffer);
    let bitmap = pixels::decode_upright(file, &bytes).await;
    Some((bytes.to_vec(), bitmap))
}
