//! Published networks, taken over by their names.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use models::image::ResizeFilter;
use models::model_file::{Architecture, ModelFile};
use models::weights::NamedTensor;
use serde_json::Value;

use crate::paddle::pickle;
use crate::world::{World, fail, succeed};

/// Name, recorded case, file of recorded cases, and the file that is published.
type Published = (&'static str, &'static str, &'static str, &'static str);

const V2: Published = (
    "pp-shitu-v2",
    "RecModel_GeneralRecognitionV2_PPLCNetV2_base_class11",
    "architectures_procedural.json",
    "general_PPLCNetV2_base_pretrained_v1.0.pdparams",
);
const V1: Published = (
    "pp-shitu-v1",
    "RecModel_GeneralRecognition_PPLCNet_x2_5_class11",
    "architectures_procedural.json",
    "general_PPLCNet_x2_5_pretrained_v1.0.pdparams",
);
const MAINBODY: Published = (
    "pp-shitu-mainbody",
    "picodet_lcnet_x2_5_640_mainbody",
    "det_mainbody_procedural.json",
    "picodet_lcnet_x2_5_640_mainbody.pdparams",
);

/// A recorded case: names and shapes as published, outputs of the original.
fn case((_, name, file, _): Published) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let text = std::fs::read(folder.join(file)).expect("recorded cases");
    let all: Value = serde_json::from_slice(&text).expect("JSON");
    let mut cases = all["cases"].as_array().expect("cases").iter();
    cases.find(|case| case["name"] == name).expect("the case").clone()
}

