//! A file is written beside its place and takes it as a whole.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::fault::{Operation, reach};
use super::folder::{create_folder, is_mount_point, rename, synchronize_folder};
use super::lock::{Lock, is_at, short};
use super::writer::Writer;
use super::{FileError, folder_of, kind};
use crate::terminal::LeftOver;

/// Links behind links that are followed, as the kernel does.
const MOST_LINKS: usize = 40;

/// A file that is complete beside its place. Taken away unless it takes that place.
pub struct Staged {
    /// As it was asked for.
    path: PathBuf,
    part: Part,
}

/// Writes a file whole beside its place; its folder is made.
///
/// # Errors
///
/// Those of `write_to`; [`FileError::Write`], [`FileError::ReadOnly`], and [`FileError::NoOutput`] for folders, pipes
/// and devices.
pub fn stage<E: From<FileError>>(
    path: &Path,
    write_to: impl FnOnce(&mut Writer) -> Result<(), E>,
) -> Result<Staged, E> {
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    let before = look(path)?;
    let place = behind_links(path);
    create_folder(folder_of(&place)).map_err(failed)?;
    remove_left_over(&place);
    let part = Part::make(place).map_err(failed)?;
    Writer::fill(path, part.file.try_clone().map_err(failed)?, true, write_to)?;
    if let Some(before) = before {
        keep_owner(&before, &part.path);
        std::fs::set_permissions(&part.path, before.permissions()).map_err(failed)?;
    }
    Ok(Staged { path: path.to_owned(), part })
}

impl Staged {
    /// Puts the file into its place. A link keeps pointing where it does, modes are kept.
    ///
    /// # Errors
    ///
    /// [`FileError::Write`]; the file of before is then untouched.
    pub fn take_place(self) -> Result<(), FileError> {
        let Self { path, part } = self;
        part.take_place().map_err(|source| FileError::Write { path, source })
    }

    /// Has what was written read again.
    fn verify<E: From<FileError>>(
        &self,
        verify: impl FnOnce(&mut File) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = |source| FileError::Read { path: self.path.clone(), source };
        verify(&mut File::open(&self.part.path).map_err(failed)?)
    }
}

/// Writes a file whole; its folder is made. A file of that name is there as before until the new one is
/// complete. A link keeps pointing where it does, modes are kept.
///
/// # Errors
///
/// As [`stage`]. The file of before is then untouched.
pub fn replace<E: From<FileError>>(
    path: &Path,
    write_to: impl FnOnce(&mut Writer) -> Result<(), E>,
) -> Result<(), E> {
    replace_verified(path, write_to, |_| Ok(()))
}

/// As [`replace`]; what was written is read again by `verify` before it takes the place.
///
/// # Errors
///
/// As [`replace`], and those of `verify`.
pub fn replace_verified<E: From<FileError>>(
    path: &Path,
    write_to: impl FnOnce(&mut Writer) -> Result<(), E>,
    verify: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    let staged = stage(path, write_to)?;
    staged.verify(verify)?;
    Ok(staged.take_place()?)
}

/// Writes bytes as [`replace`] does.
///
/// # Errors
///
/// As [`replace`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    staged(path, bytes)?.take_place()
}

/// Writes files that belong together: all are complete before one takes its place, and only one command at a time
/// puts files beside the first.
///
/// The first one goes before the others change and comes last. If it is there, it and the others were written
/// together, wherever a command was killed.
///
/// # Errors
///
/// As [`replace`]. All files of before are then there as they were; of the files but the first on file systems that
/// give a file two names.
pub fn write_together(files: &[(&Path, &[u8])]) -> Result<(), FileError> {
    let Some((first, _)) = files.first() else { return Ok(()) };
    // What is no file is refused by its name, not by the lock beside it.
    files.iter().try_for_each(|(path, _)| look(path).map(drop))?;
    let _lock = Lock::acquire(first)?;
    let mut all: Vec<Staged> =
        files.iter().map(|(path, bytes)| staged(path, bytes)).collect::<Result<_, _>>()?;
    // The files of before stay beside the new ones until all have taken their places.
    let mut placed: Vec<(PathBuf, Before)> = Vec::new();
    if all.len() > 1 {
        let Staged { path, part } = &all[0];
        let before = Before::take(&part.place)
            .map_err(|source| FileError::Write { path: path.clone(), source })?;
        placed.push((part.place.clone(), before));
        all.rotate_left(1);
    }
    for staged in all {
        let place = staged.part.place.clone();
        let before = Before::keep(&place);
        if let Err(error) = staged.take_place() {
            placed.iter().for_each(|(place, before)| before.put_back(place));
            return Err(error);
        }
        placed.push((place, before));
    }
    Ok(())
}

/// The number of a part that is a second name of the file of before.
const SECOND_NAME: u32 = u32::MAX;

/// The file that another one takes the place of, until that is sure to stay.
enum Before {
    /// There is none.
    Nothing,
    /// A second name of it.
    Kept(PathBuf),
    /// The file system gives no second names.
    Gone,
}

