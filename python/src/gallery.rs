//! A gallery in memory.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use authoring::Event;
use authoring::label::Labels;
use models::gallery::{Class, ContentId, Crop, IndexConfig, Metadata, Question, VectorType};
use native_trainer::library::{self, Photo};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rayon::prelude::*;

use crate::errors::{check_signals, unlocked};
use crate::pictures::Picture;
use crate::recognizer::{Detector, Extractor};
use crate::values::{Values, floats};

/// Matches, lead, probability, whether the first is the answer.
type Answer = (Vec<(String, f32)>, f32, Option<f32>, bool);
/// Label, metadata, own threshold, number of entries.
type Described = (String, Vec<(String, String)>, Option<f32>, usize);

/// Searches that are made between two looks at signals.
const CHUNK: usize = 1024;

/// Classes and their entries. Several threads may search at once; changes wait for them.
#[pyclass(frozen, module = "magpie_recognizer._native")]
pub(crate) struct Gallery(RwLock<models::Gallery>);

impl Gallery {
    /// Of one that is there.
    pub(crate) fn new_of(gallery: models::Gallery) -> Self {
        Self(RwLock::new(gallery))
    }

    /// To be taken without Python's lock: who changes it may need that.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, models::Gallery> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, models::Gallery> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Gallery {
    /// One without entries.
    #[new]
    fn new(dim: usize, model: String, values: &str, crop: &str) -> PyResult<Self> {
        let values: VectorType = one_of(values, &VectorType::ALL, VectorType::name, "values")?;
        let all = [Crop::Never, Crop::Middle, Crop::Main, Crop::Both];
        let crop = one_of(crop, &all, Crop::name, "crop")?;
        if dim == 0 || dim > models::gallery::MAX_DIM {
            let most = models::gallery::MAX_DIM;
            return Err(PyValueError::new_err(format!(
                "embeddings have 1 to {most} values, not {dim}"
            )));
        }
        let mut gallery = models::Gallery::with_type(dim, model, values);
        gallery.set_crop(crop);
        Ok(Self::new_of(gallery))
    }

