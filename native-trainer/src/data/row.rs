//! One image as a list file or a folder names it, and why that is none.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::left_out::{Group, LeftOut, shown};
use crate::files::FileError;
use crate::terminal::reason;

/// Why a list of pictures could not be used; the file and the line are named.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder cannot be read.
    #[error("{}: {}", path.display(), reason(source))]
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
    #[error("{}: no pictures; expected a folder of folders (one per class) or a list file", path.display())]
    Empty {
        /// The list file or folder.
        path: PathBuf,
    },
    /// A zip file cannot be used.
    #[error("{}: {reason}", path.display())]
    Archive {
        /// The zip file.
        path: PathBuf,
        /// Why, and what helps.
        reason: String,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A folder holds something, but no picture of a class.
    #[error(
        "{}: no pictures; expected a folder of folders (one per class) or a list file\n{left_out}", path.display()
    )]
    NothingTaken {
        /// The folder.
        path: PathBuf,
        /// What is left out and why, as the lines behind the sentence.
        left_out: String,
    },
    /// The data do not fit the recipe.
    #[error("{0}")]
    Unsuitable(String),
}

impl DataError {
    /// Of a place from which no picture is taken.
    pub(super) fn of_nothing(path: &Path, left_out: &[LeftOut]) -> Self {
        let path = path.to_owned();
        if left_out.is_empty() {
            return Self::Empty { path };
        }
        let lines: Vec<String> = Group::all(left_out).iter().map(ToString::to_string).collect();
        Self::NothingTaken { path, left_out: lines.join("\n") }
    }
}

/// One picture as it is listed.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) path: PathBuf,
    pub(super) label: String,
    pub(super) id: String,
    /// Of the list file, counted from 1; `None` in a folder.
    pub(super) line: Option<usize>,
}

impl Row {
    /// A file in a class's folder.
    pub(super) fn of_folder(path: PathBuf, label: &str) -> Self {
        Self { id: shown(&path), path, label: label.to_owned(), line: None }
    }
}
