//! A run shared by processes on this machine, against the same run alone.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::stranger::{self, Stranger, backbone, message, picture, weights};
use crate::world::{World, fail, succeed};

/// A running `magpie worker`, which ends with the test.
pub(crate) struct Worker {
    child: Child,
    pub(crate) address: String,
    output: BufReader<std::process::ChildStdout>,
}

impl Worker {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(arguments: &[&str]) -> Self {
        Self::at(&[&["--port", "0"][..], arguments].concat())
    }

    pub(crate) fn at(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_magpie"))
            .arg("worker")
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("magpie runs");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut address = String::new();
        output.read_line(&mut address).expect("the worker prints its address");
        Self { child, address: address.trim().to_owned(), output }
    }

    /// The next thing that it tells.
    pub(crate) fn tells(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line
    }

    /// The most memory that it has had, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        if !cfg!(target_os = "linux") {
            return 0;
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
        kibibytes * 1024
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(name).arg(self.child.id().to_string()).status();
        assert!(sent.expect("kill runs").success());
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

/// A run that has written its first checkpoint and goes on.
fn begun(options: &[&str], recipe: &Path, run: &Path) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_magpie"))
        .arg("train")
        .args(options)
        .arg("-c")
        .arg(recipe)
        .arg("--out")
        .arg(run)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("magpie runs");
    while !run.join("latest").exists() {
        assert!(child.try_wait().expect("a status").is_none(), "the run ended before a checkpoint");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
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
    assert!(worker.tells().contains("run 1 begins"));
    assert!(worker.tells().contains("run 1 has ended; the next one may come"));
    assert_near(&alone, &shared);

    // Workers keep nothing: they serve the next run, which is bit for bit the first.
    train(&again, &both);
    let model = |run: &Path| std::fs::read(run.join("model.safetensors")).expect("a model");
    assert!(model(&again) == model(&shared), "the same replicas compute the same");

    assert!(worker.tells().contains("run 2 begins"));
    assert!(worker.tells().contains("run 2 has ended"));

    // Devices of this machine are replicas as well.
    let local = world.path("local");
    let text = train(&local, &["--devices", "2"]);
    assert!(text.contains("2 replicas share a batch: this process, device 1"), "{text}");
    assert_near(&alone, &local);
}

#[test]
fn a_run_goes_on_without_a_worker_that_is_killed() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 4);
    let recipe = world.recipe(&pictures, 40);
    let run = world.path("run");
    let (mut worker, other) = (Worker::start(), Worker::start());
    let options = ["--worker", &worker.address, "--worker", &other.address];
    let child = begun(&options, &recipe, &run);
    worker.child.kill().expect("it can be killed");
    let output = child.wait_with_output().expect("the run ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let log = std::fs::read_to_string(run.join("train.log")).expect("a log");
    let told = format!("worker {} is lost: ", worker.address);
    let line = log.lines().find(|line| line.contains(&told)).expect("a line about it");
    assert!(
        line.ends_with("its part is taken over, and 2 replicas share a batch from now on"),
        "{line}"
    );
    assert!(run.join("model.safetensors").exists());
    // The other one serves the next run.
    let [alone, next] = ["alone", "next"].map(|name| world.path(name));
    let recipe = world.recipe(&pictures, 2);
    succeed(&[&"train", &"-c", &recipe, &"--output", &alone]);
    succeed(&[&"train", &"-c", &recipe, &"--output", &next, &"--worker", &other.address]);
    assert_near(&alone, &next);
}

