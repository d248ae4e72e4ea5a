//! The package in other people's pages.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Server, copy_folder, native, root, screenshots, script, site};

pub(super) fn package() -> PathBuf {
    std::env::var_os("MAGPIE_PACKAGE").map_or_else(|| root().join("target/package"), PathBuf::from)
}

/// Builds an example by a script of its `package.json`.
#[track_caller]
fn build(example: &str, script: &str) {
    let folder = root().join("www/examples").join(example);
    assert!(
        folder.join("node_modules").is_dir(),
        "{}: run `npm ci` there; `cargo xtask test` does",
        folder.display()
    );
    let mut npm = Command::new("npm");
    npm.args(["run", script]).current_dir(&folder);
    // Nothing is told to anybody.
    let output =
        npm.env("NEXT_TELEMETRY_DISABLED", "1").env("ASTRO_TELEMETRY_DISABLED", "1").output();
    let output = output.expect("npm runs");
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(output.status.success(), "{example}: {}", said.concat());
}

/// Opens examples; each names what is in a picture and asks nobody else, and bundlers have copied no engine twice.
fn open_examples(names: &[&str]) -> Value {
    let (site, examples) = (site(), root().join("www/examples"));
    let picture = site.join("samples/1.jpg");
    let all = PathBuf::from(names.join(","));
    let arguments = [&examples, &package(), &site, &picture, &screenshots(), &all];
    let seen = script("examples.mjs", &arguments.map(PathBuf::as_path));
    let (found, labels) = native(&site, &picture);
    for name in names {
        let example = &seen[name];
        assert_eq!(example["problems"], serde_json::json!([]), "{name}");
        assert_eq!(example["origins"].as_array().map(Vec::len), Some(1), "{name}: {example}");
        if let Some(engines) = example.get("engines") {
            assert_eq!(engines, &serde_json::json!({ "files": 3, "different": 3 }), "{name}");
        }
        let Some(lines) = example["lines"].as_array() else { continue };
        assert_eq!(lines.len(), found.len(), "{name}: {lines:?}");
        for ((line, label), found) in lines.iter().zip(&labels).zip(&found) {
            let line = line.as_str().expect("text");
            assert_eq!(line.starts_with(label), found.known, "{name}: {line}");
        }
    }
    seen
}

#[test]
fn the_examples_name_what_is_in_a_picture() {
    build("vite-react", "build");
    build("webpack", "build");
    let seen = open_examples(&["plain", "element", "classic", "vite", "webpack"]);
    assert_eq!(seen["classic"]["told"], "MagpieError", "{}", seen["classic"]);
    let classes = seen["webpack"]["told"].as_str().and_then(|text| text.parse::<usize>().ok());
    assert!(classes > Some(1), "{}", seen["webpack"]);
}

/// Not among the tests of every run: the three builds take minutes on two cores. `cargo xtask test --bundlers`.
#[test]
#[ignore = "builds for minutes"]
fn next_and_astro_find_the_engine_by_themselves() {
    build("astro", "build");
    build("next", "build");
    open_examples(&["astro", "next"]);
    build("next", "build:webpack");
    open_examples(&["next"]);
}

#[test]
fn the_element_has_many_looks_a_camera_and_is_taught() {
    let seen = &open_examples(&["looks"])["looks"];
    assert_eq!(seen["shared"], 1, "one engine: {seen}");
    let of = |id: &str, what: &str| seen["each"][id][what].as_u64().unwrap_or_default();
    assert!(of("plain", "lines") > 0 && of("plain", "others") == 0, "{seen}");
    // Runners-up have pictures as well.
    assert!(of("more", "others") >= 2, "{seen}");
    assert!(of("more", "pictures") > of("plain", "pictures"), "{seen}");
    assert_eq!(of("words", "lines"), 0, "{seen}");
    assert_eq!(of("names", "pictures"), 0, "a part that is not shown: {seen}");
    for (id, shown) in [("plain", false), ("words", false), ("camera", true), ("dark", true)] {
        for control in ["camera", "teach"] {
            assert_eq!(seen["each"][id][control], shown, "{id}: {control}: {seen}");
        }
    }
    assert_eq!(seen["each"]["dark"]["border"], "rgb(245, 158, 11)", "{seen}");
    let used = &seen["used"];
    assert_eq!(used["label"], "my own thing", "{used}");
    assert_eq!(
        used["classes"].as_u64(),
        used["before"].as_u64().map(|before| before + 1),
        "{used}"
    );
    assert!(used["again"].as_u64() > Some(0) && used["width"].as_u64() > Some(0), "{used}");
    assert_eq!(used["filming"], serde_json::json!({ "pressed": "true", "video": true }), "{used}");
    let stopped = serde_json::json!({ "pressed": "false", "figure": true, "stream": null });
    assert_eq!((&used["stopped"], &used["untaught"]), (&stopped, &"argument".into()), "{used}");
}

