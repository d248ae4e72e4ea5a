//! The published page in a real browser, on both engines, beside the native pipeline.
//!
//! `MAGPIE_SITE` names the published demo; `cargo xtask test` publishes it first. Screenshots are
//! left in `target/screenshots` for people to look at.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use burn::tensor::Device;
use models::bundle::{Bundle, MANIFEST_NAME, Manifest};
use models::gallery::Gallery;
use models::image::RgbImage;
use models::recognizer::Recognition;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a parent").to_owned()
}

fn site() -> PathBuf {
    let site = std::env::var_os("MAGPIE_SITE")
        .map_or_else(|| root().join(".magpie/demo/site"), PathBuf::from);
    assert!(
        site.join("bundle").join(MANIFEST_NAME).is_file(),
        "{}: no published demo; run `cargo xtask test`, which publishes it first",
        site.display()
    );
    site
}

/// A static server that ends with the test.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(site: &Path) -> Self {
        let executable = std::env::current_exe().expect("a test program");
        let magpie = executable.ancestors().nth(2).expect("target/debug").join("magpie");
        let mut child = Command::new(&magpie)
            .arg("serve")
            .arg(site)
            .args(["--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", magpie.display()));
        let mut address = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut address)
            .expect("the server prints its address");
        Self { child, address: address.trim().to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs scenarios of `page.mjs` and returns what each saw; `{server}` in one is the server's process.
fn browse(site: &Path, scenarios: &[String]) -> Vec<Value> {
    let server = Server::start(site);
    let screenshots = root().join("target/screenshots");
    std::fs::create_dir_all(&screenshots).expect("a folder");
    let output = Command::new("node")
        .current_dir(root().join("tests/browser"))
        .arg("page.mjs")
        .arg(&server.address)
        .arg(&screenshots)
        .args(scenarios.iter().map(|s| s.replace("{server}", &server.child.id().to_string())))
        .output()
        .expect("node runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let results: Value = serde_json::from_str(text.trim()).expect("JSON from the browser");
    results.as_array().expect("a list").clone()
}

/// Nothing on the console, nothing from elsewhere, nothing wider than a phone.
fn assert_clean(result: &Value, expected_problems: usize) {
    let scenario = &result["scenario"];
    assert!(result["failure"].is_null(), "{scenario}: {result}");
    let problems = result["problems"].as_array().expect("a list");
    assert!(problems.len() <= expected_problems, "{scenario} console: {problems:?}");
    let origins = result["origins"].as_array().expect("a list");
    assert_eq!(origins.len(), 1, "{scenario} asked {origins:?}");
    assert_eq!(result["overflow"], 0, "{scenario} is wider than a phone");
}

fn native(site: &Path, picture: &Path) -> (Vec<Recognition>, Vec<String>) {
    let folder = site.join("bundle");
    let read = |name: &str| std::fs::read(folder.join(name)).ok();
    let manifest = Manifest::from_bytes(&read(MANIFEST_NAME).expect("a manifest")).expect("valid");
    let recognizer = Bundle::open(&manifest, read, &Device::flex()).expect("a bundle");
    let bytes = std::fs::read(picture).expect("a picture");
    let image = RgbImage::decode(&bytes).expect("decodes");
    let (found, _) = pollster::block_on(recognizer.recognize(&image, || 0.0)).expect("recognises");
    let label = |r: &Recognition| {
        r.matches
            .first()
            .map_or(String::new(), |m| recognizer.gallery().classes()[m.class].label.clone())
    };
    let labels = found.iter().map(label).collect();
    (found, labels)
}

/// The page's answer equals the native one: boxes within a pixel, embeddings within rounding, the
/// same first class.
fn assert_parity(result: &Value, site: &Path, picture: &Path) {
    let scenario = &result["scenario"];
    let (expected, labels) = native(site, picture);
    let objects = result["answer"]["objects"].as_array().unwrap_or_else(|| panic!("{result}"));
    assert!(!objects.is_empty(), "{scenario}: nothing found");
    assert_eq!(objects.len(), expected.len(), "{scenario}: number of objects");
    for ((object, native), label) in objects.iter().zip(&expected).zip(&labels) {
        let floats = |value: &Value| -> Vec<f64> {
            value.as_array().expect("numbers").iter().filter_map(Value::as_f64).collect()
        };
        let page_box = floats(&object["bbox"]);
        let native_box = [native.bbox.x1, native.bbox.y1, native.bbox.x2, native.bbox.y2];
        for (page, native) in page_box.iter().zip(native_box) {
            assert!((page - f64::from(native)).abs() <= 1.0, "{scenario}: {page_box:?}");
        }
        let cosine: f64 = floats(&object["embedding"])
            .iter()
            .zip(&native.embedding)
            .map(|(a, b)| a * f64::from(*b))
            .sum();
        assert!(cosine >= 0.9999, "{scenario}: cosine {cosine}");
        assert_eq!(object["answers"][0]["label"].as_str(), Some(label.as_str()), "{scenario}");
        assert!(object["answers"][0]["thumbnail"].as_u64() > Some(0), "{scenario}: a thumbnail");
    }
    assert_eq!(result["boxes"].as_u64(), Some(objects.len() as u64), "{scenario}");
    assert_eq!(result["cards"].as_u64(), Some(objects.len() as u64), "{scenario}");
}

#[test]
fn the_page_recognises_a_sample_on_both_engines_like_the_native_pipeline() {
    let site = site();
    let picture = site.join("samples/1.jpg");
    let scenario = |backend| format!("recognise:{backend}:{}", picture.display());
    let plain = format!("plain:cpu:{}", picture.display());
    let results = browse(&site, &[scenario("cpu"), scenario("webgpu"), plain]);
    let modules = ["/worker-relaxed_bg.wasm", "/worker-webgpu_bg.wasm", "/worker-cpu_bg.wasm"];
    for (result, module) in results.iter().zip(modules) {
        // One engine is downloaded, and it is the right one.
        let loaded = result["modules"].as_array().expect("a list");
        let engines = loaded.iter().filter(|path| path.as_str().unwrap_or("").contains("worker"));
        assert_eq!(engines.collect::<Vec<_>>(), [module], "{loaded:?}");
        println!("{} {}", result["scenario"], result["timings"]);
        assert_clean(result, 0);
        assert_parity(result, &site, &picture);
        assert_eq!(result["state"], "done");
        assert_eq!(result["samples"], 4);
    }
    // A missing adapter must be loud: the WebGPU engine cannot have been tested without one.
    assert!(!results[1]["adapter"].is_null(), "the test browser has no WebGPU adapter");
    let timings = results[1]["timings"].as_str().expect("a line");
    assert!(timings.contains("WebGPU"), "{timings}");
    assert!(results[0]["timings"].as_str().expect("a line").contains("CPU"));
}

/// What a visitor downloads before the weights, after gzip's best: bytes by file of the engine.
#[test]
fn engines_stay_within_their_size() {
    let dist = root().join("dist");
    for (module, budget) in [
        ("worker-cpu_bg.wasm", 640_000),
        ("worker-relaxed_bg.wasm", 640_000),
        ("worker-webgpu_bg.wasm", 3_900_000),
    ] {
        let output = Command::new("gzip")
            .args(["-9", "--stdout"])
            .arg(dist.join(module))
            .output()
            .expect("gzip runs");
        assert!(output.status.success(), "{module}");
        println!("{module}: {} bytes packed", output.stdout.len());
        assert!(output.stdout.len() < budget, "{module} packs to {} bytes", output.stdout.len());
    }
}

#[test]
fn the_package_works_in_other_pages() {
    let site = site();
    let package = std::env::var_os("MAGPIE_PACKAGE")
        .map_or_else(|| root().join("target/package"), PathBuf::from);
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
    let element = &seen["element"];
    assert_eq!(element["problems"], serde_json::json!([]), "{element}");
    let events = serde_json::json!(["progress", "ready", "recognized"]);
    assert_eq!(element["events"], events, "{element}");
    assert_eq!(element["boxes"].as_array().map(Vec::len), Some(found.len()), "{element}");
    assert_eq!(element["answers"].as_array().map(Vec::len), Some(found.len()), "{element}");
}

#[test]
fn a_visitor_teaches_the_page_and_takes_the_gallery_away() {
    let site = site();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("taught.bin");
    let picture = site.join("samples/1.jpg");
    let scenario = format!("teach:cpu:{}:{}", picture.display(), file.display());
    let result = &browse(&site, &[scenario])[0];
    assert_clean(result, 0);
    let seen = |what: &str| {
        let all = result["seen"].as_array().expect("a list");
        all.iter().find(|step| step["what"] == what).unwrap_or_else(|| panic!("{what}: {result}"))
    };
    let size = |what: &str| -> Vec<usize> {
        let text = seen(what)["size"].as_str().expect("a sentence");
        text.split(' ').filter_map(|word| word.parse().ok()).collect()
    };
    let published = size("recognised");
    let grown: Vec<usize> = published.iter().map(|count| count + 1).collect();
    assert_eq!(seen("recognised")["undo"], false);
    // Spaces around a name go; what looks like markup is text.
    let name = "My <b>thing</b>";
    for what in ["taught", "came back"] {
        assert_eq!(seen(what)["first"], name, "{what}: {}", seen(what));
        assert_eq!(size(what), grown, "{what}");
    }
    assert!(seen("searched")["kept"].as_str().expect("text").contains("stay in this browser"));
    assert_eq!(seen("searched")["classes"], serde_json::json!([name]));
    assert_eq!(seen("renamed")["first"], "Our thing");
    assert_eq!(size("removed"), published);
    assert_ne!(seen("removed")["first"], "Our thing");
    assert_eq!(size("undone"), grown);
    assert_eq!(seen("undone")["first"], "Our thing");
    assert_eq!(size("reset"), published);
    assert_eq!(seen("reset")["reset"], false);
    assert_eq!(size("imported"), grown);
    assert_eq!(seen("imported")["first"], "Our thing");
    assert!(seen("refused")["status"].as_str().expect("text").contains("not a gallery file"));
    assert_eq!(size("refused"), grown);

    // What was saved is a gallery like any other, and goes back into the published one.
    let manifest = std::fs::read(site.join("bundle").join(MANIFEST_NAME)).expect("a manifest");
    let manifest = Manifest::from_bytes(&manifest).expect("valid");
    let open = |path: &Path| {
        Gallery::from_bytes(&std::fs::read(path).expect("a file")).expect("a gallery")
    };
    let taught = open(&file);
    assert_eq!([taught.classes().len(), taught.len()], grown[..]);
    let new = taught.class_by_label("Our thing").expect("the new class");
    assert!(taught.thumbnail(new).starts_with(&[0xff, 0xd8]), "a JPEG");
    let mut shipped = open(&site.join("bundle").join(&manifest.gallery));
    let merged = shipped.merge(&taught).expect("of one model");
    assert_eq!((merged.new_classes, merged.added), (1, 1));
}

#[test]
fn after_the_first_visit_the_page_needs_no_network() {
    let site = site();
    let picture = site.join("samples/1.jpg");
    let result = &browse(&site, &[format!("offline:cpu:{}:{{server}}", picture.display())])[0];
    // The page looks for a newer gallery and does not find the network; that is all.
    assert!(result["failure"].is_null(), "{result}");
    assert_eq!(result["state"], "done", "{result}");
    let (_, labels) = native(&site, &picture);
    let headings = result["headings"].as_array().expect("a list");
    assert_eq!(headings.len(), labels.len(), "{result}");
    assert_eq!(result["caches"].as_array().map(Vec::len), Some(1), "{result}");
    assert_eq!(result["away"], true, "the network was really away");
    let worker = std::fs::read_to_string(site.join("sw.js")).expect("the service worker");
    assert!(!worker.contains("unpublished"), "its version is that of the site");
}

#[test]
fn an_open_page_takes_a_newly_published_gallery() {
    let copy = tempfile::tempdir().expect("a folder");
    copy_folder(&site(), copy.path());
    let bundle = copy.path().join("bundle");
    let path = bundle.join(MANIFEST_NAME);
    let text = std::fs::read_to_string(&path).expect("a manifest");
    let manifest = Manifest::from_bytes(text.as_bytes()).expect("valid");
    let mut gallery =
        Gallery::from_bytes(&std::fs::read(bundle.join(&manifest.gallery)).expect("a file"))
            .expect("a gallery");
    let classes = gallery.classes().len();
    gallery.remove_class(0).expect("the first class");
    // The scenario puts the new manifest in place while the page is open.
    let bytes = gallery.to_bytes();
    std::fs::write(bundle.join("gallery-newer.bin"), &bytes).expect("written");
    let mut newer: Value = serde_json::from_str(&text).expect("JSON");
    newer["gallery"] = "gallery-newer.bin".into();
    for file in newer["files"].as_array_mut().expect("a list") {
        if file["name"] == manifest.gallery.as_str() {
            *file = serde_json::json!({
                "name": "gallery-newer.bin",
                "bytes": bytes.len(),
                "sha256": models::model_file::sha256_hex(&bytes),
            });
        }
    }
    let waiting = copy.path().join("newer.json");
    std::fs::write(&waiting, newer.to_string()).expect("written");
    let scenario = format!("publish:cpu:{}:{}", waiting.display(), path.display());
    let result = &browse(copy.path(), &[scenario])[0];
    assert_clean(result, 0);
    let size = result["size"].as_str().expect("a sentence");
    assert!(size.starts_with(&format!("{} classes", classes - 1)), "{size}");
    assert!(result["status"].as_str().expect("a sentence").contains("newer gallery"), "{result}");
}

#[test]
fn damaged_files_each_have_their_own_message() {
    let site = site();
    let manifest = std::fs::read(site.join("bundle").join(MANIFEST_NAME)).expect("a manifest");
    let manifest = Manifest::from_bytes(&manifest).expect("valid");
    let messages: Vec<String> = ["truncated", "corrupted", "missing", "future"]
        .iter()
        .map(|damage| {
            let copy = tempfile::tempdir().expect("a folder");
            copy_folder(&site, copy.path());
            let victim = copy.path().join("bundle").join(&manifest.extractor.file);
            let mut bytes = std::fs::read(&victim).expect("the extractor");
            match *damage {
                "truncated" => bytes.truncate(bytes.len() - 100),
                "corrupted" => *bytes.last_mut().expect("bytes") ^= 1,
                "missing" => std::fs::remove_file(&victim).expect("removed"),
                _ => {
                    let path = copy.path().join("bundle").join(MANIFEST_NAME);
                    let text = std::fs::read_to_string(&path).expect("a manifest");
                    std::fs::write(path, text.replacen("\"format\": 1", "\"format\": 99", 1))
                        .expect("written");
                }
            }
            if *damage != "missing" {
                std::fs::write(&victim, bytes).expect("written");
            }
            let result = &browse(copy.path(), &["open:cpu:".to_owned()])[0];
            // The browser itself reports a file that is not there.
            assert_clean(result, usize::from(*damage == "missing"));
            assert_eq!(result["state"], "failed", "{damage}: {result}");
            result["status"].as_str().expect("a sentence").to_owned()
        })
        .collect();
    for (message, word) in messages.iter().zip(["incomplete", "damaged", "404", "older"]) {
        assert!(message.contains(word), "{word} is not in {message}");
    }
}

#[test]
fn a_file_that_is_no_picture_is_refused_in_words() {
    let site = site();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("notes.jpg");
    std::fs::write(&file, "no picture at all").expect("written");
    let result = &browse(&site, &[format!("recognise:cpu:{}", file.display())])[0];
    assert_clean(result, 0);
    assert_eq!(result["state"], "failed");
    let status = result["status"].as_str().expect("a sentence");
    assert!(status.contains("Choose another picture"), "{status}");
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&target).expect("a folder");
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
