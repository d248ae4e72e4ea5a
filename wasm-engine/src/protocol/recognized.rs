//! What was found in a picture, as the worker tells it.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// What was found in a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recognized {
    /// The recognize request's, to teach from it.
    pub picture: u32,
    /// Width of the picture, turned upright, in pixels.
    pub width: u32,
    /// Height of the picture, turned upright, in pixels.
    pub height: u32,
    /// Most similar first.
    pub objects: Vec<RecognizedObject>,
    /// How many of the last objects somebody pointed at; the others were found.
    pub pointed: usize,
    /// Milliseconds of decoding, detection, embedding and search.
    pub timings: StageTimes,
    /// Objects that the extractor looked at; fewer than all where a camera's are followed.
    pub embedded: usize,
    /// Threads that computed it.
    pub threads: usize,
    /// Bytes of memory that the engine holds.
    pub memory: f64,
}

/// Milliseconds of each stage.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct StageTimes {
    /// Bytes to pixels.
    pub decode: f64,
    /// Finding objects.
    pub detect: f64,
    /// Embedding the crops.
    pub embed: f64,
    /// Searching the gallery.
    pub search: f64,
}

/// One object and what it may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecognizedObject {
    /// Left, top, right, bottom in pixels of the picture.
    pub bbox: [f32; 4],
    /// How sure the detector is.
    pub detection_score: f32,
    /// Whether the best answer is similar enough.
    pub known: bool,
    /// Best first.
    pub answers: Vec<Answer>,
    /// Unit embedding of the crop.
    pub embedding: Vec<f32>,
}

/// An object without a name.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LocatedObject {
    /// Left, top, right, bottom in pixels of the picture.
    pub bbox: [f32; 4],
    /// How sure the detector is.
    pub detection_score: f32,
}

/// A class that an object may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Name of the class.
    pub label: String,
    /// Cosine, `−1..=1`.
    pub similarity: f32,
    /// Least cosine at which this class is the answer.
    pub min_similarity: f32,
    /// How probable it is that this is right, of a thing that the gallery has, `0..=1`; only of the best answer,
    /// and where the gallery is calibrated.
    pub probability: Option<f32>,
    /// `(name, text)` facts about the class.
    pub metadata: Vec<(String, String)>,
    /// Encoded picture of the class; may be empty.
    pub thumbnail: ByteBuf,
}
