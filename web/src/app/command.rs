//! What the page is to do, as plain data.

use std::rc::Rc;

use wasm_engine::protocol::{
    AlikePair, Backend, Change, GalleryView, Recognized, Request, Thresholds,
};

use super::event::{Choice, Facing, Handle, Part, Reading, Timer};
use super::failure::Failure;

/// A sentence for the status line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Sentence {
    /// The sentence of this name.
    Key(&'static str),
    /// Bytes of the bundle so far, and in all.
    Loading(u64, u64),
    /// What went wrong, and the engine's own words about it.
    Failure(Failure, String),
    /// What has changed in the gallery.
    Changed(Change),
    /// How many things are known, of how many.
    Summary(usize, usize),
    /// What the marked thing is; `None` where it is not known.
    Marked(Option<String>),
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

/// Who has computed an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Computed {
    /// The engine.
    pub(crate) backend: Backend,
    /// Whether its graphics device is computed on the processor.
    pub(crate) software: bool,
    /// Threads of the CPU.
    pub(crate) threads: usize,
    /// Whether it computes in int8.
    pub(crate) int8: bool,
    /// Whether it stands in for a graphics device that failed.
    pub(crate) fallback: bool,
}

/// What is to be seen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Show {
    /// A sentence in the status line.
    Status(Sentence, Look),
    /// The bar of the download; `None` hides it.
    Progress(Option<(u64, u64)>),
    /// Whose page it is.
    Title(String, Vec<String>),
    /// Classes and entries of the gallery.
    Size(usize, usize),
    /// No picture, but the invitation to give one.
    NoPicture,
    /// No answers.
    NoAnswers,
    /// The beginning of the page.
    Top,
    /// The answers to a picture.
    Answers(Rc<Recognized>, Computed),
    /// The first answer has the focus.
    FirstAnswer,
    /// What the gallery holds.
    Gallery(GalleryView),
    /// No part of a name is looked for.
    NoFilter,
    /// Classes that may be mistaken for each other.
    Alike(Vec<AlikePair>),
    /// The thresholds, and whether these are the published ones.
    Thresholds(Thresholds, bool),
    /// The objects of a picture in the panel of details.
    Crops(Option<Rc<Recognized>>),
    /// One of them as the network was given it.
    Crop {
        /// The recognize request's.
        picture: u32,
        /// Position among the picture's objects.
        object: usize,
        /// An image file; may be empty.
        bytes: Vec<u8>,
    },
    /// What was measured, beside the list of engines.
    Choice(Option<Choice>),
    /// An entry of the list of engines.
    Backend(&'static str),
    /// The question whether lessons may end with the engine.
    AskBackend(String),
    /// Whether there is a camera.
    Camera(bool),
    /// Whether there is another camera.
    Turning(bool),
    /// The torch: whether it is on; `None` hides its button.
    Torch(Option<bool>),
    /// What works without a network: everything, or only some parts of the gallery.
    Offline {
        /// Whether the gallery is in parts.
        in_parts: bool,
    },
    /// The sample pictures' names.
    SampleNames,
    /// Whether the visitor marks.
    Marking(bool),
    /// Where the marking frame is.
    MarkingFrame(Part),
    /// The marking frame has the focus.
    FocusFrame,
    /// The button that begins to mark has the focus.
    FocusMark,
}

/// Something that the browser has decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The picture that is shown.
    Canvas,
    /// One that is held.
    Held(Handle),
}

/// What the page is to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    /// Let something be seen.
    Show(Show),
    /// Show a decoded picture.
    ShowPicture(Handle),
    /// Show the frame of the camera that was read last.
    ShowFrame,
    /// Start an engine in the place of the one before.
    StartEngine(Backend),
    /// Starts the processor's worker without threads and relaxed SIMD.
    StartPlainEngine,
    /// Have the engine load the bundle.
    Open,
    /// Tell the engine.
    Send(Request),
    /// Read and decode a file, for [`super::event::Event::Decoded`].
    ReadFile(Handle, Reading),
    /// Read a gallery file, for [`super::event::Event::GalleryRead`].
    ReadGallery(Handle),
    /// Download a picture of this site, for [`super::event::Event::Came`].
    Fetch {
        /// Where.
        address: String,
        /// Of the given thing.
        number: u32,
    },
    /// Read pixels, for [`super::event::Event::Pixels`] with this number.
    ReadPixels(Source, u32),
    /// Ask for a camera, and for the device of this name if it is there.
    AskCamera {
        /// Number of the asking.
        id: u32,
        /// Which way it looks.
        facing: Facing,
        /// May be empty.
        device: String,
    },
    /// Take the camera that was given to the asking of this number, and let its film begin.
    TakeCamera(u32),
    /// Switch off the camera that was given to the asking of this number.
    LeaveCamera(u32),
    /// Switch the camera off.
    StopCamera,
    /// Go on with its film.
    PlayCamera,
    /// Switch its torch.
    SwitchTorch(bool),
    /// Look whether there are several, for [`super::event::CameraEvent::Several`].
    CountCameras,
    /// Let the page draw, then take the next frame.
    NextFrame,
    /// Read a frame of the camera of this number.
    ReadFrame(u32),
    /// Milliseconds until [`super::event::Event::Time`].
    Wait(i32, Timer),
    /// Measure the engines, as the trial of this number.
    Measure(u32),
    /// End the trial.
    EndTrial,
    /// Forget what was measured.
    ForgetChoice,
    /// From the next visit on the processor computes, for this reason.
    LeaveWebGpu(&'static str),
    /// Keep the site with this engine for visits without a network.
    Keep(Backend),
    /// Give the visitor a gallery file.
    Download(Vec<u8>),
    /// Hear a finger outside of the picture, too.
    Capture(i32),
}

/// Commands in their order.
#[derive(Debug, Default)]
pub(crate) struct Commands(pub(super) Vec<Command>);

impl Commands {
    pub(super) fn add(&mut self, command: Command) {
        self.0.push(command);
    }

    pub(super) fn show(&mut self, show: Show) {
        self.add(Command::Show(show));
    }

    pub(super) fn status(&mut self, sentence: Sentence, look: Look) {
        self.show(Show::Status(sentence, look));
    }

    pub(super) fn say(&mut self, key: &'static str, look: Look) {
        self.status(Sentence::Key(key), look);
    }

    pub(super) fn send(&mut self, request: Request) {
        self.add(Command::Send(request));
    }
}
