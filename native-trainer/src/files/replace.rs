//! A file is written beside its place and takes it as a whole.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::fault::{Operation, reach};
use super::{FileError, folder_of, kind, synchronize_folder};
use crate::terminal::LeftOver;

/// Bytes that are handed over at once.
const BUFFER: usize = 1 << 20;
/// Links behind links that are followed, as the kernel does.
const MOST_LINKS: usize = 40;

/// Takes the bytes of a file that is being written.
pub struct Writer {
    inner: BufWriter<Counted>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Tells of each write, and keeps what was refused: who writes through it may hide the reason.
struct Counted {
    file: File,
    refused: Option<std::io::Error>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = reach(Operation::Write).and_then(|()| self.file.write(bytes));
        if let Err(error) = &written {
            self.refused = Some(again(error));
        }
        written
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// The same error once more.
fn again(error: &std::io::Error) -> std::io::Error {
    match error.raw_os_error() {
        Some(code) => std::io::Error::from_raw_os_error(code),
        None => std::io::Error::new(error.kind(), error.to_string()),
    }
}

/// Writes a file whole; its folder is made. A file of that name is there as before until the new one is
/// complete. A link keeps pointing where it does, modes are kept; a device or pipe is written to.
///
/// # Errors
///
/// Those of `write_to`; [`FileError::Write`], [`FileError::ReadOnly`], and [`FileError::NotAFile`] for a folder.
/// The file of before is then untouched.
pub fn replace<E: From<FileError>>(
    path: &Path,
    write_to: impl FnOnce(&mut Writer) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    let before = look(path)?;
    if let Some(metadata) = &before
        && !metadata.is_file()
    {
        let file = File::options().write(true).open(path).map_err(failed)?;
        return fill(path, file, false, write_to).map(drop);
    }
    let place = behind_links(path);
    let folder = folder_of(&place);
    std::fs::create_dir_all(folder).map_err(failed)?;
    remove_left_over(&place);
    let part = Part::make(&place).map_err(failed)?;
    fill(path, part.file.try_clone().map_err(failed)?, true, write_to)?;
    if let Some(metadata) = before {
        keep_owner(&metadata, &part.path);
        std::fs::set_permissions(&part.path, metadata.permissions()).map_err(failed)?;
    }
    part.take_place(&place).map_err(failed)?;
    synchronize_folder(folder).map_err(failed)?;
    Ok(())
}

/// Writes bytes as [`replace`] does.
///
/// # Errors
///
/// As [`replace`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace(path, |writer| {
        let written = writer.write_all(bytes);
        written.map_err(|source| FileError::Write { path: path.to_owned(), source })
    })
}

/// Whether a file can be written there, as [`replace`] would find out at the end.
pub(super) fn probe(path: &Path) -> Result<(), FileError> {
    if look(path)?.is_some_and(|metadata| !metadata.is_file()) {
        return Ok(());
    }
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    let place = behind_links(path);
    std::fs::create_dir_all(folder_of(&place)).map_err(failed)?;
    Part::make(&place).map(drop).map_err(failed)
}

/// What is at a path, if it may be replaced.
fn look(path: &Path) -> Result<Option<std::fs::Metadata>, FileError> {
    let path = || path.to_owned();
    match std::fs::metadata(path()) {
        Ok(metadata) if metadata.is_dir() => {
            Err(FileError::NotAFile { path: path(), kind: kind(&metadata) })
        }
        Ok(metadata) if metadata.permissions().readonly() => {
            Err(FileError::ReadOnly { path: path() })
        }
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::Write { path: path(), source }),
    }
}

fn fill<E: From<FileError>>(
    path: &Path,
    file: File,
    synchronize: bool,
    write_to: impl FnOnce(&mut Writer) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    let counted = Counted { file, refused: None };
    let mut writer = Writer { inner: BufWriter::with_capacity(BUFFER, counted) };
    let written = write_to(&mut writer);
    // The disk's word comes before what others made of it.
    if let Some(source) = writer.inner.get_mut().refused.take() {
        return Err(failed(source).into());
    }
    written?;
    writer.flush().map_err(failed)?;
    if synchronize {
        reach(Operation::Synchronize).map_err(failed)?;
        writer.inner.get_ref().file.sync_all().map_err(failed)?;
    }
    Ok(())
}

