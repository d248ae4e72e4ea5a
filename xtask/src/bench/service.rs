//! The service of `magpie serve --api` under load, beside one of `FastAPI`, ONNX Runtime and faiss.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use super::record::{Table, number, python_version, ratio};
use super::{ROUNDS, figures};
use crate::setup;
use crate::steps::{execute, program, root, step, target};

/// Seconds of each measurement.
const SECONDS: &str = "30";
/// What the peer is made of.
const PEERS: [&str; 8] =
    ["fastapi", "uvicorn", "uvloop", "httptools", "onnxruntime", "faiss-cpu", "numpy", "pillow"];
/// Within which a service has to answer after its start.
const STARTED: Duration = Duration::from_mins(1);

/// A service that ends with the measurement.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Recognizes photographs whole, with the network that `magpie` brings along and a gallery of the same photographs: by
/// 1 and by 16 clients as fast as it goes, then at half of that.
pub(crate) fn service(options: &[&str]) -> anyhow::Result<()> {
    let ["--pictures", pictures] = options else {
        bail!("bench service --pictures DIR: a folder with a folder of photographs per class");
    };
    let pictures = Path::new(pictures).canonicalize().with_context(|| (*pictures).to_owned())?;
    let bench = root().join(".magpie/bench/service");
    std::fs::create_dir_all(&bench)?;
    let python = setup::python_with("bench/service-peer", &PEERS)?;
    step("the program", || {
        execute(program("cargo").args(["build", "--locked", "--workspace", "--bin", "magpie"]))
    })?;
    let magpie = target().join("debug/magpie").to_string_lossy().into_owned();
    let site = bench.join("site");
    let network = root().join("native-trainer/networks/general.safetensors");
    let model = bench.join("general.onnx");
    step("the network, the gallery and the site", || {
        let _ = std::fs::remove_dir_all(&site);
        execute(program(&magpie).arg("export").arg(&network).arg("--out").arg(&model))?;
        let how = ["--crop", "never", "--adapt", "never", "--calibrate", "never"];
        execute(program(&magpie).arg("site").arg(&pictures).arg("--out").arg(&site).args(how))
    })?;
    let (description, entries) = (bench.join("preprocess.json"), bench.join("entries.json"));
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(site.join("bundle/manifest.json"))?)?;
    let preprocess = &manifest["extractor"]["description"]["preprocess"];
    std::fs::write(&description, preprocess.to_string())?;

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut answers = Vec::new();
    for _ in 0..ROUNDS {
        let (server, address) = magpie_at(&magpie, &site)?;
        if !entries.exists() || answers.is_empty() {
            std::fs::write(&entries, embeddings(&python, &address)?)?;
        }
        let lines =
            step("Magpie", || load(&python, "Magpie", &address, "/v1/recognize", &pictures))?;
        drop(server);
        answers.push(lines[0]["answers"].clone());
        ours.extend(lines.into_iter().skip(1));
        let (server, address) = peer_at(&python, [&model, &description, &entries])?;
        let lines =
            step("FastAPI", || load(&python, "FastAPI", &address, "/recognize", &pictures))?;
        drop(server);
        answers.push(lines[0]["answers"].clone());
        theirs.extend(lines.into_iter().skip(1));
    }
    let equal = agreement(&answers[0], &answers[1]);
    if equal < 0.95 {
        bail!(
            "the services agree on {:.0} % of the pictures: they do not do the same",
            100.0 * equal
        );
    }
    table(&ours, &theirs).write(
        "service",
        "cargo xtask bench service --pictures DIR",
        &["fastapi", "uvicorn", "onnxruntime", "faiss-cpu"]
            .map(|name| (name, python_version(&python, name))),
    )
}

/// A row a figure; of several rounds the better one.
fn table(ours: &[Value], theirs: &[Value]) -> Table {
    let columns = ["figure", "Magpie", "FastAPI, ONNX Runtime, faiss", "ratio"];
    let mut table = Table::new(&columns).ratio("ratio");
    for (name, key, is_rate) in [
        ("pictures a second, 1 client", "one", true),
        ("pictures a second, 16 clients", "many", true),
        ("median at half of that, ms", "p50", false),
        ("99th of 100 at half of that, ms", "p99", false),
    ] {
        let best = |all: &[Value]| {
            let figures = all.iter().filter_map(|line| line[key].as_f64());
            figures.reduce(if is_rate { f64::max } else { f64::min })
        };
        let (ours, theirs) = (best(ours), best(theirs));
        // Below one Magpie is the faster.
        let beside = if is_rate { ratio(theirs, ours) } else { ratio(ours, theirs) };
        table.row(vec![name.into(), number(ours), number(theirs), beside]);
    }
    table
}

/// The share of answers that are the same.
fn agreement(a: &Value, b: &Value) -> f64 {
    let (Some(a), Some(b)) = (a.as_array(), b.as_array()) else { return 0.0 };
    let equal = a.iter().zip(b).filter(|(a, b)| a == b).count();
    equal as f64 / a.len().max(b.len()).max(1) as f64
}

fn magpie_at(magpie: &str, site: &Path) -> anyhow::Result<(Running, String)> {
    let mut command = program(magpie);
    command.arg("serve").arg(site).args(["--api", "--port", "0"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let output = child.stdout.take().context("no output")?;
    let server = Running(child);
    let mut address = String::new();
    BufReader::new(output).read_line(&mut address)?;
    Ok((server, address.trim().to_owned()))
}

fn peer_at(python: &str, files: [&PathBuf; 3]) -> anyhow::Result<(Running, String)> {
    // A port that is free now.
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let mut command: Command = program(python);
    command.arg("tests/bench/service_peer.py").args(files).arg(port.to_string());
    let server = Running(command.spawn()?);
    let begin = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if begin.elapsed() > STARTED {
            bail!("the service of FastAPI does not answer");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok((server, format!("http://127.0.0.1:{port}/")))
}

/// All entries of a gallery, as the peer reads them.
fn embeddings(python: &str, address: &str) -> anyhow::Result<Vec<u8>> {
    let code = "import json, sys, urllib.request\n\
                entries, offset = [], 0\n\
                while offset is not None:\n\
                \x20   at = f'{sys.argv[1]}v1/entries?embeddings=true&limit=1000&offset={offset}'\n\
                \x20   page = json.load(urllib.request.urlopen(at))\n\
                \x20   entries += page['entries']\n\
                \x20   offset = page['next']\n\
                print(json.dumps(entries))\n";
    let output = program(python).args(["-c", code, address]).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("the entries were not read: {}", output.status);
    }
    Ok(output.stdout)
}

fn load(
    python: &str,
    name: &str,
    address: &str,
    path: &str,
    pictures: &Path,
) -> anyhow::Result<Vec<Value>> {
    let mut command = program(python);
    command.arg("tests/bench/service_load.py").args([name, address, path]).arg(pictures);
    let lines = figures(command.arg(SECONDS))?;
    if lines.len() != 2 {
        bail!("{name} gave {} lines", lines.len());
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn services_are_compared_where_they_answer_the_same() {
        assert_eq!(agreement(&json!(["a", "b", null]), &json!(["a", "b", null])), 1.0);
        assert_eq!(agreement(&json!(["a", "b"]), &json!(["a", "c"])), 0.5);
        assert_eq!(agreement(&json!(["a"]), &json!(["a", "c"])), 0.5);
    }
}
