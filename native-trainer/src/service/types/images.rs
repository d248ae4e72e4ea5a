//! Images and embeddings that are asked about, and their answers.

use std::collections::BTreeMap;

use models::detector::{Detection, DetectionThresholds};
use models::gallery::{Gallery, Match};
use models::image::geometry::BBox;
use models::recognizer::{Recognition, Timings};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::service::asked::Texts;
use crate::service::filter::Filter;
use crate::service::problem::{Answered, Document};
use crate::service::schema::{Described, Schemas, described, words};

words! {
    /// Fields of an object.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
    pub(crate) enum Field {
        Bbox = "bbox",
        DetectionScore = "detection_score",
        Known = "known",
        Probability = "probability",
        LeastSimilarity = "least_similarity",
        Matches = "matches",
        Metadata = "metadata",
        Embedding = "embedding",
    }

    /// Which part of an image is embedded.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
    pub(crate) enum PartOf {
        /// All of it.
        #[default]
        Whole = "whole",
        /// What would become an entry of the gallery.
        Entry = "entry",
    }
}

described! {
    /// How images are recognized. All may stand in the address or beside `images` in JSON.
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub(crate) struct RecognizeOptions = "" {
        /// Classes of each object, best first; by default as many as the page shows.
        pub(crate) top_k: Option<usize> [1, 100],
        /// Least cosine of an answer where the class has none of its own; by default the site's threshold.
        pub(crate) min_similarity: Option<f32> [-1.0, 1.0],
        /// Least score of the detector; by default the site's.
        pub(crate) min_score: Option<f32> [0.0, 1.0],
        /// Only these classes are searched.
        pub(crate) class: Texts,
        /// Only classes with these metadata are searched; `where=NAME=TEXT` in the address.
        pub(crate) r#where: BTreeMap<String, String>,
        /// What comes back of each object; by default all but `least_similarity`, `metadata` and `embedding`.
        pub(crate) fields: Vec<Field>,
    }
}

impl RecognizeOptions {
    /// The classes of a gallery that are searched.
    ///
    /// # Errors
    ///
    /// As [`Filter::new`].
    pub(crate) fn filter(&self, gallery: &Gallery) -> Answered<Filter> {
        Filter::new(gallery, &self.class.0, &self.r#where)
    }

    /// What comes back of each object.
    pub(crate) fn fields(&self) -> Vec<Field> {
        if self.fields.is_empty() {
            return vec![
                Field::Bbox,
                Field::DetectionScore,
                Field::Known,
                Field::Probability,
                Field::Matches,
            ];
        }
        self.fields.clone()
    }

    /// The site's thresholds with those that are given.
    pub(crate) fn thresholds(&self, site: DetectionThresholds) -> DetectionThresholds {
        DetectionThresholds { score: self.min_score.unwrap_or(site.score), ..site }
    }
}

described! {
    /// A class that was found.
    #[derive(Debug, Serialize)]
    pub(crate) struct Found = "Match" {
        label: String,
        /// Cosine, −1 to 1.
        similarity: f64,
        /// Metadata of the class, where they were asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<models::gallery::Metadata>,
    }
}

described! {
    /// An object of an image; it has the fields that were asked for.
    #[derive(Debug, Serialize)]
    pub(crate) struct Object = "Object" {
        /// Left, top, right and bottom in pixels of the image.
        #[serde(skip_serializing_if = "Option::is_none")]
        bbox: Option<[f64; 4]>,
        /// How sure the detector is, 0 to 1; 1 for a whole image.
        #[serde(skip_serializing_if = "Option::is_none")]
        detection_score: Option<f64>,
        /// Whether the best class is similar enough to be the answer.
        #[serde(skip_serializing_if = "Option::is_none")]
        known: Option<bool>,
        /// How probable it is that the best class is right, of a thing that the gallery has; null where it is not known.
        #[serde(skip_serializing_if = "Option::is_none")]
        probability: Option<Option<f64>>,
        /// Cosine from which on the best class would be the answer.
        #[serde(skip_serializing_if = "Option::is_none")]
        least_similarity: Option<f64>,
        /// The most similar classes, best first.
        #[serde(skip_serializing_if = "Option::is_none")]
        matches: Option<Vec<Found>>,
        /// Unit embedding.
        #[serde(skip_serializing_if = "Option::is_none")]
        embedding: Option<Vec<f64>>,
    }
}

impl Object {
    /// The fields of an object that are wanted. Numbers are those of `magpie recognize --json`, digit by digit.
    pub(crate) fn of(found: Recognition, gallery: &Gallery, fields: &[Field]) -> Self {
        let has = |field| fields.contains(&field);
        let Recognition {
            bbox,
            detection_score,
            matches,
            known,
            probability,
            least_similarity,
            embedding,
        } = found;
        Self {
            bbox: has(Field::Bbox).then(|| corners(&bbox)),
            detection_score: has(Field::DetectionScore).then(|| detection_score.into()),
            known: has(Field::Known).then_some(known),
            probability: has(Field::Probability).then(|| probability.map(f64::from)),
            least_similarity: has(Field::LeastSimilarity).then(|| least_similarity.into()),
            matches: has(Field::Matches)
                .then(|| self::found(&matches, gallery, has(Field::Metadata))),
            embedding: has(Field::Embedding).then(|| wide(&embedding)),
        }
    }
}

fn corners(b: &BBox) -> [f64; 4] {
    [b.x1, b.y1, b.x2, b.y2].map(f64::from)
}

/// An embedding with every digit of its values.
pub(crate) fn wide(embedding: &[f32]) -> Vec<f64> {
    embedding.iter().map(|value| f64::from(*value)).collect()
}

fn found(matches: &[Match], gallery: &Gallery, metadata: bool) -> Vec<Found> {
    let found = |found: &Match| {
        let class = &gallery.classes()[found.class];
        Found {
            label: class.label.clone(),
            similarity: found.similarity.into(),
            metadata: metadata.then(|| class.metadata.clone()),
        }
    };
    matches.iter().map(found).collect()
}

described! {
    /// Milliseconds of the batch that an image was in.
    #[derive(Debug, Serialize)]
    pub(crate) struct Took = "Took" {
        detect: f64,
        embed: f64,
        search: f64,
    }
}

impl From<Timings> for Took {
    fn from(timings: Timings) -> Self {
        Self { detect: timings.detect, embed: timings.embed, search: timings.search }
    }
}

/// What came of an image: its answer, or why it cannot be used.
#[derive(Debug, Serialize)]
pub(crate) struct Of<T> {
    /// What the sender calls it.
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) answer: Option<T>,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<Document>,
}

