//! What `magpie gallery` and `publish` keep of a calibration, and what they say of classes, folders and models.

use std::ffi::OsStr;

use models::gallery::{Class, Gallery};

use crate::world::{World, fail, gallery, opened, parsed, publishing, refused, shape, succeed};

#[test]
fn the_rule_is_kept_beside_the_threshold() {
    let world = World::new();
    let (model, page) = (world.model(), world.page());
    let pictures = world.pictures("pictures", 3, 4);
    let file = world.path("gallery.bin");
    gallery(&[&"build", &"--images", &pictures, &"--extractor", &model, &"--out", &file]);
    let held_out = world.pictures("held out", 4, 5);
    let site = world.path("site");
    let publish = |words: &[&dyn AsRef<OsStr>]| {
        let said = succeed(&[&publishing(&model, &file, &page, &site)[..], words].concat());
        let manifest = std::fs::read(site.join("bundle/manifest.json")).expect("a manifest");
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
        (said, manifest["settings"]["answer"]["kind"].clone())
    };
    let (said, rule) = publish(&[]);
    let told = "threshold 0.5 (default, not measured: `magpie gallery calibrate --write` measures one), rule nearest";
    assert!(said.contains(told), "{said}");
    assert_ne!(rule, "centroid");

    let words: [&dyn AsRef<OsStr>; 9] = [
        &"calibrate",
        &file,
        &"--query",
        &held_out,
        &"--extractor",
        &model,
        &"--rule",
        &"centroid",
        &"--write",
    ];
    let said = gallery(&[&words[..], &[&"--even-if-poor"]].concat());
    assert!(said.contains("kept, with rule class-mean"), "{said}");
    let things = "known things    15 pictures of the gallery's classes\nunknown things  20: 5 pictures of \
                  things that the gallery does not have, and 15 of known things once more";
    assert!(said.contains(things), "{said}");
    let measured = "measured with rule class-mean";
    assert!(gallery(&[&"list", &file]).contains(measured));
    assert!(gallery(&[&"stats", &file]).contains(measured));
    for command in ["list", "stats"] {
        let said = parsed(&gallery(&[&command, &file, &"--json"]));
        assert_eq!(said["rule"]["kind"], "centroid");
        assert!(said["min_similarity"].is_number());
    }
    let query = held_out.join("class 0 类/0.png");
    let search = |words: &[&dyn AsRef<OsStr>]| {
        let start: [&dyn AsRef<OsStr>; 6] =
            [&"search", &file, &query, &"--extractor", &model, &"--json"];
        parsed(&gallery(&[&start[..], words].concat()))["matches"].clone()
    };
    assert_eq!(search(&[]), search(&[&"--rule", &"centroid"]));
    assert_ne!(search(&[]), search(&[&"--rule", &"nearest"]));
    let vote: [&dyn AsRef<OsStr>; 6] =
        [&"--rule", &"vote", &"--neighbors", &"3", &"--ef-search", &"9"];
    let old: [&dyn AsRef<OsStr>; 6] = [
        &"--rule",
        &"vote",
        &"--neighbours", // An old name.
        &"3",
        &"--effort",
        &"9",
    ];
    assert_eq!(search(&vote), search(&old));
    let strict =
        gallery(&[&"search", &file, &query, &"--extractor", &model, &"--where", &"price=1"]);
    assert!(strict.contains("no class fits --where\n"), "{strict}");

    let (said, rule) = publish(&[]);
    assert!(said.contains("(measured by `magpie gallery calibrate`), rule class-mean"), "{said}");
    assert_eq!(rule, "centroid");
    let (said, rule) = publish(&[&"--rule", &"vote", &"--neighbors", &"3"]);
    assert!(said.contains("measured with rule class-mean, not with vote of 3"), "{said}");
    assert_eq!(rule, "vote");
    let other: [&dyn AsRef<OsStr>; 4] = [&"--rule", &"nearest", &"--min-similarity", &"0.3"];
    let (said, rule) = publish(&other);
    assert!(said.contains("measured with rule class-mean, not with nearest"), "{said}");
    assert_ne!(rule, "centroid");
    let (said, rule) = publish(&[&"--min-similarity", &"0.25"]);
    assert!(said.contains("threshold 0.25 (given by --min-similarity), rule class-mean"), "{said}");
    assert_eq!(rule, "centroid");
}

