//! Classes, entries and the gallery, and what changes of them are asked for.

use std::collections::BTreeMap;

use models::gallery::{Class, Gallery};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::service::asked::{Once, Texts};
use crate::service::filter::Filter;
use crate::service::problem::Answered;
use crate::service::schema::{Described, Schemas, described, words};

described! {
    /// A page of a list.
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub(crate) struct ListOptions = "" {
        /// Where the page begins; `next` of the page before.
        pub(crate) offset: usize [0, 1_000_000_000],
        /// Length of the page; 100 if it is not given.
        limit: Option<usize> [1, 1000],
        /// Only these classes.
        class: Texts,
        /// Only classes with these metadata, each `NAME=TEXT`.
        r#where: BTreeMap<String, String>,
        /// Only classes whose label has this text in it, in any case.
        q: Option<String>,
    }

    /// A page of a list of entries.
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub(crate) struct EntryOptions = "" {
        /// Where the page begins; `next` of the page before.
        offset: usize [0, 1_000_000_000],
        /// Length of the page; 100 if it is not given.
        limit: Option<usize> [1, 1000],
        /// Only those of these classes.
        class: Texts,
        /// Only those of classes with these metadata, each `NAME=TEXT`.
        r#where: BTreeMap<String, String>,
        /// Only those of classes whose label has this text in it, in any case.
        q: Option<String>,
        /// Whether entries come with their embeddings.
        pub(crate) embeddings: bool,
    }

    /// A class of the gallery.
    #[derive(Debug, Serialize)]
    pub(crate) struct ClassOf = "Class" {
        /// Its name.
        label: String,
        /// What its owner tells of it.
        metadata: models::gallery::Metadata,
        /// Its own threshold, a cosine; null: everyone's.
        min_similarity: Option<f64>,
        /// Its entries.
        entries: usize,
        /// Whether it has a thumbnail.
        thumbnail: bool,
    }

    /// A page of classes.
    #[derive(Debug, Serialize)]
    pub(crate) struct ClassPage = "Classes" {
        /// Version of the gallery.
        pub(crate) version: u64,
        /// Classes that fit, on all pages.
        pub(crate) total: usize,
        /// Where the next page begins; null on the last.
        pub(crate) next: Option<usize>,
        /// Those of this page.
        pub(crate) classes: Vec<ClassOf>,
    }

    /// An entry of the gallery.
    #[derive(Debug, Serialize)]
    pub(crate) struct EntryOf = "Entry" {
        /// 32 hexadecimal digits: the content id of its image, or a hash of its embedding where the image is unknown. The
        /// parts of one image have one id.
        pub(crate) id: String,
        /// Label of its class.
        pub(crate) class: String,
        /// Whether its image is known.
        pub(crate) image_known: bool,
        /// Its embedding, if it was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(crate) embedding: Option<Vec<f64>>,
    }

    /// A page of entries.
    #[derive(Debug, Serialize)]
    pub(crate) struct EntryPage = "Entries" {
        /// Version of the gallery.
        pub(crate) version: u64,
        /// Entries that fit, on all pages.
        pub(crate) total: usize,
        /// Where the next page begins; null on the last.
        pub(crate) next: Option<usize>,
        /// Those of this page.
        pub(crate) entries: Vec<EntryOf>,
    }

    /// What a class is to be.
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub(crate) struct ClassChange = "ClassChange" {
        /// Another label; where a class has it already the two become one.
        pub(crate) label: Option<String>,
        /// Metadata that are set; null takes one out.
        pub(crate) metadata: BTreeMap<String, Option<String>>,
        /// Its own threshold, a cosine; null: everyone's.
        #[serde(deserialize_with = "given")]
        pub(crate) min_similarity: Option<Option<f32>> [-1.0, 1.0],
    }

    /// How images become entries.
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub(crate) struct AddOptions = "" {
        /// The class of images that say none of their own.
        pub(crate) class: Once,
        /// Whether nothing is added where an image cannot be used.
        pub(crate) strict: bool,
    }

    /// Which entries of an image go.
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub(crate) struct EntryChange = "" {
        /// Only that of this class.
        pub(crate) class: Once,
    }

    /// Entries that go.
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(crate) struct EntriesGone = "EntriesGone" {
        /// Their ids.
        pub(crate) ids: Ids,
        /// Only those of this class.
        #[serde(default)]
        pub(crate) class: Once,
    }

    /// Entries that go to another class.
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(crate) struct EntriesMoved = "EntriesMoved" {
        /// Their ids.
        pub(crate) ids: Ids,
        /// Only those of this class.
        #[serde(default)]
        pub(crate) class: Once,
        /// The class that they go to.
        pub(crate) to: String,
    }

    /// What map is learned.
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub(crate) struct AdaptOptions = "AdaptOptions" {
        /// What map is learned.
        pub(crate) kind: MapKind,
        /// Share of unknown things that may be named, above 0 and below 1; 0.05 if it is not given.
        pub(crate) false_accept: Option<f64> [0.0, 1.0; open],
    }

    /// How rule, threshold and probabilities are measured.
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub(crate) struct CalibrateOptions = "CalibrateOptions" {
        /// Share of unknown things that may be named, above 0 and below 1; 0.05 if it is not given.
        pub(crate) false_accept: Option<f64> [0.0, 1.0; open],
        /// Whether a threshold that was measured with other images, or given by hand, is measured anew.
        pub(crate) always: bool,
    }

    /// No option.
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub(crate) struct Nothing = "" {
    }

    /// What the gallery is.
    #[derive(Debug, Serialize)]
    pub(crate) struct Statistics = "Statistics" {
        /// Version of the gallery; counts its changes.
        pub(crate) version: u64,
        /// Title of the site.
        pub(crate) title: String,
        /// Digest of the extractor.
        pub(crate) model: String,
        /// Values of an embedding.
        pub(crate) dim: usize,
        /// How values are stored.
        pub(crate) values: String,
        /// Classes.
        pub(crate) classes: usize,
        /// Entries.
        pub(crate) entries: usize,
        /// Entries of the class with the fewest, of the middle one, of the one with the most.
        pub(crate) entries_a_class: [usize; 3],
        /// How entries are searched.
        pub(crate) index: String,
        /// Which part of an image becomes an entry.
        pub(crate) crop: String,
        /// Whether objects are found; without a detector every image is one object.
        pub(crate) detector: bool,
        /// Classes of an answer, where nothing else is asked for.
        pub(crate) top_k: usize,
        /// Least cosine of an answer.
        pub(crate) min_similarity: f64,
        /// The answer rule.
        pub(crate) rule: String,
        /// Whether probabilities are known.
        pub(crate) calibrated: bool,
        /// What the gallery's map is; null without one.
        pub(crate) map: Option<String>,
        /// Whether this service changes the gallery.
        pub(crate) changes: bool,
    }
}

