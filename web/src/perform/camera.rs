//! The visitor's camera: its stream, its frames, and what becomes of it.

use gloo_events::EventListener;
use js_sys::{Array, Function, Object, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use wasm_engine::protocol::Picture;
use web_sys::{
    HtmlCanvasElement, HtmlVideoElement, MediaDeviceInfo, MediaDeviceKind, MediaDevices,
    MediaStream, MediaStreamConstraints, MediaStreamTrack, MediaStreamTrackState,
};

use super::pixels;
use crate::app::{CameraState, Change, Facing};
use crate::view::dom::{by_id, document, window};

/// Milliseconds in which a stream has to begin.
const PATIENCE: i32 = 5000;

/// A camera that is on; dropping it switches the camera off.
pub(crate) struct Camera {
    stream: MediaStream,
    video: HtmlVideoElement,
    /// Where frames are drawn: the newest one that was sent.
    canvas: HtmlCanvasElement,
    torch: bool,
    _listeners: Vec<EventListener>,
}

fn devices() -> Result<MediaDevices, JsValue> {
    window().navigator().media_devices()
}

/// Asks for a camera; where there is none that looks this way, for any. It is on once the browser has given it.
/// `device` is preferred where it is there.
pub(crate) async fn ask(facing: Facing, device: &str) -> Result<MediaStream, JsValue> {
    let constraints = MediaStreamConstraints::new();
    let wish = Object::new();
    if !device.is_empty() {
        Reflect::set(&wish, &"deviceId".into(), &device.into())?;
    }
    let name = if facing == Facing::Back { "environment" } else { "user" };
    Reflect::set(&wish, &"facingMode".into(), &name.into())?;
    constraints.set_video(&wish);
    let promise = devices()?.get_user_media_with_constraints(&constraints)?;
    JsFuture::from(promise).await?.dyn_into()
}

/// Switches a camera off.
pub(crate) fn stop(stream: &MediaStream) {
    for track in stream.get_tracks().iter() {
        track.unchecked_into::<MediaStreamTrack>().stop();
    }
}

/// Names of the cameras that there are; none where the browser does not say.
pub(crate) async fn names() -> Vec<String> {
    let known = async {
        let promise = devices()?.enumerate_devices()?;
        Ok::<_, JsValue>(JsFuture::from(promise).await?.unchecked_into::<Array>())
    };
    let known = known.await.unwrap_or_default();
    let known = known.iter().map(JsCast::unchecked_into::<MediaDeviceInfo>);
    let cameras = known.filter(|device| device.kind() == MediaDeviceKind::Videoinput);
    cameras.map(|camera| camera.device_id()).collect()
}

/// Listens for cameras that come and go.
pub(crate) fn on_devices(tell: impl Fn() + 'static) -> Option<EventListener> {
    let devices = devices().ok()?;
    // A page without a safe connection has none.
    devices.is_object().then(|| EventListener::new(&devices, "devicechange", move |_| tell()))
}

impl Camera {
    /// A camera that was given; `tell` hears what happens to it.
    pub(crate) fn new(stream: MediaStream, tell: impl Fn(Change) + Clone + 'static) -> Self {
        let video: HtmlVideoElement = by_id("video");
        video.set_src_object(Some(&stream));
        let canvas = document().create_element("canvas").expect("the tag is a constant");
        let track = first_track(&stream);
        let mut listeners = Vec::new();
        for (name, change) in
            [("ended", Change::Ended), ("mute", Change::Muted), ("unmute", Change::Unmuted)]
        {
            if let Some(track) = &track {
                let tell = tell.clone();
                listeners.push(EventListener::new(track, name, move |_| tell(change)));
            }
        }
        Self {
            torch: has_torch(&stream),
            stream,
            video,
            canvas: canvas.unchecked_into(),
            _listeners: listeners,
        }
    }

    /// Begins its film, or goes on with it: whether that is so in time.
    pub(crate) fn play(&self) -> impl Future<Output = bool> + use<> {
        let begun = self.video.play();
        async move {
            let Ok(begun) = begun else { return false };
            let mut limit = |_, reject: Function| {
                let set = window()
                    .set_timeout_with_callback_and_timeout_and_arguments_0(&reject, PATIENCE);
                // Without a timer it waits as long as the browser does.
                let _ = set;
            };
            let limit = Promise::new(&mut limit);
            JsFuture::from(Promise::race(&Array::of2(&begun, &limit))).await.is_ok()
        }
    }

    /// What the browser says of it now.
    pub(crate) fn state(&self) -> CameraState {
        let track = first_track(&self.stream);
        let ended = |track: &MediaStreamTrack| track.ready_state() == MediaStreamTrackState::Ended;
        CameraState {
            ended: track.as_ref().is_none_or(ended),
            muted: track.as_ref().is_some_and(MediaStreamTrack::muted),
            torch: self.torch,
            device: track.as_ref().and_then(device_of).unwrap_or_default(),
        }
    }

    /// Switches the torch; whether the camera lets it be switched.
    pub(crate) fn switch_torch(&self, on: bool) -> bool {
        let switched = || -> Result<Promise, JsValue> {
            let (constraints, torch) = (Object::new(), Object::new());
            Reflect::set(&torch, &"torch".into(), &on.into())?;
            Reflect::set(&constraints, &"advanced".into(), &Array::of1(&torch))?;
            let track = self.stream.get_video_tracks().get(0);
            let apply: Function = Reflect::get(&track, &"applyConstraints".into())?.dyn_into()?;
            apply.call1(&track, &constraints)?.dyn_into()
        };
        switched().is_ok()
    }

    /// Pixels of the newest frame, in its own size; `None` before the first one.
    pub(crate) fn frame(&self) -> Option<impl Future<Output = Option<Picture>> + use<>> {
        if self.video.video_width() == 0 || self.video.video_height() == 0 {
            return None;
        }
        let (video, canvas) = (self.video.clone(), self.canvas.clone());
        Some(async move { pixels::read(&video, Some(&canvas)).await })
    }

    /// The newest frame that was read.
    pub(crate) fn drawn(&self) -> HtmlCanvasElement {
        self.canvas.clone()
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        stop(&self.stream);
        // Another camera may be there already.
        if self.video.src_object().as_ref() == Some(&self.stream) {
            self.video.set_src_object(None);
        }
    }
}

fn first_track(stream: &MediaStream) -> Option<MediaStreamTrack> {
    stream.get_video_tracks().get(0).dyn_into().ok()
}

/// Name of a track's device, where the browser says it. Through reflection, because old browsers have no settings.
fn device_of(track: &MediaStreamTrack) -> Option<String> {
    let settings: Function = Reflect::get(track, &"getSettings".into()).ok()?.dyn_into().ok()?;
    Reflect::get(&settings.call0(track).ok()?, &"deviceId".into()).ok()?.as_string()
}

/// Through reflection, because the bindings do not know of torches.
fn has_torch(stream: &MediaStream) -> bool {
    let track = stream.get_video_tracks().get(0);
    let capabilities = || -> Result<JsValue, JsValue> {
        let ask: Function = Reflect::get(&track, &"getCapabilities".into())?.dyn_into()?;
        Reflect::get(&ask.call0(&track)?, &"torch".into())
    };
    capabilities().is_ok_and(|torch| torch.is_truthy())
}
