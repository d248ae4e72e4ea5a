//! How commands end: readers that go away, signals, pictures that cannot be used, errors told once.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::world::{World, fail, magpie, shape, succeed};

fn command(words: &[&dyn AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
    for word in words {
        command.arg(word.as_ref());
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A gallery of a few pictures.
fn gallery(world: &World) -> std::path::PathBuf {
    let (model, pictures) = (world.model(), world.pictures("pictures", 3, 3));
    let file = world.path("gallery.bin");
    let words: [&dyn AsRef<OsStr>; 8] =
        [&"gallery", &"build", &"--images", &pictures, &"--extractor", &model, &"--out", &file];
    succeed(&words);
    file
}

#[test]
fn a_reader_that_is_gone_ends_a_command_quietly() {
    let world = World::new();
    let file = gallery(&world);
    let (model, pictures) = (world.path("model.safetensors"), world.path("pictures"));
    let picture = pictures.join("class 0 类/0.png");
    let commands: [&[&dyn AsRef<OsStr>]; 7] = [
        &[&"gallery", &"list", &file],
        &[&"gallery", &"list", &file, &"--json"],
        &[&"gallery", &"stats", &file],
        &[&"gallery", &"search", &file, &"--extractor", &model, &picture],
        &[&"eval", &"--extractor", &model, &"--query", &pictures],
        &[&"data", &"check", &pictures],
        &[&"completions", &"bash"],
    ];
    for words in commands {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = command(words).stdout(writer).output().expect("magpie runs");
        let words: Vec<_> = words.iter().map(|word| word.as_ref().display().to_string()).collect();
        assert_eq!(output.status.code(), Some(141), "{words:?}: {}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "", "{words:?}");
    }
    // Nobody who hears what is said beside the answer: the work is done all the same.
    world.write("pictures/class 1 类/broken.png", "no picture");
    let out = world.path("more.bin");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let built = command(&[
        &"gallery",
        &"build",
        &"--images",
        &pictures,
        &"--extractor",
        &model,
        &"--out",
        &out,
    ])
    .stdout(Stdio::null())
    .stderr(writer)
    .status()
    .expect("magpie runs");
    assert!(built.success() && out.is_file());
}

#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a full device");
    let output = command(&[&"completions", &"bash"]).stdout(full).output().expect("magpie runs");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.starts_with("error: standard output: "), "{errors}");
}

/// Sends a signal and waits for the end.
#[cfg(unix)]
fn stopped(child: Child, signal: &str) -> Output {
    let process = child.id().to_string();
    let sent = Command::new("kill").args([signal, &process]).status().expect("kill runs");
    assert!(sent.success());
    child.wait_with_output().expect("a status")
}

#[cfg(unix)]
fn started(words: &[&dyn AsRef<OsStr>]) -> Child {
    command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("magpie runs")
}

/// Reads lines until one holds a text; the rest is read and dropped beside the test.
#[cfg(unix)]
fn wait_for(child: &mut Child, wanted: &str) {
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains(wanted) {
        line.clear();
        assert!(output.read_line(&mut line).expect("a line") > 0, "it ended before {wanted}");
    }
    std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
}

/// Names in a folder, hidden ones included.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[cfg(unix)]
#[test]
fn signals_end_a_server_with_a_sentence() {
    let world = World::new();
    world.write("site/index.html", "<!doctype html>");
    for (signal, code, name) in [("-INT", 130, "Ctrl-C"), ("-TERM", 143, "SIGTERM")] {
        let mut child = started(&[&"serve", &world.path("site"), &"--port", &"0"]);
        wait_for(&mut child, "http://");
        let output = stopped(child, signal);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{errors}");
        assert_eq!(
            errors,
            format!(
                "{}: served until Ctrl-C ends it, at\nstopped by {name}; the site is served no more\n",
                world.path("site").display()
            )
        );
    }
}

#[cfg(unix)]
#[test]
fn a_run_that_is_stopped_says_where_it_stands_and_goes_on() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 4);
    let (recipe, run) = (world.recipe(&pictures, 500), world.path("run"));
    let mut child = started(&[&"train", &"-c", &recipe, &"--output", &run]);
    // The checkpoint of the first epoch is there.
    wait_for(&mut child, "[Train][Epoch 2/");
    let output = stopped(child, "-INT");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{errors}");
    let line = errors.lines().last().expect("a sentence");
    let epoch = line.strip_prefix("stopped by Ctrl-C in epoch ");
    let epoch = epoch.and_then(|rest| rest.strip_suffix("; go on with --resume"));
    assert!(epoch.is_some_and(|epoch| epoch.parse::<u32>().is_ok()), "{errors}");
    // Parts and locks are hidden.
    assert!(names(&run).iter().all(|name| !name.starts_with('.')), "{:?}", names(&run));
    let again = [&"train" as &dyn AsRef<OsStr>, &"-c", &recipe, &"--output", &run, &"--resume"];
    let again = succeed(&[&again[..], &[&"--stop-after", &"3"]].concat());
    assert!(again.contains("resumed ") && again.contains("stopped after epoch"), "{again}");
}

