//! Labeled embeddings of one extractor.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use crate::answer_rule::AnswerRule;
use crate::calibration::Calibration;
use crate::class::{Class, ContentId, Crop};
use crate::error::GalleryError;
use crate::index::{Metric, VectorIndex, VectorType};
use crate::map::AdaptationMap;

/// Cosine from which on entries of an image show the same part of it: what rounding to another value type leaves.
const SAME_PART: f32 = 0.9995;

/// Labeled embeddings of one extractor.
///
/// ```
/// use gallery::{Class, Gallery, IndexConfig};
///
/// let class = |label: &str| Class { label: label.to_owned(), ..Class::default() };
/// let mut gallery = Gallery::new(2, "my extractor");
/// let east = gallery.add_class(class("east"), Vec::new());
/// let north = gallery.add_class(class("north"), Vec::new());
/// gallery.add(east, &[1.0, 0.1])?;
/// gallery.add(north, &[0.0, 5.0])?;
///
/// // The most similar class first, with the cosine.
/// let found = gallery.search(&[3.0, 0.3], 2)?;
/// assert_eq!((found[0].class, found.len()), (east, 2));
/// assert!(found[0].similarity > 0.999);
///
/// // With many entries a graph answers sooner than the scan.
/// gallery.set_index(IndexConfig::hnsw())?;
/// gallery.rename_class(north, "up")?;
/// gallery.remove_class(east)?;
///
/// let bytes = gallery.to_bytes();
/// let loaded = Gallery::from_bytes(&bytes)?;
/// assert_eq!((loaded.len(), loaded.classes()[0].label.as_str()), (1, "up"));
/// # Ok::<(), gallery::GalleryError>(())
/// ```
#[derive(Clone)]
pub struct Gallery {
    pub(crate) model: String,
    pub(crate) classes: Vec<Class>,
    pub(crate) thumbnails: Vec<Thumbnail>,
    pub(crate) entry_classes: Vec<u32>,
    pub(crate) content_ids: Vec<ContentId>,
    /// What is searched: rows behind the map where there is one.
    pub(crate) index: VectorIndex,
    pub(crate) adapted: Option<Adapted>,
    /// Least cosine of an answer, as measured on held-out images.
    pub(crate) min_similarity: Option<f32>,
    /// The rule that it was measured with.
    pub(crate) rule: AnswerRule,
    /// What was learned with that rule about answers.
    pub(crate) calibration: Option<Calibration>,
    /// Which part of an image its entries show.
    pub(crate) crop: Crop,
    /// The mean embedding of every class, computed at the first search by class mean.
    pub(crate) class_means: OnceLock<VectorIndex>,
}

/// What makes a gallery an adapted one.
#[derive(Clone)]
pub(crate) struct Adapted {
    pub(crate) map: Arc<AdaptationMap>,
    /// The entries as the extractor gave them, at the positions that they have in the index; `None` for what was
    /// fetched of shards, which hold what is behind the map alone.
    pub(crate) originals: Option<VectorIndex>,
}

/// An encoded image, usually a JPEG.
pub(crate) type Thumbnail = Vec<u8>;

impl std::fmt::Debug for Gallery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gallery")
            .field("dim", &self.dim())
            .field("model", &self.model)
            .field("classes", &self.classes.len())
            .field("entries", &self.len())
            .field("index", &self.index.config())
            .field("map", &self.map())
            .finish_non_exhaustive()
    }
}

impl Gallery {
    /// An empty gallery for embeddings of `dim` values made by `model` (a hash of its weights),
    /// stored as 16-bit floats and scanned exactly.
    pub fn new(dim: usize, model: impl Into<String>) -> Self {
        Self::with_type(dim, model, VectorType::default())
    }

    /// An empty gallery whose embeddings are stored in another way.
    pub fn with_type(dim: usize, model: impl Into<String>, vector_type: VectorType) -> Self {
        Self {
            model: model.into(),
            classes: Vec::new(),
            thumbnails: Vec::new(),
            entry_classes: Vec::new(),
            content_ids: Vec::new(),
            index: VectorIndex::new(dim, Metric::InnerProduct, vector_type),
            adapted: None,
            min_similarity: None,
            rule: AnswerRule::default(),
            calibration: None,
            crop: Crop::default(),
            class_means: OnceLock::new(),
        }
    }

    pub(crate) fn class(&self, class: usize) -> Result<&Class, GalleryError> {
        self.classes.get(class).ok_or(GalleryError::NoClass { class })
    }

