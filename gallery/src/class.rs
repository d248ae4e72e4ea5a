//! What an entry belongs to, and which image it was made from.

use serde::{Deserialize, Serialize};

use crate::metadata::Metadata;

/// One thing that can be recognized.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// Name shown to people; any script, spaces allowed.
    pub label: String,
    /// Shown with the label.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// Threshold of this class; absent: the gallery's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_similarity: Option<f32>,
}

/// Which image an entry was made from: the first half of the SHA-256 of its file. All zeros if unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ContentId(pub [u8; 16]);

impl ContentId {
    /// Of a file's bytes.
    pub fn of(file: &[u8]) -> Self {
        use sha2::Digest;
        let digest = sha2::Sha256::digest(file);
        Self(std::array::from_fn(|i| digest[i]))
    }

    /// Whether the source is known.
    pub fn is_known(self) -> bool {
        self != Self::default()
    }
}
