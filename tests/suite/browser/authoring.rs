//! One authoring core: the command, Node and a page make the same gallery and the same site of the same photographs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use models::image::RgbImage;
use models::model_file::sha256_hex;

use super::{magpie, root, script, site};

/// A photograph of no thing: a gradient with a disk, whose colors depend on the class.
fn photograph(class: u32, number: u32) -> RgbImage {
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
fn digests(folder: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
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
    let (mut native, gallery) = (BTreeMap::new(), world.path().join("site.report/gallery.bin"));
    digests(&out, "", &mut native);
    let gallery = sha256_hex(&std::fs::read(gallery).expect("a gallery"));
    for place in ["node", "chromium"] {
        let seen = &seen[place];
        assert_eq!(seen["known"], 12, "{place}");
        let files: BTreeMap<String, String> =
            serde_json::from_value(seen["site"].clone()).expect("digests by name");
        let names = |files: &BTreeMap<String, String>| {
            let stem = |name: &String| name.split("bundle/gallery").next().map(str::to_owned);
            files.keys().filter_map(stem).collect::<Vec<_>>()
        };
        assert_eq!(names(&files), names(&native), "{place}");
        // Only processors that add a product in one rounding give the same embeddings to the last bit.
        assert_eq!(seen["exact"], true, "{place}: relaxed SIMD is not fused here");
        assert_eq!(seen["gallery"], gallery.as_str(), "{place}: another gallery");
        assert_eq!(files, native, "{place}: another site");
    }
}
