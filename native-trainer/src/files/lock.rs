//! One command at a time changes a file or folder.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::replace::behind_links;
use super::{FileError, folder_of};
use crate::terminal::LeftOver;

/// Held from reading to renaming. The system releases it when the process ends, however that ends.
///
/// The lock is a file beside what is locked, `.NAME.lock`: what is locked is replaced by renaming, which a lock
/// on itself would not survive. It is taken away with the lock.
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
        let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = folder_of(&place).join(format!(".{name}.lock"));
        std::fs::create_dir_all(folder_of(&path)).map_err(failed)?;
        let mut told = false;
        loop {
            let open = || File::options().create(true).truncate(false).write(true).open(&path);
            let taken = LeftOver::make(&path, || {
                let file = open()?;
                match file.try_lock() {
                    Ok(()) if is_at(&file, &path) => Ok(file),
                    // Who held it has taken the file away; the next one may lie there already.
                    Ok(()) => Err(ErrorKind::Interrupted.into()),
                    Err(error) => Err(error.into()),
                }
            });
            match taken {
                Ok((file, left_over)) => {
                    return Ok(Some(Self { file, left_over: Some(left_over) }));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !wait {
                        return Ok(None);
                    }
                    if !told {
                        eprintln!("waiting: another command changes {}", target.display());
                        told = true;
                    }
                    open().and_then(|file| file.lock()).map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before it is released, so that nobody holds a lock of the same name. Where it stays, it is free.
        if let Some(left_over) = self.left_over.take() {
            left_over.take_away();
        }
        let _ = self.file.unlock();
    }
}

/// The same path for the same place, however it is spelled.
fn whole(target: &Path) -> PathBuf {
    let target = behind_links(target);
    if let Ok(whole) = target.canonicalize() {
        return whole;
    }
    match (folder_of(&target).canonicalize(), target.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => target,
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
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
