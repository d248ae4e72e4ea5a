//! A published site: what lies where in it, read from a folder or from a host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use burn::tensor::Device;
use models::bundle::{Bundle, MANIFEST_NAME, MAX_FILE_BYTES, Manifest};
use models::gallery::{Fetched, Part};
use models::image::RgbImage;

use super::names::{BUNDLE_FOLDER, OWN_FILES, SAMPLES};
use super::owned::Owned;
use crate::cli::{probe, read, size};
use crate::files::{self, FileError};
use crate::terminal::counted;

/// Where a site is.
pub(crate) enum Site {
    /// On this machine.
    Folder(PathBuf),
    /// On a host: its address, which ends with a slash.
    Host(String),
}

/// A file as a host sends it.
pub(crate) struct Sent {
    pub(crate) status: u16,
    headers: BTreeMap<String, String>,
    /// Packed, if it was packed.
    pub(crate) bytes: Vec<u8>,
}

impl Sent {
    /// A header; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> String {
        self.headers.get(name).cloned().unwrap_or_default()
    }
}

/// The bundle of a site; any other folder is the bundle itself.
pub(crate) fn bundle_of(folder: &Path) -> PathBuf {
    let inside = folder.join(BUNDLE_FOLDER);
    let is_site = !folder.join(MANIFEST_NAME).exists() && inside.join(MANIFEST_NAME).is_file();
    if is_site { inside } else { folder.to_owned() }
}

/// The manifest of a bundle in a folder.
///
/// # Errors
///
/// A folder without one, a manifest that cannot be used.
pub(crate) fn read_manifest(bundle: &Path) -> anyhow::Result<Manifest> {
    let path = bundle.join(MANIFEST_NAME);
    if path.symlink_metadata().is_err() {
        let path = bundle.to_owned();
        // Whether nothing is there at all is of use to programs.
        let wanted = files::wanted::SITE;
        return Err(if path.symlink_metadata().is_err() {
            FileError::Missing { path, wanted }.into()
        } else {
            anyhow!("{}: there is no bundle (no {MANIFEST_NAME}); give {wanted}", path.display())
        });
    }
    Manifest::from_bytes(&read(&path)?).with_context(|| path.display().to_string())
}

impl Site {
    /// A folder, or the address of a host.
    ///
    /// # Errors
    ///
    /// An address that cannot be asked.
    pub(crate) fn new(place: &str) -> anyhow::Result<Self> {
        if place.starts_with("https://") {
            bail!(
                "{place}: encrypted connections are not built in; check the folder before you \
                 upload it, or the host through http://"
            );
        }
        if !Path::new(place).exists() && is_host(place) {
            bail!("{place}: no such folder; if this is a host, write http://{place}");
        }
        if place.starts_with("http://") {
            let folder = place.trim_end_matches("index.html").trim_end_matches('/');
            return Ok(Self::Host(format!("{folder}/")));
        }
        Ok(Self::Folder(place.into()))
    }

