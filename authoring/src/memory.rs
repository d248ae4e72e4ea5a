//! Embeddings of photographs that were looked at before, by the photographs' content.
//!
//! As a file: the mark, the length of the key and the key, values of an embedding, number of photographs; then each
//! photograph by ascending content id: the id, a byte that says what is known, and the embeddings as 32-bit floats;
//! at the end the SHA-256 of all before. Numbers are 32-bit, the lowest byte first.

use std::collections::BTreeMap;

use models::gallery::{ContentId, Crop, check_embedding};
use models::model_file::sha256_hex;
use thiserror::Error;

/// The first bytes of such a file.
pub const MARK: &[u8] = b"magpie embeddings 1\n";
/// Bytes of the digest at the end, as text.
const DIGEST: usize = 64;
/// What is known of a photograph.
const WHOLE: u8 = 1;
const MIDDLE: u8 = 2;
const MAIN: u8 = 4;
const NOTHING: u8 = 8;

/// Why a memory cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// No such file, or one that was cut off or changed.
    #[error("what is known of the photographs is damaged")]
    Damaged,
    /// Other networks or another program made it.
    #[error("what is known of the photographs is of another extractor, detector or version")]
    Other,
}

/// What is known of a photograph's main body.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Body {
    /// No detector has looked.
    #[default]
    Unknown,
    /// There is none.
    Nothing,
    /// Its embedding.
    Found(Vec<f32>),
}

impl Body {
    /// Its embedding, if it is known.
    pub(crate) fn found(&self) -> Option<&Vec<f32>> {
        match self {
            Self::Found(embedding) => Some(embedding),
            Self::Unknown | Self::Nothing => None,
        }
    }
}

/// What is known of a photograph.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Seen {
    /// Embedding of all of it.
    pub(crate) whole: Option<Vec<f32>>,
    /// That of its middle.
    pub(crate) middle: Option<Vec<f32>>,
    /// That of its main body.
    pub(crate) main: Body,
}

impl Seen {
    /// The embeddings that become entries; `None` where not all of them are known.
    pub(crate) fn entries(&self, crop: Crop) -> Option<Vec<&Vec<f32>>> {
        let whole = self.whole.as_ref();
        Some(match (crop, &self.main) {
            (Crop::Main | Crop::Both, Body::Unknown) => return None,
            (Crop::Middle, _) => vec![self.middle.as_ref()?],
            (Crop::Main, Body::Found(main)) => vec![main],
            (Crop::Both, Body::Found(main)) => vec![whole?, main],
            _ => vec![whole?],
        })
    }

    /// Takes over what another one knows.
    pub(crate) fn merge(&mut self, other: Self) {
        self.whole = other.whole.or_else(|| self.whole.take());
        self.middle = other.middle.or_else(|| self.middle.take());
        if other.main != Body::Unknown {
            self.main = other.main;
        }
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &Vec<f32>> {
        [self.whole.as_ref(), self.middle.as_ref(), self.main.found()].into_iter().flatten()
    }

    /// A byte that says what is known, and the embeddings.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.push(self.flags());
        bytes.extend(self.parts().flatten().flat_map(|value| value.to_le_bytes()));
    }

    fn flags(&self) -> u8 {
        let main = match self.main {
            Body::Unknown => 0,
            Body::Nothing => NOTHING,
            Body::Found(_) => MAIN,
        };
        let has = |part: &Option<Vec<f32>>, flag| if part.is_some() { flag } else { 0 };
        has(&self.whole, WHOLE) | has(&self.middle, MIDDLE) | main
    }
}

/// What is known of photographs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Memory {
    seen: BTreeMap<ContentId, Seen>,
}

impl Memory {
    /// Number of photographs.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Whether a detector looked at a photograph and found no main body.
    pub fn shows_nothing(&self, id: ContentId) -> bool {
        self.seen.get(&id).is_some_and(|seen| seen.main == Body::Nothing)
    }

    /// Photographs that something is known of.
    pub fn ids(&self) -> impl Iterator<Item = ContentId> {
        self.seen.keys().copied()
    }

    /// Whether something is known of a photograph.
    pub fn contains(&self, id: ContentId) -> bool {
        self.seen.contains_key(&id)
    }

    /// Forgets all photographs but some.
    pub fn retain(&mut self, is_kept: impl Fn(ContentId) -> bool) {
        self.seen.retain(|id, _| is_kept(*id));
    }

    /// Takes over what another one knows.
    pub fn learn(&mut self, other: &Self) {
        for (id, seen) in &other.seen {
            self.put(*id, seen.clone());
        }
    }

    pub(crate) fn get(&self, id: ContentId) -> Option<&Seen> {
        self.seen.get(&id)
    }

    /// The embeddings of a photograph that become entries, where they are known.
    pub(crate) fn entries(&self, id: ContentId, crop: Crop) -> Option<Vec<&Vec<f32>>> {
        self.get(id)?.entries(crop)
    }

    pub(crate) fn put(&mut self, id: ContentId, seen: Seen) {
        self.seen.entry(id).or_default().merge(seen);
    }

    /// The file's bytes. `key` names what made the embeddings.
    pub fn to_bytes(&self, key: &str) -> Vec<u8> {
        let parts = || self.seen.values().flat_map(Seen::parts);
        let dim = parts().next().map_or(0, Vec::len);
        let mut bytes = Vec::with_capacity(MARK.len() + parts().count() * dim * 4 + DIGEST);
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
        bytes.extend(MARK);
        bytes.extend(number(key.len()));
        bytes.extend(key.as_bytes());
        bytes.extend(number(dim));
        bytes.extend(number(self.seen.len()));
        for (id, seen) in &self.seen {
            bytes.extend(id.0);
            seen.write(&mut bytes);
        }
        sealed(bytes)
    }

