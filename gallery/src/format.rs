//! Bytes of a gallery; docs/gallery-format.md draws them.
//!
//! A file of [sections](super::sections), little-endian throughout:
//!
//! | kind | section | since | content |
//! |---|---|---|---|
//! | 1 | header | 1 | JSON: width, value type, number of entries, model, index, classes with their thumbnails' lengths |
//! | 2 | entries | 1 | class of every entry, 4 bytes each; all ones for an entry that was taken out |
//! | 3 | embeddings | 1 | `[entries, dim]` row-major, 1 (i8), 2 (f16) or 4 (f32) bytes per value |
//! | 4 | thumbnails | 1 | encoded pictures, one behind the other in class order |
//! | 5 | factors | 2 | of every entry, f32; only where values are i8 |
//! | 6 | content ids | 2 | of every entry, 16 bytes: the first half of the SHA-256 of its file |
//! | 7 | index | 2 | what a search walks; only where it is not a scan |
//! | 8 | map | 3 | of an adapted gallery: offsets and factors, f32, then `[values, dim]`, i8 |
//!
//! Every length is checked against the file before it is used, and every checksum before a section
//! is read, so damaged bytes give a [`GalleryError`] and never a wrong answer.

use std::io::Write;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};

use half::f16;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::answer_rule::AnswerRule;
use crate::calibration::Calibration;
use crate::class::{Class, ContentId, Crop};
use crate::error::GalleryError;
use crate::gallery::{Adapted, Gallery};
use crate::index::{IndexConfig, IndexError, Metric, VectorIndex, VectorType};
use crate::limits::{MAX_DIM, MAX_ENTRIES};
use crate::map::{Adaptation, AdaptationMap};
use crate::mapped::mapped_rows;
use crate::metadata::Metadata;
use crate::sections::{Layout, expect_length};

/// First bytes of every gallery.
pub const MAGIC: [u8; 8] = *b"MAGPIEGL";

/// The newest version that this program reads. A gallery that has nothing of version 3 is written as version 2,
/// byte for byte as programs write it that know no version 3.
pub const VERSION: u32 = 3;
/// Version of a gallery that has nothing newer.
const PLAIN_VERSION: u32 = 2;

/// Factors of 8-bit numbers that are read: larger ones belong to no unit vector.
const FACTORS_READ: RangeInclusive<f32> = 0.0..=1.0;
/// Class of an entry that was taken out.
pub(crate) const TAKEN_OUT: u32 = u32::MAX;
/// Bytes of a [`ContentId`].
pub(crate) const CONTENT_ID_LENGTH: usize = 16;

/// The file and its sections.
pub(crate) const LAYOUT: Layout = Layout {
    magic: MAGIC,
    version: VERSION,
    names: &[
        "header",
        "entries",
        "embeddings",
        "thumbnails",
        "factors",
        "content ids",
        "index",
        "map",
    ],
};
pub(crate) const HEADER: usize = 1;
pub(crate) const ENTRIES: usize = 2;
pub(crate) const EMBEDDINGS: usize = 3;
pub(crate) const THUMBNAILS: usize = 4;
pub(crate) const FACTORS: usize = 5;
pub(crate) const CONTENT_IDS: usize = 6;
const INDEX: usize = 7;
pub(crate) const MAP: usize = 8;

/// Why a gallery could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StreamError {
    /// A scratch file or the gallery file.
    #[error(transparent)]
    File(std::io::Error),
    /// What was to be added, or a gallery that nobody could read.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
}

impl From<std::io::Error> for StreamError {
    fn from(error: std::io::Error) -> Self {
        error.downcast().map_or_else(Self::File, Self::Gallery)
    }
}

impl From<IndexError> for StreamError {
    fn from(error: IndexError) -> Self {
        Self::Gallery(error.into())
    }
}

