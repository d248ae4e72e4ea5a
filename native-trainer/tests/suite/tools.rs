//! The commands around training, each end to end on tiny data, with what it prints.

use std::path::PathBuf;
use std::sync::LazyLock;

use models::weights::{Precision, Weights};
use serde_json::Value;

use crate::world::{World, copy_tree, fail, magpie, parsed, replace, shape, succeed};

/// What is printed with the world's folder taken out.
fn shortened(world: &World, text: &str) -> String {
    text.replace(&format!("{}/", world.path("").display()).replace("//", "/"), "")
}

#[test]
fn data_are_checked_whole() {
    let world = World::new();
    let pictures = world.pictures("pictures", 3, 2);
    let clean = succeed(&[&"data", &"check", &pictures]);
    assert_eq!(shortened(&world, &clean), "pictures: 6 pictures, 3 classes; 0 errors, 0 notes\n");

    world.write("pictures/class 1 类/broken.png", b"no picture");
    let same = std::fs::read(world.path("pictures/class 0 类/0.png")).expect("a picture");
    world.write("pictures/class 2 类/copy.png", same);
    let output = magpie(&[&"data", &"check", &pictures, &"--samples-per-class", &"3"]);
    assert_eq!(output.status.code(), Some(1));
    let text = shortened(&world, &String::from_utf8_lossy(&output.stdout));
    let expected = "\
error: pictures/class 1 类/broken.png: not a picture of a known format; use JPEG, PNG, WebP, GIF or BMP
error: the same picture in classes class 0 类, class 2 类: pictures/class 0 类/0.png, \
        pictures/class 2 类/copy.png
note: class class 0 类: 2 pictures, a batch takes 3 of a class
note: class class 1 类: 2 pictures, a batch takes 3 of a class
pictures: 7 pictures, 3 classes; 2 errors, 2 notes
";
    assert_eq!(text, expected);

    let recipe = world.recipe(&pictures, 1);
    let output = magpie(&[&"data", &"check", &"-c", &recipe, &"--json"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let report: serde_json::Value =
        serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    // Eight pictures per batch, two per class: four classes, and there are three.
    let kinds: Vec<&str> = report["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .filter_map(|finding| finding["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["broken", "duplicate", "few_classes"]);
    assert_eq!((report["pictures"].as_u64(), report["errors"].as_u64()), (Some(7), Some(3)));
}

#[test]
fn public_data_sets_become_lists() {
    let world = World::new();
    world.write("cub/images.txt", "1 001.A/a.jpg\n2 101.B/b.jpg\n");
    world.write("cub/image_class_labels.txt", "1 1\n2 101\n");
    let told = succeed(&[&"data", &"cub", &world.path("cub")]);
    let expected = "cub/train_list.txt: 1 picture\ncub/test_list.txt: 1 picture\n";
    assert_eq!(shortened(&world, &told), expected);
    let error = fail(&[&"data", &"sop", &world.path("cub")]);
    assert!(error.contains("Ebay_train.txt"), "{error}");
}

#[test]
fn boxes_are_mixed_and_checked() {
    let world = World::new();
    for name in ["a/0.png", "b/1.png"] {
        let picture = shape(0, name.len() + name.matches('b').count(), 40);
        world.write(name, picture.encode_png().expect("a PNG"));
    }
    let boxes = |name: &str, bbox: &str| {
        format!(
            r#"{{"images": [{{"id": 3, "file_name": "{name}"}}],
                "annotations": [{{"image_id": 3, "category_id": 8, "bbox": {bbox}}}]}}"#
        )
    };
    let good = world.write("a/boxes.json", boxes("0.png", "[4, 4, 20, 20]"));
    let wide = world.write("wide.json", boxes("1.png", "[4, 4, 60, 20]"));
    let false_one = world.write("false.json", boxes("1.png", "[24, 4, 60, 20]"));
    let mixed = world.path("mixed.json");
    let part = |path: &std::path::Path, folder: &str| {
        format!("{},images={},take=1", path.display(), world.path(folder).display())
    };
    let [good, wide, false_one] =
        [good.display().to_string(), part(&wide, "b"), part(&false_one, "b")];
    let mix = [&"data" as &dyn AsRef<std::ffi::OsStr>, &"coco-foreground", &"--out", &mixed];
    let told = succeed(&[&mix[..], &[&"--part", &good, &"--part", &wide]].concat());
    let expected = "\
note: wide.json: 1 of 1 box reaches over the edge of their picture; the part inside is taken (b/1.png: box \
[4, 4, 64, 24] is not inside 40×40)
";
    assert_eq!(shortened(&world, &told), expected);
    let told = succeed(&[&"data", &"check", &mixed]);
    let expected = "\
note: 1 of 2 boxes reaches over the edge of their picture; the part inside is taken (b/1.png: box [4, 4, 64, 24] \
is not inside 40×40)
mixed.json: 2 pictures, 2 boxes; 0 errors, 1 note
";
    assert_eq!(shortened(&world, &told), expected);
    let before = std::fs::read(&mixed).expect("a file");
    let error = fail(&[&mix[..], &[&"--part", &good, &"--part", &false_one]].concat());
    assert!(error.contains("false.json: 1 of 1 box lies mostly outside their picture"), "{error}");
    assert_eq!(std::fs::read(&mixed).expect("a file"), before);
    let part = format!("{good},take=many");
    let output = magpie(&[&mix[..], &[&"--part", &part]].concat());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "a command line that is not understood");
    assert!(errors.contains("take=many: "), "{errors}");
}

