//! The bundle: what a static host serves, listed in one manifest.
//!
//! Every file but `manifest.json` is named after its SHA-256, so hosts and browsers may keep it for
//! ever. The manifest is read first; each file's length and hash are checked before it is used.
//!
//! The gallery comes in two files: what answers need, and the classes' thumbnails, which may
//! come later. One that is too large for that comes in [shards](gallery::Shards): a
//! directory, and files of which queries fetch parts.

mod error;

use serde::{Deserialize, Serialize};

use crate::detector::Detector;
use crate::extractor::Extractor;
use crate::inference::Arithmetic;
use crate::inference::{Prepared, Target};
use crate::model_file::{ModelDescription, ModelFile, ModelFileError, model_id, sha256_hex};
use crate::recognizer::{Recognizer, RecognizerSettings};
use crate::weights::Precision;
use gallery::{Gallery, GalleryError, Sharded, Shards};

pub use error::BundleError;

/// Name of the manifest inside a bundle.
pub const MANIFEST_NAME: &str = "manifest.json";

/// Format that this program writes, and the newest it reads.
pub const FORMAT: u32 = 3;

/// Ending of a shard's name.
pub const SHARD_ENDING: &str = "shard";

/// Longest manifest that is read, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 1 << 20;

/// Longest single file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// A file of the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Name inside the bundle's folder.
    pub name: String,
    /// Length.
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

/// A network of the bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// Name of its file.
    pub file: String,
    /// What the file holds.
    pub description: ModelDescription,
}

/// Contents of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`]
    pub format: u32,
    /// Title of the page.
    pub title: String,
    /// Makes embeddings.
    pub extractor: ModelEntry,
    /// Finds objects; without one every picture is one object.
    pub detector: Option<ModelEntry>,
    /// Name of the gallery's file, or of its directory if it is in shards.
    pub gallery: String,
    /// Names of the gallery's shards, in the directory's order; since format 3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<String>,
    /// Name of the file with its classes' thumbnails if they are not in the gallery itself; since format 2.
    /// `pictures` in files.
    #[serde(default, rename = "pictures", skip_serializing_if = "Option::is_none")]
    pub thumbnails: Option<String>,
    /// Thresholds and counts.
    pub settings: RecognizerSettings,
    /// Every file but the manifest.
    pub files: Vec<FileEntry>,
    /// License and source of pictures and weights, a sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    ///
    /// [`BundleError::Manifest`], [`BundleError::Format`] or [`BundleError::Unlisted`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BundleError> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let unreadable = |reason: String| BundleError::Manifest { reason };
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(unreadable(format!("longer than {MAX_MANIFEST_BYTES} bytes")));
        }
        let version: Version =
            serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
        if version.format > FORMAT {
            return Err(BundleError::Format { got: version.format, supported: FORMAT });
        }
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
        for file in &manifest.files {
            let plain = !file.name.is_empty()
                && file.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                && !file.name.starts_with('.');
            if !plain || file.bytes > MAX_FILE_BYTES {
                return Err(unreadable(format!("file {:?} of {} bytes", file.name, file.bytes)));
            }
        }
        let shards = manifest.shards.iter().map(String::as_str);
        for name in manifest.used_files().chain(manifest.thumbnails.as_deref()).chain(shards) {
            manifest.file(name)?;
        }
        Ok(manifest)
    }

    /// Names of the files that a recognizer needs to answer. The extractor, mostly the largest, comes
    /// last: while it comes in, the others are made ready.
    pub fn used_files(&self) -> impl Iterator<Item = &str> {
        self.detector
            .iter()
            .map(|d| d.file.as_str())
            .chain([self.gallery.as_str(), self.extractor.file.as_str()])
    }

    /// The entry of a file.
    ///
    /// # Errors
    ///
    /// [`BundleError::Unlisted`]
    pub fn file(&self, name: &str) -> Result<&FileEntry, BundleError> {
        self.files
            .iter()
            .find(|file| file.name == name)
            .ok_or_else(|| BundleError::Unlisted { name: name.to_owned() })
    }

    /// Reads the head of a gallery in shards.
    ///
    /// # Errors
    ///
    /// [`GalleryError`], also where the shards are not those of the manifest.
    pub fn read_directory(&self, bytes: &[u8]) -> Result<Shards, GalleryError> {
        let shards = Shards::from_bytes(bytes)?;
        let length = |name: &String| self.file(name).map_or(0, |file| file.bytes);
        if !self.shards.iter().map(length).eq(shards.shards().iter().copied()) {
            let what = "its shards are not those of the manifest".to_owned();
            return Err(GalleryError::Inconsistent { what });
        }
        Ok(shards)
    }

    /// Checks the bytes of a file against its entry.
    ///
    /// # Errors
    ///
    /// [`BundleError::Truncated`] for a wrong length, [`BundleError::Corrupted`] for a wrong hash.
    pub fn check(&self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        let file = self.file(name)?;
        if bytes.len() as u64 != file.bytes {
            return Err(BundleError::Truncated {
                name: name.to_owned(),
                expected: file.bytes,
                got: bytes.len() as u64,
            });
        }
        if sha256_hex(bytes) != file.sha256 {
            return Err(BundleError::Corrupted { name: name.to_owned() });
        }
        Ok(())
    }
}

