//! Which pictures there are and what they show: list files and folders of classes.
//!
//! Agrees with the list files of PaddleClas (`path label [unique_id]`). Difference: fields may be
//! separated by tabs, and then paths and labels may contain spaces; labels are any text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::archive::Archive;
use super::folder;
use super::left_out::{Group, LeftOut, listed};
pub use super::row::DataError;
pub(super) use super::row::Row;
use crate::files::{self, TextError};
use authoring::label::{LabelError, checked, composed, decomposed, look_alikes, quoted};

/// One picture of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The file.
    pub path: PathBuf,
    /// Position of its class in [`Samples::labels`].
    pub label: usize,
    /// Tells apart pictures that are in query and gallery; the path where the list gives none.
    pub id: String,
}

/// Pictures and their classes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples {
    /// In the order of the list.
    pub samples: Vec<Sample>,
    /// Names of the classes: numbers ascending, else text ascending.
    pub labels: Vec<String>,
    /// What a folder holds beside them.
    pub left_out: Vec<LeftOut>,
    /// Classes that lie in several folders, with the names of these.
    pub joined: Vec<(String, Vec<String>)>,
}

/// Groups of labels that look alike named at most.
const LOOK_ALIKES: usize = 5;

impl Samples {
    /// Reads a list file, or a folder with one sub-folder per class.
    ///
    /// ```
    /// use models::RgbImage;
    /// use native_trainer::data::list_file::Samples;
    ///
    /// # let photos = tempfile::tempdir()?;
    /// # let photos = photos.path();
    /// let image = RgbImage::from_rgb(1, 1, vec![200, 90, 10])?.encode_png()?;
    /// for file in ["fox/1.png", "fox/2.png", "owl/1.png"] {
    ///     std::fs::create_dir_all(photos.join(file).with_file_name(""))?;
    ///     std::fs::write(photos.join(file), &image)?;
    /// }
    /// let samples = Samples::read(photos)?;
    /// assert_eq!(samples.labels, ["fox", "owl"]);
    /// assert_eq!(samples.samples.len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`DataError`], naming the file and the line; every picture of a list must exist.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let Listed { rows, left_out, joined } = read_rows(path)?;
        let rows: Vec<Row> = rows.into_iter().collect::<Result<_, _>>()?;
        if rows.is_empty() {
            return Err(DataError::of_nothing(path, &left_out));
        }
        Ok(Self { left_out, joined, ..Self::from_rows(rows) })
    }

    /// What a person should know who gave the list or the folder, a line each: what is left out, folders that
    /// are one class, classes that look alike.
    pub fn remarks(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            Group::all(&self.left_out).iter().map(ToString::to_string).collect();
        let joined = self.joined.iter().map(|(label, folders)| joined_text(label, folders));
        lines.extend(joined.map(|text| format!("note: {text}")));
        lines.extend(look_alike_texts(&look_alikes(self.labels.iter().map(String::as_str))));
        lines
    }

    pub(super) fn from_rows(rows: Vec<Row>) -> Self {
        let mut labels: Vec<String> = rows.iter().map(|row| row.label.clone()).collect();
        labels.sort_by(|a, b| {
            match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => std::cmp::Ordering::Less,
                (Err(_), Ok(_)) => std::cmp::Ordering::Greater,
                (Err(_), Err(_)) => std::cmp::Ordering::Equal,
            }
            // Numbers may be written in several ways.
            .then_with(|| a.cmp(b))
        });
        labels.dedup();
        let position: BTreeMap<&str, usize> =
            labels.iter().enumerate().map(|(i, label)| (label.as_str(), i)).collect();
        let samples = rows
            .into_iter()
            .map(|row| Sample { label: position[row.label.as_str()], path: row.path, id: row.id })
            .collect();
        Self { samples, labels, ..Self::default() }
    }

    /// Numbers the classes as `labels` does; a class that is not there is added behind.
    #[must_use]
    pub fn relabel(mut self, labels: &[String]) -> Self {
        let mut all = labels.to_vec();
        let mut position: BTreeMap<String, usize> =
            labels.iter().enumerate().map(|(i, label)| (label.clone(), i)).collect();
        let samples = std::mem::take(&mut self.samples)
            .into_iter()
            .map(|sample| {
                let label = &self.labels[sample.label];
                let index = *position.entry(label.clone()).or_insert_with(|| {
                    all.push(label.clone());
                    all.len() - 1
                });
                Sample { label: index, ..sample }
            })
            .collect();
        Self { samples, labels: all, ..self }
    }

    /// Positions of the samples of every class.
    pub fn by_label(&self) -> Vec<Vec<usize>> {
        let mut groups = vec![Vec::new(); self.labels.len()];
        for (index, sample) in self.samples.iter().enumerate() {
            groups[sample.label].push(index);
        }
        groups
    }
}

