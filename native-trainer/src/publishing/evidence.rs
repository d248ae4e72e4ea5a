//! What the files of a site were when it was published, where its list does not say so: packed copies hold the same,
//! the service worker names a digest of all, and the file of headers follows from the names.

use std::collections::BTreeMap;
use std::path::Path;

use models::bundle::MAX_FILE_BYTES;
use models::model_file::sha256_hex;

use super::hosting::{headers_text, unpacked};
use super::names::{BUNDLE_FOLDER, HEADERS_FILE, OWN_FILES, PACKED, SERVICE_WORKER, is_packed};
use super::owned::Owned;
use crate::cli::read;
use authoring::precache::{kept_by_browsers, precache};

/// The list with a digest of each file that an owner may edit. Where something was edited, and nothing tells whether it
/// is this file, that is a digest which no file has.
pub(super) fn with_digests(own: Owned, folder: &Path) -> Owned {
    if own.has_digests() {
        return own;
    }
    let known = digests(&own, folder).into_iter();
    own.known_as(known.map(|(name, digest)| (name, digest.unwrap_or_default())).collect())
}

/// Names of the files of which it is known that they were edited. What other programs wrote for hosts is not known.
pub(crate) fn edited(own: Owned, folder: &Path) -> Vec<String> {
    let known = digests(&own, folder).into_iter().filter(|(name, _)| name != HEADERS_FILE);
    let own = own.known_as(known.filter_map(|(name, digest)| Some((name, digest?))).collect());
    own.edited(folder).into_iter().map(str::to_owned).collect()
}

/// What is known of each file.
fn digests(own: &Owned, folder: &Path) -> BTreeMap<String, Option<String>> {
    let bundle = format!("{BUNDLE_FOLDER}/");
    let names: Vec<String> = own.names().map(str::to_owned).collect();
    let is_whole = is_as_published(folder, &names);
    let as_it_lies = |name: &str| read(&folder.join(name)).ok();
    let is_asked =
        |name: &&String| *name != OWN_FILES && !is_packed(name) && !name.starts_with(&bundle);
    let digest = |name: &String| {
        let bytes = if name == HEADERS_FILE {
            Some(headers_text(names.iter().map(String::as_str)).into_bytes())
        } else {
            match is_whole {
                Some(true) => as_it_lies(name),
                Some(false) => of_copy(folder, name),
                // Nothing says that anything was edited.
                None => of_copy(folder, name).or_else(|| as_it_lies(name)),
            }
        };
        (name.clone(), bytes.map(|bytes| sha256_hex(&bytes)))
    };
    names.iter().filter(is_asked).map(digest).collect()
}

/// Whether the service worker names the digest of what its browsers keep; `None` without one.
fn is_as_published(folder: &Path, names: &[String]) -> Option<bool> {
    let worker = read(&folder.join(SERVICE_WORKER)).ok()?;
    let (_, version) = precache(kept_by_browsers(names), |name| read(&folder.join(name))).ok()?;
    Some(String::from_utf8_lossy(&worker).contains(&version))
}

/// What a packed copy says that the file was.
fn of_copy(folder: &Path, name: &str) -> Option<Vec<u8>> {
    PACKED.iter().find_map(|ending| {
        let copy = read(&folder.join(format!("{name}{ending}"))).ok()?;
        unpacked(&copy, ending, MAX_FILE_BYTES)
    })
}
