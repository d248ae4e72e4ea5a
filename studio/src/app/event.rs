//! What happens, as plain data.

use crate::project::{Action, ClassId, PhotoId};

use super::given::{GivenFile, Handle};
use super::making::{EngineEvent, Goal};

/// Where a project is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// In this browser, by this tab.
    Own,
    /// In this browser, by another tab.
    Elsewhere,
    /// Nowhere: the browser keeps nothing for this page.
    Nowhere,
}

/// Why something that was given is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Another kind of file.
    NoPhoto,
    /// The browser cannot show it.
    Broken,
    /// The engine cannot use it.
    Unusable,
    /// The browser does not have it any more.
    Gone,
    /// It is there already, under this or another name.
    Double,
}

/// What came of looking at a photograph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prepared {
    /// It is there, and whether the browser keeps it.
    Photo(PhotoId, bool),
    /// The browser cannot show it.
    Broken,
}

/// Photographs are chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Select {
    /// This one alone.
    Only(PhotoId),
    /// This one as well, or not any more.
    Toggle(PhotoId),
    /// All from the one that was chosen last up to this one.
    To(PhotoId),
    /// All of a class, or of those that show nothing yet.
    All(Option<ClassId>),
    /// None.
    Nothing,
}

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// The page begins with what was kept.
    Begin(Keeper, Option<Vec<u8>>),
    /// Files were chosen, dropped or pasted; on a class, where one is named.
    Given(Vec<GivenFile>, Option<ClassId>),
    /// A photograph was looked at.
    Prepared(Handle, Prepared),
    /// What is under way is not wanted any more.
    Cancel,
    /// The owner wants something made.
    Want(Goal),
    /// The engine has said something.
    Engine(EngineEvent),
    /// The owner does something.
    Do(Action),
    /// The chosen photographs go into a class, or show nothing.
    MoveChosen(Option<ClassId>),
    /// The chosen photographs go into the class of a name, which is made where there is none.
    NameChosen(String),
    /// The chosen photographs go.
    RemoveChosen,
    /// The last step is taken back.
    Undo,
    /// The step that was taken back last is done again.
    Redo,
    /// Photographs are chosen.
    Select(Select),
    /// A class of this name is meant, and there is none.
    NoClass(String),
    /// The text of a table; `None` where it could not be read.
    Table(Option<String>),
    /// Everything goes, for good.
    StartOver,
    /// Whether the browser has kept the project.
    Saved(bool),
    /// It is time to keep the project.
    TimeToSave,
    /// The page may end at any time.
    Leaving,
    /// The language has changed.
    Language,
}
