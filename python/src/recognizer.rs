//! A recognizer, and its networks alone.

use std::path::PathBuf;

use authoring::embedding::embed_pictures;
use models::detector::{Detection, DetectionThresholds};
use models::inference::Prepared;
use models::recognizer::detect;
use native_trainer::library::{self, DeviceKind, Embedder, OpenBundle};
use pyo3::prelude::*;

use crate::errors::{check_signals, unlocked};
use crate::gallery::Gallery;
use crate::pictures::Picture;
use crate::values::Values;

/// Pictures that are decoded and embedded at once; between two such parts Ctrl-C is heard.
const CHUNK: usize = 32;

/// Left, upper, right and lower edge in pixels.
type Edges = (f32, f32, f32, f32);
/// Label and similarity.
type Match = (String, f32);
/// Edges, detection score, matches, whether known, probability, least similarity, embedding.
type Object = (Edges, f32, Vec<Match>, bool, Option<f32>, f32, Py<Values>);
/// Objects, milliseconds to detect, embed and search with the number of embedded objects, all as JSON.
type Recognized = (Vec<Object>, (f64, f64, f64, usize), String);

/// What is in pictures, by a published bundle or by networks and a gallery.
#[pyclass(frozen, module = "magpie_recognizer._native")]
pub(crate) struct Recognizer(OpenBundle);

#[pymethods]
impl Recognizer {
    /// Opens a site or a bundle.
    #[staticmethod]
    fn open(py: Python<'_>, site: PathBuf) -> PyResult<Self> {
        unlocked(py, || OpenBundle::open(&site, DeviceKind::Cpu)).map(Self)
    }

    /// Puts networks and a gallery together, of which it keeps a copy.
    #[staticmethod]
    fn of_parts(
        py: Python<'_>,
        extractor: PathBuf,
        detector: Option<PathBuf>,
        gallery: &Gallery,
    ) -> PyResult<Self> {
        let opened = unlocked(py, || {
            let gallery = gallery.read().clone();
            OpenBundle::of_parts(&extractor, detector.as_deref(), gallery, DeviceKind::Cpu)
        });
        opened.map(Self)
    }