/// A run of three epochs, trained once and only read, and what its training printed as JSON.
static RUN: LazyLock<(World, String)> = LazyLock::new(|| {
    let world = World::shared("tools");
    world.recipe(&world.pictures("pictures", 4, 4), 3);
    let told = world.succeed("train -c recipe.toml --out run --json");
    (world, told)
});

#[test]
fn training_tells_its_records_as_json() {
    let (_, told) = &*RUN;
    let kinds: Vec<Value> = told.lines().map(|line| parsed(line)["kind"].clone()).collect();
    for (kind, count) in [("train", 9), ("epoch", 3), ("eval", 3)] {
        assert_eq!(kinds.iter().filter(|other| **other == kind).count(), count, "{kind}");
    }
}

#[test]
fn a_smaller_network_costs_little_and_says_how_much() {
    let (world, _) = &*RUN;
    // Whoever exports from a run holds it.
    copy_tree(&world.path("run"), &world.path("held"));
    let mut sizes = Vec::new();
    for (precision, least) in [("f32", 0.999_999), ("f16", 0.9999), ("i10", 0.998), ("i8", 0.98)] {
        let out = format!("{precision}.safetensors");
        let told = world.succeed(&format!(
            "export held --precision {precision} --out {out} --query pictures --json"
        ));
        let record = parsed(&told);
        let cosine = record["cost"]["least_cosine"].as_f64().expect("a cosine");
        assert!(cosine >= least, "{precision}: {cosine}");
        sizes.push(record["bytes"].as_u64().expect("a size"));
        // What a stored network says is what the trainer's says.
        let json = world.succeed(&format!("eval --extractor {out} --query pictures --json"));
        assert_eq!(parsed(&json)["recall1"], record["cost"]["recall1"]);
    }
    assert!(sizes.is_sorted_by(|a, b| a > b), "{sizes:?}");
}

#[test]
fn half_floats_of_half_floats_are_the_same_file() {
    let (world, _) = &*RUN;
    world.succeed("export run/model.safetensors --precision f16 --out again.safetensors");
    let bytes = |name: &str| std::fs::read(world.path(name)).expect("a file");
    assert!(bytes("again.safetensors") == bytes("run/model.safetensors"));
}

