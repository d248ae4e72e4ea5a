//! The list of a site's own files: what the next publishing may replace and take away, and the digest of each, by
//! which a file is known that somebody has changed since. Everything else in the folder belongs to others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use anyhow::{Context, bail};
use models::bundle::{MANIFEST_NAME, Manifest};
use models::model_file::sha256_hex;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::names::{
    BUNDLE_FOLDER, ENGINES, HEADERS_FILE, OWN_FILES, PACKED, PEERS, PEERS_FOLDER, PEERS_FRAME,
    PRECACHE, SAMPLES, SAMPLES_FOLDER, SERVICE_WORKER, is_for_hosts, list_files, unpacked_name,
};
use crate::cli::read;
use authoring::precache::Precache;
use authoring::site::LIST_VERSION;

/// What is said of a file that another digest was published of.
pub(crate) const CHANGED: &str = "has changed since the site was published; publish the site again, which keeps what \
                                  you have changed on purpose";
/// Version that is written, and the newest that is read.
const VERSION: u32 = LIST_VERSION;

/// The file.
#[derive(Serialize, Deserialize)]
struct List {
    version: u32,
    files: Vec<String>,
    /// SHA-256 in hexadecimal digits, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    digests: BTreeMap<String, String>,
    /// Files that the owner of the site has changed, and that are kept so.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    edited: BTreeSet<String>,
}

/// Names of files inside a site's folder, with `/` between folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    names: BTreeSet<String>,
    /// SHA-256 of the files as they were published; a list of an earlier program has none.
    digests: BTreeMap<String, String>,
    /// Files that the owner of the site has changed, and that are kept so.
    edited: BTreeSet<String>,
    /// Whether it names all: a site from before there were lists may have further pages.
    is_complete: bool,
}

impl Owned {
    /// The list of a site that consists of these files and of the list.
    ///
    /// # Errors
    ///
    /// A name that could lead out of the folder, or into a hidden one.
    pub(crate) fn new(names: impl IntoIterator<Item = String>) -> anyhow::Result<Self> {
        let mut names: BTreeSet<String> = names.into_iter().collect();
        names.insert(OWN_FILES.to_owned());
        if let Some(name) = names.iter().find(|name| !is_plain(name)) {
            bail!("{name:?}: is no name of a site's file; rename it");
        }
        Ok(Self { names, digests: BTreeMap::new(), edited: BTreeSet::new(), is_complete: true })
    }

