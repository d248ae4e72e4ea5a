//! What a picture's first bytes say, without its pixels.

use std::io::Cursor;

use ::image::metadata::Orientation;
use ::image::{ImageDecoder, ImageReader};

use super::{ImageError, check_size, decode_error};

/// A picture's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// In pixels, as the picture is decoded: upright.
    pub width: u32,
    /// In pixels, as the picture is decoded: upright.
    pub height: u32,
    /// EXIF orientation, 1 to 8: from 5 on width and height are swapped in the file.
    pub orientation: u8,
}

impl Header {
    /// Reads the size without decoding pixels.
    ///
    /// # Errors
    ///
    /// As [`RgbImage::decode`](super::RgbImage::decode), as far as the header tells.
    pub fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        let reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .map_err(|error| ImageError::Damaged { reason: error.to_string() })?;
        let mut decoder = reader.into_decoder().map_err(decode_error)?;
        let (width, height) = decoder.dimensions();
        check_size(width, height)?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms).to_exif();
        let (width, height) = if orientation < 5 { (width, height) } else { (height, width) };
        Ok(Self { width, height, orientation })
    }

    /// Width and height in the file, before the orientation turns the picture.
    pub fn stored(&self) -> (u32, u32) {
        if self.orientation < 5 { (self.width, self.height) } else { (self.height, self.width) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::RgbImage;

    /// A JPEG with an EXIF orientation.
    fn turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
        let mut tiff = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        tiff.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
        let mut bytes = jpeg[..2].to_vec();
        bytes.extend([0xff, 0xe1]);
        bytes.extend(((tiff.len() + 2) as u16).to_be_bytes());
        bytes.extend(tiff);
        bytes.extend(&jpeg[2..]);
        bytes
    }

    #[test]
    fn the_size_is_the_decoded_pictures() {
        let picture = RgbImage::from_rgb(32, 16, vec![90; 32 * 16 * 3]).unwrap();
        let jpeg = picture.encode_jpeg(90).unwrap();
        let mut files = vec![(picture.encode_png().unwrap(), 1), (jpeg.clone(), 1)];
        files.extend((1..=8).map(|orientation| (turned(&jpeg, orientation), orientation)));
        for (bytes, orientation) in files {
            let header = Header::read(&bytes).unwrap();
            let decoded = RgbImage::decode(&bytes).unwrap();
            assert_eq!((header.width, header.height), (decoded.width(), decoded.height()));
            assert_eq!((header.stored(), header.orientation), ((32, 16), orientation));
        }
        assert_eq!(Header::read(b"hello"), Err(ImageError::UnknownFormat));
    }
}
