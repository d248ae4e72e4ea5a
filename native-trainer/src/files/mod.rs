//! Files that are read within a limit, replaced as a whole, and locked while they are changed.
//!
//! Whatever is written goes into a file beside its place, is synchronized and renamed: a full disk, a kill or
//! a power cut leaves the file of before. Links and modes are kept.

mod fault;
mod folder;
mod links;
mod lock;
mod own;
mod replace;
mod scratch;
mod text;
pub mod wanted;
mod writer;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::terminal::reason;

pub use fault::{Operation, reach};
pub use folder::{
    create, create_folder, exchange, hard_link, has_mount_below, is_folder, is_mount_point,
    refuse_others, remove_file, remove_folder, rename, synchronize, synchronize_folder,
};
pub use links::name_inside;
pub use lock::Lock;
pub use own::{kind_of, kind_of_bytes, told_as_own};
pub use replace::{
    Staged, behind_links, parts_of, remove_left_over, replace, replace_verified, stage, write,
    write_together,
};
pub use scratch::Scratch;
pub use text::{MARK, TextError, text};
pub use writer::Writer;

/// Most bytes of an image file that are read: twice what a camera of 200 megapixels writes without compression
/// losses.
pub const IMAGE_LIMIT: u64 = 512 << 20;
/// Most bytes of a text file (list, recipe, metadata, annotations) that are read.
pub const TEXT_LIMIT: u64 = 2 << 30;
/// Most bytes of a model file or checkpoint that are read.
pub const MODEL_LIMIT: u64 = 8 << 30;

/// Why a file could not be read, written or locked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system refused to read.
    #[error("{}: {}", path.display(), reason(source))]
    Read {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing is there.
    #[error("{}: there is no such file or folder; give {wanted}", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
        /// What should be there, with its article; see [`wanted`].
        wanted: &'static str,
    },
    /// A folder, a pipe or a device where a file is expected.
    #[error("{}: this is {kind}; give a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What is there, with its article.
        kind: &'static str,
    },
    /// More bytes than are read of a file of its kind.
    #[error("{}: larger than the {limit} bytes that are read of such a file; give a smaller one", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// In bytes.
        limit: u64,
    },
    /// Something else than a file where one is to be written.
    #[error("{}: this is {kind}; an output is a file, a link to one, or a free name", path.display())]
    NoOutput {
        /// The path.
        path: PathBuf,
        /// What is there, with its article.
        kind: &'static str,
    },
    /// The system refused to write; what the file held before is there still.
    #[error("{}: {}; the file is as it was", path.display(), reason(source))]
    Write {
        /// The file that was to be written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system refused to write at the end of a file that grows.
    #[error("{}: {}; what it held before is kept", path.display(), reason(source))]
    Append {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system refused to take something away.
    #[error("{}: cannot be taken away: {}", path.display(), reason(source))]
    Remove {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The path has no last name, so that no file can lie there.
    #[error("{:?}: names no file; give a path that ends with a name", path.display().to_string())]
    Nameless {
        /// The path.
        path: PathBuf,
    },
    /// A file that is mounted by itself cannot be replaced by another.
    #[error(
        "{}: is mounted by itself and cannot be replaced; mount its folder instead",
        path.display()
    )]
    Mounted {
        /// The file.
        path: PathBuf,
    },
    /// The file is marked as read-only.
    #[error("{}: is read-only; make it writable or choose another name", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// A file where a folder is to be written to.
    #[error("{}: is a file; name a folder", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// A link that leads to nothing where a folder is to be written to: whoever made it meant something that is gone.
    #[error(
        "{}: is a link to {}, where nothing is; make that folder, or take the link away",
        path.display(),
        to.display()
    )]
    Dangling {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        to: PathBuf,
    },
    /// Files of others where a command keeps its own.
    #[error("{}: holds {what} ({name}); {advice}", path.display())]
    Others {
        /// The folder.
        path: PathBuf,
        /// Whether it is a folder or a file.
        what: &'static str,
        /// The first of them.
        name: String,
        /// What to give instead.
        advice: &'static str,
    },
    /// The output is one of the inputs.
    #[error("{}: is read by this command; choose another name for what it writes", path.display())]
    IsInput {
        /// The output.
        path: PathBuf,
    },
    /// Two outputs would be one file.
    #[error("{}: would be written twice by this command; choose another name", path.display())]
    Twice {
        /// The output.
        path: PathBuf,
    },
    /// A file has the name of one that is to be written, and the command may not replace it.
    #[error("{}: is there already; choose another place, or give --overwrite to replace it", path.display())]
    Taken {
        /// The file.
        path: PathBuf,
    },
    /// The lock beside a file cannot be had.
    #[error("{}: cannot be locked: {}", path.display(), reason(source))]
    Lock {
        /// The file that was to be locked.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl FileError {
    /// The same; where nothing is at the path, it says what should be.
    #[must_use]
    pub fn wanted(self, wanted: &'static str) -> Self {
        match self {
            Self::Read { path, source } if source.kind() == ErrorKind::NotFound => {
                Self::Missing { path, wanted }
            }
            other => other,
        }
    }
}

