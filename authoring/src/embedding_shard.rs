//! Shards of embeddings: what a gallery needs of a part of a list of photographs, in one file.
//!
//! After [`SHARD_MARK`] come pieces: the length of the content (32-bit, the lowest byte first), the content, and as text the
//! SHA-256 of all of that behind the digest of the piece before, the mark in the place of the first. So each digest
//! stands for everything up to it, and a file that was cut off is whole up to its last piece.
//!
//! The first piece is the [`Head`] as JSON. Each other one has a number of photographs (32-bit) and the photographs, in
//! the order of the list; the last one has none. A photograph: its label and its path, each behind its length; a byte
//! that says whether it is left out; then either the reason, behind its length, or the content id, a byte that says what
//! is known, the embeddings as 32-bit floats, and a thumbnail behind its length: of the first photograph of each class.

mod head;
mod look;

use std::io::{ErrorKind, Read};
use std::path::Path;

use models::gallery::{ContentId, check_embedding};
use models::model_file::sha256_hex;
use thiserror::Error;

use crate::label::{checked, on_one_line};
use crate::memory::{Memory, Reader, Seen};
use crate::picture::{PictureError, PictureProblem, is_thumbnail};
pub use head::{Beside, Head, places};
pub use look::{changed, look_at};

/// How such a file begins, the number of its format at the end.
pub const SHARD_MARK: &[u8] = b"magpie embedding shard 1\n";
/// What all formats begin with.
pub const SHARD_NAME: &[u8] = b"magpie embedding shard ";
/// Bytes of a digest, as text.
const DIGEST: usize = 64;
/// Photographs of a piece that this program writes.
pub const PIECE: usize = 16;
/// Most bytes of a head.
const HEAD: u64 = 1 << 20;
/// Most bytes of another piece: photographs of one piece with the largest embeddings and thumbnails.
const CONTENT: u64 = 64 << 20;
/// Most bytes of a label, a path or a reason.
const TEXT: usize = 1 << 16;
/// Characters of a reason that are shown.
const SHOWN: usize = 1000;
/// Most bytes of a thumbnail.
const THUMBNAIL: usize = 1 << 20;
/// Most values of an embedding, as of a gallery's.
const VALUES: usize = 8192;
/// Most shards of a list.
pub const MOST_SHARDS: u32 = 100_000;

/// States of a photograph.
const EMBEDDED: u8 = 0;
const LEFT_OUT: u8 = 1;
/// The same where the reason names the file itself.
const UNREAD: u8 = 2;

/// Why a shard of embeddings cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ShardError {
    /// Another kind of file.
    #[error("is no embedding shard, as `magpie embed` writes it")]
    Other,
    /// Another file of this program.
    #[error("is {0} and no embedding shard, as `magpie embed` writes it")]
    Known(&'static str),
    /// A format of another version of the program.
    #[error("is an embedding shard of another version of magpie; use one version for all of them")]
    Version,
    /// The file ends too early: what made it was stopped, or it was not copied whole.
    #[error("is cut off")]
    Cut,
    /// Bytes that differ from those that were written.
    #[error("is damaged")]
    Damaged,
    /// The system's word.
    #[error("cannot be read: {0}")]
    Read(std::io::Error),
}

impl From<std::io::Error> for ShardError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof => Self::Cut,
            _ => Self::Read(error),
        }
    }
}

/// What a shard keeps of a photograph.
#[derive(Debug, Clone, PartialEq)]
pub struct Photograph {
    /// Its class.
    pub label: String,
    /// What it is called.
    pub path: String,
    /// What became of it.
    pub kept: Kept,
}

/// What became of a photograph.
#[derive(Debug, Clone, PartialEq)]
pub enum Kept {
    /// It has embeddings.
    Embedded(Embedded),
    /// It cannot be used.
    LeftOut {
        /// Why.
        reason: String,
        /// Whether the reason names the file itself.
        is_named: bool,
    },
}

/// The embeddings of a photograph.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// Of its file.
    pub id: ContentId,
    seen: Seen,
    /// Of the first photograph of a class in a shard; empty of others.
    pub thumbnail: Vec<u8>,
}

impl Embedded {
    /// The embeddings, for [`Photos::remembered`](crate::Photos::remembered).
    pub fn put_into(self, memory: &mut Memory) {
        memory.put(self.id, self.seen);
    }
}

impl Photograph {
    /// Of the file's content; none of one that is left out.
    pub fn content(&self) -> Option<ContentId> {
        match &self.kept {
            Kept::Embedded(embedded) => Some(embedded.id),
            Kept::LeftOut { .. } => None,
        }
    }
}

