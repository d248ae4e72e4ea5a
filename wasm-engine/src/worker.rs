//! The worker's message pump: `Started` first, then one request at a time, in order.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use models::gallery::Gallery;
use serde::Serialize;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::MessageEvent;

use crate::engine::{Engine, Lesson};
use crate::fetch::fetch;
use crate::learner;
use crate::protocol::{Backend, EngineError, ErrorKind, Request, Response};
use crate::refresh::Newer;
use crate::scope::{now, scope, text};

/// Least milliseconds between two progress messages.
const PROGRESS_INTERVAL: f64 = 50.0;

struct State {
    backend: Backend,
    engine: RefCell<Option<Engine>>,
    waiting: RefCell<VecDeque<Job>>,
    busy: Cell<bool>,
    /// Whether a newer gallery is being looked for.
    refreshing: Cell<bool>,
    /// Whether the gallery learns in a worker beside.
    learning: Cell<bool>,
}

/// What is to be done.
enum Job {
    /// Answer the page.
    Ask(Request),
    /// Take the classes' pictures in; empty where they could not be had.
    Pictures(Vec<u8>),
    /// Take a gallery that was published since.
    Publish(Box<Newer>),
    /// Take what a gallery learned; `None` where that is nothing.
    Learned(Lesson, Option<Box<Gallery>>),
}

/// Whether the engine's own thread has started; those that come later are helpers.
static STARTED: AtomicBool = AtomicBool::new(false);

/// Listens for requests until the page ends the worker.
pub fn run(backend: Backend) {
    if STARTED.swap(true, Ordering::Relaxed) {
        return;
    }
    models::choose_vectors();
    keep_words_of_panics();
    let state = Rc::new(State {
        backend,
        engine: RefCell::new(None),
        waiting: RefCell::new(VecDeque::new()),
        busy: Cell::new(false),
        refreshing: Cell::new(false),
        learning: Cell::new(false),
    });
    let on_message = {
        let state = state.clone();
        Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            match serde_wasm_bindgen::from_value::<Request>(event.data()) {
                Ok(request) => {
                    state.waiting.borrow_mut().push_back(Job::Ask(request));
                    pump(&state);
                }
                Err(error) => {
                    let message = format!("request cannot be read: {error}");
                    reply(None, Err(EngineError::new(ErrorKind::Bundle, message)));
                }
            }
        })
    };
    scope().set_onmessage(Some(on_message.as_ref().unchecked_ref()));
    // The listener lives as long as the worker.
    on_message.forget();
    send(&Response::Started);
}

/// A panic ends as a trap without words: `worker.js` tells the page these.
pub(crate) fn keep_words_of_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let words = panic.to_string();
        web_sys::console::error_1(&words.as_str().into());
        // Without the words the page still hears of the trap.
        let _ = js_sys::Reflect::set(&scope(), &"panicked".into(), &words.into());
    }));
}

/// Answers waiting requests unless that is already going on.
fn pump(state: &Rc<State>) {
    if state.busy.replace(true) {
        return;
    }
    let state = state.clone();
    wasm_bindgen_futures::spawn_local(async move {
        loop {
            let next = state.waiting.borrow_mut().pop_front();
            match next {
                Some(Job::Ask(request)) => answer(&state, request).await,
                Some(Job::Pictures(bytes)) => {
                    if let Some(engine) = state.engine.borrow_mut().as_mut() {
                        pictured(engine.take_thumbnails(&bytes));
                    }
                    learn(&state);
                }
                Some(Job::Publish(newer)) => {
                    publish(&state, *newer);
                    follow(&state);
                }
                Some(Job::Learned(lesson, gallery)) => {
                    let taken = state.engine.borrow_mut().as_mut().map(|engine| {
                        engine.take_learned(&lesson, gallery.map(|gallery| *gallery))
                    });
                    tell(taken);
                    learn(&state);
                }
                None => break,
            }
        }
        state.busy.set(false);
    });
}

/// Downloads the classes' pictures while the engine already answers.
fn fetch_pictures(state: &Rc<State>, address: Option<String>) {
    let state = state.clone();
    wasm_bindgen_futures::spawn_local(async move {
        let bytes = match address {
            Some(address) => fetch(&address).await.unwrap_or_default(),
            None => Vec::new(),
        };
        state.waiting.borrow_mut().push_back(Job::Pictures(bytes));
        pump(&state);
    });
}

/// Looks for a newer gallery while the engine answers: a host that is slow keeps nobody waiting. Nobody asked to
/// be told that the network is away.
fn fetch_newer(state: &Rc<State>) {
    let publication = state.engine.borrow().as_ref().map(Engine::publication);
    let Some(publication) = publication else { return };
    if state.refreshing.replace(true) {
        return;
    }
    let state = state.clone();
    wasm_bindgen_futures::spawn_local(async move {
        let newer = publication.newer().await;
        state.refreshing.set(false);
        if let Ok(Some(newer)) = newer {
            state.waiting.borrow_mut().push_back(Job::Publish(Box::new(newer)));
            pump(&state);
        }
    });
}

fn publish(state: &Rc<State>, newer: Newer) {
    let Some(mut engine) = state.engine.take() else { return };
    let about = newer.about();
    let published = engine.take_newer(newer);
    let tuned = engine.thresholds();
    state.engine.replace(Some(engine));
    match published {
        Ok(response) => {
            let (title, notes, thresholds) = about;
            send(&Response::Published { title, notes, thresholds, tuned });
            reply(None, Ok(response));
        }
        Err(error) => reply(None, Err(error)),
    }
}

