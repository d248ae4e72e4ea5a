//! Shows the state: status line, picture with boxes, answers, timings.

use gloo_events::EventListener;
use js_sys::{Array, Uint8Array};
use wasm_bindgen::JsCast;
use wasm_engine::protocol::{Answer, Recognized, RecognizedObject};
use web_sys::{
    Blob, BlobPropertyBag, HtmlCanvasElement, HtmlElement, HtmlImageElement, ImageBitmap, Url,
};

use crate::camera::context;
use crate::dom::{append, by_id, element, set_attributes};
use crate::language::say;
use crate::teaching::{self, Ask};
use crate::text;

/// Longest side of the shown picture in canvas pixels.
const MAX_SIDE: f64 = 1280.0;

/// Says what the page is doing. `busy` and `failed` change the line's look.
pub(crate) fn status(message: &str, state: &str) {
    let line: HtmlElement = by_id("status");
    line.set_text_content(Some(message));
    line.set_class_name(state);
}

/// Moves the bar of the download; `None` hides it.
pub(crate) fn progress(part: Option<(u64, u64)>) {
    let bar: HtmlElement = by_id("progress");
    match part {
        Some((loaded, total)) => {
            bar.set_class_name("");
            let _ = bar.set_attribute("max", &total.max(1).to_string());
            let _ = bar.set_attribute("value", &loaded.to_string());
        }
        None => bar.set_class_name("idle"),
    }
}

/// The canvas of the picture.
pub(crate) fn canvas() -> HtmlCanvasElement {
    by_id("canvas")
}

/// Shows a decoded picture, shrunk to a size that phones can draw.
pub(crate) fn picture(bitmap: &ImageBitmap) {
    let (width, height) = (f64::from(bitmap.width()), f64::from(bitmap.height()));
    let scale = (MAX_SIDE / width.max(height)).min(1.0);
    let (width, height) = ((width * scale).round().max(1.0), (height * scale).round().max(1.0));
    let canvas = canvas();
    canvas.set_width(width as u32);
    canvas.set_height(height as u32);
    let drawing = context(&canvas);
    drawing.set_fill_style_str("#fff");
    drawing.fill_rect(0.0, 0.0, width, height);
    let _ = drawing.draw_image_with_image_bitmap_and_dw_and_dh(bitmap, 0.0, 0.0, width, height);
    by_id::<HtmlElement>("stage").set_hidden(false);
}

/// Shows a frame of the camera, shrunk like a picture.
pub(crate) fn frame(frame: &HtmlCanvasElement) {
    let (width, height) = (f64::from(frame.width()), f64::from(frame.height()));
    let scale = (MAX_SIDE / width.max(height)).min(1.0);
    let (width, height) = ((width * scale).round().max(1.0), (height * scale).round().max(1.0));
    let canvas = canvas();
    canvas.set_width(width as u32);
    canvas.set_height(height as u32);
    let _ = context(&canvas)
        .draw_image_with_html_canvas_element_and_dw_and_dh(frame, 0.0, 0.0, width, height);
    by_id::<HtmlElement>("stage").set_hidden(false);
}

/// Shows boxes, answers and timings of a picture.
pub(crate) fn result(result: &Recognized, backend: &str, ask: &Ask) {
    boxes(result);
    let list: HtmlElement = by_id("answers");
    list.set_inner_html("");
    for (index, object) in result.objects.iter().enumerate() {
        append(&list, &[&card(result.picture, index, object, ask)]);
    }
    let known = result.objects.iter().filter(|o| o.known).count();
    status(&text::summary(known, result.objects.len()), "done");
    let timings = text::timings(&result.timings, backend);
    by_id::<HtmlElement>("timings").set_text_content(Some(&timings));
}

/// Forgets the last picture's answers.
pub(crate) fn clear() {
    by_id::<HtmlElement>("answers").set_inner_html("");
    by_id::<HtmlElement>("boxes").set_inner_html("");
    by_id::<HtmlElement>("timings").set_text_content(None);
}