/// A reason that was kept with a shard.
#[derive(Debug, Error)]
#[error("{0}")]
struct Told(String);

impl Photograph {
    /// The error of one that is left out, as it was told where it was looked at.
    pub fn error(path: &Path, reason: &str, is_named: bool) -> PictureError {
        if is_named {
            return PictureError::unread(path, Told(on_one_line(reason, SHOWN)));
        }
        PictureError::new(path, PictureProblem::Kept(on_one_line(reason, SHOWN)))
    }

    fn left_out(label: &str, error: &PictureError) -> Self {
        let is_named = matches!(error.source, PictureProblem::File(_));
        let kept = Kept::LeftOut { reason: cut(&error.source.to_string()), is_named };
        Self { label: label.to_owned(), path: error.path.clone(), kept }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        put(bytes, self.label.as_bytes());
        put(bytes, self.path.as_bytes());
        match &self.kept {
            Kept::LeftOut { reason, is_named } => {
                bytes.push(if *is_named { UNREAD } else { LEFT_OUT });
                put(bytes, reason.as_bytes());
            }
            Kept::Embedded(Embedded { id, seen, thumbnail }) => {
                bytes.push(EMBEDDED);
                bytes.extend(id.0);
                seen.write(bytes);
                put(bytes, thumbnail);
            }
        }
    }

    fn read(reader: &mut Reader<'_>, head: &Head) -> Option<Self> {
        let label = text(reader)?;
        let path = text(reader)?;
        let kept = match *reader.take(1)?.first()? {
            EMBEDDED => {
                let id = ContentId(reader.take(16)?.try_into().ok()?);
                let seen = reader.seen(head.dim)?;
                let thumbnail = blob(reader, THUMBNAIL)?.to_vec();
                let is_whole = head.parts().iter().all(|crop| seen.entries(*crop).is_some());
                let is_usable = seen.parts().all(|embedding| check_embedding(embedding).is_ok());
                if !is_whole || !is_usable || !is_thumbnail(&thumbnail) {
                    return None;
                }
                Kept::Embedded(Embedded { id, seen, thumbnail })
            }
            state @ (LEFT_OUT | UNREAD) => {
                Kept::LeftOut { reason: text(reader)?, is_named: state == UNREAD }
            }
            _ => return None,
        };
        let is_label = checked(&label).is_ok_and(|same| same == label);
        is_label.then_some(Self { label, path, kept })
    }

    /// Reads one from the bytes that [`Pieces::next_piece`] has told the place of.
    ///
    /// # Errors
    ///
    /// [`ShardError::Damaged`]
    pub fn from_bytes(bytes: &[u8], head: &Head) -> Result<Self, ShardError> {
        let mut reader = Reader(bytes);
        let read = Self::read(&mut reader, head).filter(|_| reader.0.is_empty());
        read.ok_or(ShardError::Damaged)
    }
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(part);
}

fn blob<'a>(reader: &mut Reader<'a>, most: usize) -> Option<&'a [u8]> {
    let length = reader.number().filter(|length| *length <= most)?;
    reader.take(length)
}

fn text(reader: &mut Reader<'_>) -> Option<String> {
    String::from_utf8(blob(reader, TEXT)?.to_vec()).ok()
}

/// A text that a shard takes.
fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// Makes the pieces of a shard.
#[derive(Debug, Default)]
pub struct Writing {
    /// Of the piece before; empty at the beginning.
    digest: String,
}

impl Writing {
    /// The beginning of a file.
    ///
    /// # Errors
    ///
    /// A head of more bytes than are read.
    pub fn begin(&mut self, head: &Head) -> anyhow::Result<Vec<u8>> {
        let content = serde_json::to_vec(head)?;
        anyhow::ensure!(
            content.len() as u64 <= HEAD,
            "what is said of the list has {} bytes, and {HEAD} have room; mend the list",
            content.len()
        );
        let mut bytes = SHARD_MARK.to_vec();
        bytes.extend(self.piece(&content));
        Ok(bytes)
    }

