//! A recipe as it stands in its TOML file: a table for the task that it has, none for the other.

use models::operators::mixed::HalfFloat;
use models::preprocess::Preprocess;
use serde::{Deserialize, Serialize};

use super::{DetectorTask, Export, ExtractorTask, Recipe, Task};
use crate::ema::EmaConfig;
use crate::optimizer::{OptimizerConfig, ParameterRules};
use crate::schedule::Schedule;

/// The keys of a recipe in the order in which they are written; [`Recipe`] says what they mean.
///
/// Two tables instead of a tagged enum, because an error of `serde(flatten)` names no line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecipeFile {
    seed: u64,
    epochs: usize,
    batch_size: usize,
    epoch_samples: Option<usize>,
    #[serde(default = "default_eval_interval")]
    eval_interval: usize,
    #[serde(default)]
    save_interval: Option<usize>,
    #[serde(default)]
    checkpoint_interval: Option<u64>,
    #[serde(default)]
    early_stopping: Option<usize>,
    #[serde(default = "default_accumulate")]
    accumulate: usize,
    #[serde(default)]
    mixed_precision: Option<HalfFloat>,
    #[serde(default = "default_log_interval")]
    log_interval: usize,
    #[serde(default)]
    notes: String,
    #[serde(default)]
    data: String,
    schedule: Schedule,
    optimizer: OptimizerConfig,
    #[serde(default)]
    parameters: ParameterRules,
    #[serde(default)]
    ema: Option<EmaConfig>,
    #[serde(default)]
    export: Export,
    preprocess: Preprocess,
    extractor: Option<ExtractorTask>,
    detector: Option<DetectorTask>,
}

/// After every epoch.
fn default_eval_interval() -> usize {
    1
}

/// A step after every batch.
fn default_accumulate() -> usize {
    1
}

fn default_log_interval() -> usize {
    10
}

impl RecipeFile {
    /// The recipe; `Err` says what to change if there is no task, or if there are two.
    pub(super) fn into_recipe(self) -> Result<Recipe, &'static str> {
        let task = match (self.extractor, self.detector) {
            (Some(task), None) => Task::Extractor(task),
            (None, Some(task)) => Task::Detector(task),
            (None, None) => {
                return Err("has no task; add the table [extractor] or the table [detector]");
            }
            (Some(_), Some(_)) => {
                return Err(
                    "has both tasks, and a run trains one network; take [extractor] or [detector] out",
                );
            }
        };
        Ok(Recipe {
            seed: self.seed,
            epochs: self.epochs,
            batch_size: self.batch_size,
            epoch_samples: self.epoch_samples,
            eval_interval: self.eval_interval,
            save_interval: self.save_interval,
            checkpoint_interval: self.checkpoint_interval,
            early_stopping: self.early_stopping,
            accumulate: self.accumulate,
            mixed_precision: self.mixed_precision,
            log_interval: self.log_interval,
            notes: self.notes,
            data: self.data,
            schedule: self.schedule,
            optimizer: self.optimizer,
            parameters: self.parameters,
            ema: self.ema,
            export: self.export,
            preprocess: self.preprocess,
            task,
        })
    }
}

impl From<Recipe> for RecipeFile {
    fn from(recipe: Recipe) -> Self {
        let (extractor, detector) = match recipe.task {
            Task::Extractor(task) => (Some(task), None),
            Task::Detector(task) => (None, Some(task)),
        };
        Self {
            seed: recipe.seed,
            epochs: recipe.epochs,
            batch_size: recipe.batch_size,
            epoch_samples: recipe.epoch_samples,
            eval_interval: recipe.eval_interval,
            save_interval: recipe.save_interval,
            checkpoint_interval: recipe.checkpoint_interval,
            early_stopping: recipe.early_stopping,
            accumulate: recipe.accumulate,
            mixed_precision: recipe.mixed_precision,
            log_interval: recipe.log_interval,
            notes: recipe.notes,
            data: recipe.data,
            schedule: recipe.schedule,
            optimizer: recipe.optimizer,
            parameters: recipe.parameters,
            ema: recipe.ema,
            export: recipe.export,
            preprocess: recipe.preprocess,
            extractor,
            detector,
        }
    }
}
