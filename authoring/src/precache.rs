//! The list of files that a site's service worker keeps in visitors' browsers, and the digest by which a browser sees
//! that another site was published.

use std::collections::BTreeMap;

use models::bundle::SHARD_ENDING;
use models::model_file::sha256_hex;
use serde::{Deserialize, Serialize};

use crate::names::{
    AUTHOR, BUNDLE_FOLDER, ENGINES, OWN_FILES, PEERS_FOLDER, PRECACHE, SERVICE_WORKER,
    STUDIO_FOLDER, is_for_hosts,
};

/// The files of a site by when they are needed, and a digest of them all; `read` gives one.
///
/// # Errors
///
/// A file that cannot be read.
pub fn precache(
    mut names: Vec<String>,
    read: impl Fn(&str) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<(Precache, String)> {
    names.sort();
    let mut precache = Precache { page: vec!["./".to_owned()], ..Precache::default() };
    let mut everything = Vec::new();
    let has_studio = names.iter().any(|name| name.starts_with(STUDIO_FOLDER));
    for name in names {
        // Types are for those who write pages.
        if name.ends_with(".d.ts") {
            precache.studio.push(name);
            continue;
        }
        // Fetched in parts, and listed with its digest in the bundle's manifest.
        if name.rsplit_once('.').is_some_and(|(_, ending)| ending == SHARD_ENDING) {
            continue;
        }
        let digest = sha256_hex(&read(&name)?);
        everything.extend(format!("{digest} {name}\n").into_bytes());
        let of_engine = |engine: &&&str| {
            name.starts_with(&format!("worker-{engine}"))
                || **engine == AUTHOR && name.starts_with(STUDIO_FOLDER)
        };
        let engine = ENGINES.iter().find(of_engine);
        match engine {
            Some(engine) => {
                precache.engines.entry((*engine).to_owned()).or_default().push(name);
            }
            None if name.starts_with(BUNDLE_FOLDER) => precache.bundle.push(name),
            None => precache.page.push(name),
        }
    }
    precache.studio.extend([OWN_FILES, SERVICE_WORKER].map(str::to_owned));
    if !has_studio {
        precache.studio.clear();
    }
    let version = sha256_hex(&everything)[..16].to_owned();
    Ok((precache, version))
}

/// What the service worker keeps, by when it is needed.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Precache {
    page: Vec<String>,
    engines: BTreeMap<String, Vec<String>>,
    bundle: Vec<String>,
    /// What the studio needs beside all of that, as it makes sites of it; a site from before has none.
    #[serde(default)]
    studio: Vec<String>,
}

impl Precache {
    /// Whether visitors' browsers keep the same files.
    pub fn is_like(&self, other: &Self) -> bool {
        (&self.page, &self.engines, &self.bundle) == (&other.page, &other.engines, &other.bundle)
    }

    /// The files in it.
    pub fn names(&self) -> Vec<String> {
        let engines = self.engines.values().flatten();
        let names = self.page.iter().chain(engines).chain(&self.bundle);
        // The folder itself is its page.
        names.filter(|name| *name != "./").cloned().collect()
    }
}

/// Those of a site's files that visitors' browsers keep.
pub fn kept_by_browsers(names: &[String]) -> Vec<String> {
    names.iter().filter(|name| is_kept_by_browsers(name)).cloned().collect()
}

/// Whether visitors' browsers keep a file; runtimes for comparison are too large for that.
pub fn is_kept_by_browsers(name: &str) -> bool {
    ![SERVICE_WORKER, PRECACHE, OWN_FILES].contains(&name)
        && !is_for_hosts(name)
        && !name.starts_with(PEERS_FOLDER)
}
