//! A gallery's file becomes records again, so that its owner goes on with it without the photographs.

use std::collections::BTreeMap;

use anyhow::Context;
use models::gallery::{ContentId, Crop, Gallery};

use super::Workshop;
use crate::memory::{Body, Memory, Seen};
use crate::record::Record;

/// A class of an opened gallery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedClass {
    /// Its name.
    pub label: String,
    /// Names and texts.
    pub metadata: Vec<(String, String)>,
    /// A JPEG; empty if the gallery has none of it.
    pub thumbnail: Vec<u8>,
}

/// What a gallery has of a photograph.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenedPhoto {
    /// The place of its class.
    pub class: usize,
    /// Its embeddings, as [`Workshop::know`] takes them.
    pub record: Record,
}

/// A gallery that was opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// The part of a photograph that its entries are of.
    pub crop: Crop,
    /// In the gallery's order.
    pub classes: Vec<OpenedClass>,
    /// In the order of their entries.
    pub photos: Vec<OpenedPhoto>,
}

impl Workshop {
    /// Reads the file of a gallery, and that of its thumbnails if they are apart. Embeddings are taken as they are
    /// stored, without the map that was learned from them; thresholds and rule are learned anew.
    ///
    /// # Errors
    ///
    /// A file that is no gallery, and a gallery of another extractor.
    pub fn open_gallery(&self, bytes: &[u8], thumbnails: Option<&[u8]>) -> anyhow::Result<Opened> {
        let mut gallery = Gallery::from_bytes(bytes).context("the gallery")?;
        gallery.check_model(&self.model)?;
        if let Some(bytes) = thumbnails {
            let apart = Gallery::from_bytes(bytes).context("the thumbnails of the gallery")?;
            gallery.take_thumbnails(&apart)?;
        }
        let crop = gallery.crop();
        let classes: Vec<OpenedClass> = (gallery.classes().iter().enumerate())
            .map(|(place, class)| OpenedClass {
                label: class.label.clone(),
                metadata: class.metadata.clone().into_iter().collect(),
                thumbnail: gallery.thumbnail(place).to_vec(),
            })
            .collect();
        let of_photo = if crop == Crop::Both { 2 } else { 1 };
        let mut places: BTreeMap<ContentId, usize> = BTreeMap::new();
        let mut found: Vec<(usize, ContentId, Vec<Vec<f32>>)> = Vec::new();
        for entry in gallery.entries() {
            let (class, id) = (gallery.entry_class(entry), gallery.content_id(entry));
            let embedding = gallery.embedding(entry).into_owned();
            let known = places.get(&id).and_then(|place| found.get_mut(*place));
            match known {
                Some((of, _, rows)) if *of == class && rows.len() < of_photo => {
                    rows.push(embedding);
                }
                known => {
                    // An entry of nothing known, or one more of what another class has, gets an id of its own.
                    let own = known.is_some() || id == ContentId::default();
                    let id = if own { id_of(entry, &embedding) } else { id };
                    places.insert(id, found.len());
                    found.push((class, id, vec![embedding]));
                }
            }
        }
        let photos = found.into_iter().map(|(class, id, rows)| {
            let mut memory = Memory::default();
            memory.put(id, seen(rows, crop));
            let thumbnail = classes[class].thumbnail.clone();
            let record = Record { id, memory, figure: thumbnail.clone(), thumbnail };
            OpenedPhoto { class, record }
        });
        Ok(Opened { crop, photos: photos.collect(), classes })
    }
}

/// An id that depends on the entry alone.
fn id_of(entry: usize, embedding: &[f32]) -> ContentId {
    let mut bytes = (entry as u64).to_le_bytes().to_vec();
    bytes.extend(embedding.iter().flat_map(|value| value.to_le_bytes()));
    ContentId::of(&bytes)
}

/// Embeddings as a look at the photograph would have given them; what is not known is taken from what is.
fn seen(rows: Vec<Vec<f32>>, crop: Crop) -> Seen {
    let (first, several) = (rows.first().cloned(), rows.len() > 1);
    let last = rows.into_iter().next_back();
    let main = match (crop, last) {
        (Crop::Main, Some(last)) => Body::Found(last),
        (Crop::Both, Some(last)) if several => Body::Found(last),
        _ => Body::Nothing,
    };
    Seen { whole: first.clone(), middle: first, main }
}
