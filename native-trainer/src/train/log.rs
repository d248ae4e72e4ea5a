//! What a run tells: lines for people, scalars for machines.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value};

use super::events::Events;
use crate::progress::Progress;

/// Lines for people in `train.log` and on the terminal, scalars as JSON lines in `metrics.jsonl` and
/// as `TensorBoard`'s events.
pub(super) struct Log {
    text: File,
    metrics: File,
    events: Events,
    /// Steps of an epoch.
    steps: usize,
    /// Whether the terminal gets the JSON lines instead.
    json: bool,
    progress: Option<Progress>,
}

/// Named figures of one line.
pub(super) type Scalars = Vec<(String, f64)>;

impl Log {
    /// Appends to the files of a run.
    pub(super) fn open(folder: &Path, json: bool) -> anyhow::Result<Self> {
        let open = |name: &str| {
            let path = folder.join(name);
            File::options()
                .create(true)
                .append(true)
                .open(&path)
                .with_context(|| path.display().to_string())
        };
        Ok(Self {
            text: open("train.log")?,
            metrics: open("metrics.jsonl")?,
            events: Events::create(folder).with_context(|| folder.display().to_string())?,
            steps: 0,
            json,
            progress: None,
        })
    }

    /// An epoch of so many steps begins.
    pub(super) fn begin(&mut self, epoch: usize, steps: usize) {
        self.steps = steps;
        self.progress = Some(Progress::new(&format!("steps of epoch {epoch}"), steps));
    }

    /// Some steps of the epoch are done.
    pub(super) fn advance(&self, steps: usize) {
        if let Some(progress) = &self.progress {
            progress.advance(steps);
        }
    }

    /// The epoch's steps are done.
    pub(super) fn end(&mut self) {
        self.progress = None;
    }

    /// A line for people.
    pub(super) fn line(&mut self, text: &str) -> anyhow::Result<()> {
        if !self.json {
            self.print(text);
        }
        Ok(writeln!(self.text, "{text}")?)
    }

    /// Figures of a moment: `kind` is `train` for a step, `epoch` for the means of an epoch, `eval`
    /// for an evaluation.
    pub(super) fn record(
        &mut self,
        kind: &str,
        epoch: usize,
        step: Option<usize>,
        scalars: &Scalars,
    ) -> anyhow::Result<()> {
        let mut record = Map::new();
        record.insert("kind".to_owned(), kind.into());
        record.insert("epoch".to_owned(), epoch.into());
        if let Some(step) = step {
            record.insert("iter".to_owned(), step.into());
        }
        for (name, value) in scalars {
            record.insert(name.clone(), (*value).into());
        }
        let text = Value::Object(record).to_string();
        if self.json {
            self.print(&text);
        }
        writeln!(self.metrics, "{text}")?;
        // An epoch's figures stand behind its last step.
        let step = (epoch - 1) * self.steps + step.unwrap_or(self.steps);
        let tagged = |(name, value): &(String, f64)| (format!("{kind}/{name}"), *value);
        let tagged: Scalars = scalars.iter().map(tagged).collect();
        Ok(self.events.write(step, &tagged)?)
    }

    fn print(&self, text: &str) {
        match &self.progress {
            Some(progress) => progress.line(text),
            None => println!("{text}"),
        }
    }
}
