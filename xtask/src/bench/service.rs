//! The service of `magpie serve --api` under load, beside one of `FastAPI`, ONNX Runtime and faiss.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use super::processes::processes;
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

/// Processes of the peer.
const WORKERS: [&str; 2] = ["1", "2"];
/// Of a service that this machine alone reaches.
pub(super) const TOKEN: &str = "a-token-of-this-measurement";

/// How long a service may take to end when it is asked to.
const ENDED: Duration = Duration::from_secs(10);

/// A service that ends with the measurement.
pub(super) struct Running(Child);

impl Running {
    fn has_ended(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Ends it at once, without a word.
    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        // A service of several processes ends the others. Killed, it would leave them, and what is measured next would share
        // the machine with them.
        let asked = Command::new("kill").arg(self.0.id().to_string()).status();
        let is_asked = asked.is_ok_and(|status| status.success());
        let begin = Instant::now();
        while is_asked && begin.elapsed() < ENDED {
            if self.has_ended() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.kill();
    }
}

/// Recognizes photographs whole, with the network that `magpie` brings along and a gallery of the same photographs: by
/// 1 and by 16 clients as fast as it goes, then at half of that.
///
/// With `--soak MINUTES` no peer is measured: the service is held at its capacity for so long, by clients of which some
/// break off, send rubbish and change the gallery. With `--processes` several services are asked that have one gallery in
/// PostgreSQL.
pub(crate) fn service(options: &[&str]) -> anyhow::Result<()> {
    let (pictures, minutes, is_several) = match options {
        ["--pictures", pictures] => (pictures, None, false),
        ["--pictures", pictures, "--soak", minutes] => (pictures, Some(*minutes), false),
        ["--pictures", pictures, "--processes"] => (pictures, None, true),
        _ => bail!(
            "bench service --pictures DIR [--soak MINUTES | --processes]: a folder with a folder of photographs per class"
        ),
    };
    let pictures = Path::new(pictures).canonicalize().with_context(|| (*pictures).to_owned())?;
    let bench = root().join(".magpie/bench/service");
    std::fs::create_dir_all(&bench)?;
    let python =
        if is_several { String::new() } else { setup::python_with("bench/service-peer", &PEERS)? };
    step("the program", || {
        execute(program("cargo").args(["build", "--locked", "--workspace", "--bin", "magpie"]))
    })?;
    let magpie = target().join("debug/magpie").to_string_lossy().into_owned();
    let site = bench.join("site");
    step("the gallery and the site", || {
        let _ = std::fs::remove_dir_all(&site);
        let how = ["--crop", "never", "--adapt", "never", "--calibrate", "never"];
        execute(program(&magpie).arg("site").arg(&pictures).arg("--out").arg(&site).args(how))
    })?;
    if is_several {
        return processes(&magpie, &site, &pictures);
    }
    if let Some(minutes) = minutes {
        return soak(&magpie, &python, (&site, &pictures), minutes);
    }
    let network = root().join("native-trainer/networks/general.safetensors");
    let model = bench.join("general.onnx");
    step("the network in ONNX", || {
        execute(program(&magpie).arg("export").arg(&network).arg("--out").arg(&model))
    })?;
    let (description, entries) = (bench.join("preprocess.json"), bench.join("entries.json"));
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(site.join("bundle/manifest.json"))?)?;
    let preprocess = &manifest["extractor"]["description"]["preprocess"];
    std::fs::write(&description, preprocess.to_string())?;

