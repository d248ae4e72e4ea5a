//! Entries of parts of pictures: their middles, and the main bodies that a detector finds.

use std::path::{Path, PathBuf};

use models::gallery::{ContentId, Crop, Gallery};
use models::image::RgbImage;
use models::image::geometry::BBox;
use models::model_file::ModelFile;
use models::recognizer::{detect, main_body};

use crate::world::{World, gallery, opened, parsed, refused, succeed};

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

#[test]
fn middles_are_remembered_added_searched_and_published() {
    let world = World::new();
    let model = world.model();
    let wholes = disks(&world, "wholes", 2, 2, |picture| picture);
    let middles = disks(&world, "middles", 2, 2, |picture| middle(&picture));
    let (built, plain) = (world.path("built.bin"), world.path("plain.bin"));
    let build = |images: &Path, out: &Path, crop: &str| {
        gallery(&[
            &"build",
            &"--images",
            &images,
            &"--extractor",
            &model,
            &"--out",
            &out,
            &"--crop",
            &crop,
        ])
    };
    build(&wholes, &built, "middle");
    build(&middles, &plain, "never");
    assert_eq!(embeddings(&opened(&built)), embeddings(&opened(&plain)));
    assert_eq!((opened(&built).crop(), opened(&plain).crop()), (Crop::Middle, Crop::Never));
    let stats = parsed(&gallery(&[&"stats", &built, &"--json"]));
    assert_eq!(stats["crop"], "middle");

    // What is added later is looked at in the same way, and so is what is searched.
    let picture = world.write("more.png", disk(3, 1).encode_png().expect("a PNG"));
    let part = world.write("part.png", middle(&disk(3, 1)).encode_png().expect("a PNG"));
    for (file, picture) in [(&built, &picture), (&plain, &part)] {
        gallery(&[&"add", file, &"--class", &"yellow", &"--extractor", &model, picture]);
    }
    assert_eq!(embeddings(&opened(&built)), embeddings(&opened(&plain)));
    let found = gallery(&[&"search", &built, &"--extractor", &model, &"--json", &picture]);
    let best = &parsed(&found)["matches"][0];
    assert!(best["label"] == "yellow" && best["similarity"].as_f64() > Some(0.999), "{found}");

    // A page does the same where it looks at the whole picture.
    let (page, site) = (world.page(), world.path("site"));
    succeed(&[
        &"publish",
        &"--page",
        &page,
        &"--gallery",
        &built,
        &"--extractor",
        &model,
        &"--out",
        &site,
        &"--title",
        &"x",
    ]);
    let manifest = std::fs::read_to_string(site.join("bundle/manifest.json")).expect("a manifest");
    assert_eq!(parsed(&manifest)["settings"]["middle"], true);
    let told = succeed(&[&"recognize", &"--bundle", &site.join("bundle"), &"--json", &picture]);
    assert!(told.contains("yellow"), "{told}");
}

