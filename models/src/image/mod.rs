//! Decoded pictures: decoding with limits, orientation, cropping, resizing.
//!
//! The trainer, the gallery builder and the browser all decode and resize with this module, so a
//! picture gives the same numbers everywhere.

mod format;
mod header;

use std::io::Cursor;

use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use thiserror::Error;

use crate::geometry::BBox;

pub use format::Format;
pub use header::Header;

/// Most pixels of a picture that is decoded: enough for any camera sold, and little enough (192 MB
/// of RGB) for a phone's browser.
pub const MAX_PIXELS: u64 = 64_000_000;

/// Transparent pixels are shown on this colour, as a page without a background would.
const BACKGROUND: u8 = 255;

/// Why a picture could not be used.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageError {
    /// The bytes are of no format that can be read here.
    #[error("not a picture of a known format; use JPEG, PNG, WebP, GIF or BMP")]
    UnknownFormat,
    /// The bytes are of a format that is known, but not read.
    #[error("{}", format.refusal())]
    Unsupported {
        /// What the file is.
        format: Format,
    },
    /// The file is damaged or uses a variant of its format that cannot be read.
    #[error("damaged or unreadable picture: {reason}")]
    Damaged {
        /// What the decoder found.
        reason: String,
    },
    /// More pixels than [`MAX_PIXELS`].
    #[error(
        "{width}×{height} pixels are too many (at most {} million); make the picture smaller",
        MAX_PIXELS / 1_000_000
    )]
    TooLarge {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// No pixels, or a pixel count that does not fit the size.
    #[error("{length} bytes do not make {width}×{height} pixels")]
    WrongLength {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Bytes given.
        length: usize,
    },
}

/// An RGB picture, 8 bits a channel, rows from the top.
#[derive(Clone, PartialEq, Eq)]
pub struct RgbImage {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

impl std::fmt::Debug for RgbImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RgbImage({}×{})", self.width, self.height)
    }
}

impl RgbImage {
    /// A picture from interleaved RGB bytes.
    ///
    /// # Errors
    ///
    /// [`ImageError::WrongLength`] unless `data` holds `3 · width · height > 0` bytes.
    pub fn from_rgb(width: u32, height: u32, data: Vec<u8>) -> Result<Self, ImageError> {
        check_size(width, height)?;
        if data.is_empty() || data.len() as u64 != u64::from(width) * u64::from(height) * 3 {
            return Err(ImageError::WrongLength { width, height, length: data.len() });
        }
        Ok(Self { width, height, data })
    }

    /// A picture from interleaved RGBA bytes (a canvas, a camera frame), on a white background.
    ///
    /// # Errors
    ///
    /// [`ImageError::WrongLength`] unless `data` holds `4 · width · height > 0` bytes.
    pub fn from_rgba(width: u32, height: u32, data: &[u8]) -> Result<Self, ImageError> {
        check_size(width, height)?;
        if data.is_empty() || data.len() as u64 != u64::from(width) * u64::from(height) * 4 {
            return Err(ImageError::WrongLength { width, height, length: data.len() });
        }
        Ok(Self { width, height, data: flatten_alpha(data) })
    }

    /// Decodes JPEG, PNG, WebP, GIF or BMP, turned upright by its EXIF orientation; of an animation
    /// the first frame.
    ///
    /// # Errors
    ///
    /// [`ImageError`]: the caller shows the message beside the picture's name.
    pub fn decode(bytes: &[u8]) -> Result<Self, ImageError> {
        let picture = decode(bytes)?;
        if picture.color().has_alpha() {
            let rgba = picture.into_rgba8();
            return Self::from_rgba(rgba.width(), rgba.height(), rgba.as_raw());
        }
        let rgb = picture.into_rgb8();
        Self::from_rgb(rgb.width(), rgb.height(), rgb.into_raw())
    }

