//! Every architecture on every engine, and exported into other runtimes: the browser's numbers are the
//! native ones.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use models::backbone::BackboneConfig;
use models::backbone::{
    Between, ConvNextConfig, EfficientNetLiteConfig, GlobalPool, InvertedConfig, InvertedNetwork,
    LiteSize, MobileNetV1Config, Positions, PpLcNetConfig, PpLcNetV2Config, RepVitConfig,
    ResNetConfig, ResNetStem, ResidualBlock, Shortcut, TokenPool, VitConfig,
};
use models::bundle::{Bundle, MANIFEST_NAME, Published};
use models::detector::{DetectionThresholds, DetectorBackbone, DetectorConfig, DetectorVariant};
use models::extractor::ExtractorConfig;
use models::gallery::{Class, Gallery, Metadata};
use models::image::RgbImage;
use models::inference::Arithmetic;
use models::inference::Network;
use models::model_file::{Architecture, ModelDescription, ModelFile, model_id};
use models::neck::NeckConfig;
use models::preprocess::Preprocess;
use models::recognizer::{Recognition, RecognizerSettings, WholeImage};
use models::weights::{Precision, Weights};
use native_trainer::exchange::export::compared_files;
use native_trainer::exchange::import::{DetectorDescription, read_detector};
use serde_json::{Value, json};

use super::{copy_folder, root, script, site};

/// Weights that are the same every time: of layers in proportion to what is summed, of normalization
/// near the middle.
fn drawn(module: &impl Module) -> Weights {
    let mut weights = Weights::from_module(module);
    let mut state = 1_u32;
    for (name, tensor) in &mut weights.tensors {
        let terms: usize = tensor.shape.iter().skip(1).product();
        let (middle, reach) = match (name.rsplit('.').next(), tensor.shape.len()) {
            (Some("running_var"), _) | (Some("weight"), 1) => (1.0, 0.3),
            (_, 1) => (0.0, 0.1),
            // Linear layers have their inputs first.
            (_, 2) => (0.0, (6.0 / tensor.shape[0] as f32).sqrt()),
            _ => (0.0, (6.0 / terms as f32).sqrt()),
        };
        for value in &mut tensor.values {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *value = middle + reach * ((state >> 8) as f32 / 8_388_608.0 - 1.0);
        }
    }
    weights
}

fn model(architecture: Architecture, weights: Weights, side: u32, precision: Precision) -> Vec<u8> {
    let preprocess = Preprocess::square(side);
    let (arithmetic, notes) = (Arithmetic::F32, String::new());
    let description = ModelDescription { architecture, preprocess, arithmetic, notes };
    ModelFile { description, weights }.to_bytes(precision).expect("a model")
}

/// Steps that no other network has: those that the tests of plans begin with.
const STEPS: &str = include_str!("../../../models/tests/steps.json");
/// How many of them other runtimes have as well.
const SHARED: usize = 11;

/// A list of steps, as an imported graph becomes.
fn list_of_steps() -> BackboneConfig {
    let mut list: Value = serde_json::from_str(STEPS).expect("a list of steps");
    let nodes = list["nodes"].as_array_mut().expect("steps");
    nodes.truncate(SHARED);
    nodes.extend([
        json!({"step": {"conv": {"channels": 40, "kernel": 3, "stride": 2, "activation": "Silu"}}, "inputs": [11]}),
        json!({"step": {"global_pool": "average"}, "inputs": [12]}),
        json!({"step": "multiply", "inputs": [13, 13]}),
        json!({"step": {"linear": 36}, "inputs": [14]}),
    ]);
    serde_json::from_value(list).expect("a network")
}

