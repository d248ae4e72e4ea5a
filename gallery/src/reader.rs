//! A gallery file that is read entry by entry, for what takes galleries larger than memory.
//!
//! In memory stay 20 bytes per entry (its class and its picture's hash; 24 where values are 8-bit), what is said about
//! the classes, and a piece of the embeddings.

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use crate::calibration::Calibration;
use crate::check::{check_file, each_piece};
use crate::class::{Class, ContentId};
use crate::error::GalleryError;
use crate::format::{
    CONTENT_ID_LENGTH, CONTENT_IDS, EMBEDDINGS, ENTRIES, FACTORS, HEADER, Header, LAYOUT, MAP,
    StreamError, TAKEN_OUT, THUMBNAILS, float, read_map, read_rows,
};
use crate::index::{Metric, VectorIndex, VectorType};
use crate::map::AdaptationMap;
use crate::mapped::mapped_rows;
use crate::summary::Summary;

/// Entries that are read together.
const PIECE: usize = 1024;

/// A gallery file, every byte of it checked, that is read entry by entry.
///
/// ```
/// use gallery::{Class, Gallery, GalleryReader};
///
/// let mut gallery = Gallery::new(2, "model");
/// let mug = Class { label: "mug".to_owned(), ..Class::default() };
/// let mug = gallery.add_class(mug, vec![7]);
/// gallery.add(mug, &[0.6, 0.8])?;
/// let mut reader = GalleryReader::open(std::io::Cursor::new(gallery.to_bytes()))?;
/// assert_eq!(reader.thumbnail(0)?, [7]);
/// let mut entries = reader.entries();
/// assert_eq!(entries.advance()?.map(|entry| entry.class), Some(0));
/// assert!(entries.advance()?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct GalleryReader<R> {
    file: R,
    summary: Summary,
    calibration: Option<Calibration>,
    map: Option<AdaptationMap>,
    /// Where each class' picture is in the file.
    thumbnails: Vec<Range<u64>>,
    entry_classes: Vec<u32>,
    content_ids: Vec<ContentId>,
    /// Only where values are 8-bit.
    factors: Vec<f32>,
    /// Where the embeddings begin.
    rows: u64,
}

/// An entry of a file.
#[derive(Debug)]
pub struct ReadEntry<'a> {
    /// Its class.
    pub class: usize,
    /// The content id of its image.
    pub content_id: ContentId,
    /// Its embedding as the extractor gave it, but for rounding, `[dim]`.
    pub embedding: std::borrow::Cow<'a, [f32]>,
    /// What of it is compared in an adapted gallery: the embedding behind the map, of unit length, `[values]`; zeros where
    /// nothing is left of it.
    pub mapped: Option<std::borrow::Cow<'a, [f32]>>,
}

impl<R: Read + Seek> GalleryReader<R> {
    /// Opens a file and looks it over as [`check_file`] does.
    ///
    /// # Errors
    ///
    /// As [`check_file`].
    pub fn open(mut file: R) -> Result<Self, StreamError> {
        check_file(&mut file)?;
        let summary = Summary::read(&mut file)?;
        let length = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        let mut head = Vec::new();
        (&mut file).take(LAYOUT.longest_head() as u64).read_to_end(&mut head)?;
        let table = LAYOUT.table(&head, length)?;
        let place = |kind: usize| {
            let what = || format!("it has no {}", LAYOUT.names[kind - 1]);
            let place = table.places.iter().find(|place| place.kind == kind);
            place.ok_or_else(|| GalleryError::Inconsistent { what: what() })
        };
        let mut stored = Vec::new();
        each_piece(&mut file, place(HEADER)?, 1, &mut |piece| {
            stored.extend_from_slice(piece);
            Ok(())
        })?;
        let header = Header::read(&stored, table.version)?;
        let mut entry_classes = Vec::new();
        each_piece(&mut file, place(ENTRIES)?, 4, &mut |piece| {
            let class = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            entry_classes.extend(piece.chunks_exact(4).map(class));
            Ok(())
        })?;
        let mut content_ids = Vec::new();
        if table.version > 1 {
            each_piece(&mut file, place(CONTENT_IDS)?, CONTENT_ID_LENGTH, &mut |piece| {
                let id = |b: &[u8]| ContentId(std::array::from_fn(|i| b[i]));
                content_ids.extend(piece.chunks_exact(CONTENT_ID_LENGTH).map(id));
                Ok(())
            })?;
        }
        content_ids.resize(entry_classes.len(), ContentId::default());
        let mut factors = Vec::new();
        if header.vector_type == VectorType::I8 {
            each_piece(&mut file, place(FACTORS)?, 4, &mut |piece| {
                factors.extend(piece.chunks_exact(4).map(float));
                Ok(())
            })?;
        }
        let map = match header.map {
            Some(about) => {
                let mut bytes = Vec::new();
                each_piece(&mut file, place(MAP)?, 1, &mut |piece| {
                    bytes.extend_from_slice(piece);
                    Ok(())
                })?;
                Some(read_map(about, header.dim, &bytes)?)
            }
            None => None,
        };
        let mut end = place(THUMBNAILS)?.start;
        let thumbnails = header.classes.iter().map(|class| {
            let start = end;
            end = end.saturating_add(class.thumbnail_length as u64);
            start..end
        });
        let thumbnails = thumbnails.collect();
        let (calibration, rows) = (header.calibration, place(EMBEDDINGS)?.start);
        Ok(Self {
            file,
            summary,
            calibration,
            map,
            thumbnails,
            entry_classes,
            content_ids,
            factors,
            rows,
        })
    }

    /// What the file says of itself.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// What was learned about answers.
    pub fn calibration(&self) -> Option<&Calibration> {
        self.calibration.as_ref()
    }

