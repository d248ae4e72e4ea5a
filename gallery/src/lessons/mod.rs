//! What a visitor has taught: a log of changes that is replayed over whatever gallery is published.
//!
//! The log, not its outcome, is what a page keeps. A renamed class, a removed one and a correction hold after the
//! site is published again, and logs of two pages are joined by their union.

mod apply;

use std::collections::BTreeSet;

use thiserror::Error;

use crate::error::GalleryError;
use crate::gallery::Gallery;
use crate::limits::MAX_DIM;

pub use apply::{Applied, apply};

/// First bytes of a log.
pub const LESSONS_MAGIC: [u8; 8] = *b"MAGPLOG1";
/// Version of the log's format.
pub const LESSONS_VERSION: u32 = 1;
/// Most lessons of a log.
pub const MAX_LESSONS: usize = 100_000;
/// Longest text in a log, in bytes.
const MAX_TEXT: usize = 1 << 16;

/// Why a log cannot be read or replayed.
#[derive(Debug, Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum LessonsError {
    /// The bytes are no log.
    #[error("this is no log of lessons; teach the page anew")]
    NotLessons,
    /// Written by a later page.
    #[error("the lessons are of format {got}, this page reads {LESSONS_VERSION}; reload the page")]
    Version {
        /// Version in the log.
        got: u32,
    },
    /// Bytes are missing, too many, or not what was written.
    #[error("the lessons are damaged: {what}; teach the page anew")]
    Damaged {
        /// Which part.
        what: &'static str,
    },
    /// Lessons of another extractor.
    #[error("the lessons belong to another model; teach the page of this one anew")]
    OtherModel,
    /// More than a log holds.
    #[error(
        "a log holds at most {MAX_LESSONS} lessons; save the gallery as a file, merge and publish it"
    )]
    Full,
    /// A label that a log does not hold.
    #[error(
        "the label has {got} bytes, a lesson holds at most {MAX_TEXT}; give the class a shorter one where \
         the gallery is built"
    )]
    LongLabel {
        /// Its bytes.
        got: usize,
    },
}

/// One change by a visitor.
#[derive(Debug, Clone, PartialEq)]
pub enum LessonChange {
    /// An embedding is of this class, which is made where it is not there, and of no other.
    Teach {
        /// Label of the class.
        label: String,
        /// Of unit length.
        embedding: Vec<f32>,
        /// An encoded image for a class that is made.
        thumbnail: Vec<u8>,
    },
    /// A class has another label; where that is taken, the two are one.
    Rename {
        /// Label before.
        from: String,
        /// Label then.
        to: String,
    },
    /// A class is gone.
    Remove {
        /// Its label.
        label: String,
    },
    /// The classes and entries of a gallery file are added.
    Import {
        /// The file.
        gallery: Vec<u8>,
    },
    /// What came before does not count any more.
    Reset,
}

/// A change with what orders it among those of other pages.
#[derive(Debug, Clone, PartialEq)]
pub struct Lesson {
    /// Drawn at random.
    pub id: u64,
    /// Milliseconds since 1970.
    pub time: u64,
    /// What is changed.
    pub change: LessonChange,
}

/// A log of lessons.
#[derive(Debug, Clone, PartialEq)]
pub struct Lessons {
    model: String,
    dim: usize,
    /// By time, then by number.
    all: Vec<Lesson>,
    /// Numbers of those that were taken back; they stay so where another page still has them.
    undone: BTreeSet<u64>,
}

impl Lessons {
    /// An empty log for a gallery's model.
    pub fn new(gallery: &Gallery) -> Self {
        Self {
            model: gallery.model().to_owned(),
            dim: gallery.dim(),
            all: Vec::new(),
            undone: BTreeSet::new(),
        }
    }

    /// Fails for a label that a log does not hold.
    ///
    /// # Errors
    ///
    /// [`LessonsError::LongLabel`]
    pub fn check_label(label: &str) -> Result<(), LessonsError> {
        let got = label.len();
        if got > MAX_TEXT { Err(LessonsError::LongLabel { got }) } else { Ok(()) }
    }

