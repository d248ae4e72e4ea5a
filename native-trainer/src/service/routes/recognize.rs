//! Images and embeddings are asked about.

use std::sync::Arc;

use models::image::geometry::BBox;
use models::recognizer::Recognition;
use serde::Serialize;

use super::json;
use crate::service::Service;
use crate::service::asked::{Asked, EMBEDDINGS};
use crate::service::http::Call;
use crate::service::problem::{Answered, Kind, Problem};
use crate::service::queue::{Seen, Want, Wanted};
use crate::service::types::{
    Boxed, DetectOptions, Detected, EmbedOptions, Embedded, Images, Object, Of, PartOf,
    RecognizeOptions, Recognized, SearchOptions, Searched, wide,
};

/// Names the objects of images.
pub(crate) async fn recognize(service: Arc<Service>, call: Call) -> Answered {
    let mut asked = Asked::read(&service, call).await?;
    let options: RecognizeOptions = asked.options()?;
    let (fields, wanted) = (options.fields(), wanted(&service, &options)?);
    let snapshot = Arc::clone(&wanted.snapshot);
    let want = Want::Objects(Arc::new(wanted));
    let images = service.look(asked, &want).await?;
    let answer = |seen| match seen {
        Seen::Objects(found, timings) => {
            let object = |found| Object::of(found, &snapshot.gallery, &fields);
            Some(Recognized {
                objects: found.into_iter().map(object).collect(),
                timings_ms: timings.into(),
            })
        }
        _ => None,
    };
    respond(snapshot.version, images, answer)
}

/// Finds the objects of images.
pub(crate) async fn detect(service: Arc<Service>, call: Call) -> Answered {
    let mut asked = Asked::read(&service, call).await?;
    let options: DetectOptions = asked.options()?;
    if !service.has_detector {
        let detail = "this site has no detector: every image is one object";
        return Err(Problem::new(Kind::Conflict, detail));
    }
    let want = Want::Boxes(options.thresholds(service.settings.detection));
    let images = service.look(asked, &want).await?;
    respond(service.store.current().version, images, |seen| match seen {
        Seen::Boxes(found) => {
            Some(Detected { objects: found.into_iter().map(Boxed::from).collect() })
        }
        _ => None,
    })
}

/// Embeds images.
pub(crate) async fn embed(service: Arc<Service>, call: Call) -> Answered {
    let mut asked = Asked::read(&service, call).await?;
    let options: EmbedOptions = asked.options()?;
    let want = match options.part {
        PartOf::Whole => Want::Whole,
        PartOf::Entry => Want::Part(service.store.current().gallery.crop()),
    };
    let images = service.look(asked, &want).await?;
    respond(service.store.current().version, images, |seen| match seen {
        Seen::Embedding(embedding) => Some(Embedded { embedding: wide(&embedding) }),
        _ => None,
    })
}