    /// The same with the digests of the files as they lie in a folder, and the names of those that are `edited`.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub(crate) fn digested(self, folder: &Path, edited: BTreeSet<String>) -> anyhow::Result<Self> {
        let digest = |name: &String| Ok((name.clone(), sha256_hex(&read(&folder.join(name))?)));
        let names: Vec<&String> = self.names.iter().filter(|name| *name != OWN_FILES).collect();
        let digests = names.into_par_iter().map(digest).collect::<anyhow::Result<_>>()?;
        Ok(Self { digests, edited, ..self })
    }

    /// Names of the files that somebody has changed since they were published, or that are kept changed. Packed copies
    /// and the bundle's files, which nobody edits, are left out, and so is what has gone.
    pub(crate) fn edited(&self, folder: &Path) -> Vec<&str> {
        let beginning = format!("{BUNDLE_FOLDER}/");
        let is_asked = |name: &str| unpacked_name(name) == name && !name.starts_with(&beginning);
        let is_changed = |(name, digest): &(&String, &String)| {
            is_asked(name)
                && read(&folder.join(name)).is_ok_and(|bytes| {
                    // A link for hosts is the owner's, whatever it leads to.
                    self.edited.contains(*name)
                        || sha256_hex(&bytes) != **digest
                        || *name == HEADERS_FILE && folder.join(name).is_symlink()
                })
        };
        self.digests.par_iter().filter(is_changed).map(|(name, _)| name.as_str()).collect()
    }

    /// Whether it says what the files were.
    pub(super) fn has_digests(&self) -> bool {
        !self.digests.is_empty()
    }

    /// The list with these digests, by name.
    pub(super) fn known_as(self, digests: BTreeMap<String, String>) -> Self {
        Self { digests, ..self }
    }

    /// Checks every file whose digest is known against it; their number.
    ///
    /// # Errors
    ///
    /// The first that is another.
    pub(crate) fn check(&self, folder: &Path) -> anyhow::Result<usize> {
        self.digests.par_iter().try_for_each(|(name, digest)| {
            if sha256_hex(&read(&folder.join(name))?) != *digest {
                bail!("{name}: {CHANGED}");
            }
            Ok(())
        })?;
        Ok(self.digests.len())
    }

    /// The own files of a folder; `None` where no site was published. What a site from before there were lists
    /// has follows from the places that files have in it.
    ///
    /// # Errors
    ///
    /// A list that cannot be used.
    pub(crate) fn of(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(OWN_FILES);
        if path.symlink_metadata().is_ok() {
            return Self::from_bytes(&read(&path)?).map(Some).with_context(|| {
                format!("{}: name another folder, or take this list away", path.display())
            });
        }
        if !folder.join(BUNDLE_FOLDER).join(MANIFEST_NAME).is_file() {
            return Ok(None);
        }
        derived(folder).map(Some)
    }

    /// Reads a list.
    ///
    /// # Errors
    ///
    /// Another form, a newer version, names that could lead out of the folder.
    pub(crate) fn from_bytes(bytes: &[u8]) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let what = "not a list of a site's own files";
        let Version { version } = serde_json::from_slice(bytes).context(what)?;
        if version > VERSION {
            bail!("the list is of version {version}, this program knows {VERSION}; update it");
        }
        let list: List = serde_json::from_slice(bytes).context(what)?;
        let own = Self::new(list.files)?;
        let is_own = |name: &String| own.names.contains(name);
        let digests = list.digests.into_iter().filter(|(name, _)| is_own(name)).collect();
        let edited = list.edited.into_iter().filter(is_own).collect();
        Ok(Self { digests, edited, ..own })
    }

    /// The list as a file.
    ///
    /// # Errors
    ///
    /// None that is known.
    pub(crate) fn to_bytes(&self) -> anyhow::Result<Vec<u8>> {
        let files = self.names.iter().cloned().collect();
        let (digests, edited) = (self.digests.clone(), self.edited.clone());
        Ok(serde_json::to_vec_pretty(&List { version: VERSION, files, digests, edited })?)
    }

    /// All names, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether a file is the site's own.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Names of the built page's files: without what publishing adds to it.
    pub(crate) fn of_page(&self) -> Vec<String> {
        let folders = [BUNDLE_FOLDER, SAMPLES_FOLDER].map(|folder| format!("{folder}/"));
        let is_added = |name: &str| {
            [OWN_FILES, PRECACHE, SAMPLES, PEERS].contains(&name)
                || folders.iter().any(|folder| name.starts_with(folder))
                || name.starts_with(PEERS_FOLDER)
                || is_for_hosts(name)
        };
        self.names().filter(|name| !is_added(name)).map(str::to_owned).collect()
    }

    /// Whether own files lie in a folder of the site.
    pub(crate) fn has_in(&self, folder: &str) -> bool {
        let beginning = format!("{folder}/");
        let next = self.names.range(beginning.clone()..).next();
        next.is_some_and(|name| name.starts_with(&beginning))
    }

    /// All folders that own files lie in, the deepest first; the site's own is the empty name.
    pub(crate) fn folders(&self) -> Vec<&str> {
        let above = |name: &'_ str| name.match_indices('/').map(|(at, _)| at).collect::<Vec<_>>();
        let names = self.names.iter();
        let folders: BTreeSet<&str> =
            names.flat_map(|name| above(name).into_iter().map(move |at| &name[..at])).collect();
        // What lies in another sorts behind it.
        folders.into_iter().rev().chain([""]).collect()
    }

    /// Both lists as one. Where a file may be that of either, its digest is not known.
    pub(crate) fn with(&self, other: &Self) -> Self {
        let names = self.names.union(&other.names).cloned().collect();
        let mut digests = self.digests.clone();
        digests.extend(other.digests.clone());
        let is_known = |own: &Self, name: &String, digest: &String| {
            !own.names.contains(name) || own.digests.get(name) == Some(digest)
        };
        digests
            .retain(|name, digest| is_known(self, name, digest) && is_known(other, name, digest));
        let edited = self.edited.union(&other.edited).cloned().collect();
        Self { names, digests, edited, is_complete: self.is_complete && other.is_complete }
    }

    /// Takes into the list what the next site has as well, where the list does not name all.
    pub(crate) fn complete(&mut self, names: impl IntoIterator<Item = String>) {
        if !self.is_complete {
            self.names.extend(names);
        }
    }
}

/// Whether a name stays inside the folder and out of hidden ones.
fn is_plain(name: &str) -> bool {
    let is_plain = |part: &str| {
        let mut components = Path::new(part).components();
        let alone = matches!(components.next(), Some(Component::Normal(_)));
        alone && components.next().is_none() && !part.starts_with('.') && !part.contains('\\')
    };
    name.split('/').all(is_plain)
}

