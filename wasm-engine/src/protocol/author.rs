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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Project {
    /// Of the page.
    pub title: String,
    /// In an order that decides the order of classes and entries.
    pub photos: Vec<Photo>,
    /// `None`: what is measured better on the photographs themselves.
    #[serde(default)]
    pub crop: Option<Crop>,
    /// Share of unknown things that may be given a name; by default a twentieth.
    #[serde(default)]
    pub false_accept: Option<f64>,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
        /// The part that its owner has chosen: left, upper, right and lower edge as shares of width and height.
        #[serde(default)]
        part: Option<[f32; 4]>,
    },
    /// Say which part of a photograph is its main body.
    Find {
        /// What it is called, for messages.
        name: String,
        /// Its file.
        file: ByteBuf,
        /// Its pixels, if the browser has decoded it.
        #[serde(default)]
        pixels: Option<Pixels>,
    },
    /// Ask the gallery that was measured or made last about a picture.
    Ask {
        /// What it is called, for messages.
        name: String,
        /// Its file.
        file: ByteBuf,
        /// Its pixels, if the browser has decoded it.
        #[serde(default)]
        pixels: Option<Pixels>,
    },
    /// Make records of the entries of a gallery.
    OpenGallery {
        /// Its file.
        gallery: ByteBuf,
        /// The file of its thumbnails, if they are apart.
        #[serde(default)]
        thumbnails: Option<ByteBuf>,
    },
    /// Let a gallery learn anew that has grown since it learned its map. Needs no networks.
    Learn {
        /// Its file.
        gallery: ByteBuf,
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
        /// Whether the map that was learned before labels changed will do, where there is one: the answer says so, and
        /// comes many times as fast. Default `false`.
        #[serde(default)]
        at_once: bool,
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
    /// Make the packed copies of a file of a site; it takes no networks.
    Pack {
        /// The file.
        file: File,
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

/// A photograph that is like a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Similar {
    /// Content id of its file.
    pub content: String,
    /// Its class.
    pub label: String,
    /// Cosine of the embeddings.
    pub similarity: f32,
}

/// A class of a gallery that was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedClass {
    /// Its name.
    pub label: String,
    /// Names and texts, in the owner's order.
    pub metadata: Vec<(String, String)>,
    /// A JPEG file; empty if there is none.
    pub thumbnail: ByteBuf,
}

/// A photograph of a gallery that was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedPhoto {
    /// Content id of its file, or one of its own.
    pub content: String,
    /// The place of its class.
    pub class: usize,
    /// All that is needed of it.
    pub record: ByteBuf,
}

/// What the worker says. `F` are the figures: those of `authoring`, or as much of them as a page reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// The main body of a photograph.
    Found {
        /// Its edges as shares of width and height; `None` without one, and without a detector.
        part: Option<[f32; 4]>,
    },
    /// What the gallery answers.
    Asked {
        /// Whether a page would give the first name.
        known: bool,
        /// How probable the first name is, if that was measured.
        probability: Option<f32>,
        /// Classes with their similarities, best first.
        matches: Vec<(String, f32)>,
        /// Photographs that are most like the picture.
        similar: Vec<Similar>,
    },
    /// A gallery that was opened.
    GalleryOpened {
        /// The part of a photograph that its entries are of.
        crop: Crop,
        /// In the gallery's order.
        classes: Vec<OpenedClass>,
        /// In the order of their entries.
        photos: Vec<OpenedPhoto>,
    },
    /// What a gallery learned anew.
    Learned {
        /// Its file with that; `None` where nothing better than before was found.
        gallery: Option<ByteBuf>,
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
        /// Whether the map is that of before: without `at_once` the figures are nearly these.
        #[serde(default)]
        at_once: bool,
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
    /// The packed copies of a file.
    Packed {
        /// Those that are worth their place.
        copies: Vec<File>,
    },
    /// Something went wrong.
    Failed {
        /// The request's, if it has one.
        id: Option<u32>,
        /// What and why.
        error: EngineError,
    },
}
