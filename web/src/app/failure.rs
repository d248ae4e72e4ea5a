//! What went wrong, in a visitor's terms.

use wasm_engine::protocol::{Backend, EngineError, ErrorKind};

/// What a file is by its first bytes, as far as it matters for what is said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// A JPEG, PNG, WebP, GIF or BMP.
    Usual,
    /// A photo as iPhones keep it.
    Heic,
    /// Anything else.
    Other,
}

impl FileKind {
    /// The kind of a file that begins with these bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        const USUAL: [&[u8]; 5] = [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"RIFF"];
        const HEIC: [&[u8]; 8] =
            [b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"];
        let brand = bytes.get(4..8).filter(|word| *word == b"ftyp").and(bytes.get(8..12));
        if brand.is_some_and(|brand| HEIC.contains(&brand)) {
            Self::Heic
        } else if USUAL.iter().any(|start| bytes.starts_with(start)) {
            Self::Usual
        } else {
            Self::Other
        }
    }
}

/// What a visitor was about when something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// A picture was looked at, which came as pixels or as such a file.
    Recognizing(Option<FileKind>),
    /// A file was added to the gallery.
    Importing,
    /// Something else.
    Other,
}

/// What went wrong; each has its sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The network or the host.
    Fetch,
    /// A file of the site is incomplete.
    Truncated,
    /// A file of the site is damaged.
    Corrupted,
    /// The page is older than its data.
    PageTooOld,
    /// The site's data cannot be read.
    Bundle,
    /// A picture is damaged.
    Picture,
    /// A picture is a HEIC photo.
    Heic,
    /// A picture has too many pixels, or is a variant of its format that is not read.
    Unusual,
    /// What was given is no picture of a known format.
    NoPicture,
    /// A part of a picture is too small, or its picture is gone.
    Part,
    /// A file cannot be added to the gallery.
    Import,
    /// A change of the gallery cannot be made.
    Change,
    /// The graphics device failed.
    Graphics,
    /// The engine on the processor cannot be started.
    Processor,
}

impl Failure {
    /// What the engine's error is to a visitor who was about this; `backend` is the engine.
    pub(super) fn of(error: &EngineError, doing: Doing, backend: Backend) -> Self {
        match (error.kind, doing) {
            (ErrorKind::Fetch, _) => Self::Fetch,
            (ErrorKind::Truncated, _) => Self::Truncated,
            (ErrorKind::Corrupted, _) => Self::Corrupted,
            (ErrorKind::TooNew, _) => Self::PageTooOld,
            (ErrorKind::Bundle, _) => Self::Bundle,
            (ErrorKind::Picture | ErrorKind::Format, Doing::Other | Doing::Importing) => Self::Part,
            (ErrorKind::Picture, _) => Self::Picture,
            (ErrorKind::Format, Doing::Recognizing(Some(FileKind::Heic))) => Self::Heic,
            (ErrorKind::Format, Doing::Recognizing(Some(FileKind::Other))) => Self::NoPicture,
            (ErrorKind::Format, _) => Self::Unusual,
            (ErrorKind::Gallery, Doing::Importing) => Self::Import,
            (ErrorKind::Gallery, _) => Self::Change,
            (ErrorKind::Device, _) if backend == Backend::WebGpu => Self::Graphics,
            (ErrorKind::Device, _) => Self::Processor,
        }
    }
}

#[cfg(test)]
mod tests {
    use wasm_engine::protocol::{Backend, EngineError, ErrorKind};

    use super::{Doing, Failure, FileKind};

    fn of(kind: ErrorKind, doing: Doing) -> Failure {
        Failure::of(&EngineError::new(kind, "words"), doing, Backend::Cpu)
    }

    #[test]
    fn files_are_told_apart_by_their_first_bytes() {
        for (bytes, kind) in [
            (&b"\0\0\0\x18ftypheic\0\0\0\0"[..], FileKind::Heic),
            (b"\0\0\0\x18ftypavif\0\0\0\0", FileKind::Other),
            (b"\xff\xd8\xff\xe0", FileKind::Usual),
            (b"RIFF\0\0\0\0WEBP", FileKind::Usual),
            (b"%PDF-1.4", FileKind::Other),
            (b"", FileKind::Other),
        ] {
            assert_eq!(FileKind::of(bytes), kind, "{bytes:?}");
        }
    }

    #[test]
    fn a_picture_that_is_not_read_says_why() {
        let doing = |kind| Doing::Recognizing(Some(kind));
        assert_eq!(of(ErrorKind::Format, doing(FileKind::Heic)), Failure::Heic);
        assert_eq!(of(ErrorKind::Format, doing(FileKind::Usual)), Failure::Unusual);
        assert_eq!(of(ErrorKind::Format, doing(FileKind::Other)), Failure::NoPicture);
        assert_eq!(of(ErrorKind::Format, Doing::Recognizing(None)), Failure::Unusual);
        assert_eq!(of(ErrorKind::Picture, doing(FileKind::Usual)), Failure::Picture);
        assert_eq!(of(ErrorKind::Picture, Doing::Other), Failure::Part);
    }

    #[test]
    fn a_gallery_file_that_is_not_read_is_no_other_change() {
        assert_eq!(of(ErrorKind::Gallery, Doing::Importing), Failure::Import);
        assert_eq!(of(ErrorKind::Gallery, Doing::Other), Failure::Change);
    }
}
