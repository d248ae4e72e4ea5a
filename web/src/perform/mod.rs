//! What the page does in the browser: it makes events of what happens, has [`crate::app::update`] change the state,
//! and does what that says, with files, camera, storage and the worker. What is to be seen [`crate::view`] shows.

mod camera;
mod controls;
mod engine_client;
mod filming;
mod input;
mod offline;
mod pixels;
mod samples;
mod startup;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use gloo_events::EventListener;
use js_sys::Uint8Array;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use wasm_engine::protocol::{Backend, Request};
use web_sys::{AbortController, File, ImageBitmap, MediaStream};

use crate::app::{
    App, Beginning, CameraState, Command, Event, Given, Handle, Outcome, Reading, Source, Visitor,
    update,
};
use crate::view::dom::{document, query_parameter, window};
use crate::view::{self, Sender, language, pointing, teaching};
use camera::Camera;
use engine_client::EngineClient;
pub(crate) use startup::tell_end;

/// The sentences in English.
const ENGLISH: &str = include_str!("../../../www/text/en.json");

/// The page: its state, and what the browser holds for it.
struct Page {
    app: RefCell<App>,
    /// What has happened and was not taken up yet.
    events: RefCell<VecDeque<Event>>,
    /// Whether something is being taken up.
    busy: Cell<bool>,
    /// Files and decoded pictures.
    held: RefCell<BTreeMap<Handle, JsValue>>,
    next_handle: Cell<u32>,
    engine: RefCell<Option<EngineClient>>,
    /// Cameras that were given and not taken yet, by their asking.
    streams: RefCell<BTreeMap<u32, MediaStream>>,
    camera: RefCell<Option<Camera>>,
    trial: RefCell<Option<AbortController>>,
    listeners: RefCell<Vec<EventListener>>,
}

/// Starts the page.
pub(crate) async fn start() {
    language::begin(language::Page { english: ENGLISH, site: "." }).await;
    let page = Rc::new(Page {
        app: RefCell::new(App::new(Beginning {
            backend: startup::backend(),
            adapter: startup::adapter(),
            chooses: startup::chooses(),
            choice: startup::kept(),
            most_answers: startup::most_answers(),
            own_bundle: query_parameter("bundle").is_none(),
        })),
        events: RefCell::default(),
        busy: Cell::new(false),
        held: RefCell::default(),
        next_handle: Cell::new(0),
        engine: RefCell::default(),
        streams: RefCell::default(),
        camera: RefCell::default(),
        trial: RefCell::default(),
        listeners: RefCell::default(),
    });
    page.listeners.replace(controls::connect(&page));
    deliver(&page, Event::Begin);
    let ask = sender(&page);
    spawn_local(async move { view::samples::offer(samples::published().await, &ask) });
    if let Some(address) = samples::asked_for() {
        let own = samples::is_own(&address);
        deliver(&page, Event::AskedFor(Given::Address { address, own }));
    }
    // The page's inputs live as long as the page.
    std::mem::forget(page);
}

/// Where parts of the page send what happens.
fn sender(page: &Rc<Page>) -> Sender {
    let page = page.clone();
    Rc::new(move |event| deliver(&page, event))
}

/// Takes up what happened, after what happened before.
fn deliver(page: &Rc<Page>, event: Event) {
    page.events.borrow_mut().push_back(event);
    if page.busy.replace(true) {
        return;
    }
    loop {
        let next = page.events.borrow_mut().pop_front();
        let Some(event) = next else { break };
        let visitor = Visitor { away: document().hidden(), at_answers: view::is_at_answers() };
        let commands = {
            let mut app = page.app.borrow_mut();
            update(&mut app, Event::Visitor(visitor));
            update(&mut app, event)
        };
        for command in commands {
            perform(page, command);
        }
        page.let_go();
    }
    page.busy.set(false);
}

/// Does what the state's change asks for.
fn perform(page: &Rc<Page>, command: Command) {
    match command {
        Command::Show(show) => view::show(show, &sender(page)),
        Command::ShowPicture(handle) => {
            if let Some(bitmap) = page.get(handle) {
                view::picture(bitmap.unchecked_ref());
            }
        }
        Command::ShowFrame => page.show_frame(),
        Command::StartEngine(backend) => start_engine(page, backend, false),
        Command::StartPlainEngine => start_engine(page, Backend::Cpu, true),
        Command::Open => {
            let manifest = startup::manifest();
            send(page, &Request::Open { manifest, arithmetic: None });
        }
        Command::Send(request) => send(page, &request),
        Command::ReadFile(handle, reading) => read_file(page, handle, reading),
        Command::ReadGallery(handle) => read_gallery(page, handle),
        Command::Fetch { address, number } => {
            let page = page.clone();
            spawn_local(async move {
                let file = samples::fetch_picture(&address).await;
                let given = file.map_or(Given::Nothing, |file| Given::File(page.hold(file.into())));
                deliver(&page, Event::Came(number, given));
            });
        }
        Command::ReadPixels(source, next_id) => {
            let source = match source {
                Source::Canvas => Some(view::canvas().into()),
                Source::Held(handle) => page.get(handle),
            };
            let page = page.clone();
            spawn_local(async move {
                let picture = match source {
                    Some(source) => pixels::read(&source, None).await,
                    None => None,
                };
                deliver(&page, Event::Pixels(next_id, picture));
            });
        }
        Command::AskCamera { id, facing, device } => page.ask_camera(id, facing, device),
        Command::TakeCamera(id) => page.take_camera(id),
        Command::LeaveCamera(id) => page.leave_camera(id),
        Command::StopCamera => drop(page.camera.take()),
        Command::PlayCamera => page.play_camera(),
        Command::SwitchTorch(on) => page.switch_torch(on),
        Command::CountCameras => page.count_cameras(),
        Command::NextFrame => page.next_frame(),
        Command::ReadFrame(id) => page.read_frame(id),
        Command::Wait(wait, timer) => {
            let page = page.clone();
            let later = Closure::once_into_js(move || deliver(&page, Event::Time(timer)));
            let _ = window()
                .set_timeout_with_callback_and_timeout_and_arguments_0(later.unchecked_ref(), wait);
        }
        Command::Measure(trial) => measure(page, trial),
        Command::EndTrial => {
            if let Some(trial) = page.trial.take() {
                trial.abort();
            }
        }
        Command::ForgetChoice => startup::forget(),
        Command::LeaveWebGpu(why) => startup::leave(why),
        Command::Keep(backend) => offline::keep(backend),
        Command::Download(bytes) => teaching::download(&bytes),
        Command::Capture(pointer) => pointing::capture(pointer),
    }
}

