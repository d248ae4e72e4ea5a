//! The visitor's gallery: the published one with what was changed in this page.
//!
//! The browser keeps the log of changes, by site and model, and replays it over whatever is published.

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::{Function, Math, Promise, Reflect};
use models::bundle::MAX_FILE_BYTES;
use models::gallery::{Gallery, Lesson, LessonChange, Lessons, LessonsError, PictureId, apply};
use models::recognizer::Recognizer;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::future_to_promise;

use crate::failure::refused;
use crate::fetch::{scope, within};
use crate::protocol::{Change, ClassView, Edit, EngineError, ErrorKind, GalleryView};
use crate::storage;

/// Classes that a view shows at most.
const SHOWN: usize = 60;
/// Longest label, in characters.
const MAX_LABEL: usize = 200;
/// Milliseconds that another page of the site may hold the log.
const LOCK_LIMIT: i32 = 8000;

/// What the engine knows about the visitor's gallery beside the gallery itself.
pub(crate) struct Visitor {
    /// The published gallery, or one without entries where it comes in shards.
    published: Gallery,
    lessons: Lessons,
    /// Name of the file that is kept.
    file: String,
    kept: bool,
}

/// An object that is taught: its thumbnail and its embedding.
pub(crate) struct Taught {
    pub(crate) thumbnail: Vec<u8>,
    pub(crate) embedding: Vec<f32>,
}

impl Visitor {
    /// Takes up what was kept from an earlier visit. `site` is what tells this site from others of its origin.
    pub(crate) async fn open(recognizer: &mut Recognizer, site: &str) -> Self {
        let published = recognizer.own_gallery().clone();
        let model = published.model();
        let mut visitor = Self {
            lessons: Lessons::new(&published),
            file: format!("magpie-lessons-{}-{model}.log", short_name(site)),
            kept: true,
            published,
        };
        match kept_lessons(&visitor.file).await {
            Ok(Some(lessons)) => visitor.lessons = lessons,
            Ok(None) => visitor.take_old_form().await,
            // It stays where it is: a newer page may read it.
            Err(_) => visitor.kept = false,
        }
        // What was taken back or started over from stays so.
        visitor.lessons.tidy();
        if visitor.replay(recognizer).is_err() {
            visitor.lessons = Lessons::new(&visitor.published);
            visitor.kept = false;
        }
        visitor
    }

    /// Pages kept whole galleries once, by model alone; such a one is taken over as an import.
    async fn take_old_form(&mut self) {
        let model = self.published.model();
        let (gallery, base) =
            (format!("magpie-gallery-{model}.bin"), format!("magpie-gallery-{model}.base"));
        let Some(bytes) = storage::load(&gallery).await else { return };
        if Gallery::from_bytes(&bytes).is_err() {
            return;
        }
        let change = LessonChange::Import { gallery: bytes };
        if self.lessons.push(lesson(change)).is_ok() && self.keep().await {
            storage::remove(&gallery).await;
            storage::remove(&base).await;
        }
    }

    /// Makes a change and keeps it; `taught` is what is taught.
    pub(crate) async fn edit(
        &mut self,
        recognizer: &mut Recognizer,
        edit: Edit,
        taught: Option<Taught>,
    ) -> Result<Change, EngineError> {
        let (change, mut said) = wanted(edit, taught)?;
        let mut gallery = recognizer.own_gallery().clone();
        let applied = apply(&mut gallery, &change).map_err(|error| refused(&error))?;
        gallery.connect();
        if let Change::Imported(added) = &mut said {
            *added = applied.added;
        }
        self.lessons.push(lesson(change)).map_err(|error| full(&error))?;
        recognizer.replace_gallery(gallery).map_err(|error| refused(&error))?;
        self.keep_and_join(recognizer).await?;
        Ok(said)
    }

    /// Takes the last change back.
    pub(crate) async fn undo(&mut self, recognizer: &mut Recognizer) -> Result<(), EngineError> {
        if !self.lessons.undo() {
            let message = "there is no change to take back";
            return Err(EngineError::new(ErrorKind::Gallery, message));
        }
        self.replay(recognizer)?;
        self.keep_and_join(recognizer).await
    }

    /// Goes back to the published gallery; that can be taken back, too.
    pub(crate) async fn reset(&mut self, recognizer: &mut Recognizer) -> Result<(), EngineError> {
        self.lessons.push(lesson(LessonChange::Reset)).map_err(|error| full(&error))?;
        self.replay(recognizer)?;
        self.keep_and_join(recognizer).await
    }

    /// Takes a newly published gallery.
    pub(crate) fn publish(
        &mut self,
        recognizer: &mut Recognizer,
        published: Gallery,
    ) -> Result<(), EngineError> {
        let gallery = self.lessons.replay(&published).map_err(|error| refused(&error))?;
        recognizer.replace_gallery(gallery).map_err(|error| refused(&error))?;
        self.published = published;
        Ok(())
    }

    /// Gives the published classes their thumbnails.
    pub(crate) fn take_pictures(&mut self, pictures: &Gallery) {
        // The recognizer has taken the same, so they are of this model.
        let _ = self.published.take_pictures(pictures);
    }

    fn replay(&self, recognizer: &mut Recognizer) -> Result<(), EngineError> {
        let gallery = self.lessons.replay(&self.published).map_err(|error| refused(&error))?;
        recognizer.replace_gallery(gallery).map(drop).map_err(|error| refused(&error))
    }

    /// Keeps the log, and takes up what other pages of this site have added to it since.
    async fn keep_and_join(&mut self, recognizer: &mut Recognizer) -> Result<(), EngineError> {
        let before = self.lessons.clone();
        self.kept = self.keep().await;
        if self.lessons == before { Ok(()) } else { self.replay(recognizer) }
    }

