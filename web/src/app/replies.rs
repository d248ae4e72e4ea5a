//! What the worker says, and what the page makes of it.

use std::rc::Rc;

use serde_bytes::ByteBuf;
use wasm_engine::protocol::{
    Arithmetic, BundleInfo, ErrorKind, GalleryView, Picture, Recognized, Request, Response,
    Thresholds,
};

use super::command::{Command, Commands, Computed, Look, Sentence, Show, Source};
use super::{
    App, AskedFor, Doing, Sent, choice, fail, failure, filming, keep, look_inside, recognize,
    recovery, refuse, take_given,
};

/// Takes up what the worker says.
pub(super) fn engine_spoke(app: &mut App, response: Response, out: &mut Commands) {
    match response {
        Response::Started => out.add(Command::Open),
        Response::Progress { loaded, total } => {
            out.show(Show::Progress(Some((loaded, total))));
            out.status(Sentence::Loading(loaded, total), Look::Busy);
        }
        Response::Ready(info) => ready(app, info, out),
        Response::Pictured { again } => {
            show_again(app, again, out);
            // Examples of what the gallery holds.
            out.send(Request::List { filter: app.filter.clone() });
        }
        Response::Recognized { id, result } => recognized(app, id, result, out),
        Response::Listed(gallery) => show_gallery(app, gallery, out),
        Response::Looked { result } => {
            show_again(app, Some(result), out);
            out.show(Show::FirstAnswer);
        }
        Response::Edited { change, gallery, again } => {
            app.importing = false;
            app.filter.clear();
            out.show(Show::NoFilter);
            show_gallery(app, gallery, out);
            show_again(app, again, out);
            out.status(Sentence::Changed(change), Look::Done);
        }
        Response::Published { title, notes, thresholds, tuned } => {
            out.show(Show::Title(title, notes));
            app.published = Some(thresholds);
            show_thresholds(app, tuned, out);
        }
        Response::Exported { bytes } => out.add(Command::Download(bytes.into_vec())),
        Response::Tuned { thresholds, again } => {
            show_thresholds(app, thresholds, out);
            show_again(app, again, out);
        }
        Response::Cropped { picture, object, bytes } => {
            out.show(Show::Crop { picture, object, bytes: bytes.into_vec() });
        }
        Response::Alike { pairs } => out.show(Show::Alike(pairs)),
        // Answers to what this page never asks.
        Response::Located { .. }
        | Response::Embedded { .. }
        | Response::Found { .. }
        | Response::Measured { .. } => {}
        Response::Failed { error, .. } if error.kind == ErrorKind::Device => {
            recovery::stopped(app, error, out);
        }
        Response::Failed { id: Some(id), error } => {
            let Some(sent) = finish(app, id) else { return };
            // The browser may decode what the engine does not; what is damaged stays unanswered.
            if let Some(bitmap) = sent.bitmap.filter(|_| error.kind == ErrorKind::Format) {
                out.add(Command::ReadPixels(Source::Held(bitmap), app.next_id));
            } else {
                let sentence = failure(app, error, Doing::Recognizing(sent.kind));
                refuse(app, sentence, out);
            }
            filming::failed(app, out);
        }
        Response::Failed { id: None, error } => {
            out.show(Show::Progress(None));
            let importing = std::mem::take(&mut app.importing);
            let doing = if importing { Doing::Importing } else { Doing::Other };
            fail(app, error, doing, out);
        }
    }
}

/// The bundle is loaded.
fn ready(app: &mut App, info: BundleInfo, out: &mut Commands) {
    out.show(Show::Progress(None));
    out.show(Show::Title(info.title, info.notes));
    out.show(Show::Size(info.classes, info.entries));
    app.published = Some(info.thresholds);
    show_thresholds(app, info.thresholds, out);
    (app.ready, app.in_parts, app.arithmetic) = (true, info.in_parts, info.arithmetic);
    recovery::ready(app, out);
    keep(app, out);
    let asked_for = match app.asked_for.take() {
        Some(AskedFor::Come(given)) => Some(given),
        coming => {
            app.asked_for = coming;
            None
        }
    };
    if let Some((bytes, bitmap)) = app.waiting.take() {
        recognize(app, Picture::Encoded(ByteBuf::from(bytes)), bitmap, out);
    } else if let Some(given) = asked_for {
        take_given(app, given, out);
    }
    filming::next_frame(app, out);
    choice::consider(app, out);
}

/// A picture is answered.
fn recognized(app: &mut App, id: u32, result: Recognized, out: &mut Commands) {
    if finish(app, id).is_none() {
        return;
    }
    recovery::answered(app);
    filming::answered(app);
    choice::watch(app, &result);
    if filming::may_show(app) {
        if app.film.camera.is_some() {
            out.add(Command::ShowFrame);
        }
        show(app, Rc::new(result), out);
    }
    filming::next_frame(app, out);
    choice::consider(app, out);
}

fn show_gallery(app: &mut App, gallery: GalleryView, out: &mut Commands) {
    app.choosing.only_here = gallery.edited && !gallery.kept;
    out.show(Show::Gallery(gallery));
}

fn show_thresholds(app: &App, now: Thresholds, out: &mut Commands) {
    out.show(Show::Thresholds(now, app.published == Some(now)));
}

/// Shows a picture's answers, and keeps them.
fn show(app: &mut App, result: Rc<Recognized>, out: &mut Commands) {
    let computed = Computed {
        backend: app.backend,
        software: app.adapter.is_some_and(|adapter| adapter.software),
        threads: result.threads,
        int8: app.arithmetic == Arithmetic::I8,
        fallback: app.health.fell_back,
    };
    out.status(summary(&result), Look::Done);
    out.show(Show::Answers(result.clone(), computed));
    app.shown = Some(result);
    look_inside(app, out);
}

/// What was found, or what the thing is that was marked last.
fn summary(result: &Recognized) -> Sentence {
    if let Some(marked) = result.objects.last().filter(|_| result.pointed > 0) {
        let best = marked.answers.first().filter(|_| marked.known);
        return Sentence::Marked(best.map(|best| best.label.clone()));
    }
    let known = result.objects.iter().filter(|object| object.known).count();
    Sentence::Summary(known, result.objects.len())
}

/// Shows a picture's answers anew if it is still the one that is shown.
fn show_again(app: &mut App, again: Option<Recognized>, out: &mut Commands) {
    let shown = app.shown.as_ref().map(|shown| shown.picture);
    if let Some(again) = again.filter(|again| Some(again.picture) == shown) {
        show(app, Rc::new(again), out);
    }
}

/// Says everything anew that is not a part of the page's own text.
pub(super) fn speak(app: &mut App, out: &mut Commands) {
    out.show(Show::SampleNames);
    choice::tell(app, out);
    out.show(Show::Camera(app.film.camera.is_some()));
    if app.kept {
        out.show(Show::Offline { in_parts: app.in_parts });
    }
    if app.ready {
        out.say("ready", Look::Done);
        out.send(Request::List { filter: app.filter.clone() });
    }
    if let Some(shown) = app.shown.take() {
        show(app, shown, out);
    }
}

/// The request that an answer belongs to; `None` where a newer one has replaced it.
fn finish(app: &mut App, id: u32) -> Option<Sent> {
    app.sent.take_if(|sent| sent.id == id)
}
