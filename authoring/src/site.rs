//! A site as a map from names to bytes: the built page, a bundle, sample pictures, and what follows from them.

use std::collections::BTreeMap;

use models::bundle::{Bundle, BundleError, MANIFEST_NAME};
use models::model_file::sha256_hex;
use rayon::prelude::*;
use serde::Serialize;
use thiserror::Error;

use crate::hosting::{Sizes, headers_text, pack};
use crate::names::{
    APP_MANIFEST, BUNDLE_FOLDER, HEADERS_FILE, OWN_FILES, PAGE, PRECACHE, SAMPLES, SAMPLES_FOLDER,
    SERVICE_WORKER,
};
use crate::precache::{is_kept_by_browsers, kept_by_browsers, precache};

/// What the service worker has in the place of a digest of the site.
const UNPUBLISHED: &str = "unpublished";
/// Version of the list of a site's own files.
pub const LIST_VERSION: u32 = 1;
/// Files packed between two tellings of how far that has come.
const PACKED_AT_ONCE: usize = 8;

/// Why no site can be made of a page.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SiteError {
    /// No file to show.
    #[error("no built page: there is no {PAGE} among its files; give all that the build wrote")]
    NoPage,
    /// A file of the page that is no JSON.
    #[error("{name}: {source}; give the page as it was built")]
    Json {
        /// The file.
        name: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The service worker is none of this project's.
    #[error(
        "{SERVICE_WORKER}: has no place for the site's version; give the page as it was built by --page"
    )]
    ServiceWorker,
    /// The manifest cannot be written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A copy cannot be packed.
    #[error("{name}: cannot be packed: {source}")]
    Pack {
        /// The file.
        name: String,
        /// Why.
        source: std::io::Error,
    },
}

/// A sample picture: the ending of its name, and its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Without a dot.
    pub ending: String,
    /// The file.
    pub bytes: Vec<u8>,
}

/// Names of sample pictures with these endings inside a site.
pub fn sample_names<'a>(endings: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let name = |(index, ending)| format!("{SAMPLES_FOLDER}/{}.{ending}", index + 1);
    endings.into_iter().enumerate().map(name).collect()
}

