//! What is in a picture.

use models::detector::Detection;
use models::image::{RgbImage, resize};
use models::recognizer::{Recognition, Timings};
use models::tracker::Tracker;
use web_sys::RequestCache;

use super::{Engine, Seen};
use crate::input::decode;
use crate::parts::fetcher;
use crate::protocol::{
    AlikePair, Answer, EngineError, ErrorKind, LocatedObject, Picture, Recognized, Response,
    StageTimes, Thresholds,
};
use crate::scope::now;

/// Recognized pictures that can still be taught from.
const REMEMBERED: usize = 2;
/// Pairs of classes that are told to be alike at most.
const ALIKE: usize = 20;
/// How parts of a gallery are asked for: again, past all that keeps copies, where the first are damaged.
const CACHES: [RequestCache; 2] = [RequestCache::Default, RequestCache::Reload];
/// JPEG quality of a crop that is shown.
const CROP_QUALITY: u8 = 90;

impl Engine {
    /// Says what is in a picture.
    pub(crate) async fn recognize(
        &mut self,
        id: u32,
        picture: Picture,
        follow: bool,
    ) -> Result<Recognized, EngineError> {
        let start = now();
        let image = decode(picture)?;
        let decoded = now();
        if !follow {
            self.tracker = Tracker::default();
        }
        let (found, timings) = self.look(&image, follow).await?;
        let embedded = timings.embedded;
        let timings = stage_times(decoded - start, timings);
        let seen = Seen { id, image, found, pointed: 0, timings, embedded };
        let recognized = self.described(&seen);
        self.seen.push_back(seen);
        if self.seen.len() > REMEMBERED {
            self.seen.pop_front();
        }
        Ok(recognized)
    }

    async fn look(
        &mut self,
        image: &RgbImage,
        follow: bool,
    ) -> Result<(Vec<Recognition>, Timings), EngineError> {
        for cache in CACHES {
            let fetch = fetcher(self.address(""), self.shards.clone(), cache);
            let tracker = follow.then_some(&mut self.tracker);
            match self.recognizer.recognize_with(image, tracker, &fetch, &now).await {
                Err(error) if cache == RequestCache::Default && error.is_damaged() => (),
                recognized => return Ok(recognized?),
            }
        }
        Err(EngineError::new(ErrorKind::Corrupted, "a part of the gallery is damaged"))
    }

    /// Says where things are in a picture.
    pub(crate) async fn locate(&self, id: u32, picture: Picture) -> Result<Response, EngineError> {
        let image = decode(picture)?;
        let found = self.recognizer.detect(&image).await?;
        let object = |found: &Detection| LocatedObject {
            bbox: [found.bbox.x1, found.bbox.y1, found.bbox.x2, found.bbox.y2],
            detection_score: found.score,
        };
        let (width, height) = (image.width(), image.height());
        Ok(Response::Located { id, width, height, objects: found.iter().map(object).collect() })
    }

    /// The embedding of a picture of one thing.
    pub(crate) async fn embed(&self, picture: Picture) -> Result<Vec<f32>, EngineError> {
        self.embedding(&decode(picture)?).await
    }

    pub(super) async fn embedding(&self, image: &RgbImage) -> Result<Vec<f32>, EngineError> {
        let embeddings = self.recognizer.embed(std::slice::from_ref(image)).await;
        embeddings?
            .pop()
            .ok_or_else(|| EngineError::new(ErrorKind::Device, "the network gave nothing"))
    }

    /// The classes that are most similar to an embedding.
    pub(crate) async fn search(
        &mut self,
        embedding: Vec<f32>,
        top_k: usize,
    ) -> Result<Response, EngineError> {
        let asked = [embedding];
        self.fetch_near(&asked).await?;
        let found = self.recognizer.search(&asked[0], top_k)?;
        let mut answers: Vec<Answer> = found.iter().map(|m| self.answer(m)).collect();
        let best = self.recognizer.answer(&asked[0])?;
        let known =
            self.recognizer.gallery().is_known(&best, self.recognizer.settings().min_similarity);
        let probability = best.probability.filter(|_| known);
        Self::judge(&mut answers, probability, self.recognizer.least_similarity(&best));
        Ok(Response::Found { answers })
    }

    /// Recognizes by other thresholds from now on, the newest picture at once.
    pub(crate) async fn tune(&mut self, wanted: Thresholds) -> Result<Response, EngineError> {
        self.set_thresholds(wanted);
        self.tuned = true;
        let newest = self.seen.back().map(|seen| seen.image.clone());
        if let Some(image) = newest {
            let (found, timings) = self.look(&image, false).await?;
            if let Some(seen) = self.seen.back_mut() {
                seen.embedded = timings.embedded;
                seen.timings = stage_times(seen.timings.decode, timings);
                // What somebody pointed at stays.
                let pointed = seen.found.split_off(seen.found.len() - seen.pointed);
                seen.found = found;
                seen.found.extend(pointed);
            }
            self.answer_again()?;
        }
        let again = self.seen.back().map(|seen| self.described(seen));
        Ok(Response::Tuned { thresholds: self.thresholds(), again })
    }

    /// An object of a picture that is still at hand, in the size that the network takes.
    pub(crate) fn crop(&self, picture: u32, object: usize) -> Result<Response, EngineError> {
        let bytes = match self.object(picture, object) {
            Some((seen, found)) => {
                let input = self.recognizer.extractor().preprocess();
                let crop = seen.image.crop(&found.bbox);
                resize(&crop, input.width, input.height, input.filter).encode_jpeg(CROP_QUALITY)?
            }
            None => Vec::new(),
        };
        Ok(Response::Cropped { picture, object, bytes: bytes.into() })
    }

    /// Classes that may be mistaken for each other: those whose means are as similar as an answer
    /// has to be.
    pub(crate) fn alike(&self) -> Response {
        let gallery = self.recognizer.gallery();
        let least = self.recognizer.settings().min_similarity;
        let label = |class: usize| gallery.classes()[class].label.clone();
        let alike = gallery.alike(least, ALIKE);
        let pairs = alike.pairs.into_iter().map(|(first, second, similarity)| AlikePair {
            first: label(first),
            second: label(second),
            similarity,
        });
        Response::Alike { pairs: pairs.collect() }
    }

    /// Fetches what a gallery in shards has near to embeddings.
    pub(super) async fn fetch_near(&mut self, embeddings: &[Vec<f32>]) -> Result<(), EngineError> {
        for cache in CACHES {
            let fetch = fetcher(self.address(""), self.shards.clone(), cache);
            match self.recognizer.fetch_near(embeddings, &fetch).await {
                Err(error) if cache == RequestCache::Default && error.is_damaged() => (),
                fetched => return Ok(fetched?),
            }
        }
        Ok(())
    }

    /// Answers about all pictures that are at hand by what the gallery is.
    pub(super) fn answer_again(&mut self) -> Result<(), EngineError> {
        let seen = self.seen.iter().flat_map(|seen| &seen.found);
        let embeddings: Vec<Vec<f32>> = seen.map(|found| found.embedding.clone()).collect();
        self.recognizer.gather(&embeddings)?;
        for seen in &mut self.seen {
            for found in &mut seen.found {
                let embedding = std::mem::take(&mut found.embedding);
                *found =
                    self.recognizer.recognition(found.bbox, found.detection_score, embedding)?;
            }
        }
        Ok(())
    }
}

fn stage_times(decode: f64, Timings { detect, embed, search, .. }: Timings) -> StageTimes {
    StageTimes { decode, detect, embed, search }
}