impl Page {
    /// Holds a file or a decoded picture for as long as the state needs it.
    fn hold(&self, value: JsValue) -> Handle {
        let handle = Handle(self.next_handle.get());
        self.next_handle.set(handle.0.wrapping_add(1));
        self.held.borrow_mut().insert(handle, value);
        handle
    }

    fn get(&self, handle: Handle) -> Option<JsValue> {
        self.held.borrow().get(&handle).cloned()
    }

    /// Lets go what the state does not need, and what no event brings it any more.
    fn let_go(&self) {
        if self.events.borrow().is_empty() {
            let app = self.app.borrow();
            self.held.borrow_mut().retain(|handle, value| {
                let needed = app.needs(*handle);
                // A decoded picture is large, and nobody says how soon the browser would find out.
                if let (false, Some(bitmap)) = (needed, value.dyn_ref::<ImageBitmap>()) {
                    bitmap.close();
                }
                needed
            });
        }
    }

    /// What the browser says of the camera that is on.
    fn camera_state(&self) -> Option<CameraState> {
        self.camera.borrow().as_ref().map(Camera::state)
    }
}

/// Starts an engine in the place of the one before.
fn start_engine(page: &Rc<Page>, backend: Backend, is_plain: bool) {
    if let Some(before) = page.engine.take() {
        before.end();
        // Not now: the old one may be the one that speaks.
        spawn_local(async move { drop(before) });
    }
    let speaking = page.clone();
    let hear = move |said| deliver(&speaking, Event::Engine(said));
    match EngineClient::start(backend, is_plain, hear) {
        Ok(engine) => drop(page.engine.replace(Some(engine))),
        Err(error) => deliver(page, Event::NotStarted(error)),
    }
}

fn send(page: &Rc<Page>, request: &Request) {
    let sent = page.engine.borrow().as_ref().map(|engine| engine.send(request));
    if let Some(Err(error)) = sent {
        deliver(page, Event::NotStarted(error));
    }
}

/// Bytes of a file, and the picture as the browser decodes it.
fn read_file(page: &Rc<Page>, handle: Handle, reading: Reading) {
    let Some(file) = page.get(handle) else { return };
    let (page, file) = (page.clone(), file.unchecked_into::<File>());
    spawn_local(async move {
        let event = match JsFuture::from(file.array_buffer()).await {
            Ok(buffer) => {
                let bytes = Uint8Array::new(&buffer);
                let bitmap = pixels::decode_upright(&file, &bytes).await;
                let bitmap = bitmap.map(|bitmap| page.hold(bitmap.into()));
                Event::Decoded(reading, bytes.to_vec(), bitmap)
            }
            Err(_) => Event::Unreadable(reading),
        };
        deliver(&page, event);
    });
}

fn read_gallery(page: &Rc<Page>, handle: Handle) {
    let Some(file) = page.get(handle) else { return };
    let page = page.clone();
    spawn_local(async move {
        let buffer = JsFuture::from(file.unchecked_into::<File>().array_buffer()).await;
        let bytes = buffer.ok().map(|buffer| Uint8Array::new(&buffer).to_vec());
        deliver(&page, Event::GalleryRead(bytes));
    });
}

/// Measures the engines.
fn measure(page: &Rc<Page>, number: u32) {
    let begun = AbortController::new().and_then(|trial| {
        let outcome = startup::choose(&trial.signal())?;
        Ok((trial, outcome))
    });
    let Ok((trial, outcome)) = begun else {
        return deliver(page, Event::Measured(number, Outcome::Failed));
    };
    page.trial.replace(Some(trial));
    let page = page.clone();
    spawn_local(async move {
        let outcome = match JsFuture::from(outcome).await.map(startup::read_choice) {
            Ok(Some(choice)) => Outcome::Measured(choice),
            Ok(None) => Outcome::Nothing,
            Err(_) => Outcome::Failed,
        };
        deliver(&page, Event::Measured(number, outcome));
    });
}
