//! The epoch loop, shared by both networks.

pub mod boxes;
pub mod detector;
mod events;
pub mod extractor;
pub mod folder;
mod log;
mod pretrained;
mod run;
mod teacher;
mod whole;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use burn::backend::DispatchDevice;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use folder::RunFolder;
use log::Log;
use models::image::RgbImage;
use models::model_file::{Architecture, ModelFile, ModelFileError, Trained};
use models::operators::mixed::HalfFloat;
use models::preprocess::Preprocess;
use models::weights::{Precision, Weights, WeightsError};
use run::Run;
use serde_json::json;

use crate::checkpoint::{self, Progress};
use crate::files;
use crate::loss::BatchError;
use crate::metric::verdict::{Beginning, Verdict};
use crate::recipe::{Export, Recipe};
use crate::replica::{Hub, Replica, Trust};
use crate::terminal::audience::has_enough;
use crate::terminal::{Note, counted};

pub use pretrained::{MissingWeights, PREPROCESS_KEY};
pub use whole::train_recipe;

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
pub trait Memory: Clone {
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
pub trait Training: Sync {
    /// Everything that is trained, the head included.
    type Network: Module;
    /// The part of it that sees pictures; the losses see what comes out.
    type Replica: Replica;
    /// What the losses remember.
    type Memory: Memory;
    /// One batch on the host.
    type Batch: Clone + Send;

    /// A freshly initialized network.
    fn init(&self, device: &Device) -> Self::Network;

    /// The losses' memory before the first batch.
    fn memory(&self, device: &Device) -> Self::Memory;

    /// Class names that the head tells apart.
    fn labels(&self) -> &[String];

    /// What decides which samples make which batch, by name: a checkpoint within an epoch belongs to it.
    fn order_key(&self) -> BTreeMap<String, String>;

    /// What a reader of the figures should know of the data.
    fn notes(&self) -> &[String] {
        &[]
    }

    /// What the weights that training begins with reach on pictures that are held out; `Err` says why they
    /// cannot be compared.
    ///
    /// # Errors
    ///
    /// Whatever keeps the evaluation from finishing.
    fn beginning(&self, _: &Device) -> anyhow::Result<Result<Beginning, String>> {
        Ok(Err("nothing is held out".to_owned()))
    }

    /// Pictures that are held out, to be asked about; 0: none are.
    fn held_out(&self) -> usize {
        0
    }

    /// Batches of an epoch.
    fn batches(&self) -> usize;

    /// Positions (or seeds) of the samples of every batch of an epoch.
    fn order(&self, epoch: usize) -> Vec<Vec<usize>>;

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

