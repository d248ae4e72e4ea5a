//! Changing a gallery.

use std::collections::{HashMap, HashSet};

use crate::answer_rule::AnswerRule;
use crate::calibration::Calibration;
use crate::class::{Class, ContentId};
use crate::embedding::{check_fit, check_room, check_stored, entry};
use crate::error::GalleryError;
use crate::gallery::Gallery;
use crate::index::{IndexConfig, VectorIndex, VectorType};
use crate::mapped::mapped_rows;
use crate::metadata::Metadata;

/// Entries that were taken out, as a share of all, from which a graph or lists are built anew.
const REBUILD_SHARE: f64 = 0.25;

/// What a merge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merged {
    /// Classes that were not there before.
    pub new_classes: usize,
    /// Entries added.
    pub added: usize,
    /// Entries that were there already: the same picture in the same class.
    pub known: usize,
}

impl Gallery {
    /// Adds a class and returns its position; `thumbnail` is an encoded picture or empty. A threshold that
    /// is not finite is none.
    pub fn add_class(&mut self, mut class: Class, thumbnail: Vec<u8>) -> usize {
        class.min_similarity = class.min_similarity.filter(|least| least.is_finite());
        self.classes.push(class);
        self.thumbnails.push(thumbnail);
        self.class_means.take();
        self.classes.len() - 1
    }

    /// Adds an embedding of a class, brought to unit length.
    ///
    /// # Errors
    ///
    /// [`GalleryError::Dimension`], [`GalleryError::NotFinite`], [`GalleryError::ZeroLength`],
    /// [`GalleryError::NoClass`], or [`GalleryError::Options`] for more entries than are read.
    pub fn add(&mut self, class: usize, embedding: &[f32]) -> Result<(), GalleryError> {
        self.add_image(class, embedding, ContentId::default())
    }

    /// [`Self::add`], remembering which picture it was made from.
    ///
    /// # Errors
    ///
    /// As [`Self::add`].
    pub fn add_image(
        &mut self,
        class: usize,
        embedding: &[f32],
        picture: ContentId,
    ) -> Result<(), GalleryError> {
        let row = entry(embedding, self.dim())?;
        self.add_stored(class, &row, picture)
    }

    /// Adds an embedding as a gallery of this model gave it out: it is of unit length but for
    /// rounding, and bringing it there once more would change its last digits.
    ///
    /// # Errors
    ///
    /// As [`Self::add`], and [`GalleryError::DoesNotFit`].
    pub fn add_stored(
        &mut self,
        class: usize,
        embedding: &[f32],
        picture: ContentId,
    ) -> Result<(), GalleryError> {
        self.class(class)?;
        let entry = self.index.positions();
        check_stored(embedding, self.dim(), entry, self.index.vector_type())?;
        self.push_entry(class, embedding, picture)
    }

    /// Adds what was looked at already. A gallery without originals takes what is behind its map.
    pub(crate) fn push_entry(
        &mut self,
        class: usize,
        row: &[f32],
        picture: ContentId,
    ) -> Result<(), GalleryError> {
        self.push_row(row)?;
        self.entry_classes.push(class as u32);
        self.content_ids.push(picture);
        self.class_means.take();
        Ok(())
    }

    /// Takes one entry out. Positions of all entries may change: whoever takes out several names them
    /// together, by [`Self::remove_entries`] or [`Self::remove_images`].
    ///
    /// # Errors
    ///
    /// [`GalleryError::NoEntry`]
    pub fn remove(&mut self, entry: usize) -> Result<(), GalleryError> {
        self.remove_entries(&[entry])
    }

    /// Takes entries out, all by the positions that they have before it; one that is named twice goes once.
    /// Positions of all entries may change.
    ///
    /// # Errors
    ///
    /// [`GalleryError::NoEntry`]; nothing is changed then.
    pub fn remove_entries(&mut self, entries: &[usize]) -> Result<(), GalleryError> {
        if let Some(entry) = entries.iter().find(|entry| !self.index.contains(**entry)) {
            return Err(GalleryError::NoEntry { entry: *entry });
        }
        let there: HashSet<usize> = entries.iter().copied().collect();
        if there.is_empty() {
            return Ok(());
        }
        for entry in (0..self.index.positions()).filter(|entry| there.contains(entry)) {
            self.take_out(entry)?;
        }
        self.tidy();
        Ok(())
    }

