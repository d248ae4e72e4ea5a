//! The studio: photographs become classes, and classes a site, without anything but a browser.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{magpie, root, screenshots, script, site};

/// Plays a scenario; what the studio hands out goes into a folder.
fn seen(scenario: &str, out: &Path) -> Value {
    let (site, screenshots) = (site(), screenshots());
    let studio = root().join("dist/studio");
    assert!(
        studio.join("studio.js").is_file(),
        "no studio; run `cargo xtask page`, which builds it"
    );
    let arguments = [site.as_path(), &studio, &screenshots, out, Path::new(scenario)];
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
    let second = seen["second"].as_str().unwrap_or_default();
    assert!(second.contains("another tab"), "{second}");
    assert_eq!((&seen["overflow"], &seen["origins"]), (&json!(0), &json!(1)));
}

#[test]
fn photographs_are_dropped_on_the_page_and_on_a_class() {
    let seen = seen("dropped", Path::new(""));
    assert_eq!(seen["unsorted"], json!({ "Not sorted yet": photographs(&["disk", "square"]) }));
    assert_eq!(seen["classes"]["shape"], json!(["stripes.png"]));
    assert_eq!(seen["out"], json!(["disk.png: here already"]));
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
    for words in
        ["91.5 %", "disk taken for square: 1 of 4", "2.png is in disk and looks like stripes"]
    {
        assert!(figures.contains(words), "{figures}");
    }
    assert_eq!(seen["out"].as_array().map(Vec::len), Some(3), "{seen}");
    assert_eq!((&seen["found"], &seen["failed"]), (&json!("0.png"), &json!("failed")));
    let unpacked = unpack(&folder.path().join("answers.zip"), folder.path());
    assert_eq!(unpacked, ["bundle/of.txt", "index.html"]);
    let page = std::fs::read_to_string(folder.path().join("index.html")).expect("a page");
    assert_eq!(page, format!("<p>{}", "Shapes".repeat(99)));
    let files = std::fs::read_to_string(folder.path().join("bundle/of.txt")).expect("a file");
    assert_eq!(files, "true", "the engine was given the files of the page");
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
    let site = folder.path().join("site");
    let names = unpack(&folder.path().join("site.zip"), &site);
    assert!(
        names.iter().any(|name| name == "studio/index.html"),
        "the studio goes along: {names:?}"
    );
    let verified = Command::new(magpie()).arg("verify").arg(&site).output().expect("magpie runs");
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success(), "{said}{}", String::from_utf8_lossy(&verified.stderr));
    let gallery = folder.path().join("gallery.bin");
    let shown = Command::new(magpie()).args(["gallery", "stats"]).arg(&gallery).output();
    let shown = shown.expect("magpie runs");
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
}
