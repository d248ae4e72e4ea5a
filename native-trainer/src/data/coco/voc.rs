//! Pascal VOC's boxes as a COCO file.

use std::path::{Path, PathBuf};

use roxmltree::{Document, Node};

use super::CocoError;
use super::finding::{Findings, Problem, numbers};
use super::written::{Annotation, Category, File, Image, Written, name, whole};
use crate::files::{self, FileError, folder_of};

/// Endings of pictures that an annotation does not name, but that are named like it.
const ENDINGS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "JPG", "JPEG"];

/// Turns the boxes of Pascal VOC (`Annotations/*.xml`, pictures in `JPEGImages`) into a COCO file with its
/// categories, to be written to `out`. Objects marked as difficult are left out, as in the challenge. `seen` is told
/// the number of pictures after each.
///
/// # Errors
///
/// [`CocoError`] of the first file that cannot be read, naming its line, or of `out` if it cannot be written;
/// [`CocoError::NoObjectLeft`] if all objects are left out, [`CocoError::NotWritten`] if [`super::read()`] would
/// refuse what is to be written.
pub fn from_voc(
    folder: &Path,
    out: &Path,
    seen: &(impl Fn(usize) + Sync),
) -> Result<Written, CocoError> {
    let annotations = folder.join("Annotations");
    let mut voc = Voc {
        pictures: whole(&folder.join("JPEGImages")),
        target: whole(folder_of(out)),
        ..Voc::default()
    };
    let paths = xml_files(&annotations)?;
    files::check_outputs(&[out], &paths.iter().map(|path| &**path).collect::<Vec<_>>())?;
    for path in paths {
        let bytes = files::read(&path, files::TEXT_LIMIT)?;
        let failed = |(line, reason)| CocoError::Line { path: path.clone(), line, reason };
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
            failed((line, "not UTF-8 text; save it as UTF-8".to_owned()))
        })?;
        voc.add(&path, text.trim_start_matches('\u{feff}')).map_err(failed)?;
    }
    if voc.file.images.is_empty() {
        let reason = "no annotations (*.xml)".to_owned();
        return Err(CocoError::Form { path: annotations, reason });
    }
    for kind in [Problem::Difficult, Problem::EndlessCorner, Problem::SwappedCorners] {
        voc.findings.set_total(kind, voc.objects);
    }
    if voc.objects > 0 && voc.file.annotations.is_empty() {
        let mut findings = voc.findings.into_vec();
        findings.retain(|f| matches!(f.kind, Problem::Difficult | Problem::EndlessCorner));
        return Err(CocoError::NoObjectLeft { path: annotations, findings });
    }
    voc.findings.set_total(Problem::NamedAlike, voc.file.images.len());
    let (bytes, mut draft) = voc.file.into_draft(out)?;
    draft.look_at_headers(seen);
    let found = draft.check(|findings, looked_in| {
        let path = out.to_owned();
        CocoError::NotWritten { path, findings, looked_in }
    })?;
    let notes = voc.findings.into_vec().into_iter().map(|note| (folder.to_owned(), note));
    let found = found.into_iter().map(|note| (out.to_owned(), note));
    Ok(Written { bytes, notes: notes.chain(found).collect() })
}

