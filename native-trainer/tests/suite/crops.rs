//! Entries of parts of pictures: their middles, and the main bodies that a detector finds.

use std::path::{Path, PathBuf};

use models::gallery::{ContentId, Crop, Gallery};
use models::image::RgbImage;
use models::image::geometry::BBox;
use models::model_file::ModelFile;
use models::recognizer::{detect, main_body};

use crate::world::{World, gallery, opened, parsed};

/// The demo's detector, which finds a disk of one color.
fn detector() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../www/demo/weights/detector.safetensors")
}

/// A disk of the class' color in a corner of a ground that has the color of the number.
fn disk(class: usize, number: usize) -> RgbImage {
    const SIDE: u32 = 120;
    let colors = [[220, 40, 40], [40, 160, 60], [50, 80, 220], [230, 190, 40]];
    let grounds = [[200, 210, 190], [60, 70, 80], [170, 120, 90], [120, 180, 200]];
    let center = [[36, 36], [84, 36], [36, 84], [84, 84]][number % 4];
    let data = (0..SIDE * SIDE).flat_map(|i| {
        let [dx, dy] = [i % SIDE, i / SIDE].map(|v| v as i32);
        let (dx, dy) = (dx - center[0], dy - center[1]);
        if dx * dx + dy * dy < 24 * 24 { colors[class % 4] } else { grounds[number % 4] }
    });
    RgbImage::from_rgb(SIDE, SIDE, data.collect()).expect("a picture")
}

/// `classes` folders with `each` disks, changed by `part`.
fn disks(
    world: &World,
    folder: &str,
    classes: usize,
    each: usize,
    part: impl Fn(RgbImage) -> RgbImage,
) -> PathBuf {
    for class in 0..classes {
        for number in 0..each {
            let picture = part(disk(class, number)).encode_png().expect("a PNG");
            world.write(&format!("{folder}/class {class}/{number}.png"), picture);
        }
    }
    world.path(folder)
}

fn embeddings(gallery: &Gallery) -> Vec<Vec<f32>> {
    gallery.entries().map(|entry| gallery.embedding(entry).into_owned()).collect()
}

fn middle(picture: &RgbImage) -> RgbImage {
    picture.crop(&BBox::middle(picture.width(), picture.height()))
}

/// What the pipeline finds in a picture first and foremost.
fn main_of(picture: &RgbImage) -> RgbImage {
    let file =
        ModelFile::from_bytes(&std::fs::read(detector()).expect("a model")).expect("a model");
    let detector = file.prepare_detector(&burn::tensor::Device::flex()).expect("a detector");
    let found = pollster::block_on(detect(
        &detector,
        picture,
        &models::detector::DetectionThresholds::default(),
    ))
    .expect("boxes");
    picture.crop(&main_body(&found).expect("the disk"))
}

/// What a gallery is built or added to with.
const MODEL: &str = "--extractor model.safetensors";
const BOTH: &str = "--extractor model.safetensors --detector detector.safetensors";

/// A folder with an extractor and the demo's detector.
fn world() -> World {
    let world = World::new();
    world.model();
    world.write("detector.safetensors", std::fs::read(detector()).expect("a model"));
    world
}

#[test]
fn middles_are_remembered_added_searched_and_published() {
    let world = world();
    disks(&world, "wholes", 2, 2, |picture| picture);
    disks(&world, "middles", 2, 2, |picture| middle(&picture));
    let (built, plain) = (world.path("built.bin"), world.path("plain.bin"));
    world.succeed(&format!("gallery build --images wholes {MODEL} --out built.bin --crop middle"));
    world.succeed(&format!("gallery build --images middles {MODEL} --out plain.bin --crop never"));
    assert_eq!(embeddings(&opened(&built)), embeddings(&opened(&plain)));
    assert_eq!((opened(&built).crop(), opened(&plain).crop()), (Crop::Middle, Crop::Never));
    let stats = parsed(&world.succeed("gallery stats built.bin --json"));
    assert_eq!(stats["crop"], "middle");

    // What is added later is looked at in the same way, and so is what is searched.
    world.write("more.png", disk(3, 1).encode_png().expect("a PNG"));
    world.write("part.png", middle(&disk(3, 1)).encode_png().expect("a PNG"));
    for (file, picture) in [("built.bin", "more.png"), ("plain.bin", "part.png")] {
        world.succeed(&format!("gallery add {file} --class yellow {MODEL} {picture}"));
    }
    assert_eq!(embeddings(&opened(&built)), embeddings(&opened(&plain)));
    let found = world.succeed(&format!("gallery search built.bin {MODEL} --json more.png"));
    let best = &parsed(&found)["matches"][0];
    assert!(best["label"] == "yellow" && best["similarity"].as_f64() > Some(0.999), "{found}");

    // A page does the same where it looks at the whole picture.
    world.page();
    world.succeed(&format!("publish --gallery built.bin {MODEL} --out site --title x"));
    let manifest = std::fs::read_to_string(world.path("site/bundle/manifest.json"));
    assert_eq!(parsed(&manifest.expect("a manifest"))["settings"]["middle"], true);
    let told = world.succeed("recognize --bundle site/bundle --json more.png");
    assert!(told.contains("yellow"), "{told}");
}