/// Killed and started again at its address, a worker takes its place in the run again.
#[test]
fn a_worker_that_is_started_again_joins_again() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 4);
    let recipe = world.recipe(&pictures, 4000);
    let run = world.path("run");
    let mut worker = Worker::start();
    let address = worker.address.clone();
    let mut child = begun(&["--worker", &address], &recipe, &run);
    worker.child.kill().expect("it can be killed");
    worker.child.wait().expect("it has ended");
    let log = || std::fs::read_to_string(run.join("train.log")).expect("a log");
    let began = Instant::now();
    let mut wait = |told: &str| {
        while !log().contains(told) {
            assert!(began.elapsed() < Duration::from_mins(1), "{}", log());
            assert!(child.try_wait().expect("a status").is_none(), "the run ended: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait(&format!("worker {address} is lost: "));
    let port = address.rsplit_once(':').expect("a port").1;
    let mut next = Worker::at(&["--port", port]);
    wait(&format!("worker {address} has joined again, and 2 replicas share a batch from now on"));
    assert!(next.tells().contains("run 1 begins"));
    child.kill().expect("it can be killed");
    child.wait().expect("it has ended");
    assert!(next.tells().contains("run 1 "));
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
    assert!(text.contains("nobody listens there"), "{text}");
    // Nothing is left of a run that has not begun.
    assert!(!run.exists());
    for (name, told) in [
        ("no-such-machine.invalid", "no machine of this name is known"),
        ("http://one", "a worker is HOST, HOST:PORT"),
    ] {
        let output = crate::world::magpie(&[
            &"train",
            &"-c",
            &recipe,
            &"--output",
            &run,
            &"--worker",
            &name,
        ]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(told), "{text}");
    }

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("written");
    });
    let text = train(&address);
    assert!(text.contains("no magpie worker"), "{text}");

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

/// Everything that no run needs is answered with its reason and costs nothing; the worker serves on.
#[test]
fn what_no_run_needs_is_refused_and_the_worker_serves_on() {
    let world = World::new();
    let mut worker = Worker::start();
    let serves = |worker: &Worker| {
        let mut guest = Stranger::greeted(&worker.address);
        guest.say(&message(&stranger::begin(backbone(0.25)), &[]));
        assert_eq!(guest.hears()["kind"], "ready");
        guest
    };
    // What a run takes by itself is not counted below.
    serves(&worker).step(32, 2);
    let before = worker.peak();

    let step = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut head = stranger::step(32);
        change(&mut head);
        head
    };
    let announced = |head: &serde_json::Value, count: u32, length: u64| {
        let mut bytes = message(head, &[]);
        bytes.truncate(bytes.len() - 4);
        bytes.extend(count.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes
    };
    let good = step(&|_| ());
    let [pictures, other] = [32, 16].map(|side| vec![picture(side), weights(0.25)]);
    let runs = [
        (message(&step(&|head| head["preprocess"]["width"] = 0.into()), &pictures), "width is 0"),
        (
            message(&step(&|head| head["preprocess"]["width"] = 65_536.into()), &pictures),
            "width is 65536",
        ),
        (
            message(&step(&|head| head["preprocess"]["std"] = json!([1, 0, 1])), &pictures),
            "std is 0",
        ),
        (message(&good, &other), "has not the size of the input"),
        (message(&good, &[picture(32), weights(0.5)]), "shape"),
        (message(&good, &pictures[1..]), "a step without a picture"),
        (announced(&good, 65_536, 1 << 32), "where"),
        (announced(&good, 2, 1 << 32), "a message of 4294967296 bytes"),
        (announced(&json!({"kind": "run"}), 1, 1 << 32), "`run` came where `prepare`"),
        (u64::MAX.to_le_bytes().to_vec(), "no message of this run"),
        ([&[1][..], &[0xff; 8]].concat(), "bytes of a head"),
    ];
    for (bytes, told) in runs {
        let mut guest = serves(&worker);
        let asked = Instant::now();
        guest.say(&bytes);
        let answer = guest.hears();
        let reason = answer["reason"].as_str().unwrap_or_default().to_owned();
        assert!(reason.contains(told) && !reason.contains("broke off"), "{told}: {answer}");
        assert!(asked.elapsed() < Duration::from_secs(2), "{told}: {:?}", asked.elapsed());
    }
    for (begin, told) in [
        (stranger::begin(backbone(1e9)), "backbone.scale is 1000000000"),
        (json!({"kind": "begin"}), "missing field"),
        (json!({"kind": "begin", "architecture": {"extractor": 7}, "seed": 1, "replicas": 2}), "7"),
        (json!({"kind": "ready"}), "`ready` came where `begin`"),
    ] {
        let mut guest = Stranger::greeted(&worker.address);
        guest.say(&message(&begin, &[]));
        let answer = guest.hears();
        assert!(answer["reason"].as_str().unwrap_or_default().contains(told), "{answer}");
    }
    for greeting in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"magpie\0\x02", b"magpie\0\xff"] {
        Stranger::connect(&worker.address).say(greeting);
    }
    let taken = worker.peak() - before;
    assert!(taken < 32 << 20, "{taken} bytes for what was refused");
    let told: Vec<String> = (0..4).map(|_| worker.tells()).collect();
    assert!(told[0].contains("run 1 begins") && told[1].contains("run 1 has ended"), "{told:?}");
    let pictures = world.pictures("pictures", 4, 4);
    let (recipe, run) = (world.recipe(&pictures, 1), world.path("run"));
    succeed(&[&"train", &"-c", &recipe, &"--output", &run, &"--worker", &worker.address]);
}

