//! The epoch loop, shared by both networks.

pub mod detector;
pub mod extractor;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use models::model_file::{Architecture, ModelDescription, ModelFile};
use models::weights::Weights;

use crate::checkpoint::{self, Progress, State};
use crate::data::store::PictureError;
use crate::ema::Ema;
use crate::loss::BatchError;
use crate::optimizer::Optimizer;
use crate::recipe::{Export, Recipe};
use crate::schedule::Plateau;

/// Batches that wait decoded while the device works.
const PREFETCH: usize = 2;

/// The checkpoint of the network with the best evaluation.
const BEST: &str = "best_model";
/// The checkpoint of the network after the last epoch, averaged where the recipe says so.
const LAST: &str = "last_model";

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

/// Where a run writes.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The run's folder.
    pub output: PathBuf,
    /// Whether to go on from its `latest` checkpoint.
    pub resume: bool,
    /// Ends this part of the run after the epoch of this number; a later one goes on.
    pub stop_after: Option<usize>,
}

/// Trains, evaluates, writes checkpoints, exports the network that the recipe chooses.
///
/// Writes `train.log`, `metrics.jsonl`, `latest/`, `best_model/`, `model.safetensors` (the
/// deployed network) into the run's folder, and returns the path of the last, which a run that was
/// stopped early has not.
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
    let latest = output.join("latest");
    let mut log = Log::open(output)?;
    let training_device = device.clone().autodiff();
    training_device.seed(recipe.seed);
    let mut network = task.init(&training_device);
    let rules = recipe.parameters.clone();
    let mut optimizer = Optimizer::new(recipe.optimizer).with_rules(rules.clone());
    let mut progress = Progress {
        epoch: 0,
        step: 0,
        best: None,
        labels: task.labels().to_vec(),
        plateau: recipe.schedule.plateau(),
        average: None,
    };
    let mut memory = task.memory(&training_device);
    let mut average = recipe.ema.map(|ema| ema.init(&Weights::from_module(&network)));
    if options.resume
        && let Some(saved) = checkpoint::progress(&latest)?
    {
        if saved.labels != task.labels() {
            anyhow::bail!("{}: the classes of the data have changed", latest.display());
        }
        network = checkpoint::load_module(&latest, network)?;
        optimizer =
            checkpoint::load_optimizer(&latest, recipe.optimizer, saved.step, &training_device)?
                .with_rules(rules);
        if !memory.restore(&checkpoint::load_memory(&latest)?) {
            anyhow::bail!("{}: the losses of the recipe have changed", latest.display());
        }
        average = match (&recipe.ema, saved.average) {
            (Some(config), Some(age)) => Some(checkpoint::load_average(&latest, config, age)?),
            (Some(config), None) => Some(config.init(&Weights::from_module(&network))),
            (None, _) => None,
        };
        log.line(&format!("resumed {} after epoch {}", latest.display(), saved.epoch))?;
        progress = saved;
    }
    log.line(&format!(
        "{} parameters, {} batches of {} an epoch, {} epochs",
        network.num_params(),
        task.batches(),
        recipe.batch_size,
        recipe.epochs
    ))?;

    let end = options.stop_after.unwrap_or(recipe.epochs).min(recipe.epochs);
    while progress.epoch < end {
        let epoch = progress.epoch + 1;
        let rates = Rates { recipe, plateau: progress.plateau.clone() };
        let trained = Trained { network, memory, optimizer, average };
        Trained { network, memory, optimizer, average } =
            train_epoch(task, &rates, epoch, trained, &training_device, &mut log)?;
        progress.epoch = epoch;
        progress.step = optimizer.steps();
        let mut is_best = false;
        let mut averaged = None;
        if epoch.is_multiple_of(recipe.eval_interval) || epoch == recipe.epochs {
            if let Some(average) = &mut average {
                averaged = Some(average.read_out().load_into(network.clone())?);
            }
            let metrics = task.evaluate(averaged.as_ref().unwrap_or(&network), device)?;
            let text: Vec<String> =
                metrics.iter().map(|(name, value)| format!("{name}: {value:.5}")).collect();
            if let Some((_, value)) = metrics.first() {
                if let Some(plateau) = &mut progress.plateau {
                    plateau.observe(*value);
                }
                is_best = progress.best.is_none_or(|(best, _)| *value > best);
                if is_best {
                    progress.best = Some((*value, epoch));
                }
                log.line(&format!("[Eval][Epoch {epoch}][Avg]{}", text.join(", ")))?;
                let best = progress.best.map_or(0.0, |(best, _)| best);
                log.line(&format!("[Eval][Epoch {epoch}][best metric: {best:.5}]"))?;
                log.record(epoch, &metrics)?;
            } else {
                // Without evaluation data the newest network is the best known.
                is_best = true;
            }
        }
        progress.average = average.as_ref().map(Ema::age);
        let state = State {
            optimizer: &optimizer,
            average: average.as_ref(),
            memory: &memory.to_weights(),
        };
        checkpoint::save(&latest, &network, Some(state), &progress)?;
        let last = epoch == recipe.epochs && recipe.export == Export::Last;
        for (wanted, name) in [(is_best, BEST), (last, LAST)] {
            if wanted {
                let network = averaged.as_ref().unwrap_or(&network);
                checkpoint::save(&output.join(name), network, None, &progress)?;
            }
        }
    }

    if progress.epoch < recipe.epochs {
        let text = format!("stopped after epoch {}; go on with --resume", progress.epoch);
        log.line(&text)?;
        return Ok(None);
    }
    let chosen = match recipe.export {
        Export::Best => BEST,
        Export::Last => LAST,
    };
    let network = checkpoint::load_module(&output.join(chosen), task.init(device))?;
    let path = output.join("model.safetensors");
    export(task, recipe, &network, &path)?;
    log.line(&format!("exported {}", path.display()))?;
    Ok(Some(path))
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

