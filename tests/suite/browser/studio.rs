//! The studio: photographs become classes, and classes a site, without anything but a browser.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{magpie, root, screenshots, script, site};

/// Plays a scenario; what the studio hands out goes into a folder.
fn seen(scenario: &str, out: &Path) -> Value {
    seen_at((&site(), &built()), scenario, out)
}

/// The studio of the built page.
fn built() -> PathBuf {
    let studio = root().join("dist/studio");
    assert!(
        studio.join("studio.js").is_file(),
        "no studio; run `cargo xtask page`, which builds it"
    );
    studio
}

/// The same at a site with a studio, or with its own.
fn seen_at((site, studio): (&Path, &Path), scenario: &str, out: &Path) -> Value {
    let screenshots = screenshots();
    let arguments = [site, studio, &screenshots, out, Path::new(scenario)];
    let seen = script("studio.mjs", &arguments)[scenario].clone();
    assert_eq!(seen["problems"], json!([]), "{scenario}");
    seen
}

fn photographs(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{name}.png")).collect()
}

#[test]
fn a_folder_becomes_classes_that_are_worked_on_and_kept() {
    let seen = seen("work", Path::new(""));
    let all = photographs(&["0", "1", "2", "3"]);
    assert_eq!(seen["came"]["status"], "12 photographs came in. 2 files are left out.");
    assert_eq!(seen["came"]["classes"], json!({ "disk": all, "square": all, "stripes": all }));
    let out = seen["out"].as_array().expect("names");
    assert!(out[0].as_str().is_some_and(|out| out.starts_with("notes.txt: no photograph")));
    assert!(out[1].as_str().is_some_and(|out| out.starts_with("disk/broken.png: damaged")));
    assert_eq!(seen["chosen"], json!(["0.png*", "1.png*", "2.png", "3.png"]));
    let moved = &seen["moved"];
    assert_eq!(moved["coin"], json!(["2.png", "3.png"]));
    assert_eq!(moved["square"].as_array().map(Vec::len), Some(6));
    assert_eq!(seen["focus"], "1.png", "the focus goes with what is moved");
    assert_eq!(seen["undone"]["coin"].as_array().map(Vec::len), Some(4));
    let counts =
        ["bars", "square", "stripes"].map(|class| seen["merged"][class].as_array().map(Vec::len));
    assert_eq!(counts, [Some(3), Some(6), Some(3)]);
    assert_eq!(seen["removed"], json!([]));
    assert_eq!((&seen["same"], &seen["title"]), (&json!(true), &json!("Shapes")));
    assert_eq!(seen["told"], json!(["price", "9 €", "", ""]));
    let row = "nobody: the table has a row for it, and there is no such class";
    assert_eq!(seen["rows"], json!([row]));
    let second = seen["second"].as_str().unwrap_or_default();
    assert!(second.contains("another tab"), "{second}");
    assert_eq!((&seen["overflow"], &seen["origins"]), (&json!(0), &json!(1)));
}

#[test]
fn photographs_are_dropped_on_the_page_and_on_a_class() {
    let seen = seen("dropped", Path::new(""));
    assert_eq!(seen["unsorted"], json!({ "Not sorted yet": photographs(&["disk", "square"]) }));
    assert_eq!(seen["classes"]["shape"], json!(["stripes.png"]));
    assert_eq!(seen["out"], json!(["disk.png: here already, not sorted yet"]));
    assert_eq!(seen["offer"], "1 photograph is here already in another class than shape.");
    assert_eq!(seen["moved"]["shape"], json!(["disk.png", "stripes.png"]));
    assert_eq!(seen["shown"], true, "a double breaks a picture");
    assert_eq!(seen["after"], json!({}), "nothing is left after starting over");
}

#[test]
fn the_studio_fits_a_phone() {
    let seen = seen("small", Path::new(""));
    assert_eq!(seen["classes"], json!({ "形状": ["disk.png*", "square.png*"] }));
    assert_eq!(seen["overflow"], 0);
}

