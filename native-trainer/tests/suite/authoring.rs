//! One authoring core: what the command writes is what the core makes of the same photographs, as bytes in and bytes out.

use std::collections::BTreeMap;
use std::path::Path;

use authoring::Record;
use authoring::adaptation::Options;
use authoring::workshop::{Photo, Project, Stage, Tell, Workshop};

use crate::world::{World, shape, tree};

/// Photographs of four classes, a page with a service worker, and an extractor.
fn world() -> World {
    let world = World::new();
    world.model();
    world.page();
    world.write("dist/sw.js", "const VERSION = \"unpublished\";");
    world.write("dist/app.webmanifest", r#"{"name": "Magpie", "short_name": "Magpie"}"#);
    world.write("dist/worker-author.js", "export default 0;".repeat(20));
    world.write("dist/web.js", "export const web = 1;".repeat(20));
    for class in 0..4 {
        for number in 0..4 {
            let picture = shape(class, number, 40 + 2 * number as u32);
            let picture = picture.encode_png().expect("a PNG");
            world.write(&format!("photos/class {class} 类/{number}.png"), picture);
        }
    }
    // One that cannot be used.
    world.write("photos/class 0 类/9.png", b"\x89PNG\r\n\x1a\nbroken");
    world
}

fn project(photos: Vec<Photo>) -> Project {
    Project {
        title: "Shelf<1>".to_owned(),
        photos,
        crop: None,
        learn: Options::default(),
        metadata: Vec::new(),
        samples: Vec::new(),
    }
}

/// What a page does: looks at each photograph, keeps the records, and knows nothing else.
fn looked(workshop: &mut Workshop, world: &World) -> Vec<Photo> {
    let mut photos = Vec::new();
    for (name, bytes) in tree(&world.path("photos")) {
        let path = Path::new("photos").join(&name);
        let Ok(record) = workshop.look(&path, &bytes, None) else { continue };
        let id = workshop.know(&record.to_bytes(workshop.key())).expect("a record");
        let label = name.split('/').next().unwrap_or_default().to_owned();
        photos.push(Photo { id, name: path, label });
    }
    photos
}

fn open(world: &World) -> Workshop {
    let extractor = std::fs::read(world.path("model.safetensors")).expect("a model");
    Workshop::open(extractor, None).expect("an extractor")
}

#[test]
fn the_command_and_the_core_make_the_same_gallery_report_and_site() {
    let world = world();
    world.succeed(
        "site photos --out site --title Shelf<1> --extractor model.safetensors --page dist",
    );
    let mut workshop = open(&world);
    let photos = looked(&mut workshop, &world);
    assert_eq!(photos.len(), 16);
    let page: BTreeMap<String, Vec<u8>> = tree(&world.path("dist"));
    let mut stages = Vec::new();
    let mut tell = |stage: Stage, done: usize, of: usize| {
        assert!(done <= of);
        stages.push(stage);
        anyhow::Ok(())
    };
    let made = workshop.make(&project(photos), page, true, &mut tell).expect("a site");
    let written = |name: &str| std::fs::read(world.path(name)).expect("a file");
    assert!(made.gallery == written("site.report/gallery.bin"), "the gallery is another one");
    let site = tree(&world.path("site"));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&made.site.files), names(&site));
    for (name, bytes) in &site {
        assert!(made.site.files.get(name) == Some(bytes), "{name} is another one");
    }
    // The page for makers of sites is nothing that a visitor's browser keeps unasked.
    let kept = String::from_utf8(site["precache.json"].clone()).expect("text");
    let kept: serde_json::Value = serde_json::from_str(&kept).expect("JSON");
    assert_eq!(kept["engines"]["author"], serde_json::json!(["worker-author.js"]));
    // A photograph that cannot be used is named by the command alone.
    let report = String::from_utf8(written("site.report/index.html")).expect("text");
    assert!(report.contains("Replace 1 picture, which cannot be used"), "{report}");
    let (_, behind) = report.split_once("<h2>What would help most</h2>").expect("a heading");
    let (_, pictures) = behind.split_once("</ol>").expect("a list");
    // Behind the page stands what tells an edited report from one that is as it was written.
    let (pictures, _) = pictures.split_once("<!-- as magpie wrote it").expect("a mark");
    assert!(made.report.contains(pictures), "the pictures of the report are others");
    assert_eq!(made.figures.photos, 16);
    assert!(stages.contains(&Stage::Photos) && stages.contains(&Stage::Packing), "{stages:?}");
}

#[test]
fn labels_change_without_a_photograph_and_what_is_unknown_is_named() {
    let world = world();
    let mut workshop = open(&world);
    let mut photos = looked(&mut workshop, &world);
    let tell: &mut Tell<'_> = &mut |_, _, _| Ok(());
    let first = workshop.measure(&project(photos.clone()), tell).expect("figures");
    assert_eq!(first.figures.classes.len(), 4);
    for photo in photos.iter_mut().filter(|photo| photo.label.starts_with("class 3")) {
        photo.label = " class 0 类 ".to_owned();
    }
    let second = workshop.measure(&project(photos.clone()), tell).expect("figures");
    let classes: Vec<(&str, usize)> =
        second.figures.classes.iter().map(|class| (class.label.as_str(), class.photos)).collect();
    assert_eq!(classes, [("class 0 类", 8), ("class 1 类", 4), ("class 2 类", 4)]);
    workshop.forget(photos[2].id);
    let third = workshop.measure(&project(photos.clone()), tell).expect("figures");
    assert_eq!(third.figures.left_out, [2]);
    photos[0].label = " \u{200b}".to_owned();
    let error = workshop.measure(&project(photos), tell).expect_err("a blank name");
    assert!(error.to_string().contains("the name of its class is blank; give it one"), "{error}");
    let stopped = workshop.measure(&project(Vec::new()), tell).expect_err("nothing");
    assert!(stopped.to_string().starts_with("none of the pictures can be used"), "{stopped}");
}

#[test]
fn work_stops_where_its_listener_says_so_and_records_are_of_one_key() {
    let world = world();
    let mut workshop = open(&world);
    let photos = looked(&mut workshop, &world);
    let page = tree(&world.path("dist"));
    let tell: &mut Tell<'_> = &mut |stage, _, _| match stage {
        Stage::Packing => anyhow::bail!("enough"),
        _ => Ok(()),
    };
    let stopped = workshop.make(&project(photos), page, true, tell).expect_err("stopped");
    assert_eq!(stopped.to_string(), "enough");
    let picture = shape(0, 0, 40).encode_png().expect("a PNG");
    let record: Record = workshop.look(Path::new("a.png"), &picture, None).expect("a record");
    let error = workshop.know(&record.to_bytes("another key")).expect_err("another key");
    assert!(error.to_string().contains("of another extractor, detector or version"), "{error}");
}
