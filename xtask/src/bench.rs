//! Speed beside the peers, in one run on this machine.

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::Context;

use crate::steps::{execute, program, root, say, step};

/// Pictures a step, side of a picture, steps.
const WORK: [&str; 3] = ["16", "224", "3"];
/// Runs of each, in turn.
const ROUNDS: usize = 2;

/// Training speed against PyTorch, which is installed into `.magpie/bench` when it is not there.
pub(crate) fn bench() -> anyhow::Result<()> {
    let venv = root().join(".magpie/bench/venv");
    let python = venv.join("bin/python").to_string_lossy().into_owned();
    if !venv.join("installed").exists() {
        step("PyTorch and timm (from PyPI, some gigabytes)", || {
            execute(program("python3").args(["-m", "venv"]).arg(&venv))?;
            execute(program(&python).args(["-m", "pip", "install", "--quiet", "torch", "timm"]))?;
            Ok(std::fs::write(venv.join("installed"), "")?)
        })?;
    }
    let example =
        ["build", "--locked", "--package", "native-trainer", "--example", "training_speed"];
    step("the example", || execute(program("cargo").args(example)))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), Into::into);
    let ours = target.join("debug/examples/training_speed").to_string_lossy().into_owned();
    let mut best: BTreeMap<String, [f64; 2]> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for (side, command, script) in
            [(0, &ours, None), (1, &python, Some("tests/bench/training_speed.py"))]
        {
            let name = if side == 0 { "Magpie" } else { "PyTorch" };
            step(name, || {
                for (network, rate) in figures(command, script)? {
                    let best = &mut best.entry(network).or_default()[side];
                    *best = best.max(rate);
                }
                Ok(())
            })?;
        }
    }
    say("network            Magpie   PyTorch   ratio   (images a second, forward and backward)");
    for (network, [ours, theirs]) in best {
        say(&format!("{network:16} {ours:8.2} {theirs:9.2} {:7.2}", ours / theirs));
    }
    Ok(())
}

fn figures(command: &str, script: Option<&str>) -> anyhow::Result<Vec<(String, f64)>> {
    let output = program(command)
        .args(script)
        .args(WORK)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| command.to_owned())?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| {
            let figure: serde_json::Value = serde_json::from_str(line)?;
            let network = figure["network"].as_str().context("a line without a network")?;
            let rate = figure["images_per_second"].as_f64().context("a line without a figure")?;
            Ok((network.to_owned(), rate))
        })
        .collect()
}
