//! What the page is to do, as plain data.

use crate::project::{PhotoId, TableError};

use super::given::Handle;
use super::making::{Goal, Listed};

/// A sentence for the status line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sentence {
    /// The sentence of this name.
    Key(&'static str),
    /// Photographs that came in, and things that were left out.
    Added(usize, usize),
    /// Why a table cannot be read.
    Table(TableError),
    /// Classes that a table has told something of.
    Told(usize),
    /// Photographs that went into the class of a name.
    Moved(usize, String),
    /// There is no class of this name.
    NoClass(String),
    /// The engine cannot go on, in its own words.
    Engine(String),
    /// Photographs that were removed.
    Removed(usize),
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
    /// Keeps the project.
    Save(Vec<u8>),
    /// Forgets every photograph but these.
    KeepOnly(Vec<PhotoId>),
    /// Opens an engine that looks at photographs.
    OpenEngine,
    /// Has the engine look at a photograph of this name, and keeps what it has seen.
    Look(PhotoId, String),
    /// Has the engine make something of a project, and hands that to the owner.
    Make(Goal, Box<Listed>),
    /// Ends the engine, whatever it does.
    EndEngine,
    /// Shows what is to be seen.
    Show,
}