fn extractors() -> Vec<(&'static str, ExtractorConfig)> {
    let lcnet = PpLcNetConfig { scale: 0.25, class_expand: Some(64), dropout: 0.2, fused: false };
    let lcnet_v2 = PpLcNetV2Config {
        scale: 0.25,
        depths: [2, 2, 2, 2],
        class_expand: 40,
        shitu: true,
        dropout: 0.2,
        fused: false,
    };
    let resnet = ResNetConfig {
        block: ResidualBlock::Bottleneck,
        depths: [1, 2, 1, 1],
        width: 16,
        stem: ResNetStem::Triple3x3,
        shortcut: Shortcut::AveragePool,
        max_pool: true,
        pool: GlobalPool::Max,
        stem_activation: true,
        ..ResNetConfig::resnet50()
    };
    let mobilenet = MobileNetV1Config { scale: 0.25, fused: false };
    let neck = |embedding_dim| Some(NeckConfig::Fc { embedding_dim });
    let vehicle = Some(NeckConfig::Vehicle { embedding_dim: 20 });
    let lite0 = BackboneConfig::EfficientNetLite(EfficientNetLiteConfig {
        size: LiteSize::Lite0,
        fused: false,
    });
    let inverted = |network| {
        let config = InvertedConfig { scale: 0.25, ..InvertedConfig::new(network) };
        BackboneConfig::Inverted(config)
    };
    let repvit = RepVitConfig { widths: [8, 24, 32, 44], depths: [1, 2, 2, 1], fused: false };
    let convnext = ConvNextConfig { widths: [6, 24, 34, 40], depths: [1, 1, 2, 1], fused: false };
    let clip = VitConfig {
        width: 48,
        depth: 2,
        heads: 4,
        hidden: 80,
        between: Between::QuickGelu,
        normalizes_first: true,
        projection: Some(36),
        ..VitConfig::small(16, 96)
    };
    let siglip = VitConfig {
        between: Between::GeluTanh,
        normalizes_first: false,
        pool: TokenPool::Attention,
        projection: None,
        ..clip.clone()
    };
    let dino = VitConfig {
        width: 64,
        registers: 4,
        positions: Positions::Rotary { base: 100.0 },
        between: Between::SwiGlu,
        pool: TokenPool::Mean,
        ..siglip.clone()
    };
    [
        ("graph", list_of_steps(), None),
        ("clip", BackboneConfig::Vit(clip), None),
        ("siglip", BackboneConfig::Vit(siglip), None),
        ("dino", BackboneConfig::Vit(dino), None),
        ("mobilenet_v3", inverted(InvertedNetwork::MobilenetV3Small), None),
        ("mobilenet_v4", inverted(InvertedNetwork::MobilenetV4Medium), None),
        ("efficientnet_b0", inverted(InvertedNetwork::EfficientnetB0), None),
        ("repvit", BackboneConfig::RepVit(repvit), None),
        ("convnext", BackboneConfig::ConvNext(convnext), None),
        ("pp_lcnet", BackboneConfig::PpLcNet(lcnet), neck(33)),
        ("pp_lcnet_v2", BackboneConfig::PpLcNetV2(lcnet_v2), Some(NeckConfig::BnNeck)),
        ("mobilenet_v1", BackboneConfig::MobileNetV1(mobilenet), vehicle),
        ("efficientnet_lite0", lite0, Some(NeckConfig::Tanh)),
        ("resnet", BackboneConfig::ResNet(resnet), None),
    ]
    .map(|(name, backbone, neck)| (name, ExtractorConfig { backbone, neck }))
    .into()
}

fn detector(index: usize) -> DetectorConfig {
    let (variant, backbone, neck_channels) = [
        (DetectorVariant::First, DetectorBackbone::PpLcNet, 24),
        (DetectorVariant::Second, DetectorBackbone::PpLcNet, 22),
        (DetectorVariant::First, DetectorBackbone::EfficientNetLite0, 24),
    ][index % 3];
    DetectorConfig {
        variant,
        backbone,
        backbone_scale: 0.25,
        neck_channels,
        num_classes: 1,
        head_blocks: 2,
        fused: false,
    }
}

/// A detector of an ONNX file: every other pixel as channels, a letterbox, blue before red.
fn imported_detector() -> Vec<u8> {
    let path = root().join("native-trainer/tests/networks/detectors/yolox.onnx");
    let described = DetectorDescription::named("yolox").expect("a known one");
    let imported = read_detector(&path, &described, None).expect("a detector");
    let architecture = Architecture::GraphDetector(imported.config);
    let trained = architecture.load(imported.weights, &Device::flex()).expect("its own weights");
    let model = trained.deploy(imported.preprocess, String::new());
    model.to_bytes(Precision::F32).expect("a model")
}

