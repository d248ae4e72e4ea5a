//! The published page in real browsers, on both engines, beside the native pipeline.
//!
//! `MAGPIE_SITE` names the published demo; `cargo xtask test` publishes it first. Screenshots are
//! left in `target/screenshots` to be looked at.

mod adapted;
mod architectures;
mod arithmetic;
mod authoring;
mod bench;
mod camera;
mod choice;
mod features;
mod gallery;
mod hostile;
mod looks;
mod manage;
mod networks;
mod npm;
mod order;
mod origins;
mod package;
mod pixels;
mod recognition;
mod shards;
mod studio;
mod threads;
mod versions;
mod webkit;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use burn::tensor::Device;
use models::bundle::{Bundle, MANIFEST_NAME, Manifest};
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
        let magpie = magpie();
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
    let process = server.child.id().to_string();
    let scenarios: Vec<String> =
        scenarios.iter().map(|s| s.replace("{server}", &process)).collect();
    let folder = screenshots();
    let mut arguments = vec![Path::new(&server.address), folder.as_path()];
    arguments.extend(scenarios.iter().map(Path::new));
    script("page.mjs", &arguments).as_array().expect("a list").clone()
}

/// Runs a script of `tests/browser` and returns what it printed.
fn script(name: &str, arguments: &[&Path]) -> Value {
    let output = Command::new("node")
        .current_dir(root().join("tests/browser"))
        .arg(name)
        .args(arguments)
        .output()
        .expect("node runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(text.trim()).expect("JSON from the browser")
}

/// Where screenshots go.
fn screenshots() -> PathBuf {
    let folder = root().join("target/screenshots");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// The trainer's program.
fn magpie() -> PathBuf {
    let executable = std::env::current_exe().expect("a test program");
    executable.ancestors().nth(2).expect("target/debug").join("magpie")
}

/// Publishes the demo's page with other files; returns what is printed.
fn publish(
    extractor: &Path,
    detector: &Path,
    gallery: &Path,
    arguments: &[&str],
    out: &Path,
) -> String {
    let output = Command::new(magpie())
        .args(["publish", "--min-similarity", "0.5", "--min-score", "0.5"])
        .args(arguments)
        .arg("--extractor")
        .arg(extractor)
        .arg("--detector")
        .arg(detector)
        .arg("--gallery")
        .arg(gallery)
        .arg("--page")
        .arg(root().join("dist"))
        .arg("--sample")
        .arg(site().join("samples/1.jpg"))
        .arg("--out")
        .arg(out)
        .output()
        .expect("magpie runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
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
    let (found, _) = pollster::block_on(recognizer.recognize(&image, || 0.0)).expect("recognizes");
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
