//! Folders and the names in them: made, linked, exchanged, taken away.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::path::Path;

use super::fault::{Operation, reach};
use super::writer::Writer;
use super::{FileError, folder_of};

/// Makes a folder and those that it lies in, and makes their names outlive a power cut.
///
/// # Errors
///
/// What the system says, also where something else has the name.
pub fn create_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder_of(folder);
    if above != folder {
        create_folder(above)?;
    }
    reach(Operation::Create)?;
    match std::fs::create_dir(folder) {
        // Another command was sooner.
        Err(error) if error.kind() != ErrorKind::AlreadyExists || !folder.is_dir() => {
            // A file or a link to nothing that has the name says more than that something has it.
            Err(match is_folder(folder) {
                Err(told) => Error::new(error.kind(), told),
                Ok(_) => error,
            })
        }
        _ => {
            // The folder is there; a disk that cannot promise more does not make that a failure.
            let _ = synchronize_folder(above);
            Ok(())
        }
    }
}

/// Whether a folder is there that may be written to; `false` where nothing is, so that one can be made.
///
/// # Errors
///
/// [`FileError::NotAFolder`], [`FileError::Dangling`], [`FileError::ReadOnly`], [`FileError::Read`]
pub fn is_folder(path: &Path) -> std::result::Result<bool, FileError> {
    let error = match std::fs::metadata(path) {
        Ok(there) if !there.is_dir() => {
            return Err(FileError::NotAFolder { path: path.to_owned() });
        }
        Ok(there) if there.permissions().readonly() => {
            return Err(FileError::ReadOnly { path: path.to_owned() });
        }
        Ok(_) => return Ok(true),
        Err(error) => error,
    };
    // What there is of the path may hinder the rest.
    if let Some(above) = path.ancestors().find(|above| above.symlink_metadata().is_ok()) {
        match (std::fs::read_link(above), std::fs::metadata(above)) {
            (Ok(to), Err(error)) if error.kind() == ErrorKind::NotFound => {
                return Err(FileError::Dangling { path: above.to_owned(), to });
            }
            (_, Ok(there)) if !there.is_dir() => {
                return Err(FileError::NotAFolder { path: above.to_owned() });
            }
            _ => (),
        }
    }
    if error.kind() == ErrorKind::NotFound {
        return Ok(false);
    }
    Err(FileError::Read { path: path.to_owned(), source: error })
}

/// Refuses a folder that holds somebody else's files; `is_own` is asked for each name. Names that begin with a dot are
/// left alone: those of version control, locks and files on their way.
///
/// # Errors
///
/// [`FileError::Others`] with `advice`, [`FileError::Read`]
pub fn refuse_others(
    given: &Path,
    place: &Path,
    advice: &'static str,
    is_own: impl Fn(&str) -> bool,
) -> std::result::Result<(), FileError> {
    let unread = |source| FileError::Read { path: given.to_owned(), source };
    let mut others = Vec::new();
    for entry in std::fs::read_dir(place).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(b".") && !name.to_str().is_some_and(&is_own) {
            others.push((entry.path().is_dir(), name));
        }
    }
    let Some((is_folder, name)) = others.into_iter().min() else { return Ok(()) };
    let what = if is_folder { "another folder" } else { "other files" };
    let name = name.display().to_string();
    Err(FileError::Others { path: given.to_owned(), what, name, advice })
}

/// Writes a file that is not there yet, in a folder that nobody looks into before it is complete; [`synchronize`] is
/// for the end, when that takes less time for all of them.
///
/// # Errors
///
/// [`FileError::Write`], and those of `write_to`.
pub fn create<E: From<FileError>>(
    path: &Path,
    write_to: impl FnOnce(&mut Writer) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    create_folder(folder_of(path)).map_err(failed)?;
    reach(Operation::Create).map_err(failed)?;
    let file = File::options().write(true).create_new(true).open(path).map_err(failed)?;
    Writer::fill(path, file, false, write_to)
}

/// Makes a file's bytes outlive a power cut.
///
/// # Errors
///
/// [`FileError::Write`]
pub fn synchronize(path: &Path) -> std::result::Result<(), FileError> {
    let synchronized = reach(Operation::Synchronize).and_then(|()| File::open(path)?.sync_all());
    synchronized.map_err(|source| FileError::Write { path: path.to_owned(), source })
}

/// Makes the names in a folder outlive a power cut.
///
/// # Errors
///
/// What the system says.
pub fn synchronize_folder(folder: &Path) -> Result<()> {
    reach(Operation::Synchronize)?;
    // Elsewhere a folder cannot be opened as a file.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Gives a file or folder another name on the same disk; a file of that name goes.
///
/// # Errors
///
/// What the system says.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    reach(Operation::Rename)?;
    std::fs::rename(from, to)
}

/// Gives a file a second name.
///
/// # Errors
///
/// What the system says: not every disk can, and not every file may have one.
pub fn hard_link(from: &Path, to: &Path) -> Result<()> {
    reach(Operation::Create)?;
    std::fs::hard_link(from, to)
}

