//! The recognition pipeline: detect → crop → embed → search.
//!
//! Source: PaddleClas `deploy/python/predict_system.py` @ d178931. Differences: all crops of a
//! picture are embedded as one batch (the reference takes them one by one); the whole picture is a
//! candidate only where nothing was found, unless the settings say otherwise; the best classes are
//! returned even where none is similar enough, marked as unknown.
//!
//! The trainer's evaluation, the tests and the browser all call [`Recognizer::recognize`], or
//! [`Recognizer::recognize_with`] where a gallery in shards has to be fetched from.

mod entry;
mod naming;
mod sharded;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::detector::{Detection, DetectionThresholds, Detector, decode};
use crate::extractor::Extractor;
use crate::image::geometry::BBox;
use crate::image::{ImageError, RgbImage};
use crate::inference::{Prepared, RunError};
use crate::preprocess::thumbnail;
use crate::tracker::Tracker;
use gallery::{Answer, AnswerRule, Fetched, Gallery, GalleryError, Match, Part, Question};
pub use naming::Naming;
use sharded::SearchedShards;

/// Side of a class's thumbnail in pixels: what the page shows at double density.
const THUMBNAIL_SIDE: u32 = 64;
/// JPEG quality of a thumbnail.
const THUMBNAIL_QUALITY: u8 = 78;

/// Why a picture could not be recognized.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecognizeError {
    /// A network gave no answer.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The embedding does not fit the gallery.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
}

/// When the whole picture is recognized as one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WholeImage {
    /// Beside the found objects, as in the reference.
    Always,
    /// Where nothing was found.
    #[default]
    Fallback,
    /// Not at all.
    Never,
}

/// Thresholds and counts of the pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecognizerSettings {
    /// What counts as an object.
    pub detection: DetectionThresholds,
    /// Whether the whole picture is a candidate.
    pub whole_image: WholeImage,
    /// Whether its middle stands for the whole picture, as in a gallery whose entries show middles.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub middle: bool,
    /// Least cosine for an answer, where a class has none of its own; the best below it is shown as
    /// unknown. As long as it is the gallery's own, what the gallery learned of lead and similarity counts.
    pub min_similarity: f32,
    /// Two answers whose boxes overlap by more are one; the more similar stays.
    pub recognition_nms_iou: f32,
    /// Classes returned a box.
    pub top_k: usize,
    /// Which class is the answer.
    #[serde(default, skip_serializing_if = "AnswerRule::is_nearest")]
    pub answer: AnswerRule,
}

impl Default for RecognizerSettings {
    fn default() -> Self {
        Self {
            detection: DetectionThresholds::default(),
            whole_image: WholeImage::default(),
            middle: false,
            min_similarity: 0.5,
            recognition_nms_iou: 0.5,
            top_k: 5,
            answer: AnswerRule::default(),
        }
    }
}

/// One object of a picture and what it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Recognition {
    /// Where, in pixels of the picture.
    pub bbox: BBox,
    /// How sure the detector is, `0..=1`; 1 for the whole picture.
    pub detection_score: f32,
    /// The most similar classes, best first; empty only for an empty gallery.
    pub matches: Vec<Match>,
    /// Whether the best is similar enough to be the answer.
    pub known: bool,
    /// How probable it is that the best is right, of a thing that the gallery has, `0..=1`; `None` where it is not
    /// known, or the gallery is not calibrated for the rule of the settings.
    pub probability: Option<f32>,
    /// Cosine from which on the best would be the answer.
    pub least_similarity: f32,
    /// Unit embedding of the crop.
    pub embedding: Vec<f32>,
}

impl Recognition {
    /// Cosine of the best class; below every cosine where there is none.
    pub fn similarity(&self) -> f32 {
        self.matches.first().map_or(f32::NEG_INFINITY, |m| m.similarity)
    }
}

