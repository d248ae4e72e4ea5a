//! Training shared by worker processes of this machine: images a second, and bytes that each step moves.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::ROUNDS;
use super::record::{Table, number};
use crate::steps::{execute, program, root, say, step, target};

/// Worker processes beside the one that trains; without one it trains alone.
const WORKERS: [usize; 4] = [0, 1, 2, 4];
/// Images of a batch, whoever shares it.
const BATCH: usize = 32;
/// Steps of an epoch.
const STEPS: usize = 8;

/// PP-LCNet x1.0 at 224 × 224 pixels.
const RECIPE: &str = r#"
seed = 1
epochs = 2
eval_interval = 100
log_interval = 100
export = "last"

[schedule]
learning_rate = 0.01

[optimizer]
kind = "momentum"
momentum = 0.9
weight_decay = 0.0005

[preprocess]
width = 224
height = 224
filter = "antialiased"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]

[extractor]
sampler = { kind = "pk", samples_per_class = 2 }
head = { kind = "arc_margin", margin = 0.1, scale = 28.0 }
hold_out = 0

[[extractor.losses]]
kind = "cross_entropy"

[extractor.model]
neck = { kind = "bn_neck" }

[extractor.model.backbone]
kind = "pp_lc_net"
scale = 1.0
class_expand = 1280
dropout = 0.0
"#;

/// A worker that ends with the measurement.
struct Worker {
    child: Child,
    address: String,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Worker {
    fn start(magpie: &str) -> anyhow::Result<Self> {
        let mut command = program(magpie);
        let mut child = command.args(["worker", "--port", "0"]).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("no output")?;
        let (mut output, mut address) = (BufReader::new(output), String::new());
        output.read_line(&mut address)?;
        // What it tells of its runs is taken, so that it never waits for a reader.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        Ok(Self { child, address: address.trim().to_owned() })
    }
}

/// Trains with worker processes on this machine, the same batch in all; `--workers DIR` has a folder of photographs per
/// class.
pub(crate) fn workers(pictures: &str) -> anyhow::Result<()> {
    let pictures = Path::new(pictures).canonicalize().with_context(|| pictures.to_owned())?;
    let bench = root().join(".magpie/bench/workers");
    std::fs::create_dir_all(&bench)?;
    step("the program", || {
        execute(program("cargo").args(["build", "--locked", "--workspace", "--bin", "magpie"]))
    })?;
    let magpie = target().join("debug/magpie").to_string_lossy().into_owned();
    let recipe = bench.join("recipe.toml");
    std::fs::write(&recipe, RECIPE)?;
    let run = Run { magpie: &magpie, recipe: &recipe, pictures: &pictures, out: bench.join("run") };
    let columns =
        ["worker processes", "images/s", "MB a step", "MB a step and worker", "load, 1 minute"];
    let mut table = Table::new(&columns).digits("images/s", 1);
    let mut best = WORKERS.map(|_| (0.0_f64, String::new()));
    for _ in 0..ROUNDS {
        for (count, best) in WORKERS.iter().zip(&mut best) {
            let workers = started(&magpie, *count)?;
            let addresses: Vec<String> = workers.iter().map(|w| w.address.clone()).collect();
            let rate = step(&format!("workers: {count}"), || run.train(2, &addresses))?;
            say(&format!("   {rate:.1} images/s"));
            if rate > best.0 {
                *best = (rate, load());
            }
        }
    }
    for (count, (rate, load)) in WORKERS.iter().zip(best) {
        // Two epochs less one: without what a run begins and ends with.
        let mut bytes = [0; 2];
        for (epochs, bytes) in [1, 2].into_iter().zip(&mut bytes) {
            if *count == 0 {
                continue;
            }
            let workers = started(&magpie, *count)?;
            let counted = Arc::new(AtomicU64::new(0));
            let addresses: Vec<String> = workers
                .iter()
                .map(|worker| relay(&worker.address, &counted))
                .collect::<anyhow::Result<_>>()?;
            step(&format!("bytes, workers: {count}"), || run.train(epochs, &addresses))?;
            *bytes = counted.load(Ordering::SeqCst);
        }
        let step = (bytes[1] - bytes[0]) as f64 / STEPS as f64 / 1e6;
        let each = (*count > 0).then(|| step / *count as f64);
        let moved = (*count > 0).then_some(step);
        table.row(vec![
            (*count).into(),
            number(Some(rate)),
            number(moved),
            number(each),
            load.into(),
        ]);
    }
    table.write("training-workers", "cargo xtask bench training --workers DIR", &[])
}

fn started(magpie: &str, count: usize) -> anyhow::Result<Vec<Worker>> {
    (0..count).map(|_| Worker::start(magpie)).collect()
}

/// Processes that wanted to compute, on average over the last minute; this measurement's own are among them.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// A training run as it is repeated.
struct Run<'a> {
    magpie: &'a str,
    recipe: &'a Path,
    pictures: &'a Path,
    out: PathBuf,
}

impl Run<'_> {
    /// Trains for some epochs; images a second of the last.
    fn train(&self, epochs: usize, workers: &[String]) -> anyhow::Result<f64> {
        let _ = std::fs::remove_dir_all(&self.out);
        let mut command = program(self.magpie);
        command.arg("train").arg("-c").arg(self.recipe).arg("--out").arg(&self.out);
        command.args(["-o", &format!("epochs={epochs}"), "-o", &format!("batch_size={BATCH}")]);
        command.args(["-o", &format!("epoch_samples={}", BATCH * STEPS)]);
        command.args(["-o", &format!("extractor.train={}", self.pictures.display())]);
        command.args(workers.iter().flat_map(|address| ["--worker", address.as_str()]));
        let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
        ensure!(
            output.status.success(),
            "training ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let text = std::fs::read_to_string(self.out.join("metrics.jsonl"))?;
        let mut records =
            text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let last = records.find(|record| record["kind"] == "epoch");
        match last.as_ref().and_then(|record| record["ips"].as_f64()) {
            Some(rate) => Ok(rate),
            None => bail!("the run has no figure of its speed"),
        }
    }
}

/// An address that leads to a worker and counts the bytes of both directions.
fn relay(worker: &str, counted: &Arc<AtomicU64>) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let (worker, counted) = (worker.to_owned(), counted.clone());
    std::thread::spawn(move || -> std::io::Result<()> {
        let (near, _) = listener.accept()?;
        let far = TcpStream::connect(worker)?;
        for (from, to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
            from.set_nodelay(true)?;
            let counted = counted.clone();
            std::thread::spawn(move || pass(from, to, &counted));
        }
        Ok(())
    });
    Ok(address)
}

fn pass(mut from: TcpStream, mut to: TcpStream, counted: &AtomicU64) {
    let mut bytes = vec![0; 1 << 18];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        counted.fetch_add(count as u64, Ordering::SeqCst);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
