//! Speed beside the peers, in one run on this machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::demo;
use crate::engine;
use crate::setup;
use crate::steps::{execute, program, root, say, step, target};

/// Pictures a step, side of a picture, steps.
const WORK: [&str; 3] = ["16", "224", "3"];
/// How the name of a runtime ends that computes in whole numbers.
const WHOLE_NUMBERS: &str = " i8";
/// Runs of each, in turn.
const ROUNDS: usize = 2;

/// Builds an example of the trainer and returns its path.
fn example(name: &str) -> anyhow::Result<String> {
    // The same selection as the tests, so that nothing is compiled in two ways.
    step("the example", || {
        let mut command = program("cargo");
        execute(command.args(["build", "--locked", "--workspace", "--example", name]))
    })?;
    Ok(target().join("debug/examples").join(name).to_string_lossy().into_owned())
}

/// Searches beside faiss, natively, and beside hnswlib-wasm, edgevec and voy, in Chromium.
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
    let cut = example("shard_cost")?;
    step("in shards", || {
        execute(program(&cut).args([&file("vectors.f32"), &file("queries.f32"), DIM, K]))
    })?;
    step("faiss", || {
        execute(program(&python).args([script, "faiss"]).arg(&folder).args([DIM, K]))
    })?;

    setup::build_tools()?;
    setup::browser()?;
    let (module, peers) = (bench.join("gallery-wasm"), bench.join("npm"));
    step("Magpie in WebAssembly", || wasm_example("gallery_search", "cpu", &module))?;
    npm_peers(&peers, "voy-search", &["hnswlib-wasm@0.8.2", "edgevec@0.9.0", "voy-search@0.6.3"])?;
    step("in Chromium", || {
        let script = "tests/bench/gallery_search.mjs";
        execute(program("node").arg(script).arg(&folder).args([DIM, K]).arg(&module).arg(&peers))
    })
}

/// Networks on the processor, natively beside ONNX Runtime and `OpenVINO`, in Chromium beside ONNX
/// Runtime Web, LiteRT.js and TensorFlow.js, there also on WebGPU. Every runtime gets the same weights and has to give the same answers.
pub(crate) fn engine(options: &[&str]) -> anyhow::Result<()> {
    const THREADS: [&str; 2] = ["1", "2"];
    let runs = match options {
        [] => "40",
        [runs] => runs,
        other => bail!("unknown options {other:?}; there is the number of runs"),
    };
    let bench = root().join(".magpie/bench");
    let peers = ["onnxruntime", "openvino", "numpy"];
    let python = setup::python_with("bench/runtimes", &peers)?;
    let ours = example("networks")?;
    let (nets, module) = (bench.join("networks"), bench.join("networks-wasm"));
    step("the networks", || execute(program(&ours).arg("write").arg(&nets)))?;
    let quantizer = setup::python_with("bench/litert", &["ai-edge-quantizer"])?;
    step("the networks in LiteRT's whole numbers", || {
        execute(program(&quantizer).arg("tests/bench/litert_int8.py").arg(&nets))
    })?;
    let mut figures = Figures::default();
    for threads in THREADS.iter().cycle().take(ROUNDS * THREADS.len()) {
        step(&format!("Magpie, {threads} thread(s)"), || {
            let mut command = program(&ours);
            command.arg("time").arg(&nets).arg(runs).env("RAYON_NUM_THREADS", threads);
            figures.read("native", &mut command)
        })?;
        step(&format!("ONNX Runtime and OpenVINO, {threads} thread(s)"), || {
            let mut command = program(&python);
            command.arg("tests/bench/networks.py").arg(&nets).args([threads, runs]);
            figures.read("native", &mut command)
        })?;
    }

    setup::build_tools()?;
    setup::browser()?;
    for (feature, folder) in [("cpu", "simd128"), ("relaxed", "relaxed"), ("webgpu", "webgpu")] {
        step(&format!("Magpie in WebAssembly, {folder}"), || {
            wasm_example("networks", feature, &module.join(folder))
        })?;
    }
    step("Magpie in WebAssembly, threads", || {
        let made = engine::build(&["--example", "networks"], Path::new("examples/networks.wasm"))?;
        engine::bind(&made, &module.join("threads"))
    })?;
    for _ in 0..ROUNDS {
        step("in Chromium", || {
            let mut command = program("node");
            command.arg("tests/bench/networks.mjs").arg(&nets).arg(runs).arg(&module);
            command.arg(setup::BROWSER);
            figures.read("Chromium", &mut command)
        })?;
    }
    figures.print();
    Ok(())
}

