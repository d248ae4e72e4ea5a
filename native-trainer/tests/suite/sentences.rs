//! The sentences of the errors that people meet most, as snapshots.

use std::sync::LazyLock;

use models::bundle::MANIFEST_NAME;
use models::gallery::MAGIC;
use models::model_file::ModelFile;
use models::weights::Precision;
use native_trainer::recipe::Shipped;
use native_trainer::train::folder::RunFolder;
use serde_json::Value;

use crate::snapshots;
use crate::world::{World, shape};

/// What the commands below read.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let world = World::shared("sentences");
    for (class, name) in ["mug", "plate"].iter().enumerate() {
        for number in 0..2 {
            let image = shape(class, number, 40).encode_png().expect("a PNG");
            world.write(&format!("photos/{name}/{number}.png"), &image);
            world.write("photo.png", image);
        }
    }
    world.write("text.png", "this is no image");
    world.write("broken/mug/1.png", "nor this");
    std::fs::create_dir_all(world.path("empty/mug")).expect("a folder");
    world.write("list.txt", "photos/mug/0.png\tmug\nphotos/mug/9.png\tmug\n");
    world.recipe(&world.path("photos"), 1);
    world.write("syntax.toml", "epochs = = 3\n");
    let recipe = std::fs::read_to_string(world.path("recipe.toml")).expect("a recipe");
    world.write("typed.toml", recipe.replacen("epochs = 1", "epochs = \"many\"", 1));
    let detector = Shipped::find("emoji-detector").expect("a recipe").text;
    let (_, task) = recipe.split_once("[extractor]").expect("a task");
    world.write("both.toml", format!("{detector}\n[extractor]{task}"));
    models(&world);
    world.succeed("gallery build --images photos --extractor model.safetensors --out gallery.bin");
    galleries(&world);
    std::fs::copy(world.path("gallery.bin"), world.path("shop.bin")).expect("a copy");
    world.succeed("gallery describe shop.bin mug --set price=9 --set size=small");
    world.write("typo.json", r#"{"mgu": {"price": "9"}}"#);
    world.write("other.json", r#"{"something else": {"price": "9"}}"#);
    world.page();
    world.succeed(
        "publish --extractor model.safetensors --gallery gallery.bin --page dist --out site",
    );
    bundles(&world);
    world
});

/// Model files of several kinds, and such that nobody can read.
fn models(world: &World) {
    world.detector();
    let bytes = std::fs::read(world.model()).expect("a model");
    let model = ModelFile::from_bytes(&bytes).expect("a model");
    world
        .write("weights.safetensors", model.weights.to_bytes(Precision::F32, None).expect("bytes"));
    world.write("cut.safetensors", &bytes[..bytes.len() / 2]);
    for name in ["text.safetensors", "text.pth", "text.pdparams"] {
        world.write(name, "this is no model");
    }
    for name in ["empty.safetensors", "empty.pdparams"] {
        world.write(name, "");
    }
    world.write("tiny.safetensors", [0, 1, 2]);
    world.write("huge.safetensors", [&(1_u64 << 40).to_le_bytes()[..], b"{}"].concat());
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    world.write("pointer.safetensors", pointer);
    world.write("newer.safetensors", of_a_newer_program(&bytes));
    let mut other = model;
    for tensor in other.weights.tensors.values_mut() {
        tensor.values.iter_mut().for_each(|value| *value *= 0.5);
    }
    world.write("other.safetensors", other.to_bytes(Precision::F16).expect("bytes"));
}

/// A model file whose description has a higher number.
fn of_a_newer_program(bytes: &[u8]) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let (header, values) = bytes[8..].split_at(length);
    let mut header: Value = serde_json::from_slice(header).expect("JSON");
    for text in header["__metadata__"].as_object_mut().expect("metadata").values_mut() {
        let mut description: Value =
            serde_json::from_str(text.as_str().expect("a text")).expect("JSON");
        description["format"] = 9.into();
        *text = description.to_string().into();
    }
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), values].concat()
}

/// Galleries that nobody can read.
fn galleries(world: &World) {
    let bytes = std::fs::read(world.path("gallery.bin")).expect("a gallery");
    world.write("text.bin", "this is no gallery at all, but a text of some length");
    world.write("cut.bin", &bytes[..bytes.len() - 10]);
    let mut newer = bytes.clone();
    newer[MAGIC.len()..MAGIC.len() + 4].copy_from_slice(&99_u32.to_le_bytes());
    world.write("newer.bin", newer);
    let mut damaged = bytes;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    world.write("damaged.bin", damaged);
}

/// What a copy of a bundle has in the place of a file, by its name; `None`: nothing.
type Change<'a> = dyn Fn(&str, Vec<u8>) -> Option<Vec<u8>> + 'a;

