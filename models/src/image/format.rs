//! What a file is, by its first bytes and by the ending of its name.

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Read.
    Jpeg,
    /// Read.
    Png,
    /// Read.
    WebP,
    /// Read; of an animation the first frame.
    Gif,
    /// Read.
    Bmp,
    /// High-efficiency pictures of phones (HEVC inside).
    Heic,
    /// AV1 pictures.
    Avif,
    /// TIFF.
    Tiff,
    /// JPEG XL.
    JpegXl,
    /// JPEG 2000.
    Jpeg2000,
    /// Windows icons.
    Ico,
    /// Photoshop documents.
    Psd,
    /// What a camera's sensor saw: CR2, CR3, NEF, ARW, DNG, RAF, ORF, RW2.
    Raw,
    /// PDF documents.
    Pdf,
    /// SVG drawings.
    Svg,
    /// Web pages, which a failed download leaves.
    Html,
    /// Videos.
    Video,
    /// Packed files.
    Archive,
    /// The line that stands for a file that Git LFS has not fetched.
    GitLfsPointer,
    /// The line that stands for a file that git-annex has not fetched.
    GitAnnexPointer,
    /// No bytes.
    Empty,
    /// Nothing but zeros, as a copy that was cut off leaves.
    Zeros,
    /// Anything else.
    Unknown,
}

/// Bytes that are looked at to know a text.
const TEXT: usize = 1024;

/// Beginnings of files.
const BEGINNINGS: [(&[u8], Format); 32] = [
    (b"\xff\xd8\xff", Format::Jpeg),
    (b"\x89PNG\r\n\x1a\n", Format::Png),
    (b"GIF87a", Format::Gif),
    (b"GIF89a", Format::Gif),
    (b"BM", Format::Bmp),
    (b"\xff\x0a", Format::JpegXl),
    (b"\0\0\0\x0cJXL \r\n\x87\n", Format::JpegXl),
    (b"\0\0\0\x0cjP  \r\n\x87\n", Format::Jpeg2000),
    (b"\xff\x4f\xff\x51", Format::Jpeg2000),
    (b"\0\0\x01\0", Format::Ico),
    (b"8BPS", Format::Psd),
    (b"FUJIFILMCCD-RAW", Format::Raw),
    (b"IIRO", Format::Raw),
    (b"IIRS", Format::Raw),
    (b"MMOR", Format::Raw),
    (b"IIU\0", Format::Raw),
    (b"II*\0", Format::Tiff),
    (b"MM\0*", Format::Tiff),
    (b"II+\0", Format::Tiff),
    (b"MM\0+", Format::Tiff),
    (b"%PDF-", Format::Pdf),
    (b"\x1aE\xdf\xa3", Format::Video),
    (b"\0\0\x01\xba", Format::Video),
    (b"\0\0\x01\xb3", Format::Video),
    (b"PK\x03\x04", Format::Archive),
    (b"Rar!", Format::Archive),
    (b"7z\xbc\xaf\x27\x1c", Format::Archive),
    (b"\x1f\x8b", Format::Archive),
    (b"BZh", Format::Archive),
    (b"\xfd7zXZ\0", Format::Archive),
    (b"version https://git-lfs.github.com/spec/", Format::GitLfsPointer),
    (b"/annex/objects/", Format::GitAnnexPointer),
];