#[test]
fn an_empty_gallery_is_published_with_a_warning() {
    let world = World::new();
    let (model, page) = (world.model(), world.page());
    let (file, site) = (world.path("gallery.bin"), world.path("site"));
    gallery(&[&"new", &file, &"--extractor", &model]);
    let said = succeed(&publishing(&model, &file, &page, &site));
    assert!(said.contains("warning: ") && said.contains("the gallery is empty"), "{said}");
}

#[test]
fn a_class_that_joins_another_one_brings_what_that_lacks() {
    let world = World::new();
    let mut shop = Gallery::new(4, "0123456789abcdef");
    let facts = |facts: &[(&str, &str)]| {
        facts.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
    };
    for (label, metadata, min_similarity) in [
        ("Mug", facts(&[("price", "9 €"), ("link", "https://a")]), Some(0.5)),
        ("Cup", facts(&[("price", "8 €"), ("size", "0.3 l")]), Some(0.75)),
        ("Glass", facts(&[("size", "0.2 l")]), None),
    ] {
        let class = Class { label: label.to_owned(), metadata, min_similarity };
        let class = shop.add_class(class, vec![]);
        shop.add(class, &[1.0, class as f32, 0.0, 0.0]).unwrap();
    }
    let file = world.write("shop.bin", shop.to_bytes());
    let said = gallery(&[&"rename", &file, &"Mug", &"Cup"]);
    assert!(said.contains("left out: price=9 € of \"Mug\"; \"Cup\" has its own"), "{said}");
    assert!(said.contains("left out: the threshold 0.5 of \"Mug\""), "{said}");
    assert!(!said.contains("link"), "{said}");
    let cup = opened(&file).classes()[0].clone();
    let all = facts(&[("price", "8 €"), ("size", "0.3 l"), ("link", "https://a")]);
    assert_eq!((cup.metadata, cup.min_similarity), (all, Some(0.75)));
    // What joins brings its threshold, too.
    let said = gallery(&[&"rename", &file, &"Cup", &"Glass"]);
    assert!(said.contains("left out: size=0.3 l") && !said.contains("threshold"), "{said}");
    let glass = opened(&file).classes()[0].clone();
    assert_eq!((glass.metadata["size"].as_str(), glass.min_similarity), ("0.2 l", Some(0.75)));
    assert!(gallery(&[&"verify", &file]).contains("whole; 1 class, 3 entries"));
}

#[test]
fn what_cannot_be_meant_says_what_to_give() {
    let world = World::new();
    let model = world.model();
    let pictures = world.pictures("pictures", 1, 1);
    let file = world.path("gallery.bin");
    let build =
        || gallery(&[&"build", &"--images", &pictures, &"--extractor", &model, &"--out", &file]);
    let said = build();
    assert!(said.contains("index: flat (1 entry, fewer than"), "{said}");
    assert!(said.contains("gallery.bin: 1 class, 1 picture, "), "{said}");

    let said = refused(&[&"describe", &file, &"class 0 类", &"--set", &"=x"]);
    assert!(said.contains("--set =x: write --set name=text"), "{said}");
    let said = gallery(&[&"describe", &file, &"--class", &"class 0 类", &"--set", &"a=x"]);
    assert!(said.contains("\"a\": \"x\""), "{said}");
    let picture = pictures.join("class 0 类/0.png");
    for given in [&[&picture as &dyn AsRef<OsStr>][..], &[], &[&"--class", &"Mug"]] {
        let start: [&dyn AsRef<OsStr>; 4] = [&"add", &file, &"--extractor", &model];
        let said = refused(&[&start[..], given].concat());
        assert!(said.contains("say what to add: `--class NAME` with the pictures"), "{said}");
    }

    // The folder of one class.
    let one = pictures.join("class 0 类");
    let all: [&dyn AsRef<OsStr>; 7] =
        [&"build", &"--images", &one, &"--extractor", &model, &"--out", &world.path("one.bin")];
    let said = refused(&all);
    assert!(said.contains("as the folder of one class does; give the folder that holds"), "{said}");
    assert!(
        said.contains(&std::fs::canonicalize(&pictures).unwrap().display().to_string()),
        "{said}"
    );

    // What a gallery built anew loses is said, also of a file whose embeddings cannot be read.
    gallery(&[&"describe", &file, &"class 0 类", &"--set", &"a=x"]);
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let said = build();
    let told = "another gallery was there, with 1 entry, metadata of 1 class;";
    assert!(said.contains(told), "{said}");

    // A folder inside of a class is no class, and is not taken.
    world.write("pictures/class 0 类/more/1.png", shape(0, 1, 40).encode_png().unwrap());
    world.write("pictures/empty/notes.txt", "nothing");
    let said = build();
    assert!(
        said.contains("a folder inside of a class; put its pictures right into the class"),
        "{said}"
    );
    assert!(said.contains("1 class, 1 picture, "), "{said}");
    assert!(said.contains("; 1 class without pictures; 1 folder left out"), "{said}");

    // One picture in two classes.
    std::fs::copy(&picture, world.path("pictures/empty/0.png")).unwrap();
    let said = build();
    let told = "empty/0.png: the same picture is in \"class 0 类\" and in \"empty\"";
    assert!(said.contains(told), "{said}");
    // A class of known pictures has a thumbnail like others.
    gallery(&[&"add", &file, &"--class", &"third", &"--extractor", &model, &picture]);
    let shown = opened(&file);
    let third = shown.classes().iter().position(|class| class.label == "third").unwrap();
    assert!(!shown.thumbnail(third).is_empty());
}

