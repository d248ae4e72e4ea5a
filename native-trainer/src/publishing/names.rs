//! Names of the files of a published site.

use std::path::Path;

use anyhow::Context;

/// The list of a site's own files.
pub(crate) const OWN_FILES: &str = "magpie-files.json";
/// Folder of the bundle inside the site.
pub(crate) const BUNDLE_FOLDER: &str = "bundle";
/// Keeps the site in the visitor's browser.
pub(crate) const SERVICE_WORKER: &str = "sw.js";
/// List of the files that it keeps.
pub(crate) const PRECACHE: &str = "precache.json";
/// Folder of the sample pictures.
pub(crate) const SAMPLES_FOLDER: &str = "samples";
/// List of the sample pictures.
pub(crate) const SAMPLES: &str = "samples.json";
/// What the engines' files are named after.
pub(crate) const ENGINES: [&str; 3] = ["cpu", "relaxed", "webgpu"];
/// The headers in the form that Netlify and Cloudflare Pages read.
pub(crate) const HEADERS_FILE: &str = "_headers";
/// What the file for hosts would be where an edited one is kept; a number may follow.
const NEW_HEADERS: &str = "_headers.new";
/// Endings of packed copies.
pub(crate) const PACKED: [&str; 2] = [".br", ".gz"];
/// Folder of other runtimes in the page of measurements.
pub(crate) const PEERS_FOLDER: &str = "bench/peers/";
/// List of these runtimes.
pub(crate) const PEERS: &str = "bench/peers.json";
/// The document that they run in, whose policy allows what they need.
pub(crate) const PEERS_FRAME: &str = "bench/peer.html";

/// Whether a file is there for the host alone.
pub(crate) fn is_for_hosts(name: &str) -> bool {
    name == HEADERS_FILE || name.starts_with(NEW_HEADERS) || is_packed(name)
}

/// Whether a file is a packed copy of another.
pub(crate) fn is_packed(name: &str) -> bool {
    unpacked_name(name) != name
}

/// The file that a packed copy is of; other names as they are.
pub(crate) fn unpacked_name(name: &str) -> &str {
    PACKED.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

/// Whether a file's name changes with its content: its stem ends with a hyphen and 16 hexadecimal
/// digits.
pub(crate) fn is_named_after_content(name: &str) -> bool {
    let stem = name.rsplit('/').next().and_then(|file| file.rsplit_once('.')).map(|(stem, _)| stem);
    stem.and_then(|stem| stem.rsplit_once('-')).is_some_and(|(_, digest)| {
        digest.len() == 16 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Names of all files below a folder, relative to it.
///
/// # Errors
///
/// A folder that cannot be listed, a name that is no text.
pub(crate) fn list_files(
    folder: &Path,
    prefix: &str,
    names: &mut Vec<String>,
) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok();
        let name = name.with_context(|| {
            format!("{}: its name is no text; rename it", entry.path().display())
        })?;
        let name = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            list_files(&entry.path(), &format!("{name}/"), names)?;
        } else {
            names.push(name);
        }
    }
    Ok(())
}