/// Sites that nobody can use.
fn bundles(world: &World) {
    let read =
        |name: &str| std::fs::read(world.path(&format!("site/bundle/{name}"))).expect("a file");
    let manifest = read(MANIFEST_NAME);
    let copy = |folder: &str, change: &Change<'_>| {
        for entry in std::fs::read_dir(world.path("site/bundle")).expect("a folder").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(bytes) = change(&name, read(&name)) {
                world.write(&format!("{folder}/{name}"), bytes);
            }
        }
    };
    let newer = replaced(&manifest, r#""format": 3"#, r#""format": 9"#);
    copy("newer", &|name, bytes| Some(if name == MANIFEST_NAME { newer.clone() } else { bytes }));
    copy("lacking", &|name, bytes| (!name.starts_with("gallery-")).then_some(bytes));
    copy("short", &|name, mut bytes| {
        let is_gallery = name.starts_with("gallery-");
        bytes.truncate(if is_gallery { 100 } else { bytes.len() });
        Some(bytes)
    });
}

/// Bytes with another text of the same length in the place of one that is there once.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("{from} is not there"));
    [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
}

/// What each command says on the standard error, and its exit status.
fn told(lines: &[&str]) -> String {
    let said = |line: &&str| {
        let output = WORLD.magpie(line);
        let errors = String::from_utf8_lossy(&output.stderr);
        let status = output.status.code().expect("an exit status");
        assert!(status == 1 || status == 2, "{line}: {status}: {errors}");
        assert!(!errors.contains("panicked"), "{line}: {errors}");
        format!("$ magpie {line}\n{}\n[{status}]\n\n", plain(errors.trim_end()))
    };
    lines.iter().map(said).collect()
}

/// A text without what differs between machines, releases and runs.
fn plain(text: &str) -> String {
    let folder = WORLD.path("");
    let folder = folder.to_string_lossy();
    let text = text
        .replace(folder.trim_end_matches('/'), "[folder]")
        .replace(env!("CARGO_PKG_VERSION"), "[version]")
        .replace(&std::process::id().to_string(), "[process]");
    let is_digit = |c: char| c.is_ascii_hexdigit();
    let mut plain = String::with_capacity(text.len());
    for part in text.split_inclusive(|c: char| !is_digit(c)) {
        let word = part.trim_end_matches(|c: char| !is_digit(c));
        // Short names of networks and files are digests of weights.
        plain.push_str(if word.len() == 16 { "[digest]" } else { word });
        plain.push_str(&part[word.len()..]);
    }
    plain
}

#[test]
fn about_recipes() {
    let lines = [
        "train -c none.toml --out run",
        "train -c syntax.toml --out run",
        "train -c recipe.toml --out run -o sead=1",
        "train -c recipe.toml --out run -o extractor.sampler.kind=pkk",
        "train -c recipe.toml --out run -o epochs=many",
        "train -c recipe.toml --out run -o schedule.learning_rate=true",
        "train -c recipe.toml --out run -o extractor.losses=[]",
        "train -c typed.toml --out run",
        "train -c both.toml --out run",
        "train -c none.toml/none.toml --out run",
        "train -c recipe.toml --out run -o batch_size=9",
        "train -c recipe.toml --out run -o extractor.train=nowhere",
        "train -c recipe.toml --out run",
        "train -c recipe.toml --out photos",
    ];
    snapshots::check("sentences_recipes", &told(&lines));
}

#[test]
fn about_images() {
    let lines = [
        "gallery build --images nowhere --extractor model.safetensors --out new.bin",
        "gallery build --images empty --extractor model.safetensors --out new.bin",
        "gallery build --images broken --extractor model.safetensors --out new.bin",
        "gallery build --images list.txt --extractor model.safetensors --out new.bin",
        "gallery build --images photo.png --extractor model.safetensors --out new.bin",
        "data check nowhere",
        "data check broken",
        "eval --extractor model.safetensors --query nowhere",
        "recognize --bundle site text.png",
        "recognize --bundle site nowhere.png",
        "recognize photo.png",
        "recognize site",
        "extract --extractor model.safetensors --images photos --out photo.png",
    ];
    snapshots::check("sentences_images", &told(&lines));
}

