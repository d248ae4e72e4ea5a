//! `magpie report`: a run as a page.

use std::path::PathBuf;

use clap::Args;

use crate::cli::DeviceKind;
use crate::report;
use crate::train::folder::RunFolder;

/// Writes report.html into a run's folder: curves of loss, learning rate and evaluation, and for an
/// extractor what it confuses. `train` does so at its end.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie report runs/mine")]
pub struct Arguments {
    /// Folder of the run.
    run: PathBuf,
    /// Queries to show with their nearest pictures.
    #[arg(long, default_value_t = REPORTED)]
    pictures: usize,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
}

/// Queries in the report that `train` writes.
pub(super) const REPORTED: usize = 40;

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// As [`report::write`].
    pub fn run(&self) -> anyhow::Result<()> {
        let _held = RunFolder::hold(&self.run)?;
        RunFolder::find(&self.run)?;
        let path = report::write(&self.run, self.pictures, &self.device.open())?;
        println!("{}", path.display());
        Ok(())
    }
}