impl<T: Described> Described for Of<T> {
    fn schema(all: &mut Schemas) -> Value {
        let (name, problem) = (all.of::<String>(), all.of::<Document>());
        let mut schema = T::schema(all);
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties.insert("name".to_owned(), name);
            properties.insert("problem".to_owned(), problem);
        }
        // The answer is there or the problem is.
        schema["required"] = json!(["name"]);
        schema["description"] =
            "What came of an image: its answer, or why it cannot be used.".into();
        schema
    }
}

/// Answers of images, in their order.
#[derive(Debug, Serialize)]
pub(crate) struct Images<T> {
    /// Version of the gallery that was asked.
    pub(crate) version: u64,
    /// One answer an image.
    pub(crate) images: Vec<Of<T>>,
}

impl<T: Described> Described for Images<T> {
    fn schema(all: &mut Schemas) -> Value {
        json!({
            "type": "object",
            "description": "Answers of images, in their order, and the version of the gallery that was asked.",
            "properties": {"version": all.of::<u64>(), "images": all.of::<Vec<Of<T>>>()},
            "required": ["version", "images"],
        })
    }
}

described! {
    /// Objects of an image.
    #[derive(Debug, Serialize)]
    pub(crate) struct Recognized = "Recognized" {
        pub(crate) objects: Vec<Object>,
        pub(crate) timings_ms: Took,
    }
}

described! {
    /// A box.
    #[derive(Debug, Serialize)]
    pub(crate) struct Boxed = "Boxed" {
        /// Left, top, right and bottom in pixels of the image.
        bbox: [f64; 4],
        /// How sure the detector is, 0 to 1.
        score: f64,
    }
}

impl From<Detection> for Boxed {
    fn from(found: Detection) -> Self {
        Self { bbox: corners(&found.bbox), score: found.score.into() }
    }
}

described! {
    /// Boxes of an image.
    #[derive(Debug, Serialize)]
    pub(crate) struct Detected = "Detected" {
        pub(crate) objects: Vec<Boxed>,
    }
}

described! {
    /// The embedding of an image.
    #[derive(Debug, Serialize)]
    pub(crate) struct Embedded = "Embedded" {
        pub(crate) embedding: Vec<f64>,
    }
}

described! {
    /// How objects are found.
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub(crate) struct DetectOptions = "" {
        /// Least score of the detector; by default the site's.
        min_score: Option<f32> [0.0, 1.0],
    }
}

impl DetectOptions {
    /// The site's thresholds with those that are given.
    pub(crate) fn thresholds(&self, site: DetectionThresholds) -> DetectionThresholds {
        DetectionThresholds { score: self.min_score.unwrap_or(site.score), ..site }
    }
}

described! {
    /// What is embedded.
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub(crate) struct EmbedOptions = "" {
        /// Which part of an image.
        pub(crate) part: PartOf,
    }
}

described! {
    /// What is searched for, beside images.
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub(crate) struct SearchOptions = "" {
        /// An embedding, instead of images; in JSON alone.
        pub(crate) embedding: Option<Vec<f32>>,
        /// Several embeddings, instead of images; in JSON alone.
        pub(crate) embeddings: Vec<Vec<f32>>,
        /// Classes that are returned, best first.
        pub(crate) top_k: Option<usize> [1, 100],
        /// Least cosine of an answer where the class has none of its own; by default the site's threshold.
        pub(crate) min_similarity: Option<f32> [-1.0, 1.0],
        /// Only these classes are searched.
        pub(crate) class: Texts,
        /// Only classes with these metadata are searched; `where=NAME=TEXT` in the address.
        pub(crate) r#where: BTreeMap<String, String>,
    }
}

impl SearchOptions {
    /// As recognition has them.
    pub(crate) fn recognition(&self) -> RecognizeOptions {
        RecognizeOptions {
            top_k: self.top_k,
            min_similarity: self.min_similarity,
            class: self.class.clone(),
            r#where: self.r#where.clone(),
            ..RecognizeOptions::default()
        }
    }
}

described! {
    /// What a search found.
    #[derive(Debug, Serialize)]
    pub(crate) struct Searched = "Searched" {
        /// Whether the best class is similar enough to be the answer.
        known: bool,
        /// How probable it is that it is right; null where that is not known.
        probability: Option<f64>,
        /// Cosine from which on it would be the answer.
        least_similarity: f64,
        /// The most similar classes, best first, with their metadata.
        matches: Vec<Found>,
    }
}

impl Searched {
    /// Of what an embedding is.
    pub(crate) fn of(found: &Recognition, gallery: &Gallery) -> Self {
        Self {
            known: found.known,
            probability: found.probability.map(f64::from),
            least_similarity: found.least_similarity.into(),
            matches: self::found(&found.matches, gallery, true),
        }
    }
}