/// What a list file or a folder names.
#[derive(Debug)]
pub(super) struct Listed {
    /// Pictures, or what is wrong with their lines.
    pub(super) rows: Vec<Result<Row, DataError>>,
    /// As [`Samples::left_out`].
    pub(super) left_out: Vec<LeftOut>,
    /// As [`Samples::joined`].
    pub(super) joined: Vec<(String, Vec<String>)>,
}

/// Every row of a list file or folder, or what is wrong with it.
pub(super) fn read_rows(path: &Path) -> Result<Listed, DataError> {
    if Archive::is_one(path) {
        let reason =
            "is a zip file; `magpie site` and `magpie gallery` read it, for this unpack it first";
        return Err(DataError::Archive { path: path.to_owned(), reason: reason.to_owned() });
    }
    if path.is_dir() {
        let folder::Contents { rows, left_out, joined } = folder::read(path)?;
        Ok(Listed { rows: rows.into_iter().map(Ok).collect(), left_out, joined })
    } else {
        Ok(Listed { rows: read_list(path)?, left_out: Vec::new(), joined: Vec::new() })
    }
}

/// The text of a list, whatever mark it begins with.
pub(super) fn read_text(path: &Path) -> Result<String, DataError> {
    let bytes = files::read(path, files::TEXT_LIMIT);
    files::text(bytes.map_err(|error| error.wanted(files::wanted::SAMPLES))?).map_err(
        |error: TextError| DataError::Line {
            path: path.to_owned(),
            line: error.line(),
            reason: format!("{error}, or give {}", files::wanted::SAMPLES),
        },
    )
}

/// Whether a text is a list: any of its lines names a file that is there, and its class.
pub fn is_list(path: &Path) -> bool {
    let root = path.parent().unwrap_or(Path::new("."));
    read_text(path).is_ok_and(|text| {
        text.lines().any(|line| read_line(root, line.trim_start_matches(files::MARK), 0).is_ok())
    })
}

fn read_list(path: &Path) -> Result<Vec<Result<Row, DataError>>, DataError> {
    let text = read_text(path)?;
    let root = path.parent().unwrap_or(Path::new("."));
    // Lists that were put together may have a mark where each begins.
    let lines = text.lines().map(|line| line.trim_start_matches(files::MARK));
    let lines = lines.enumerate().filter(|(_, line)| !line.trim().is_empty());
    Ok(lines
        .map(|(index, line)| {
            read_line(root, line, index + 1).map_err(|reason| DataError::Line {
                path: path.to_owned(),
                line: index + 1,
                reason,
            })
        })
        .collect())
}