    /// Takes out all entries that were made from pictures; their number. Positions of all entries may
    /// change. An entry whose image is unknown stays.
    ///
    /// # Errors
    ///
    /// None for a gallery that is good.
    pub fn remove_images(&mut self, pictures: &[ContentId]) -> Result<usize, GalleryError> {
        let wanted: HashSet<ContentId> =
            pictures.iter().copied().filter(|picture| picture.is_known()).collect();
        let entries: Vec<usize> =
            self.entries().filter(|entry| wanted.contains(&self.content_ids[*entry])).collect();
        self.remove_entries(&entries)?;
        Ok(entries.len())
    }

    /// Takes a class out with its entries. Positions of classes behind it move up by one.
    ///
    /// # Errors
    ///
    /// [`GalleryError::NoClass`]
    pub fn remove_class(&mut self, class: usize) -> Result<(), GalleryError> {
        self.class(class)?;
        let entries: Vec<usize> =
            self.entries().filter(|entry| self.entry_class(*entry) == class).collect();
        for entry in entries {
            self.take_out(entry)?;
        }
        for of in self.entry_classes.iter_mut().filter(|of| **of as usize > class) {
            *of -= 1;
        }
        self.classes.remove(class);
        self.thumbnails.remove(class);
        self.tidy();
        Ok(())
    }

    /// Gives a class another label. Where another class has it already the two become one: the other's
    /// metadata, threshold and thumbnail stay, and what it has none of is taken over, metadata by their
    /// keys. A picture that both have is kept once, and so is the same embedding where nobody knows the
    /// picture. Returns the position of the class then.
    ///
    /// # Errors
    ///
    /// [`GalleryError::NoClass`]
    pub fn rename_class(&mut self, class: usize, label: &str) -> Result<usize, GalleryError> {
        self.class(class)?;
        match self.class_by_label(label) {
            Some(other) if other != class => {
                let of = |class| {
                    let entries = self.entries().filter(|e| self.entry_class(*e) == class);
                    entries.map(|e| (e, self.identity(e))).collect::<Vec<_>>()
                };
                let known: HashSet<ContentId> = of(other).into_iter().map(|e| e.1).collect();
                let mut parts: HashMap<ContentId, Vec<usize>> = HashMap::new();
                let mut moving = of(class);
                moving.retain(|(entry, picture)| {
                    !known.contains(picture)
                        && self.is_new_part(*entry, parts.entry(*picture).or_default())
                });
                // What stays behind goes with its class.
                for (entry, _) in moving {
                    self.entry_classes[entry] = other as u32;
                }
                if self.thumbnails[other].is_empty() {
                    self.thumbnails[other] = std::mem::take(&mut self.thumbnails[class]);
                }
                let joining = std::mem::take(&mut self.classes[class]);
                self.classes[other].take_over(&joining);
                self.remove_class(class)?;
                Ok(if other > class { other - 1 } else { other })
            }
            _ => {
                label.clone_into(&mut self.classes[class].label);
                Ok(class)
            }
        }
    }

    /// Changes what is said about a class: its metadata and its threshold. The label stays.
    ///
    /// # Errors
    ///
    /// [`GalleryError::NoClass`], [`GalleryError::NotFinite`]
    pub fn describe_class(
        &mut self,
        class: usize,
        metadata: Metadata,
        min_similarity: Option<f32>,
    ) -> Result<(), GalleryError> {
        self.class(class)?;
        check_threshold(min_similarity)?;
        self.classes[class].metadata = metadata;
        self.classes[class].min_similarity = min_similarity;
        Ok(())
    }

    /// Keeps the least cosine of an answer that was measured for this gallery. What was learned with another one
    /// is dropped.
    ///
    /// # Errors
    ///
    /// [`GalleryError::NotFinite`]
    pub fn set_min_similarity(&mut self, least: Option<f32>) -> Result<(), GalleryError> {
        check_threshold(least)?;
        self.min_similarity = least;
        self.calibration = None;
        Ok(())
    }

    /// Keeps what was learned about answers, beside the least cosine and the rule that are kept already; without a
    /// least cosine it does not count.
    pub fn set_calibration(&mut self, calibration: Option<Calibration>) {
        self.calibration = calibration;
    }

    /// What was learned about answers with [`Self::measured_rule`]; `None` where only a least cosine was measured,
    /// or nothing.
    pub fn calibration(&self) -> Option<&Calibration> {
        self.calibration.as_ref().filter(|_| self.min_similarity.is_some())
    }

