//! Bytes of a gallery.
//!
//! Little-endian throughout. A header, a table of sections, then the sections in the table's
//! order, each starting at a multiple of 64 bytes with zeros in between:
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | `MAGPIEGL` |
//! | 8 | 4 | format version, [`VERSION`] |
//! | 12 | 4 | number of sections, 4 |
//! | 16 | 8 | length of the file |
//! | 24 | 4 | CRC-32 of the table |
//! | 28 | 4 | zero |
//! | 32 | 24 each | table: kind (4), CRC-32 of the section (4), offset (8), length (8) |
//!
//! | kind | section | content |
//! |---|---|---|
//! | 1 | header | JSON: width, value type, number of entries, model, classes with their thumbnails' lengths |
//! | 2 | entries | class of every entry, 4 bytes each |
//! | 3 | embeddings | `[entries, dim]` row-major, 2 (f16) or 4 (f32) bytes a value |
//! | 4 | thumbnails | encoded pictures, one behind the other in class order |
//!
//! Every length is checked against the file before it is used, and every checksum before a section
//! is read, so damaged bytes give a [`GalleryError`] and never a wrong answer.

use half::f16;
use serde::{Deserialize, Serialize};

use super::{Class, FlatIndex, Gallery, GalleryError, Index};

/// First bytes of every gallery.
pub const MAGIC: [u8; 8] = *b"MAGPIEGL";

/// Version that this program writes, and the newest it reads.
pub const VERSION: u32 = 1;

/// Widest embedding that is read.
pub const MAX_DIM: usize = 8192;

/// Most entries that are read: 16 million, beyond which a page could not hold them.
pub const MAX_ENTRIES: usize = 1 << 24;

const HEADER_LENGTH: usize = 32;
const TABLE_ENTRY_LENGTH: usize = 24;
const ALIGNMENT: usize = 64;
const SECTIONS: [(u32, &str); 4] =
    [(1, "header"), (2, "entries"), (3, "embeddings"), (4, "thumbnails")];

/// How embeddings are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VectorType {
    /// 16-bit floats: half the download; similarities move by less than 0.001.
    F16,
    /// 32-bit floats.
    F32,
}

impl VectorType {
    const fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    dim: usize,
    vector_type: VectorType,
    entries: usize,
    model: String,
    classes: Vec<StoredClass>,
}

#[derive(Serialize, Deserialize)]
struct StoredClass {
    #[serde(flatten)]
    class: Class,
    thumbnail_length: usize,
}

impl Gallery {
    /// The gallery as a file; the same gallery gives the same bytes.
    pub fn to_bytes(&self, vector_type: VectorType) -> Vec<u8> {
        let header = Header {
            dim: self.dim,
            vector_type,
            entries: self.len(),
            model: self.model.clone(),
            classes: self
                .classes
                .iter()
                .zip(&self.thumbnails)
                .map(|(class, thumbnail)| StoredClass {
                    class: class.clone(),
                    thumbnail_length: thumbnail.len(),
                })
                .collect(),
        };
        let embeddings = (0..self.len()).flat_map(|entry| self.index.embedding(entry));
        let sections = [
            serde_json::to_vec(&header).expect("a header has no value that JSON lacks"),
            self.entry_classes.iter().flat_map(|class| class.to_le_bytes()).collect(),
            match vector_type {
                VectorType::F16 => {
                    embeddings.flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()
                }
                VectorType::F32 => embeddings.flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>(),
            },
            self.thumbnails.concat(),
        ];

        let mut table = Vec::new();
        let mut end = HEADER_LENGTH + SECTIONS.len() * TABLE_ENTRY_LENGTH;
        for ((kind, _), section) in SECTIONS.iter().zip(&sections) {
            let offset = end.next_multiple_of(ALIGNMENT);
            end = offset + section.len();
            table.extend_from_slice(&kind.to_le_bytes());
            table.extend_from_slice(&crc32(section).to_le_bytes());
            table.extend_from_slice(&(offset as u64).to_le_bytes());
            table.extend_from_slice(&(section.len() as u64).to_le_bytes());
        }
        let mut bytes = Vec::with_capacity(end);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(SECTIONS.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(end as u64).to_le_bytes());
        bytes.extend_from_slice(&crc32(&table).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&table);
        for section in sections {
            bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
            bytes.extend_from_slice(&section);
        }
        bytes
    }