/// A copy of the run whose last checkpoint has other weights than its best, whatever the evaluations said.
fn changed_run(name: &str) -> PathBuf {
    let (world, _) = &*RUN;
    let run = world.path(name);
    copy_tree(&world.path("run"), &run);
    let last = run.join("last_model/model.safetensors");
    let mut weights = Weights::from_bytes(&std::fs::read(&last).expect("bytes")).expect("weights");
    let changed = weights.tensors.values_mut().next().expect("a tensor");
    changed.values.iter_mut().for_each(|value| *value += 1.0);
    replace(&last, weights.to_bytes(Precision::F32, None).expect("bytes"));
    run
}

#[test]
fn a_damaged_checkpoint_is_refused_and_those_that_are_whole_are_named() {
    changed_run("damaged");
    let told = RUN.0.fail("export damaged --checkpoint last_model --out refused.safetensors");
    assert!(told.contains("model.safetensors: is damaged"), "{told}");
    assert!(told.contains("whole are best_model, latest, latest.previous"), "{told}");
}

#[test]
fn a_run_exports_the_checkpoint_that_its_recipe_names() {
    let (world, run) = (&RUN.0, changed_run("chosen"));
    // A checkpoint of a run that wrote no digests down.
    let progress = run.join("last_model/progress.json");
    let mut record: Value =
        serde_json::from_slice(&std::fs::read(&progress).expect("a file")).expect("JSON");
    record.as_object_mut().expect("an object").remove("digests");
    replace(&progress, record.to_string());
    let recipe = run.join("recipe.toml");
    let text = std::fs::read_to_string(&recipe).expect("the run's recipe");
    assert!(text.contains("export = \"best\""), "{text}");
    let export = |words: &str| {
        world.succeed(&format!("export {words} --out chosen.safetensors"));
        std::fs::read(world.path("chosen.safetensors")).expect("a file")
    };
    let mut exported = Vec::new();
    for (name, checkpoint) in [("best", "best_model"), ("last", "last_model")] {
        replace(&recipe, text.replace("export = \"best\"", &format!("export = \"{name}\"")));
        let by_default = export("chosen");
        assert!(by_default == export(&format!("chosen --checkpoint {checkpoint}")), "{name}");
        exported.push(by_default);
    }
    assert!(exported[0] != exported[1], "the two checkpoints differ");
    let missing = world.fail("export chosen --checkpoint epoch_9 --out chosen.safetensors");
    assert!(missing.contains("epoch_9"), "{missing}");
}

#[test]
fn embeddings_have_length_one_and_names_beside_them() {
    let (world, _) = &*RUN;
    let told = world.succeed(
        "extract --extractor run/model.safetensors --images pictures --out features.safetensors",
    );
    assert!(told.contains("features.safetensors: 16 × "), "{told}");
    let bytes = std::fs::read(world.path("features.safetensors")).expect("a file");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let embeddings = file.tensor("embeddings").expect("the embeddings");
    let values: Vec<f32> = embeddings
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    for row in values.chunks_exact(embeddings.shape()[1]) {
        let length: f32 = row.iter().map(|v| v * v).sum();
        assert!((length - 1.0).abs() < 1e-4, "{length}");
    }
    let names = std::fs::read_to_string(world.path("features.tsv")).expect("the names");
    assert_eq!(names.lines().count(), 16);
    assert!(names.lines().next().is_some_and(|line| line.contains("\tclass 0 类\t")), "{names}");
}

#[test]
fn training_stops_when_nothing_gets_better_and_keeps_epochs() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 4);
    let recipe = world.recipe(&pictures, 30);
    let run = world.path("run");
    let told = succeed(&[
        &"train",
        &"-c",
        &recipe,
        &"--output",
        &run,
        &"-o",
        &"early_stopping=2",
        &"-o",
        &"save_interval=2",
        &"-o",
        &"accumulate=2",
        // A rate that changes nothing: the first evaluation stays the best.
        &"-o",
        &"schedule.learning_rate=1e-12",
        &"-o",
        &"parameters.rate_multipliers={ \"extractor.backbone\" = 0 }",
    ]);
    assert!(told.contains("training ends after epoch") && told.contains("exported"), "{told}");
    assert!(!told.contains("Epoch 30/30"), "{told}");
    assert!(run.join("epoch_2/optimizer.safetensors").is_file());
    let again = succeed(&[
        &"train",
        &"-c",
        &run.join("recipe.toml"),
        &"--output",
        &world.path("other"),
        &"--resume",
        &run.join("epoch_2"),
        &"--stop-after",
        &"3",
    ]);
    assert!(again.contains("epoch_2 after epoch 2") && again.contains("Epoch 3/30"), "{again}");
}