    /// Adds a lesson.
    ///
    /// # Errors
    ///
    /// [`LessonsError::Full`], [`LessonsError::LongLabel`]; nothing is changed then.
    pub fn push(&mut self, lesson: Lesson) -> Result<(), LessonsError> {
        // What is written is read again.
        match &lesson.change {
            LessonChange::Teach { label, .. } | LessonChange::Remove { label } => {
                Self::check_label(label)?;
            }
            LessonChange::Rename { from, to } => {
                Self::check_label(from)?;
                Self::check_label(to)?;
            }
            LessonChange::Import { .. } | LessonChange::Reset => {}
        }
        if self.all.len() >= MAX_LESSONS {
            return Err(LessonsError::Full);
        }
        // The clock may have been set back, or not have moved: the newest lesson stays the newest.
        let next = self.all.last().map_or(0, |last| last.time.saturating_add(1));
        let time = next.max(lesson.time);
        self.all.push(Lesson { time, ..lesson });
        self.sort();
        Ok(())
    }

    /// Takes the newest lesson that counts back; `false` where there is none.
    pub fn undo(&mut self) -> bool {
        let newest = self.newest();
        newest.is_some_and(|id| self.undone.insert(id))
    }

    /// Whether [`Self::undo`] has something to take back.
    pub fn can_undo(&self) -> bool {
        self.newest().is_some()
    }

    /// Number of the newest lesson that was not taken back.
    fn newest(&self) -> Option<u64> {
        self.all.iter().rev().map(|lesson| lesson.id).find(|id| !self.undone.contains(id))
    }

    /// Lessons that count, the oldest first.
    pub fn live(&self) -> impl Iterator<Item = &Lesson> {
        let there = |lesson: &&Lesson| !self.undone.contains(&lesson.id);
        let start = self.all.iter().rposition(|lesson| {
            lesson.change == LessonChange::Reset && !self.undone.contains(&lesson.id)
        });
        self.all[start.map_or(0, |at| at + 1)..].iter().filter(there)
    }

    /// Joins the log of another page of the same site; whether it had something new.
    ///
    /// # Errors
    ///
    /// [`LessonsError::OtherModel`], [`LessonsError::Full`]; nothing is changed then.
    pub fn merge(&mut self, other: &Self) -> Result<bool, LessonsError> {
        if other.model != self.model || other.dim != self.dim {
            return Err(LessonsError::OtherModel);
        }
        let known: BTreeSet<u64> = self.all.iter().map(|lesson| lesson.id).collect();
        let new: Vec<&Lesson> =
            other.all.iter().filter(|lesson| !known.contains(&lesson.id)).collect();
        if self.all.len() + new.len() > MAX_LESSONS {
            return Err(LessonsError::Full);
        }
        let undone = self.undone.len();
        self.undone.extend(&other.undone);
        let changed = !new.is_empty() || self.undone.len() > undone;
        self.all.extend(new.into_iter().cloned());
        self.sort();
        Ok(changed)
    }

    /// Drops what does not count any more; of that nothing can be taken back.
    pub fn tidy(&mut self) {
        let live: BTreeSet<u64> = self.live().map(|lesson| lesson.id).collect();
        let (kept, dropped) = std::mem::take(&mut self.all)
            .into_iter()
            .partition(|lesson: &Lesson| live.contains(&lesson.id));
        self.all = kept;
        self.undone.extend(dropped.iter().map(|lesson| lesson.id));
    }

    fn sort(&mut self) {
        self.all.sort_by_key(|lesson| (lesson.time, lesson.id));
    }

    /// A published gallery with all lessons that count. What has nothing to change there (a class that is not
    /// published any more) is passed over.
    ///
    /// # Errors
    ///
    /// [`GalleryError::OtherModel`], [`GalleryError::Dimension`] for a gallery of another model.
    pub fn replay(&self, published: &Gallery) -> Result<Gallery, GalleryError> {
        published.check_model(&self.model)?;
        let mut gallery = published.clone();
        for lesson in self.live() {
            // What another page checked may have nothing to change here.
            if let Err(error @ (GalleryError::OtherModel { .. } | GalleryError::Dimension { .. })) =
                apply(&mut gallery, &lesson.change)
            {
                return Err(error);
            }
        }
        gallery.connect();
        Ok(gallery)
    }

