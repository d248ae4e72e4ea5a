//! Files of checked sections: what a gallery and the head of a sharded one have in common.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | magic |
//! | 8 | 4 | format version |
//! | 12 | 4 | number of sections |
//! | 16 | 8 | length of the file |
//! | 24 | 4 | CRC-32 of the table |
//! | 28 | 4 | zero |
//! | 32 | 24 each | table: kind (4), CRC-32 of the section (4), offset (8), length (8) |
//!
//! Sections follow by rising kind, each at a multiple of 64 bytes with zeros in between.

use std::io::Write;

use crate::error::GalleryError;

const HEADER_LENGTH: usize = 32;
const TABLE_ENTRY_LENGTH: usize = 24;
const ALIGNMENT: usize = 64;

/// What tells one kind of file from another.
pub(crate) struct Layout {
    /// First bytes.
    pub(crate) magic: [u8; 8],
    /// The newest version that is read.
    pub(crate) version: u32,
    /// Names of the sections; a section's kind is its place here and one.
    pub(crate) names: &'static [&'static str],
}

/// The checked sections of a file.
pub(crate) struct Sections<'a> {
    pub(crate) version: u32,
    names: &'static [&'static str],
    /// By kind, less one.
    found: Vec<Option<&'a [u8]>>,
}

/// Length and checksum of bytes that are written twice: once to know these, once for good.
#[derive(Default)]
struct Measure {
    length: u64,
    checksum: crc32fast::Hasher,
}

impl Write for Measure {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.length += bytes.len() as u64;
        self.checksum.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Counts what goes through.
struct Counted<'a> {
    writer: &'a mut dyn Write,
    length: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.flush()
    }
}

impl Layout {
    /// Writes a file of a version with sections of the given kinds, which rise; `section` writes one, and
    /// writes the same when it is asked again.
    ///
    /// # Errors
    ///
    /// What the writer says.
    pub(crate) fn write(
        &self,
        version: u32,
        kinds: &[usize],
        section: &mut dyn FnMut(usize, &mut dyn Write) -> std::io::Result<()>,
        writer: &mut dyn Write,
    ) -> std::io::Result<()> {
        let mut table = Vec::new();
        let mut starts = Vec::new();
        let mut end = (HEADER_LENGTH + kinds.len() * TABLE_ENTRY_LENGTH) as u64;
        for kind in kinds {
            let mut measure = Measure::default();
            section(*kind, &mut measure)?;
            let start = end.next_multiple_of(ALIGNMENT as u64);
            starts.push(start);
            end = start + measure.length;
            table.extend_from_slice(&(*kind as u32).to_le_bytes());
            table.extend_from_slice(&measure.checksum.finalize().to_le_bytes());
            table.extend_from_slice(&start.to_le_bytes());
            table.extend_from_slice(&measure.length.to_le_bytes());
        }
        let mut head = Vec::with_capacity(HEADER_LENGTH + table.len());
        head.extend_from_slice(&self.magic);
        head.extend_from_slice(&version.to_le_bytes());
        head.extend_from_slice(&(kinds.len() as u32).to_le_bytes());
        head.extend_from_slice(&end.to_le_bytes());
        head.extend_from_slice(&crc32(&table).to_le_bytes());
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(&table);
        writer.write_all(&head)?;
        let mut at = head.len() as u64;
        for (kind, start) in kinds.iter().zip(starts) {
            writer.write_all(&[0; ALIGNMENT][..(start - at) as usize])?;
            let mut counted = Counted { writer: &mut *writer, length: 0 };
            section(*kind, &mut counted)?;
            at = start + counted.length;
        }
        writer.flush()
    }

