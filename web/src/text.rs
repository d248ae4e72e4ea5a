//! Every sentence that a visitor can read.

use wasm_engine::protocol::{Backend, Change, EngineError, ErrorKind};

/// Before the worker runs.
pub(crate) const STARTING: &str = "Starting the engine…";
/// Once pictures may come.
pub(crate) const READY: &str = "Ready. Choose, drop or paste a picture.";
/// While a picture is looked at.
pub(crate) const RECOGNIZING: &str = "Looking…";
/// Shown above the nearest class of an unknown object.
pub(crate) const UNKNOWN: &str = "Unknown";
/// Explains it.
pub(crate) const NOTHING_CLOSE: &str = "Nothing in the gallery is close enough. Nearest:";
/// Where nothing was found at all.
pub(crate) const NO_OBJECT: &str = "No object found in this picture.";
/// Where the gallery has no entry.
pub(crate) const EMPTY_GALLERY: &str = "The gallery is empty.";
/// The browser refused the camera.
pub(crate) const CAMERA_REFUSED: &str =
    "The camera cannot be used. Allow it in the browser's settings, or choose a picture.";
/// The dropped thing was no picture.
pub(crate) const NO_PICTURE: &str =
    "That holds no picture. Use a JPEG, PNG, WebP, GIF or BMP file.";
/// Label of the camera button.
pub(crate) const CAMERA_START: &str = "Camera";
/// Label of the camera button while it runs.
pub(crate) const CAMERA_STOP: &str = "Stop camera";

/// Button on a wrong answer.
pub(crate) const NOT_THIS: &str = "Not this?";
/// Button where there is no answer.
pub(crate) const TEACH: &str = "Say what it is";
/// Before the name that the visitor gives.
pub(crate) const WHAT_IS_IT: &str = "What is it?";
/// Button behind it.
pub(crate) const TEACH_IT: &str = "Learn it";
/// Button at an answer that was not the best but is right.
pub(crate) const THIS_ONE: &str = "It is this";
/// Button at a class.
pub(crate) const RENAME: &str = "Rename";
/// Button at a class.
pub(crate) const REMOVE: &str = "Remove";
/// Before all own changes go.
pub(crate) const RESET_SURE: &str =
    "Go back to the published gallery? What you taught this page goes, unless you undo.";
/// Once the site is kept in the browser.
pub(crate) const OFFLINE: &str = "Works without a network from now on.";
/// The chosen file cannot be read.
pub(crate) const NO_FILE: &str = "That file cannot be read. Choose another one.";

/// Name of the button for people who hear the page.
pub(crate) fn it_is(label: &str) -> String {
    format!("It is {label}")
}

/// Name of the button for people who hear the page.
pub(crate) fn rename_class(label: &str) -> String {
    format!("Rename {label}")
}

/// Name of the button for people who hear the page.
pub(crate) fn remove_class(label: &str) -> String {
    format!("Remove {label}")
}

/// Asks for another name.
pub(crate) fn new_name(label: &str) -> String {
    format!("Another name for {label}:")
}

/// Size of a class.
pub(crate) fn pictures(count: usize) -> String {
    if count == 1 { "1 picture".to_owned() } else { format!("{count} pictures") }
}

/// Classes that are not shown.
pub(crate) fn more_classes(matching: usize, shown: usize) -> String {
    match (matching, matching - shown.min(matching)) {
        (0, _) => "No class of that name.".to_owned(),
        (_, 0) => String::new(),
        (_, more) => format!("{more} more: type a part of the name."),
    }
}

/// What becomes of the visitor's changes.
pub(crate) fn kept(edited: bool, kept: bool) -> &'static str {
    match (edited, kept) {
        (false, _) => "",
        (true, true) => "Your changes stay in this browser. Nothing is sent anywhere.",
        (true, false) => "This browser cannot keep your changes: save them as a file.",
    }
}

/// What has changed.
pub(crate) fn changed(change: &Change) -> String {
    match change {
        Change::Taught(label) => format!("Learnt: {label}."),
        Change::Renamed(label) => format!("Renamed to {label}."),
        Change::Removed(label) => format!("Removed {label}."),
        Change::Imported(1) => "1 picture added from the file.".to_owned(),
        Change::Imported(count) => format!("{count} pictures added from the file."),
        Change::Undone => "The last change is taken back.".to_owned(),
        Change::Reset => "This is the published gallery again.".to_owned(),
        Change::Published => "A newer gallery was published; it is in use now.".to_owned(),
    }
}

/// While the bundle comes in.
pub(crate) fn loading(loaded: u64, total: u64) -> String {
    format!("Loading {:.1} of {:.1} MB…", loaded as f64 / 1e6, total as f64 / 1e6)
}

/// What runs where.
pub(crate) fn backend(backend: Backend, software: bool) -> String {
    match (backend, software) {
        (Backend::Cpu, _) => "CPU (WebAssembly SIMD)".to_owned(),
        (Backend::WebGpu, false) => "WebGPU".to_owned(),
        (Backend::WebGpu, true) => "WebGPU (software adapter: the CPU is faster)".to_owned(),
    }
}

/// Size of the gallery.
pub(crate) fn gallery(classes: usize, entries: usize) -> String {
    format!("{classes} classes, {entries} pictures in the gallery")
}

/// What was found, for people who hear the page.
pub(crate) fn summary(known: usize, all: usize) -> String {
    match (known, all) {
        (_, 1) if known == 1 => "1 object recognised.".to_owned(),
        (_, 1) => "1 object found, none recognised.".to_owned(),
        _ => format!("{all} objects found, {known} recognised."),
    }
}

/// A failure and what to do about it.
pub(crate) fn failure(error: &EngineError) -> String {
    let advice = match error.kind {
        ErrorKind::Fetch => "Check the connection and reload the page.",
        ErrorKind::Truncated => {
            "A file of this site is incomplete. Reload the page; if that does \
                                 not help, its owner must publish it again."
        }
        ErrorKind::Corrupted => {
            "A file of this site is damaged. Reload the page; if that does not \
                                 help, its owner must publish it again."
        }
        ErrorKind::TooNew => "This page is older than its data. Reload it without the cache.",
        ErrorKind::Bundle => "The site's data cannot be read; its owner must publish it again.",
        ErrorKind::Picture => "Choose another picture.",
        ErrorKind::Gallery => "The gallery stays as it was.",
        ErrorKind::Device => "Reload the page, or choose the CPU engine below.",
    };
    format!("{advice} ({})", error.message)
}

/// A cosine for people.
pub(crate) fn similarity(similarity: f32) -> String {
    format!("{:.0} %", (similarity * 100.0).clamp(0.0, 100.0))
}