impl Before {
    /// The name that it has meanwhile: as a part is called, so that the next command takes away what a killed one
    /// has left.
    fn second_name(place: &Path) -> PathBuf {
        let name = format!("{}{}.{SECOND_NAME}.part", part_name(place), std::process::id());
        let second = place.with_file_name(name);
        let _ = std::fs::remove_file(&second);
        second
    }

    /// Gives it another name.
    fn take(place: &Path) -> std::io::Result<Self> {
        if !place.exists() {
            return Ok(Self::Nothing);
        }
        let second = Self::second_name(place);
        rename(place, &second)?;
        // The others change once it is gone, also through a power cut, if the disk can promise that.
        let _ = synchronize_folder(folder_of(place));
        Ok(Self::Kept(second))
    }

    /// Gives it one more name.
    fn keep(place: &Path) -> Self {
        if !place.exists() {
            return Self::Nothing;
        }
        let second = Self::second_name(place);
        match std::fs::hard_link(place, &second) {
            Ok(()) => Self::Kept(second),
            Err(_) => Self::Gone,
        }
    }

    /// What cannot be put back is left: the error of the file that could not be written is the one to tell.
    fn put_back(&self, place: &Path) {
        let _ = match self {
            Self::Nothing => std::fs::remove_file(place),
            Self::Kept(second) => std::fs::rename(second, place),
            Self::Gone => Ok(()),
        };
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        if let Self::Kept(second) = self {
            // Put back, it has no second name any more.
            let _ = std::fs::remove_file(second);
        }
    }
}

fn staged(path: &Path, bytes: &[u8]) -> Result<Staged, FileError> {
    stage(path, |writer| {
        let written = writer.write_all(bytes);
        written.map_err(|source| FileError::Write { path: path.to_owned(), source })
    })
}

/// Whether a path is one that [`replace`] may write to, as far as it can be seen.
pub(super) fn check(path: &Path) -> Result<(), FileError> {
    let is_there = look(path)?.is_some();
    if is_there && is_mount_point(path) && !is_mount_point(folder_of(&behind_links(path))) {
        return Err(FileError::Mounted { path: path.to_owned() });
    }
    Ok(())
}

/// Whether a file can be made in the path's folder, as [`replace`] would find out at the end.
pub(super) fn probe(path: &Path) -> Result<(), FileError> {
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    let place = behind_links(path);
    create_folder(folder_of(&place)).map_err(failed)?;
    Part::make(place).map(drop).map_err(failed)
}

/// What is at a path, if it may be replaced.
fn look(path: &Path) -> Result<Option<std::fs::Metadata>, FileError> {
    let path = || path.to_owned();
    match std::fs::metadata(path()) {
        Ok(metadata) if !metadata.is_file() => {
            Err(FileError::NoOutput { path: path(), kind: kind(&metadata) })
        }
        Ok(metadata) if metadata.permissions().readonly() => {
            Err(FileError::ReadOnly { path: path() })
        }
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let is_named = path().file_name().is_some();
            if is_named { Ok(None) } else { Err(FileError::Nameless { path: path() }) }
        }
        Err(source) => Err(FileError::Write { path: path(), source }),
    }
}

/// A file beside its place, locked while it is written; taken away unless it takes that place.
#[derive(Debug)]
struct Part {
    file: File,
    path: PathBuf,
    /// Behind links.
    place: PathBuf,
    in_place: bool,
    /// Dropped when the file is gone or in place.
    _left_over: LeftOver,
}

impl Part {
    fn make(place: PathBuf) -> std::io::Result<Self> {
        reach(Operation::Create)?;
        let beginning = part_name(&place);
        for number in 0_u32.. {
            let name = format!("{beginning}{}.{number}.part", std::process::id());
            let path = place.with_file_name(name);
            let made =
                LeftOver::make(&path, || File::options().write(true).create_new(true).open(&path));
            let (file, left_over) = match made {
                Ok(made) => made,
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            };
            // The lock tells the next command that the writer is alive. One that looked in between has taken
            // the file for a dead one's.
            let is_taken = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
            if !is_taken && is_at(&file, &path) {
                return Ok(Self { file, path, place, in_place: false, _left_over: left_over });
            }
        }
        Err(std::io::ErrorKind::AlreadyExists.into())
    }