#[test]
fn about_galleries() {
    let lines = [
        "gallery stats none.bin",
        "gallery stats text.bin",
        "gallery stats cut.bin",
        "gallery stats damaged.bin",
        "gallery stats newer.bin",
        "gallery verify cut.bin",
        "gallery remove gallery.bin --class mgu",
        "gallery rename gallery.bin cup mug",
        "gallery describe gallery.bin mug --unset price",
        "gallery describe shop.bin mug --unset prices",
        "gallery describe shop.bin mug --unset weight",
        "gallery add shop.bin --images photos --extractor model.safetensors --metadata none.json",
        "gallery add shop.bin --images photos --extractor model.safetensors --metadata typo.json",
        "gallery add shop.bin --images photos --extractor model.safetensors --metadata other.json",
        "gallery add shop.bin --images photos --extractor model.safetensors --metadata list.txt",
        "gallery compact none.bin",
        "gallery remove none.bin --class mug",
        "gallery remove gallery.bin --image none.png",
        "gallery stats photos",
        "gallery verify gallery.bin --extractor none.safetensors",
        "gallery add gallery.bin --images photos --extractor other.safetensors",
        "gallery build --images photos --extractor model.safetensors --out model.safetensors",
    ];
    snapshots::check("sentences_galleries", &told(&lines));
}

#[test]
fn about_models() {
    let lines = [
        "eval --extractor none.safetensors --query photos",
        "eval --extractor photos --query photos",
        "eval --extractor text.safetensors --query photos",
        "eval --extractor cut.safetensors --query photos",
        "eval --extractor newer.safetensors --query photos",
        "eval --extractor weights.safetensors --query photos",
        "eval --extractor detector.safetensors --query photos",
        "detect --detector model.safetensors photo.png",
        "export nowhere --out new.safetensors",
        "export photos --out new.safetensors",
        "report nowhere",
        "import none.pth --architecture efficientnet_lite0 --out new.safetensors",
        "export model.safetensors --out new.unknown",
        "import text.safetensors --architecture efficientnet_lite0 --out new.safetensors",
        "import empty.safetensors --out new.safetensors",
        "import tiny.safetensors --out new.safetensors",
        "import huge.safetensors --out new.safetensors",
        "import cut.safetensors --out new.safetensors",
        "import pointer.safetensors --out new.safetensors",
        "import model.safetensors --out new.safetensors",
        "import weights.safetensors --out new.safetensors",
        "import text.pth --out new.safetensors",
        "import text.pdparams --known pp-shitu-v2 --out new.safetensors",
        "import empty.pdparams --known pp-shitu-v2 --out new.safetensors",
    ];
    snapshots::check("sentences_models", &told(&lines));
}

#[test]
fn about_sites() {
    let publish =
        |more: &str| format!("publish --extractor model.safetensors --gallery gallery.bin {more}");
    let (no_page, foreign, onto_page, no_sample, extractor_as_detector) = (
        publish("--page nowhere --out new"),
        publish("--page dist --out photos"),
        publish("--page dist --out dist"),
        publish("--page dist --out new --sample none.png"),
        publish("--page dist --out new --detector model.safetensors"),
    );
    let lines = [
        "recognize --bundle nowhere photo.png",
        "recognize --bundle photos photo.png",
        "recognize --bundle newer photo.png",
        "recognize --bundle lacking photo.png",
        "recognize --bundle short photo.png",
        "bench --bundle nowhere",
        "bench --bundle site --picture nowhere.png",
        "verify photos",
        "verify nowhere",
        "serve nowhere --port 0",
        "serve site --address 0.0.0.0",
        "serve site --api --port 0 --address 192.0.2.1",
        "serve site --api --port 0 --host https://shop.example.org",
        "serve site --api --port 0 --state photos",
        "serve site --api --port 0 --state gallery.bin",
        "serve site --api --port 0 --state site",
        "serve site --api --port 0 --token-file list.txt",
        "serve site --api --port 0 --token-file-read list.txt",
        "serve site --api --port 0 --token-file-read none",
        no_page.as_str(),
        foreign.as_str(),
        onto_page.as_str(),
        no_sample.as_str(),
        extractor_as_detector.as_str(),
        "publish --extractor detector.safetensors --gallery gallery.bin --page dist --out new",
        "publish --extractor model.safetensors --gallery none.bin --page dist --out new",
        "publish --extractor other.safetensors --gallery gallery.bin --page dist --out new",
    ];
    snapshots::check("sentences_sites", &told(&lines));
}

#[test]
fn about_words() {
    let lines = [
        "gallry build",
        "train --epoch 3",
        "gallery build --images photos",
        "serve site --port 99999",
        "train -c recipe.toml --out run --seed many",
        "eval --extractor model.safetensors",
        "gallery search gallery.bin photo.png --top 0",
        "publish --extractor model.safetensors --gallery gallery.bin --out new --min-score 2",
    ];
    snapshots::check("sentences_words", &told(&lines));
}

#[test]
fn about_a_run_that_another_command_holds() {
    let run = WORLD.path("held");
    std::fs::create_dir_all(&run).expect("a folder");
    let _held = RunFolder::hold(&run).expect("a lock").expect("nobody else's");
    snapshots::check(
        "sentences_held",
        &told(&["train -c recipe.toml --out held -o batch_size=4", "report held"]),
    );
}
