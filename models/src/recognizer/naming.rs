//! Pictures that are looked at together and named by a gallery of the caller's: a program that answers many at once
//! shares batches, and changes its gallery meanwhile.

use gallery::{Gallery, GalleryError, Question};

use super::{Look, Recognition, RecognizeError, Recognizer, Timings, suppress};
use crate::detector::{Detection, DetectionThresholds, decode};
use crate::image::RgbImage;
use crate::image::geometry::BBox;

/// What names objects.
#[derive(Clone, Copy)]
pub struct Naming<'a> {
    /// The gallery that is asked.
    pub gallery: &'a Gallery,
    /// How many classes by which rule.
    pub question: Question<'a>,
    /// Least cosine for an answer, as [`RecognizerSettings`](super::RecognizerSettings) has it.
    pub min_similarity: f32,
}

impl Look {
    /// How long the networks took for the batch, in milliseconds, without a search.
    pub fn timings(&self) -> Timings {
        let [start, detected, embedded] = self.times;
        Timings {
            detect: detected - start,
            embed: embedded - detected,
            search: 0.0,
            embedded: self.embedded,
        }
    }
}

impl Naming<'_> {
    /// What an embedding is.
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
        let answer = self.gallery.answer(&embedding, &self.question)?;
        let known = self.gallery.is_known(&answer, self.min_similarity);
        Ok(Recognition {
            bbox,
            detection_score,
            known,
            least_similarity: self.gallery.least_similarity(&answer, self.min_similarity),
            probability: answer.probability.filter(|_| known),
            matches: answer.matches,
            embedding,
        })
    }
}

impl Recognizer {
    /// Objects of pictures, best first, by thresholds of each; none without a detector. The pictures are one batch of
    /// the network.
    ///
    /// # Errors
    ///
    /// [`RecognizeError::Run`]
    pub async fn detect_all(
        &self,
        images: &[RgbImage],
        thresholds: &[DetectionThresholds],
    ) -> Result<Vec<Vec<Detection>>, RecognizeError> {
        let Some(detector) = &self.detector else { return Ok(vec![Vec::new(); images.len()]) };
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let values = detector.run(images).await?;
        let (decoding, preprocess) = (detector.reading(), detector.preprocess());
        let each = (values.len() / images.len()).max(1);
        let found = |((image, thresholds), values): ((&RgbImage, _), _)| {
            decode(values, decoding, preprocess, (image.width(), image.height()), thresholds)
        };
        Ok(images.iter().zip(thresholds).zip(values.chunks_exact(each)).map(found).collect())
    }

    /// What the networks see in pictures, by detection thresholds of each: the pictures are one batch of the detector,
    /// and their objects one of the extractor. Each is seen as if it came alone.
    ///
    /// # Errors
    ///
    /// [`RecognizeError::Run`]
    pub async fn look_at(
        &self,
        images: &[RgbImage],
        thresholds: &[DetectionThresholds],
        clock: &dyn Fn() -> f64,
    ) -> Result<Vec<Look>, RecognizeError> {
        let start = clock();
        let mut found = self.detect_all(images, thresholds).await?;
        for (image, candidates) in images.iter().zip(&mut found) {
            self.add_whole(image, candidates);
        }
        let detected = clock();
        let crops: Vec<RgbImage> = (images.iter().zip(&found))
            .flat_map(|(image, found)| found.iter().map(|found| image.crop(&found.bbox)))
            .collect();
        let embeddings = if crops.is_empty() { Vec::new() } else { self.embed(&crops).await? };
        let times = [start, detected, clock()];
        let mut embeddings = embeddings.into_iter();
        let look = |candidates: Vec<Detection>| {
            let embeddings: Vec<Vec<f32>> = embeddings.by_ref().take(candidates.len()).collect();
            Look { embedded: embeddings.len(), candidates, embeddings, times }
        };
        Ok(found.into_iter().map(look).collect())
    }

    /// Names what was seen; of objects that overlap the more similar stays, as [`Self::recognize`] does it.
    ///
    /// # Errors
    ///
    /// [`RecognizeError::Gallery`]
    pub fn name_by(
        &self,
        look: Look,
        naming: &Naming<'_>,
    ) -> Result<Vec<Recognition>, RecognizeError> {
        let mut recognitions = Vec::with_capacity(look.candidates.len());
        for (candidate, embedding) in look.candidates.into_iter().zip(look.embeddings) {
            recognitions.push(naming.recognition(candidate.bbox, candidate.score, embedding)?);
        }
        Ok(suppress(recognitions, self.settings.recognition_nms_iou))
    }
}