#[test]
fn servers_import_what_they_render() {
    let package = package();
    let import =
        "import(process.argv[1]).then((module) => console.log(Object.keys(module).length > 0))";
    for module in ["magpie.js", "element.js", "choice.js", "pixels.js"] {
        let output = Command::new("node")
            .args(["--input-type=module", "--eval", import])
            .arg(package.join(module))
            .output()
            .expect("node runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.trim(), "true", "{module}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_package_works_in_node() {
    let site = site();
    let picture = site.join("samples/1.jpg");
    // A project that has installed it.
    let project = tempfile::tempdir().expect("a folder");
    let packages = project.path().join("node_modules/magpie-recognizer");
    std::fs::create_dir_all(&packages).expect("a folder");
    copy_folder(&package(), &packages);
    let example = root().join("www/examples/node/recognize.mjs");
    std::fs::copy(example, project.path().join("recognize.mjs")).expect("a copy");
    let run = |bundle: &Path| {
        let mut command = Command::new("node");
        command.current_dir(project.path()).arg("recognize.mjs").arg(bundle).arg(&picture);
        command.output().expect("node runs")
    };
    let (found, labels) = native(&site, &picture);
    let server = Server::start(&site);
    let address = format!("{}bundle/", server.address);
    for bundle in [site.join("bundle").as_path(), Path::new(&address)] {
        let output = run(bundle);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), found.len(), "{said}");
        for ((line, label), found) in lines.iter().zip(&labels).zip(&found) {
            let bbox = found.bbox;
            let sides = [bbox.x1, bbox.y1, bbox.x2 - bbox.x1, bbox.y2 - bbox.y1];
            let place = sides.map(|side| side.round().to_string()).join(" ");
            let label = if found.known { label } else { "unknown" };
            let similarity = found.matches.first().map_or(0.0, |best| best.similarity);
            assert!(line.ends_with(&format!("{place} {label} {similarity:.3}")), "{line}");
        }
    }
    // What is no bundle is told as such, and the program ends.
    let output = run(project.path());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("code: 'fetch'"), "{said}");
}

#[test]
fn the_package_works_in_other_pages() {
    let site = site();
    let package = package();
    let picture = site.join("samples/1.jpg");
    let output = Command::new("node")
        .current_dir(root().join("tests/browser"))
        .arg("package.mjs")
        .args([&package, &site, &picture])
        .env("SCREENSHOT", root().join("target/screenshots/package-element.png"))
        .output()
        .expect("node runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_str(text.trim()).expect("JSON from the browser");
    let (found, labels) = native(&site, &picture);
    for page in ["plain", "isolated", "policy"] {
        let result = &seen[page];
        assert_eq!(result["isolated"], page == "isolated", "{page}");
        assert_eq!(result["problems"], serde_json::json!([]), "{page}");
        assert_eq!(result["origins"].as_array().map(Vec::len), Some(1), "{page}: {result}");
        assert_eq!(result["backend"], "cpu");
        assert_eq!(result["progress"]["loaded"], result["progress"]["total"], "{page}");
        // As the native pipeline, in every form that a picture has.
        assert_eq!(result["first"], serde_json::json!(labels), "{page}");
        for (object, native) in result["objects"].as_array().expect("a list").iter().zip(&found) {
            let embedding = object["embedding"].as_array().expect("numbers");
            let cosine: f64 = embedding
                .iter()
                .zip(&native.embedding)
                .map(|(a, b)| a.as_f64().unwrap_or_default() * f64::from(*b))
                .sum();
            assert!(cosine >= 0.9999, "{page}: cosine {cosine}");
            let left = object["box"]["x"].as_f64().expect("a number");
            assert!((left - f64::from(native.bbox.x1)).abs() <= 1.0, "{page}: {object}");
            assert!(object["thumbnail"].as_u64() > Some(0), "{page}: a thumbnail");
        }
        for (form, answers) in result["others"].as_object().expect("forms") {
            assert_eq!(answers, &result["first"], "{page}: {form}");
        }
        // What was taken back ends first; the rest keeps its order.
        assert_eq!(result["order"], serde_json::json!(["AbortError", 0, 2]), "{page}");
        assert_eq!(result["detected"].as_u64(), Some(found.len() as u64), "{page}");
        assert!((result["length"].as_f64().expect("a number") - 1.0).abs() < 1e-4, "{page}");
        assert_eq!(result["answers"], serde_json::json!([2, 9]), "{page}");
        let gallery = &result["gallery"];
        let classes = |what: &str| gallery[what].as_u64().expect("a number");
        assert_eq!(classes("added"), classes("before") + 1, "{page}: {gallery}");
        assert_eq!(gallery["found"], "my own thing", "{page}");
        assert_eq!(gallery["listed"], serde_json::json!(["renamed"]), "{page}");
        assert_eq!(classes("removed"), classes("before"), "{page}");
        assert_eq!(classes("undone"), classes("added"), "{page}");
        assert_eq!(classes("imported"), classes("added"), "{page}");
        let expected = serde_json::json!({
            "text": "picture", "unknown": "picture", "nothing": "argument", "missing": "fetch",
            "backend": "argument", "assets": "device", "aborted": "AbortError", "class": "gallery",
            "embedding": "gallery", "running": "disposed", "disposed": "disposed",
        });
        assert_eq!(result["failures"], expected, "{page}");
    }
    let stopped = &seen["stopped"];
    // The one that was being answered is lost; the others are answered by the next engine.
    let (first, mine) = (&stopped["first"], &stopped["kept"]);
    assert_eq!(stopped["once"], serde_json::json!(["stopped", first, first]), "{stopped}");
    assert_eq!(first, &serde_json::json!(labels), "{stopped}");
    assert_eq!(mine["taught"], 1, "{stopped}");
    assert!((mine["tuned"].as_f64().expect("a number") - 0.123).abs() < 1e-6, "{stopped}");
    assert_eq!(mine["backend"], "cpu");
    assert_eq!(stopped["never"], serde_json::json!(["stopped", "device", "device"]), "{stopped}");
    assert_eq!(stopped["after"], "device", "{stopped}");
    let element = &seen["element"];
    assert_eq!(element["problems"], serde_json::json!([]), "{element}");
    let events = serde_json::json!(["progress", "ready", "recognized"]);
    assert_eq!(element["events"], events, "{element}");
    assert_eq!(element["boxes"].as_array().map(Vec::len), Some(found.len()), "{element}");
    assert_eq!(element["answers"].as_array().map(Vec::len), Some(found.len()), "{element}");
}