#[test]
fn every_architecture_gives_the_native_numbers_on_every_engine() {
    let folder = tempfile::tempdir().expect("a folder");
    copy_folder(&site(), folder.path());
    let picture = site().join("samples/1.jpg");
    let image = RgbImage::decode(&std::fs::read(&picture).expect("a picture")).expect("decodes");
    let device = Device::flex();
    let mut expected = Vec::new();
    for (index, (name, config)) in extractors().into_iter().enumerate() {
        let network = config.init(&device);
        let network = drawn(&network).load_into(network).expect("its own weights").fuse();
        let architecture = Architecture::Extractor(config.fused());
        let weights = Weights::from_module(&network);
        let extractor = model(architecture, weights, 64, Precision::F16);
        let config = detector(index);
        let network = config.init(&device);
        let network = drawn(&network).load_into(network).expect("its own weights").fuse();
        let architecture = Architecture::Detector(DetectorConfig { fused: true, ..config });
        let weights = Weights::from_module(&network);
        let found_by = match name {
            "graph" => imported_detector(),
            _ => model(architecture, weights, 96, Precision::F32),
        };

        let values = ExtractorConfig::embedding_dim(&extractors()[index].1);
        let mut gallery = Gallery::new(values, model_id(&extractor));
        let label = "something".to_owned();
        let class = Class { label, metadata: Metadata::new(), min_similarity: None };
        let class = gallery.add_class(class, Vec::new());
        let mut unit = vec![0.0; values];
        unit[0] = 1.0;
        gallery.add(class, &unit).expect("an entry");
        let settings = RecognizerSettings {
            detection: DetectionThresholds { score: 0.0, max_detections: 4, ..Default::default() },
            whole_image: WholeImage::Always,
            recognition_nms_iou: 1.0,
            ..Default::default()
        };
        let (title, gallery) = (name.to_owned(), Published::Whole(&gallery));
        let bundle =
            Bundle::assemble(title, extractor, Some(found_by), gallery, settings, Vec::new());
        let bundle = bundle.expect("fits together");
        let out = folder.path().join(name);
        std::fs::create_dir_all(&out).expect("a folder");
        for (name, bytes) in &bundle.files {
            std::fs::write(out.join(name), bytes).expect("written");
        }
        let manifest = serde_json::to_vec(&bundle.manifest).expect("JSON");
        std::fs::write(out.join(MANIFEST_NAME), manifest).expect("written");
        let read = |name: &str| std::fs::read(out.join(name)).ok();
        let recognizer = Bundle::open(&bundle.manifest, read, &device).expect("a bundle");
        let answer = pollster::block_on(recognizer.recognize(&image, || 0.0));
        expected.push((name, answer.expect("an answer").0));
    }

    let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    let names = names.join(",");
    let seen = script("architectures.mjs", &[folder.path(), &picture, names.as_ref()]);
    for engine in ["relaxed", "plain", "webgpu"] {
        assert_eq!(seen[engine]["problems"], json!([]), "{engine}");
        for (name, found) in &expected {
            let what = format!("{name}, {engine}");
            let objects = seen[engine]["answers"][name].as_array().expect("a list");
            assert_eq!(objects.len(), found.len(), "{what}");
            assert!(found.len() > 1, "{what}: objects and the whole picture");
            let (mut compared, mut others) = (0, 0);
            for object in objects {
                let numbers = |key: &str| -> Vec<f32> {
                    let list = object[key].as_array().expect("numbers").iter();
                    list.filter_map(Value::as_f64).map(|value| value as f32).collect()
                };
                let apart = |a: &[f32], b: &[f32]| {
                    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
                };
                let place = numbers("box");
                let from = |native: &Recognition| {
                    let bbox = native.bbox;
                    apart(&place, &[bbox.x1, bbox.y1, bbox.x2, bbox.y2])
                };
                let nearest = found.iter().min_by(|a, b| from(a).total_cmp(&from(b)));
                let native = nearest.expect("objects");
                let bbox = from(native);
                // Scores of drawn weights lie close: a rounding chooses the last of four, or which comes first.
                others += usize::from(bbox >= 0.1);
                let embedding = numbers("embedding");
                assert_eq!(embedding.len(), native.embedding.len(), "{what}");
                // A crop's border may round to the next pixel, which changes what is embedded.
                if bbox < 1e-3 {
                    let embedding = apart(&embedding, &native.embedding);
                    // Roundings grow through the many blocks of this one, whose weights were never trained.
                    let allowed = if **name == *"repvit" { 3e-4 } else { 1e-4 };
                    assert!(embedding < allowed, "{what}: embeddings {embedding} apart");
                    compared += 1;
                }
            }
            assert!(others <= 1, "{what}: {others} boxes that are nowhere natively");
            assert!(compared > 1, "{what}: {compared} embeddings compared");
        }
    }
}

/// Leaves a network for other runtimes, with an input and the native answer to it.
fn leave(folder: &Path, name: &str, network: &impl Network, side: u32) {
    let files = compared_files(name, network, &Preprocess::square(side)).expect("an answer");
    for (file, bytes) in files {
        std::fs::write(folder.join(file), bytes).expect("written");
    }
}

#[test]
fn every_architecture_gives_the_native_numbers_in_other_runtimes() {
    // Maps of 72, 36, 18, 9 and 5 pixels: odd borders, too.
    const EXTRACTOR_SIDE: u32 = 72;
    const DETECTOR_SIDE: u32 = 96;
    let folder = tempfile::tempdir().expect("a folder");
    let device = Device::flex();
    let mut networks = Vec::new();
    for (name, config) in extractors() {
        let network = config.init(&device);
        let network = drawn(&network).load_into(network).expect("its own weights");
        leave(folder.path(), name, &network.fuse(), EXTRACTOR_SIDE);
        networks.push(format!("{name}:{EXTRACTOR_SIDE}"));
    }
    for index in 0..3 {
        let network = detector(index).init(&device);
        let network = drawn(&network).load_into(network).expect("its own weights");
        let name = format!("detector_{index}");
        leave(folder.path(), &name, &network.fuse(), DETECTOR_SIDE);
        networks.push(format!("{name}:{DETECTOR_SIDE}"));
    }
    let networks = networks.join(",");
    let npm = root().join("tests/browser");
    let seen = script("runtimes.mjs", &[folder.path(), &npm, networks.as_ref()]);
    for runtime in ["onnxruntime-web", "litert.js", "tensorflow.js"] {
        for network in networks.split(',') {
            let apart = seen[runtime][network].as_f64();
            assert!(apart < Some(1e-4) && apart.is_some(), "{network} in {runtime}: {seen}");
        }
    }
}