/// Endings of names, in small letters, and what such a file should be.
const ENDINGS: [(&str, Format); 51] = [
    ("jpg", Format::Jpeg),
    ("jpeg", Format::Jpeg),
    ("jpe", Format::Jpeg),
    ("jfif", Format::Jpeg),
    ("jif", Format::Jpeg),
    ("pjpeg", Format::Jpeg),
    ("pjp", Format::Jpeg),
    ("png", Format::Png),
    ("apng", Format::Png),
    ("webp", Format::WebP),
    ("gif", Format::Gif),
    ("bmp", Format::Bmp),
    ("dib", Format::Bmp),
    ("heic", Format::Heic),
    ("heif", Format::Heic),
    ("hif", Format::Heic),
    ("avif", Format::Avif),
    ("tif", Format::Tiff),
    ("tiff", Format::Tiff),
    ("jxl", Format::JpegXl),
    ("jp2", Format::Jpeg2000),
    ("j2k", Format::Jpeg2000),
    ("jpx", Format::Jpeg2000),
    ("ico", Format::Ico),
    ("psd", Format::Psd),
    ("psb", Format::Psd),
    ("cr2", Format::Raw),
    ("cr3", Format::Raw),
    ("nef", Format::Raw),
    ("arw", Format::Raw),
    ("dng", Format::Raw),
    ("raf", Format::Raw),
    ("orf", Format::Raw),
    ("rw2", Format::Raw),
    ("pef", Format::Raw),
    ("srw", Format::Raw),
    ("pdf", Format::Pdf),
    ("svg", Format::Svg),
    ("svgz", Format::Svg),
    ("mp4", Format::Video),
    ("mov", Format::Video),
    ("m4v", Format::Video),
    ("avi", Format::Video),
    ("mkv", Format::Video),
    ("webm", Format::Video),
    ("mpg", Format::Video),
    ("zip", Format::Archive),
    ("tar", Format::Archive),
    ("gz", Format::Archive),
    ("7z", Format::Archive),
    ("rar", Format::Archive),
];

impl Format {
    /// What a file is whose bytes, or first some thousand bytes, are these. A text is known by its first
    /// kilobyte.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::Empty;
        }
        let known = BEGINNINGS.iter().find(|(beginning, _)| bytes.starts_with(beginning));
        match known {
            Some((_, Self::Tiff)) if is_raw(bytes) => Self::Raw,
            Some((_, format)) => *format,
            None => of_container(bytes).unwrap_or_else(|| of_text(bytes)),
        }
    }

    /// What a file with this ending (without the dot, letters of any case) should be; `None` for endings of
    /// other things than pictures, documents, videos and archives.
    pub fn of_ending(ending: &str) -> Option<Self> {
        let ending = ending.to_lowercase();
        ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, format)| *format)
    }

    /// Endings of the files that are read, in small letters, without the dot.
    pub fn readable_endings() -> impl Iterator<Item = &'static str> {
        ENDINGS.iter().filter(|(_, format)| format.is_readable()).map(|(ending, _)| *ending)
    }

    /// Whether [`RgbImage::decode`](super::RgbImage::decode) reads it.
    pub fn is_readable(self) -> bool {
        matches!(self, Self::Jpeg | Self::Png | Self::WebP | Self::Gif | Self::Bmp)
    }

    /// Whether it is a picture, be it one that is read or not.
    pub fn is_picture(self) -> bool {
        self.is_readable()
            || matches!(
                self,
                Self::Heic
                    | Self::Avif
                    | Self::Tiff
                    | Self::JpegXl
                    | Self::Jpeg2000
                    | Self::Ico
                    | Self::Psd
                    | Self::Raw
                    | Self::Svg
            )
    }

    /// Its name, for a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Heic => "HEIC",
            Self::Avif => "AVIF",
            Self::Tiff => "TIFF",
            Self::JpegXl => "JPEG XL",
            Self::Jpeg2000 => "JPEG 2000",
            Self::Ico => "a Windows icon",
            Self::Psd => "a Photoshop document",
            Self::Raw => "a camera's raw format",
            Self::Pdf => "a PDF document",
            Self::Svg => "an SVG drawing",
            Self::Html => "a web page",
            Self::Video => "a video",
            Self::Archive => "an archive",
            Self::GitLfsPointer => "a pointer of Git LFS",
            Self::GitAnnexPointer => "a pointer of git-annex",
            Self::Empty => "an empty file",
            Self::Zeros => "a file of zeros",
            Self::Unknown => "a file of unknown format",
        }
    }

    /// How a picture that can be read comes of it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Heic => {
                "convert it to JPEG (`heif-convert photo.heic photo.jpg`; an iPhone takes JPEG with Settings, \
                 Camera, Formats, Most Compatible)"
            }
            Self::Avif => "convert it to PNG or JPEG (`avifdec picture.avif picture.png`)",
            Self::JpegXl => "convert it to PNG or JPEG (`djxl picture.jxl picture.png`)",
            Self::Tiff => "convert it to PNG or JPEG (`magick picture.tif picture.png`)",
            Self::Jpeg2000 | Self::Ico => "convert it to PNG or JPEG",
            Self::Psd => "export it as PNG or JPEG",
            Self::Raw => "develop it to JPEG with the camera's program",
            Self::Pdf => "save its pages as PNG (`pdftoppm -png document.pdf page`)",
            Self::Svg => "draw it as PNG (`rsvg-convert drawing.svg --output drawing.png`)",
            Self::Html => "the download gave a page in the place of a picture; download it again",
            Self::Video => "save single frames as JPEG (`ffmpeg -i video.mp4 -r 1 frame-%d.jpg`)",
            Self::Archive => "unpack it",
            Self::GitLfsPointer => "fetch the picture with `git lfs pull`",
            Self::GitAnnexPointer => "fetch the picture with `git annex get`",
            Self::Empty | Self::Zeros => "copy or download it again",
            Self::Jpeg | Self::Png | Self::WebP | Self::Gif | Self::Bmp | Self::Unknown => {
                "use JPEG, PNG, WebP, GIF or BMP"
            }
        }
    }

    /// Why it is not read, and what to do: a sentence without a stop.
    pub fn refusal(self) -> String {
        let kind = if self.is_picture() { ", which is not read" } else { "" };
        format!("this is {}{kind}; {}", self.name(), self.advice())
    }
}