#[test]
fn a_gallery_of_another_extractor_names_both_files() {
    let world = World::new();
    let (model, page) = (world.model(), world.page());
    let query = world.write("query.png", shape(0, 0, 40).encode_png().unwrap());
    let foreign = world.write("foreign.bin", {
        let mut foreign = Gallery::new(16, "0000000000000000");
        let class = foreign.add_class(Class::default(), vec![]);
        foreign.add(class, &[1.0; 16]).unwrap();
        foreign.to_bytes()
    });
    let own = world.path("own.bin");
    gallery(&[&"new", &own, &"--extractor", &model]);
    let folder = world.pictures("pictures", 1, 1);
    let site = world.path("site");
    let commands: [&[&dyn AsRef<OsStr>]; 6] = [
        &[&"gallery", &"search", &foreign, &query, &"--extractor", &model],
        &[&"gallery", &"verify", &foreign, &"--extractor", &model],
        &[&"gallery", &"add", &foreign, &"--images", &folder, &"--extractor", &model],
        &[&"gallery", &"calibrate", &foreign, &"--query", &folder, &"--extractor", &model],
        &[&"gallery", &"merge", &own, &foreign, &"--out", &world.path("all.bin")],
        &publishing(&model, &foreign, &page, &site),
    ];
    for command in commands {
        let said = fail(command);
        let other = if command[1].as_ref() == "merge" { "own.bin" } else { "model.safetensors" };
        let told =
            format!("foreign.bin: belongs to another model than {}", world.path(other).display());
        assert!(said.contains(&told), "{said}");
    }
}

#[test]
fn a_gallery_that_cannot_answer_is_not_whole_and_not_published() {
    let world = World::new();
    let (model, page) = (world.model(), world.page());
    let pictures = world.pictures("pictures", 2, 2);
    let file = world.path("gallery.bin");
    gallery(&[&"build", &"--images", &pictures, &"--extractor", &model, &"--out", &file]);
    let whole = opened(&file);
    let mut never = whole.clone();
    never.set_min_similarity(Some(5.0)).unwrap();
    let mut twice = whole;
    let label = twice.classes()[0].label.clone();
    twice.add_class(Class { label, ..Class::default() }, Vec::new());
    for (broken, told) in [
        (never, "its threshold is 5, and similarities go from -1 to 1; measure it again"),
        (twice, "two classes have the label \"class 0 类\"; give one of them another"),
    ] {
        std::fs::write(&file, broken.to_bytes()).unwrap();
        let told = format!("gallery.bin: the gallery cannot answer as it should: {told}");
        let said = refused(&[&"verify", &file]);
        assert!(said.contains(&told), "{said}");
        let said = fail(&publishing(&model, &file, &page, &world.path("site")));
        assert!(said.contains(&told), "{said}");
    }
}
