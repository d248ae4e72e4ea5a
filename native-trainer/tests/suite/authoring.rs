//! One authoring core: what the command writes is what the core makes of the same photographs, as bytes in and bytes out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use authoring::adaptation::Options;
use authoring::workshop::{Measured, Photo, Project, Stage, Tell, Workshop};
use authoring::{Part, Record};
use models::bundle::Manifest;
use models::gallery::{Crop, Gallery};

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
fn figures_at_once_are_those_of_what_was_learned_before() {
    let world = world();
    let mut workshop = open(&world);
    let mut photos = looked(&mut workshop, &world);
    let tell: &mut Tell<'_> = &mut |_, _, _| Ok(());
    let first = workshop.measure(&project(photos.clone()), tell).expect("figures");
    // Another name teaches nothing else.
    for photo in photos.iter_mut().filter(|photo| photo.label.starts_with("class 3")) {
        photo.label = "Mug".to_owned();
    }
    let at_once = |project: &Project| {
        workshop.measure_at_once(project, &first.kept, &mut |_, _, _| Ok(())).expect("figures")
    };
    let renamed = at_once(&project(photos.clone())).expect("figures at once");
    let moved = {
        let mut photos = photos.clone();
        photos[0].label = "Mug".to_owned();
        at_once(&project(photos)).expect("figures at once")
    };
    assert_eq!((moved.figures.photos, moved.figures.classes[0].photos), (16, 5));
    // Other options teach something else, and so do other photographs.
    let learn = Options { adapt: false, ..Options::default() };
    assert!(at_once(&Project { learn, ..project(photos.clone()) }).is_none());
    let crop = Some(Crop::Middle).filter(|crop| *crop != first.gallery.crop());
    let crop = crop.or(Some(Crop::Never));
    assert!(at_once(&Project { crop, ..project(photos.clone()) }).is_none());
    let whole = workshop.measure(&project(photos), tell).expect("figures");
    assert!(renamed.gallery.to_bytes() == whole.gallery.to_bytes(), "the gallery is another one");
    let told = |of: &Measured| serde_json::to_value(&of.figures).expect("JSON");
    assert_eq!(told(&renamed), told(&whole));
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
    assert!(error.to_string().contains("the name of a class is blank; give it one"), "{error}");
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

#[test]
fn a_gallery_that_is_opened_again_is_the_same_gallery() {
    let world = world();
    let mut workshop = open(&world);
    let photos = looked(&mut workshop, &world);
    let tell: &mut Tell<'_> = &mut |_, _, _| Ok(());
    let told = vec![("price".to_owned(), "9 €".to_owned())];
    let mut wanted = project(photos.clone());
    wanted.metadata = vec![(photos[0].label.clone(), told.clone().into_iter().collect())];
    let first = workshop.measure(&wanted, tell).expect("figures").gallery;
    let mut second = open(&world);
    let opened = second.open_gallery(&first.to_bytes(), None).expect("a gallery");
    let described = opened.classes.iter().find(|class| class.label == photos[0].label);
    assert_eq!(described.map(|class| &class.metadata), Some(&told));
    let mut again = Vec::new();
    for (number, photo) in opened.photos.iter().enumerate() {
        let id = second.know(&photo.record.to_bytes(second.key())).expect("a record");
        let label = opened.classes[photo.class].label.clone();
        again.push(Photo { id, name: format!("{number}").into(), label });
    }
    let wanted = Project { photos: again, crop: Some(opened.crop), ..wanted };
    let second = second.measure(&wanted, tell).expect("figures").gallery;
    assert!(second.to_bytes() == first.to_bytes(), "another gallery");
    // A gallery whose thumbnails are a file of their own, as a site has it.
    let (without, apart) = first.split_thumbnails();
    let third = open(&world);
    let parts = third.open_gallery(&without.to_bytes(), Some(&apart.to_bytes()));
    assert_eq!(parts.expect("a gallery"), opened);
    let refused = third.open_gallery(b"no gallery", None).expect_err("no gallery");
    assert!(format!("{refused:#}").starts_with("the gallery: "), "{refused:#}");
}

#[test]
fn a_picture_is_asked_as_a_page_asks_it() {
    let world = world();
    let mut workshop = open(&world);
    let photos = looked(&mut workshop, &world);
    let tell: &mut Tell<'_> = &mut |_, _, _| Ok(());
    let gallery = workshop.measure(&project(photos.clone()), tell).expect("figures").gallery;
    let file = std::fs::read(world.path("").join(&photos[3].name)).expect("a picture");
    let asked = workshop.ask(&gallery, &photos[3].name, &file, None).expect("an answer");
    assert_eq!(asked.matches[0].0, photos[3].label);
    assert_eq!((asked.similar[0].id, &asked.similar[0].label), (photos[3].id, &photos[3].label));
    assert!(asked.similar[0].similarity > 0.999, "{asked:?}");
    let ids: BTreeSet<_> = asked.similar.iter().map(|similar| similar.id).collect();
    assert_eq!(ids.len(), asked.similar.len(), "each photograph once");
}

#[test]
fn a_part_that_the_owner_has_chosen_is_all_that_counts() {
    let world = world();
    let mut workshop = open(&world);
    let picture = shape(0, 0, 40);
    let file = picture.encode_png().expect("a PNG");
    let name = Path::new("a.png");
    let whole = workshop.look(name, &file, None).expect("a record");
    let all = workshop.look_at_part(name, &file, None, Part([0.0, 0.0, 1.0, 1.0]));
    let all = all.expect("a record");
    assert_eq!((all.id, &all.thumbnail), (whole.id, &whole.thumbnail));
    let part = Part([0.1, 0.1, 0.6, 0.7]);
    let part = workshop.look_at_part(name, &file, None, part).expect("a record");
    assert_eq!(part.id, whole.id, "it is the same photograph");
    assert_ne!(part.memory, all.memory);
    // What was known of the photograph before gives way.
    workshop.know(&whole.to_bytes(workshop.key())).expect("a record");
    workshop.know(&part.to_bytes(workshop.key())).expect("a record");
    assert_eq!(workshop.known(), 1);
}

#[test]
fn the_studio_is_a_site_of_its_own() {
    let world = world();
    let command = "studio --out made --extractor model.safetensors --page dist";
    let error = world.fail(command);
    assert!(error.contains("dist: was built without a studio"), "{error}");
    world.write("dist/studio/index.html", "<p>Studio</p>");
    world.write("dist/studio/studio.js", "export default 0;");
    world.succeed(command);
    let text = |name: &str| std::fs::read_to_string(world.path(name)).expect("a file");
    assert!(text("made/index.html").contains("url=studio/"));
    assert_eq!(text("made/page.html"), text("dist/index.html"), "sites begin with the built page");
    assert_eq!(text("made/studio/index.html"), "<p>Studio</p>");
    let manifest = std::fs::read(world.path("made/bundle/manifest.json")).expect("a manifest");
    let manifest = Manifest::from_bytes(&manifest).expect("a manifest");
    let gallery = world.path("made/bundle").join(&manifest.gallery);
    let gallery = Gallery::from_bytes(&std::fs::read(gallery).expect("a gallery"));
    assert!(gallery.expect("a gallery").is_empty());
    assert!(world.succeed("verify made").contains("made"), "it is whole");
    // Again, over the one that is there; what others have put there stays.
    let before = tree(&world.path("made"));
    world.write("made/CNAME", "studio.example");
    world.write("made/mine/notes.txt", "mine");
    world.succeed(command);
    let after = tree(&world.path("made"));
    assert_eq!(after.len(), before.len() + 2);
    assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)), "another studio");
    // Nothing that somebody else has written gives way, and no site with a gallery.
    world.write("dist/more.js", "export default 0;");
    for (own, out, words) in [
        ("thesis/thesis.txt", "thesis", "holds other files (thesis.txt); choose an empty folder"),
        ("made/more.js", "made", "holds more.js, which magpie did not write there"),
    ] {
        world.write(own, "mine");
        let error = world.fail(&command.replace("made", out));
        assert!(error.contains(words), "{error}");
        assert_eq!(text(own), "mine");
    }
    // A link to nothing is no place: what it meant is gone.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("gone", world.path("link")).expect("a link");
        let error = world.fail(&command.replace("made", "link"));
        assert!(error.contains("link: is a link to gone, where nothing is"), "{error}");
        assert!(!world.path("gone").exists() && world.path("link").is_symlink());
    }
    world.succeed("site photos --out site --extractor model.safetensors --page dist");
    let site = tree(&world.path("site"));
    let error = world.fail(&command.replace("made", "site"));
    assert!(error.contains("holds a published site, whose gallery"), "{error}");
    assert!(tree(&world.path("site")) == site, "the site stays as it was");
}