#[test]
fn silent_peers_keep_nobody_from_a_worker_and_a_second_run_is_told_at_once() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 4);
    let recipe = world.recipe(&pictures, 1);
    let worker = Worker::start();
    let run = world.path("run");
    // One says nothing at all, one greets, one stops inside its first message.
    let mute = Stranger::connect(&worker.address);
    let greeted = Stranger::greeted(&worker.address);
    let mut cut = Stranger::greeted(&worker.address);
    cut.say(&message(&stranger::begin(backbone(0.25)), &[])[..20]);
    // More than the worker keeps waiting.
    let before = worker.peak();
    let crowd: Vec<_> = (0..200)
        .map(|_| {
            let mut stranger = Stranger::greeted(&worker.address);
            stranger.say(&[&[1, 0xff, 0x3f, 0, 0, 0, 0, 0, 0][..], &[b' '; 16_000]].concat());
            stranger
        })
        .collect();
    let taken = worker.peak() - before;
    assert!(taken < 40 << 20, "{taken} bytes for strangers");
    succeed(&[&"train", &"-c", &recipe, &"--output", &run, &"--worker", &worker.address]);
    drop((mute, greeted, cut, crowd));

    let mut guest = Stranger::greeted(&worker.address);
    guest.say(&message(&stranger::begin(backbone(0.25)), &[]));
    assert_eq!(guest.hears()["kind"], "ready");
    let other = world.path("other");
    let asked = Instant::now();
    let train: [&dyn AsRef<std::ffi::OsStr>; 7] =
        [&"train", &"-c", &recipe, &"--output", &other, &"--worker", &worker.address];
    let text = fail(&train);
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    let told = format!("worker {}: it serves another run", worker.address);
    assert!(text.contains(&told) && !text.contains("--resume"), "{text}");
    drop(guest);
    succeed(&train);
    let twice = fail(&[
        &"train",
        &"-c",
        &recipe,
        &"--output",
        &world.path("twice"),
        &"--worker",
        &"a:1",
        &"--worker",
        &"a:1",
    ]);
    assert!(twice.contains("worker a:1 is named twice"), "{twice}");
}

#[cfg(unix)]
#[test]
fn a_run_goes_on_alone_once_its_only_worker_is_stopped() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 4);
    let recipe = world.recipe(&pictures, 40);
    let run = world.path("run");
    let mut worker = Worker::with(&["--timeout", "2"]);
    let options = ["--worker", &worker.address, "--worker-timeout", "2"];
    let child = begun(&options, &recipe, &run);
    worker.signal("-STOP");
    let output = child.wait_with_output().expect("the run ends");
    worker.signal("-CONT");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let log = std::fs::read_to_string(run.join("train.log")).expect("a log");
    let told = format!("worker {} is lost: nothing has come from it for 2 s", worker.address);
    assert!(log.contains(&told) && log.contains("; this process goes on alone"), "{log}");
    // The worker is there again.
    assert!(worker.tells().contains("run 1 begins"));
    worker.tells();
    let (recipe, next) = (world.recipe(&pictures, 1), world.path("next"));
    succeed(&[&"train", &"-c", &recipe, &"--output", &next, &"--worker", &worker.address]);
}
