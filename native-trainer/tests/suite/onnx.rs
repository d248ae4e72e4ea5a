//! Graphs of ONNX, imported: they compute what the originals do. `tests/networks/onnx/record.py` has made them with
//! PyTorch; others are Magpie's own exports.

use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};
use models::backbone::{
    BackboneConfig, Between, ConvNextConfig, GraphStep, InvertedConfig, InvertedNetwork, Positions,
    PpLcNetV2Config, RepVitConfig, ResNetConfig, VitConfig,
};
use models::extractor::ExtractorConfig;
use models::inference::Prepared;
use models::layers::{Activation, Resampling};
use models::model_file::ModelFile;
use models::preprocess::Preprocess;
use models::timing::drawn_for;
use native_trainer::exchange::export::{Format, network_files};
use native_trainer::exchange::import::{ImportError, OnnxError, OnnxOptions, read_onnx};

use crate::world::World;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/networks/onnx")
}

fn graph(name: &str) -> PathBuf {
    folder().join(format!("{name}.onnx"))
}

fn answer(network: &models::Extractor, preprocess: &Preprocess) -> Vec<f32> {
    let prepared = Prepared::new(network, preprocess, &Device::flex());
    pollster::block_on(prepared.run(&[drawn_for(preprocess)])).expect("an answer")
}

#[test]
fn graphs_of_pytorch_compute_what_they_did() {
    for name in [
        "shuffled",
        "gated",
        "normalized",
        "attended",
        "shuffled_18",
        "normalized_18",
        "attended_18",
    ] {
        let options = OnnxOptions { size: Some([32, 32]), ..OnnxOptions::default() };
        let imported =
            read_onnx(&graph(name), &options).unwrap_or_else(|error| panic!("{name}: {error}"));
        let output = folder().join(format!("{name}.npy"));
        let off = imported.compare_with(&folder().join("x.npy"), &output);
        let off = off.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(off < 1e-4, "{name}: {off}");
    }
}

#[test]
fn a_normalization_inside_the_graph_is_not_done_twice() {
    let imported = read_onnx(&graph("gated"), &OnnxOptions::default()).expect("a graph");
    assert_eq!((imported.preprocess.mean, imported.preprocess.std), ([0.0; 3], [1.0; 3]));
    let said = imported.seen.iter().any(|seen| seen.contains("the graph itself normalizes them"));
    assert!(said, "{:?}", imported.seen);
}

