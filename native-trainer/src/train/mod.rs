//! The epoch loop, shared by both networks.

mod boxes;
pub mod detector;
mod events;
pub mod extractor;
mod log;
mod pretrained;
mod run;
mod teacher;

use std::path::{Path, PathBuf};

use burn::backend::DispatchDevice;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use log::Log;
use models::image::RgbImage;
use models::kernels::Arithmetic;
use models::model_file::{Architecture, ModelDescription, ModelFile};
use models::preprocess::Preprocess;
use models::weights::Weights;
use run::Run;

use crate::checkpoint::{self, Progress};
use crate::loss::BatchError;
use crate::recipe::{Export, RUN_RECIPE, Recipe};
use crate::replica::{Hub, Replica};

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

/// What a network gets of a batch.
#[derive(Debug)]
pub struct Input {
    /// How pictures become values.
    pub preprocess: Preprocess,
    /// Of the pictures that this process computes itself.
    pub pixels: Vec<f32>,
    /// The others, at the size of the input.
    pub pictures: Vec<RgbImage>,
}

impl Input {
    /// Of pictures at the size of the input: the first ones as values, the rest as they are.
    fn new(preprocess: Preprocess, pictures: Vec<Loaded>) -> Self {
        let mut input = Self { preprocess, pixels: Vec::new(), pictures: Vec::new() };
        for picture in pictures {
            match picture {
                Loaded::Pixels(values) => input.pixels.extend(values),
                Loaded::Picture(picture) => input.pictures.push(picture),
            }
        }
        input
    }
}

/// A picture of a batch.
enum Loaded {
    /// Computed here.
    Pixels(Vec<f32>),
    /// Computed by another replica.
    Picture(RgbImage),
}

impl Loaded {
    fn new(picture: RgbImage, preprocess: &Preprocess, is_here: bool) -> Self {
        if !is_here {
            return Self::Picture(picture);
        }
        let mut values = Vec::with_capacity(preprocess.values());
        preprocess.append(&picture, &mut values);
        Self::Pixels(values)
    }
}

/// What a network adds to the loop.
pub trait Task: Sync {
    /// Everything that is trained, the head included.
    type Network: Module;
    /// The part of it that sees pictures; the losses see what comes out.
    type Replica: Replica;
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

    /// Decodes and changes the samples of a batch, of which this process computes the first `here`.
    ///
    /// # Errors
    ///
    /// [`crate::data::store::PictureError`] of the first picture that cannot be used, or a teacher's device that failed.
    fn load(
        &self,
        epoch: usize,
        samples: &[usize],
        here: usize,
    ) -> anyhow::Result<(Input, Self::Batch)>;

    /// The part of a network that sees pictures, and its place: what the paths of its parameters
    /// begin with.
    fn replica(network: &Self::Network) -> (&Self::Replica, Option<&'static str>);

    /// What a worker needs to build that part.
    fn architecture(&self) -> Architecture;

    /// Terms of the loss, weighted, by name, from [`Replica::outputs`] for the whole batch.
    ///
    /// # Errors
    ///
    /// [`BatchError`]: a batch that a loss cannot be computed on.
    fn losses(
        &self,
        network: &Self::Network,
        memory: &mut Self::Memory,
        outputs: Vec<Tensor<2>>,
        batch: Self::Batch,
        device: &Device,
    ) -> Result<Vec<(&'static str, Tensor<1>)>, BatchError>;

    /// Figures by name, the one that decides about the best first; empty without evaluation data.
    /// The replicas of a hub share the work.
    ///
    /// # Errors
    ///
    /// Whatever keeps the evaluation from finishing.
    fn evaluate(
        &self,
        network: &Self::Network,
        device: &Device,
        hub: Option<&Hub>,
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
    /// Other devices of this machine that share every batch.
    pub devices: Vec<Device>,
    /// Addresses of workers that share every batch.
    pub workers: Vec<String>,
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
/// Writes `recipe.toml`, `train.log`, `metrics.jsonl`, `TensorBoard`'s events, `latest/`, `best_model/` and
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
    if let Some(half) = recipe.mixed_precision {
        anyhow::ensure!(
            device.supports_dtype(half.dtype()),
            "this device does not compute in the recipe's mixed_precision; try the other of \"bf16\" \
             and \"f16\", or take it away"
        );
    }
    let mut log = Log::open(output, options.json)?;
    if recipe.mixed_precision.is_some() && matches!(device.as_dispatch(), DispatchDevice::Flex(_)) {
        log.line("mixed_precision makes a processor slower; a GPU gains by it")?;
    }
    let training_device = device.clone().autodiff();
    // Before the seed: replicas on threads of this process draw from the same numbers.
    let hub = open_hub(task, recipe, options)?;
    training_device.seed(recipe.seed);
    let mut run = Run::begin(task, recipe, &training_device, hub.as_ref());
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
    if let Some(hub) = &hub {
        let (replicas, names) = (hub.replicas(), hub.names().join(", "));
        log.line(&format!("{replicas} replicas share a batch: this process, {names}"))?;
    }

    let end = options.stop_after.unwrap_or(recipe.epochs).min(recipe.epochs);
    while run.progress.epoch < end && !is_stalled(recipe, &run.progress) {
        run = run.epoch(&latest, &mut log)?;
        let epoch = run.progress.epoch;
        let mut is_best = false;
        let mut averaged = None;
        if epoch.is_multiple_of(recipe.eval_interval) || epoch == recipe.epochs {
            averaged = run.averaged()?;
            let network = averaged.as_ref().unwrap_or(&run.network);
            let metrics = task.evaluate(network, device, hub.as_ref())?;
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

/// The other replicas, where the options name any.
fn open_hub<T: Task>(
    task: &T,
    recipe: &Recipe,
    options: &RunOptions,
) -> anyhow::Result<Option<Hub>> {
    let RunOptions { devices, workers, .. } = options;
    let replicas = devices.len() + workers.len() + 1;
    if replicas == 1 {
        return Ok(None);
    }
    if let Some(batch) = task.plan(1).iter().find(|batch| batch.len() < replicas) {
        anyhow::bail!(
            "a batch of {} pictures for {replicas} replicas: raise batch_size, or name fewer",
            batch.len()
        );
    }
    let mixed = recipe.mixed_precision;
    Ok(Some(Hub::open(devices, workers, &task.architecture(), recipe.seed, mixed)?))
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
        arithmetic: Arithmetic::F32,
        notes: recipe.notes.clone(),
    };
    let bytes = models::bundle::Bundle::model_bytes(&ModelFile { description, weights })?;
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}