/// Milliseconds of each stage, and what there was to do.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Timings {
    /// Detector: resize, network, decoding, suppression.
    pub detect: f64,
    /// Crops: resize, network.
    pub embed: f64,
    /// Gallery; fetching from one in shards included.
    pub search: f64,
    /// Objects that the extractor looked at.
    pub embedded: usize,
}

/// Both networks and the gallery on one device.
///
#[cfg_attr(feature = "flex", doc = "```")]
#[cfg_attr(not(feature = "flex"), doc = "```ignore")]
/// use models::{Device, Gallery, Recognizer, RecognizerSettings, RgbImage};
/// # use models::backbone::{BackboneConfig, MobileNetV1Config};
/// # use models::extractor::ExtractorConfig;
/// # use models::model_file::Trained;
/// # use models::{Class, Preprocess};
/// # let device = Device::flex();
/// # let backbone = BackboneConfig::MobileNetV1(MobileNetV1Config { scale: 0.25, fused: false });
/// # let config = ExtractorConfig { backbone, neck: None };
/// # let dim = config.embedding_dim();
/// # let network = Trained::Extractor(config.clone(), config.init(&device));
/// # let model = network.deploy(Preprocess::square(32), String::new());
/// // `model` is a `ModelFile`; `dim` is the width of its embeddings.
/// let extractor = model.prepare_extractor(&device)?;
/// // Without a detector the whole image is one object.
/// let gallery = Gallery::new(dim, "drawn weights");
/// let mut recognizer = Recognizer::new(None, extractor, gallery, RecognizerSettings::default());
///
/// // A class is learned from one image of it.
/// let leaf = RgbImage::from_rgb(2, 2, vec![20, 90, 30, 25, 99, 35, 18, 80, 28, 22, 95, 31])?;
/// let embeddings = pollster::block_on(recognizer.embed(std::slice::from_ref(&leaf)))?;
/// let mut gallery = recognizer.gallery().clone();
/// let class = gallery.add_class(Class { label: "leaf".to_owned(), ..Class::default() }, Vec::new());
/// gallery.add(class, &embeddings[0])?;
/// recognizer.replace_gallery(gallery)?;
/// recognizer.settings_mut().min_similarity = 0.9;
///
/// let clock = || 0.0;
/// let (objects, _) = pollster::block_on(recognizer.recognize(&leaf, clock))?;
/// assert!(objects[0].known);
/// assert_eq!(recognizer.gallery().classes()[objects[0].matches[0].class].label, "leaf");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Recognizer {
    detector: Option<Prepared<Detector>>,
    extractor: Prepared<Extractor>,
    /// What is searched.
    gallery: Gallery,
    sharded: Option<SearchedShards>,
    settings: RecognizerSettings,
}

/// What the networks say of a picture, before a gallery names it.
#[derive(Debug)]
pub struct Look {
    candidates: Vec<Detection>,
    embeddings: Vec<Vec<f32>>,
    embedded: usize,
    /// When it began, when objects were found, when they were embedded.
    times: [f64; 3],
}

impl Recognizer {
    /// Puts the parts together.
    pub fn new(
        detector: Option<Prepared<Detector>>,
        extractor: Prepared<Extractor>,
        gallery: Gallery,
        settings: RecognizerSettings,
    ) -> Self {
        Self { detector, extractor, gallery, sharded: None, settings }
    }

    /// The gallery that is searched; of one in shards, what was fetched for the last picture.
    pub fn gallery(&self) -> &Gallery {
        &self.gallery
    }

    /// Has another gallery that can be changed from now on and returns the one before.
    ///
    /// # Errors
    ///
    /// [`GalleryError::OtherModel`] or [`GalleryError::Dimension`]; the gallery stays as it is then.
    pub fn replace_gallery(&mut self, gallery: Gallery) -> Result<Gallery, GalleryError> {
        self.gallery.check_comparable(&gallery)?;
        let before = std::mem::replace(&mut self.gallery, gallery);
        match &mut self.sharded {
            Some(sharded) => Ok(std::mem::replace(&mut sharded.own, self.gallery.clone())),
            None => Ok(before),
        }
    }