/// Boxes lie over the canvas as elements, in percent, so that they follow its size.
fn boxes(result: &Recognized) {
    let layer: HtmlElement = by_id("boxes");
    layer.set_inner_html("");
    let (width, height) = (result.width as f32, result.height as f32);
    for (index, object) in result.objects.iter().enumerate() {
        let [x1, y1, x2, y2] = object.bbox;
        let class = if object.known { "box" } else { "box unknown" };
        let frame = element("div", class, "");
        let percent = |value: f32, of: f32| format!("{:.3}%", value / of * 100.0);
        for (property, value) in [
            ("left", percent(x1, width)),
            ("top", percent(y1, height)),
            ("width", percent(x2 - x1, width)),
            ("height", percent(y2 - y1, height)),
        ] {
            let _ = frame.style().set_property(property, &value);
        }
        append(&frame, &[&element("span", "number", &(index + 1).to_string())]);
        if let Some(answer) = object.answers.first().filter(|_| object.known) {
            append(&frame, &[&element("span", "tag", &answer.label)]);
        }
        // The card says more; keyboards and readers reach it without the box.
        EventListener::new(&frame, "click", move |_| {
            if let Some(card) = by_id::<HtmlElement>("answers").children().item(index as u32) {
                card.scroll_into_view();
                let _ = card.unchecked_into::<HtmlElement>().focus();
            }
        })
        .forget();
        append(&layer, &[&frame]);
    }
}

/// One object: its number, its answer, the runners-up.
fn card(picture: u32, index: usize, object: &RecognizedObject, ask: &Ask) -> HtmlElement {
    let card = element("li", if object.known { "card" } else { "card unknown" }, "");
    set_attributes(&card, &[("tabindex", "-1")]);
    let heading = element("h3", "", "");
    append(&heading, &[&element("span", "number", &(index + 1).to_string())]);
    let (first, rest) = match object.answers.split_first() {
        Some((first, rest)) if object.known => {
            append(&heading, &[&element("span", "label", &first.label)]);
            (Some(first), rest)
        }
        Some(_) => {
            append(&heading, &[&element("span", "label", &say("unknown"))]);
            (None, object.answers.as_slice())
        }
        None => {
            append(&heading, &[&element("span", "label", &say("empty.gallery"))]);
            (None, [].as_slice())
        }
    };
    append(&card, &[&heading]);
    if let Some(answer) = first {
        append(&card, &[&answer_row(answer, true)]);
        for (name, value) in &answer.metadata {
            append(&card, &[&fact(name, value)]);
        }
    } else if !rest.is_empty() {
        append(&card, &[&element("p", "hint", &say("nothing.close"))]);
    }
    let list = element("ul", "others", "");
    for answer in rest {
        let item = element("li", "", "");
        let row = answer_row(answer, false);
        append(&row, &[&teaching::choice(picture, index, &answer.label, ask)]);
        append(&item, &[&row]);
        append(&list, &[&item]);
    }
    append(&card, &[&list, &teaching::correction(picture, index, object.known, ask)]);
    card
}

/// A fact about a class; an address becomes a link, everything else stays text.
fn fact(name: &str, value: &str) -> HtmlElement {
    let fact = element("p", "fact", &format!("{name}: "));
    let is_address = ["https://", "http://"].iter().any(|scheme| value.starts_with(scheme));
    let value = if is_address {
        let link = element("a", "", value);
        // The other site learns nothing of this page.
        let away = [("href", value), ("target", "_blank"), ("rel", "noopener noreferrer")];
        set_attributes(&link, &away);
        link
    } else {
        element("span", "", value)
    };
    append(&fact, &[&value]);
    fact
}

fn answer_row(answer: &Answer, best: bool) -> HtmlElement {
    let row = element("div", if best { "answer best" } else { "answer" }, "");
    if !answer.thumbnail.is_empty() {
        append(&row, &[&thumbnail(&answer.thumbnail)]);
    }
    if !best {
        append(&row, &[&element("span", "name", &answer.label)]);
    }
    let meter = element("meter", "", "");
    for (name, value) in [
        ("min", "0".to_owned()),
        ("max", "1".to_owned()),
        ("value", format!("{:.3}", answer.similarity.clamp(0.0, 1.0))),
        ("aria-label", text::similarity_of(&answer.label)),
    ] {
        let _ = meter.set_attribute(name, &value);
    }
    append(&row, &[&meter, &element("span", "score", &text::similarity(answer.similarity))]);
    row
}

/// An encoded picture.
pub(crate) fn thumbnail(encoded: &[u8]) -> HtmlElement {
    let image: HtmlImageElement = element("img", "thumbnail", "").unchecked_into();
    image.set_alt("");
    let parts = Array::of1(&Uint8Array::from(encoded));
    let options = BlobPropertyBag::new();
    options.set_type("image/jpeg");
    if let Ok(blob) = Blob::new_with_u8_array_sequence_and_options(&parts, &options)
        && let Ok(url) = Url::create_object_url_with_blob(&blob)
    {
        image.set_src(&url);
        // The address is needed until the picture is there.
        let once = wasm_bindgen::closure::Closure::once_into_js(move || {
            let _ = Url::revoke_object_url(&url);
        });
        image.set_onload(Some(once.unchecked_ref()));
    }
    image.unchecked_into()
}