#[test]
fn entries_are_of_what_the_detector_finds() {
    let world = world();
    let wholes = disks(&world, "wholes", 2, 2, |picture| picture);
    disks(&world, "mains", 2, 2, |picture| main_of(&picture));
    for (images, out, crop) in [
        ("wholes", "main", "main"),
        ("wholes", "both", "both"),
        ("mains", "plain", "never"),
        ("wholes", "never", "never"),
    ] {
        world.succeed(&format!(
            "gallery build --images {images} {BOTH} --out {out}.bin --crop {crop}"
        ));
    }
    let file = |name: &str| opened(&world.path(name));
    assert_eq!(embeddings(&file("main.bin")), embeddings(&file("plain.bin")));
    assert_eq!(file("main.bin").crop(), Crop::Main);
    // Whole and main body of each picture in turn, under one content id.
    let (both_of, whole_of) = (file("both.bin"), file("never.bin"));
    let pairs = embeddings(&whole_of).into_iter().zip(embeddings(&file("plain.bin")));
    assert_eq!(embeddings(&both_of), pairs.flat_map(|(a, b)| [a, b]).collect::<Vec<_>>());
    let ids: Vec<ContentId> = both_of.entries().map(|entry| both_of.content_id(entry)).collect();
    assert!(ids.chunks(2).all(|pair| pair[0] == pair[1]) && ids[0] != ids[2]);

    // Nobody forgets the detector, and a picture that is there is not added again.
    let error = world.fail(&format!("gallery add both.bin --images wholes {MODEL}"));
    assert!(error.contains("(crop both): give --detector"), "{error}");
    let told = world.succeed(&format!("gallery add both.bin --images wholes {BOTH}"));
    assert!(told.contains("0 added, 4 there already"), "{told}");
    // The same picture in another class brings both of its parts; without it both are gone.
    let bytes = std::fs::read(wholes.join("class 0/0.png")).expect("a picture");
    world.write("picture.png", bytes);
    world.succeed(&format!("gallery add both.bin --class other {BOTH} picture.png"));
    let grown = file("both.bin");
    assert_eq!(grown.counts()[grown.class_by_label("other").expect("the class")], 2);
    // Galleries join with all parts, and once.
    world.succeed("gallery merge both.bin both.bin --out joined.bin");
    let joined = world.path("joined.bin");
    assert_eq!(opened(&joined).len(), 10);
    gallery(&[&"rename", &joined, &"other", &"class 1"]);
    assert_eq!(opened(&joined).counts(), [4, 6]);
    world.succeed("gallery remove joined.bin --image picture.png");
    assert_eq!((opened(&joined).len(), opened(&joined).crop()), (6, Crop::Both));
}

#[test]
fn what_is_measured_better_is_kept() {
    let world = world();
    disks(&world, "wholes", 4, 4, |picture| picture);
    let build = |more: &str| world.succeed(&format!("gallery build {BOTH} {more}"));
    let told = build("--images wholes --out gallery.bin");
    // The grounds are the larger part of a picture, and those of the other classes.
    assert!(told.contains("crop: main (16 pictures, each searched among the others"), "{told}");
    let out = world.path("gallery.bin");
    let kept = opened(&out);
    assert_eq!((kept.crop(), kept.len()), (Crop::Main, 16));
    // What was measured with is what is written.
    build("--images wholes --out again.bin --crop main");
    let again = std::fs::read(world.path("again.bin")).expect("a file");
    assert_eq!(std::fs::read(&out).expect("a file"), again);

    // Too few to measure by: nothing is left out.
    disks(&world, "few", 2, 1, |picture| picture);
    let told = build("--images few --out gallery.bin");
    assert!(told.contains("crop: both (too few pictures") && told.contains("4 entries"), "{told}");
    let line = format!("gallery build --images few {MODEL} --out gallery.bin --crop main");
    let error = world.fail(&line);
    assert!(error.contains("--crop main looks for the main body: give --detector"), "{error}");
    assert!(!error.contains("is replaced"), "nothing was: {error}");
    // Without a detector the middle is what may be better.
    let told = world.succeed(&format!("gallery build --images wholes {MODEL} --out gallery.bin"));
    assert!(
        told.contains("16 pictures, each searched among the others, recall@1: whole"),
        "{told}"
    );
    let kept = opened(&out).crop();
    assert!(told.contains(&format!("crop: {} (", kept.name())), "{told}");
    assert!([Crop::Never, Crop::Middle].contains(&kept));
}
