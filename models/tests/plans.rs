//! Every network's plan against the network itself.
#![cfg(feature = "flex")]

use std::sync::Mutex;

use burn::tensor::Device;
use models::backbone::BackboneConfig;
use models::backbone::{
    Between, ConvNextConfig, EfficientNetLiteConfig, GlobalPool, InvertedConfig, InvertedNetwork,
    LiteSize, MobileNetV1Config, Positions, PpLcNetConfig, PpLcNetV2Config, RepVitConfig,
    ResNetConfig, ResNetStem, ResidualBlock, Shortcut, TokenPool, VitConfig,
};
use models::detector::{DetectorBackbone, DetectorConfig, DetectorVariant, GraphDetectorConfig};
use models::extractor::{Extractor, ExtractorConfig};
use models::image::RgbImage;
use models::inference::Arithmetic;
use models::neck::NeckConfig;

use models::inference::{Network, Prepared};
use models::preprocess::Preprocess;
use models::weights::Weights;

/// Of the weights.
const SEED: u64 = 1;

fn preprocess(width: u32, height: u32) -> Preprocess {
    Preprocess { width, height, ..Preprocess::square(1) }
}

/// A picture with something everywhere.
fn picture(width: u32, height: u32, seed: u32) -> RgbImage {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
    let bytes = (0..width * height * 3).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    RgbImage::from_rgb(width, height, bytes.collect()).expect("a picture of this size")
}

/// Two pictures through the plan and, at once, through the module.
fn pictures(preprocess: &Preprocess) -> [RgbImage; 2] {
    [1, 2].map(|seed| picture(preprocess.width + 9, preprocess.height + 5, seed))
}

fn assert_near(what: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-3_f32, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // Sums of a few thousand terms in another order, layer after layer.
    assert!(worst <= 1e-4 * scale, "{what}: off by {worst} at scale {scale}");
    assert!(expected.iter().any(|v| v.abs() > 1e-6), "{what}: something comes out");
}

/// The same with products in int8, which lose something, and what they lose is rounding:
/// weights that were drawn, not learned, add it up layer after layer.
fn assert_whole_numbers_near<N: Network>(
    what: &str,
    network: &N,
    preprocess: &Preprocess,
    expected: &[f32],
) {
    let device = Device::flex();
    let prepared = Prepared::with_arithmetic(network, preprocess, Arithmetic::I8, &device);
    let got = pollster::block_on(prepared.run(&pictures(preprocess))).expect("answers");
    assert_eq!(got.len(), expected.len(), "{what}");
    let length = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
    let apart = length(&mut got.iter().zip(expected).map(|(a, b)| a - b))
        / length(&mut expected.iter().copied());
    assert!(apart < 0.1, "{what}: int8 is {apart} apart");
    assert!(apart > 1e-6, "{what}: computed in int8");
}

/// The same on a graphics device, where this build has one, of more pictures than it takes at once.
#[cfg(feature = "webgpu")]
fn assert_gpu_near<N: Network>(what: &str, network: &N, preprocess: &Preprocess) {
    use std::sync::{Arc, LazyLock};

    use models::inference::gpu::Gpu;

    static GPU: LazyLock<Arc<Gpu>> =
        LazyLock::new(|| pollster::block_on(Gpu::open()).expect("a graphics device"));
    let pictures: Vec<RgbImage> =
        (1..=11).map(|seed| picture(preprocess.width, preprocess.height, seed)).collect();
    let on_cpu = Prepared::new(network, preprocess, &Device::flex());
    let on_gpu = Prepared::new(network, preprocess, &*GPU);
    for count in [11, 1] {
        let expected = pollster::block_on(on_cpu.run(&pictures[..count])).expect("answers");
        let got = pollster::block_on(on_gpu.run(&pictures[..count])).expect("answers");
        assert_near(&format!("{what}, {count} on the graphics device"), &got, &expected);
    }
}

#[cfg(not(feature = "webgpu"))]
fn assert_gpu_near<N: Network>(_: &str, _: &N, _: &Preprocess) {}

/// Normalization that changes something: fresh networks have mean 0, variance 1, scale 1, shift 0.
fn unsettle(weights: &mut Weights) {
    for (name, tensor) in &mut weights.tensors {
        // Drawn small, so that a fresh block changes little.
        if name.ends_with(".narrow.weight") {
            tensor.values.iter_mut().for_each(|value| *value *= 100.0);
        }
        let (least, most) = match name.rsplit('.').next() {
            Some("running_var") => (0.5, 2.0),
            Some("running_mean") => (-0.3, 0.3),
            Some("bias") => (-0.2, 0.2),
            _ => continue,
        };
        let count = tensor.values.len();
        for (index, value) in tensor.values.iter_mut().enumerate() {
            let share = ((index * 37 + name.len() * 11) % (count + 7)) as f32 / (count + 7) as f32;
            *value = least + (most - least) * share;
        }
    }
}