#[test]
fn folded_steps_are_few() {
    let imported = read_onnx(&graph("shuffled"), &OnnxOptions::default()).expect("a graph");
    let BackboneConfig::Graph(config) = &imported.config.backbone else { panic!("a graph") };
    let text = serde_json::to_string(config).expect("JSON");
    // The stem's normalization and activation are its convolution's.
    assert!(text.starts_with(r#"{"nodes":[{"step":{"conv":{"channels":16,"kernel":3,"stride":2"#));
    assert!(text.contains(r#""activation":"Relu6"}},"inputs":[0]"#), "{text}");
    assert_eq!(text.matches(r#""affine""#).count(), 2, "the leaky activation's alone: {text}");
}

#[test]
fn attention_is_one_step_whose_queries_keys_and_values_are_products_of_their_own() {
    for name in ["attended", "attended_18"] {
        let imported = read_onnx(&graph(name), &OnnxOptions::default()).expect("a graph");
        let BackboneConfig::Graph(config) = &imported.config.backbone else { panic!("a graph") };
        let count = |is_it: fn(&GraphStep) -> bool| {
            config.nodes.iter().filter(|node| is_it(&node.step)).count()
        };
        assert_eq!(count(|step| matches!(step, GraphStep::Attend(4))), 1, "{name}");
        assert_eq!(count(|step| matches!(step, GraphStep::Attend(2))), 1, "{name}");
        assert_eq!(count(|step| matches!(step, GraphStep::Linear(32))), 3 + 1 + 1 + 3, "{name}");
        assert_eq!(
            count(|step| matches!(step, GraphStep::Pick(_) | GraphStep::Affine)),
            0,
            "{name}"
        );
        let activations = [Activation::GeluTanh, Activation::QuickGelu].map(GraphStep::Activate);
        for activation in activations {
            assert!(config.nodes.iter().any(|node| node.step == activation), "{name}");
        }
        // Positions are those of one size.
        let error = imported.config.backbone.check_input([48, 32]).expect_err("another size");
        assert!(error.to_string().contains("its values are for"), "{name}: {error}");
    }
}

#[test]
fn what_has_no_step_is_listed_whole() {
    let error = read_onnx(&graph("refused"), &OnnxOptions::default()).expect_err("attention");
    let ImportError::Onnx { source: OnnxError::Refused(refused), .. } = &error else {
        panic!("{error}")
    };
    let of = |operator: &str| {
        let all = refused.iter().filter(|refused| refused.operator == operator);
        all.map(|refused| refused.count).sum::<usize>()
    };
    assert_eq!((of("InstanceNormalization"), of("Softmax"), of("MatMul")), (2, 1, 2), "{error}");
    // What lies behind them is not told for its own sake.
    assert_eq!(of("Add"), 0, "{error}");
    assert!(error.to_string().contains("refused.onnx: it holds what no step here does"), "{error}");
}

#[test]
fn what_is_wanted_of_a_graph_is_said() {
    let kept = read_onnx(&graph("shuffled"), &OnnxOptions::default()).expect("a graph");
    assert_eq!(kept.config.embedding_dim(), 7);
    let hint = kept.seen.last().expect("sentences");
    assert!(hint.contains("--without-classifier"), "{hint}");
    let options = OnnxOptions { without_classifier: true, ..OnnxOptions::default() };
    let without = read_onnx(&graph("shuffled"), &options).expect("a graph");
    assert_eq!(without.config.embedding_dim(), 10);
    let options = OnnxOptions { output: Some("nothing".to_owned()), ..OnnxOptions::default() };
    let error = read_onnx(&graph("shuffled"), &options).expect_err("no such value").to_string();
    assert!(error.contains("nothing is no value of the graph"), "{error}");
    // A free size has to be given, a fixed one stays.
    let error = read_onnx(&graph("normalized"), &OnnxOptions::default()).expect_err("no size");
    assert!(error.to_string().contains("give --size"), "{error}");
    let options = OnnxOptions { size: Some([64, 64]), ..OnnxOptions::default() };
    let error = read_onnx(&graph("shuffled"), &options).expect_err("another size").to_string();
    assert!(error.contains("--size says 64, the graph 32"), "{error}");
    let wide = OnnxOptions { size: Some([40, 64]), ..OnnxOptions::default() };
    let wide = read_onnx(&graph("normalized"), &wide).expect("a graph");
    assert_eq!((wide.preprocess.height, wide.preprocess.width), (40, 64));
}

#[test]
fn own_exports_come_back() {
    let world = World::new();
    let device = Device::flex();
    let inverted = |network| {
        BackboneConfig::Inverted(InvertedConfig { scale: 0.25, ..InvertedConfig::new(network) })
    };
    let resnet = ResNetConfig { depths: [1, 1, 1, 1], width: 8, ..ResNetConfig::resnet50_vd() };
    for (name, backbone) in [
        ("resnet", BackboneConfig::ResNet(resnet)),
        ("mobilenet", inverted(InvertedNetwork::MobilenetV3Small)),
        ("efficientnet", inverted(InvertedNetwork::EfficientnetB0)),
        (
            "repvit",
            BackboneConfig::RepVit(RepVitConfig {
                widths: [8, 16, 24, 32],
                depths: [1, 1, 1, 1],
                fused: false,
            }),
        ),
        (
            "convnext",
            BackboneConfig::ConvNext(ConvNextConfig {
                widths: [8, 12, 16, 20],
                depths: [1, 1, 1, 1],
                fused: false,
            }),
        ),
        (
            "vit",
            BackboneConfig::Vit(VitConfig {
                width: 32,
                depth: 2,
                heads: 4,
                hidden: 40,
                between: Between::GeluTanh,
                positions: Positions::Learned {
                    rows: 3,
                    columns: 4,
                    has_class: true,
                    resampling: Resampling::Bicubic,
                },
                normalizes_first: true,
                projection: Some(20),
                ..VitConfig::small(16, 64)
            }),
        ),
        (
            "lcnet",
            BackboneConfig::PpLcNetV2(PpLcNetV2Config {
                scale: 0.25,
                depths: [1, 1, 1, 1],
                class_expand: 40,
                shitu: true,
                dropout: 0.2,
                fused: false,
            }),
        ),
    ] {
        let config = ExtractorConfig { backbone, neck: None };
        let network = config.init(&device).fuse();
        let preprocess = Preprocess { width: 64, height: 48, ..Preprocess::square(1) };
        let files = network_files(Format::Onnx, name, &network, &preprocess);
        let path = world.write(&format!("{name}.onnx"), &files[0].1);
        let imported = read_onnx(&path, &OnnxOptions::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let again = imported.weights.clone().load_into(imported.config.init(&device));
        let again = again.expect("its weights");
        let (expected, got) = (answer(&network, &preprocess), answer(&again, &preprocess));
        assert_eq!(expected.len(), got.len(), "{name}");
        let worst = expected.iter().zip(&got).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{name}: off by {worst}");
        // And once more from what came back.
        let files = network_files(Format::Onnx, "again", &again, &preprocess);
        let path = world.write("again.onnx", &files[0].1);
        let twice = read_onnx(&path, &OnnxOptions::default())
            .unwrap_or_else(|error| panic!("{name} again: {error}"));
        assert_eq!(twice.config.embedding_dim(), config.embedding_dim(), "{name}");
    }
}

#[test]
fn the_command_writes_a_model_file_that_runs() {
    let world = World::new();
    for name in ["shuffled.onnx", "x.npy", "shuffled.npy", "gated.npy"] {
        std::fs::copy(folder().join(name), world.path(name)).expect("a file");
    }
    let said =
        world.succeed("import shuffled.onnx --check x.npy shuffled.npy --out model.safetensors");
    assert!(said.contains("equal to a plain interpreter of the graph"), "{said}");
    assert!(said.contains("equal to shuffled.npy"), "{said}");
    let bytes = std::fs::read(world.path("model.safetensors")).expect("a file");
    let model = ModelFile::from_bytes(&bytes).expect("a model file");
    let extractor = model.prepare_extractor(&Device::flex()).expect("an extractor");
    let preprocess = extractor.preprocess().clone();
    let values = pollster::block_on(extractor.run(&[drawn_for(&preprocess)])).expect("an answer");
    assert_eq!(values.len(), 7);
    // A reference of another network is refused, and nothing is written.
    let error = world.fail("import shuffled.onnx --check x.npy gated.npy --out other.safetensors");
    assert!(error.contains("not [1, 7]"), "{error}");
    assert!(!world.path("other.safetensors").exists());
}

/// Counts parameters, and those that have a gradient.
struct Learning<'a> {
    gradients: &'a Gradients,
    parameters: usize,
    reached: usize,
}

impl ModuleVisitor for Learning<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.parameters += 1;
        self.reached += usize::from(param.val().grad(self.gradients).is_some());
    }
}

#[test]
fn every_parameter_of_a_graph_learns() {
    let imported = read_onnx(&graph("gated"), &OnnxOptions::default()).expect("a graph");
    let device = Device::flex().autodiff();
    let network = imported.weights.load_into(imported.config.init(&device)).expect("its weights");
    let preprocess = imported.preprocess;
    let y = network.forward(preprocess.apply(&[drawn_for(&preprocess)], &device)).raw_embedding;
    let gradients = (y.clone() * y).sum().backward();
    let mut learning = Learning { gradients: &gradients, parameters: 0, reached: 0 };
    network.visit(&mut learning);
    assert!(learning.parameters > 10);
    assert_eq!(learning.reached, learning.parameters);
}

/// A field of a protocol buffer that holds bytes.
fn held(number: u8, bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() < 1 << 14, "lengths of two bytes are enough");
    let length = [bytes.len() as u8 & 127 | 128, (bytes.len() >> 7) as u8];
    [&[number << 3 | 2][..], &length, bytes].concat()
}

/// A field of a protocol buffer that holds a small number.
fn numbered(number: u8, value: u8) -> Vec<u8> {
    assert!(value < 128 && number < 16);
    vec![number << 3, value]
}

/// A value with its sides.
fn described(name: &str, sides: &[u8]) -> Vec<u8> {
    let sides = sides.iter().flat_map(|side| held(1, &numbered(1, *side)));
    let tensor = [numbered(1, 1), held(2, &sides.collect::<Vec<u8>>())].concat();
    [held(1, name.as_bytes()), held(2, &held(1, &tensor))].concat()
}

fn node(operator: &str, inputs: &[&str], output: &str, attributes: &[u8]) -> Vec<u8> {
    let inputs = inputs.iter().flat_map(|name| held(1, name.as_bytes()));
    let parts = [
        inputs.collect(),
        held(2, output.as_bytes()),
        held(4, operator.as_bytes()),
        attributes.to_vec(),
    ];
    held(1, &parts.concat())
}

/// An attribute: its name, and the field with its type that holds its value.
fn attribute(name: &str, value: &[u8], kind: u8) -> Vec<u8> {
    // The number of the field is beyond a byte.
    held(5, &[held(1, name.as_bytes()), value.to_vec(), vec![0xa0, 0x01, kind]].concat())
}

/// A convolution and a mean, with these attributes, this weight, and nodes behind them.
fn small_graph(attributes: &[u8], weight: f32, more: &[Vec<u8>]) -> Vec<u8> {
    let values = weight.to_le_bytes().repeat(4 * 3 * 3 * 3);
    let shape: Vec<u8> = [4, 3, 3, 3].iter().flat_map(|side| numbered(1, *side)).collect();
    let weight = [shape, numbered(2, 1), held(8, b"w"), held(9, &values)].concat();
    let graph = [
        node("Conv", &["x", "w"], "c", attributes),
        node("GlobalAveragePool", &["c"], "p", &[]),
        node("Flatten", &["p"], "y", &[]),
        more.concat(),
        held(5, &weight),
        held(11, &described("x", &[1, 3, 16, 16])),
        held(12, &described("y", &[1, 4])),
    ];
    [numbered(1, 8), held(7, &graph.concat()), held(8, &numbered(2, 17))].concat()
}

#[test]
fn a_graph_that_contradicts_itself_is_refused() {
    let shape = |sides: &[u8]| {
        let sides = sides.iter().flat_map(|side| numbered(8, *side));
        attribute("kernel_shape", &sides.collect::<Vec<u8>>(), 7)
    };
    let padded = |how: &str| attribute("auto_pad", &held(4, how.as_bytes()), 3);
    let read = |bytes: &[u8]| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("small.ONNX");
        std::fs::write(&path, bytes).expect("written");
        read_onnx(&path, &OnnxOptions::default())
    };
    let good = read(&small_graph(&[shape(&[3, 3]), padded("VALID")].concat(), 0.5, &[]));
    assert_eq!(good.expect("a graph").config.embedding_dim(), 4);
    let wrong = [
        (small_graph(&shape(&[1, 1]), 0.5, &[]), "a kernel_shape that is not that of its weights"),
        (small_graph(&shape(&[3]), 0.5, &[]), "a kernel_shape that is not that of its weights"),
        (small_graph(&padded("SAME"), 0.5, &[]), "padding SAME, which there is not"),
        (small_graph(&[], f32::NAN, &[]), "no finite numbers"),
        (small_graph(&[], f32::MAX, &[]), "no finite numbers"),
        (small_graph(&[], 0.5, &[node("Relu", &["x"], "c", &[])]), "two values are called c"),
        (small_graph(&[], 0.5, &[node("Relu", &["x"], "w", &[])]), "two values are called w"),
        (small_graph(&[], 0.5, &[node("Relu", &["x"], "x", &[])]), "two values are called x"),
    ];
    for (bytes, reason) in wrong {
        let error = read(&bytes).expect_err(reason).to_string();
        assert!(error.contains(reason), "{reason}: {error}");
        assert!(!error.contains("please report"), "{error}");
    }
}