    /// The log as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = LESSONS_MAGIC.to_vec();
        bytes.extend(LESSONS_VERSION.to_le_bytes());
        put(&mut bytes, self.model.as_bytes());
        bytes.extend((self.dim as u32).to_le_bytes());
        bytes.extend((self.undone.len() as u32).to_le_bytes());
        self.undone.iter().for_each(|id| bytes.extend(id.to_le_bytes()));
        bytes.extend((self.all.len() as u32).to_le_bytes());
        for Lesson { id, time, change } in &self.all {
            bytes.extend(id.to_le_bytes());
            bytes.extend(time.to_le_bytes());
            match change {
                LessonChange::Teach { label, embedding, thumbnail } => {
                    bytes.push(0);
                    put(&mut bytes, label.as_bytes());
                    embedding.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
                    put(&mut bytes, thumbnail);
                }
                LessonChange::Rename { from, to } => {
                    bytes.push(1);
                    put(&mut bytes, from.as_bytes());
                    put(&mut bytes, to.as_bytes());
                }
                LessonChange::Remove { label } => {
                    bytes.push(2);
                    put(&mut bytes, label.as_bytes());
                }
                LessonChange::Import { gallery } => {
                    bytes.push(3);
                    put(&mut bytes, gallery);
                }
                LessonChange::Reset => bytes.push(4),
            }
        }
        let checksum = crc32fast::hash(&bytes);
        bytes.extend(checksum.to_le_bytes());
        bytes
    }

    /// Reads a log.
    ///
    /// # Errors
    ///
    /// [`LessonsError`]
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LessonsError> {
        let rest = bytes.strip_prefix(&LESSONS_MAGIC).ok_or(LessonsError::NotLessons)?;
        let mut reader = Reader { rest };
        let version = reader.number("version")?;
        if version != LESSONS_VERSION {
            return Err(LessonsError::Version { got: version });
        }
        let damaged = |what| LessonsError::Damaged { what };
        let (content, checksum) = bytes.split_last_chunk::<4>().ok_or(damaged("length"))?;
        if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
            return Err(damaged("checksum"));
        }
        reader.rest = reader.rest.split_last_chunk::<4>().ok_or(damaged("length"))?.0;
        let model = reader.text("model")?;
        let dim = reader.number("width")? as usize;
        if !(1..=MAX_DIM).contains(&dim) {
            return Err(damaged("width"));
        }
        let undone = reader.number("number of lessons taken back")?;
        let undone =
            (0..undone).map(|_| reader.long("lessons taken back")).collect::<Result<_, _>>()?;
        let count = reader.number("number of lessons")? as usize;
        if count > MAX_LESSONS {
            return Err(LessonsError::Full);
        }
        let mut lessons = Vec::new();
        for _ in 0..count {
            let (id, time) = (reader.long("lesson")?, reader.long("lesson")?);
            lessons.push(Lesson { id, time, change: reader.change(dim)? });
        }
        if !reader.rest.is_empty() {
            return Err(damaged("length"));
        }
        let mut log = Self { model, dim, all: lessons, undone };
        log.sort();
        Ok(log)
    }
}

