//! What an owner does, as changes of the project.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Class, ClassId, Part, Photo, PhotoId, Project, Settings, Table, name, texts};

/// A photograph that comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewPhoto {
    /// Of its file.
    pub(crate) id: PhotoId,
    /// What its file is called, with its folders.
    pub(crate) name: String,
    /// Name of what it shows, which is made a class where it is none; `None` where nobody says.
    pub(crate) label: Option<String>,
}

/// What an owner does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Adds photographs. Those that are there already stay as they are.
    Add(Vec<NewPhoto>),
    /// Adds a class without photographs.
    AddClass(String),
    /// Calls a class something else; where another one has that name, the two become one.
    Rename(ClassId, String),
    /// Makes one class of two; the second one's name stays.
    Merge(ClassId, ClassId),
    /// Puts photographs into a class, or among those that show nothing yet.
    Move(Vec<PhotoId>, Option<ClassId>),
    /// Puts photographs into the class of a name, which is made where it is none.
    Split(Vec<PhotoId>, String),
    /// Puts each photograph into the class of a name, which is made where it is none.
    Place(Vec<(PhotoId, String)>),
    /// Removes photographs.
    Remove(Vec<PhotoId>),
    /// Removes a class with its photographs.
    RemoveClass(ClassId),
    /// Tells other texts of a class.
    Describe(ClassId, Vec<(String, String)>),
    /// Tells what a table says of the classes that it names.
    Read(Table),
    /// Calls the site something else.
    Title(String),
    /// Lets a part of a photograph count alone, or what the settings say.
    Crop(PhotoId, Option<Part>),
    /// Makes the gallery in another way.
    Settings(Settings),
}

impl Action {
    /// As changes, in order; none where nothing would change. `free` and all above it are ids of no class.
    pub(super) fn changes(self, project: &Project, free: ClassId) -> Vec<Change> {
        match self {
            Self::Add(photos) => add(project, photos, free),
            Self::AddClass(label) => match name(&label) {
                Some(label) if project.named(&label).is_none() => {
                    vec![put_class(project, free, label, 0)]
                }
                _ => Vec::new(),
            },
            Self::Rename(id, label) => rename(project, id, &label),
            Self::Merge(from, into) => merge(project, from, into),
            Self::Move(photos, class) => {
                if class.is_some_and(|id| project.class(id).is_none()) {
                    return Vec::new();
                }
                move_photos(project, &photos, class).into_iter().collect()
            }
            Self::Split(photos, label) => split(project, &photos, &label, free),
            Self::Place(photos) => place(project, photos, free),
            Self::Remove(photos) => {
                let there = known(project, &photos);
                if there.is_empty() { Vec::new() } else { vec![Change::TakePhotos(there)] }
            }
            Self::RemoveClass(id) => {
                if project.class(id).is_none() {
                    return Vec::new();
                }
                let photos: Vec<PhotoId> = project.of(Some(id)).map(|photo| photo.id).collect();
                let mut changes = Vec::new();
                if !photos.is_empty() {
                    changes.push(Change::TakePhotos(photos));
                }
                changes.push(Change::TakeClass(id));
                changes
            }
            Self::Describe(id, pairs) => describe(project, id, texts(pairs)).into_iter().collect(),
            Self::Read(table) => read(project, &table),
            Self::Title(title) => {
                let title = name(&title).unwrap_or_default();
                if title == project.title() { Vec::new() } else { vec![Change::Title(title)] }
            }
            Self::Crop(id, part) => match project.photo(id) {
                Some(photo) if photo.part != part => vec![Change::Part(id, part)],
                _ => Vec::new(),
            },
            Self::Settings(settings) if settings == project.settings() => Vec::new(),
            Self::Settings(settings) => vec![Change::Settings(settings)],
        }
    }
}

/// A class that comes in at its place by the order of names, behind `more` that come in before it.
fn put_class(project: &Project, id: ClassId, label: String, more: usize) -> Change {
    let place = project.classes().iter().filter(|class| class.label < label).count();
    Change::PutClass(place + more, Class { id, label, metadata: Vec::new() })
}

/// Those that are there, each once, in the order of the project.
fn known(project: &Project, photos: &[PhotoId]) -> Vec<PhotoId> {
    let wanted: BTreeSet<PhotoId> = photos.iter().copied().collect();
    project.photos().iter().map(|photo| photo.id).filter(|id| wanted.contains(id)).collect()
}

fn move_photos(project: &Project, photos: &[PhotoId], class: Option<ClassId>) -> Option<Change> {
    let wanted: BTreeSet<PhotoId> = photos.iter().copied().collect();
    let moves: Vec<_> = project
        .photos()
        .iter()
        .filter(|photo| wanted.contains(&photo.id) && photo.class != class)
        .map(|photo| (photo.id, class))
        .collect();
    (!moves.is_empty()).then_some(Change::Move(moves))
}

