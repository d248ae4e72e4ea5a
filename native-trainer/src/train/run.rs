//! Everything that changes while a network is trained, and one epoch of it.

mod resumed;
mod start;

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use burn::tensor::Gradients as DeviceGradients;
use models::operators::mixed;
use models::weights::{Weights, WeightsError};

use super::folder::RunFolder;
use super::log::{Log, Scalars};
use super::{BEST, Input, LAST, Memory, PREFETCH, Training};
use crate::checkpoint::{self, Progress};
use crate::ema::Ema;
use crate::embedding::EmbeddingError;
use crate::loss_scale::LossScale;
use crate::optimizer::Optimizer;
use crate::recipe::Recipe;
use crate::replica::{Hub, Replica, ReplicaError, share};

/// Everything that changes while a network is trained.
pub(super) struct Run<'a, T: Training> {
    task: &'a T,
    recipe: &'a Recipe,
    device: &'a Device,
    hub: Option<&'a Hub>,
    pub(super) network: T::Network,
    memory: T::Memory,
    optimizer: Optimizer,
    average: Option<Ema>,
    pub(super) progress: Progress,
}

impl<'a, T: Training> Run<'a, T> {
    pub(super) fn begin(
        task: &'a T,
        recipe: &'a Recipe,
        device: &'a Device,
        hub: Option<&'a Hub>,
    ) -> Self {
        let network = task.init(device);
        Self {
            task,
            recipe,
            device,
            hub,
            memory: task.memory(device),
            optimizer: Optimizer::new(recipe.optimizer).with_rules(recipe.parameters.clone()),
            average: recipe.ema.map(|ema| ema.init(&Weights::from_module(&network))),
            progress: Progress {
                loss_scale: LossScale::begin(recipe.mixed_precision),
                labels: task.labels().to_vec(),
                plateau: recipe.schedule.plateau(),
                order: task.order_key(),
                ..Progress::default()
            },
            network,
        }
    }

    /// The error of training that ends in no numbers; `reason` is where they show.
    fn diverged(&self, reason: &str, latest: &Path) -> anyhow::Error {
        anyhow::anyhow!(
            "training has diverged in epoch {}: {reason}: lower schedule.learning_rate or lengthen \
             schedule.warmup_epochs; {}",
            self.progress.epoch,
            Self::last_good(latest)
        )
    }

    /// Whether all weights are finite numbers.
    pub(super) fn check(&self, latest: &Path) -> anyhow::Result<()> {
        match Weights::from_module(&self.network).check() {
            Err(WeightsError::NotFinite { name, value }) => {
                Err(self.diverged(&format!("tensor {name} holds {value}"), latest))
            }
            checked => Ok(checked?),
        }
    }

    /// Evaluates the network, or its average; whether it is the best so far.
    pub(super) fn evaluate(
        &mut self,
        averaged: Option<&T::Network>,
        device: &Device,
        latest: &Path,
        log: &mut Log,
    ) -> anyhow::Result<bool> {
        let network = averaged.unwrap_or(&self.network);
        let metrics = self.task.evaluate(network, device, self.hub).map_err(|error| match error
            .downcast_ref()
        {
            Some(EmbeddingError::NotFinite { picture }) => {
                let reason = format!("the embedding of {picture} is no finite number");
                self.diverged(&reason, latest)
            }
            Some(EmbeddingError::Zero { picture }) => {
                self.diverged(&format!("the embedding of {picture} is all zeros"), latest)
            }
            _ => error,
        })?;
        self.tell_replicas(log)?;
        self.observe(&metrics, log)
    }

    /// Says which replicas were lost and which came back.
    fn tell_replicas(&self, log: &mut Log) -> anyhow::Result<()> {
        let told = self.hub.map(Hub::take_told).unwrap_or_default();
        told.iter().try_for_each(|text| log.line(text))
    }

    /// Keeps the network, or its average, as the best and as the last one.
    pub(super) fn keep(
        &self,
        is_best: bool,
        is_last: bool,
        averaged: Option<&T::Network>,
        folder: &RunFolder,
    ) -> anyhow::Result<()> {
        let network = averaged.unwrap_or(&self.network);
        for (wanted, name) in [(is_best, BEST), (is_last, LAST)] {
            if wanted {
                checkpoint::save(&folder.join(name), network, None, &self.progress)?;
            }
        }
        Ok(())
    }

