//! Names of the files of a published site.

/// The list of a site's own files.
pub const OWN_FILES: &str = "magpie-files.json";
/// Folder of the bundle inside the site.
pub const BUNDLE_FOLDER: &str = "bundle";
/// What a host sends for the site's folder.
pub const PAGE: &str = "index.html";
/// What the browser needs to install the page.
pub const APP_MANIFEST: &str = "app.webmanifest";
/// Keeps the site in the visitor's browser.
pub const SERVICE_WORKER: &str = "sw.js";
/// List of the files that it keeps.
pub const PRECACHE: &str = "precache.json";
/// Folder of the sample pictures.
pub const SAMPLES_FOLDER: &str = "samples";
/// List of the sample pictures.
pub const SAMPLES: &str = "samples.json";
/// What the engines' files are named after; the first one makes sites, and no visitor's browser keeps it unasked.
pub const ENGINES: [&str; 4] = [AUTHOR, "cpu", "relaxed", "webgpu"];
/// What the files of the engine that makes sites are named after.
pub const AUTHOR: &str = "author";
/// Folder of the page that makes sites.
pub const STUDIO_FOLDER: &str = "studio/";
/// The headers in the form that Netlify and Cloudflare Pages read.
pub const HEADERS_FILE: &str = "_headers";
/// What the file for hosts would be where an edited one is kept; a number may follow.
const NEW_HEADERS: &str = "_headers.new";
/// In a site that is a studio alone: the page that sites begin with, whose place is taken by one that leads to the studio.
pub const STUDIO_PAGE: &str = "page.html";
/// Endings of packed copies.
pub const PACKED: [&str; 2] = [".br", ".gz"];
/// Folder of other runtimes in the page of measurements.
pub const PEERS_FOLDER: &str = "bench/peers/";
/// List of these runtimes.
pub const PEERS: &str = "bench/peers.json";
/// The document that they run in, whose policy allows what they need.
pub const PEERS_FRAME: &str = "bench/peer.html";

/// Whether a file is there for the host alone.
pub fn is_for_hosts(name: &str) -> bool {
    name == HEADERS_FILE || name.starts_with(NEW_HEADERS) || is_packed(name)
}

/// Whether a file is a packed copy of another.
pub fn is_packed(name: &str) -> bool {
    unpacked_name(name) != name
}

/// The file that a packed copy is of; other names as they are.
pub fn unpacked_name(name: &str) -> &str {
    PACKED.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

/// Whether a file's name changes with its content: its stem ends with a hyphen and 16 hexadecimal
/// digits.
pub fn is_named_after_content(name: &str) -> bool {
    let stem = name.rsplit('/').next().and_then(|file| file.rsplit_once('.')).map(|(stem, _)| stem);
    stem.and_then(|stem| stem.rsplit_once('-')).is_some_and(|(_, digest)| {
        digest.len() == 16 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}