/// The status line, the headers and the body of an answer.
fn ask(address: &str, path: &str, more: &str) -> (String, String, Vec<u8>) {
    use std::io::{Read, Write};
    let host = address.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = std::net::TcpStream::connect(host).expect("a connection");
    let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{more}Connection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).expect("a request");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("the end of the headers");
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let (status, headers) = head.split_once("\r\n").expect("a status line");
    (status.to_owned(), headers.to_owned(), bytes[end + 4..].to_vec())
}

#[test]
fn a_site_is_served_and_nothing_else() {
    use std::io::BufRead;
    let world = World::new();
    world.write("site/index.html", "<!doctype html>page");
    world.write("site/engine.wasm", b"0123456789");
    world.write("secret", "secret");
    let mut server = std::process::Command::new(env!("CARGO_BIN_EXE_magpie"))
        .args(["serve", "--port", "0"])
        .arg(world.path("site"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("magpie runs");
    let mut address = String::new();
    let output = server.stdout.take().expect("a pipe");
    std::io::BufReader::new(output).read_line(&mut address).expect("the address");
    let address = address.trim();

    // Connections that are kept open, as a browser keeps them, must not hold up the next.
    let host = address.trim_start_matches("http://").trim_end_matches('/');
    let idle: Vec<_> = (0..40).map(|_| std::net::TcpStream::connect(host)).collect();
    let (status, headers, body) = ask(address, "/", "");
    assert!(status.contains("200"), "{status}");
    for header in ["cross-origin-opener-policy: same-origin", "content-type: text/html"] {
        assert!(headers.contains(header), "{header} is missing in {headers}");
    }
    assert_eq!(body, b"<!doctype html>page");
    let (_, headers, _) = ask(address, "/engine.wasm?v=1", "");
    assert!(headers.contains("content-type: application/wasm"), "{headers}");
    let (status, _, part) = ask(address, "/engine.wasm", "Range: bytes=4-6\r\n");
    assert!(status.contains("206") && part == b"456", "{status}");
    for path in ["/../secret", "/%2e%2e/secret", "/none"] {
        let (status, _, body) = ask(address, path, "");
        assert!(status.contains("404"), "{path}: {status}");
        assert!(!body.starts_with(b"secret"), "{path}");
    }
    drop(idle);
    server.kill().expect("it can be ended");
    server.wait().expect("a status");
}

#[test]
fn absent_data_say_where_they_come_from() {
    let world = World::new();
    let recipes = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_magpie"))
        .current_dir(world.path(""))
        .args(["train", "--output", "run", "-c"])
        .arg(recipes.join("cub-mobilenet-v1.toml"))
        .output()
        .expect("magpie runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    for part in ["magpie data cub", "CUB_200_2011/train_list.txt"] {
        assert!(errors.contains(part), "{part} is missing in {errors}");
    }
}

#[test]
fn shells_complete_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = succeed(&[&"completions", &shell]);
        for command in ["train", "coco-foreground", "precision"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn every_command_shows_an_example() {
    let commands = [
        "data check",
        "data cub",
        "data sop",
        "data coco-foreground",
        "data voc",
        "train",
        "eval",
        "extract",
        "detect",
        "export",
        "gallery build",
        "gallery new",
        "gallery add",
        "gallery remove",
        "gallery rename",
        "gallery describe",
        "gallery merge",
        "gallery compact",
        "gallery list",
        "gallery stats",
        "gallery search",
        "gallery verify",
        "gallery calibrate",
        "gallery push",
        "gallery pull",
        "gallery ask",
        "publish",
        "studio",
        "verify",
        "serve",
        "recognize",
        "scene",
        "import",
        "completions",
    ];
    for command in commands {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let arguments: Vec<&dyn AsRef<std::ffi::OsStr>> =
            words.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>).collect();
        let help = succeed(&arguments);
        assert!(help.contains("Example") && help.contains("magpie "), "{command}:\n{help}");
    }
}

/// `(field, bytes of a length-delimited field)` of a protocol buffer; numbers are left out.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (first, rest) = bytes.split_first().expect("a byte");
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        match key & 7 {
            0 => drop(varint(&mut bytes)),
            5 => bytes = &bytes[4..],
            2 => {
                let length = varint(&mut bytes) as usize;
                found.push((key >> 3, &bytes[..length]));
                bytes = &bytes[length..];
            }
            other => panic!("wire type {other}"),
        }
    }
    found
}

