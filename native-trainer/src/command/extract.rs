//! `magpie extract`: embeddings of pictures as a file that other programs read.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use safetensors::SafeTensors;
use serde_json::json;

use crate::cli::Failures;
use crate::cli::{DeviceKind, Embedder, samples, size};
use crate::files;
use crate::networks;

/// Bytes of a header at most, as the format has it.
const HEADER: u64 = 100_000_000;

/// Writes the embeddings of pictures: `embeddings` (one row a picture, of unit length) and `labels`
/// (row of the class in the file's metadata) as safetensors, and the pictures' names in the same
/// order as a text file beside it.
///
/// Pictures that cannot be used are named and left out, and the command ends with 1.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie extract --extractor lite0.safetensors \
    --images photos --out photos.safetensors\n\nIn Python:\n  \
    safetensors.numpy.load_file(\"photos.safetensors\")[\"embeddings\"]")]
pub struct Arguments {
    /// Model file of the extractor; `general` is the one that magpie brings along.
    #[arg(long, default_value = networks::GENERAL)]
    extractor: PathBuf,
    /// List file, or folder with one sub-folder per class.
    #[arg(long)]
    images: PathBuf,
    /// File to write; the names go to the same with the ending .tsv.
    #[arg(long)]
    out: PathBuf,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Files that cannot be read or written, pictures that cannot be used.
    pub fn run(&self) -> anyhow::Result<()> {
        let samples = samples(&self.images)?;
        let names_path = self.out.with_extension("tsv");
        let mut inputs: Vec<&Path> = vec![&self.extractor, &self.images];
        inputs.extend(samples.samples.iter().map(|sample| &*sample.path));
        files::check_outputs(&[&self.out, &names_path], &inputs)?;
        if self.out.exists() && !is_extraction(&self.out) {
            bail!(
                "{}: would be replaced, and no extraction wrote it; choose another name",
                self.out.display()
            );
        }
        // Both are of one extraction; a list alone is somebody else's.
        if names_path.exists() && !self.out.exists() && files::parts_of(&self.out).is_empty() {
            bail!(
                "{}: would be replaced by the names for {}, and no extraction wrote it; choose another name",
                names_path.display(),
                self.out.display()
            );
        }
        let embedder = Embedder::open(&self.extractor, self.device)?;
        let mut failures = Failures::of(samples.samples.len());
        let (embedded, used) = embedder.embed_usable(&samples, &mut failures)?;
        if used.is_empty() {
            return failures.end();
        }
        let count = embedded.labels.len();
        let dim = embedded.values.len() / count.max(1);

        let values: Vec<u8> = embedded.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let labels: Vec<u8> =
            embedded.labels.iter().flat_map(|label| (*label as i64).to_le_bytes()).collect();
        let (all_labels, all) = (labels.len(), labels.len() + values.len());
        let header = json!({
            "__metadata__": {
                "labels": serde_json::to_string(&samples.labels)?,
                "model": embedder.id,
            },
            "labels": {"dtype": "I64", "shape": [count], "data_offsets": [0, all_labels]},
            "embeddings": {"dtype": "F32", "shape": [count, dim], "data_offsets": [all_labels, all]},
        });
        let bytes = with_header(&header, &[&labels, &values])?;
        let names: Vec<String> = used
            .iter()
            .map(|index| &samples.samples[*index])
            .map(|s| format!("{}\t{}\t{}\n", s.path.display(), samples.labels[s.label], s.id))
            .collect();
        files::write_together(&[(&self.out, &bytes), (&names_path, names.concat().as_bytes())])?;
        println!(
            "{}: {count} × {dim}, {}; names in {}",
            self.out.display(),
            size(bytes.len() as u64),
            names_path.display()
        );
        failures.end()
    }
}

/// Whether a file begins as one that this command wrote.
fn is_extraction(path: &Path) -> bool {
    let begin = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let mut bytes = length.to_vec();
        file.take(u64::from_le_bytes(length).min(HEADER)).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let begin = begin().unwrap_or_default();
    SafeTensors::read_metadata(&begin).is_ok_and(|(_, header)| {
        ["embeddings", "labels"].iter().all(|name| header.info(name).is_some())
    })
}

/// A safetensors file. The crate's own writer puts several metadata into another order each time.
fn with_header(header: &serde_json::Value, values: &[&[u8]]) -> anyhow::Result<Vec<u8>> {
    let mut header = serde_json::to_vec(header)?;
    // Values begin at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    values.iter().for_each(|values| bytes.extend_from_slice(values));
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_one_that_others_read() {
        let header = json!({
            "__metadata__": {"labels": "[\"ü\"]", "model": "m"},
            "labels": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]},
            "embeddings": {"dtype": "F32", "shape": [1, 2], "data_offsets": [8, 16]},
        });
        let bytes = with_header(&header, &[&7_i64.to_le_bytes(), &[0; 8]]).unwrap();
        let read = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.tensor("labels").unwrap().data(), 7_i64.to_le_bytes());
        assert_eq!(read.tensor("embeddings").unwrap().shape(), [1, 2]);
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()["model"], "m");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        assert!(!is_extraction(&path));
        for (content, is_own) in [(&bytes[..], true), (&bytes[..40], false), (b"\xff notes", false)]
        {
            std::fs::write(&path, content).unwrap();
            assert_eq!(is_extraction(&path), is_own);
        }
    }
}
