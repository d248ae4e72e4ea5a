//! What is kept of a photograph that was looked at, so that its file and its pixels are not needed again.
//!
//! As bytes: the mark, then three parts, each after its length (32 bits, the lowest byte first): what is known of it
//! (a [`Memory`] of one), its thumbnail for a class, its picture for the report; at the end the SHA-256 of all before.

use std::path::Path;

use models::gallery::ContentId;
use models::image::geometry::BBox;
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
        let (id, picture) = (ContentId::of(file), shown(name, file, pixels)?);
        let memory = Cropper::look_at_all(networks, (id, &picture, name))?;
        Self::of(id, memory, &picture, name)
    }

    /// The same of a part that the photograph's owner has chosen: its edges as shares of width and height. The part is
    /// all that becomes an entry.
    ///
    /// # Errors
    ///
    /// As [`Self::look`].
    pub fn look_at_part(
        networks: Networks<'_>,
        name: &Path,
        file: &[u8],
        pixels: Option<RgbImage>,
        part: Part,
    ) -> anyhow::Result<Self> {
        let (id, picture) = (ContentId::of(file), shown(name, file, pixels)?);
        let picture = picture.crop(&part.of(&picture));
        let memory = Cropper::look_at_part(networks, (id, &picture, name))?;
        Self::of(id, memory, &picture, name)
    }

    fn of(id: ContentId, memory: Memory, picture: &RgbImage, name: &Path) -> anyhow::Result<Self> {
        if picture.is_one_color() {
            return Err(PictureError::new(name, PictureProblem::OneColor).into());
        }
        let refused = |error: ImageError| PictureError::new(name, error);
        Ok(Self {
            id,
            memory,
            thumbnail: class_thumbnail(picture).map_err(refused)?,
            figure: thumbnail(picture, report::SIDE, report::QUALITY).map_err(refused)?,
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

/// A part of a photograph: its left, upper, right and lower edge, as shares of width and height.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part(pub [f32; 4]);

impl Part {
    /// The box of this part; one without a pixel is widened to one.
    fn of(self, picture: &RgbImage) -> BBox {
        let size = [picture.width(), picture.height()].map(|side| side as f32);
        let edge = |place: usize| {
            let share = self.0[place];
            let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
            share * size[place % 2]
        };
        let [left, upper] = [0, 1].map(|side| edge(side).min(edge(side + 2)).min(size[side] - 1.0));
        let [right, lower] = [0, 1].map(|side| edge(side).max(edge(side + 2)));
        BBox::new(left, upper, right.max(left + 1.0), lower.max(upper + 1.0))
    }

    /// The part that a box of a picture is.
    pub(crate) fn from_box(bbox: &BBox, picture: &RgbImage) -> Self {
        let (width, height) = (picture.width() as f32, picture.height() as f32);
        Self([bbox.x1 / width, bbox.y1 / height, bbox.x2 / width, bbox.y2 / height])
    }
}

/// The pixels of a photograph that shows something.
pub(crate) fn shown(
    name: &Path,
    file: &[u8],
    pixels: Option<RgbImage>,
) -> Result<RgbImage, PictureError> {
    let picture = match pixels {
        Some(pixels) => pixels,
        None => decode_picture(name, file)?,
    };
    if picture.is_one_color() {
        return Err(PictureError::new(name, PictureProblem::OneColor));
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Seen;

    #[test]
    fn a_part_lies_inside_its_photograph_whatever_it_says() {
        let picture = RgbImage::from_rgb(40, 20, vec![7; 2400]).unwrap();
        let edges = |part: [f32; 4]| {
            let bbox = Part(part).of(&picture);
            [bbox.x1, bbox.y1, bbox.x2, bbox.y2]
        };
        assert_eq!(edges([0.25, 0.5, 0.75, 1.0]), [10.0, 10.0, 30.0, 20.0]);
        assert_eq!(edges([0.75, 1.0, 0.25, 0.5]), [10.0, 10.0, 30.0, 20.0], "either way around");
        assert_eq!(edges([1.0, 1.0, 1.0, 1.0]), [39.0, 19.0, 40.0, 20.0], "a pixel at least");
        assert_eq!(edges([f32::NAN, -3.0, 9.0, f32::INFINITY]), [0.0, 0.0, 40.0, 1.0]);
    }

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
