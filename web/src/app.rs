//! State of the page and what changes it.

use std::cell::RefCell;
use std::rc::Rc;

use gloo_events::EventListener;
use js_sys::Uint8Array;
use serde_bytes::ByteBuf;
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use wasm_engine::protocol::{Backend, Edit, ErrorKind, Picture, Recognized, Request, Response};
use web_sys::{
    File, HtmlButtonElement, HtmlElement, HtmlInputElement, HtmlSelectElement, ImageBitmap,
};

use crate::adapter::{self, Adapter};
use crate::camera::{Camera, Facing, context};
use crate::dom::{append, by_id, document, element, query_parameter, set_attributes, window};
use crate::engine_client::EngineClient;
use crate::input::Given;
use crate::language::say;
use crate::teaching::{self, Ask, Wish};
use crate::{input, inside, language, offline, samples, text, view};

/// Folder of the bundle beside the page.
const MANIFEST: &str = "bundle/manifest.json";
/// Milliseconds between two looks whether a newer gallery was published.
const LOOK_AGAIN: i32 = 60_000;

/// What happened.
pub(crate) enum Message {
    /// The visitor gave something.
    Given(Given),
    /// The bytes of a file and the picture as the browser decoded it, if it could.
    Decoded(Vec<u8>, Option<ImageBitmap>),
    /// The camera button.
    ToggleCamera,
    /// The button for the other camera.
    TurnCamera,
    /// The button of the camera's torch.
    SwitchTorch,
    /// The camera runs, or was refused.
    CameraStarted(Option<Camera>),
    /// The worker spoke.
    Engine(Response),
    /// The visitor chose an engine.
    Backend(Backend),
    /// The page speaks another language.
    Language,
    /// The visitor wants something of the gallery.
    Gallery(Wish),
    /// The page is looked at again, or some time has passed.
    LookAgain,
}

/// A picture that was sent to the worker.
struct Sent {
    id: u32,
    /// Kept until the answer, for formats that only the browser can decode.
    bitmap: Option<ImageBitmap>,
}

/// Everything that the page remembers.
pub(crate) struct App {
    backend: Backend,
    adapter: Option<Adapter>,
    engine: Option<EngineClient>,
    ready: bool,
    next_id: u32,
    sent: Option<Sent>,
    /// Came before the engine was ready.
    waiting: Option<(Vec<u8>, Option<ImageBitmap>)>,
    camera: Option<Camera>,
    /// The newest answer, to be shown again when the gallery changes.
    shown: Option<Recognized>,
    /// Whether everything is kept that the page needs.
    kept: bool,
    /// A picture of this site that the page's address names.
    asked_for: Option<String>,
    listeners: Vec<EventListener>,
}

type Shared = Rc<RefCell<App>>;

