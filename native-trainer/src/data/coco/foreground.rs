//! Several COCO files as one with a single category.

use std::path::{Path, PathBuf};

use super::CocoError;
use super::read::Draft;
use super::record::{Crowd, Frame};
use super::written::{Annotation, Category, File, Image, Written, name, whole};
use crate::files::folder_of;
use crate::random::seeded;

/// A COCO file as a part of a mixture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The file.
    pub annotations: PathBuf,
    /// Folder of its pictures; by default as [`super::read()`] finds it.
    pub images: Option<PathBuf>,
    /// Pictures drawn from it; absent: all.
    pub take: Option<usize>,
}

/// Mixes COCO files into one that knows a single category, `foreground`: every box that can be learned stays as it
/// is, and crowds stay crowds.
///
/// Pictures and boxes are numbered anew from 1. A picture below the folder of `out` is named from there, any other
/// by its whole path. A part whose `annotations` are empty is background. `seen` is told the number of a part's
/// pictures after each.
///
/// # Errors
///
/// [`CocoError`] of the first file that cannot be read or would teach something false, or of the mixture.
pub fn foreground(
    parts: &[Part],
    out: &Path,
    seed: u64,
    seen: &(impl Fn(usize) + Sync),
) -> Result<Written, CocoError> {
    let folder = whole(folder_of(out));
    let mut mixed = File {
        categories: vec![Category { id: 1, name: "foreground".to_owned() }],
        ..File::default()
    };
    let mut notes = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let mut draft = Draft::of_file(&part.annotations, part.images.as_deref())?;
        let random = &mut seeded(&[seed, index as u64]);
        let pictures = draft.entries.len();
        let take = part.take.filter(|take| *take < pictures);
        let draw = |take| rand::seq::index::sample(random, pictures, take).into_vec();
        draft.mix(take.map(draw));
        draft.look_at_headers(seen);
        let path = &part.annotations;
        let found = draft.check(|findings, looked_in| {
            let path = path.clone();
            CocoError::Unusable { path, findings, looked_in }
        })?;
        notes.extend(found.into_iter().map(|note| (path.clone(), note)));
        append(&draft, &folder, &mut mixed)?;
    }
    let (bytes, mut draft) = mixed.into_draft(out)?;
    draft.check(|findings, looked_in| {
        let path = out.to_owned();
        CocoError::NotWritten { path, findings, looked_in }
    })?;
    Ok(Written { bytes, notes })
}

/// Numbers the pictures and boxes of a part behind those that are there.
fn append(draft: &Draft, folder: &Path, mixed: &mut File) -> Result<(), CocoError> {
    let mut boxes: Vec<(usize, usize)> = Vec::new();
    for entry in &draft.entries {
        let id = mixed.images.len() + 1;
        let image = &draft.records.images[entry.image];
        let (width, height) = (image.width.pixels(), image.height.pixels());
        let file_name = name(&whole(&entry.path), folder)?;
        mixed.images.push(Image { id, file_name, width, height });
        let taken = entry.boxes.iter().map(|(index, _)| *index).chain(entry.crowds.iter().copied());
        boxes.extend(taken.map(|index| (index, id)));
    }
    // In the order of the part's file.
    boxes.sort_unstable();
    for (index, image_id) in boxes {
        let annotation = &draft.records.annotations[index];
        let Frame::Sides(bbox) = annotation.bbox else { continue };
        let bbox = bbox.map(|side| side as f32);
        let iscrowd = u8::from(annotation.iscrowd == Crowd::Yes);
        if bbox.iter().any(|side| !side.is_finite()) {
            continue;
        }
        let id = mixed.annotations.len() + 1;
        let area = annotation.area.map(|area| area as f32).filter(|area| area.is_finite());
        mixed.annotations.push(Annotation { id, image_id, category_id: 1, bbox, area, iscrowd });
    }
    Ok(())
}
