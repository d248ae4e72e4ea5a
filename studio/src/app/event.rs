//! What happens, as plain data.

use crate::project::{Action, ClassId, Part, PhotoId};

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

/// A project of this browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shelved {
    /// Name of its folder.
    pub(crate) id: String,
    /// What its site is called; empty where the owner has not said.
    pub(crate) title: String,
    /// Whether it is the one that is open.
    pub(crate) open: bool,
}

/// Why something that was given is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// Another kind of file.
    NoPhoto,
    /// The browser cannot show it.
    Broken,
    /// The browser has no decoder for its format.
    NoDecoder,
    /// The engine cannot use it.
    Unusable,
    /// The browser does not have it any more.
    Gone,
    /// It is there already, under this or another name: in the class of this name, or not sorted yet.
    Double(Option<String>),
    /// A row of a table that names no class.
    NoClass,
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
    /// The page begins with what was kept, and with the projects that there are.
    Begin(Keeper, Option<Vec<u8>>, Vec<Shelved>),
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
    /// A picture that is none of the photographs is to be recognized.
    Try(GivenFile),
    /// The owner does something.
    Do(Action),
    /// The chosen photographs go into a class, or show nothing.
    MoveChosen(Option<ClassId>),
    /// The chosen photographs go into the class of a name, which is made where there is none.
    NameChosen(String),
    /// The chosen photographs go.
    RemoveChosen,
    /// A part of a photograph counts alone, or what the settings say.
    Crop(PhotoId, Option<Part>),
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
    /// Photographs that were there already go where they were put, or stay where they are.
    TakeOffer(bool),
    /// Everything goes, for good.
    StartOver,
    /// Another project is opened; without an id a new one.
    Switch(Option<String>),
    /// The project goes, for good.
    RemoveProject,
    /// Whether the browser has kept the project.
    Saved(bool),
    /// It is time to keep the project.
    TimeToSave,
    /// It is time to measure anew, if nothing has changed since this change.
    TimeToRenew(u64),
    /// It is time to learn anew what figures of this change take from before, if nothing has changed since.
    TimeToLearn(u64),
    /// The page may end at any time.
    Leaving,
    /// The page ends now.
    Ending,
    /// The language has changed.
    Language,
}