/// Reads a file of at most `limit` bytes whole.
///
/// # Errors
///
/// [`FileError::Read`], [`FileError::NotAFile`] for pipes and devices, which might never end, and
/// [`FileError::TooLarge`].
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let length = length(path, limit)?;
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::with_capacity(length as usize);
    // It may grow meanwhile.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// Bytes of a file that is read by others, at most `limit`.
///
/// # Errors
///
/// As [`read`].
pub fn length(path: &Path, limit: u64) -> Result<u64, FileError> {
    let metadata = std::fs::metadata(path);
    let metadata = metadata.map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    if !metadata.is_file() {
        return Err(FileError::NotAFile { path: path.to_owned(), kind: kind(&metadata) });
    }
    if metadata.len() > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(metadata.len())
}

/// Checks, before a command begins its work, that `outputs` can be written and are neither `inputs` nor each
/// other. Makes their folders. Inputs may be folders, and may be missing.
///
/// # Errors
///
/// [`FileError::IsInput`], [`FileError::Twice`], [`FileError::ReadOnly`], [`FileError::NoOutput`] for folders, pipes
/// and devices, [`FileError::Nameless`], [`FileError::Mounted`], and [`FileError::Write`] for a folder that takes no
/// files.
pub fn check_outputs(outputs: &[&Path], inputs: &[&Path]) -> Result<(), FileError> {
    let (mut places, mut folders) = (BTreeSet::new(), BTreeSet::new());
    let mut read: Option<BTreeSet<Node>> = None;
    for output in outputs {
        let path = || (*output).to_owned();
        replace::check(output)?;
        // What is read is there; so is an output that is the same.
        if let Some(output) = node(output) {
            let inputs =
                read.get_or_insert_with(|| inputs.iter().filter_map(|input| node(input)).collect());
            if inputs.contains(&output) {
                return Err(FileError::IsInput { path: path() });
            }
        }
        if folders.insert(folder_of(&whole(output)).to_owned()) {
            replace::probe(output)?;
        }
        // Only now its folder is there for sure, and with it one spelling of the path.
        if !places.insert(whole(output)) {
            return Err(FileError::Twice { path: path() });
        }
    }
    Ok(())
}

/// Checks that nothing has the name of an output.
///
/// # Errors
///
/// [`FileError::Taken`]
pub fn check_free<'a>(outputs: impl IntoIterator<Item = &'a Path>) -> Result<(), FileError> {
    match outputs.into_iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(FileError::Taken { path: path.to_owned() }),
        None => Ok(()),
    }
}

/// Whether two paths name one file, through links too, also where it is not there yet.
pub fn is_same(a: &Path, b: &Path) -> bool {
    whole(a) == whole(b) || node(a).is_some_and(|a| node(b) == Some(a))
}

/// The same path for the same place, however it is spelled, as far as its folder is there.
pub fn whole(path: &Path) -> PathBuf {
    let path = behind_links(path);
    if let Ok(whole) = path.canonicalize() {
        return whole;
    }
    match (folder_of(&path).canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path,
    }
}

/// How a path goes on in a folder that it leads into, empty for the folder itself; also where either is not there yet.
pub fn within(path: &Path, folder: &Path) -> Option<PathBuf> {
    resolved(path).strip_prefix(resolved(folder)).ok().map(Path::to_owned)
}

