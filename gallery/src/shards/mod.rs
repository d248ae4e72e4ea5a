//! A gallery in shards: what a page that cannot download all of it fetches for a query.
//!
//! Entries lie in lists by the nearest of many centroids; one that lies between lists is in several of
//! them, so that few lists answer. Each embedding is stored as its residual to the centroid, rotated onto
//! the residuals' principal axes, and quantized there with more bits for axes of more variance. A small
//! directory says which lists are near to a query and where their bytes are; these are fetched by HTTP
//! ranges, a list with its classes' labels in one piece. Metadata and thumbnail of a class lie behind the
//! lists and are fetched for the answers alone.
//!
//! Source: lists as in "Product Quantization for Nearest Neighbor Search" (TPAMI 2011, §IV), entries in
//! several lists as in "SPANN: Highly-efficient Billion-scale Approximate Nearest Neighborhood Search"
//! (2021, §3.2), bits by variance as in "Block Quantization" (Huang and Schultheiss, 1963).
//! Differences: no codebooks of vectors, since directions and steps take less room in the directory; the
//! length of what is coded is stored so that the product of an embedding with itself comes out right.
//!
//! docs/gallery-format.md draws the bytes.

mod block;
#[cfg(feature = "parallel")]
mod build;
mod coder;
mod directory;
#[cfg(feature = "parallel")]
mod eigen;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use crate::class::{Class, ContentId};
use crate::embedding::{check_embedding, check_stored, unit};
use crate::error::GalleryError;
use crate::gallery::{Adapted, Gallery};
use crate::index::{Hit, Metric, Search, VectorIndex, VectorType};
use crate::map::AdaptationMap;
use crate::metadata::Metadata;
use crate::sections::crc32;
use block::{Block, Place};
use coder::Transform;
use directory::Learned;

#[cfg(feature = "parallel")]
pub use build::ShardOptions;
pub use directory::{MAGIC as SHARDS_MAGIC, VERSION as SHARDS_VERSION};

/// Entries of a query's neighborhood: as many as rules of answering look at.
const NEIGHBORHOOD: usize = 64;
/// Lists that are thought of for a query.
const MOST_LISTS: usize = 256;
/// Bytes between two lists that are fetched with them rather than by another request.
const GAP: u64 = 2048;
/// The same between the metadata of two classes: these are small and many.
const METADATA_GAP: u64 = 16_384;

/// A gallery in shards, as files.
#[derive(Debug, Clone)]
pub struct Sharded {
    /// Read by [`Shards::from_bytes`].
    pub directory: Vec<u8>,
    /// In the order that the directory counts them in.
    pub shards: Vec<Vec<u8>>,
}

/// What may be fetched for one query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of lists.
    pub bytes: u64,
    /// Requests.
    pub requests: usize,
}

/// 64 kB in four requests: half a second at 1 Mbit/s, and as many requests as HTTP/1.1 browsers send at once
/// beside two of the page's own.
impl Default for Budget {
    fn default() -> Self {
        Self { bytes: 64_000, requests: 4 }
    }
}

/// Bytes of a shard that are fetched by one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Position of the file among the shards.
    pub shard: usize,
    /// Bytes of that file.
    pub range: Range<u64>,
    pieces: Pieces,
}

impl Part {
    /// Whether bytes of a place are fetched with it, at most so many bytes behind its end.
    fn reaches(&self, place: &Place, gap: u64) -> bool {
        self.shard == place.shard && place.range.start.saturating_sub(self.range.end) <= gap
    }
}

/// Parts with their bytes.
pub type Fetched = Vec<(Part, Vec<u8>)>;

/// What a part holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pieces {
    Lists(Range<usize>),
    /// Labels of classes, with where their metadata are.
    Metadata(Vec<(String, Place)>),
}

