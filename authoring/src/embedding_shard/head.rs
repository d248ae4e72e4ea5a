//! What an embedding shard is of.

use models::gallery::Crop;
use models::preprocess::Preprocess;
use serde::{Deserialize, Serialize};

use super::{DIGEST, MOST_SHARDS, ShardError, VALUES};
use crate::crops::Cropper;
use crate::label::is_hidden;

/// Photographs, classes and folders of a list at most.
const COUNT: usize = u32::MAX as usize;
/// Lines that are said of a list at most.
const REMARKS: usize = 1000;

/// What reading a list or a folder found beside the photographs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beside {
    /// Photographs that are not taken.
    pub pictures: usize,
    /// Classes without a photograph that is taken.
    pub classes: usize,
    /// Folders that are not taken.
    pub folders: usize,
}

/// What a shard is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// SHA-256 of the list: labels and paths in order.
    pub list: String,
    /// Photographs of the whole list.
    pub photographs: usize,
    /// Which shard this is, counted from 1.
    pub shard: u32,
    /// Of how many.
    pub shards: u32,
    /// SHA-256 of the extractor's model file.
    pub extractor: String,
    /// SHA-256 of the detector's, where one looks.
    pub detector: Option<String>,
    /// The part of a photograph that becomes an entry; nothing where that is to be measured on all of them.
    pub crop: Option<Crop>,
    /// What the extractor sees of a picture.
    pub preprocess: Preprocess,
    /// Values of an embedding.
    pub dim: usize,
    /// The program's version.
    pub program: String,
    /// What the list has beside the photographs.
    pub beside: Beside,
    /// What was said of the list, a line each.
    pub remarks: Vec<String>,
    /// The words of the command, without those of the shard and of the file.
    pub words: String,
}

impl Head {
    /// Where this shard's photographs are in the list: of equal parts in order, of which the first ones have one more.
    pub fn places(&self) -> std::ops::Range<usize> {
        places(self.photographs, self.shards, self.shard)
    }

    /// In what a shard differs from one that a gallery can be built with it of; nothing where it does not.
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        let differs = [
            (self.list != other.list || self.photographs != other.photographs, "another list"),
            (self.extractor != other.extractor, "another extractor"),
            (self.detector != other.detector, "another detector"),
            (self.crop != other.crop, "another --crop"),
            (self.preprocess != other.preprocess || self.dim != other.dim, "another preprocessing"),
            (self.shards != other.shards, "another number of shards"),
            (self.program != other.program, "another version of magpie"),
            (self.beside != other.beside, "a list with something else beside it"),
        ];
        differs.into_iter().find(|(differs, _)| *differs).map(|(_, what)| what)
    }

    /// Whether all that a part needs is in the shards.
    pub fn has(&self, crop: Crop) -> bool {
        let has = self.parts();
        has.contains(&crop) || has.contains(&Crop::Both) && crop != Crop::Middle
    }

    /// What is embedded of each photograph.
    pub(super) fn parts(&self) -> &'static [Crop] {
        match self.crop {
            None => Cropper::measured(self.detector.is_some()),
            Some(Crop::Never) => &[Crop::Never],
            Some(Crop::Middle) => &[Crop::Middle],
            Some(Crop::Main) => &[Crop::Main],
            Some(Crop::Both) => &[Crop::Both],
        }
    }

    pub(super) fn check(&self) -> Result<(), ShardError> {
        let is_digest =
            |text: &str| text.len() == DIGEST && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digests = [Some(&self.list), Some(&self.extractor), self.detector.as_ref()];
        let Beside { pictures, classes, folders } = self.beside;
        let counts = [self.photographs, pictures, classes, folders];
        let is_one = counts.into_iter().all(|count| count <= COUNT)
            && self.remarks.len() <= REMARKS
            && is_of_a_command(&self.words)
            && (1..=MOST_SHARDS).contains(&self.shards)
            && (1..=self.shards).contains(&self.shard)
            && (1..=VALUES).contains(&self.dim)
            && digests.into_iter().flatten().all(|text| is_digest(text));
        if is_one { Ok(()) } else { Err(ShardError::Damaged) }
    }
}

/// Whether a shell takes a text as words and nothing else: it is shown as a command to give again.
fn is_of_a_command(text: &str) -> bool {
    let mut characters = text.chars();
    let mut is_quoted = false;
    while let Some(c) = characters.next() {
        let fits = match c {
            '\'' => {
                is_quoted = !is_quoted;
                true
            }
            '\\' if !is_quoted => characters.next() == Some('\''),
            c if is_quoted => !is_hidden(c),
            ' ' | '-' | '_' | '.' | '/' | ',' | ':' | '=' | '@' | '%' | '+' => true,
            c => c.is_alphanumeric(),
        };
        if !fits {
            return false;
        }
    }
    !is_quoted
}

/// The part of `count` things in order that falls to a shard.
pub fn places(count: usize, shards: u32, shard: u32) -> std::ops::Range<usize> {
    let (shards, index) = (shards.max(1) as usize, shard.saturating_sub(1) as usize);
    let (each, left) = (count / shards, count % shards);
    let start = |index: usize| index * each + index.min(left);
    start(index)..start(index + 1)
}
