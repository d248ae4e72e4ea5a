//! Boxes in COCO's JSON, every category taken as foreground.
//!
//! Source: the conversion described with PP-ShiTu's mainbody detector: one category for all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use models::geometry::BBox;
use serde::{Deserialize, Serialize};

use super::list_file::DataError;
use crate::random::seeded;

/// A picture and its boxes.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxedPicture {
    /// The file.
    pub path: PathBuf,
    /// In its pixels; crowds and empty boxes left out.
    pub boxes: Vec<BBox>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct File {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    #[serde(default)]
    categories: Vec<Category>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Image {
    id: u64,
    file_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Annotation {
    #[serde(default)]
    id: u64,
    image_id: u64,
    #[serde(default)]
    category_id: u64,
    /// Left, top, width, height.
    bbox: [f32; 4],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    area: Option<f32>,
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Category {
    id: u64,
    name: String,
}

fn parse(path: &Path) -> Result<File, DataError> {
    let failed = |source| DataError::Read { path: path.to_owned(), source };
    let text = std::fs::read(path).map_err(failed)?;
    serde_json::from_slice(&text).map_err(|error| DataError::Line {
        path: path.to_owned(),
        line: error.line(),
        reason: error.to_string(),
    })
}

/// Where the pictures of a file lie by default: beside it.
fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// Reads a COCO file; pictures lie in `images` (by default the file's folder).
///
/// # Errors
///
/// [`DataError`], naming the file; every picture must exist.
pub fn read(path: &Path, images: Option<&Path>) -> Result<Vec<BoxedPicture>, DataError> {
    let pictures = read_all(path, images)?;
    if let Some(picture) = pictures.iter().find(|picture| !picture.path.is_file()) {
        return Err(DataError::Unsuitable(format!(
            "{}: picture {} is not there",
            path.display(),
            picture.path.display()
        )));
    }
    Ok(pictures)
}

/// [`read`], whether the pictures are there or not.
pub(super) fn read_all(path: &Path, images: Option<&Path>) -> Result<Vec<BoxedPicture>, DataError> {
    let file = parse(path)?;
    let root = images.unwrap_or(folder(path));
    let mut boxes: BTreeMap<u64, Vec<BBox>> = BTreeMap::new();
    for annotation in file.annotations {
        let [x, y, w, h] = annotation.bbox;
        if annotation.iscrowd == 0 && w > 0.0 && h > 0.0 {
            boxes.entry(annotation.image_id).or_default().push(BBox::new(x, y, x + w, y + h));
        }
    }
    let pictures: Vec<BoxedPicture> = file
        .images
        .into_iter()
        .map(|image| BoxedPicture {
            path: root.join(&image.file_name),
            boxes: boxes.remove(&image.id).unwrap_or_default(),
        })
        .collect();
    if pictures.is_empty() {
        return Err(DataError::Empty { path: path.to_owned() });
    }
    Ok(pictures)
}

/// A COCO file as a part of a mixture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The file.
    pub annotations: PathBuf,
    /// Folder of its pictures; by default the file's.
    pub images: Option<PathBuf>,
    /// Pictures drawn from it; absent: all.
    pub take: Option<usize>,
}

/// Mixes COCO files into one that knows a single category, `foreground`: every box stays as it is.
///
/// Pictures and boxes are numbered anew from 1. A picture below `folder` is named from there, any
/// other by its whole path.
///
/// # Errors
///
/// [`DataError`] of the first file that cannot be read.
pub fn foreground(parts: &[Part], folder: &Path, seed: u64) -> Result<Vec<u8>, DataError> {
    let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let folder = whole(folder);
    let mut mixed = File {
        images: Vec::new(),
        annotations: Vec::new(),
        categories: vec![Category { id: 1, name: "foreground".to_owned() }],
    };
    for (index, part) in parts.iter().enumerate() {
        let File { mut images, annotations, .. } = parse(&part.annotations)?;
        if let Some(take) = part.take
            && take < images.len()
        {
            let random = &mut seeded(&[seed, index as u64]);
            let mut chosen = rand::seq::index::sample(random, images.len(), take).into_vec();
            chosen.sort_unstable();
            images = chosen.into_iter().map(|place| images[place].clone()).collect();
        }
        let root = whole(part.images.as_deref().unwrap_or(self::folder(&part.annotations)));
        let mut numbers = BTreeMap::new();
        for image in images {
            let id = mixed.images.len() as u64 + 1;
            numbers.insert(image.id, id);
            let path = root.join(&image.file_name);
            let name = path.strip_prefix(&folder).unwrap_or(&path);
            mixed.images.push(Image { id, file_name: name.display().to_string(), ..image });
        }
        for annotation in annotations {
            if let Some(image_id) = numbers.get(&annotation.image_id) {
                let id = mixed.annotations.len() as u64 + 1;
                let image_id = *image_id;
                mixed.annotations.push(Annotation { id, image_id, category_id: 1, ..annotation });
            }
        }
    }
    if mixed.images.is_empty() {
        return Err(DataError::Unsuitable("none of the files names a picture".to_owned()));
    }
    to_bytes(&mixed)
}

/// Turns the boxes of Pascal VOC (`Annotations/*.xml`, pictures in `JPEGImages`) into a COCO file
/// with its categories. Objects marked difficult are left out, as in the challenge.
///
/// # Errors
///
/// [`DataError`] of the first file that cannot be read, naming its line.
pub fn from_voc(folder: &Path, target: &Path) -> Result<Vec<u8>, DataError> {
    let annotations = folder.join("Annotations");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DataError::Read { path, source }
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&annotations).map_err(failed(&annotations))? {
        let path = entry.map_err(failed(&annotations))?.path();
        if path.extension().is_some_and(|extension| extension == "xml") {
            paths.push(path);
        }
    }
    paths.sort();
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (images, target) = (absolute(&folder.join("JPEGImages")), absolute(target));
    let mut file = File { images: Vec::new(), annotations: Vec::new(), categories: Vec::new() };
    for path in &paths {
        let text = std::fs::read_to_string(path).map_err(failed(path))?;
        read_voc(&text, &images, &target, &mut file).map_err(|(line, reason)| DataError::Line {
            path: path.clone(),
            line,
            reason,
        })?;
    }
    if file.images.is_empty() {
        return Err(DataError::Empty { path: annotations });
    }
    to_bytes(&file)
}

/// Appends a VOC annotation; an error names the line.
fn read_voc(
    text: &str,
    images: &Path,
    target: &Path,
    file: &mut File,
) -> Result<(), (usize, String)> {
    let document = roxmltree::Document::parse(text)
        .map_err(|error| (error.pos().row as usize, error.to_string()))?;
    let line = |node: roxmltree::Node| document.text_pos_at(node.range().start).row as usize;
    let child = |node: roxmltree::Node, name: &str| {
        let found = node.children().find(|child| child.has_tag_name(name));
        let text = found.and_then(|child| child.text()).map(str::trim);
        text.map(str::to_owned).ok_or_else(|| (line(node), format!("<{name}> is missing")))
    };
    let root = document.root_element();
    let picture = images.join(child(root, "filename")?);
    let name = picture.strip_prefix(target).unwrap_or(&picture).display().to_string();
    let image_id = file.images.len() as u64 + 1;
    file.images.push(Image { id: image_id, file_name: name, width: None, height: None });
    for object in root.children().filter(|node| node.has_tag_name("object")) {
        if child(object, "difficult").is_ok_and(|text| text == "1") {
            continue;
        }
        let name = child(object, "name")?;
        let bounds = object
            .children()
            .find(|node| node.has_tag_name("bndbox"))
            .ok_or_else(|| (line(object), "<bndbox> is missing".to_owned()))?;
        let number = |name: &str| {
            let text = child(bounds, name)?;
            text.parse::<f32>()
                .map_err(|error| (line(bounds), format!("<{name}> holds {text:?}: {error}")))
        };
        // Pixels count from 1, and the last one is inside.
        let (x1, y1) = (number("xmin")? - 1.0, number("ymin")? - 1.0);
        let (w, h) = (number("xmax")? - x1, number("ymax")? - y1);
        let known = file.categories.iter().position(|category| category.name == name);
        let category_id = known.unwrap_or(file.categories.len()) as u64 + 1;
        if known.is_none() {
            file.categories.push(Category { id: category_id, name });
        }
        let id = file.annotations.len() as u64 + 1;
        let (bbox, area) = ([x1, y1, w, h], Some(w * h));
        file.annotations.push(Annotation { id, image_id, category_id, bbox, area, iscrowd: 0 });
    }
    Ok(())
}

fn to_bytes(file: &File) -> Result<Vec<u8>, DataError> {
    serde_json::to_vec(file).map_err(|error| DataError::Unsuitable(error.to_string()))
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

    #[test]
    fn a_mixture_has_one_category_and_the_same_boxes() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        let first = write(
            "a/boxes.json",
            r#"{"images": [{"id": 9, "file_name": "x.jpg", "width": 5, "height": 6}],
                "annotations": [{"image_id": 9, "category_id": 44, "bbox": [1, 2, 3, 4]}]}"#,
        );
        let many: Vec<String> =
            (0..20).map(|i| format!(r#"{{"id": {i}, "file_name": "{i}.jpg"}}"#)).collect();
        let boxes: Vec<String> =
            (0..20).map(|i| format!(r#"{{"image_id": {i}, "bbox": [{i}, 0, 1, 1]}}"#)).collect();
        let second = write(
            "b/boxes.json",
            &format!(r#"{{"images": [{}], "annotations": [{}]}}"#, many.join(","), boxes.join(",")),
        );
        let parts = [
            Part { annotations: first, images: None, take: None },
            Part { annotations: second, images: Some("/pictures".into()), take: Some(5) },
        ];
        let bytes = foreground(&parts, dir.path(), 1).unwrap();
        assert_eq!(bytes, foreground(&parts, dir.path(), 1).unwrap());
        let file: File = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(file.images.len(), 6);
        assert_eq!(file.images[0].file_name, "a/x.jpg");
        assert_eq!(file.images[0].width, Some(5));
        assert_eq!((file.categories.len(), file.categories[0].name.as_str()), (1, "foreground"));
        assert_eq!(file.annotations.len(), 6);
        assert_eq!(file.annotations[0].bbox, [1.0, 2.0, 3.0, 4.0]);
        for annotation in &file.annotations {
            assert_eq!(annotation.category_id, 1);
        }
        for (image, annotation) in file.images.iter().zip(&file.annotations).skip(1) {
            assert_eq!(image.id, annotation.image_id);
            assert_eq!(image.file_name, format!("/pictures/{}.jpg", annotation.bbox[0]));
        }
    }

    #[test]
    fn voc_boxes_count_pixels_from_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("Annotations");
        std::fs::create_dir_all(&folder).unwrap();
        let object = |name: &str, difficult: u8| {
            format!(
                "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>\
                 <xmin>1</xmin><ymin>3</ymin><xmax>10</xmax><ymax>4</ymax></bndbox></object>"
            )
        };
        let text = format!(
            "<annotation><filename>p.jpg</filename>{}{}{}</annotation>",
            object("cat", 0),
            object("dog", 1),
            object("cat", 0)
        );
        std::fs::write(folder.join("p.xml"), text).unwrap();
        let bytes = from_voc(dir.path(), dir.path()).unwrap();
        let file: File = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(file.images[0].file_name, "JPEGImages/p.jpg");
        assert_eq!(file.annotations.len(), 2);
        assert_eq!(file.annotations[1].bbox, [0.0, 2.0, 10.0, 2.0]);
        assert_eq!((file.annotations[1].category_id, file.categories.len()), (1, 1));

        std::fs::write(folder.join("q.xml"), "<annotation>\n<object/>\n</annotation>").unwrap();
        let error = from_voc(dir.path(), dir.path()).unwrap_err().to_string();
        assert!(error.contains("q.xml:1: <filename>"), "{error}");
    }
}
