//! Corrections by visitors: they come, they are looked at, and the owner decides.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use models::gallery::Gallery;
use models::image::geometry::BBox;

use super::entries::{Sent, embed, ids_of};
use super::recognize::wanted;
use super::{Conditions, changed, json};
use crate::service::Service;
use crate::service::asked::{Asked, Once};
use crate::service::change::{
    Change, EntryId, Packed, Photo, checked_label, class_of, refused, unit,
};
use crate::service::corrections::{Correction, Corrections, Said, Went, has};
use crate::service::http::{Call, typed};
use crate::service::problem::{Answered, Kind, Problem};
use crate::service::queue::Wanted;
use crate::service::store::{Asking, Doing, More};
use crate::service::types::{
    CorrectionOf, CorrectionOptions, CorrectionPage, CorrectionSaid, CorrectionTaken,
    CorrectionsAccepted, CorrectionsRejected, Nothing, PageOptions, RecognizeOptions, Rejected,
};

impl Service {
    /// The corrections, where the owner wants some.
    fn corrections(&self) -> Answered<Arc<Corrections>> {
        self.corrections.clone().ok_or_else(|| {
            let detail =
                "this service takes no corrections; its owner starts it with --corrections";
            Problem::new(Kind::ReadOnly, detail)
        })
    }
}

/// Does what waits for the disk beside the requests.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Answered<T> + Send + 'static,
) -> Answered<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Problem::failed(&error.into())))
}

/// Keeps what a visitor says that an image or an embedding is.
pub(crate) async fn add(service: Arc<Service>, call: Call) -> Answered {
    let (corrections, from) = (service.corrections()?, call.from);
    let mut asked = Asked::read(&service, call).await?;
    let CorrectionOptions { class: Once(class), embedding } = asked.options()?;
    let images = std::mem::take(&mut asked.images);
    let class = class.ok_or_else(|| {
        Problem::request(
            "the correction has no class; give it class=NAME in the address, the form or the JSON",
        )
    })?;
    let class = checked_label(&class)?;
    let admitting = Arc::clone(&corrections);
    let admitted = beside(move || admitting.admit(from, Instant::now())).await;
    if admitted.as_ref().is_err_and(|problem| problem.kind == Kind::Busy) {
        service.metrics.corrections_refused();
    }
    admitted?;
    let how = wanted(&service, &RecognizeOptions::default())?;
    let mut images = images.into_iter();
    let (photo, said) = match (images.next(), images.next(), embedding) {
        (Some(image), None, None) => {
            service.pixels_of(&image.bytes)?;
            let mut sent = Sent::default();
            sent.push(image.name, class, image.bytes);
            let seen = move |recognizer: &models::recognizer::Recognizer| {
                let (mut photos, mut left_out) =
                    embed(recognizer, &how.snapshot, &sent, vec![None])?;
                match (photos.pop(), left_out.pop()) {
                    (Some(photo), None) => said(&how, &photo).map(|said| (photo, said)),
                    (_, Some((_, problem))) => Err(problem),
                    _ => Err(Problem::new(Kind::Failed, "the networks gave no embedding")),
                }
            };
            service.queue.call(1, seen).await?
        }
        (None, None, Some(embedding)) => {
            let photo = of_embedding(&how.snapshot.gallery, class, &embedding)?;
            service.queue.call(0, move |_| said(&how, &photo).map(|said| (photo, said))).await?
        }
        _ => {
            return Err(Problem::request(
                "a correction is of one image or one embedding; send its bytes as the body, a file in a form, \
                 {\"images\": [{\"data\": BASE64}]} or {\"embedding\": […]}",
            ));
        }
    };
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let correction = Correction::new(photo, said, time);
    let id = correction.id.to_string();
    let now = service.store.current();
    let kept =
        beside(move || corrections.keep(correction, |class, id| has(&now.gallery, class, id)))
            .await?;
    if kept {
        service.metrics.correction();
    }
    json(&CorrectionTaken { id, known: !kept })
}

/// An embedding as it becomes an entry, of unit length. Its id is made of its values, so that it is added once.
fn of_embedding(gallery: &Gallery, class: String, embedding: &[f32]) -> Answered<Photo> {
    if embedding.len() != gallery.dim() {
        let detail = format!(
            "the embedding has {} values, and this gallery's have {}; send one of /v1/embed?part=entry",
            embedding.len(),
            gallery.dim()
        );
        return Err(Problem::value(detail));
    }
    let bytes: Vec<u8> = unit(embedding)?.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok(Photo {
        class,
        id: EntryId::of_embedding(&bytes),
        thumbnail: Packed::default(),
        embeddings: Packed(bytes),
    })
}