    /// The next photographs; none end the file.
    ///
    /// # Errors
    ///
    /// A label, path or thumbnail of more bytes than are read.
    pub fn photographs(&mut self, photographs: &[Photograph]) -> anyhow::Result<Vec<u8>> {
        let mut content = u32::try_from(photographs.len())?.to_le_bytes().to_vec();
        for photograph in photographs {
            let thumbnail = match &photograph.kept {
                Kept::Embedded(embedded) => embedded.thumbnail.len(),
                Kept::LeftOut { .. } => 0,
            };
            let texts = photograph.label.len().max(photograph.path.len());
            anyhow::ensure!(
                texts <= TEXT && thumbnail <= THUMBNAIL,
                "{}: its label, its path or its thumbnail is too long",
                photograph.path
            );
            photograph.write(&mut content);
        }
        Ok(self.piece(&content))
    }

    fn piece(&mut self, content: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
        bytes.extend(content);
        self.digest = chained(&self.digest, &bytes);
        bytes.extend(self.digest.as_bytes());
        bytes
    }
}

/// The digest of a piece behind that of the one before.
fn chained(before: &str, piece: &[u8]) -> String {
    let before = if before.is_empty() { SHARD_MARK } else { before.as_bytes() };
    sha256_hex(&[before, piece].concat())
}

/// Reads a shard piece by piece, and checks each.
#[derive(Debug)]
pub struct Pieces<R> {
    reader: R,
    head: Head,
    digest: String,
    at: u64,
    /// Photographs so far.
    count: usize,
}

/// A photograph, and where its bytes are in the file.
#[derive(Debug)]
pub struct Placed {
    /// The first byte.
    pub at: u64,
    /// How many there are.
    pub length: u32,
    /// The photograph.
    pub photograph: Photograph,
}

impl<R: Read> Pieces<R> {
    /// Reads the head of a file.
    ///
    /// # Errors
    ///
    /// [`ShardError`]
    pub fn open(mut reader: R) -> Result<Self, ShardError> {
        let mut mark = Vec::new();
        reader.by_ref().take(SHARD_MARK.len() as u64).read_to_end(&mut mark)?;
        if mark != SHARD_MARK {
            let is_cut = SHARD_MARK.starts_with(&mark);
            let is_other = !mark.starts_with(SHARD_NAME) || mark.len() < SHARD_MARK.len();
            return Err(match (is_cut, is_other) {
                (true, _) => ShardError::Cut,
                (false, true) => ShardError::Other,
                (false, false) => ShardError::Version,
            });
        }
        let (content, digest) = piece(&mut reader, "", HEAD)?;
        let head: Head = serde_json::from_slice(&content).map_err(|_error| ShardError::Damaged)?;
        head.check()?;
        let at = SHARD_MARK.len() as u64 + length_of(&content);
        Ok(Self { reader, head, digest, at, count: 0 })
    }

    /// What the shard is of.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Bytes that were read and are whole.
    pub fn whole(&self) -> u64 {
        self.at
    }

    /// Photographs that were read.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What goes on writing behind what was read.
    pub fn go_on(&self) -> Writing {
        Writing { digest: self.digest.clone() }
    }

    /// The photographs of the next piece; none at the end of a file that is whole.
    ///
    /// # Errors
    ///
    /// [`ShardError`], also for another number of photographs than the head says.
    pub fn next_piece(&mut self) -> Result<Option<Vec<Placed>>, ShardError> {
        let (content, digest) = piece(&mut self.reader, &self.digest, CONTENT)?;
        let mut reader = Reader(&content);
        let count = reader.number().ok_or(ShardError::Damaged)?;
        let all = self.head.places().len();
        if count == 0 {
            let behind = self.reader.by_ref().take(1).read_to_end(&mut Vec::new())?;
            let is_whole = behind == 0 && reader.0.is_empty() && self.count == all;
            return if is_whole { Ok(None) } else { Err(ShardError::Damaged) };
        }
        if count > all - self.count {
            return Err(ShardError::Damaged);
        }
        let mut photographs = Vec::new();
        let begin = self.at + 4;
        for _ in 0..count {
            let before = reader.0.len();
            let photograph =
                Photograph::read(&mut reader, &self.head).ok_or(ShardError::Damaged)?;
            let (length, at) = (before - reader.0.len(), content.len() - before);
            let length = u32::try_from(length).map_err(|_error| ShardError::Damaged)?;
            photographs.push(Placed { at: begin + at as u64, length, photograph });
        }
        if !reader.0.is_empty() {
            return Err(ShardError::Damaged);
        }
        self.at += length_of(&content);
        self.digest = digest;
        self.count += count;
        Ok(Some(photographs))
    }
}

/// Bytes of a piece with such a content.
fn length_of(content: &[u8]) -> u64 {
    (4 + content.len() + DIGEST) as u64
}

