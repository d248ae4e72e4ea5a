//! Each command that writes, on a disk that is full from any operation on and killed at any operation: what was
//! there before is there byte for byte, or what is new is complete, and the next run leaves nothing beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use models::gallery::{Class, Gallery, VectorType};

use crate::paddle::checkpoint;
use crate::world::{self, World, copy_tree, is_of, on_threads, shape, succeed, tree, with_fault};

type Tree = BTreeMap<String, Vec<u8>>;

/// Most operations at which a command is killed: all of most commands.
const MOST: u64 = 14;
/// Most from which on the disk is full.
const MOST_FULL: u64 = 7;

/// A command line; words are separated by blanks.
fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// What is not there on purpose.
fn hidden(tree: &Tree) -> Vec<&String> {
    let is_hidden =
        |name: &&String| name.rsplit('/').next().is_some_and(|name| name.starts_with('.'));
    tree.keys().filter(is_hidden).collect()
}

/// The same without what is hidden.
fn seen(tree: &Tree) -> Tree {
    let mut seen = tree.clone();
    for name in hidden(tree) {
        seen.remove(name);
    }
    seen
}

/// At most `most` numbers below `count`, the first and the last among them.
fn sampled(count: u64, most: u64) -> Vec<u64> {
    let most = most.min(count);
    let mut numbers: Vec<u64> = (0..most).map(|n| n * (count - 1) / (most - 1).max(1)).collect();
    numbers.dedup();
    numbers
}

/// Whether a command writes files that belong together.
fn writes_together(line: &str) -> bool {
    ["extract ", "scene ", "data cub"].iter().any(|command| line.starts_with(command))
        || ["graph.json", "--trainable"].iter().any(|part| line.contains(part))
}

/// Whether all of what a command changes is of one time, or lacks a file of before.
fn is_of_one_time(old: &Tree, new: &Tree, now: &Tree) -> bool {
    let mut changed = new.iter().filter(|(name, bytes)| old.get(*name) != Some(*bytes));
    let is_new = |(name, bytes): (&String, &Vec<u8>)| now.get(name) == Some(bytes);
    changed.clone().all(|file| !is_new(file))
        || changed.clone().all(is_new)
        || changed.any(|(name, _)| !now.contains_key(name))
}

/// Runs a command in copies of `before`, whole and with every fault. Of files that are written together, the first is
/// gone if the command was killed between them.
fn survives(before: &Path, line: &str) {
    let words = words(line);
    let old = tree(before);
    let copies = tempfile::tempdir().expect("a folder");
    let copy = |name: &str| {
        let copy = copies.path().join(name);
        copy_tree(before, &copy);
        copy
    };
    let whole = copy("whole");
    let output = with_fault(&whole, "count", &words);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {told}");
    let count = told.lines().filter(|line| line.starts_with("MAGPIE_FAULT ")).count() as u64;
    assert!(count > 3, "{line}: {told}");
    let new = tree(&whole);
    assert!(hidden(&new).is_empty(), "{line}: {:?}", hidden(&new));
    assert!(new != old, "{line}: changes nothing");

    on_threads(&sampled(count, MOST_FULL), |number| {
        let place = format!("{line}, full at {number} of {count}");
        let folder = copy(&format!("full {number}"));
        let output = with_fault(&folder, &format!("full:{number}"), &words);
        let told = String::from_utf8_lossy(&output.stderr);
        let now = tree(&folder);
        assert!(hidden(&now).is_empty(), "{place}: {:?}", hidden(&now));
        if output.status.success() {
            assert!(now == new, "{place}: says nothing");
        } else {
            assert_eq!(output.status.code(), Some(1), "{place}: {told}");
            let named = new.iter().filter(|(name, bytes)| old.get(*name) != Some(*bytes));
            let mut named = named.map(|(name, _)| name.rsplit('/').next().unwrap_or_default());
            let is_named = named.any(|name| told.contains(name));
            assert!(is_named && told.contains("no space left"), "{place}: {told}");
            for (name, bytes) in &now {
                let is_whole = old.get(name) == Some(bytes) || new.get(name) == Some(bytes);
                assert!(is_whole, "{place}: {name} is neither");
            }
            assert!(old.keys().all(|name| now.contains_key(name)), "{place}: something has gone");
            assert!(now == old || !line.starts_with("extract"), "{place}: one of two is new");
        }
    });
    on_threads(&sampled(count, MOST), |number| {
        let place = format!("{line}, killed at {number} of {count}");
        let folder = copy(&format!("kill {number}"));
        let output = with_fault(&folder, &format!("kill:{number}"), &words);
        assert!(!output.status.success(), "{place}");
        let now = tree(&folder);
        let (left, now) = (hidden(&now), seen(&now));
        let is_part = |name: &&&String| is_of(name, "part");
        let together = new.iter().filter(|(name, bytes)| old.get(*name) != Some(*bytes)).count();
        assert!(left.iter().filter(is_part).count() <= 2 * together, "{place}: {left:?}");
        for name in &left {
            assert!(is_of(name, "part") || is_of(name, "lock"), "{place}: {left:?}");
        }
        for (name, bytes) in &now {
            let is_whole = old.get(name) == Some(bytes) || new.get(name) == Some(bytes);
            assert!(is_whole, "{place}: {name} is neither");
        }
        let gone = old.keys().filter(|name| !now.contains_key(*name)).count();
        assert!(gone <= usize::from(writes_together(line)), "{place}: something has gone");
        if writes_together(line) {
            assert!(is_of_one_time(&old, &new, &now), "{place}: files of two times");
        }
        if !left.is_empty() {
            let output = with_fault(&folder, "", &words);
            let again = tree(&folder);
            assert!(hidden(&again).is_empty(), "{place}: {:?} outlives the next", hidden(&again));
            // What is done already may be refused.
            let is_done = now == new && !output.status.success();
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(is_done || again == new, "{place}: {told}");
        }
    });
}