fn read_line(root: &Path, line: &str, number: usize) -> Result<Row, String> {
    let fields: Vec<&str> = if line.contains('\t') {
        line.split('\t').map(str::trim).collect()
    } else {
        line.split_whitespace().collect()
    };
    let (file, text, id) = match fields[..] {
        [file, label] => (file, label, None),
        [file, label, id] => (file, label, Some(id)),
        _ => {
            return Err(format!(
                "{} fields, expected `path label [id]`; use tabs where a path or a label has \
                 spaces",
                fields.len()
            ));
        }
    };
    let label = match checked(text) {
        Ok(label) if !file.is_empty() => label,
        Err(error @ (LabelError::Steering { .. } | LabelError::Dots)) => {
            return Err(error.to_string());
        }
        _ => return Err("path or label is empty".to_owned()),
    };
    let Some(path) = find(root, file) else {
        let path = root.join(file);
        let kind =
            if path.is_symlink() { "the link leads to no picture" } else { "no such picture" };
        return Err(format!("{kind}: {}", path.display()));
    };
    let id = id.map_or_else(|| path.display().to_string(), str::to_owned);
    Ok(Row { path, label, id, line: Some(number) })
}

/// A file by its name, or by the same name as another system composes it.
fn find(root: &Path, file: &str) -> Option<PathBuf> {
    let path = root.join(file);
    if path.is_file() || file.is_ascii() {
        return path.is_file().then_some(path);
    }
    [composed(file), decomposed(file)]
        .into_iter()
        .map(|file| root.join(file))
        .find(|path| path.is_file())
}

/// Says that several folders are one class; `folders` are in quotes.
pub(super) fn joined_text(label: &str, folders: &[String]) -> String {
    format!(
        "{} folders are the one class {}: {}",
        folders.len(),
        quoted(label),
        listed(folders.iter().cloned())
    )
}

/// A line for each of the first groups of [`look_alikes`], and one for the others.
pub fn look_alike_texts(groups: &[Vec<String>]) -> Vec<String> {
    let mut lines: Vec<String> = groups
        .iter()
        .take(LOOK_ALIKES)
        .map(|group| format!("note: {}", look_alike_text(group)))
        .collect();
    if groups.len() > LOOK_ALIKES {
        lines.push(format!(
            "note: {} more groups of classes look alike",
            groups.len() - LOOK_ALIKES
        ));
    }
    lines
}

