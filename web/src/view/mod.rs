//! Shows what is to be seen: status line, picture with boxes, answers, panels. What the visitor does there becomes an
//! [`Event`].

pub(crate) mod card;
pub(crate) mod details;
pub(crate) mod pointing;
pub(crate) mod samples;
pub(crate) mod teaching;
pub(crate) mod text;
pub(crate) mod widgets;

use std::rc::Rc;

pub(crate) use page::{dialog, dom, language};

use gloo_events::EventListener;
use wasm_engine::protocol::Recognized;
use web_sys::{
    CanvasRenderingContext2d, HtmlCanvasElement, HtmlElement, HtmlSelectElement, ImageBitmap,
};

use crate::app::{Computed, Event, Show};
use dom::{append, by_id, context, document, element, set_attributes, window};
use language::say;

/// Where what the visitor does goes.
pub(crate) type Sender = Rc<dyn Fn(Event)>;

/// Lets something be seen.
pub(crate) fn show(show: Show, ask: &Sender) {
    match show {
        Show::Status(sentence, look) => widgets::status(&sentence, look),
        Show::Progress(part) => progress(part),
        Show::Title(title, notes) => introduce(&title, &notes),
        Show::Size(classes, entries) => write("gallery", &text::gallery(classes, entries)),
        Show::NoPicture => stage(false),
        Show::NoAnswers => clear(),
        Show::Top => to_top(),
        Show::Answers(result, computed) => answers(&result, computed, ask),
        Show::FirstAnswer => card::lead_to_first(),
        Show::Gallery(gallery) => teaching::show(&gallery, ask),
        Show::NoFilter => teaching::clear_filter(),
        Show::Alike(pairs) => teaching::show_alike(&pairs),
        Show::Thresholds(thresholds, published) => {
            details::show_thresholds(thresholds, published);
        }
        Show::Crops(result) => details::look(result.as_deref()),
        Show::Crop { picture, object, bytes } => details::cropped(picture, object, &bytes),
        Show::Choice(choice) => {
            write("choice", &choice.as_ref().map(text::choice).unwrap_or_default());
        }
        Show::Backend(name) => by_id::<HtmlSelectElement>("backend").set_value(name),
        Show::AskBackend(name) => {
            let ask = ask.clone();
            dialog::ask_whether(&say("engine.sure"), &say("engine.change"), move || {
                ask(Event::BackendSure(name.clone()));
            });
        }
        Show::Camera(on) => {
            write("camera", &say(if on { "camera.stop" } else { "camera.start" }));
        }
        Show::Turning(several) => by_id::<HtmlElement>("turn").set_hidden(!several),
        Show::Torch(torch) => {
            let button: HtmlElement = by_id("torch");
            button.set_hidden(torch.is_none());
            let pressed = if torch == Some(true) { "true" } else { "false" };
            set_attributes(&button, &[("aria-pressed", pressed)]);
        }
        Show::Offline { in_parts } => write("offline", &text::offline(in_parts)),
        Show::SampleNames => samples::rename(),
        Show::Marking(on) => pointing::mark(on),
        Show::MarkingFrame(part) => pointing::place(part),
        Show::FocusFrame => focus("frame"),
        Show::FocusMark => focus("mark"),
    }
}

/// Whether a button among the answers has the focus.
pub(crate) fn is_at_answers() -> bool {
    document().active_element().is_some_and(|element| {
        element.tag_name() == "BUTTON" && by_id::<HtmlElement>("answers").contains(Some(&element))
    })
}

fn write(id: &str, text: &str) {
    by_id::<HtmlElement>(id).set_text_content(Some(text));
}

fn focus(id: &str) {
    let _ = by_id::<HtmlElement>(id).focus();
}

/// Shows whose page it is.
fn introduce(title: &str, notes: &[String]) {
    document().set_title(title);
    write("title", title);
    let list: HtmlElement = by_id("notes");
    list.set_text_content(None);
    for note in notes {
        append(&list, &[&element("p", "", note)]);
    }
}

/// Longest side of the shown picture in canvas pixels. The engine resizes for itself, in `models/src/image/resize.rs`.
const MAX_SIDE: f64 = 1280.0;