    /// Reads a gallery.
    ///
    /// # Errors
    ///
    /// [`GalleryError`], whose message says whether to update the program or to fetch or build the
    /// gallery again.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, GalleryError> {
        let [header, entries, embeddings, thumbnails] = sections(bytes)?;
        let header: Header = serde_json::from_slice(header)
            .map_err(|error| GalleryError::Inconsistent { what: format!("header: {error}") })?;
        if header.dim == 0 || header.dim > MAX_DIM || header.entries > MAX_ENTRIES {
            return Err(GalleryError::Inconsistent {
                what: format!("{} entries of width {}", header.entries, header.dim),
            });
        }
        expect_length("entries", header.entries * 4, entries)?;
        let values = header.entries * header.dim;
        expect_length("embeddings", values * header.vector_type.bytes(), embeddings)?;

        let entry_classes: Vec<u32> =
            entries.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        if let Some(class) = entry_classes.iter().find(|c| **c as usize >= header.classes.len()) {
            return Err(GalleryError::Inconsistent {
                what: format!("entry of class {class} among {}", header.classes.len()),
            });
        }
        let values: Vec<f32> = match header.vector_type {
            VectorType::F16 => embeddings
                .chunks_exact(2)
                .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect(),
            VectorType::F32 => embeddings
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
        };
        if values.iter().any(|v| !v.is_finite()) {
            return Err(GalleryError::NotFinite);
        }

        let mut rest = thumbnails;
        let mut classes = Vec::with_capacity(header.classes.len());
        let mut pictures = Vec::with_capacity(header.classes.len());
        for stored in header.classes {
            let Some((picture, tail)) = rest.split_at_checked(stored.thumbnail_length) else {
                return Err(GalleryError::Length {
                    what: "thumbnails",
                    expected: stored.thumbnail_length as u64,
                    got: rest.len() as u64,
                });
            };
            rest = tail;
            classes.push(stored.class);
            pictures.push(picture.to_vec());
        }
        expect_length("thumbnails", 0, rest)?;
        Ok(Self {
            dim: header.dim,
            model: header.model,
            classes,
            thumbnails: pictures,
            entry_classes,
            index: Box::new(FlatIndex::from_rows(header.dim, values)) as Box<dyn Index>,
        })
    }
}

/// The checked sections of a file, in the order of [`SECTIONS`].
fn sections(bytes: &[u8]) -> Result<[&[u8]; 4], GalleryError> {
    if bytes.get(..8) != Some(&MAGIC) {
        return Err(GalleryError::NotAGallery);
    }
    let table_end = HEADER_LENGTH + SECTIONS.len() * TABLE_ENTRY_LENGTH;
    if bytes.len() < table_end {
        return Err(GalleryError::Length {
            what: "table of sections",
            expected: table_end as u64,
            got: bytes.len() as u64,
        });
    }
    let version = read_u32(bytes, 8);
    if version > VERSION {
        return Err(GalleryError::Version { got: version, supported: VERSION });
    }
    let table = &bytes[HEADER_LENGTH..table_end];
    if version == 0
        || read_u32(bytes, 12) as usize != SECTIONS.len()
        || read_u32(bytes, 28) != 0
        || read_u32(bytes, 24) != crc32(table)
    {
        return Err(GalleryError::Checksum { what: "table of sections" });
    }
    if read_u64(bytes, 16) != bytes.len() as u64 {
        return Err(GalleryError::Length {
            what: "file",
            expected: read_u64(bytes, 16),
            got: bytes.len() as u64,
        });
    }
    let mut found: [&[u8]; 4] = [&[]; 4];
    let mut end = table_end;
    for (index, (kind, what)) in SECTIONS.into_iter().enumerate() {
        let entry = index * TABLE_ENTRY_LENGTH;
        let (offset, length) = (read_u64(table, entry + 8), read_u64(table, entry + 16));
        let start = end.next_multiple_of(ALIGNMENT);
        let section = usize::try_from(length)
            .ok()
            .and_then(|length| bytes.get(start..start.checked_add(length)?))
            .filter(|_| read_u32(table, entry) == kind && offset == start as u64)
            .ok_or_else(|| GalleryError::Inconsistent { what: format!("place of its {what}") })?;
        if bytes[end..start].iter().any(|b| *b != 0) || crc32(section) != read_u32(table, entry + 4)
        {
            return Err(GalleryError::Checksum { what });
        }
        end = start + section.len();
        found[index] = section;
    }
    if end != bytes.len() {
        return Err(GalleryError::Length {
            what: "file",
            expected: end as u64,
            got: bytes.len() as u64,
        });
    }
    Ok(found)
}

