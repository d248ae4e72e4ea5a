//! Pictures as the package hands them over: a path, the bytes of a file, or pixels.

use std::path::{Path, PathBuf};

use models::image::RgbImage;
use native_trainer::library::{decode_picture, read_file};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

/// A picture with its name for messages.
pub(crate) struct Picture {
    name: PathBuf,
    content: Content,
}

enum Content {
    Path,
    File(Vec<u8>),
    Pixels { width: u32, height: u32, channels: usize, values: Vec<u8> },
}

impl Picture {
    /// Reads `("path", path)`, `("file", name, bytes)` or `("pixels", name, width, height, channels, bytes)`.
    ///
    /// # Errors
    ///
    /// Another tuple.
    pub(crate) fn of(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        let kind: String = given.get_item(0)?.extract()?;
        let name: PathBuf = given.get_item(1)?.extract()?;
        let content = match kind.as_str() {
            "path" => Content::Path,
            "file" => Content::File(given.get_item(2)?.extract()?),
            "pixels" => Content::Pixels {
                width: given.get_item(2)?.extract()?,
                height: given.get_item(3)?.extract()?,
                channels: given.get_item(4)?.extract()?,
                values: given.get_item(5)?.extract()?,
            },
            other => return Err(PyTypeError::new_err(format!("{other}: no kind of picture"))),
        };
        Ok(Self { name, content })
    }

    /// The same of several.
    ///
    /// # Errors
    ///
    /// As [`Self::of`].
    pub(crate) fn all(given: &[Bound<'_, PyAny>]) -> PyResult<Vec<Self>> {
        given.iter().map(Self::of).collect()
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }

    /// Its pixels, as every command decodes them.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or decoded.
    pub(crate) fn decode(&self) -> anyhow::Result<RgbImage> {
        match &self.content {
            Content::Path => Ok(decode_picture(&self.name, &read_file(&self.name)?)?),
            Content::File(bytes) => Ok(decode_picture(&self.name, bytes)?),
            Content::Pixels { width, height, channels, values } => {
                let image = match channels {
                    1 => {
                        let values = values.iter().flat_map(|value| [*value; 3]).collect();
                        RgbImage::from_rgb(*width, *height, values)
                    }
                    4 => RgbImage::from_rgba(*width, *height, values),
                    _ => RgbImage::from_rgb(*width, *height, values.clone()),
                };
                let named = |error| anyhow::anyhow!("{}: {error}", self.name.display());
                image.map_err(named)
            }
        }
    }

    /// Its file; of pixels one that holds them unchanged.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub(crate) fn into_file(self) -> anyhow::Result<(PathBuf, Vec<u8>)> {
        let bytes = match self.content {
            Content::Path => read_file(&self.name)?,
            Content::File(bytes) => bytes,
            Content::Pixels { .. } => self.decode()?.encode_png()?,
        };
        Ok((self.name, bytes))
    }
}
