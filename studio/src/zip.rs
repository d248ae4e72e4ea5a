//! A ZIP archive, put together from files that are packed already.
//!
//! Same files, same bytes: every file has the same date. Names are UTF-8.

use thiserror::Error;

/// 1 January 1980, the first date that there is.
const DATE: u16 = (1 << 5) | 1;
/// Names are UTF-8.
const FLAGS: u16 = 1 << 11;
/// Version of the format that readers need for folders and deflate.
const NEEDED: u16 = 20;

/// Why files do not fit into an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(crate) enum ZipError {
    /// More than an archive without extensions has numbers for.
    #[error("an archive may have 65,535 files and 4 GB; leave photographs out")]
    TooLarge,
}

/// A file of an archive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packed<'a> {
    /// Path inside the archive, with `/` between folders.
    pub(crate) name: &'a str,
    /// CRC-32 of the file.
    pub(crate) checksum: u32,
    /// Bytes of the file.
    pub(crate) size: usize,
    /// Bytes of the file by deflate, or as it is where these are [`Self::size`].
    pub(crate) stored: usize,
}

impl Packed<'_> {
    /// How it is packed, as the format numbers it.
    const fn method(&self) -> u16 {
        if self.stored == self.size { 0 } else { 8 }
    }

    /// What stands before the file and in the list of all.
    fn head(&self) -> Result<Vec<u8>, ZipError> {
        let mut head = Vec::new();
        for number in [NEEDED, FLAGS, self.method(), 0, DATE] {
            head.extend(number.to_le_bytes());
        }
        head.extend(self.checksum.to_le_bytes());
        head.extend(number(self.stored)?.to_le_bytes());
        head.extend(number(self.size)?.to_le_bytes());
        head.extend(short(self.name.len())?.to_le_bytes());
        // No extra field.
        head.extend([0, 0]);
        Ok(head)
    }
}

/// What an archive consists of, in order; the bytes of the files are elsewhere.
///
/// # Errors
///
/// [`ZipError`] where there are too many.
pub(crate) fn pieces(files: &[Packed<'_>]) -> Result<Vec<Piece>, ZipError> {
    let mut pieces = Vec::with_capacity(2 * files.len() + 1);
    let mut list = Vec::new();
    let mut at: usize = 0;
    for (place, file) in files.iter().enumerate() {
        let head = file.head()?;
        list.extend(b"PK\x01\x02");
        list.extend(NEEDED.to_le_bytes());
        list.extend(&head);
        // No comment, the first disk, a file of no special kind.
        list.extend([0; 10]);
        list.extend(number(at)?.to_le_bytes());
        list.extend(file.name.as_bytes());
        let mut before = b"PK\x03\x04".to_vec();
        before.extend(head);
        before.extend(file.name.as_bytes());
        at = at.saturating_add(before.len()).saturating_add(file.stored);
        pieces.push(Piece::Own(before));
        pieces.push(Piece::File(place));
    }
    let (count, length) = (short(files.len())?, number(list.len())?);
    list.extend(b"PK\x05\x06");
    list.extend([0; 4]);
    list.extend(count.to_le_bytes());
    list.extend(count.to_le_bytes());
    list.extend(length.to_le_bytes());
    list.extend(number(at)?.to_le_bytes());
    list.extend([0; 2]);
    pieces.push(Piece::Own(list));
    Ok(pieces)
}

/// A part of an archive.
#[derive(Debug)]
pub(crate) enum Piece {
    /// What the format adds.
    Own(Vec<u8>),
    /// The packed bytes of a file, by its place.
    File(usize),
}

fn number(value: usize) -> Result<u32, ZipError> {
    // The highest one says that there is an extension.
    u32::try_from(value).ok().filter(|value| *value != u32::MAX).ok_or(ZipError::TooLarge)
}

fn short(value: usize) -> Result<u16, ZipError> {
    u16::try_from(value).ok().filter(|value| *value != u16::MAX).ok_or(ZipError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with its packed bytes.
    type Given<'a> = (Packed<'a>, &'a [u8]);

    fn archive(files: &[Given<'_>]) -> Vec<u8> {
        let packed: Vec<Packed<'_>> = files.iter().map(|(packed, _)| *packed).collect();
        let pieces = pieces(&packed).expect("an archive");
        let bytes = pieces.iter().map(|piece| match piece {
            Piece::Own(bytes) => bytes.as_slice(),
            Piece::File(place) => files[*place].1,
        });
        bytes.collect::<Vec<_>>().concat()
    }

    fn stored<'a>(name: &'a str, bytes: &'a [u8]) -> Given<'a> {
        let (checksum, size) = (crc32fast::hash(bytes), bytes.len());
        (Packed { name, checksum, size, stored: size }, bytes)
    }

    /// What `unzip` reads: the end, the list, and each file behind its own head.
    #[test]
    fn files_are_where_the_list_says() {
        // "hello" by deflate, in a block that is stored.
        let deflated = [&[1, 5, 0, 250, 255][..], b"hello"].concat();
        let packed = Packed {
            name: "a/tüte.txt",
            checksum: crc32fast::hash(b"hello"),
            size: 5,
            stored: deflated.len(),
        };
        let bytes = archive(&[stored("index.html", b"<p>"), (packed, &deflated)]);
        let long = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let short = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()) as usize;
        let end = bytes.len() - 22;
        assert_eq!((&bytes[end..end + 4], short(end + 10)), (&b"PK\x05\x06"[..], 2));
        let mut at = long(end + 16);
        assert_eq!(at + long(end + 12), end);
        for (name, method, content) in
            [("index.html", 0, &b"<p>"[..]), ("a/tüte.txt", 8, &deflated)]
        {
            assert_eq!(&bytes[at..at + 4], b"PK\x01\x02");
            assert_eq!((short(at + 10), long(at + 20)), (method, content.len()));
            assert_eq!(&bytes[at + 46..at + 46 + short(at + 28)], name.as_bytes());
            let file = long(at + 42);
            assert_eq!(&bytes[file..file + 4], b"PK\x03\x04");
            let begin = file + 30 + short(file + 26);
            assert_eq!(&bytes[begin..begin + content.len()], content);
            at += 46 + short(at + 28);
        }
    }

    #[test]
    fn an_archive_may_be_empty_and_is_the_same_each_time() {
        assert_eq!(archive(&[]).len(), 22);
        let files = [stored("a", b"1"), stored("b", b"")];
        assert_eq!(archive(&files), archive(&files));
    }

    #[test]
    fn more_files_than_there_are_numbers_for_are_refused() {
        let files = vec![stored("a", b"").0; usize::from(u16::MAX)];
        assert_eq!(pieces(&files).map(drop), Err(ZipError::TooLarge));
    }
}