    /// The network that is deployed: without the head.
    fn trained(&self, network: &Self::Network) -> Trained;
}

/// How a recipe is run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Where to go on from.
    pub resume: Resume,
    /// Ends this part of the run after the epoch of this number; a later one goes on.
    pub stop_after: Option<usize>,
    /// Other devices of this machine that share every batch.
    pub devices: Vec<Device>,
    /// Addresses of workers that share every batch.
    pub workers: Vec<String>,
    /// How long a worker may be silent, without so much as a sign of life, before the run goes on without it.
    pub worker_timeout: Duration,
    /// The secret that workers ask for, and the certificate by which they are known.
    pub trust: Trust,
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
/// Unreadable data, a full disk, a checkpoint that does not fit, training that diverges: the message says
/// which. A checkpoint that does not fit leaves the folder as it was.
pub fn run<T: Training>(
    task: &T,
    recipe: &Recipe,
    options: &RunOptions,
    folder: &RunFolder,
    device: &Device,
) -> anyhow::Result<Option<PathBuf>> {
    check_precision(recipe, device)?;
    let from = match &options.resume {
        Resume::No => None,
        Resume::Latest => checkpoint::newest_whole(&folder.join(LATEST))?,
        Resume::From(checkpoint) => Some(checkpoint.clone()),
    };
    let known = match &from {
        Some(from) => checkpoint::verify(from)?.beginning,
        None => None,
    };
    // Before the seed: it draws numbers of its own.
    let beginning = match known {
        Some(beginning) => Ok(beginning),
        None => task.beginning(device)?,
    };
    let training_device = device.clone().autodiff();
    // Before the seed: replicas on threads of this process draw from the same numbers.
    let hub = open_hub(task, recipe, options)?;
    training_device.seed(recipe.seed);
    let mut run = Run::begin(task, recipe, &training_device, hub.as_ref());
    if let Some(from) = &from {
        run = run.resume(from)?;
    }
    folder.write_recipe(recipe)?;
    let mut log = Log::open(folder.path(), options.json)?;
    if recipe.mixed_precision.is_some() && matches!(device.as_dispatch(), DispatchDevice::Flex(_)) {
        log.line("mixed_precision makes a processor slower; a GPU gains by it")?;
    }
    if let Some(from) = &from {
        run.tell_resumed(from, folder, &mut log)?;
    }
    run.progress.beginning = beginning.as_ref().ok().cloned();
    run.tell_start(&beginning, &mut log)?;

    let end = options.stop_after.unwrap_or(recipe.epochs).min(recipe.epochs);
    let goes_on = |run: &Run<T>| {
        run.progress.epoch < end && !is_stalled(recipe, &run.progress) && !has_enough()
    };
    while goes_on(&run) {
        run = whole_epoch(run, recipe, folder, device, &mut log)?;
    }
    let epoch = run.progress.epoch;
    if is_stalled(recipe, &run.progress) {
        log.line(&format!("no better evaluation lately; training ends after epoch {epoch}"))?;
    } else if epoch < recipe.epochs {
        log.line(&format!("stopped after epoch {epoch}; go on with --resume"))?;
        return Ok(None);
    }
    run.finish(folder, device, &mut log)?;
    let path = export_of(task, recipe, folder, device, &mut log)?;
    if let (Some(beginning), Some((_, trained))) =
        (&run.progress.beginning, exported_figure(recipe, &run))
    {
        let verdict = Verdict { before: beginning.recall1, trained, queries: task.held_out() };
        tell_verdict(&verdict, beginning, epoch, &mut log)?;
    }
    Ok(Some(path))
}

/// Refuses a precision that the device does not compute in.
fn check_precision(recipe: &Recipe, device: &Device) -> anyhow::Result<()> {
    let is_supported = |half: HalfFloat| device.supports_dtype(half.dtype());
    anyhow::ensure!(
        recipe.mixed_precision.is_none_or(is_supported),
        "this device does not compute in the recipe's mixed_precision; try the other of \"bf16\" \
         and \"f16\", or take it away"
    );
    Ok(())
}

/// Trains an epoch, evaluates it if it is due, and keeps what the recipe wants kept.
fn whole_epoch<'a, T: Training>(
    mut run: Run<'a, T>,
    recipe: &Recipe,
    folder: &RunFolder,
    device: &Device,
    log: &mut Log,
) -> anyhow::Result<Run<'a, T>> {
    let latest = folder.join(LATEST);
    let epoch = run.progress.epoch + 1;
    let _standing = Note::new(format!(" in epoch {epoch}; go on with --resume"));
    run = run.epoch(&latest, log)?;
    run.check(&latest)?;
    let is_last = |run: &Run<T>| epoch == recipe.epochs || is_stalled(recipe, &run.progress);
    if epoch.is_multiple_of(recipe.eval_interval) || epoch == recipe.epochs {
        let averaged = run.averaged()?;
        let is_best = run.evaluate(averaged.as_ref(), device, &latest, log)?;
        run.keep(is_best, is_last(&run), averaged.as_ref(), folder)?;
    } else if is_last(&run) {
        run.keep(false, true, None, folder)?;
    }
    if recipe.save_interval.is_some_and(|interval| epoch.is_multiple_of(interval.max(1))) {
        run.save(&folder.join(&format!("{}{epoch}", folder::KEPT)))?;
    }
    // Last: it says that all of the above is there. A run killed before does the epoch's end again.
    run.save(&latest)?;
    Ok(run)
}