#[cfg(unix)]
#[test]
fn a_signal_leaves_nothing_half_and_no_lock() {
    let world = World::new();
    let file = gallery(&world);
    let model = world.path("model.safetensors");
    let folder = world.path("shop");
    std::fs::create_dir(&folder).expect("a folder");
    let shop = folder.join("gallery.bin");
    std::fs::copy(&file, &shop).expect("a copy");
    let old = std::fs::read(&shop).expect("a gallery");
    // Enough pictures that the command is at work under its lock.
    let class = world.path("new");
    std::fs::create_dir_all(class.join("class 9")).expect("a folder");
    for number in 0..260 {
        let picture = shape(1, number, 40 + number as u32).encode_png().expect("a PNG");
        std::fs::write(class.join(format!("class 9/{number}.png")), picture).expect("a file");
    }
    let words: [&dyn AsRef<OsStr>; 7] =
        [&"gallery", &"add", &shop, &"--images", &class, &"--extractor", &model];
    let mut child = started(&words);
    wait_for(&mut child, "/260 pictures");
    let locked = names(&folder);
    let output = stopped(child, "-TERM");
    assert_eq!(output.status.code(), Some(143));
    let errors = text(&output.stderr);
    let last = errors.lines().last();
    assert_eq!(last, Some("stopped by SIGTERM; no file is left half written"), "{errors}");
    assert_eq!(locked, [".gallery.bin.lock", "gallery.bin"]);
    assert_eq!(names(&folder), ["gallery.bin"]);
    assert!(std::fs::read(&shop).expect("a gallery") == old);

    // At whatever instant it comes.
    let words: [&dyn AsRef<OsStr>; 5] = [&"gallery", &"compact", &shop, &"--values", &"f32"];
    let mut codes = Vec::new();
    for attempt in 0..6 {
        let child = started(&words);
        std::thread::sleep(Duration::from_millis(5 * attempt));
        let output = stopped(child, "-TERM");
        codes.push(output.status.code());
        assert!(names(&folder).iter().all(|name| name == "gallery.bin"), "{:?}", names(&folder));
        succeed(&[&"gallery", &"verify", &shop]);
    }
    // Before it listens a signal ends it as it ends any program.
    assert!(codes.iter().all(|code| [None, Some(143), Some(0)].contains(code)), "{codes:?}");
}

#[test]
fn a_picture_that_cannot_be_used_costs_itself_alone() {
    let world = World::new();
    let file = gallery(&world);
    let (model, pictures) = (world.path("model.safetensors"), world.path("pictures"));
    let good = pictures.join("class 0 类/0.png");
    let last = pictures.join("class 1 类/1.png");
    let bad = world.write("bad.png", "no picture");
    let none = world.path("none.png");
    let search: [&dyn AsRef<OsStr>; 9] =
        [&"gallery", &"search", &file, &"--extractor", &model, &bad, &good, &none, &last];
    let output = magpie(&search);
    let (answers, errors) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{errors}");
    for path in [&good, &last] {
        assert!(answers.contains(&format!("{}: ", path.display())), "{answers}");
    }
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines.len(), 3, "{errors}");
    assert!(
        lines[0].starts_with(&format!("left out: {}: not a picture", bad.display())),
        "{errors}"
    );
    assert!(
        lines[1].starts_with(&format!("left out: {}: there is no such file", none.display())),
        "{errors}"
    );
    assert_eq!(lines[2], "error: 2 of 4 pictures could not be used; see above");
    let output = magpie(&[&search[..], &[&"--json"]].concat());
    let records: Vec<serde_json::Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(records.len(), 4);
    assert_eq!(records[0]["picture"], bad.display().to_string());
    assert!(records[0]["error"].as_str().is_some_and(|error| error.contains("not a picture")));
    assert_eq!(records[3]["matches"][0]["label"], "class 1 类");

    // What is extracted is what can be; its names say which.
    world.write("pictures/class 0 类/1.png", "no picture any more");
    let out = world.path("out.safetensors");
    let words: [&dyn AsRef<OsStr>; 7] =
        [&"extract", &"--extractor", &model, &"--images", &pictures, &"--out", &out];
    let errors = fail(&words);
    assert!(errors.contains("left out: ") && errors.contains("1 of 9 pictures"), "{errors}");
    let names = std::fs::read_to_string(world.path("out.tsv")).expect("the names");
    assert_eq!(names.lines().count(), 8);
    assert!(!names.contains("class 0 类/1.png"), "{names}");

    // Figures are of all pictures, or say of which.
    let eval: [&dyn AsRef<OsStr>; 5] = [&"eval", &"--extractor", &model, &"--query", &pictures];
    let error = fail(&eval);
    assert!(error.contains("1.png: not a picture") && error.contains("--skip-bad"), "{error}");
    let told = succeed(&[&eval[..], &[&"--skip-bad"]].concat());
    assert!(told.contains("8 queries with a match in the gallery; 1 picture left out"), "{told}");
}

