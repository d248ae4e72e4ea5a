//! The visitor's gallery: the published one with what was changed in this page.
//!
//! Changes are kept by the browser beside the name of the published gallery that they were made to.
//! When another one is published, it is merged into the visitor's.

use models::gallery::{Class, Gallery, GalleryError, Merged, PictureId};
use models::recognizer::Recognizer;

use crate::failure::refused;
use crate::protocol::{Change, ClassView, Edit, EngineError, ErrorKind, GalleryView};
use crate::storage;

/// Classes that a view shows at most.
const SHOWN: usize = 60;
/// Changes that can be taken back.
const UNDO_STEPS: usize = 20;
/// Entries of all galleries that are kept for taking back.
const UNDO_ENTRIES: usize = 200_000;
/// Longest label, in characters.
const MAX_LABEL: usize = 200;

/// What the engine knows about the visitor's gallery beside the gallery itself.
pub(crate) struct Visitor {
    /// File name of the published gallery.
    published: String,
    /// Galleries before each change, the newest last.
    before: Vec<Gallery>,
    edited: bool,
    kept: bool,
    /// Content of the kept gallery when this page last read or wrote it. Another page of this site
    /// may have kept its own since.
    last_kept: PictureId,
}

/// An object that is taught: its picture for people and its embedding.
pub(crate) struct Lesson {
    pub(crate) thumbnail: Vec<u8>,
    pub(crate) embedding: Vec<f32>,
}

impl Visitor {
    /// Takes up what was kept from an earlier visit.
    pub(crate) async fn open(recognizer: &mut Recognizer, published: &str) -> Self {
        let mut visitor = Self {
            published: published.to_owned(),
            before: Vec::new(),
            edited: false,
            kept: true,
            last_kept: PictureId::default(),
        };
        let (file, base) = names(recognizer);
        let (Some(bytes), Some(made_to)) = (storage::load(&file).await, storage::load(&base).await)
        else {
            return visitor;
        };
        // What cannot be read stays where it is: a newer page may read it.
        let Ok(mut gallery) = Gallery::from_bytes(&bytes) else {
            visitor.kept = false;
            return visitor;
        };
        visitor.last_kept = PictureId::of(&bytes);
        let newer = made_to != published.as_bytes();
        if newer && gallery.merge(recognizer.own_gallery()).is_err() {
            return visitor;
        }
        if recognizer.replace_gallery(gallery).is_ok() {
            visitor.edited = true;
            if newer {
                visitor.keep(recognizer).await;
            }
        }
        visitor
    }

    /// Makes a change and keeps its outcome; `lesson` is what is taught.
    pub(crate) async fn edit(
        &mut self,
        recognizer: &mut Recognizer,
        edit: Edit,
        lesson: Option<Lesson>,
    ) -> Result<Change, EngineError> {
        let (gallery, change) = changed(recognizer.own_gallery(), edit, lesson)?;
        let before = recognizer.replace_gallery(gallery).map_err(|error| refused(&error))?;
        self.remember(before);
        self.edited = true;
        self.keep(recognizer).await;
        Ok(change)
    }

    /// Takes the last change back.
    pub(crate) async fn undo(&mut self, recognizer: &mut Recognizer) -> Result<(), EngineError> {
        let before = self.before.pop().ok_or_else(|| {
            EngineError::new(ErrorKind::Gallery, "there is no change to take back")
        })?;
        recognizer.replace_gallery(before).map_err(|error| refused(&error))?;
        self.edited = true;
        self.keep(recognizer).await;
        Ok(())
    }

    /// Goes back to the published gallery; that can be taken back, too.
    pub(crate) async fn reset(
        &mut self,
        recognizer: &mut Recognizer,
        published: Gallery,
    ) -> Result<(), EngineError> {
        let before = recognizer.replace_gallery(published).map_err(|error| refused(&error))?;
        self.remember(before);
        let (file, base) = names(recognizer);
        storage::remove(&file).await;
        storage::remove(&base).await;
        (self.edited, self.kept, self.last_kept) = (false, true, PictureId::default());
        Ok(())
    }

    /// Takes a newly published gallery.
    pub(crate) async fn publish(
        &mut self,
        recognizer: &mut Recognizer,
        name: &str,
        mut published: Gallery,
    ) -> Result<(), EngineError> {
        name.clone_into(&mut self.published);
        if self.edited {
            let mut own = recognizer.own_gallery().clone();
            own.merge(&published).map_err(|error| refused(&error))?;
            published = own;
        }
        recognizer.replace_gallery(published).map_err(|error| refused(&error))?;
        if self.edited {
            self.keep(recognizer).await;
        }
        Ok(())
    }

