//! A run's folder: what is in it is lost to nobody, and what it exports is what was trained.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::world::{World, fail, succeed};

type Word<'a> = &'a dyn AsRef<OsStr>;

/// A world with pictures and a recipe of `epochs` epochs, evaluated on what it learns from.
fn world(epochs: usize) -> (World, PathBuf) {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 4);
    let recipe = world.recipe(&pictures, epochs);
    (world, recipe)
}

fn words(recipe: &Path, run: &Path, more: &[&str]) -> Vec<String> {
    let mut words: Vec<String> = ["train", "-c"].map(str::to_owned).into();
    words.push(recipe.display().to_string());
    words.push("--output".to_owned());
    words.push(run.display().to_string());
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words
}

fn train(recipe: &Path, run: &Path, more: &[&str]) -> String {
    let words = words(recipe, run, more);
    succeed(&words.iter().map(|word| word as Word).collect::<Vec<_>>())
}

fn train_fails(recipe: &Path, run: &Path, more: &[&str]) -> String {
    let words = words(recipe, run, more);
    fail(&words.iter().map(|word| word as Word).collect::<Vec<_>>())
}

/// Every file below a folder with its bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().is_dir() {
            all.extend(contents(&entry.path()));
        } else {
            all.insert(entry.path(), std::fs::read(entry.path()).expect("a file"));
        }
    }
    all
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Whether a file is of use to nobody once its command has ended.
fn is_left_over(name: &str) -> bool {
    let ending = Path::new(name).extension();
    ending.is_some_and(|ending| ["part", "tmp", "lock"].iter().any(|of| ending == *of))
}

#[test]
fn a_run_is_replaced_only_when_asked() {
    let (world, recipe) = world(1);
    let run = world.path("run");
    train(&recipe, &run, &[]);
    let notes = world.write("run/notes.txt", "mine");
    let before = contents(&run);
    let error = train_fails(&recipe, &run, &["-o", "seed=9"]);
    assert!(error.contains("holds a run already"), "{error}");
    assert!(error.contains("--resume") && error.contains("--overwrite"), "{error}");
    assert!(contents(&run) == before, "nothing has changed");

    train(&recipe, &run, &["-o", "seed=9", "--overwrite"]);
    let after = contents(&run);
    assert_eq!(after[&notes], b"mine");
    let text = |name: &str| String::from_utf8_lossy(&after[&run.join(name)]).into_owned();
    assert!(text("recipe.toml").contains("seed = 9"));
    assert_eq!(text("train.log").matches("[Epoch 1/1][Avg]").count(), 1, "one run alone");
    let events = names(&run).into_iter().filter(|name| name.starts_with("events")).count();
    assert_eq!(events, 1);
    let model = run.join("model.safetensors");
    assert!(after[&model] != before[&model], "another seed, another network");
}

#[test]
fn a_checkpoint_that_does_not_fit_leaves_the_folder_as_it_was() {
    let (world, recipe) = world(1);
    let run = world.path("run");
    train(&recipe, &run, &[]);
    let before = contents(&run);
    for (change, told) in [
        ("extractor.model.backbone.class_expand=64", "was the recipe changed?"),
        ("extractor.losses=[{ kind = \"center\", learning_rate = 0.1 }]", "losses of the recipe"),
    ] {
        let error = train_fails(&recipe, &run, &["--resume", "-o", change]);
        assert!(error.contains(told), "{change}: {error}");
        assert!(contents(&run) == before, "{change}");
    }
    let best = run.join("best_model").display().to_string();
    let error = train_fails(&recipe, &run, &["--resume", &best]);
    assert!(error.contains("holds a network alone"), "{error}");
    // A comment in the run's own recipe outlives going on with it.
    let own = run.join("recipe.toml");
    let text = std::fs::read_to_string(&own).expect("the recipe");
    std::fs::write(&own, format!("# mine\n{text}")).expect("written");
    train(&own, &run, &["--resume"]);
    assert!(std::fs::read_to_string(&own).expect("the recipe").starts_with("# mine\n"));
}

/// The deployed network of a checkpoint.
fn exported(world: &World, run: &Path, checkpoint: &str) -> Vec<u8> {
    let out = world.path("exported.safetensors");
    succeed(&[&"export", &run, &"--checkpoint", &checkpoint, &"--out", &out]);
    std::fs::read(out).expect("a model")
}

