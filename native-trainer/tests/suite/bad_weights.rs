//! Networks whose weights are damaged, overflow or answer nothing: refused by every command, by name.

use models::model_file::ModelFile;
use models::weights::{Precision, Weights};
use native_trainer::recipe::{Recipe, Task};

use crate::world::{self, World, fail, succeed};

/// The world's model with the values of a tensor changed, in 32-bit floats.
fn changed_model(world: &World, name: &str, change: impl Fn(&str, &mut f32)) -> std::path::PathBuf {
    changed(world, &world.model(), name, change)
}

/// A model with the values of a tensor changed, in 32-bit floats.
fn changed(
    world: &World,
    model: &std::path::Path,
    name: &str,
    change: impl Fn(&str, &mut f32),
) -> std::path::PathBuf {
    let bytes = std::fs::read(model).expect("a model");
    let ModelFile { description, mut weights } = ModelFile::from_bytes(&bytes).expect("a model");
    for (name, tensor) in &mut weights.tensors {
        tensor.values.iter_mut().for_each(|value| change(name, value));
    }
    // By hand: the model file's own writer refuses what this is about.
    let description = serde_json::to_string(&description).expect("JSON");
    let metadata = [("magpie".to_owned(), description)].into();
    world.write(name, weights.to_bytes(Precision::F32, Some(metadata)).expect("bytes"))
}

/// What every command that embeds says of a model.
fn refusals(world: &World, model: &std::path::Path) -> Vec<String> {
    let pictures = world.pictures("pictures", 2, 2);
    let gallery = world.path("gallery.bin");
    let refused = vec![
        fail(&[&"eval", &"--extractor", &model, &"--query", &pictures]),
        fail(&[
            &"extract",
            &"--extractor",
            &model,
            &"--images",
            &pictures,
            &"--out",
            &world.path("e"),
        ]),
        fail(&[&"export", &model, &"--query", &pictures, &"--out", &world.path("x.safetensors")]),
        fail(&[
            &"gallery",
            &"build",
            &"--images",
            &pictures,
            &"--extractor",
            &model,
            &"--out",
            &gallery,
        ]),
    ];
    for name in ["e", "e.tsv", "x.safetensors", "gallery.bin"] {
        assert!(!world.path(name).exists(), "{name}");
    }
    refused
}

#[test]
fn weights_that_are_no_numbers_are_refused_by_their_tensor() {
    let world = World::new();
    let name = "backbone.last_conv.bias";
    for value in [f32::NAN, f32::NEG_INFINITY] {
        let model = changed_model(&world, "changed.safetensors", |tensor, values| {
            if tensor == name {
                *values = value;
            }
        });
        for error in refusals(&world, &model) {
            assert!(error.contains("changed.safetensors"), "{error}");
            assert!(error.contains(&format!("tensor {name} holds {value}")), "{error}");
        }
        let out = world.path("x.onnx");
        assert!(fail(&[&"export", &model, &"--out", &out]).contains(name));
        assert!(!out.exists());
    }
}

#[test]
fn embeddings_of_zeros_are_refused_by_their_picture() {
    let world = World::new();
    let model = changed_model(&world, "zeros.safetensors", |_, value| *value = 0.0);
    for error in refusals(&world, &model) {
        assert!(error.contains("its embedding is all zeros"), "{error}");
    }
    let error = fail(&[&"eval", &"--extractor", &model, &"--query", &world.path("pictures")]);
    assert!(error.contains("class 0 类/0.png: its embedding"), "{error}");
}

#[test]
fn a_detector_that_answers_nothing_is_refused_by_every_command() {
    let world = World::new();
    let (good, extractor, page) = (world.detector(), world.model(), world.page());
    let picture = world.write("photos/a/1.png", world::shape(0, 1, 40).encode_png().unwrap());
    let photos = world.path("photos");
    let coco = r#"{"images": [{"id": 1, "file_name": "1.png"}],
        "annotations": [{"id": 1, "image_id": 1, "bbox": [8, 8, 20, 20]}]}"#;
    let coco = world.write("photos/a/boxes.json", coco);
    let gallery = world.path("gallery.bin");
    succeed(&[
        &"gallery",
        &"build",
        &"--images",
        &photos,
        &"--extractor",
        &extractor,
        &"--out",
        &gallery,
    ]);
    let site = world.path("site");
    let publish: [&dyn AsRef<std::ffi::OsStr>; 11] = [
        &"publish",
        &"--page",
        &page,
        &"--gallery",
        &gallery,
        &"--extractor",
        &extractor,
        &"--out",
        &site,
        &"--title",
        &"x",
    ];
    succeed(&[&publish[..], &[&"--detector", &good]].concat());
    let manifest = std::fs::read_to_string(site.join("bundle/manifest.json")).unwrap();
    let (large, zeros) = ("no finite numbers", "the same whatever the picture");
    for (value, told) in [(3e4, large), (0.0, zeros)] {
        let bad = changed(&world, &good, "bad.safetensors", |_, weight| *weight = value);
        let mut refused = vec![
            fail(&[&"detect", &"--detector", &bad, &picture]),
            fail(&[&"eval", &"--detector", &bad, &"--coco", &coco]),
            fail(&[&publish[..], &[&"--detector", &bad]].concat()),
        ];
        // The same file in a site that is whole by all its check sums.
        let bytes = std::fs::read(&bad).unwrap();
        let mut entries: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        let file = entries["detector"]["file"].as_str().unwrap().to_owned();
        for entry in entries["files"].as_array_mut().unwrap() {
            if entry["name"] == file.as_str() {
                entry["bytes"] = bytes.len().into();
                entry["sha256"] = models::model_file::sha256_hex(&bytes).into();
            }
        }
        std::fs::write(site.join("bundle").join(&file), bytes).unwrap();
        std::fs::write(site.join("bundle/manifest.json"), entries.to_string()).unwrap();
        refused.push(fail(&[&"verify", &site]));
        refused.push(fail(&[&"recognize", &"--bundle", &site.join("bundle"), &picture]));
        for error in refused {
            assert!(error.contains(told), "{value}: {error}");
        }
    }
}

