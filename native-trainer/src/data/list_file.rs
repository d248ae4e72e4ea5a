//! Which pictures there are and what they show: list files and folders of classes.
//!
//! Agrees with the list files of PaddleClas (`path label [unique_id]`). Difference: fields may be
//! separated by tabs, and then paths and labels may contain spaces; labels are any text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Endings of files that a folder of classes takes for pictures.
const EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "png", "webp", "gif", "bmp"];

/// Why a list of pictures could not be used; the file and the line are named.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is not `path label [id]`.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The list file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with the line.
        reason: String,
    },
    /// Nothing to learn from or to search.
    #[error("{}: no pictures; expected a folder of folders (one a class) or a list file", path.display())]
    Empty {
        /// The list file or folder.
        path: PathBuf,
    },
    /// The data do not fit the recipe.
    #[error("{0}")]
    Unsuitable(String),
}

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
}

impl Samples {
    /// Reads a list file, or a folder with one sub-folder a class.
    ///
    /// # Errors
    ///
    /// [`DataError`], naming the file and the line; every picture of a list must exist.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let rows: Vec<Row> = read_rows(path)?.into_iter().collect::<Result<_, _>>()?;
        if rows.is_empty() {
            return Err(DataError::Empty { path: path.to_owned() });
        }
        Ok(Self::from_rows(rows))
    }

    pub(super) fn from_rows(rows: Vec<Row>) -> Self {
        let mut labels: Vec<String> = rows.iter().map(|row| row.label.clone()).collect();
        labels.sort_by(|a, b| match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            (Ok(_), Err(_)) => std::cmp::Ordering::Less,
            (Err(_), Ok(_)) => std::cmp::Ordering::Greater,
            (Err(_), Err(_)) => a.cmp(b),
        });
        labels.dedup();
        let position: BTreeMap<&str, usize> =
            labels.iter().enumerate().map(|(i, label)| (label.as_str(), i)).collect();
        let samples = rows
            .into_iter()
            .map(|row| Sample { label: position[row.label.as_str()], path: row.path, id: row.id })
            .collect();
        Self { samples, labels }
    }

    /// Numbers the classes as `labels` does; a class that is not there is added behind.
    #[must_use]
    pub fn relabel(self, labels: &[String]) -> Self {
        let mut all = labels.to_vec();
        let mut position: BTreeMap<String, usize> =
            labels.iter().enumerate().map(|(i, label)| (label.clone(), i)).collect();
        let samples = self
            .samples
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
        Self { samples, labels: all }
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

/// One picture as it is listed.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) path: PathBuf,
    pub(super) label: String,
    id: String,
    /// Of the list file, counted from 1; `None` in a folder.
    pub(super) line: Option<usize>,
}

/// Every row of a list file or folder, or what is wrong with it.
pub(super) fn read_rows(path: &Path) -> Result<Vec<Result<Row, DataError>>, DataError> {
    if path.is_dir() {
        Ok(read_folder(path)?.into_iter().map(Ok).collect())
    } else {
        read_list(path)
    }
}

fn read_list(path: &Path) -> Result<Vec<Result<Row, DataError>>, DataError> {
    let text =
        std::fs::read(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    let text = String::from_utf8(text).map_err(|error| DataError::Line {
        path: path.to_owned(),
        line: 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
            .split(|b| *b == b'\n')
            .skip(1)
            .count(),
        reason: "not UTF-8 text".to_owned(),
    })?;
    let root = path.parent().unwrap_or(Path::new("."));
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
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
    let (file, label, id) = match fields[..] {
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
    if file.is_empty() || label.is_empty() {
        return Err("path or label is empty".to_owned());
    }
    let path = root.join(file);
    if !path.is_file() {
        return Err(format!("no such picture: {}", path.display()));
    }
    let id = id.map_or_else(|| path.display().to_string(), str::to_owned);
    Ok(Row { path, label: label.to_owned(), id, line: Some(number) })
}

fn read_folder(path: &Path) -> Result<Vec<Row>, DataError> {
    let mut rows = Vec::new();
    for class in entries(path)? {
        if !class.is_dir() {
            continue;
        }
        let label = name(&class);
        for file in entries(&class)? {
            let extension =
                file.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
            if file.is_file() && EXTENSIONS.contains(&extension.as_str()) {
                let id = file.display().to_string();
                rows.push(Row { path: file, label: label.clone(), id, line: None });
            }
        }
    }
    Ok(rows)
}

/// Contents of a folder in the order of their names, hidden ones left out.
fn entries(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let failed = |source| DataError::Read { path: path.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if !name(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
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
        let names: Vec<_> = samples.samples.iter().map(|s| name(&s.path)).collect();
        assert_eq!(names, ["x.webp", "1.jpg", "2.PNG"]);
    }

    #[test]
    fn an_empty_folder_says_what_is_expected() {
        let dir = folder(&[]);
        let error = Samples::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("no pictures"), "{error}");
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