/// With an engine that answers as the test says.
#[test]
fn answers_and_failures_of_the_engine_are_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let seen = seen("engine", folder.path());
    let figures = seen["figures"].as_str().unwrap_or_default();
    for words in [
        "91.5 %",
        "disk taken for square: 1 of 4",
        "2.png is in disk and looks like stripes",
        "87.5 % are recognized with it, 62.5 % without. It is on",
        "2.png in square",
        "stripes has 3 photographs",
        "What the threshold does",
    ] {
        assert!(figures.contains(words), "{figures}");
    }
    let tried = seen["tried"].as_str().unwrap_or_default();
    assert!(tried.contains("square: 91 % similar, 88 % sure"), "{tried}");
    assert_eq!(seen["asked"], 96, "the picture is shown beside its answer");
    assert_eq!(seen["written"], json!(["<p>Shapes", "true"]));
    assert_eq!(seen["out"].as_array().map(Vec::len), Some(3), "{seen}");
    assert_eq!((&seen["found"], &seen["failed"]), (&json!("0.png"), &json!("failed")));
    let unpacked = unpack(&folder.path().join("answers.zip"), folder.path());
    assert_eq!(unpacked, ["bundle/of.txt", "index.html"]);
    let page = std::fs::read_to_string(folder.path().join("index.html")).expect("a page");
    assert_eq!(page, format!("<p>{}", "Shapes".repeat(99)));
    let files = std::fs::read_to_string(folder.path().join("bundle/of.txt")).expect("a file");
    assert_eq!(files, "true", "the engine was given the files of the page");
}

#[test]
fn a_page_that_is_loaded_again_at_once_has_what_was_written_last() {
    let seen = seen("hasty", Path::new(""));
    assert_eq!(seen["renamed"], json!(["coin", "square", "stripes"]));
    assert_eq!(seen["written"], json!(["coin", "tile", "stripes"]));
    assert_eq!(seen["again"], seen["written"]);
    let doubles = seen["doubles"].as_str().unwrap_or_default();
    assert!(doubles.starts_with("0 photographs came in. 8 files"), "{doubles}");
    assert_eq!(seen["shown"], true, "a double breaks a picture");
}

#[test]
fn archives_are_unpacked_and_damaged_files_in_them_named() {
    let seen = seen("archives", Path::new(""));
    let wanted = json!({ "disk": ["1.png"], "stripes": ["1.png", "2.png"], "tüte": ["1.png"] });
    assert_eq!(seen["classes"], wanted);
    let out = seen["out"][0].as_str().unwrap_or_default();
    assert!(out.starts_with("1.png: damaged") || out.starts_with("tin/1.png: damaged"), "{seen}");
    assert_eq!(seen["status"], "There is no photograph among these files.");
}

#[test]
fn a_camera_gives_photographs_that_differ_while_a_button_is_held() {
    let seen = seen("camera", Path::new(""));
    let moving = seen["moving"].as_u64().unwrap_or(0);
    assert!((3..=60).contains(&moving), "{seen}");
    assert_eq!(seen["still"], 1, "a camera that stands still gives one");
    let said = seen["said"].as_str().unwrap_or_default();
    assert!(said.contains("taken"), "{said}");
    assert_eq!(seen["off"], true);
}

#[test]
fn a_part_of_a_photograph_and_several_projects_are_kept() {
    let seen = seen("parts", Path::new(""));
    // The photograph is shown in 96 pixels, and a pointer is on one of them.
    let near = |edges: &Value, wanted: [i64; 4]| {
        let edges: Vec<i64> = serde_json::from_value(edges.clone()).expect("percents");
        let is_near = edges.iter().zip(wanted).all(|(edge, wanted)| (edge - wanted).abs() < 2);
        assert!(edges.len() == 4 && is_near, "{seen}");
    };
    near(&seen["drawn"], [20, 10, 70, 90]);
    assert_eq!(seen["named"], "0.png, a part of it");
    near(&seen["kept"], [30, 10, 70, 90]);
    assert_eq!((&seen["parts"], &seen["empty"]), (&json!(0), &json!({})));
    assert_eq!(seen["projects"], json!(["Shapes", "Project 2"]));
    assert_eq!(seen["back"], json!(["disk", "square", "stripes"]));
    assert_eq!(seen["left"], json!(["Shapes"]));
}