/// Moves the bar of the download; `None` hides it.
fn progress(part: Option<(u64, u64)>) {
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
    draw(bitmap.width(), bitmap.height(), |drawing, width, height| {
        drawing.set_fill_style_str("#fff");
        drawing.fill_rect(0.0, 0.0, width, height);
        let _ = drawing.draw_image_with_image_bitmap_and_dw_and_dh(bitmap, 0.0, 0.0, width, height);
    });
}

/// Shows what is drawn of a picture with these sides, in the size that the page has for it.
fn draw(width: u32, height: u32, onto: impl FnOnce(&CanvasRenderingContext2d, f64, f64)) {
    let (width, height) = (f64::from(width), f64::from(height));
    let scale = (MAX_SIDE / width.max(height)).min(1.0);
    let (width, height) = ((width * scale).round().max(1.0), (height * scale).round().max(1.0));
    let canvas = canvas();
    canvas.set_width(width as u32);
    canvas.set_height(height as u32);
    onto(&context(&canvas), width, height);
    frame_of(width, height);
    stage(true);
}

/// Shows the place of the picture, or hides it and invites to give one.
fn stage(shown: bool) {
    by_id::<HtmlElement>("stage").set_hidden(!shown);
    mark_page("data-state", if shown { "picture" } else { "empty" });
}

/// Begins with the answer, wherever the visitor was on the page.
fn to_top() {
    window().scroll_to_with_x_and_y(0.0, 0.0);
}

/// The picture's sides decide how large it can be shown.
fn frame_of(width: f64, height: f64) {
    let aspect = format!("{:.4}", width / height.max(1.0));
    let _ = by_id::<HtmlElement>("stage").style().set_property("--aspect", &aspect);
}

fn mark_page(attribute: &str, value: &str) {
    if let Some(body) = document().body() {
        let _ = body.set_attribute(attribute, value);
    }
}

/// Shows a frame of the camera, shrunk like a picture.
pub(crate) fn frame(frame: &HtmlCanvasElement) {
    draw(frame.width(), frame.height(), |drawing, width, height| {
        let _ = drawing
            .draw_image_with_html_canvas_element_and_dw_and_dh(frame, 0.0, 0.0, width, height);
    });
}

/// Shows boxes, answers and timings of a picture.
fn answers(result: &Recognized, computed: Computed, ask: &Sender) {
    boxes(result);
    card::show(result, ask);
    let found = card::found(result);
    mark_page("data-state", "picture");
    mark_page("data-found", if found > 1 { "many" } else { "one" });
    write("timings", &text::timings(&result.timings, computed));
}

/// Forgets the last picture's answers.
fn clear() {
    by_id::<HtmlElement>("answers").set_text_content(None);
    by_id::<HtmlElement>("boxes").set_text_content(None);
    by_id::<HtmlElement>("timings").set_text_content(None);
}

/// Boxes lie over the canvas as elements, in percent, so that they follow its size.
fn boxes(result: &Recognized) {
    let layer: HtmlElement = by_id("boxes");
    layer.set_text_content(None);
    let (width, height) = (result.width as f32, result.height as f32);
    frame_of(width.into(), height.into());
    let (found, numbered) = (card::found(result), card::is_numbered(result));
    for (index, object) in result.objects.iter().enumerate() {
        if card::is_whole(result, object) {
            continue;
        }
        let [x1, y1, x2, y2] = object.bbox;
        let frame = element("div", "box", "");
        for (class, wanted) in [("unknown", !object.known), ("pointed", index >= found)] {
            let _ = frame.class_list().toggle_with_force(class, wanted);
        }
        let percent = |value: f32, of: f32| format!("{:.3}%", value / of * 100.0);
        for (property, value) in [
            ("left", percent(x1, width)),
            ("top", percent(y1, height)),
            ("width", percent(x2 - x1, width)),
            ("height", percent(y2 - y1, height)),
        ] {
            let _ = frame.style().set_property(property, &value);
        }
        let tag = element("span", "tag", "");
        if numbered {
            append(&tag, &[&element("span", "number", &card::number(result, index).to_string())]);
        }
        if let Some(answer) = object.answers.first().filter(|_| object.known) {
            append(&tag, &[&element("span", "name", &answer.label)]);
        }
        append(&frame, &[&tag]);
        set_attributes(&frame, &[("data-box", &index.to_string())]);
        // The card says more; keyboards and readers reach it without the box.
        EventListener::new(&frame, "click", move |_| card::lead_to(index)).forget();
        append(&layer, &[&frame]);
    }
}
