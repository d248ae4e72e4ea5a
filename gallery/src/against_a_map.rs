//! Galleries through thousands of random changes, beside a plain list of what they should hold.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use crate::embedding::unit;
use crate::*;

const DIM: usize = 16;
const STEPS: usize = 2_000;
/// Entries that a gallery is kept at, about.
const SIZE: usize = 100;
const LABELS: usize = 12;
const PICTURES: usize = 300;
const TYPES: [VectorType; 3] = [VectorType::F16, VectorType::F32, VectorType::I8];

/// Numbers that look drawn at random.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) as usize % limit
    }
}

fn embedding(picture: usize) -> Vec<f32> {
    let mut random = Random(picture as u64 + 1);
    (0..DIM).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect()
}

fn id(picture: usize) -> ContentId {
    ContentId::of(&picture.to_le_bytes())
}

static NUMBERS: LazyLock<HashMap<ContentId, usize>> =
    LazyLock::new(|| (0..PICTURES).map(|picture| (id(picture), picture)).collect());

/// What a gallery should hold.
#[derive(Clone, Default)]
struct Plain {
    /// Label, picture for people, price.
    classes: Vec<(String, Vec<u8>, Option<String>)>,
    /// Class and picture.
    entries: Vec<(usize, usize)>,
}

impl Plain {
    fn class(&mut self, label: &str) -> usize {
        let place = self.classes.iter().position(|class| class.0 == label);
        place.unwrap_or_else(|| {
            self.classes.push((label.to_owned(), Vec::new(), None));
            self.classes.len() - 1
        })
    }

    fn remove_class(&mut self, class: usize) {
        self.entries.retain(|entry| entry.0 != class);
        self.entries.iter_mut().filter(|entry| entry.0 > class).for_each(|entry| entry.0 -= 1);
        self.classes.remove(class);
    }

    fn rename(&mut self, class: usize, label: &str) {
        match self.classes.iter().position(|other| other.0 == label) {
            Some(other) if other != class => {
                let of_other = self.entries.iter().filter(|entry| entry.0 == other);
                let mut known: HashSet<usize> = of_other.map(|entry| entry.1).collect();
                for entry in self.entries.iter_mut().filter(|entry| entry.0 == class) {
                    if known.insert(entry.1) {
                        entry.0 = other;
                    }
                }
                if self.classes[other].1.is_empty() {
                    self.classes[other].1 = self.classes[class].1.clone();
                }
                let price = self.classes[class].2.take();
                self.classes[other].2 = self.classes[other].2.take().or(price);
                self.remove_class(class);
            }
            _ => label.clone_into(&mut self.classes[class].0),
        }
    }

    fn merge(&mut self, other: &Self) -> Merged {
        let before = self.classes.len();
        let mut places = Vec::new();
        for (label, thumbnail, price) in &other.classes {
            let place = self.class(label);
            let ours = &mut self.classes[place];
            if ours.1.is_empty() {
                ours.1.clone_from(thumbnail);
            }
            ours.2 = ours.2.take().or_else(|| price.clone());
            places.push(place);
        }
        let mut known: HashSet<(usize, usize)> = self.entries.iter().copied().collect();
        let mut added = 0;
        for (class, picture) in &other.entries {
            let entry = (places[*class], *picture);
            if known.insert(entry) {
                self.entries.push(entry);
                added += 1;
            }
        }
        let new_classes = self.classes.len() - before;
        Merged { new_classes, added, known: other.entries.len() - added }
    }

    fn of(gallery: &Gallery) -> Self {
        Self {
            classes: (gallery.classes().iter().enumerate())
                .map(|(place, class)| {
                    let price = class.metadata.get("price").cloned();
                    (class.label.clone(), gallery.thumbnail(place).to_vec(), price)
                })
                .collect(),
            entries: (gallery.entries())
                .map(|e| (gallery.entry_class(e), NUMBERS[&gallery.content_id(e)]))
                .collect(),
        }
    }
}

/// Both, changed alike.
struct Pair {
    gallery: Gallery,
    plain: Plain,
    random: Random,
}

impl Pair {
    fn label(&mut self) -> String {
        format!("class {}", self.random.below(LABELS))
    }