/// `u(t, i)` of the recorded rule for values that were generated and not stored.
fn uniform(tensor: u64, index: usize) -> f32 {
    let mut z = (tensor << 32).wrapping_add(index as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / 16_777_216.0
}

fn sides(shape: &Value) -> Vec<usize> {
    let sides = shape.as_array().expect("a shape").iter();
    sides.map(|side| side.as_u64().expect("a side") as usize).collect()
}

/// The state dict of a case.
fn tensors(case: &Value) -> Vec<(String, NamedTensor)> {
    let listed = case["tensors"].as_array().expect("tensors").iter();
    listed
        .map(|entry| {
            let number = entry[0].as_u64().expect("a number");
            let name = entry[1].as_str().expect("a name").to_owned();
            let shape = sides(&entry[2]);
            let fan = |inputs: usize| (6.0 / inputs as f64).sqrt() as f32;
            // A value is `(slope * u - at) * scale`.
            let (slope, at, scale) = match shape[..] {
                _ if name.ends_with("_variance") => (1.0, -0.5, 1.0),
                _ if name.ends_with("_mean") => (1.0, 0.5, 0.2),
                [_, inputs, height, width] => (2.0, 1.0, fan(inputs * height * width)),
                [inputs, _] => (2.0, 1.0, fan(inputs)),
                _ if name.ends_with("weight") => (1.0, -0.5, 1.0),
                _ => (1.0, 0.5, 0.2),
            };
            let count = shape.iter().product();
            let value = |i| (slope * uniform(number, i) - at) * scale;
            let values = (0..count).map(value).collect();
            (name, NamedTensor { shape, values })
        })
        .collect()
}

/// The same names and shapes, of zeros: whether a file is that of a network is told before its values are looked at.
fn blank(case: &Value) -> Vec<(String, NamedTensor)> {
    let listed = case["tensors"].as_array().expect("tensors").iter();
    let zeros = |shape: Vec<usize>| {
        let values = vec![0.0; shape.iter().product()];
        NamedTensor { shape, values }
    };
    listed
        .map(|entry| (entry[1].as_str().expect("a name").to_owned(), zeros(sides(&entry[2]))))
        .collect()
}

/// Imports the file that is published, and reads what comes of it.
fn import(world: &World, published: Published, case: &Value) -> ModelFile {
    let (name, _, _, file) = published;
    let checkpoint = world.write(file, pickle(tensors(case)));
    let out = world.path("imported.safetensors");
    let said = succeed(&[&"import", &"--known", &name, &checkpoint, &"--out", &out]);
    assert!(said.contains("imported.safetensors: "), "{said}");
    let model = ModelFile::from_bytes(&std::fs::read(&out).expect("a model")).expect("a model");
    assert_eq!(model.description.notes, format!("Weights of {file}."));
    model
}

/// Embeds as the original did, to 16-bit weights.
fn embeds_as_recorded(published: Published) {
    let (world, case) = (World::new(), case(published));
    let model = import(&world, published, &case);
    let preprocess = model.description.preprocess.clone();
    assert_eq!((preprocess.width, preprocess.height), (224, 224));
    assert_eq!(preprocess.filter, ResizeFilter::OpencvLinear);
    let device = Device::flex();
    let extractor = model.into_extractor(&device).expect("an extractor");
    let shape = sides(&case["input"]["shape"]);
    let number = case["input"]["t"].as_u64().expect("a number");
    let values = (0..shape.iter().product()).map(|i| uniform(number, i) * 4.0 - 2.0).collect();
    let input = Tensor::<4>::from_data(TensorData::new::<f32, _>(values, shape), &device);
    let features = extractor.forward(input).raw_embedding.into_data();
    let features: Vec<f32> = features.try_into_vec().expect("32-bit floats");
    let recorded = case["outputs"]["features"]["data"].as_array().expect("features");
    let recorded: Vec<f32> =
        recorded.iter().map(|v| v.as_f64().expect("a number") as f32).collect();
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
    let difference = norm(&mut features.iter().zip(&recorded).map(|(a, b)| a - b));
    assert_eq!(features.len(), recorded.len());
    assert!(difference < 5e-3 * norm(&mut recorded.iter().copied()), "{difference}");
}

#[test]
fn the_second_extractor_needs_nothing_but_its_name() {
    embeds_as_recorded(V2);
}

#[test]
fn the_first_extractor_needs_nothing_but_its_name() {
    embeds_as_recorded(V1);
}

#[test]
fn the_mainbody_detector_needs_nothing_but_its_name() {
    let (world, case) = (World::new(), case(MAINBODY));
    let description = import(&world, MAINBODY, &case).description;
    let Architecture::Detector(config) = description.architecture else { panic!("a detector") };
    assert_eq!((config.backbone_scale, config.neck_channels, config.num_classes), (2.5, 128, 1));
    assert_eq!((description.preprocess.width, description.preprocess.height), (640, 640));
    assert_eq!(description.preprocess.filter, ResizeFilter::OpencvCubic);
}

#[test]
fn a_file_of_another_network_is_told_from_the_known_one() {
    let world = World::new();
    let v1 = blank(&case(V1));
    let out = world.path("out.safetensors");
    let refused = |known: &str, tensors: Vec<(String, NamedTensor)>| -> String {
        let file: PathBuf = world.write("other.pdparams", pickle(tensors));
        let error = fail(&[&"import", &"--known", &known, &file, &"--out", &out]);
        assert!(!out.exists() && error.contains("other.pdparams: not the weights of"), "{error}");
        error
    };
    // The other extractor.
    let error = refused("pp-shitu-v2", v1.clone());
    for told in [
        "tensors are missing (backbone.last_conv.bias, ",
        " are not part of it (backbone.blocks2.0.dw_conv.bn.bias, ",
        "backbone.last_conv.weight: [1280, 1280, 1, 1], not [512, 1024, 1, 1]",
        "it resembles pp-shitu-v1: give --known pp-shitu-v1",
    ] {
        assert!(error.contains(told), "{told}: {error}");
    }
    // The backbone that ImageNet has trained, under the names that it has alone.
    let backbone = v1.iter().filter_map(|(name, tensor)| {
        Some((name.strip_prefix("backbone.")?.to_owned(), tensor.clone()))
    });
    let error = refused("pp-shitu-v1", backbone.collect());
    assert!(error.contains("it resembles the backbone of pp-shitu-v1 alone"), "{error}");
    assert!(error.contains(V1.3), "{error}");
    // One tensor less, one of another size.
    let mut damaged = v1;
    damaged.retain(|(name, _)| name != "neck.fc.bias");
    let last = damaged.iter_mut().find(|(name, _)| name == "neck.fc.weight").expect("the neck");
    last.1 = NamedTensor { shape: vec![2, 1], values: vec![1.0, 2.0] };
    let error = refused("pp-shitu-v1", damaged);
    assert!(error.contains("1 of 146 tensors are missing (neck.bias)"), "{error}");
    assert!(error.contains("neck.fc.weight: [2, 1], not [1280, 512]"), "{error}");
    let none = refused("pp-shitu-mainbody", Vec::new());
    assert!(none.contains(MAINBODY.3) && none.contains("-c recipe.toml"), "{none}");
}

#[test]
fn a_checkpoint_of_which_nothing_is_said_asks_for_a_name() {
    let world = World::new();
    world.write("weights.pdparams", "");
    let error = world.fail("import weights.pdparams --out out.safetensors");
    let told =
        "weights.pdparams: nothing says which network this holds; give --known for a published one";
    assert!(error.contains(told) && error.contains(V2.0), "{error}");
    assert!(!error.contains("--architecture"), "{error}");
}

#[test]
fn the_names_are_listed() {
    let world = World::new();
    let said = world.magpie("import --known help weights.pdparams --out out.safetensors");
    let error = String::from_utf8_lossy(&said.stderr);
    for (name, ..) in [V2, V1, MAINBODY] {
        assert!(error.contains(name), "{error}");
    }
}
