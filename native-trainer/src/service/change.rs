//! What may be done to a gallery, as it is kept in the journal. The same changes of the same gallery give the same one.

use std::collections::{BTreeMap, HashSet};

use authoring::label::{LabelError, Labels, checked, label, nearest, quoted};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use models::gallery::{Class, ContentId, Gallery, GalleryError, Metadata, check_embedding};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::problem::{Answered, Document, Kind, Problem, shown};
use super::schema::described;
use crate::postgres::{wrong_class, wrong_texts};

/// How far from 1 the length of an entry may be: rounding moves it less.
const ROUNDING: f64 = 0.01;
/// Bytes of the name of a class at most.
const LABEL: usize = 4096;

/// Bytes that JSON has as Base64.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Packed(pub(crate) Vec<u8>);

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// What ids of embeddings begin with; the hash of an image begins so once in 2^48.
const EMBEDDED: &[u8] = b"values";

/// What tells an entry from others of its class: the content id of its image; of an unknown image a hash of the
/// embedding. The parts of one image have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct EntryId(pub(crate) ContentId);

impl EntryId {
    /// Of an entry.
    pub(crate) fn of(gallery: &Gallery, entry: usize) -> Self {
        Self(gallery.identity(entry))
    }

    /// Of an embedding that came without its image, by the bytes of its values.
    pub(crate) fn of_embedding(bytes: &[u8]) -> Self {
        let mut id = ContentId::of(bytes);
        id.0[..EMBEDDED.len()].copy_from_slice(EMBEDDED);
        Self(id)
    }

    /// Whether it is that of an image.
    pub(crate) fn is_of_image(self) -> bool {
        self.0.is_known() && !self.0.0.starts_with(EMBEDDED)
    }

    /// From 32 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// [`Kind::Value`]
    pub(crate) fn parse(text: &str) -> Answered<Self> {
        let wrong = || {
            Problem::value(format!("{} is no entry; ids have 32 hexadecimal digits", shown(text)))
        };
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let number = u128::from_str_radix(text, 16).map_err(|_digits| wrong())?;
        Ok(Self(ContentId(number.to_be_bytes())))
    }
}

impl std::fmt::Display for EntryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0.0))
    }
}

impl Serialize for EntryId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EntryId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|problem| serde::de::Error::custom(problem.detail))
    }
}

/// An image that becomes entries of a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Photo {
    pub(crate) class: String,
    pub(crate) id: EntryId,
    /// Shown for a class that has none.
    pub(crate) thumbnail: Packed,
    /// Unit embeddings of its parts, f32 of little endian one after the other.
    pub(crate) embeddings: Packed,
}

/// A threshold of a class, or none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Least {
    None,
    Cosine(f32),
}

/// A change of a gallery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Change {
    /// Images become entries.
    Add { photos: Vec<Photo> },
    /// Another label, metadata (`None` takes one out), threshold.
    Class {
        class: String,
        label: Option<String>,
        metadata: BTreeMap<String, Option<String>>,
        least: Option<Least>,
    },
    /// A class goes with its entries.
    RemoveClass { class: String },
    /// Entries go, of one class or of all.
    RemoveEntries { ids: Vec<EntryId>, class: Option<String> },
    /// Entries go to another class, which is made if it is not there.
    Move { ids: Vec<EntryId>, class: Option<String>, to: String },
    /// The change before goes.
    Undo,
    /// Nothing: only the answer is kept under its key.
    Nothing,
}

