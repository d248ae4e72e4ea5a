//! The camera as the browser has it.

use std::rc::Rc;

use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use wasm_bindgen_futures::spawn_local;

use super::camera::{self, Camera};
use super::{Page, deliver};
use crate::app::{CameraEvent, Event, Facing, Frame};
use crate::view;
use crate::view::dom::window;

fn tell(page: &Rc<Page>, event: CameraEvent) {
    deliver(page, Event::Camera(event));
}

impl Page {
    pub(super) fn ask_camera(self: &Rc<Self>, id: u32, facing: Facing, device: String) {
        let page = self.clone();
        spawn_local(async move {
            let stream = camera::ask(facing, &device).await.ok();
            let given = stream.is_some();
            page.streams.borrow_mut().extend(stream.map(|stream| (id, stream)));
            tell(&page, CameraEvent::Answered { id, facing, given });
        });
    }

    pub(super) fn take_camera(self: &Rc<Self>, id: u32) {
        let Some(stream) = self.streams.borrow_mut().remove(&id) else { return };
        let page = self.clone();
        let telling = move |change| tell(&page, CameraEvent::Changed(id, change));
        let camera = Camera::new(stream, telling);
        let begins = camera.play();
        self.camera.replace(Some(camera));
        let page = self.clone();
        spawn_local(async move {
            let begun = begins.await;
            if let Some(state) = page.camera_state() {
                tell(&page, CameraEvent::Began(id, begun, state));
            }
        });
    }

    pub(super) fn leave_camera(&self, id: u32) {
        if let Some(stream) = self.streams.borrow_mut().remove(&id) {
            camera::stop(&stream);
        }
    }

    /// Some browsers pause a film that was away.
    pub(super) fn play_camera(&self) {
        if let Some(begins) = self.camera.borrow().as_ref().map(Camera::play) {
            spawn_local(async move {
                begins.await;
            });
        }
    }

    /// A camera that refuses keeps its torch as it is.
    pub(super) fn switch_torch(self: &Rc<Self>, on: bool) {
        let switched = self.camera.borrow().as_ref().is_some_and(|camera| camera.switch_torch(on));
        if switched {
            tell(self, CameraEvent::TorchIs(on));
        }
    }

    pub(super) fn count_cameras(self: &Rc<Self>) {
        let page = self.clone();
        spawn_local(async move {
            let several = camera::names().await.len() > 1;
            tell(&page, CameraEvent::Several(several));
        });
    }

    pub(super) fn next_frame(self: &Rc<Self>) {
        let page = self.clone();
        let later = Closure::once_into_js(move || tell(&page, CameraEvent::FrameDue));
        let _ = window().request_animation_frame(later.unchecked_ref());
    }

    pub(super) fn read_frame(self: &Rc<Self>, id: u32) {
        let frame = self.camera.borrow().as_ref().and_then(Camera::frame);
        let Some(frame) = frame else {
            return tell(self, CameraEvent::Frame(id, Frame::Coming));
        };
        let page = self.clone();
        spawn_local(async move {
            let read = frame.await.map_or(Frame::Falsified, Frame::Read);
            tell(&page, CameraEvent::Frame(id, read));
        });
    }

    /// Shows the frame that was read last: the one that is being looked at.
    pub(super) fn show_frame(&self) {
        let drawn = self.camera.borrow().as_ref().map(Camera::drawn);
        if let Some(canvas) = drawn {
            view::frame(&canvas);
        }
    }
}
