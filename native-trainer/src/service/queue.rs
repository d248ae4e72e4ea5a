//! One queue before the networks: an image that comes alone gets all threads, those that wait share batches.
//!
//! A thread of its own takes work from the queue. Whoever has gone meanwhile is passed over.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::anyhow;
use models::detector::{Detection, DetectionThresholds};
use models::gallery::{AnswerRule, Crop, Question};
use models::image::RgbImage;
use models::image::geometry::BBox;
use models::recognizer::{Naming, Recognition, RecognizeError, Recognizer, Timings, main_body};
use rayon::prelude::*;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::filter::Filter;
use super::http::Bytes;
use super::metrics::Metrics;
use super::problem::{Answered, Kind, Problem};
use super::store::Snapshot;

/// Images of a batch at most: more gain nothing and hold the others up.
const BATCH: usize = 16;
/// Pixels of the images of a batch, but for one that is larger alone.
const PIXELS: u64 = 96_000_000;

/// What is wanted of an image.
#[derive(Clone)]
pub(crate) enum Want {
    /// Its objects, named.
    Objects(Arc<Wanted>),
    /// Its objects.
    Boxes(DetectionThresholds),
    /// The embedding of the whole image.
    Whole,
    /// The embedding of the part that becomes an entry.
    Part(Crop),
}

/// How objects are named.
pub(crate) struct Wanted {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) top_k: usize,
    pub(crate) rule: AnswerRule,
    pub(crate) min_similarity: f32,
    pub(crate) filter: Filter,
    pub(crate) thresholds: DetectionThresholds,
}

impl Wanted {
    /// Calls with what names embeddings.
    pub(crate) fn naming<R>(&self, call: impl FnOnce(&Naming<'_>) -> R) -> R {
        let admits = |class: &models::gallery::Class| self.filter.admits(class);
        let mut question = Question { rule: self.rule, ..Question::best(self.top_k) };
        if !self.filter.is_open() {
            question.classes = Some(&admits);
        }
        let gallery = &self.snapshot.gallery;
        call(&Naming { gallery, question, min_similarity: self.min_similarity })
    }
}

/// What came of an image.
pub(crate) enum Seen {
    Objects(Vec<Recognition>, Timings),
    Boxes(Vec<Detection>),
    Embedding(Vec<f32>),
}

/// An image in the queue.
struct Waiting {
    bytes: Bytes,
    pixels: u64,
    want: Want,
    answer: oneshot::Sender<Answered<Seen>>,
    share: Arc<Vec<OwnedSemaphorePermit>>,
}

enum Work {
    Image(Waiting),
    Call(Box<dyn FnOnce(&Recognizer) + Send>),
}

/// The queue and who works on it.
pub(crate) struct Queue {
    state: Mutex<State>,
    more: Condvar,
    limit: usize,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Work>,
    ended: bool,
}

impl Queue {
    /// A queue, and the thread that works on it with a recognizer.
    ///
    /// # Errors
    ///
    /// No thread is to be had.
    pub(crate) fn start(
        recognizer: Recognizer,
        limit: usize,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Arc<Self>> {
        let queue =
            Arc::new(Self { state: Mutex::default(), more: Condvar::new(), limit, metrics });
        let works = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("networks".to_owned());
        thread.spawn(move || works.run(&recognizer))?;
        Ok(queue)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the thread end where nothing waits any more.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        self.more.notify_all();
    }

    /// What waits.
    pub(crate) fn len(&self) -> usize {
        self.state().waiting.len()
    }

    fn push(&self, work: Vec<Work>) -> Answered<()> {
        let mut state = self.state();
        // A request that is larger than the queue goes in where nothing waits.
        if !state.waiting.is_empty() && state.waiting.len() + work.len() > self.limit {
            self.metrics.refused();
            return Err(Problem::new(Kind::Busy, "the queue is full; ask again in a second"));
        }
        state.waiting.extend(work);
        drop(state);
        self.more.notify_one();
        Ok(())
    }

    /// Has images looked at, all or none of which are taken in; each with its pixels. What came of each, in order.
    ///
    /// # Errors
    ///
    /// [`Kind::Busy`] where the queue is full.
    pub(crate) async fn look(
        &self,
        images: Vec<(Bytes, u64)>,
        want: &Want,
        share: &Arc<Vec<OwnedSemaphorePermit>>,
    ) -> Answered<Vec<Answered<Seen>>> {
        let (work, answers): (Vec<Work>, Vec<_>) = images
            .into_iter()
            .map(|(bytes, pixels)| {
                let (answer, answered) = oneshot::channel();
                let (want, share) = (want.clone(), Arc::clone(share));
                (Work::Image(Waiting { bytes, pixels, want, answer, share }), answered)
            })
            .unzip();
        self.push(work)?;
        let mut seen = Vec::with_capacity(answers.len());
        for answer in answers {
            seen.push(answer.await.unwrap_or_else(|_gone| Err(broken())));
        }
        Ok(seen)
    }

    /// Has something computed in the queue's order, for which `images` go through the networks.
    ///
    /// # Errors
    ///
    /// [`Kind::Busy`] where the queue is full, and what the call says.
    pub(crate) async fn call<R: Send + 'static>(
        &self,
        images: usize,
        call: impl FnOnce(&Recognizer) -> Answered<R> + Send + 'static,
    ) -> Answered<R> {
        let (answer, answered) = oneshot::channel();
        let metrics = Arc::clone(&self.metrics);
        let work = move |recognizer: &Recognizer| {
            if !answer.is_closed() {
                let begin = Instant::now();
                let came = call(recognizer);
                if images > 0 {
                    metrics.batch(images, begin.elapsed());
                }
                // Whoever has gone meanwhile does not need it.
                let _ = answer.send(came);
            }
        };
        self.push(vec![Work::Call(Box::new(work))])?;
        answered.await.unwrap_or_else(|_gone| Err(broken()))
    }