described! {
    /// What a change came to, and the gallery now.
    #[derive(Debug, Clone, Serialize)]
    pub(crate) struct Changed = "Changed" {
        /// Version of the gallery.
        pub(crate) version: u64,
        /// Classes of the gallery.
        pub(crate) classes: usize,
        /// Entries of the gallery.
        pub(crate) entries: usize,
        /// Images that became entries.
        pub(crate) added: usize,
        /// Images that their classes had already.
        pub(crate) known: usize,
        /// Entries that went.
        pub(crate) removed: usize,
        /// Entries that have another class now.
        pub(crate) moved: usize,
        /// Whether a class joined another one.
        pub(crate) joined: bool,
        /// Images that could not be used, if there are any.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(crate) left_out: Option<Vec<LeftOut>>,
        /// What the gallery learned, in sentences.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(crate) lines: Option<Vec<String>>,
    }

    /// An image that could not be used.
    #[derive(Debug, Clone, Serialize)]
    pub(crate) struct LeftOut = "LeftOut" {
        /// Place among the images of the request, from 0 on.
        pub(crate) image: usize,
        /// What the sender calls it.
        pub(crate) name: String,
        /// Why it could not be used.
        pub(crate) problem: Document,
    }
}

/// What a change came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// Images that became entries.
    pub(crate) added: usize,
    /// Images that their classes had.
    pub(crate) known: usize,
    /// Entries that went.
    pub(crate) removed: usize,
    /// Entries that have another class now.
    pub(crate) moved: usize,
    /// Whether a class joined another one.
    pub(crate) joined: bool,
    /// Whether the gallery is another one now.
    pub(crate) changed: bool,
}

impl Done {
    /// A gallery that is another one now.
    pub(crate) const CHANGED: Self =
        Self { added: 0, known: 0, removed: 0, moved: 0, joined: false, changed: true };
}

impl Change {
    /// Changes a gallery. Where it fails, the gallery is to be thrown away.
    ///
    /// # Errors
    ///
    /// A class or an entry that is not there, a value that no gallery takes.
    pub(crate) fn apply(&self, gallery: &mut Gallery) -> Answered<Done> {
        match self {
            Self::Add { photos } => add(gallery, photos),
            Self::Class { class, label, metadata, least } => {
                change_class(gallery, class, label.as_deref(), metadata, *least)
            }
            Self::RemoveClass { class } => {
                let class = class_of(gallery, class)?;
                let removed = gallery.counts()[class];
                gallery.remove_class(class).map_err(refused)?;
                Ok(Done { removed, ..Done::CHANGED })
            }
            Self::RemoveEntries { ids, class } => {
                let entries = entries_of(gallery, ids, class.as_deref())?;
                gallery.remove_entries(&entries).map_err(refused)?;
                Ok(Done { removed: entries.len(), ..Done::CHANGED })
            }
            Self::Move { ids, class, to } => move_entries(gallery, ids, class.as_deref(), to),
            Self::Undo | Self::Nothing => Ok(Done::default()),
        }
    }
}

impl Change {
    /// What is wrong with the texts and thumbnails of a change that somebody else may have written down. No route takes such.
    pub(crate) fn wrong(&self) -> Option<String> {
        let nothing = Metadata::default();
        match self {
            Self::Add { photos } => photos.iter().find_map(|photo| {
                let class = Class { label: photo.class.clone(), ..Class::default() };
                wrong_class(&class, &photo.thumbnail.0)
            }),
            Self::Class { label, metadata, .. } => {
                let texts =
                    metadata.iter().filter_map(|(name, text)| Some((name.clone(), text.clone()?)));
                wrong_texts(label.as_deref().unwrap_or_default(), &texts.collect())
            }
            Self::Move { to, .. } => wrong_texts(to, &nothing),
            Self::RemoveClass { .. } | Self::RemoveEntries { .. } | Self::Undo | Self::Nothing => {
                None
            }
        }
    }
}

/// What is wrong with the classes of a gallery that lies where others write, too.
pub(crate) fn wrong_gallery(gallery: &Gallery) -> Option<String> {
    let mut classes = gallery.classes().iter().enumerate();
    classes.find_map(|(place, class)| wrong_class(class, gallery.thumbnail(place)))
}

