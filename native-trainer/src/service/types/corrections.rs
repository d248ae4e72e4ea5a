//! What visitors send and what the owner decides about it.

use serde::{Deserialize, Serialize};

use super::Ids;
use crate::service::asked::Once;
use crate::service::schema::described;

described! {
    /// What a visitor says that a thing is.
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub(crate) struct CorrectionOptions = "" {
        /// The class that it is said to be; it need not be there.
        pub(crate) class: Once,
        /// An embedding, instead of an image; in JSON alone.
        pub(crate) embedding: Option<Vec<f32>>,
    }

    /// What became of a correction.
    #[derive(Debug, Serialize)]
    pub(crate) struct CorrectionTaken = "CorrectionTaken" {
        /// 32 hexadecimal digits: the same image with the same class has one id.
        pub(crate) id: String,
        /// Whether it was sent before.
        pub(crate) known: bool,
    }

    /// A page of a list.
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub(crate) struct PageOptions = "" {
        /// Where the page begins; `next` of the page before.
        pub(crate) offset: usize [0, 1_000_000_000],
        /// Length of the page; 100 if it is not given.
        pub(crate) limit: Option<usize> [1, 1000],
    }

    /// What the service said of a thing when it came.
    #[derive(Debug, Serialize)]
    pub(crate) struct CorrectionSaid = "CorrectionSaid" {
        /// The most similar class.
        pub(crate) class: String,
        /// Cosine, −1 to 1.
        pub(crate) similarity: f64,
        /// Whether that was the answer.
        pub(crate) known: bool,
    }

    /// A correction that waits for the owner.
    #[derive(Debug, Serialize)]
    pub(crate) struct CorrectionOf = "Correction" {
        /// 32 hexadecimal digits.
        pub(crate) id: String,
        /// When it came, in seconds since 1970.
        pub(crate) time: u64,
        /// The class that it is said to be.
        pub(crate) class: String,
        /// Whether the gallery has this class.
        pub(crate) class_known: bool,
        /// Entries that it becomes.
        pub(crate) entries: usize,
        /// Whether it has a picture.
        pub(crate) thumbnail: bool,
        /// What the service said of it when it came; null of a gallery without entries.
        pub(crate) said: Option<CorrectionSaid>,
    }

    /// A page of corrections.
    #[derive(Debug, Serialize)]
    pub(crate) struct CorrectionPage = "Corrections" {
        /// Corrections that wait, on all pages.
        pub(crate) total: usize,
        /// Where the next page begins; null on the last.
        pub(crate) next: Option<usize>,
        /// Those of this page, oldest first.
        pub(crate) corrections: Vec<CorrectionOf>,
    }

    /// Corrections that become entries.
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(crate) struct CorrectionsAccepted = "CorrectionsAccepted" {
        /// Their ids.
        pub(crate) ids: Ids,
        /// The class that they are added to; that of each if it is not given.
        #[serde(default)]
        pub(crate) to: Once,
    }

    /// Corrections that go.
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(crate) struct CorrectionsRejected = "CorrectionsRejected" {
        /// Their ids.
        pub(crate) ids: Ids,
    }

    /// How many corrections went.
    #[derive(Debug, Serialize)]
    pub(crate) struct Rejected = "Rejected" {
        /// Those that waited until now.
        pub(crate) rejected: usize,
    }
}
