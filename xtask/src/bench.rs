//! Speed beside the peers, in one run on this machine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, bail};

use crate::check::TESTED;
use crate::setup;
use crate::steps::{execute, program, root, say, step};

/// Pictures a step, side of a picture, steps.
const WORK: [&str; 3] = ["16", "224", "3"];
/// Runs of each, in turn.
const ROUNDS: usize = 2;

/// Builds an example of the trainer and returns its path.
fn example(name: &str) -> anyhow::Result<String> {
    // The same selection as the tests, so that nothing is compiled in two ways.
    step("the example", || {
        let mut command = program("cargo");
        command.args(["build", "--locked", "--example", name]);
        for package in TESTED {
            command.args(["--package", package]);
        }
        execute(&mut command)
    })?;
    Ok(target().join("debug/examples").join(name).to_string_lossy().into_owned())
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), Into::into)
}

/// Searches beside faiss, natively, and beside hnswlib-wasm and edgevec, in Chromium.
pub(crate) fn gallery(options: &[&str]) -> anyhow::Result<()> {
    const DIM: &str = "512";
    const K: &str = "10";
    let count = match options {
        [] => "10000",
        [count] => count,
        other => bail!("unknown options {other:?}; there is the number of vectors"),
    };
    let bench = root().join(".magpie/bench");
    let python = setup::python_with("bench/faiss", &["faiss-cpu", "numpy"])?;
    let ours = example("gallery_speed")?;
    let folder = bench.join(format!("vectors-{count}"));
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let script = "tests/bench/gallery_search.py";
    if !folder.join("queries.f32").exists() {
        step("vectors", || {
            execute(program(&python).args([script, "make"]).arg(&folder).args([count, DIM]))
        })?;
    }
    step("Magpie", || {
        execute(program(&ours).args([&file("vectors.f32"), &file("queries.f32"), DIM, K]))
    })?;
    step("faiss", || {
        execute(program(&python).args([script, "faiss"]).arg(&folder).args([DIM, K]))
    })?;

    setup::build_tools()?;
    setup::browser()?;
    let (module, peers) = (bench.join("gallery-wasm"), bench.join("npm"));
    step("Magpie in WebAssembly", || {
        let build = ["build", "--locked", "--release", "--target", "wasm32-unknown-unknown"];
        let what = ["--package", "wasm-engine", "--no-default-features", "--features", "cpu"];
        execute(program("cargo").args(build).args(what).args(["--example", "gallery_search"]))?;
        let wasm = "wasm32-unknown-unknown/release/examples/gallery_search.wasm";
        let bind = ["--target", "web", "--out-dir"];
        execute(program("wasm-bindgen").args(bind).arg(&module).arg(target().join(wasm)))
    })?;
    if !peers.join("node_modules/edgevec").exists() {
        step("hnswlib-wasm and edgevec (from npm)", || {
            std::fs::create_dir_all(&peers)?;
            let install =
                ["install", "--silent", "hnswlib-wasm@0.8.2", "edgevec@0.9.0", "--prefix"];
            execute(program("npm").args(install).arg(&peers))
        })?;
    }
    step("in Chromium", || {
        let script = "tests/bench/gallery_search.mjs";
        execute(program("node").arg(script).arg(&folder).args([DIM, K]).arg(&module).arg(&peers))
    })
}

/// Training speed against PyTorch, which is installed into `.magpie/bench` when it is not there.
pub(crate) fn training() -> anyhow::Result<()> {
    let python = setup::python_with("bench/venv", &["torch", "timm"])?;
    let ours = example("training_speed")?;
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
