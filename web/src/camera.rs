//! Frames of the visitor's camera.

use js_sys::{Array, Function, Object, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    CanvasRenderingContext2d, HtmlCanvasElement, HtmlVideoElement, MediaDeviceInfo,
    MediaDeviceKind, MediaStream, MediaStreamConstraints, MediaStreamTrack,
};

use crate::dom::{by_id, window};

/// Longest side of a frame that is recognised.
const MAX_SIDE: f64 = 640.0;

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

/// A running camera; dropping it switches the camera off.
pub(crate) struct Camera {
    stream: MediaStream,
    video: HtmlVideoElement,
    pub(crate) facing: Facing,
    /// Whether there is another one to turn to.
    pub(crate) turns: bool,
    /// Whether it has a torch, and whether that is on.
    pub(crate) torch: Option<bool>,
}

impl Camera {
    /// Asks for a camera; where there is none that looks this way, for any.
    pub(crate) async fn start(facing: Facing) -> Result<Self, JsValue> {
        let constraints = MediaStreamConstraints::new();
        let wish = Object::new();
        let name = if facing == Facing::Back { "environment" } else { "user" };
        Reflect::set(&wish, &"facingMode".into(), &name.into())?;
        constraints.set_video(&wish);
        let devices = window().navigator().media_devices()?;
        let promise = devices.get_user_media_with_constraints(&constraints)?;
        let stream: MediaStream = JsFuture::from(promise).await?.unchecked_into();
        let video: HtmlVideoElement = by_id("video");
        video.set_src_object(Some(&stream));
        let torch = has_torch(&stream).then_some(false);
        let mut camera = Self { stream, video, facing, turns: false, torch };
        JsFuture::from(camera.video.play()?).await?;
        let known: Array = JsFuture::from(devices.enumerate_devices()?).await?.unchecked_into();
        let cameras = known.iter().filter(|device| {
            device.unchecked_ref::<MediaDeviceInfo>().kind() == MediaDeviceKind::Videoinput
        });
        camera.turns = cameras.count() > 1;
        Ok(camera)
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

    /// Draws the newest frame onto a canvas, which takes its size; `false` before the first one.
    pub(crate) fn draw(&self, canvas: &HtmlCanvasElement) -> bool {
        let (width, height) =
            (f64::from(self.video.video_width()), f64::from(self.video.video_height()));
        if width < 1.0 || height < 1.0 {
            return false;
        }
        let scale = (MAX_SIDE / width.max(height)).min(1.0);
        let (width, height) = ((width * scale).round(), (height * scale).round());
        canvas.set_width(width as u32);
        canvas.set_height(height as u32);
        context(canvas)
            .draw_image_with_html_video_element_and_dw_and_dh(&self.video, 0.0, 0.0, width, height)
            .is_ok()
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        for track in self.stream.get_tracks().iter() {
            track.unchecked_into::<MediaStreamTrack>().stop();
        }
        self.video.set_src_object(None);
    }
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
