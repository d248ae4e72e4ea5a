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

/// Which part of an image becomes an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crop {
    /// The whole image.
    #[default]
    Never,
    /// The middle of the image.
    Middle,
    /// The main body that a detector finds; the whole image if it finds none.
    Main,
    /// Two entries: the whole image and its main body.
    Both,
}

impl Crop {
    /// What it is called in files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Middle => "middle",
            Self::Main => "main",
            Self::Both => "both",
        }
    }

    /// Whether a detector has to look for it.
    pub const fn needs_detector(self) -> bool {
        matches!(self, Self::Main | Self::Both)
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
    pub(crate) fn is_never(&self) -> bool {
        *self == Self::Never
    }
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