/// The evaluation of the network that is exported: its epoch and its figure.
fn exported_figure<T: Training>(recipe: &Recipe, run: &Run<T>) -> Option<(usize, f64)> {
    match recipe.export {
        Export::Best => run.progress.best.map(|(figure, epoch)| (epoch, figure)),
        Export::Last => run.progress.evaluated,
    }
}

/// Says which network to keep: a line in the log, a record for the report.
fn tell_verdict(
    verdict: &Verdict,
    beginning: &Beginning,
    epoch: usize,
    log: &mut Log,
) -> anyhow::Result<()> {
    let text = verdict.sentence(&beginning.weights);
    log.line(&text)?;
    log.note(&json!({
        "kind": "verdict",
        "epoch": epoch,
        "recall1": verdict.trained,
        "recall1_before": verdict.before,
        "queries": verdict.queries,
        "keep": verdict.keep().name(),
        "text": text,
    }))
}

/// Exports the checkpoint that the recipe chooses.
fn export_of<T: Training>(
    task: &T,
    recipe: &Recipe,
    folder: &RunFolder,
    device: &Device,
    log: &mut Log,
) -> anyhow::Result<PathBuf> {
    let name = exported_checkpoint(recipe.export);
    let checkpoint = folder.join(name);
    let epoch = checkpoint::progress(&checkpoint)?.epoch;
    let network = checkpoint::load_module(&checkpoint, task.init(device))?;
    let path = folder.join(folder::MODEL);
    let precision = export(task, recipe, &network, &path)?;
    let wide = match precision {
        Precision::F32 => ", in 32-bit floats: some values are beyond 16 bits",
        _ => "",
    };
    log.line(&format!(
        "exported {}: the network after epoch {epoch} ({name}){wide}",
        path.display()
    ))?;
    log.note(&json!({ "kind": "export", "epoch": epoch, "checkpoint": name }))?;
    Ok(path)
}

/// The other replicas, where the options name any.
fn open_hub<T: Training>(
    task: &T,
    recipe: &Recipe,
    options: &RunOptions,
) -> anyhow::Result<Option<Hub>> {
    let RunOptions { devices, workers, worker_timeout, trust, .. } = options;
    let replicas = devices.len() + workers.len() + 1;
    if replicas == 1 {
        return Ok(None);
    }
    if let Some(batch) = task.order(1).iter().find(|batch| batch.len() < replicas) {
        anyhow::bail!(
            "a batch of {} for {replicas} replicas: raise batch_size, or name fewer",
            counted(batch.len(), "picture", "pictures")
        );
    }
    let (architecture, mixed) = (task.architecture(), recipe.mixed_precision);
    let (seed, patience) = (recipe.seed, *worker_timeout);
    let hub = Hub::open(devices, workers, &architecture, seed, mixed, patience, trust)?;
    Ok(Some(hub))
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

/// Writes the deployed form of a network, in 16-bit floats where its values fit.
///
/// # Errors
///
/// Weights that are no finite numbers, a disk that refuses.
pub fn export<T: Training>(
    task: &T,
    recipe: &Recipe,
    network: &T::Network,
    path: &Path,
) -> anyhow::Result<Precision> {
    let model = task.trained(network).deploy(recipe.preprocess.clone(), recipe.notes.clone());
    let (bytes, precision) = smallest(&model)?;
    files::write(path, &bytes)?;
    Ok(precision)
}

/// A model file in 16-bit floats, or in 32-bit ones where a value is beyond those.
///
/// # Errors
///
/// [`ModelFileError`]
pub fn smallest(model: &ModelFile) -> Result<(Vec<u8>, Precision), ModelFileError> {
    match model.to_bytes(Precision::F16) {
        Err(ModelFileError::Weights(WeightsError::Overflow { .. })) => {
            Ok((model.to_bytes(Precision::F32)?, Precision::F32))
        }
        bytes => Ok((bytes?, Precision::F16)),
    }
}