/// In the order of their names. macOS puts files of its own beside them, whose names begin with a dot.
fn xml_files(folder: &Path) -> Result<Vec<PathBuf>, CocoError> {
    let failed = |source| FileError::Read { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let is_xml = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("xml"));
        if is_xml && !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// A line and what is wrong there, or that a picture's name is no text.
type Wrong = (usize, String);

#[derive(Default)]
struct Voc {
    /// Where the pictures lie.
    pictures: PathBuf,
    /// Where the file goes.
    target: PathBuf,
    file: File,
    findings: Findings,
    objects: usize,
}

impl Voc {
    /// Appends the annotations of a picture.
    fn add(&mut self, path: &Path, text: &str) -> Result<(), Wrong> {
        let document = Document::parse(text)
            .map_err(|error| (error.pos().row as usize, format!("no XML: {error}")))?;
        let root = document.root_element();
        let picture = self.picture(path, child(root, "filename"))?;
        let file_name =
            name(&picture, &self.target).map_err(|error| (line(root), error.to_string()))?;
        let image_id = self.file.images.len() + 1;
        let size = root.children().find(|node| node.has_tag_name("size"));
        let side = |name: &str| {
            let side = child(size?, name)?.parse::<f64>().ok()?;
            // 0 stands for a size that nobody knew.
            (side >= 1.0).then_some(side as u32)
        };
        let (width, height) = (side("width"), side("height"));
        self.file.images.push(Image { id: image_id, file_name, width, height });
        for object in root.children().filter(|node| node.has_tag_name("object")) {
            self.objects += 1;
            let place = || format!("{}:{}", path.display(), line(object));
            if is_difficult(object)? {
                self.findings.add(Problem::Difficult, 0, place);
                continue;
            }
            let name = child(object, "name").ok_or_else(|| missing(object, "name"))?;
            let bounds = object.children().find(|node| node.has_tag_name("bndbox"));
            let corners = corners(bounds.ok_or_else(|| missing(object, "bndbox"))?)?;
            let [x1, y1, x2, y2] = corners;
            if [x1, y1, x2, y2, x1 - x2, y1 - y2].iter().any(|side| !(*side as f32).is_finite()) {
                let example = || format!("{}: {}", place(), numbers(&corners));
                self.findings.add(Problem::EndlessCorner, 0, example);
                continue;
            }
            if x1 > x2 || y1 > y2 {
                let example = || format!("{}: {}", place(), numbers(&corners));
                self.findings.add(Problem::SwappedCorners, 0, example);
            }
            // Pixels count from 1, and the last one is inside.
            let (left, top) = (x1.min(x2) - 1.0, y1.min(y2) - 1.0);
            let bbox = [left, top, x1.max(x2) - left, y1.max(y2) - top].map(|side| side as f32);
            let category_id = self.category(name);
            let id = self.file.annotations.len() + 1;
            let area = Some(bbox[2] * bbox[3]).filter(|area| area.is_finite());
            let annotation = Annotation { id, image_id, category_id, bbox, area, iscrowd: 0 };
            self.file.annotations.push(annotation);
        }
        Ok(())
    }

    /// The picture that is named, or one that is named like the annotation.
    fn picture(&mut self, annotation: &Path, named: Option<String>) -> Result<PathBuf, Wrong> {
        let named = named.map(|name| self.pictures.join(name));
        if let Some(picture) = &named
            && picture.is_file()
        {
            return Ok(picture.clone());
        }
        let stem = annotation.file_stem().unwrap_or_default();
        let alike = ENDINGS.iter().find_map(|ending| {
            let mut name = stem.to_owned();
            name.push(".");
            name.push(ending);
            Some(self.pictures.join(name)).filter(|picture| picture.is_file())
        });
        if let Some(picture) = alike {
            let example = || annotation.display().to_string();
            self.findings.add(Problem::NamedAlike, 0, example);
            return Ok(picture);
        }
        named.ok_or_else(|| (1, "<filename> is missing".to_owned()))
    }

    /// The number of a category.
    fn category(&mut self, name: String) -> usize {
        let categories = &mut self.file.categories;
        if let Some(place) = categories.iter().position(|category| category.name == name) {
            return place + 1;
        }
        let id = categories.len() + 1;
        categories.push(Category { id, name });
        id
    }
}

fn line(node: Node) -> usize {
    node.document().text_pos_at(node.range().start).row as usize
}

fn missing(node: Node, name: &str) -> Wrong {
    (line(node), format!("<{name}> is missing"))
}

/// The text of a part.
fn child(node: Node, name: &str) -> Option<String> {
    let found = node.children().find(|child| child.has_tag_name(name))?;
    found.text().map(|text| text.trim().to_owned())
}

/// Left, top, right, bottom, however they are ordered.
fn corners(bounds: Node) -> Result<[f64; 4], Wrong> {
    let mut corners = [0.0; 4];
    for (corner, name) in corners.iter_mut().zip(["xmin", "ymin", "xmax", "ymax"]) {
        let text = child(bounds, name).ok_or_else(|| missing(bounds, name))?;
        let number = text.parse::<f64>();
        *corner =
            number.map_err(|error| (line(bounds), format!("<{name}> holds {text:?}: {error}")))?;
    }
    Ok(corners)
}

fn is_difficult(object: Node) -> Result<bool, Wrong> {
    let Some(text) = child(object, "difficult") else { return Ok(false) };
    match text.to_lowercase().as_str() {
        "" | "0" | "false" | "no" | "n" | "f" | "unspecified" => Ok(false),
        "true" | "yes" | "y" | "t" => Ok(true),
        number => match number.parse::<f64>() {
            // Some sets have degrees of it.
            Ok(number) if number.is_finite() => Ok(number != 0.0),
            _ => Err((line(object), format!("<difficult> holds {text:?}; write 0 or 1"))),
        },
    }
}
