//! `magpie site`: from photographs to a site, and again after some have come or gone.

use std::ffi::OsStr;
use std::path::Path;

use models::gallery::Crop;

use crate::world::{World, gallery, opened, parsed, shape, tree, with_fault};

const SITE: &str = "site photos --out site --extractor model.safetensors";

/// A world with a page, an extractor and photographs of four classes.
fn world(each: usize) -> World {
    let world = World::new();
    world.model();
    world.page();
    add(&world, "photos", 0..each);
    world
}

/// Photographs of four classes with these numbers, no two of which are the same.
fn add(world: &World, folder: &str, numbers: std::ops::Range<usize>) {
    for class in 0..4 {
        for number in numbers.clone() {
            let side = 40 + 2 * number as u32;
            let picture = shape(class, number, side).encode_png().expect("a PNG");
            world.write(&format!("{folder}/class {class} 类/{number}.png"), picture);
        }
    }
}

fn bytes(world: &World, name: &str) -> Vec<u8> {
    std::fs::read(world.path(name)).expect("a file")
}

/// The files of a site without those that name the time.
fn site(world: &World, name: &str) -> Vec<(String, Vec<u8>)> {
    tree(&world.path(name)).into_iter().collect()
}

#[test]
fn a_folder_of_somebody_else_is_no_place_for_the_report() {
    let world = world(1);
    // Somebody's own files.
    world.write("site.report/index.html", "my accounting");
    world.write("site.report/gallery.bin", "x");
    let error = world.fail(SITE);
    assert!(error.contains("site.report: is not a report that `magpie site` wrote"), "{error}");
    assert_eq!(bytes(&world, "site.report/index.html"), b"my accounting");
    assert_eq!(bytes(&world, "site.report/gallery.bin"), b"x");
    assert!(!world.path("site").exists());
    // Another published site, whose name ends like a report's.
    world.succeed("site photos --out other.report --extractor model.safetensors");
    let before = site(&world, "other.report");
    let error = world.fail("site photos --out other --extractor model.safetensors");
    assert!(error.contains("other.report: is not a report"), "{error}");
    assert_eq!(site(&world, "other.report"), before);
}