    /// [`Self::decode`] without putting the picture on a background: `(width, height, RGBA bytes)`.
    ///
    /// # Errors
    ///
    /// As [`Self::decode`].
    pub fn decode_rgba(bytes: &[u8]) -> Result<(u32, u32, Vec<u8>), ImageError> {
        let rgba = decode(bytes)?.into_rgba8();
        Ok((rgba.width(), rgba.height(), rgba.into_raw()))
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Interleaved RGB bytes.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Interleaved RGB bytes, to be changed in place.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// The part inside `bbox`, whose edges are truncated to whole pixels as the reference does; at
    /// least one pixel, also for a box outside the picture.
    #[must_use]
    pub fn crop(&self, bbox: &BBox) -> Self {
        let bbox = bbox.clip(self.width, self.height);
        let x1 = (bbox.x1 as u32).min(self.width - 1);
        let y1 = (bbox.y1 as u32).min(self.height - 1);
        let x2 = (bbox.x2 as u32).clamp(x1 + 1, self.width);
        let y2 = (bbox.y2 as u32).clamp(y1 + 1, self.height);
        let (width, height) = (x2 - x1, y2 - y1);
        let mut data = Vec::with_capacity((width * height * 3) as usize);
        for y in y1..y2 {
            let start = ((y * self.width + x1) * 3) as usize;
            data.extend_from_slice(&self.data[start..start + (width * 3) as usize]);
        }
        Self { width, height, data }
    }

    /// Encodes the picture as a baseline JPEG of the given quality, 1 to 100.
    ///
    /// # Errors
    ///
    /// [`ImageError::Damaged`] where the encoder refuses the size.
    pub fn encode_jpeg(&self, quality: u8) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        ::image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality)
            .encode(&self.data, self.width, self.height, ::image::ExtendedColorType::Rgb8)
            .map_err(decode_error)?;
        Ok(bytes)
    }

    /// Encodes the picture as PNG.
    ///
    /// # Errors
    ///
    /// [`ImageError::Damaged`] where the encoder refuses the size.
    pub fn encode_png(&self) -> Result<Vec<u8>, ImageError> {
        use ::image::ImageEncoder;
        let mut bytes = Vec::new();
        ::image::codecs::png::PngEncoder::new(&mut bytes)
            .write_image(&self.data, self.width, self.height, ::image::ExtendedColorType::Rgb8)
            .map_err(decode_error)?;
        Ok(bytes)
    }
}

/// Decodes within the limits and turns upright.
fn decode(bytes: &[u8]) -> Result<DynamicImage, ImageError> {
    match Format::of_bytes(bytes) {
        Format::Unknown => return Err(ImageError::UnknownFormat),
        format if !format.is_readable() => return Err(ImageError::Unsupported { format }),
        _ => {}
    }
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| ImageError::Damaged { reason: error.to_string() })?;
    let mut decoder = reader.into_decoder().map_err(decode_error)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_PIXELS * 16);
    decoder.set_limits(limits).map_err(decode_error)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(decode_error)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

fn check_size(width: u32, height: u32) -> Result<(), ImageError> {
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(ImageError::TooLarge { width, height });
    }
    Ok(())
}

fn flatten_alpha(rgba: &[u8]) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(rgba.len() / 4 * 3);
    for pixel in rgba.chunks_exact(4) {
        let alpha = u32::from(pixel[3]);
        for channel in &pixel[..3] {
            let mixed = u32::from(*channel) * alpha + u32::from(BACKGROUND) * (255 - alpha);
            rgb.push(((mixed + 127) / 255) as u8);
        }
    }
    rgb
}

