//! A gallery that is written while its pictures come in: what has come lies in scratch files, so that
//! memory does not grow with the embeddings and the classes' pictures.
//!
//! In memory stay 20 bytes per entry (its class and its picture's hash; 24 where values are 8-bit), what
//! is said about the classes, and while the index is made what [`Outline::of`] says. The file is the
//! one that the same calls on a [`Gallery`](crate::gallery::Gallery) give, byte for byte.

use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;

use crate::answer_rule::AnswerRule;
use crate::calibration::Calibration;
use crate::class::{Class, ContentId, Crop};
use crate::edit::check_threshold;
use crate::embedding::{check_stored, entry};
use crate::error::GalleryError;
use crate::format::StreamError;
use crate::format::{
    CONTENT_IDS, EMBEDDINGS, ENTRIES, FACTORS, HEADER, Header, LAYOUT, MAP, StoredClass,
    THUMBNAILS, check_size, read_rows, write_rows,
};
use crate::index::{IndexConfig, Metric, VectorIndex, VectorType};
use crate::index::{Outline, Pieces};
use crate::map::AdaptationMap;
use crate::mapped::mapped_rows;
use crate::metadata::Metadata;

/// Entries that are put away together.
const PIECE: usize = 1024;

/// A gallery that is written while its pictures come in, in memory that does not grow with their embeddings.
#[derive(Debug)]
pub struct GalleryStream<S> {
    model: String,
    classes: Vec<Class>,
    /// Where each class' picture is among the scratch pictures.
    thumbnails: Vec<Range<u64>>,
    entry_classes: Vec<u32>,
    content_ids: Vec<ContentId>,
    /// Of the entries that are put away; only where values are 8-bit.
    factors: Vec<f32>,
    /// Entries that are not put away yet.
    piece: VectorIndex,
    min_similarity: Option<f32>,
    rule: AnswerRule,
    calibration: Option<Calibration>,
    crop: Crop,
    map: Option<AdaptationMap>,
    rows: S,
    encoded: S,
}

impl<S: Read + Write + Seek> GalleryStream<S> {
    /// An empty gallery for embeddings of `dim` values made by `model` (a hash of its weights). Rows and
    /// pictures are put into the two scratch files, which are empty.
    pub fn new(
        dim: usize,
        model: impl Into<String>,
        vector_type: VectorType,
        [rows, encoded]: [S; 2],
    ) -> Self {
        Self {
            model: model.into(),
            classes: Vec::new(),
            thumbnails: Vec::new(),
            entry_classes: Vec::new(),
            content_ids: Vec::new(),
            factors: Vec::new(),
            piece: VectorIndex::new(dim, Metric::InnerProduct, vector_type),
            min_similarity: None,
            rule: AnswerRule::default(),
            calibration: None,
            crop: Crop::default(),
            map: None,
            rows,
            encoded,
        }
    }

    /// Keeps which part of an image becomes an entry.
    pub fn set_crop(&mut self, crop: Crop) {
        self.crop = crop;
    }

    /// Searches behind a map: the index that is written belongs to what is behind it.
    ///
    /// # Errors
    ///
    /// [`GalleryError::Dimension`] for a map of another width.
    pub fn set_map(&mut self, map: Option<AdaptationMap>) -> Result<(), StreamError> {
        let (expected, got) = (self.piece.dim(), map.as_ref().map(AdaptationMap::dim));
        if let Some(got) = got.filter(|got| *got != expected) {
            return Err(GalleryError::Dimension { expected, got }.into());
        }
        self.map = map;
        Ok(())
    }