    /// Reads what [`Self::to_bytes`] wrote of an extractor whose embeddings have `dim` values.
    ///
    /// # Errors
    ///
    /// [`MemoryError`], also where embeddings are none of such an extractor, whatever the digest says.
    pub fn from_bytes(bytes: &[u8], key: &str, dim: usize) -> Result<Self, MemoryError> {
        let mut reader = Reader(unsealed(bytes)?);
        let is_marked = reader.take(MARK.len()) == Some(MARK);
        let length = reader.number().filter(|_| is_marked).ok_or(MemoryError::Damaged)?;
        if reader.take(length) != Some(key.as_bytes()) {
            return Err(MemoryError::Other);
        }
        let memory = reader.photographs().ok_or(MemoryError::Damaged)?;
        let is_usable =
            |embedding: &Vec<f32>| embedding.len() == dim && check_embedding(embedding).is_ok();
        if memory.seen.values().flat_map(Seen::parts).all(is_usable) {
            return Ok(memory);
        }
        Err(MemoryError::Damaged)
    }
}

/// Bytes with their digest behind them.
pub(crate) fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = sha256_hex(&bytes);
    bytes.extend(digest.as_bytes());
    bytes
}

/// What [`sealed`] was given.
///
/// # Errors
///
/// [`MemoryError::Damaged`]
pub(crate) fn unsealed(bytes: &[u8]) -> Result<&[u8], MemoryError> {
    let parts = bytes.split_at_checked(bytes.len().saturating_sub(DIGEST));
    let whole = parts.filter(|(content, digest)| sha256_hex(content).as_bytes() == *digest);
    whole.map(|(content, _)| content).ok_or(MemoryError::Damaged)
}

/// Takes bytes from the beginning of what is left.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn number(&mut self) -> Option<usize> {
        let bytes = self.take(4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    }

    fn embedding(&mut self, dim: usize) -> Option<Vec<f32>> {
        let bytes = self.take(dim.checked_mul(4)?)?;
        Some(bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect())
    }

    /// What [`Seen::write`] wrote.
    pub(crate) fn seen(&mut self, dim: usize) -> Option<Seen> {
        let flags = *self.take(1)?.first()?;
        let mut part = |flag: u8| {
            if flags & flag == 0 { Some(None) } else { Some(Some(self.embedding(dim)?)) }
        };
        let (whole, middle, main) = (part(WHOLE)?, part(MIDDLE)?, part(MAIN)?);
        let main = match main {
            Some(main) => Body::Found(main),
            None if flags & NOTHING == 0 => Body::Unknown,
            None => Body::Nothing,
        };
        Some(Seen { whole, middle, main })
    }

    fn photographs(&mut self) -> Option<Memory> {
        let (dim, count) = (self.number()?, self.number()?);
        let mut memory = Memory::default();
        for _ in 0..count {
            let id = ContentId(self.take(16)?.try_into().ok()?);
            memory.seen.insert(id, self.seen(dim)?);
        }
        self.0.is_empty().then_some(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        let mut memory = Memory::default();
        let id = |number: u8| ContentId([number; 16]);
        let seen = Seen { whole: Some(vec![0.25, -1.0]), ..Seen::default() };
        memory.put(id(2), seen);
        memory.put(id(1), Seen { middle: Some(vec![1.0, 0.0]), ..Seen::default() });
        let found = Seen { main: Body::Found(vec![0.5, 0.5]), ..Seen::default() };
        memory.put(id(2), found);
        memory.put(id(3), Seen { main: Body::Nothing, ..Seen::default() });
        memory
    }

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_is_not() {
        let (memory, key) = (memory(), "extractor");
        let bytes = memory.to_bytes(key);
        assert_eq!(Memory::from_bytes(&bytes, key, 2), Ok(memory));
        assert_eq!(Memory::from_bytes(&bytes, "another", 2), Err(MemoryError::Other));
        assert_eq!(Memory::from_bytes(&bytes, key, 3), Err(MemoryError::Damaged), "another width");
        for wrong in [vec![f32::NAN, 1.0], vec![0.0, 0.0], vec![f32::INFINITY, 0.0]] {
            let mut forged = Memory::default();
            forged.put(ContentId([7; 16]), Seen { whole: Some(wrong), ..Seen::default() });
            let bytes = forged.to_bytes(key);
            assert_eq!(Memory::from_bytes(&bytes, key, 2), Err(MemoryError::Damaged));
        }
        for cut in 0..bytes.len() {
            let read = Memory::from_bytes(&bytes[..cut], key, 2);
            assert_eq!(read, Err(MemoryError::Damaged), "{cut}");
        }
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            let read = Memory::from_bytes(&changed, key, 2);
            assert_eq!(read, Err(MemoryError::Damaged), "{place}");
        }
        let empty = Memory::default();
        assert_eq!(Memory::from_bytes(&empty.to_bytes(key), key, 2), Ok(empty));
    }

    #[test]
    fn entries_need_all_their_parts() {
        let memory = memory();
        let known = |number: u8, crop| {
            memory.entries(ContentId([number; 16]), crop).map(|entries| entries.len())
        };
        assert_eq!(known(2, Crop::Never), Some(1));
        assert_eq!(known(2, Crop::Both), Some(2));
        assert_eq!(known(2, Crop::Main), Some(1));
        assert_eq!(known(2, Crop::Middle), None);
        assert_eq!(known(1, Crop::Middle), Some(1));
        assert_eq!(known(1, Crop::Main), None);
        // Without a main body the whole is needed, which nobody has embedded.
        assert_eq!(known(3, Crop::Main), None);
        assert!(
            memory.shows_nothing(ContentId([3; 16])) && !memory.shows_nothing(ContentId([2; 16]))
        );
    }
}
