//! A picture in, boxes and names out; what cannot be done is said in words.

use std::process::Command;

use models::bundle::{FORMAT, MANIFEST_NAME, Manifest};

use super::{assert_clean, assert_parity, browse, copy_folder, root, site};

#[test]
fn the_page_recognizes_a_sample_on_both_engines_like_the_native_pipeline() {
    let site = site();
    let picture = site.join("samples/1.jpg");
    let scenario = |backend| format!("recognize:{backend}:{}", picture.display());
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
        // Lessons, profiles, storage, hosts that are looked at and graphs that are mended take an eighth of it,
        // transformers 26 kB, lists of steps as much again, detectors of other programs 22 kB, SiLU and GELU in vectors 2.
        ("worker-cpu_bg.wasm", 850_000),
        // Threads and int8 among it.
        ("worker-relaxed_bg.wasm", 898_000),
        ("worker-webgpu_bg.wasm", 893_000),
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
                    std::fs::write(
                        path,
                        text.replacen(&format!("\"format\": {FORMAT}"), "\"format\": 99", 1),
                    )
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
            // The engine's own words are for those who look into the details.
            let said = |key: &str| result[key].as_str().expect("a sentence");
            assert!(!said("status").contains("manifest"), "{damage}: {result}");
            [said("status"), said("words")].concat()
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
    let result = &browse(&site, &[format!("recognize:cpu:{}", file.display())])[0];
    assert_clean(result, 0);
    assert_eq!(result["state"], "failed");
    let status = result["status"].as_str().expect("a sentence");
    assert!(status.contains("holds no picture"), "{status}");
}
