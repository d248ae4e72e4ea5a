//! Decoded pictures by position, kept in memory while they are small enough.

use std::path::Path;
use std::sync::Mutex;

use models::image::{ImageError, RgbImage};
use thiserror::Error;

/// Bytes of decoded pictures that are kept.
const CACHE_BYTES: usize = 2 << 30;

/// A picture that cannot be used, by name.
#[derive(Debug, Error)]
#[error("{path}: {source}")]
pub struct PictureError {
    /// The file.
    pub path: String,
    /// Why.
    pub source: PictureProblem,
}

/// Why a picture cannot be used.
#[derive(Debug, Error)]
pub enum PictureProblem {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// The bytes cannot be decoded.
    #[error(transparent)]
    Decode(#[from] ImageError),
}

/// Reads and decodes a file.
///
/// # Errors
///
/// [`PictureError`], naming the file.
pub fn read_picture(path: &Path) -> Result<RgbImage, PictureError> {
    read(path, RgbImage::decode)
}

fn read<T>(path: &Path, decode: fn(&[u8]) -> Result<T, ImageError>) -> Result<T, PictureError> {
    let named = |source| PictureError { path: path.display().to_string(), source };
    let bytes = std::fs::read(path).map_err(|error| named(error.into()))?;
    decode(&bytes).map_err(|error| named(error.into()))
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
}

/// Decodes on first use, from any thread.
pub struct PictureStore {
    paths: Vec<std::path::PathBuf>,
    cache: Mutex<Cache>,
}

struct Cache {
    pictures: Vec<Option<std::sync::Arc<RgbaImage>>>,
    bytes: usize,
}

impl PictureStore {
    /// A store over these files; nothing is read yet.
    pub fn new(paths: Vec<std::path::PathBuf>) -> Self {
        let pictures = vec![None; paths.len()];
        Self { paths, cache: Mutex::new(Cache { pictures, bytes: 0 }) }
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
        let picture = std::sync::Arc::new(RgbaImage { width, height, data });
        let mut cache = self.lock();
        if cache.bytes + picture.data.len() <= CACHE_BYTES {
            cache.bytes += picture.data.len();
            cache.pictures[index] = Some(picture.clone());
        }
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