    /// All classes.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entry_classes.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entry_classes.is_empty()
    }

    /// Class of an entry; `None` for one that is not there.
    pub fn entry_class(&self, entry: usize) -> Option<usize> {
        self.entry_classes.get(entry).map(|class| *class as usize)
    }

    /// Adds a class and returns its position; `thumbnail` is an encoded picture or empty.
    ///
    /// # Errors
    ///
    /// [`StreamError::File`]
    pub fn add_class(&mut self, class: Class, thumbnail: &[u8]) -> Result<usize, StreamError> {
        let place = self.put_thumbnail(thumbnail)?;
        self.classes.push(class);
        self.thumbnails.push(place);
        Ok(self.classes.len() - 1)
    }

    /// Whether a class has a picture.
    pub fn has_thumbnail(&self, class: usize) -> bool {
        self.thumbnails.get(class).is_some_and(|place| !place.is_empty())
    }

    /// Gives a class another picture.
    ///
    /// # Errors
    ///
    /// [`GalleryError::NoClass`], [`StreamError::File`]
    pub fn set_thumbnail(&mut self, class: usize, thumbnail: &[u8]) -> Result<(), StreamError> {
        self.class(class)?;
        self.thumbnails[class] = self.put_thumbnail(thumbnail)?;
        Ok(())
    }

    /// Changes what is said about a class. The label stays.
    ///
    /// # Errors
    ///
    /// [`GalleryError::NoClass`], [`GalleryError::NotFinite`]
    pub fn describe_class(
        &mut self,
        class: usize,
        metadata: Metadata,
        min_similarity: Option<f32>,
    ) -> Result<(), StreamError> {
        self.class(class)?;
        check_threshold(min_similarity)?;
        let class = &mut self.classes[class];
        (class.metadata, class.min_similarity) = (metadata, min_similarity);
        Ok(())
    }

    /// Keeps the least cosine of an answer that was measured for this gallery.
    ///
    /// # Errors
    ///
    /// [`GalleryError::NotFinite`]
    pub fn set_min_similarity(&mut self, least: Option<f32>) -> Result<(), StreamError> {
        check_threshold(least)?;
        self.min_similarity = least;
        self.calibration = None;
        Ok(())
    }

    /// Keeps the rule that the least cosine was measured with.
    pub fn set_measured_rule(&mut self, rule: AnswerRule) {
        self.rule = rule;
    }

    /// Keeps what was learned about answers; without a least cosine it does not count.
    pub fn set_calibration(&mut self, calibration: Option<Calibration>) {
        self.calibration = calibration;
    }

    /// Adds an embedding of a class, brought to unit length.
    ///
    /// # Errors
    ///
    /// [`GalleryError::Dimension`], [`GalleryError::NotFinite`], [`GalleryError::ZeroLength`],
    /// [`GalleryError::DoesNotFit`], [`GalleryError::NoClass`], [`GalleryError::Options`] for more entries than are read, or [`StreamError::File`].
    pub fn add_image(
        &mut self,
        class: usize,
        embedding: &[f32],
        picture: ContentId,
    ) -> Result<(), StreamError> {
        let row = entry(embedding, self.piece.dim())?;
        self.add_stored(class, &row, picture)
    }

    /// Adds an embedding as a gallery of this model gave it out.
    ///
    /// # Errors
    ///
    /// As [`Self::add_image`].
    pub fn add_stored(
        &mut self,
        class: usize,
        embedding: &[f32],
        picture: ContentId,
    ) -> Result<(), StreamError> {
        self.class(class)?;
        check_stored(embedding, self.piece.dim(), self.len(), self.piece.vector_type())?;
        if self.piece.positions() == PIECE {
            self.put_rows()?;
        }
        self.piece.add(embedding)?;
        self.entry_classes.push(class as u32);
        self.content_ids.push(picture);
        Ok(())
    }

    /// The embedding of an entry as it is stored, `[dim]`; `None` for one that is not there.
    ///
    /// # Errors
    ///
    /// [`StreamError::File`]
    pub fn vector(&mut self, entry: usize) -> Result<Option<Vec<f32>>, StreamError> {
        if entry >= self.len() {
            return Ok(None);
        }
        let put_away = self.len() - self.piece.positions();
        let (piece, place) = match entry.checked_sub(put_away) {
            Some(place) => (&self.piece, place),
            None => (&self.rows_of(entry..entry + 1)?, 0),
        };
        Ok(Some(piece.vector(place).into_owned()))
    }

    /// Writes the file, with an index of a kind; the number of entries that it does not come to, as
    /// [`VectorIndex::unreachable`] says.
    ///
    /// # Errors
    ///
    /// [`GalleryError::Options`], [`GalleryError::DoesNotFit`], [`StreamError::File`]
    pub fn finish(
        mut self,
        config: IndexConfig,
        writer: &mut dyn Write,
    ) -> Result<usize, StreamError> {
        check_size(self.piece.dim(), self.len())?;
        self.put_rows()?;
        let outline = Outline::of(config, &mut self)?;
        let (empty, entries) = (self.unmapped(), self.len());
        let header = Header {
            dim: empty.dim(),
            vector_type: empty.vector_type(),
            entries,
            model: self.model.clone(),
            index: config,
            min_similarity: self.min_similarity,
            rule: self.min_similarity.map_or_else(AnswerRule::default, |_| self.rule),
            calibration: self.calibration.clone().filter(|_| self.min_similarity.is_some()),
            map: self.map.as_ref().map(AdaptationMap::about),
            crop: self.crop,
            classes: (self.classes.iter().zip(&self.thumbnails))
                .map(|(class, place)| StoredClass::of(class, (place.end - place.start) as usize))
                .collect(),
        };
        let mut section = |kind: usize, writer: &mut dyn Write| match kind {
            HEADER => header.write(writer),
            ENTRIES => {
                self.entry_classes.iter().try_for_each(|c| writer.write_all(&c.to_le_bytes()))
            }
            EMBEDDINGS => {
                self.rows.rewind()?;
                std::io::copy(&mut self.rows, writer).map(drop)
            }
            THUMBNAILS => {
                let mut buffer = Vec::new();
                self.thumbnails.iter().try_for_each(|place| {
                    read_into(&mut buffer, &mut self.encoded, place)?;
                    writer.write_all(&buffer)
                })
            }
            FACTORS => self.factors.iter().try_for_each(|f| writer.write_all(&f.to_le_bytes())),
            CONTENT_IDS => {
                self.content_ids.iter().try_for_each(|picture| writer.write_all(&picture.0))
            }
            MAP => self.map.as_ref().map_or(Ok(()), |map| map.write(writer)),
            _ => outline.write(writer),
        };
        LAYOUT.write(header.version(), &header.kinds(), &mut section, writer)?;
        Ok(outline.unreachable)
    }

    fn class(&self, class: usize) -> Result<&Class, GalleryError> {
        self.classes.get(class).ok_or(GalleryError::NoClass { class })
    }

    fn put_thumbnail(&mut self, picture: &[u8]) -> Result<Range<u64>, StreamError> {
        let start = self.encoded.seek(SeekFrom::End(0))?;
        self.encoded.write_all(picture)?;
        Ok(start..start + picture.len() as u64)
    }

    /// No rows as the extractor gives them.
    fn unmapped(&self) -> VectorIndex {
        VectorIndex::new(self.piece.dim(), Metric::InnerProduct, self.piece.vector_type())
    }

    fn put_rows(&mut self) -> Result<(), StreamError> {
        let empty = self.unmapped();
        let piece = std::mem::replace(&mut self.piece, empty);
        self.rows.seek(SeekFrom::End(0))?;
        let mut bytes = Vec::new();
        write_rows(&piece, &mut bytes)?;
        self.rows.write_all(&bytes)?;
        if piece.vector_type() == VectorType::I8 {
            self.factors.extend((0..piece.positions()).map(|row| piece.stored_codes(row).1));
        }
        Ok(())
    }

    /// Entries that are put away.
    fn rows_of(&mut self, entries: Range<usize>) -> Result<VectorIndex, StreamError> {
        let mut piece = self.unmapped();
        let width = piece.dim() as u64 * piece.vector_type().bytes();
        let mut bytes = Vec::new();
        let place = entries.start as u64 * width..entries.end as u64 * width;
        read_into(&mut bytes, &mut self.rows, &place)?;
        read_rows(&mut piece, &bytes, self.factors.get(entries).unwrap_or_default())?;
        Ok(piece)
    }
}

