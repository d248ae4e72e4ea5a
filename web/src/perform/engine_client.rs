//! The page's side of the worker.

use std::cell::Cell;
use std::rc::Rc;

use js_sys::{Array, Object, Reflect};
use serde::Serialize;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_engine::protocol::{Backend, EngineError, ErrorKind, Request, Response};
use web_sys::{Event, MessageEvent, Worker};

use super::startup;

/// A running worker; dropping it ends the worker.
pub(crate) struct EngineClient {
    worker: Worker,
    /// Whether nobody listens to it any more.
    ended: Rc<Cell<bool>>,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_error: Closure<dyn FnMut(Event)>,
}

impl EngineClient {
    /// Starts the worker of a backend, that of the processor perhaps plainly; every answer goes to `deliver`.
    pub(crate) fn start(
        backend: Backend,
        is_plain: bool,
        deliver: impl Fn(Response) + Clone + 'static,
    ) -> Result<Self, EngineError> {
        let (worker, early) =
            startup::start_worker(backend, is_plain).map_err(|error| device(&error))?;
        let on_error = {
            let deliver = deliver.clone();
            Closure::<dyn FnMut(Event)>::new(move |event: Event| {
                let message = Reflect::get(&event, &JsValue::from_str("message"))
                    .ok()
                    .and_then(|message| message.as_string())
                    .unwrap_or_else(|| "the engine's worker could not be started".to_owned());
                event.prevent_default();
                let error = EngineError::new(ErrorKind::Device, message);
                deliver(Response::Failed { id: None, error });
            })
        };
        let ended = Rc::new(Cell::new(false));
        let deaf = ended.clone();
        let hear = move |data: JsValue| match serde_wasm_bindgen::from_value(data) {
            // What it said early may have ended it.
            _ if deaf.get() => (),
            Ok(response) => deliver(response),
            Err(error) => web_sys::console::error_1(&error.into()),
        };
        let later = hear.clone();
        let on_message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            later(event.data());
        });
        worker.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        worker.set_onerror(Some(on_error.as_ref().unchecked_ref()));
        // Not now: whoever starts an engine has to have it before it speaks.
        wasm_bindgen_futures::spawn_local(async move { early.into_iter().for_each(hear) });
        Ok(Self { worker, ended, _on_message: on_message, _on_error: on_error })
    }

    /// Ends the worker, which says nothing any more.
    pub(crate) fn end(&self) {
        self.ended.set(true);
        self.worker.set_onmessage(None);
        self.worker.set_onerror(None);
        self.worker.terminate();
    }

    /// Sends a request; byte buffers are moved, not copied.
    pub(crate) fn send(&self, request: &Request) -> Result<(), EngineError> {
        let value = request
            .serialize(&serde_wasm_bindgen::Serializer::new())
            .map_err(|error| EngineError::new(ErrorKind::Picture, error.to_string()))?;
        let transfer = Array::new();
        collect_buffers(&value, &transfer);
        self.worker.post_message_with_transfer(&value, &transfer).map_err(|error| device(&error))
    }
}

impl Drop for EngineClient {
    fn drop(&mut self) {
        self.end();
    }
}

/// The buffers of all byte arrays inside a message.
fn collect_buffers(value: &JsValue, buffers: &Array) {
    if let Some(bytes) = value.dyn_ref::<js_sys::Uint8Array>() {
        buffers.push(&bytes.buffer());
    } else if let Some(object) = value.dyn_ref::<Object>() {
        for entry in Object::values(object).iter() {
            collect_buffers(&entry, buffers);
        }
    }
}

fn device(error: &JsValue) -> EngineError {
    EngineError::new(ErrorKind::Device, format!("{error:?}"))
}
