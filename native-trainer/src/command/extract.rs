//! `magpie extract`: embeddings of pictures as a file that other programs read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use safetensors::tensor::{Dtype, TensorView};

use super::{DeviceKind, Embedder, size};
use crate::data::list_file::Samples;
use crate::files;

/// Writes the embeddings of pictures: `embeddings` (one row a picture, of unit length) and `labels`
/// (row of the class in the file's metadata) as safetensors, and the pictures' names in the same
/// order as a text file beside it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie extract --extractor weights/extractor.safetensors \
    --images photos --out photos.safetensors\n\nIn Python:\n  \
    safetensors.numpy.load_file(\"photos.safetensors\")[\"embeddings\"]")]
pub struct Arguments {
    /// Model file of the extractor.
    #[arg(long)]
    extractor: PathBuf,
    /// List file, or folder with one sub-folder a class.
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
    #[expect(clippy::print_stdout, reason = "the command's answer")]
    pub fn run(&self) -> anyhow::Result<()> {
        let samples = Samples::read(&self.images)?;
        let names_path = self.out.with_extension("tsv");
        let mut inputs: Vec<&Path> = vec![&self.extractor, &self.images];
        inputs.extend(samples.samples.iter().map(|sample| &*sample.path));
        files::check_outputs(&[&self.out, &names_path], &inputs)?;
        let embedder = Embedder::open(&self.extractor, self.device)?;
        let embedded = embedder.embed(&samples)?;
        let count = embedded.labels.len();
        let dim = embedded.values.len() / count.max(1);

        let values: Vec<u8> = embedded.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let labels: Vec<u8> =
            embedded.labels.iter().flat_map(|label| (*label as i64).to_le_bytes()).collect();
        let tensors = [
            ("embeddings", TensorView::new(Dtype::F32, vec![count, dim], &values)?),
            ("labels", TensorView::new(Dtype::I64, vec![count], &labels)?),
        ];
        let metadata = HashMap::from([
            ("labels".to_owned(), serde_json::to_string(&samples.labels)?),
            ("model".to_owned(), embedder.id),
        ]);
        let bytes = safetensors::serialize(tensors, Some(metadata))
            .with_context(|| self.out.display().to_string())?;
        let names: Vec<String> = samples
            .samples
            .iter()
            .map(|s| format!("{}\t{}\t{}\n", s.path.display(), samples.labels[s.label], s.id))
            .collect();
        files::write_together(&[(&self.out, &bytes), (&names_path, names.concat().as_bytes())])?;
        println!(
            "{}: {count} × {dim}, {}; names in {}",
            self.out.display(),
            size(bytes.len() as u64),
            names_path.display()
        );
        Ok(())
    }
}
