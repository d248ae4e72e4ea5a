//! The visitor's gallery: the published one with what was changed in this page.
//!
//! The browser keeps the log of changes, by site and model, and replays it over whatever is published.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use js_sys::{Function, JsString, Math, Promise, Reflect};
use models::bundle::MAX_FILE_BYTES;
use models::gallery::{
    Class, ContentId, Gallery, Lesson, LessonChange, Lessons, LessonsError, apply,
};
use models::recognizer::Recognizer;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::future_to_promise;

use crate::protocol::{Change, ClassView, Edit, EngineError, ErrorKind, GalleryView};
use crate::scope::{scope, within};
use crate::storage;

/// Classes that a view shows at most.
const SHOWN: usize = 60;
/// Longest label that a visitor makes, in characters.
const MAX_LABEL: usize = 200;
/// Characters without ink that are no blanks by Unicode, as the commands have them.
const INVISIBLE: [char; 5] = ['\u{ad}', '\u{200b}', '\u{2060}', '\u{180e}', '\u{feff}'];
/// Milliseconds that another page of the site may hold the log.
const LOCK_LIMIT: i32 = 8000;

/// What the engine knows about the visitor's gallery beside the gallery itself.
pub(crate) struct LocalEdits {
    /// The published gallery, or one without entries where it comes in shards.
    published: Gallery,
    lessons: Lessons,
    /// Name of the file that is kept.
    file: String,
    kept: bool,
    /// Whether what was kept before could not be read: it is read before the next change.
    unread: bool,
}

/// An object that is taught: its thumbnail and its embedding.
pub(crate) struct Taught {
    pub(crate) thumbnail: Vec<u8>,
    pub(crate) embedding: Vec<f32>,
}

impl LocalEdits {
    /// Takes up what was kept from an earlier visit. `site` is what tells this site from others of its origin.
    pub(crate) async fn open(recognizer: &mut Recognizer, site: &str) -> Self {
        let published = recognizer.own_gallery().clone();
        let model = published.model();
        let mut edits = Self {
            lessons: Lessons::new(&published),
            file: format!("magpie-lessons-{}-{model}.log", short_name(site)),
            kept: true,
            unread: true,
            published,
        };
        edits.read().await;
        // What was taken back or started over from stays so.
        edits.lessons.tidy();
        if edits.replay(recognizer).is_err() {
            edits.lessons = Lessons::new(&edits.published);
            edits.kept = false;
        }
        edits
    }

