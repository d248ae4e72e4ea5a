//! One authoring core: the command, Node and a page make the same site of the same photographs. Node and the page run
//! one module and agree in every byte, and so does the command but for gzip's copies; only where a processor rounds
//! otherwise than the module may the last digit of an embedding differ.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use models::gallery::Gallery;
use models::image::RgbImage;
use models::model_file::sha256_hex;

use super::{magpie, root, script, site};

/// A photograph of no thing: a gradient with a disk, whose colors depend on the class.
pub(super) fn photograph(class: u32, number: u32) -> RgbImage {
    let (width, height) = (180 + 12 * number, 150 + 8 * class);
    let pixel = |i: u32| {
        let (x, y) = (i % width, i / width);
        let (dx, dy) = (x.abs_diff(width / 2), y.abs_diff(height / 2));
        if dx * dx + dy * dy < 50 * 50 {
            [60 * class + x % 40, 200 - 50 * class, 90 + y % 30]
        } else {
            [x * 200 / width, y * 200 / height, 10 * number + 20]
        }
    };
    let data = (0..width * height).flat_map(pixel).map(|value| value.min(255) as u8).collect();
    RgbImage::from_rgb(width, height, data).expect("a picture")
}

/// Digests of all files below a folder.
pub(super) fn digests(folder: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            digests(&entry.path(), &format!("{name}/"), found);
        } else {
            found.insert(name, sha256_hex(&std::fs::read(entry.path()).expect("a file")));
        }
    }
}

#[test]
fn command_node_and_page_make_the_same_site() {
    // The page that the demo was published from.
    site();
    let (page, world) = (root().join("dist"), tempfile::tempdir().expect("a folder"));
    let extractor = root().join("native-trainer/networks/general.safetensors");
    let photos = world.path().join("photos");
    for class in 0..3 {
        let folder = photos.join(["apple", "mug", "杯"][class as usize]);
        std::fs::create_dir_all(&folder).expect("a folder");
        for number in 0..4 {
            let picture = photograph(class, number);
            let bytes = if number == 0 { picture.encode_png() } else { picture.encode_jpeg(85) };
            let name = format!("{number}.{}", if number == 0 { "png" } else { "jpg" });
            std::fs::write(folder.join(name), bytes.expect("a file")).expect("a disk");
        }
    }
    let out = world.path().join("site");
    let made = Command::new(magpie())
        .args(["site", "--title", "Three <ways>", "--detector", "none", "--extractor"])
        .arg(&extractor)
        .arg(&photos)
        .arg("--page")
        .arg(&page)
        .arg("--out")
        .arg(&out)
        .output()
        .expect("magpie runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let arguments = [&*page, &*extractor, &*photos, Path::new("Three <ways>")];
    let seen = script("authoring.mjs", &arguments);
    let (mut native, file) = (BTreeMap::new(), world.path().join("site.report/gallery.bin"));
    digests(&out, "", &mut native);
    let gallery = std::fs::read(file).expect("a gallery");
    for place in ["node", "chromium"] {
        let seen = &seen[place];
        assert_eq!(seen["known"], 12, "{place}");
        let files: BTreeMap<String, String> =
            serde_json::from_value(seen["site"].clone()).expect("digests by name");
        let bytes: Vec<u8> = serde_json::from_value(seen["gallery"].clone()).expect("bytes");
        if seen["exact"] == true {
            assert!(bytes == gallery, "{place}: another gallery");
            assert_eq!(unzipped(&files), unzipped(&native), "{place}: another site");
        }
        assert_eq!(apart(&files).0, apart(&native).0, "{place}: names or bytes of files");
        assert_eq!(apart(&files).1, apart(&native).1, "{place}: names of what holds embeddings");
        assert_alike(place, &bytes, &gallery);
    }
    // One module gives one site, wherever it runs.
    assert_eq!(seen["node"]["site"], seen["chromium"]["site"]);
    assert_eq!(seen["node"]["gallery"], seen["chromium"]["gallery"]);
}

fn is_zipped(name: &str) -> bool {
    name.rsplit('.').next() == Some("gz")
}

/// All but what a library for gzip packs: another one serves native programs, and the list of files has its digests.
pub(super) fn unzipped(files: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let is_other = |name: &str| is_zipped(name) || name == "magpie-files.json";
    let same = files.iter().filter(|(name, _)| !is_other(name));
    same.map(|(name, digest)| (name.as_str(), digest.as_str())).collect()
}

/// What holds no embedding, with its digest; and the names of the rest, without digests in them.
fn apart(files: &BTreeMap<String, String>) -> (BTreeMap<&str, &str>, BTreeSet<String>) {
    let (mut same, mut others) = (BTreeMap::new(), BTreeSet::new());
    for (name, digest) in files {
        let follows = ["precache.json", "sw.js", "magpie-files.json", "_headers"];
        let is_other = name.starts_with("bundle/gallery-")
            || is_zipped(name)
            || name.starts_with("bundle/manifest.json")
            || follows.iter().any(|other| name.starts_with(other));
        if is_other {
            let stem = name.split('-').next().unwrap_or_default();
            others.insert(if name.contains("gallery-") { stem.to_owned() } else { name.clone() });
        } else {
            same.insert(name.as_str(), digest.as_str());
        }
    }
    (same, others)
}

/// The same classes and entries, whose embeddings differ by no more than a step of 16-bit floats.
pub(super) fn assert_alike(place: &str, bytes: &[u8], native: &[u8]) {
    let [one, other] = [bytes, native].map(|bytes| Gallery::from_bytes(bytes).expect("a gallery"));
    let labels = |gallery: &Gallery| {
        gallery.classes().iter().map(|class| class.label.clone()).collect::<Vec<_>>()
    };
    assert_eq!(labels(&one), labels(&other), "{place}");
    assert_eq!((one.len(), one.crop()), (other.len(), other.crop()), "{place}");
    for (entry, same) in one.entries().zip(other.entries()) {
        assert_eq!(one.content_id(entry), other.content_id(same), "{place}");
        let (values, wanted) = (one.embedding(entry), other.embedding(same));
        for (value, wanted) in values.iter().zip(wanted.iter()) {
            assert!((value - wanted).abs() < 5e-4, "{place}: {value} and {wanted}");
        }
    }
}