    /// Joins the log with the kept one and keeps both; whether that went well.
    async fn keep(&mut self) -> bool {
        let lessons = Rc::new(RefCell::new(self.lessons.clone()));
        let (shared, file) = (lessons.clone(), self.file.clone());
        let work = async move {
            let joined = match kept_lessons(&file).await {
                Ok(Some(kept)) => shared.borrow_mut().merge(&kept).map(drop),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            joined.map_err(|error| JsValue::from_str(&error.to_string()))?;
            let bytes = shared.borrow().to_bytes();
            if bytes.len() as u64 > MAX_FILE_BYTES {
                return Err(JsValue::from_str("there are too many lessons to keep"));
            }
            storage::save(&file, &bytes).await?;
            Ok(JsValue::UNDEFINED)
        };
        let kept = locked(&self.file, move || future_to_promise(work)).await;
        if let Err(error) = &kept {
            web_sys::console::info_1(error);
        }
        self.lessons = lessons.borrow().clone();
        kept.is_ok()
    }

    /// What the gallery holds, for people.
    pub(crate) fn view(&self, recognizer: &Recognizer, filter: &str) -> GalleryView {
        let gallery = recognizer.own_gallery();
        let (classes, entries) =
            recognizer.shards().map_or((0, 0), |shards| (shards.classes(), shards.entries()));
        let wanted = filter.trim().to_lowercase();
        let counts = gallery.counts();
        let mut matching: Vec<usize> = (0..gallery.classes().len())
            .filter(|class| gallery.classes()[*class].label.to_lowercase().contains(&wanted))
            .collect();
        matching.sort_by_key(|class| gallery.classes()[*class].label.to_lowercase());
        GalleryView {
            classes: gallery.classes().len() + classes,
            entries: gallery.len() + entries,
            unlisted: classes,
            matching: matching.len(),
            shown: matching
                .iter()
                .take(SHOWN)
                .map(|class| ClassView {
                    label: gallery.classes()[*class].label.clone(),
                    entries: counts[*class],
                    thumbnail: gallery.thumbnail(*class).to_vec().into(),
                })
                .collect(),
            edited: self.lessons.live().next().is_some(),
            can_undo: self.lessons.can_undo(),
            kept: self.kept,
        }
    }
}

/// The kept log; its copy where a page was closed while it wrote.
async fn kept_lessons(file: &str) -> Result<Option<Lessons>, LessonsError> {
    let Some(bytes) = storage::load(file).await else { return Ok(None) };
    match Lessons::from_bytes(&bytes) {
        Ok(lessons) => Ok(Some(lessons)),
        // A file that was made and never written.
        Err(_) if bytes.is_empty() => Ok(copied(file).await),
        Err(error) => copied(file).await.map(Some).ok_or(error),
    }
}

async fn copied(file: &str) -> Option<Lessons> {
    Lessons::from_bytes(&storage::load_copy(file).await?).ok()
}

/// A short name for a text, the same in every page.
fn short_name(text: &str) -> String {
    PictureId::of(text.as_bytes()).0[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A change with a number and a time.
fn lesson(change: LessonChange) -> Lesson {
    let half = || (Math::random() * f64::from(u32::MAX)) as u64;
    Lesson { id: (half() << 32) | half(), time: js_sys::Date::now() as u64, change }
}

fn full(error: &LessonsError) -> EngineError {
    EngineError::new(ErrorKind::Gallery, error.to_string())
}

/// The change that a page asks for, and what is said about it.
fn wanted(edit: Edit, taught: Option<Taught>) -> Result<(LessonChange, Change), EngineError> {
    Ok(match edit {
        Edit::Teach { label, .. } | Edit::Add { label, .. } => {
            let label = checked(&label)?;
            let Taught { thumbnail, embedding } = taught.ok_or_else(|| {
                EngineError::new(ErrorKind::Gallery, "that picture is not at hand any more")
            })?;
            let change = LessonChange::Teach { label: label.clone(), embedding, thumbnail };
            (change, Change::Taught(label))
        }
        Edit::Rename { from, to } => {
            let to = checked(&to)?;
            (LessonChange::Rename { from, to: to.clone() }, Change::Renamed(to))
        }
        Edit::Remove { label } => {
            (LessonChange::Remove { label: label.clone() }, Change::Removed(label))
        }
        Edit::Import { bytes } => {
            (LessonChange::Import { gallery: bytes.into_vec() }, Change::Imported(0))
        }
    })
}

/// Waits for the work while no other page of the site does the like. Where the browser has no locks, pages that
/// write at the same time join at their next change.
async fn locked(name: &str, work: impl FnOnce() -> Promise + 'static) -> Result<JsValue, JsValue> {
    let navigator = Reflect::get(&scope(), &"navigator".into())?;
    let locks = Reflect::get(&navigator, &"locks".into()).unwrap_or_default();
    let request = Reflect::get(&locks, &"request".into()).unwrap_or_default();
    let Ok(request) = request.dyn_into::<Function>() else {
        return within(work(), LOCK_LIMIT).await;
    };
    let held = Closure::once_into_js(move |_: JsValue| JsValue::from(work()));
    let done: Promise = request.call2(&locks, &name.into(), &held)?.dyn_into()?;
    within(done, LOCK_LIMIT).await
}

/// A label as it is kept: without space around it, not empty, not endless.
fn checked(label: &str) -> Result<String, EngineError> {
    let label = label.trim();
    if label.is_empty() || label.chars().count() > MAX_LABEL {
        let message = format!("a name has 1 to {MAX_LABEL} characters");
        return Err(EngineError::new(ErrorKind::Gallery, message));
    }
    Ok(label.to_owned())
}
