//! What a gallery in memory and one on its way into a file have in common: classes and entries come in.

use std::io::{Read, Seek, Write};

use crate::class::{Class, ContentId};
use crate::format::StreamError;
use crate::gallery::Gallery;
use crate::metadata::Metadata;
use crate::stream::GalleryStream;

/// A gallery that classes and entries are added to. The same calls give the same file.
pub trait Growing {
    /// All classes.
    fn all_classes(&self) -> &[Class];

    /// Position of the entry that is added next.
    fn next_entry(&self) -> usize;

    /// Class of an entry; `None` for one that is not there.
    fn class_of(&self, entry: usize) -> Option<usize>;

    /// The embedding of an entry as it is stored, `[dim]`; `None` for one that is not there.
    ///
    /// # Errors
    ///
    /// [`StreamError::File`]
    fn embedding_of(&mut self, entry: usize) -> Result<Option<Vec<f32>>, StreamError>;

    /// Whether a class has a thumbnail.
    fn shows(&self, class: usize) -> bool;

    /// Adds a class without a thumbnail and returns its position.
    ///
    /// # Errors
    ///
    /// [`StreamError::File`]
    fn put_class(&mut self, class: Class) -> Result<usize, StreamError>;

    /// Gives a class another thumbnail, an encoded image.
    ///
    /// # Errors
    ///
    /// [`GalleryError::NoClass`](crate::GalleryError::NoClass), [`StreamError::File`]
    fn put_thumbnail(&mut self, class: usize, thumbnail: Vec<u8>) -> Result<(), StreamError>;

    /// Gives a class other metadata. Its threshold stays.
    ///
    /// # Errors
    ///
    /// [`GalleryError::NoClass`](crate::GalleryError::NoClass)
    fn put_metadata(&mut self, class: usize, metadata: Metadata) -> Result<(), StreamError>;

    /// Adds an embedding of a class, brought to unit length, with the id of its image.
    ///
    /// # Errors
    ///
    /// As [`Gallery::add_image`], or [`StreamError::File`].
    fn put_entry(
        &mut self,
        class: usize,
        embedding: &[f32],
        content_id: ContentId,
    ) -> Result<(), StreamError>;
}

impl Growing for Gallery {
    fn all_classes(&self) -> &[Class] {
        self.classes()
    }

    fn next_entry(&self) -> usize {
        self.index().positions()
    }

    fn class_of(&self, entry: usize) -> Option<usize> {
        (entry < self.next_entry()).then(|| self.entry_class(entry))
    }

    fn embedding_of(&mut self, entry: usize) -> Result<Option<Vec<f32>>, StreamError> {
        let is_there = entry < self.next_entry();
        Ok(is_there.then(|| self.index().vector(entry).into_owned()))
    }

    fn shows(&self, class: usize) -> bool {
        !self.thumbnail(class).is_empty()
    }

    fn put_class(&mut self, class: Class) -> Result<usize, StreamError> {
        Ok(self.add_class(class, Vec::new()))
    }

    fn put_thumbnail(&mut self, class: usize, thumbnail: Vec<u8>) -> Result<(), StreamError> {
        Ok(self.set_thumbnail(class, thumbnail)?)
    }

    fn put_metadata(&mut self, class: usize, metadata: Metadata) -> Result<(), StreamError> {
        let threshold = self.classes().get(class).and_then(|class| class.min_similarity);
        Ok(self.describe_class(class, metadata, threshold)?)
    }

    fn put_entry(
        &mut self,
        class: usize,
        embedding: &[f32],
        content_id: ContentId,
    ) -> Result<(), StreamError> {
        Ok(self.add_image(class, embedding, content_id)?)
    }
}

impl<S: Read + Write + Seek> Growing for GalleryStream<S> {
    fn all_classes(&self) -> &[Class] {
        self.classes()
    }

    fn next_entry(&self) -> usize {
        self.len()
    }

    fn class_of(&self, entry: usize) -> Option<usize> {
        self.entry_class(entry)
    }

    fn embedding_of(&mut self, entry: usize) -> Result<Option<Vec<f32>>, StreamError> {
        self.vector(entry)
    }

    fn shows(&self, class: usize) -> bool {
        self.has_thumbnail(class)
    }

    fn put_class(&mut self, class: Class) -> Result<usize, StreamError> {
        self.add_class(class, &[])
    }

    fn put_thumbnail(&mut self, class: usize, thumbnail: Vec<u8>) -> Result<(), StreamError> {
        self.set_thumbnail(class, &thumbnail)
    }

    fn put_metadata(&mut self, class: usize, metadata: Metadata) -> Result<(), StreamError> {
        let threshold = self.classes().get(class).and_then(|class| class.min_similarity);
        self.describe_class(class, metadata, threshold)
    }

    fn put_entry(
        &mut self,
        class: usize,
        embedding: &[f32],
        content_id: ContentId,
    ) -> Result<(), StreamError> {
        self.add_image(class, embedding, content_id)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::error::GalleryError;
    use crate::index::{IndexConfig, VectorType};

    fn grow(gallery: &mut impl Growing) {
        let class = |label: &str| Class { label: label.to_owned(), ..Class::default() };
        let mug = gallery.put_class(class("mug")).unwrap();
        let cup = gallery.put_class(Class { min_similarity: Some(0.5), ..class("cup") }).unwrap();
        assert!(!gallery.shows(mug));
        gallery.put_thumbnail(mug, vec![1, 2, 3]).unwrap();
        assert!(gallery.shows(mug) && !gallery.shows(cup));
        for (entry, class) in [mug, cup, mug].into_iter().enumerate() {
            assert_eq!(gallery.next_entry(), entry);
            let embedding = [1.0, entry as f32, 0.0, 0.0];
            gallery.put_entry(class, &embedding, ContentId::of(&[entry as u8])).unwrap();
        }
        let metadata: Metadata = serde_json::from_str(r#"{"price": "9 €"}"#).unwrap();
        gallery.put_metadata(cup, metadata.clone()).unwrap();
        assert_eq!(gallery.all_classes()[cup].metadata, metadata);
        assert_eq!(gallery.all_classes()[cup].min_similarity, Some(0.5), "it stays");

        assert_eq!((gallery.class_of(1), gallery.class_of(3)), (Some(cup), None));
        assert_eq!(gallery.embedding_of(0).unwrap(), Some(vec![1.0, 0.0, 0.0, 0.0]));
        assert_eq!(gallery.embedding_of(3).unwrap(), None);
        let error = gallery.put_entry(7, &[1.0; 4], ContentId::default()).unwrap_err();
        let no_class =
            |error| matches!(error, StreamError::Gallery(GalleryError::NoClass { class: 7 }));
        assert!(no_class(error));
        assert!(no_class(gallery.put_metadata(7, metadata).unwrap_err()));
        assert!(no_class(gallery.put_thumbnail(7, vec![1]).unwrap_err()));
    }

    #[test]
    fn the_same_calls_give_the_same_file() {
        for vector_type in VectorType::ALL {
            let mut whole = Gallery::with_type(4, "model", vector_type);
            grow(&mut whole);
            let scratch = || Cursor::new(Vec::new());
            let mut stream = GalleryStream::new(4, "model", vector_type, [scratch(), scratch()]);
            grow(&mut stream);
            let mut file = Vec::new();
            stream.finish(IndexConfig::Flat, &mut file).unwrap();
            assert!(file == whole.to_bytes(), "{vector_type}");
        }
    }
}