    pub(super) fn save(&mut self, folder: &Path) -> anyhow::Result<()> {
        self.progress.step = self.optimizer.steps();
        self.progress.average = self.average.as_ref().map(Ema::age);
        let state = checkpoint::State {
            optimizer: &self.optimizer,
            average: self.average.as_ref(),
            memory: &self.memory.to_weights(),
        };
        Ok(checkpoint::save(folder, &self.network, Some(state), &self.progress)?)
    }

    /// The network with the averaged weights, where the recipe averages.
    pub(super) fn averaged(&mut self) -> anyhow::Result<Option<T::Network>> {
        let Some(average) = &mut self.average else { return Ok(None) };
        // Not into a clone, which would share its running statistics with the network in training.
        Ok(Some(average.read_out().load_into(self.network.valid())?))
    }

    /// Takes note of an evaluation; whether it is the best so far.
    pub(super) fn observe(&mut self, metrics: &Scalars, log: &mut Log) -> anyhow::Result<bool> {
        // Without evaluation data the newest network is the best known.
        let Some((_, value)) = metrics.first() else { return Ok(true) };
        let epoch = self.progress.epoch;
        if let Some(plateau) = &mut self.progress.plateau {
            plateau.observe(*value);
        }
        self.progress.evaluated = Some((epoch, *value));
        let is_best = self.progress.best.is_none_or(|(best, _)| *value > best);
        if is_best {
            self.progress.best = Some((*value, epoch));
        }
        log.line(&format!("[Eval][Epoch {epoch}][Avg]{}", join(metrics)))?;
        let best = self.progress.best.map_or(0.0, |(best, _)| best);
        log.line(&format!("[Eval][Epoch {epoch}][best metric: {best:.5}]"))?;
        log.record("eval", epoch, None, metrics)?;
        Ok(is_best)
    }

    /// Learning rate of a step.
    fn rate(&self, epoch: usize, step: usize, steps: usize) -> f64 {
        let Recipe { schedule, epochs, .. } = self.recipe;
        let scheduled = schedule.rate((epoch - 1) * steps + step, steps, *epochs);
        self.progress.plateau.as_ref().map_or(scheduled, |plateau| scheduled.min(plateau.rate()))
    }

