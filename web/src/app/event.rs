//! What happens to the page, as plain data.

use serde::Deserialize;
use wasm_engine::protocol::{EngineError, Picture, Request, Response};

/// Left, top, right, bottom, as parts of the picture's sides.
pub(crate) type Part = [f64; 4];

/// A file or a decoded picture that the browser holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Handle(pub(crate) u32);

/// A WebGPU adapter of this browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Adapter {
    /// Computed on the processor; slower than the CPU engine.
    pub(crate) software: bool,
}

/// What a file is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The picture that was given as the one of this number.
    Given(u32),
    /// The picture that is shown, for an engine that does not know it; the number of the next picture when the file was
    /// asked for.
    Again(u32),
}

/// What a visitor gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Given {
    /// A file, of whatever kind.
    File(Handle),
    /// The address of something, and whether it lies on this site.
    Address {
        /// As it was given.
        address: String,
        /// Other sites are asked for nothing.
        own: bool,
    },
    /// Neither.
    Nothing,
}

/// What the visitor does while something happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Visitor {
    /// Whether the page is hidden.
    pub(crate) away: bool,
    /// Whether a button among the answers has the focus.
    pub(crate) at_answers: bool,
}

/// Which way a camera looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Facing {
    /// Away from the visitor.
    Back,
    /// At the visitor.
    Front,
}

impl Facing {
    /// The other one.
    pub(crate) fn turned(self) -> Self {
        match self {
            Self::Back => Self::Front,
            Self::Front => Self::Back,
        }
    }
}

/// What happens to a camera from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It gives nothing any more: it was unplugged, or taken away for good.
    Ended,
    /// Another program or the system has taken it for a while.
    Muted,
    /// It is back.
    Unmuted,
}

/// What the browser says of a camera.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CameraState {
    /// Whether it gives nothing any more.
    pub(crate) ended: bool,
    /// Whether somebody else has it.
    pub(crate) muted: bool,
    /// Whether it has a torch.
    pub(crate) torch: bool,
    /// Names the device; empty where the browser does not say.
    pub(crate) device: String,
}

/// A frame of the camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The first one is on its way.
    Coming,
    /// Its pixels.
    Read(Picture),
    /// The browser gives other pixels than those that it shows.
    Falsified,
}

/// What concerns the camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CameraEvent {
    /// The camera's button.
    Toggle,
    /// The button for the other camera.
    Turn,
    /// The button of the torch.
    Torch,
    /// The torch is on, or not.
    TorchIs(bool),
    /// The browser has given a camera, or not, to the asking of this number.
    Answered {
        /// Of the asking.
        id: u32,
        /// As asked for.
        facing: Facing,
        /// Whether there is one.
        given: bool,
    },
    /// Whether the film of the camera of this number has begun, and what the browser says of the camera.
    Began(u32, bool, CameraState),
    /// What happened to the camera of this number.
    Changed(u32, Change),
    /// Cameras came or went: the one that is on, and the devices that there are.
    Devices(Option<CameraState>, Vec<String>),
    /// Whether there is more than one camera.
    Several(bool),
    /// The page is looked at again; whether the camera that is on has ended.
    PageShown(bool),
    /// A finger or a button of a mouse is down on the answers, or not any more.
    Pressed(bool),
    /// The next frame may be taken.
    FrameDue,
    /// A frame of the camera of this number.
    Frame(u32, Frame),
}

/// What the visitor points with, in the picture.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PointEvent {
    /// The button that begins to mark.
    Begin,
    /// The button that looks at the frame.
    Look,
    /// The button that leaves.
    Leave,
    /// A finger, or a mouse's button, comes down.
    Down {
        /// Which.
        pointer: i32,
        /// In pixels of the window.
        at: (f64, f64),
        /// As parts of the picture's sides.
        part: (f64, f64),
        /// Whether it is a finger, which moves the page unless the visitor marks.
        finger: bool,
    },
    /// It moves.
    Moved {
        /// Which.
        pointer: i32,
        /// In pixels of the window.
        at: (f64, f64),
        /// As parts of the picture's sides.
        part: (f64, f64),
    },
    /// It is lifted.
    Up {
        /// Which.
        pointer: i32,
        /// Whether it is on a box that was found, which leads to its card.
        on_box: bool,
        /// Sides of the shown picture in pixels of the window.
        sides: (f64, f64),
    },
    /// The browser takes it.
    Canceled,
    /// A key on the frame, and whether Shift is down.
    Key(String, bool),
}

/// What was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The next frame of the camera.
    Frame,
    /// Whether nothing was done since this number of things.
    Quiet(u32),
    /// The browser has not said whether it gives a camera.
    Asking(u32, Facing),
}

/// Milliseconds of one engine, by its trial.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Cost {
    /// Of finding the objects of a picture.
    pub(crate) detect: f64,
    /// Of embedding one.
    pub(crate) embed: f64,
}

/// What came out of the trials; `www/package/choice.js` makes and keeps it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Choice {
    /// Name of the engine.
    pub(crate) backend: String,
    /// Why it is this one.
    pub(crate) why: String,
    /// By its trial.
    pub(crate) cpu: Option<Cost>,
    /// By its trial.
    pub(crate) webgpu: Option<Cost>,
}

/// How a trial ends.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// It could not be made.
    Failed,
    /// There is nothing to choose from.
    Nothing,
    /// The engines were measured.
    Measured(Choice),
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// The page is there.
    Begin,
    /// What the visitor does; comes before each of the others.
    Visitor(Visitor),
    /// The visitor gave something.
    Given(Given),
    /// The page's address names a picture.
    AskedFor(Given),
    /// What was downloaded as the given thing of this number.
    Came(u32, Given),
    /// The bytes of a file and the picture as the browser decoded it, if it could.
    Decoded(Reading, Vec<u8>, Option<Handle>),
    /// A file that cannot be read.
    Unreadable(Reading),
    /// Pixels of something that the browser has decoded, and the number of the next picture when they were asked
    /// for; `None` where it gives others than those that it shows.
    Pixels(u32, Option<Picture>),
    /// The worker spoke.
    Engine(Response),
    /// No worker could be started, or it could not be spoken to.
    NotStarted(EngineError),
    /// Something of the camera.
    Camera(CameraEvent),
    /// Something in the picture.
    Point(PointEvent),
    /// The visitor chose an engine, or leaves the choice to the page; as the list has it.
    Backend(String),
    /// The visitor has said that lessons may end with the engine.
    BackendSure(String),
    /// The trial of this number is over.
    Measured(u32, Outcome),
    /// A time has passed.
    Time(Timer),
    /// The page speaks another language.
    Language,
    /// The visitor wants something that the engine answers.
    Ask(Request),
    /// The gallery's panel is open, or not.
    Panel(bool),
    /// A part of a name is looked for in the panel.
    Filter(String),
    /// The panel of details is open, or not.
    Inside(bool),
    /// The published thresholds are wanted.
    AsPublished,
    /// A picture that stands still is wanted, to name what is on it.
    Hold,
    /// A gallery file to add.
    Import(Handle),
    /// Its bytes, if it can be read.
    GalleryRead(Option<Vec<u8>>),
    /// The page is looked at again, or some time has passed.
    LookAgain,
    /// Everything is kept that the page needs without a network.
    Kept,
    /// Another service worker is there, which keeps nothing yet.
    KeeperChanged,
}
