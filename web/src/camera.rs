//! Frames of the visitor's camera.

use js_sys::{Object, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    CanvasRenderingContext2d, HtmlCanvasElement, HtmlVideoElement, MediaStream,
    MediaStreamConstraints, MediaStreamTrack,
};

use crate::dom::{by_id, window};

/// Longest side of a frame that is recognised.
const MAX_SIDE: f64 = 640.0;

/// A running camera; dropping it switches the camera off.
pub(crate) struct Camera {
    stream: MediaStream,
    video: HtmlVideoElement,
}

impl Camera {
    /// Asks for the camera, the one at the back where there are two.
    pub(crate) async fn start() -> Result<Self, JsValue> {
        let constraints = MediaStreamConstraints::new();
        let wish = Object::new();
        Reflect::set(&wish, &"facingMode".into(), &"environment".into())?;
        constraints.set_video(&wish);
        let promise =
            window().navigator().media_devices()?.get_user_media_with_constraints(&constraints)?;
        let stream: MediaStream = JsFuture::from(promise).await?.unchecked_into();
        let video: HtmlVideoElement = by_id("video");
        video.set_src_object(Some(&stream));
        JsFuture::from(video.play()?).await?;
        Ok(Self { stream, video })
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
