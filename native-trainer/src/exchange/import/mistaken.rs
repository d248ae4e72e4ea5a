//! Files that are taken for weights and are none, told by how they begin.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use models::model_file::{ModelDescription, ModelFileError};

use super::ImportError;
use crate::files;

/// Bytes that are looked at.
const BEGINNING: u64 = 512;
/// How Git LFS begins what it puts into the place of a large file.
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Fails for a file that holds no weights whatever its name is: an empty one, a text, an exported network of
/// PaddlePaddle. A file that cannot be read is told by whoever reads it.
///
/// # Errors
///
/// [`ImportError::NoWeights`], [`ImportError::Exported`]
pub(super) fn check(path: &Path) -> Result<(), ImportError> {
    let mut beginning = Vec::new();
    let read = File::open(path).and_then(|file| file.take(BEGINNING).read_to_end(&mut beginning));
    if read.is_err() {
        return Ok(());
    }
    // Version, levels and version of its first tensor.
    if beginning.starts_with(&[0; 16]) {
        let what = "an exported network (.pdiparams)";
        return Err(ImportError::Exported { path: path.to_owned(), what });
    }
    match unlike_weights(&beginning) {
        Some(what) => Err(ImportError::NoWeights { path: path.to_owned(), what }),
        None => Ok(()),
    }
}

/// Fails for a model file of this project, which needs no taking over.
///
/// # Errors
///
/// [`ImportError::Own`]
pub(super) fn check_own(path: &Path, bytes: &[u8]) -> Result<(), ImportError> {
    match ModelDescription::of_file(bytes) {
        Ok(_) | Err(ModelFileError::Format { .. }) => {
            Err(ImportError::Own { path: path.to_owned() })
        }
        Err(_) => Ok(()),
    }
}

/// Fails for an archive, in which checkpoints of PaddlePaddle are published beside other files.
///
/// # Errors
///
/// [`ImportError::Exported`]
pub(super) fn check_archive(path: &Path, bytes: &[u8]) -> Result<(), ImportError> {
    if bytes.get(257..262) == Some(b"ustar".as_slice()) {
        return Err(ImportError::Exported { path: path.to_owned(), what: "a tar archive" });
    }
    Ok(())
}

fn unlike_weights(beginning: &[u8]) -> Option<&'static str> {
    if beginning.is_empty() {
        return Some("is empty; fetch the file again");
    }
    if beginning.starts_with(LFS) {
        return Some(
            "is a pointer of Git LFS, not the file that it stands for; fetch that by `git lfs pull`",
        );
    }
    match files::kind_of_bytes(beginning) {
        Some("a gallery") => {
            return Some("is a gallery, in which no network is; give the file of the network");
        }
        Some("an embedding shard") => {
            return Some(
                "is an embedding shard, in which no network is; give the file of the network",
            );
        }
        _ => (),
    }
    is_text(beginning).then_some(
        "is a text, as a page in the place of a download is; fetch the file again, and look at its size",
    )
}

/// Whether bytes are letters and blanks alone; the last letter may be cut.
fn is_text(bytes: &[u8]) -> bool {
    let whole = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !whole.is_empty() && !whole.contains(|c: char| c.is_control() && !"\t\n\r\u{c}".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_like_no_weights_is_told() {
        let told = |bytes: &[u8]| unlike_weights(bytes).unwrap_or_default();
        assert!(told(b"").contains("is empty"));
        assert!(
            told(b"version https://git-lfs.github.com/spec/v1\noid sha256:00").contains("Git LFS")
        );
        let page = "<!doctype html>\r\n<p>".to_owned() + &"Käse".repeat(200);
        // A letter of two bytes is cut at the end.
        for end in [300, 301] {
            assert!(told(&page.as_bytes()[..end]).contains("is a text"), "{end}");
        }
        for weights in
            [&b"\x80\x02}q\0."[..], b"PK\x03\x04\x14\0", b"\x48\0\0\0\0\0\0\0{\"", b"\xff\xfe<\0"]
        {
            assert_eq!(told(weights), "", "{weights:?}");
        }
    }
}
