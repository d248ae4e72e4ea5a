//! A COCO file that is to be written.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::read::Draft;
use super::{CocoError, Finding};

/// A COCO file and what was left out of it or changed.
#[derive(Debug, Clone)]
pub struct Written {
    /// The file.
    pub bytes: Vec<u8>,
    /// Where, and what.
    pub notes: Vec<(PathBuf, Finding)>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct File {
    pub(super) images: Vec<Image>,
    pub(super) annotations: Vec<Annotation>,
    pub(super) categories: Vec<Category>,
}

#[derive(Debug, Serialize)]
pub(super) struct Image {
    pub(super) id: usize,
    pub(super) file_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) height: Option<u32>,
}

#[derive(Debug, Serialize)]
pub(super) struct Annotation {
    pub(super) id: usize,
    pub(super) image_id: usize,
    pub(super) category_id: usize,
    /// Left, top, width, height.
    pub(super) bbox: [f32; 4],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) area: Option<f32>,
    pub(super) iscrowd: u8,
}

#[derive(Debug, Serialize)]
pub(super) struct Category {
    pub(super) id: usize,
    pub(super) name: String,
}

impl File {
    /// The file's bytes, read again as training would read them from `out`.
    pub(super) fn into_draft(self, out: &Path) -> Result<(Vec<u8>, Draft), CocoError> {
        let bytes = serde_json::to_vec(&self)
            .map_err(|error| CocoError::Form { path: out.to_owned(), reason: error.to_string() })?;
        let draft = Draft::of_text(out, bytes.clone(), None)?;
        Ok((bytes, draft))
    }
}

/// The whole path of a file.
pub(super) fn whole(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A picture's name in a file that is written to `folder`: from there where it lies below, else its whole path.
pub(super) fn name(picture: &Path, folder: &Path) -> Result<String, CocoError> {
    let name = picture.strip_prefix(folder).unwrap_or(picture);
    let text = name.to_str().ok_or_else(|| CocoError::Name { path: picture.to_owned() })?;
    Ok(text.to_owned())
}
