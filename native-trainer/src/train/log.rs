//! What a run tells: lines to read, scalars for programs.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::events::Events;
use super::folder::{LOG, METRICS};
use crate::files::{self, FileError, Operation};
use crate::progress::Progress;

/// Lines to read in `train.log` and on the terminal, scalars as JSON lines in `metrics.jsonl` and
/// as `TensorBoard`'s events.
pub(super) struct Log {
    text: Growing,
    metrics: Growing,
    events: Events,
    /// Steps of an epoch.
    steps: usize,
    /// Whether the terminal gets the JSON lines instead.
    json: bool,
    progress: Option<Progress>,
}

/// A file that grows by lines. A line that a full disk or a kill has cut is ended, so that the next one
/// stands for itself.
struct Growing {
    file: File,
    path: PathBuf,
    is_cut: bool,
}

impl Growing {
    fn open(path: PathBuf) -> Result<Self, FileError> {
        let open = || {
            files::reach(Operation::Create)?;
            let mut file = File::options().create(true).read(true).append(true).open(&path)?;
            let mut last = [b'\n'];
            if file.seek(SeekFrom::End(0))? > 0 {
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
            }
            Ok((file, last != [b'\n']))
        };
        match open() {
            Ok((file, is_cut)) => Ok(Self { file, path, is_cut }),
            Err(source) => Err(FileError::Append { path, source }),
        }
    }

    fn line(&mut self, text: &str) -> Result<(), FileError> {
        let begin = if self.is_cut { "\n" } else { "" };
        let line = format!("{begin}{text}\n");
        let written =
            files::reach(Operation::Write).and_then(|()| self.file.write_all(line.as_bytes()));
        self.is_cut = written.is_err();
        written.map_err(|source| FileError::Append { path: self.path.clone(), source })
    }
}

/// Named figures of one line.
pub(super) type Scalars = Vec<(String, f64)>;

impl Log {
    /// Appends to the files of a run.
    pub(super) fn open(folder: &Path, json: bool) -> anyhow::Result<Self> {
        Ok(Self {
            text: Growing::open(folder.join(LOG))?,
            metrics: Growing::open(folder.join(METRICS))?,
            events: Events::create(folder)?,
            steps: 0,
            json,
            progress: None,
        })
    }

    /// An epoch of `steps` steps begins.
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

    /// A line to read.
    pub(super) fn line(&mut self, text: &str) -> anyhow::Result<()> {
        if !self.json {
            self.print(text);
        }
        Ok(self.text.line(text)?)
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
        self.metrics.line(&text)?;
        // An epoch's figures stand behind its last step.
        let step = (epoch - 1) * self.steps + step.unwrap_or(self.steps);
        let tagged = |(name, value): &(String, f64)| (format!("{kind}/{name}"), *value);
        let tagged: Scalars = scalars.iter().map(tagged).collect();
        Ok(self.events.write(step, &tagged)?)
    }

    /// A record of something else than figures.
    pub(super) fn note(&mut self, record: &Value) -> anyhow::Result<()> {
        let text = record.to_string();
        if self.json {
            self.print(&text);
        }
        Ok(self.metrics.line(&text)?)
    }

    fn print(&self, text: &str) {
        match &self.progress {
            Some(progress) => progress.line(text),
            None => println!("{text}"),
        }
    }
}
