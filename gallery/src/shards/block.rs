//! The bytes of a list and of what is said about a class.

use std::ops::Range;

use half::f16;

use crate::class::Class;
use crate::error::GalleryError;
use crate::index::Bytes;
use crate::metadata::Metadata;
use crate::sections::crc32;

/// Bytes of a class in a list, without its label.
pub(super) const CLASS_BYTES: usize = 22;
/// Bytes of an entry in a list, without its code.
pub(super) const ENTRY_BYTES: usize = 8;

/// Bytes of one of the shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) shard: usize,
    pub(super) range: Range<u64>,
}

/// A list: some entries with their classes.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// With the places of what else is said about them.
    pub(super) classes: Vec<(Class, Place)>,
    /// Number, class and scale of every entry.
    entries: Vec<(u32, u16, f32)>,
    codes: Vec<u8>,
    code_bytes: usize,
}

impl Block {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn id(&self, entry: usize) -> u32 {
        self.entries[entry].0
    }

    pub(super) fn class(&self, entry: usize) -> usize {
        usize::from(self.entries[entry].1)
    }

    pub(super) fn scale(&self, entry: usize) -> f32 {
        self.entries[entry].2
    }

    pub(super) fn code(&self, entry: usize) -> &[u8] {
        &self.codes[entry * self.code_bytes..][..self.code_bytes]
    }

    /// Reads what [`write()`] wrote, whatever the bytes are.
    pub(super) fn read(
        bytes: &[u8],
        code_bytes: usize,
        shards: &[u64],
    ) -> Result<Self, GalleryError> {
        let wrong = |what: &str| GalleryError::Inconsistent { what: format!("list: {what}") };
        let mut bytes = Bytes(bytes);
        let (entries, classes) = (bytes.u32()? as usize, bytes.u32()? as usize);
        let mut described = Bytes(bytes.take_rows(classes, CLASS_BYTES)?);
        let mut rows = Bytes(bytes.take_rows(entries, ENTRY_BYTES)?);
        let codes = bytes.take_rows(entries, code_bytes)?.to_vec();
        let mut read = Vec::with_capacity(classes);
        for _ in 0..classes {
            let (start, length) = (described.u64()?, described.u32()?);
            let own = f32::from_bits(described.u32()?);
            let shard = usize::from(described.u16()?);
            let label = bytes.take(described.u32()? as usize)?;
            let range = start..start.saturating_add(length.into());
            if shards.get(shard).is_none_or(|length| range.end > *length) {
                return Err(wrong("a class beyond the shards"));
            }
            let label = std::str::from_utf8(label).map_err(|error| wrong(&error.to_string()))?;
            let min_similarity = own.is_finite().then_some(own);
            let class =
                Class { label: label.to_owned(), metadata: Metadata::new(), min_similarity };
            read.push((class, Place { shard, range }));
        }
        if !bytes.0.is_empty() {
            return Err(wrong("bytes behind its end"));
        }
        let mut numbered = Vec::with_capacity(entries);
        for _ in 0..entries {
            let (id, class, scale) = (rows.u32()?, rows.u16()?, f16::from_bits(rows.u16()?));
            if usize::from(class) >= classes || !scale.is_finite() {
                return Err(wrong("an entry of a class that is not there"));
            }
            numbered.push((id, class, scale.to_f32()));
        }
        Ok(Self { classes: read, entries: numbered, codes, code_bytes })
    }
}

/// An entry as it is written into a list.
#[cfg(feature = "parallel")]
pub(super) struct Row {
    pub(super) id: u32,
    /// Position among the list's classes.
    pub(super) class: u16,
    pub(super) scale: f16,
    pub(super) code: Vec<u8>,
}

/// The bytes of a list: numbers of entries and of classes, the classes, the entries, their codes, the
/// labels.
#[cfg(feature = "parallel")]
pub(super) fn write(classes: &[(&Class, &Place)], rows: &[Row]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(rows.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(classes.len() as u32).to_le_bytes());
    for (class, place) in classes {
        bytes.extend_from_slice(&place.range.start.to_le_bytes());
        bytes.extend_from_slice(&((place.range.end - place.range.start) as u32).to_le_bytes());
        bytes.extend_from_slice(&class.min_similarity.unwrap_or(f32::NAN).to_le_bytes());
        bytes.extend_from_slice(&(place.shard as u16).to_le_bytes());
        bytes.extend_from_slice(&(class.label.len() as u32).to_le_bytes());
    }
    for row in rows {
        bytes.extend_from_slice(&row.id.to_le_bytes());
        bytes.extend_from_slice(&row.class.to_le_bytes());
        bytes.extend_from_slice(&row.scale.to_le_bytes());
    }
    rows.iter().for_each(|row| bytes.extend_from_slice(&row.code));
    classes.iter().for_each(|(class, _)| bytes.extend_from_slice(class.label.as_bytes()));
    bytes
}

/// The bytes of what is said about a class: a checksum of the rest, the length of the metadata, the
/// metadata as JSON, the encoded picture.
#[cfg(feature = "parallel")]
pub(super) fn write_metadata(metadata: &Metadata, thumbnail: &[u8]) -> Vec<u8> {
    let metadata = serde_json::to_vec(metadata).expect("names and texts are JSON");
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&(metadata.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&metadata);
    bytes.extend_from_slice(thumbnail);
    let sum = crc32(&bytes[4..]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Reads what [`write_metadata`] wrote.
pub(super) fn read_metadata(bytes: &[u8]) -> Result<(Metadata, &[u8]), GalleryError> {
    let mut bytes = Bytes(bytes);
    if bytes.u32()? != crc32(bytes.0) {
        return Err(GalleryError::Checksum { what: "metadata of a class" });
    }
    let length = bytes.u32()? as usize;
    let metadata = serde_json::from_slice(bytes.take(length)?).map_err(|error| {
        GalleryError::Inconsistent { what: format!("metadata of a class: {error}") }
    })?;
    Ok((metadata, bytes.0))
}
