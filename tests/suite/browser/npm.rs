//! The command of the package: sites by Node alone, as the native command makes them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use models::gallery::Gallery;
use serde_json::Value;

use super::authoring::{assert_alike, digests, photograph};
use super::package::package;
use super::{copy_folder, magpie, root};

/// A project that has installed the package, and its photographs.
struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Self {
        let project = Self(tempfile::tempdir().expect("a folder"));
        let installed = project.path("node_modules/magpie-recognizer");
        std::fs::create_dir_all(&installed).expect("a folder");
        copy_folder(&package(), &installed);
        for (class, name) in ["apple", "mug", "杯"].into_iter().enumerate() {
            for number in 0..4 {
                project.put(class as u32, number, &format!("photos/{name}/{number}.jpg"));
            }
        }
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, class: u32, number: u32, name: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let bytes = photograph(class, number).encode_jpeg(85).expect("a picture");
        std::fs::write(path, bytes).expect("a disk");
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let command = self.path("node_modules/magpie-recognizer/command.js");
        let mut node = Command::new("node");
        node.current_dir(self.0.path()).arg(command).args(arguments);
        node.output().expect("node runs")
    }

    /// What the command answers.
    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON alone")
    }

    /// Why the command does nothing.
    #[track_caller]
    fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn digests(&self, folder: &str) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        digests(&self.path(folder), "", &mut found);
        found
    }
}

fn native(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(magpie());
    command.current_dir(folder).args(arguments).output().expect("magpie runs")
}

