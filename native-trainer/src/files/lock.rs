//! One command at a time changes a file or folder.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use super::fault::{Operation, reach};
use super::folder::create_folder;
use super::{FileError, folder_of, whole};
use crate::terminal::LeftOver;

/// Longest last name that parts and locks carry as it is, in bytes; systems take 255 with what is added.
const LONGEST: usize = 200;

/// Held from reading to renaming. The system releases it when the process ends, however that ends.
///
/// The lock is a file beside what is locked, `.NAME.lock`: what is locked is replaced by renaming, which a lock
/// on itself would not survive. It holds the number of the process, and is taken away with the lock. Where the
/// file system knows no locks there is none, which is said on the standard error.
#[derive(Debug)]
pub struct Lock {
    file: File,
    left_over: Option<LeftOver>,
}

impl Lock {
    /// Waits until no other command holds the lock of `target` (a file or folder, there already or not), and
    /// says on the standard error what it waits for.
    ///
    /// # Errors
    ///
    /// [`FileError::Lock`].
    pub fn acquire(target: &Path) -> Result<Self, FileError> {
        Self::take(target, true).and_then(|lock| {
            lock.ok_or_else(|| FileError::Lock {
                path: target.to_owned(),
                source: std::io::ErrorKind::WouldBlock.into(),
            })
        })
    }

    /// `None` where another command holds it.
    ///
    /// # Errors
    ///
    /// [`FileError::Lock`].
    pub fn try_acquire(target: &Path) -> Result<Option<Self>, FileError> {
        Self::take(target, false)
    }

    fn take(target: &Path, wait: bool) -> Result<Option<Self>, FileError> {
        let failed = |source| FileError::Lock { path: target.to_owned(), source };
        let place = whole(target);
        let path = folder_of(&place).join(format!(".{}.lock", short(&place)));
        create_folder(folder_of(&path)).map_err(failed)?;
        let mut told = false;
        loop {
            reach(Operation::Create).map_err(failed)?;
            let mut options = File::options();
            let options = options.create(true).truncate(false).read(true).write(true);
            let taken = LeftOver::make(&path, || {
                let file = options.open(&path)?;
                match file.try_lock() {
                    Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                        eprintln!(
                            "{}: this file system knows no locks; let one command at a time change it",
                            target.display()
                        );
                    }
                    locked => locked?,
                }
                // Who held it has taken the file away; the next one may lie there already.
                if is_at(&file, &path) { Ok(file) } else { Err(ErrorKind::Interrupted.into()) }
            });
            match taken {
                Ok((mut file, left_over)) => {
                    // Only a reader's help; a full disk keeps nobody from working.
                    let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
                    return Ok(Some(Self { file, left_over: Some(left_over) }));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !wait {
                        return Ok(None);
                    }
                    let mut file = options.open(&path).map_err(failed)?;
                    if !told {
                        eprintln!("waiting: {} changes {}", holder(&mut file), target.display());
                        told = true;
                    }
                    file.lock().map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

/// Who holds a lock, in words.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let number =
        file.take(20).read_to_string(&mut text).ok().and_then(|_| text.parse::<u32>().ok());
    number.map_or_else(|| "another command".to_owned(), |number| format!("process {number}"))
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before it is released, so that nobody holds a lock of the same name. Where it stays, it is free.
        if let Some(left_over) = self.left_over.take()
            && reach(Operation::Remove).is_ok()
        {
            left_over.take_away();
        }
        let _ = self.file.unlock();
    }
}

/// The last name of a path, as far as hidden names beside it have room for it.
pub(super) fn short(place: &Path) -> String {
    let mut name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.truncate(name.floor_char_boundary(LONGEST));
    name
}

/// Whether a path still means an open file.
#[cfg(unix)]
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    }
}

/// Whether a path still means an open file.
#[cfg(not(unix))]
pub(super) fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_at_a_time_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("gallery.bin");
        let held = Lock::acquire(&target).unwrap();
        let other = dir.path().join("../").join(dir.path().file_name().unwrap());
        assert!(Lock::try_acquire(&other.join("gallery.bin")).unwrap().is_none());
        assert!(Lock::try_acquire(&dir.path().join("other.bin")).unwrap().is_some());
        drop(held);
        assert!(Lock::try_acquire(&target).unwrap().is_some());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn no_change_is_lost_between_threads() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("count");
        std::fs::write(&target, "0").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let _lock = Lock::acquire(&target).unwrap();
                        let count: u32 = std::fs::read_to_string(&target).unwrap().parse().unwrap();
                        super::super::write(&target, (count + 1).to_string().as_bytes()).unwrap();
                    }
                });
            }
        });
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "100");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