/// A fresh network with its weights, the same in every run.
fn drawn<N: models::values::Module>(init: impl FnOnce(&Device) -> N) -> (N, Weights) {
    // The generator is one of all threads.
    static GENERATOR: Mutex<()> = Mutex::new(());
    let device = Device::flex();
    let _one_at_a_time = GENERATOR.lock().expect("no draw fails");
    device.seed(SEED);
    let fresh = init(&device);
    // Parameters are drawn when they are first read.
    let mut weights = Weights::from_module(&fresh);
    unsettle(&mut weights);
    (fresh, weights)
}

fn check_extractor(what: &str, config: &ExtractorConfig, preprocess: &Preprocess) {
    let (fresh, weights) = drawn(|device| config.init(device));
    check_loaded(what, weights.load_into(fresh).expect("its own weights"), preprocess);
}

/// Weights that are the same every time, in proportion to what is summed.
fn draw(weights: &mut Weights) {
    let mut state = 1_u32;
    for (name, tensor) in &mut weights.tensors {
        let terms: usize = tensor.shape.iter().skip(1).product();
        let (middle, reach) = match (name.rsplit('.').next(), tensor.shape.len()) {
            (Some("weight"), 1) => (1.0, 0.3),
            (_, 1) => (0.0, 0.1),
            // Tokens and positions.
            (_, 2) => (0.0, 1.0),
            _ => (0.0, (3.0 / terms as f32).sqrt()),
        };
        for value in &mut tensor.values {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *value = middle + reach * ((state >> 8) as f32 / 8_388_608.0 - 1.0);
        }
    }
}

fn check_drawn(what: &str, config: &ExtractorConfig, preprocess: &Preprocess) {
    let fresh = config.init(&Device::flex());
    let mut weights = Weights::from_module(&fresh);
    draw(&mut weights);
    check_loaded(what, weights.load_into(fresh).expect("its own weights"), preprocess);
}

fn check_loaded(what: &str, extractor: Extractor, preprocess: &Preprocess) {
    let device = Device::flex();
    for (form, extractor) in [("trained", extractor.clone()), ("deployed", extractor.fuse())] {
        let pictures = pictures(preprocess);
        let expected = extractor.embed(preprocess.apply(&pictures, &device));
        let expected: Vec<f32> = expected.into_data().try_into_vec().expect("floats");
        let prepared = Prepared::new(&extractor, preprocess, &device);
        let got = pollster::block_on(prepared.run(&pictures)).expect("embeddings");
        assert_near(&format!("{what}, {form}"), &got, &expected);
        // A second run finds the memory of the first.
        let again = pollster::block_on(prepared.run(&pictures)).expect("embeddings");
        assert_eq!(got, again, "{what}, {form}");
        assert_whole_numbers_near(&format!("{what}, {form}"), &extractor, preprocess, &expected);
        assert_gpu_near(&format!("{what}, {form}"), &extractor, preprocess);
    }
}

fn extractor(backbone: BackboneConfig, neck: Option<NeckConfig>) -> ExtractorConfig {
    ExtractorConfig { backbone, neck }
}

#[test]
fn pp_lcnet() {
    let config = |scale| {
        let config = PpLcNetConfig { scale, class_expand: Some(64), dropout: 0.2, fused: false };
        BackboneConfig::PpLcNet(config)
    };
    for (scale, side) in [(0.25, (64, 64)), (0.35, (45, 51)), (0.5, (32, 96))] {
        let neck = Some(NeckConfig::Fc { embedding_dim: 33 });
        let preprocess = preprocess(side.0, side.1);
        check_extractor(&format!("{scale}"), &extractor(config(scale), neck), &preprocess);
    }
    let binary = extractor(config(0.25), Some(NeckConfig::FcTanh { embedding_dim: 24 }));
    check_extractor("codes", &binary, &preprocess(32, 32));
}

#[test]
fn pp_lcnet_v2() {
    for shitu in [false, true] {
        let backbone = BackboneConfig::PpLcNetV2(PpLcNetV2Config {
            scale: 0.25,
            depths: [2, 2, 2, 2],
            class_expand: 40,
            shitu,
            dropout: 0.2,
            fused: false,
        });
        let neck = shitu.then_some(NeckConfig::BnNeck);
        let config = extractor(backbone, neck);
        check_extractor(&format!("shitu {shitu}"), &config, &preprocess(64, 48));
    }
}

