//! The project as the engine takes it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};

use crate::project::{Part, Photo, PhotoId, Project};

/// A photograph as the engine knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ListedPhoto {
    /// Content id of its file.
    pub(crate) content: String,
    /// What its file is called.
    pub(crate) name: String,
    /// What it shows.
    pub(crate) label: String,
    /// Name of what the engine has seen of it.
    pub(crate) record: String,
}

/// What is told of a class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ListedClass {
    label: String,
    metadata: Vec<(String, String)>,
}

/// The project as the engine takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Listed {
    title: String,
    /// By label, then by name.
    pub(crate) photos: Vec<ListedPhoto>,
    /// Which part of a photograph counts; by default what is measured better.
    pub(crate) crop: Option<String>,
    adapt: bool,
    calibrate: bool,
    /// Percent of unknown things that may be given a name.
    #[serde(rename = "false_accept", serialize_with = "as_share")]
    named: u8,
    classes: Vec<ListedClass>,
    samples: Vec<()>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn as_share<S: Serializer>(percent: &u8, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(f64::from(*percent) / 100.0)
}

/// What the engine sees: a photograph, or a part of it.
pub(crate) type Sight = (PhotoId, Option<Part>);

/// Name of what the engine has seen of a photograph, or of a part of it.
pub(crate) fn record_name((id, part): Sight) -> String {
    let edges = part.map(|part| part.0.map(|edge| format!("{edge:04x}")).concat());
    edges.map_or_else(|| id.to_string(), |edges| format!("{id}-{edges}"))
}

/// What a record of this name is of; `None` where it is none.
pub(crate) fn sight_of(name: &str) -> Option<Sight> {
    let Some((id, edges)) = name.split_once('-') else {
        return Some((PhotoId::parse(name)?, None));
    };
    if edges.len() != 16 || !edges.is_ascii() {
        return None;
    }
    let mut part = [0; 4];
    for (edge, place) in part.iter_mut().zip((0..16).step_by(4)) {
        *edge = u16::from_str_radix(edges.get(place..place + 4)?, 16).ok()?;
    }
    Some((PhotoId::parse(id)?, Some(Part(part))))
}

/// What the engine sees of a photograph.
fn sight(photo: &Photo) -> Sight {
    (photo.id, photo.part)
}

impl Listed {
    /// Whether there is nothing to tell apart.
    pub(super) fn is_too_few(&self) -> bool {
        let mut labels = self.photos.iter().map(|photo| &photo.label);
        let first = labels.next();
        labels.all(|label| Some(label) == first)
    }

    /// The sorted photographs of a project.
    pub(super) fn of(project: &Project, unusable: &BTreeSet<Sight>) -> Self {
        let labels: BTreeMap<_, _> =
            project.classes().iter().map(|class| (class.id, class.label.as_str())).collect();
        let photo = |photo: &Photo| {
            let label = labels.get(&photo.class?)?;
            (!unusable.contains(&sight(photo))).then(|| ListedPhoto {
                content: photo.id.to_string(),
                name: photo.name.clone(),
                label: (*label).to_owned(),
                record: record_name(sight(photo)),
            })
        };
        let mut photos: Vec<ListedPhoto> = project.photos().iter().filter_map(photo).collect();
        photos.sort_by(|one, other| (&one.label, &one.name).cmp(&(&other.label, &other.name)));
        let told = project.classes().iter().filter(|class| !class.metadata.is_empty());
        let told = told.map(|class| ListedClass {
            label: class.label.clone(),
            metadata: class.metadata.clone(),
        });
        let (title, settings) = (project.title(), project.settings());
        Self {
            title: if title.is_empty() { "Magpie" } else { title }.to_owned(),
            photos,
            crop: settings.crop.map(|crop| crop.name().to_owned()),
            adapt: settings.adapt,
            calibrate: true,
            named: settings.named,
            classes: told.collect(),
            samples: Vec::new(),
        }
    }
}

/// Whether photographs of fewer than two classes are there.
pub(super) fn lacks_classes(project: &Project) -> bool {
    let mut classes = project.photos().iter().filter_map(|photo| photo.class);
    let first = classes.next();
    classes.all(|class| Some(class) == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_named_after_what_they_are_of() {
        let id = PhotoId([0xab; 16]);
        for part in [None, Part::between([0.1, 0.2, 0.9, 0.7])] {
            assert_eq!(sight_of(&record_name((id, part))), Some((id, part)));
        }
        for name in ["", "ab", "-", &format!("{id}-12"), &format!("{id}-{}", "ü".repeat(8))] {
            assert_eq!(sight_of(name), None, "{name}");
        }
    }
}