#[test]
fn what_does_not_stay_of_a_class_is_named() {
    let world = world(2);
    world.succeed(SITE);
    let kept = world.path("site.report/gallery.bin");
    let words = [&"class 0 类", &"--set", &"price=9", &"--min-similarity", &"0.9"];
    gallery(
        &[&[&"describe" as &dyn AsRef<OsStr>, &kept][..], &words.map(|word| word as _)].concat(),
    );
    gallery(&[&"describe", &kept, &"class 1 类", &"--set", &"price=8"]);
    // The same pictures are compared alike.
    world.succeed(&format!("{SITE} --crop never --adapt never"));
    world.succeed(&format!("{SITE} --crop never --adapt never"));
    let class = opened(&kept).classes()[0].clone();
    assert_eq!(class.metadata.get("price").map(String::as_str), Some("9"));
    assert_eq!(class.min_similarity, Some(0.9));
    std::fs::rename(world.path("photos/class 1 类"), world.path("photos/renamed"))
        .expect("a folder");
    let output = world.magpie(&format!("{SITE} --crop middle --adapt never"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("note: class 0 类: not kept: its own threshold"), "{told}");
    assert!(told.contains("note: class 1 类: not kept: its metadata"), "{told}");
}

#[test]
fn photographs_become_a_verified_site_with_a_report() {
    let world = world(4);
    let told = world.succeed(SITE);
    assert!(told.contains("4 classes, 16 pictures: 16 embedded, 0 known from before\n"), "{told}");
    assert!(told.contains("named rightly, each picture asked without itself: "), "{told}");
    assert!(
        told.contains("site: 1")
            && told.contains("; checked\n")
            && told.contains("show it by: magpie serve site"),
        "{told}"
    );
    world.succeed("verify site");
    let gallery = opened(&world.path("site.report/gallery.bin"));
    assert_eq!((gallery.len(), gallery.classes().len()), (16, 4));
    // So few pictures may say too little of unknown things.
    assert!(gallery.calibration().is_some() || told.contains("no threshold is kept: "), "{told}");
    let report = String::from_utf8(bytes(&world, "site.report/index.html")).expect("text");
    assert!(report.contains("<title>Magpie: report</title>"), "{report}");
    assert!(report.contains("How good it is") && report.contains("What would help most"));
    assert!(report.contains("4 classes have fewer than 5 pictures"), "{report}");
    for (name, file) in site(&world, "site") {
        assert!(!name.contains("report") && !name.contains("embeddings"), "{name} is published");
        assert!(!String::from_utf8_lossy(&file).contains("What would help most"), "{name}");
    }

    // The same again: nothing is embedded, and every byte is the same.
    let (first, before) = (site(&world, "site"), bytes(&world, "site.report/gallery.bin"));
    let told = world.succeed(SITE);
    assert!(told.contains("16 pictures: 0 embedded, 16 known from before\n"), "{told}");
    assert!(site(&world, "site") == first && bytes(&world, "site.report/gallery.bin") == before);

    // A title stays until another one is given.
    let manifest =
        || parsed(&String::from_utf8(bytes(&world, "site/bundle/manifest.json")).expect("text"));
    for (option, title) in
        [(" --title Shelf", "Shelf"), ("", "Shelf"), (" --title Magpie", "Magpie")]
    {
        let told = world.succeed(&format!("{SITE}{option}"));
        assert!(!told.contains("not kept of the site"), "{told}");
        assert_eq!(manifest()["title"], title);
    }

    // A list of the same pictures is the same.
    let line = |number: usize| {
        let (class, number) = (number / 4, number % 4);
        format!("photos/class {class} 类/{number}.png\tclass {class} 类\n")
    };
    world.write("list.txt", (0..16).map(line).collect::<String>());
    world.succeed("site list.txt --out listed --extractor model.safetensors --report never");
    assert!(bytes(&world, "listed.report/gallery.bin") == before);
    assert!(site(&world, "listed") == first && !world.path("listed.report/index.html").exists());
}

#[test]
fn photographs_come_and_go_and_the_rest_is_not_embedded_again() {
    let world = world(3);
    world.succeed(SITE);
    let gallery = world.path("site.report/gallery.bin");
    let described: [&dyn AsRef<std::ffi::OsStr>; 6] =
        [&"describe", &gallery, &"--class", &"class 0 类", &"--set", &"price=9 €"];
    crate::world::gallery(&described);
    add(&world, "photos", 3..5);
    std::fs::remove_file(world.path("photos/class 2 类/0.png")).expect("a picture");
    std::fs::remove_dir_all(world.path("photos/class 3 类")).expect("a class");
    let told = world.succeed(SITE);
    assert!(
        told.contains("3 classes, 14 pictures: 6 embedded, 8 known from before, 4 gone\n"),
        "{told}"
    );
    world.succeed("verify site");
    let now = opened(&gallery);
    let labels: Vec<&str> = now.classes().iter().map(|class| class.label.as_str()).collect();
    assert_eq!(labels, ["class 0 类", "class 1 类", "class 2 类"]);
    assert_eq!(now.classes()[0].metadata.get("price").map(String::as_str), Some("9 €"));

    // As if all of them had been there from the beginning.
    let (site_now, gallery_now) = (site(&world, "site"), bytes(&world, "site.report/gallery.bin"));
    std::fs::remove_file(world.path("site.report/embeddings.bin")).expect("a file");
    let told = world.succeed(SITE);
    assert!(told.contains("14 embedded, 0 known from before\n"), "{told}");
    assert!(bytes(&world, "site.report/gallery.bin") == gallery_now);
    assert!(site(&world, "site") == site_now);
}

#[test]
fn a_killed_command_goes_on_and_the_site_of_before_stays() {
    let world = world(3);
    world.succeed(SITE);
    let before = site(&world, "site");
    add(&world, "photos", 3..4);
    let words: Vec<String> = SITE.split(' ').map(str::to_owned).collect();
    let mut embedded = 4;
    for fault in ["kill:3", "full:9", "kill:14"] {
        let output = with_fault(&world.path(""), fault, &words);
        assert!(!output.status.success(), "{fault}");
        world.succeed("verify site");
        if site(&world, "site") != before {
            embedded = 0;
        }
    }
    let told = world.succeed(SITE);
    assert!(
        told.contains(&format!("{} known from before", 16 - embedded))
            || told.contains("16 known from before"),
        "{told}"
    );
    world.succeed("verify site");
    // What was killed leaves nothing behind.
    let folder = std::fs::read_dir(world.path("")).expect("a folder").flatten();
    let hidden: Vec<_> = folder
        .map(|entry| entry.file_name())
        .filter(|name| name.as_encoded_bytes().starts_with(b"."))
        .collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

#[test]
fn what_cannot_be_used_is_named_and_other_networks_embed_anew() {
    let world = world(3);
    world.write("photos/class 0 类/broken.png", "no picture");
    let plain = models::image::RgbImage::from_rgb(8, 8, vec![90; 192]).expect("a picture");
    world.write("photos/class 1 类/plain.png", plain.encode_png().expect("a PNG"));
    let told = world.succeed(&format!("{SITE} --crop never"));
    assert!(
        told.contains("broken.png") && told.contains("plain.png: all its pixels have one color"),
        "{told}"
    );
    assert!(
        told.contains("12 pictures: 12 embedded, 0 known from before; 2 pictures left out\n"),
        "{told}"
    );

    // Another part of the pictures is embedded, and said so.
    let told = world.succeed(&format!("{SITE} --crop middle"));
    assert!(told.contains("is another one (crop middle, before never)"), "{told}");
    assert!(told.contains("12 embedded"), "{told}");
    assert_eq!(opened(&world.path("site.report/gallery.bin")).crop(), Crop::Middle);
    let told = world.succeed(&format!("{SITE} --crop never"));
    assert!(told.contains("0 embedded, 12 known"), "{told}");

    // Another extractor.
    let mut model = bytes(&world, "model.safetensors");
    let place = model.len() - 1;
    model[place] ^= 1;
    world.write("model.safetensors", model);
    let told = world.succeed(&format!("{SITE} --crop never"));
    assert!(
        told.contains("the extractor, the detector or the program is another one than before"),
        "{told}"
    );
    assert!(told.contains("12 embedded, 0 known"), "{told}");
    let mut memory = bytes(&world, "site.report/embeddings.bin");
    memory.truncate(100);
    world.write("site.report/embeddings.bin", memory);
    let told = world.succeed(&format!("{SITE} --crop never --adapt never --calibrate never"));
    assert!(told.contains("embeddings.bin: what was known of the pictures is damaged"), "{told}");
    let gallery = opened(&world.path("site.report/gallery.bin"));
    assert!(gallery.min_similarity().is_none() && gallery.map().is_none());
}

#[test]
fn places_and_pages_are_looked_at_before_anything_is_embedded() {
    let world = world(2);
    let refused = |line: &str, told: &str| {
        let error = world.fail(&format!("site photos --extractor model.safetensors {line}"));
        assert!(error.contains(told), "{line}: {error}");
    };
    refused("--out photos/site", "the site would lie among the pictures");
    world.write("broken.png", "no picture");
    refused("--out site --sample broken.png", "error: --sample broken.png: not a picture");
    refused("--out site --sample none.png", "none.png: there is no such file");
    refused("--out site --page nowhere", "nowhere: no built page there");
    refused("--out site --crop main", "--crop main looks for the main body: give --detector, too");
    world.write("site/other.txt", "mine");
    refused("--out site", "holds other files (other.txt); choose an empty folder");
    assert!(!world.path("site.report/embeddings.bin").exists());
    let error = world.fail("site nowhere --extractor model.safetensors --out new");
    assert!(error.contains("nowhere: there is no such file or folder"), "{error}");

    let line = "site photos --extractor model.safetensors --out new --samples 2 --json";
    let output = world.magpie(line);
    let told = parsed(&String::from_utf8_lossy(&output.stdout));
    assert_eq!((&told["classes"], &told["pictures"]), (&4.into(), &8.into()));
    assert!(told["recall_at_1"].as_f64().is_some_and(|rate| (0.0..=1.0).contains(&rate)));
    assert_eq!(
        told["report"],
        Path::new("new.report").join("index.html").to_string_lossy().as_ref()
    );
    let samples = String::from_utf8(bytes(&world, "new/samples.json")).expect("text");
    assert_eq!(parsed(&samples).as_array().map(Vec::len), Some(2), "{samples}");
}

#[test]
fn a_picture_that_is_given_twice_is_counted_once() {
    let world = world(2);
    let copy = bytes(&world, "photos/class 0 类/0.png");
    world.write("photos/class 0 类/copy.png", &copy);
    let told = world.succeed(SITE);
    let counted = "9 pictures: 8 embedded, 0 known from before, 1 the same as others\n";
    assert!(told.contains(counted), "{told}");
    let told = world.succeed(SITE);
    let counted = "9 pictures: 0 embedded, 8 known from before, 1 the same as others\n";
    assert!(told.contains(counted), "{told}");
    // What became of the map is one sentence.
    let about = |line: &&str| line.starts_with("not adapted: ") || line.starts_with("adapted: ");
    assert_eq!(told.lines().filter(about).count(), 1, "{told}");
}

#[test]
fn a_report_that_somebody_has_edited_is_kept_and_an_old_one_goes() {
    let world = world(2);
    world.succeed(SITE);
    let report = world.path("site.report/index.html");
    world.write("site.report/index.html", "my notes");
    let output = world.magpie(SITE);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("index.html: had been edited and was replaced; the edited one is kept"),
        "{told}"
    );
    assert_eq!(bytes(&world, "site.report/index.html.edited"), b"my notes");
    let output = world.magpie(SITE);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("edited"));
    world.succeed(&format!("{SITE} --report never"));
    assert!(!report.exists(), "it is of another time");
}

