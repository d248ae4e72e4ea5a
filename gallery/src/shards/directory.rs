//! The directory of a sharded gallery as bytes.

use std::collections::{BTreeMap, HashMap};
#[cfg(feature = "parallel")]
use std::io::Write;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::coder::{Coder, MOST_BITS, Transform};
use super::{GalleryError, Place, Shards, no_centroids};
use crate::answer_rule::AnswerRule;
use crate::calibration::Calibration;
use crate::index::Bytes;
use crate::limits::{MAX_DIM, MAX_ENTRIES};
use crate::map::{Adaptation, AdaptationMap};
use crate::sections::Layout;

/// First bytes of every directory.
pub const MAGIC: [u8; 8] = *b"MAGPIESH";

/// The newest version that this program reads; it came with adapted galleries and calibrations.
pub const VERSION: u32 = 2;
/// Version of the directory of a gallery that has neither.
#[cfg(feature = "parallel")]
const PLAIN_VERSION: u32 = 1;

const LAYOUT: Layout = Layout {
    magic: MAGIC,
    version: VERSION,
    names: &["header", "directions", "steps", "centroids", "lists", "map"],
};
const HEADER: usize = 1;
const DIRECTIONS: usize = 2;
const STEPS: usize = 3;
const CENTROIDS: usize = 4;
const LISTS: usize = 5;
const MAP: usize = 6;

/// Most lists that are read.
const MAX_LISTS: usize = 1 << 20;
/// Most files.
const MAX_SHARDS: usize = 1 << 16;
/// Longest file, in bytes.
const MAX_SHARD_BYTES: u64 = 1 << 30;
/// Longest list, in bytes.
const MAX_LIST_BYTES: u64 = 1 << 24;
/// Largest step or factor: parts of vectors of unit length are no larger.
const LARGEST: f32 = 4.0;
/// Most bytes of a code.
const MAX_CODE_BYTES: usize = 4096;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    dim: usize,
    components: usize,
    entries: usize,
    classes: usize,
    model: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_similarity: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calibration: Option<Learned>,
    lists: usize,
    /// Since version 2; `dim` is the width behind it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    map: Option<StoredMap>,
    shards: Vec<Stored>,
}

/// What was learned about answers, and with which rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Learned {
    pub(super) rule: AnswerRule,
    pub(super) answers: Calibration,
}

/// What the header says about the map of an adapted gallery.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredMap {
    /// Values of an embedding as the extractor gives it.
    dim: usize,
    about: Adaptation,
}

/// One of the shards.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    bytes: u64,
    /// Lists in it; they lie one behind the other from its beginning.
    lists: usize,
}

/// A direction as it is stored: whole numbers and what they are multiplied with.
pub(super) struct Direction {
    pub(super) scale: f32,
    pub(super) values: Vec<i8>,
}

impl Direction {
    #[cfg(feature = "parallel")]
    pub(super) fn new(values: &[f32]) -> Self {
        let largest = values.iter().fold(f32::MIN_POSITIVE, |most, v| most.max(v.abs()));
        let scale = largest / 127.0;
        Self { scale, values: values.iter().map(|v| (v / scale).round() as i8).collect() }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = f32> {
        self.values.iter().map(|v| f32::from(*v) * self.scale)
    }
}

/// What is written into a directory.
#[cfg(feature = "parallel")]
pub(super) struct Directory<'a> {
    pub(super) model: &'a str,
    pub(super) map: Option<&'a AdaptationMap>,
    pub(super) entries: usize,
    pub(super) classes: usize,
    pub(super) min_similarity: Option<f32>,
    pub(super) calibration: Option<Learned>,
    pub(super) transform: &'a Transform,
    pub(super) directions: &'a [Direction],
    /// Of every centroid.
    pub(super) codes: &'a [Vec<u8>],
    /// Length and checksum of every list.
    pub(super) lists: &'a [(u32, u32)],
    /// Length of every file, and lists in it.
    pub(super) shards: &'a [(u64, usize)],
}

#[cfg(feature = "parallel")]
impl Directory<'_> {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let stored = |(bytes, lists): &(u64, usize)| Stored { bytes: *bytes, lists: *lists };
        let header = Header {
            dim: self.transform.dim,
            components: self.directions.len(),
            entries: self.entries,
            classes: self.classes,
            model: self.model.to_owned(),
            min_similarity: self.min_similarity,
            calibration: self.calibration.clone(),
            lists: self.lists.len(),
            map: self.map.map(|map| StoredMap { dim: map.dim(), about: map.about() }),
            shards: self.shards.iter().map(stored).collect(),
        };
        let mut section = |kind: usize, writer: &mut dyn Write| match kind {
            HEADER => writer.write_all(&serde_json::to_vec(&header)?),
            DIRECTIONS => {
                for direction in self.directions {
                    writer.write_all(&direction.scale.to_le_bytes())?;
                }
                self.directions
                    .iter()
                    .flat_map(|d| &d.values)
                    .try_for_each(|value| writer.write_all(&value.to_le_bytes()))
            }
            STEPS => [&self.transform.centroids, &self.transform.residuals].iter().try_for_each(
                |coder| {
                    writer.write_all(&coder.bits)?;
                    coder.steps.iter().try_for_each(|step| writer.write_all(&step.to_le_bytes()))
                },
            ),
            MAP => self.map.map_or(Ok(()), |map| map.write(writer)),
            CENTROIDS => self.codes.iter().try_for_each(|code| writer.write_all(code)),
            _ => self.lists.iter().try_for_each(|(length, checksum)| {
                writer.write_all(&length.to_le_bytes())?;
                writer.write_all(&checksum.to_le_bytes())
            }),
        };
        let mut bytes = Vec::new();
        let count = if self.map.is_some() { MAP } else { LISTS };
        let is_newer = self.map.is_some() || self.calibration.is_some();
        let version = if is_newer { VERSION } else { PLAIN_VERSION };
        let kinds = &[HEADER, DIRECTIONS, STEPS, CENTROIDS, LISTS, MAP][..count];
        LAYOUT.write(version, kinds, &mut section, &mut bytes).expect("memory takes every byte");
        bytes
    }
}