    /// The map of an adapted gallery.
    pub fn map(&self) -> Option<&AdaptationMap> {
        self.map.as_ref()
    }

    /// All classes.
    pub fn classes(&self) -> &[Class] {
        &self.summary.classes
    }

    /// The picture of a class; empty where it has none.
    ///
    /// # Errors
    ///
    /// [`GalleryError::NoClass`], [`StreamError::File`]
    pub fn thumbnail(&mut self, class: usize) -> Result<Vec<u8>, StreamError> {
        let place = self.thumbnails.get(class).ok_or(GalleryError::NoClass { class })?;
        let length = place.end - place.start;
        self.file.seek(SeekFrom::Start(place.start))?;
        let mut bytes = Vec::new();
        (&mut self.file).take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == length {
            return Ok(bytes);
        }
        Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())
    }

    /// The entries that are there, in their order.
    pub fn entries(&mut self) -> Entries<'_, R> {
        let piece = self.piece();
        Entries { reader: self, piece, mapped: None, first: 0, next: 0 }
    }

    fn piece(&self) -> VectorIndex {
        let Summary { dim, vector_type, .. } = self.summary;
        VectorIndex::new(dim, Metric::InnerProduct, vector_type)
    }

    /// The rows from one on, a piece of them.
    fn rows_from(&mut self, first: usize) -> Result<VectorIndex, StreamError> {
        let mut piece = self.piece();
        let width = self.summary.dim as u64 * self.summary.vector_type.bytes();
        let rows = first..self.entry_classes.len().min(first + PIECE);
        self.file.seek(SeekFrom::Start(self.rows + first as u64 * width))?;
        let mut bytes = vec![0; rows.len() * width as usize];
        self.file.read_exact(&mut bytes)?;
        read_rows(&mut piece, &bytes, self.factors.get(rows).unwrap_or_default())?;
        Ok(piece)
    }
}

/// The entries of a file, one after the other.
#[derive(Debug)]
pub struct Entries<'a, R> {
    reader: &'a mut GalleryReader<R>,
    /// Rows from `first` on.
    piece: VectorIndex,
    /// The same rows behind the map.
    mapped: Option<VectorIndex>,
    first: usize,
    next: usize,
}

impl<R: Read + Seek> Entries<'_, R> {
    /// The next entry; `None` behind the last one.
    ///
    /// # Errors
    ///
    /// [`StreamError`] for a file that cannot be read any more.
    pub fn advance(&mut self) -> Result<Option<ReadEntry<'_>>, StreamError> {
        let classes = &self.reader.entry_classes;
        while classes.get(self.next) == Some(&TAKEN_OUT) {
            self.next += 1;
        }
        let Some(class) = classes.get(self.next).map(|class| *class as usize) else {
            return Ok(None);
        };
        if self.next - self.first >= self.piece.positions() {
            self.first = self.next;
            self.piece = self.reader.rows_from(self.first)?;
            let map = self.reader.map.as_ref();
            self.mapped = map.map(|map| mapped_rows(map, &self.piece)).transpose()?;
        }
        let entry = self.next;
        self.next += 1;
        Ok(Some(ReadEntry {
            class,
            content_id: self.reader.content_ids[entry],
            embedding: self.piece.vector(entry - self.first),
            mapped: self.mapped.as_ref().map(|mapped| mapped.vector(entry - self.first)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::gallery::Gallery;
    use crate::index::IndexConfig;

    #[test]
    fn entries_come_as_the_gallery_in_memory_has_them() {
        for vector_type in [VectorType::F16, VectorType::F32, VectorType::I8] {
            let mut gallery = Gallery::with_type(5, "m", vector_type);
            for class in 0..3_u8 {
                let class = Class { label: format!("{class}"), ..Class::default() };
                gallery.add_class(class, vec![7; gallery.classes().len() * 3]);
            }
            for entry in 0..2500_usize {
                let embedding: Vec<f32> =
                    (0..5).map(|i| ((entry * 31 + i * 17) as f32).sin()).collect();
                let id = ContentId::of(&entry.to_le_bytes());
                gallery.add_image(entry % 3, &embedding, id).unwrap();
            }
            gallery.set_index(IndexConfig::Binary).unwrap();
            gallery.remove_entries(&[0, 1, 1023, 1024, 2499]).unwrap();
            let mut reader = GalleryReader::open(Cursor::new(gallery.to_bytes())).unwrap();
            assert_eq!(reader.classes(), gallery.classes());
            for class in 0..3 {
                assert_eq!(reader.thumbnail(class).unwrap(), gallery.thumbnail(class));
            }
            let missing = reader.thumbnail(3).unwrap_err();
            assert!(matches!(missing, StreamError::Gallery(GalleryError::NoClass { class: 3 })));
            let mut entries = reader.entries();
            for entry in gallery.entries() {
                let found = entries.advance().unwrap().unwrap();
                assert_eq!(found.class, gallery.entry_class(entry));
                assert_eq!(found.content_id, gallery.content_id(entry));
                assert_eq!(found.embedding, gallery.embedding(entry), "{vector_type:?} {entry}");
            }
            assert!(entries.advance().unwrap().is_none());
        }
    }

    #[test]
    fn a_damaged_file_is_refused_before_an_entry_is_read() {
        let mut gallery = Gallery::new(2, "m");
        gallery.add_class(Class::default(), vec![1]);
        gallery.add(0, &[0.6, 0.8]).unwrap();
        let mut bytes = gallery.to_bytes();
        *bytes.last_mut().unwrap() ^= 1;
        let error = GalleryReader::open(Cursor::new(bytes)).unwrap_err();
        assert!(matches!(error, StreamError::Gallery(GalleryError::Checksum { .. })), "{error}");
    }
}
