//! A run shared by processes on this machine, against the same run alone.

mod world;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use world::{World, fail, succeed};

/// A running `magpie worker`, which ends with the test.
struct Worker {
    child: Child,
    address: String,
    output: BufReader<std::process::ChildStdout>,
}

impl Worker {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_magpie"))
            .args(["worker", "--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("magpie runs");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut address = String::new();
        output.read_line(&mut address).expect("the worker prints its address");
        Self { child, address: address.trim().to_owned(), output }
    }

    /// The next thing that it tells.
    fn tells(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The scalars of a run: `(kind, epoch, name, value)`.
fn scalars(run: &Path) -> Vec<(String, u64, String, f64)> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("the scalars");
    let mut all = Vec::new();
    for line in text.lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("a record");
        for (name, value) in record.as_object().expect("an object") {
            // Speeds differ from run to run.
            if let (Some(value), false) = (value.as_f64(), ["ips", "waiting"].contains(&&name[..]))
            {
                let kind = record["kind"].as_str().expect("a kind").to_owned();
                all.push((kind, record["epoch"].as_u64().expect("one"), name.clone(), value));
            }
        }
    }
    all
}

/// Rounding differs, and grows from step to step: the first losses are nearly the same, those of the
/// last epoch close.
fn assert_near(expected: &Path, got: &Path) {
    let (expected, got) = (scalars(expected), scalars(got));
    assert_eq!(expected.len(), got.len());
    assert!(!expected.is_empty());
    for (place, (expected, got)) in expected.iter().zip(&got).enumerate() {
        assert_eq!((&expected.0, expected.1, &expected.2), (&got.0, got.1, &got.2));
        if expected.0 == "eval" {
            continue;
        }
        let tolerance = match (place, expected.1) {
            // The first step's terms.
            (0..3, _) => 1e-5,
            (_, 1) => 0.01,
            _ => 0.05,
        };
        let apart = (expected.3 - got.3).abs();
        assert!(apart <= tolerance * expected.3.abs().max(0.1), "{expected:?} against {got:?}");
    }
}

#[test]
fn processes_share_a_run() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 4);
    let recipe = world.recipe(&pictures, 2);
    let [alone, shared, again] = ["alone", "shared", "again"].map(|name| world.path(name));
    succeed(&[&"train", &"-c", &recipe, &"--output", &alone]);

    let (mut worker, other) = (Worker::start(), Worker::start());
    let train = |run: &Path, extra: &[&str]| {
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> =
            vec![&"train", &"-c", &recipe, &"--output", &run];
        arguments.extend(extra.iter().map(|text| text as &dyn AsRef<std::ffi::OsStr>));
        succeed(&arguments)
    };
    let (one, two) = (worker.address.clone(), other.address.clone());
    let both = ["--worker", &one, "--worker", &two];
    let text = train(&shared, &both);
    assert!(text.contains("3 replicas share a batch"), "{text}");
    assert!(worker.tells().contains("a run begins"));
    assert!(worker.tells().contains("the run has ended"));
    assert_near(&alone, &shared);

    // Workers keep nothing: they serve the next run, which is bit for bit the first.
    train(&again, &both);
    let model = |run: &Path| std::fs::read(run.join("model.safetensors")).expect("a model");
    assert!(model(&again) == model(&shared), "the same replicas compute the same");

    // Devices of this machine are replicas as well.
    let local = world.path("local");
    let text = train(&local, &["--devices", "2"]);
    assert!(text.contains("2 replicas share a batch: this process, device 1"), "{text}");
    assert_near(&alone, &local);
}

#[test]
fn a_lost_worker_ends_the_run_which_goes_on_without_it() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 4);
    let recipe = world.recipe(&pictures, 400);
    let run = world.path("run");
    let mut worker = Worker::start();
    let mut child = Command::new(env!("CARGO_BIN_EXE_magpie"))
        .args(["train", "--worker", &worker.address, "-c"])
        .arg(&recipe)
        .arg("--output")
        .arg(&run)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("magpie runs");
    let latest = run.join("latest");
    while !latest.exists() {
        assert!(child.try_wait().expect("a status").is_none(), "the run ended before a checkpoint");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    worker.child.kill().expect("it can be killed");
    let output = child.wait_with_output().expect("the run ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let told = format!("error: worker {}", worker.address);
    assert!(errors.contains(&told) && errors.contains("--resume"), "{errors}");

    let go_on = |end: &str| {
        succeed(&[&"train", &"-c", &recipe, &"--output", &run, &"--resume", &"--stop-after", &end])
    };
    // What is done already is told, and nothing else happens.
    let text = go_on("1");
    let (_, rest) = text.split_once("after epoch ").expect("the epoch");
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let epoch: usize = digits.parse().expect("a number");
    let text = go_on(&(epoch + 1).to_string());
    assert!(text.contains(&format!("stopped after epoch {}", epoch + 1)), "{text}");
}

#[test]
fn what_is_no_worker_is_named() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 4);
    let recipe = world.recipe(&pictures, 1);
    let run = world.path("run");
    let train =
        |extra: &str| fail(&[&"train", &"-c", &recipe, &"--output", &run, &"--worker", &extra]);
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let text = train(&address);
    assert!(text.contains(&address) && text.contains("magpie worker"), "{text}");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("written");
    });
    let text = train(&address);
    assert!(text.contains("no worker of this version"), "{text}");

    let text = fail(&[
        &"train",
        &"-c",
        &recipe,
        &"--output",
        &run,
        &"--devices",
        &"9",
        &"-o",
        &"batch_size=8",
    ]);
    assert!(text.contains("9 replicas"), "{text}");
}