    fn add(&mut self) {
        let (label, picture) = (self.label(), self.random.below(PICTURES));
        let class = self.plain.class(&label);
        if class == self.gallery.classes().len() {
            self.gallery.add_class(Class { label, ..Class::default() }, vec![]);
        }
        self.gallery.add_image(class, &embedding(picture), id(picture)).unwrap();
        self.plain.entries.push((class, picture));
    }

    /// Some positions of the plain list.
    fn some(&mut self, most: usize) -> Vec<usize> {
        let count = (1 + self.random.below(most)).min(self.plain.entries.len());
        (0..count).map(|_| self.random.below(self.plain.entries.len())).collect()
    }

    fn remove(&mut self) {
        let places = self.some(4);
        let positions: Vec<usize> = self.gallery.entries().collect();
        let entries: Vec<usize> = places.iter().map(|place| positions[*place]).collect();
        match entries[..] {
            [entry] => self.gallery.remove(entry).unwrap(),
            _ => self.gallery.remove_entries(&entries).unwrap(),
        }
        let mut place = 0;
        self.plain.entries.retain(|_| {
            place += 1;
            !places.contains(&(place - 1))
        });
    }

    fn remove_images(&mut self) {
        let places = self.some(3);
        let mut pictures: Vec<usize> = places.iter().map(|p| self.plain.entries[*p].1).collect();
        pictures.push(self.random.below(PICTURES));
        let ids: Vec<ContentId> = pictures.iter().map(|picture| id(*picture)).collect();
        let before = self.plain.entries.len();
        self.plain.entries.retain(|entry| !pictures.contains(&entry.1));
        let removed = before - self.plain.entries.len();
        assert_eq!(self.gallery.remove_images(&ids), Ok(removed));
    }

    fn merge(&mut self) {
        let vector_type = TYPES[self.random.below(3)];
        let gallery = Gallery::with_type(DIM, "m", vector_type);
        let random = Random(self.random.below(1 << 30) as u64);
        let mut other = Self { gallery, plain: Plain::default(), random };
        for number in 0..5 {
            other.add();
            other.gallery.set_thumbnail(0, vec![number]).unwrap();
            other.plain.classes[0].1 = vec![number];
        }
        let merged = self.plain.merge(&other.plain);
        assert_eq!(self.gallery.merge(&other.gallery), Ok(merged));
    }

    fn step(&mut self, config: IndexConfig) {
        let class = self.random.below(self.plain.classes.len().max(1));
        let there = class < self.plain.classes.len();
        match self.random.below(100) {
            0..2 => self.gallery.compact(),
            2 => self.gallery.set_index(config).unwrap(),
            3..6 => self.gallery.set_vector_type(TYPES[self.random.below(3)]).unwrap(),
            6..9 => self.merge(),
            9..12 => {
                let bytes = self.gallery.to_bytes();
                self.gallery = Gallery::from_bytes(&bytes).unwrap();
                assert_eq!(self.gallery.to_bytes(), bytes);
            }
            12..14 if there => {
                self.gallery.remove_class(class).unwrap();
                self.plain.remove_class(class);
            }
            14..18 if there => {
                let label = self.label();
                self.gallery.rename_class(class, &label).unwrap();
                self.plain.rename(class, &label);
            }
            18..22 if there => {
                let thumbnail = vec![class as u8; self.random.below(3)];
                self.gallery.set_thumbnail(class, thumbnail.clone()).unwrap();
                self.plain.classes[class].1 = thumbnail;
            }
            22..25 if there => {
                let price = self.random.below(9).to_string();
                let metadata = [("price".to_owned(), price.clone())].into();
                self.gallery.describe_class(class, metadata, None).unwrap();
                self.plain.classes[class].2 = Some(price);
            }
            25..30 if !self.plain.entries.is_empty() => self.remove_images(),
            other if other < 45 || self.plain.entries.len() < SIZE => self.add(),
            _ => self.remove(),
        }
    }

