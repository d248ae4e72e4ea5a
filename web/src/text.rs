//! Every sentence that a visitor can read.

use wasm_engine::protocol::{Backend, EngineError, ErrorKind};

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
        ErrorKind::Device => "Reload the page, or choose the CPU engine below.",
    };
    format!("{advice} ({})", error.message)
}

/// A cosine for people.
pub(crate) fn similarity(similarity: f32) -> String {
    format!("{:.0} %", (similarity * 100.0).clamp(0.0, 100.0))
}
