//! What is kept of a photograph that was looked at, so that its file and its pixels are not needed again.
//!
//! As bytes: the mark, then three parts, each after its length (32 bits, the lowest byte first): what is known of it
//! (a [`Memory`] of one), its thumbnail for a class, its picture for the report; at the end the SHA-256 of all before.

use std::path::Path;

use models::gallery::ContentId;
use models::image::{ImageError, RgbImage};
use models::preprocess::thumbnail;
use models::recognizer::class_thumbnail;

use crate::crops::Cropper;
use crate::memory::{Memory, MemoryError, Reader, sealed, unsealed};
use crate::photos::Networks;
use crate::picture::{PictureError, PictureProblem, decode_picture};
use crate::report;

/// The first bytes of a record.
const MARK: &[u8] = b"magpie photograph 1\n";

/// What is kept of a photograph.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Of its file.
    pub id: ContentId,
    /// Its embeddings: of all of it, and of its main body, or of its middle if there is no detector.
    pub memory: Memory,
    /// A JPEG as a class shows it.
    pub thumbnail: Vec<u8>,
    /// A JPEG as the report shows it.
    pub figure: Vec<u8>,
}

impl Record {
    /// Looks at a photograph: embeds all that may become an entry, and makes it small. `pixels` are taken if another
    /// decoder has read the file.
    ///
    /// # Errors
    ///
    /// [`PictureError`] of one that cannot be used; a network that failed.
    pub fn look(
        networks: Networks<'_>,
        name: &Path,
        file: &[u8],
        pixels: Option<RgbImage>,
    ) -> anyhow::Result<Self> {
        let id = ContentId::of(file);
        let picture = match pixels {
            Some(pixels) => pixels,
            None => decode_picture(name, file)?,
        };
        if picture.is_one_color() {
            return Err(PictureError::new(name, PictureProblem::OneColor).into());
        }
        let refused = |error: ImageError| PictureError::new(name, error);
        Ok(Self {
            id,
            memory: Cropper::look_at_all(networks, (id, &picture, name))?,
            thumbnail: class_thumbnail(&picture).map_err(refused)?,
            figure: thumbnail(&picture, report::SIDE, report::QUALITY).map_err(refused)?,
        })
    }

    /// As bytes; `key` names what made the embeddings.
    pub fn to_bytes(&self, key: &str) -> Vec<u8> {
        let mut bytes = MARK.to_vec();
        for part in [&self.memory.to_bytes(key), &self.thumbnail, &self.figure] {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            bytes.extend(length.to_le_bytes());
            bytes.extend(part);
        }
        sealed(bytes)
    }

    /// Reads what [`Self::to_bytes`] wrote of an extractor whose embeddings have `dim` values.
    ///
    /// # Errors
    ///
    /// [`MemoryError`]
    pub fn from_bytes(bytes: &[u8], key: &str, dim: usize) -> Result<Self, MemoryError> {
        let content = unsealed(bytes)?.strip_prefix(MARK).ok_or(MemoryError::Damaged)?;
        let mut reader = Reader(content);
        let mut part = || {
            let length = reader.number()?;
            reader.take(length)
        };
        let (Some(memory), Some(thumbnail), Some(figure)) = (part(), part(), part()) else {
            return Err(MemoryError::Damaged);
        };
        let memory = Memory::from_bytes(memory, key, dim)?;
        let id = memory.ids().next().filter(|_| memory.len() == 1 && reader.0.is_empty());
        let id = id.ok_or(MemoryError::Damaged)?;
        Ok(Self { id, memory, thumbnail: thumbnail.to_vec(), figure: figure.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Seen;

    #[test]
    fn a_record_is_read_as_it_was_and_a_damaged_one_is_not() {
        let id = ContentId([7; 16]);
        let mut memory = Memory::default();
        memory.put(id, Seen { whole: Some(vec![0.6, 0.8]), ..Seen::default() });
        let record = Record { id, memory, thumbnail: vec![1, 2], figure: vec![3] };
        let bytes = record.to_bytes("key");
        assert_eq!(Record::from_bytes(&bytes, "key", 2), Ok(record));
        assert_eq!(Record::from_bytes(&bytes, "another", 2), Err(MemoryError::Other));
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            let read = Record::from_bytes(&changed, "key", 2);
            assert_eq!(read, Err(MemoryError::Damaged), "{place}");
            let cut = Record::from_bytes(&bytes[..place], "key", 2);
            assert_eq!(cut, Err(MemoryError::Damaged), "{place}");
        }
    }
}
