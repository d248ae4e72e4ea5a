//! Decoded pictures by position, kept in memory while they are small enough.

use std::path::Path;
use std::sync::Mutex;

pub use authoring::picture::{PictureError, decode_picture};
use models::image::{ImageError, RgbImage};

use super::cut_out::cut_out;
use crate::files::{self, IMAGE_LIMIT};

/// Bytes of decoded pictures that are kept.
const CACHE_BYTES: usize = 2 << 30;

/// Reads and decodes a file.
///
/// # Errors
///
/// [`PictureError`], naming the file.
pub fn read_picture(path: &Path) -> Result<RgbImage, PictureError> {
    read(path, RgbImage::decode)
}

/// Reads the bytes of a file that should be a picture.
///
/// # Errors
///
/// [`PictureError`], naming the file.
pub fn read_file(path: &Path) -> Result<Vec<u8>, PictureError> {
    let bytes = files::read(path, IMAGE_LIMIT);
    bytes.map_err(|error| PictureError::unread(path, error.wanted(files::wanted::IMAGE)))
}

fn read<T>(path: &Path, decode: fn(&[u8]) -> Result<T, ImageError>) -> Result<T, PictureError> {
    let bytes = read_file(path)?;
    decode(&bytes).map_err(|error| PictureError::new(path, error))
}

/// A decoded picture with transparency.
#[derive(Debug, Clone)]
pub struct RgbaImage {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Interleaved red, green, blue, alpha.
    pub data: Vec<u8>,
}

impl RgbaImage {
    /// Whether any pixel lets the background through.
    pub fn is_transparent(&self) -> bool {
        self.data.iter().skip(3).step_by(4).any(|alpha| *alpha < 255)
    }

    /// A picture that nothing shines through.
    pub fn opaque(image: &RgbImage) -> Self {
        let data = image.data().chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
        Self { width: image.width(), height: image.height(), data }
    }

    /// The picture as it looks on white.
    pub fn on_white(&self) -> RgbImage {
        RgbImage::from_rgba(self.width, self.height, &self.data).expect("the buffer has this size")
    }

    /// Half the size, every pixel the mean of four; a last odd row or column is left out.
    fn halved(&self) -> Self {
        let (width, height) = (self.width / 2, self.height / 2);
        let mut data = Vec::with_capacity((width * height * 4) as usize);
        for y in 0..height {
            for x in 0..width {
                let pixels = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| {
                    let at = ((2 * y + dy) * self.width + 2 * x + dx) as usize * 4;
                    [0, 1, 2, 3].map(|channel| u32::from(self.data[at + channel]))
                });
                // A color counts as much as it is opaque.
                let alpha: u32 = pixels.iter().map(|p| p[3]).sum();
                for channel in 0..3 {
                    let sum: u32 = pixels.iter().map(|p| p[channel] * p[3]).sum();
                    data.push(((sum + alpha / 2).checked_div(alpha).unwrap_or(0)) as u8);
                }
                data.push(((alpha + 2) / 4) as u8);
            }
        }
        Self { width, height, data }
    }
}

/// Decodes on first use, from any thread.
pub struct PictureStore {
    paths: Vec<std::path::PathBuf>,
    needed: u32,
    cuts_out: bool,
    cache: Mutex<Cache>,
}

struct Cache {
    pictures: Vec<Option<std::sync::Arc<RgbaImage>>>,
    bytes: usize,
}

impl Cache {
    /// Keeps a picture while there is room. Two threads may have decoded it at once: it counts once.
    fn keep(&mut self, index: usize, picture: &std::sync::Arc<RgbaImage>) {
        if self.pictures[index].is_none() && self.bytes + picture.data.len() <= CACHE_BYTES {
            self.bytes += picture.data.len();
            self.pictures[index] = Some(picture.clone());
        }
    }
}

impl PictureStore {
    /// A store over these files; nothing is read yet.
    ///
    /// Pictures are halved as long as both sides keep `needed` pixels, so that later changes have
    /// little to average.
    pub fn new(paths: Vec<std::path::PathBuf>, needed: u32) -> Self {
        let pictures = vec![None; paths.len()];
        let cache = Mutex::new(Cache { pictures, bytes: 0 });
        Self { paths, needed: needed.max(1), cuts_out: false, cache }
    }

    /// The same, with the thing cut out of each picture that has no transparency, but a plain background.
    #[must_use]
    pub fn cutting_out(mut self) -> Self {
        self.cuts_out = true;
        self
    }

    /// The picture at a position.
    ///
    /// # Errors
    ///
    /// [`PictureError`], naming the file.
    pub fn get(&self, index: usize) -> Result<std::sync::Arc<RgbaImage>, PictureError> {
        if let Some(picture) = &self.lock().pictures[index] {
            return Ok(picture.clone());
        }
        let (width, height, data) = read(&self.paths[index], RgbImage::decode_rgba)?;
        let mut picture = RgbaImage { width, height, data };
        while picture.width.min(picture.height) / 2 >= self.needed {
            picture = picture.halved();
        }
        if self.cuts_out && !picture.is_transparent() {
            picture = cut_out(&picture).unwrap_or(picture);
        }
        let picture = std::sync::Arc::new(picture);
        self.lock().keep(index, &picture);
        Ok(picture)
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_that_two_threads_decoded_counts_once() {
        let image = RgbaImage { width: 1, height: 2, data: vec![7; 8] };
        let picture = std::sync::Arc::new(image);
        let mut cache = Cache { pictures: vec![None; 2], bytes: 0 };
        for (index, bytes) in [(0, 8), (0, 8), (1, 16), (0, 16)] {
            cache.keep(index, &picture);
            assert_eq!(cache.bytes, bytes);
        }
        cache = Cache { pictures: vec![None], bytes: CACHE_BYTES };
        cache.keep(0, &picture);
        assert!(cache.pictures[0].is_none(), "no room");
    }

    #[test]
    fn halving_averages_colors_by_their_opacity() {
        let picture = RgbaImage {
            width: 3,
            height: 2,
            data: [
                [200, 0, 0, 255],
                [9, 9, 9, 0],
                [1, 1, 1, 1],
                [100, 0, 0, 255],
                [9, 9, 9, 0],
                [1, 1, 1, 1],
            ]
            .concat(),
        };
        let half = picture.halved();
        assert_eq!((half.width, half.height), (1, 1));
        assert_eq!(half.data, [150, 0, 0, 128]);
    }
}