    /// Trains an epoch, or what is left of it.
    pub(super) fn epoch(mut self, latest: &Path, log: &mut Log) -> anyhow::Result<Self> {
        let (task, recipe, epoch) = (self.task, self.recipe, self.progress.epoch + 1);
        if let Some(hub) = self.hub {
            hub.admit();
            self.tell_replicas(log)?;
        }
        let mut order = task.order(epoch);
        let steps = order.len();
        let first = self.progress.position.min(steps);
        order.drain(..first);
        let mut clock = Clock { started: Instant::now(), waited: 0.0, done: 0 };
        let replicas = self.hub.map_or(1, Hub::replicas);
        log.begin(epoch, steps);
        log.advance(first);
        self = std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(PREFETCH);
            scope.spawn(move || {
                for samples in order {
                    let here = share(samples.len(), replicas, 0).len();
                    let batch = task.load(epoch, &samples, here);
                    // The other end is gone once a step has failed.
                    if sender.send(batch).is_err() {
                        break;
                    }
                }
            });
            for step in first..steps {
                let before = Instant::now();
                let (input, batch) = receiver.recv()??;
                clock.waited += before.elapsed().as_secs_f64();
                let rate = self.rate(epoch, step, steps);
                let is_whole = (step + 1).is_multiple_of(recipe.accumulate) || step + 1 == steps;
                let values;
                let before = self.loss_scale();
                (self, values) = self.step(input, batch, rate, is_whole)?;
                self.tell_replicas(log)?;
                let after = self.loss_scale();
                if after < before {
                    log.line(&format!(
                        "step {step} of epoch {epoch} is not taken: its gradients are beyond f16; the \
                         loss is scaled by {after} from now on"
                    ))?;
                }
                let total: f64 = values.iter().map(|(_, value)| value).sum();
                if !total.is_finite() {
                    anyhow::bail!(
                        "loss is {total} in epoch {epoch}, step {step}: lower \
                         schedule.learning_rate or lengthen schedule.warmup_epochs; {}",
                        Self::last_good(latest)
                    );
                }
                clock.done += 1;
                log.advance(1);
                self.add(&values);
                self.progress.position = step + 1;
                if step.is_multiple_of(recipe.log_interval) {
                    self.tell(log, epoch, [step, steps], rate, &values, &clock)?;
                }
                if is_whole && step + 1 < steps && self.is_checkpoint_due() {
                    self.check(latest)?;
                    self.save(latest)?;
                }
            }
            anyhow::Ok(self)
        })?;
        log.end();
        self.end_epoch(epoch, steps, &clock, log)?;
        Ok(self)
    }

    /// Says what an epoch came to and goes to the next.
    fn end_epoch(
        &mut self,
        epoch: usize,
        steps: usize,
        clock: &Clock,
        log: &mut Log,
    ) -> anyhow::Result<()> {
        let recipe = self.recipe;
        let totals = std::mem::take(&mut self.progress.totals);
        self.progress.position = 0;
        self.progress.epoch = epoch;
        let mut means: Scalars =
            totals.into_iter().map(|(name, sum)| (name, sum / steps as f64)).collect();
        means.push(("loss".to_owned(), means.iter().map(|(_, value)| value).sum()));
        log.line(&format!("[Train][Epoch {epoch}/{}][Avg]{}", recipe.epochs, join(&means)))?;
        let seconds = clock.seconds();
        let rate = (clock.done * recipe.batch_size) as f64 / seconds.max(f64::MIN_POSITIVE);
        let waiting = clock.waited / seconds.max(f64::MIN_POSITIVE);
        log.line(&format!(
            "[Train][Epoch {epoch}/{}][Time]{seconds:.1} s, {rate:.1} samples/s, {:.1} % of it \
             waiting for pictures",
            recipe.epochs,
            100.0 * waiting
        ))?;
        means.push(("ips".to_owned(), rate));
        means.push(("waiting".to_owned(), waiting));
        log.record("epoch", epoch, None, &means)
    }

    /// One batch forward and backward; a whole step also changes the weights.
    fn step(
        mut self,
        input: Input,
        batch: T::Batch,
        rate: f64,
        is_whole: bool,
    ) -> anyhow::Result<(Self, Scalars)> {
        // A replica may be lost in the middle of a step, which is then taken anew from here.
        let before = self.hub.map(|_| (Weights::from_module(&self.network), self.memory.clone()));
        let taken = loop {
            let error = match self.pass(&input, batch.clone()) {
                Ok(taken) => break taken,
                Err(error) => error,
            };
            let lost = error.downcast_ref::<ReplicaError>();
            let goes_on = self.hub.zip(lost).is_some_and(|(hub, lost)| hub.go_on_without(lost));
            let (Some((weights, memory)), true) = (&before, goes_on) else { return Err(error) };
            self.network = weights.clone().load_into(self.network)?;
            self.memory = memory.clone();
        };
        let Some(Gradients { own, shared }) = taken.gradients else {
            return Ok((self, taken.values));
        };
        if let Some((first, others)) = shared {
            self.optimizer.hold(&self.network, &first);
            for gradients in others {
                self.optimizer.hold_values(gradients, self.device);
            }
        }
        if !is_whole {
            self.optimizer.hold(&self.network, &own);
        } else if self.is_usable(&own)? {
            let scale = self.loss_scale();
            self.network = self.optimizer.step_scaled(self.network, &own, rate, scale);
            if let Some(average) = &mut self.average {
                average.update(&Weights::from_module(&self.network));
            }
        } else {
            self.optimizer.skip();
        }
        Ok((self, taken.values))
    }

    /// A batch forward and backward.
    fn pass(&mut self, input: &Input, batch: T::Batch) -> anyhow::Result<Taken> {
        let Input { preprocess, pixels, pictures } = input;
        let x = preprocess.batch(pixels.clone(), self.device);
        let (replica, place) = T::replica(&self.network);
        let mixed_precision = self.recipe.mixed_precision;
        let (outputs, shared) = match self.hub {
            None => (mixed::within(mixed_precision, || replica.outputs(x)), None),
            Some(hub) => {
                let forward = || hub.forward(replica, x, preprocess, pictures);
                let pass = mixed::within(mixed_precision, forward)?;
                (pass.outputs(), Some((hub, pass)))
            }
        };
        let terms =
            self.task.losses(&self.network, &mut self.memory, outputs, batch, self.device)?;
        let values = terms
            .iter()
            .map(|(name, term)| ((*name).to_owned(), f64::from(term.clone().into_scalar::<f32>())))
            .collect();
        let sum = terms.into_iter().map(|(_, term)| term).reduce(|a, b| a + b);
        let Some(loss) = sum else { return Ok(Taken { values, gradients: None }) };
        let loss = match self.recipe.accumulate {
            1 => loss,
            batches => loss / batches as f64,
        };
        let scale = self.loss_scale();
        let own = if scale == 1.0 { loss } else { loss * scale }.backward();
        let shared = match shared {
            None => None,
            Some((hub, pass)) => {
                let (first, others) = hub.backward(&pass, &own)?;
                let placed = |gradients: Weights| match place {
                    Some(place) => gradients.prefixed(place),
                    None => gradients,
                };
                Some((first, others.into_iter().map(placed).collect()))
            }
        };
        Ok(Taken { values, gradients: Some(Gradients { own, shared }) })
    }

    /// What the loss is multiplied by.
    fn loss_scale(&self) -> f64 {
        self.progress.loss_scale.map_or(1.0, |scale| scale.factor())
    }

    /// Whether a step can be taken by the gradients of a scaled loss; the scale follows.
    fn is_usable(&mut self, gradients: &DeviceGradients) -> anyhow::Result<bool> {
        let Some(scale) = &mut self.progress.loss_scale else { return Ok(true) };
        let are_finite = self.optimizer.are_finite(&self.network, gradients);
        anyhow::ensure!(
            are_finite || scale.factor() > 1.0,
            "gradients are beyond f16 however the loss is scaled: lower schedule.learning_rate, or \
             take mixed_precision = \"bf16\""
        );
        scale.observe(are_finite);
        Ok(are_finite)
    }

    /// Whether the step that was taken is one after which the recipe wants a checkpoint.
    fn is_checkpoint_due(&self) -> bool {
        let steps = self.optimizer.steps();
        self.recipe.checkpoint_interval.is_some_and(|n| steps.is_multiple_of(n.max(1)))
    }

    /// Adds a step's terms to the epoch's sums.
    fn add(&mut self, values: &Scalars) {
        let totals = &mut self.progress.totals;
        if totals.is_empty() {
            *totals = values.iter().map(|(name, _)| (name.clone(), 0.0)).collect();
        }
        for (sum, (_, value)) in totals.iter_mut().zip(values) {
            sum.1 += value;
        }
    }

    /// The line and the record of a step.
    fn tell(
        &self,
        log: &mut Log,
        epoch: usize,
        [step, steps]: [usize; 2],
        rate: f64,
        values: &Scalars,
        clock: &Clock,
    ) -> anyhow::Result<()> {
        let Recipe { epochs, batch_size, schedule, .. } = self.recipe;
        let (seconds, done) = (clock.seconds(), clock.done as f64);
        let left = (steps * (epochs - epoch + 1) - step - 1) as f64;
        let total: f64 = values.iter().map(|(_, value)| value).sum();
        let speed = done * *batch_size as f64 / seconds;
        log.line(&format!(
            "[Train][Epoch {epoch}/{epochs}][Iter: {step}/{steps}]lr({}): {rate:.8}, {}, loss: \
             {total:.5}, batch_cost: {:.5}s, reader_cost: {:.5}, ips: {speed:.5} samples/s, eta: {}",
            schedule.name(),
            join(values),
            seconds / done,
            clock.waited / done,
            hours(left * seconds / done),
        ))?;
        let mut scalars = values.clone();
        for (name, value) in [("loss", total), ("lr", rate), ("ips", speed)] {
            scalars.push((name.to_owned(), value));
        }
        log.record("train", epoch, Some(step), &scalars)
    }
}

/// What a batch came to.
struct Taken {
    /// The losses' terms by name.
    values: Scalars,
    /// Without a loss nothing.
    gradients: Option<Gradients>,
}

/// Of the weights.
struct Gradients {
    /// Of the losses: of heads, and without other replicas of all.
    own: DeviceGradients,
    /// Of the part that sees pictures: this process' and, by path, those of the others.
    shared: Option<(DeviceGradients, Vec<Weights>)>,
}

/// Time spent on an epoch.
struct Clock {
    started: Instant,
    /// Seconds in which the device had nothing to do.
    waited: f64,
    /// Steps.
    done: usize,
}

impl Clock {
    fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

fn join(values: &Scalars) -> String {
    let parts: Vec<String> =
        values.iter().map(|(name, value)| format!("{name}: {value:.5}")).collect();
    parts.join(", ")
}

fn hours(seconds: f64) -> String {
    let seconds = seconds as u64;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
