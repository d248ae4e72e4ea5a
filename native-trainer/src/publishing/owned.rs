//! The list of a site's own files: what the next publishing may replace and take away. Everything else in the
//! folder belongs to others.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use anyhow::{Context, bail};
use models::bundle::{MANIFEST_NAME, Manifest};
use serde::{Deserialize, Serialize};

use super::site::{
    BUNDLE_FOLDER, ENGINES, PRECACHE, Precache, SAMPLES, SAMPLES_FOLDER, SERVICE_WORKER, list_files,
};
use super::{hosting, peers};
use crate::cli::read;

/// Name of the list inside the site.
pub(crate) const LIST: &str = "magpie-files.json";
/// Version that is written, and the newest that is read.
const VERSION: u32 = 1;

/// The file.
#[derive(Serialize, Deserialize)]
struct List {
    version: u32,
    files: Vec<String>,
}

/// Names of files inside a site's folder, with `/` between folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    names: BTreeSet<String>,
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
        names.insert(LIST.to_owned());
        if let Some(name) = names.iter().find(|name| !is_plain(name)) {
            bail!("{name:?}: is no name of a site's file; rename it");
        }
        Ok(Self { names, is_complete: true })
    }

    /// The own files of a folder; `None` where no site was published. What a site from before there were lists
    /// has follows from the places that files have in it.
    ///
    /// # Errors
    ///
    /// A list that cannot be used.
    pub(crate) fn of(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(LIST);
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
        Self::new(list.files)
    }

    /// The list as a file.
    ///
    /// # Errors
    ///
    /// None that is known.
    pub(crate) fn to_bytes(&self) -> anyhow::Result<Vec<u8>> {
        let files = self.names.iter().cloned().collect();
        Ok(serde_json::to_vec_pretty(&List { version: VERSION, files })?)
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
            [LIST, PRECACHE, SAMPLES, peers::LIST].contains(&name)
                || folders.iter().any(|folder| name.starts_with(folder))
                || name.starts_with(peers::FOLDER)
                || hosting::is_for_hosts(name)
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

    /// Both lists as one.
    pub(crate) fn with(&self, other: &Self) -> Self {
        let names = self.names.union(&other.names).cloned().collect();
        Self { names, is_complete: self.is_complete && other.is_complete }
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
    names.extend([hosting::HEADERS_FILE, peers::LIST, peers::FRAME].map(str::to_owned));
    names.push(format!("{BUNDLE_FOLDER}/{MANIFEST_NAME}"));
    let kept: Option<Precache> =
        read(&folder.join(PRECACHE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let is_complete = kept.is_some();
    names.extend(kept.into_iter().flat_map(|kept| kept.names()));
    let manifest = read(&folder.join(BUNDLE_FOLDER).join(MANIFEST_NAME))?;
    if let Ok(manifest) = Manifest::from_bytes(&manifest) {
        let files = manifest.files.into_iter();
        names.extend(files.map(|file| format!("{BUNDLE_FOLDER}/{}", file.name)));
    }
    if let Ok(bytes) = read(&folder.join(SAMPLES)) {
        names.extend(serde_json::from_slice::<Vec<String>>(&bytes).unwrap_or_default());
    }
    let runtimes = peers::FOLDER.trim_end_matches('/');
    if folder.join(runtimes).is_dir() {
        list_files(&folder.join(runtimes), peers::FOLDER, &mut names)?;
    }
    let beside = std::fs::read_dir(folder)?.flatten();
    names.extend(
        beside.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| {
            ENGINES.iter().any(|engine| name.starts_with(&format!("worker-{engine}")))
        }),
    );
    let packed: Vec<String> = (names.iter())
        .flat_map(|name| hosting::PACKED.map(|ending| format!("{name}{ending}")))
        .collect();
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
        assert_eq!(names, ["bundle/manifest.json", "index.html", LIST]);
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
        for name in
            ["index.html", "index.html.br", "sw.js", "start.js", "worker-cpu.js", "_headers"]
        {
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
        names.retain(|name| *name != LIST);
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
                "start.js",
                "sw.js",
                "worker-cpu.js"
            ]
        );
        assert!(owned.is_complete);
    }
}
