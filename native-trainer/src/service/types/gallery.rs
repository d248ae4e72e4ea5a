//! Classes, entries and the gallery, and what changes of them are asked for.

use std::collections::BTreeMap;

use models::gallery::Class;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::service::asked::ImageData;
use crate::service::problem::{Answered, Document, Problem};

/// A page of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListOptions {
    /// Where the page begins; `next` of the page before.
    pub(crate) offset: usize,
    /// Length of the page: 100, and 1,000 at most.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Only these classes.
    pub(crate) class: Vec<String>,
    /// Only classes with these metadata, as `NAME=TEXT`.
    #[param(value_type = Vec<String>)]
    pub(crate) r#where: BTreeMap<String, String>,
    /// Only classes whose label has this text in it, in any case.
    pub(crate) q: Option<String>,
    /// Whether entries come with their embeddings.
    pub(crate) embeddings: bool,
}

impl ListOptions {
    /// Length of the page.
    ///
    /// # Errors
    ///
    /// A value out of its range.
    pub(crate) fn limit(&self) -> Answered<usize> {
        match self.limit.unwrap_or(100) {
            limit @ 1..=1000 => Ok(limit),
            limit => Err(Problem::value(format!("limit is {limit}; it goes from 1 to 1000"))),
        }
    }
}

/// A class of the gallery.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Class)]
pub(crate) struct ClassOf {
    label: String,
    #[schema(value_type = BTreeMap<String, String>)]
    metadata: models::gallery::Metadata,
    /// Its own threshold; null: everyone's.
    min_similarity: Option<f64>,
    entries: usize,
    /// Whether it has a thumbnail.
    thumbnail: bool,
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

/// A page of classes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Classes {
    pub(crate) version: u64,
    /// Classes that fit, on all pages.
    pub(crate) total: usize,
    /// Where the next page begins; null on the last.
    pub(crate) next: Option<usize>,
    pub(crate) classes: Vec<ClassOf>,
}

/// An entry of the gallery.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Entry)]
pub(crate) struct EntryOf {
    /// 32 hexadecimal digits: the content id of its image, or a hash of its embedding where the image is unknown. The
    /// parts of one image have one id.
    pub(crate) id: String,
    /// Label of its class.
    pub(crate) class: String,
    /// Whether its image is known.
    pub(crate) image_known: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) embedding: Option<Vec<f64>>,
}

/// A page of entries.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Entries {
    pub(crate) version: u64,
    /// Entries that fit, on all pages.
    pub(crate) total: usize,
    /// Where the next page begins; null on the last.
    pub(crate) next: Option<usize>,
    pub(crate) entries: Vec<EntryOf>,
}

/// What a class is to be.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ClassChange {
    /// Another label; where a class has it already the two become one.
    pub(crate) label: Option<String>,
    /// Metadata that are set; null takes one out.
    #[schema(value_type = BTreeMap<String, Option<String>>)]
    pub(crate) metadata: BTreeMap<String, Option<String>>,
    /// Its own threshold, a cosine; null: everyone's.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<f32>, minimum = -1.0, maximum = 1.0)]
    pub(crate) min_similarity: Option<Option<f32>>,
}

/// Tells `null` from what is not there.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Images that become entries, each with its class or all of one.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct AddOptions {
    /// The class of images that say none of their own.
    pub(crate) class: Vec<String>,
    /// Whether nothing is added where an image cannot be used.
    pub(crate) strict: bool,
}

/// Images that become entries.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read field by field; here for the description")]
pub(crate) struct AddBody {
    images: Vec<ImageData>,
    /// The class of images that say none of their own.
    #[schema(value_type = Option<Vec<String>>)]
    class: Vec<String>,
    /// Whether nothing is added where an image cannot be used.
    strict: Option<bool>,
}

/// Entries that go, or go elsewhere.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EntriesChange {
    /// Their ids.
    pub(crate) ids: Vec<String>,
    /// Only those of this class.
    #[schema(value_type = Option<String>)]
    pub(crate) class: Option<String>,
    /// The class that they go to; where they are removed, none.
    pub(crate) to: Option<String>,
}

/// What a change came to.
#[derive(ToSchema)]
#[expect(dead_code, reason = "written as the journal keeps it; here for the description")]
pub(crate) struct Changed {
    /// Version of the gallery now.
    version: u64,
    /// Classes and entries of the gallery now.
    classes: usize,
    entries: usize,
    /// Images that became entries.
    added: usize,
    /// Images that their classes had already.
    known: usize,
    /// Entries that went.
    removed: usize,
    /// Entries that have another class now.
    moved: usize,
    /// Whether a class joined another one.
    joined: bool,
    /// Images that could not be used.
    left_out: Option<Vec<LeftOut>>,
    /// What the gallery learned, in sentences.
    lines: Option<Vec<String>>,
}

/// An image that could not be used.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct LeftOut {
    /// Place among the images of the request, from 0 on.
    pub(crate) image: usize,
    pub(crate) name: String,
    pub(crate) problem: Document,
}

/// What map is learned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MapKind {
    /// The one that helps most.
    #[default]
    Auto,
    Whitening,
    Lda,
    /// None: the one that there is goes.
    None,
}

/// How the gallery learns.
#[derive(Debug, Default, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct LearnOptions {
    /// What map is learned; for `adapt`.
    #[param(inline)]
    pub(crate) kind: MapKind,
    /// Share of unknown things that may be named, above 0 and below 1: 0.05.
    pub(crate) false_accept: Option<f64>,
    /// Whether a threshold that was measured with other images, or given by hand, is measured anew; for `calibrate`.
    pub(crate) always: bool,
}

/// What the gallery is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Statistics {
    pub(crate) version: u64,
    pub(crate) title: String,
    /// Digest of the extractor.
    pub(crate) model: String,
    /// Values of an embedding.
    pub(crate) dim: usize,
    /// How values are stored.
    pub(crate) values: String,
    pub(crate) classes: usize,
    pub(crate) entries: usize,
    /// Entries of the class with the fewest, of the middle one, of the one with the most.
    pub(crate) entries_a_class: [usize; 3],
    pub(crate) index: String,
    /// Which part of an image becomes an entry.
    pub(crate) crop: String,
    /// Whether objects are found; without a detector every image is one object.
    pub(crate) detector: bool,
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