fn expect_length(what: &'static str, expected: usize, bytes: &[u8]) -> Result<(), GalleryError> {
    if bytes.len() == expected {
        return Ok(());
    }
    Err(GalleryError::Length { what, expected: expected as u64, got: bytes.len() as u64 })
}

fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Gallery {
        let mut gallery = Gallery::new(4, "0123abcd");
        for (label, picture) in [("red panda 小熊猫", vec![1, 2, 3]), ("", vec![]), ("z", vec![9])]
        {
            let metadata = [("price".to_owned(), "3 €".to_owned())].into();
            gallery.add_class(Class { label: label.to_owned(), metadata }, picture);
        }
        for (class, embedding) in
            [(0, [1.0, 0.0, 0.0, 0.5]), (2, [0.0, 1.0, -1.0, 0.0]), (0, [0.2, 0.2, 0.2, 0.2])]
        {
            gallery.add(class, &embedding).unwrap();
        }
        gallery
    }

    #[test]
    fn survives_the_round_trip_and_writes_the_same_bytes() {
        for vector_type in [VectorType::F16, VectorType::F32] {
            let gallery = small();
            let bytes = gallery.to_bytes(vector_type);
            let read = Gallery::from_bytes(&bytes).unwrap();
            assert_eq!(read.classes(), gallery.classes());
            assert_eq!(read.entry_classes(), gallery.entry_classes());
            assert_eq!(read.model(), "0123abcd");
            assert_eq!(read.thumbnail(0), &[1, 2, 3]);
            assert_eq!(read.thumbnail(1), &[] as &[u8]);
            for entry in 0..3 {
                for (a, b) in read.embedding(entry).iter().zip(gallery.embedding(entry)) {
                    assert!((a - b).abs() < 1e-3);
                }
            }
            assert_eq!(read.to_bytes(vector_type), bytes);
        }
    }

    #[test]
    fn an_empty_gallery_survives_too() {
        let gallery = Gallery::from_bytes(&Gallery::new(8, "m").to_bytes(VectorType::F16)).unwrap();
        assert!(gallery.is_empty());
        assert_eq!(gallery.search(&[1.0; 8], 3).unwrap(), vec![]);
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let bytes = small().to_bytes(VectorType::F16);
        for position in 0..bytes.len() {
            for mask in [1, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[position] ^= mask;
                assert!(Gallery::from_bytes(&damaged).is_err(), "byte {position} ^ {mask}");
            }
        }
    }

    #[test]
    fn every_cut_and_every_extension_is_noticed() {
        let bytes = small().to_bytes(VectorType::F32);
        for length in 0..bytes.len() {
            assert!(Gallery::from_bytes(&bytes[..length]).is_err(), "{length} bytes");
        }
        for extra in [1, 63, 64] {
            let mut longer = bytes.clone();
            longer.resize(bytes.len() + extra, 0);
            assert!(Gallery::from_bytes(&longer).is_err());
        }
    }

    #[test]
    fn tells_apart_a_stranger_and_the_future() {
        assert_eq!(Gallery::from_bytes(b"PNG").unwrap_err(), GalleryError::NotAGallery);
        let mut future = small().to_bytes(VectorType::F16);
        future[8] = 2;
        assert_eq!(
            Gallery::from_bytes(&future).unwrap_err(),
            GalleryError::Version { got: 2, supported: 1 }
        );
    }
}
