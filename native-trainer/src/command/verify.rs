//! `magpie verify`: whether a published site is whole.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;

use super::publish::{PRECACHE, Precache, SERVICE_WORKER, open_again, precache};
use super::read;

/// Checks a published site: every file of the bundle against its checksum, that the bundle answers,
/// and that nothing has changed since the service worker was told what to keep.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie verify site")]
pub struct Arguments {
    /// Folder of the site.
    site: PathBuf,
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the site.
    #[expect(clippy::print_stdout, reason = "the command's answer")]
    pub fn run(&self) -> anyhow::Result<()> {
        let site = &self.site;
        if !site.join("index.html").is_file() {
            bail!("{}: no published site, it has no index.html", site.display());
        }
        open_again(site)?;
        let worker = site.join(SERVICE_WORKER);
        if worker.is_file() {
            let list = site.join(PRECACHE);
            let kept: Precache = serde_json::from_slice(&read(&list)?)
                .with_context(|| list.display().to_string())?;
            let (there, version) = precache(site)?;
            if kept != there {
                bail!("{}: files have come or gone since it was published", list.display());
            }
            if !String::from_utf8_lossy(&read(&worker)?).contains(&version) {
                bail!(
                    "{}: a file has changed since it was published, and browsers that keep the \
                     site would not notice; publish it again",
                    worker.display()
                );
            }
        }
        println!("{}: whole", site.display());
        Ok(())
    }
}