fn decode_error(error: ::image::ImageError) -> ImageError {
    use ::image::ImageError as E;
    match error {
        E::Unsupported(inner)
            if matches!(inner.kind(), ::image::error::UnsupportedErrorKind::Format(_)) =>
        {
            ImageError::UnknownFormat
        }
        other => ImageError::Damaged { reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkerboard(width: u32, height: u32) -> RgbImage {
        let data = (0..width * height)
            .flat_map(|i| {
                let on = (i % width + i / width).is_multiple_of(2);
                [if on { 255 } else { 0 }, (i % 251) as u8, 7]
            })
            .collect();
        RgbImage::from_rgb(width, height, data).unwrap()
    }

    #[test]
    fn png_round_trip_is_exact() {
        let picture = checkerboard(13, 9);
        assert_eq!(RgbImage::decode(&picture.encode_png().unwrap()).unwrap(), picture);
    }

    #[test]
    fn rejects_bytes_that_are_no_picture() {
        assert_eq!(RgbImage::decode(b"hello"), Err(ImageError::UnknownFormat));
        assert_eq!(
            RgbImage::decode(b"").unwrap_err().to_string(),
            "this is an empty file; copy or download it again"
        );
    }

    #[test]
    fn every_truncation_of_a_png_and_a_jpeg_gives_an_error_or_a_picture() {
        let picture = checkerboard(16, 16);
        for bytes in [picture.encode_png().unwrap(), picture.encode_jpeg(80).unwrap()] {
            for length in 0..bytes.len() {
                let _ = RgbImage::decode(&bytes[..length]);
            }
            assert!(RgbImage::decode(&bytes[..bytes.len() / 4]).is_err());
        }
    }

    #[test]
    fn rejects_more_pixels_than_the_cap_before_decoding_them() {
        // A PNG header that promises 20,000 × 20,000 pixels.
        let mut bytes = checkerboard(2, 2).encode_png().unwrap();
        bytes[16..20].copy_from_slice(&20_000_u32.to_be_bytes());
        bytes[20..24].copy_from_slice(&20_000_u32.to_be_bytes());
        let crc = crc32fast::hash(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(
            RgbImage::decode(&bytes),
            Err(ImageError::TooLarge { width: 20_000, height: 20_000 })
        );
    }

    #[test]
    fn printing_colours_become_red_green_blue() {
        // Cyan on the left; a dark yellow on the right: (0, 0, 200, 50) of 255.
        let picture = RgbImage::decode(include_bytes!("../../tests/pictures/cmyk.jpg")).unwrap();
        assert_eq!((picture.width(), picture.height()), (16, 8));
        let pixel = |x: usize| &picture.data()[(16 * 4 + x) * 3..][..3];
        // The sides lie in different blocks; JPEG moves flat colours by a few steps only.
        for (got, expected) in [(pixel(2), [0, 255, 255]), (pixel(13), [205, 205, 44])] {
            let near = got.iter().zip(expected).all(|(g, e)| g.abs_diff(e) <= 6);
            assert!(near, "{got:?} is not {expected:?}");
        }
    }

    #[test]
    fn transparent_pixels_become_the_background() {
        let picture = RgbImage::from_rgba(2, 1, &[10, 20, 30, 0, 10, 20, 30, 255]).unwrap();
        assert_eq!(picture.data(), &[255, 255, 255, 10, 20, 30]);
    }

    #[test]
    fn crops_are_clipped_and_never_empty() {
        let picture = checkerboard(10, 8);
        for bbox in [
            BBox::new(-5.0, -5.0, 3.0, 3.0),
            BBox::new(9.9, 7.9, 50.0, 50.0),
            BBox::new(100.0, 100.0, 120.0, 120.0),
            BBox::new(4.0, 4.0, 4.0, 4.0),
            BBox::new(f32::NAN, 0.0, 1.0, f32::NAN),
        ] {
            let crop = picture.crop(&bbox);
            assert!(crop.width() >= 1 && crop.height() >= 1, "{bbox:?}");
        }
        let crop = picture.crop(&BBox::new(2.7, 1.2, 6.9, 5.0));
        assert_eq!((crop.width(), crop.height()), (4, 4));
        assert_eq!(&crop.data()[..3], &picture.data()[(10 + 2) * 3..(10 + 2) * 3 + 3]);
    }

    #[test]
    fn rejects_a_length_that_does_not_fit() {
        assert!(RgbImage::from_rgb(2, 2, vec![0; 11]).is_err());
        assert!(RgbImage::from_rgb(0, 0, Vec::new()).is_err());
        assert!(RgbImage::from_rgba(1, 1, &[0; 3]).is_err());
    }
}
