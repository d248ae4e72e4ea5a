//! Nothing is lost: a run that is killed at any instant, or whose disk fails, goes on as if nothing
//! had happened.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::world::{self, World, succeed};

/// The losses that a log tells, by epoch and step, the last telling counting.
fn losses(run: &Path) -> Vec<(u64, u64, String)> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("the scalars");
    let mut told = std::collections::BTreeMap::new();
    for line in text.lines() {
        // A run killed while it wrote leaves half a line.
        let Ok(record) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        if record["kind"] == "train" {
            let place = (record["epoch"].as_u64(), record["iter"].as_u64());
            told.insert(place, record["loss"].to_string());
        }
    }
    let known =
        |(place, loss): ((Option<u64>, Option<u64>), String)| Some((place.0?, place.1?, loss));
    told.into_iter().filter_map(known).collect()
}

fn train(recipe: &Path, run: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
    command.args(["train", "--resume", "-o", "checkpoint_interval=1", "-c"]);
    command.arg(recipe).arg("--output").arg(run);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A recipe whose losses remember and whose weights are averaged.
fn recipe(world: &World) -> std::path::PathBuf {
    let pictures = world.pictures("pictures", 4, 4);
    let recipe = world.recipe(&pictures, 10);
    let text = std::fs::read_to_string(&recipe).expect("the recipe");
    let text = text.replace(
        "[preprocess]",
        "[ema]\ndecay = { kind = \"constant\", decay = 0.9 }\n\n[preprocess]",
    );
    std::fs::write(&recipe, text).expect("the recipe");
    recipe
}

/// A world, its recipe, and the run that nothing disturbed.
fn undisturbed() -> (World, std::path::PathBuf, std::path::PathBuf) {
    let world = World::new();
    let (recipe, run) = (recipe(&world), world.path("undisturbed"));
    assert!(train(&recipe, &run).status().expect("magpie runs").success());
    (world, recipe, run)
}

#[test]
fn a_run_killed_at_any_instant_goes_on_bit_for_bit() {
    let (world, recipe, undisturbed) = undisturbed();
    let killed = world.path("killed");
    let mut kills = 0;
    for attempt in 0_u64.. {
        let mut child = train(&recipe, &killed).spawn().expect("magpie runs");
        // Any instant: from reading the data over steps and checkpoints to the export. Later
        // attempts are given longer, so that the run ends.
        let patience = 60 + attempt * 7919 % 100 + attempt * 3;
        let mut waited = 0;
        let status = loop {
            if let Some(status) = child.try_wait().expect("a status") {
                break Some(status);
            }
            if waited >= patience {
                child.kill().expect("it can be killed");
                child.wait().expect("a status");
                kills += 1;
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
            waited += 5;
        };
        if let Some(status) = status {
            assert!(status.success(), "attempt {attempt} failed");
            break;
        }
        assert!(attempt < 200, "the run never ends");
    }
    assert!(kills > 1, "killed {kills} times only");
    assert_eq!(losses(&killed), losses(&undisturbed));
    let model = |run: &Path| std::fs::read(run.join("model.safetensors")).expect("a model");
    assert!(model(&killed) == model(&undisturbed), "the exported weights differ");
}

#[test]
fn a_run_killed_between_its_checkpoints_ends_the_same() {
    let (world, recipe, undisturbed) = undisturbed();
    let run = world.path("between");
    let part = |epoch: &str| {
        let mut command = train(&recipe, &run);
        assert!(command.args(["--stop-after", epoch]).status().expect("magpie runs").success());
    };
    let latest = run.join("latest");
    for epoch in 1..10 {
        // The epoch's best network is there already, its own checkpoint is not.
        let before = world.path("before");
        let known = latest.is_dir();
        if known {
            std::fs::rename(&latest, &before).expect("put aside");
            copy(&before, &latest);
        }
        part(&epoch.to_string());
        std::fs::remove_dir_all(&latest).expect("removed");
        let _ = std::fs::remove_dir_all(run.join("latest.previous"));
        if known {
            std::fs::rename(&before, &latest).expect("put back");
        }
        part(&epoch.to_string());
    }
    part("10");
    let model = |run: &Path| std::fs::read(run.join("model.safetensors")).expect("a model");
    assert!(model(&run) == model(&undisturbed), "the exported weights differ");
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for file in std::fs::read_dir(from).expect("a folder").flatten() {
        std::fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
    }
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before() {
    let (world, recipe, undisturbed) = undisturbed();
    let run = world.path("run");
    let part = |epoch: &str| {
        succeed(&[
            &"train",
            &"-c",
            &recipe,
            &"--output",
            &run,
            &"--resume",
            &"--stop-after",
            &epoch,
            &"-o",
            &"checkpoint_interval=1",
        ])
    };
    part("2");
    let victim = run.join("latest/model.safetensors");
    let bytes = std::fs::read(&victim).expect("the weights");
    std::fs::write(&victim, &bytes[..bytes.len() / 2]).expect("cut");
    let told = part("3");
    assert!(told.contains("resumed") && told.contains("latest.previous"), "{told}");
    let mut flipped = std::fs::read(&victim).expect("the weights");
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    std::fs::write(&victim, flipped).expect("flip");
    let told = part("99");
    assert!(told.contains("latest.previous"), "{told}");
    assert_eq!(losses(&run), losses(&undisturbed));

    for folder in ["latest", "latest.previous"] {
        std::fs::write(run.join(folder).join("model.safetensors"), b"x").expect("damage");
    }
    let error = world::fail(&[
        &"train",
        &"-c",
        &recipe,
        &"--output",
        &run,
        &"--resume",
        &"-o",
        &"epochs=9",
    ]);
    assert!(error.contains("model.safetensors") && error.contains("damaged"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_full_disk_costs_no_checkpoint() {
    let (world, recipe, undisturbed) = undisturbed();
    let run = world.path("run");
    let run_text = run.display();
    succeed(&[&"train", &"-c", &recipe, &"--output", &run, &"--stop-after", &"1"]);
    let before = losses(&run);

    // No file may grow beyond 64 kB, which the weights do: the same error as a full disk.
    let script = format!(
        "trap '' XFSZ; ulimit -f 128; exec {} train --resume -c {} --output {run_text}",
        env!("CARGO_BIN_EXE_magpie"),
        recipe.display()
    );
    let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("error:") && errors.contains(".tmp/model.safetensors"), "{errors}");

    succeed(&[&"train", &"-c", &recipe, &"--output", &run, &"--resume"]);
    assert_eq!(losses(&run), losses(&undisturbed));
    assert!(before.len() < losses(&run).len());
}
