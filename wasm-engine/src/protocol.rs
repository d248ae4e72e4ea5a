//! Messages between the page and its worker.

pub mod author;
mod recognized;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

pub use recognized::{Answer, LocatedObject, Recognized, RecognizedObject, StageTimes};

/// Which engine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backend {
    /// The processor, in WebAssembly.
    Cpu,
    /// The graphics processor.
    WebGpu,
}

impl Backend {
    /// Name in the page's address and in file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::WebGpu => "webgpu",
        }
    }
}

/// A picture to recognize.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Picture {
    /// A file's bytes: JPEG, PNG, WebP, GIF or BMP.
    Encoded(ByteBuf),
    /// Pixels of a canvas or a camera frame.
    Pixels {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// Interleaved red, green, blue, alpha.
        rgba: ByteBuf,
    },
}

/// What the page asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Load the bundle whose manifest lies at this address.
    Open {
        /// Absolute address of `manifest.json`.
        manifest: String,
        /// What products are computed in on the CPU; by default as the networks' files say.
        #[serde(default)]
        arithmetic: Option<Arithmetic>,
    },
    /// Say what is in a picture.
    Recognize {
        /// Comes back with the answer.
        id: u32,
        /// The picture.
        picture: Picture,
        /// Whether it is the next frame of a camera.
        #[serde(default)]
        follow: bool,
    },
    /// Say what is in a part of a recognized picture that is still at hand. Of several parts the one is taken
    /// whose best answer is the most similar.
    Look {
        /// The recognize request's.
        picture: u32,
        /// Left, top, right, bottom of each in pixels of the picture.
        regions: Vec<[f32; 4]>,
    },
    /// Say where things are in a picture, without naming them.
    Locate {
        /// Comes back with the answer.
        id: u32,
        /// The picture.
        picture: Picture,
    },
    /// Give the embedding of a picture of one thing.
    Embed {
        /// Comes back with the answer.
        id: u32,
        /// The picture.
        picture: Picture,
    },
    /// Say which classes are most similar to an embedding.
    Search {
        /// As the engine gave it.
        embedding: Vec<f32>,
        /// Classes to return.
        top_k: usize,
    },
    /// Say what the gallery holds.
    List {
        /// Only classes whose labels hold this, in any case.
        filter: String,
    },
    /// Change the gallery.
    Edit(Edit),
    /// Take the last change of the gallery back.
    Undo,
    /// Go back to the published gallery.
    Reset,
    /// Give the gallery as a file.
    Export,
    /// Look whether a newer gallery was published, and take it.
    Refresh,
    /// Recognize by other thresholds from now on.
    Tune(Thresholds),
    /// Give an object of a recognized picture as the network was given it.
    Crop {
        /// The recognize request's.
        picture: u32,
        /// Position among the picture's objects.
        object: usize,
    },
    /// Say which classes may be mistaken for each other.
    Alike,
    /// Run a part of the pipeline several times.
    Measure {
        /// Comes back with the answer, where it is given.
        #[serde(default)]
        id: Option<u32>,
        /// Which.
        stage: Stage,
        /// How often.
        runs: usize,
    },
}

impl Request {
    /// Its number, which comes back with the answer or a failure; `None` where it has none.
    pub const fn id(&self) -> Option<u32> {
        match self {
            Self::Recognize { id, .. } | Self::Locate { id, .. } | Self::Embed { id, .. } => {
                Some(*id)
            }
            Self::Measure { id, .. } => *id,
            _ => None,
        }
    }
}

/// What a network's products are computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arithmetic {
    /// In 32-bit floats.
    F32,
    /// In int8, by a CPU with relaxed SIMD.
    I8,
}

/// What must be reached to be an object, and to be an answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Least cosine of an answer, where its class has none of its own.
    pub min_similarity: f32,
    /// Least detection score of an object.
    pub min_score: f32,
}

/// A part of the pipeline that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// The detector's network alone.
    DetectorNetwork,
    /// The extractor's network alone.
    ExtractorNetwork,
    /// Finding the objects of a picture.
    Detect,
    /// Embedding this number of crops at once.
    Embed(usize),
    /// Searching the bundle's gallery.
    Search,
    /// Searching a made-up gallery of this number of entries.
    SearchIn(usize),
    /// All of it.
    Recognize,
}

/// A change of the visitor's gallery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Edit {
    /// Add an object of a recognized picture to a class, which is made where it is not there.
    Teach {
        /// The recognize request's.
        picture: u32,
        /// Position among the picture's objects.
        object: usize,
        /// Label of the class.
        label: String,
    },
    /// Add a picture of one thing to a class, which is made where it is not there.
    Add {
        /// Label of the class.
        label: String,
        /// The picture.
        picture: Picture,
    },
    /// Give a class another label; where that is taken, the two become one.
    Rename {
        /// Label now.
        from: String,
        /// Label then.
        to: String,
    },
    /// Take a class out.
    Remove {
        /// Its label.
        label: String,
    },
    /// Add the classes and entries of a gallery file.
    Import {
        /// The file.
        bytes: ByteBuf,
    },
}

