//! The bytes of a file on their way to the disk.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::FileError;
use super::fault::{Operation, reach};

/// Bytes that are handed over at once.
const BUFFER: usize = 1 << 20;

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

impl Writer {
    /// Has a file written, and synchronized on demand.
    pub(super) fn fill<E: From<FileError>>(
        path: &Path,
        file: File,
        synchronize: bool,
        write_to: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = |source| FileError::Write { path: path.to_owned(), source };
        let counted = Counted { file, refused: None };
        let mut writer = Self { inner: BufWriter::with_capacity(BUFFER, counted) };
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
}