/// Ids of classes by their names; those that are none yet are made.
struct Named<'a> {
    known: BTreeMap<&'a str, ClassId>,
    made: BTreeMap<String, ClassId>,
    free: ClassId,
}

impl<'a> Named<'a> {
    fn of(project: &'a Project, free: ClassId) -> Self {
        let classes = project.classes().iter();
        let known = classes.map(|class| (class.label.as_str(), class.id)).collect();
        Self { known, made: BTreeMap::new(), free }
    }

    fn id(&mut self, label: String) -> ClassId {
        let next = ClassId(self.free.0 + self.made.len() as u32);
        let there = self.known.get(label.as_str()).copied();
        there.unwrap_or_else(|| *self.made.entry(label).or_insert(next))
    }

    /// The classes that come in, in the order of their names, so that each finds those before it in their places.
    fn changes(self, project: &Project) -> Vec<Change> {
        let made = self.made.into_iter().enumerate();
        made.map(|(more, (label, id))| put_class(project, id, label, more)).collect()
    }
}

fn place(project: &Project, photos: Vec<(PhotoId, String)>, free: ClassId) -> Vec<Change> {
    let mut classes = Named::of(project, free);
    let mut moves = BTreeMap::new();
    for (id, label) in photos {
        if let (Some(photo), Some(label)) = (project.photo(id), name(&label)) {
            let class = Some(classes.id(label));
            if photo.class != class {
                moves.insert(id, class);
            }
        }
    }
    if moves.is_empty() {
        return Vec::new();
    }
    let mut changes = classes.changes(project);
    changes.push(Change::Move(moves.into_iter().collect()));
    changes
}

fn add(project: &Project, photos: Vec<NewPhoto>, free: ClassId) -> Vec<Change> {
    let mut seen: BTreeSet<PhotoId> = project.photos().iter().map(|photo| photo.id).collect();
    let mut classes = Named::of(project, free);
    let mut put = Vec::new();
    for photo in photos {
        if !seen.insert(photo.id) {
            continue;
        }
        let class = photo.label.as_deref().and_then(name).map(|label| classes.id(label));
        put.push((
            project.photos().len() + put.len(),
            Photo { id: photo.id, name: photo.name, class, part: None },
        ));
    }
    if put.is_empty() {
        return Vec::new();
    }
    let mut changes = classes.changes(project);
    changes.push(Change::PutPhotos(put));
    changes
}

fn rename(project: &Project, id: ClassId, label: &str) -> Vec<Change> {
    let (Some(class), Some(label)) = (project.class(id), name(label)) else { return Vec::new() };
    if class.label == label {
        return Vec::new();
    }
    match project.named(&label) {
        Some(other) => merge(project, id, other.id),
        None => vec![Change::Label(id, label)],
    }
}

fn merge(project: &Project, from: ClassId, into: ClassId) -> Vec<Change> {
    let (Some(going), Some(staying)) = (project.class(from), project.class(into)) else {
        return Vec::new();
    };
    if from == into {
        return Vec::new();
    }
    let photos: Vec<PhotoId> = project.of(Some(from)).map(|photo| photo.id).collect();
    let mut changes: Vec<Change> = move_photos(project, &photos, Some(into)).into_iter().collect();
    // What is told of the one that stays counts; what it lacks comes from the other one.
    let mut metadata = staying.metadata.clone();
    for (key, text) in &going.metadata {
        if !metadata.iter().any(|(known, _)| known == key) {
            metadata.push((key.clone(), text.clone()));
        }
    }
    changes.extend(describe(project, into, texts(metadata)));
    changes.push(Change::TakeClass(from));
    changes
}

fn split(project: &Project, photos: &[PhotoId], label: &str, free: ClassId) -> Vec<Change> {
    let Some(label) = name(label) else { return Vec::new() };
    if let Some(class) = project.named(&label) {
        return move_photos(project, photos, Some(class.id)).into_iter().collect();
    }
    match move_photos(project, photos, Some(free)) {
        Some(moves) => vec![put_class(project, free, label, 0), moves],
        None => Vec::new(),
    }
}

fn describe(project: &Project, id: ClassId, metadata: Vec<(String, String)>) -> Option<Change> {
    let class = project.class(id)?;
    (class.metadata != metadata).then_some(Change::Metadata(id, metadata))
}

/// Texts that the table has replace those of the same name; an empty one removes it.
fn read(project: &Project, table: &Table) -> Vec<Change> {
    let mut changed: BTreeMap<ClassId, Vec<(String, String)>> = BTreeMap::new();
    for (label, told) in table.rows() {
        let Some(class) = project.named(label) else { continue };
        let metadata = changed.entry(class.id).or_insert_with(|| class.metadata.clone());
        for (key, text) in told {
            match metadata.iter_mut().find(|(known, _)| known == key) {
                Some((_, before)) => before.clone_from(text),
                None => metadata.push((key.clone(), text.clone())),
            }
        }
    }
    let changed = changed.into_iter();
    changed.filter_map(|(id, metadata)| describe(project, id, texts(metadata))).collect()
}
