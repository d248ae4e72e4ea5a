//! The visitor's gallery: taught, kept, taken away, and replaced by a newer one.

use std::path::Path;

use models::bundle::{MANIFEST_NAME, Manifest};
use models::gallery::Gallery;
use serde_json::Value;

use super::{assert_clean, browse, copy_folder, site};

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
    let published = size("recognized");
    let grown: Vec<usize> = published.iter().map(|count| count + 1).collect();
    assert_eq!(seen("recognized")["undo"], false);
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
    assert!(seen("refused")["status"].as_str().expect("text").contains("cannot be added"));
    assert_eq!(size("refused"), grown);
    // A file that was refused leaves what is kept as it was.
    assert_eq!((size("kept"), &seen("kept")["first"]), (grown.clone(), &Value::from("Our thing")));

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
    assert!(size.contains(&format!(" {} things", classes - 1)), "{size}");
    assert!(result["status"].as_str().expect("a sentence").contains("newer gallery"), "{result}");
}