/// The files of a site by their names, with `/` between folders.
///
/// [`Self::new`] puts page, bundle and samples together, [`Self::keep_offline`] tells the service worker of them,
/// [`Self::prepare_for_hosts`] adds what a host is given beside them, and [`Self::list_own`] the list of all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Site {
    /// By name.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Site {
    /// The files of the built page, under a title, with a bundle and sample pictures.
    ///
    /// # Errors
    ///
    /// [`SiteError::NoPage`], a manifest that cannot be written.
    pub fn new(
        page: BTreeMap<String, Vec<u8>>,
        title: &str,
        bundle: Bundle,
        samples: Vec<Sample>,
    ) -> Result<Self, SiteError> {
        let mut files = page;
        let page = files.get_mut(PAGE).ok_or(SiteError::NoPage)?;
        *page = titled(std::mem::take(page), title);
        let in_bundle = |name: &str| format!("{BUNDLE_FOLDER}/{name}");
        files.insert(in_bundle(MANIFEST_NAME), json(MANIFEST_NAME, &bundle.manifest)?);
        files.extend(bundle.files.into_iter().map(|(name, bytes)| (in_bundle(&name), bytes)));
        let names = sample_names(samples.iter().map(|sample| sample.ending.as_str()));
        let listed = serde_json::to_vec(&names);
        files.insert(
            SAMPLES.to_owned(),
            listed.map_err(|source| SiteError::Json { name: SAMPLES, source })?,
        );
        files.extend(names.into_iter().zip(samples).map(|(name, sample)| (name, sample.bytes)));
        Ok(Self { files })
    }

    /// Tells the page's service worker which files there are, and the browser's menu the title. A page without a
    /// service worker stays as it is.
    ///
    /// # Errors
    ///
    /// [`SiteError::Json`], [`SiteError::ServiceWorker`]
    pub fn keep_offline(&mut self, title: &str) -> Result<(), SiteError> {
        let Some(worker) = self.files.get(SERVICE_WORKER) else { return Ok(()) };
        let worker = String::from_utf8_lossy(worker).into_owned();
        if let Some(manifest) = self.files.get_mut(APP_MANIFEST) {
            let source = |source| SiteError::Json { name: APP_MANIFEST, source };
            let mut named: serde_json::Value = serde_json::from_slice(manifest).map_err(source)?;
            if let Some(named) = named.as_object_mut() {
                named.insert("name".to_owned(), title.into());
                named.insert("short_name".to_owned(), title.into());
            }
            *manifest = json(APP_MANIFEST, &named)?;
        }
        let names: Vec<String> = self.files.keys().cloned().collect();
        let read = |name: &str| Ok(self.files.get(name).cloned().unwrap_or_default());
        // What is in the map can be read.
        let (kept, version) = precache(kept_by_browsers(&names), read).unwrap_or_default();
        self.files.insert(PRECACHE.to_owned(), json(PRECACHE, &kept)?);
        let worker = versioned(&worker, &version).ok_or(SiteError::ServiceWorker)?;
        self.files.insert(SERVICE_WORKER.to_owned(), worker.into_bytes());
        Ok(())
    }

    /// Names of the files that a browser asks for, which packed copies are made of.
    fn served(&self) -> Vec<String> {
        let names = self.files.keys().filter(|name| is_served(name));
        names.cloned().collect()
    }

    /// Adds packed copies of the files, if they are wanted and smaller, and the file of headers. Calls `tell` with the
    /// number of files that are done, and of all.
    ///
    /// # Errors
    ///
    /// What `tell` says, [`SiteError::Pack`].
    pub fn prepare_for_hosts(
        &mut self,
        is_packed: bool,
        tell: &mut dyn FnMut(usize, usize) -> anyhow::Result<()>,
    ) -> anyhow::Result<Sizes> {
        let served = self.served();
        let mut sizes = Sizes::default();
        for (index, names) in served.chunks(PACKED_AT_ONCE).enumerate() {
            let copies = |name: &String| {
                let bytes = self.files.get(name).map(Vec::as_slice).unwrap_or_default();
                let packed = if is_packed { copies_of(name, bytes)? } else { Vec::new() };
                Ok((bytes.len() as u64, packed))
            };
            let packed: Vec<_> = names.par_iter().map(copies).collect::<Result<_, SiteError>>()?;
            for (plain, copies) in packed {
                let least = copies.iter().map(|(_, copy)| copy.len() as u64).min();
                sizes.plain += plain;
                sizes.packed += least.unwrap_or(plain).min(plain);
                self.files.extend(copies);
            }
            tell((index * PACKED_AT_ONCE + names.len()).min(served.len()), served.len())?;
        }
        let headers = headers_text(served.iter().map(String::as_str));
        self.files.insert(HEADERS_FILE.to_owned(), headers.into_bytes());
        Ok(sizes)
    }

    /// Adds the list of the site's own files with their digests, by which `magpie verify` and the next publishing know
    /// them.
    ///
    /// # Errors
    ///
    /// None that is known.
    pub fn list_own(&mut self) -> Result<(), SiteError> {
        self.files.remove(OWN_FILES);
        let mut names: Vec<&str> = self.files.keys().map(String::as_str).collect();
        names.push(OWN_FILES);
        names.sort_unstable();
        let digests: BTreeMap<&str, String> =
            self.files.iter().map(|(name, bytes)| (name.as_str(), sha256_hex(bytes))).collect();
        let list = json(OWN_FILES, &List { version: LIST_VERSION, files: names, digests })?;
        self.files.insert(OWN_FILES.to_owned(), list);
        Ok(())
    }
}