/// A world whose galleries, models and pictures lie in one folder.
struct Shop(World);

impl Shop {
    fn new() -> Self {
        let world = World::new();
        world.model();
        for class in 0..2 {
            for number in 0..2 {
                let picture = shape(class, number, 40).encode_png().expect("a PNG");
                world.write(&format!("photos/{class}/{number}.png"), &picture);
                world.write(&format!("more/{}/{number}.png", class + 2), picture);
            }
        }
        let shop = Self(world);
        shop.does("gallery build --images photos --extractor model.safetensors --out gallery.bin");
        shop
    }

    fn path(&self) -> PathBuf {
        self.0.path("")
    }

    fn does(&self, line: &str) {
        let output = with_fault(&self.path(), "", &words(line));
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn survives(&self, line: &str) {
        survives(&self.path(), line);
    }
}

#[test]
fn galleries_are_old_or_new() {
    let shop = Shop::new();
    let extractor = "--extractor model.safetensors";
    shop.survives(&format!("gallery build --images more {extractor} --out gallery.bin"));
    shop.survives(&format!("gallery new {extractor} new.bin"));
    shop.survives(&format!("gallery add gallery.bin --images more {extractor}"));
    shop.survives("gallery remove gallery.bin --class 1");
    shop.survives("gallery rename gallery.bin 1 mug");
}

#[test]
fn changed_galleries_are_old_or_new() {
    let shop = Shop::new();
    shop.does("gallery build --images more --extractor model.safetensors --out more.bin");
    shop.survives("gallery describe gallery.bin 1 --set price=9");
    shop.survives("gallery merge gallery.bin more.bin --out more.bin");
    shop.survives("gallery compact gallery.bin --values i8 --index binary");
    shop.survives("gallery compact gallery.bin --values i8 --out more.bin");
    std::fs::write(shop.0.path("curve.svg"), "old").unwrap();
    shop.survives(
        "gallery calibrate gallery.bin --query more --extractor model.safetensors --curve curve.svg \
         --write --even-if-poor",
    );
}

#[test]
fn networks_for_other_programs_are_old_or_new() {
    let shop = Shop::new();
    for ending in ["safetensors", "onnx", "tflite"] {
        shop.0.write(&format!("out.{ending}"), "old");
        shop.survives(&format!("export model.safetensors --out out.{ending}"));
    }
    shop.0.write("graph.bin", "old");
    shop.0.write("graph.json", r#"{"weightsManifest": [{"paths": ["graph.bin"]}]}"#);
    shop.survives("export model.safetensors --out graph.json");
    shop.survives("extract --extractor model.safetensors --images photos --out rows.safetensors");
    shop.does("extract --extractor model.safetensors --images photos --out rows.safetensors");
    shop.survives("extract --extractor model.safetensors --images more --out rows.safetensors");
}

#[test]
fn data_and_pictures_are_old_or_new() {
    let shop = Shop::new();
    let boxes = r#"{"images": [{"id": 1, "file_name": "photos/0/0.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 4, 20, 20]}],
        "categories": [{"id": 1, "name": "x"}]}"#;
    shop.0.write("boxes.json", boxes);
    shop.0.write("mixed.json", "old");
    shop.survives("data coco-foreground --out mixed.json --part boxes.json");
    shop.0.write("voc/JPEGImages/a.png", shape(0, 0, 40).encode_png().unwrap());
    shop.0.write(
        "voc/Annotations/a.xml",
        "<annotation><filename>a.png</filename><object><name>x</name><bndbox><xmin>5</xmin>\
         <ymin>5</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object></annotation>",
    );
    shop.0.write("voc/boxes.json", "old");
    shop.survives("data voc voc --out voc/boxes.json");
    shop.0.write("cub/images.txt", "1 001.A/a.jpg\n2 101.B/b.jpg\n");
    shop.0.write("cub/image_class_labels.txt", "1 1\n2 101\n");
    shop.0.write("cub/train_list.txt", "old");
    shop.survives("data cub cub --overwrite");
    shop.0.write("scenes/1.jpg", "old");
    shop.survives("scene --cutouts photos --out scenes --overwrite --count 1 --size 64");
    shop.0.detector();
    shop.0.write("crops/0-1.jpg", "old");
    shop.survives(
        "detect --detector detector.safetensors --score 0.0001 --max 2 --crops crops --overwrite \
         photos/0/0.png photos/1/0.png",
    );
}

#[test]
fn imported_networks_are_old_or_new() {
    let shop = Shop::new();
    checkpoint(&shop.0);
    shop.0.write("out.safetensors", "old");
    shop.0.write("train.safetensors", "old");
    shop.survives("import best.pdparams -c recipe.toml --out out.safetensors");
    shop.survives(
        "import best.pdparams -c recipe.toml --out out.safetensors --trainable train.safetensors",
    );
}

#[test]
fn what_is_written_beside_many_is_written_through_links_and_keeps_modes() {
    let shop = Shop::new();
    let (link, real) = (shop.0.path("link.bin"), shop.0.path("elsewhere/real.bin"));
    std::fs::create_dir(shop.0.path("elsewhere")).unwrap();
    std::fs::rename(shop.0.path("gallery.bin"), &real).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::os::unix::fs::symlink("elsewhere/real.bin", &link).unwrap();
        std::fs::set_permissions(&real, PermissionsExt::from_mode(0o640)).unwrap();
        shop.does("gallery rename link.bin 1 mug");
        assert!(link.is_symlink());
        assert_eq!(real.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        let read = Gallery::from_bytes(&std::fs::read(&real).unwrap()).unwrap();
        assert_eq!(read.classes()[1].label, "mug");
        std::fs::set_permissions(&real, PermissionsExt::from_mode(0o440)).unwrap();
        let told = world::fail(&[&"gallery", &"rename", &link, &"mug", &"cup"]);
        assert!(told.contains("link.bin: is read-only"), "{told}");
    }
}

/// A gallery of 32-bit floats with other values for its first entry, all checksums right.
fn forged(world: &World, value: f32) -> PathBuf {
    let mut gallery = Gallery::with_type(16, "0123456789abcdef", VectorType::F32);
    gallery.add_class(Class { label: "a".to_owned(), ..Class::default() }, Vec::new());
    gallery.add(0, &[1.0; 16]).expect("an entry");
    let mut bytes = gallery.to_bytes();
    let number = |bytes: &[u8], at: usize| {
        u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
    };
    // The header has 32 bytes, an entry of the table 24: kind, checksum, place, length.
    let count = number(&bytes, 12);
    let entry =
        (0..count).map(|n| 32 + 24 * n).find(|at| number(&bytes, *at) == 3).expect("embeddings");
    let (start, length) = (number(&bytes, entry + 8), number(&bytes, entry + 16));
    bytes[start..start + 4].copy_from_slice(&value.to_le_bytes());
    let sum = crc32fast::hash(&bytes[start..start + length]);
    bytes[entry + 4..entry + 8].copy_from_slice(&sum.to_le_bytes());
    let sum = crc32fast::hash(&bytes[32..32 + 24 * count]);
    bytes[24..28].copy_from_slice(&sum.to_le_bytes());
    world.write("strange.bin", bytes)
}

#[test]
fn a_gallery_that_nobody_could_read_takes_no_place() {
    let world = World::new();
    let strange = forged(&world, 1e6);
    let old = std::fs::read(&strange).unwrap();
    for values in ["f16", "i8"] {
        let words: [&dyn AsRef<std::ffi::OsStr>; 5] =
            [&"gallery", &"compact", &strange, &"--values", &values];
        let output = world::magpie(&words);
        let now = std::fs::read(&strange).unwrap();
        if output.status.success() {
            Gallery::from_bytes(&now).expect("what was written can be read");
            std::fs::write(&strange, &old).unwrap();
        } else {
            assert!(now == old, "{values}: what is refused changes nothing");
        }
    }
    let all = world.path("all.bin");
    let mut half = Gallery::with_type(16, "0123456789abcdef", VectorType::F16);
    half.add_class(Class { label: "b".to_owned(), ..Class::default() }, Vec::new());
    half.add(0, &[1.0; 16]).unwrap();
    let half = world.write("half.bin", half.to_bytes());
    let output = world::magpie(&[&"gallery", &"merge", &half, &strange, &"--out", &all]);
    if output.status.success() {
        Gallery::from_bytes(&std::fs::read(&all).unwrap()).expect("what was written can be read");
    } else {
        assert!(!all.exists(), "nothing unreadable is left");
    }
    assert_eq!(tree(&world.path("")).keys().filter(|name| name.starts_with('.')).count(), 0);
}

#[test]
fn an_output_that_is_read_is_refused_before_the_work_begins() {
    let shop = Shop::new();
    let path = shop.path();
    std::fs::hard_link(path.join("model.safetensors"), path.join("hard")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("model.safetensors", path.join("soft")).unwrap();
    #[cfg(not(unix))]
    std::fs::hard_link(path.join("model.safetensors"), path.join("soft")).unwrap();
    let listed = ["photos/0/0.png\ta\n", "photos/1/0.png\tb\n"].concat();
    shop.0.write("list.txt", listed);
    shop.0.write("boxes.json", r#"{"images": [], "annotations": []}"#);
    shop.0.write("facts.json", "{}");
    checkpoint(&shop.0);
    shop.0.detector();
    shop.0.write("cut/photo.png", shape(0, 0, 40).encode_png().unwrap());
    shop.0.write("cut/photo-2.jpg", shape(0, 0, 40).encode_jpeg(90).unwrap());
    shop.0.write("cutouts/1/1.jpg", shape(0, 0, 40).encode_jpeg(90).unwrap());
    let before = tree(&path);
    let read = "is read by this command";
    let e = "--extractor model.safetensors";
    for (line, told) in [
        (format!("gallery build --images photos {e} --out model.safetensors"), read),
        (format!("gallery build --images photos {e} --out hard"), read),
        (format!("gallery build --images photos {e} --out soft"), read),
        (format!("gallery build --images photos {e} --out photos/../model.safetensors"), read),
        (format!("gallery build --images list.txt {e} --out list.txt"), read),
        (format!("gallery build --images list.txt {e} --out photos/0/0.png"), read),
        (format!("gallery build --images photos {e} --metadata facts.json --out facts.json"), read),
        (format!("gallery build --images photos {e} --out photos"), "this is a folder"),
        (format!("gallery calibrate gallery.bin --query more {e} --curve gallery.bin"), read),
        (format!("extract --images photos {e} --out model.safetensors"), read),
        (format!("extract --images list.txt {e} --out list.txt"), read),
        (format!("extract --images photos {e} --out rows.tsv"), "would be written twice"),
        ("export model.safetensors --out model.safetensors".to_owned(), read),
        ("export model.safetensors --out gallery.json".to_owned(), "no export wrote it"),
        ("import best.pdparams -c recipe.toml --out best.pdparams".to_owned(), read),
        ("import best.pdparams -c recipe.toml --out recipe.toml".to_owned(), read),
        (
            "import best.pdparams -c recipe.toml --out x --trainable x".to_owned(),
            "would be written twice",
        ),
        ("data coco-foreground --part boxes.json --out boxes.json".to_owned(), read),
        ("scene --cutouts cutouts --out cutouts/1 --count 1".to_owned(), read),
        (
            "detect --detector detector.safetensors --crops cut cut/photo.png cut/photo-2.jpg"
                .to_owned(),
            read,
        ),
    ] {
        let output = with_fault(&path, "", &words(&line));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line}: {errors}");
        assert!(errors.contains(told), "{line}: {errors}");
        assert!(tree(&path) == before, "{line}: changed something");
    }
}

#[test]
fn crops_of_one_name_from_two_folders_are_both_kept() {
    let world = World::new();
    let detector = world.detector();
    let [a, b] = ["a/shelf.png", "b/shelf.png"]
        .map(|name| world.write(name, shape(usize::from(name > "b"), 0, 40).encode_png().unwrap()));
    let crops = world.path("crops");
    let words: [&dyn AsRef<std::ffi::OsStr>; 7] =
        [&"detect", &"--detector", &detector, &"--score", &"0.0001", &"--max", &"1"];
    succeed(&[&words[..], &[&"--crops", &crops, &a, &b]].concat());
    let both = tree(&crops);
    assert_eq!(both.keys().collect::<Vec<_>>(), ["shelf-1.jpg", "shelf~2-1.jpg"]);
    assert!(both["shelf-1.jpg"] != both["shelf~2-1.jpg"]);
    succeed(&[&words[..], &[&"--crops", &world.path("alone"), &b]].concat());
    assert!(tree(&world.path("alone"))["shelf-1.jpg"] == both["shelf~2-1.jpg"]);
}

#[test]
fn weights_beside_a_graph_are_replaced_where_the_graph_names_them() {
    let shop = Shop::new();
    shop.does("export model.safetensors --out graph.json");
    let first = tree(&shop.path());
    shop.does("export model.safetensors --out graph.json");
    assert!(tree(&shop.path()) == first);
    std::fs::remove_file(shop.0.path("graph.json")).unwrap();
    let told = world::fail(&[
        &"export",
        &shop.0.path("model.safetensors"),
        &"--out",
        &shop.0.path("graph.json"),
    ]);
    assert!(told.contains("graph.bin: would be replaced by the weights of"), "{told}");
}

/// The one rule of all commands that write: what is there already is a file, or a link to one.
#[cfg(unix)]
#[test]
fn pipes_and_devices_are_no_outputs_and_are_refused_before_the_work_begins() {
    let shop = Shop::new();
    let path = shop.path();
    checkpoint(&shop.0);
    shop.0.detector();
    shop.0.write("boxes.json", r#"{"images": [], "annotations": []}"#);
    // Elsewhere: whoever reads a pipe waits for its writer.
    let elsewhere = World::new();
    let pipe = elsewhere.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let before = tree(&path);
    let e = "--extractor model.safetensors";
    let outputs = [
        (pipe.display().to_string(), "a pipe"),
        ("/dev/null".to_owned(), "a device"),
        ("/dev/full".to_owned(), "a device"),
        ("/dev/stdout".to_owned(), "a pipe"),
    ];
    for (out, kind) in &outputs {
        for line in [
            format!("gallery build --images photos {e} --out {out}"),
            format!("gallery calibrate gallery.bin --query more {e} --curve {out}"),
            format!("extract --images photos {e} --out {out}"),
            format!("import best.pdparams -c recipe.toml --out {out}"),
            format!("import best.pdparams -c recipe.toml --out x --trainable {out}"),
            format!("data coco-foreground --part boxes.json --out {out}"),
        ] {
            let output = with_fault(&path, "", &words(&line));
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{line}: {errors}");
            let told = format!(
                "{out}: this is {kind}; an output is a file, a link to one, or a free name"
            );
            assert!(errors.contains(&told), "{line}: {errors}");
        }
    }
    assert!(tree(&path) == before, "something has changed");
    assert!(!Path::new("/dev/null.tsv").exists());
    let link = path.join("link.onnx");
    std::os::unix::fs::symlink(&pipe, &link).unwrap();
    let output = with_fault(&path, "", &words("export model.safetensors --out link.onnx"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("link.onnx: this is a pipe"));
}