    /// Takes the next piece of work, or the images that are first, as many as make a batch.
    fn next(&self) -> Option<Vec<Work>> {
        let mut state = self.state();
        loop {
            let Some(first) = state.waiting.pop_front() else {
                if state.ended {
                    return None;
                }
                state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let Work::Image(first) = first else { return Some(vec![first]) };
            if first.answer.is_closed() {
                continue;
            }
            let (mut pixels, mut batch) = (first.pixels, vec![Work::Image(first)]);
            while let Some(Work::Image(next)) = state.waiting.front() {
                if batch.len() == BATCH || pixels + next.pixels > PIXELS {
                    break;
                }
                let Some(Work::Image(next)) = state.waiting.pop_front() else { break };
                if !next.answer.is_closed() {
                    pixels += next.pixels;
                    batch.push(Work::Image(next));
                }
            }
            return Some(batch);
        }
    }

    fn run(&self, recognizer: &Recognizer) {
        while let Some(work) = self.next() {
            let mut images = Vec::new();
            for work in work {
                match work {
                    Work::Image(image) => images.push(image),
                    // Its sender hears of a panic by the end of the channel.
                    Work::Call(call) => drop(catch_unwind(AssertUnwindSafe(|| call(recognizer)))),
                }
            }
            if images.is_empty() {
                continue;
            }
            let begin = Instant::now();
            let wants: Vec<Want> = images.iter().map(|image| image.want.clone()).collect();
            let bytes: Vec<Bytes> = images.iter().map(|image| image.bytes.clone()).collect();
            let seen = catch_unwind(AssertUnwindSafe(|| look(recognizer, &bytes, &wants)));
            self.metrics.batch(images.len(), begin.elapsed());
            let seen = seen.unwrap_or_else(|_panic| wants.iter().map(|_| Err(broken())).collect());
            for (image, seen) in images.into_iter().zip(seen) {
                let Waiting { answer, share, .. } = image;
                let _ = answer.send(seen);
                drop(share);
            }
        }
    }
}

fn broken() -> Problem {
    Problem::failed(&anyhow!("a request broke off in the networks"))
}

/// Looks at the images of a batch.
fn look(recognizer: &Recognizer, bytes: &[Bytes], wants: &[Want]) -> Vec<Answered<Seen>> {
    let decode = |bytes: &Bytes| RgbImage::decode(bytes).map_err(|error| Problem::image(&error));
    let decoded: Vec<Answered<RgbImage>> = match bytes {
        [one] => vec![decode(one)],
        several => several.par_iter().map(decode).collect(),
    };
    let mut seen: Vec<Option<Answered<Seen>>> = wants.iter().map(|_| None).collect();
    let mut batches = Batches::default();
    for (place, image) in decoded.into_iter().enumerate() {
        match image {
            Ok(image) => batches.add(place, image, &wants[place]),
            Err(problem) => seen[place] = Some(Err(problem)),
        }
    }
    for (place, result) in batches.run(recognizer) {
        seen[place] = Some(result);
    }
    seen.into_iter().map(|seen| seen.unwrap_or_else(|| Err(broken()))).collect()
}

/// Images of a batch by what they need.
#[derive(Default)]
struct Batches {
    objects: Vec<(usize, Arc<Wanted>)>,
    object_images: Vec<RgbImage>,
    boxes: Vec<(usize, DetectionThresholds)>,
    box_images: Vec<RgbImage>,
    parts: Vec<(usize, Option<Crop>)>,
    part_images: Vec<RgbImage>,
}

impl Batches {
    fn add(&mut self, place: usize, image: RgbImage, want: &Want) {
        match want {
            Want::Objects(wanted) => {
                self.objects.push((place, Arc::clone(wanted)));
                self.object_images.push(image);
            }
            Want::Boxes(thresholds) => {
                self.boxes.push((place, *thresholds));
                self.box_images.push(image);
            }
            Want::Whole => {
                self.parts.push((place, None));
                self.part_images.push(image);
            }
            Want::Part(crop) => {
                self.parts.push((place, Some(*crop)));
                self.part_images.push(image);
            }
        }
    }