#[test]
fn errors_tell_their_reason_once() {
    let world = World::new();
    let (model, site) = (world.model(), world.path("site"));
    let broken = world.write("broken.png", "no picture");
    let none = world.path("none.bin");
    let commands: [(&[&dyn AsRef<OsStr>], &str); 6] = [
        (&[&"gallery", &"list", &none], "there is no such file"),
        (&[&"gallery", &"list", &broken], "not a gallery"),
        (&[&"eval", &"--extractor", &none, &"--query", &site], "there is no such file"),
        (&[&"eval", &"--extractor", &model, &"--query", &none], "there is no such file"),
        (&[&"recognize", &"--bundle", &site, &broken], "there is no such file"),
        (&[&"train", &"-c", &none, &"--output", &site], "there is no such file"),
    ];
    for (words, reason) in commands {
        let error = fail(words);
        assert_eq!(error.matches(reason).count(), 1, "{error}");
    }
}

#[test]
fn errors_say_what_to_type() {
    let world = World::new();
    let site = world.path("site");
    world.write("site/index.html", "<!doctype html>");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let error = fail(&[&"serve", &site, &"--port", &port]);
    assert!(error.contains(&format!("port {port} is in use by another program")), "{error}");
    assert!(error.contains("give another --port"), "{error}");
    for host in ["127.0.0.1:8080", "example.org:80/shop/"] {
        let error = fail(&[&"verify", &host]);
        assert!(error.contains(&format!("if this is a host, write http://{host}")), "{error}");
    }
    assert!(fail(&[&"verify", &"no/such:folder"]).contains("no published site"));

    // What is there to train on from is not what embeds.
    let pictures = world.pictures("pictures", 4, 2);
    let recipe = world.recipe(&pictures, 1);
    let run = world.path("run");
    succeed(&[&"train", &"-c", &recipe, &"--output", &run]);
    let weights = run.join("best_model/model.safetensors");
    let error = fail(&[&"eval", &"--extractor", &weights, &"--query", &pictures]);
    assert!(error.contains("weights without a description of their network"), "{error}");
    assert!(error.contains("`magpie export RUN --out model.safetensors`"), "{error}");
}

#[test]
fn recipes_come_with_the_program() {
    let world = World::new();
    let listed = succeed(&[&"train", &"--list-recipes"]);
    let line =
        "photos                     Your own photographs: a folder with one sub-folder per class";
    assert!(listed.lines().count() > 15 && listed.contains(line), "{listed}");
    let photos = succeed(&[&"train", &"--list-recipes", &"-c", &"photos"]);
    assert!(photos.contains("[extractor]"), "{photos}");
    let empty = world.path("empty");
    std::fs::create_dir(&empty).expect("a folder");
    let train = |recipe: &str| {
        let data = "extractor.train=photos";
        let mut command = command(&[&"train", &"-c", &recipe, &"--output", &"run", &"-o", &data]);
        let output = command.current_dir(&empty).output().expect("magpie runs");
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    };
    // The recipe is read; its pictures are not there.
    let error = train("photos");
    assert!(
        error.contains("photos: there is no such file") && !error.contains("recipes"),
        "{error}"
    );
    // A folder of pictures that is called as the recipe is.
    world.pictures("empty/photos", 3, 2);
    let error = train("photos");
    assert!(error.contains("give -o batch_size=6"), "{error}");
    let error = train("fotos");
    assert!(error.contains("did you mean photos?") && error.contains("--list-recipes"), "{error}");
    assert_eq!(names(&empty), ["photos"]);
}