    /// The least cosine of an answer that was measured for this gallery, if it was.
    pub fn min_similarity(&self) -> Option<f32> {
        self.min_similarity
    }

    /// Keeps the rule that the least cosine was measured with: another rule's cosines are others.
    pub fn set_measured_rule(&mut self, rule: AnswerRule) {
        self.rule = rule.in_range();
    }

    /// The rule that [`Self::min_similarity`] was measured with; `None` where nothing was measured.
    pub fn measured_rule(&self) -> Option<AnswerRule> {
        self.min_similarity.map(|_| self.rule)
    }

    /// Gives a class another picture.
    ///
    /// # Errors
    ///
    /// [`GalleryError::NoClass`]
    pub fn set_thumbnail(&mut self, class: usize, thumbnail: Vec<u8>) -> Result<(), GalleryError> {
        self.class(class)?;
        self.thumbnails[class] = thumbnail;
        Ok(())
    }

    /// Adds another gallery's classes and entries, behind this one's map. Classes of one label are one; of these the first
    /// gallery's metadata, thumbnail and threshold stay; thresholds that were measured behind another map are not taken over.
    /// A picture that a class has already is not added again,
    /// nor the same embedding where nobody knows the picture.
    ///
    /// # Errors
    ///
    /// [`GalleryError::OtherModel`], [`GalleryError::Dimension`]; [`GalleryError::ZeroEntry`] and
    /// [`GalleryError::DoesNotFit`] for an entry of the other gallery; [`GalleryError::Options`] for more
    /// entries than are read. Nothing is changed then.
    pub fn merge(&mut self, other: &Self) -> Result<Merged, GalleryError> {
        self.check_comparable(other)?;
        let before = self.classes.len();
        let mut by_label: HashMap<&str, usize> = HashMap::new();
        for (class, Class { label, .. }) in self.classes.iter().enumerate() {
            by_label.entry(label).or_insert(class);
        }
        let mut count = before;
        let places: Vec<usize> = (other.classes.iter())
            .map(|class| {
                let place = *by_label.entry(&class.label).or_insert(count);
                count = count.max(place + 1);
                place
            })
            .collect();
        let known: HashSet<(usize, ContentId)> =
            self.entries().map(|e| (self.entry_class(e), self.identity(e))).collect();
        let mut parts: HashMap<(usize, ContentId), Vec<usize>> = HashMap::new();
        let fresh: Vec<usize> = (other.entries())
            .filter(|e| {
                let image = (places[other.entry_class(*e)], other.identity(*e));
                !known.contains(&image) && other.is_new_part(*e, parts.entry(image).or_default())
            })
            .collect();
        for entry in &fresh {
            other.check_direction(*entry)?;
            check_fit(&other.embedding(*entry), *entry, self.index.vector_type())?;
        }
        check_room(self.index.positions(), fresh.len())?;
        // What was fetched of shards is behind the map already, and what takes it in is so then.
        if !other.has_originals() {
            if !self.has_map_of(other) {
                let what = "what was fetched of shards is searched with the map of these shards";
                return Err(GalleryError::Options { what: what.to_owned() });
            }
            self.forget_originals();
        }
        if self.is_empty() {
            self.crop = other.crop;
        }

        // Thresholds are cosines behind the map that they were measured with.
        let same_map = self.has_map_of(other);
        for ((class, thumbnail), place) in
            other.classes.iter().zip(&other.thumbnails).zip(places.iter().copied())
        {
            let own = class.min_similarity.filter(|_| same_map);
            let class = Class { min_similarity: own, ..class.clone() };
            if place == self.classes.len() {
                self.add_class(class, thumbnail.clone());
                continue;
            }
            if self.thumbnails[place].is_empty() {
                self.thumbnails[place].clone_from(thumbnail);
            }
            self.classes[place].take_over(&class);
        }
        for entry in &fresh {
            let class = places[other.entry_class(*entry)];
            let row = if self.has_originals() {
                other.embedding(*entry)
            } else {
                other.index.vector(*entry)
            };
            self.push_entry(class, &row, other.content_ids[*entry])?;
        }
        if !fresh.is_empty() {
            self.index.connect();
        }
        self.class_means.take();
        let (new_classes, added) = (count - before, fresh.len());
        Ok(Merged { new_classes, added, known: other.len() - added })
    }

