//! A gallery file is looked over without being held in memory.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};

use crate::error::GalleryError;
use crate::format::StreamError;
use crate::format::{
    CONTENT_ID_LENGTH, CONTENT_IDS, EMBEDDINGS, ENTRIES, FACTORS, HEADER, Header, LAYOUT, MAP,
    TAKEN_OUT, THUMBNAILS, float, read_map, read_rows,
};
use crate::gallery::Gallery;
use crate::index::{Metric, VectorIndex, VectorType};
use crate::limits::{MAX_DIM, MAX_ENTRIES};
use crate::map::AdaptationMap;
use crate::sections::Place;

/// Longest file that is read whole: then what the index walks is looked at, too.
const WHOLE: u64 = 16 << 20;
/// The largest similarity: rounding leaves that of an entry with itself a little above 1.
const MOST_SIMILAR: f32 = 1.001;
/// Bytes that are read at once of a longer one.
const PIECE: usize = 1 << 20;

/// Whether a gallery file can be read: its length, every checksum, classes, values. Of a file of more than 16 MiB
/// a piece at a time is in memory, beside what is said about the classes, and of its index only the checksum is
/// looked at.
///
/// # Errors
///
/// [`StreamError::Gallery`] as [`Gallery::from_bytes`] gives it, [`StreamError::File`] for a file that cannot be read.
pub fn check_file(file: &mut (impl Read + Seek)) -> Result<(), StreamError> {
    let length = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    if length <= WHOLE {
        let mut bytes = Vec::with_capacity(length as usize);
        file.take(length).read_to_end(&mut bytes)?;
        return Ok(Gallery::from_bytes(&bytes).map(drop)?);
    }
    check_long(file, length)
}

impl Gallery {
    /// Whether answers can come of what the gallery holds: every entry has a direction, with the map and without it,
    /// no label names two classes, and no threshold is beyond what a cosine can be.
    ///
    /// # Errors
    ///
    /// [`GalleryError::ZeroEntry`], and [`GalleryError::Unanswerable`], which says what mends it.
    pub fn check_answers(&self) -> Result<(), GalleryError> {
        self.check_entries()?;
        let unanswerable = |what: String| Err(GalleryError::Unanswerable { what });
        if self.map().is_some() {
            let is_nothing = |entry: &usize| self.index().vector(*entry).iter().all(|v| *v == 0.0);
            if let Some(entry) = self.entries().find(is_nothing) {
                return unanswerable(format!(
                    "its map leaves nothing of entry {entry}; learn another map, or take this one away"
                ));
            }
        }
        let mut labels = BTreeSet::new();
        for class in self.classes() {
            if !labels.insert(class.label.as_str()) {
                return unanswerable(format!(
                    "two classes have the label {:?}; give one of them another",
                    class.label
                ));
            }
        }
        let is_beyond = |least: &f32| !(-MOST_SIMILAR..=MOST_SIMILAR).contains(least);
        if let Some(least) = self.min_similarity().filter(is_beyond) {
            return unanswerable(format!(
                "its threshold is {least}, and similarities go from -1 to 1; measure it again"
            ));
        }
        for class in self.classes() {
            if let Some(least) = class.min_similarity.filter(is_beyond) {
                return unanswerable(format!(
                    "the threshold of class {:?} is {least}, and similarities go from -1 to 1; give it another",
                    class.label
                ));
            }
        }
        Ok(())
    }
}

