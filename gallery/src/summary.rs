//! What a gallery file says of itself, read without its embeddings.

use std::io::{Read, Seek, SeekFrom};

use crate::answer_rule::AnswerRule;
use crate::check::each_piece;
use crate::class::{Class, Crop};
use crate::error::GalleryError;
use crate::format::{ENTRIES, HEADER, Header, LAYOUT, StreamError, TAKEN_OUT};
use crate::index::{IndexConfig, VectorType};
use crate::map::Adaptation;

/// What the header of a gallery file says, and how many entries the file holds.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Values of an embedding.
    pub dim: usize,
    /// How embeddings are stored.
    pub vector_type: VectorType,
    /// Entries that are there; what was taken out and is still in the file is not counted.
    pub entries: usize,
    /// The model that made the embeddings.
    pub model: String,
    /// How entries are found.
    pub index: IndexConfig,
    /// Least similarity of an answer, if it was measured.
    pub min_similarity: Option<f32>,
    /// The rule that it was measured with.
    pub rule: AnswerRule,
    /// Which part of an image its entries show.
    pub crop: Crop,
    /// What is said about the map of an adapted gallery.
    pub map: Option<Adaptation>,
    /// Classes, without their thumbnails.
    pub classes: Vec<Class>,
}

impl Summary {
    /// Reads it from a gallery file: the table of sections, the header and the classes of the entries, each against its
    /// checksum. Memory is taken for the header alone; embeddings, thumbnails and the index are not looked at.
    ///
    /// ```
    /// use gallery::{Class, Gallery, Summary};
    ///
    /// let mut gallery = Gallery::new(2, "model");
    /// let mug = Class { label: "mug".to_owned(), ..Class::default() };
    /// let mug = gallery.add_class(mug, vec![]);
    /// gallery.add(mug, &[0.6, 0.8])?;
    /// let mut file = std::io::Cursor::new(gallery.to_bytes());
    /// let summary = Summary::read(&mut file)?;
    /// assert_eq!((summary.entries, summary.classes[0].label.as_str()), (1, "mug"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`StreamError::Gallery`] for what is no gallery, or damaged there; [`StreamError::File`] for a file that cannot
    /// be read.
    pub fn read(file: &mut (impl Read + Seek)) -> Result<Self, StreamError> {
        let length = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        let mut head = Vec::new();
        file.take(LAYOUT.longest_head() as u64).read_to_end(&mut head)?;
        let table = LAYOUT.table(&head, length)?;
        let inconsistent = |what: String| GalleryError::Inconsistent { what };
        let place = |kind: usize| {
            let place = table.places.iter().find(|place| place.kind == kind);
            place.ok_or_else(|| inconsistent(format!("it has no {}", LAYOUT.names[kind - 1])))
        };
        let mut stored = Vec::new();
        each_piece(file, place(HEADER)?, 1, &mut |piece| {
            stored.extend_from_slice(piece);
            Ok(())
        })?;
        let header = Header::read(&stored, table.version)?;
        let mut entries = 0;
        each_piece(file, place(ENTRIES)?, 4, &mut |piece| {
            let live = |class: &&[u8]| **class != TAKEN_OUT.to_le_bytes();
            entries += piece.chunks_exact(4).filter(live).count();
            Ok(())
        })?;
        Ok(Self {
            dim: header.dim,
            vector_type: header.vector_type,
            entries,
            model: header.model,
            index: header.index,
            min_similarity: header.min_similarity,
            rule: header.rule,
            crop: header.crop,
            map: header.map,
            classes: header.classes.into_iter().map(Class::from).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::gallery::Gallery;

    fn some() -> Gallery {
        let mut gallery = Gallery::new(4, "m");
        for label in ["ant", "bee"] {
            let metadata = [("price".to_owned(), "9".to_owned())].into_iter().collect();
            let class = Class { label: label.to_owned(), metadata, min_similarity: Some(0.5) };
            let class = gallery.add_class(class, vec![7; 100]);
            for number in 0..20 {
                gallery.add(class, &[1.0, class as f32, number as f32, 2.0]).unwrap();
            }
        }
        gallery.set_index(IndexConfig::Hnsw { m: 4, ef_construction: 20 }).unwrap();
        gallery.remove_entries(&[3, 4]).unwrap();
        gallery
    }

    #[test]
    fn it_says_what_the_gallery_says() {
        let gallery = some();
        let summary = Summary::read(&mut Cursor::new(gallery.to_bytes())).unwrap();
        assert_eq!(summary.entries, gallery.len());
        assert_eq!((summary.dim, summary.model.as_str()), (4, "m"));
        assert_eq!(summary.classes, gallery.classes());
        assert_eq!(summary.index, gallery.index().config());
        assert_eq!(summary.min_similarity, gallery.min_similarity());
        assert_eq!((summary.crop, summary.map), (gallery.crop(), None));
    }

    #[test]
    fn damage_in_what_is_read_is_found_and_other_damage_is_not_looked_for() {
        let bytes = some().to_bytes();
        let read = |bytes: &[u8]| Summary::read(&mut Cursor::new(bytes));
        for length in [0, 7, 31, 100, bytes.len() - 1] {
            let error = read(&bytes[..length]).unwrap_err();
            assert!(matches!(error, StreamError::Gallery(_)), "{length}: {error}");
        }
        // The header begins behind the table.
        let text = bytes.windows(5).position(|window| window == b"\"dim\"").unwrap();
        let mut damaged = bytes.clone();
        damaged[text + 1] ^= 1;
        let error = read(&damaged).unwrap_err();
        let expected = GalleryError::Checksum { what: "header" };
        assert!(matches!(error, StreamError::Gallery(error) if error == expected));
        let mut damaged = bytes.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(
            Gallery::from_bytes(&damaged)
                .is_err_and(|error| error == GalleryError::Checksum { what: "index" })
        );
        assert!(read(&damaged).is_ok());
    }
}
