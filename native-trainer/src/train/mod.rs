//! The epoch loop, shared by both networks.

pub mod detector;
pub mod extractor;
mod log;
mod pretrained;
mod run;

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use log::Log;
use models::model_file::{Architecture, ModelDescription, ModelFile};
use models::weights::Weights;
use run::Run;

use crate::checkpoint::{self, Progress};
use crate::data::store::PictureError;
use crate::loss::BatchError;
use crate::recipe::{Export, RUN_RECIPE, Recipe};

/// The checkpoint that a run goes on from.
const LATEST: &str = "latest";
/// Batches that wait decoded while the device works.
const PREFETCH: usize = 2;

/// The checkpoint of the network with the best evaluation.
const BEST: &str = "best_model";
/// The checkpoint of the network after the last epoch, averaged where the recipe says so.
const LAST: &str = "last_model";

/// Folder of the checkpoint that a run exports, inside the run's.
pub fn exported_checkpoint(export: Export) -> &'static str {
    match export {
        Export::Best => BEST,
        Export::Last => LAST,
    }
}

/// What the losses remember from batch to batch; a checkpoint keeps it.
pub trait Memory {
    /// As named tensors; empty where there is nothing to remember.
    fn to_weights(&self) -> Weights;

    /// Takes [`Self::to_weights`] back; `false` where it belongs to other losses.
    fn restore(&mut self, weights: &Weights) -> bool;
}

impl Memory for () {
    fn to_weights(&self) -> Weights {
        Weights::default()
    }

    fn restore(&mut self, weights: &Weights) -> bool {
        weights.tensors.is_empty()
    }
}

/// What a network adds to the loop.
pub trait Task: Sync {
    /// Everything that is trained, the head included.
    type Network: Module;
    /// What the losses remember.
    type Memory: Memory;
    /// One batch on the host.
    type Batch: Send;

    /// A freshly initialised network.
    fn init(&self, device: &Device) -> Self::Network;

    /// The losses' memory before the first batch.
    fn memory(&self, device: &Device) -> Self::Memory;

    /// Class names that the head tells apart.
    fn labels(&self) -> &[String];

    /// Batches of an epoch.
    fn batches(&self) -> usize;

    /// Positions (or seeds) of the samples of every batch of an epoch.
    fn plan(&self, epoch: usize) -> Vec<Vec<usize>>;

    /// Decodes and changes the samples of a batch.
    ///
    /// # Errors
    ///
    /// [`PictureError`] of the first picture that cannot be used.
    fn load(&self, epoch: usize, samples: &[usize]) -> Result<Self::Batch, PictureError>;

    /// Terms of the loss, weighted, by name.
    ///
    /// # Errors
    ///
    /// [`BatchError`]: a batch that a loss cannot be computed on.
    fn losses(
        &self,
        network: &Self::Network,
        memory: &mut Self::Memory,
        batch: Self::Batch,
        device: &Device,
    ) -> Result<Vec<(&'static str, Tensor<1>)>, BatchError>;

    /// Figures by name, the one that decides about the best first; empty without evaluation data.
    ///
    /// # Errors
    ///
    /// Whatever keeps the evaluation from finishing.
    fn evaluate(
        &self,
        network: &Self::Network,
        device: &Device,
    ) -> anyhow::Result<Vec<(String, f64)>>;

    /// The deployed network: fused, without the head.
    fn deploy(&self, network: &Self::Network) -> (Architecture, Weights);
}

/// How a recipe is run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The run's folder.
    pub output: PathBuf,
    /// Where to go on from.
    pub resume: Resume,
    /// Ends this part of the run after the epoch of this number; a later one goes on.
    pub stop_after: Option<usize>,
    /// Whether the terminal gets JSON lines.
    pub json: bool,
}

/// Where a run goes on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// Nowhere: it begins.
    No,
    /// The newest whole checkpoint of its folder; begins where there is none.
    Latest,
    /// This checkpoint.
    From(PathBuf),
}