/// How a gallery is published.
#[derive(Debug, Clone, Copy)]
pub enum Published<'a> {
    /// A page downloads all of it.
    Whole(&'a Gallery),
    /// A page fetches what a query needs.
    Sharded(&'a Sharded),
}

/// A bundle in memory.
///
#[cfg_attr(feature = "flex", doc = "```")]
#[cfg_attr(not(feature = "flex"), doc = "```ignore")]
/// use models::bundle::{MANIFEST_NAME, Published};
/// use models::model_file::model_id;
/// use models::{Bundle, Device, Gallery, Manifest, RecognizerSettings};
/// # use models::backbone::{BackboneConfig, MobileNetV1Config};
/// # use models::extractor::ExtractorConfig;
/// # use models::model_file::Trained;
/// # use models::Preprocess;
/// # let device = Device::flex();
/// # let backbone = BackboneConfig::MobileNetV1(MobileNetV1Config { scale: 0.25, fused: false });
/// # let config = ExtractorConfig { backbone, neck: None };
/// # let dim = config.embedding_dim();
/// # let network = Trained::Extractor(config.clone(), config.init(&device));
/// # let model = network.deploy(Preprocess::square(32), String::new());
///
/// let extractor = Bundle::model_bytes(&model)?;
/// let gallery = Gallery::new(dim, model_id(&extractor));
/// let (title, settings) = ("My shelf".to_owned(), RecognizerSettings::default());
/// let published = Published::Whole(&gallery);
/// let bundle = Bundle::assemble(title, extractor, None, published, settings, Vec::new())?;
///
/// // What a host serves: the files, and the list of them under MANIFEST_NAME.
/// let listed = serde_json::to_vec(&bundle.manifest)?;
/// assert_eq!(MANIFEST_NAME, "manifest.json");
///
/// let manifest = Manifest::from_bytes(&listed)?;
/// let files = bundle.files;
/// let read = |name: &str| files.iter().find(|(file, _)| file == name).map(|(_, bytes)| bytes.clone());
/// let recognizer = Bundle::open(&manifest, read, &device)?;
/// assert!(recognizer.gallery().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The list of contents.
    pub manifest: Manifest,
    /// `(name, bytes)` of every file but the manifest.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Bundle {
    /// Puts networks and gallery together.
    ///
    /// # Errors
    ///
    /// [`BundleError::Gallery`] when the gallery was made by another extractor,
    /// [`BundleError::Model`] when the description of a model cannot be read. Its tensors are looked at where the
    /// bundle is opened.
    pub fn assemble(
        title: String,
        extractor: Vec<u8>,
        detector: Option<Vec<u8>>,
        gallery: Published<'_>,
        settings: RecognizerSettings,
        notes: Vec<String>,
    ) -> Result<Self, BundleError> {
        let mut files = Vec::new();
        let mut add = |stem: &str, extension: &str, bytes: Vec<u8>| {
            let sha256 = sha256_hex(&bytes);
            let name = format!("{stem}-{}.{extension}", &sha256[..16]);
            let entry = FileEntry { name: name.clone(), bytes: bytes.len() as u64, sha256 };
            files.push((entry, bytes));
            name
        };
        let describe = |name: &str, bytes: &[u8]| {
            ModelDescription::of_file(bytes)
                .map_err(|source| BundleError::Model { name: name.to_owned(), source })
        };
        let foreign = |source| BundleError::Gallery { name: "gallery".to_owned(), source };
        let model = model_id(&extractor);
        match gallery {
            Published::Whole(gallery) => gallery.check_model(&model).map_err(foreign)?,
            Published::Sharded(Sharded { directory, .. }) => {
                let empty = Shards::from_bytes(directory).map_err(foreign)?.empty_gallery();
                empty.check_model(&model).map_err(foreign)?;
            }
        }
        let description = describe("extractor", &extractor)?;
        let extractor =
            ModelEntry { file: add("extractor", "safetensors", extractor), description };
        let detector = match detector {
            Some(bytes) => {
                let description = describe("detector", &bytes)?;
                Some(ModelEntry { file: add("detector", "safetensors", bytes), description })
            }
            None => None,
        };
        let (mut shards, mut thumbnails) = (Vec::new(), None);
        let gallery = match gallery {
            Published::Whole(gallery) => {
                let (without, alone) = gallery.split_thumbnails();
                thumbnails = Some(add("thumbnails", "bin", alone.to_bytes()));
                add("gallery", "bin", without.to_bytes())
            }
            Published::Sharded(sharded) => {
                // Their own kind of file: a host must not pack what is fetched in parts.
                shards.extend(sharded.shards.iter().map(|b| add("shard", SHARD_ENDING, b.clone())));
                add("shards", "bin", sharded.directory.clone())
            }
        };
        let (entries, bytes): (Vec<FileEntry>, Vec<Vec<u8>>) = files.into_iter().unzip();
        let names = entries.iter().map(|entry| entry.name.clone());
        Ok(Self {
            files: names.zip(bytes).collect(),
            manifest: Manifest {
                format: FORMAT,
                title,
                extractor,
                detector,
                gallery,
                shards,
                thumbnails,
                settings,
                files: entries,
                notes,
            },
        })
    }

    /// Builds the recognizer on a device, after checking every file. If `file` has no thumbnails,
    /// they can be given to the recognizer later.
    ///
    /// # Errors
    ///
    /// [`BundleError`], naming the file.
    pub fn open(
        manifest: &Manifest,
        mut file: impl FnMut(&str) -> Option<Vec<u8>>,
        target: impl Into<Target>,
    ) -> Result<Recognizer, BundleError> {
        let mut opening = Opening::new(manifest, target);
        for name in manifest.used_files() {
            opening.take(name, file(name).unwrap_or_default())?;
        }
        if let Some(name) = &manifest.thumbnails
            && let Some(bytes) = file(name)
        {
            opening.take(name, bytes)?;
        }
        opening.finish()
    }

    /// Writes the deployed weights of a network as the bundle stores them.
    ///
    /// # Errors
    ///
    /// [`ModelFileError`]
    pub fn model_bytes(model: &ModelFile) -> Result<Vec<u8>, ModelFileError> {
        model.to_bytes(Precision::F16)
    }
}

