//! Speed beside the peers, in one run on this machine.
//!
//! Every command prints what it measures and writes it below `docs/benchmarks`.

mod engine;
mod gallery;
mod import;
mod page;
mod postgres;
mod processes;
mod quality;
mod record;
mod report;
mod service;
mod studio;
mod training;
mod workers;

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

pub(crate) use engine::engine;
pub(crate) use gallery::gallery;
pub(crate) use import::import;
pub(crate) use page::page;
pub(crate) use postgres::postgres;
pub(crate) use quality::quality;
pub(crate) use report::run as report;
pub(crate) use service::service;
pub(crate) use studio::studio;
pub(crate) use training::training;
pub(crate) use workers::workers;

use crate::setup;
use crate::steps::{execute, program, say, step, target};

/// Runs of each, in turn.
const ROUNDS: usize = 2;

/// Builds a measurement of the trainer and returns its path, which only cargo knows.
fn measurement(name: &str) -> anyhow::Result<String> {
    // The same selection as the tests, so that nothing is compiled in two ways.
    let built = step("the measurement", || {
        let mut command = program("cargo");
        command.args(["build", "--locked", "--workspace", "--bench", name]);
        command.args(["--message-format", "json-render-diagnostics"]);
        Ok(command.stderr(Stdio::inherit()).output()?)
    })?;
    if !built.status.success() {
        bail!("{name} was not built: {}", built.status);
    }
    let path = String::from_utf8_lossy(&built.stdout).lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == name && message["target"]["kind"][0] == "bench";
        is_it.then(|| message["executable"].as_str().map(str::to_owned)).flatten()
    });
    path.with_context(|| format!("cargo does not say where {name} lies"))
}

/// Builds an example of the engine for the browser.
fn wasm_example(name: &str, feature: &str, to: &Path) -> anyhow::Result<()> {
    let build = ["build", "--locked", "--release", "--target", setup::TARGET];
    let what = ["--package", "wasm-engine", "--no-default-features", "--features", feature];
    execute(program("cargo").args(build).args(what).args(["--example", name]))?;
    let wasm = target().join(setup::TARGET).join("release/examples").join(name);
    crate::engine::bind(&wasm.with_extension("wasm"), to)
}

/// Installs packages of npm where the last of them is missing.
fn npm_peers(folder: &Path, last: &str, packages: &[&str]) -> anyhow::Result<()> {
    if folder.join("node_modules").join(last).exists() {
        return Ok(());
    }
    step(&format!("{} (from npm)", packages.join(", ")), || {
        std::fs::create_dir_all(folder)?;
        let mut install = program("npm");
        execute(install.args(["install", "--silent"]).args(packages).arg("--prefix").arg(folder))
    })
}

/// Runs a command that writes figures as JSON lines, prints them and returns them.
fn figures(command: &mut Command) -> anyhow::Result<Vec<Value>> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("the measurement ended with {}", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| {
            say(line);
            serde_json::from_str(line).with_context(|| line.to_owned())
        })
        .collect()
}

/// A figure's text.
fn text<'a>(figure: &'a Value, key: &str) -> anyhow::Result<&'a str> {
    figure[key].as_str().with_context(|| format!("no {key}: {figure}"))
}