#[test]
fn mobilenet_v1() {
    let backbone = BackboneConfig::MobileNetV1(MobileNetV1Config { scale: 0.25, fused: false });
    let neck = Some(NeckConfig::Vehicle { embedding_dim: 20 });
    check_extractor("mobilenet", &extractor(backbone, neck), &preprocess(64, 64));
}

#[test]
fn efficientnet_lite() {
    for (size, width, height) in
        [(LiteSize::Lite0, 64, 64), (LiteSize::Lite0, 63, 50), (LiteSize::Lite2, 65, 64)]
    {
        let backbone =
            BackboneConfig::EfficientNetLite(EfficientNetLiteConfig { size, fused: false });
        let config = extractor(backbone, Some(NeckConfig::Tanh));
        check_extractor(
            &format!("{size:?}, {width}×{height}"),
            &config,
            &preprocess(width, height),
        );
    }
}

#[test]
fn inverted_residuals() {
    for (index, network) in InvertedNetwork::ALL.into_iter().enumerate() {
        let config = InvertedConfig {
            scale: 0.25,
            epsilon: 1e-3,
            same_padding: index % 2 == 1,
            ..InvertedConfig::new(network)
        };
        let config = extractor(BackboneConfig::Inverted(config), None);
        check_extractor(&format!("{network:?}"), &config, &preprocess(64, 47));
    }
}

#[test]
fn repvit() {
    let config = RepVitConfig { widths: [8, 24, 32, 44], depths: [1, 2, 2, 1], fused: false };
    let config = extractor(BackboneConfig::RepVit(config), None);
    check_extractor("repvit", &config, &preprocess(64, 47));
}

#[test]
fn convnext() {
    // Channels that fill no vector, and a side that patches do not divide.
    let config = ConvNextConfig { widths: [6, 24, 34, 40], depths: [1, 1, 2, 1], fused: false };
    let config = extractor(BackboneConfig::ConvNext(config), None);
    check_extractor("convnext", &config, &preprocess(64, 71));
}

/// One of each: of learned positions and of rotations, of every pool and every activation.
#[test]
fn vision_transformers() {
    let small = VitConfig { width: 48, depth: 2, heads: 4, hidden: 80, ..VitConfig::small(8, 32) };
    let learned = |has_class| match VitConfig::small(8, 32).positions {
        Positions::Learned { rows, columns, resampling, .. } => {
            Positions::Learned { rows, columns, resampling, has_class }
        }
        rotary @ Positions::Rotary { .. } => rotary,
    };
    let clip = VitConfig {
        between: Between::QuickGelu,
        normalizes_first: true,
        projection: Some(37),
        ..small.clone()
    };
    let siglip = VitConfig {
        between: Between::GeluTanh,
        has_class: false,
        positions: learned(false),
        pool: TokenPool::Attention,
        ..small.clone()
    };
    let registers = VitConfig { registers: 3, positions: learned(false), ..small.clone() };
    let rotary = VitConfig {
        width: 64,
        registers: 4,
        positions: Positions::Rotary { base: 100.0 },
        between: Between::SwiGlu,
        ..small.clone()
    };
    let mean = VitConfig { pool: TokenPool::Mean, ..small.clone() };
    let normalized = VitConfig { pool: TokenPool::MeanOfNormalized, ..siglip.clone() };
    for (what, config, side) in [
        ("plain", small, (32, 32)),
        // Other grids than the positions', sides that patches do not divide.
        ("clip", clip, (40, 27)),
        ("siglip", siglip, (32, 48)),
        ("registers", registers, (32, 32)),
        ("rotary", rotary, (48, 33)),
        ("mean", mean, (24, 32)),
        ("mean of normalized", normalized, (32, 32)),
    ] {
        let config = extractor(BackboneConfig::Vit(config), None);
        check_drawn(what, &config, &preprocess(side.0, side.1));
    }
}

#[test]
fn resnet() {
    let stems = [ResNetStem::Single7x7, ResNetStem::Triple3x3, ResNetStem::Single3x3];
    for (index, stem) in stems.into_iter().enumerate() {
        for block in [ResidualBlock::Basic, ResidualBlock::Bottleneck] {
            for shortcut in [Shortcut::StridedConv, Shortcut::AveragePool] {
                let backbone = BackboneConfig::ResNet(ResNetConfig {
                    block,
                    depths: [1, 2, 1, 1],
                    width: 16,
                    stem,
                    shortcut,
                    max_pool: index != 2,
                    pool: if index == 1 { GlobalPool::Max } else { GlobalPool::Average },
                    stem_activation: index != 0,
                    ..ResNetConfig::resnet50()
                });
                let what = format!("{stem:?} {block:?} {shortcut:?}");
                check_extractor(&what, &extractor(backbone, None), &preprocess(47, 64));
            }
        }
    }
}

