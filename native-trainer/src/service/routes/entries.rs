//! Entries are listed, added, moved, removed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use authoring::label::Labels;
use authoring::picture::{PictureError, PictureProblem};
use authoring::{Cropper, Event, Known, Networks, Photos};
use models::gallery::{ContentId, Gallery, VectorType};
use models::recognizer::Recognizer;

use super::{Conditions, changed, json, of_version};
use crate::service::Service;
use crate::service::asked::{Asked, Image, Once};
use crate::service::change::{Change, EntryId, LeftOut, Packed, Photo, checked_label};
use crate::service::http::{Bytes, Call};
use crate::service::problem::{Answered, Kind, Problem};
use crate::service::store::{Doing, Snapshot};
use crate::service::types::{
    AddOptions, EntriesGone, EntriesMoved, EntryChange, EntryOf, EntryOptions, EntryPage, Ids, wide,
};

/// Images that are embedded before others have their turn.
const CHUNK: usize = 16;

/// Lists entries.
pub(crate) async fn list(service: Arc<Service>, call: Call) -> Answered {
    let options: EntryOptions = Asked::of_address(&call.head)?.options()?;
    let (embeddings, options) = (options.embeddings, options.list());
    let snapshot = service.store.current();
    let (limit, listed) = (options.limit(), options.listed(&snapshot.gallery)?);
    of_version(&call.head.headers, &snapshot, || {
        let gallery = &snapshot.gallery;
        let fits: Vec<bool> = gallery.classes().iter().map(|class| listed.has(class)).collect();
        let fitting: Vec<usize> =
            gallery.entries().filter(|entry| fits[gallery.entry_class(*entry)]).collect();
        let page = fitting.iter().skip(options.offset).take(limit);
        let entries: Vec<EntryOf> = page
            .map(|entry| EntryOf {
                id: EntryId::of(gallery, *entry).to_string(),
                class: gallery.classes()[gallery.entry_class(*entry)].label.clone(),
                image_known: EntryId(gallery.content_id(*entry)).is_of_image(),
                embedding: embeddings.then(|| wide(&gallery.embedding(*entry))),
            })
            .collect();
        let end = options.offset.saturating_add(entries.len());
        let next = (end < fitting.len() && !entries.is_empty()).then_some(end);
        json(&EntryPage { version: snapshot.version, total: fitting.len(), next, entries })
    })
}

/// Adds images, as `magpie gallery add` does. Images that their class has already are not added again.
pub(crate) async fn add(service: Arc<Service>, call: Call) -> Answered {
    let conditions = Conditions::of(&call.head.headers)?;
    let mut asked = Asked::read_to_add(&service, call).await?;
    let AddOptions { class: everyones, strict } = asked.options()?;
    asked.need_images()?;
    let Once(everyones) = everyones;
    let mut sent = Sent::default();
    for image in std::mem::take(&mut asked.images) {
        let Image { name, class, bytes } = image;
        let class = class.or_else(|| everyones.clone()).ok_or_else(|| {
            Problem::request(
                "an image has no class; give it class=NAME in the address, the form or the JSON",
            )
        })?;
        sent.push(name, checked_label(&class)?, bytes);
    }
    let snapshot = service.store.current();
    let (mut photos, mut left_out) = (Vec::new(), Vec::new());
    for (first, chunk) in sent.chunks() {
        let (all, with, names) = (Arc::clone(&snapshot), chunk, sent.names.clone());
        let check = |bytes: &Bytes| service.pixels_of(bytes).err();
        let refused: Vec<Option<Problem>> = with.bytes.iter().map(check).collect();
        let images = refused.iter().filter(|refused| refused.is_none()).count();
        let seen = move |recognizer: &Recognizer| embed(recognizer, &all, &with, refused);
        let (found, out) = service.queue.call(images, seen).await?;
        photos.extend(found);
        left_out.extend(out.into_iter().map(|(place, problem)| {
            let image = first + place;
            let name = names.get(image).cloned().unwrap_or_default();
            (problem.clone(), LeftOut { image, name, problem: problem.document() })
        }));
    }
    if let Some((problem, _)) = left_out.first()
        && (photos.is_empty() || strict)
    {
        return Err(problem.clone());
    }
    let doing = Doing::Change(Change::Add { photos });
    let left_out: Vec<LeftOut> = left_out.into_iter().map(|(_, left_out)| left_out).collect();
    let mut asking = conditions.asking(doing, asked.digest);
    asking.more.left_out = left_out;
    changed(&service, asking).await
}

/// Images of a request, as photographs for [`authoring::add`]; their paths are their places.
#[derive(Default, Clone)]
pub(super) struct Sent {
    names: Vec<String>,
    classes: Vec<String>,
    paths: Vec<PathBuf>,
    bytes: Vec<Bytes>,
}

impl Sent {
    pub(super) fn push(&mut self, name: String, class: String, bytes: Bytes) {
        self.paths.push(PathBuf::from((self.bytes.len() % CHUNK).to_string()));
        self.names.push(name);
        self.classes.push(class);
        self.bytes.push(bytes);
    }

    /// Pieces with the place of their first image.
    fn chunks(&self) -> Vec<(usize, Self)> {
        let of = |first: usize| {
            let places = first..(first + CHUNK).min(self.bytes.len());
            let chunk = Self {
                names: self.names[places.clone()].to_vec(),
                classes: self.classes[places.clone()].to_vec(),
                paths: self.paths[places.clone()].to_vec(),
                bytes: self.bytes[places].to_vec(),
            };
            (first, chunk)
        };
        (0..self.bytes.len()).step_by(CHUNK).map(of).collect()
    }
}

