//! Detectors in ONNX files: they find what the originals do. `tests/networks/detectors/record.py` has made the graphs with
//! PyTorch, and the boxes by a decoding of its own.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use models::detector::{BoxValues, Detection, DetectionThresholds, ScoreValues};
use models::image::RgbImage;
use models::model_file::{Architecture, ModelFile};
use models::preprocess::{ChannelOrder, Fit, Letterbox};
use models::recognizer::detect;
use models::weights::Precision;
use native_trainer::exchange::export::{Format, network_files};
use native_trainer::exchange::import::{
    DetectorDescription, ImportError, ImportedDetector, OnnxError, read_detector,
};
use serde_json::{Value, json};

use crate::world::World;

/// Every recorded graph: its name, that of its boxes, and what describes it.
const RECORDED: [(&str, &str, &str); 8] = [
    ("yolox", "yolox", "yolox"),
    ("yolox_decoded", "yolox", "yolox"),
    ("yolox_in_place", "yolox", "yolox"),
    ("nanodet", "nanodet", "nanodet"),
    ("picodet", "picodet", "picodet"),
    ("rtmdet", "rtmdet", "rtmdet"),
    ("rtmdet_tiny", "rtmdet_tiny", "rtmdet"),
    ("own", "own", "own"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/networks/detectors")
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A description that no published network has: distances in strides, a letterbox in the middle.
fn own() -> Value {
    json!({
        "strides": [8, 16, 32],
        "values": ["scores", "box"],
        "boxes": "distances",
        "offset": 0.5,
        "classes": 3,
        "fit": {"letterbox": {"padding": 114, "centered": true}},
        "filter": "opencv_linear",
    })
}

fn description(name: &str) -> DetectorDescription {
    match name {
        "own" => serde_json::from_value(own()).expect("a description"),
        name => DetectorDescription::named(name).expect("a known one"),
    }
}

fn imported(graph: &str, described: &str) -> ImportedDetector {
    let path = folder().join(format!("{graph}.onnx"));
    let read = read_detector(&path, &description(described), None);
    read.unwrap_or_else(|error| panic!("{graph}: {error}"))
}

fn model_of(imported: ImportedDetector) -> ModelFile {
    let ImportedDetector { config, weights, preprocess, .. } = imported;
    let architecture = Architecture::GraphDetector(config);
    let trained = architecture.load(weights, &Device::flex()).expect("its own weights");
    trained.deploy(preprocess, String::new())
}

/// The picture of a recording, from which score on objects count, and the objects: box, score, class.
fn recorded(name: &str) -> (RgbImage, DetectionThresholds, Vec<[f64; 6]>) {
    let picture = RgbImage::decode(&file(&format!("{name}.png"))).expect("a picture");
    let all: Value = serde_json::from_slice(&file("boxes.json")).expect("JSON");
    let score = all[name]["threshold"].as_f64().expect("a score") as f32;
    let thresholds = DetectionThresholds { score, max_detections: 500, ..Default::default() };
    let objects = serde_json::from_value(all[name]["objects"].clone()).expect("objects");
    (picture, thresholds, objects)
}

/// The farthest that a side, and a score, is from the recorded ones.
fn apart(found: &[Detection], objects: &[[f64; 6]], what: &str) -> (f64, f64) {
    assert_eq!(found.len(), objects.len(), "{what}: {found:?}");
    let (mut sides, mut scores) = (0.0_f64, 0.0_f64);
    for object in objects {
        // Points that see the gray of a letterbox alone have one score: their order is nobody's.
        let from = |found: &Detection| {
            let b = &found.bbox;
            let sides = [b.x1, b.y1, b.x2, b.y2].into_iter().zip(object);
            sides.map(|(got, expected)| (f64::from(got) - expected).abs()).fold(0.0, f64::max)
        };
        let of_class = found.iter().filter(|found| found.class as f64 == object[5]);
        // Boxes that are cut off at the borders may be the same.
        let whole = |found: &Detection| from(found) + (f64::from(found.score) - object[4]).abs();
        let nearest = of_class.min_by(|a, b| whole(a).total_cmp(&whole(b))).expect(what);
        sides = sides.max(from(nearest));
        scores = scores.max((f64::from(nearest.score) - object[4]).abs());
    }
    (sides, scores)
}

#[test]
fn detectors_of_pytorch_find_what_they_did() {
    let device = Device::flex();
    for (graph, name, described) in RECORDED {
        let (picture, thresholds, objects) = recorded(name);
        let detector = model_of(imported(graph, described)).prepare_detector(&device);
        let detector = detector.expect("a detector");
        let found = pollster::block_on(detect(&detector, &picture, &thresholds)).expect("objects");
        let (sides, scores) = apart(&found, &objects, graph);
        // Both compute in 32-bit floats, in another order: some 1e-6 of a logit each, times a stride of 32 pixels, where
        // sides are exponents times the side, up to 100 pixels.
        assert!(sides < 5e-3 && scores < 2e-5, "{graph}: sides {sides}, scores {scores} apart");
    }
}

#[test]
fn what_a_graph_computes_behind_its_maps_is_left_to_the_decoding() {
    let [plain, decoded, in_place] =
        ["yolox", "yolox_decoded", "yolox_in_place"].map(|graph| imported(graph, "yolox"));
    for other in [decoded, in_place] {
        assert_eq!(plain.config, other.config);
        assert_eq!(plain.weights, other.weights);
    }
    assert_eq!(plain.config.decoding.boxes, BoxValues::Center);
    assert_eq!(plain.config.decoding.classes, 3);
    let letterbox = Fit::Letterbox(Letterbox { padding: 114, centered: false });
    assert_eq!((plain.preprocess.fit, plain.preprocess.channels), (letterbox, ChannelOrder::Bgr));
    assert_eq!((plain.preprocess.height, plain.preprocess.width), (64, 96));
    let boxes = |graph: &str| imported(graph, "rtmdet").config.decoding.boxes;
    assert_eq!(boxes("rtmdet"), BoxValues::Exponents);
    assert_eq!(boxes("rtmdet_tiny"), BoxValues::Distances);
    assert_eq!(imported("picodet", "picodet").config.decoding.scores, ScoreValues::Squares);
    assert_eq!(imported("own", "own").config.decoding.boxes, BoxValues::Distances);
}

#[test]
fn a_detector_of_a_graph_is_used_as_any_other() {
    let world = World::new();
    world.write("yolox.onnx", file("yolox.onnx"));
    world.write("own.onnx", file("own.onnx"));
    world.write("own.json", own().to_string());
    for name in ["yolox", "own"] {
        world.write(&format!("{name}.png"), file(&format!("{name}.png")));
    }
    let said = world.succeed("import yolox.onnx --detector yolox --out yolox.safetensors");
    assert!(said.contains("points at the strides 8, 16, 32"), "{said}");
    assert!(
        said.contains("3 classes: its maps hold boxes as center, width and height, scores as prob"),
        "{said}"
    );
    assert!(
        said.contains("in a letterbox, above and to the left, beside bars of 114, as BGR"),
        "{said}"
    );
    assert!(said.contains("equal to a plain interpreter of the graph"), "{said}");
    world.succeed("import own.onnx --detector own.json --out own.safetensors");
    for name in ["yolox", "own"] {
        let (picture, thresholds, objects) = recorded(name);
        let score = thresholds.score;
        let line =
            format!("detect --json --detector {name}.safetensors --score {score} {name}.png");
        let found: Value = serde_json::from_str(&world.succeed(&line)).expect("JSON");
        let found = found["objects"].as_array().expect("a list");
        // Weights are stored in 16 bits: one that lies at the threshold may fall to its other side.
        assert!(
            found.len().abs_diff(objects.len()) <= 3,
            "{name}: {} {}",
            found.len(),
            objects.len()
        );
        let best: [f32; 4] = serde_json::from_value(found[0]["bbox"].clone()).expect("a box");
        let is_it = objects
            .iter()
            .take(3)
            .any(|object| object.iter().zip(best).all(|(a, b)| (a - f64::from(b)).abs() < 0.5));
        assert!(is_it, "{name}: {best:?} {objects:?}");
        assert!(best[2] <= picture.width() as f32 && best[3] <= picture.height() as f32);
    }
    // Other programs run it.
    let said = world.succeed("export yolox.safetensors --out exported.onnx");
    assert!(world.path("exported.onnx").exists(), "{said}");
}

#[test]
fn every_precision_and_format_has_such_detectors() {
    let device = Device::flex();
    let model = model_of(imported("nanodet", "nanodet"));
    for precision in [Precision::F32, Precision::F16, Precision::I8] {
        let bytes = model.to_bytes(precision).expect("bytes");
        let read = ModelFile::from_bytes(&bytes).expect("a model file");
        assert_eq!(read.description, model.description, "{precision:?}");
        read.prepare_detector(&device).expect("a detector");
    }
    let network = model.clone().into_detector(&device).expect("a detector");
    let preprocess = &model.description.preprocess;
    for format in Format::ALL {
        let files = network_files(format, "nanodet", &network, preprocess);
        assert!(files.iter().all(|(_, bytes)| !bytes.is_empty()), "{format:?}");
    }
    let error = model.into_extractor(&device).expect_err("no extractor").to_string();
    assert!(error.contains("this is a detector, not an extractor"), "{error}");
}

#[test]
fn what_does_not_fit_is_said() {
    let read = |graph: &str, description: &DetectorDescription| {
        let path = folder().join(format!("{graph}.onnx"));
        read_detector(&path, description, None).expect_err(graph).to_string()
    };
    let yolox = description("yolox");
    let changed = |change: &dyn Fn(&mut DetectorDescription)| {
        let mut description = yolox.clone();
        change(&mut description);
        read("yolox", &description)
    };
    for (error, told) in [
        (read("yolox", &description("nanodet")), "at stride"),
        (read("nanodet", &yolox), "an input of 64 × 96 has"),
        (read("picodet", &description("rtmdet")), "an input of 64 × 96 has"),
        (
            changed(&|d| d.classes = Some(80)),
            "has 8 values in 1 map, where its description has 5 and 80 for classes",
        ),
        (
            changed(&|d| d.strides = vec![4, 8, 16]),
            "an input of 64 × 96 has 16 × 24, 8 × 12, 4 × 6 points at the strides [4, 8, 16]",
        ),
        (changed(&|d| d.scores = ScoreValues::Logits), "take \"scores\": \"probabilities\""),
        (changed(&|d| d.values.swap(0, 2)), "and its description says that scores lie from 0 to 1"),
        (changed(&|d| d.strides = Vec::new()), "strides is 0"),
        (changed(&|d| d.values.truncate(1)), "scores and box are there once each"),
        (changed(&|d| d.outputs = vec!["nothing".to_owned()]), "nothing is no value of the graph"),
        (changed(&|d| d.std = [0.0; 3]), "std is 0"),
    ] {
        assert!(error.contains(told), "{told}: {error}");
    }
    let error = read_detector(&folder().join("yolox.onnx"), &yolox, Some([64, 64]));
    let error = error.expect_err("another size");
    let is_it = matches!(&error, ImportError::Onnx { source: OnnxError::Input { .. }, .. });
    assert!(is_it && error.to_string().contains("--size says 64, the graph 96"), "{error}");
}

#[test]
fn it_is_not_trained() {
    let world = World::new();
    world.write("yolox.onnx", file("yolox.onnx"));
    let line = "import yolox.onnx --detector yolox --out a.safetensors --trainable b.safetensors";
    let error = String::from_utf8_lossy(&world.magpie(line).stderr).into_owned();
    assert!(error.contains("--detector") && error.contains("--trainable"), "{error}");
    let error = world.fail("import yolox.onnx --detector yolo --out a.safetensors");
    assert!(error.contains("known detectors are yolox, nanodet, picodet, rtmdet"), "{error}");
    let error = world.fail("import yolox.safetensors --detector yolox --out a.safetensors");
    assert!(error.contains("--detector is for .onnx files"), "{error}");
    assert!(!world.path("a.safetensors").exists());
}