/// A recognizer whose files come one after the other.
#[derive(Debug)]
pub struct Opening<'a> {
    manifest: &'a Manifest,
    target: Target,
    arithmetic: Option<Arithmetic>,
    detector: Option<Prepared<Detector>>,
    gallery: Option<Gallery>,
    shards: Option<Shards>,
    /// With the short name that its gallery carries.
    extractor: Option<(Prepared<Extractor>, String)>,
    thumbnails: Option<Gallery>,
}

impl<'a> Opening<'a> {
    /// Nothing of a bundle yet.
    pub fn new(manifest: &'a Manifest, target: impl Into<Target>) -> Self {
        Self {
            manifest,
            target: target.into(),
            arithmetic: None,
            detector: None,
            gallery: None,
            shards: None,
            extractor: None,
            thumbnails: None,
        }
    }

    /// Computes in this arithmetic, whatever the networks' files say.
    #[must_use]
    pub fn with_arithmetic(self, arithmetic: Arithmetic) -> Self {
        Self { arithmetic: Some(arithmetic), ..self }
    }

    /// Takes a file in, after checking it; one that the manifest does not use is left out. The bytes
    /// of a network go while its weights are read.
    ///
    /// # Errors
    ///
    /// [`BundleError`], naming the file.
    pub fn take(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), BundleError> {
        let manifest = self.manifest;
        manifest.check(name, &bytes)?;
        let in_model = |source| BundleError::Model { name: name.to_owned(), source };
        let in_gallery = |source| BundleError::Gallery { name: name.to_owned(), source };
        if manifest.detector.as_ref().is_some_and(|entry| entry.file == name) {
            let model = self.model(bytes).map_err(in_model)?;
            self.detector = Some(model.prepare_detector(self.target.clone()).map_err(in_model)?);
        } else if manifest.extractor.file == name {
            let id = model_id(&bytes);
            let model = self.model(bytes).map_err(in_model)?;
            let prepared = model.prepare_extractor(self.target.clone()).map_err(in_model)?;
            self.extractor = Some((prepared, id));
        } else if manifest.gallery == name && !manifest.shards.is_empty() {
            let shards = manifest.read_directory(&bytes).map_err(in_gallery)?;
            self.gallery = Some(shards.empty_gallery());
            self.shards = Some(shards);
        } else if manifest.gallery == name {
            self.gallery = Some(Gallery::from_bytes(&bytes).map_err(in_gallery)?);
        } else if manifest.thumbnails.as_deref() == Some(name) {
            self.thumbnails = Some(Gallery::from_bytes(&bytes).map_err(in_gallery)?);
        }
        Ok(())
    }