    /// Holds the one against the other and asks for some of what is there.
    fn check(&mut self) {
        let found = Plain::of(&self.gallery);
        assert_eq!(found.classes, self.plain.classes);
        assert_eq!(found.entries, self.plain.entries);
        assert_eq!(self.gallery.len(), self.plain.entries.len());
        let mut counts = vec![0; self.plain.classes.len()];
        self.plain.entries.iter().for_each(|entry| counts[entry.0] += 1);
        assert_eq!(self.gallery.counts(), counts);
        if self.plain.entries.is_empty() {
            return;
        }
        for place in self.some(4) {
            let (_, picture) = self.plain.entries[place];
            let found = self.gallery.search(&embedding(picture), 1).unwrap()[0];
            let holds = |entry: &(usize, usize)| *entry == (found.class, picture);
            assert!(self.plain.entries.iter().any(holds), "picture {picture}: {found:?}");
            assert!(found.similarity > 0.98, "{found:?}");
            let hits = self
                .gallery
                .index()
                .search(&unit(&embedding(picture), DIM).unwrap(), &Search::best(1));
            assert_eq!(self.gallery.content_id(hits.unwrap()[0].entry), id(picture));
        }
    }
}

#[test]
fn random_changes_leave_what_a_plain_list_holds() {
    for (config, seed) in [
        (IndexConfig::Flat, 1),
        (IndexConfig::Hnsw { m: 6, ef_construction: 24 }, 2),
        (IndexConfig::Ivf { lists: 0 }, 3),
        (IndexConfig::Binary, 4),
    ] {
        let mut gallery = Gallery::new(DIM, "m");
        gallery.set_index(config).unwrap();
        let mut pair = Pair { gallery, plain: Plain::default(), random: Random(seed) };
        let mut dead = 0.0_f64;
        for step in 0..STEPS {
            pair.step(config);
            let index = pair.gallery.index();
            dead = dead.max(1.0 - index.len() as f64 / index.positions().max(1) as f64);
            if step % 5 == 0 {
                pair.check();
            }
        }
        pair.check();
        // Only a scan lets go of entries at once.
        assert_eq!(dead > 0.2, config != IndexConfig::Flat, "{config:?}: {dead}");
    }
}

#[test]
fn classes_that_become_one_have_each_picture_once() {
    let unknown = ContentId::default();
    for vector_type in TYPES {
        let mut gallery = Gallery::with_type(DIM, "m", vector_type);
        for label in ["a", "b"] {
            gallery.add_class(Class { label: label.to_owned(), ..Class::default() }, vec![]);
        }
        // Of both: picture 1, and embedding 2 of which nobody said the picture.
        for (class, picture, of) in [
            (0, 0, id(0)),
            (0, 1, id(1)),
            (0, 2, unknown),
            (1, 1, id(1)),
            (1, 2, unknown),
            (1, 3, id(3)),
            (1, 4, unknown),
        ] {
            gallery.add_image(class, &embedding(picture), of).unwrap();
        }
        assert_eq!(gallery.rename_class(1, "a"), Ok(0));
        let left: Vec<ContentId> = gallery.entries().map(|e| gallery.content_id(e)).collect();
        assert_eq!(left, [id(0), id(1), unknown, id(3), unknown], "{vector_type:?}");
        assert_eq!(gallery.counts(), [5]);
    }
}

#[test]
fn entries_that_are_taken_out_together_are_those_that_were_named() {
    // The first two are a quarter of all: with one more the index is built anew.
    let pictures = [(0, 0), (0, 1), (1, 2), (1, 3), (2, 4), (2, 2), (3, 5), (3, 2)];
    for config in
        [IndexConfig::Flat, IndexConfig::hnsw(), IndexConfig::Ivf { lists: 0 }, IndexConfig::Binary]
    {
        let mut gallery = Gallery::new(DIM, "m");
        for number in 0..4 {
            gallery.add_class(Class::default(), vec![number]);
        }
        for (class, picture) in pictures {
            gallery.add_image(class, &embedding(picture), id(picture)).unwrap();
        }
        gallery.set_index(config).unwrap();
        gallery.remove_entries(&[0, 1]).unwrap();
        assert_eq!(gallery.remove_images(&[id(2), id(77), id(2), ContentId::default()]), Ok(3));
        let left: Vec<ContentId> = gallery.entries().map(|e| gallery.content_id(e)).collect();
        assert_eq!(left, [id(3), id(4), id(5)], "{config:?}");
        // All or nothing.
        let bytes = gallery.to_bytes();
        let there = gallery.entries().next().unwrap();
        let missing = Err(GalleryError::NoEntry { entry: 99 });
        assert_eq!(gallery.remove_entries(&[there, 99]), missing);
        assert_eq!(gallery.to_bytes(), bytes);
        assert_eq!(gallery.remove_entries(&[there, there]), Ok(()));
        assert_eq!(gallery.len(), 2);
    }
}
