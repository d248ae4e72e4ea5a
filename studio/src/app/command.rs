//! What the page is to do, as plain data.

use crate::project::{Part, PhotoId, TableError};

use super::given::{GivenGallery, Handle};
use super::listed::Listed;
use super::making::Goal;

/// A sentence for the status line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sentence {
    /// The sentence of this name.
    Key(&'static str),
    /// Photographs that came in, and things that were left out.
    Added(usize, usize),
    /// Why a table cannot be read.
    Table(TableError),
    /// Classes that a table has told something of, and rows of it that name no class.
    Told(usize, usize),
    /// Photographs that went into the class of a name.
    Moved(usize, String),
    /// There is no class of this name.
    NoClass(String),
    /// The engine cannot go on, in its own words.
    Engine(String),
    /// A gallery cannot be opened, in the engine's words.
    NoGallery(String),
    /// Classes and photographs of a gallery that was opened.
    Opened(usize, usize),
    /// Photographs that were removed.
    Removed(usize),
    /// Photographs that went where they were put.
    Placed(usize),
}

/// How the status line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Something is under way.
    Busy,
    /// It is done.
    Done,
    /// It failed.
    Failed,
}

/// What the page is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Looks at a photograph: its id, and a small one to show. Both are kept.
    Prepare(Handle),
    /// Forgets what the browser holds.
    LetGo(Handle),
    /// Comes back after some time with [`super::Event::TimeToSave`].
    SaveLater,
    /// Comes back after some time with [`super::Event::TimeToRenew`] of this change.
    RenewLater(u64),
    /// Comes back, when the owner has paused, with [`super::Event::TimeToLearn`] of this change.
    LearnLater(u64),
    /// Keeps the project, whose site is called so.
    Save(Vec<u8>, String),
    /// Keeps the project before anything else happens: the page ends.
    SaveNow(Vec<u8>),
    /// Keeps the project of a title, if there is something to keep, and opens another one, or a new one.
    Switch(Option<(Vec<u8>, String)>, Option<String>),
    /// Forgets the project.
    RemoveProject,
    /// Forgets every photograph but these.
    KeepOnly(Vec<PhotoId>),
    /// Opens an engine that looks at photographs.
    OpenEngine,
    /// Has the engine look at a photograph of this name, or at a part of it, and keeps what it has seen.
    Look(PhotoId, String, Option<Part>),
    /// Has the engine make something of a project, and hands that to the owner.
    Make(Goal, Box<Listed>),
    /// Has the engine recognize a picture of this name with what was measured last.
    Ask(Handle, String),
    /// Has the engine open a gallery.
    OpenGallery(GivenGallery),
    /// Ends the engine, whatever it does.
    EndEngine,
    /// Shows what is to be seen.
    Show,
}