impl Shards {
    /// Reads the directory of a sharded gallery.
    ///
    /// # Errors
    ///
    /// [`GalleryError`], whose message says whether to update the program or to publish again.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, GalleryError> {
        let sections = LAYOUT.read(bytes)?;
        let wrong = |what: String| GalleryError::Inconsistent { what };
        let header: Header = serde_json::from_slice(sections.bytes(HEADER)?)
            .map_err(|error| wrong(format!("header: {error}")))?;
        let Header { dim, components, lists, .. } = header;
        let is_adapted = header.map.is_some();
        let is_newer = is_adapted || header.calibration.is_some();
        if is_adapted != sections.has(MAP) || is_newer != (sections.version >= VERSION) {
            return Err(wrong("a map or a calibration that is not its version's".to_owned()));
        }
        if let Some(Learned { rule, .. }) = &header.calibration {
            rule.check().map_err(wrong)?;
            if header.min_similarity.is_none() {
                return Err(wrong("header: a calibration without a threshold".to_owned()));
            }
        }
        let map = match &header.map {
            Some(map) if map.about.values == dim && map.dim <= MAX_DIM => {
                let read = AdaptationMap::read(map.about, map.dim, sections.bytes(MAP)?);
                Some(Arc::new(read.ok_or_else(|| wrong("values of its map".to_owned()))?))
            }
            Some(_) => return Err(wrong("width of its map".to_owned())),
            None => None,
        };
        let fits = (1..=MAX_DIM).contains(&dim)
            && (1..=dim).contains(&components)
            && header.entries <= MAX_ENTRIES
            && lists <= MAX_LISTS
            && header.shards.len() <= MAX_SHARDS
            && header.shards.iter().all(|shard| shard.bytes <= MAX_SHARD_BYTES);
        if !fits {
            let what = format!("{lists} lists, {components} components of width {dim}");
            return Err(wrong(what));
        }
        let stored = sections.of_length(DIRECTIONS, (components * (4 + dim)) as u64)?;
        let (scales, values) = stored.split_at(components * 4);
        let mut scales = Bytes(scales);
        let mut directions = Vec::with_capacity(components * dim);
        for row in values.chunks_exact(dim) {
            let values = row.iter().map(|b| i8::from_le_bytes([*b])).collect();
            let scale = scales.floats(1)?[0];
            if scale.abs() > LARGEST {
                return Err(wrong("length of a direction".to_owned()));
            }
            directions.extend(Direction { scale, values }.values());
        }
        let mut steps = Bytes(sections.of_length(STEPS, components as u64 * 10)?);
        let mut coder = || -> Result<Coder, GalleryError> {
            let bits = steps.take(components)?.to_vec();
            let coder = Coder { bits, steps: steps.floats(components)? };
            let wide = coder.bits.iter().any(|bits| *bits > MOST_BITS);
            let far = coder.steps.iter().any(|step| step.abs() > LARGEST);
            if wide || far || coder.bytes() > MAX_CODE_BYTES {
                return Err(wrong("bits or steps of a code".to_owned()));
            }
            Ok(coder)
        };
        let transform = Transform { dim, directions, centroids: coder()?, residuals: coder()? };

        let length = transform.centroids.bytes();
        let codes = sections.of_length(CENTROIDS, (lists * length) as u64)?;
        let mut centroids = no_centroids(components);
        for list in 0..lists {
            centroids.add(&transform.centroid(&codes[list * length..][..length]))?;
        }
        let mut stored = Bytes(sections.of_length(LISTS, lists as u64 * 8)?);
        let mut places = Vec::with_capacity(lists);
        for (shard, file) in header.shards.iter().enumerate() {
            let mut end = 0;
            if file.lists > lists - places.len() {
                return Err(wrong("more lists in its shards than in all".to_owned()));
            }
            for _ in 0..file.lists {
                let (start, length) = (end, u64::from(stored.u32()?));
                end = start + length;
                if length > MAX_LIST_BYTES {
                    return Err(wrong(format!("a list of {length} bytes")));
                }
                places.push((Place { shard, range: start..end }, stored.u32()?));
            }
            if end > file.bytes {
                return Err(wrong("a list beyond its shard".to_owned()));
            }
        }
        if places.len() != lists {
            return Err(wrong("lists without a place".to_owned()));
        }
        Ok(Self {
            map,
            model: header.model,
            entries: header.entries,
            classes: header.classes,
            min_similarity: header.min_similarity.filter(|least| least.is_finite()),
            calibration: header.calibration,
            transform,
            centroids,
            lists: places,
            files: header.shards.iter().map(|shard| shard.bytes).collect(),
            here: BTreeMap::new(),
            metadata: HashMap::new(),
            told: HashMap::new(),
        })
    }
}
