//! The programs of both `examples` folders: each runs in a folder of its own and prints what its header says.

use std::path::{Path, PathBuf};
use std::process::Command;

use burn::tensor::Device;
use models::bundle::{MANIFEST_NAME, Published};
use models::model_file::model_id;
use models::{Bundle, Class, Gallery, ModelFile, RecognizerSettings};

use crate::world::{World, shape};

/// The path of an example. Cargo builds all of them before it runs tests, unless it is told which targets to test.
fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let folder = test.parent().and_then(Path::parent).expect("the folder of the profile");
    let path = folder.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{}: `cargo build --examples` makes it", path.display());
    path
}

/// What an example prints.
fn printed(name: &str, folder: &Path) -> String {
    let output = Command::new(built(name)).current_dir(folder).output().expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_gallery_is_built_searched_and_saved() {
    let world = World::new();
    let text = printed("build_gallery", &world.path(""));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("yellow: 0.9") && lines[1].starts_with("red: 0.9"), "{text}");
    assert_eq!(lines[2], "of short names: red");
    assert!(world.path("colors.bin").is_file());
}

#[test]
fn an_object_is_embedded_when_it_is_new() {
    let world = World::new();
    let text = printed("track", &world.path(""));
    let embedded: Vec<bool> = text.lines().map(|line| line.ends_with(" 1 embedded")).collect();
    assert_eq!(embedded, [true, false, false, false, true, false], "{text}");
}

#[test]
fn what_is_trained_can_be_measured() {
    let world = World::new();
    let path = printed("train", &world.path(""));
    assert!(path.ends_with("model.safetensors\n"), "{path}");
    let text = printed("evaluate", &world.path(""));
    assert!(text.starts_with("12 queries\nrecall@1: "), "{text}");
}

#[test]
fn a_published_image_is_recognized() {
    let world = World::new();
    let extractor = std::fs::read(world.model()).expect("a model");
    let model = ModelFile::from_bytes(&extractor).expect("a model");
    let prepared = model.prepare_extractor(&Device::flex()).expect("an extractor");
    let image = [shape(1, 0, 40)];
    let embedding = pollster::block_on(prepared.run(&image)).expect("an embedding");
    let mut gallery = Gallery::new(embedding.len(), model_id(&extractor));
    let class = Class { label: "square".to_owned(), ..Class::default() };
    let class = gallery.add_class(class, Vec::new());
    gallery.add(class, &embedding).expect("it fits");
    let (title, settings) = ("Shapes".to_owned(), RecognizerSettings::default());
    let whole = Published::Whole(&gallery);
    let bundle = Bundle::assemble(title, extractor, None, whole, settings, Vec::new());
    let Bundle { manifest, files } = bundle.expect("a bundle");
    let manifest = serde_json::to_vec(&manifest).expect("JSON");
    world.write(&format!("site/bundle/{MANIFEST_NAME}"), manifest);
    for (name, bytes) in files {
        world.write(&format!("site/bundle/{name}"), bytes);
    }
    world.write("shelf.jpg", image[0].encode_png().expect("a PNG"));
    let text = printed("recognize", &world.path(""));
    assert!(text.trim_end().ends_with(": square"), "{text}");
}