    /// Splits off the thumbnails: this gallery without them, and a gallery of the same labels that holds
    /// them and no entries.
    pub fn split_thumbnails(&self) -> (Self, Self) {
        let mut without = self.clone();
        without.thumbnails.iter_mut().for_each(Vec::clear);
        let mut alone = Self::with_type(self.dim(), self.model.clone(), self.index.vector_type());
        for (class, thumbnail) in self.classes.iter().zip(&self.thumbnails) {
            let class = Class { label: class.label.clone(), ..Class::default() };
            alone.add_class(class, thumbnail.clone());
        }
        (without, alone)
    }

    /// Fills in missing thumbnails from `other`, matched by label.
    ///
    /// # Errors
    ///
    /// [`GalleryError::OtherModel`]; nothing is changed then.
    pub fn take_thumbnails(&mut self, other: &Self) -> Result<(), GalleryError> {
        other.check_model(&self.model)?;
        let by_label: HashMap<&str, &Vec<u8>> =
            other.classes.iter().map(|c| c.label.as_str()).zip(&other.thumbnails).rev().collect();
        for (class, thumbnail) in self.classes.iter().zip(&mut self.thumbnails) {
            if let Some(found) = by_label.get(class.label.as_str())
                && thumbnail.is_empty()
            {
                thumbnail.clone_from(found);
            }
        }
        Ok(())
    }

    /// Searches in another way from now on; drops what was taken out.
    ///
    /// # Errors
    ///
    /// [`GalleryError::Options`]
    pub fn set_index(&mut self, config: IndexConfig) -> Result<(), GalleryError> {
        let kept = self.index.build(config)?;
        self.compact_originals();
        self.keep(&kept);
        Ok(())
    }

    /// Stores the embeddings in another way from now on, from what is stored now.
    ///
    /// # Errors
    ///
    /// [`GalleryError::DoesNotFit`] for an entry, which embeddings of unit length do; nothing is changed then.
    pub fn set_vector_type(&mut self, vector_type: VectorType) -> Result<(), GalleryError> {
        if self.index.vector_type() == vector_type {
            return Ok(());
        }
        for entry in self.entries() {
            check_fit(&self.embedding(entry), entry, vector_type)?;
        }
        self.compact();
        let mut stored = VectorIndex::new(self.dim(), self.index.metric(), vector_type);
        for entry in 0..self.index.positions() {
            stored.add(&self.embedding(entry))?;
        }
        let config = self.index.config();
        if let Some(adapted) = &mut self.adapted {
            self.index = mapped_rows(&adapted.map, &stored)?;
            adapted.originals = Some(stored);
        } else {
            self.index = stored;
        }
        self.index.build(config)?;
        self.class_means.take();
        Ok(())
    }

    /// Adds links until searches come to every entry; see [`VectorIndex::connect`].
    pub fn connect(&mut self) {
        self.index.connect();
    }

    /// Drops what was taken out; positions of entries change.
    pub fn compact(&mut self) {
        let kept = self.index.compact();
        self.compact_originals();
        self.keep(&kept);
    }

    /// Drops what was taken out where that is cheap or due.
    fn tidy(&mut self) {
        self.class_means.take();
        let dead = self.index.positions() - self.index.len();
        let cheap = self.index.config() == IndexConfig::Flat;
        if cheap || dead as f64 > REBUILD_SHARE * self.index.positions() as f64 {
            self.compact();
        }
    }

    fn keep(&mut self, kept: &[usize]) {
        self.entry_classes = kept.iter().map(|entry| self.entry_classes[*entry]).collect();
        self.content_ids = kept.iter().map(|entry| self.content_ids[*entry]).collect();
        self.class_means.take();
    }
}

impl Class {
    /// Takes over what is said about another class where nothing is said about this one.
    fn take_over(&mut self, other: &Self) {
        for (key, value) in &other.metadata {
            if self.metadata.iter().all(|(ours, _)| ours != key) {
                self.metadata.insert(key.clone(), value.clone());
            }
        }
        self.min_similarity = self.min_similarity.or(other.min_similarity);
    }
}

/// Fails for a least cosine that a file cannot hold.
pub(crate) fn check_threshold(least: Option<f32>) -> Result<(), GalleryError> {
    match least {
        Some(least) if !least.is_finite() => Err(GalleryError::NotFinite),
        _ => Ok(()),
    }
}