impl VectorType {
    pub(crate) const fn bytes(self) -> u64 {
        match self {
            Self::I8 => 1,
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    pub(crate) dim: usize,
    pub(crate) vector_type: VectorType,
    pub(crate) entries: usize,
    pub(crate) model: String,
    #[serde(default)]
    pub(crate) index: IndexConfig,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) min_similarity: Option<f32>,
    #[serde(default, skip_serializing_if = "AnswerRule::is_nearest")]
    pub(crate) rule: AnswerRule,
    /// Since version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) calibration: Option<Calibration>,
    /// Since version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) map: Option<Adaptation>,
    /// Since version 3.
    #[serde(default, skip_serializing_if = "Crop::is_never")]
    pub(crate) crop: Crop,
    pub(crate) classes: Vec<StoredClass>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredClass {
    label: String,
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    metadata: Metadata,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_similarity: Option<f32>,
    pub(crate) thumbnail_length: usize,
}

impl Header {
    /// The least version whose readers know all that the header says: an optional member that came with a
    /// version is named here.
    pub(crate) fn version(&self) -> u32 {
        let has_newer = self.map.is_some() || self.calibration.is_some() || !self.crop.is_never();
        if has_newer { VERSION } else { PLAIN_VERSION }
    }

    /// The sections of a file.
    pub(crate) fn kinds(&self) -> Vec<usize> {
        (1..=LAYOUT.names.len())
            .filter(|kind| match *kind {
                FACTORS => self.vector_type == VectorType::I8,
                INDEX => self.index != IndexConfig::Flat,
                MAP => self.map.is_some(),
                _ => true,
            })
            .collect()
    }

    /// Reads the header of a file of some version.
    ///
    /// # Errors
    ///
    /// [`GalleryError::Inconsistent`], also for members of another version.
    pub(crate) fn read(bytes: &[u8], version: u32) -> Result<Self, GalleryError> {
        let inconsistent = |what: String| GalleryError::Inconsistent { what };
        let header: Self = serde_json::from_slice(bytes)
            .map_err(|error| inconsistent(format!("header: {error}")))?;
        header.rule.check().map_err(inconsistent)?;
        if header.calibration.is_some() && header.min_similarity.is_none() {
            return Err(inconsistent("header: a calibration without a threshold".to_owned()));
        }
        // One gallery has one form.
        if header.version() == version.max(PLAIN_VERSION) {
            return Ok(header);
        }
        Err(inconsistent("header: members that are not those of its version".to_owned()))
    }

    pub(crate) fn write(&self, writer: &mut dyn Write) -> std::io::Result<()> {
        writer.write_all(&serde_json::to_vec(self)?)
    }
}

impl StoredClass {
    /// A class whose picture has so many bytes.
    pub(crate) fn of(class: &Class, thumbnail_length: usize) -> Self {
        let Class { label, metadata, min_similarity } = class.clone();
        // JSON has no other numbers.
        let min_similarity = min_similarity.filter(|least| least.is_finite());
        Self { label, metadata, min_similarity, thumbnail_length }
    }
}

impl From<StoredClass> for Class {
    fn from(StoredClass { label, metadata, min_similarity, .. }: StoredClass) -> Self {
        Self { label, metadata, min_similarity }
    }
}

/// Fails for what no reader takes, before anything is written.
pub(crate) fn check_size(dim: usize, entries: usize) -> Result<(), GalleryError> {
    if (1..=MAX_DIM).contains(&dim) && entries <= MAX_ENTRIES {
        return Ok(());
    }
    let what = format!(
        "a gallery of {entries} entries of {dim} values cannot be written: there may be \
         {MAX_ENTRIES} of 1 to {MAX_DIM}"
    );
    Err(GalleryError::Options { what })
}

/// Writes the values of all rows as the file has them; fails for those that no reader takes.
pub(crate) fn write_rows(index: &VectorIndex, writer: &mut dyn Write) -> std::io::Result<()> {
    let vector_type = index.vector_type();
    let refused = |entry, value| {
        Err(std::io::Error::other(GalleryError::DoesNotFit { entry, value, vector_type }))
    };
    let mut row = Vec::new();
    for entry in 0..index.positions() {
        row.clear();
        match vector_type {
            VectorType::I8 => {
                let (codes, factor) = index.stored_codes(entry);
                if !FACTORS_READ.contains(&factor) {
                    return refused(entry, factor * 127.0);
                }
                row.extend(codes.iter().map(|code| code.to_le_bytes()[0]));
            }
            VectorType::F16 => {
                for value in index.vector(entry).iter() {
                    let half = f16::from_f32(*value);
                    if !half.is_finite() {
                        return refused(entry, *value);
                    }
                    row.extend(half.to_le_bytes());
                }
            }
            VectorType::F32 => {
                index.vector(entry).iter().for_each(|v| row.extend(v.to_le_bytes()));
            }
        }
        writer.write_all(&row)?;
    }
    Ok(())
}

impl Gallery {
    /// The gallery as a file; the same gallery gives the same bytes.
    ///
    /// # Panics
    ///
    /// Where [`Self::write_to`] refuses the gallery: for a width that no file has, or what was fetched of shards.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes).expect("memory takes every byte");
        bytes
    }

    /// Writes the file piece by piece.
    ///
    /// # Errors
    ///
    /// What the writer says. A gallery that nobody could read is not written: [`GalleryError::Options`],
    /// [`GalleryError::DoesNotFit`].
    pub fn write_to(&self, writer: &mut dyn Write) -> Result<(), StreamError> {
        check_size(self.dim(), self.index.positions())?;
        if !self.has_originals() {
            let what = "what was fetched of shards is no gallery to be written";
            return Err(GalleryError::Options { what: what.to_owned() }.into());
        }
        let header = self.header();
        let mut section = |kind, writer: &mut dyn Write| self.write_section(kind, &header, writer);
        Ok(LAYOUT.write(header.version(), &header.kinds(), &mut section, writer)?)
    }

    fn write_section(
        &self,
        kind: usize,
        header: &Header,
        writer: &mut dyn Write,
    ) -> std::io::Result<()> {
        let mut positions = 0..self.index.positions();
        match kind {
            HEADER => header.write(writer),
            ENTRIES => positions.try_for_each(|entry| {
                let there = self.index.contains(entry);
                let class = if there { self.entry_classes[entry] } else { TAKEN_OUT };
                writer.write_all(&class.to_le_bytes())
            }),
            EMBEDDINGS => write_rows(self.stored(), writer),
            THUMBNAILS => self.thumbnails.iter().try_for_each(|picture| writer.write_all(picture)),
            FACTORS => positions
                .try_for_each(|e| writer.write_all(&self.stored().stored_codes(e).1.to_le_bytes())),
            MAP => self.map().map_or(Ok(()), |map| map.write(writer)),
            CONTENT_IDS => {
                self.content_ids.iter().try_for_each(|picture| writer.write_all(&picture.0))
            }
            _ => self.index.write_structure(writer),
        }
    }

    fn header(&self) -> Header {
        let classes = self.classes.iter().zip(&self.thumbnails);
        Header {
            dim: self.dim(),
            vector_type: self.index.vector_type(),
            entries: self.index.positions(),
            model: self.model.clone(),
            index: self.index.config(),
            min_similarity: self.min_similarity,
            rule: self.measured_rule().unwrap_or_default(),
            calibration: self.calibration().cloned(),
            map: self.map().map(AdaptationMap::about),
            crop: self.crop,
            classes: classes
                .map(|(class, picture)| StoredClass::of(class, picture.len()))
                .collect(),
        }
    }

    /// Reads a gallery.
    ///
    /// # Errors
    ///
    /// [`GalleryError`], whose message says whether to update the program or to fetch or build the
    /// gallery again.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, GalleryError> {
        let sections = LAYOUT.read(bytes)?;
        let since = |version: u32, mut kinds: std::ops::RangeInclusive<usize>| {
            sections.version < version && kinds.any(|kind| sections.has(kind))
        };
        if since(2, FACTORS..=INDEX) || since(3, MAP..=MAP) {
            let what = "sections that its version does not have".to_owned();
            return Err(GalleryError::Inconsistent { what });
        }
        let header = Header::read(sections.bytes(HEADER)?, sections.version)?;
        if sections.has(MAP) != header.map.is_some() {
            let what = "a map of which its header says nothing, or the other way round".to_owned();
            return Err(GalleryError::Inconsistent { what });
        }
        let (dim, entries) = (header.dim, header.entries);
        if dim == 0 || dim > MAX_DIM || entries > MAX_ENTRIES {
            return Err(GalleryError::Inconsistent {
                what: format!("{entries} entries of width {dim}"),
            });
        }
        let classes_of = sections.of_length(ENTRIES, entries as u64 * 4)?;
        let value_bytes = entries as u64 * dim as u64 * header.vector_type.bytes();
        let values = sections.of_length(EMBEDDINGS, value_bytes)?;
        let content_ids = match sections.version {
            1 => vec![ContentId::default(); entries],
            _ => sections
                .of_length(CONTENT_IDS, (entries * CONTENT_ID_LENGTH) as u64)?
                .chunks_exact(CONTENT_ID_LENGTH)
                .map(|b| ContentId(std::array::from_fn(|i| b[i])))
                .collect(),
        };
        let factors: Vec<f32> = match header.vector_type {
            VectorType::I8 => {
                let stored = sections.of_length(FACTORS, entries as u64 * 4)?;
                stored.chunks_exact(4).map(float).collect()
            }
            _ => Vec::new(),
        };
        let mut stored = VectorIndex::new(dim, Metric::InnerProduct, header.vector_type);
        stored.reserve(entries);
        read_rows(&mut stored, values, &factors)?;
        let (mut index, mut adapted) = match header.map {
            Some(about) => {
                let map = Arc::new(read_map(about, dim, sections.bytes(MAP)?)?);
                (mapped_rows(&map, &stored)?, Some(Adapted { map, originals: Some(stored) }))
            }
            None => (stored, None),
        };
        let mut originals = adapted.as_mut().and_then(|adapted| adapted.originals.as_mut());
        let entry_classes: Vec<u32> = classes_of
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        for (entry, class) in entry_classes.iter().enumerate() {
            if *class == TAKEN_OUT && sections.version > 1 {
                index.remove(entry)?;
                if let Some(originals) = &mut originals {
                    originals.remove(entry)?;
                }
            } else if *class as usize >= header.classes.len() {
                let what = format!("entry of class {class} among {}", header.classes.len());
                return Err(GalleryError::Inconsistent { what });
            }
        }
        let structure = match header.index {
            IndexConfig::Flat => &[],
            _ => sections.bytes(INDEX)?,
        };
        index.read_structure(header.index, structure)?;

        let mut rest = sections.bytes(THUMBNAILS)?;
        let mut classes = Vec::with_capacity(header.classes.len());
        let mut thumbnails = Vec::with_capacity(header.classes.len());
        for stored in header.classes {
            let Some((picture, tail)) = rest.split_at_checked(stored.thumbnail_length) else {
                return Err(GalleryError::Length {
                    what: "thumbnails",
                    expected: stored.thumbnail_length as u64,
                    got: rest.len() as u64,
                });
            };
            rest = tail;
            thumbnails.push(picture.to_vec());
            let StoredClass { label, metadata, min_similarity, .. } = stored;
            classes.push(Class { label, metadata, min_similarity });
        }
        expect_length("thumbnails", 0, rest)?;
        Ok(Self {
            model: header.model,
            classes,
            thumbnails,
            entry_classes,
            content_ids,
            index,
            adapted,
            min_similarity: header.min_similarity,
            rule: header.rule,
            calibration: header.calibration,
            crop: header.crop,
            class_means: OnceLock::new(),
        })
    }
}