    /// Values of an embedding as the extractor gives it.
    pub fn dim(&self) -> usize {
        self.adapted.as_ref().map_or(self.index.dim(), |adapted| adapted.map.dim())
    }

    /// The map between embeddings and what is searched, where the gallery is adapted.
    pub fn map(&self) -> Option<&AdaptationMap> {
        self.adapted.as_ref().map(|adapted| &*adapted.map)
    }

    /// Entries as they are in a file: as the extractor gave them, where these are known.
    pub(crate) fn stored(&self) -> &VectorIndex {
        let originals = self.adapted.as_ref().and_then(|adapted| adapted.originals.as_ref());
        originals.unwrap_or(&self.index)
    }

    /// Whether an entry shows another part of an image than the entries of `parts`, which it joins then: an image
    /// may have several entries.
    pub(crate) fn is_new_part(&self, entry: usize, parts: &mut Vec<usize>) -> bool {
        let row = self.index.vector(entry);
        let is_same = |part: &usize| {
            let other = self.index.vector(*part);
            let product =
                |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(x, y)| x * y).sum() };
            let lengths = product(&row, &row) * product(&other, &other);
            product(&row, &other) > SAME_PART * lengths.sqrt()
        };
        let is_new = !parts.iter().any(is_same);
        if is_new {
            parts.push(entry);
        }
        is_new
    }

    /// The content id of an entry, or a hash of its embedding if the source is unknown. It stays the same however the
    /// positions of entries change.
    ///
    /// # Panics
    ///
    /// For a position that never was.
    pub fn identity(&self, entry: usize) -> ContentId {
        let picture = self.content_ids[entry];
        if picture.is_known() {
            return picture;
        }
        let values = self.embedding(entry);
        ContentId::of(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// The embedding of an entry as the extractor gave it, but for rounding, `[dim]`. What was fetched of the
    /// shards of an adapted gallery has what is behind the map alone.
    ///
    /// # Panics
    ///
    /// For a position that never was.
    pub fn embedding(&self, entry: usize) -> Cow<'_, [f32]> {
        self.stored().vector(entry)
    }

    /// Hash of the extractor's weights that made the embeddings.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Which part of an image becomes an entry here.
    pub fn crop(&self) -> Crop {
        self.crop
    }

    /// Keeps which part of an image becomes an entry, for images that are added later.
    pub fn set_crop(&mut self, crop: Crop) {
        self.crop = crop;
    }

    /// All classes.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The first class of a label.
    pub fn class_by_label(&self, label: &str) -> Option<usize> {
        self.classes.iter().position(|class| class.label == label)
    }

    /// The encoded thumbnail of a class; empty if it has none.
    pub fn thumbnail(&self, class: usize) -> &[u8] {
        self.thumbnails.get(class).map_or(&[], Vec::as_slice)
    }

    /// Positions of the entries, in order; with gaps if entries were removed.
    pub fn entries(&self) -> impl Iterator<Item = usize> {
        (0..self.index.positions()).filter(|entry| self.index.contains(*entry))
    }

    /// Class of an entry.
    ///
    /// # Panics
    ///
    /// For a position that never was.
    pub fn entry_class(&self, entry: usize) -> usize {
        self.entry_classes[entry] as usize
    }

    /// Image that an entry was made from.
    ///
    /// # Panics
    ///
    /// For a position that never was.
    pub fn content_id(&self, entry: usize) -> ContentId {
        self.content_ids[entry]
    }

    /// Number of entries of every class.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        self.entries().for_each(|entry| counts[self.entry_class(entry)] += 1);
        counts
    }

    /// How entries are searched. Its rows are behind the map where the gallery is adapted.
    pub fn index(&self) -> &VectorIndex {
        &self.index
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Fails unless the gallery was made by `model`.
    ///
    /// # Errors
    ///
    /// [`GalleryError::OtherModel`]
    pub fn check_model(&self, model: &str) -> Result<(), GalleryError> {
        if self.model == model {
            return Ok(());
        }
        Err(GalleryError::OtherModel { gallery: self.model.clone(), model: model.to_owned() })
    }

    /// Fails unless `other` holds embeddings that can be compared with these.
    ///
    /// # Errors
    ///
    /// [`GalleryError::OtherModel`], [`GalleryError::Dimension`]
    pub fn check_comparable(&self, other: &Self) -> Result<(), GalleryError> {
        other.check_model(&self.model)?;
        if other.dim() == self.dim() {
            return Ok(());
        }
        Err(GalleryError::Dimension { expected: self.dim(), got: other.dim() })
    }
}