/// Formats whose name stands inside of a container.
fn of_container(bytes: &[u8]) -> Option<Format> {
    if bytes.starts_with(b"RIFF") {
        return match bytes.get(8..12) {
            Some(b"WEBP") => Some(Format::WebP),
            Some(b"AVI ") => Some(Format::Video),
            _ => None,
        };
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Some(Format::Archive);
    }
    if bytes.get(4..8) != Some(b"ftyp") {
        return None;
    }
    // The brand, four bytes of its version, then the brands that it is compatible with.
    let length = bytes.first_chunk().map_or(0, |length| u32::from_be_bytes(*length) as usize);
    let brands = &bytes[8..length.clamp(8, bytes.len())];
    let has = |names: &[&[u8; 4]]| {
        brands.as_chunks().0.iter().any(|brand: &[u8; 4]| names.contains(&brand))
    };
    Some(if has(&[b"avif", b"avis"]) {
        Format::Avif
    } else if has(&[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"]) {
        Format::Heic
    } else if has(&[b"crx "]) {
        Format::Raw
    } else {
        Format::Video
    })
}

/// Whether a TIFF is a camera's raw picture: Canon's mark, DNG's version, or a small picture in front of others.
fn is_raw(bytes: &[u8]) -> bool {
    if bytes.get(8..10) == Some(b"CR") {
        return true;
    }
    let big = bytes[0] == b'M';
    let short = |at: usize| {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    let long = |at: usize| {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    let Some(start) = long(4).map(|start| start as usize) else { return false };
    let count = usize::from(short(start).unwrap_or(0));
    let (mut is_small, mut has_others) = (false, false);
    for at in (0..count).map_while(|i| start.checked_add(2 + 12 * i)) {
        match short(at) {
            Some(0xc612) => return true,
            Some(0x00fe) => is_small = long(at + 8) == Some(1),
            Some(0x014a) => has_others = true,
            Some(_) => {}
            None => break,
        }
    }
    is_small && has_others
}

fn of_text(bytes: &[u8]) -> Format {
    if bytes.iter().all(|byte| *byte == 0) {
        return Format::Zeros;
    }
    let start = &bytes[..bytes.len().min(TEXT)];
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let start = start.to_ascii_lowercase();
    let has = |part: &[u8]| start.windows(part.len()).any(|window| window == part);
    if !start.starts_with(b"<") {
        return Format::Unknown;
    }
    // A page may hold a drawing, a drawing no page.
    if has(b"<html") || has(b"<!doctype html") || has(b"<head") || has(b"<body") {
        Format::Html
    } else if has(b"<svg") {
        Format::Svg
    } else {
        Format::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_content() {
        let cases: [(&[u8], Format); 25] = [
            (b"", Format::Empty),
            (b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", Format::Zeros),
            (b"hello", Format::Unknown),
            (b"\xff\xd8\xff\xe0", Format::Jpeg),
            (b"\x89PNG\r\n\x1a\n", Format::Png),
            (b"RIFF\x24\0\0\0WEBPVP8 ", Format::WebP),
            (b"RIFF\x24\0\0\0AVI LIST", Format::Video),
            (b"GIF89a", Format::Gif),
            (b"BM6\0", Format::Bmp),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", Format::Heic),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", Format::Heic),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", Format::Avif),
            // The brand behind the box is none of its brands.
            (b"\0\0\0\x10ftypisom\0\0\0\0avif", Format::Video),
            (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", Format::Raw),
            (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", Format::Video),
            (b"\xff\xff\xff\xffftypavif", Format::Avif),
            (b"\0\0\0\0ftypavif", Format::Video),
            (b"II*\0\x08\0\0\0", Format::Tiff),
            (b"II*\0\x10\0\0\0CR\x02\0", Format::Raw),
            (b"\xff\x0a\xfa\x7f", Format::JpegXl),
            (b"%PDF-1.7\n", Format::Pdf),
            (b"\xef\xbb\xbf<?xml version=\"1.0\"?>\n<svg>", Format::Svg),
            (b"\n<!DOCTYPE html><svg>", Format::Html),
            (b"version https://git-lfs.github.com/spec/v1\noid", Format::GitLfsPointer),
            (b"/annex/objects/SHA256E-s1--0.jpg\n", Format::GitAnnexPointer),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Format::of_bytes(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    /// A TIFF of one directory with these entries `(tag, value)`.
    fn tiff(entries: &[(u16, u32)]) -> Vec<u8> {
        let mut bytes = b"MM\0*\0\0\0\x08".to_vec();
        bytes.extend((entries.len() as u16).to_be_bytes());
        for (tag, value) in entries {
            bytes.extend(tag.to_be_bytes());
            bytes.extend([0, 4, 0, 0, 0, 1]);
            bytes.extend(value.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn raw_pictures_are_told_from_tiff() {
        assert_eq!(Format::of_bytes(&tiff(&[(0x00fe, 0), (0x0100, 8)])), Format::Tiff);
        assert_eq!(Format::of_bytes(&tiff(&[(0x00fe, 1), (0x014a, 8)])), Format::Raw);
        assert_eq!(Format::of_bytes(&tiff(&[(0x0100, 8), (0xc612, 1)])), Format::Raw);
        // A directory that lies behind the end, and one that says more than is there.
        assert_eq!(Format::of_bytes(b"II*\0\xff\xff\xff\xff"), Format::Tiff);
        assert_eq!(Format::of_bytes(b"II*\0\x08\0\0\0\xff\xff"), Format::Tiff);
    }

    #[test]
    fn endings_of_any_case_say_what_a_file_should_be() {
        assert_eq!(Format::of_ending("JFIF"), Some(Format::Jpeg));
        assert_eq!(Format::of_ending("HEIC"), Some(Format::Heic));
        assert_eq!(Format::of_ending("txt"), None);
        let endings: Vec<&str> = Format::readable_endings().collect();
        assert!(endings.contains(&"jfif") && endings.contains(&"webp"));
        assert!(!endings.contains(&"heic") && !endings.contains(&"mp4"));
    }
}