/// A gallery's refusal as it is answered.
pub(crate) fn refused(error: GalleryError) -> Problem {
    let kind = match error {
        GalleryError::OtherModel { .. } | GalleryError::Options { .. } => Kind::Conflict,
        GalleryError::NoLabel { .. }
        | GalleryError::NoEntry { .. }
        | GalleryError::NoClass { .. } => Kind::NotFound,
        GalleryError::NotAGallery
        | GalleryError::Version { .. }
        | GalleryError::Length { .. }
        | GalleryError::Checksum { .. }
        | GalleryError::Inconsistent { .. }
        | GalleryError::Unanswerable { .. } => Kind::Gallery,
        _ => Kind::Value,
    };
    Problem::new(kind, error.to_string())
}

/// The class of a label; the problem names the nearest that is there.
///
/// # Errors
///
/// [`Kind::NotFound`]
pub(crate) fn class_of(gallery: &Gallery, text: &str) -> Answered<usize> {
    let same = || {
        let wanted = label(text);
        gallery.classes().iter().position(|class| label(&class.label) == wanted)
    };
    gallery.class_by_label(text).or_else(same).ok_or_else(|| {
        let labels = gallery.classes().iter().map(|class| class.label.as_str());
        let help = match nearest(text, labels) {
            Some(near) => format!("did you mean {}?", quoted(near)),
            None => "GET /v1/classes lists those that there are".to_owned(),
        };
        Problem::new(Kind::NotFound, format!("there is no class {}; {help}", shown(text)))
    })
}

/// A label that is to be given.
///
/// # Errors
///
/// [`Kind::Value`]
pub(crate) fn checked_label(text: &str) -> Answered<String> {
    if text.len() > LABEL {
        let detail =
            format!("the name of a class is longer than {LABEL} bytes; give it a shorter one");
        return Err(Problem::value(detail));
    }
    checked(text).map_err(|error| Problem::value(error.to_string()))
}

/// A label as a change has it; a journal may hold one that is given no more.
fn label_to_be(text: &str) -> Answered<String> {
    label(text).ok_or_else(|| Problem::value(LabelError::Blank.to_string()))
}

fn class_to_be(gallery: &mut Gallery, labels: &mut Labels, text: &str) -> Answered<usize> {
    if let Some(class) = labels.find(text) {
        return Ok(class);
    }
    let label = label_to_be(text)?;
    let class = gallery.add_class(Class { label: label.clone(), ..Class::default() }, Vec::new());
    labels.insert(&label, class);
    Ok(class)
}

fn labels_of(gallery: &Gallery) -> Labels {
    gallery.classes().iter().map(|class| class.label.as_str()).collect()
}

