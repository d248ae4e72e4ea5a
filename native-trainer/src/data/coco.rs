//! Boxes in COCO's JSON, every category taken as foreground.
//!
//! Source: the conversion described with PP-ShiTu's mainbody detector: one category for all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use models::geometry::BBox;
use serde::Deserialize;

use super::list_file::DataError;

/// A picture and its boxes.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxedPicture {
    /// The file.
    pub path: PathBuf,
    /// In its pixels; crowds and empty boxes left out.
    pub boxes: Vec<BBox>,
}

#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    bbox: [f32; 4],
    #[serde(default)]
    iscrowd: u8,
}

/// Reads a COCO file; pictures lie in `images` (by default the file's folder).
///
/// # Errors
///
/// [`DataError`], naming the file; every picture must exist.
pub fn read(path: &Path, images: Option<&Path>) -> Result<Vec<BoxedPicture>, DataError> {
    let failed = |source| DataError::Read { path: path.to_owned(), source };
    let text = std::fs::read(path).map_err(failed)?;
    let file: File = serde_json::from_slice(&text).map_err(|error| DataError::Line {
        path: path.to_owned(),
        line: error.line(),
        reason: error.to_string(),
    })?;
    let root = images.or(path.parent()).unwrap_or(Path::new("."));
    let mut boxes: BTreeMap<u64, Vec<BBox>> = BTreeMap::new();
    for annotation in file.annotations {
        let [x, y, w, h] = annotation.bbox;
        if annotation.iscrowd == 0 && w > 0.0 && h > 0.0 {
            boxes.entry(annotation.image_id).or_default().push(BBox::new(x, y, x + w, y + h));
        }
    }
    let mut pictures = Vec::with_capacity(file.images.len());
    for image in file.images {
        let picture = root.join(&image.file_name);
        if !picture.is_file() {
            return Err(DataError::Unsuitable(format!(
                "{}: picture {} is not there",
                path.display(),
                picture.display()
            )));
        }
        let boxes = boxes.remove(&image.id).unwrap_or_default();
        pictures.push(BoxedPicture { path: picture, boxes });
    }
    if pictures.is_empty() {
        return Err(DataError::Empty { path: path.to_owned() });
    }
    Ok(pictures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_category_is_foreground_and_crowds_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.jpg"), b"x").unwrap();
        let json = r#"{"images": [{"id": 5, "file_name": "a.jpg", "width": 9}],
            "annotations": [
                {"image_id": 5, "category_id": 3, "bbox": [1, 2, 3, 4]},
                {"image_id": 5, "category_id": 7, "bbox": [0, 0, 5, 5], "iscrowd": 1},
                {"image_id": 5, "category_id": 7, "bbox": [0, 0, 0, 5]}
            ], "categories": []}"#;
        let path = dir.path().join("boxes.json");
        std::fs::write(&path, json).unwrap();
        let pictures = read(&path, None).unwrap();
        assert_eq!(pictures[0].boxes, [BBox::new(1.0, 2.0, 4.0, 6.0)]);
        std::fs::write(&path, "{\n\"images\": 3}").unwrap();
        let error = read(&path, None).unwrap_err().to_string();
        assert!(error.contains("boxes.json:2"), "{error}");
    }
}
