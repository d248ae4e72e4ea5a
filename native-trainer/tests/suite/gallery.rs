//! `magpie gallery` from a folder of pictures to thresholds, and killed in the middle.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::ops::AddAssign;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use models::gallery::Gallery;

use crate::world::{World, gallery, opened, refused, shape};

fn labels(gallery: &Gallery) -> Vec<&str> {
    gallery.classes().iter().map(|class| class.label.as_str()).collect()
}

#[test]
fn a_gallery_grows_and_shrinks_without_embedding_anything_twice() {
    let world = World::new();
    let model = world.model();
    let pictures = world.pictures("pictures", 2, 3);
    let file = world.path("shop/gallery.bin");
    let out = gallery(&[&"new", &file, &"--extractor", &model]);
    assert!(out.contains("0 classes, 0 pictures"), "{out}");
    assert!(refused(&[&"new", &file, &"--extractor", &model]).contains("there is a file already"));

    let add = [&"add" as &dyn AsRef<OsStr>, &file, &"--extractor", &model];
    let out = gallery(&[&add[..], &[&"--images", &pictures]].concat());
    assert!(out.contains("6 added, 0 there already"), "{out}");
    let whole = std::fs::read(&file).unwrap();
    let out = gallery(&[&add[..], &[&"--images", &pictures]].concat());
    assert!(out.contains("0 added, 6 there already"), "{out}");
    assert!(std::fs::read(&file).unwrap() == whole, "nothing new, nothing changed");
    // The same as built at once.
    let built = world.path("built.bin");
    let out =
        gallery(&[&"build", &"--images", &pictures, &"--extractor", &model, &"--out", &built]);
    assert!(out.contains("index: flat (6 entries, fewer than"), "{out}");
    assert!(std::fs::read(&built).unwrap() == whole);

    // One more class, from single files; a file of another class is not embedded again.
    let new = world.write("new.png", shape(2, 0, 40).encode_png().unwrap());
    let known = pictures.join("class 0 类/1.png");
    let metadata = world.write("facts.json", r#"{"Mug ☕": {"price": "9 €", "aisle": "7"}}"#);
    let words: [&dyn AsRef<OsStr>; 6] =
        [&"--class", &"Mug ☕", &"--metadata", &metadata, &new, &known];
    let out = gallery(&[&add[..], &words].concat());
    assert!(out.contains("2 added, 0 there already"), "{out}");
    let grown = opened(&file);
    assert_eq!(labels(&grown), ["class 0 类", "class 1 类", "Mug ☕"]);
    assert_eq!(grown.counts(), [3, 3, 2]);
    assert_eq!(grown.classes()[2].metadata["price"], "9 €");
    // Facts stay in the owner's order; what is said later comes behind.
    gallery(&[&"describe", &file, &"Mug ☕", &"--set", &"about=for tea", &"--set", &"price=8 €"]);
    let described = opened(&file).classes()[2].metadata.clone();
    let facts: Vec<(&str, &str)> =
        described.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(facts, [("price", "8 €"), ("aisle", "7"), ("about", "for tea")]);
    gallery(&[&"describe", &file, &"Mug ☕", &"--unset", &"about", &"--set", &"price=9 €"]);
    assert!(grown.thumbnail(2).starts_with(&[0xff, 0xd8]), "a JPEG");

    // And away again, by picture and by class.
    let out = refused(&[&"remove", &file, &"--class", &"Mug☕"]);
    assert!(out.contains("did you mean \"Mug ☕\""), "{out}");
    gallery(&[&"remove", &file, &"--image", &new]);
    assert_eq!(opened(&file).counts(), [3, 3, 1]);
    let out = refused(&[&"remove", &file, &"--image", &new]);
    assert!(out.contains("no entry was made from this picture"), "{out}");
    gallery(&[&"remove", &file, &"--class", &"Mug ☕"]);
    assert!(std::fs::read(&file).unwrap() == whole, "what was there before");

    let broken = world.write("broken.png", "no picture");
    let words: [&dyn AsRef<OsStr>; 4] = [&"--class", &"x", &"--strict", &broken];
    assert!(refused(&[&add[..], &words].concat()).contains("broken.png"));
    assert!(std::fs::read(&file).unwrap() == whole, "a failed command changes nothing");
}

#[test]
fn what_is_built_is_what_is_added_to_an_empty_gallery() {
    let world = World::new();
    let model = world.model();
    // More than are embedded together, so that the copy is known when its turn comes.
    for number in 0..140_u32 {
        let (class, picture) = (number / 70, shape(0, 0, 20 + number).encode_png().unwrap());
        world.write(&format!("pictures/class {class}/{number:03}.png"), picture);
    }
    let pictures = world.path("pictures");
    std::fs::copy(pictures.join("class 0/000.png"), pictures.join("class 1/z.png")).unwrap();
    let facts = world.write("facts.json", r#"{"class 1": {"price": "9 €"}}"#);
    let [built, added] = ["built.bin", "added.bin"].map(|name| world.path(name));
    for values in ["f16", "i8"] {
        let from: [&dyn AsRef<OsStr>; 6] =
            [&"--extractor", &model, &"--images", &pictures, &"--metadata", &facts];
        let words: [&dyn AsRef<OsStr>; 5] = [&"build", &"--values", &values, &"--out", &built];
        gallery(&[&words[..], &from].concat());
        gallery(&[&"new", &added, &"--extractor", &model, &"--values", &values]);
        gallery(&[&[&"add" as &dyn AsRef<OsStr>, &added][..], &from].concat());
        assert!(std::fs::read(&built).unwrap() == std::fs::read(&added).unwrap());
        let read = opened(&built);
        assert_eq!(read.counts(), [70, 71]);
        let copy = read.entries().last().unwrap();
        assert_eq!(read.content_id(copy), read.content_id(0));
        std::fs::remove_file(&added).unwrap();
    }
    // Nothing is left of what was written beside the file.
    let mut left: Vec<_> = std::fs::read_dir(built.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().contains("built"))
        .collect();
    left.retain(|name| name != "built.bin");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn classes_are_renamed_described_and_merged() {
    let world = World::new();
    let model = world.model();
    let pictures = world.pictures("pictures", 3, 2);
    let [all, some, other] = ["all.bin", "some.bin", "other.bin"].map(|name| world.path(name));
    gallery(&[&"build", &"--images", &pictures, &"--extractor", &model, &"--out", &some]);
    let out = gallery(&[&"rename", &some, &"class 0 类", &"Coffee mug"]);
    assert!(out.contains("renamed to \"Coffee mug\""), "{out}");
    let out = gallery(&[&"rename", &some, &"class 1 类", &"Coffee mug"]);
    assert!(out.contains("joined \"Coffee mug\"; pictures: 4"), "{out}");

    let words: [&dyn AsRef<OsStr>; 7] =
        [&"describe", &some, &"Coffee mug", &"--set", &"price=9 €", &"--min-similarity", &"0.7"];
    assert!(gallery(&words).contains("\"price\": \"9 €\""));
    let listed = gallery(&[&"list", &some, &"--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["classes"][0]["metadata"]["price"], "9 €");
    assert_eq!(listed["classes"][0]["min_similarity"], 0.7_f32);
    gallery(&[
        &"describe",
        &some,
        &"Coffee mug",
        &"--unset",
        &"price",
        &"--min-similarity",
        &"none",
    ]);
    assert_eq!(opened(&some).classes()[0].min_similarity, None);

    gallery(&[&"build", &"--images", &pictures, &"--extractor", &model, &"--out", &other]);
    let out = gallery(&[&"merge", &some, &other, &"--out", &all]);
    // The third class is in both with the same pictures.
    assert!(out.contains("2 new classes, 4 pictures added, 2 there already"), "{out}");
    assert_eq!(labels(&opened(&all)), ["Coffee mug", "class 2 类", "class 0 类", "class 1 类"]);

    let stranger = world.write("stranger.bin", {
        let mut stranger = Gallery::new(16, "0000000000000000");
        stranger.add_class(models::gallery::Class::default(), vec![]);
        stranger.to_bytes()
    });
    let out = refused(&[&"merge", &all, &stranger, &"--out", &all]);
    assert!(out.contains("belongs to another model"), "{out}");
}

#[test]
fn searches_stats_and_thresholds_say_what_is_there() {
    let world = World::new();
    let model = world.model();
    let pictures = world.pictures("pictures", 3, 4);
    let file = world.path("gallery.bin");
    gallery(&[&"build", &"--images", &pictures, &"--extractor", &model, &"--out", &file]);
    gallery(&[&"describe", &file, &"class 1 类", &"--set", &"color=green"]);
    let query = pictures.join("class 0 类/2.png");
    for kind in ["flat", "hnsw", "ivf", "binary"] {
        for values in ["f16", "f32", "i8"] {
            let out = gallery(&[&"compact", &file, &"--index", &kind, &"--values", &values]);
            assert!(out.contains(&format!("index: {kind}")), "{out}");
            assert!(
                gallery(&[&"verify", &file, &"--extractor", &model]).contains("whole; 3 classes")
            );
            let search = [&"search" as &dyn AsRef<OsStr>, &file, &query, &"--extractor", &model];
            for rule in ["nearest", "vote", "centroid"] {
                let words: [&dyn AsRef<OsStr>; 3] = [&"--json", &"--rule", &rule];
                let found = gallery(&[&search[..], &words].concat());
                let found: serde_json::Value = serde_json::from_str(&found).unwrap();
                assert_eq!(found["matches"].as_array().unwrap().len(), 3, "{kind} {values} {rule}");
                if rule == "nearest" {
                    assert_eq!(found["matches"][0]["label"], "class 0 类", "{kind} {values}");
                }
                let filtered: [&dyn AsRef<OsStr>; 2] = [&"--where", &"color=green"];
                let found = gallery(&[&search[..], &words, &filtered].concat());
                let found: serde_json::Value = serde_json::from_str(&found).unwrap();
                assert_eq!(found["matches"].as_array().unwrap().len(), 1, "{kind} {values} {rule}");
                assert_eq!(found["matches"][0]["label"], "class 1 类");
            }
        }
    }
    let stats = gallery(&[&"stats", &file, &"--json"]);
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    assert_eq!(stats["entries"], 12);
    assert_eq!(stats["values"], "i8");
    assert_eq!(stats["index"]["kind"], "binary");
    assert_eq!(stats["recommended"]["kind"], "flat");
    assert!(gallery(&[&"stats", &file]).contains("12 × 16 i8"));

    // Other pictures of the same things, and one of something else.
    let held_out = world.path("held out");
    for class in 0..4 {
        for number in 7..9 {
            let name = format!("held out/class {class} 类/{number}.png");
            world.write(&name, shape(class, number, 40).encode_png().unwrap());
        }
    }
    let curve = world.path("curve.svg");
    let out = gallery(&[
        &"calibrate",
        &file,
        &"--query",
        &held_out,
        &"--extractor",
        &model,
        &"--curve",
        &curve,
        &"--write",
        &"--even-if-poor",
        &"--json",
    ]);
    let out: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&out["pictures"], &out["of_unknown_classes"]), (&8.into(), &2.into()));
    assert_eq!((&out["false_accept"], &out["kept"]), (&0.0.into(), &true.into()));
    let kept = opened(&file).min_similarity().expect("it was kept");
    assert!((out["min_similarity"].as_f64().unwrap() - f64::from(kept)).abs() < 1e-6);
    assert!(std::fs::read_to_string(&curve).unwrap().starts_with("<svg"));

    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    assert!(refused(&[&"verify", &file]).contains("cut off"));
}

/// Starts `magpie gallery` and kills it after so long; whether it had ended before.
fn killed_after(words: &[&dyn AsRef<OsStr>], wait: Duration) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
    command.arg("gallery").stdout(Stdio::null()).stderr(Stdio::null());
    for word in words {
        command.arg(word.as_ref());
    }
    let mut child = command.spawn().expect("magpie runs");
    std::thread::sleep(wait);
    let ended = child.try_wait().expect("a status").is_some();
    // It may end just now; then there is nothing to kill.
    let _ = child.kill();
    child.wait().expect("a status");
    ended
}

#[test]
fn a_killed_command_leaves_the_old_gallery_or_the_new_one() {
    let world = World::new();
    let model = world.model();
    let pictures = world.pictures("pictures", 2, 2);
    let more = world.pictures("more", 4, 6);
    let file = world.path("gallery.bin");
    gallery(&[&"build", &"--images", &pictures, &"--extractor", &model, &"--out", &file]);
    // Large enough that writing takes a while.
    let mut large = opened(&file);
    for number in 0..60_000_u32 {
        let embedding: Vec<f32> = (0..16).map(|i| ((number * 31 + i * 17) % 97) as f32).collect();
        large.add(0, &embedding).unwrap();
    }
    let old = large.to_bytes();
    let words: [(&str, Vec<&dyn AsRef<OsStr>>); 2] = [
        ("add", vec![&"add", &file, &"--images", &more, &"--extractor", &model]),
        ("compact", vec![&"compact", &file, &"--values", &"i8", &"--index", &"binary"]),
    ];
    for (name, words) in words {
        std::fs::write(&file, &old).unwrap();
        gallery(&words);
        let new = std::fs::read(&file).unwrap();
        assert!(new != old, "{name}");
        let (mut before, mut after) = (0, 0);
        for attempt in 0..400_u64 {
            std::fs::write(&file, &old).unwrap();
            let ended = killed_after(&words, Duration::from_millis(2 + 7 * attempt));
            let now = std::fs::read(&file).unwrap();
            assert!(now == old || now == new, "{name}, attempt {attempt}: neither old nor new");
            (if now == new { &mut after } else { &mut before }).add_assign(1);
            if ended {
                break;
            }
        }
        assert!(before > 0 && after > 0, "{name}: {before} old, {after} new");
    }
}

/// Starts `magpie gallery` with these words.
fn started(words: &[&dyn AsRef<OsStr>]) -> std::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
    command.arg("gallery").stdout(Stdio::null()).stderr(Stdio::piped());
    for word in words {
        command.arg(word.as_ref());
    }
    command.spawn().expect("magpie runs")
}

#[test]
fn commands_at_once_lose_nothing() {
    let world = World::new();
    let model = world.model();
    let pictures = world.pictures("pictures", 2, 2);
    let file = world.path("gallery.bin");
    gallery(&[&"build", &"--images", &pictures, &"--extractor", &model, &"--out", &file]);
    let ended = |children: Vec<std::process::Child>| {
        for child in children {
            let output = child.wait_with_output().expect("a status");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    };
    let facts: Vec<String> = (0..6).map(|number| format!("fact {number}=x")).collect();
    let describe = |fact: &String| started(&[&"describe", &file, &"class 0 类", &"--set", fact]);
    ended(facts.iter().map(describe).collect());
    assert_eq!(opened(&file).classes()[0].metadata.len(), 6);

    for number in 0..40_u32 {
        let folder = number % 2;
        let picture = shape(0, 0, 20 + number).encode_png().unwrap();
        world.write(&format!("more {folder}/class {folder}/{number}.png"), picture);
    }
    let add = |folder: &str| {
        started(&[&"add", &file, &"--images", &world.path(folder), &"--extractor", &model])
    };
    ended(["more 0", "more 1"].map(add).into());
    let both = opened(&file);
    assert_eq!((both.len(), both.counts()), (44, vec![2, 2, 20, 20]));
    let left = std::fs::read_dir(world.path("")).unwrap().flatten();
    let left: Vec<_> =
        left.map(|e| e.file_name()).filter(|n| n.as_encoded_bytes()[0] == b'.').collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn who_waits_says_for_what() {
    let world = World::new();
    let model = world.model();
    let pictures = world.pictures("pictures", 2, 2);
    let [file, other] = ["gallery.bin", "other.bin"].map(|name| world.path(name));
    gallery(&[&"build", &"--images", &pictures, &"--extractor", &model, &"--out", &file]);
    let e: [&dyn AsRef<OsStr>; 2] = [&"--extractor", &model];
    let held = ["gallery.bin", "other.bin"]
        .map(|name| native_trainer::files::Lock::acquire(&world.path(name)).unwrap());
    let waiting: Vec<(&Path, std::process::Child)> = vec![
        (
            &file,
            started(
                &[&[&"add" as &dyn AsRef<OsStr>, &file, &"--images", &pictures], &e[..]].concat(),
            ),
        ),
        (&file, started(&[&"remove", &file, &"--class", &"class 0 类"])),
        (&file, started(&[&"rename", &file, &"class 1 类", &"mug"])),
        (&file, started(&[&"compact", &file])),
        (&other, started(&[&"compact", &file, &"--out", &other])),
        (&other, started(&[&"merge", &file, &file, &"--out", &other])),
        (
            &other,
            started(
                &[
                    &[&"build" as &dyn AsRef<OsStr>, &"--images", &pictures, &"--out", &other],
                    &e[..],
                ]
                .concat(),
            ),
        ),
        (
            &file,
            started(
                &[
                    &[&"calibrate" as &dyn AsRef<OsStr>, &file, &"--query", &pictures, &"--write"],
                    &e[..],
                ]
                .concat(),
            ),
        ),
    ];
    // Who only reads does not wait.
    gallery(&[&"list", &file]);
    let words: [&dyn AsRef<OsStr>; 4] = [&"calibrate", &file, &"--query", &pictures];
    gallery(&[&words[..], &e[..]].concat());
    let mut waiting: Vec<_> = (waiting.into_iter())
        .map(|(file, mut child)| {
            let mut line = String::new();
            let mut errors = BufReader::new(child.stderr.take().expect("a pipe"));
            errors.read_line(&mut line).expect("a line");
            let expected =
                format!("waiting: process {} changes {}\n", std::process::id(), file.display());
            assert_eq!(line, expected);
            child
        })
        .collect();
    assert!(waiting.iter_mut().all(|child| child.try_wait().expect("a status").is_none()));
    drop(held);
    let ended: Vec<bool> =
        waiting.into_iter().map(|mut child| child.wait().expect("a status").success()).collect();
    // So few pictures give a poor threshold, which the last one says.
    assert!(ended[..ended.len() - 1].iter().all(|ended| *ended), "{ended:?}");
    assert_eq!(opened(&file).classes()[0].label, "mug");
}
