//! Vector search over labeled embeddings, for a program or a browser, without a tensor library.
//!
//! A [`Gallery`] holds classes (label, thumbnail, metadata) and entries (one embedding each, of one
//! class). A [`VectorIndex`] finds the entries that are similar to a query; an [`AnswerRule`] says
//! which class they speak for. [`Shards`] cut a large gallery into files of which a page fetches a
//! part for each query.
//!
//! This crate reads and writes bytes; it opens no file and fetches nothing. A module imports only from
//! the lines above it:
//!
//! | module | what |
//! |---|---|
//! | `aligned`, `limits`, `matrix`, `metadata` | values that begin at a cache line; how large a gallery may be; products of matrices; texts of a class |
//! | `index`, `map` | embeddings and how they are searched: flat, HNSW, IVF, binary; the map of an adapted gallery |
//! | `answer_rule`, `calibration`, `class`, `error` | how entries become an answer; when it is believed; classes and content ids; why something failed |
//! | `gallery`, `sections` | the gallery in memory; files in checked sections |
//! | `alike`, `embedding`, `mapped` | classes that are similar to each other; which embeddings may enter; entries behind a map |
//! | `adapt`, `answer`, `edit` | a map is learned; search; add, rename, remove, merge |
//! | `format`, `leave_out` | bytes of a gallery; a gallery asked about its own entries |
//! | `check`, `lessons`, `shards`, `stream` | a file checked piece by piece; what a visitor taught; shards; a gallery larger than memory |
//! | `growing`, `summary` | what a gallery in memory and one on its way into a file have in common; what a file says of itself |
//! | `reader` | a file read entry by entry |

mod adapt;
#[cfg(test)]
mod against_a_map;
#[doc(hidden)]
pub mod aligned;
mod alike;
mod answer;
mod answer_rule;
mod calibration;
#[cfg(feature = "parallel")]
mod check;
mod class;
mod edit;
mod embedding;
mod error;
mod format;
mod gallery;
#[cfg(feature = "parallel")]
mod growing;
mod index;
mod leave_out;
mod lessons;
mod limits;
mod map;
mod mapped;
mod matrix;
mod metadata;
#[cfg(feature = "parallel")]
mod reader;
mod sections;
mod shards;
#[cfg(feature = "parallel")]
mod stream;
#[cfg(feature = "parallel")]
mod summary;
#[cfg(test)]
mod tests;

pub use adapt::{AdaptOptions, Candidate, LearnedMap, LeftOut, has_grown};
pub use alike::Alike;
pub use answer::{Answer, Match, Question};
pub use answer_rule::AnswerRule;
pub use calibration::{Asked, Calibration, Fitted, MAX_KNOTS, Source, Test, Trial, fit};
#[cfg(feature = "parallel")]
pub use check::check_file;
pub use class::{Class, ContentId, Crop};
pub use edit::Merged;
pub use embedding::check_embedding;
pub use error::GalleryError;
pub use format::{MAGIC, StreamError, VERSION};
pub use gallery::Gallery;
#[cfg(feature = "parallel")]
pub use growing::Growing;
pub use index::{
    Filter, Hit, IndexConfig, IndexError, Metric, Search, UnknownVectorType, VectorIndex,
    VectorType,
};
pub use leave_out::{FoldPart, Folds, LearnedBy, RULES};
pub use lessons::{
    Applied, LESSONS_MAGIC, LESSONS_VERSION, Lesson, LessonChange, Lessons, LessonsError,
    MAX_LESSONS, apply,
};
pub use limits::{MAX_DIM, MAX_ENTRIES};
pub use map::{Adaptation, AdaptationKind, AdaptationMap, UnknownAdaptation};
pub use metadata::Metadata;
#[cfg(feature = "parallel")]
pub use reader::{Entries, GalleryReader, ReadEntry};
#[cfg(feature = "parallel")]
pub use shards::ShardOptions;
pub use shards::{Budget, Fetched, Part, SHARDS_MAGIC, SHARDS_VERSION, Sharded, Shards};
#[cfg(feature = "parallel")]
pub use stream::GalleryStream;
#[cfg(feature = "parallel")]
pub use summary::Summary;

/// The lines of Rust in README.md.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
