//! From photographs to a site: which part of each becomes an entry, entries, what a gallery learns from them, how good
//! it is, and what its owner is told.
//!
//! Bytes in, bytes out: nothing here reads a file, prints, or knows a command line or a browser. Photographs come in
//! through [`Photos`], what happens goes out through a [`Listener`], whose error stops the work.
//!
//! # Modules
//!
//! | modules | what |
//! |---|---|
//! | `label`, `names`, `neighbors`, `plot`, `words` | names of classes; names of a site's files; the best rows; curves as SVG; words of sentences |
//! | `bundled`, `calibration`, `embedding`, `hosting`, `html`, `memory`, `picture`, `precache` | gallery and networks as a bundle; when an answer is believed; embeddings of pictures; what hosts are given; pages for owners; what is known of photographs; why a picture cannot be used; what browsers keep |
//! | `adaptation`, `photos`, `site` | what a gallery learns from its own entries; what comes in and what is told; a site as a map from names to bytes |
//! | `crops` | the part of a photograph that becomes an entry |
//! | `embedding_shard`, `entries`, `quality` | embeddings of a part of a list; photographs become entries; how good a gallery is |
//! | `figures`, `make`, `report` | that as data; the steps of `magpie site`; that as a page for the owner |
//! | `record` | what is kept of a photograph that was looked at |
//! | `workshop` | all of it behind one door, for a page and for Node |

pub mod adaptation;
pub mod bundled;
pub mod calibration;
mod crops;
pub mod embedding;
pub mod embedding_shard;
mod entries;
pub mod figures;
pub mod hosting;
pub mod html;
pub mod label;
mod make;
mod memory;
pub mod names;
pub mod neighbors;
mod photos;
pub mod picture;
pub mod plot;
pub mod precache;
pub mod quality;
mod record;
pub mod report;
pub mod site;
pub mod words;
pub mod workshop;

pub use crops::Cropper;
pub use entries::{Added, Known, add};
pub use make::{Gathered, gather, learn};
pub use memory::{MARK, Memory, MemoryError};
pub use photos::{Event, Listener, Networks, Photos};
pub use record::{Part, Record};
pub use site::Site;