#[test]
fn entries_are_of_what_the_detector_finds() {
    let world = World::new();
    let (model, detector) = (world.model(), detector());
    let wholes = disks(&world, "wholes", 2, 2, |picture| picture);
    let mains = disks(&world, "mains", 2, 2, |picture| main_of(&picture));
    let (main, both, plain, never) = (
        world.path("main.bin"),
        world.path("both.bin"),
        world.path("plain.bin"),
        world.path("never.bin"),
    );
    for (images, out, crop) in [
        (&wholes, &main, "main"),
        (&wholes, &both, "both"),
        (&mains, &plain, "never"),
        (&wholes, &never, "never"),
    ] {
        gallery(&[
            &"build",
            &"--images",
            images,
            &"--extractor",
            &model,
            &"--out",
            out,
            &"--crop",
            &crop,
            &"--detector",
            &detector,
        ]);
    }
    assert_eq!(embeddings(&opened(&main)), embeddings(&opened(&plain)));
    assert_eq!(opened(&main).crop(), Crop::Main);
    // Whole and main body of each picture in turn, under one content id.
    let (both_of, whole_of) = (opened(&both), opened(&never));
    let pairs = embeddings(&whole_of).into_iter().zip(embeddings(&opened(&plain)));
    assert_eq!(embeddings(&both_of), pairs.flat_map(|(a, b)| [a, b]).collect::<Vec<_>>());
    let ids: Vec<ContentId> = both_of.entries().map(|entry| both_of.content_id(entry)).collect();
    assert!(ids.chunks(2).all(|pair| pair[0] == pair[1]) && ids[0] != ids[2]);

    // Nobody forgets the detector, and a picture that is there is not added again.
    let error = refused(&[&"add", &both, &"--images", &wholes, &"--extractor", &model]);
    assert!(error.contains("(crop both): give --detector"), "{error}");
    let told = gallery(&[
        &"add",
        &both,
        &"--images",
        &wholes,
        &"--extractor",
        &model,
        &"--detector",
        &detector,
    ]);
    assert!(told.contains("0 added, 4 there already"), "{told}");
    // The same picture in another class brings both of its parts; without it both are gone.
    let picture = wholes.join("class 0/0.png");
    gallery(&[
        &"add",
        &both,
        &"--class",
        &"other",
        &"--extractor",
        &model,
        &"--detector",
        &detector,
        &picture,
    ]);
    let grown = opened(&both);
    assert_eq!(grown.counts()[grown.class_by_label("other").expect("the class")], 2);
    // Galleries join with all parts, and once.
    let joined = world.path("joined.bin");
    gallery(&[&"merge", &both, &both, &"--out", &joined]);
    assert_eq!(opened(&joined).len(), 10);
    gallery(&[&"rename", &joined, &"other", &"class 1"]);
    assert_eq!(opened(&joined).counts(), [4, 6]);
    gallery(&[&"remove", &joined, &"--image", &picture]);
    assert_eq!((opened(&joined).len(), opened(&joined).crop()), (6, Crop::Both));
}

#[test]
fn what_is_measured_better_is_kept() {
    let world = World::new();
    let (model, detector) = (world.model(), detector());
    let wholes = disks(&world, "wholes", 4, 4, |picture| picture);
    let out = world.path("gallery.bin");
    let told = gallery(&[
        &"build",
        &"--images",
        &wholes,
        &"--extractor",
        &model,
        &"--out",
        &out,
        &"--detector",
        &detector,
    ]);
    // The grounds are the larger part of a picture, and those of the other classes.
    assert!(told.contains("crop: main (16 pictures, each searched among the others"), "{told}");
    let kept = opened(&out);
    assert_eq!((kept.crop(), kept.len()), (Crop::Main, 16));
    // What was measured with is what is written.
    let again = world.path("again.bin");
    gallery(&[
        &"build",
        &"--images",
        &wholes,
        &"--extractor",
        &model,
        &"--out",
        &again,
        &"--detector",
        &detector,
        &"--crop",
        &"main",
    ]);
    assert_eq!(std::fs::read(&out).expect("a file"), std::fs::read(&again).expect("a file"));

    // Too few to measure by: nothing is left out.
    let few = disks(&world, "few", 2, 1, |picture| picture);
    let told = gallery(&[
        &"build",
        &"--images",
        &few,
        &"--extractor",
        &model,
        &"--out",
        &out,
        &"--detector",
        &detector,
    ]);
    assert!(told.contains("crop: both (too few pictures") && told.contains("4 entries"), "{told}");
    let error = refused(&[
        &"build",
        &"--images",
        &few,
        &"--extractor",
        &model,
        &"--out",
        &out,
        &"--crop",
        &"main",
    ]);
    assert!(error.contains("--crop main looks for the main body: give --detector"), "{error}");
    assert!(!error.contains("is replaced"), "nothing was: {error}");
    // Without a detector the middle is what may be better.
    let words: [&dyn AsRef<std::ffi::OsStr>; 7] =
        [&"build", &"--images", &wholes, &"--extractor", &model, &"--out", &out];
    let told = gallery(&words);
    assert!(
        told.contains("16 pictures, each searched among the others, recall@1: whole"),
        "{told}"
    );
    let kept = opened(&out).crop();
    assert!(told.contains(&format!("crop: {} (", kept.name())), "{told}");
    assert!([Crop::Never, Crop::Middle].contains(&kept));
}