    fn model(&self, bytes: Vec<u8>) -> Result<ModelFile, ModelFileError> {
        let mut model = ModelFile::from_vec(bytes)?;
        model.description.arithmetic = self.arithmetic.unwrap_or(model.description.arithmetic);
        Ok(model)
    }

    /// The recognizer.
    ///
    /// # Errors
    ///
    /// [`BundleError::Truncated`] for a file that never came, [`BundleError::Gallery`] where the
    /// gallery was made by another extractor.
    pub fn finish(self) -> Result<Recognizer, BundleError> {
        let manifest = self.manifest;
        let missing = |name: &str| BundleError::Truncated {
            name: name.to_owned(),
            expected: manifest.file(name).map_or(0, |file| file.bytes),
            got: 0,
        };
        if let Some(entry) = &manifest.detector
            && self.detector.is_none()
        {
            return Err(missing(&entry.file));
        }
        let (extractor, id) = self.extractor.ok_or_else(|| missing(&manifest.extractor.file))?;
        let mut gallery = self.gallery.ok_or_else(|| missing(&manifest.gallery))?;
        let in_gallery = |source| BundleError::Gallery { name: manifest.gallery.clone(), source };
        gallery.check_model(&id).map_err(in_gallery)?;
        if let Some(thumbnails) = &self.thumbnails {
            gallery.take_thumbnails(thumbnails).map_err(in_gallery)?;
        }
        let settings = manifest.settings.clone();
        let mut recognizer = Recognizer::new(self.detector, extractor, gallery, settings);
        recognizer.set_shards(self.shards).map_err(in_gallery)?;
        Ok(recognizer)
    }
}