fn put(bytes: &mut Vec<u8>, content: &[u8]) {
    bytes.extend((content.len() as u32).to_le_bytes());
    bytes.extend(content);
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], LessonsError> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or(LessonsError::Damaged { what })?;
        self.rest = rest;
        Ok(taken)
    }

    fn number(&mut self, what: &'static str) -> Result<u32, LessonsError> {
        let bytes = self.take(4, what)?.first_chunk();
        bytes.map(|bytes| u32::from_le_bytes(*bytes)).ok_or(LessonsError::Damaged { what })
    }

    fn long(&mut self, what: &'static str) -> Result<u64, LessonsError> {
        let bytes = self.take(8, what)?.first_chunk();
        bytes.map(|bytes| u64::from_le_bytes(*bytes)).ok_or(LessonsError::Damaged { what })
    }

    fn content(&mut self, what: &'static str) -> Result<Vec<u8>, LessonsError> {
        let length = self.number(what)? as usize;
        Ok(self.take(length, what)?.to_vec())
    }

    fn text(&mut self, what: &'static str) -> Result<String, LessonsError> {
        let bytes = self.content(what)?;
        if bytes.len() > MAX_TEXT {
            return Err(LessonsError::Damaged { what });
        }
        String::from_utf8(bytes).ok().ok_or(LessonsError::Damaged { what })
    }

    fn change(&mut self, dim: usize) -> Result<LessonChange, LessonsError> {
        let [kind] = *self.take(1, "kind")? else {
            return Err(LessonsError::Damaged { what: "kind" });
        };
        Ok(match kind {
            0 => {
                let label = self.text("label")?;
                let values = self.take(dim * 4, "embedding")?.chunks_exact(4);
                let embedding: Vec<f32> = values
                    .map(|value| f32::from_le_bytes([value[0], value[1], value[2], value[3]]))
                    .collect();
                if embedding.iter().any(|value| !value.is_finite()) {
                    return Err(LessonsError::Damaged { what: "embedding" });
                }
                LessonChange::Teach { label, embedding, thumbnail: self.content("thumbnail")? }
            }
            1 => LessonChange::Rename { from: self.text("label")?, to: self.text("label")? },
            2 => LessonChange::Remove { label: self.text("label")? },
            3 => LessonChange::Import { gallery: self.content("gallery")? },
            4 => LessonChange::Reset,
            _ => return Err(LessonsError::Damaged { what: "kind" }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::{Class, ContentId};
    use crate::index::IndexConfig;

    const DIM: usize = 8;

    fn embedding(number: usize) -> Vec<f32> {
        let values: Vec<f32> =
            (0..DIM).map(|i| ((number * 31 + i * 17) as f32 * 0.71).sin()).collect();
        crate::embedding::unit(&values, DIM).unwrap()
    }

    fn published(classes: &[(&str, &[usize])]) -> Gallery {
        let mut gallery = Gallery::new(DIM, "m");
        for (label, entries) in classes {
            let class = Class { label: (*label).to_owned(), ..Class::default() };
            let class = gallery.add_class(class, vec![1]);
            for entry in *entries {
                let picture = ContentId::of(&entry.to_le_bytes());
                gallery.add_image(class, &embedding(*entry), picture).unwrap();
            }
        }
        gallery
    }

    fn teach(label: &str, number: usize) -> LessonChange {
        let thumbnail = vec![7, number as u8];
        LessonChange::Teach { label: label.to_owned(), embedding: embedding(number), thumbnail }
    }

    fn rename(from: &str, to: &str) -> LessonChange {
        LessonChange::Rename { from: from.to_owned(), to: to.to_owned() }
    }

    fn log(gallery: &Gallery, changes: Vec<LessonChange>) -> Lessons {
        let mut log = Lessons::new(gallery);
        for (number, change) in changes.into_iter().enumerate() {
            let id = 1000 + number as u64;
            log.push(Lesson { id, time: number as u64, change }).unwrap();
        }
        log
    }

    /// Labels with their numbers of entries.
    fn content(gallery: &Gallery) -> Vec<(String, usize)> {
        let labels = gallery.classes().iter().map(|class| class.label.clone());
        let mut content: Vec<_> = labels.zip(gallery.counts()).collect();
        content.sort();
        content
    }

    fn counted(expected: &[(&str, usize)]) -> Vec<(String, usize)> {
        expected.iter().map(|(label, count)| ((*label).to_owned(), *count)).collect()
    }

    #[test]
    fn the_newest_lesson_is_the_last_one_whatever_the_clock_says() {
        let mut log = Lessons::new(&Gallery::new(DIM, "m"));
        // A year ahead, then set back; ids are random.
        for (id, time) in [(9, 1_000_000), (7, 5), (8, 5), (3, 5), (6, 1_000_001)] {
            log.push(Lesson { id, time, change: LessonChange::Reset }).unwrap();
        }
        let ids: Vec<u64> = log.all.iter().map(|lesson| lesson.id).collect();
        assert_eq!(ids, [9, 7, 8, 3, 6]);
    }

    #[test]
    fn lessons_hold_over_whatever_is_published() {
        let first = published(&[("ant", &[1, 2]), ("bee", &[3]), ("cat", &[4])]);
        let lessons = log(
            &first,
            vec![
                rename("ant", "emmet"),
                LessonChange::Remove { label: "bee".to_owned() },
                teach("dog", 9),
            ],
        );
        let now = lessons.replay(&first).unwrap();
        assert_eq!(content(&now), counted(&[("cat", 1), ("dog", 1), ("emmet", 2)]));
        // One class more is published, one less.
        let next = published(&[("ant", &[1, 2, 5]), ("bee", &[3]), ("eel", &[6])]);
        let now = lessons.replay(&next).unwrap();
        assert_eq!(content(&now), counted(&[("dog", 1), ("eel", 1), ("emmet", 3)]));
    }

    #[test]
    fn the_newest_lesson_about_an_image_wins() {
        let gallery = published(&[("lime", &[1, 2]), ("kiwi", &[3])]);
        // A slip and its correction; a published entry that is wrong; the same lesson twice.
        let lessons = log(
            &gallery,
            vec![teach("pinapple", 9), teach("pineapple", 9), teach("pear", 2), teach("pear", 2)],
        );
        for config in [IndexConfig::Flat, IndexConfig::hnsw(), IndexConfig::Ivf { lists: 0 }] {
            let mut gallery = gallery.clone();
            gallery.set_index(config).unwrap();
            let now = lessons.replay(&gallery).unwrap();
            let expected = [("kiwi", 1), ("lime", 1), ("pear", 1), ("pineapple", 1)];
            assert_eq!(content(&now), counted(&expected), "{config:?}");
        }
        // A class whose only image was wrong is gone.
        let lessons = log(&gallery, vec![teach("fig", 3)]);
        let now = lessons.replay(&gallery).unwrap();
        assert_eq!(content(&now), counted(&[("fig", 1), ("lime", 2)]));
    }

    #[test]
    fn the_same_image_is_found_among_rounded_rows() {
        let wide = |number: usize| -> Vec<f32> {
            let mut values: Vec<f32> =
                (0..128).map(|i| ((number * 31 + i * 17) as f32 * 0.71).sin()).collect();
            // One large value makes the steps of the others large.
            values[number % 128] = 12.0;
            crate::embedding::unit(&values, 128).unwrap()
        };
        let mut gallery = Gallery::with_type(128, "m", crate::index::VectorType::I8);
        for number in 0..100 {
            for label in ["slip", "right"] {
                let change = LessonChange::Teach {
                    label: format!("{label} {number}"),
                    embedding: wide(number),
                    thumbnail: Vec::new(),
                };
                apply(&mut gallery, &change).unwrap();
            }
        }
        assert_eq!((gallery.classes().len(), gallery.len()), (100, 100));
        assert!(gallery.classes().iter().all(|class| class.label.starts_with("right")));
    }

    #[test]
    fn undo_and_start_over_count_for_all_pages() {
        let gallery = published(&[("ant", &[1])]);
        let mut lessons = log(&gallery, vec![teach("bee", 2), teach("cat", 3)]);
        let mut other = lessons.clone();
        assert!(lessons.undo());
        assert_eq!(content(&lessons.replay(&gallery).unwrap()), counted(&[("ant", 1), ("bee", 1)]));
        // Another page that still has it learns that it was taken back.
        other.push(Lesson { id: 5, time: 9, change: teach("dog", 4) }).unwrap();
        assert_eq!(other.merge(&lessons), Ok(true));
        assert_eq!(lessons.merge(&other), Ok(true));
        assert_eq!(lessons, other);
        let expected = [("ant", 1), ("bee", 1), ("dog", 1)];
        assert_eq!(content(&lessons.replay(&gallery).unwrap()), counted(&expected));
        assert_eq!(lessons.merge(&other), Ok(false), "nothing is new");

        lessons.push(Lesson { id: 6, time: 10, change: LessonChange::Reset }).unwrap();
        assert_eq!(lessons.replay(&gallery).unwrap().to_bytes(), gallery.to_bytes());
        assert!(lessons.undo(), "starting over can be taken back");
        assert_eq!(content(&lessons.replay(&gallery).unwrap()), counted(&expected));
        // What was dropped does not come back from another page.
        lessons.push(Lesson { id: 7, time: 11, change: LessonChange::Reset }).unwrap();
        lessons.tidy();
        assert!(!lessons.can_undo());
        lessons.merge(&other).unwrap();
        assert_eq!(lessons.live().count(), 0);
    }

    #[test]
    fn every_lesson_of_a_log_can_be_taken_back() {
        let gallery = published(&[("ant", &[1])]);
        let changes: Vec<LessonChange> = (0..40).map(|_| teach("bee", 2)).collect();
        let mut lessons = log(&gallery, changes);
        for left in (0..40).rev() {
            assert!(lessons.undo());
            assert_eq!(lessons.live().count(), left);
        }
        assert!(!lessons.can_undo() && !lessons.undo());
    }

    #[test]
    fn a_log_takes_the_labels_that_it_can_be_read_with() {
        let most = "x".repeat(MAX_TEXT);
        let gallery = published(&[("ant", &[1]), (&most, &[2])]);
        let mut lessons = log(
            &gallery,
            vec![
                teach(&most, 3),
                rename(&most, "bee"),
                rename("bee", &most),
                LessonChange::Remove { label: most.clone() },
            ],
        );
        assert_eq!(Lessons::from_bytes(&lessons.to_bytes()).as_ref(), Ok(&lessons));
        assert_eq!(content(&lessons.replay(&gallery).unwrap()), counted(&[("ant", 1)]));

        let long = format!("{most}x");
        let before = lessons.clone();
        for change in [
            teach(&long, 4),
            rename("ant", &long),
            rename(&long, "ant"),
            LessonChange::Remove { label: long.clone() },
        ] {
            let refused = lessons.push(Lesson { id: 1, time: 9, change });
            assert_eq!(refused, Err(LessonsError::LongLabel { got: MAX_TEXT + 1 }));
        }
        assert_eq!(lessons, before);
    }

    #[test]
    fn classes_that_a_lesson_joins_have_each_image_once() {
        // Image 2 is published under both labels.
        let gallery = published(&[("ant", &[1, 2]), ("emmet", &[2, 3])]);
        let lessons = log(&gallery, vec![rename("ant", "emmet")]);
        assert_eq!(content(&lessons.replay(&gallery).unwrap()), counted(&[("emmet", 3)]));
    }

    #[test]
    fn a_lesson_that_fits_nothing_changes_nothing() {
        let gallery = published(&[("ant", &[1])]);
        let mut changed = gallery.clone();
        for change in [
            LessonChange::Teach {
                label: "bee".to_owned(),
                embedding: vec![0.5; DIM + 1],
                thumbnail: Vec::new(),
            },
            LessonChange::Teach {
                label: "bee".to_owned(),
                embedding: vec![f32::NAN; DIM],
                thumbnail: Vec::new(),
            },
            LessonChange::Teach {
                label: "bee".to_owned(),
                embedding: vec![0.0; DIM],
                thumbnail: Vec::new(),
            },
            LessonChange::Import { gallery: b"no gallery".to_vec() },
            rename("bee", "cat"),
            LessonChange::Remove { label: "bee".to_owned() },
        ] {
            assert!(apply(&mut changed, &change).is_err(), "{change:?}");
            assert_eq!(changed.to_bytes(), gallery.to_bytes(), "{change:?}");
        }
        let missing = apply(&mut changed, &rename("bee", "cat"));
        assert_eq!(missing, Err(GalleryError::NoLabel { label: "bee".to_owned() }));
    }

    #[test]
    fn a_log_is_read_as_it_was_written_and_damage_is_found() {
        let gallery = published(&[("ant", &[1])]);
        let mut lessons = log(
            &gallery,
            vec![
                teach("bee 蜂", 2),
                rename("ant", "emmet"),
                LessonChange::Import { gallery: gallery.to_bytes() },
                LessonChange::Remove { label: "bee 蜂".to_owned() },
                LessonChange::Reset,
            ],
        );
        lessons.undo();
        let bytes = lessons.to_bytes();
        assert_eq!(Lessons::from_bytes(&bytes), Ok(lessons));
        for length in 0..bytes.len() {
            assert!(Lessons::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 4;
            assert!(Lessons::from_bytes(&damaged).is_err(), "{place}");
        }
        let mut newer = bytes;
        newer[8] = 2;
        assert_eq!(Lessons::from_bytes(&newer), Err(LessonsError::Version { got: 2 }));
        let of_another = Lessons::new(&Gallery::new(DIM, "other"));
        assert_eq!(Lessons::new(&gallery).merge(&of_another), Err(LessonsError::OtherModel));
    }
}
