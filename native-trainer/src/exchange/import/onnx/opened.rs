//! A graph from its file, and from files that lie beside it.

use std::path::Path;

use super::OnnxError;
use super::model::{Beside as Parts, Model};
use crate::exchange::import::ImportError;
use crate::files;

/// Largest file, and largest part beside it, that is read: what protocol buffers allow.
const LIMIT: u64 = 2 << 30;

/// Reads a graph, with the parts that lie beside it.
pub(super) fn read_model(path: &Path) -> Result<Model, ImportError> {
    let bytes = files::read(path, LIMIT)?;
    let folder = files::folder_of(path);
    let beside = |name: &str, start: u64, length: Option<u64>| part(folder, name, start, length);
    Model::read(&bytes, &beside)
        .map_err(|source| ImportError::Onnx { path: path.to_owned(), source })
}

/// A graph without parts beside it.
pub(super) fn model_of(bytes: &[u8]) -> Result<Model, OnnxError> {
    let none: Parts<'_> =
        &|name, _, _| Err(OnnxError::damaged(format!("{name} is not read from here")));
    Model::read(bytes, none)
}

/// A part of a file beside the model.
fn part(folder: &Path, name: &str, start: u64, length: Option<u64>) -> Result<Vec<u8>, OnnxError> {
    let bad = |reason: String| OnnxError::damaged(format!("{name}: {reason}"));
    let is_name = Path::new(name).components().count() == 1
        && matches!(Path::new(name).components().next(), Some(std::path::Component::Normal(_)));
    if !is_name {
        return Err(bad("values are read from files in the graph's own folder alone".to_owned()));
    }
    let path = folder.join(name);
    let read = || -> std::io::Result<Vec<u8>> {
        use std::io::{Read, Seek, SeekFrom};
        // A link may lead to a file that its owner never meant to give away.
        if path.canonicalize()?.parent() != Some(&folder.canonicalize()?) {
            return Err(std::io::Error::other("it is a link out of the graph's folder"));
        }
        // A pipe would be waited for.
        if !std::fs::metadata(&path)?.is_file() {
            return Err(std::io::Error::other("it is no file"));
        }
        let mut file = std::fs::File::open(&path)?;
        let all = file.metadata()?.len().saturating_sub(start);
        let length = length.unwrap_or(all);
        if length > all || length > LIMIT {
            return Err(std::io::Error::other("it ends before the values do"));
        }
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| bad(error.to_string()))
}
