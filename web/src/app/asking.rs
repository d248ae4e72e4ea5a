//! What the visitor wants of the engine, beside pictures. Nothing is asked of an engine that is not there: it waits.

use wasm_engine::protocol::{Edit, GalleryView, Request};

use super::command::{Commands, Look};
use super::{App, given, recovery};
use given::Again;

/// What waits for the engine, or for its answer.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// In order.
    waiting: Vec<Request>,
    /// Changes to take back: one is being taken back, the others follow.
    undos: usize,
    /// Whether a gallery file is being added.
    importing: bool,
}

impl Asking {
    /// An engine was started: what the one before was about is not answered any more.
    pub(super) fn forget(&mut self) {
        (self.undos, self.importing) = (0, false);
    }

    /// Something without a number failed; whether that may be a file that was to be added.
    pub(super) fn failed(&mut self) -> bool {
        let importing = self.importing;
        self.forget();
        importing
    }
}

/// The visitor wants something.
pub(super) fn ask(app: &mut App, request: Request, out: &mut Commands) {
    match &request {
        // Also for the engines that follow.
        Request::Tune(thresholds) => app.tuned = Some(*thresholds),
        Request::Edit(Edit::Teach { .. }) if !given::is_known(app) => return look_first(app, out),
        _ => (),
    }
    if app.ready {
        return send(app, request, out);
    }
    match request {
        // They are asked for anew once the engine is there.
        Request::Tune(_) | Request::List { .. } | Request::Crop { .. } => (),
        request if !recovery::tell_end(app, out) => app.asking.waiting.push(request),
        _ => (),
    }
}

/// The engine is there.
pub(super) fn begin(app: &mut App, out: &mut Commands) {
    if let Some(thresholds) = app.tuned {
        out.send(Request::Tune(thresholds));
    }
    for request in std::mem::take(&mut app.asking.waiting) {
        send(app, request, out);
    }
}

fn send(app: &mut App, request: Request, out: &mut Commands) {
    match &request {
        Request::Undo => {
            app.asking.undos += 1;
            // Whether there is another change is known with the answer.
            if app.asking.undos > 1 {
                return;
            }
        }
        Request::Edit(Edit::Import { .. }) => app.asking.importing = true,
        _ => (),
    }
    out.send(request);
}

/// The gallery was changed, and is this now; `undone` says whether a change was taken back.
pub(super) fn edited(app: &mut App, gallery: &GalleryView, undone: bool, out: &mut Commands) {
    app.asking.importing = false;
    if !undone {
        return;
    }
    app.asking.undos = if gallery.can_undo { app.asking.undos.saturating_sub(1) } else { 0 };
    if app.asking.undos > 0 {
        out.send(Request::Undo);
    }
}

/// An engine that does not know the picture has to look at it before it can learn from it.
fn look_first(app: &mut App, out: &mut Commands) {
    if recovery::tell_end(app, out) {
        return;
    }
    let under_way = !app.ready || app.sent.is_some() || given::give_again(app, Again::Aloud, out);
    if under_way {
        out.say("again.first", Look::Busy);
    } else {
        out.say("again.give", Look::Failed);
    }
}
