//! A network that computes in int8, in browsers that have an instruction for them and in
//! those that have not.

use std::process::Command;

use models::bundle::{MANIFEST_NAME, Manifest};
use serde_json::{Value, json};

use super::{magpie, native, publish, screenshots, script, site};

#[test]
fn whole_numbers_find_the_objects_that_floats_find() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = site().join("bundle");
    let manifest = std::fs::read(bundle.join(MANIFEST_NAME)).expect("a manifest");
    let manifest = Manifest::from_bytes(&manifest).expect("valid");
    let floats = bundle.join(manifest.detector.expect("a detector").file);
    let numbers = folder.path().join("detector.safetensors");
    let exported = Command::new(magpie())
        // As exact as the weights are: those in floats are compared closely.
        .args(["export", "--arithmetic", "i8", "--precision", "f32", "--out"])
        .args([&numbers, &floats])
        .output()
        .expect("magpie runs");
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    let out = folder.path().join("site");
    let extractor = bundle.join(&manifest.extractor.file);
    publish(&extractor, &numbers, &bundle.join(&manifest.gallery), &[], &out);

    let picture = site().join("samples/1.jpg");
    let seen = script("arithmetic.mjs", &[&out, &picture, &screenshots()]);
    let boxes = |found: &Value| -> Vec<[f64; 4]> {
        let list = found["boxes"].as_array().expect("a list");
        list.iter().map(|b| serde_json::from_value(b.clone()).expect("four numbers")).collect()
    };
    let expected = |site: &std::path::Path| -> Vec<[f64; 4]> {
        let found = native(site, &picture).0.into_iter().map(|found| found.bbox);
        found.map(|b| [b.x1, b.y1, b.x2, b.y2].map(f64::from)).collect()
    };
    let near = |what: &str, got: &[[f64; 4]], expected: &[[f64; 4]], most: f64| {
        assert!(!expected.is_empty(), "{what}");
        assert_eq!(got.len(), expected.len(), "{what}");
        for (got, expected) in got.iter().zip(expected) {
            let apart = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(apart <= most, "{what}: {got:?} against {expected:?}");
        }
    };
    // The plain module is asked for after the other is found missing, which a browser tells.
    assert_eq!(seen["relaxed"]["problems"], json!([]));
    let (numbers, floats) = (expected(&out), expected(&site()));
    assert_ne!(numbers, floats, "int8 rounds");
    // Values that round to the other side here than there move boxes, less than rounding itself does.
    near("relaxed SIMD beside native, both int8", &boxes(&seen["relaxed"]), &numbers, 4.0);
    near("without relaxed SIMD, floats", &boxes(&seen["plain"]), &floats, 0.1);
    near("int8 beside floats", &numbers, &floats, 8.0);
}
