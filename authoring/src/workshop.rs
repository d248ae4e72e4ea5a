//! All of it behind one door, for a page and for Node: photographs are looked at one by one, and what is kept of them
//! becomes a gallery, figures and a site.

mod asked;
mod opened;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use models::detector::Detector;
use models::extractor::Extractor;
use models::gallery::{ContentId, Crop, Gallery, Metadata, ShardOptions};
use models::image::RgbImage;
use models::inference::{Prepared, Target};
use models::model_file::{Architecture, ModelFile, ModelFileError, model_id};

use crate::adaptation::{Options, Outcome};
use crate::bundled::{CUT_FROM, Models, bundle, cut, notes, settings};
use crate::crops::Cropper;
use crate::figures::Figures;
use crate::label::checked;
use crate::make::{Gathered, gather, learn};
use crate::memory::{Memory, MemoryError};
use crate::names::PEERS_FRAME;
use crate::photos::{Event, Networks, Photos};
use crate::picture::{PictureError, PictureProblem};
use crate::quality::Quality;
use crate::record::{Part, Record, shown};
use crate::report;
use crate::site::{Sample, Site};

pub use asked::{Asked, Similar};
pub use opened::{Opened, OpenedClass, OpenedPhoto};

/// What made embeddings, as a line: this version and the networks' short names.
pub fn key(extractor: &str, detector: Option<&str>) -> String {
    format!("{} {extractor} {}", env!("CARGO_PKG_VERSION"), detector.unwrap_or_default())
}

/// A photograph of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Photo {
    /// Of a record that is known.
    pub id: ContentId,
    /// What it is called.
    pub name: PathBuf,
    /// Its class.
    pub label: String,
}

/// What is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    /// Of the page.
    pub title: String,
    /// In an order that decides the order of classes and entries.
    pub photos: Vec<Photo>,
    /// Which part of a photograph becomes an entry; `None`: what is measured better.
    pub crop: Option<Crop>,
    /// What the gallery learns.
    pub learn: Options,
    /// Classes with metadata.
    pub metadata: Vec<(String, Metadata)>,
    /// Pictures that the page offers.
    pub samples: Vec<Sample>,
}

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Photographs become entries.
    Photos,
    /// The gallery learns and is asked about its own entries.
    Learning,
    /// Files are packed for hosts.
    Packing,
}

/// Hears how far a stage has come: what is done, and all; its error stops the work.
pub type Tell<'a> = dyn FnMut(Stage, usize, usize) -> anyhow::Result<()> + 'a;

/// A gallery and how good it is.
#[derive(Debug)]
pub struct Measured {
    /// The gallery, which has learned.
    pub gallery: Gallery,
    /// How good it is.
    pub quality: Quality,
    /// That as data.
    pub figures: Figures,
}

/// All that is made.
#[derive(Debug)]
pub struct Made {
    /// The gallery's file.
    pub gallery: Vec<u8>,
    /// The page for the owner.
    pub report: String,
    /// How good the gallery is.
    pub figures: Figures,
    /// The site.
    pub site: Site,
}

/// Networks, and what is kept of photographs.
pub struct Workshop {
    extractor: Prepared<Extractor>,
    detector: Option<Prepared<Detector>>,
    extractor_file: Vec<u8>,
    detector_file: Option<Vec<u8>>,
    /// Short name of the extractor.
    model: String,
    dim: usize,
    key: String,
    notes: Vec<String>,
    records: BTreeMap<ContentId, Record>,
}

/// The photographs of a project, of which only records are there.
struct Shelf<'a> {
    photos: &'a [Photo],
    records: &'a BTreeMap<ContentId, Record>,
}

impl Shelf<'_> {
    fn record(&self, place: usize) -> Option<&Record> {
        self.records.get(&self.photos.get(place)?.id)
    }
}

impl Photos for Shelf<'_> {
    fn count(&self) -> usize {
        self.photos.len()
    }

    fn label(&self, place: usize) -> &str {
        &self.photos[place].label
    }

    fn path(&self, place: usize) -> &Path {
        &self.photos[place].name
    }

    fn bytes(&self, place: usize) -> Result<Vec<u8>, PictureError> {
        Err(PictureError::new(self.path(place), PictureProblem::NotLookedAt))
    }

    fn read(&self, place: usize) -> Result<(ContentId, Option<Vec<u8>>), PictureError> {
        match self.record(place) {
            Some(record) => Ok((record.id, None)),
            None => self.bytes(place).map(|bytes| (ContentId::of(&bytes), None)),
        }
    }

    fn class_thumbnail(&self, place: usize) -> Option<Vec<u8>> {
        let thumbnail = &self.record(place)?.thumbnail;
        // A gallery may have none of its classes.
        (!thumbnail.is_empty()).then(|| thumbnail.clone())
    }

    fn figure(&self, place: usize, _: u32, _: u8) -> Option<Vec<u8>> {
        let figure = &self.record(place)?.figure;
        (!figure.is_empty()).then(|| figure.clone())
    }
}

