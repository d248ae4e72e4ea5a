//! What a log says before the first step.

use burn::module::Module;

use super::Run;
use crate::metric::verdict::Beginning;
use crate::terminal::counted;
use crate::train::Training;
use crate::train::log::Log;

impl<T: Training> Run<'_, T> {
    /// Says what is trained, on what, and what there was before; `Err` of `beginning` is why nobody knows.
    pub(in crate::train) fn tell_start(
        &self,
        beginning: &Result<Beginning, String>,
        log: &mut Log,
    ) -> anyhow::Result<()> {
        let (task, recipe) = (self.task, self.recipe);
        log.line(&format!(
            "{} parameters, {} of {} per epoch, {}",
            self.network.num_params(),
            counted(task.batches(), "batch", "batches"),
            recipe.batch_size,
            counted(recipe.epochs, "epoch", "epochs")
        ))?;
        if recipe.schedule.is_all_warmup(recipe.epochs) {
            log.line(&format!(
                "warning: the learning rate rises until the end: schedule.warmup_epochs is {}, epochs is {}; give \
                 -o schedule.warmup_epochs={}",
                recipe.schedule.warmup_epochs,
                recipe.epochs,
                recipe.epochs as f64 / 10.0
            ))?;
        }
        for note in task.notes() {
            log.line(note)?;
        }
        match beginning {
            Ok(Beginning { weights, input: [width, height], recall1 }) => log.line(&format!(
                "before training: {weights} on the held-out pictures at {width} × {height}: recall@1 {recall1:.5}"
            ))?,
            Err(reason) if task.held_out() > 0 => {
                log.line(&format!("not compared with what there was before training: {reason}"))?;
            }
            Err(_) => {}
        }
        if let Some(hub) = self.hub {
            let (replicas, names) = (hub.replicas(), hub.names().join(", "));
            log.line(&format!("{replicas} replicas share a batch: this process, {names}"))?;
        }
        Ok(())
    }
}