/// The same path for the same place, as far as anything of it is there.
fn resolved(path: &Path) -> PathBuf {
    let path = whole(path);
    match (path.is_absolute(), path.parent(), path.file_name()) {
        // Only what is there has one spelling.
        (false, Some(_), Some(name)) => resolved(folder_of(&path)).join(name),
        _ => path,
    }
}

/// What tells a file from all others: two names of one, as `ln` makes them, have one.
#[cfg(unix)]
type Node = (u64, u64);
/// What tells a file from all others.
#[cfg(not(unix))]
type Node = PathBuf;

/// Of what is at a path, behind links.
#[cfg(unix)]
fn node(path: &Path) -> Option<Node> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|there| (there.dev(), there.ino()))
}

/// Of what is at a path, behind links.
#[cfg(not(unix))]
fn node(path: &Path) -> Option<Node> {
    path.canonicalize().ok()
}

/// The folder that a path lies in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What a path is that is no file, with its article.
fn kind(metadata: &std::fs::Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = metadata.file_type();
        if kind.is_fifo() {
            return "a pipe";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
        if kind.is_socket() {
            return "a socket";
        }
    }
    if metadata.is_dir() { "a folder" } else { "something else" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_pipes_devices_and_large_files_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        std::fs::write(&file, [7; 9]).unwrap();
        assert_eq!(read(&file, 9).unwrap(), [7; 9]);
        assert!(matches!(read(&file, 8), Err(FileError::TooLarge { limit: 8, .. })));
        assert!(matches!(read(dir.path(), 8), Err(FileError::NotAFile { kind: "a folder", .. })));
        if cfg!(unix) {
            let zero = Path::new("/dev/zero");
            assert!(matches!(read(zero, 8), Err(FileError::NotAFile { kind: "a device", .. })));
        }
        assert!(matches!(read(&dir.path().join("b"), 8), Err(FileError::Read { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn an_output_that_is_an_input_is_refused_however_it_is_spelled() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("a");
        std::fs::write(&input, b"x").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&input, &link).unwrap();
        let hard = dir.path().join("hard");
        std::fs::hard_link(&input, &hard).unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        for output in [&input, &link, &hard, &dir.path().join("d/../a")] {
            let checked = check_outputs(&[output], &[dir.path(), &input]);
            assert!(matches!(checked, Err(FileError::IsInput { .. })), "{}", output.display());
        }
        let fresh = dir.path().join("new/x");
        check_outputs(&[&fresh, &dir.path().join("new/y")], &[&input]).unwrap();
        let again = dir.path().join("other/../new/x");
        std::fs::create_dir(dir.path().join("other")).unwrap();
        let none: [&Path; 0] = [];
        assert!(matches!(check_outputs(&[&fresh, &again], &none), Err(FileError::Twice { .. })));
        for (other, kind) in [(dir.path(), "a folder"), (Path::new("/dev/null"), "a device")] {
            let refused = check_outputs(&[other], &none).unwrap_err();
            assert!(matches!(&refused, FileError::NoOutput { kind: k, .. } if *k == kind));
            assert!(refused.to_string().ends_with("a file, a link to one, or a free name"));
        }
        for nameless in ["", "/", ".."] {
            let checked = check_outputs(&[Path::new(nameless)], &none);
            let folder = matches!(checked, Err(FileError::NoOutput { kind: "a folder", .. }));
            assert!(folder || matches!(checked, Err(FileError::Nameless { .. })), "{nameless:?}");
        }
        assert_eq!(std::fs::read_dir(dir.path().join("new")).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_path_lies_in_a_folder_however_both_are_spelled() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("data", &link).unwrap();
        for inside in ["data", "data/new/run", "link", "link/run", "data/../link/x"] {
            assert!(within(&dir.path().join(inside), &data).is_some(), "{inside}");
            assert!(within(&dir.path().join(inside), &link).is_some(), "{inside}");
        }
        for outside in ["", "data-2", "other/run"] {
            assert_eq!(within(&dir.path().join(outside), &data), None, "{outside}");
        }
        let next = within(Path::new("none/at/all"), Path::new("none"));
        assert_eq!(next.as_deref(), Some(Path::new("at/all")));
        assert_eq!(within(&data, &link).as_deref(), Some(Path::new("")));
        assert_eq!(within(Path::new("none/at"), Path::new("none/else")), None);
    }
}