#[test]
fn the_newest_network_is_exported_when_a_run_ends_earlier_than_planned() {
    let (world, recipe) = world(2);
    let last = ["-o", "export=last"];
    let run_of = |name: &str, parts: &[&[&str]]| {
        let run = world.path(name);
        let told = parts.iter().map(|part| train(&recipe, &run, &[part, &last[..]].concat()));
        let told: Vec<String> = told.collect();
        let model = std::fs::read(run.join("model.safetensors")).expect("a model");
        assert!(model == exported(&world, &run, "latest"), "{name}: an older network");
        assert!(model == exported(&world, &run, "last_model"), "{name}: last_model");
        told.last().cloned().unwrap_or_default()
    };
    let nine = ["--resume", "-o", "epochs=9", "--stop-after"];
    let told =
        run_of("longer", &[&[], &[&nine[..], &["4"]].concat(), &["--resume", "-o", "epochs=4"]]);
    assert!(told.contains("the network after epoch 4 (last_model)"), "{told}");
    let told = run_of("one", &[&[&nine[..], &["1"]].concat(), &["--resume", "-o", "epochs=1"]]);
    assert!(told.contains("the network after epoch 1 (last_model)"), "{told}");
    let told = run_of("fewer", &[&[&nine[..], &["3"]].concat(), &["--resume", "-o", "epochs=2"]]);
    assert!(told.contains("has 3 epochs, the recipe asks for 2"), "{told}");
    assert!(told.contains("the network after epoch 3 (last_model)"), "{told}");

    // The best one where nothing had been evaluated when it was stopped; an average of the weights.
    let run = world.path("best");
    let average = "ema.decay={ kind = \"constant\", decay = 0.5 }";
    let rare = ["-o", "eval_interval=5", "-o", average];
    train(&recipe, &run, &[&["-o", "epochs=9", "--stop-after", "1"], &rare[..]].concat());
    assert!(!run.join("best_model").exists());
    let told = train(&recipe, &run, &[&["--resume", "-o", "epochs=1"], &rare[..]].concat());
    assert!(told.contains("[Eval][Epoch 1]"), "{told}");
    let model = std::fs::read(run.join("model.safetensors")).expect("a model");
    assert!(model == exported(&world, &run, "best_model"), "what was evaluated is exported");
    assert!(model != exported(&world, &run, "latest"), "the average is no step's network");
}

/// A run that ends as if killed at an operation on files, with checkpoints after every step.
fn killed_at(recipe: &Path, run: &Path, fault: &str, more: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
    command.args(words(recipe, run, &[&["-o", "checkpoint_interval=1"], more].concat()));
    command.env("MAGPIE_FAULT", fault).output().expect("magpie runs")
}

/// A run that lies within its first epoch.
fn within_an_epoch(recipe: &Path, run: &Path) {
    for operation in 20.. {
        let _ = std::fs::remove_dir_all(run);
        killed_at(recipe, run, &format!("kill:{operation}"), &[]);
        let progress = std::fs::read(run.join("latest/progress.json")).unwrap_or_default();
        let progress: serde_json::Value = serde_json::from_slice(&progress).unwrap_or_default();
        if progress["position"].as_u64() > Some(0) {
            return;
        }
        assert!(operation < 120, "no checkpoint comes");
    }
}

