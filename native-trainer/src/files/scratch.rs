//! Files without a name that are gone when the command is.

use std::fs::File;
use std::io::{Error, Read, Result, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::fault::{Operation, reach};
use super::{FileError, folder_of};

/// A scratch file for something that is going to be written to a path. It lies beside that, where there is
/// room for as many bytes, and has no name where the system allows that.
#[derive(Debug)]
pub struct Scratch {
    file: File,
    /// What it is for.
    path: PathBuf,
}

impl Scratch {
    /// An empty one beside `path`, whose folder is there.
    ///
    /// # Errors
    ///
    /// [`FileError::Write`]
    pub fn beside(path: &Path) -> std::result::Result<Self, FileError> {
        let place = super::behind_links(path);
        let made = reach(Operation::Create).and_then(|()| tempfile::tempfile_in(folder_of(&place)));
        let failed = |source| FileError::Write { path: path.to_owned(), source };
        Ok(Self { file: made.map_err(failed)?, path: path.to_owned() })
    }

    /// Says what could not be written; a file without a name cannot be named.
    fn named(&self, error: &Error) -> Error {
        Error::new(error.kind(), format!("{}: {error}; the file is as it was", self.path.display()))
    }
}

impl Read for Scratch {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.file.read(buffer)
    }
}

impl Write for Scratch {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let written = reach(Operation::Write).and_then(|()| self.file.write(bytes));
        written.map_err(|error| self.named(&error))
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush()
    }
}

impl Seek for Scratch {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_has_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut scratch = Scratch::beside(&dir.path().join("gallery.bin")).unwrap();
        scratch.write_all(b"rows").unwrap();
        scratch.rewind().unwrap();
        let mut text = String::new();
        scratch.read_to_string(&mut text).unwrap();
        assert_eq!(text, "rows");
        drop(scratch);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let nowhere = Scratch::beside(&dir.path().join("none/gallery.bin"));
        assert!(matches!(nowhere, Err(FileError::Write { .. })));
    }
}
