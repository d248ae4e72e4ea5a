//! Decoded images: decoding within limits, color profiles, orientation, cropping, drawing boxes, resizing, JPEG.
//!
//! The trainer, the gallery builder and the browser all decode and resize with this module, so a
//! picture gives the same numbers everywhere.

mod container;
mod exif;
mod format;
pub mod geometry;
mod header;
mod jpeg;
mod profile;
mod resize;

use std::io::Cursor;

use ::image::codecs::bmp::BmpDecoder;
use ::image::codecs::gif::GifDecoder;
use ::image::codecs::png::PngDecoder;
use ::image::codecs::webp::WebPDecoder;
use ::image::{DynamicImage, ImageDecoder, ImageEncoder, Limits};
use thiserror::Error;

use geometry::BBox;

pub use format::Format;
pub use header::Header;
pub use resize::{ResizeFilter, resize};
pub(crate) use resize::{for_rows, reduced};

/// Most pixels of a picture that is decoded: enough for any camera sold, and little enough (192 MB
/// of RGB) for a phone's browser.
pub const MAX_PIXELS: u64 = 64_000_000;

/// Most bytes of what surrounds the pixels of a PNG: profiles, texts, parts of programs.
const PNG_PARTS: u64 = 64 << 20;

/// Most bytes of a frame that is larger than its picture.
const FRAME: u64 = MAX_PIXELS * 4;

/// Transparent pixels are shown on this color, as a page without a background would.
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
    #[error("damaged or unreadable picture: {reason}; copy or download the file again")]
    Damaged {
        /// What the decoder found.
        reason: String,
    },
    /// A part of the file is missing.
    #[error("incomplete picture: {reason}; copy or download the file again")]
    Incomplete {
        /// What is missing.
        reason: String,
    },
    /// A variant of JPEG that hardly any program writes.
    #[error("a JPEG of a kind that is not read: {reason}; save it again as a usual one")]
    Unusual {
        /// What is unusual.
        reason: &'static str,
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

/// Difference of values up to which pixels have one color: what a JPEG leaves of it.
const ONE_COLOR: u8 = 2;

/// An RGB picture, 8 bits a channel, rows from the top.
///
/// ```
/// use models::RgbImage;
/// use models::image::geometry::BBox;
/// use models::image::{ResizeFilter, resize};
///
/// let image = RgbImage::from_rgb(4, 2, (0..24).collect())?;
/// let decoded = RgbImage::decode(&image.encode_png()?)?;
/// assert_eq!(decoded, image);
///
/// let right = image.crop(&BBox::new(2.0, 0.0, 4.0, 2.0));
/// assert_eq!((right.width(), right.height(), right.data()[0]), (2, 2, 6));
/// let small = resize(&image, 2, 1, ResizeFilter::Antialiased);
/// assert_eq!((small.width(), small.height()), (2, 1));
/// # Ok::<(), models::image::ImageError>(())
/// ```
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

    /// Decodes JPEG, PNG, WebP, GIF or BMP that is whole, in sRGB, turned upright by its EXIF orientation; of
    /// an animation the first frame.
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

    /// Whether all pixels have one color, but for what compression leaves: nothing is to be seen in it.
    pub fn is_one_color(&self) -> bool {
        let mut ends = [[u8::MAX, u8::MIN]; 3];
        // Of a picture that shows something the first lines tell.
        let lines = self.data.chunks_exact(self.width as usize * 3);
        lines.map(<[u8]>::as_chunks).all(|(pixels, _)| {
            for pixel in pixels {
                for ([low, high], value) in ends.iter_mut().zip::<&[u8; 3]>(pixel) {
                    (*low, *high) = ((*low).min(*value), (*high).max(*value));
                }
            }
            ends.iter().all(|[low, high]| high.saturating_sub(*low) <= ONE_COLOR)
        })
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
        let mut bytes = Vec::new();
        ::image::codecs::png::PngEncoder::new(&mut bytes)
            .write_image(&self.data, self.width, self.height, ::image::ExtendedColorType::Rgb8)
            .map_err(decode_error)?;
        Ok(bytes)
    }
}

/// What a decoder has found.
struct Decoded {
    picture: DynamicImage,
    exif: Option<Vec<u8>>,
    profile: Option<Vec<u8>>,
}

/// Decodes within the limits, takes colors to sRGB and turns upright.
fn decode(bytes: &[u8]) -> Result<DynamicImage, ImageError> {
    let decoded = match Format::of_bytes(bytes) {
        Format::Jpeg => jpeg::decode(bytes)?,
        format => pixels(format, bytes)?,
    };
    let mut picture = decoded.picture;
    if let Some(profile) = decoded.profile {
        picture = profile::to_srgb(picture, &profile);
    }
    if let Some(orientation) = decoded.exif.as_deref().and_then(exif::orientation) {
        picture.apply_orientation(orientation);
    }
    Ok(picture)
}

/// The picture in a file of the `image` crate's formats.
fn pixels(format: Format, bytes: &[u8]) -> Result<Decoded, ImageError> {
    if format == Format::WebP {
        container::check_webp(bytes)?;
    }
    let mut decoder = limited(format, bytes)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    decoder.set_limits(limits(FRAME)).map_err(decode_error)?;
    let exif = exif_of(format, bytes, &mut *decoder);
    let profile = decoder.icc_profile().unwrap_or_default();
    let picture = DynamicImage::from_decoder(decoder).map_err(decode_error)?;
    Ok(Decoded { picture, exif, profile })
}

/// A decoder of the `image` crate that has read the header; it is not asked for a JPEG.
fn limited(format: Format, bytes: &[u8]) -> Result<Box<dyn ImageDecoder + '_>, ImageError> {
    let file = Cursor::new(bytes);
    Ok(match format {
        Format::Png => {
            container::check_png(bytes)?;
            let decoder = PngDecoder::with_limits(file, limits(PNG_PARTS));
            Box::new(decoder.map_err(decode_error)?)
        }
        Format::WebP => Box::new(WebPDecoder::new(file).map_err(decode_error)?),
        Format::Gif => Box::new(GifDecoder::new(file).map_err(decode_error)?),
        Format::Bmp => Box::new(BmpDecoder::new(file).map_err(decode_error)?),
        Format::Unknown => return Err(ImageError::UnknownFormat),
        format => return Err(ImageError::Unsupported { format }),
    })
}

/// The EXIF part of a file, wherever its format has it.
fn exif_of(format: Format, bytes: &[u8], decoder: &mut dyn ImageDecoder) -> Option<Vec<u8>> {
    match format {
        Format::Png => container::png_exif(bytes).map(<[u8]>::to_vec),
        _ => decoder.exif_metadata().unwrap_or_default(),
    }
}

fn limits(bytes: u64) -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(bytes);
    limits
}

fn check_size(width: u32, height: u32) -> Result<(), ImageError> {
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(ImageError::TooLarge { width, height });
    }
    Ok(())
}

fn flatten_alpha(rgba: &[u8]) -> Vec<u8> {
    let mut rgb = vec![0; rgba.len() / 4 * 3];
    for (pixel, flat) in rgba.chunks_exact(4).zip(rgb.chunks_exact_mut(3)) {
        // Most pictures have nothing else.
        if pixel[3] == 255 {
            flat.copy_from_slice(&pixel[..3]);
            continue;
        }
        let alpha = u32::from(pixel[3]);
        for (channel, flat) in pixel[..3].iter().zip(flat) {
            let mixed = u32::from(*channel) * alpha + u32::from(BACKGROUND) * (255 - alpha);
            *flat = ((mixed + 127) / 255) as u8;
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
mod tests;