    /// Says what is in pictures.
    fn recognize(
        &self,
        py: Python<'_>,
        pictures: Vec<Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Recognized>> {
        let pictures = Picture::all(&pictures)?;
        let recognized = unlocked(py, || {
            let one = |picture: &Picture| {
                check_signals()?;
                let found = self.0.recognize(&picture.decode()?)?;
                let json = found.to_json(&picture.name().display().to_string()).to_string();
                Ok((found, json))
            };
            pictures.iter().map(one).collect::<anyhow::Result<Vec<_>>>()
        })?;
        let told = |(found, json): (library::Recognized, String)| {
            let object = |library::Object { recognition: r, labels }: library::Object| {
                let edges = (r.bbox.x1, r.bbox.y1, r.bbox.x2, r.bbox.y2);
                let matches = labels.into_iter().zip(r.matches.iter().map(|m| m.similarity));
                Ok((
                    edges,
                    r.detection_score,
                    matches.collect(),
                    r.known,
                    r.probability,
                    r.least_similarity,
                    Py::new(py, Values::row(r.embedding))?,
                ))
            };
            let objects = found.objects.into_iter().map(object).collect::<PyResult<_>>()?;
            let t = found.timings;
            Ok((objects, (t.detect, t.embed, t.search, t.embedded), json))
        };
        recognized.into_iter().map(told).collect()
    }

    /// Where things are in pictures: edges and scores.
    fn detect(
        &self,
        py: Python<'_>,
        pictures: Vec<Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Vec<(Edges, f32)>>> {
        let pictures = Picture::all(&pictures)?;
        unlocked(py, || {
            let one = |picture: &Picture| {
                // Before the recognizer is held: a handler may give it another gallery.
                check_signals()?;
                let picture = picture.decode()?;
                let found = pollster::block_on(self.0.recognizer().detect(&picture))?;
                Ok(boxes(&found))
            };
            pictures.iter().map(one).collect()
        })
    }

    /// Embeddings of whole pictures, a row each.
    fn embed(&self, py: Python<'_>, pictures: Vec<Bound<'_, PyAny>>) -> PyResult<Values> {
        let pictures = Picture::all(&pictures)?;
        unlocked(py, || {
            let dim = self.0.recognizer().gallery().dim();
            embedded(&pictures, dim, |read| {
                Ok(embed_pictures(self.0.recognizer().extractor(), read)?)
            })
        })
    }

    /// A copy of the gallery.
    fn gallery(&self, py: Python<'_>) -> Gallery {
        Gallery::new_of(py.detach(|| self.0.recognizer().own_gallery().clone()))
    }

    /// Answers from a copy of another gallery from now on.
    fn use_gallery(&self, py: Python<'_>, gallery: &Gallery) -> PyResult<()> {
        unlocked(py, || {
            let gallery = gallery.read().clone();
            self.0.replace_gallery(gallery)
        })
    }

    /// Title of the site; empty of one that is not published.
    #[getter]
    fn title(&self) -> &str {
        self.0.title()
    }

    /// Whether it finds objects.
    #[getter]
    fn has_detector(&self, py: Python<'_>) -> bool {
        py.detach(|| self.0.recognizer().detector().is_some())
    }
}

/// A network that embeds pictures.
#[pyclass(frozen, module = "magpie_recognizer._native")]
pub(crate) struct Extractor(pub(crate) Embedder);

#[pymethods]
impl Extractor {
    /// Opens a model file, or `general`.
    #[staticmethod]
    fn open(py: Python<'_>, model: PathBuf) -> PyResult<Self> {
        unlocked(py, || Embedder::open(&model, DeviceKind::Cpu)).map(Self)
    }

    /// Embeddings of whole pictures, a row each.
    fn embed(&self, py: Python<'_>, pictures: Vec<Bound<'_, PyAny>>) -> PyResult<Values> {
        let pictures = Picture::all(&pictures)?;
        let dim = self.0.embedding_dim();
        unlocked(py, || embedded(&pictures, dim, |read| self.0.embed_pictures(read)))
    }

    /// Values of an embedding.
    #[getter]
    fn dim(&self) -> usize {
        self.0.embedding_dim()
    }

    /// Short name of its file, which galleries carry.
    #[getter]
    fn id(&self) -> &str {
        &self.0.id
    }
}

/// A network that finds objects.
#[pyclass(frozen, module = "magpie_recognizer._native")]
pub(crate) struct Detector(pub(crate) Prepared<models::Detector>);

#[pymethods]
impl Detector {
    /// Opens a model file.
    #[staticmethod]
    fn open(py: Python<'_>, model: PathBuf) -> PyResult<Self> {
        unlocked(py, || library::open_detector(Some(&model), DeviceKind::Cpu)).map(Self)
    }

    /// Where things are in pictures, best first: edges and scores.
    fn detect(
        &self,
        py: Python<'_>,
        pictures: Vec<Bound<'_, PyAny>>,
        score: f32,
        most: usize,
    ) -> PyResult<Vec<Vec<(Edges, f32)>>> {
        let pictures = Picture::all(&pictures)?;
        let thresholds =
            DetectionThresholds { score, max_detections: most, ..DetectionThresholds::default() };
        unlocked(py, || {
            let one = |picture: &Picture| {
                check_signals()?;
                let found = pollster::block_on(detect(&self.0, &picture.decode()?, &thresholds))?;
                Ok(boxes(&found))
            };
            pictures.iter().map(one).collect()
        })
    }
}

fn boxes(found: &[Detection]) -> Vec<(Edges, f32)> {
    found.iter().map(|d| ((d.bbox.x1, d.bbox.y1, d.bbox.x2, d.bbox.y2), d.score)).collect()
}

/// Embeds pictures part by part. Nothing is held between two parts, where handlers of signals run.
fn embedded(
    pictures: &[Picture],
    dim: usize,
    embed: impl Fn(&[models::RgbImage]) -> anyhow::Result<Vec<Vec<f32>>>,
) -> anyhow::Result<Values> {
    use rayon::prelude::*;
    let mut values = Vec::with_capacity(pictures.len() * dim);
    for chunk in pictures.chunks(CHUNK) {
        check_signals()?;
        let read = chunk.par_iter().map(Picture::decode).collect::<anyhow::Result<Vec<_>>>()?;
        values.extend(embed(&read)?.into_iter().flatten());
    }
    Ok(Values::rows(values, dim))
}
