//! A published gallery in shards, of which a page fetches parts.

use std::path::{Path, PathBuf};
use std::process::Command;

use models::bundle::{MANIFEST_NAME, Manifest};
use models::gallery::Gallery;
use serde_json::{Value, json};

use super::{magpie, native, publish, screenshots, script, site};

/// The demo once more, its gallery cut into shards of at most a megabyte, some classes left out.
pub(super) fn publish_in_shards(folder: &Path, without: usize) -> PathBuf {
    republish(folder, without, &["--shards", "always", "--shard-size", "1"])
}

/// The demo once more, some classes left out.
pub(super) fn republish(folder: &Path, without: usize, arguments: &[&str]) -> PathBuf {
    let bundle = site().join("bundle");
    let read = |name: &str| std::fs::read(bundle.join(name)).expect("a file");
    let manifest = Manifest::from_bytes(&read(MANIFEST_NAME)).expect("valid");
    let open = |name: &str| Gallery::from_bytes(&read(name)).expect("a gallery");
    let mut gallery = open(&manifest.gallery);
    let pictures = manifest.thumbnails.as_deref().expect("pictures of their own");
    gallery.take_thumbnails(&open(pictures)).expect("of one model");
    for _ in 0..without {
        gallery.remove_class(0).expect("a class");
    }
    let file = folder.join(format!("without-{without}.bin"));
    std::fs::write(&file, gallery.to_bytes()).expect("a disk");
    let out = folder.join(format!("site-{without}"));
    let detector = bundle.join(manifest.detector.expect("a detector").file);
    let extractor = bundle.join(&manifest.extractor.file);
    let said = publish(&extractor, &detector, &file, arguments, &out);
    let in_shards = said.contains("the gallery comes as a directory");
    assert_eq!(in_shards, arguments.contains(&"always"), "{said}");
    out
}

fn labels(seen: &Value) -> Vec<&str> {
    let objects = seen["objects"].as_array().expect("a list");
    objects.iter().map(|object| object["labels"][0].as_str().expect("a label")).collect()
}

#[test]
fn a_page_fetches_what_a_picture_needs_of_a_gallery_in_shards() {
    let folder = tempfile::tempdir().expect("a folder");
    let published = publish_in_shards(folder.path(), 0);
    let next = publish_in_shards(folder.path(), 7);
    let verified = Command::new(magpie()).arg("verify").arg(&published).output().expect("runs");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let packed = |name: &str| name.contains(".shard.");
    let names = std::fs::read_dir(published.join("bundle")).expect("a folder");
    for name in names.map(|entry| entry.expect("an entry").file_name()) {
        assert!(!packed(&name.to_string_lossy()), "parts of a packed file are of no use");
    }

    let pictures = [1, 2, 3].map(|sample| site().join(format!("samples/{sample}.jpg")));
    let folder = screenshots();
    let mut arguments = vec![published.as_path(), next.as_path(), folder.as_path()];
    arguments.extend(pictures.iter().map(PathBuf::as_path));
    let seen = script("shards.mjs", &arguments);
    assert_eq!(seen["problems"], json!([]));
    let whole = native(&site(), &pictures[0]).1.len();
    assert!(whole > 1, "several objects");

    let mut right = 0;
    let mut all = 0;
    for (picture, visit) in pictures.iter().zip(seen["first"].as_array().expect("a list")) {
        let (_, expected) = native(&site(), picture);
        let found = labels(visit);
        assert_eq!(found.len(), expected.len(), "{visit}");
        right += found.iter().filter(|label| expected.iter().any(|e| e == *label)).count();
        all += expected.len();
        for object in visit["objects"].as_array().expect("a list") {
            let pictured = object["pictured"].as_array().expect("a list");
            assert!(pictured.len() > 1 && pictured.iter().all(|p| *p == true), "{object}");
        }
    }
    // Rounding may turn two classes that are nearly as similar around.
    assert!(right * 10 >= all * 9, "{right} of {all}");
    let asked = seen["first"][0]["asked"].as_array().expect("a list");
    let parts =
        |request: &Value| request["range"].as_str().is_some_and(|r| r.starts_with("bytes="));
    assert!(!asked.is_empty() && asked.iter().all(parts), "{asked:?}");
    // Lists by four requests an object at most, and its classes' pictures.
    assert!(asked.len() <= whole * 9, "{asked:?}");
    let bytes: u64 = asked.iter().filter_map(|request| request["bytes"].as_u64()).sum();
    assert!(bytes <= 80_000 * whole as u64, "{bytes}");
    assert_eq!(seen["again"]["asked"], json!([]), "what is here is not fetched again");
    assert_eq!(seen["again"]["objects"], seen["first"][0]["objects"]);

    let size = seen["size"].as_str().expect("text");
    let published = native(&site(), &pictures[0]);
    assert!(size.contains("1911") || size.contains("1,911"), "{size} {published:?}");
    assert_eq!(seen["taught"], "My thing");
    assert_eq!(seen["own"], json!(["My thing"]));
    assert!(seen["rest"].as_str().expect("text").contains("not listed"), "{}", seen["rest"]);
    assert!(seen["back"].as_array().expect("a list").contains(&json!("My thing")));
    assert_ne!(seen["reset"], "My thing");

    assert_eq!(labels(&seen["whole"]), labels(&seen["first"][0]), "without parts");
    assert_eq!(seen["whole"]["asked"][0]["range"].as_str().map(|r| &r[..6]), Some("bytes="));
    let gone = seen["gone"].as_str().expect("text");
    assert!(gone.contains("Check the connection"), "{gone}");
    assert_eq!(labels(&seen["returned"]), labels(&seen["first"][0]), "once it is back");

    let offline = seen["offline"].as_str().expect("text");
    assert!(offline.contains("for things like those"), "{offline}");
    assert_eq!(labels(&seen["away"])[0], labels(&seen["first"][1])[0], "{}", seen["away"]);
    assert_eq!(seen["away"]["asked"], json!([]), "the network is away");

    let size = seen["newSize"].as_str().expect("text");
    assert!(size.contains("1904") || size.contains("1,904"), "{size}");
    assert_eq!(labels(&seen["newer"]).len(), whole);
    assert_eq!(seen["newProblems"], json!([]));
}
