//! The COCO files that a recipe names.

use std::path::{Path, PathBuf};

use crate::data::coco::{self, BoxedPicture, Finding};
use crate::data::list_file::DataError;
use crate::progress::Progress;

/// The pictures of a COCO file that a recipe names by `key`, none where it names none.
pub(super) fn read_boxes(
    key: &str,
    path: Option<&Path>,
    images: Option<&Path>,
    notes: &mut Vec<(PathBuf, Finding)>,
) -> anyhow::Result<Vec<BoxedPicture>> {
    let Some(path) = path else {
        if images.is_some() {
            let text = format!("[detector] has `{key}_images` without `{key}`");
            return Err(DataError::Unsuitable(text).into());
        }
        return Ok(Vec::new());
    };
    let progress = Progress::new("pictures", 0);
    let seen = |total| progress.advance_of(total);
    let read = coco::read(path, images, &seen)?;
    for note in read.notes.into_iter().map(|note| (path.to_owned(), note)) {
        // One file may serve for both.
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    Ok(read.pictures)
}