impl Workshop {
    /// Opens an extractor and, if there is one, a detector, for the processor.
    ///
    /// # Errors
    ///
    /// [`ModelFileError`] of a file that is no such network.
    pub fn open(extractor: Vec<u8>, detector: Option<Vec<u8>>) -> Result<Self, ModelFileError> {
        let file = ModelFile::from_bytes(&extractor)?;
        let dim = match &file.description.architecture {
            Architecture::Extractor(config) => config.embedding_dim(),
            Architecture::Detector(_) | Architecture::GraphDetector(_) => 0,
        };
        let model = model_id(&extractor);
        let mut of_models = vec![file.description.notes.clone()];
        let prepared = file.prepare_extractor(Target::cpu())?;
        let mut found = None;
        if let Some(bytes) = &detector {
            let file = ModelFile::from_bytes(bytes)?;
            of_models.push(file.description.notes.clone());
            found = Some(file.prepare_detector(Target::cpu())?);
        }
        let detector_id = detector.as_deref().map(model_id);
        Ok(Self {
            extractor: prepared,
            detector: found,
            key: key(&model, detector_id.as_deref()),
            extractor_file: extractor,
            detector_file: detector,
            model,
            dim,
            notes: notes(Vec::new(), of_models.iter().map(String::as_str)),
            records: BTreeMap::new(),
        })
    }

    /// What made the embeddings of its records.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Values of an embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Whether it finds main bodies.
    pub fn detects(&self) -> bool {
        self.detector.is_some()
    }