/// From opening the demo's page to its first answer, nothing cached, beside the same bundle on ONNX
/// Runtime Web, over a network of so many megabits a second.
pub(crate) fn page(options: &[&str]) -> anyhow::Result<()> {
    const RUNS: &str = "9";
    let megabits = match options {
        [] => "20",
        [megabits] => megabits,
        other => bail!("unknown options {other:?}; there is the number of megabits a second"),
    };
    demo::run(&demo::Options::parse(&["--no-serve"])?)?;
    setup::browser()?;
    let bench = root().join(".magpie/bench");
    let onnx = bench.join("demo-onnx");
    std::fs::create_dir_all(&onnx)?;
    step("the demo's networks as ONNX", || {
        for name in ["detector", "extractor"] {
            let weights = root().join(demo::WEIGHTS).join(format!("{name}.safetensors"));
            let out = onnx.join(format!("{name}.onnx"));
            execute(demo::magpie().arg("export").arg(weights).arg("--out").arg(out))?;
        }
        Ok(())
    })?;
    step("in Chromium", || {
        let mut command = program("node");
        command.arg("tests/bench/page_open.mjs").arg(demo::site()).arg(&onnx);
        execute(command.args([setup::BROWSER, RUNS, megabits]))
    })
}

/// Median milliseconds by place, threads, network and runtime, of the better round.
#[derive(Default)]
struct Figures(BTreeMap<(&'static str, u64, String), BTreeMap<String, f64>>);

impl Figures {
    /// Runs a command that writes figures as JSON lines.
    fn read(&mut self, place: &'static str, command: &mut Command) -> anyhow::Result<()> {
        let output = command.stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("the measurement ended with {}", output.status);
        }
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let figure: serde_json::Value = serde_json::from_str(line)?;
            let text =
                |key: &str| figure[key].as_str().with_context(|| format!("no {key}: {line}"));
            let median = figure["median_ms"].as_f64().context("a line without a figure")?;
            let threads = figure["threads"].as_u64().context("a line without its threads")?;
            let runtime = text("runtime")?.to_owned();
            // Other processors stand apart.
            let place = if runtime.ends_with(" webgpu") { "WebGPU" } else { place };
            let network = (place, threads, text("network")?.to_owned());
            let of_network = self.0.entry(network).or_default();
            let best = of_network.entry(runtime).or_insert(f64::INFINITY);
            *best = best.min(median);
        }
        Ok(())
    }

    /// A line a network: milliseconds of each runtime, Magpie's best over the best other, and what
    /// whole numbers make of Magpie's own floats and beside the other's.
    fn print(&self) {
        for ((place, threads, network), runtimes) in &self.0 {
            let best = |wanted: &dyn Fn(&str) -> bool| {
                let some = runtimes.iter().filter(|(name, _)| wanted(name));
                some.map(|(_, median)| *median).fold(f64::INFINITY, f64::min)
            };
            let ours = |name: &str| name.starts_with("magpie");
            let whole = |name: &str| name.ends_with(WHOLE_NUMBERS);
            let floats = best(&|name| ours(name) && !whole(name));
            let numbers = best(&|name| ours(name) && whole(name));
            let others = best(&|name| !ours(name) && !whole(name));
            let other_numbers = best(&|name| !ours(name) && whole(name));
            let all: Vec<String> =
                runtimes.iter().map(|(name, median)| format!("{name} {median:.2}")).collect();
            let all = all.join(", ");
            let ratio = floats / others;
            let of = |numbers: f64, whose: f64, name: &str| match numbers / whose {
                ratio if numbers.is_finite() && ratio > 0.0 => format!(" {ratio:5.2} of {name}"),
                _ => String::new(),
            };
            let own = of(numbers, floats, "own floats");
            let theirs = of(numbers, other_numbers, "their whole numbers");
            say(&format!(
                "{place:9} ×{threads} {network:18} {ratio:5.2}{own}{theirs}   {all} (median ms)"
            ));
        }
    }
}

/// Builds an example of the engine for the browser.
fn wasm_example(name: &str, feature: &str, to: &Path) -> anyhow::Result<()> {
    let build = ["build", "--locked", "--release", "--target", setup::TARGET];
    let what = ["--package", "wasm-engine", "--no-default-features", "--features", feature];
    execute(program("cargo").args(build).args(what).args(["--example", name]))?;
    let wasm = target().join(setup::TARGET).join("release/examples").join(name);
    engine::bind(&wasm.with_extension("wasm"), to)
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