fn check_long(file: &mut (impl Read + Seek), length: u64) -> Result<(), StreamError> {
    let inconsistent = |what: String| GalleryError::Inconsistent { what };
    let mut head = Vec::new();
    file.take(LAYOUT.longest_head() as u64).read_to_end(&mut head)?;
    let table = LAYOUT.table(&head, length)?;
    let place = |kind: usize| table.places.iter().find(|place| place.kind == kind);
    let there = |kind: usize| {
        let what = LAYOUT.names[kind - 1];
        place(kind).ok_or_else(|| inconsistent(format!("it has no {what}")))
    };
    let mut stored = Vec::new();
    each_piece(file, there(HEADER)?, 1, &mut |piece| {
        stored.extend_from_slice(piece);
        Ok(())
    })?;
    let header = Header::read(&stored, table.version)?;
    let (dim, entries, vector_type) = (header.dim, header.entries, header.vector_type);
    if dim == 0 || dim > MAX_DIM || entries > MAX_ENTRIES {
        return Err(inconsistent(format!("{entries} entries of width {dim}")).into());
    }
    let width = dim * vector_type.bytes() as usize;
    let lengths = header.classes.iter().map(|class| class.thumbnail_length as u64);
    let thumbnails = lengths.fold(0, u64::saturating_add);
    for kind in header.kinds() {
        let expected = match kind {
            ENTRIES | FACTORS => entries as u64 * 4,
            EMBEDDINGS => entries as u64 * width as u64,
            CONTENT_IDS if table.version == 1 => continue,
            CONTENT_IDS => (entries * CONTENT_ID_LENGTH) as u64,
            THUMBNAILS => thumbnails,
            MAP => header.map.map_or(0, |map| AdaptationMap::bytes(map.values, dim)),
            _ => there(kind)?.length,
        };
        let got = there(kind)?.length;
        if got != expected {
            return Err(GalleryError::Length { what: LAYOUT.names[kind - 1], expected, got }.into());
        }
    }
    let mut factors = Vec::new();
    if vector_type == VectorType::I8 {
        each_piece(file, there(FACTORS)?, 4, &mut |piece| {
            factors.extend(piece.chunks_exact(4).map(float));
            Ok(())
        })?;
    }
    let (classes, version) = (header.classes.len(), table.version);
    let mut row = 0;
    for place in &table.places {
        match place.kind {
            // These are looked at already.
            HEADER | FACTORS => (),
            ENTRIES => each_piece(file, place, 4, &mut |piece| {
                let of = piece
                    .chunks_exact(4)
                    .map(|b| u32::from_le_bytes(std::array::from_fn(|i| b[i])));
                let is_known =
                    |class: u32| (class as usize) < classes || class == TAKEN_OUT && version > 1;
                match of.into_iter().find(|class| !is_known(*class)) {
                    Some(class) => {
                        Err(inconsistent(format!("entry of class {class} among {classes}")))
                    }
                    None => Ok(()),
                }
            })?,
            EMBEDDINGS => each_piece(file, place, width, &mut |piece| {
                let mut index = VectorIndex::new(dim, Metric::InnerProduct, vector_type);
                let count = piece.len() / width;
                let of_piece = factors.get(row..row + count).unwrap_or_default();
                row += count;
                read_rows(&mut index, piece, of_piece)
            })?,
            MAP => {
                let mut bytes = Vec::new();
                each_piece(file, place, 1, &mut |piece| {
                    bytes.extend_from_slice(piece);
                    Ok(())
                })?;
                header.map.map_or(Ok(()), |about| read_map(about, dim, &bytes).map(drop))?;
            }
            _ => each_piece(file, place, 1, &mut |_| Ok(()))?,
        }
    }
    Ok(())
}

