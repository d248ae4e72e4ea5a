//! What the worker says, and what the page makes of it.

use serde_bytes::ByteBuf;
use wasm_engine::protocol::{Arithmetic, ErrorKind, Picture, Recognized, Request, Response};
use web_sys::{HtmlElement, HtmlInputElement};

use super::controls::to_keep;
use super::{
    AskedFor, Message, Sent, Shared, ask, choice, filming, recognize, recognize_pixels, recovery,
    refuse, send, update,
};
use crate::dom::{append, by_id, document, element};
use crate::language::{say, say_with};
use crate::startup;
use crate::{card, details, offline, samples, teaching, text, view, widgets};

/// Takes up what the worker says.
pub(super) fn engine_spoke(app: &Shared, response: Response) {
    match response {
        Response::Started => {
            let manifest = startup::manifest();
            send(app, &Request::Open { manifest, arithmetic: None });
        }
        Response::Progress { loaded, total } => {
            view::progress(Some((loaded, total)));
            widgets::status(&text::loading(loaded, total), "busy");
        }
        Response::Ready(info) => {
            view::progress(None);
            introduce(&info.title, &info.notes);
            let size = text::gallery(info.classes, info.entries);
            by_id::<HtmlElement>("gallery").set_text_content(Some(&size));
            details::published(info.thresholds);
            let (waiting, asked_for) = {
                let mut state = app.borrow_mut();
                (state.ready, state.in_parts) = (true, info.in_parts);
                state.arithmetic = info.arithmetic;
                (state.waiting.take(), state.asked_for.take())
            };
            recovery::ready(app);
            if let Some(backend) = to_keep(&app.borrow()) {
                offline::keep(backend);
            }
            if let Some((bytes, bitmap)) = waiting {
                recognize(app, Picture::Encoded(ByteBuf::from(bytes)), bitmap);
            } else if let Some(AskedFor::Come(given)) = asked_for {
                update(app, Message::Given(given));
            }
            filming::next_frame(app);
            choice::consider(app);
        }
        Response::Pictured { again } => {
            show_again(app, again);
            teaching::introduce(&ask(app));
        }
        Response::Recognized { id, result } => {
            if finish(app, id).is_none() {
                return;
            }
            recovery::answered(app);
            filming::answered(app);
            choice::watch(&mut app.borrow_mut(), &result);
            if filming::may_show(app) {
                filming::show_frame(app);
                show(app, result);
            }
            filming::next_frame(app);
            choice::consider(app);
        }
        Response::Listed(gallery) => {
            app.borrow_mut().choosing.only_here = gallery.edited && !gallery.kept;
            teaching::show(&gallery, &ask(app));
        }
        Response::Looked { result } => {
            show_again(app, Some(result));
            card::lead_to_first();
        }
        Response::Edited { change, gallery, again } => {
            app.borrow_mut().choosing.only_here = gallery.edited && !gallery.kept;
            by_id::<HtmlInputElement>("class-search").set_value("");
            teaching::show(&gallery, &ask(app));
            show_again(app, again);
            teaching::tell(&change);
        }
        Response::Published { title, notes, thresholds, tuned } => {
            introduce(&title, &notes);
            details::published(thresholds);
            details::show_thresholds(tuned);
        }
        Response::Exported { bytes } => teaching::download(&bytes),
        Response::Tuned { thresholds, again } => {
            details::show_thresholds(thresholds);
            show_again(app, again);
        }
        Response::Cropped { picture, object, bytes } => details::cropped(picture, object, &bytes),
        Response::Alike { pairs } => teaching::show_alike(&pairs),
        // Answers to what this page never asks.
        Response::Located { .. }
        | Response::Embedded { .. }
        | Response::Found { .. }
        | Response::Measured { .. } => {}
        Response::Failed { error, .. } if error.kind == ErrorKind::Device => {
            recovery::stopped(app, &error);
        }
        Response::Failed { id: Some(id), error } => {
            let Some(sent) = finish(app, id) else { return };
            // The browser may decode what the engine does not; what is damaged stays unanswered.
            match sent.bitmap.filter(|_| error.kind == ErrorKind::Format) {
                Some(bitmap) => recognize_pixels(app, bitmap.into()),
                None => refuse(app, &text::failure(&error)),
            }
            filming::failed(app);
        }
        Response::Failed { id: None, error } => {
            view::progress(None);
            widgets::status(&text::failure(&error), "failed");
        }
    }
}

/// Shows whose page it is.
fn introduce(title: &str, notes: &[String]) {
    document().set_title(title);
    by_id::<HtmlElement>("title").set_text_content(Some(title));
    let list: HtmlElement = by_id("notes");
    list.set_text_content(None);
    for note in notes {
        append(&list, &[&element("p", "", note)]);
    }
}

/// Shows a picture's answers, and keeps them.
fn show(app: &Shared, result: Recognized) {
    let (backend, software, arithmetic) = {
        let state = app.borrow();
        (state.backend, state.adapter.is_some_and(|a| a.software), state.arithmetic)
    };
    let mut engine = text::backend(backend, software, result.threads);
    if arithmetic == Arithmetic::I8 {
        engine = say_with("engine.whole", &[("engine", &engine)]);
    }
    if app.borrow().health.fell_back {
        engine = say_with("engine.fallback", &[("engine", &engine)]);
    }
    view::result(&result, &engine, &ask(app));
    details::look(Some(&result), &ask(app));
    app.borrow_mut().shown = Some(result);
}

/// Shows a picture's answers anew if it is still the one that is shown.
fn show_again(app: &Shared, again: Option<Recognized>) {
    let shown = app.borrow().shown.as_ref().map(|shown| shown.picture);
    if let Some(again) = again.filter(|again| Some(again.picture) == shown) {
        show(app, again);
    }
}

/// Says everything anew that is not a part of the page's own text.
pub(super) fn speak(app: &Shared) {
    samples::rename();
    choice::tell(&app.borrow());
    let (camera, kept, in_parts, ready) = {
        let state = app.borrow();
        (state.film.camera.is_some(), state.kept, state.in_parts, state.ready)
    };
    let caption = if camera { say("camera.stop") } else { say("camera.start") };
    by_id::<HtmlElement>("camera").set_text_content(Some(&caption));
    if kept {
        by_id::<HtmlElement>("offline").set_text_content(Some(&text::offline(in_parts)));
    }
    if ready {
        widgets::status(&say("ready"), "done");
        let filter = by_id::<HtmlInputElement>("class-search").value();
        send(app, &Request::List { filter });
    }
    let shown = app.borrow_mut().shown.take();
    if let Some(shown) = shown {
        show(app, shown);
    }
}

/// The request that an answer belongs to; `None` where a newer one has replaced it.
fn finish(app: &Shared, id: u32) -> Option<Sent> {
    let mut state = app.borrow_mut();
    state.sent.take_if(|sent| sent.id == id)
}