/// Every step that a list of steps may have.
const STEPS: &str = include_str!("steps.json");

/// Lines of pixels, of images of 64 × 40 alone.
const LINES: &str = r#"{"kind":"graph","nodes":[
    {"step":{"conv":{"channels":16,"kernel":8,"stride":8}},"inputs":[0]},
    {"step":{"tokens":{"before":0,"places":[5,8]}},"inputs":[1]},
    {"step":{"behind":0},"inputs":[2,1]},
    {"step":{"tokens":{"before":2}},"inputs":[3]},
    {"step":{"tokens":{"before":0,"places":[1,42]}},"inputs":[4]},
    {"step":{"layer_norm":1e-6},"inputs":[5]},
    {"step":{"linear":16},"inputs":[6]},
    {"step":{"linear":16},"inputs":[6]},
    {"step":{"linear":16},"inputs":[6]},
    {"step":{"attend":2},"inputs":[7,8,9]},
    {"step":"add","inputs":[5,10]},
    {"step":{"behind":2},"inputs":[11,1]},
    {"step":{"pool":{"pool":"max","kernel":[2,2],"stride":[2,2]}},"inputs":[12]},
    {"step":{"attend":4},"inputs":[12,13,13]},
    {"step":{"global_pool":"average"},"inputs":[14]},
    {"step":"first","inputs":[11]},
    {"step":"concatenate","inputs":[15,16]}]}"#;

#[test]
fn graphs_of_lines() {
    let config: BackboneConfig = serde_json::from_str(LINES).expect("a list of steps");
    config.check().expect("a network");
    config.check_input([40, 64]).expect("room for every step");
    let error = config.check_input([48, 64]).expect_err("another size").to_string();
    assert!(error.contains("nodes.1.pixels is 6 × 8; its values are for 5 × 8"), "{error}");
    check_extractor("lines", &extractor(config, None), &preprocess(64, 40));
}

/// Maps and vectors that are both inputs of one step.
const TWICE: &str = r#"{"kind":"graph","nodes":[
    {"step":{"conv":{"channels":12,"kernel":3,"stride":2}},"inputs":[0]},
    {"step":"multiply","inputs":[1,1]},
    {"step":"add","inputs":[2,2]},
    {"step":"add_relu","inputs":[3,3]},
    {"step":"concatenate","inputs":[4,4]},
    {"step":{"global_pool":"average"},"inputs":[5]},
    {"step":"scale","inputs":[6,6]},
    {"step":"multiply","inputs":[7,7]},
    {"step":"add","inputs":[8,6]}]}"#;

#[test]
fn a_step_may_have_one_input_twice() {
    let config: BackboneConfig = serde_json::from_str(TWICE).expect("a list of steps");
    config.check().expect("a network");
    // In floats: the only convolution is a first one, which int8 leaves as it is.
    let device = Device::flex();
    let preprocess = preprocess(32, 24);
    let (fresh, weights) = drawn(|device| extractor(config, None).init(device));
    let extractor = weights.load_into(fresh).expect("its own weights");
    let pictures = pictures(&preprocess);
    let expected = extractor.embed(preprocess.apply(&pictures, &device));
    let expected: Vec<f32> = expected.into_data().try_into_vec().expect("floats");
    let prepared = Prepared::new(&extractor, &preprocess, &device);
    let got = pollster::block_on(prepared.run(&pictures)).expect("embeddings");
    assert_near("twice", &got, &expected);
    assert_gpu_near("twice", &extractor, &preprocess);
}

#[test]
fn graphs() {
    let config: BackboneConfig = serde_json::from_str(STEPS).expect("a list of steps");
    config.check().expect("a network");
    for (width, height) in [(64, 47), (71, 64)] {
        config.check_input([height, width]).expect("room for every step");
        let extractor = extractor(config.clone(), None);
        check_extractor(&format!("{width} × {height}"), &extractor, &preprocess(width, height));
    }
}