#[test]
fn a_threshold_of_other_pictures_stays_and_options_that_are_given_are_not_lost() {
    let world = world(4);
    let told = world.succeed(&format!("{SITE} --title Shelf"));
    assert!(!told.contains("not kept"), "{told}");
    let path = world.path("site.report/gallery.bin");
    let mut given = opened(&path);
    given.set_min_similarity(Some(0.123)).expect("a cosine");
    std::fs::write(&path, given.to_bytes()).expect("a file");
    let told = world.succeed(&format!("{SITE} --title Board"));
    assert!(told.contains("threshold kept: 0.123, for rule nearest; --calibrate always"), "{told}");
    assert!(!told.contains("not kept"), "{told}");
    assert_eq!(opened(&path).min_similarity(), Some(0.123));
    let told = world.succeed(&format!("{SITE} --calibrate always"));
    assert!(!told.contains("not kept"), "{told}");
    let manifest = String::from_utf8(bytes(&world, "site/bundle/manifest.json")).expect("text");
    assert_eq!(parsed(&manifest)["title"], "Board");
    assert_ne!(opened(&path).min_similarity(), Some(0.123));
}

#[test]
fn a_zip_file_is_the_folder_that_it_holds() {
    let world = world(3);
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, picture) in tree(&world.path("photos")) {
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file(format!("my photos/{name}"), options).expect("a name");
        std::io::Write::write_all(&mut zip, &picture).expect("memory");
    }
    zip.start_file(
        "__MACOSX/my photos/class 0 类/._0.png",
        zip::write::SimpleFileOptions::default(),
    )
    .expect("a name");
    let zip = zip.finish().expect("memory").into_inner();
    world.write("photos.zip", &zip);
    world.succeed(&format!("{SITE} --samples 2"));
    let told =
        world.succeed("site photos.zip --out zipped --samples 2 --extractor model.safetensors");
    assert!(told.contains("4 classes, 12 pictures: 12 embedded, 0 known from before\n"), "{told}");
    assert!(bytes(&world, "zipped.report/gallery.bin") == bytes(&world, "site.report/gallery.bin"));
    assert!(site(&world, "zipped") == site(&world, "site"));
    let build = "--extractor model.safetensors --out";
    world.succeed(&format!("gallery build --images photos.zip {build} zip.bin"));
    world.succeed(&format!("gallery build --images photos {build} folder.bin"));
    assert!(bytes(&world, "zip.bin") == bytes(&world, "folder.bin"));
    let error = world.fail("data check photos.zip");
    assert!(
        error.contains("photos.zip: is a zip file; `magpie site` and `magpie gallery` read it"),
        "{error}"
    );
    world.write("cut.zip", &zip[..zip.len() - 40]);
    let error = world.fail("site cut.zip --out cut --extractor model.safetensors");
    assert!(error.contains("cut.zip: this zip file cannot be read: "), "{error}");
}

#[test]
fn one_class_and_one_picture_are_told_as_what_they_are() {
    let world = World::new();
    world.model();
    world.page();
    world.write("photos/mug/1.png", shape(0, 0, 40).encode_png().expect("a PNG"));
    let told = world.succeed(SITE);
    assert!(told.contains("1 class, 1 picture: 1 embedded, 0 known from before\n"), "{told}");
    assert!(
        told.contains("there is one class: everything gets its name until there is a second one"),
        "{told}"
    );
    assert!(!told.contains("100.0 ±") && !told.contains("of 1 class have"), "{told}");
    let report = String::from_utf8(bytes(&world, "site.report/index.html")).expect("text");
    assert!(report.contains("There is one class, and everything gets its name"), "{report}");
    world.write("two/a/1.png", shape(0, 0, 40).encode_png().expect("a PNG"));
    world.write("two/b/1.png", shape(1, 0, 40).encode_png().expect("a PNG"));
    let told = world.succeed("site two --out second --extractor model.safetensors");
    assert!(told.contains("no class has two different pictures"), "{told}");
}
