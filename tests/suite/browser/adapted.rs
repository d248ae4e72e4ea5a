//! A gallery with a map and a calibration: the page answers as the native pipeline does, and says how sure it is. An
//! image of one color teaches it nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use models::bundle::{MANIFEST_NAME, Manifest};
use models::gallery::{AdaptOptions, ContentId, Gallery, LearnedMap};
use models::image::RgbImage;
use serde_json::{Value, json};

use super::{magpie, native, publish, root, script, site};

/// Classes of the demo, beside those that a sample shows.
const CLASSES: usize = 40;
/// Entries of each class beside its own.
const MORE: usize = 5;

/// The demo with fewer classes of more entries, which vary most where no class differs from another: a map helps.
fn adapted(folder: &Path, picture: &Path) -> PathBuf {
    let bundle = site().join("bundle");
    let read = |name: &str| std::fs::read(bundle.join(name)).expect("a file");
    let manifest = Manifest::from_bytes(&read(MANIFEST_NAME)).expect("valid");
    let open = |name: &str| Gallery::from_bytes(&read(name)).expect("a gallery");
    let mut gallery = open(&manifest.gallery);
    let thumbnails = manifest.thumbnails.as_deref().expect("thumbnails of their own");
    gallery.take_thumbnails(&open(thumbnails)).expect("of one model");
    let shown = native(&site(), picture).1;
    for class in (CLASSES..gallery.classes().len()).rev() {
        if !shown.contains(&gallery.classes()[class].label) {
            gallery.remove_class(class).expect("a class");
        }
    }
    give_map(&mut gallery);
    let file = folder.join("adapted.bin");
    std::fs::write(&file, gallery.to_bytes()).expect("a disk");
    let told = Command::new(magpie())
        .args(["gallery", "calibrate", "--write", "--even-if-poor"])
        .arg(&file)
        .output()
        .expect("magpie runs");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let out = folder.join("site");
    let detector = bundle.join(manifest.detector.expect("a detector").file);
    let extractor = bundle.join(&manifest.extractor.file);
    publish(&extractor, &detector, &file, &["--shards", "never"], &out);
    // Behind the map cosines are others: something is to be known.
    let published = out.join("bundle").join(MANIFEST_NAME);
    let text = std::fs::read_to_string(&published).expect("a manifest");
    let mut changed: Value = serde_json::from_str(&text).expect("JSON");
    changed["settings"]["min_similarity"] = json!(0.1);
    std::fs::write(&published, changed.to_string()).expect("a disk");
    out
}

/// Gives every class entries around those that it has, and the gallery the map that they teach.
fn give_map(gallery: &mut Gallery) {
    spread(gallery, 3);
    let LearnedMap::Helps { map, .. } =
        gallery.learn_map(&AdaptOptions::default()).expect("a gallery")
    else {
        panic!("the map helps");
    };
    gallery.set_map(Some(*map)).expect("its map");
}

/// Gives every class entries around those that it has, drawn from a seed.
fn spread(gallery: &mut Gallery, seed: u64) {
    let dim = gallery.dim();
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let entries: Vec<(usize, Vec<f32>)> = gallery
        .entries()
        .map(|entry| (gallery.entry_class(entry), gallery.embedding(entry).into_owned()))
        .collect();
    for (class, embedding) in entries {
        for number in 0..MORE {
            let spread = |i: usize| if i < dim / 4 { 0.2 } else { 0.025 };
            let moved: Vec<f32> =
                embedding.iter().enumerate().map(|(i, v)| v + spread(i) * next()).collect();
            let id = ContentId::of(&[seed as u8, class as u8, number as u8]);
            gallery.add_image(class, &moved, id).expect("an embedding");
        }
    }
}

#[test]
fn a_page_over_an_adapted_gallery_answers_as_the_native_pipeline() {
    let folder = tempfile::tempdir().expect("a folder");
    let picture = site().join("samples/1.jpg");
    let site = adapted(folder.path(), &picture);
    let color: Vec<u8> = [90, 120, 200].repeat(160 * 120);
    let plain = folder.path().join("plain.png");
    let image = RgbImage::from_rgb(160, 120, color).expect("an image");
    std::fs::write(&plain, image.encode_png().expect("a PNG")).expect("a disk");
    for browser in ["chromium", "firefox"] {
        let seen = script("adapted.mjs", &[Path::new(browser), &site, &picture, &plain]);
        assert_eq!(seen["problems"], json!([]), "{browser}");
        assert_answers(browser, &seen, &site, &picture);
        let words = seen["plain"]["words"].as_str().unwrap_or_default();
        assert!(words.contains("all pixels of the picture have one color"), "{browser}: {seen}");
        assert_eq!(seen["plain"]["size"], seen["size"], "{browser}");
        let taught = seen["taught"].as_array().expect("labels");
        assert!(taught.contains(&json!("my own thing")), "{browser}: {seen}");
    }
}

