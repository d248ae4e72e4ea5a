//! The smallest changes of a project, each with its opposite.

use super::{Class, ClassId, Part, Photo, PhotoId, Project, Settings};

/// A change; [`Project::apply`] gives its opposite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Photographs come in, each at its place in the list of all, lowest first.
    PutPhotos(Vec<(usize, Photo)>),
    /// Photographs go.
    TakePhotos(Vec<PhotoId>),
    /// Photographs show something else.
    Move(Vec<(PhotoId, Option<ClassId>)>),
    /// A class comes in, at its place in the list of all.
    PutClass(usize, Class),
    /// A class without photographs goes.
    TakeClass(ClassId),
    /// A class is called something else.
    Label(ClassId, String),
    /// Other texts are told of a class.
    Metadata(ClassId, Vec<(String, String)>),
    /// The site is called something else.
    Title(String),
    /// Another part of a photograph counts.
    Part(PhotoId, Option<Part>),
    /// The gallery is made in another way.
    Settings(Settings),
}

impl Project {
    /// Does a change and returns its opposite. What names something that is not there changes nothing of it.
    pub(crate) fn apply(&mut self, change: Change) -> Change {
        match change {
            Change::PutPhotos(photos) => {
                let ids = photos.iter().map(|(_, photo)| photo.id).collect();
                self.put_photos(photos);
                Change::TakePhotos(ids)
            }
            Change::TakePhotos(ids) => {
                let ids: std::collections::BTreeSet<PhotoId> = ids.into_iter().collect();
                let mut taken = Vec::with_capacity(ids.len());
                let mut stay = Vec::with_capacity(self.photos.len());
                for (place, photo) in std::mem::take(&mut self.photos).into_iter().enumerate() {
                    if ids.contains(&photo.id) {
                        taken.push((place, photo));
                    } else {
                        stay.push(photo);
                    }
                }
                self.photos = stay;
                Change::PutPhotos(taken)
            }
            Change::Move(moves) => {
                let to: std::collections::BTreeMap<_, _> = moves.into_iter().collect();
                let mut back = Vec::with_capacity(to.len());
                for photo in &mut self.photos {
                    if let Some(class) = to.get(&photo.id) {
                        back.push((photo.id, std::mem::replace(&mut photo.class, *class)));
                    }
                }
                Change::Move(back)
            }
            Change::PutClass(place, class) => {
                let id = class.id;
                self.classes.insert(place.min(self.classes.len()), class);
                Change::TakeClass(id)
            }
            Change::TakeClass(id) => match self.classes.iter().position(|class| class.id == id) {
                Some(place) => Change::PutClass(place, self.classes.remove(place)),
                None => Change::Move(Vec::new()),
            },
            Change::Label(id, mut label) => {
                if let Some(class) = self.class_mut(id) {
                    std::mem::swap(&mut class.label, &mut label);
                }
                Change::Label(id, label)
            }
            Change::Metadata(id, mut metadata) => {
                if let Some(class) = self.class_mut(id) {
                    std::mem::swap(&mut class.metadata, &mut metadata);
                }
                Change::Metadata(id, metadata)
            }
            Change::Title(title) => Change::Title(std::mem::replace(&mut self.title, title)),
            Change::Part(id, mut part) => {
                if let Some(photo) = self.photos.iter_mut().find(|photo| photo.id == id) {
                    std::mem::swap(&mut photo.part, &mut part);
                }
                Change::Part(id, part)
            }
            Change::Settings(settings) => {
                Change::Settings(std::mem::replace(&mut self.settings, settings))
            }
        }
    }

    fn class_mut(&mut self, id: ClassId) -> Option<&mut Class> {
        self.classes.iter_mut().find(|class| class.id == id)
    }

    /// In one pass, however many there are.
    fn put_photos(&mut self, photos: Vec<(usize, Photo)>) {
        let mut there = std::mem::take(&mut self.photos).into_iter();
        let mut all = Vec::with_capacity(there.len() + photos.len());
        for (place, photo) in photos {
            while all.len() < place {
                let Some(before) = there.next() else { break };
                all.push(before);
            }
            all.push(photo);
        }
        all.extend(there);
        self.photos = all;
    }
}