pub(crate) fn float(bytes: &[u8]) -> f32 {
    f32::from_le_bytes(std::array::from_fn(|i| bytes[i]))
}

/// The map of an adapted gallery; fails for values that no map has.
pub(crate) fn read_map(
    about: Adaptation,
    dim: usize,
    bytes: &[u8],
) -> Result<AdaptationMap, GalleryError> {
    if about.values <= dim {
        expect_length("map", AdaptationMap::bytes(about.values, dim), bytes)?;
    }
    AdaptationMap::read(about, dim, bytes)
        .ok_or_else(|| GalleryError::Inconsistent { what: "values of its map".to_owned() })
}

/// Adds what [`write_rows`] wrote to an index without a structure; 8-bit numbers come with factors.
pub(crate) fn read_rows(
    index: &mut VectorIndex,
    values: &[u8],
    factors: &[f32],
) -> Result<(), GalleryError> {
    let dim = index.dim();
    match index.vector_type() {
        VectorType::I8 => {
            for (row, factor) in values.chunks_exact(dim).zip(factors) {
                if !FACTORS_READ.contains(factor) {
                    return Err(GalleryError::NotFinite);
                }
                let codes = row.iter().map(|b| i8::from_le_bytes([*b]));
                index.add_stored_codes(codes, *factor);
            }
        }
        VectorType::F16 => {
            for row in values.chunks_exact(dim * 2) {
                let half = |b: &[u8]| f16::from_le_bytes([b[0], b[1]]).to_f32();
                index.add(&row.chunks_exact(2).map(half).collect::<Vec<f32>>())?;
            }
        }
        VectorType::F32 => {
            for row in values.chunks_exact(dim * 4) {
                index.add(&row.chunks_exact(4).map(float).collect::<Vec<f32>>())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Question;
    use crate::sections::forged;

    const KINDS: [IndexConfig; 4] = [
        IndexConfig::Flat,
        IndexConfig::Hnsw { m: 2, ef_construction: 8 },
        IndexConfig::Ivf { lists: 2 },
        IndexConfig::Binary,
    ];

    fn small(vector_type: VectorType, config: IndexConfig) -> Gallery {
        let mut gallery = Gallery::with_type(4, "0123abcd", vector_type);
        for (label, picture) in [("red panda 小熊猫", vec![1, 2, 3]), ("", vec![]), ("z", vec![9])]
        {
            let metadata = [("price".to_owned(), "3 €".to_owned())].into();
            let min_similarity = label.is_empty().then_some(0.75);
            let class = Class { label: label.to_owned(), metadata, min_similarity };
            gallery.add_class(class, picture);
        }
        for (class, embedding) in [
            (0, [1.0, 0.0, 0.0, 0.5]),
            (2, [0.0, 1.0, -1.0, 0.0]),
            (0, [0.2, 0.2, 0.2, 0.2]),
            (1, [0.1, 0.9, 0.2, 0.2]),
            (2, [0.1, 0.9, 0.2, -0.2]),
        ] {
            let picture = ContentId::of(&[class as u8]);
            gallery.add_image(class, &embedding, picture).unwrap();
        }
        gallery.set_index(config).unwrap();
        gallery.remove(3).unwrap();
        gallery
    }

    fn every_kind() -> impl Iterator<Item = Gallery> {
        let types = [VectorType::F16, VectorType::F32, VectorType::I8];
        types.into_iter().flat_map(|t| KINDS.into_iter().map(move |kind| small(t, kind)))
    }

    #[test]
    fn survives_the_round_trip_and_writes_the_same_bytes() {
        for gallery in every_kind() {
            let bytes = gallery.to_bytes();
            let read = Gallery::from_bytes(&bytes).unwrap();
            assert_eq!(read.classes(), gallery.classes());
            assert_eq!(read.model(), "0123abcd");
            assert_eq!(read.thumbnail(0), &[1, 2, 3]);
            assert_eq!(read.thumbnail(1), &[] as &[u8]);
            let entries: Vec<usize> = gallery.entries().collect();
            assert_eq!(entries.len(), 4);
            assert_eq!(read.entries().collect::<Vec<_>>(), entries);
            for entry in entries {
                assert_eq!(read.entry_class(entry), gallery.entry_class(entry));
                assert_eq!(read.content_id(entry), gallery.content_id(entry));
                assert_eq!(read.index().vector(entry), gallery.index().vector(entry));
            }
            assert_eq!(read.index().config(), gallery.index().config());
            assert_eq!(read.to_bytes(), bytes);
            let query = [0.3, -0.1, 0.2, 0.9];
            assert_eq!(read.search(&query, 3), gallery.search(&query, 3));
        }
    }

    #[test]
    fn an_empty_gallery_survives_too() {
        for config in KINDS {
            let mut gallery = Gallery::new(8, "m");
            gallery.set_index(config).unwrap();
            let gallery = Gallery::from_bytes(&gallery.to_bytes()).unwrap();
            assert!(gallery.is_empty());
            assert_eq!(gallery.search(&[1.0; 8], 3).unwrap(), vec![]);
        }
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        for gallery in every_kind() {
            let bytes = gallery.to_bytes();
            for position in 0..bytes.len() {
                for mask in [1, 0x80, 0xff] {
                    let mut damaged = bytes.clone();
                    damaged[position] ^= mask;
                    assert!(Gallery::from_bytes(&damaged).is_err(), "byte {position} ^ {mask}");
                }
            }
        }
    }

    #[test]
    fn every_cut_and_every_extension_is_noticed() {
        for gallery in every_kind() {
            let bytes = gallery.to_bytes();
            for length in 0..bytes.len() {
                assert!(Gallery::from_bytes(&bytes[..length]).is_err(), "{length} bytes");
            }
            for extra in [1, 63, 64] {
                let mut longer = bytes.clone();
                longer.resize(bytes.len() + extra, 0);
                assert!(Gallery::from_bytes(&longer).is_err());
            }
        }
    }

    #[test]
    fn forged_sections_give_an_error_or_answers_but_no_panic() {
        for gallery in every_kind() {
            let bytes = gallery.to_bytes();
            for kind in 1..=7 {
                for position in 0..200 {
                    for value in [0, 1, 0x7f, 0xff] {
                        let damaged = forged(&bytes, kind, |section| {
                            if let Some(byte) = section.get_mut(position) {
                                *byte = value;
                            }
                        });
                        if let Ok(gallery) = Gallery::from_bytes(&damaged) {
                            let query = vec![0.5; gallery.dim()];
                            for found in gallery.search(&query, 2).unwrap() {
                                assert!(found.class < gallery.classes().len());
                            }
                        }
                    }
                }
            }
        }
    }

    /// A file of every version that was ever published, all of the same three images.
    const PUBLISHED: [&[u8]; 3] = [
        include_bytes!("../tests/galleries/v1.bin"),
        include_bytes!("../tests/galleries/v2.bin"),
        include_bytes!("../tests/galleries/v3.bin"),
    ];

    /// What was learned about the answers of a gallery.
    fn learned() -> Calibration {
        let text = r#"{"source":"gallery","asked":3,"false_accept":0.05,"lead_weight":0.5,"least":0.25,
            "probability":[[0.1,0.25],[0.5,0.875]]}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_was_learned_about_answers_is_kept_by_version_three() {
        let mut gallery = Gallery::from_bytes(PUBLISHED[1]).unwrap();
        gallery.keep_learned(AnswerRule::ClassMean, 0.75, learned()).unwrap();
        let bytes = gallery.to_bytes();
        assert!(bytes == include_bytes!("../tests/galleries/calibrated.bin"));
        let read = Gallery::from_bytes(&bytes).unwrap();
        assert_eq!(read.calibration(), Some(&learned()));
        assert_eq!(read.measured_rule(), Some(AnswerRule::ClassMean));
        // Two classes: the best one's similarity less half of the other one's is the score.
        let query = read.index().vector(0).into_owned();
        let question = Question { rule: AnswerRule::ClassMean, ..Question::best(1) };
        let answer = read.answer(&query, &question).unwrap();
        let score =
            answer.matches[0].similarity - 0.5 * (answer.matches[0].similarity - answer.lead);
        assert_eq!(read.is_known(&answer, 0.75), score >= 0.25);
        assert_eq!(answer.probability, Some(0.875));
        let needed = read.least_similarity(&answer, 0.75);
        assert!((needed - 0.25 - 0.5 * (answer.matches[0].similarity - answer.lead)).abs() < 1e-6);
        // A threshold by hand counts alone, and so does a class's own one; another rule was not calibrated.
        assert_eq!(read.least_similarity(&answer, 0.6), 0.6);
        let nearest = read.answer(&query, &Question::best(1)).unwrap();
        assert_eq!((nearest.probability, nearest.least_similarity), (None, None));
        let mut own = read.clone();
        own.describe_class(answer.matches[0].class, Metadata::new(), Some(1.5)).unwrap();
        assert!(!own.is_known(&own.answer(&query, &question).unwrap(), 0.75));
        let mut again = read.clone();
        again.set_min_similarity(Some(0.75)).unwrap();
        assert_eq!(again.calibration(), None, "another threshold has nothing of it");

        // An older version has no such key, whatever it says.
        let mut older = bytes.clone();
        older[8] = 2;
        let error = Gallery::from_bytes(&older).unwrap_err().to_string();
        assert!(error.contains("members that are not those of its version"), "{error}");
        let forged = forged(&bytes, HEADER as u32, |header| {
            let at = header.windows(5).position(|part| part == b"0.875").unwrap();
            header[at..at + 5].copy_from_slice(b"0.075");
        });
        let error = Gallery::from_bytes(&forged).unwrap_err().to_string();
        assert!(error.contains("its knots do not rise"), "{error}");
    }

    #[test]
    fn rules_and_calibrations_that_no_writer_produces_are_refused() {
        let mut gallery = Gallery::from_bytes(PUBLISHED[1]).unwrap();
        let vote = AnswerRule::Vote { neighbors: 5 };
        gallery.keep_learned(vote, 0.75, learned()).unwrap();
        let bytes = gallery.to_bytes();
        let refused = |from: &[u8], to: &[u8]| {
            let forged = forged(&bytes, HEADER as u32, |header| {
                let at = header.windows(from.len()).position(|part| part == from).unwrap();
                header[at..at + from.len()].copy_from_slice(to);
            });
            Gallery::from_bytes(&forged).unwrap_err()
        };
        let wrong = |what: &str| GalleryError::Inconsistent { what: what.to_owned() };
        let error = refused(b"\"neighbours\":5", b"\"neighbours\":0");
        assert_eq!(error, wrong("header: a vote of 0 entries"));
        let error = refused(b"\"min_similarity\":0.75", b"\"min_similarity\":null");
        assert_eq!(error, wrong("header: a calibration without a threshold"));
        let many = AnswerRule::Vote { neighbors: 1_000_000_000_000_000_000_u64 as usize };
        assert_eq!(many.check().unwrap_err(), "header: a vote of 1000000000000000000 entries");
        // What a program asks for is brought into range.
        gallery.set_measured_rule(AnswerRule::Vote { neighbors: 0 });
        assert_eq!(gallery.measured_rule(), Some(AnswerRule::Vote { neighbors: 1 }));
        assert!(Gallery::from_bytes(&gallery.to_bytes()).is_ok());
    }

    #[test]
    fn every_published_version_is_read() {
        let galleries = PUBLISHED.map(|bytes| Gallery::from_bytes(bytes).unwrap());
        for (version, gallery) in (1..).zip(&galleries) {
            let labels: Vec<&str> = gallery.classes().iter().map(|c| c.label.as_str()).collect();
            assert_eq!(labels, ["red square", "绿"], "version {version}");
            assert_eq!(gallery.classes()[1].metadata["price"], "3 €");
            assert_eq!((gallery.dim(), gallery.counts()), (256, vec![2, 1]));
            assert!(gallery.thumbnail(0).starts_with(&[0xff, 0xd8]), "a JPEG");
            assert_eq!(gallery.content_id(0).is_known(), version > 1);
            let first = &galleries[0];
            for entry in gallery.entries() {
                let vector = gallery.embedding(entry);
                assert_eq!(vector, first.embedding(entry), "version {version}");
                let class = gallery.search(&vector, 1).unwrap()[0].class;
                assert_eq!(class, gallery.entry_class(entry));
            }
        }
        // Where nothing is said of the rule, it is the nearest entry's.
        assert!(galleries[..2].iter().all(|gallery| gallery.measured_rule().is_none()));
        let mut measured = galleries[1].clone();
        measured.set_min_similarity(Some(0.75)).unwrap();
        let said = |bytes: &[u8]| bytes.windows(7).any(|part| part == b"\"rule\":");
        assert!(!said(&measured.to_bytes()), "earlier programs read it");
        let read = |gallery: &Gallery| Gallery::from_bytes(&gallery.to_bytes()).unwrap();
        assert_eq!(read(&measured).measured_rule(), Some(AnswerRule::Nearest));
        measured.set_measured_rule(AnswerRule::ClassMean);
        assert!(said(&measured.to_bytes()));
        assert_eq!(read(&measured).measured_rule(), Some(AnswerRule::ClassMean));
        measured.set_min_similarity(None).unwrap();
        assert_eq!(measured.to_bytes(), PUBLISHED[1]);
        // The newest ones are also what is written today.
        assert_eq!(galleries[1].to_bytes(), PUBLISHED[1]);
        // An adapted one answers as it did, to the last bit on every machine.
        assert_eq!(galleries[2].to_bytes(), PUBLISHED[2]);
        let found = galleries[2].search(&galleries[2].embedding(0), 2).unwrap();
        let [own, other] = [found[0].similarity, found[1].similarity].map(f32::to_bits);
        assert_eq!([own, other], [1.000_022_2_f32, 0.630_036_23].map(f32::to_bits));
        let mut plain = galleries[2].clone();
        plain.set_map(None).unwrap();
        assert_eq!(plain.to_bytes(), PUBLISHED[1]);
        assert_eq!(PUBLISHED.len(), VERSION as usize, "a new version needs its file here");
    }

    /// Written when equal rows were linked to each other alone: 20 of 150 are one picture.
    const EQUAL_ROWS: &[u8] = include_bytes!("../tests/galleries/equal_rows.bin");

    #[test]
    fn a_published_graph_that_leaves_entries_out_is_read_and_mended() {
        let read = Gallery::from_bytes(EQUAL_ROWS).unwrap();
        assert_eq!(read.to_bytes(), EQUAL_ROWS);
        assert_eq!(read.index().unreachable(), 39);
        let mut connected = read.clone();
        connected.connect();
        let mut built = read.clone();
        built.set_index(read.index().config()).unwrap();
        for gallery in [connected, built] {
            assert_eq!(gallery.index().unreachable(), 0);
            let again = Gallery::from_bytes(&gallery.to_bytes()).unwrap();
            assert_eq!(again.index().unreachable(), 0);
            for entry in gallery.entries() {
                let vector = gallery.index().vector(entry);
                // Looking at everything that can be reached.
                let search = crate::index::Search::best(1).with_ef_search(gallery.len());
                let hit = gallery.index().search(&vector, &search).unwrap();
                let own: f32 = vector.iter().map(|v| v * v).sum();
                assert!(hit[0].similarity > own - 0.01, "{entry}");
            }
        }
    }

    #[test]
    fn tells_apart_a_stranger_and_the_future() {
        assert_eq!(Gallery::from_bytes(b"PNG").unwrap_err(), GalleryError::NotAGallery);
        let mut future = small(VectorType::F16, IndexConfig::Flat).to_bytes();
        future[8] = VERSION as u8 + 1;
        assert_eq!(
            Gallery::from_bytes(&future).unwrap_err(),
            GalleryError::Version { got: VERSION + 1, supported: VERSION }
        );
    }
}