/// What a visitor teaches makes the gallery grow: it learns anew in a worker beside the page, as `magpie gallery add`
/// does, and has the published map again where that is taken back.
#[test]
fn a_gallery_that_has_grown_in_the_page_learns_anew_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let picture = site().join("samples/1.jpg");
    let site = adapted(folder.path(), &picture);
    let bundle = site.join("bundle");
    let manifest = std::fs::read(bundle.join(MANIFEST_NAME)).expect("a manifest");
    let manifest = Manifest::from_bytes(&manifest).expect("valid");
    let read = |file: &Path| {
        Gallery::from_bytes(&std::fs::read(file).expect("a file")).expect("a gallery")
    };
    let published = read(&bundle.join(&manifest.gallery));
    let lessons = folder.path().join("lessons.bin");
    let mut more = read(&folder.path().join("adapted.bin"));
    more.set_map(None).expect("no map");
    spread(&mut more, 4);
    std::fs::write(&lessons, more.to_bytes()).expect("a disk");

    let mut native = published.clone();
    native.merge(&more).expect("of one model");
    let file = folder.path().join("native.bin");
    std::fs::write(&file, native.to_bytes()).expect("a disk");
    let told = Command::new(magpie()).args(["gallery", "adapt"]).arg(&file).output();
    assert!(told.expect("magpie runs").status.success());
    let about = read(&file).map().expect("a map").about();
    assert!(native.len() > published.len() && about.entries == native.len());

    let saved = folder.path().join("saved.bin");
    let seen = script("relearned.mjs", &[&site, &picture, &lessons, &saved]);
    assert_eq!((&seen["problems"], &seen["modules"]), (&json!([]), &json!([0, 1])), "{seen}");
    let own = read(&saved);
    let learned = own.map().expect("a map").about();
    assert_eq!((learned.kind, learned.strength), (about.kind, about.strength));
    assert_eq!((learned.entries, own.len()), (about.entries, native.len()));
    assert_ne!(own.map(), published.map());
    let told = |when: &str| seen[when]["min_similarity"].as_f64().map(|least| least as f32);
    assert!(own.min_similarity().is_some(), "it is measured: {seen}");
    assert_eq!(told("grown"), own.min_similarity(), "the page shows the new threshold: {seen}");
    assert_eq!(told("again"), own.min_similarity(), "so it is at the next visit: {seen}");
    assert_eq!(told("undone"), Some(manifest.settings.min_similarity), "{seen}");
}

/// No network computes before the gallery is opened, and with it every entry goes through the map.
#[test]
fn an_engine_opens_an_adapted_gallery_before_it_has_computed_anything() {
    let folder = tempfile::tempdir().expect("a folder");
    let emoji = root().join("www/demo/node_modules/emoji-datasource-google/img/google/64");
    let names = [
        "1f427",
        "1f301",
        "1f392",
        "1f4f8",
        "1f34e",
        "1f697",
        "1f3b8",
        "0034-fe0f-20e3",
        "1f1f0-1f1f2",
        "1f595-1f3fe",
    ];
    let line = |name: &&str| format!("{}.png\t{name}", emoji.join(name).display());
    let list = names.iter().map(line).collect::<Vec<_>>().join("\n");
    let (listed, file) = (folder.path().join("list.txt"), folder.path().join("gallery.bin"));
    std::fs::write(&listed, list).expect("a disk");
    let built = Command::new(magpie())
        .args(["gallery", "build", "--adapt", "never", "--calibrate", "never", "--images"])
        .args([&listed, Path::new("--out"), &file])
        .output()
        .expect("magpie runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let mut gallery =
        Gallery::from_bytes(&std::fs::read(&file).expect("a file")).expect("a gallery");
    give_map(&mut gallery);
    std::fs::write(&file, gallery.to_bytes()).expect("a disk");
    let site = folder.path().join("site");
    publish(Path::new("general"), Path::new("none"), &file, &[], &site);
    let picture = emoji.join("1f427.png");
    let (found, labels) = native(&site, &picture);
    assert_eq!((found.len(), labels[0].as_str()), (1, "1f427"));
    let seen = script("opens.mjs", &[Path::new("chromium"), &site, &picture]);
    assert_eq!(seen["problems"], json!([]));
    assert_eq!(seen["labels"], json!(["1f427"]));
}

fn assert_answers(browser: &str, seen: &Value, site: &Path, picture: &Path) {
    let (found, labels) = native(site, picture);
    let objects = seen["objects"].as_array().expect("a list");
    assert!(!found.is_empty() && objects.len() == found.len(), "{browser}: {seen}");
    let near = |value: &Value, expected: f32| {
        value.as_f64().is_some_and(|value| (value - f64::from(expected)).abs() < 5e-3)
    };
    let mut sure = Vec::new();
    for ((object, native), label) in objects.iter().zip(&found).zip(&labels) {
        assert_eq!(object["known"], native.known, "{browser}: {object}");
        let best = &object["answers"][0];
        assert_eq!(best["label"], **label, "{browser}: {object}");
        assert!(near(&best["similarity"], native.similarity()), "{browser}: {object} {native:?}");
        match native.probability {
            Some(probability) => {
                assert!(near(&best["probability"], probability), "{browser}: {object} {native:?}");
                let percent = best["probability"]
                    .as_f64()
                    .map(|value| format!("{:.0} % sure", 100.0 * value));
                sure.extend(percent);
            }
            None => assert!(best["probability"].is_null(), "{browser}: {object}"),
        }
    }
    assert!(!sure.is_empty(), "{browser}: none is known: {seen}");
    let sentences = seen["sentences"].to_string();
    for words in sure {
        assert!(sentences.contains(&words), "{browser}: {words} in {sentences}");
    }
}