    fn run(self, recognizer: &Recognizer) -> Vec<(usize, Answered<Seen>)> {
        let mut all = Vec::new();
        let mut take =
            |places: Vec<usize>, seen: Result<Vec<Answered<Seen>>, RecognizeError>| match seen {
                Ok(seen) => all.extend(places.into_iter().zip(seen)),
                Err(error) => {
                    let problem = failed(error);
                    all.extend(places.into_iter().map(|place| (place, Err(problem.clone()))));
                }
            };
        let places = self.objects.iter().map(|(place, _)| *place).collect();
        take(places, objects(recognizer, &self.object_images, &self.objects));
        let places = self.boxes.iter().map(|(place, _)| *place).collect();
        let thresholds: Vec<_> = self.boxes.iter().map(|(_, thresholds)| *thresholds).collect();
        let found = pollster::block_on(recognizer.detect_all(&self.box_images, &thresholds));
        take(
            places,
            found.map(|found| found.into_iter().map(|found| Ok(Seen::Boxes(found))).collect()),
        );
        let places = self.parts.iter().map(|(place, _)| *place).collect();
        take(places, parts(recognizer, self.part_images, &self.parts));
        all
    }
}

fn failed(error: RecognizeError) -> Problem {
    match error {
        // Weights that overflow at this image; the sentence says so.
        RecognizeError::Gallery(error) => Problem::new(Kind::Image, error.to_string()),
        error => Problem::failed(&error.into()),
    }
}

fn objects(
    recognizer: &Recognizer,
    images: &[RgbImage],
    wanted: &[(usize, Arc<Wanted>)],
) -> Result<Vec<Answered<Seen>>, RecognizeError> {
    let start = Instant::now();
    let clock = || start.elapsed().as_secs_f64() * 1000.0;
    let thresholds: Vec<_> = wanted.iter().map(|(_, wanted)| wanted.thresholds).collect();
    let looks = pollster::block_on(recognizer.look_at(images, &thresholds, &clock))?;
    let mut seen = Vec::with_capacity(looks.len());
    for (look, (_, wanted)) in looks.into_iter().zip(wanted) {
        let (before, mut timings) = (clock(), look.timings());
        let named = wanted.naming(|naming| recognizer.name_by(look, naming)).map_err(failed);
        timings.search = clock() - before;
        seen.push(named.map(|named| Seen::Objects(named, timings)));
    }
    Ok(seen)
}

/// Embeddings of images whole, or of the part of each that becomes an entry.
fn parts(
    recognizer: &Recognizer,
    images: Vec<RgbImage>,
    wanted: &[(usize, Option<Crop>)],
) -> Result<Vec<Answered<Seen>>, RecognizeError> {
    if images.is_empty() {
        return Ok(Vec::new());
    }
    let thresholds = vec![DetectionThresholds::default(); images.len()];
    let looks = wanted.iter().any(|(_, crop)| crop.is_some_and(Crop::needs_detector));
    let found = if looks {
        pollster::block_on(recognizer.detect_all(&images, &thresholds))?
    } else {
        vec![Vec::new(); images.len()]
    };
    let mut parts: Vec<RgbImage> = Vec::with_capacity(images.len());
    for ((image, (_, crop)), found) in images.into_iter().zip(wanted).zip(found) {
        let body = match crop {
            Some(Crop::Middle) => Some(BBox::middle(image.width(), image.height())),
            Some(crop) if crop.needs_detector() => main_body(&found),
            _ => None,
        };
        parts.push(match body {
            Some(body) => image.crop(&body),
            None => image,
        });
    }
    let embeddings = pollster::block_on(recognizer.embed(&parts))?;
    Ok(embeddings.into_iter().map(|embedding| Ok(Seen::Embedding(embedding))).collect())
}
