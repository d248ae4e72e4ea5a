//! What a picture's first bytes say, without its pixels.

use ::image::metadata::Orientation;

use super::{Format, ImageError, check_size, exif, exif_of, jpeg, limited};

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
    /// Reads the size without decoding pixels, in the same way as it is decoded.
    ///
    /// # Errors
    ///
    /// As [`RgbImage::decode`](super::RgbImage::decode), as far as the header tells.
    pub fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        let (width, height, exif) = match Format::of_bytes(bytes) {
            Format::Jpeg => jpeg::header(bytes)?,
            format => {
                let mut decoder = limited(format, bytes)?;
                let (width, height) = decoder.dimensions();
                (width, height, exif_of(format, bytes, &mut *decoder))
            }
        };
        check_size(width, height)?;
        let orientation = exif.as_deref().and_then(exif::orientation);
        let orientation = orientation.unwrap_or(Orientation::NoTransforms).to_exif();
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

    #[test]
    fn a_size_that_no_picture_may_have_is_told_by_its_numbers() {
        let mut png = RgbImage::from_rgb(1, 1, vec![7; 3]).unwrap().encode_png().unwrap();
        png[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        let sum = crc32fast::hash(&png[12..29]);
        png[29..33].copy_from_slice(&sum.to_be_bytes());
        let error = ImageError::TooLarge { width: 0x7fff_ffff, height: 0x7fff_ffff };
        assert_eq!(Header::read(&png), Err(error.clone()));
        assert_eq!(RgbImage::decode(&png), Err(error));
    }

    fn exif(orientation: u8) -> Vec<u8> {
        let mut tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        tiff.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
        tiff
    }

    fn turned_jpeg(jpeg: &[u8], orientation: u8) -> Vec<u8> {
        let part = [b"Exif\0\0".to_vec(), exif(orientation)].concat();
        let length = ((part.len() + 2) as u16).to_be_bytes();
        [&jpeg[..2], &[0xff, 0xe1], &length, &part, &jpeg[2..]].concat()
    }

    fn turned_png(png: &[u8], orientation: u8) -> Vec<u8> {
        let part = [b"eXIf".to_vec(), exif(orientation)].concat();
        let length = ((part.len() - 4) as u32).to_be_bytes();
        let sum = crc32fast::hash(&part).to_be_bytes();
        // Behind the signature and the header.
        [&png[..33], &length, &part, &sum, &png[33..]].concat()
    }

    #[test]
    fn the_size_is_the_decoded_pictures() {
        let picture = RgbImage::from_rgb(32, 16, vec![90; 32 * 16 * 3]).unwrap();
        let (jpeg, png) = (picture.encode_jpeg(90).unwrap(), picture.encode_png().unwrap());
        for orientation in 1..=8 {
            let header = Header::read(&turned_jpeg(&jpeg, orientation)).unwrap();
            assert_eq!((header.stored(), header.orientation), ((32, 16), orientation));
            for bytes in [turned_jpeg(&jpeg, orientation), turned_png(&png, orientation)] {
                let header = Header::read(&bytes).unwrap();
                let decoded = RgbImage::decode(&bytes).unwrap();
                assert_eq!((header.width, header.height), (decoded.width(), decoded.height()));
                assert_eq!(header.stored(), (32, 16));
            }
        }
        assert_eq!(Header::read(b"hello"), Err(ImageError::UnknownFormat));
    }

    #[test]
    fn every_jpeg_that_is_decoded_has_its_header() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pictures/jpeg");
        let mut decoded = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let Ok(picture) = RgbImage::decode(&bytes) else { continue };
            let header = Header::read(&bytes).unwrap();
            let size = (picture.width(), picture.height());
            assert_eq!((header.width, header.height), size, "{}", path.display());
            decoded += 1;
        }
        assert!(decoded > 15, "{decoded}");
    }
}