    /// Fills in missing thumbnails of classes from `thumbnails`, matched by label.
    ///
    /// # Errors
    ///
    /// [`GalleryError::OtherModel`]
    pub fn take_thumbnails(&mut self, thumbnails: &Gallery) -> Result<(), GalleryError> {
        self.gallery.take_thumbnails(thumbnails)
    }

    /// Thresholds and counts.
    pub fn settings(&self) -> &RecognizerSettings {
        &self.settings
    }

    /// Changes thresholds and counts.
    pub fn settings_mut(&mut self) -> &mut RecognizerSettings {
        &mut self.settings
    }

    /// The network that embeds crops.
    pub fn extractor(&self) -> &Prepared<Extractor> {
        &self.extractor
    }

    /// The network that finds objects; without one every picture is one object.
    pub fn detector(&self) -> Option<&Prepared<Detector>> {
        self.detector.as_ref()
    }

    /// Says what is in a picture, from what is here. `clock` gives milliseconds from any origin.
    ///
    /// # Errors
    ///
    /// [`RecognizeError`]
    pub async fn recognize(
        &self,
        image: &RgbImage,
        clock: impl Fn() -> f64,
    ) -> Result<(Vec<Recognition>, Timings), RecognizeError> {
        let look = self.look(image, None, &clock).await?;
        self.name(look, &clock)
    }

    /// [`Self::recognize`], first fetching what a gallery in shards has near to the picture's objects.
    /// With a tracker it is a camera's next frame: only objects that are new or have changed are
    /// embedded.
    ///
    /// `fetch` is given parts and returns them with their bytes.
    ///
    /// # Errors
    ///
    /// [`RecognizeError`], or what `fetch` says.
    pub async fn recognize_with<E: From<RecognizeError>>(
        &mut self,
        image: &RgbImage,
        tracker: Option<&mut Tracker>,
        fetch: &impl AsyncFn(Vec<Part>) -> Result<Fetched, E>,
        clock: &dyn Fn() -> f64,
    ) -> Result<(Vec<Recognition>, Timings), E> {
        let look = self.look(image, tracker, clock).await?;
        if let Some(sharded) = &self.sharded {
            self.gallery = sharded.own.clone();
        }
        self.fetch_near(&look.embeddings, fetch).await?;
        Ok(self.name(look, clock)?)
    }

    async fn look(
        &self,
        image: &RgbImage,
        tracker: Option<&mut Tracker>,
        clock: &dyn Fn() -> f64,
    ) -> Result<Look, RecognizeError> {
        let start = clock();
        let mut candidates = self.detect(image).await?;
        self.add_whole(image, &mut candidates);
        let detected = clock();
        let boxes: Vec<BBox> = candidates.iter().map(|d| d.bbox).collect();
        let crops: Vec<RgbImage> = boxes.iter().map(|bbox| image.crop(bbox)).collect();
        let (embeddings, embedded) = match tracker {
            Some(tracker) => {
                let embed = async |crops: &[RgbImage]| self.embed(crops).await;
                (tracker.follow(&boxes, &crops, embed).await?, tracker.embedded())
            }
            None => (self.embed(&crops).await?, crops.len()),
        };
        Ok(Look { candidates, embeddings, embedded, times: [start, detected, clock()] })
    }

    /// Adds the whole picture to what was found in it, where the settings want it.
    fn add_whole(&self, image: &RgbImage, candidates: &mut Vec<Detection>) {
        let whole = match self.settings.whole_image {
            WholeImage::Always => true,
            WholeImage::Fallback => candidates.is_empty(),
            WholeImage::Never => false,
        };
        if whole {
            let of = if self.settings.middle { BBox::middle } else { BBox::whole };
            let bbox = of(image.width(), image.height());
            candidates.push(Detection { bbox, score: 1.0, class: 0 });
        }
    }