/// Finds the classes that are most similar to embeddings or to images, each image as it would become an entry.
pub(crate) async fn search(service: Arc<Service>, call: Call) -> Answered {
    let mut asked = Asked::read(&service, call).await?;
    let options: SearchOptions = asked.options()?;
    let wanted = wanted(&service, &options.recognition())?;
    let snapshot = Arc::clone(&wanted.snapshot);
    let embeddings: Vec<Vec<f32>> =
        options.embedding.into_iter().chain(options.embeddings).collect();
    if embeddings.len() > EMBEDDINGS {
        let detail =
            format!("a request has {EMBEDDINGS} embeddings at most; send several requests");
        return Err(Problem::new(Kind::TooLarge, detail));
    }
    let is_single = embeddings.len() == 1;
    let (embedded, is_single) = if embeddings.is_empty() {
        if asked.images.is_empty() {
            let detail = "nothing came to search for; send an image's bytes as the body, files in a form, or JSON with \
                          `images`, `embedding` or `embeddings`";
            return Err(Problem::request(detail));
        }
        let want = Want::Part(snapshot.gallery.crop());
        let looked = service.look(asked, &want).await?;
        let embedding = |seen: Answered<Seen>| match seen? {
            Seen::Embedding(embedding) => Ok(embedding),
            _ => Err(Problem::new(Kind::Failed, "the networks gave no embedding")),
        };
        let images = looked.images.into_iter();
        (images.map(|(name, seen)| (name, embedding(seen))).collect(), looked.is_single)
    } else if asked.images.is_empty() {
        let named = embeddings.into_iter().map(|embedding| (String::new(), Ok(embedding)));
        (named.collect::<Vec<_>>(), is_single)
    } else {
        return Err(Problem::request("send images or embeddings, not both"));
    };
    let version = snapshot.version;
    let found = service
        .queue
        .call(0, move |_| {
            let find = |embedding: Vec<f32>| {
                let nothing = BBox::new(0.0, 0.0, 0.0, 0.0);
                wanted.naming(|naming| naming.recognition(nothing, 1.0, embedding))
            };
            let found = |(name, embedding): (String, Answered<Vec<f32>>)| {
                let found = embedding
                    .and_then(|embedding| find(embedding).map_err(crate::service::change::refused));
                (name, found)
            };
            Ok(embedded.into_iter().map(found).collect::<Vec<(String, Answered<Recognition>)>>())
        })
        .await?;
    let images = found
        .into_iter()
        .map(|(name, found)| match found {
            Ok(found) => Ok(Of {
                name,
                answer: Some(Searched::of(&found, &snapshot.gallery)),
                problem: None,
            }),
            Err(problem) if is_single => Err(problem),
            Err(problem) => Ok(Of { name, answer: None, problem: Some(problem.document()) }),
        })
        .collect::<Answered<Vec<_>>>()?;
    json(&Images { version, images })
}

/// What came of the images of a request, each with its name.
struct Looked {
    images: Vec<(String, Answered<Seen>)>,
    /// Whether one image is the whole request.
    is_single: bool,
}

impl Service {
    async fn look(&self, asked: Asked, want: &Want) -> Answered<Looked> {
        asked.need_images()?;
        let (mut images, mut queued, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for image in asked.images {
            match self.pixels_of(&image.bytes) {
                Ok(pixels) => {
                    places.push(images.len());
                    queued.push((image.bytes, pixels));
                    images.push((image.name, None));
                }
                Err(problem) => images.push((image.name, Some(Err(problem)))),
            }
        }
        let seen = self.queue.look(queued, want, &asked.share).await?;
        for (place, seen) in places.into_iter().zip(seen) {
            images[place].1 = Some(seen);
        }
        let missing = || Err(Problem::new(Kind::Failed, "the networks gave no answer"));
        let images = images.into_iter().map(|(name, seen)| (name, seen.unwrap_or_else(missing)));
        Ok(Looked { images: images.collect(), is_single: asked.is_single })
    }
}

/// Answers of images. Where one image is all that came, its problem is the answer.
fn respond<T: Serialize>(
    version: u64,
    looked: Looked,
    mut answer: impl FnMut(Seen) -> Option<T>,
) -> Answered {
    let mut images = Vec::with_capacity(looked.images.len());
    for (name, seen) in looked.images {
        images.push(match seen {
            Ok(seen) => Of { name, answer: answer(seen), problem: None },
            Err(problem) if looked.is_single => return Err(problem),
            Err(problem) => Of { name, answer: None, problem: Some(problem.document()) },
        });
    }
    json(&Images { version, images })
}

/// How objects are to be named with the gallery of this moment.
pub(super) fn wanted(service: &Service, options: &RecognizeOptions) -> Answered<Wanted> {
    let snapshot = service.store.current();
    Ok(Wanted {
        top_k: options.top_k.unwrap_or(service.settings.top_k),
        rule: snapshot.rule,
        min_similarity: options.min_similarity.unwrap_or(snapshot.min_similarity),
        filter: options.filter(&snapshot.gallery)?,
        thresholds: options.thresholds(service.settings.detection),
        snapshot,
    })
}