fn length(embedding: &[f32]) -> f64 {
    embedding.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

/// An embedding that somebody sends, brought to unit length.
///
/// # Errors
///
/// Values that have no direction.
pub(crate) fn unit(embedding: &[f32]) -> Answered<Vec<f32>> {
    check_embedding(embedding).map_err(refused)?;
    let scale = 1.0 / length(embedding);
    Ok(embedding.iter().map(|value| (f64::from(*value) * scale) as f32).collect())
}

fn add(gallery: &mut Gallery, photos: &[Photo]) -> Answered<Done> {
    let mut labels = labels_of(gallery);
    let mut known: HashSet<(usize, EntryId)> = gallery
        .entries()
        .map(|entry| (gallery.entry_class(entry), EntryId(gallery.content_id(entry))))
        .collect();
    let mut done = Done::default();
    for photo in photos {
        let class = class_to_be(gallery, &mut labels, &photo.class)?;
        if gallery.thumbnail(class).is_empty() && !photo.thumbnail.0.is_empty() {
            gallery.set_thumbnail(class, photo.thumbnail.0.clone()).map_err(refused)?;
            done.changed = true;
        }
        if !known.insert((class, photo.id)) {
            done.known += 1;
            continue;
        }
        let values: Vec<f32> = (photo.embeddings.0.chunks_exact(4))
            .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect();
        for embedding in values.chunks(gallery.dim().max(1)) {
            // A file may hold one of another length, which would be the nearest to everything.
            if (length(embedding) - 1.0).abs() <= ROUNDING {
                gallery.add_stored(class, embedding, photo.id.0).map_err(refused)?;
            } else {
                gallery.add_stored(class, &unit(embedding)?, photo.id.0).map_err(refused)?;
            }
        }
        done.added += 1;
    }
    if done.added > 0 {
        done.changed = true;
        gallery.connect();
    }
    Ok(done)
}

fn change_class(
    gallery: &mut Gallery,
    class: &str,
    to: Option<&str>,
    metadata: &BTreeMap<String, Option<String>>,
    least: Option<Least>,
) -> Answered<Done> {
    let mut class = class_of(gallery, class)?;
    let mut done = Done::default();
    let before = gallery.classes()[class].clone();
    if let Some(to) = to {
        // An older gallery may spell the same label otherwise.
        let to = match class_of(gallery, to) {
            Ok(other) if other != class => gallery.classes()[other].label.clone(),
            _ => label_to_be(to)?,
        };
        let classes = gallery.classes().len();
        class = gallery.rename_class(class, &to).map_err(refused)?;
        done.joined = gallery.classes().len() < classes;
    }
    let now = &gallery.classes()[class];
    let (mut facts, mut threshold) = (now.metadata.clone(), now.min_similarity);
    for (name, text) in metadata {
        match text {
            Some(text) => drop(facts.insert(name.clone(), text.clone())),
            None => drop(facts.remove(name)),
        }
    }
    match least {
        Some(Least::Cosine(least)) if (-1.0..=1.0).contains(&least) => threshold = Some(least),
        Some(Least::Cosine(_)) => {
            return Err(Problem::value(
                "min_similarity is a cosine from -1 to 1, or null for everyone's",
            ));
        }
        Some(Least::None) => threshold = None,
        None => (),
    }
    gallery.describe_class(class, facts, threshold).map_err(refused)?;
    done.changed = done.joined || gallery.classes()[class] != before;
    Ok(done)
}

/// Positions of entries by their ids, of one class or of all.
fn entries_of(gallery: &Gallery, ids: &[EntryId], class: Option<&str>) -> Answered<Vec<usize>> {
    let class = class.map(|class| class_of(gallery, class)).transpose()?;
    let wanted: HashSet<EntryId> = ids.iter().copied().collect();
    let mut found = HashSet::new();
    let entries: Vec<usize> = (gallery.entries())
        .filter(|entry| class.is_none_or(|class| gallery.entry_class(*entry) == class))
        .filter(|entry| {
            let id = EntryId::of(gallery, *entry);
            let is_wanted = wanted.contains(&id);
            if is_wanted {
                found.insert(id);
            }
            is_wanted
        })
        .collect();
    if let Some(id) = ids.iter().find(|id| !found.contains(id)) {
        let of = if class.is_some() { " in this class" } else { "" };
        let detail =
            format!("there is no entry {id}{of}; GET /v1/entries lists those that there are");
        return Err(Problem::new(Kind::NotFound, detail));
    }
    Ok(entries)
}

fn move_entries(
    gallery: &mut Gallery,
    ids: &[EntryId],
    class: Option<&str>,
    to: &str,
) -> Answered<Done> {
    let entries = entries_of(gallery, ids, class)?;
    let mut labels = labels_of(gallery);
    let to = class_to_be(gallery, &mut labels, to)?;
    let moving: Vec<usize> =
        entries.into_iter().filter(|entry| gallery.entry_class(*entry) != to).collect();
    let there: HashSet<EntryId> = (gallery.entries())
        .filter(|entry| gallery.entry_class(*entry) == to)
        .map(|entry| EntryId::of(gallery, entry))
        .collect();
    if moving.is_empty() {
        return Ok(Done::default());
    }
    let mut done = Done { moved: moving.len(), ..Done::CHANGED };
    // An image is in a class once.
    let kept: Vec<(Vec<f32>, ContentId)> = (moving.iter())
        .filter(|entry| !there.contains(&EntryId::of(gallery, **entry)))
        .map(|entry| (gallery.embedding(*entry).into_owned(), gallery.content_id(*entry)))
        .collect();
    done.known = moving.len() - kept.len();
    gallery.remove_entries(&moving).map_err(refused)?;
    for (embedding, content) in kept {
        gallery.add_stored(to, &embedding, content).map_err(refused)?;
    }
    gallery.connect();
    Ok(done)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An image whose embedding leans on one axis.
    pub(crate) fn photo(class: &str, number: u8) -> Photo {
        let mut values = [0.0_f32; 4];
        values[usize::from(number % 4)] = 1.0;
        Photo {
            class: class.to_owned(),
            id: EntryId(ContentId::of(&[number])),
            thumbnail: Packed(vec![number]),
            embeddings: Packed(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        }
    }

    fn gallery() -> Gallery {
        let mut gallery = Gallery::new(4, "m");
        let photos = vec![photo("Mug", 0), photo("Mug", 1), photo("Käse", 2)];
        let change = Change::Add { photos };
        assert_eq!(change.apply(&mut gallery).unwrap(), Done { added: 3, ..Done::CHANGED });
        gallery
    }

    #[test]
    fn an_image_is_in_a_class_once_and_one_name_is_one_class() {
        let mut gallery = gallery();
        let again = Change::Add { photos: vec![photo(" Ka\u{308}se ", 2), photo("Mug", 2)] };
        let done = again.apply(&mut gallery).unwrap();
        assert_eq!((done.added, done.known, gallery.classes().len()), (1, 1, 2));
        assert_eq!(gallery.thumbnail(0), [0], "the first stays");
        let blank = Change::Add { photos: vec![photo(" ", 3)] };
        assert_eq!(blank.apply(&mut gallery.clone()).unwrap_err().kind, Kind::Value);
    }

    #[test]
    fn an_entry_has_unit_length_whatever_a_file_holds() {
        let mut gallery = gallery();
        let long = [300.0_f32, 0.0, 400.0, 0.0];
        let mut photo = photo("Mug", 3);
        photo.embeddings.0 = long.iter().flat_map(|value| value.to_le_bytes()).collect();
        Change::Add { photos: vec![photo.clone()] }.apply(&mut gallery).unwrap();
        // Values have 16 bits.
        let stored = gallery.embedding(gallery.len() - 1);
        let is_near = |(value, wanted): (&f32, f32)| (value - wanted).abs() < 1e-3;
        assert!(stored.iter().zip([0.6, 0.0, 0.8, 0.0]).all(is_near), "{stored:?}");
        for wrong in [f32::NAN, f32::INFINITY, 0.0] {
            photo.id = EntryId(ContentId::of(&[9]));
            photo.embeddings.0 = [wrong; 4].iter().flat_map(|value| value.to_le_bytes()).collect();
            let change = Change::Add { photos: vec![photo.clone()] };
            assert_eq!(change.apply(&mut gallery.clone()).unwrap_err().kind, Kind::Value);
        }
    }

    #[test]
    fn what_is_so_already_changes_nothing() {
        let mut gallery = gallery();
        let before = gallery.to_bytes();
        let id = EntryId(ContentId::of(&[1]));
        let class = |label: Option<&str>| Change::Class {
            class: "Mug".to_owned(),
            label: label.map(str::to_owned),
            metadata: [("price".to_owned(), None)].into(),
            least: Some(Least::None),
        };
        for (change, known) in [
            (Change::Add { photos: vec![photo("Mug", 0), photo("Mug", 1)] }, 2),
            (class(None), 0),
            (class(Some(" Mug")), 0),
            (Change::Move { ids: vec![id], class: None, to: "Mug".to_owned() }, 0),
            (Change::Nothing, 0),
        ] {
            let done = change.apply(&mut gallery).unwrap();
            assert_eq!(done, Done { known, ..Done::default() }, "{change:?}");
            assert!(gallery.to_bytes() == before, "{change:?}");
        }
        // A picture that is known gives its class the thumbnail that it lacks.
        gallery.set_thumbnail(0, Vec::new()).unwrap();
        let shown = Change::Add { photos: vec![photo("Mug", 0)] };
        assert_eq!(shown.apply(&mut gallery).unwrap(), Done { known: 1, ..Done::CHANGED });
        assert_eq!(gallery.thumbnail(0), [0]);
    }

    #[test]
    fn entries_move_and_go_by_their_ids() {
        let mut gallery = gallery();
        let id = |number: u8| EntryId(ContentId::of(&[number]));
        let change = Change::Move { ids: vec![id(1)], class: None, to: "Cup".to_owned() };
        assert_eq!(change.apply(&mut gallery).unwrap().moved, 1);
        assert_eq!(gallery.counts(), [1, 1, 1]);
        let found = gallery.search(&[0.0, 1.0, 0.0, 0.0], 1).unwrap();
        assert_eq!(gallery.classes()[found[0].class].label, "Cup");
        let missing = Change::RemoveEntries { ids: vec![id(1)], class: Some("Mug".to_owned()) };
        let problem = missing.apply(&mut gallery.clone()).unwrap_err();
        assert!(
            problem.kind == Kind::NotFound && problem.detail.contains("in this class"),
            "{problem:?}"
        );
        let gone = Change::RemoveEntries { ids: vec![id(1), id(2)], class: None };
        assert_eq!(gone.apply(&mut gallery).unwrap().removed, 2);
        assert_eq!(gallery.len(), 1);
    }

    #[test]
    fn a_class_is_renamed_described_and_joined() {
        let mut gallery = gallery();
        let mut change = |label: Option<&str>, facts: &[(&str, Option<&str>)], least| {
            let facts =
                facts.iter().map(|(name, text)| ((*name).to_owned(), text.map(str::to_owned)));
            let class = gallery.classes()[0].label.clone();
            let change = Change::Class {
                class,
                label: label.map(str::to_owned),
                metadata: facts.collect(),
                least,
            };
            // As the journal has it.
            let text = serde_json::to_string(&change).unwrap();
            let read: Change = serde_json::from_str(&text).unwrap();
            assert_eq!(read, change);
            let done = read.apply(&mut gallery);
            (done, gallery.classes().to_vec())
        };
        let (_, classes) = change(Some("Cup"), &[("price", Some("9 €"))], Some(Least::Cosine(0.7)));
        assert_eq!((classes[0].label.as_str(), classes[0].min_similarity), ("Cup", Some(0.7)));
        let (_, classes) = change(None, &[("price", None)], Some(Least::None));
        assert!(classes[0].metadata.is_empty() && classes[0].min_similarity.is_none());
        assert_eq!(change(None, &[], Some(Least::Cosine(2.0))).0.unwrap_err().kind, Kind::Value);
        let (done, classes) = change(Some("Käse"), &[], None);
        assert!(done.unwrap().joined && classes.len() == 1);
    }

    #[test]
    fn ids_of_embeddings_are_none_of_images() {
        let [one, other] = [b"a", b"b"].map(|bytes| EntryId::of_embedding(bytes));
        assert!(one != other && !one.is_of_image());
        assert!(EntryId(ContentId::of(b"a")).is_of_image());
        assert!(!EntryId(ContentId::default()).is_of_image());
    }

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = EntryId(ContentId::of(b"x"));
        assert_eq!(EntryId::parse(&id.to_string()).unwrap(), id);
        for wrong in ["", "1", &"g".repeat(32), &"+1".repeat(16)] {
            assert_eq!(EntryId::parse(wrong).unwrap_err().kind, Kind::Value);
        }
    }
}