    /// The recognizer's own gallery, asked as the settings say.
    fn naming(&self) -> Naming<'_> {
        let question =
            Question { rule: self.settings.answer, ..Question::best(self.settings.top_k) };
        Naming { gallery: &self.gallery, question, min_similarity: self.settings.min_similarity }
    }

    fn name(
        &self,
        look: Look,
        clock: &dyn Fn() -> f64,
    ) -> Result<(Vec<Recognition>, Timings), RecognizeError> {
        let [start, detected, embedded] = look.times;
        let count = look.embedded;
        let recognitions = self.name_by(look, &self.naming())?;
        let timings = Timings {
            detect: detected - start,
            embed: embedded - detected,
            search: clock() - embedded,
            embedded: count,
        };
        Ok((recognitions, timings))
    }

    /// What an embedding is: the most similar classes by the rule of the settings, and whether the best is the
    /// answer.
    ///
    /// # Errors
    ///
    /// [`GalleryError`] for what is no embedding of this gallery.
    pub fn recognition(
        &self,
        bbox: BBox,
        detection_score: f32,
        embedding: Vec<f32>,
    ) -> Result<Recognition, GalleryError> {
        self.naming().recognition(bbox, detection_score, embedding)
    }

    /// The most similar classes of an embedding by the rule of the settings, best first, with how sure the first
    /// is.
    ///
    /// # Errors
    ///
    /// [`GalleryError`] for what is no embedding of this gallery.
    pub fn answer(&self, embedding: &[f32]) -> Result<Answer, GalleryError> {
        let top_k = self.settings.top_k;
        let question = Question { rule: self.settings.answer, ..Question::best(top_k) };
        self.gallery.answer(embedding, &question)
    }

    /// Cosine from which on the best class of an answer would be believed.
    pub fn least_similarity(&self, answer: &Answer) -> f32 {
        self.gallery.least_similarity(answer, self.settings.min_similarity)
    }

    /// The classes that are most similar to an embedding by the rule of the settings, best first.
    ///
    /// # Errors
    ///
    /// [`GalleryError`] for what is no embedding of this gallery.
    pub fn search(&self, embedding: &[f32], top_k: usize) -> Result<Vec<Match>, GalleryError> {
        let question = Question { rule: self.settings.answer, ..Question::best(top_k) };
        self.gallery.search_with(embedding, &question)
    }

    /// Objects of a picture, best first; none without a detector.
    ///
    /// # Errors
    ///
    /// [`RecognizeError::Run`]
    pub async fn detect(&self, image: &RgbImage) -> Result<Vec<Detection>, RecognizeError> {
        match &self.detector {
            Some(detector) => detect(detector, image, &self.settings.detection).await,
            None => Ok(Vec::new()),
        }
    }

    /// Unit embeddings of whole pictures, `[dim]` each.
    ///
    /// # Errors
    ///
    /// [`RecognizeError::Run`]
    pub async fn embed(&self, images: &[RgbImage]) -> Result<Vec<Vec<f32>>, RecognizeError> {
        embed(&self.extractor, images).await
    }
}

/// A thumbnail of a class, as a JPEG.
///
/// # Errors
///
/// [`ImageError`] where the encoder refuses.
pub fn class_thumbnail(picture: &RgbImage) -> Result<Vec<u8>, ImageError> {
    thumbnail(picture, THUMBNAIL_SIDE, THUMBNAIL_QUALITY)
}

/// Objects of a picture, best first, boxes in its pixels.
///
/// # Errors
///
/// [`RecognizeError::Run`]
pub async fn detect(
    detector: &Prepared<Detector>,
    image: &RgbImage,
    thresholds: &DetectionThresholds,
) -> Result<Vec<Detection>, RecognizeError> {
    let values = detector.run(std::slice::from_ref(image)).await?;
    let (decoding, preprocess) = (detector.reading(), detector.preprocess());
    Ok(decode(&values, decoding, preprocess, (image.width(), image.height()), thresholds))
}