    let (mut ours, mut theirs) = (Vec::new(), WORKERS.map(|_| Vec::new()));
    let mut answers = Vec::new();
    for _ in 0..ROUNDS {
        if answers.is_empty() {
            let (_server, address) = magpie_at(&magpie, &site, &[])?;
            std::fs::write(&entries, embeddings(&python, &address)?)?;
        }
        let mut half: f64 = 0.0;
        for (workers, theirs) in WORKERS.iter().zip(&mut theirs) {
            let (server, address) = peer_at(&python, [&model, &description, &entries], workers)?;
            let lines = step(&format!("FastAPI, workers: {workers}"), || {
                load(&python, ["FastAPI", &address, "/recognize"], &pictures, None)
            })?;
            drop(server);
            answers.push(lines[0]["answers"].clone());
            half = half.max(lines[1]["many"].as_f64().unwrap_or(0.0) / 2.0);
            theirs.extend(lines.into_iter().skip(1));
        }
        let (server, address) = magpie_at(&magpie, &site, &[])?;
        let lines = step("Magpie", || {
            load(&python, ["Magpie", &address, "/v1/recognize"], &pictures, Some(half))
        })?;
        drop(server);
        answers.push(lines[0]["answers"].clone());
        ours.extend(lines.into_iter().skip(1));
    }
    let [one, .., last] = &answers[..] else { bail!("the services gave no answers") };
    let equal = agreement(one, last);
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

/// A row a figure; of several rounds the better one. The ratio is to the better number of workers.
fn table(ours: &[Value], theirs: &[Vec<Value>; 2]) -> Table {
    let columns = ["figure", "Magpie", "FastAPI, 1 worker", "FastAPI, 2 workers", "ratio"];
    let mut table = Table::new(&columns).ratio("ratio");
    for (name, key, of_peer, is_rate) in [
        ("pictures a second, 1 client", "one", "one", true),
        ("pictures a second, 16 clients", "many", "many", true),
        ("median at half of that, ms", "p50", "p50", false),
        ("99th of 100 at half of that, ms", "p99", "p99", false),
        ("median at half of what the peer does, ms", "alike_p50", "p50", false),
        ("99th of 100 at half of what the peer does, ms", "alike_p99", "p99", false),
    ] {
        let best = |all: &[Value], key: &str| {
            let figures = all.iter().filter_map(|line| line[key].as_f64());
            figures.reduce(if is_rate { f64::max } else { f64::min })
        };
        let (ours, [one, two]) =
            (best(ours, key), [&theirs[0], &theirs[1]].map(|all| best(all, of_peer)));
        let both = [one, two].into_iter().flatten();
        let better = both.reduce(if is_rate { f64::max } else { f64::min });
        // Below one Magpie is the faster.
        let beside = if is_rate { ratio(better, ours) } else { ratio(ours, better) };
        table.row(vec![name.into(), number(ours), number(one), number(two), beside]);
    }
    table
}

/// The share of answers that are the same.
fn agreement(a: &Value, b: &Value) -> f64 {
    let (Some(a), Some(b)) = (a.as_array(), b.as_array()) else { return 0.0 };
    let equal = a.iter().zip(b).filter(|(a, b)| a == b).count();
    equal as f64 / a.len().max(b.len()).max(1) as f64
}

/// Holds the service at its capacity, then starts it again and asks whether every change that was answered is there.
fn soak(
    magpie: &str,
    python: &str,
    (site, pictures): (&Path, &Path),
    minutes: &str,
) -> anyhow::Result<()> {
    let bench = site.parent().context("no folder")?;
    let (state, token, kept) =
        (bench.join("state"), bench.join("token"), bench.join("changes.json"));
    let _ = std::fs::remove_dir_all(&state);
    std::fs::write(&token, TOKEN)?;
    let of = |path: &Path| path.to_string_lossy().into_owned();
    let (state, token) = (of(&state), of(&token));
    let how = ["--state", &state, "--token-file", &token, "--corrections"];
    let script = "tests/bench/service_soak.py";
    let (mut server, address) = magpie_at(magpie, site, &how)?;
    let run = step(&format!("{minutes} minutes at capacity"), || {
        let mut command = program(python);
        command.args([script, &address]).arg(pictures).arg(&token);
        figures(command.arg(server.0.id().to_string()).arg(minutes).arg(&kept))
    })?;
    // The process is killed: what counts is what lies on the disk.
    server.kill();
    let (server, address) = magpie_at(magpie, site, &how)?;
    let check = figures(program(python).args([script, &address, "--check"]).arg(&kept))?;
    drop(server);
    let (run, check) = (&run[0], &check[0]);
    let mut table = Table::new(&["figure", "value"]);
    let mut row = |name: &str, value: f64| table.row(vec![name.into(), number(Some(value))]);
    let value = |line: &Value, key: &str| line[key].as_f64().unwrap_or(f64::NAN);
    let answered = |kind: &str, fits: fn(&str) -> bool| {
        let by = run[kind].as_object().into_iter().flatten();
        by.filter(|(status, _)| fits(status)).filter_map(|(_, count)| count.as_f64()).sum::<f64>()
    };
    row("minutes", value(run, "minutes"));
    row("pictures answered", answered("asks", |status| status == "200"));
    row("told to come again (429)", answered("asks", |status| status == "429"));
    row("changes answered", answered("changes", |status| status == "200"));
    row("rubbish refused (4xx)", answered("rubbish", |status| status.starts_with('4')));
    row("requests broken off", value(run, "broken_off"));
    row("answers that are none of 2xx and 4xx, and wrong ones", value(run, "failures"));
    row("changes lost, after a kill and a start", value(check, "lost"));
    row("memory in the second fifth, MB", value(run, "memory_early_mb"));
    row("memory in the last fifth, MB", value(run, "memory_late_mb"));
    row("most memory, MB", value(run, "memory_most_mb"));
    row("open files in the second fifth", value(run, "files_early"));
    row("open files in the last fifth", value(run, "files_late"));
    table.write("service-soak", "cargo xtask bench service --pictures DIR --soak MINUTES", &[])?;
    if value(run, "failures") + value(check, "lost") > 0.0 {
        bail!("answers were wrong, or changes are lost; see above");
    }
    Ok(())
}

pub(super) fn magpie_at(
    magpie: &str,
    site: &Path,
    how: &[&str],
) -> anyhow::Result<(Running, String)> {
    let mut command = program(magpie);
    command.arg("serve").arg(site).args(["--api", "--port", "0"]).args(how);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let output = child.stdout.take().context("no output")?;
    let server = Running(child);
    let mut address = String::new();
    BufReader::new(output).read_line(&mut address)?;
    Ok((server, address.trim().to_owned()))
}

fn peer_at(python: &str, files: [&PathBuf; 3], workers: &str) -> anyhow::Result<(Running, String)> {
    // A port that is free now.
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let mut command: Command = program(python);
    command.arg("tests/bench/service_peer.py").args(files).args([&port.to_string(), workers]);
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

/// Asks a service (what it is called, its address, the path) with pictures, once more at a rate if there is one.
fn load(
    python: &str,
    service: [&str; 3],
    pictures: &Path,
    rate: Option<f64>,
) -> anyhow::Result<Vec<Value>> {
    let mut command = program(python);
    command.arg("tests/bench/service_load.py").args(service).arg(pictures).arg(SECONDS);
    let lines = figures(command.args(rate.map(|rate| rate.to_string())))?;
    if lines.len() != 2 {
        bail!("{} gave {} lines", service[0], lines.len());
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