    /// Reads a file.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        unlocked(py, || library::open_gallery(&path)).map(Self::new_of)
    }

    /// Reads the bytes of a file.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, bytes: Vec<u8>) -> PyResult<Self> {
        unlocked(py, || Ok(models::Gallery::from_bytes(&bytes)?)).map(Self::new_of)
    }

    /// Writes a file in the place of one of before.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        unlocked(py, || library::save_gallery(&path, &self.read()))
    }

    /// The bytes of its file.
    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let bytes = py.detach(|| self.read().to_bytes());
        PyBytes::new(py, &bytes)
    }

    /// Becomes what another one is.
    fn take(&self, py: Python<'_>, other: &Self) {
        py.detach(|| {
            let other = other.read().clone();
            *self.write() = other;
        });
    }

    /// Adds embeddings: labels, rows, and the contents of the pictures that they are of, 16 bytes each or nothing.
    fn add_embeddings(
        &self,
        py: Python<'_>,
        labels: Vec<String>,
        rows: &[u8],
        contents: Vec<Vec<u8>>,
    ) -> PyResult<()> {
        let dim = py.detach(|| self.read().dim());
        let rows = floats(rows, dim)?;
        let contents = contents.iter().map(|bytes| content(bytes)).collect::<PyResult<Vec<_>>>()?;
        if rows.len() != labels.len() * dim {
            let (rows, labels) = (rows.len() / dim, labels.len());
            return Err(PyValueError::new_err(format!(
                "{rows} embeddings have {labels} labels; give one each"
            )));
        }
        unlocked(py, || {
            let labels = labels.iter().map(|label| library::checked_label(label));
            let labels = labels.collect::<anyhow::Result<Vec<_>>>()?;
            for row in rows.chunks_exact(dim) {
                models::gallery::check_embedding(row)?;
            }
            let mut gallery = self.write();
            let mut classes: Labels =
                gallery.classes().iter().map(|class| class.label.as_str()).collect();
            for (place, (label, row)) in labels.iter().zip(rows.chunks_exact(dim)).enumerate() {
                let class = classes.find(label).unwrap_or_else(|| {
                    let class = Class { label: label.clone(), ..Class::default() };
                    let class = gallery.add_class(class, Vec::new());
                    classes.insert(label, class);
                    class
                });
                gallery.add_image(class, row, contents.get(place).copied().unwrap_or_default())?;
            }
            Ok(())
        })
    }

    /// Links new entries into the index; with a kind, builds one.
    fn index(&self, py: Python<'_>, kind: Option<&str>) -> PyResult<()> {
        let config = match kind {
            None => None,
            Some("auto") => Some(None),
            Some("flat") => Some(Some(IndexConfig::Flat)),
            Some("hnsw") => Some(Some(IndexConfig::hnsw())),
            Some("ivf") => Some(Some(IndexConfig::Ivf { lists: 0 })),
            Some("binary") => Some(Some(IndexConfig::Binary)),
            Some(other) => {
                return Err(PyValueError::new_err(format!(
                    "index {other:?}: choose auto, flat, hnsw, ivf or binary"
                )));
            }
        };
        unlocked(py, || {
            let mut gallery = self.write();
            let Some(config) = config else {
                gallery.connect();
                return Ok(());
            };
            let config = config.unwrap_or_else(|| IndexConfig::recommended(gallery.len()).0);
            Ok(gallery.set_index(config)?)
        })
    }

    /// Adds pictures of labels: how many became entries, how many there were, and why others were left out.
    fn add_pictures(
        &self,
        py: Python<'_>,
        labels: Vec<String>,
        pictures: Vec<Bound<'_, PyAny>>,
        extractor: &Extractor,
        detector: Option<&Detector>,
        learns: bool,
    ) -> PyResult<(usize, usize, Vec<String>)> {
        let pictures = Picture::all(&pictures)?;
        unlocked(py, || {
            let photo = |(label, picture): (&String, Picture)| {
                let label = library::checked_label(label)?;
                let (name, bytes) = picture.into_file()?;
                Ok(Photo { label, name, bytes })
            };
            let photos = labels.iter().zip(pictures).map(photo);
            let photos = photos.collect::<anyhow::Result<Vec<_>>>()?;
            let mut left_out = Vec::new();
            let mut tell = |event: Event<'_>| {
                match event {
                    Event::LeftOut { error } => left_out.push(error.to_string()),
                    Event::Shared { .. } => (),
                    Event::Done { .. } => check_signals()?,
                }
                Ok(())
            };
            let networks = (&extractor.0, detector.map(|detector| &detector.0));
            // A copy: an error leaves the gallery as it was, and handlers of signals may look at it meanwhile. The
            // package lets changes come one after another.
            let mut next = self.read().clone();
            let added = library::add(&mut next, networks, &photos, learns, &mut tell)?;
            *self.write() = next;
            Ok((added.added, added.known, left_out))
        })
    }

    /// Takes a class out; the number of its entries.
    fn remove_class(&self, py: Python<'_>, label: &str) -> PyResult<usize> {
        unlocked(py, || {
            let mut gallery = self.write();
            let class = library::class_of(&gallery, label)?;
            let entries = gallery.counts()[class];
            gallery.remove_class(class)?;
            Ok(entries)
        })
    }

    /// Takes entries out by their places among all.
    fn remove_entries(&self, py: Python<'_>, places: Vec<usize>) -> PyResult<()> {
        unlocked(py, || {
            let mut gallery = self.write();
            let there: Vec<usize> = gallery.entries().collect();
            let entry = |place: &usize| {
                there.get(*place).copied().ok_or_else(|| {
                    anyhow::anyhow!(
                        "there is no entry {place}: there are {}; places change with every removal",
                        there.len()
                    )
                })
            };
            let entries = places.iter().map(entry).collect::<anyhow::Result<Vec<_>>>()?;
            Ok(gallery.remove_entries(&entries)?)
        })
    }

    /// Takes the entries of pictures out; their number.
    fn remove_pictures(&self, py: Python<'_>, pictures: Vec<Bound<'_, PyAny>>) -> PyResult<usize> {
        let pictures = Picture::all(&pictures)?;
        unlocked(py, || {
            let mut gallery = self.write();
            let there: HashSet<ContentId> =
                gallery.entries().map(|entry| gallery.content_id(entry)).collect();
            let mut contents = Vec::new();
            for picture in pictures {
                let (name, bytes) = picture.into_file()?;
                let content = ContentId::of(&bytes);
                anyhow::ensure!(
                    there.contains(&content),
                    "{}: no entry was made from this picture",
                    name.display()
                );
                contents.push(content);
            }
            let before = gallery.len();
            gallery.remove_images(&contents)?;
            Ok(before - gallery.len())
        })
    }

    /// Gives a class another label; one that another class has joins them.
    fn rename(&self, py: Python<'_>, label: &str, to: &str) -> PyResult<()> {
        unlocked(py, || {
            let mut gallery = self.write();
            let class = library::class_of(&gallery, label)?;
            // The other class may spell it otherwise.
            let to = match library::class_of(&gallery, to) {
                Ok(other) if other != class => gallery.classes()[other].label.clone(),
                _ => library::checked_label(to)?,
            };
            gallery.rename_class(class, &to)?;
            Ok(())
        })
    }

    /// Gives a class metadata and a threshold of its own.
    fn describe(
        &self,
        py: Python<'_>,
        label: &str,
        metadata: Vec<(String, String)>,
        min_similarity: Option<f32>,
    ) -> PyResult<()> {
        unlocked(py, || {
            let mut gallery = self.write();
            let class = library::class_of(&gallery, label)?;
            let metadata: Metadata = metadata.into_iter().collect();
            Ok(gallery.describe_class(class, metadata, min_similarity)?)
        })
    }

    /// Takes in the classes and entries of another gallery; how many entries came.
    fn merge(&self, py: Python<'_>, other: &Self) -> PyResult<usize> {
        unlocked(py, || {
            let other = other.read().clone();
            let mut gallery = self.write();
            let before = gallery.len();
            gallery.merge(&other)?;
            Ok(gallery.len() - before)
        })
    }

    /// The best classes of each embedding.
    fn search(
        &self,
        py: Python<'_>,
        rows: &[u8],
        most: usize,
        ef_search: Option<usize>,
    ) -> PyResult<Vec<Answer>> {
        let dim = py.detach(|| self.read().dim());
        let rows = floats(rows, dim)?;
        unlocked(py, || {
            let mut answers = Vec::with_capacity(rows.len() / dim);
            for chunk in rows.chunks(dim * CHUNK) {
                // Before the gallery is held: a handler may change it.
                check_signals()?;
                let gallery = self.read();
                let rule = gallery.measured_rule().unwrap_or_default();
                let question = Question { rule, ef_search, ..Question::best(most) };
                let everyones = gallery.min_similarity().unwrap_or(f32::NEG_INFINITY);
                let answer = |row: &[f32]| -> anyhow::Result<Answer> {
                    let answer = gallery.answer(row, &question)?;
                    let known = gallery.is_known(&answer, everyones);
                    let label = |class: usize| gallery.classes()[class].label.clone();
                    let matches = answer.matches.iter().map(|m| (label(m.class), m.similarity));
                    let probability = answer.probability.filter(|_| known);
                    Ok((matches.collect(), answer.lead, probability, known))
                };
                let found: anyhow::Result<Vec<Answer>> =
                    chunk.par_chunks_exact(dim).map(answer).collect();
                answers.extend(found?);
            }
            Ok(answers)
        })
    }

    /// The embeddings of all entries, as the extractor gave them, a row each, and their labels.
    fn entries(&self, py: Python<'_>) -> (Values, Vec<String>) {
        py.detach(|| {
            let gallery = self.read();
            let mut values = Vec::with_capacity(gallery.len() * gallery.dim());
            for entry in gallery.entries() {
                values.extend_from_slice(&gallery.embedding(entry));
            }
            let label = |entry| gallery.classes()[gallery.entry_class(entry)].label.clone();
            (Values::rows(values, gallery.dim()), gallery.entries().map(label).collect())
        })
    }

    /// The content of the picture that each entry is of: 16 bytes, zeros where it is not known.
    fn contents(&self, py: Python<'_>) -> Vec<Py<PyBytes>> {
        let contents: Vec<[u8; 16]> = py.detach(|| {
            let gallery = self.read();
            gallery.entries().map(|entry| gallery.content_id(entry).0).collect()
        });
        contents.iter().map(|content| PyBytes::new(py, content).unbind()).collect()
    }

    /// Every class.
    fn classes(&self, py: Python<'_>) -> Vec<Described> {
        py.detach(|| {
            let gallery = self.read();
            let described = |(class, entries): (&Class, usize)| {
                let metadata = class.metadata.iter().cloned().collect();
                (class.label.clone(), metadata, class.min_similarity, entries)
            };
            gallery.classes().iter().zip(gallery.counts()).map(described).collect()
        })
    }

    /// Sets the threshold of all classes that have none of their own; `None` takes it away.
    fn set_min_similarity(&self, py: Python<'_>, least: Option<f32>) -> PyResult<()> {
        unlocked(py, || Ok(self.write().set_min_similarity(least)?))
    }

    /// Values of an embedding, short name of the extractor, number of entries, crop, threshold, kind of the map.
    fn about(
        &self,
        py: Python<'_>,
    ) -> (usize, String, usize, &'static str, Option<f32>, Option<&'static str>) {
        py.detach(|| {
            let gallery = self.read();
            let map = gallery.map().map(|map| map.about().kind.name());
            let (model, crop) = (gallery.model().to_owned(), gallery.crop().name());
            (gallery.dim(), model, gallery.len(), crop, gallery.min_similarity(), map)
        })
    }
}

/// The content of a picture of its bytes.
fn content(bytes: &[u8]) -> PyResult<ContentId> {
    let content = bytes.try_into().map(ContentId);
    content.map_err(|_length| {
        PyValueError::new_err(format!(
            "contents of {} bytes; give 16 each: the first ones of the SHA-256 of the picture's file, or zeros",
            bytes.len()
        ))
    })
}

/// A choice by its name.
fn one_of<T: Copy>(
    text: &str,
    all: &[T],
    name: impl Fn(T) -> &'static str,
    what: &str,
) -> PyResult<T> {
    let found = all.iter().copied().find(|choice| name(*choice) == text);
    found.ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|choice| name(*choice)).collect();
        PyValueError::new_err(format!("{what} {text:?}: choose one of {}", names.join(", ")))
    })
}
