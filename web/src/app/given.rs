//! Pictures that are given, on their way to the engine: of several the newest counts, however long each of them takes.
//! The picture on the stage is given once more to an engine that does not know it.

use serde_bytes::ByteBuf;
use wasm_engine::protocol::Picture;

use super::command::{Command, Commands, Look, Sentence, Show, Source};
use super::event::{Given, Handle, Reading};
use super::{App, choice, clear, filming, recognize, recovery};

/// A picture that the page's address names.
#[derive(Debug)]
enum AskedFor {
    /// It is on its way.
    Coming,
    /// It is there, or it is none.
    Come(Given),
}

/// The picture on the stage is given to the engine once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// The status line keeps what it says.
    Quiet,
    /// As any picture.
    Aloud,
}

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Giving {
    /// Number of the thing that was given last.
    newest: u32,
    /// The file that is read.
    coming: Option<Handle>,
    /// The picture whose pixels are read, and the number of the next picture when they were asked for.
    unpacked: Option<(u32, Handle)>,
    /// The picture that the page's address names, until it may be looked at.
    asked_for: Option<AskedFor>,
    /// The file of the picture on the stage; a frame of a camera has none.
    file: Option<Handle>,
    /// Whether there is a picture on the stage.
    drawn: bool,
    /// Whether the engine knows the answered picture that is shown.
    known: bool,
    again: Option<Again>,
}

impl Giving {
    /// Whether something that the browser holds is still needed.
    pub(super) fn needs(&self, handle: Handle) -> bool {
        let asked_for = match &self.asked_for {
            Some(AskedFor::Come(Given::File(file))) => Some(*file),
            _ => None,
        };
        let unpacked = self.unpacked.map(|(_, bitmap)| bitmap);
        [self.coming, unpacked, self.file, asked_for].contains(&Some(handle))
    }

    /// An engine was started, which knows no picture.
    pub(super) fn forgotten(&mut self) {
        (self.known, self.again, self.unpacked) = (false, None, None);
    }

    /// Takes in what becomes of the stage.
    pub(super) fn see(&mut self, command: &Command) {
        match command {
            Command::ShowPicture(_) | Command::ShowFrame => self.drawn = true,
            Command::Show(Show::NoPicture) => self.drawn = false,
            _ => (),
        }
    }
}

/// Something newer than all before is given: what of them comes later is dropped.
pub(super) fn newer(app: &mut App) {
    app.giving.newest = app.giving.newest.wrapping_add(1);
    (app.giving.coming, app.giving.asked_for) = (None, None);
}

/// Something else takes the place of the picture on the stage.
pub(super) fn forget(app: &mut App) {
    (app.sent, app.waiting, app.shown) = (None, None, None);
    (app.giving.file, app.giving.again, app.giving.unpacked) = (None, None, None);
}

/// The visitor gave something.
pub(super) fn given(app: &mut App, given: Given, out: &mut Commands) {
    newer(app);
    take(app, given, out);
}

/// The page's address names a picture.
pub(super) fn asked_for(app: &mut App, given: Given, out: &mut Commands) {
    newer(app);
    app.giving.asked_for = Some(AskedFor::Coming);
    match given {
        Given::Address { address, own: true } => {
            out.add(Command::Fetch { address, number: app.giving.newest });
        }
        // Another site is not asked for anything, but the visitor is told.
        given => came(app, app.giving.newest, given, out),
    }
}

/// What was downloaded as the given thing of this number.
pub(super) fn came(app: &mut App, number: u32, given: Given, out: &mut Commands) {
    if number != app.giving.newest {
        return;
    }
    match &mut app.giving.asked_for {
        Some(asked_for) if !app.ready => *asked_for = AskedFor::Come(given),
        _ => {
            app.giving.asked_for = None;
            take(app, given, out);
        }
    }
}

fn take(app: &mut App, given: Given, out: &mut Commands) {
    match given {
        Given::Nothing => refuse(app, Sentence::Key("no.picture"), out),
        Given::Address { own: false, .. } => refuse(app, Sentence::Key("other.site"), out),
        Given::Address { address, own: true } => {
            out.say("loading.picture", Look::Busy);
            out.add(Command::Fetch { address, number: app.giving.newest });
        }
        Given::File(file) => {
            filming::stop(app, out);
            app.giving.coming = Some(file);
            out.add(Command::ReadFile(file, Reading::Given(app.giving.newest)));
        }
    }
}