/// The main body of a picture among its objects: the one whose score times area is greatest. `None` without
/// objects.
pub fn main_body(found: &[Detection]) -> Option<BBox> {
    let weight = |detection: &Detection| detection.score * detection.bbox.area();
    let best = found.iter().max_by(|a, b| weight(a).total_cmp(&weight(b)));
    best.map(|detection| detection.bbox)
}

/// Unit embeddings of pictures.
///
/// # Shapes
///
/// - output: one `[dim]` a picture
///
/// # Errors
///
/// [`RecognizeError::Run`]
pub async fn embed(
    extractor: &Prepared<Extractor>,
    images: &[RgbImage],
) -> Result<Vec<Vec<f32>>, RecognizeError> {
    let values = extractor.run(images).await?;
    let dim = values.len() / images.len().max(1);
    Ok(values.chunks_exact(dim.max(1)).map(<[f32]>::to_vec).collect())
}

/// Keeps the more similar of two answers whose boxes overlap by more than `max_iou`.
///
/// Agrees with the reference's `nms_to_rec_results`, which counts boxes as one pixel wider and
/// higher.
fn suppress(mut recognitions: Vec<Recognition>, max_iou: f32) -> Vec<Recognition> {
    recognitions.sort_by(|a, b| b.similarity().total_cmp(&a.similarity()));
    let mut kept: Vec<Recognition> = Vec::with_capacity(recognitions.len());
    for recognition in recognitions {
        let overlaps = |k: &Recognition| inclusive_iou(&k.bbox, &recognition.bbox) > max_iou;
        if !kept.iter().any(overlaps) {
            kept.push(recognition);
        }
    }
    kept
}

/// Intersection over union of boxes whose right and bottom pixels count as inside.
fn inclusive_iou(a: &BBox, b: &BBox) -> f32 {
    let wider = |b: &BBox| BBox::new(b.x1, b.y1, b.x2 + 1.0, b.y2 + 1.0);
    wider(a).iou(&wider(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bbox: [f32; 4], similarity: f32) -> Recognition {
        Recognition {
            bbox: BBox::new(bbox[0], bbox[1], bbox[2], bbox[3]),
            detection_score: 1.0,
            matches: vec![Match { class: 0, similarity }],
            known: true,
            probability: None,
            least_similarity: 0.5,
            embedding: Vec::new(),
        }
    }

    #[test]
    fn the_main_body_is_large_and_sure() {
        let found = |side: f32, score: f32| Detection {
            bbox: BBox::new(0.0, 0.0, side, side),
            score,
            class: 0,
        };
        let main = main_body(&[found(10.0, 0.9), found(40.0, 0.6), found(42.0, 0.3)]);
        assert_eq!(main, Some(BBox::new(0.0, 0.0, 40.0, 40.0)));
        assert_eq!(main_body(&[]), None);
        assert_eq!(BBox::middle(100, 200), BBox::new(15.0, 30.0, 85.0, 170.0));
    }

    #[test]
    fn the_more_similar_of_two_overlapping_answers_stays() {
        // The reference's recorded case.
        let all = || {
            vec![
                found([0.0, 0.0, 600.0, 600.0], 0.55),
                found([437.0, 71.0, 660.0, 728.0], 0.774),
                found([221.0, 72.0, 449.0, 701.0], 0.695),
                found([230.0, 80.0, 440.0, 690.0], 0.6),
                found([794.0, 104.0, 979.0, 652.0], 0.63),
            ]
        };
        let scores = |kept: Vec<Recognition>| -> Vec<f32> {
            kept.iter().map(Recognition::similarity).collect()
        };
        assert_eq!(scores(suppress(all(), 0.05)), [0.774, 0.695, 0.63]);
        assert_eq!(scores(suppress(all(), 0.5)), [0.774, 0.695, 0.63, 0.55]);
    }
}