    /// Checks a file and finds its sections.
    ///
    /// # Errors
    ///
    /// [`GalleryError::NotAGallery`], [`GalleryError::Version`], [`GalleryError::Length`],
    /// [`GalleryError::Checksum`] or [`GalleryError::Inconsistent`].
    pub(crate) fn read<'a>(&self, bytes: &'a [u8]) -> Result<Sections<'a>, GalleryError> {
        let Table { version, places } = self.table(bytes, bytes.len() as u64)?;
        let mut found = vec![None; self.names.len()];
        let mut end = HEADER_LENGTH + places.len() * TABLE_ENTRY_LENGTH;
        for place in places {
            let what = self.names[place.kind - 1];
            // The table's places lie in the file, whose length is that of these bytes.
            let start = place.start as usize;
            let section = &bytes[start..start + place.length as usize];
            let gap = &bytes[end..start];
            if gap.iter().any(|b| *b != 0) || crc32(section) != place.checksum {
                return Err(GalleryError::Checksum { what });
            }
            end = start + section.len();
            found[place.kind - 1] = Some(section);
        }
        Ok(Sections { version, names: self.names, found })
    }

    /// Bytes that a file's header and table have at most.
    #[cfg(feature = "parallel")]
    pub(crate) const fn longest_head(&self) -> usize {
        HEADER_LENGTH + self.names.len() * TABLE_ENTRY_LENGTH
    }

    /// Reads the table of a file of `length` bytes from its first ones, and checks that its sections lie in the file.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub(crate) fn table(&self, head: &[u8], length: u64) -> Result<Table, GalleryError> {
        if head.get(..8) != Some(&self.magic) {
            return Err(GalleryError::NotAGallery);
        }
        let too_short = |what, expected: usize| GalleryError::Length {
            what,
            expected: expected as u64,
            got: length,
        };
        if head.len() < HEADER_LENGTH {
            return Err(too_short("header of the file", HEADER_LENGTH));
        }
        let version = read_u32(head, 8);
        if version > self.version {
            return Err(GalleryError::Version { got: version, supported: self.version });
        }
        // Only a known version's number of sections says where the table ends.
        let count = read_u32(head, 12) as usize;
        let damaged = || GalleryError::Checksum { what: "table of sections" };
        if version == 0 || count == 0 || count > self.names.len() || read_u32(head, 28) != 0 {
            return Err(damaged());
        }
        let table_end = HEADER_LENGTH + count * TABLE_ENTRY_LENGTH;
        let table = head
            .get(HEADER_LENGTH..table_end)
            .ok_or_else(|| too_short("table of sections", table_end))?;
        if read_u32(head, 24) != crc32(table) {
            return Err(damaged());
        }
        let whole = |expected| {
            let wrong = GalleryError::Length { what: "file", expected, got: length };
            if expected == length { Ok(()) } else { Err(wrong) }
        };
        whole(read_u64(head, 16))?;
        let mut places = Vec::with_capacity(count);
        let (mut end, mut last_kind) = (table_end as u64, 0);
        for entry in table.chunks_exact(TABLE_ENTRY_LENGTH) {
            let kind = read_u32(entry, 0) as usize;
            let what = *kind
                .checked_sub(1)
                .and_then(|place| self.names.get(place))
                .filter(|_| kind > last_kind)
                .ok_or_else(|| GalleryError::Inconsistent { what: format!("section {kind}") })?;
            last_kind = kind;
            let (offset, section_length) = (read_u64(entry, 8), read_u64(entry, 16));
            // Both lie in the file, so that none of this overflows.
            let start = end.next_multiple_of(ALIGNMENT as u64);
            let ends = start.checked_add(section_length).filter(|end| *end <= length);
            let ends = ends.filter(|_| offset == start).ok_or_else(|| {
                GalleryError::Inconsistent { what: format!("place of its {what}") }
            })?;
            let checksum = read_u32(entry, 4);
            places.push(Place { kind, start, length: section_length, checksum });
            end = ends;
        }
        whole(end)?;
        Ok(Table { version, places })
    }
}

/// What the beginning of a file says.
pub(crate) struct Table {
    pub(crate) version: u32,
    /// By rising kind.
    pub(crate) places: Vec<Place>,
}

/// Where a section lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) kind: usize,
    pub(crate) start: u64,
    pub(crate) length: u64,
    pub(crate) checksum: u32,
}

impl<'a> Sections<'a> {
    /// Whether there is a section of a kind.
    pub(crate) fn has(&self, kind: usize) -> bool {
        self.found[kind - 1].is_some()
    }

    /// The bytes of a section.
    ///
    /// # Errors
    ///
    /// [`GalleryError::Inconsistent`] where it is missing.
    pub(crate) fn bytes(&self, kind: usize) -> Result<&'a [u8], GalleryError> {
        let what = self.names[kind - 1];
        self.found[kind - 1]
            .ok_or_else(|| GalleryError::Inconsistent { what: format!("it has no {what}") })
    }

    /// The bytes of a section whose length follows from others.
    ///
    /// # Errors
    ///
    /// As [`Self::bytes`], and [`GalleryError::Length`].
    pub(crate) fn of_length(&self, kind: usize, expected: u64) -> Result<&'a [u8], GalleryError> {
        let bytes = self.bytes(kind)?;
        expect_length(self.names[kind - 1], expected, bytes)?;
        Ok(bytes)
    }
}

pub(crate) fn expect_length(
    what: &'static str,
    expected: u64,
    bytes: &[u8],
) -> Result<(), GalleryError> {
    if bytes.len() as u64 == expected {
        return Ok(());
    }
    Err(GalleryError::Length { what, expected, got: bytes.len() as u64 })
}

pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// Puts other bytes into a section and makes all checksums fit, as a stranger could.
#[cfg(test)]
pub(crate) fn forged(bytes: &[u8], kind: u32, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let count = read_u32(&bytes, 12) as usize;
    for place in 0..count {
        let entry = HEADER_LENGTH + place * TABLE_ENTRY_LENGTH;
        if read_u32(&bytes, entry) == kind {
            let start = read_u64(&bytes, entry + 8) as usize;
            let end = start + read_u64(&bytes, entry + 16) as usize;
            change(&mut bytes[start..end]);
            let sum = crc32(&bytes[start..end]);
            bytes[entry + 4..entry + 8].copy_from_slice(&sum.to_le_bytes());
        }
    }
    let table = HEADER_LENGTH..HEADER_LENGTH + count * TABLE_ENTRY_LENGTH;
    let sum = crc32(&bytes[table]);
    bytes[24..28].copy_from_slice(&sum.to_le_bytes());
    bytes
}