/// What a site without a list consists of: what its browsers keep, what the bundle and the samples name, and what
/// lies in places that only publishing fills.
fn derived(folder: &Path) -> anyhow::Result<Owned> {
    let mut names: Vec<String> =
        ["index.html", SERVICE_WORKER, PRECACHE, SAMPLES].map(str::to_owned).into();
    names.extend([HEADERS_FILE, PEERS, PEERS_FRAME].map(str::to_owned));
    names.push(format!("{BUNDLE_FOLDER}/{MANIFEST_NAME}"));
    let kept: Option<Precache> =
        read(&folder.join(PRECACHE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let is_complete = kept.is_some();
    names.extend(kept.into_iter().flat_map(|kept| kept.names()));
    // Types of modules: browsers keep none of them.
    let types = |name: &String| Some(format!("{}.d.ts", name.strip_suffix(".js")?));
    names.extend(names.iter().filter_map(types).collect::<Vec<_>>());
    let manifest = read(&folder.join(BUNDLE_FOLDER).join(MANIFEST_NAME))?;
    if let Ok(manifest) = Manifest::from_bytes(&manifest) {
        let files = manifest.files.into_iter();
        names.extend(files.map(|file| format!("{BUNDLE_FOLDER}/{}", file.name)));
    }
    if let Ok(bytes) = read(&folder.join(SAMPLES)) {
        names.extend(serde_json::from_slice::<Vec<String>>(&bytes).unwrap_or_default());
    }
    let runtimes = PEERS_FOLDER.trim_end_matches('/');
    if folder.join(runtimes).is_dir() {
        list_files(&folder.join(runtimes), PEERS_FOLDER, &mut names)?;
    }
    let beside = std::fs::read_dir(folder)?.flatten();
    names.extend(
        beside.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| {
            ENGINES.iter().any(|engine| name.starts_with(&format!("worker-{engine}")))
        }),
    );
    let packed: Vec<String> =
        (names.iter()).flat_map(|name| PACKED.map(|ending| format!("{name}{ending}"))).collect();
    names.extend(packed);
    names.retain(|name| is_plain(name) && folder.join(name).is_file());
    Ok(Owned { is_complete, ..Owned::new(names)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Owned {
        Owned::new(names.iter().map(|name| (*name).to_owned())).unwrap()
    }

    #[test]
    fn a_list_survives_the_round_trip_and_names_itself() {
        let owned = list(&["index.html", "bundle/manifest.json"]);
        let names: Vec<&str> = owned.names().collect();
        assert_eq!(names, ["bundle/manifest.json", "index.html", OWN_FILES]);
        assert_eq!(Owned::from_bytes(&owned.to_bytes().unwrap()).unwrap(), owned);
        let site = list(&[
            "_headers",
            "bench/peers.json",
            "bench/peers/npm/a.js",
            "bench/index.html",
            "bundle/manifest.json",
            "index.html",
            "index.html.br",
            "precache.json",
            "samples.json",
            "samples/1.jpg",
            "sw.js",
        ]);
        assert_eq!(site.of_page(), ["bench/index.html", "index.html", "sw.js"]);
        let deep = list(&["a/b/c", "a/d", "e"]);
        assert_eq!(deep.folders(), ["a/b", "a", ""]);
        assert!(owned.has_in("bundle") && !owned.has_in("bund") && !owned.has_in("index.html"));
    }

    #[test]
    fn names_that_lead_elsewhere_and_newer_lists_are_refused() {
        let name = [
            "/etc/passwd",
            "../x",
            "a/../../x",
            "",
            "a//b",
            ".git/config",
            "a/.b",
            "./x",
            "a\\b",
            "..",
        ];
        for name in name {
            let list = serde_json::json!({"version": 1, "files": [name]}).to_string();
            let error = Owned::from_bytes(list.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("is no name of a site's file"), "{name}: {error}");
        }
        let error = Owned::from_bytes(br#"{"version": 2, "files": []}"#).unwrap_err().to_string();
        assert!(error.contains("version 2") && error.contains("update"), "{error}");
    }

    #[test]
    fn an_old_site_is_known_by_its_places() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(Owned::of(dir.path()).unwrap(), None);
        let names = ["index.html", "index.html.br", "sw.js", "start.js", "start.d.ts"];
        for name in names.into_iter().chain(["worker-cpu.js", "_headers"]) {
            put(name, "own");
        }
        put(
            "precache.json",
            r#"{"page": ["./", "start.js", "../up.js"], "engines": {}, "bundle": []}"#,
        );
        put("bundle/manifest.json", "damaged");
        put("samples.json", r#"["samples/1.jpg", "/etc/hosts"]"#);
        put("samples/1.jpg", "own");
        put("bench/peers/npm/x/y.js", "own");
        for name in [".git/config", "CNAME", "about.html", "samples/mine.jpg", "bundle/mine.txt"] {
            put(name, "foreign");
        }
        let owned = Owned::of(dir.path()).unwrap().unwrap();
        let mut names: Vec<&str> = owned.names().collect();
        names.retain(|name| *name != OWN_FILES);
        assert_eq!(
            names,
            [
                "_headers",
                "bench/peers/npm/x/y.js",
                "bundle/manifest.json",
                "index.html",
                "index.html.br",
                "precache.json",
                "samples.json",
                "samples/1.jpg",
                "start.d.ts",
                "start.js",
                "sw.js",
                "worker-cpu.js"
            ]
        );
        assert!(owned.is_complete);
    }
}