/// Those images of a request that may be decoded.
struct Usable<'a> {
    sent: &'a Sent,
    places: Vec<usize>,
}

impl Photos for Usable<'_> {
    fn count(&self) -> usize {
        self.places.len()
    }

    fn label(&self, place: usize) -> &str {
        &self.sent.classes[self.places[place]]
    }

    fn path(&self, place: usize) -> &Path {
        &self.sent.paths[self.places[place]]
    }

    fn bytes(&self, place: usize) -> Result<Vec<u8>, PictureError> {
        Ok(self.sent.bytes[self.places[place]].to_vec())
    }
}

/// What becomes of images, and those that cannot be used, each by its place.
pub(super) type Embedded = (Vec<Photo>, Vec<(usize, Problem)>);

/// Embeds images as they become entries of a gallery.
pub(super) fn embed(
    recognizer: &Recognizer,
    snapshot: &Snapshot,
    sent: &Sent,
    refused: Vec<Option<Problem>>,
) -> Answered<Embedded> {
    let gallery = &snapshot.gallery;
    let crop = gallery.crop();
    if crop.needs_detector() && recognizer.detector().is_none() {
        let detail = "the gallery's entries are those of main bodies, and this site has no detector to find them";
        return Err(Problem::new(Kind::Conflict, detail));
    }
    let places = (0..refused.len()).filter(|place| refused[*place].is_none()).collect();
    let usable = Usable { sent, places };
    let mut left_out: Vec<(usize, Problem)> = refused
        .into_iter()
        .enumerate()
        .filter_map(|(place, problem)| Some((place, problem?)))
        .collect();
    let networks = Networks { extractor: recognizer.extractor(), detector: recognizer.detector() };
    let mut cropper = Cropper::new(networks, crop);
    // Embeddings are kept with all their digits until they are entries.
    let mut fresh = Gallery::with_type(gallery.dim(), gallery.model(), VectorType::F32);
    let mut tell = |event: Event<'_>| {
        if let Event::LeftOut { error } = event
            && let Ok(place) = error.path.parse::<usize>()
        {
            left_out.push((place, problem_of(error)));
        }
        Ok(())
    };
    let (known, mut labels) = (Known::default(), Labels::default());
    authoring::add(&mut fresh, known, &mut labels, &usable, &mut cropper, &mut tell)
        .map_err(|error| Problem::failed(&error))?;
    left_out.sort_by_key(|(place, _)| *place);
    Ok((photos_of(&fresh), left_out))
}

fn problem_of(error: &PictureError) -> Problem {
    match &error.source {
        PictureProblem::Decode(error) => Problem::image(error),
        other => Problem::new(Kind::Image, other.to_string()),
    }
}

/// The entries of a gallery by images, in their order.
fn photos_of(fresh: &Gallery) -> Vec<Photo> {
    let mut photos: Vec<Photo> = Vec::new();
    let mut places: BTreeMap<(usize, ContentId), usize> = BTreeMap::new();
    for entry in fresh.entries() {
        let (class, content) = (fresh.entry_class(entry), fresh.content_id(entry));
        let place = *places.entry((class, content)).or_insert_with(|| {
            photos.push(Photo {
                class: fresh.classes()[class].label.clone(),
                id: EntryId(content),
                thumbnail: Packed(fresh.thumbnail(class).to_vec()),
                embeddings: Packed::default(),
            });
            photos.len() - 1
        });
        let bytes = fresh
            .embedding(entry)
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<u8>>();
        photos[place].embeddings.0.extend(bytes);
    }
    // A class is shown by its first image; the others need not carry it along.
    let mut shown: Vec<String> = Vec::new();
    for photo in &mut photos {
        if shown.contains(&photo.class) {
            photo.thumbnail = Packed::default();
        } else {
            shown.push(photo.class.clone());
        }
    }
    photos
}

/// Takes an entry out; of an image that has several parts, all.
pub(crate) async fn remove_one(service: Arc<Service>, call: Call) -> Answered {
    let conditions = Conditions::of(&call.head.headers)?;
    let ids = vec![EntryId::parse(&call.place)?];
    let mut asked = Asked::read(&service, call).await?;
    let EntryChange { class: Once(class) } = asked.only_options()?;
    let doing = Doing::Change(Change::RemoveEntries { ids, class });
    changed(&service, conditions.asking(doing, asked.digest)).await
}

/// Takes entries out, all or none.
pub(crate) async fn remove(service: Arc<Service>, call: Call) -> Answered {
    let conditions = Conditions::of(&call.head.headers)?;
    let mut asked = Asked::read(&service, call).await?;
    let EntriesGone { ids, class: Once(class) } = asked.only_options()?;
    let doing = Doing::Change(Change::RemoveEntries { ids: ids_of(&ids)?, class });
    changed(&service, conditions.asking(doing, asked.digest)).await
}

/// Gives entries another class, all or none.
pub(crate) async fn move_to(service: Arc<Service>, call: Call) -> Answered {
    let conditions = Conditions::of(&call.head.headers)?;
    let mut asked = Asked::read(&service, call).await?;
    let EntriesMoved { ids, class: Once(class), to } = asked.only_options()?;
    let (ids, to) = (ids_of(&ids)?, checked_label(&to)?);
    let doing = Doing::Change(Change::Move { ids, class, to });
    changed(&service, conditions.asking(doing, asked.digest)).await
}

pub(super) fn ids_of(Ids(texts): &Ids) -> Answered<Vec<EntryId>> {
    if texts.is_empty() {
        return Err(Problem::value("name entries by their ids: {\"ids\": [\"…\"]}"));
    }
    texts.iter().map(|text| EntryId::parse(text)).collect()
}