    /// Joins what was kept before, where it can be read.
    async fn read(&mut self) {
        let read = match kept_lessons(&self.file).await {
            Ok(Some(kept)) if self.lessons == Lessons::new(&self.published) => {
                self.lessons = kept;
                Ok(())
            }
            Ok(Some(kept)) => self.lessons.merge(&kept).map(drop).map_err(said),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        // It stays where it is: it may be read later, or by a newer page.
        self.unread = match read {
            Ok(()) => self.take_old_form().await.is_err(),
            Err(_) => true,
        };
        self.kept &= !self.unread;
    }

    /// Reads what could not be read when the page was opened.
    async fn catch_up(&mut self, recognizer: &mut Recognizer) -> Result<(), EngineError> {
        if !self.unread {
            return Ok(());
        }
        self.read().await;
        if self.unread { Ok(()) } else { self.replay(recognizer) }
    }

    /// Pages kept whole galleries once, by model alone; such a one is taken over as an import. Fails where nobody
    /// knows whether there is one.
    async fn take_old_form(&mut self) -> Result<(), JsValue> {
        let model = self.published.model();
        let (gallery, base) =
            (format!("magpie-gallery-{model}.bin"), format!("magpie-gallery-{model}.base"));
        let Some(bytes) = storage::load(&gallery).await? else { return Ok(()) };
        if Gallery::from_bytes(&bytes).is_err() {
            return Ok(());
        }
        let change = LessonChange::Import { gallery: bytes };
        if self.lessons.push(lesson(change)).is_ok() {
            self.kept = self.keep().await;
            if self.kept {
                storage::remove(&gallery).await;
                storage::remove(&base).await;
            }
        }
        Ok(())
    }

    /// Makes a change and keeps it; `taught` is what is taught.
    pub(crate) async fn edit(
        &mut self,
        recognizer: &mut Recognizer,
        edit: Edit,
        taught: Option<Taught>,
    ) -> Result<Change, EngineError> {
        self.catch_up(recognizer).await?;
        let (change, mut said) = wanted(recognizer, edit, taught)?;
        let mut gallery = recognizer.own_gallery().clone();
        let applied = apply(&mut gallery, &change)?;
        gallery.connect();
        if let Change::Imported(added) = &mut said {
            *added = applied.added;
        }
        self.lessons.push(lesson(change))?;
        recognizer.replace_gallery(gallery)?;
        self.keep_and_join(recognizer).await?;
        Ok(said)
    }

    /// Takes the last change back.
    pub(crate) async fn undo(&mut self, recognizer: &mut Recognizer) -> Result<(), EngineError> {
        self.catch_up(recognizer).await?;
        if !self.lessons.undo() {
            let message = "there is no change to take back";
            return Err(EngineError::new(ErrorKind::Gallery, message));
        }
        self.replay(recognizer)?;
        self.keep_and_join(recognizer).await
    }

    /// Goes back to the published gallery; that can be taken back, too.
    pub(crate) async fn reset(&mut self, recognizer: &mut Recognizer) -> Result<(), EngineError> {
        self.catch_up(recognizer).await?;
        self.lessons.push(lesson(LessonChange::Reset))?;
        self.replay(recognizer)?;
        self.keep_and_join(recognizer).await
    }

    /// Takes a newly published gallery.
    pub(crate) fn publish(
        &mut self,
        recognizer: &mut Recognizer,
        published: Gallery,
    ) -> Result<(), EngineError> {
        let gallery = self.lessons.replay(&published)?;
        recognizer.replace_gallery(gallery)?;
        self.published = published;
        Ok(())
    }

    /// Gives the published classes their thumbnails.
    pub(crate) fn take_thumbnails(&mut self, pictures: &Gallery) {
        // The recognizer has taken the same, so they are of this model.
        let _ = self.published.take_thumbnails(pictures);
    }

    /// Whether what is searched has learned no more than what was published: map, threshold and rule are the same.
    pub(crate) fn is_as_published(&self, recognizer: &Recognizer) -> bool {
        let (own, published) = (recognizer.own_gallery(), &self.published);
        own.map() == published.map()
            && own.min_similarity() == published.min_similarity()
            && own.measured_rule() == published.measured_rule()
    }

    fn replay(&self, recognizer: &mut Recognizer) -> Result<(), EngineError> {
        let gallery = self.lessons.replay(&self.published)?;
        recognizer.replace_gallery(gallery)?;
        Ok(())
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
                Ok(Some(kept)) => shared.borrow_mut().merge(&kept).map(drop).map_err(said),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            joined?;
            let bytes = shared.borrow().to_bytes();
            if bytes.len() as u64 > MAX_FILE_BYTES {
                return Err(JsValue::from_str("there are too many lessons to keep"));
            }
            // What replaces a log can be read.
            if Lessons::from_bytes(&bytes).map_err(said)? != *shared.borrow() {
                return Err(JsValue::from_str("the lessons cannot be kept as they are"));
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

    /// What the gallery holds, as the page shows it.
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

/// The kept log; its copy where a page was closed while it wrote. An error where there may be one that cannot be
/// read.
async fn kept_lessons(file: &str) -> Result<Option<Lessons>, JsValue> {
    let Some(bytes) = storage::load(file).await? else { return Ok(None) };
    let error = match Lessons::from_bytes(&bytes) {
        Ok(lessons) => return Ok(Some(lessons)),
        Err(error) => error,
    };
    let copy = storage::load_copy(file).await?.map(|bytes| Lessons::from_bytes(&bytes));
    match copy {
        Some(Ok(lessons)) => Ok(Some(lessons)),
        Some(Err(newer @ LessonsError::Version { .. })) => Err(said(newer)),
        // A file that was made and never written.
        _ if bytes.is_empty() => Ok(None),
        _ => Err(said(error)),
    }
}

/// An error of a log as the browser's errors are.
fn said(error: LessonsError) -> JsValue {
    JsValue::from_str(&error.to_string())
}

/// A short name for a text, the same in every page.
fn short_name(text: &str) -> String {
    let digest = ContentId::of(text.as_bytes()).0;
    digest[..6].iter().fold(String::new(), |name, byte| format!("{name}{byte:02x}"))
}

/// A change with a number and a time.
fn lesson(change: LessonChange) -> Lesson {
    let half = || (Math::random() * f64::from(u32::MAX)) as u64;
    Lesson { id: (half() << 32) | half(), time: js_sys::Date::now() as u64, change }
}

/// The change that a page asks for, and what is said about it.
fn wanted(
    recognizer: &Recognizer,
    edit: Edit,
    taught: Option<Taught>,
) -> Result<(LessonChange, Change), EngineError> {
    let own = recognizer.own_gallery();
    Ok(match edit {
        Edit::Teach { label, .. } | Edit::Add { label, .. } => {
            // An answer may be a class of a shard.
            let label =
                known(recognizer.gallery(), &label, None).map_or_else(|| checked(&label), Ok)?;
            let Taught { thumbnail, embedding } = taught.ok_or_else(|| {
                EngineError::new(ErrorKind::Gallery, "that picture is not at hand any more")
            })?;
            let change = LessonChange::Teach { label: label.clone(), embedding, thumbnail };
            (change, Change::Taught(label))
        }
        Edit::Rename { from, to } => {
            let from = known(own, &from, None).unwrap_or(from);
            let to = known(own, &to, Some(&from)).map_or_else(|| checked(&to), Ok)?;
            (LessonChange::Rename { from, to: to.clone() }, Change::Renamed(to))
        }
        Edit::Remove { label } => {
            let label = known(own, &label, None).unwrap_or(label);
            (LessonChange::Remove { label: label.clone() }, Change::Removed(label))
        }
        Edit::Import { bytes } => {
            let gallery = spelled_alike(own, bytes.into_vec())?;
            (LessonChange::Import { gallery }, Change::Imported(0))
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

/// A new label as it is kept: something is seen of it, and it is not endless.
fn checked(label: &str) -> Result<String, EngineError> {
    let label = spelled(label);
    let refused = |message: String| Err(EngineError::new(ErrorKind::Gallery, message));
    if !label.is_empty() && label.chars().all(is_unseen) {
        return refused("nothing of that name can be seen: type another one".to_owned());
    }
    if label.is_empty() || label.chars().count() > MAX_LABEL {
        return refused(format!("a name has 1 to {MAX_LABEL} characters"));
    }
    if let Some(c) = label.chars().find(|c| steers(*c)) {
        let code = u32::from(c);
        return refused(format!("a name cannot hold the character U+{code:04X}: leave it out"));
    }
    Ok(label)
}

/// Whether a character steers how others are shown, as the commands have it.
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether nothing is seen of a character: blanks, control characters, marks of direction and of joining.
fn is_unseen(c: char) -> bool {
    let is_mark = matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}');
    c.is_whitespace() || c.is_control() || is_mark || INVISIBLE.contains(&c)
}

/// A label as the commands spell it: composed, without blanks at its ends.
fn spelled(label: &str) -> String {
    let label = label.trim_matches(|c: char| c.is_whitespace() || INVISIBLE.contains(&c));
    if label.is_ascii() {
        return label.to_owned();
    }
    JsString::from(label).normalize("NFC").into()
}

/// A label without what people type differently: capitals and numbers of blanks.
fn typed(label: &str) -> String {
    spelled(label).to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The label of the class that is meant: spelled so, else the first with the same name, else the first that is typed
/// alike; `except` is of none.
fn known(gallery: &Gallery, label: &str, except: Option<&str>) -> Option<String> {
    let labels =
        || gallery.classes().iter().map(|c| c.label.as_str()).filter(|l| Some(*l) != except);
    let same = || {
        let name = spelled(label);
        labels().find(|other| !name.is_empty() && spelled(other) == name)
    };
    let alike = || {
        let name = typed(label);
        labels().find(|other| !name.is_empty() && typed(other) == name)
    };
    labels().find(|other| *other == label).or_else(same).or_else(alike).map(str::to_owned)
}

/// A gallery file whose labels are spelled as those of the same names in `ours`, else as the commands do.
fn spelled_alike(ours: &Gallery, bytes: Vec<u8>) -> Result<Vec<u8>, EngineError> {
    let mut theirs = Gallery::from_bytes(&bytes)?;
    let labels: Vec<&str> = ours.classes().iter().map(|class| class.label.as_str()).collect();
    let there: HashSet<&str> = labels.iter().copied().collect();
    let mut names: HashMap<String, &str> = HashMap::new();
    for label in labels {
        names.entry(spelled(label)).or_insert(label);
    }
    let mut changed = Vec::new();
    for Class { label, .. } in theirs.classes() {
        // A class whose label no lesson holds could never be changed.
        Lessons::check_label(label)?;
        let name = spelled(label);
        let to = names.get(&name).map_or_else(|| name.clone(), |to| (*to).to_owned());
        if !name.is_empty() && !there.contains(label.as_str()) && to != *label {
            changed.push((label.clone(), to));
        }
    }
    if changed.is_empty() {
        return Ok(bytes);
    }
    for (from, to) in changed {
        if let Some(class) = theirs.class_by_label(&from) {
            theirs.rename_class(class, &to)?;
        }
    }
    Ok(theirs.to_bytes())
}