    /// File name of the published gallery.
    pub(crate) fn published(&self) -> &str {
        &self.published
    }

    fn remember(&mut self, before: Gallery) {
        self.before.push(before);
        let entries = |galleries: &[Gallery]| galleries.iter().map(Gallery::len).sum::<usize>();
        while self.before.len() > UNDO_STEPS
            || (self.before.len() > 1 && entries(&self.before) > UNDO_ENTRIES)
        {
            self.before.remove(0);
        }
    }

    /// Keeps the gallery for the next visit; where that fails, the view says so.
    async fn keep(&mut self, recognizer: &mut Recognizer) {
        let (file, base) = names(recognizer);
        if let Err(error) = self.take_from_other_pages(recognizer, &file).await {
            web_sys::console::info_1(&error.to_string().into());
            self.kept = false;
            return;
        }
        let bytes = recognizer.own_gallery().to_bytes();
        let saved = match storage::save(&file, &bytes).await {
            Ok(()) => storage::save(&base, self.published.as_bytes()).await,
            Err(error) => Err(error),
        };
        self.kept = saved.is_ok();
        if self.kept {
            self.last_kept = PictureId::of(&bytes);
        }
    }

    /// Adds what another page of this site, open at the same time, has kept since.
    ///
    /// # Errors
    ///
    /// What is kept cannot be read or is of another model: a newer page kept it, and it stays.
    async fn take_from_other_pages(
        &self,
        recognizer: &mut Recognizer,
        file: &str,
    ) -> Result<(), GalleryError> {
        let Some(bytes) = storage::load(file).await else { return Ok(()) };
        if PictureId::of(&bytes) == self.last_kept {
            return Ok(());
        }
        let mut both = recognizer.own_gallery().clone();
        both.merge(&Gallery::from_bytes(&bytes)?)?;
        recognizer.replace_gallery(both).map(drop)
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
            edited: self.edited,
            can_undo: !self.before.is_empty(),
            kept: self.kept,
        }
    }
}

/// Names of the visitor's gallery and of the file that says what it was made to.
fn names(recognizer: &Recognizer) -> (String, String) {
    let model = recognizer.own_gallery().model();
    (format!("magpie-gallery-{model}.bin"), format!("magpie-gallery-{model}.base"))
}

/// A gallery with one change.
fn changed(
    gallery: &Gallery,
    edit: Edit,
    lesson: Option<Lesson>,
) -> Result<(Gallery, Change), EngineError> {
    let missing =
        |label: &str| EngineError::new(ErrorKind::Gallery, format!("there is no class {label:?}"));
    let mut gallery = gallery.clone();
    let result = match edit {
        Edit::Teach { label, .. } | Edit::Add { label, .. } => {
            let label = checked(&label)?;
            let lesson = lesson.ok_or_else(|| {
                EngineError::new(ErrorKind::Gallery, "that picture is not at hand any more")
            })?;
            let class = gallery.class_by_label(&label).unwrap_or_else(|| {
                let class = Class { label: label.clone(), ..Class::default() };
                gallery.add_class(class, lesson.thumbnail)
            });
            // The same lesson in two galleries is one when they are merged.
            let bytes: Vec<u8> = lesson.embedding.iter().flat_map(|v| v.to_le_bytes()).collect();
            let added = gallery.add_picture(class, &lesson.embedding, PictureId::of(&bytes));
            added.map(|()| Change::Taught(label))
        }
        Edit::Rename { from, to } => {
            let to = checked(&to)?;
            let class = gallery.class_by_label(&from).ok_or_else(|| missing(&from))?;
            gallery.rename_class(class, &to).map(|_| Change::Renamed(to))
        }
        Edit::Remove { label } => {
            let class = gallery.class_by_label(&label).ok_or_else(|| missing(&label))?;
            gallery.remove_class(class).map(|()| Change::Removed(label))
        }
        Edit::Import { bytes } => Gallery::from_bytes(&bytes)
            .and_then(|other| gallery.merge(&other))
            .map(|Merged { added, .. }| Change::Imported(added)),
    };
    result.map(|change| (gallery, change)).map_err(|error| refused(&error))
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