/// A file was read.
pub(super) fn decoded(
    app: &mut App,
    reading: Reading,
    bytes: Vec<u8>,
    bitmap: Option<Handle>,
    out: &mut Commands,
) {
    if !is_current(app, reading) {
        return;
    }
    let picture = |bytes| Picture::Encoded(ByteBuf::from(bytes));
    if let Reading::Again(_) = reading {
        return recognize(app, picture(bytes), bitmap, out);
    }
    choice::disturbed(app, out);
    choice::relieve(app, out);
    forget(app);
    app.giving.file = app.giving.coming.take();
    clear(app, out);
    out.show(Show::Top);
    out.add(bitmap.map_or(Command::Show(Show::NoPicture), Command::ShowPicture));
    if app.ready {
        recognize(app, picture(bytes), bitmap, out);
    } else {
        app.waiting = Some((bytes, bitmap));
        recovery::tell_end(app, out);
    }
}

/// A file that cannot be read.
pub(super) fn unreadable(app: &mut App, reading: Reading, out: &mut Commands) {
    match reading {
        _ if !is_current(app, reading) => (),
        Reading::Given(_) => refuse(app, Sentence::Key("no.picture"), out),
        Reading::Again(_) if !app.giving.drawn => forget(app),
        Reading::Again(next_id) => {
            app.giving.file = None;
            out.add(Command::ReadPixels(Source::Canvas, next_id));
        }
    }
}

/// Whether nothing newer has come since a file was asked for.
fn is_current(app: &App, reading: Reading) -> bool {
    match reading {
        Reading::Given(number) => app.giving.newest == number,
        Reading::Again(next_id) => app.giving.again.is_some() && is_next(app, next_id),
    }
}

fn is_next(app: &App, next_id: u32) -> bool {
    app.ready && app.next_id == next_id && app.film.camera.is_none()
}

/// Has the pixels of a picture read that only the browser decodes.
pub(super) fn unpack(app: &mut App, bitmap: Handle, out: &mut Commands) {
    app.giving.unpacked = Some((app.next_id, bitmap));
    out.add(Command::ReadPixels(Source::Held(bitmap), app.next_id));
}

/// Pixels were read; `None` where the browser gives others than those that it shows.
pub(super) fn pixels(app: &mut App, next_id: u32, picture: Option<Picture>, out: &mut Commands) {
    app.giving.unpacked.take_if(|(asked, _)| *asked == next_id);
    // Something else may have come first.
    if !is_next(app, next_id) {
        return;
    }
    if let Some(picture) = picture {
        return recognize(app, picture, None, out);
    }
    app.giving.again = None;
    app.pointing.forget();
    out.say("pixels.falsified", Look::Failed);
}

/// Says why what was given is not looked at. A camera that runs goes on; an older picture is not shown any more.
pub(super) fn refuse(app: &mut App, sentence: Sentence, out: &mut Commands) {
    if app.film.camera.is_none() {
        forget(app);
        clear(app, out);
        out.show(Show::NoPicture);
    }
    out.status(sentence, Look::Failed);
}

/// The engine is there: what came before it, or the picture on the stage.
pub(super) fn begin(app: &mut App, again: Again, out: &mut Commands) {
    let asked_for = match app.giving.asked_for.take() {
        Some(AskedFor::Come(given)) => Some(given),
        coming => {
            app.giving.asked_for = coming;
            None
        }
    };
    if let Some((bytes, bitmap)) = app.waiting.take() {
        recognize(app, Picture::Encoded(ByteBuf::from(bytes)), bitmap, out);
    } else if let Some(given) = asked_for {
        take(app, given, out);
    } else {
        give_again(app, again, out);
    }
}

/// Gives the picture on the stage to an engine that does not know it, once; whether that is under way.
pub(super) fn give_again(app: &mut App, again: Again, out: &mut Commands) -> bool {
    let known = app.giving.known && app.shown.is_some();
    let there = app.giving.drawn || app.giving.file.is_some();
    if known || !there || app.film.is_on() {
        return false;
    }
    if let Some(before) = &mut app.giving.again {
        if again == Again::Aloud {
            *before = Again::Aloud;
        }
    } else if app.ready && app.sent.is_none() && app.giving.unpacked.is_none() {
        app.giving.again = Some(again);
        out.add(match app.giving.file {
            Some(file) => Command::ReadFile(file, Reading::Again(app.next_id)),
            None => Command::ReadPixels(Source::Canvas, app.next_id),
        });
    }
    true
}

/// Whether the status line keeps what it says while the picture that is sent now is looked at.
pub(super) fn is_quiet(app: &App) -> bool {
    app.giving.again == Some(Again::Quiet)
}

/// The engine has answered about the picture that was sent; whether the status line keeps what it says.
pub(super) fn answered(app: &mut App) -> bool {
    app.giving.again.take() == Some(Again::Quiet)
}

/// The engine's answer is shown.
pub(super) fn shown(app: &mut App) {
    app.giving.known = true;
}

/// The shown answers, if the engine knows their picture.
pub(super) fn is_known(app: &App) -> bool {
    app.ready && app.giving.known && app.shown.is_some()
}
