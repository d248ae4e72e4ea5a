//! `magpie train`: a recipe becomes a model file.

use std::path::PathBuf;

use clap::Args;

use super::DeviceKind;
use crate::recipe::Recipe;
use crate::train::detector::DetectorTraining;
use crate::train::extractor::ExtractorTraining;
use crate::train::{RunOptions, run};

/// Trains an extractor or a detector as a recipe says.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie train -c native-trainer/recipes/emoji-extractor.toml \
    --output runs/emoji -o epochs=20 --resume")]
pub struct Arguments {
    /// Recipe, a TOML file.
    #[arg(short, long)]
    config: PathBuf,
    /// Changes a value of the recipe; may be repeated.
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Folder of the run: log, checkpoints, model.safetensors.
    #[arg(long)]
    output: PathBuf,
    /// Goes on from the folder's latest checkpoint.
    #[arg(long)]
    resume: bool,
    /// Stops after the epoch of this number, to be resumed later.
    #[arg(long, value_name = "EPOCH")]
    stop_after: Option<usize>,
    /// Where to train.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// As [`run`], [`Recipe::read`] and the data of the recipe.
    pub fn run(&self) -> anyhow::Result<()> {
        let recipe = Recipe::read(&self.config, &self.overrides)?;
        let options = RunOptions {
            output: self.output.clone(),
            resume: self.resume,
            stop_after: self.stop_after,
        };
        let device = self.device.open();
        if let Some(task) = &recipe.extractor {
            run(&ExtractorTraining::new(&recipe, task)?, &recipe, &options, &device)?;
        }
        if let Some(task) = &recipe.detector {
            run(&DetectorTraining::new(&recipe, task)?, &recipe, &options, &device)?;
        }
        Ok(())
    }
}
