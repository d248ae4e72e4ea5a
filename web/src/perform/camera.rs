//! The visitor's camera: its stream, its frames, and what becomes of it.

use gloo_events::EventListener;
use js_sys::{Array, Function, Object, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use wasm_engine::protocol::Picture;
use web_sys::{
    CanvasRenderingContext2d, HtmlCanvasElement, HtmlVideoElement, MediaDeviceInfo,
    MediaDeviceKind, MediaDevices, MediaStream, MediaStreamConstraints, MediaStreamTrack,
    MediaStreamTrackState,
};

use crate::dom::{by_id, document, window};
use crate::pixels;

/// Milliseconds in which a stream has to begin.
const PATIENCE: i32 = 5000;

/// Which way a camera looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Facing {
    /// Away from the visitor.
    Back,
    /// At the visitor.
    Front,
}

impl Facing {
    /// The other one.
    pub(crate) fn turned(self) -> Self {
        match self {
            Self::Back => Self::Front,
            Self::Front => Self::Back,
        }
    }
}

/// What happens to a camera from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It gives nothing any more: it was unplugged, or taken away for good.
    Ended,
    /// Another program or the system has taken it for a while.
    Muted,
    /// It is back.
    Unmuted,
}

/// A camera that is on; dropping it switches the camera off.
pub(crate) struct Camera {
    stream: MediaStream,
    video: HtmlVideoElement,
    /// Where frames are drawn: the newest one that was sent.
    canvas: HtmlCanvasElement,
    /// Tells it from those before.
    pub(crate) id: u32,
    pub(crate) facing: Facing,
    /// Whether it has a torch, and whether that is on.
    pub(crate) torch: Option<bool>,
    /// Whether its film has begun.
    pub(crate) plays: bool,
    /// Whether somebody else has it.
    pub(crate) muted: bool,
    /// Whether none of its frames was shown.
    pub(crate) fresh: bool,
    /// Frames in a row that could not be looked at.
    pub(crate) failures: i32,
    _listeners: Vec<EventListener>,
}

fn devices() -> Result<MediaDevices, JsValue> {
    window().navigator().media_devices()
}

/// Asks for a camera; where there is none that looks this way, for any. It is on once the browser has given it.
pub(crate) async fn ask(facing: Facing) -> Result<MediaStream, JsValue> {
    let constraints = MediaStreamConstraints::new();
    let wish = Object::new();
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

/// Whether there is more than one camera; no, where the browser does not say.
pub(crate) async fn are_several() -> bool {
    let known = async {
        let promise = devices()?.enumerate_devices()?;
        Ok::<_, JsValue>(JsFuture::from(promise).await?.unchecked_into::<Array>())
    };
    let is_camera = |device: &JsValue| {
        device.unchecked_ref::<MediaDeviceInfo>().kind() == MediaDeviceKind::Videoinput
    };
    known.await.is_ok_and(|known| known.iter().filter(is_camera).count() > 1)
}

/// Listens for cameras that come and go.
pub(crate) fn on_devices(tell: impl Fn() + 'static) -> Option<EventListener> {
    let devices = devices().ok()?;
    // A page without a safe connection has none.
    devices.is_object().then(|| EventListener::new(&devices, "devicechange", move |_| tell()))
}

impl Camera {
    /// A camera that was given; `tell` hears what happens to it.
    pub(crate) fn new(
        stream: MediaStream,
        id: u32,
        facing: Facing,
        tell: impl Fn(Change) + Clone + 'static,
    ) -> Self {
        let video: HtmlVideoElement = by_id("video");
        video.set_src_object(Some(&stream));
        let canvas = document().create_element("canvas").expect("the tag is a constant");
        let torch = has_torch(&stream).then_some(false);
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
            // Some browsers call a track muted until its first frame.
            muted: false,
            stream,
            video,
            canvas: canvas.unchecked_into(),
            id,
            facing,
            torch,
            plays: false,
            fresh: true,
            failures: 0,
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

    /// Whether it gives nothing any more.
    pub(crate) fn has_ended(&self) -> bool {
        first_track(&self.stream)
            .is_none_or(|track| track.ready_state() == MediaStreamTrackState::Ended)
    }

    /// Whether somebody else has it, as the browser says now.
    pub(crate) fn is_muted(&self) -> bool {
        first_track(&self.stream).is_some_and(|track| track.muted())
    }

    /// Switches the torch; a camera that refuses keeps it as it is.
    pub(crate) fn switch_torch(&mut self) -> Option<bool> {
        let on = !self.torch?;
        let switched = || -> Result<Promise, JsValue> {
            let (constraints, torch) = (Object::new(), Object::new());
            Reflect::set(&torch, &"torch".into(), &on.into())?;
            Reflect::set(&constraints, &"advanced".into(), &Array::of1(&torch))?;
            let track = self.stream.get_video_tracks().get(0);
            let apply: Function = Reflect::get(&track, &"applyConstraints".into())?.dyn_into()?;
            apply.call1(&track, &constraints)?.dyn_into()
        };
        if switched().is_ok() {
            self.torch = Some(on);
        }
        self.torch
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

/// Through reflection, because the bindings do not know of torches.
fn has_torch(stream: &MediaStream) -> bool {
    let track = stream.get_video_tracks().get(0);
    let capabilities = || -> Result<JsValue, JsValue> {
        let ask: Function = Reflect::get(&track, &"getCapabilities".into())?.dyn_into()?;
        Reflect::get(&ask.call0(&track)?, &"torch".into())
    };
    capabilities().is_ok_and(|torch| torch.is_truthy())
}

/// The drawing context of a canvas.
pub(crate) fn context(canvas: &HtmlCanvasElement) -> CanvasRenderingContext2d {
    let options = Object::new();
    // Frames are read back; the hint keeps the canvas in main memory.
    let _ = Reflect::set(&options, &"willReadFrequently".into(), &true.into());
    canvas
        .get_context_with_context_options("2d", &options)
        .ok()
        .flatten()
        .expect("a canvas has a 2d context")
        .unchecked_into()
}