#[test]
fn within_an_epoch_only_the_same_plan_goes_on() {
    let (world, recipe) = world(1);
    let run = world.path("run");
    within_an_epoch(&recipe, &run);
    // What the kill has left half is put right first.
    train_fails(&recipe, &run, &["--resume", "-o", "batch_size=4"]);
    let before = contents(&run);
    for (change, told) in [
        ("batch_size=4", "batch_size is 4, it was 8"),
        ("seed=4", "seed is 4, it was 3"),
        ("epoch_samples=40", "the number of batches of an epoch is 5, it was 3"),
        ("extractor.sampler={ kind = \"shuffle\" }", "extractor.sampler is {\"kind\":\"shuffle\"}"),
    ] {
        let error = train_fails(&recipe, &run, &["--resume", "-o", change]);
        assert!(error.contains("lies within epoch 1") && error.contains(told), "{change}: {error}");
        assert!(contents(&run) == before, "{change}");
    }
    let victim = world.path("pictures/class 0 类/0.png");
    let picture = std::fs::read(&victim).expect("a picture");
    std::fs::remove_file(&victim).expect("removed");
    let error = train_fails(&recipe, &run, &["--resume"]);
    assert!(error.contains("the number of pictures is 15, it was 16"), "{error}");
    std::fs::write(&victim, picture).expect("put back");
    train(&recipe, &run, &["--resume"]);
    // Between epochs all of that may change.
    train(&recipe, &run, &["--resume", "-o", "epochs=2", "-o", "batch_size=4", "-o", "seed=4"]);
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn one_command_at_a_time_trains_in_a_folder() {
    let (world, recipe) = world(100_000);
    let run = world.path("run");
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
    command.args(words(&recipe, &run, &[])).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running(command.spawn().expect("magpie runs"));
    for _ in 0..1000 {
        if run.join("latest/progress.json").exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let told = "another command works on the run in this folder";
    for resume in [&["--resume"][..], &["--overwrite"]] {
        let error = train_fails(&recipe, &run, resume);
        assert!(error.contains(told), "{resume:?}: {error}");
    }
    assert!(fail(&[&"report", &run]).contains(told));
    // A checkpoint that is replaced meanwhile is read whole.
    for checkpoint in ["best_model", "latest", "latest"] {
        exported(&world, &run, checkpoint);
    }
    drop(running);
    succeed(&[&"report", &run]);
    train(&recipe, &run, &["--resume", "--stop-after", "1"]);
    assert!(!names(&run).iter().any(|name| is_left_over(name)), "{:?}", names(&run));
}

#[test]
fn training_that_diverges_keeps_the_last_good_checkpoint() {
    let (world, recipe) = world(3);
    let run = world.path("run");
    let one_step = ["-o", "epoch_samples=8"];
    let rate = ["-o", "schedule.learning_rate=1e30"];
    // Numbers that are too large for the network, and none at all.
    for (rate, told) in [("1e30", "the embedding of "), ("1e300", "tensor extractor.")] {
        let rate = format!("schedule.learning_rate={rate}");
        let more = [&one_step[..], &["-o", &rate, "--overwrite"]].concat();
        let error = train_fails(&recipe, &run, &more);
        assert!(error.contains(&format!("training has diverged in epoch 1: {told}")), "{error}");
        assert!(error.contains("lower schedule.learning_rate"), "{error}");
        assert!(error.contains("there is no good checkpoint yet"), "{error}");
    }
    // Without anything to measure on, too.
    let text = std::fs::read_to_string(&recipe).expect("the recipe");
    let unmeasured: Vec<&str> = text.lines().filter(|line| !line.starts_with("query")).collect();
    let unmeasured = world.write("unmeasured.toml", unmeasured.join("\n"));
    let more = [&one_step[..], &rate[..], &["--overwrite"]].concat();
    let error = train_fails(&unmeasured, &run, &more);
    assert!(error.contains("training has diverged in epoch 1: the embedding of "), "{error}");
    for name in ["latest", "best_model", "last_model", "model.safetensors"] {
        assert!(!run.join(name).exists(), "{name}");
    }

    train(&recipe, &run, &[&one_step[..], &["--overwrite", "--stop-after", "1"]].concat());
    let kept = |run: &Path| [contents(&run.join("latest")), contents(&run.join("best_model"))];
    let before = kept(&run);
    let error = train_fails(&recipe, &run, &[&one_step[..], &rate[..], &["--resume"]].concat());
    assert!(error.contains("diverged in epoch 2"), "{error}");
    assert!(error.contains("run/latest, after epoch 1: --resume goes on from there"), "{error}");
    assert!(kept(&run) == before, "the good checkpoints are there as before");
    // A loss that is no number in the middle of an epoch is told likewise.
    let error = train_fails(&recipe, &run, &["--resume", "-o", "schedule.learning_rate=1e30"]);
    assert!(error.contains("run/latest, after epoch 1"), "{error}");
    train(&recipe, &run, &[&one_step[..], &["--resume"]].concat());
}

#[test]
fn flipped_bits_are_refused_and_the_checkpoint_before_is_named() {
    let (world, recipe) = world(2);
    let run = world.path("run");
    train(&recipe, &run, &[]);
    for name in ["model.safetensors", "optimizer.safetensors", "progress.json"] {
        let path = run.join("latest").join(name);
        let whole = std::fs::read(&path).expect("a file");
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        std::fs::write(&path, flipped).expect("written");
        let latest = run.join("latest").display().to_string();
        let error = train_fails(&recipe, &run, &["--resume", &latest, "-o", "epochs=3"]);
        assert!(error.contains(name), "{name}: {error}");
        if name != "progress.json" {
            assert!(error.contains("is damaged") && error.contains("latest.previous"), "{error}");
            let out = world.path("x.safetensors");
            let checkpoint = [&"export" as Word, &run, &"--checkpoint", &"latest", &"--out", &out];
            if name == "model.safetensors" {
                let error = fail(&checkpoint);
                assert!(
                    error.contains("is damaged") && error.contains("latest.previous"),
                    "{error}"
                );
                assert!(!out.exists());
            }
        }
        std::fs::write(&path, whole).expect("written");
    }
}

/// How many operations on files a run takes.
fn operations(recipe: &Path, run: &Path) -> usize {
    let output = killed_at(recipe, run, "count", &[]);
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stderr).matches("MAGPIE_FAULT").count()
}

#[test]
fn a_kill_or_a_full_disk_at_any_write_costs_nothing() {
    let (world, recipe) = world(2);
    let undisturbed = world.path("undisturbed");
    let count = operations(&recipe, &undisturbed);
    assert!(count > 100, "{count}");
    let model = |run: &Path| std::fs::read(run.join("model.safetensors")).expect("a model");
    let whole = model(&undisturbed);
    // Spread over the run; another test's number of them would be as good.
    for turn in 0..10 {
        let (kind, operation) = (["kill", "full"][turn % 2], 2 + turn * (count - 2) / 10);
        let run = world.path(&format!("run {turn}"));
        let output = killed_at(&recipe, &run, &format!("{kind}:{operation}"), &[]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{kind}:{operation} ended well");
        if kind == "full" {
            assert!(errors.contains("no space left on device"), "{kind}:{operation}: {errors}");
            // Much was written before.
            assert!(!errors.contains("nothing was changed"), "{kind}:{operation}: {errors}");
            assert!(errors.contains("error:") && !errors.contains("panicked"), "{errors}");
        }
        train(&recipe, &run, &["--resume", "-o", "checkpoint_interval=1"]);
        assert!(model(&run) == whole, "{kind}:{operation}: another network");
        let left: Vec<String> = names(&run).into_iter().filter(|name| is_left_over(name)).collect();
        assert!(left.is_empty(), "{kind}:{operation}: {left:?}");
        let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("the scalars");
        let cut =
            text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_err());
        assert_eq!(cut.count(), 0, "{kind}:{operation}: {text}");
    }
}

#[test]
fn pictures_are_held_out_and_training_is_compared_with_what_was_there_before() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 5);
    let recipe = world.recipe(&pictures, 2);
    let text =
        std::fs::read_to_string(&recipe).expect("the recipe").replace("hold_out = 0.0\n", "");
    let whole = text.clone();
    let absent: Vec<&str> = text.lines().filter(|line| !line.starts_with("query")).collect();
    std::fs::write(&recipe, absent.join("\n")).expect("written");
    let first = world.path("first");
    let told = train(&recipe, &first, &[]);
    assert!(told.contains("4 of 20 pictures, of 4 classes, are held out to measure on"), "{told}");
    assert!(told.contains("not compared with what there was before training"), "{told}");
    assert!(told.contains("begins with random weights"), "{told}");
    assert!(!told.contains("each extractor adapted"), "no photographs are named: {told}");

    // The same pictures as queries, elsewhere and spelled otherwise, are the same data.
    let copy = world.path("copy of them");
    for (path, bytes) in contents(&pictures) {
        let to = copy.join(path.strip_prefix(&pictures).expect("below"));
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        std::fs::write(to, bytes).expect("a copy");
    }
    std::fs::write(&recipe, &whole).expect("written");
    let spelled = format!("extractor.query={}/../pictures", pictures.display());
    let copied = format!("extractor.query={}", copy.display());
    let pretrained = format!("extractor.pretrained={}", first.display());
    for (number, query) in [spelled, copied].iter().enumerate() {
        let run = world.path(&format!("run {number}"));
        let told = train(&recipe, &run, &["-o", query, "-o", &pretrained, "-o", "export=last"]);
        assert!(told.contains("4 of 20 pictures, of 4 classes"), "{query}: {told}");
        assert!(told.contains("on the held-out pictures at 32 × 32: recall@1 "), "{told}");
        let verdict = "on 4 pictures that training did not see, recall@1 is ";
        let line = told.lines().find(|line| line.starts_with(verdict)).expect("a verdict");
        assert!(
            line.contains("before training, with ") && line.contains(": too few pictures to tell"),
            "{line}"
        );
        let page = std::fs::read_to_string(run.join("report.html")).expect("a report");
        assert!(page.contains(verdict) && page.contains("4 queries among 16 pictures"), "{page}");
        let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).expect("the scalars");
        assert!(metrics.contains(r#""kind":"verdict""#), "{metrics}");
    }
    // Twice the same, and other queries leave the training data whole.
    let again = world.path("again");
    train(&recipe, &again, &["-o", &pretrained, "-o", "export=last"]);
    let model = |run: &Path| std::fs::read(run.join("model.safetensors")).expect("a model");
    assert!(model(&again) == model(&world.path("run 0")), "what is held out follows from the seed");
    let others = world.pictures("others", 4, 3);
    let query = format!("extractor.query={}", others.display());
    for hold_out in ["extractor.hold_out=0.2", "extractor.hold_out=0"] {
        let run = world.path(&format!("others {hold_out}"));
        let told = train(&recipe, &run, &["-o", &query, "-o", hold_out]);
        assert!(!told.contains("held out"), "{told}");
    }
    let model = |name: &str| model(&world.path(&format!("others extractor.hold_out={name}")));
    assert!(model("0.2") == model("0"), "there is nothing to hold out");
}