/// What the worker says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Response {
    /// The worker runs and listens.
    Started,
    /// Bytes of the bundle so far.
    Progress {
        /// Received.
        loaded: u64,
        /// In all, by the manifest.
        total: u64,
    },
    /// The bundle is loaded; pictures may come.
    Ready(BundleInfo),
    /// The visitor's gallery has learned anew from what was taught, or has the published map again; where nobody has set
    /// thresholds, they are those that belong to it.
    Adapted {
        /// What holds now.
        thresholds: Thresholds,
        /// The newest picture's answer now.
        again: Option<Recognized>,
    },
    /// The classes' thumbnails are there, or cannot be had; once, some time after `Ready`.
    Pictured {
        /// The newest picture's answer now.
        again: Option<Recognized>,
    },
    /// A picture's answer.
    Recognized {
        /// As in the request.
        id: u32,
        /// What was found.
        result: Recognized,
    },
    /// A picture's answer with the part that somebody pointed at as its last object.
    Looked {
        /// What was found.
        result: Recognized,
    },
    /// Where things are in a picture.
    Located {
        /// As in the request.
        id: u32,
        /// Width of the picture, turned upright, in pixels.
        width: u32,
        /// Height of the picture, turned upright, in pixels.
        height: u32,
        /// The surest first.
        objects: Vec<LocatedObject>,
    },
    /// The embedding of a picture.
    Embedded {
        /// As in the request.
        id: u32,
        /// Of unit length.
        embedding: Vec<f32>,
    },
    /// The classes that are most similar to an embedding.
    Found {
        /// Best first.
        answers: Vec<Answer>,
    },
    /// What the gallery holds.
    Listed(GalleryView),
    /// The gallery has changed.
    Edited {
        /// What did it.
        change: Change,
        /// What it holds now, unfiltered.
        gallery: GalleryView,
        /// The newest picture's answer now.
        again: Option<Recognized>,
    },
    /// A newer publication has another title, other notes or other thresholds; comes before what has become of
    /// the gallery.
    Published {
        /// Title of the page.
        title: String,
        /// License and source notes.
        notes: Vec<String>,
        /// As published.
        thresholds: Thresholds,
        /// Those that hold: the visitor's, where there are any.
        tuned: Thresholds,
    },
    /// The gallery as a file.
    Exported {
        /// For `magpie gallery` or another page.
        bytes: ByteBuf,
    },
    /// Other thresholds hold.
    Tuned {
        /// These.
        thresholds: Thresholds,
        /// The newest picture's answer now.
        again: Option<Recognized>,
    },
    /// An object as the network was given it.
    Cropped {
        /// As in the request.
        picture: u32,
        /// As in the request.
        object: usize,
        /// A JPEG file; empty where the picture is not at hand any more.
        bytes: ByteBuf,
    },
    /// Classes that may be mistaken for each other.
    Alike {
        /// The most similar first.
        pairs: Vec<AlikePair>,
    },
    /// How long the runs of a stage took.
    Measured {
        /// As in the request.
        #[serde(default)]
        id: Option<u32>,
        /// Milliseconds of each.
        milliseconds: Vec<f64>,
    },
    /// Something went wrong.
    Failed {
        /// The request's, if it has one.
        id: Option<u32>,
        /// What and why.
        error: EngineError,
    },
}

/// What the page shows about a loaded bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BundleInfo {
    /// Title of the page.
    pub title: String,
    /// Classes of the gallery.
    pub classes: usize,
    /// Entries of the gallery.
    pub entries: usize,
    /// Whether parts of the gallery are fetched when they are needed.
    pub in_parts: bool,
    /// License and source notes.
    pub notes: Vec<String>,
    /// Who computes.
    pub backend: Backend,
    /// What the extractor's products are computed in.
    pub arithmetic: Arithmetic,
    /// Whether there is a detector; without one every picture is one object.
    pub detects: bool,
    /// As published.
    pub thresholds: Thresholds,
}

/// Two classes that may be mistaken for each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlikePair {
    /// Name of one.
    pub first: String,
    /// Name of the other.
    pub second: String,
    /// Cosine of their mean embeddings.
    pub similarity: f32,
}

/// What changed a gallery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// An object was added to this class.
    Taught(String),
    /// A class has this label now.
    Renamed(String),
    /// This class was taken out.
    Removed(String),
    /// This number of entries came from a file.
    Imported(usize),
    /// The last change was taken back.
    Undone,
    /// The published gallery is back.
    Reset,
    /// A newer gallery was published.
    Published,
}

/// What a gallery holds, as the page shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GalleryView {
    /// Classes in all.
    pub classes: usize,
    /// Entries in all.
    pub entries: usize,
    /// Classes of these that cannot be listed or changed here: they are in shards of which only parts
    /// are fetched.
    pub unlisted: usize,
    /// Classes that the filter lets through.
    pub matching: usize,
    /// The first of these, by label.
    pub shown: Vec<ClassView>,
    /// Whether it differs from the published one.
    pub edited: bool,
    /// Whether there is a change to take back.
    pub can_undo: bool,
    /// Whether this browser keeps it until the next visit.
    pub kept: bool,
}

/// A class of a gallery, as the page shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassView {
    /// Its name.
    pub label: String,
    /// Entries.
    pub entries: usize,
    /// Encoded picture; may be empty.
    pub thumbnail: ByteBuf,
}

/// Kinds of failure, so that the page can say what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The network or the host.
    Fetch,
    /// A file of the bundle is incomplete.
    Truncated,
    /// A file of the bundle is not the published one.
    Corrupted,
    /// The bundle was published by a newer program.
    TooNew,
    /// The bundle cannot be read for another reason.
    Bundle,
    /// The picture cannot be decoded: it is damaged.
    Picture,
    /// The picture is of a kind or a size that another decoder may read.
    Format,
    /// A change of the gallery that cannot be made.
    Gallery,
    /// The device failed.
    Device,
}

/// A failure, with the engine's own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// What to do about it.
    pub kind: ErrorKind,
    /// What happened, naming the file.
    pub message: String,
}

impl EngineError {
    /// An error of this kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