/// The content of the next piece and its digest.
fn piece(reader: &mut impl Read, before: &str, most: u64) -> Result<(Vec<u8>, String), ShardError> {
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    let count = u64::from(u32::from_le_bytes(length));
    if count > most {
        return Err(ShardError::Damaged);
    }
    // Memory is taken as bytes come: a length that lies costs nothing.
    let mut bytes = length.to_vec();
    reader.by_ref().take(count).read_to_end(&mut bytes)?;
    let mut digest = [0; DIGEST];
    if bytes.len() as u64 != 4 + count {
        return Err(ShardError::Cut);
    }
    reader.read_exact(&mut digest)?;
    let expected = chained(before, &bytes);
    if expected.as_bytes() != digest {
        return Err(ShardError::Damaged);
    }
    bytes.drain(..4);
    Ok((bytes, expected))
}

#[cfg(test)]
mod tests {
    use models::gallery::Crop;
    use models::preprocess::Preprocess;
    use proptest::prelude::*;

    use super::*;

    fn head() -> Head {
        Head {
            list: "0".repeat(64),
            photographs: 7,
            shard: 2,
            shards: 2,
            extractor: "a".repeat(64),
            detector: None,
            crop: None,
            preprocess: Preprocess::square(32),
            dim: 2,
            program: "1.2.3".to_owned(),
            beside: Beside { pictures: 1, ..Beside::default() },
            remarks: vec!["left out: one".to_owned()],
            words: "--images list.txt".to_owned(),
        }
    }

    fn photographs() -> Vec<Photograph> {
        let embedded = |number: u8, thumbnail: &[u8]| {
            let seen = Seen {
                whole: Some(vec![0.6, 0.8]),
                middle: Some(vec![-1.0, 0.0]),
                ..Seen::default()
            };
            let id = ContentId([number; 16]);
            Kept::Embedded(Embedded { id, seen, thumbnail: thumbnail.to_vec() })
        };
        let left_out = Kept::LeftOut { reason: "no picture".to_owned(), is_named: false };
        [embedded(1, b"\xff\xd8\xff\xe0"), left_out, embedded(2, b"")]
            .into_iter()
            .enumerate()
            .map(|(number, kept)| Photograph {
                label: "mug 类".to_owned(),
                path: format!("photos/{number}.jpg"),
                kept,
            })
            .collect()
    }

    /// A whole file, and where its pieces end.
    fn file(head: &Head) -> (Vec<u8>, Vec<usize>) {
        let (mut writing, all) = (Writing::default(), photographs());
        let (mut bytes, mut ends) = (writing.begin(head).unwrap(), Vec::new());
        for part in [&all[..2], &all[2..], &[]] {
            ends.push(bytes.len());
            bytes.extend(writing.photographs(part).unwrap());
        }
        (bytes, ends)
    }

    fn read(bytes: &[u8]) -> Result<Vec<Photograph>, ShardError> {
        let mut pieces = Pieces::open(bytes)?;
        let mut all = Vec::new();
        while let Some(placed) = pieces.next_piece()? {
            for Placed { at, length, photograph } in placed {
                let own = &bytes[at as usize..at as usize + length as usize];
                assert_eq!(Photograph::from_bytes(own, pieces.head()).unwrap(), photograph);
                all.push(photograph);
            }
        }
        Ok(all)
    }