#[test]
fn values_beyond_a_precision_and_outputs_of_no_known_kind_are_refused() {
    let world = World::new();
    let name = "backbone.last_conv.bias";
    let model = changed_model(&world, "large.safetensors", |tensor, value| {
        if tensor == name {
            *value = 1e6;
        }
    });
    let out = world.path("out.safetensors");
    let error = fail(&[&"export", &model, &"--out", &out]);
    assert!(error.contains(&format!("tensor {name} holds 1000000")), "{error}");
    assert!(error.contains("--precision f32") && error.contains("large.safetensors"), "{error}");
    assert!(!out.exists());
    succeed(&[&"export", &model, &"--precision", &"f32", &"--out", &out]);

    for (words, told) in [
        (&["--precision", "i8", "--out", "x.onnx"][..], "leave --precision out"),
        (&["--precision", "f32", "--out", "x.tflite"], "leave --precision out"),
        (&["--arithmetic", "i8", "--out", "x.json"], "leave --arithmetic out"),
        (&["--out", "q.xyz"], "export writes .safetensors, .onnx, .tflite and .json"),
        (&["--out", "q"], "export writes .safetensors"),
    ] {
        let mut all: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"export", &model];
        all.extend(words.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>));
        let error = fail(&all);
        assert!(error.contains(told), "{words:?}: {error}");
    }
}

/// A Python pickle of named arrays, as PaddlePaddle writes them.
fn pickled(weights: &Weights) -> Vec<u8> {
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.push(b'X');
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    let mut bytes = vec![0x80, 4, b'}', b'('];
    for (name, tensor) in &weights.tensors {
        text(
            &mut bytes,
            &name.replace("running_mean", "_mean").replace("running_var", "_variance"),
        );
        bytes.extend(b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01(");
        for side in &tensor.shape {
            bytes.push(b'J');
            bytes.extend((*side as u32).to_le_bytes());
        }
        bytes.extend(b"tcnumpy\ndtype\n");
        text(&mut bytes, "f4");
        bytes.extend([0x85, b'R', 0x89, b'B']);
        bytes.extend((tensor.values.len() as u32 * 4).to_le_bytes());
        tensor.values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        bytes.extend(b"tb");
    }
    bytes.extend(b"u.");
    bytes
}

#[test]
fn weights_from_elsewhere_that_are_no_numbers_are_not_taken_over() {
    let world = World::new();
    let recipe = world.recipe(&world.path("no pictures are needed"), 1);
    let recipe_read = Recipe::read(&recipe, &[]).unwrap();
    let Task::Extractor(task) = recipe_read.task else { panic!("trains an extractor") };
    let network = task.model.init(&burn::tensor::Device::flex());
    let mut weights = Weights::from_module(&network);
    let out = world.path("imported.safetensors");
    let import = |weights: &Weights| {
        let checkpoint = world.write("best.pdparams", pickled(weights));
        world::magpie(&[&"import", &checkpoint, &"-c", &recipe, &"--out", &out])
    };
    let output = import(&weights);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_file(&out).unwrap();
    weights.tensors.get_mut("neck.feat_bn.weight").unwrap().values[3] = f32::NAN;
    let output = import(&weights);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("best.pdparams: tensor neck.feat_bn.weight holds NaN"), "{errors}");
    for (value, told) in [(0.0, "all zeros"), (3e4, "no finite numbers")] {
        for tensor in weights.tensors.values_mut() {
            tensor.values.fill(value);
        }
        let output = import(&weights);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("best.pdparams: ") && errors.contains(told), "{errors}");
    }
    assert!(!out.exists());
}