/// The directory of a sharded gallery, and what was fetched of its lists.
///
#[cfg_attr(feature = "parallel", doc = "```")]
#[cfg_attr(not(feature = "parallel"), doc = "```ignore")]
/// use gallery::{Budget, Class, Gallery, ShardOptions, Shards};
///
/// let mut gallery = Gallery::new(8, "my extractor");
/// for number in 0..40_u8 {
///     let label = format!("thing {number}");
///     let class = gallery.add_class(Class { label, ..Class::default() }, Vec::new());
///     let embedding = std::array::from_fn::<f32, 8, _>(|i| f32::from(number >> (i % 6) & 1) + 0.1);
///     gallery.add(class, &embedding)?;
/// }
/// let files = gallery.to_shards(&ShardOptions::default())?;
///
/// // A reader has the directory at once and fetches what a query needs.
/// let mut shards = Shards::from_bytes(&files.directory)?;
/// let query = gallery.index().vector(5).into_owned();
/// let budget = Budget::default();
/// for part in shards.missing([query.as_slice()], budget)? {
///     let range = part.range.start as usize..part.range.end as usize;
///     shards.take(&part, &files.shards[part.shard][range])?;
/// }
/// let near = shards.neighborhood(&query, budget)?;
/// let found = near.search(&query, 1)?;
/// assert_eq!(near.classes()[found[0].class].label, "thing 5");
/// # Ok::<(), gallery::GalleryError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Shards {
    map: Option<Arc<AdaptationMap>>,
    model: String,
    entries: usize,
    classes: usize,
    min_similarity: Option<f32>,
    calibration: Option<Learned>,
    transform: Transform,
    /// In the directions of the transform.
    centroids: VectorIndex,
    /// Where each list is, and its checksum.
    lists: Vec<(Place, u32)>,
    files: Vec<u64>,
    here: BTreeMap<usize, Block>,
    /// Of every class whose label is known: where the metadata about it are.
    metadata: HashMap<String, Place>,
    /// Metadata and thumbnails that are here.
    told: HashMap<String, (Metadata, Vec<u8>)>,
}

impl Shards {
    /// Values of an embedding as the extractor gives it.
    pub fn dim(&self) -> usize {
        self.map.as_ref().map_or(self.transform.dim, |map| map.dim())
    }

    /// Hash of the extractor's weights that made the embeddings.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Entries in all.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Classes in all.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Bytes of an embedding in a list.
    pub fn code_bytes(&self) -> usize {
        self.transform.residuals.bytes()
    }

    /// Lengths of the files, in bytes.
    pub fn shards(&self) -> &[u64] {
        &self.files
    }

    /// A gallery of this model without entries, for what is fetched and what is added.
    pub fn empty_gallery(&self) -> Gallery {
        let mut gallery = Gallery::new(self.transform.dim, self.model.clone());
        gallery.min_similarity = self.min_similarity;
        if let Some(Learned { rule, answers }) = &self.calibration {
            gallery.rule = *rule;
            gallery.calibration = Some(answers.clone());
        }
        if let Some(map) = &self.map {
            let originals =
                VectorIndex::new(map.dim(), Metric::InnerProduct, VectorType::default());
            gallery.adapted = Some(Adapted { map: map.clone(), originals: Some(originals) });
        }
        gallery
    }

    /// The lists that a query looks through: the nearest, as far as the budget reaches, and others near
    /// to it that are here anyway. What is here counts as well, so that the same query wants nothing the
    /// next time.
    ///
    /// # Shapes
    ///
    /// - `rotated`: `[components]`
    fn wanted(&self, rotated: &[f32], budget: Budget) -> Result<Vec<usize>, GalleryError> {
        let near = self.centroids.search(rotated, &Search::best(MOST_LISTS))?;
        let mut wanted: Vec<usize> = Vec::new();
        let mut planned: Vec<usize> = Vec::new();
        let mut room = true;
        for Hit { entry: list, .. } in near {
            planned.push(list);
            let parts = if room { self.joined(&planned) } else { Vec::new() };
            let bytes: u64 = parts.iter().map(|part| part.range.end - part.range.start).sum();
            // One list is looked through, however long it is.
            let alone = planned.len() == 1;
            let enough = bytes <= budget.bytes;
            room &= alone || enough;
            let fits = room && (alone || parts.len() <= budget.requests);
            if !fits {
                planned.pop();
            }
            if fits || self.here.contains_key(&list) {
                wanted.push(list);
            }
        }
        Ok(wanted)
    }

    /// An embedding in the directions of the directory.
    fn rotated(&self, embedding: &[f32]) -> Result<Vec<f32>, GalleryError> {
        if embedding.len() != self.dim() {
            return Err(GalleryError::Dimension { expected: self.dim(), got: embedding.len() });
        }
        check_embedding(embedding)?;
        let Some(map) = &self.map else { return Ok(self.transform.rotate(embedding)) };
        let unit = unit(embedding, map.dim())?;
        let mapped = map.apply(&unit).ok_or(GalleryError::ZeroLength)?;
        Ok(self.transform.rotate(&mapped))
    }

