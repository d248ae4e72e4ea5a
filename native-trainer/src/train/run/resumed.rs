//! A run that goes on, and one that ends.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use models::weights::Weights;

use super::Run;
use crate::checkpoint::{self, Progress};
use crate::loss_scale::LossScale;
use crate::terminal::counted;
use crate::train::folder::RunFolder;
use crate::train::log::Log;
use crate::train::{BEST, LAST, LATEST, Memory, Training};

impl<T: Training> Run<'_, T> {
    pub(in crate::train) fn resume(mut self, folder: &Path) -> anyhow::Result<Self> {
        let mut progress = checkpoint::progress(folder)?;
        anyhow::ensure!(
            checkpoint::can_go_on(folder),
            "{}: holds a network alone, from which training cannot go on; give the folder of {LATEST} or an \
             epoch, or begin anew with extractor.pretrained",
            folder.display()
        );
        // The recipe may have changed its mind.
        let begin = LossScale::begin(self.recipe.mixed_precision);
        progress.loss_scale = begin.map(|begin| progress.loss_scale.unwrap_or(begin));
        if progress.labels != self.task.labels() {
            anyhow::bail!(
                "{}: the classes of the data have changed; begin anew with another --out and \
                 extractor.pretrained={0}",
                folder.display()
            );
        }
        self.check_order(folder, &progress)?;
        progress.order = self.task.order_key();
        let network = checkpoint::load_module(folder, self.network)?;
        let (rule, steps) = (self.recipe.optimizer, progress.step);
        let optimizer = checkpoint::load_optimizer(folder, rule, steps, self.device)?
            .with_rules(self.recipe.parameters.clone());
        if !self.memory.restore(&checkpoint::load_memory(folder)?) {
            anyhow::bail!(
                "{}: the losses of the recipe have changed; take those of the run's recipe.toml, or begin anew \
                 with extractor.pretrained={0}",
                folder.display()
            );
        }
        let average = match (&self.recipe.ema, progress.average) {
            (Some(config), Some(age)) => Some(checkpoint::load_average(folder, config, age)?),
            (Some(config), None) => Some(config.init(&Weights::from_module(&network))),
            (None, _) => None,
        };
        Ok(Self { network, optimizer, average, progress, ..self })
    }

    /// Within an epoch only the same order goes on with the batches that are left.
    fn check_order(&self, folder: &Path, progress: &Progress) -> anyhow::Result<()> {
        if progress.position == 0 {
            return Ok(());
        }
        let order = self.task.order_key();
        let differs =
            |(key, was): &(&String, &String)| order.get(*key).is_some_and(|is| is != *was);
        let differing: Vec<String> = (progress.order.iter())
            .filter(differs)
            .map(|(key, was)| format!("{key} is {}, it was {was}", order[key]))
            .collect();
        anyhow::ensure!(
            differing.is_empty(),
            "{}: lies within epoch {}, after {} of its batches, and the rest would be other ones: {}; change \
             that back until the epoch's end, or go on from a checkpoint between epochs (--resume with its \
             folder), or begin anew in another folder",
            folder.display(),
            progress.epoch + 1,
            progress.position,
            differing.join("; ")
        );
        Ok(())
    }

    /// Tells where the run goes on, and looks whether the best network is the one that the checkpoint means.
    pub(in crate::train) fn tell_resumed(
        &mut self,
        from: &Path,
        folder: &RunFolder,
        log: &mut Log,
    ) -> anyhow::Result<()> {
        let batches = match self.progress.position {
            0 => String::new(),
            position => format!(" and {}", counted(position, "batch", "batches")),
        };
        let Progress { epoch, best, .. } = self.progress;
        log.line(&format!("resumed {} after epoch {epoch}{batches}", from.display()))?;
        if let Some((_, best)) = best {
            let there = checkpoint::progress(&folder.join(BEST)).ok();
            if there.as_ref().map(|progress| progress.epoch) != Some(best) {
                // One of another run or of epochs that are done again, or none.
                self.progress.best = None;
                log.line(&format!(
                    "{BEST} is not the network after epoch {best}: the best is looked for anew"
                ))?;
            }
        }
        let asked = self.recipe.epochs;
        if epoch > asked {
            log.line(&format!(
                "the checkpoint has {}, the recipe asks for {asked}: nothing is trained, and the \
                 network after epoch {epoch} is the last",
                counted(epoch, "epoch", "epochs")
            ))?;
        }
        Ok(())
    }

    /// What there is to go on from, for somebody whose training has diverged.
    pub(in crate::train) fn last_good(latest: &Path) -> String {
        let found = checkpoint::newest_whole(latest).ok().flatten();
        let found = found.and_then(|folder| Some((checkpoint::progress(&folder).ok()?, folder)));
        let Some((progress, folder)) = found else {
            return "there is no good checkpoint yet: begin anew with --overwrite".to_owned();
        };
        let batches = match progress.position {
            0 => String::new(),
            position => format!(" and {}", counted(position, "batch", "batches")),
        };
        format!(
            "the last good checkpoint is {}, after epoch {}{batches}: --resume goes on from there",
            folder.display(),
            progress.epoch
        )
    }

    /// Sees to it that the best and the last network are those of a run that ends here: it may have been
    /// stopped, or was to go on for longer.
    pub(in crate::train) fn finish(
        &mut self,
        folder: &RunFolder,
        device: &Device,
        log: &mut Log,
    ) -> anyhow::Result<()> {
        let epoch = self.progress.epoch;
        let epoch_of = |name: &str| {
            let found = checkpoint::progress(&folder.join(name)).ok();
            found.map(|progress| progress.epoch)
        };
        let is_evaluated = self.progress.evaluated.is_some_and(|(at, _)| at == epoch);
        // Without evaluation data the newest is the best.
        let best = self.progress.best.map_or(epoch, |(_, best)| best);
        let has_best = epoch_of(BEST) == Some(best);
        if epoch_of(LAST) == Some(epoch) && has_best {
            return Ok(());
        }
        // The average as it would be read, but not counted as read: the run may go on some day.
        let averaged = self.peeked()?;
        let is_best = if is_evaluated && has_best {
            false
        } else {
            let is_best = self.evaluate(averaged.as_ref(), device, &folder.join(LATEST), log)?;
            is_best || !has_best
        };
        self.keep(is_best, true, averaged.as_ref(), folder)?;
        if is_best {
            self.save(&folder.join(LATEST))?;
        }
        Ok(())
    }

    /// The network with the averaged weights, which stay as they are; `None` where there is no average, or
    /// one that has just begun anew.
    fn peeked(&self) -> anyhow::Result<Option<T::Network>> {
        let Some(mut average) = self.average.clone() else { return Ok(None) };
        if average.state().tensors.is_empty() {
            return Ok(None);
        }
        Ok(Some(average.read_out().load_into(self.network.valid())?))
    }
}
