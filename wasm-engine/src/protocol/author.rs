//! Messages between a page and the worker that makes galleries and sites.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::EngineError;

/// Pixels that the browser has decoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pixels {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Interleaved red, green, blue, alpha.
    pub rgba: ByteBuf,
}

/// A photograph of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Photo {
    /// Content id of its file, 32 hexadecimal digits.
    pub content: String,
    /// What it is called, with `/` between folders.
    pub name: String,
    /// Its class.
    pub label: String,
}

/// Metadata of a class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassMetadata {
    /// The class.
    pub label: String,
    /// Names and texts, in the owner's order.
    pub metadata: Vec<(String, String)>,
}

/// A file by its name, with `/` between folders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Inside the site.
    pub name: String,
    /// What is in it.
    pub bytes: ByteBuf,
}

/// Which part of a photograph becomes an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crop {
    /// The whole.
    Never,
    /// Its middle; only without a detector.
    Middle,
    /// Its main body; the whole if there is none. Only with a detector.
    Main,
    /// The whole and the main body. Only with a detector.
    Both,
}

/// What is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Of the page.
    pub title: String,
    /// In an order that decides the order of classes and entries.
    pub photos: Vec<Photo>,
    /// `None`: what is measured better on the photographs themselves.
    #[serde(default)]
    pub crop: Option<Crop>,
    /// Whether the gallery learns a map from its entries, if that helps; default `true`.
    #[serde(default = "yes")]
    pub adapt: bool,
    /// Whether the gallery measures answer rule and threshold on its entries; default `true`.
    #[serde(default = "yes")]
    pub calibrate: bool,
    /// Classes that have metadata.
    #[serde(default)]
    pub classes: Vec<ClassMetadata>,
    /// Pictures that the page offers.
    #[serde(default)]
    pub samples: Vec<File>,
}

const fn yes() -> bool {
    true
}

/// What the page asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Take these networks; what is known of photographs goes.
    Open {
        /// Model file of the extractor.
        extractor: ByteBuf,
        /// Model file of the detector.
        #[serde(default)]
        detector: Option<ByteBuf>,
    },
    /// Look at a photograph and forget it.
    Look {
        /// Comes back with the answer.
        id: u32,
        /// What it is called, for messages.
        name: String,
        /// Its file.
        file: ByteBuf,
        /// Its pixels, if the browser has decoded it.
        #[serde(default)]
        pixels: Option<Pixels>,
    },
    /// Take in what was kept of photographs.
    Know {
        /// As `Looked` gave them.
        records: Vec<ByteBuf>,
    },
    /// Forget photographs.
    Forget {
        /// Their content ids.
        contents: Vec<String>,
    },
    /// Say how good a project's gallery is.
    Measure {
        /// The project.
        project: Project,
    },
    /// Give a project's gallery as a file.
    Export {
        /// The project.
        project: Project,
    },
    /// Make gallery, report and site.
    Make {
        /// The project.
        project: Project,
        /// Files of the built page.
        page: Vec<File>,
        /// Whether packed copies of files are made, too; default `true`.
        #[serde(default = "yes")]
        packed: bool,
    },
}

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Photographs become entries.
    Pictures,
    /// The gallery learns and is asked about its own entries.
    Learning,
    /// Files are packed for hosts.
    Packing,
}

/// What the worker says. `F` are the figures: those of `authoring`, or as much of them as a page reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response<F> {
    /// The worker runs and listens.
    Started,
    /// The networks are ready.
    Opened {
        /// Names what makes the embeddings: records of another key are refused.
        key: String,
        /// Values of an embedding.
        values: usize,
        /// Whether it finds main bodies.
        detects: bool,
        /// Whether this browser computes as a native program on usual processors does, to the last bit.
        exact: bool,
    },
    /// A photograph was looked at.
    Looked {
        /// As in the request.
        id: u32,
        /// Content id of its file, 32 hexadecimal digits.
        content: String,
        /// All that is needed of it from then on.
        record: ByteBuf,
        /// A JPEG file, as a class shows it.
        thumbnail: ByteBuf,
    },
    /// Photographs were taken in or forgotten.
    Known {
        /// Photographs that are known now.
        photos: usize,
    },
    /// How far it has come.
    Progress {
        /// Of the stage.
        done: usize,
        /// All of it.
        of: usize,
        /// The stage.
        what: Stage,
    },
    /// How good a project's gallery is.
    Measured {
        /// Places of photographs are those in the project's list.
        figures: F,
    },
    /// A project's gallery.
    Exported {
        /// For `magpie gallery` or a page.
        gallery: ByteBuf,
    },
    /// Gallery, report and site.
    Made {
        /// For `magpie gallery` or a page.
        gallery: ByteBuf,
        /// A page for the owner, which is not a part of the site.
        report: String,
        /// Places of photographs are those in the project's list.
        figures: F,
        /// All files of the site, sorted by name.
        site: Vec<File>,
    },
    /// Something went wrong.
    Failed {
        /// The request's, if it has one.
        id: Option<u32>,
        /// What and why.
        error: EngineError,
    },
}
