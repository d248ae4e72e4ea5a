//! What of its own this program is given in another's place: told by how the file begins.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use authoring::embedding_shard::SHARD_NAME;
use models::gallery::{LESSONS_MAGIC, MAGIC, SHARDS_MAGIC};

/// Bytes that tell a kind of file: the head of a model file begins with its description.
const FIRST: usize = 64;

/// What this program has written there, with its article; none for files of others.
pub fn kind_of(path: &Path) -> Option<&'static str> {
    let mut first = Vec::new();
    File::open(path).ok()?.take(FIRST as u64).read_to_end(&mut first).ok()?;
    kind_of_bytes(&first)
}

/// The same, by the first bytes of a file.
pub fn kind_of_bytes(first: &[u8]) -> Option<&'static str> {
    let marks: [(&[u8], &str); 5] = [
        (&MAGIC, "a gallery"),
        (SHARD_NAME, "an embedding shard"),
        (&SHARDS_MAGIC, "a shard directory of a site"),
        (&LESSONS_MAGIC, "a file of what a visitor taught"),
        (authoring::MARK, "what `magpie site` keeps of photographs that it has looked at"),
    ];
    let marked = marks.iter().find(|(mark, _)| first.starts_with(mark)).map(|(_, kind)| *kind);
    marked.or_else(|| is_model(first).then_some("a model file"))
}

/// Whether a file is one of tensors that says which network they are of.
fn is_model(first: &[u8]) -> bool {
    let Some((_, text)) = first.split_first_chunk::<8>() else { return false };
    text.starts_with(b"{\"__metadata__\":{\"magpie\":")
}

/// An error of reading a file, or, where the file is another of this program's, what it is and what is `wanted`.
pub fn told_as_own(error: anyhow::Error, path: &Path, wanted: &str) -> anyhow::Error {
    match kind_of(path) {
        Some(kind) if !wanted.starts_with(kind) => {
            anyhow::anyhow!("{}: is {kind}; give {wanted}", path.display())
        }
        _ => error,
    }
}