impl<S: Read + Write + Seek> Pieces for GalleryStream<S> {
    type Error = StreamError;

    fn rows(&self) -> usize {
        self.len()
    }

    fn none(&self) -> VectorIndex {
        let dim = self.map.as_ref().map_or(self.piece.dim(), AdaptationMap::values);
        VectorIndex::new(dim, Metric::InnerProduct, self.piece.vector_type())
    }

    fn each(&mut self, use_piece: &mut dyn FnMut(usize, &VectorIndex)) -> Result<(), StreamError> {
        for first in (0..self.len()).step_by(PIECE) {
            let rows = self.rows_of(first..(first + PIECE).min(self.len()))?;
            match &self.map {
                Some(map) => use_piece(first, &mapped_rows(map, &rows)?),
                None => use_piece(first, &rows),
            }
        }
        Ok(())
    }
}

/// Reads a place of a file, all of it or an error.
fn read_into(
    buffer: &mut Vec<u8>,
    file: &mut (impl Read + Seek),
    place: &Range<u64>,
) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(place.start))?;
    buffer.resize((place.end - place.start) as usize, 0);
    file.read_exact(buffer)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::gallery::Gallery;
    use crate::map::AdaptationKind;
    use crate::reader::GalleryReader;

    const DIM: usize = 6;
    const KINDS: [IndexConfig; 4] = [
        IndexConfig::Flat,
        IndexConfig::Hnsw { m: 4, ef_construction: 16 },
        IndexConfig::Ivf { lists: 0 },
        IndexConfig::Binary,
    ];

    fn scratch() -> [Cursor<Vec<u8>>; 2] {
        [Cursor::default(), Cursor::default()]
    }

    fn embedding(entry: usize) -> Vec<f32> {
        (0..DIM).map(|i| ((entry * 31 + i * 17) as f32 * 0.71).sin()).collect()
    }

    /// The same calls on both.
    fn both(entries: usize, vector_type: VectorType) -> (Gallery, GalleryStream<Cursor<Vec<u8>>>) {
        let mut gallery = Gallery::with_type(DIM, "m", vector_type);
        let mut stream = GalleryStream::new(DIM, "m", vector_type, scratch());
        for class in 0..5_u8 {
            let named = Class { label: format!("class {class}"), ..Class::default() };
            let picture = vec![class; usize::from(class % 3)];
            assert_eq!(
                stream.add_class(named.clone(), &picture).unwrap(),
                gallery.add_class(named, picture)
            );
        }
        for entry in 0..entries {
            let (class, picture) = (entry % 5, ContentId::of(&entry.to_le_bytes()));
            gallery.add_image(class, &embedding(entry), picture).unwrap();
            stream.add_image(class, &embedding(entry), picture).unwrap();
        }
        gallery.set_thumbnail(0, vec![7, 8, 9]).unwrap();
        stream.set_thumbnail(0, &[7, 8, 9]).unwrap();
        let metadata: Metadata = [("price".to_owned(), "3 €".to_owned())].into();
        gallery.describe_class(2, metadata.clone(), Some(0.5)).unwrap();
        stream.describe_class(2, metadata, Some(0.5)).unwrap();
        gallery.set_min_similarity(Some(0.25)).unwrap();
        stream.set_min_similarity(Some(0.25)).unwrap();
        let rule = AnswerRule::Vote { neighbors: 7 };
        gallery.set_measured_rule(rule);
        stream.set_measured_rule(rule);
        (gallery, stream)
    }

    #[test]
    fn writes_the_bytes_that_a_gallery_in_memory_writes() {
        for vector_type in [VectorType::F16, VectorType::F32, VectorType::I8] {
            for config in KINDS {
                for entries in [0, 1, PIECE, 2 * PIECE + 77] {
                    let (mut gallery, stream) = both(entries, vector_type);
                    gallery.set_index(config).unwrap();
                    let mut bytes = Vec::new();
                    stream.finish(config, &mut bytes).unwrap();
                    assert!(bytes == gallery.to_bytes(), "{vector_type:?}, {config:?}, {entries}");
                }
            }
        }
    }

    #[test]
    fn writes_and_reads_an_adapted_gallery_as_one_in_memory_does() {
        let rows: Vec<f32> = (0..3 * DIM).map(|i| ((i * 29) as f32 * 0.37).cos()).collect();
        let mean: Vec<f32> = (0..DIM).map(|i| ((i * 3) as f32).sin() * 0.1).collect();
        let map = AdaptationMap::new(AdaptationKind::Lda, 0.3, 7, &rows, &mean).unwrap();
        for vector_type in [VectorType::F16, VectorType::F32, VectorType::I8] {
            for config in KINDS {
                let (mut gallery, mut stream) = both(PIECE + 77, vector_type);
                gallery.set_map(Some(map.clone())).unwrap();
                gallery.set_index(config).unwrap();
                stream.set_map(Some(map.clone())).unwrap();
                let mut bytes = Vec::new();
                stream.finish(config, &mut bytes).unwrap();
                assert!(bytes == gallery.to_bytes(), "{vector_type:?}, {config:?}");
                let mut reader = GalleryReader::open(Cursor::new(bytes)).unwrap();
                assert_eq!(reader.map(), gallery.map());
                let again = AdaptationMap::from_bytes(map.about(), DIM, &map.to_bytes());
                assert_eq!(again.as_ref(), reader.map());
                let mut entries = reader.entries();
                for entry in gallery.entries() {
                    let found = entries.advance().unwrap().unwrap();
                    assert_eq!(*found.embedding, *gallery.embedding(entry));
                    assert_eq!(found.mapped.unwrap(), gallery.index().vector(entry));
                }
            }
        }
        let mut narrow = GalleryStream::new(DIM + 1, "m", VectorType::F32, scratch());
        assert!(narrow.set_map(Some(map)).is_err());
    }

    #[test]
    fn gives_embeddings_back_from_memory_and_from_scratch() {
        for vector_type in [VectorType::F16, VectorType::F32, VectorType::I8] {
            let (gallery, mut stream) = both(PIECE + 5, vector_type);
            for entry in [0, PIECE - 1, PIECE, PIECE + 4] {
                let vector = stream.vector(entry).unwrap().unwrap();
                assert_eq!(vector, &*gallery.index().vector(entry));
                assert_eq!(stream.entry_class(entry), Some(gallery.entry_class(entry)));
            }
            assert!(stream.vector(PIECE + 5).unwrap().is_none());
            // What is read in between does not disturb what is written.
            stream.add_image(1, &embedding(7), ContentId::default()).unwrap();
            let mut bytes = Vec::new();
            stream.finish(IndexConfig::Flat, &mut bytes).unwrap();
            let read = Gallery::from_bytes(&bytes).unwrap();
            assert_eq!(read.len(), PIECE + 6);
            assert_eq!(read.index().vector(3), gallery.index().vector(3));
        }
    }

    #[test]
    fn bad_input_is_refused_and_loses_nothing() {
        let (gallery, mut stream) = both(3, VectorType::F16);
        let id = ContentId::default();
        let refused = |result: Result<(), StreamError>| match result.unwrap_err() {
            StreamError::Gallery(error) => error,
            StreamError::File(error) => panic!("{error}"),
        };
        let short = stream.add_image(0, &[1.0; DIM - 1], id);
        assert_eq!(refused(short), GalleryError::Dimension { expected: DIM, got: DIM - 1 });
        assert_eq!(refused(stream.add_image(0, &[f32::NAN; DIM], id)), GalleryError::NotFinite);
        let none = GalleryError::NoClass { class: 5 };
        assert_eq!(refused(stream.add_image(5, &[1.0; DIM], id)), none);
        assert_eq!(refused(stream.set_thumbnail(5, &[1])), none);
        assert_eq!(refused(stream.describe_class(5, Metadata::new(), None)), none);
        assert_eq!(refused(stream.set_min_similarity(Some(f32::NAN))), GalleryError::NotFinite);
        let mut bytes = Vec::new();
        stream.finish(IndexConfig::Flat, &mut bytes).unwrap();
        assert_eq!(bytes, gallery.to_bytes());
    }
}