    /// A file of the site.
    ///
    /// # Errors
    ///
    /// The file or the host, by name.
    pub(crate) fn read(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Folder(folder) => read(&folder.join(name)),
            Self::Host(address) => {
                let sent = Self::ask(&format!("{address}{name}"), &[])?;
                if sent.status != 200 {
                    bail!(
                        "{address}{name}: the host answered {}; check the address, and whether all files were copied",
                        sent.status
                    );
                }
                Ok(sent.bytes)
            }
        }
    }

    /// Asks a host.
    ///
    /// # Errors
    ///
    /// A host that does not answer, or sends more than a file may have.
    pub(crate) fn ask(address: &str, headers: &[(&str, &str)]) -> anyhow::Result<Sent> {
        let mut request = ureq::get(address).config().http_status_as_error(false).build();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = request.call().with_context(|| address.to_owned())?;
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect();
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(MAX_FILE_BYTES);
        let bytes = body.read_to_vec().with_context(|| address.to_owned())?;
        Ok(Sent { status, headers, bytes })
    }

    /// Opens the bundle and runs the pipeline on the first sample, or on the first picture of the
    /// gallery.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub(crate) fn open_again(&self, say: &mut dyn FnMut(String)) -> anyhow::Result<Manifest> {
        let in_bundle = |name: &str| self.read(&format!("{BUNDLE_FOLDER}/{name}"));
        let manifest =
            Manifest::from_bytes(&in_bundle(MANIFEST_NAME)?).context(MANIFEST_NAME.to_owned())?;
        let mut files = BTreeMap::new();
        for file in &manifest.files {
            say(format!("  {:>9}  {}", size(file.bytes), file.name));
            let bytes = in_bundle(&file.name)?;
            manifest.check(&file.name, &bytes)?;
            files.insert(file.name.as_str(), bytes);
        }
        let shards: Vec<Vec<u8>> =
            manifest.shards.iter().filter_map(|name| files.remove(name.as_str())).collect();
        let mut recognizer = Bundle::open(&manifest, |name| files.remove(name), &Device::flex())?;
        recognizer.gallery().check_answers().with_context(|| manifest.gallery.clone())?;
        let least = manifest.settings.min_similarity;
        if !(-1.001..=1.001).contains(&least) {
            bail!(
                "{MANIFEST_NAME}: its threshold is {least}, and similarities go from -1 to 1; publish again"
            );
        }
        if let (Some(detector), Some(entry)) = (recognizer.detector(), &manifest.detector) {
            let name = || format!("{BUNDLE_FOLDER}/{}", entry.file);
            probe::check_detector(detector).with_context(name)?;
        }
        let names: Vec<String> = match self.read(SAMPLES) {
            Ok(bytes) => serde_json::from_slice(&bytes).context(SAMPLES)?,
            Err(_) => Vec::new(),
        };
        let gallery = recognizer.gallery();
        let picture = match names.first() {
            Some(name) => RgbImage::decode(&self.read(name)?).with_context(|| name.clone())?,
            None if gallery.thumbnail(0).is_empty() => return Ok(manifest),
            None => RgbImage::decode(gallery.thumbnail(0))?,
        };
        let read = async |parts: Vec<Part>| -> anyhow::Result<Fetched> {
            let bytes = |part: &Part| {
                let range = part.range.start as usize..part.range.end as usize;
                shards[part.shard].get(range).unwrap_or_default().to_vec()
            };
            Ok(parts.into_iter().map(|part| (part.clone(), bytes(&part))).collect())
        };
        let recognized = recognizer.recognize_with(&picture, None, &read, &|| 0.0);
        let (found, _) = pollster::block_on(recognized)?;
        let gallery = recognizer.gallery();
        let answers: Vec<&str> = found
            .iter()
            .filter_map(|r| r.matches.first())
            .map(|m| gallery.classes()[m.class].label.as_str())
            .collect();
        let seen = match names.first() {
            Some(_) => "the first sample",
            None => "the gallery's first picture",
        };
        say(format!(
            "checked: {} found in {seen}: {answers:?}",
            counted(found.len(), "object", "objects")
        ));
        Ok(manifest)
    }
}

/// Whether a text reads like the address of a host without its beginning: `HOST:PORT`, with or without a path.
fn is_host(text: &str) -> bool {
    let host = text.split('/').next().unwrap_or_default();
    host.rsplit_once(':')
        .is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok())
}

/// Names of the files of a published site that are its own and there.
///
/// # Errors
///
/// A folder without a site, a list that cannot be used, a file of the list that has gone.
pub(crate) fn own_files(folder: &Path) -> anyhow::Result<Vec<String>> {
    let own = Owned::of(folder)?.with_context(|| format!("{}: no site", folder.display()))?;
    let names: Vec<String> = own.names().map(str::to_owned).collect();
    // A site from before there were lists has none.
    let gone = names.iter().find(|name| *name != OWN_FILES && !folder.join(name).is_file());
    match gone {
        Some(gone) => bail!("{gone}: has gone since the site was published; publish it again"),
        None => Ok(names),
    }
}