#[test]
fn photographs_are_named_alone_and_the_command_says_which_network_to_keep() {
    let world = World::new();
    let pictures = world.pictures("others", 2, 2);
    let recipe = world.recipe(&pictures, 1);
    let text =
        std::fs::read_to_string(&recipe).expect("the recipe").replace("hold_out = 0.0\n", "");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("query")).collect();
    world.write("recipe.toml", lines.join("\n"));
    world.pictures("photos", 4, 3);
    let told = world.succeed("train photos -c recipe.toml --out run");
    assert!(told.contains("4 of 12 pictures, of 4 classes, are held out"), "{told}");
    let compared = "on 4 pictures held out, each extractor adapted to the others: trained ";
    let line = told.lines().find(|line| line.starts_with(compared)).expect("a comparison");
    assert!(line.contains(" %, general ") && line.contains(" ± "), "{line}");
    assert!(line.contains("keep "), "{line}");
}

#[test]
fn a_run_is_not_begun_in_the_folder_of_its_pictures() {
    let (world, recipe) = world(1);
    let pictures = world.path("pictures");
    let others = world.pictures("others", 3, 2);
    let before = contents(&world.path(""));
    let query = format!("extractor.query={}", others.display());
    let runs = [pictures.clone(), pictures.join("class 0 类/run"), pictures.join("../others/new")];
    for run in &runs {
        for more in [&["-o", &query][..], &["-o", &query, "--overwrite"]] {
            let error = train_fails(&recipe, run, more);
            assert!(
                error.contains("whose pictures the recipe takes"),
                "{}: {error}",
                run.display()
            );
            assert!(error.contains("choose another --out"), "{}: {error}", run.display());
        }
    }
    // What it would learn on from is its own.
    let own = format!("extractor.pretrained={}", world.path("run/model.safetensors").display());
    let error = train_fails(&recipe, &world.path("run"), &["-o", &own, "--overwrite"]);
    assert!(error.contains("is read by this run, which would replace it"), "{error}");
    assert!(contents(&world.path("")) == before, "something has changed");
}

#[test]
fn a_warm_up_as_long_as_the_run_learns_and_is_named() {
    let (world, recipe) = world(1);
    let run = world.path("run");
    let told = train(&recipe, &run, &["-o", "schedule.warmup_epochs=1", "-o", "epoch_samples=8"]);
    assert!(told.contains("1 batch of 8 per epoch, 1 epoch\n"), "{told}");
    assert!(told.contains("warning: the learning rate rises until the end"), "{told}");
    assert!(told.contains("give -o schedule.warmup_epochs=0.1"), "{told}");
    assert!(told.contains("lr(Cosine): 0.02000000"), "{told}");
    let told = train(&recipe, &world.path("other"), &[]);
    assert!(!told.contains("warning: the learning rate"), "{told}");
}