/// Reads a section in pieces of whole rows, and checks it.
pub(crate) fn each_piece(
    file: &mut (impl Read + Seek),
    place: &Place,
    row: usize,
    look: &mut dyn FnMut(&[u8]) -> Result<(), GalleryError>,
) -> Result<(), StreamError> {
    file.seek(SeekFrom::Start(place.start))?;
    let mut checksum = crc32fast::Hasher::new();
    let mut buffer = vec![0; (PIECE / row).max(1) * row];
    let mut rest = place.length;
    while rest > 0 {
        let length = rest.min(buffer.len() as u64);
        let piece = &mut buffer[..length as usize];
        file.read_exact(piece)?;
        checksum.update(piece);
        look(piece)?;
        rest -= length;
    }
    if checksum.finalize() == place.checksum {
        return Ok(());
    }
    Err(GalleryError::Checksum { what: LAYOUT.names[place.kind - 1] }.into())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::class::{Class, ContentId};
    use crate::index::IndexConfig;
    use crate::sections::forged;

    fn some(vector_type: VectorType, config: IndexConfig) -> Vec<u8> {
        let mut gallery = Gallery::with_type(6, "m", vector_type);
        for class in 0..3_u8 {
            let class = Class { label: format!("{class}"), ..Class::default() };
            gallery.add_class(class, vec![1, 2, 3]);
        }
        for entry in 0..40_usize {
            let embedding: Vec<f32> =
                (0..6).map(|i| ((entry * 31 + i * 17) as f32).sin()).collect();
            gallery.add_image(entry % 3, &embedding, ContentId::of(&[entry as u8])).unwrap();
        }
        gallery.set_index(config).unwrap();
        gallery.remove(5).unwrap();
        gallery.to_bytes()
    }

    fn looked_over(bytes: &[u8]) -> Result<(), GalleryError> {
        match check_long(&mut Cursor::new(bytes), bytes.len() as u64) {
            Err(StreamError::Gallery(error)) => Err(error),
            Err(StreamError::File(error)) => panic!("{error}"),
            Ok(()) => Ok(()),
        }
    }

    #[test]
    fn what_can_be_read_passes_in_pieces_and_whole() {
        for vector_type in [VectorType::F16, VectorType::F32, VectorType::I8] {
            let hnsw = IndexConfig::Hnsw { m: 2, ef_construction: 8 };
            for config in
                [IndexConfig::Flat, hnsw, IndexConfig::Ivf { lists: 2 }, IndexConfig::Binary]
            {
                let bytes = some(vector_type, config);
                looked_over(&bytes).unwrap();
                check_file(&mut Cursor::new(&bytes)).unwrap();
            }
        }
    }

    #[test]
    fn what_keeps_a_gallery_from_answering_is_named() {
        let whole = Gallery::from_bytes(&some(VectorType::F16, IndexConfig::Flat)).unwrap();
        assert_eq!(whole.check_answers(), Ok(()));
        let told = |gallery: &Gallery| {
            // It is read as it is.
            let read = Gallery::from_bytes(&gallery.to_bytes()).unwrap();
            match read.check_answers() {
                Err(GalleryError::Unanswerable { what }) => what,
                other => panic!("{other:?}"),
            }
        };
        let mut twice = whole.clone();
        twice.add_class(Class { label: "1".to_owned(), ..Class::default() }, vec![]);
        assert_eq!(told(&twice), "two classes have the label \"1\"; give one of them another");
        for least in [5.0, -1.5] {
            let mut never = whole.clone();
            never.set_min_similarity(Some(least)).unwrap();
            assert!(told(&never).starts_with(&format!("its threshold is {least}, and")));
        }
        let mut silent = whole.clone();
        silent.describe_class(2, crate::Metadata::default(), Some(5.0)).unwrap();
        assert!(told(&silent).starts_with("the threshold of class \"2\" is 5, and"));
        let mut close = whole;
        close.set_min_similarity(Some(1.000_03)).unwrap();
        assert_eq!(close.check_answers(), Ok(()));
    }

    #[test]
    fn what_reading_refuses_is_refused_in_pieces() {
        let bytes = some(VectorType::F16, IndexConfig::Binary);
        let infinite =
            forged(&bytes, EMBEDDINGS as u32, |rows| rows[12..14].copy_from_slice(&[0, 0x7c]));
        assert_eq!(looked_over(&infinite), Err(GalleryError::NotFinite));
        assert_eq!(Gallery::from_bytes(&infinite).unwrap_err(), GalleryError::NotFinite);
        let stranger = forged(&bytes, ENTRIES as u32, |classes| classes[0] = 9);
        assert!(matches!(looked_over(&stranger), Err(GalleryError::Inconsistent { .. })));
        let factors = some(VectorType::I8, IndexConfig::Flat);
        let factors =
            forged(&factors, FACTORS as u32, |f| f[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
        assert_eq!(looked_over(&factors), Err(GalleryError::NotFinite));
        assert!(matches!(looked_over(&bytes[..bytes.len() - 1]), Err(GalleryError::Length { .. })));
        assert_eq!(looked_over(b"MAGPIE"), Err(GalleryError::NotAGallery));
        // A flipped bit anywhere but between the sections, which nobody reads.
        let table = LAYOUT.table(&bytes, bytes.len() as u64).unwrap();
        for place in table.places {
            for at in [place.start, place.start + place.length - 1] {
                let mut flipped = bytes.clone();
                flipped[at as usize] ^= 1;
                assert!(looked_over(&flipped).is_err(), "{place:?}");
            }
        }
    }
}
