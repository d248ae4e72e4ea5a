//! The worker's message pump: `Started` first, then one request at a time, in order.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use serde::Serialize;
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use web_sys::MessageEvent;

use crate::engine::Engine;
use crate::fetch::scope;
use crate::protocol::{Backend, EngineError, ErrorKind, Request, Response};

/// Least milliseconds between two progress messages.
const PROGRESS_INTERVAL: f64 = 50.0;

struct State {
    backend: Backend,
    engine: RefCell<Option<Rc<Engine>>>,
    waiting: RefCell<VecDeque<Request>>,
    busy: Cell<bool>,
}

/// Listens for requests until the page ends the worker.
pub fn run(backend: Backend) {
    let state = Rc::new(State {
        backend,
        engine: RefCell::new(None),
        waiting: RefCell::new(VecDeque::new()),
        busy: Cell::new(false),
    });
    let on_message = {
        let state = state.clone();
        Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            match serde_wasm_bindgen::from_value::<Request>(event.data()) {
                Ok(request) => {
                    state.waiting.borrow_mut().push_back(request);
                    pump(&state);
                }
                Err(error) => {
                    let message = format!("request cannot be read: {error}");
                    fail(None, EngineError::new(ErrorKind::Bundle, message));
                }
            }
        })
    };
    scope().set_onmessage(Some(on_message.as_ref().unchecked_ref()));
    // The listener lives as long as the worker.
    on_message.forget();
    send(&Response::Started);
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
                Some(request) => answer(&state, request).await,
                None => break,
            }
        }
        state.busy.set(false);
    });
}

async fn answer(state: &State, request: Request) {
    match request {
        Request::Open { manifest } => {
            let last = Cell::new(0.0);
            let progress = |loaded, total| {
                let now = crate::fetch::now();
                if loaded == total || now - last.get() > PROGRESS_INTERVAL {
                    last.set(now);
                    send(&Response::Progress { loaded, total });
                }
            };
            match Engine::open(&manifest, state.backend, progress).await {
                Ok((engine, info)) => {
                    state.engine.replace(Some(Rc::new(engine)));
                    send(&Response::Ready(info));
                }
                Err(error) => fail(None, error),
            }
        }
        Request::Recognize { id, picture } => {
            let engine = state.engine.borrow().clone();
            let Some(engine) = engine else {
                let message = "no bundle is loaded yet";
                return fail(Some(id), EngineError::new(ErrorKind::Bundle, message));
            };
            match engine.recognize(picture).await {
                Ok(result) => send(&Response::Recognized { id, result }),
                Err(error) => fail(Some(id), error),
            }
        }
    }
}

fn fail(id: Option<u32>, error: EngineError) {
    send(&Response::Failed { id, error });
}

fn send(response: &Response) {
    // Byte buffers become Uint8Arrays; maps are not used.
    let serializer = serde_wasm_bindgen::Serializer::new();
    match response.serialize(&serializer) {
        Ok(value) => {
            if let Err(error) = scope().post_message(&value) {
                web_sys::console::error_1(&error);
            }
        }
        Err(error) => web_sys::console::error_1(&error.into()),
    }
}