/// Starts the page.
pub(crate) async fn start() {
    language::begin().await;
    let adapter = adapter::detect().await;
    // A software adapter is slower than the processor itself.
    let default = match adapter {
        Some(Adapter { software: false }) => Backend::WebGpu,
        _ => Backend::Cpu,
    };
    let backend = match query_parameter("backend").as_deref() {
        Some("webgpu") => Backend::WebGpu,
        Some("cpu") => Backend::Cpu,
        _ => default,
    };
    let app = Rc::new(RefCell::new(App {
        backend,
        adapter,
        engine: None,
        ready: false,
        next_id: 1,
        sent: None,
        waiting: None,
        camera: None,
        shown: None,
        kept: false,
        asked_for: samples::asked_for(),
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
    // The page's inputs live as long as the page.
    std::mem::forget(app);
}

/// Wires the page's controls.
fn connect(app: &Shared) {
    let send = |app: &Shared| {
        let app = app.clone();
        move |message: Message| update(&app, message)
    };
    let deliver = send(app);
    let mut listeners = input::listen(Rc::new(move |given| deliver(Message::Given(given))));
    for (id, message) in [
        ("camera", (|| Message::ToggleCamera) as fn() -> Message),
        ("turn", || Message::TurnCamera),
        ("torch", || Message::SwitchTorch),
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
    select.set_value(app.borrow().backend.name());
    let deliver = send(app);
    listeners.push(EventListener::new(&select.clone(), "change", move |_| {
        let webgpu = select.value() == Backend::WebGpu.name();
        deliver(Message::Backend(if webgpu { Backend::WebGpu } else { Backend::Cpu }));
    }));
    listeners.extend(teaching::listen(&ask(app)));
    listeners.extend(inside::listen(&ask(app)));
    let deliver = send(app);
    listeners.push(EventListener::new(&document(), "visibilitychange", move |_| {
        if !document().hidden() {
            deliver(Message::LookAgain);
        }
    }));
    let state = app.clone();
    listeners.extend(offline::listen(move || {
        state.borrow_mut().kept = true;
        by_id::<HtmlElement>("offline").set_text_content(Some(&say("offline")));
    }));
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

/// Where parts of the page send what the visitor wants of the gallery.
fn ask(app: &Shared) -> Ask {
    let app = app.clone();
    Rc::new(move |wish| update(&app, Message::Gallery(wish)))
}

/// Starts the worker of the chosen backend; an earlier one ends.
fn start_engine(app: &Shared) {
    view::status(&say("starting"), "busy");
    let deliver = {
        let app = app.clone();
        move |response| update(&app, Message::Engine(response))
    };
    let backend = app.borrow().backend;
    let started = EngineClient::start(backend, deliver);
    let mut state = app.borrow_mut();
    state.ready = false;
    state.sent = None;
    match started {
        Ok(engine) => state.engine = Some(engine),
        Err(error) => view::status(&text::failure(&error), "failed"),
    }
}

/// Changes the state by what happened.
pub(crate) fn update(app: &Shared, message: Message) {
    match message {
        Message::Given(Given::Nothing) => view::status(&say("no.picture"), "failed"),
        // No other site is asked for anything.
        Message::Given(Given::Address(address)) if !samples::is_own(&address) => {
            view::status(&say("other.site"), "failed");
        }
        Message::Given(Given::Address(address)) => {
            view::status(&say("loading.picture"), "busy");
            let app = app.clone();
            spawn_local(async move {
                let file = samples::fetch_picture(&address).await;
                update(&app, Message::Given(file.map_or(Given::Nothing, Given::File)));
            });
        }
        Message::Given(Given::File(file)) => {
            stop_camera(app);
            let app = app.clone();
            spawn_local(async move {
                if let Some((bytes, bitmap)) = read(&file).await {
                    update(&app, Message::Decoded(bytes, bitmap));
                } else {
                    view::status(&say("no.picture"), "failed");
                }
            });
        }
        Message::Decoded(bytes, bitmap) => {
            app.borrow_mut().shown = None;
            view::clear();
            match &bitmap {
                Some(bitmap) => view::picture(bitmap),
                None => by_id::<HtmlElement>("stage").set_hidden(true),
            }
            if app.borrow().ready {
                recognize(app, Picture::Encoded(ByteBuf::from(bytes)), bitmap);
            } else {
                app.borrow_mut().waiting = Some((bytes, bitmap));
            }
        }
        Message::ToggleCamera => {
            if app.borrow().camera.is_some() {
                stop_camera(app);
                view::status(&say("ready"), "done");
            } else {
                start_camera(app, Facing::Back);
            }
        }
        Message::TurnCamera => {
            let facing = app.borrow().camera.as_ref().map(|camera| camera.facing);
            if let Some(facing) = facing {
                // Many devices have one camera at a time.
                stop_camera(app);
                start_camera(app, facing.turned());
            }
        }
        Message::SwitchTorch => {
            let mut state = app.borrow_mut();
            let torch = state.camera.as_mut().and_then(Camera::switch_torch);
            let pressed = if torch == Some(true) { "true" } else { "false" };
            set_attributes(&by_id("torch"), &[("aria-pressed", pressed)]);
        }
        Message::CameraStarted(None) => view::status(&say("camera.refused"), "failed"),
        Message::CameraStarted(Some(camera)) => {
            by_id::<HtmlElement>("turn").set_hidden(!camera.turns);
            by_id::<HtmlElement>("torch").set_hidden(camera.torch.is_none());
            app.borrow_mut().camera = Some(camera);
            by_id::<HtmlElement>("camera").set_text_content(Some(&say("camera.stop")));
            by_id::<HtmlElement>("stage").set_hidden(false);
            view::clear();
            next_frame(app);
        }
        Message::Language => speak(app),
        Message::Backend(backend) => {
            app.borrow_mut().backend = backend;
            start_engine(app);
        }
        Message::Engine(response) => engine_spoke(app, response),
        Message::LookAgain => {
            if app.borrow().ready {
                send(app, &Request::Refresh);
            }
        }
        Message::Gallery(Wish::Ask(request)) => send(app, &request),
        Message::Gallery(Wish::LookInside) => {
            inside::look(app.borrow().shown.as_ref(), &ask(app));
        }
        Message::Gallery(Wish::Hold) => {
            stop_camera(app);
            // A frame that is still looked at would take the place of the one that is named.
            app.borrow_mut().sent = None;
        }
        Message::Gallery(Wish::Import(file)) => {
            let app = app.clone();
            spawn_local(async move {
                match JsFuture::from(file.array_buffer()).await {
                    Ok(buffer) => {
                        let bytes = ByteBuf::from(Uint8Array::new(&buffer).to_vec());
                        send(&app, &Request::Edit(Edit::Import { bytes }));
                    }
                    Err(_) => view::status(&say("no.file"), "failed"),
                }
            });
        }
    }
}

fn engine_spoke(app: &Shared, response: Response) {
    match response {
        Response::Started => {
            let base = window().location().href().unwrap_or_default();
            let address = query_parameter("bundle").unwrap_or_else(|| MANIFEST.to_owned());
            let manifest = match web_sys::Url::new_with_base(&address, &base) {
                Ok(url) => url.href(),
                Err(_) => MANIFEST.to_owned(),
            };
            send(app, &Request::Open { manifest });
        }
        Response::Progress { loaded, total } => {
            view::progress(Some((loaded, total)));
            view::status(&text::loading(loaded, total), "busy");
        }
        Response::Ready(info) => {
            view::progress(None);
            document().set_title(&info.title);
            by_id::<HtmlElement>("title").set_text_content(Some(&info.title));
            let size = text::gallery(info.classes, info.entries);
            by_id::<HtmlElement>("gallery").set_text_content(Some(&size));
            inside::published(info.thresholds);
            let notes: HtmlElement = by_id("notes");
            notes.set_inner_html("");
            for note in &info.notes {
                append(&notes, &[&element("p", "", note)]);
            }
            let (waiting, asked_for) = {
                let mut state = app.borrow_mut();
                state.ready = true;
                (state.waiting.take(), state.asked_for.take())
            };
            view::status(&say("ready"), "done");
            // Only a bundle of this site is kept with it.
            if query_parameter("bundle").is_none() {
                offline::keep(info.backend);
            }
            if let Some((bytes, bitmap)) = waiting {
                recognize(app, Picture::Encoded(ByteBuf::from(bytes)), bitmap);
            } else if let Some(address) = asked_for {
                update(app, Message::Given(Given::Address(address)));
            }
            next_frame(app);
        }
        Response::Recognized { id, result } => {
            if finish(app, id).is_none() {
                return;
            }
            show(app, result);
            next_frame(app);
        }
        Response::Listed(gallery) => teaching::show(&gallery, &ask(app)),
        Response::Edited { change, gallery, again } => {
            by_id::<HtmlInputElement>("class-search").set_value("");
            teaching::show(&gallery, &ask(app));
            show_again(app, again);
            teaching::tell(&change);
        }
        Response::Exported { bytes } => teaching::download(&bytes),
        Response::Tuned { thresholds, again } => {
            inside::show_thresholds(thresholds);
            show_again(app, again);
        }
        Response::Cropped { picture, object, bytes } => inside::cropped(picture, object, &bytes),
        Response::Alike { pairs } => teaching::show_alike(&pairs),
        // Answers to what this page never asks.
        Response::Located { .. }
        | Response::Embedded { .. }
        | Response::Found { .. }
        | Response::Measured { .. } => {}
        Response::Failed { id: Some(id), error } => {
            let Some(sent) = finish(app, id) else { return };
            // The browser may know a format that the engine does not.
            match sent.bitmap.filter(|_| error.kind == ErrorKind::Picture) {
                Some(bitmap) => {
                    view::picture(&bitmap);
                    if let Some(picture) = pixels() {
                        recognize(app, picture, None);
                    }
                }
                None => view::status(&text::failure(&error), "failed"),
            }
        }
        Response::Failed { id: None, error } => {
            view::progress(None);
            view::status(&text::failure(&error), "failed");
        }
    }
}

/// Shows a picture's answers, and keeps them.
fn show(app: &Shared, result: Recognized) {
    let (backend, software) = {
        let state = app.borrow();
        (state.backend, state.adapter.is_some_and(|a| a.software))
    };
    view::result(&result, &text::backend(backend, software), &ask(app));
    inside::look(Some(&result), &ask(app));
    app.borrow_mut().shown = Some(result);
}

/// Shows a picture's answers anew if it is still the one that is shown.
fn show_again(app: &Shared, again: Option<Recognized>) {
    let shown = app.borrow().shown.as_ref().map(|shown| shown.picture);
    if let Some(again) = again.filter(|again| Some(again.picture) == shown) {
        show(app, again);
    }
}

/// Says everything anew that is not a part of the page's own text.
fn speak(app: &Shared) {
    samples::rename();
    let (camera, kept, ready) = {
        let state = app.borrow();
        (state.camera.is_some(), state.kept, state.ready)
    };
    let caption = if camera { say("camera.stop") } else { say("camera.start") };
    by_id::<HtmlElement>("camera").set_text_content(Some(&caption));
    if kept {
        by_id::<HtmlElement>("offline").set_text_content(Some(&say("offline")));
    }
    if ready {
        view::status(&say("ready"), "done");
        let filter = by_id::<HtmlInputElement>("class-search").value();
        send(app, &Request::List { filter });
    }
    let shown = app.borrow_mut().shown.take();
    if let Some(shown) = shown {
        show(app, shown);
    }
}

/// The request that an answer belongs to; `None` where a newer one has replaced it.
fn finish(app: &Shared, id: u32) -> Option<Sent> {
    let mut state = app.borrow_mut();
    state.sent.take_if(|sent| sent.id == id)
}

fn recognize(app: &Shared, picture: Picture, bitmap: Option<ImageBitmap>) {
    let id = {
        let mut state = app.borrow_mut();
        let id = state.next_id;
        state.next_id = id.wrapping_add(1);
        state.sent = Some(Sent { id, bitmap });
        if state.camera.is_none() {
            view::status(&say("recognizing"), "busy");
        }
        id
    };
    send(app, &Request::Recognize { id, picture });
}

fn send(app: &Shared, request: &Request) {
    if let Some(engine) = &app.borrow().engine
        && let Err(error) = engine.send(request)
    {
        view::status(&text::failure(&error), "failed");
    }
}

fn start_camera(app: &Shared, facing: Facing) {
    let app = app.clone();
    spawn_local(async move {
        update(&app, Message::CameraStarted(Camera::start(facing).await.ok()));
    });
}

fn stop_camera(app: &Shared) {
    if app.borrow_mut().camera.take().is_some() {
        by_id::<HtmlElement>("camera").set_text_content(Some(&say("camera.start")));
        for id in ["turn", "torch"] {
            by_id::<HtmlElement>(id).set_hidden(true);
        }
        set_attributes(&by_id("torch"), &[("aria-pressed", "false")]);
    }
}

/// Sends the camera's newest frame once the last one is answered.
fn next_frame(app: &Shared) {
    let app = app.clone();
    // A turn of the event loop lets the page draw and the visitor stop the camera.
    let later = Closure::once_into_js(move || {
        let drawn = {
            let state = app.borrow();
            if !state.ready || state.sent.is_some() {
                return;
            }
            match &state.camera {
                Some(camera) => camera.draw(&view::canvas()),
                None => return,
            }
        };
        match pixels().filter(|_| drawn) {
            Some(picture) => recognize(&app, picture, None),
            None => next_frame(&app),
        }
    });
    let _ = window().request_animation_frame(later.unchecked_ref());
}

/// Pixels of the shown picture.
fn pixels() -> Option<Picture> {
    let canvas = view::canvas();
    let (width, height) = (canvas.width(), canvas.height());
    let data =
        context(&canvas).get_image_data(0.0, 0.0, f64::from(width), f64::from(height)).ok()?.data();
    Some(Picture::Pixels { width, height, rgba: ByteBuf::from(data.0) })
}

/// Bytes of a file, and the picture as the browser decodes it.
async fn read(file: &File) -> Option<(Vec<u8>, Option<ImageBitmap>)> {
    let buffer = JsFuture::from(file.array_buffer()).await.ok()?;
    let bytes = Uint8Array::new(&buffer).to_vec();
    let bitmap = match window().create_image_bitmap_with_blob(file) {
        Ok(promise) => JsFuture::from(promise).await.ok().map(JsCast::unchecked_into),
        Err(_) => None,
    };
    Some((bytes, bitmap))
}
