//! Photographs become entries.

use std::collections::HashMap;
use std::path::Path;

use models::gallery::{Class, ContentId, Gallery, Growing, check_embedding};
use models::image::RgbImage;
use models::recognizer::class_thumbnail;
use rayon::prelude::*;

use crate::crops::Cropper;
use crate::label::Labels;
use crate::photos::{Event, Listener, Photos};
use crate::picture::{PictureError, PictureProblem, decode_picture};

/// Photographs decoded and embedded at once.
const CHUNK: usize = 16;

/// What adding photographs came to.
#[derive(Debug, Default)]
pub struct Added {
    /// Photographs that became entries.
    pub added: usize,
    /// Photographs that their classes had.
    pub known: usize,
    /// The content of every photograph; `None` of one that was left out.
    pub contents: Vec<Option<ContentId>>,
}

/// Adds what a gallery does not have yet, in the order of the list; `known` and `classes` are those of the gallery, and
/// `classes` take up the new ones. The same photographs give the same entries, however many of them the cropper knows already.
///
/// # Errors
///
/// A network that failed, embeddings that cannot be compared, a gallery that takes no more, what `tell` says.
pub fn add(
    gallery: &mut impl Growing,
    mut known: Known,
    classes: &mut Labels,
    photos: &dyn Photos,
    cropper: &mut Cropper<'_>,
    tell: &mut Listener<'_>,
) -> anyhow::Result<Added> {
    let mut done = Added::default();
    let places: Vec<usize> = (0..photos.count()).collect();
    for chunk in places.chunks(CHUNK) {
        if let Some(memory) = photos.remembered(chunk)? {
            // All come so: what was known of those before is needed no more.
            cropper.memory = memory;
        }
        let mut read = Vec::with_capacity(chunk.len());
        for (place, content) in chunk.iter().zip(read_all(photos, chunk, &known, cropper)) {
            match content {
                Ok((id, picture)) => {
                    done.contents.push(Some(id));
                    read.push((*place, id, picture));
                }
                Err(error) => {
                    done.contents.push(None);
                    tell(Event::LeftOut { error: &error })?;
                }
            }
        }
        let fresh: Vec<(ContentId, &RgbImage, &Path)> = (read.iter())
            .filter(|(_, id, _)| !cropper.knows(*id))
            .filter_map(|(place, id, picture)| Some((*id, picture.as_ref()?, photos.path(*place))))
            .collect();
        let embedded = cropper.embed(&fresh)?;
        let ids = fresh.iter().map(|(id, ..)| *id);
        let embedded: HashMap<ContentId, Vec<Vec<f32>>> = ids.zip(embedded).collect();
        for (place, id, picture) in read {
            let (label, path) = (photos.label(place), photos.path(place));
            let embeddings = match embedded.get(&id) {
                Some(embeddings) => embeddings.clone(),
                None => match cropper.known(id) {
                    Some(embeddings) => embeddings,
                    None => known.vectors(gallery, id)?,
                },
            };
            if embeddings.is_empty() {
                anyhow::bail!("{}: has no embedding", path.display());
            }
            if let Err(error) = embeddings.iter().try_for_each(|row| check_embedding(row)) {
                done.contents[place] = None;
                tell(Event::LeftOut { error: &PictureError::new(path, error) })?;
                continue;
            }
            let class = class_of(gallery, classes, label)?;
            if !gallery.shows(class) {
                // A picture that is known was not decoded.
                let thumbnail = match picture {
                    Some(picture) => Some(class_thumbnail(&picture)?),
                    None => photos.class_thumbnail(place),
                };
                if let Some(thumbnail) = thumbnail {
                    gallery.put_thumbnail(class, thumbnail)?;
                }
            }
            let other = known.other_class(gallery, class, id);
            if known.insert(gallery, class, id, embeddings.len()) {
                if let Some(other) = other {
                    let other = gallery.all_classes()[other].label.clone();
                    tell(Event::Shared { path, label, other: &other })?;
                }
                for embedding in &embeddings {
                    gallery.put_entry(class, embedding, id)?;
                }
                done.added += 1;
            } else {
                done.known += 1;
            }
        }
        let photographs = done.contents.len();
        tell(Event::Done { photos: photographs, of: photos.count(), memory: &cropper.memory })?;
    }
    Ok(done)
}

/// The class of a label, which is made if it is not there.
fn class_of(
    gallery: &mut impl Growing,
    classes: &mut Labels,
    label: &str,
) -> anyhow::Result<usize> {
    if let Some(class) = classes.find(label) {
        return Ok(class);
    }
    let class = gallery.put_class(Class { label: label.to_owned(), ..Class::default() })?;
    classes.insert(label, class);
    Ok(class)
}

/// Where photographs are in a gallery.
#[derive(Debug, Default)]
pub struct Known {
    /// Positions of the entries of a photograph.
    entries: HashMap<ContentId, Vec<usize>>,
}

impl Known {
    /// Those of a gallery with entries.
    pub fn of(gallery: &Gallery) -> Self {
        let mut entries: HashMap<ContentId, Vec<usize>> = HashMap::new();
        for entry in gallery.entries() {
            entries.entry(gallery.content_id(entry)).or_default().push(entry);
        }
        entries.remove(&ContentId::default());
        Self { entries }
    }

    fn contains(&self, id: ContentId) -> bool {
        self.entries.contains_key(&id)
    }

    /// The embeddings of a photograph's entries in one class, of which there are several if its parts are entries.
    fn vectors(&self, gallery: &mut impl Growing, id: ContentId) -> anyhow::Result<Vec<Vec<f32>>> {
        let Some(entries) = self.entries.get(&id) else { return Ok(Vec::new()) };
        let class = entries.first().and_then(|entry| gallery.class_of(*entry));
        let mut vectors = Vec::new();
        for entry in entries {
            if gallery.class_of(*entry) == class {
                vectors.extend(gallery.embedding_of(*entry)?);
            }
        }
        Ok(vectors)
    }

    /// Another class that has the photograph.
    fn other_class(&self, gallery: &impl Growing, class: usize, id: ContentId) -> Option<usize> {
        let entries = self.entries.get(&id)?;
        entries.iter().filter_map(|entry| gallery.class_of(*entry)).find(|other| *other != class)
    }

    /// Takes note of the next entries of the gallery, `count` of them; `false` where the class has the photograph.
    fn insert(
        &mut self,
        gallery: &impl Growing,
        class: usize,
        id: ContentId,
        count: usize,
    ) -> bool {
        let entries = self.entries.entry(id).or_default();
        if entries.iter().any(|entry| gallery.class_of(*entry) == Some(class)) {
            return false;
        }
        let next = gallery.next_entry();
        entries.extend(next..next + count);
        true
    }
}

/// Reads photographs on all threads and decodes those that are not known, in order.
fn read_all(
    photos: &dyn Photos,
    places: &[usize],
    known: &Known,
    cropper: &Cropper<'_>,
) -> Vec<Result<(ContentId, Option<RgbImage>), PictureError>> {
    let (memory, crop) = (&cropper.memory, cropper.crop());
    places
        .par_iter()
        .map(|place| {
            let (id, bytes) = photos.read(*place)?;
            if known.contains(id) || memory.entries(id, crop).is_some() {
                return Ok((id, None));
            }
            let path = photos.path(*place);
            let bytes =
                bytes.ok_or_else(|| PictureError::new(path, PictureProblem::NotLookedAt))?;
            let picture = decode_picture(path, &bytes)?;
            if picture.is_one_color() {
                return Err(PictureError::new(path, PictureProblem::OneColor));
            }
            Ok((id, Some(picture)))
        })
        .collect()
}