/// Ids of entries, one or several.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Ids(pub(crate) Vec<String>);

impl Described for Ids {
    fn schema(_: &mut Schemas) -> Value {
        json!({"type": "array", "minItems": 1, "items": {"type": "string", "pattern": ID}})
    }
}

/// How an id looks.
pub(crate) const ID: &str = "^[0-9a-fA-F]{32}$";

words! {
    /// What map is learned.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
    pub(crate) enum MapKind {
        /// The one that helps most.
        #[default]
        Auto = "auto",
        /// The same variance in every direction.
        Whitening = "whitening",
        /// The directions of the class means alone.
        Lda = "lda",
        /// None: the one that there is goes.
        None = "none",
    }
}

/// The classes that a list is of.
pub(crate) struct Listed {
    filter: Filter,
    text: Option<String>,
}

impl Listed {
    /// Whether a class is listed.
    pub(crate) fn has(&self, class: &Class) -> bool {
        let has = |text: &String| class.label.to_lowercase().contains(text);
        self.filter.admits(class) && self.text.as_ref().is_none_or(has)
    }
}

impl ListOptions {
    /// Length of the page.
    pub(crate) fn limit(&self) -> usize {
        self.limit.unwrap_or(100)
    }

    /// The classes of a gallery that are meant.
    ///
    /// # Errors
    ///
    /// As [`Filter::new`].
    pub(crate) fn listed(&self, gallery: &Gallery) -> Answered<Listed> {
        let text = self.q.as_deref().map(str::to_lowercase);
        Ok(Listed { filter: Filter::new(gallery, &self.class.0, &self.r#where)?, text })
    }
}

impl EntryOptions {
    /// Those of a list of classes.
    pub(crate) fn list(self) -> ListOptions {
        let Self { offset, limit, class, r#where, q, .. } = self;
        ListOptions { offset, limit, class, r#where, q }
    }
}

impl ClassOf {
    /// A class with the number of its entries.
    pub(crate) fn new(class: &Class, entries: usize, thumbnail: bool) -> Self {
        Self {
            label: class.label.clone(),
            metadata: class.metadata.clone(),
            min_similarity: class.min_similarity.map(f64::from),
            entries,
            thumbnail,
        }
    }
}

/// Tells `null` from what is not there.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