/// Says that classes look alike.
pub(super) fn look_alike_text(labels: &[String]) -> String {
    format!(
        "classes look alike and stay apart: {}; rename one where they are the same",
        listed(labels.iter().map(|label| quoted(label)))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
        dir
    }

    fn list(dir: &Path, text: &str) -> Result<Samples, DataError> {
        std::fs::write(dir.join("list.txt"), text).unwrap();
        Samples::read(&dir.join("list.txt"))
    }

    #[test]
    fn reads_spaces_and_tabs_with_labels_in_any_script() {
        let dir = folder(&["a.jpg", "b c.jpg"]);
        let samples = list(dir.path(), "a.jpg 7\r\n\nb c.jpg\tred panda 小熊猫\tid9\n").unwrap();
        assert_eq!(samples.labels, ["7", "red panda 小熊猫"]);
        assert_eq!(samples.samples[1].label, 1);
        assert_eq!(samples.samples[1].id, "id9");
    }

    #[test]
    fn numbers_labels_in_numeric_order() {
        let dir = folder(&["a.jpg"]);
        let samples = list(dir.path(), "a.jpg 10\na.jpg 9\na.jpg x\n").unwrap();
        assert_eq!(samples.labels, ["9", "10", "x"]);
    }

    #[test]
    fn names_the_file_and_the_line() {
        let dir = folder(&["a.jpg"]);
        let missing = list(dir.path(), "a.jpg 1\nnone.jpg 2\n").unwrap_err().to_string();
        assert!(missing.contains("list.txt:2") && missing.contains("none.jpg"), "{missing}");
        let fields = list(dir.path(), "a.jpg 1 2 3\n").unwrap_err().to_string();
        assert!(fields.contains("list.txt:1") && fields.contains("tabs"), "{fields}");
        std::fs::write(dir.path().join("list.txt"), b"a.jpg 1\n\xff\n").unwrap();
        let text = Samples::read(&dir.path().join("list.txt")).unwrap_err().to_string();
        assert!(text.contains("list.txt:2"), "{text}");
    }

    #[test]
    fn takes_a_folder_of_classes_and_ignores_what_is_no_picture() {
        let dir = folder(&["b/2.PNG", "b/1.jpg", "a/x.webp", "a/notes.txt", "a/.hidden.png"]);
        let samples = Samples::read(dir.path()).unwrap();
        assert_eq!(samples.labels, ["a", "b"]);
        let names: Vec<_> =
            samples.samples.iter().filter_map(|s| s.path.file_name()?.to_str()).collect();
        assert_eq!(names, ["x.webp", "1.jpg", "2.PNG"]);
    }

    #[test]
    fn marks_of_editors_are_no_part_of_a_path() {
        let dir = folder(&["a.jpg"]);
        let samples = list(dir.path(), "\u{feff}a.jpg 1\n\u{feff}a.jpg 2\n").unwrap();
        assert_eq!(samples.samples[0].path, dir.path().join("a.jpg"));
        assert_eq!(samples.labels, ["1", "2"]);
        std::fs::write(dir.path().join("list.txt"), b"\xff\xfea\0").unwrap();
        let error = Samples::read(&dir.path().join("list.txt")).unwrap_err();
        assert!(
            error.to_string().contains("list.txt:1: this is UTF-16; save it as UTF-8"),
            "{error}"
        );
    }

    #[test]
    fn one_name_is_one_class_and_a_blank_one_is_refused() {
        let dir = folder(&["a.jpg"]);
        let samples =
            list(dir.path(), "a.jpg\tK\u{e4}se\na.jpg\tKa\u{308}se\t2\na.jpg\tKäse\u{200b}\t3\n")
                .unwrap();
        assert_eq!(samples.labels, ["K\u{e4}se"]);
        for line in ["a.jpg\t", "a.jpg\t \t7", "a.jpg \u{200b}"] {
            let error = list(dir.path(), line).unwrap_err().to_string();
            assert!(error.contains("list.txt:1: path or label is empty"), "{line:?}: {error}");
        }
    }

    #[test]
    fn a_file_is_found_however_its_name_is_composed() {
        let dir = folder(&["Ka\u{308}se.jpg", "\u{f6}l.jpg"]);
        let samples = list(dir.path(), "K\u{e4}se.jpg 1\no\u{308}l.jpg 1\n").unwrap();
        assert!(samples.samples.iter().all(|sample| sample.path.is_file()));
    }

    #[test]
    fn numbers_that_are_written_in_two_ways_are_two_classes_that_look_alike() {
        let dir = folder(&["a.jpg"]);
        let samples =
            list(dir.path(), "a.jpg 7\na.jpg 07\na.jpg 7\na.jpg Mug\na.jpg mug\n").unwrap();
        assert_eq!(samples.labels, ["07", "7", "Mug", "mug"]);
        assert_eq!(samples.by_label(), [vec![1], vec![0, 2], vec![3], vec![4]]);
        let tail = "; rename one where they are the same";
        assert_eq!(
            samples.remarks(),
            [
                format!("note: classes look alike and stay apart: \"07\", \"7\"{tail}"),
                format!("note: classes look alike and stay apart: \"Mug\", \"mug\"{tail}"),
            ]
        );
    }

    #[test]
    fn an_empty_folder_says_what_is_expected() {
        let dir = folder(&[]);
        let error = Samples::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("no pictures"), "{error}");
        std::fs::create_dir(dir.path().join("train")).unwrap();
        std::fs::create_dir(dir.path().join("train/a")).unwrap();
        let error = Samples::read(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("no pictures")
                && error.contains("train: a class that holds folders only"),
            "{error}"
        );
    }

    #[test]
    fn relabelling_keeps_known_classes_and_adds_new_ones() {
        let dir = folder(&["a.jpg"]);
        let samples = list(dir.path(), "a.jpg x\na.jpg y\n").unwrap();
        let labels = ["y".to_owned(), "z".to_owned()];
        let samples = samples.relabel(&labels);
        assert_eq!(samples.labels, ["y", "z", "x"]);
        assert_eq!(samples.samples[0].label, 2);
        assert_eq!(samples.samples[1].label, 0);
    }
}
