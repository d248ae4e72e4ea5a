//! Training speed against `PyTorch`.

use std::collections::BTreeMap;

use anyhow::Context;

use super::record::{Table, number, python_version, ratio};
use super::{ROUNDS, figures, measurement, text};
use crate::setup;
use crate::steps::{program, step};

/// Pictures a step, side of a picture, steps.
const WORK: [&str; 3] = ["16", "224", "3"];

/// Images per second, forward and backward; `PyTorch` is installed into `.magpie/bench`.
pub(crate) fn training() -> anyhow::Result<()> {
    let python = setup::python_with("bench/venv", &["torch", "timm"])?;
    let ours = measurement("training_speed")?;
    let mut best: BTreeMap<String, [Option<f64>; 2]> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for (side, command, script) in
            [(0, &ours, None), (1, &python, Some("tests/bench/training_speed.py"))]
        {
            let name = if side == 0 { "Magpie" } else { "PyTorch" };
            let lines = step(name, || figures(program(command).args(script).args(WORK)))?;
            for line in lines {
                let rate = line["images_per_second"].as_f64().context("a line without a figure")?;
                let best = &mut best.entry(text(&line, "network")?.to_owned()).or_default()[side];
                *best = Some(best.unwrap_or(0.0).max(rate));
            }
        }
    }
    let columns = ["network", "Magpie, images/s", "PyTorch, images/s", "ratio"];
    // More images per second are better: no ratio is marked.
    let mut table = Table::new(&columns).digits("ratio", 2);
    for (network, [ours, theirs]) in best {
        table.row(vec![network.into(), number(ours), number(theirs), ratio(ours, theirs)]);
    }
    let versions = ["torch", "timm"].map(|name| (name, python_version(&python, name)));
    table.write("training", "cargo xtask bench", &versions)
}