/// Trains, evaluates, writes checkpoints, exports the network that the recipe chooses.
///
/// Writes `recipe.toml`, `train.log`, `metrics.jsonl`, `latest/`, `best_model/` and
/// `model.safetensors` (the deployed network) into the run's folder, and returns the path of the
/// last, which a run that was stopped early has not.
///
/// # Errors
///
/// Unreadable data, a full disk, a loss that is not a number: the message says which.
pub fn run<T: Task>(
    task: &T,
    recipe: &Recipe,
    options: &RunOptions,
    device: &Device,
) -> anyhow::Result<Option<PathBuf>> {
    use anyhow::Context;
    let output = &options.output;
    std::fs::create_dir_all(output).with_context(|| output.display().to_string())?;
    let path = output.join(RUN_RECIPE);
    std::fs::write(&path, toml::to_string_pretty(recipe)?)
        .with_context(|| path.display().to_string())?;
    let latest = output.join(LATEST);
    let mut log = Log::open(output, options.json)?;
    let training_device = device.clone().autodiff();
    training_device.seed(recipe.seed);
    let mut run = Run::begin(task, recipe, &training_device);
    let from = match &options.resume {
        Resume::No => None,
        Resume::Latest => checkpoint::newest_whole(&latest)?,
        Resume::From(folder) => Some(folder.clone()),
    };
    if let Some(folder) = from {
        run = run.resume(&folder)?;
        // A checkpoint of another run: its best network is not here.
        if !output.join(BEST).exists() {
            run.progress.best = None;
        }
        let batches = match run.progress.position {
            0 => String::new(),
            position => format!(" and {position} batches"),
        };
        let epoch = run.progress.epoch;
        log.line(&format!("resumed {} after epoch {epoch}{batches}", folder.display()))?;
    }
    log.line(&format!(
        "{} parameters, {} batches of {} an epoch, {} epochs",
        run.network.num_params(),
        task.batches(),
        recipe.batch_size,
        recipe.epochs
    ))?;

    let end = options.stop_after.unwrap_or(recipe.epochs).min(recipe.epochs);
    while run.progress.epoch < end && !is_stalled(recipe, &run.progress) {
        run = run.epoch(&latest, &mut log)?;
        let epoch = run.progress.epoch;
        let mut is_best = false;
        let mut averaged = None;
        if epoch.is_multiple_of(recipe.eval_interval) || epoch == recipe.epochs {
            averaged = run.averaged()?;
            let metrics = task.evaluate(averaged.as_ref().unwrap_or(&run.network), device)?;
            is_best = run.observe(&metrics, &mut log)?;
        }
        if recipe.save_interval.is_some_and(|interval| epoch.is_multiple_of(interval.max(1))) {
            run.save(&output.join(format!("epoch_{epoch}")))?;
        }
        let is_last = epoch == recipe.epochs || is_stalled(recipe, &run.progress);
        for (wanted, name) in [(is_best, BEST), (is_last, LAST)] {
            if wanted {
                let network = averaged.as_ref().unwrap_or(&run.network);
                checkpoint::save(&output.join(name), network, None, &run.progress)?;
            }
        }
        // Last: it says that all of the above is there. A run killed before does the epoch's end again.
        run.save(&latest)?;
    }

    let epoch = run.progress.epoch;
    if is_stalled(recipe, &run.progress) {
        log.line(&format!("no better evaluation lately; training ends after epoch {epoch}"))?;
    } else if epoch < recipe.epochs {
        log.line(&format!("stopped after epoch {epoch}; go on with --resume"))?;
        return Ok(None);
    }
    let chosen = output.join(exported_checkpoint(recipe.export));
    let network = checkpoint::load_module(&chosen, task.init(device))?;
    let path = output.join("model.safetensors");
    export(task, recipe, &network, &path)?;
    log.line(&format!("exported {}", path.display()))?;
    Ok(Some(path))
}

/// Whether the evaluations have stopped getting better for as long as the recipe allows.
fn is_stalled(recipe: &Recipe, progress: &Progress) -> bool {
    match (recipe.early_stopping, progress.best) {
        (Some(patience), Some((_, best))) => {
            progress.epoch >= best + patience.max(1) * recipe.eval_interval
        }
        _ => false,
    }
}

/// Writes the deployed form of a network.
///
/// # Errors
///
/// A disk that refuses.
pub fn export<T: Task>(
    task: &T,
    recipe: &Recipe,
    network: &T::Network,
    path: &Path,
) -> anyhow::Result<()> {
    use anyhow::Context;
    let (architecture, weights) = task.deploy(network);
    let description = ModelDescription {
        architecture,
        preprocess: recipe.preprocess.clone(),
        notes: recipe.notes.clone(),
    };
    let bytes = models::bundle::Bundle::model_bytes(&ModelFile { description, weights })?;
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}