/// Lets two names of one disk mean each other's file or folder, at once.
///
/// # Errors
///
/// What the system says; [`ErrorKind::Unsupported`] where it cannot.
#[cfg(target_os = "linux")]
pub fn exchange(a: &Path, b: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    reach(Operation::Rename)?;
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

/// Lets two names of one disk mean each other's file or folder, at once.
///
/// # Errors
///
/// What the system says; [`ErrorKind::Unsupported`] where it cannot.
#[cfg(not(target_os = "linux"))]
pub fn exchange(_: &Path, _: &Path) -> Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Takes a file or link away, if it is there.
///
/// # Errors
///
/// [`FileError::Remove`]
pub fn remove_file(path: &Path) -> std::result::Result<(), FileError> {
    let removed = reach(Operation::Remove).and_then(|()| std::fs::remove_file(path));
    absent_is_well(path, removed)
}

/// Takes a folder away with all that is in it, if it is there. Links in it are not followed.
///
/// # Errors
///
/// [`FileError::Remove`]
pub fn remove_folder(path: &Path) -> std::result::Result<(), FileError> {
    let removed = reach(Operation::Remove).and_then(|()| std::fs::remove_dir_all(path));
    absent_is_well(path, removed)
}

fn absent_is_well(path: &Path, removed: Result<()>) -> std::result::Result<(), FileError> {
    match removed {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(FileError::Remove { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Whether another disk, or another folder, is mounted at a path, so that the name cannot be given to another.
pub fn is_mount_point(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    other_device(&path) || mounts().any(|mount| mount == path.as_os_str().as_encoded_bytes())
}

/// Whether something is mounted in a folder, however deep.
pub fn has_mount_below(folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let mut beginning = folder.into_os_string().into_encoded_bytes();
    if !beginning.ends_with(b"/") {
        beginning.push(b'/');
    }
    mounts().any(|mount| mount.starts_with(&beginning))
}

#[cfg(unix)]
fn other_device(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| path.metadata().map(|metadata| metadata.dev()).ok();
    path.parent().is_none_or(|above| device(above) != device(path))
}

#[cfg(not(unix))]
fn other_device(path: &Path) -> bool {
    path.parent().is_none()
}

/// Where things are mounted, as far as the system tells.
fn mounts() -> impl Iterator<Item = Vec<u8>> {
    let list =
        if cfg!(target_os = "linux") { std::fs::read("/proc/self/mountinfo").ok() } else { None };
    let lines: Vec<Vec<u8>> =
        list.unwrap_or_default().split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    lines.into_iter().filter_map(|line| {
        let place = line.split(|byte| *byte == b' ').nth(4)?;
        Some(unescaped(place))
    })
}

/// Blanks, tabs, newlines and backslashes of a path are three octal digits there.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let code =
            tail.get(..3).filter(|code| code.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        match code {
            Some(code) if *first == b'\\' => {
                bytes.push(code.iter().fold(0_u8, |sum, digit| (sum << 3) | (digit - b'0')));
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_file_and_a_link_to_nothing_are_no_folders_to_write_to() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), b"x").unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        std::os::unix::fs::symlink("gone", at("link")).unwrap();
        std::os::unix::fs::symlink("folder", at("well")).unwrap();
        for (name, is_there) in [("folder", true), ("well", true), ("new", false), ("a/b", false)] {
            assert_eq!(is_folder(&at(name)).unwrap(), is_there, "{name}");
        }
        for (name, of) in [("file", "file"), ("file/deep/er", "file")] {
            let refused = is_folder(&at(name)).unwrap_err();
            assert!(
                matches!(&refused, FileError::NotAFolder { path } if *path == at(of)),
                "{refused}"
            );
        }
        for name in ["link", "link/deep/er"] {
            let refused = is_folder(&at(name)).unwrap_err();
            let is_it = matches!(&refused, FileError::Dangling { path, to } if *path == at("link") && to == Path::new("gone"));
            assert!(is_it, "{refused}");
        }
        for (name, told) in [("file/deep", "file: is a file"), ("link", "link: is a link to gone")]
        {
            let refused = create_folder(&at(name)).unwrap_err().to_string();
            assert!(refused.contains(told), "{refused}");
        }
        assert!(!at("gone").exists());
    }

    #[test]
    fn files_of_others_are_named_and_own_and_hidden_ones_are_let_be() {
        let dir = tempfile::tempdir().unwrap();
        let refused = || refuse_others(dir.path(), dir.path(), "go", |name| name == "own");
        for name in [".hidden", "own"] {
            std::fs::write(dir.path().join(name), b"x").unwrap();
        }
        refused().unwrap();
        std::fs::write(dir.path().join("b"), b"x").unwrap();
        assert!(refused().unwrap_err().to_string().ends_with("holds other files (b); go"));
        std::fs::create_dir(dir.path().join("c")).unwrap();
        assert!(refused().unwrap_err().to_string().contains("(b)"));
    }

    #[test]
    fn folders_are_exchanged_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        std::fs::create_dir(&a).unwrap();
        create_folder(&b.join("deep")).unwrap();
        std::fs::write(a.join("x"), b"x").unwrap();
        match exchange(&a, &b) {
            Ok(()) => assert!(b.join("x").is_file() && a.join("deep").is_dir()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
        }
        assert!(exchange(&a, &dir.path().join("c")).is_err(), "nothing to exchange it for");
    }

    #[test]
    fn mount_points_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_mount_point(dir.path()));
        assert!(!has_mount_below(dir.path()));
        if cfg!(unix) {
            assert!(is_mount_point(Path::new("/")));
        }
        if cfg!(target_os = "linux") {
            assert!(is_mount_point(Path::new("/proc")));
            assert!(has_mount_below(Path::new("/")));
        }
        assert_eq!(unescaped(b"/a\\040b\\134c\\09"), b"/a b\\c\\09");
    }

    #[test]
    fn what_is_not_there_is_taken_away_already() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x/y");
        create(&path, |writer| {
            writer
                .write_all(b"new")
                .map_err(|source| FileError::Write { path: path.clone(), source })
        })
        .unwrap();
        let again = create(&path, |_| Ok::<(), FileError>(()));
        assert!(matches!(again, Err(FileError::Write { .. })), "nothing is written over");
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        for _ in 0..2 {
            remove_file(&path).unwrap();
            remove_folder(path.parent().unwrap()).unwrap();
        }
        assert!(matches!(remove_file(dir.path()), Err(FileError::Remove { .. })));
    }
}
