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
use crate::camera::{Camera, context};
use crate::dom::{append, by_id, document, element, query_parameter, window};
use crate::engine_client::EngineClient;
use crate::teaching::{self, Ask, Wish};
use crate::{input, offline, text, view};

/// Folder of the bundle beside the page.
const MANIFEST: &str = "bundle/manifest.json";
/// Milliseconds between two looks whether a newer gallery was published.
const LOOK_AGAIN: i32 = 60_000;

/// What happened.
pub(crate) enum Message {
    /// The visitor gave a file, or something that is none.
    File(Option<File>),
    /// The bytes of a file and the picture as the browser decoded it, if it could.
    Decoded(Vec<u8>, Option<ImageBitmap>),
    /// The camera button.
    ToggleCamera,
    /// The camera runs, or was refused.
    CameraStarted(Option<Camera>),
    /// The worker spoke.
    Engine(Response),
    /// The visitor chose an engine.
    Backend(Backend),
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
    shown: Option<u32>,
    listeners: Vec<EventListener>,
}

type Shared = Rc<RefCell<App>>;

/// Starts the page.
pub(crate) async fn start() {
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
        listeners: Vec::new(),
    }));
    connect(&app);
    start_engine(&app);
    spawn_local(load_samples(app.clone()));
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
    let mut listeners = input::listen(Rc::new(move |file| deliver(Message::File(file))));
    let camera: HtmlButtonElement = by_id("camera");
    let deliver = send(app);
    listeners.push(EventListener::new(&camera, "click", move |_| deliver(Message::ToggleCamera)));
    let select: HtmlSelectElement = by_id("backend");
    select.set_value(app.borrow().backend.name());
    let deliver = send(app);
    listeners.push(EventListener::new(&select.clone(), "change", move |_| {
        let webgpu = select.value() == Backend::WebGpu.name();
        deliver(Message::Backend(if webgpu { Backend::WebGpu } else { Backend::Cpu }));
    }));
    listeners.extend(teaching::listen(&ask(app)));
    let deliver = send(app);
    listeners.push(EventListener::new(&document(), "visibilitychange", move |_| {
        if !document().hidden() {
            deliver(Message::LookAgain);
        }
    }));
    listeners.extend(offline::listen(|| {
        by_id::<HtmlElement>("offline").set_text_content(Some(text::OFFLINE));
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
    view::status(text::STARTING, "busy");
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
        Message::File(None) => view::status(text::NO_PICTURE, "failed"),
        Message::File(Some(file)) => {
            stop_camera(app);
            let app = app.clone();
            spawn_local(async move {
                if let Some((bytes, bitmap)) = read(&file).await {
                    update(&app, Message::Decoded(bytes, bitmap));
                } else {
                    view::status(text::NO_PICTURE, "failed");
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
                view::status(text::READY, "done");
            } else {
                let app = app.clone();
                spawn_local(async move {
                    update(&app, Message::CameraStarted(Camera::start().await.ok()));
                });
            }
        }
        Message::CameraStarted(None) => view::status(text::CAMERA_REFUSED, "failed"),
        Message::CameraStarted(Some(camera)) => {
            app.borrow_mut().camera = Some(camera);
            by_id::<HtmlElement>("camera").set_text_content(Some(text::CAMERA_STOP));
            by_id::<HtmlElement>("stage").set_hidden(false);
            view::clear();
            next_frame(app);
        }
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
                    Err(_) => view::status(text::NO_FILE, "failed"),
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
            let notes: HtmlElement = by_id("notes");
            notes.set_inner_html("");
            for note in &info.notes {
                append(&notes, &[&element("p", "", note)]);
            }
            let waiting = {
                let mut state = app.borrow_mut();
                state.ready = true;
                state.waiting.take()
            };
            view::status(text::READY, "done");
            // Only a bundle of this site is kept with it.
            if query_parameter("bundle").is_none() {
                offline::keep(info.backend);
            }
            if let Some((bytes, bitmap)) = waiting {
                recognize(app, Picture::Encoded(ByteBuf::from(bytes)), bitmap);
            }
            next_frame(app);
        }
        Response::Recognized { id, result } => {
            if finish(app, id).is_none() {
                return;
            }
            app.borrow_mut().shown = Some(id);
            show(app, &result);
            next_frame(app);
        }
        Response::Listed(gallery) => teaching::show(&gallery, &ask(app)),
        Response::Edited { change, gallery, again } => {
            by_id::<HtmlInputElement>("class-search").set_value("");
            teaching::show(&gallery, &ask(app));
            let shown = app.borrow().shown;
            if let Some(again) = again.filter(|again| Some(again.picture) == shown) {
                show(app, &again);
            }
            teaching::say(&change);
        }
        Response::Exported { bytes } => teaching::download(&bytes),
        // Answers to what this page never asks.
        Response::Located { .. } | Response::Embedded { .. } | Response::Found { .. } => {}
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

/// Shows a picture's answers.
fn show(app: &Shared, result: &Recognized) {
    let (backend, software) = {
        let state = app.borrow();
        (state.backend, state.adapter.is_some_and(|a| a.software))
    };
    view::result(result, &text::backend(backend, software), &ask(app));
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
            view::status(text::RECOGNIZING, "busy");
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

fn stop_camera(app: &Shared) {
    if app.borrow_mut().camera.take().is_some() {
        by_id::<HtmlElement>("camera").set_text_content(Some(text::CAMERA_START));
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

/// Offers the published sample pictures.
async fn load_samples(app: Shared) {
    let Some(names) = fetch_samples().await else { return };
    let strip: HtmlElement = by_id("samples");
    for (index, name) in names.into_iter().enumerate() {
        let button = element("button", "sample", "");
        let _ = button.set_attribute("type", "button");
        let _ = button.set_attribute("aria-label", &format!("Sample picture {}", index + 1));
        let image = element("img", "", "");
        let _ = image.set_attribute("src", &name);
        let _ = image.set_attribute("alt", "");
        append(&button, &[&image]);
        append(&strip, &[&button]);
        let app_for_click = app.clone();
        let listener = EventListener::new(&button, "click", move |_| {
            let (app, name) = (app_for_click.clone(), name.clone());
            spawn_local(async move {
                update(&app, Message::File(fetch_file(&name).await));
            });
        });
        app.borrow_mut().listeners.push(listener);
    }
    by_id::<HtmlElement>("sample-section").set_hidden(strip.child_element_count() == 0);
}

async fn fetch_samples() -> Option<Vec<String>> {
    let response = fetch("samples.json").await?;
    let json = JsFuture::from(response.json().ok()?).await.ok()?;
    serde_wasm_bindgen::from_value(json).ok()
}

async fn fetch_file(name: &str) -> Option<File> {
    let blob = JsFuture::from(fetch(name).await?.blob().ok()?).await.ok()?;
    File::new_with_blob_sequence(&js_sys::Array::of1(&blob), name).ok()
}

async fn fetch(address: &str) -> Option<web_sys::Response> {
    let response = JsFuture::from(window().fetch_with_str(address)).await.ok()?;
    let response: web_sys::Response = response.unchecked_into();
    response.ok().then_some(response)
}