/// Where the learning rate of an epoch's steps comes from.
struct Rates<'a> {
    recipe: &'a Recipe,
    plateau: Option<Plateau>,
}

impl Rates<'_> {
    fn rate(&self, epoch: usize, step: usize, steps: usize) -> f64 {
        let Recipe { schedule, epochs, .. } = self.recipe;
        let scheduled = schedule.rate((epoch - 1) * steps + step, steps, *epochs);
        self.plateau.as_ref().map_or(scheduled, |plateau| scheduled.min(plateau.rate()))
    }
}

/// What a step changes.
struct Trained<T: Task> {
    network: T::Network,
    memory: T::Memory,
    optimizer: Optimizer,
    average: Option<Ema>,
}

fn train_epoch<T: Task>(
    task: &T,
    rates: &Rates,
    epoch: usize,
    trained: Trained<T>,
    device: &Device,
    log: &mut Log,
) -> anyhow::Result<Trained<T>> {
    let Trained { mut network, mut memory, mut optimizer, mut average } = trained;
    let recipe = rates.recipe;
    let plan = task.plan(epoch);
    let steps = plan.len();
    let started = Instant::now();
    let mut totals: Vec<(&'static str, f64)> = Vec::new();
    let mut waited = 0.0;
    network = std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(PREFETCH);
        scope.spawn(move || {
            for samples in plan {
                let batch = task.load(epoch, &samples);
                // The other end is gone once a step has failed.
                if sender.send(batch).is_err() {
                    break;
                }
            }
        });
        for step in 0..steps {
            let before = Instant::now();
            let batch = receiver.recv()??;
            waited += before.elapsed().as_secs_f64();
            let rate = rates.rate(epoch, step, steps);
            let terms = task.losses(&network, &mut memory, batch, device)?;
            let values: Vec<(&'static str, f64)> = terms
                .iter()
                .map(|(name, term)| (*name, f64::from(term.clone().into_scalar::<f32>())))
                .collect();
            let total: f64 = values.iter().map(|(_, value)| value).sum();
            if !total.is_finite() {
                anyhow::bail!(
                    "loss is {total} in epoch {epoch}, step {step}: lower schedule.learning_rate \
                     or lengthen schedule.warmup_epochs"
                );
            }
            let sum = terms.into_iter().map(|(_, term)| term).reduce(|a, b| a + b);
            if let Some(loss) = sum {
                let gradients = loss.backward();
                network = optimizer.step(network, &gradients, rate);
                if let Some(average) = &mut average {
                    average.update(&Weights::from_module(&network));
                }
            }
            if totals.is_empty() {
                totals = values.iter().map(|(name, _)| (*name, 0.0)).collect();
            }
            for (sum, (_, value)) in totals.iter_mut().zip(&values) {
                sum.1 += value;
            }
            if step % recipe.log_interval == 0 {
                let seconds = started.elapsed().as_secs_f64();
                let done = (step + 1) as f64;
                let left = (steps * (recipe.epochs - epoch + 1) - step - 1) as f64;
                log.line(&format!(
                    "[Train][Epoch {epoch}/{}][Iter: {step}/{steps}]lr({}): {rate:.8}, {}, \
                     loss: {total:.5}, batch_cost: {:.5}s, reader_cost: {:.5}, ips: {:.5} \
                     samples/s, eta: {}",
                    recipe.epochs,
                    recipe.schedule.name(),
                    join(&values),
                    seconds / done,
                    waited / done,
                    done * recipe.batch_size as f64 / seconds,
                    clock(left * seconds / done),
                ))?;
            }
        }
        anyhow::Ok(network)
    })?;
    let averages: Vec<(&'static str, f64)> =
        totals.iter().map(|(name, sum)| (*name, sum / steps as f64)).collect();
    let total: f64 = averages.iter().map(|(_, value)| value).sum();
    log.line(&format!(
        "[Train][Epoch {epoch}/{}][Avg]{}, loss: {total:.5}",
        recipe.epochs,
        join(&averages)
    ))?;
    Ok(Trained { network, memory, optimizer, average })
}

fn join(values: &[(&'static str, f64)]) -> String {
    let parts: Vec<String> =
        values.iter().map(|(name, value)| format!("{name}: {value:.5}")).collect();
    parts.join(", ")
}

fn clock(seconds: f64) -> String {
    let seconds = seconds as u64;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Lines for people in `train.log` and on the terminal, figures for machines in `metrics.jsonl`.
struct Log {
    text: File,
    metrics: File,
}

impl Log {
    fn open(folder: &Path) -> anyhow::Result<Self> {
        use anyhow::Context;
        let open = |name: &str| {
            let path = folder.join(name);
            File::options()
                .create(true)
                .append(true)
                .open(&path)
                .with_context(|| path.display().to_string())
        };
        Ok(Self { text: open("train.log")?, metrics: open("metrics.jsonl")? })
    }

    #[expect(clippy::print_stdout, reason = "the trainer's terminal output")]
    fn line(&mut self, text: &str) -> anyhow::Result<()> {
        println!("{text}");
        Ok(writeln!(self.text, "{text}")?)
    }

    fn record(&mut self, epoch: usize, metrics: &[(String, f64)]) -> anyhow::Result<()> {
        let mut record = serde_json::Map::new();
        record.insert("epoch".to_owned(), epoch.into());
        for (name, value) in metrics {
            record.insert(name.clone(), (*value).into());
        }
        Ok(writeln!(self.metrics, "{}", serde_json::Value::Object(record))?)
    }
}