    /// The requests for some lists: neighbors in one file are fetched together.
    fn joined(&self, lists: &[usize]) -> Vec<Part> {
        let mut sorted = lists.to_vec();
        sorted.sort_unstable();
        let mut parts: Vec<Part> = Vec::new();
        for list in sorted {
            let place = &self.lists[list].0;
            let reached = parts.last().is_some_and(|part| part.reaches(place, GAP));
            if let Some(part) = parts.last_mut()
                && let Pieces::Lists(lists) = &mut part.pieces
                && reached
            {
                (part.range.end, lists.end) = (place.range.end, list + 1);
                continue;
            }
            let pieces = Pieces::Lists(list..list + 1);
            parts.push(Part { shard: place.shard, range: place.range.clone(), pieces });
        }
        parts
    }

    /// What has to be fetched before [`Self::neighborhood`] knows the entries near to some embeddings.
    ///
    /// # Shapes
    ///
    /// - `embeddings`: `[dim]` each, of unit length
    ///
    /// # Errors
    ///
    /// [`GalleryError::Dimension`], [`GalleryError::NotFinite`] or [`GalleryError::ZeroLength`].
    pub fn missing<'a>(
        &self,
        embeddings: impl IntoIterator<Item = &'a [f32]>,
        budget: Budget,
    ) -> Result<Vec<Part>, GalleryError> {
        let mut missing = BTreeSet::new();
        for embedding in embeddings {
            missing.extend(self.wanted(&self.rotated(embedding)?, budget)?);
        }
        missing.retain(|list| !self.here.contains_key(list));
        Ok(self.joined(&missing.into_iter().collect::<Vec<usize>>()))
    }

    /// What has to be fetched to know what is said about classes.
    pub fn missing_metadata<'a>(&self, labels: impl IntoIterator<Item = &'a str>) -> Vec<Part> {
        let wanted: BTreeSet<&str> =
            labels.into_iter().filter(|label| !self.told.contains_key(*label)).collect();
        let mut wanted: Vec<(String, Place)> = (wanted.into_iter())
            .filter_map(|label| Some((label.to_owned(), self.metadata.get(label)?.clone())))
            .collect();
        wanted.sort_by_key(|(_, place)| (place.shard, place.range.start));
        let mut parts: Vec<Part> = Vec::new();
        for (label, place) in wanted {
            let reached = parts.last().is_some_and(|part| part.reaches(&place, METADATA_GAP));
            if let Some(part) = parts.last_mut()
                && let Pieces::Metadata(pieces) = &mut part.pieces
                && reached
            {
                part.range.end = part.range.end.max(place.range.end);
                pieces.push((label, place));
                continue;
            }
            let (shard, range) = (place.shard, place.range.clone());
            parts.push(Part { shard, range, pieces: Pieces::Metadata(vec![(label, place)]) });
        }
        parts
    }

    /// The same parts in as many pieces as there are lists and classes in them: what was fetched joined
    /// to other pieces before may be had without a network piece by piece.
    pub fn apart(&self, parts: &[Part]) -> Vec<Part> {
        let one = |place: &Place, pieces: Pieces| Part {
            shard: place.shard,
            range: place.range.clone(),
            pieces,
        };
        let mut apart = Vec::new();
        for part in parts {
            match &part.pieces {
                Pieces::Lists(lists) => apart
                    .extend(lists.clone().map(|l| one(&self.lists[l].0, Pieces::Lists(l..l + 1)))),
                Pieces::Metadata(classes) => {
                    apart.extend(
                        classes.iter().map(|c| one(&c.1, Pieces::Metadata(vec![c.clone()]))),
                    );
                }
            }
        }
        apart
    }

    /// Takes the bytes of a part.
    ///
    /// # Errors
    ///
    /// [`GalleryError::Length`], [`GalleryError::Checksum`] or [`GalleryError::Inconsistent`] for bytes
    /// that are not the part's; nothing is taken then.
    pub fn take(&mut self, part: &Part, bytes: &[u8]) -> Result<(), GalleryError> {
        crate::sections::expect_length("part", part.range.end - part.range.start, bytes)?;
        let of = |place: &Place| {
            let start = (place.range.start - part.range.start) as usize;
            &bytes[start..start + (place.range.end - place.range.start) as usize]
        };
        match &part.pieces {
            Pieces::Lists(lists) => {
                let mut blocks = Vec::new();
                for list in lists.clone() {
                    let (place, checksum) = &self.lists[list];
                    if crc32(of(place)) != *checksum {
                        return Err(GalleryError::Checksum { what: "list" });
                    }
                    let code_bytes = self.transform.residuals.bytes();
                    blocks.push((list, Block::read(of(place), code_bytes, &self.files)?));
                }
                for (list, block) in blocks {
                    for (class, place) in &block.classes {
                        self.metadata.insert(class.label.clone(), place.clone());
                    }
                    self.here.insert(list, block);
                }
            }
            Pieces::Metadata(pieces) => {
                let mut told = Vec::new();
                for (label, place) in pieces {
                    let (metadata, thumbnail) = block::read_metadata(of(place))?;
                    told.push((label.clone(), (metadata, thumbnail.to_vec())));
                }
                self.told.extend(told);
            }
        }
        Ok(())
    }

    /// Forgets all that was fetched, once its lists take more than so many bytes.
    pub fn forget_beyond(&mut self, bytes: u64) {
        let length = |list: &usize| {
            let range = &self.lists[*list].0.range;
            range.end - range.start
        };
        if self.here.keys().map(length).sum::<u64>() > bytes {
            self.here.clear();
            self.metadata.clear();
            self.told.clear();
        }
    }

    /// The entries nearest to an embedding among the lists that are here, as a gallery.
    ///
    /// Its embeddings are what rounding left of the published ones; its classes have metadata and
    /// pictures where these are here.
    ///
    /// # Errors
    ///
    /// As [`Self::missing`]; [`GalleryError::ZeroLength`] and [`GalleryError::DoesNotFit`] also for entries
    /// that no gallery holds.
    pub fn neighborhood(&self, embedding: &[f32], budget: Budget) -> Result<Gallery, GalleryError> {
        let mut gallery = self.empty_gallery();
        gallery.forget_originals();
        let rotated = self.rotated(embedding)?;
        // An entry that is in several lists is taken from the one that has least to code.
        let mut nearest: HashMap<u32, (f32, f32, usize, usize)> = HashMap::new();
        for list in self.wanted(&rotated, budget)? {
            let Some(block) = self.here.get(&list) else { continue };
            let centroid = self.centroids.vector(list);
            let base: f32 = centroid.iter().zip(&rotated).map(|(c, q)| c * q).sum();
            for entry in 0..block.len() {
                let scale = block.scale(entry);
                let product = self.transform.residuals.product(block.code(entry), &rotated);
                let found = (scale, base + scale * product, list, entry);
                let known = nearest.entry(block.id(entry)).or_insert(found);
                if scale < known.0 {
                    *known = found;
                }
            }
        }
        let mut found: Vec<(u32, (f32, f32, usize, usize))> = nearest.into_iter().collect();
        found.sort_unstable_by(|a, b| b.1.1.total_cmp(&a.1.1).then(a.0.cmp(&b.0)));
        found.truncate(NEIGHBORHOOD);
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (id, (scale, _, list, entry)) in found {
            let block = &self.here[&list];
            let (class, _) = &block.classes[block.class(entry)];
            let place = *places.entry(class.label.as_str()).or_insert_with(|| {
                let (metadata, thumbnail) =
                    self.told.get(&class.label).cloned().unwrap_or_default();
                gallery.add_class(Class { metadata, ..class.clone() }, thumbnail)
            });
            let mut components = self.centroids.vector(list).into_owned();
            let add = |component: usize, value: f32| components[component] += scale * value;
            self.transform.residuals.decode(block.code(entry), add);
            let row = self.transform.back(&components);
            check_stored(&row, row.len(), gallery.index.positions(), VectorType::default())?;
            gallery.push_entry(place, &row, numbered(id))?;
        }
        Ok(gallery)
    }
}

/// An entry's number in the place of its picture, so that one that comes twice is known.
fn numbered(id: u32) -> ContentId {
    let mut picture = *b"in shards:      ";
    picture[12..].copy_from_slice(&id.to_le_bytes());
    ContentId(picture)
}

/// An index for centroids of so many components.
fn no_centroids(components: usize) -> VectorIndex {
    VectorIndex::new(components, Metric::InnerProduct, VectorType::F16)
}

#[cfg(all(test, feature = "parallel"))]
mod tests;