/// The list of a site's own files, none of which somebody has changed.
#[derive(Serialize)]
struct List<'a> {
    version: u32,
    files: Vec<&'a str>,
    digests: BTreeMap<&'a str, String>,
}

fn json(name: &'static str, value: &impl Serialize) -> Result<Vec<u8>, SiteError> {
    serde_json::to_vec_pretty(value).map_err(|source| SiteError::Json { name, source })
}

/// Whether a browser asks for a file.
fn is_served(name: &str) -> bool {
    [SERVICE_WORKER, PRECACHE].contains(&name) || is_kept_by_browsers(name)
}

/// The packed copies that a host is given beside a file of a site, by their names, where they are worth their place; none
/// beside what is not sent to browsers.
///
/// # Errors
///
/// [`SiteError::Pack`]
pub fn copies_of(name: &str, bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, SiteError> {
    if !is_served(name) {
        return Ok(Vec::new());
    }
    let copies =
        pack(name, bytes).map_err(|source| SiteError::Pack { name: name.to_owned(), source })?;
    Ok(copies.into_iter().map(|(ending, copy)| (format!("{name}{ending}"), copy)).collect())
}

/// A page with this title, as text: of its window and of its first heading.
fn titled(page: Vec<u8>, title: &str) -> Vec<u8> {
    let text = match String::from_utf8(page) {
        Ok(text) => text,
        Err(error) => return error.into_bytes(),
    };
    let title = title.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let places = [("<title>", "</title>"), ("<h1 id=\"title\">", "</h1>")];
    let replaced = places.into_iter().fold(text, |text, (begin, end)| {
        let replaced = text.split_once(begin).and_then(|(before, rest)| {
            let (_, behind) = rest.split_once(end)?;
            Some(format!("{before}{begin}{title}{end}{behind}"))
        });
        replaced.unwrap_or(text)
    });
    replaced.into_bytes()
}

/// A service worker with this version in the place of none, or of the one of another publishing.
fn versioned(worker: &str, version: &str) -> Option<String> {
    if worker.contains(UNPUBLISHED) {
        return Some(worker.replacen(UNPUBLISHED, version, 1));
    }
    let is_version =
        |text: &&str| text.len() == version.len() && text.bytes().all(|b| b.is_ascii_hexdigit());
    let before = worker.split('"').skip(1).step_by(2).find(is_version)?;
    Some(worker.replacen(before, version, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_text_and_takes_the_place_of_the_one_before() {
        let page = b"<head><title>Magpie</title></head>".to_vec();
        let first = titled(page, "A & B </title><script>");
        assert_eq!(
            String::from_utf8_lossy(&first),
            "<head><title>A &amp; B &lt;/title&gt;&lt;script&gt;</title></head>"
        );
        assert_eq!(titled(first, "Shop"), b"<head><title>Shop</title></head>");
        let page = br#"<title>Magpie</title><h1 id="title">Magpie</h1><p>Magpie</p>"#.to_vec();
        let expected = r#"<title>A &lt; B</title><h1 id="title">A &lt; B</h1><p>Magpie</p>"#;
        assert_eq!(String::from_utf8_lossy(&titled(page, "A < B")), expected);
        for other in [&b"<!doctype html>"[..], b"<title>", b"\xff<title></title>"] {
            assert_eq!(titled(other.to_vec(), "Shop"), other);
        }
    }

    #[test]
    fn a_worker_is_told_its_version_as_often_as_it_is_published() {
        let built = "const VERSION = \"unpublished\";\nconst FAMILY = \"magpie-\";";
        let first = versioned(built, "0123456789abcdef").unwrap();
        assert_eq!(first, built.replace("unpublished", "0123456789abcdef"));
        let second = versioned(&first, "fedcba9876543210").unwrap();
        assert_eq!(second, built.replace("unpublished", "fedcba9876543210"));
        assert_eq!(versioned("const FAMILY = \"magpie-\";", "0123456789abcdef"), None);
    }
}