#[test]
fn the_packages_command_makes_the_site_of_the_native_one_and_embeds_only_what_is_new() {
    let project = Project::new();
    std::fs::write(project.path("photos/mug/broken.jpg"), "no picture").expect("a disk");
    let first = project.json(&["site", "photos", "--out", "site", "--title", "A <shelf>"]);
    for (what, count) in
        [("classes", 3), ("pictures", 12), ("embedded", 12), ("known", 0), ("left_out", 1)]
    {
        assert_eq!(first[what], count, "{what}: {first}");
    }
    let verified = native(&["verify", "site"], project.0.path());
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));

    let dist = root().join("dist");
    let page = dist.to_str().expect("text");
    let arguments =
        ["site", "photos", "--out", "own", "--title", "A <shelf>", "--page", page, "--json"];
    let made = native(&arguments, project.0.path());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let own: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    for what in ["classes", "pictures", "left_out", "crop", "adapted", "advice"] {
        assert_eq!(own[what], first[what], "{what}");
    }
    assert_eq!(own["recall_at_1"].as_f64(), first["recall_at_1"].as_f64());
    let beside =
        |folder: &str, name: &str| std::fs::read(project.path(folder).join(name)).expect("a file");
    let [made, wanted] = ["site.report", "own.report"].map(|folder| beside(folder, "gallery.bin"));
    // Only a processor that rounds otherwise has another last digit.
    assert_alike("npm", &made, &wanted);
    if made == wanted {
        // Packed copies and the list of files among them, though several threads have made them.
        assert_eq!(project.digests("site"), project.digests("own"));
        let report = |folder| beside(folder, "index.html");
        assert!(report("site.report") == report("own.report"), "another report");
    }

    // A second time nothing is embedded, and then what is new alone.
    let before = project.digests("site");
    let again = project.json(&["site", "photos", "--out", "site", "--title", "A <shelf>"]);
    assert_eq!((&again["embedded"], &again["known"]), (&0.into(), &12.into()), "{again}");
    assert_eq!(project.digests("site"), before);
    project.put(2, 7, "photos/杯/7.jpg");
    std::fs::remove_file(project.path("photos/apple/0.jpg")).expect("a file");
    std::fs::write(project.path("site/index.html"), "edited").expect("a disk");
    std::fs::write(project.path("site/CNAME"), "example.org").expect("a disk");
    std::fs::write(project.path("facts.json"), r#"{"mug": {"price": "4"}}"#).expect("a disk");
    let options = ["--samples", "2", "--metadata", "facts.json"];
    let more = project.json(&[&["site", "photos", "--out", "site"][..], &options].concat());
    for (what, count) in [("embedded", 1), ("known", 11), ("removed", 1)] {
        assert_eq!(more[what], count, "{what}: {more}");
    }
    let text = |name: &str| std::fs::read_to_string(project.path(name)).expect("text");
    assert_eq!((&*text("site/index.html.edited"), &*text("site/CNAME")), ("edited", "example.org"));
    // The title stays until another one is given.
    assert!(text("site/index.html").contains("<title>A &lt;shelf"));
    assert!(text("site.report/index.html").contains("<html"));
    assert_eq!(text("site/samples.json"), r#"["samples/1.jpg","samples/2.jpg"]"#);
    let gallery = Gallery::from_bytes(&beside("site.report", "gallery.bin")).expect("a gallery");
    let mug = gallery.classes().iter().find(|class| class.label == "mug").expect("a class");
    assert_eq!(mug.metadata.get("price").map(String::as_str), Some("4"));
    assert!(native(&["verify", "site"], project.0.path()).status.success());
    // Nothing half lies about.
    let all = std::fs::read_dir(project.0.path()).expect("a folder").flatten();
    let names = all.map(|entry| entry.file_name().to_string_lossy().into_owned());
    assert!(!names.into_iter().any(|name| name.starts_with(".site")), "a draft stays");
}

/// Writes a zip file of files by Python; `stored` leaves them as they are.
fn zip(out: &Path, files: &[(&str, &[u8])], stored: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let code = "import sys, zipfile\nout, way, *pairs = sys.argv[1:]\n\
                with zipfile.ZipFile(out, 'w', int(way)) as z:\n  \
                for name, path in zip(pairs[::2], pairs[1::2]): z.write(path, name)";
    let mut python = Command::new("python3");
    python.args(["-c", code]).arg(out).arg(if stored { "0" } else { "8" });
    for (number, (name, bytes)) in files.iter().enumerate() {
        let path = folder.path().join(number.to_string());
        std::fs::write(&path, bytes).expect("a disk");
        python.arg(name).arg(path);
    }
    assert!(python.status().expect("python3 runs").success());
}

#[test]
fn the_packages_command_takes_zip_files_as_the_native_one_does() {
    let project = Project::new();
    let pictures: Vec<(String, Vec<u8>)> = ["apple", "mug", "杯"]
        .iter()
        .enumerate()
        .flat_map(|(class, name)| (0..3).map(move |number| (class as u32, name, number)))
        .map(|(class, name, number)| {
            let bytes = photograph(class, number).encode_jpeg(85).expect("a picture");
            (format!("my shelf/{name}/{number}.jpg"), bytes)
        })
        .collect();
    let mut files: Vec<(&str, &[u8])> =
        pictures.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    files.extend([
        ("my shelf/mug/notes.txt", &b"words"[..]),
        ("my shelf/mug/broken.jpg", b"no picture"),
        ("my shelf/mug/more/1.jpg", b"x"),
        ("my shelf/loose.jpg", b"x"),
        ("__MACOSX/my shelf/mug/._0.jpg", b"x"),
    ]);
    let dist = root().join("dist");
    let page = dist.to_str().expect("text");
    // What it is called counts as little as how it is packed.
    for (archive, stored) in [("shelf.zip", false), ("shelf.data", true)] {
        zip(&project.path(archive), &files, stored);
        let own = ["site", archive, "--out", "own", "--report", "never", "--page", page, "--json"];
        let output = native(&own, project.0.path());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let wanted: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let made = project.json(&["site", archive, "--out", "site", "--report", "never"]);
        for what in ["classes", "pictures", "left_out", "crop", "adapted"] {
            assert_eq!(made[what], wanted[what], "{archive}: {what}");
        }
        let gallery = |folder: &str| {
            std::fs::read(project.path(folder).join("gallery.bin")).expect("a gallery")
        };
        assert_alike(archive, &gallery("site.report"), &gallery("own.report"));
    }
    // A picture of the archive is offered, and one that is damaged says so of itself.
    let more = project.json(&["site", "shelf.zip", "--out", "site", "--samples", "2"]);
    assert_eq!((&more["known"], &more["embedded"]), (&9.into(), &0.into()), "{more}");
    assert!(project.path("site/samples/2.jpg").is_file());
    let pair = |name, bytes| [(name, bytes)];
    let bomb = vec![0; 17 << 20];
    for (name, entries, words) in [
        ("none.zip", pair("notes.txt", &b"words"[..]), "no picture lies in a sub-folder"),
        ("loose.zip", pair("1.jpg", b"x"), "a picture beside the classes' folders"),
        ("bomb.zip", pair("a/1.bmp", &bomb), "unpacks to many times its size"),
        ("out.zip", pair("a/../../1.jpg", b"x"), "its name leads out of the archive"),
    ] {
        zip(&project.path(name), &entries, false);
        let said = project.refusal(&["site", name, "--out", "other"]);
        assert!(said.contains(words), "{name}: {said}");
    }
    let whole = std::fs::read(project.path("shelf.zip")).expect("a file");
    std::fs::write(project.path("cut.zip"), &whole[..whole.len() - 30]).expect("a disk");
    let said = project.refusal(&["site", "cut.zip", "--out", "other"]);
    assert!(said.contains("this zip file cannot be read: "), "{said}");
    std::fs::write(project.path("list.txt"), "photos/mug/0.jpg 0").expect("a disk");
    let said = project.refusal(&["site", "list.txt", "--out", "other"]);
    assert!(said.contains("is a file; give a folder with one sub-folder per class"), "{said}");
    assert!(!project.path("other").exists());
}

#[test]
fn the_packages_command_says_what_is_wrong_before_it_looks_at_anything() {
    let project = Project::new();
    std::fs::create_dir_all(project.path("mine")).expect("a folder");
    std::fs::write(project.path("mine/thesis.txt"), "mine").expect("a disk");
    std::fs::create_dir_all(project.path("shelf.report")).expect("a folder");
    std::fs::write(project.path("shelf.report/index.html"), "mine").expect("a disk");
    for (arguments, words) in [
        (
            &["site", "photos", "--out", "mine"][..],
            "holds other files (thesis.txt); choose an empty folder",
        ),
        (&["site", "photos", "--out", "shelf"], "is not a report that magpie wrote"),
        (&["site", "photos", "--out", "photos/site"], "would lie among the pictures"),
        (&["site", "photos/apple", "--out", "site"], "holds pictures itself"),
        (&["site", "nowhere", "--out", "site"], "there is no such file or folder; check the path"),
        (&["site", "photos"], "--out DIR is missing"),
        (
            &["site", "photos", "--out", "site", "--crop", "half"],
            "--crop half: there is auto, never",
        ),
        (&["site", "photos", "--out", "site", "--threads", "0"], "an integer from 1 to 256"),
        (&["site", "photos", "--out", "site", "--crop", "main"], "give --detector, too"),
        (
            &["site", "photos", "--out", "site", "--extractor", "none.bin"],
            "none.bin: there is no such file",
        ),
        (&["site", "photos", "--ouch"], "Unknown option '--ouch'"),
        (&["publish"], "there is no command publish"),
    ] {
        let said = project.refusal(arguments);
        assert!(said.starts_with("error: ") && said.contains(words), "{arguments:?}: {said}");
    }
    let text = std::fs::read_to_string(project.path("mine/thesis.txt")).expect("text");
    assert_eq!(text, "mine");
    assert!(!project.path("site").exists());
    let help = project.run(&["--help"]);
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("--out DIR"));
}

#[test]
fn the_packages_command_serves_a_site_and_nothing_beside_it() {
    let world = tempfile::tempdir().expect("a folder");
    for (name, text) in [("site/index.html", "the page"), ("site/.git", "own"), ("secret", "own")] {
        let path = world.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a disk");
    }
    let mut server = Command::new("node")
        .current_dir(world.path())
        .arg(package().join("command.js"))
        .args(["serve", "site", "--port", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("node runs");
    let mut address = String::new();
    let printed = server.stdout.take().expect("a pipe");
    BufReader::new(printed).read_line(&mut address).expect("an address");
    let host = address.trim().trim_start_matches("http://").trim_end_matches('/').to_owned();
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(&host).expect("a server");
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let page = ask("/");
    assert!(page.starts_with("HTTP/1.1 200") && page.ends_with("the page"), "{page}");
    assert!(page.contains("Cross-Origin-Embedder-Policy: require-corp"), "{page}");
    for path in [
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/..%5csecret",
        "/.git",
        "/nothing",
        "/%zz",
    ] {
        let answer = ask(path);
        assert!(answer.starts_with("HTTP/1.1 404") && !answer.ends_with("own"), "{path}: {answer}");
    }
    server.kill().expect("it runs");
    let _ = server.wait();
}
