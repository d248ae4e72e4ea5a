//! The demos: a page that recognizes photographs of things, and one that recognizes emoji.

mod emoji;
mod lists;
mod measure;
mod photographs;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::steps::{execute, program, root, say, step, target};
use crate::{page, setup};

pub(crate) use emoji::WEIGHTS;
pub(crate) use emoji::site as emoji_site;

/// Sample pictures of a page.
const SAMPLES: u32 = 4;

/// Options of `cargo xtask demo`.
#[derive(Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a word of the command line")]
pub(crate) struct Options {
    emoji: bool,
    train: bool,
    no_stamps: bool,
    no_serve: bool,
    measure: Option<u32>,
    port: Option<u16>,
}

impl Options {
    /// The demo of emoji, published and not served: the small world of the browser tests.
    pub(crate) fn emoji() -> Self {
        Self { emoji: true, no_serve: true, ..Self::default() }
    }

    pub(crate) fn parse(words: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--emoji" => options.emoji = true,
                // Only the networks of the emoji are trained here.
                "--train" => (options.emoji, options.train) = (true, true),
                "--no-stamps" => options.no_stamps = true,
                "--no-serve" => options.no_serve = true,
                "--measure" => {
                    let count = words.next().context("--measure needs a number of pictures")?;
                    options.measure =
                        Some(count.parse().context("--measure needs a number of pictures")?);
                }
                "--port" => {
                    let port = words.next().context("--port needs a number")?;
                    options.port = Some(port.parse().context("--port needs a number")?);
                }
                other => bail!(
                    "unknown option {other}; there are --emoji, --train, --no-stamps, --measure N, \
                     --no-serve, --port N"
                ),
            }
        }
        if options.emoji && (options.no_stamps || options.measure.is_some()) {
            bail!("--no-stamps and --measure are of photographs, --emoji and --train of emoji");
        }
        Ok(options)
    }
}

/// The trainer's program, once built.
pub(crate) fn magpie() -> Command {
    let path = target().join("debug/magpie");
    program(&path.to_string_lossy())
}

/// Builds the programs, makes a demo's site, and serves it.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    build(|| Ok(()))?;
    make(options)
}

/// Builds the page, the trainer, and what is native behind it.
pub(crate) fn build<T>(behind: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    setup::toolchain()?;
    // The page and the trainer share no compiled code, and each alone leaves a core idle.
    std::thread::scope(|scope| {
        let page = scope.spawn(page::build);
        // First what the page waits for.
        let native = setup::bind().and_then(|_| build_trainer()).and_then(|()| behind());
        page.join().ok().context("building the page stopped")??;
        native
    })
}

/// Makes a demo's site of what is built, and serves it.
pub(crate) fn make(options: &Options) -> anyhow::Result<()> {
    let site = if options.emoji {
        emoji::make(options.train)?;
        emoji_site()
    } else {
        photographs::make(options)?;
        photographs::site()
    };
    say(&format!("published: {}", site.display()));
    if options.no_serve {
        return Ok(());
    }
    let port = options.port.unwrap_or(8080).to_string();
    execute(magpie().arg("serve").arg(site).args(["--port", &port]))
}

/// Builds the trainer's program.
pub(crate) fn build_trainer() -> anyhow::Result<()> {
    step("trainer (native)", || {
        execute(program("cargo").args(["build", "--package", "magpie-train", "--locked"]))
    })
}

/// Runs a `publish` whose networks are named already.
fn finish_publishing(
    mut command: Command,
    gallery: &Path,
    samples: &Path,
    site: &Path,
) -> anyhow::Result<()> {
    command.arg("--gallery").arg(gallery).arg("--page").arg(root().join("dist"));
    command.arg("--out").arg(site);
    for number in 1..=SAMPLES {
        command.arg("--sample").arg(samples.join(format!("{number}.jpg")));
    }
    execute(&mut command)
}

/// Writes a list; an unchanged one keeps its time, so that nothing is built again because of it.
fn write_list(path: &PathBuf, list: &str) -> anyhow::Result<()> {
    if std::fs::read_to_string(path).ok().as_deref() == Some(list) {
        return Ok(());
    }
    std::fs::write(path, list).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn photographs_are_the_demo_and_training_is_of_emoji() {
        let parse = |words: &[&str]| Options::parse(words);
        assert_eq!(parse(&[]).unwrap(), Options::default());
        assert_eq!(parse(&["--emoji", "--no-serve"]).unwrap(), Options::emoji());
        let training = parse(&["--train"]).unwrap();
        assert!(training.emoji && training.train);
        assert_eq!(parse(&["--measure", "200"]).unwrap().measure, Some(200));
        for words in [&["--train", "--measure", "5"][..], &["--emoji", "--no-stamps"]] {
            assert!(parse(words).unwrap_err().to_string().contains("of photographs"));
        }
        assert!(parse(&["--emojis"]).unwrap_err().to_string().contains("--emoji, --train"));
    }
}