    fn networks(&self) -> Networks<'_> {
        Networks { extractor: &self.extractor, detector: self.detector.as_ref() }
    }

    /// Looks at a photograph, which it forgets: what is kept of it goes in by [`Self::know`].
    ///
    /// # Errors
    ///
    /// As [`Record::look`].
    pub fn look(
        &self,
        name: &Path,
        file: &[u8],
        pixels: Option<RgbImage>,
    ) -> anyhow::Result<Record> {
        Record::look(self.networks(), name, file, pixels)
    }

    /// The same of a part of the photograph that its owner has chosen.
    ///
    /// # Errors
    ///
    /// As [`Record::look`].
    pub fn look_at_part(
        &self,
        name: &Path,
        file: &[u8],
        pixels: Option<RgbImage>,
        part: Part,
    ) -> anyhow::Result<Record> {
        Record::look_at_part(self.networks(), name, file, pixels, part)
    }

    /// The part of a photograph that is its main body; `None` without one, and without a detector.
    ///
    /// # Errors
    ///
    /// [`PictureError`] of one that cannot be used; a network that failed.
    pub fn body(
        &self,
        name: &Path,
        file: &[u8],
        pixels: Option<RgbImage>,
    ) -> anyhow::Result<Option<Part>> {
        let picture = shown(name, file, pixels)?;
        let body = Cropper::body(self.networks(), &picture)?;
        Ok(body.map(|bbox| Part::from_box(&bbox, &picture)))
    }

    /// Takes in what is kept of a photograph, as [`Record::to_bytes`] wrote it with [`Self::key`].
    ///
    /// # Errors
    ///
    /// [`MemoryError`]
    pub fn know(&mut self, record: &[u8]) -> Result<ContentId, MemoryError> {
        let record = Record::from_bytes(record, &self.key, self.dim)?;
        let id = record.id;
        self.records.insert(id, record);
        Ok(id)
    }

    /// Forgets a photograph.
    pub fn forget(&mut self, id: ContentId) {
        self.records.remove(&id);
    }

    /// Photographs that it knows.
    pub fn known(&self) -> usize {
        self.records.len()
    }

    /// A gallery of a project's photographs that has learned, with its figures.
    ///
    /// # Errors
    ///
    /// No photograph that can be used, the name of a class that is blank, what `tell` says.
    pub fn measure(&self, project: &Project, tell: &mut Tell<'_>) -> anyhow::Result<Measured> {
        let photos = named(&project.photos)?;
        self.measure_on(&Shelf { photos: &photos, records: &self.records }, project, tell)
    }

    /// [`Self::measure`] with the project's photographs on a shelf.
    fn measure_on(
        &self,
        shelf: &Shelf<'_>,
        project: &Project,
        tell: &mut Tell<'_>,
    ) -> anyhow::Result<Measured> {
        let (gathered, crop_text) = self.gather(project, shelf, tell)?;
        let Gathered { mut gallery, classes, added, memory, .. } = gathered;
        if gallery.is_empty() {
            bail!("none of the pictures can be used: add some that the engine has looked at");
        }
        for (text, metadata) in &project.metadata {
            if let Some(class) = classes.find(text) {
                gallery.describe_class(class, metadata.clone(), None)?;
            }
        }
        tell(Stage::Learning, 0, 1)?;
        let learned: Outcome = learn(&mut gallery, &project.learn)?;
        let quality = Quality::of(&gallery, &learned, shelf, &added.contents, &memory)?;
        let figures = Figures::of(&gallery, &learned, &quality, &added.contents, &crop_text);
        tell(Stage::Learning, 1, 1)?;
        Ok(Measured { gallery, quality, figures })
    }

    /// The gallery before it has learned, and how the crop was chosen.
    fn gather(
        &self,
        project: &Project,
        shelf: &Shelf<'_>,
        tell: &mut Tell<'_>,
    ) -> anyhow::Result<(Gathered, String)> {
        let mut memory = Memory::default();
        for record in shelf.photos.iter().filter_map(|photo| self.records.get(&photo.id)) {
            memory.learn(&record.memory);
        }
        let mut cropper = Cropper::new(self.networks(), project.crop.unwrap_or_default());
        cropper = cropper.remembering(memory);
        let mut crop_text = String::new();
        if project.crop.is_none() {
            crop_text = cropper.measure(shelf, &mut |_, _, _| Ok(()))?;
        }
        let mut told = |event: Event<'_>| match event {
            Event::Done { photos, of, .. } => tell(Stage::Photos, photos, of),
            Event::LeftOut { .. } | Event::Shared { .. } => Ok(()),
        };
        Ok((gather(cropper, (&self.model, self.dim), shelf, &mut told)?, crop_text))
    }

    /// Gallery, report and site of a project, on the files of the built page. Files are packed for hosts as well if
    /// `is_packed`.
    ///
    /// # Errors
    ///
    /// As [`Self::measure`] and [`Site::new`].
    pub fn make(
        &self,
        project: &Project,
        page: BTreeMap<String, Vec<u8>>,
        is_packed: bool,
        tell: &mut Tell<'_>,
    ) -> anyhow::Result<Made> {
        let photos = named(&project.photos)?;
        let shelf = Shelf { photos: &photos, records: &self.records };
        let Measured { gallery, quality, figures } = self.measure_on(&shelf, project, tell)?;
        let bytes = gallery.to_bytes();
        let published = Gallery::from_bytes(&bytes)?;
        let settings = settings(&published);
        let sharded = (bytes.len() > CUT_FROM)
            .then(|| cut(&published, settings.answer, &ShardOptions::default()))
            .transpose()?;
        let models =
            Models { extractor: &self.extractor_file, detector: self.detector_file.as_deref() };
        let notes = self.notes.clone();
        let parts = (&published, sharded.as_ref());
        let bundle = bundle(&project.title, models, parts, settings, notes)?;
        let is_of_site = |name: &String| {
            name != PEERS_FRAME && !name.split('/').any(|part| part.starts_with('.'))
        };
        let page = page.into_iter().filter(|(name, _)| is_of_site(name)).collect();
        let mut site = Site::new(page, &project.title, bundle, project.samples.clone())?;
        site.keep_offline(&project.title)?;
        site.prepare_for_hosts(is_packed, &mut |done, of| tell(Stage::Packing, done, of))?;
        site.list_own()?;
        let report = report::page(&project.title, &quality, &shelf);
        Ok(Made { gallery: bytes, report, figures, site })
    }
}

/// Photographs whose classes have the one spelling of their names.
fn named(photos: &[Photo]) -> anyhow::Result<Vec<Photo>> {
    let named = |photo: &Photo| {
        let label =
            checked(&photo.label).map_err(|error| anyhow!("{}: {error}", photo.name.display()))?;
        Ok(Photo { label, ..photo.clone() })
    };
    photos.iter().map(named).collect()
}
