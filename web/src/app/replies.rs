//! What the worker says, and what the page makes of it.

use std::rc::Rc;

use wasm_engine::protocol::{
    Arithmetic, BundleInfo, Change, ErrorKind, GalleryView, Recognized, Request, Response,
    Thresholds,
};

use super::command::{Command, Commands, Computed, Look, Sentence, Show};
use super::{
    App, Doing, Sent, asking, choice, failure, filming, given, keep, look_inside, pointing,
    recovery,
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
            // The same answers, with pictures: the status line keeps what it says.
            show_again(app, again, out);
            // Examples of what the gallery holds.
            out.send(Request::List { filter: app.filter.clone() });
        }
        Response::Adapted { thresholds, again } => {
            // Better answers, which nobody asked for: the status line keeps what it says.
            show_thresholds(app, thresholds, out);
            show_again(app, again, out);
        }
        Response::Recognized { id, result } => recognized(app, id, result, out),
        Response::Listed(gallery) => show_gallery(app, gallery, out),
        Response::Looked { result } => {
            if tell_again(app, Some(result), out) {
                out.show(Show::FirstAnswer);
            }
        }
        Response::Edited { change, gallery, again } => {
            app.filter.clear();
            out.show(Show::NoFilter);
            asking::edited(app, &gallery, change == Change::Undone, out);
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
            tell_again(app, again, out);
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
                given::unpack(app, bitmap, out);
            } else {
                let sentence = failure(app, error, Doing::Recognizing(sent.kind));
                given::refuse(app, sentence, out);
            }
            filming::failed(app, out);
        }
        Response::Failed { id: None, error } => {
            out.show(Show::Progress(None));
            let doing = if app.asking.failed() { Doing::Importing } else { Doing::Other };
            recovery::failed(app, error, doing, out);
        }
    }
}

/// The bundle is loaded.
fn ready(app: &mut App, info: BundleInfo, out: &mut Commands) {
    out.show(Show::Progress(None));
    out.show(Show::Title(info.title, info.notes));
    out.show(Show::Size(info.classes, info.entries));
    app.published = Some(info.thresholds);
    show_thresholds(app, app.tuned.unwrap_or(info.thresholds), out);
    (app.ready, app.in_parts, app.arithmetic) = (true, info.in_parts, info.arithmetic);
    let again = recovery::ready(app, out);
    keep(app, out);
    asking::begin(app, out);
    given::begin(app, again, out);
    filming::next_frame(app, out);
    choice::consider(app, out);
}

/// A picture is answered.
fn recognized(app: &mut App, id: u32, result: Recognized, out: &mut Commands) {
    if finish(app, id).is_none() {
        return;
    }
    let quiet = given::answered(app);
    if !quiet {
        recovery::answered(app);
    }
    filming::answered(app);
    choice::watch(app, &result);
    if filming::may_show(app) {
        if app.film.camera.is_some() {
            out.add(Command::ShowFrame);
        }
        let result = Rc::new(result);
        if !quiet {
            out.status(summary(&result), Look::Done);
        }
        show(app, result, out);
        given::shown(app);
        pointing::go_on(app, out);
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

/// Shows a picture's answers anew if it is still the one that is shown; whether it is.
fn show_again(app: &mut App, again: Option<Recognized>, out: &mut Commands) -> bool {
    let shown = app.shown.as_ref().map(|shown| shown.picture);
    let Some(again) = again.filter(|again| Some(again.picture) == shown) else { return false };
    show(app, Rc::new(again), out);
    true
}

/// The same, and says what is found now.
fn tell_again(app: &mut App, again: Option<Recognized>, out: &mut Commands) -> bool {
    let told = again.as_ref().map(summary);
    let shown = show_again(app, again, out);
    if let Some(told) = told.filter(|_| shown) {
        out.status(told, Look::Done);
    }
    shown
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
        out.send(Request::List { filter: app.filter.clone() });
    }
    if let Some(shown) = app.shown.take() {
        show(app, shown, out);
    }
    if let Some((sentence, look)) = app.told.clone() {
        out.status(sentence, look);
    }
}

/// The request that an answer belongs to; `None` where a newer one has replaced it.
fn finish(app: &mut App, id: u32) -> Option<Sent> {
    app.sent.take_if(|sent| sent.id == id)
}
