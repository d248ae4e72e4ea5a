//! Files that grow by frames: what was answered is on the disk before it is answered.
//!
//! A frame is its length, the first half of the SHA-256 of its text, and the text. A kill or a power cut leaves a last
//! frame that is not whole, and nothing of that was answered.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::bail;
use models::gallery::ContentId;
use serde::Serialize;

use crate::files::{FileError, Operation, reach};

/// Bytes before the text of a frame.
const HEAD: usize = 20;
/// Most bytes of a frame.
const FRAME: usize = 1 << 30;

/// The text of the frame that bytes begin with, and what is behind it; `None` where it is not whole.
pub(crate) fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let length = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
    if length > FRAME {
        return None;
    }
    let (text, behind) = rest.split_at_checked(length)?;
    (ContentId::of(text).0 == head[4..]).then_some((text, behind))
}

/// Whether a frame that is whole stands behind one that is not: it was answered, and so was the one before it.
pub(crate) fn is_damaged(rest: &[u8]) -> bool {
    (1..rest.len()).any(|at| frame(&rest[at..]).is_some_and(|(text, _)| !text.is_empty()))
}

/// A value as a frame.
///
/// # Errors
///
/// One that is too large for a frame.
pub(crate) fn framed(value: &impl Serialize) -> anyhow::Result<Vec<u8>> {
    let text = serde_json::to_vec(value)?;
    if text.len() > FRAME {
        bail!("a change of {} bytes is more than the journal takes; make it smaller", text.len());
    }
    let mut bytes = (text.len() as u32).to_le_bytes().to_vec();
    bytes.extend(ContentId::of(&text).0);
    bytes.extend(text);
    Ok(bytes)
}

/// A file that is written to at its end.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    /// Bytes that are whole.
    bytes: u64,
    /// Whether more may stand behind them, which could not be taken away.
    broken: bool,
}

impl Log {
    /// Opens a file of which so many bytes are whole; what a kill has left behind them goes.
    ///
    /// # Errors
    ///
    /// A file that cannot be written to.
    pub(crate) fn open(path: &Path, bytes: u64) -> Result<Self, FileError> {
        let failed = |source| FileError::Append { path: path.to_owned(), source };
        let mut file = File::options().write(true).open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() != bytes {
            file.set_len(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        }
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file, bytes, broken: false })
    }

    /// Bytes that are whole.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a value as a frame; it is kept through a power cut when this returns.
    ///
    /// # Errors
    ///
    /// A disk that takes no more: nothing of it is kept.
    pub(crate) fn append(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        if self.broken {
            bail!(
                "{}: what an earlier change has left of itself could not be taken away; start the service again",
                self.path.display()
            );
        }
        let bytes = framed(value)?;
        let written = reach(Operation::Write)
            .and_then(|()| self.file.write_all(&bytes))
            .and_then(|()| reach(Operation::Synchronize))
            .and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            let back = self.file.set_len(self.bytes);
            let back = back.and_then(|()| self.file.seek(SeekFrom::Start(self.bytes)));
            self.broken = back.and_then(|_at| self.file.sync_data()).is_err();
            return Err(FileError::Append { path: self.path.clone(), source }.into());
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}