#[test]
fn axe_finds_nothing_serious() {
    let seen = seen("axe", Path::new(""));
    let wanted = json!({ "problems": [], "overflow en": 0, "overflow zh": 0 });
    assert_eq!(seen, wanted);
}

/// Unpacks an archive with Python's reader, which checks every file; the names in it.
fn unpack(archive: &Path, to: &Path) -> Vec<String> {
    let code = "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1])\nassert z.testzip() is None\n\
                z.extractall(sys.argv[2])\nprint('\\n'.join(sorted(z.namelist())))";
    let python = Command::new("python3").args(["-c", code]).arg(archive).arg(to).output();
    let output = python.expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn the_site_of_the_studio_passes_verify() {
    let folder = tempfile::tempdir().expect("a folder");
    let seen = seen("site", folder.path());
    let measured = seen["measured"].as_str().unwrap_or_default();
    assert!(measured.starts_with("Measured"), "{seen}");
    // One of them is AVIF: the browser decodes it for the engine.
    assert_eq!((&seen["disks"], &seen["unusable"]), (&json!(6), &json!([])));
    let site = folder.path().join("site");
    let names = unpack(&folder.path().join("site.zip"), &site);
    assert!(
        names.iter().any(|name| name == "studio/index.html"),
        "the studio goes along: {names:?}"
    );
    let verified = Command::new(magpie()).arg("verify").arg(&site).output().expect("magpie runs");
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success(), "{said}{}", String::from_utf8_lossy(&verified.stderr));
    let tried = seen["tried"].as_str().unwrap_or_default();
    assert!(tried.contains("stripes"), "{tried}");
    let gallery = folder.path().join("gallery.bin");
    let bytes = std::fs::read(&gallery).expect("a gallery");
    for (from, again) in [("gallery.bin", "again.bin"), ("site.zip", "once-more.bin")] {
        assert_eq!(seen[from], seen["before"], "classes of {from}");
        let again = std::fs::read(folder.path().join(again)).expect("a gallery");
        assert!(again == bytes, "{from}: another gallery");
    }
    let shown = Command::new(magpie()).args(["gallery", "stats"]).arg(&gallery).output();
    let shown = shown.expect("magpie runs");
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
}

#[test]
fn a_studio_of_its_own_makes_sites_without_a_network() {
    built();
    let folder = tempfile::tempdir().expect("a folder");
    let (studio, page) = (folder.path().join("studio"), root().join("dist"));
    let run = |arguments: &[&std::ffi::OsStr]| {
        let output = Command::new(magpie()).args(arguments).output().expect("magpie runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let [studio_command, out, page_option] = ["studio", "--out", "--page"].map(AsRef::as_ref);
    run(&[studio_command, out, studio.as_ref(), page_option, page.as_ref()]);
    run(&["verify".as_ref(), studio.as_ref()]);
    let seen = seen_at((&studio, Path::new("")), "alone", folder.path());
    for state in ["begun", "offline"] {
        let said = seen[state].as_str().unwrap_or_default();
        assert!(said.starts_with("Add photographs to begin"), "{state}: {said}");
    }
    assert_eq!((&seen["address"], &seen["origins"]), (&json!("/studio/"), &json!(1)));
    let site = folder.path().join("site");
    let names = unpack(&folder.path().join("site.zip"), &site);
    assert!(!names.iter().any(|name| name == "page.html"), "a site has no door: {names:?}");
    let first = std::fs::read_to_string(site.join("index.html")).expect("a page");
    assert!(first.contains("<h1 id=\"title\">Shapes</h1>"), "{first}");
    run(&["verify".as_ref(), site.as_ref()]);
}