    #[test]
    fn what_is_written_is_read_and_every_cut_and_every_changed_byte_is_noticed() {
        let (bytes, _) = file(&head());
        assert_eq!(Pieces::open(&bytes[..]).unwrap().head(), &head());
        assert_eq!(read(&bytes).unwrap(), photographs());
        for end in 0..bytes.len() {
            assert!(matches!(read(&bytes[..end]), Err(ShardError::Cut)), "{end}");
        }
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert!(read(&changed).is_err(), "{place}");
        }
        assert!(matches!(read(&[&bytes[..], b"x"].concat()), Err(ShardError::Damaged)));
        let newer = String::from_utf8_lossy(&bytes[..SHARD_MARK.len()]).replace('1', "2");
        assert!(matches!(read(newer.as_bytes()), Err(ShardError::Version)));
        assert!(matches!(read(b"something else that is here"), Err(ShardError::Other)));
    }

    #[test]
    fn a_file_that_was_cut_off_is_whole_up_to_its_last_piece_and_goes_on_to_the_same_bytes() {
        let (bytes, ends) = file(&head());
        let all = photographs();
        for end in ends[0]..bytes.len() {
            let mut pieces = Pieces::open(&bytes[..end]).unwrap();
            while let Ok(Some(_)) = pieces.next_piece() {}
            let whole = ends.iter().copied().filter(|place| *place <= end).max().unwrap();
            assert_eq!(pieces.whole(), whole as u64, "{end}");
            let mut writing = pieces.go_on();
            let mut again = bytes[..whole].to_vec();
            for part in [&all[pieces.count()..2.max(pieces.count())], &all[2.max(pieces.count())..]]
            {
                if !part.is_empty() {
                    again.extend(writing.photographs(part).unwrap());
                }
            }
            again.extend(writing.photographs(&[]).unwrap());
            assert!(again == bytes, "{end}");
        }
    }

    /// Whoever writes all digests anew still cannot say what is not so.
    #[test]
    fn a_forged_shard_is_refused() {
        let forged = |change: &dyn Fn(&mut Head), photographs: &[Photograph]| {
            let mut head = head();
            change(&mut head);
            let mut writing = Writing::default();
            let mut bytes = writing.begin(&head).unwrap();
            bytes.extend(writing.photographs(photographs).unwrap());
            bytes.extend(writing.photographs(&[]).unwrap());
            read(&bytes)
        };
        let all = photographs();
        assert!(forged(&|_| (), &all).is_ok());
        let with = |change: &dyn Fn(&mut Photograph)| {
            let mut all = all.clone();
            change(&mut all[0]);
            all
        };
        let seen = |change: &dyn Fn(&mut Seen)| {
            with(&|photograph| {
                if let Kept::Embedded(embedded) = &mut photograph.kept {
                    change(&mut embedded.seen);
                }
            })
        };
        let heads: [&dyn Fn(&mut Head); 8] = [
            &|head| head.shard = 0,
            &|head| head.shard = 3,
            &|head| head.shards = MOST_SHARDS + 1,
            &|head| head.dim = 0,
            &|head| head.dim = 3,
            &|head| head.list = "0".repeat(63),
            &|head| head.photographs = 9,
            &|head| head.crop = Some(Crop::Both),
        ];
        for (place, change) in heads.iter().enumerate() {
            assert!(matches!(forged(change, &all), Err(ShardError::Damaged)), "{place}");
        }
        for (place, all) in [
            all[..2].to_vec(),
            with(&|photograph| photograph.label = "\u{202e}gum".to_owned()),
            with(&|photograph| photograph.label = String::new()),
            seen(&|seen| seen.whole = Some(vec![f32::NAN, 1.0])),
            seen(&|seen| seen.middle = Some(vec![0.0, 0.0])),
            seen(&|seen| seen.middle = None),
            with(&|photograph| {
                if let Kept::Embedded(embedded) = &mut photograph.kept {
                    embedded.thumbnail = b"<script>".to_vec();
                }
            }),
        ]
        .into_iter()
        .enumerate()
        {
            assert!(matches!(forged(&|_| (), &all), Err(ShardError::Damaged)), "{place}");
        }
    }

    #[test]
    fn shards_cover_a_list_once_and_in_order() {
        for (count, shards) in [(7, 3), (8, 2), (2, 5), (0, 2), (100, 1)] {
            let all: Vec<usize> =
                (1..=shards).flat_map(|shard| places(count, shards, shard)).collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_reason_reads_as_it_did_where_the_photograph_was_looked_at() {
        let path = Path::new("photos/a.jpg");
        let broken = PictureError::new(path, PictureProblem::OneColor);
        let unread = PictureError::unread(path, Told("photos/a.jpg: gone".to_owned()));
        for error in [broken, unread] {
            let photograph = Photograph::left_out("mug", &error);
            let Kept::LeftOut { reason, is_named } = photograph.kept else { panic!("left out") };
            let again = Photograph::error(path, &reason, is_named);
            assert_eq!(again.to_string(), error.to_string());
            assert_eq!(again.source.to_string(), error.source.to_string());
        }
    }

    proptest! {
        #[test]
        fn strange_bytes_are_an_error_or_photographs(
            place in any::<prop::sample::Index>(),
            bytes in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let (mut changed, _) = file(&head());
            let place = place.index(changed.len());
            let end = (place + bytes.len()).min(changed.len());
            changed.splice(place..end, bytes.iter().copied());
            let _ = read(&changed);
            let _ = read(&[SHARD_MARK, &bytes].concat());
            let _ = Photograph::from_bytes(&bytes, &head());
        }
    }
}
