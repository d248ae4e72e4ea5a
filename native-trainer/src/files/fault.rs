//! Full disks and kills, for tests: at a chosen operation on files.
//!
//! Builds with debug assertions read `MAGPIE_FAULT`: `full:N` refuses the operation of number N (from 0) and
//! all behind it as a full disk does, `kill:N` ends the process there as `kill -9` does, `count` prints their
//! number at the end of each operation. Other builds hold nothing of this.

/// What is done to the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A file or folder is made.
    Create,
    /// Bytes are handed over.
    Write,
    /// What was handed over is kept through a power cut.
    Synchronize,
    /// A name comes to mean another file.
    Rename,
    /// A name is taken away.
    Remove,
}

/// To be called before an operation.
///
/// # Errors
///
/// Only where a test asks for it.
#[inline]
pub fn reach(operation: Operation) -> std::io::Result<()> {
    if cfg!(debug_assertions) { asked::reach(operation) } else { Ok(()) }
}

mod asked {
    use std::io::{Error, ErrorKind};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Operation;

    #[derive(Clone, Copy)]
    enum Fault {
        Full(u64),
        Kill(u64),
        Count,
    }

    static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
    static DONE: AtomicU64 = AtomicU64::new(0);

    fn asked() -> Option<Fault> {
        let text = std::env::var("MAGPIE_FAULT").ok()?;
        if text == "count" {
            return Some(Fault::Count);
        }
        let (kind, number) = text.split_once(':')?;
        let number = number.parse().ok()?;
        match kind {
            "full" => Some(Fault::Full(number)),
            "kill" => Some(Fault::Kill(number)),
            _ => None,
        }
    }

    pub(super) fn reach(operation: Operation) -> std::io::Result<()> {
        let Some(fault) = *FAULT.get_or_init(asked) else { return Ok(()) };
        let number = DONE.fetch_add(1, Ordering::SeqCst);
        match fault {
            // A full disk still takes names away.
            Fault::Full(from) if number >= from && operation != Operation::Remove => {
                Err(Error::new(ErrorKind::StorageFull, "no space left on device"))
            }
            Fault::Kill(at) if number == at => std::process::abort(),
            Fault::Count => {
                eprintln!("MAGPIE_FAULT {number} {operation:?}");
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