/// A file beside its place, locked while it is written; taken away unless it takes that place.
struct Part {
    file: File,
    path: PathBuf,
    in_place: bool,
    /// Dropped when the file is gone or in place.
    _left_over: LeftOver,
}

impl Part {
    fn make(place: &Path) -> std::io::Result<Self> {
        reach(Operation::Create)?;
        let name = part_name(place);
        for number in 0_u32.. {
            let path = place.with_file_name(format!("{name}{}.{number}.part", std::process::id()));
            let made =
                LeftOver::make(&path, || File::options().write(true).create_new(true).open(&path));
            match made {
                Ok((file, left_over)) => {
                    // Nobody else knows it; the lock tells the next command that its writer is alive.
                    let _ = file.try_lock();
                    return Ok(Self { file, path, in_place: false, _left_over: left_over });
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => (),
                Err(error) => return Err(error),
            }
        }
        Err(std::io::ErrorKind::AlreadyExists.into())
    }

    fn take_place(mut self, place: &Path) -> std::io::Result<()> {
        reach(Operation::Rename)?;
        std::fs::rename(&self.path, place)?;
        self.in_place = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.in_place {
            // Of no use to anybody; the first error is the one to tell.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// How the names of a file's parts begin. Hidden, so that no folder of images holds one.
fn part_name(place: &Path) -> String {
    format!(".{}.", place.file_name().unwrap_or_default().to_string_lossy())
}

/// Takes away what killed writers of this file have left.
fn remove_left_over(place: &Path) {
    let beginning = part_name(place);
    let Ok(entries) = std::fs::read_dir(folder_of(place)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let middle = name.strip_prefix(&beginning).and_then(|rest| rest.strip_suffix(".part"));
        let is_part = middle.is_some_and(|middle| {
            middle.split('.').count() == 2 && middle.chars().all(|c| c.is_ascii_digit() || c == '.')
        });
        if !is_part {
            continue;
        }
        let Ok(file) = File::options().write(true).open(entry.path()) else { continue };
        // Whoever is alive holds it.
        if file.try_lock().is_ok() {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Where a link leads, also where nothing is there yet; other paths as they are.
pub(super) fn behind_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&path) {
            // A relative one counts from the link's folder.
            Ok(target) => path = folder_of(&path).join(target),
            Err(_) => break,
        }
    }
    path
}

#[cfg(unix)]
fn keep_owner(metadata: &std::fs::Metadata, part: &Path) {
    use std::os::unix::fs::MetadataExt;
    // Only who may give files away can; for others the file is their own already.
    let _ = std::os::unix::fs::chown(part, Some(metadata.uid()), Some(metadata.gid()));
}

#[cfg(not(unix))]
fn keep_owner(_: &std::fs::Metadata, _: &Path) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_fails_leaves_the_file_of_before_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/a");
        write(&path, b"old").unwrap();
        let failed: Result<(), anyhow::Error> = replace(&path, |writer| {
            writer.write_all(b"new")?;
            writer.flush()?;
            anyhow::bail!("no more")
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        write(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(names(&dir.path().join("sub")), ["a"]);
        assert!(matches!(write(dir.path(), b""), Err(FileError::NotAFile { .. })));
    }

    #[test]
    fn parts_of_the_dead_go_and_those_of_the_living_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(dir.path().join(".a.99.0.part"), b"half").unwrap();
        std::fs::write(dir.path().join(".a.b.1.0.part"), b"another file's").unwrap();
        let alive = Part::make(&path).unwrap();
        write(&path, b"x").unwrap();
        let alive_name = alive.path.file_name().unwrap().to_string_lossy().into_owned();
        let mut expected = vec![".a.b.1.0.part".to_owned(), alive_name, "a".to_owned()];
        expected.sort();
        assert_eq!(names(dir.path()), expected);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_modes_stay_and_read_only_files_are_refused() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("there/a"), dir.path().join("link"));
        symlink("there/a", &link).unwrap();
        write(&link, b"through a link to nothing").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        write(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o440)).unwrap();
        assert!(matches!(write(&link, b"x"), Err(FileError::ReadOnly { .. })));
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        write(Path::new("/dev/null"), b"gone").unwrap();
    }
}