/// A list of steps as a detector: the maps of several of them, on every engine the same.
#[test]
fn detectors_of_graphs() {
    let text = r#"{"graph": {"nodes": [
        {"step": {"conv": {"channels": 12, "kernel": 2, "stride": 2}}, "inputs": [0]},
        {"step": {"conv": {"channels": 9, "kernel": 3, "stride": 4, "padding": [1, 1, 1, 1], "activation": "Silu"}}, "inputs": [1]},
        {"step": {"conv": {"channels": 9, "kernel": 3, "stride": 2, "padding": [1, 1, 1, 1]}}, "inputs": [2]},
        {"step": {"gate": "sigmoid"}, "inputs": [3]},
        {"step": {"enlarge": [2, 2]}, "inputs": [3]},
        {"step": {"pool": {"pool": "average", "kernel": [2, 2], "stride": [1, 1], "padding": [1, 1, 1, 1]}}, "inputs": [5]},
        {"step": {"pool": {"pool": "average", "kernel": [2, 2], "stride": [1, 1]}}, "inputs": [6]},
        {"step": "concatenate", "inputs": [2, 7]},
        {"step": "concatenate", "inputs": [3, 4]}
    ]}, "outputs": [8, 9], "decoding": {
        "strides": [8, 16], "classes": 14, "values": ["scores", "box"], "boxes": "center", "offset": 0.0
    }}"#;
    let config: GraphDetectorConfig = serde_json::from_str(text).expect("a detector");
    config.check().expect("a network");
    let preprocess = preprocess(96, 64);
    config.check_input(&preprocess).expect("room for every step");
    let device = Device::flex();
    let mut weights = Weights::from_module(&config.init(&device));
    draw(&mut weights);
    let detector = weights.load_into(config.init(&device)).expect("its own weights");
    let pictures = pictures(&preprocess);
    let expected = detector.forward_points(preprocess.apply(&pictures, &device));
    let expected: Vec<f32> = expected.into_data().try_into_vec().expect("floats");
    let prepared = Prepared::new(&detector, &preprocess, &device);
    let got = pollster::block_on(prepared.run(&pictures)).expect("points");
    assert_eq!(got.len(), pictures.len() * (12 * 8 + 6 * 4) * prepared.reading().row());
    assert_near("a list of steps", &got, &expected);
    assert_gpu_near("a list of steps", &detector, &preprocess);
    // Every second map is twice as large between its pixels: plainly, of the first picture's last channel.
    let row = prepared.reading().row();
    let small = |y: usize, x: usize| got[(12 * 8 + y * 6 + x) * row + 8];
    let mixed = |at: usize, side: usize| {
        let place = ((at as f32 + 0.5) / 2.0 - 0.5).clamp(0.0, (side - 1) as f32);
        (place as usize, (place as usize + 1).min(side - 1), place.fract())
    };
    for (y, x) in (0..8).flat_map(|y| (0..12).map(move |x| (y, x))) {
        let ((above, below, down), (left, right, aside)) = (mixed(y, 4), mixed(x, 6));
        let line = |y: usize| small(y, left) * (1.0 - aside) + small(y, right) * aside;
        let plain = line(above) * (1.0 - down) + line(below) * down;
        let got = got[(y * 12 + x) * row + 17];
        assert!((got - plain).abs() < 1e-5, "{y} {x}: {got} {plain}");
    }
}

#[test]
fn detectors() {
    let device = Device::flex();
    for (variant, backbone, neck_channels) in [
        (DetectorVariant::First, DetectorBackbone::PpLcNet, 24),
        (DetectorVariant::Second, DetectorBackbone::PpLcNet, 22),
        (DetectorVariant::First, DetectorBackbone::EfficientNetLite0, 24),
    ] {
        let config = DetectorConfig {
            variant,
            backbone,
            backbone_scale: 0.25,
            neck_channels,
            num_classes: 2,
            head_blocks: 2,
            fused: false,
        };
        let (fresh, weights) = drawn(|device| config.init(device));
        let detector = weights.load_into(fresh).expect("its own weights");
        let preprocess = preprocess(96, 64);
        for (form, detector) in [("trained", detector.clone()), ("deployed", detector.fuse())] {
            let pictures = pictures(&preprocess);
            let expected = detector.forward_points(preprocess.apply(&pictures, &device));
            let expected: Vec<f32> = expected.into_data().try_into_vec().expect("floats");
            let prepared = Prepared::new(&detector, &preprocess, &device);
            let got = pollster::block_on(prepared.run(&pictures)).expect("points");
            let what = format!("{variant:?} {backbone:?}, {form}");
            assert_near(&what, &got, &expected);
            assert_whole_numbers_near(&what, &detector, &preprocess, &expected);
            assert_gpu_near(&what, &detector, &preprocess);
        }
    }
}