    fn take_place(mut self) -> std::io::Result<()> {
        rename(&self.path, &self.place)?;
        self.in_place = true;
        // The file is there; a disk that cannot promise more does not make that a failure.
        let _ = synchronize_folder(folder_of(&self.place));
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.in_place && reach(Operation::Remove).is_ok() {
            // Of no use to anybody; the first error is the one to tell.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// How the names of a file's parts begin. Hidden, so that no folder of images holds one.
fn part_name(place: &Path) -> String {
    format!(".{}.", short(place))
}

/// Parts that killed writers have left, by folder. Each folder is looked at once: where thousands of files are
/// written it would take most of the time.
static LEFT_OVER: Mutex<BTreeMap<PathBuf, Vec<PathBuf>>> = Mutex::new(BTreeMap::new());

/// Takes away what killed writers of this file have left; [`replace`] does so, too.
pub fn remove_left_over(place: &Path) {
    let beginning = part_name(place);
    let mut folders = LEFT_OVER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = folder_of(place).to_owned();
    let parts = folders.entry(folder).or_insert_with_key(|folder| parts_in(folder));
    parts.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_own = is_part_of(&name, &beginning);
        // Whoever is alive holds it.
        if is_own
            && let Ok(file) = File::options().write(true).open(path)
            && is_free(&file, name.ends_with(&format!(".{SECOND_NAME}.part")))
            && reach(Operation::Remove).is_ok()
        {
            let _ = std::fs::remove_file(path);
        }
        !is_own
    });
}

/// Parts of this file that writers have left or are writing.
pub fn parts_of(path: &Path) -> Vec<PathBuf> {
    let place = behind_links(path);
    let beginning = part_name(&place);
    let is_own = |path: &PathBuf| {
        is_part_of(&path.file_name().unwrap_or_default().to_string_lossy(), &beginning)
    };
    parts_in(folder_of(&place)).into_iter().filter(is_own).collect()
}

/// Whether a part's name, which begins like this, has the two numbers and the ending behind it.
fn is_part_of(name: &str, beginning: &str) -> bool {
    name.strip_prefix(beginning).is_some_and(|rest| rest.matches('.').count() == 2)
}

/// Whether nobody alive holds a part. A second name of a file shares the file's locks, which others hold for the
/// moment of this very question.
fn is_free(part: &File, is_second_name: bool) -> bool {
    const MOMENT: std::time::Duration = std::time::Duration::from_millis(5);
    let tries = if is_second_name { 40 } else { 1 };
    (0..tries).any(|attempt| {
        if attempt > 0 {
            std::thread::sleep(MOMENT);
        }
        part.try_lock().is_ok()
    })
}

/// The files of a folder whose names are those of parts.
fn parts_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let is_part = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let numbers = name.strip_suffix(".part").filter(|_| name.starts_with('.'));
        let mut numbers = numbers.into_iter().flat_map(|name| name.rsplitn(3, '.'));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        numbers.next().is_some_and(is_number) && numbers.next().is_some_and(is_number)
    };
    entries.flatten().map(|entry| entry.path()).filter(is_part).collect()
}

/// Where a link leads, also where nothing is there yet; other paths as they are.
pub fn behind_links(path: &Path) -> PathBuf {
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
        assert!(matches!(write(dir.path(), b""), Err(FileError::NoOutput { .. })));
    }

    #[test]
    fn parts_of_the_dead_go_and_those_of_the_living_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(dir.path().join(".a.99.0.part"), b"half").unwrap();
        std::fs::write(dir.path().join(".a.b.1.0.part"), b"another file's").unwrap();
        std::fs::write(dir.path().join(".a.1.part"), b"nobody's").unwrap();
        let alive = Part::make(path.clone()).unwrap();
        write(&path, b"x").unwrap();
        let alive_name = alive.path.file_name().unwrap().to_string_lossy().into_owned();
        let mut expected =
            vec![".a.b.1.0.part".to_owned(), ".a.1.part".to_owned(), alive_name, "a".to_owned()];
        expected.sort();
        assert_eq!(names(dir.path()), expected);
        write(&dir.path().join("a.b"), b"y").unwrap();
        assert!(!names(dir.path()).contains(&".a.b.1.0.part".to_owned()));
    }

    #[test]
    fn what_cannot_be_read_again_does_not_take_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write(&path, b"old").unwrap();
        let mut read = String::new();
        let verified: Result<(), anyhow::Error> = replace_verified(
            &path,
            |writer| Ok(writer.write_all(b"new")?),
            |file| {
                std::io::Read::read_to_string(file, &mut read)?;
                anyhow::bail!("unreadable")
            },
        );
        assert_eq!(verified.unwrap_err().to_string(), "unreadable");
        assert_eq!((read.as_str(), &*std::fs::read(&path).unwrap()), ("new", &b"old"[..]));
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn files_that_belong_together_are_complete_before_one_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        write_together(&[(&a, b"1"), (&b, b"2")]).unwrap();
        // A folder takes no bytes; by then the first one is written, but not in place.
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        let refused = write_together(&[(&a, b"3"), (&folder, b"4")]);
        assert!(matches!(refused, Err(FileError::NoOutput { .. })));
        assert_eq!(std::fs::read(&a).unwrap(), b"1");
        assert_eq!(std::fs::read(&b).unwrap(), b"2");
        assert_eq!(names(dir.path()), ["a", "b", "folder"]);
    }

    #[test]
    fn long_names_have_shorter_parts() {
        let dir = tempfile::tempdir().unwrap();
        let name = "ü".repeat(125) + ".bin";
        write(&dir.path().join(&name), b"x").unwrap();
        drop(Lock::acquire(&dir.path().join(&name)).unwrap());
        assert_eq!(names(dir.path()), [name]);
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
        let refused = write(Path::new("/dev/null"), b"gone");
        assert!(matches!(refused, Err(FileError::NoOutput { kind: "a device", .. })));
    }
}