#[test]
fn networks_go_to_other_runtimes() {
    fn all(bytes: &[u8], field: u64) -> Vec<&[u8]> {
        let of_field = |(at, value)| (at == field).then_some(value);
        fields(bytes).into_iter().filter_map(of_field).collect()
    }
    let world = World::new();
    let file = world.path("network.onnx");
    let told = succeed(&[&"export", &world.model(), &"--out", &file]);
    assert!(told.contains("network.onnx: "), "{told}");
    let bytes = std::fs::read(&file).expect("the file");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    // ModelProto.graph; its nodes, initial values, inputs and outputs.
    let graph = all(&bytes, 7)[0];
    let name_of = |tensor: &[u8]| text(all(tensor, 8)[0]);
    let mut known: Vec<String> = all(graph, 5).into_iter().map(name_of).collect();
    let ends = |field| all(graph, field).into_iter().map(|info| text(all(info, 1)[0]));
    assert_eq!(ends(11).collect::<Vec<_>>(), ["x"]);
    assert_eq!(ends(12).collect::<Vec<_>>(), ["y"]);
    known.extend(ends(11));
    let mut convolutions = 0;
    for node in all(graph, 1) {
        for input in all(node, 1).into_iter().map(text).filter(|input| !input.is_empty()) {
            assert!(known.contains(&input), "{input} is used before it is made");
        }
        known.extend(all(node, 2).into_iter().map(text));
        convolutions += usize::from(text(all(node, 4)[0]) == "Conv");
    }
    assert!(known.contains(&"y".to_owned()), "something makes the answer");
    assert!(convolutions > 10, "{convolutions} convolutions");
    let mut names = known.clone();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), known.len(), "every name is given once");
}

#[test]
fn networks_are_written_for_litert_and_tensorflow_js() {
    let world = World::new();
    let file = world.path("network.tflite");
    let told = succeed(&[&"export", &world.model(), &"--out", &file]);
    assert!(told.contains("network.tflite: "), "{told}");
    let bytes = std::fs::read(&file).expect("the file");
    assert_eq!(bytes.get(4..8), Some(&b"TFL3"[..]));

    let file = world.path("network.json");
    let told = succeed(&[&"export", &world.model(), &"--out", &file]);
    assert!(told.contains("network.json: ") && told.contains("network.bin: "), "{told}");
    let bytes = std::fs::read(&file).expect("the graph");
    let model: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(model["signature"]["outputs"]["y"]["name"], "y:0");
    let weights = &model["weightsManifest"][0];
    assert_eq!(weights["paths"][0], "network.bin");
    // The listed weights are the bytes of the other file.
    let count = |weight: &serde_json::Value| -> u64 {
        let sides = weight["shape"].as_array().expect("a shape").iter();
        sides.filter_map(serde_json::Value::as_u64).product()
    };
    let values: u64 = weights["weights"].as_array().expect("a list").iter().map(count).sum();
    let bytes = std::fs::metadata(world.path("network.bin")).expect("the weights").len();
    assert_eq!(bytes, 4 * values);
}
