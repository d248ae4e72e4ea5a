//! The project is kept, and comes back.

use std::collections::BTreeSet;

use super::{App, Command, Keeper, Keeping, Look, Sentence, Shelved, making};
use crate::project::PhotoId;
use crate::stored;

/// The page begins with what was kept.
pub(super) fn begin(
    app: &mut App,
    keeper: Keeper,
    kept: Option<Vec<u8>>,
    shelf: Vec<Shelved>,
    out: &mut Vec<Command>,
) {
    app.keeper = keeper;
    app.shelf = shelf;
    match kept.map(|bytes| stored::read(&bytes)) {
        _ if keeper == Keeper::Elsewhere => app.say(Sentence::Key("elsewhere"), Look::Failed),
        Some(Ok(project)) => {
            // What was removed at the last visit cannot be had back.
            out.push(Command::KeepOnly(project.photos().iter().map(|photo| photo.id).collect()));
            app.project = project;
            app.say(Sentence::Key("came.back"), Look::Done);
        }
        // What is kept stays as it is: a newer page may read it.
        Some(Err(stored::StoredError::Newer(_))) => {
            app.keeper = Keeper::Nowhere;
            app.say(Sentence::Key("newer"), Look::Failed);
        }
        Some(Err(_)) => app.say(Sentence::Key("damaged"), Look::Failed),
        None => app.say(Sentence::Key("ready"), Look::Done),
    }
}

/// What belongs to a project that has changed.
pub(super) fn changed(app: &mut App, out: &mut Vec<Command>) {
    app.change += 1;
    let there: BTreeSet<PhotoId> = app.project.photos().iter().map(|photo| photo.id).collect();
    app.chosen.retain(|id| there.contains(id));
    app.anchor = app.anchor.filter(|id| there.contains(id));
    if let Some(measured) = &mut app.making.measured {
        measured.stale = true;
        out.push(Command::RenewLater(app.change));
    }
    if app.keeper != Keeper::Own {
        return;
    }
    match &mut app.keeping {
        Keeping::Kept => {
            app.keeping = Keeping::Due;
            out.push(Command::SaveLater);
        }
        Keeping::Due => {}
        Keeping::UnderWay(since) => *since = true,
    }
}

/// Keeps what is due.
pub(super) fn save(app: &mut App, out: &mut Vec<Command>) {
    if app.keeping == Keeping::Due && app.keeper == Keeper::Own {
        app.keeping = Keeping::UnderWay(false);
        out.push(Command::Save(stored::write(&app.project), app.project.title().to_owned()));
    }
}

/// The page ends: what the browser does not have yet, or is only writing, is kept at once.
pub(super) fn save_now(app: &App, out: &mut Vec<Command>) {
    if app.keeping != Keeping::Kept && app.keeper == Keeper::Own {
        out.push(Command::SaveNow(stored::write(&app.project)));
    }
}

/// The browser has kept the project, or had no room.
pub(super) fn saved(app: &mut App, kept: bool, out: &mut Vec<Command>) {
    let since = app.keeping == Keeping::UnderWay(true);
    app.keeping = Keeping::Kept;
    if !kept {
        app.keeper = Keeper::Nowhere;
        app.say(Sentence::Key("full"), Look::Failed);
    } else if since {
        app.keeping = Keeping::Due;
        out.push(Command::SaveLater);
    }
}

/// Another project, or a new one, takes the place of this one.
pub(super) fn switch(app: &mut App, to: Option<String>, out: &mut Vec<Command>) {
    if app.keeper != Keeper::Own {
        return app.say(Sentence::Key("kept.not"), Look::Failed);
    }
    if !app.coming.is_done() || app.making.is_busy() || app.is_opening {
        return app.say(Sentence::Key("wait.coming"), Look::Failed);
    }
    let title = app.project.title().to_owned();
    let due = (app.keeping != Keeping::Kept).then(|| (stored::write(&app.project), title));
    app.keeping = Keeping::Kept;
    making::end(app, out);
    out.push(Command::Switch(due, to));
}