/// After a change of the gallery: thresholds go with its map, and what has grown learns.
fn follow(state: &Rc<State>) {
    let followed = state.engine.borrow_mut().as_mut().map(Engine::follow_map);
    tell(followed);
    learn(state);
}

/// Tells what nobody asked for. That it failed nobody has to know: answers are as before.
fn tell(said: Option<Result<Option<Response>, EngineError>>) {
    match said {
        Some(Ok(Some(response))) => send(&response),
        Some(Err(error)) => web_sys::console::error_1(&error.message.as_str().into()),
        _ => {}
    }
}

/// Lets the gallery learn anew where it has grown, in a worker beside; one at a time.
fn learn(state: &Rc<State>) {
    let lesson = state.engine.borrow().as_ref().and_then(Engine::to_learn);
    let Some(lesson) = lesson else { return };
    if state.learning.replace(true) {
        return;
    }
    let state = state.clone();
    wasm_bindgen_futures::spawn_local(async move {
        let gallery = learner::learned(&lesson.gallery).await;
        state.learning.set(false);
        let job = Job::Learned(lesson, gallery.map(Box::new));
        state.waiting.borrow_mut().push_back(job);
        pump(&state);
    });
}

async fn answer(state: &Rc<State>, request: Request) {
    match request {
        Request::Refresh => fetch_newer(state),
        Request::Open { manifest, arithmetic } => {
            let last = Rc::new(Cell::new(0.0));
            let progress = move |loaded, total| {
                let now = now();
                if loaded == total || now - last.get() > PROGRESS_INTERVAL {
                    last.set(now);
                    send(&Response::Progress { loaded, total });
                }
            };
            match Engine::open(&manifest, state.backend, arithmetic, progress).await {
                Ok((engine, info)) => {
                    let pictures = engine.missing_pictures();
                    state.engine.replace(Some(engine));
                    reply(None, Ok(Response::Ready(info)));
                    fetch_pictures(state, pictures);
                }
                Err(error) => reply(None, Err(error)),
            }
        }
        request => {
            let id = request.id();
            let changes = matches!(request, Request::Edit(_) | Request::Undo | Request::Reset);
            // Requests are answered one at a time, so nothing else holds the engine.
            let Some(mut engine) = state.engine.take() else {
                let message = "no bundle is loaded yet";
                return reply(id, Err(EngineError::new(ErrorKind::Bundle, message)));
            };
            reply(id, ask(&mut engine, request).await);
            state.engine.replace(Some(engine));
            if changes {
                follow(state);
            }
        }
    }
}

/// Requests to a loaded engine.
async fn ask(engine: &mut Engine, request: Request) -> Result<Response, EngineError> {
    if matches!(request, Request::Edit(_) | Request::Undo | Request::Reset | Request::Export) {
        engine.wait_for_pictures().await;
    }
    match request {
        Request::Recognize { id, picture, follow } => {
            let result = engine.recognize(id, picture, follow).await?;
            Ok(Response::Recognized { id, result })
        }
        Request::Locate { id, picture } => engine.locate(id, picture).await,
        Request::Embed { id, picture } => {
            Ok(Response::Embedded { id, embedding: engine.embed(picture).await? })
        }
        Request::Look { picture, regions } => engine.look_at(picture, &regions).await,
        Request::Search { embedding, top_k } => engine.search(embedding, top_k).await,
        Request::List { filter } => Ok(Response::Listed(engine.list(&filter))),
        Request::Edit(edit) => engine.edit(edit).await,
        Request::Undo => engine.undo().await,
        Request::Reset => engine.reset().await,
        Request::Tune(thresholds) => engine.tune(thresholds).await,
        Request::Crop { picture, object } => engine.crop(picture, object),
        Request::Alike => Ok(engine.alike()),
        Request::Measure { id, stage, runs } => {
            Ok(Response::Measured { id, milliseconds: engine.measure(stage, runs).await? })
        }
        Request::Export => Ok(Response::Exported { bytes: engine.export().into() }),
        Request::Open { .. } | Request::Refresh => {
            Err(EngineError::new(ErrorKind::Bundle, "this request is for the worker itself"))
        }
    }
}

/// Answers a request; `id` is its number, if it has one. An answer that cannot be posted is a failure of the
/// request, so that nobody waits for it.
fn reply(id: Option<u32>, answer: Result<Response, EngineError>) {
    let posted = answer.and_then(|response| {
        post(&response).map_err(|error| {
            let message = format!("the answer cannot be posted: {}", text(&error));
            EngineError::new(ErrorKind::Device, message)
        })
    });
    if let Err(error) = posted
        && let Err(error) = post(&Response::Failed { id, error })
    {
        // The worker cannot speak any more: its end is heard.
        wasm_bindgen::throw_val(error);
    }
}

/// Tells that the classes' thumbnails are there; without the newest answer where that cannot be posted.
fn pictured(response: Response) {
    if post(&response).is_err() {
        reply(None, Ok(Response::Pictured { again: None }));
    }
}

/// Says what nobody waits for.
fn send(response: &Response) {
    if let Err(error) = post(response) {
        web_sys::console::error_1(&error);
    }
}

fn post(response: &Response) -> Result<(), JsValue> {
    // Byte buffers become Uint8Arrays; maps are not used.
    let serializer = serde_wasm_bindgen::Serializer::new();
    scope().post_message(&response.serialize(&serializer)?)
}