/// What the gallery says of a thing.
fn said(wanted: &Wanted, photo: &Photo) -> Answered<Option<Said>> {
    let gallery = &wanted.snapshot.gallery;
    if gallery.is_empty() {
        return Ok(None);
    }
    let first = photo.embeddings.0.chunks_exact(4).take(gallery.dim());
    let embedding: Vec<f32> =
        first.map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect();
    let nothing = BBox::new(0.0, 0.0, 0.0, 0.0);
    let found = wanted.naming(|naming| naming.recognition(nothing, 1.0, embedding));
    let found = found.map_err(refused)?;
    Ok(found.matches.first().map(|best| Said {
        class: gallery.classes()[best.class].label.clone(),
        similarity: best.similarity.into(),
        known: found.known,
    }))
}

/// Lists those that wait, oldest first.
pub(crate) async fn list(service: Arc<Service>, call: Call) -> Answered {
    let PageOptions { offset, limit } = Asked::of_address(&call.head)?.options()?;
    let snapshot = service.store.current();
    let corrections = service.corrections()?;
    let (total, page) = beside(move || corrections.page(offset, limit.unwrap_or(100))).await?;
    let bytes_of_one = 4 * snapshot.gallery.dim().max(1);
    let one = |correction: Correction| {
        let Correction { id, time, photo, said, .. } = correction;
        CorrectionOf {
            id: id.to_string(),
            time,
            class_known: class_of(&snapshot.gallery, &photo.class).is_ok(),
            class: photo.class,
            entries: photo.embeddings.0.len() / bytes_of_one,
            thumbnail: !photo.thumbnail.0.is_empty(),
            said: said.map(|Said { class, similarity, known }| CorrectionSaid {
                class,
                similarity,
                known,
            }),
        }
    };
    let corrections: Vec<CorrectionOf> = page.into_iter().map(one).collect();
    let end = offset.saturating_add(corrections.len());
    let next = (end < total && !corrections.is_empty()).then_some(end);
    json(&CorrectionPage { total, next, corrections })
}

/// Shows one that waits.
pub(crate) async fn thumbnail(service: Arc<Service>, call: Call) -> Answered {
    let Nothing {} = Asked::of_address(&call.head)?.options()?;
    let (corrections, id) = (service.corrections()?, EntryId::parse(&call.place)?);
    let picture = beside(move || corrections.thumbnail(id)).await?;
    if picture.is_empty() {
        return Err(Problem::new(Kind::NotFound, "this correction has no picture"));
    }
    Ok(typed(picture, "image/jpeg"))
}

/// Adds what waits to the gallery, as images are added, all or none. Asked once more, it answers the same.
pub(crate) async fn accept(service: Arc<Service>, call: Call) -> Answered {
    let (corrections, conditions) = (service.corrections()?, Conditions::of(&call.head.headers)?);
    let mut asked = Asked::read(&service, call).await?;
    let CorrectionsAccepted { ids, to: Once(to) } = asked.only_options()?;
    let mut ids = ids_of(&ids)?;
    ids.sort_by_key(|id| id.0.0);
    ids.dedup();
    let to = to.as_deref().map(checked_label).transpose()?;
    let mut asking = conditions.asking(Doing::Change(Change::Nothing), String::new());
    if let Some(within) = corrections.accepting(&ids, to.clone()) {
        asking.doing = Doing::Within(Box::new(within));
        asking.key = None;
        return changed(&service, asking).await;
    }
    let _alone = corrections.deciding.lock().await;
    let is_there = |class: &str, id| has(&service.store.current().gallery, class, id);
    let chosen = corrections.waiting(&ids, true, is_there)?;
    let went = chosen.went(to.as_deref());
    let adding = || Doing::Change(chosen.change(to.as_deref()));
    asking.doing = adding();
    // A kill between the gallery and the queue leaves them waiting: by this key they are added once.
    asking.key = Some(chosen.key(&ids, to.as_deref()));
    let matching = asking.matching.clone();
    let mut answer = changed(&service, asking).await?;
    let now = service.store.current();
    let is_there = |went: &Went| has(&now.gallery, &went.class, went.entry);
    if answer.headers().contains_key("idempotent-replayed") && !went.iter().all(is_there) {
        // Undo came after the kill.
        let asking = Asking { doing: adding(), matching, key: None, more: More::default() };
        answer = changed(&service, asking).await?;
    }
    let accepted: Vec<EntryId> = chosen.waiting.iter().map(|correction| correction.id).collect();
    let deciding = Arc::clone(&corrections);
    beside(move || deciding.accepted(accepted, went)).await?;
    Ok(answer)
}

/// Takes what waits away, all or none.
pub(crate) async fn reject(service: Arc<Service>, call: Call) -> Answered {
    let corrections = service.corrections()?;
    let mut asked = Asked::read(&service, call).await?;
    let CorrectionsRejected { ids } = asked.only_options()?;
    let ids = ids_of(&ids)?;
    let _alone = corrections.deciding.lock().await;
    let deciding = Arc::clone(&corrections);
    let rejected = beside(move || deciding.reject(&ids)).await?;
    json(&Rejected { rejected })
}
