//! Our numbers against those of the original implementations.
//!
//! Tolerances are relative norms. Values of single operators: 1e-5, a few units in the last place
//! after short sums. Whole networks: 1e-4, because thousands of f32 terms are summed in another
//! order. Gradients through whole networks: 1e-3, because batch normalization over few values
//! amplifies that. The same hold on every device; `GOLDEN_DEVICE` names it.

mod assignment;
mod averages;
mod evaluation;
mod heads;
mod losses;
mod operators;
mod steps;
mod toy;
mod training;

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use models::backbone::BackboneConfig;
use models::backbone::{
    DepthwiseSeparable, GlobalPool, MobileNetV1Config, PpLcNetConfig, PpLcNetV2Config,
    RepDepthwiseSeparable, RepOptions, ResNetConfig, Residual, ResidualBlock, Shortcut,
};
use models::detector::{
    Candidates, Decoding, DetectionThresholds, DetectorBackbone, DetectorConfig, DetectorVariant,
    decode,
};
use models::extractor::{ExtractorConfig, l2_normalize};
use models::gallery::{IndexConfig, Metric, Search, VectorIndex, VectorType};
use models::image::RgbImage;
use models::image::geometry::{BBox, non_maximum_suppression};
use models::image::{ResizeFilter, resize};
use models::inference::Network;
use models::layers::{Activation, ConvBn, ConvShape, Gate, SqueezeExcite};
use models::neck::{BnNeck, FcNeck, NeckConfig};
use models::preprocess::Preprocess;
use models::weights::Weights;
use native_trainer::assign::assign;
use native_trainer::exchange::import::paddle_name;
use native_trainer::loss::{distribution_focal, varifocal};
use native_trainer::optimizer::each_gradient;
use native_trainer::train::detector::{Assignment, losses_of_points};
use tests::{
    assert_close, cases, device, load, procedural_input, procedural_weights, tensor, tensor_files,
    values,
};

const OPERATOR: f64 = 1e-5;
const NETWORK: f64 = 1e-4;
const GRADIENT: f64 = 1e-3;

// ---------------------------------------------------------------- networks

/// Runs a recorded block or backbone: evaluation, fused evaluation, and one training step with the
/// recorded upstream gradient, checking outputs, gradients and running statistics.
fn check_recorded<M: Module>(
    name: &str,
    recorded: &Weights,
    module: impl Fn(&Device) -> M,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<1>,
    fuse: Option<fn(M) -> M>,
) {
    let weights = recorded.under("w");
    let expect = |key: &str| recorded.tensors[key].values.as_slice();
    let input = tensor::<4>(recorded, "input", &device());
    let network = load(&weights, module(&device()));
    assert_close(name, &values(forward(&network, input.clone())), expect("out"), NETWORK);
    if let Some(fuse) = fuse {
        let fused = fuse(network);
        let key = if recorded.tensors.contains_key("out_fused") { "out_fused" } else { "out" };
        let output = values(forward(&fused, input));
        assert_close(&format!("{name} fused"), &output, expect(key), NETWORK);
    }
    if !recorded.tensors.contains_key("train_upstream") {
        return;
    }

    let device = device().autodiff();
    let network = load(&weights, module(&device));
    let input = tensor::<4>(recorded, "input", &device).require_grad();
    let output = forward(&network, input.clone());
    let trained = values(output.clone());
    assert_close(&format!("{name} training output"), &trained, expect("train_out"), NETWORK);
    let length = trained.len();
    let upstream = burn::tensor::TensorData::new(expect("train_upstream").to_vec(), [length]);
    let gradients = (output * Tensor::from_data(upstream, &device)).sum().backward();
    let dx = values(input.grad(&gradients).expect("the input has a gradient"));
    assert_close(&format!("{name} input gradient"), &dx, expect("train_grad_input"), GRADIENT);
    let found = gradients_by_name(&network, &gradients);
    let mut compared = 0;
    for (theirs, expected) in &recorded.under("train_grad").tensors {
        let ours = paddle_name(theirs).expect("a trained parameter is ours too");
        let got = found.get(&ours).unwrap_or_else(|| panic!("{name}: no gradient of {ours}"));
        // Gradients that vanish (a shift before batch normalization) are rounding noise.
        if expected.values.iter().any(|v| v.abs() > 1e-4) {
            assert_close(&format!("{name} gradient of {ours}"), got, &expected.values, GRADIENT);
            compared += 1;
        }
    }
    assert!(compared > 0, "{name}: no gradient compared");
    let after = Weights::from_module(&network);
    for (theirs, expected) in &recorded.under("train_running").tensors {
        let ours = paddle_name(theirs).expect("a running statistic is ours too");
        let got = &after.tensors[&ours].values;
        assert_close(&format!("{name} running {ours}"), got, &expected.values, NETWORK);
    }
}

fn gradients_by_name(
    module: &impl Module,
    gradients: &burn::tensor::Gradients,
) -> BTreeMap<String, Vec<f32>> {
    let mut found = BTreeMap::new();
    each_gradient(module, gradients, |path, gradient| {
        found.insert(path, values(gradient));
    });
    found
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let length = tensor.shape().num_elements();
    tensor.reshape([length])
}

/// The number behind `key` in a file name such as `..._s0.25_d1122_c10.safetensors`.
fn in_name(name: &str, key: &str) -> Option<String> {
    let stem = name.trim_end_matches(".safetensors");
    let part = stem.split('_').find_map(|part| {
        part.strip_prefix(key)
            .filter(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
    })?;
    Some(part.to_owned())
}

#[test]
fn blocks_equal_the_reference() {
    let mut count = 0;
    for (name, recorded) in tensor_files("block_") {
        let shape = |key: &str| recorded.tensors[key].shape.clone();
        let strided = shape("input")[2] != shape("out")[2];
        let stride = if strided { 2 } else { 1 };
        let (channels_in, channels_out) = (shape("input")[1], shape("out")[1]);
        if name.starts_with("block_Rep") {
            let options = RepOptions {
                split_pointwise: name.contains("split"),
                rep: true,
                squeeze_excite: name.contains("_se"),
                shortcut: !name.contains("stage3"),
            };
            let depthwise = ConvShape::depthwise(channels_in, 5, stride);
            check_recorded(
                &name,
                &recorded,
                |d| RepDepthwiseSeparable::new(depthwise, channels_out, options, false, d),
                |m, x| flat(m.forward(x)),
                Some(RepDepthwiseSeparable::fuse),
            );
        } else if name.starts_with("block_DepthwiseSeparable_v1") {
            let kernel = shape("w.dw_conv.conv.weight")[2];
            let depthwise = ConvShape::depthwise(channels_in, kernel, stride);
            let se = recorded.tensors.contains_key("w.se.conv1.weight");
            check_recorded(
                &name,
                &recorded,
                |d| DepthwiseSeparable::new(depthwise, channels_out, se, false, d),
                |m, x| flat(m.forward(x)),
                None,
            );
        } else if name.starts_with("block_ConvBN_v1_hardswish") {
            let kernel = shape("w.conv.weight")[2];
            let conv = ConvShape::dense(channels_in, channels_out, kernel, stride);
            check_recorded(
                &name,
                &recorded,
                |d| ConvBn::new(conv, Activation::HardSwish, false, d),
                |m, x| flat(m.forward(x)),
                Some(ConvBn::fuse),
            );
        } else if name.starts_with("block_SE_v1_hardsigmoid") {
            check_recorded(
                &name,
                &recorded,
                |d| SqueezeExcite::new(channels_in, Gate::HardSigmoid, d),
                |m, x| flat(m.forward(x)),
                None,
            );
        } else if name.starts_with("block_B") {
            let bottleneck = name.starts_with("block_Bottleneck");
            let block = if bottleneck { ResidualBlock::Bottleneck } else { ResidualBlock::Basic };
            let pooled = name.contains("_vd");
            let shortcut = if pooled { Shortcut::AveragePool } else { Shortcut::StridedConv };
            let width = shape("w.conv1.conv.weight")[0];
            let conv = ConvShape::dense(channels_in, width, 3, stride);
            check_recorded(
                &name,
                &recorded,
                |d| Residual::new(block, conv, shortcut, false, d),
                |m, x| flat(m.forward(x)),
                Some(Residual::fuse),
            );
        } else {
            println!("{name}: a block of a network that is not here");
            continue;
        }
        count += 1;
    }
    assert!(count >= 5 || std::env::var_os("GOLDEN_DIR").is_some());
}

#[test]
fn pp_lcnet_v2_equals_the_reference_evaluated_fused_and_trained() {
    for (name, recorded) in tensor_files("arch_PPLCNetV2") {
        let scale: f64 = in_name(&name, "s").expect("a scale").parse().expect("a number");
        let digits = in_name(&name, "d").expect("depths");
        let depth = |i: usize| usize::from(digits.as_bytes()[i] - b'0');
        let shitu = name.contains("ShiTu");
        // Some recordings were made with the default dropout, others with none. Where the training
        // step drew a mask, its zeros show in the output.
        let mask: Option<Vec<f32>> = recorded
            .tensors
            .get("train_out")
            .map(|out| out.values.iter().map(|v| f32::from(u8::from(*v != 0.0))).collect());
        let masked = mask.as_ref().is_some_and(|mask| mask.contains(&0.0));
        let config = PpLcNetV2Config {
            scale,
            depths: [0, 1, 2, 3].map(depth),
            class_expand: recorded.tensors["w.last_conv.weight"].shape[0],
            shitu,
            dropout: if masked { 0.2 } else { 0.0 },
            fused: false,
        };
        let mut network_only = recorded.clone();
        let classifier: Option<(Tensor<2>, Tensor<1>)> =
            recorded.tensors.contains_key("w.fc.weight").then(|| {
                network_only.tensors.retain(|name, _| !name.starts_with("w.fc."));
                let weight = tensor::<2>(&recorded, "w.fc.weight", &device());
                (weight, tensor::<1>(&recorded, "w.fc.bias", &device()))
            });
        check_recorded(
            &name,
            &network_only,
            |device| {
                let dropout = if device.is_autodiff() { 0.0 } else { config.dropout };
                PpLcNetV2Config { dropout, ..config.clone() }.init(device)
            },
            |m, x| {
                let mut features = m.forward(x);
                if let Some(mask) = mask.as_ref().filter(|_| features.device().is_autodiff()) {
                    let data = burn::tensor::TensorData::new(mask.clone(), features.dims());
                    features = features.clone() * Tensor::from_data(data, &features.device());
                }
                flat(match &classifier {
                    Some((weight, bias)) => {
                        features.matmul(weight.clone()) + bias.clone().unsqueeze()
                    }
                    None => features,
                })
            },
            Some(models::backbone::PpLcNetV2::fuse),
        );
    }
}

/// Splits a recognition model's tensors: the extractor's with our two prefixes, the head's apart.
fn extractor_and_head(weights: &Weights) -> (Weights, Weights) {
    let (mut extractor, mut head) = (weights.clone(), weights.clone());
    extractor.tensors.retain(|name, _| !name.starts_with("head."));
    head.tensors.retain(|name, _| name.starts_with("head."));
    (extractor, head)
}

/// The configuration behind a recorded name such as `ResNet50_last_stage_stride1`.
fn resnet_of(name: &str) -> Option<ResNetConfig> {
    if !name.contains("ResNet50") && !name.contains("resnet50") {
        return None;
    }
    let mut config =
        if name.contains("vd") { ResNetConfig::resnet50_vd() } else { ResNetConfig::resnet50() };
    if name.contains("last_stage_stride1") || name.contains("ReID") {
        config.last_stage_stride = 1;
    }
    if name.contains("adaptive_max_pool2d") || name.contains("xbm") {
        config.pool = GlobalPool::Max;
    }
    config.stem_activation = !(name.contains("stemact_none") || name.contains("xbm"));
    Some(config)
}

/// The residual networks' stem under our name; that of PP-LCNetV2 goes by others.
fn stem_named(mut weights: Weights) -> Weights {
    if weights.tensors.keys().any(|name| name.ends_with("blocks.0.conv0.conv.weight")) {
        let renamed = std::mem::take(&mut weights.tensors)
            .into_iter()
            .map(|(name, tensor)| (name.replacen("stem.", "stem_convs.", 1), tensor));
        weights.tensors = renamed.collect();
    }
    weights
}

#[test]
fn mobilenet_v1_equals_the_reference_evaluated_and_trained() {
    for (name, recorded) in tensor_files("arch_MobileNetV1") {
        let digits = in_name(&name.replace("x0_", "s0."), "s").expect("a scale");
        let scale = digits.parse().expect("a number");
        let mut network_only = recorded.clone();
        network_only.tensors.retain(|name, _| !name.starts_with("w.fc."));
        let classifier = recorded.tensors.contains_key("w.fc.weight").then(|| {
            let weight = tensor::<2>(&recorded, "w.fc.weight", &device());
            (weight, tensor::<1>(&recorded, "w.fc.bias", &device()))
        });
        check_recorded(
            &name,
            &network_only,
            |device| MobileNetV1Config { scale, fused: false }.init(device),
            |m, x| {
                let features = m.forward(x);
                flat(match &classifier {
                    Some((weight, bias)) => {
                        let device = features.device();
                        let weight = weight.clone().to_device(&device);
                        features.matmul(weight) + bias.clone().to_device(&device).unsqueeze()
                    }
                    None => features,
                })
            },
            Some(models::backbone::MobileNetV1::fuse),
        );
    }
}

#[test]
fn full_size_backbones_equal_the_reference() {
    let names = ["PPLCNet", "MobileNetV1", "ResNet50"];
    for case in cases("architectures_procedural.json", &names) {
        let mut weights = stem_named(procedural_weights(&case));
        let input = procedural_input(&case, &device());
        let name = &case.name;
        let base = name.trim_start_matches("PPLCNet");
        let resnet = resnet_of(name);
        let classifier = ["fc.weight", "fc.bias"].map(|key| weights.tensors.remove(key));
        let backbone = if let Some(config) = resnet {
            BackboneConfig::ResNet(config)
        } else if name.starts_with("MobileNetV1") {
            BackboneConfig::MobileNetV1(MobileNetV1Config { scale: 1.0, fused: false })
        } else if let Some(base) = base.strip_prefix("V2_") {
            let (scale, depths) = match base {
                b if b.starts_with("small") => (0.75, [2, 2, 4, 2]),
                b if b.starts_with("base") => (1.0, [2, 2, 6, 2]),
                b if b.starts_with("large") => (1.25, [2, 2, 8, 2]),
                other => panic!("{other}"),
            };
            BackboneConfig::PpLcNetV2(PpLcNetV2Config {
                scale,
                depths,
                class_expand: weights.tensors["last_conv.weight"].shape[0],
                shitu: base.contains("ShiTu"),
                dropout: 0.2,
                fused: false,
            })
        } else {
            let digits: Vec<&str> = base.trim_start_matches("_x").split('_').collect();
            let scale = format!("{}.{}", digits[0], digits[1]).parse().expect("a scale");
            BackboneConfig::PpLcNet(PpLcNetConfig {
                scale,
                class_expand: Some(1280),
                dropout: 0.2,
                fused: false,
            })
        };
        let config = ExtractorConfig { backbone, neck: None };
        let extractor = load(&weights.prefixed("backbone"), config.init(&device()));
        let run = |extractor: &models::extractor::Extractor| {
            let features = extractor.forward(input.clone()).raw_embedding;
            values(match &classifier {
                [Some(weight), Some(bias)] => {
                    let named = |n: &models::weights::NamedTensor| {
                        burn::tensor::TensorData::new(n.values.clone(), n.shape.clone())
                    };
                    let weight = Tensor::<2>::from_data(named(weight), &device());
                    let bias = Tensor::<1>::from_data(named(bias), &device());
                    features.matmul(weight) + bias.unsqueeze()
                }
                _ => features,
            })
        };
        assert_close(name, &run(&extractor), &case.output("out").values, NETWORK);
        let fused = run(&extractor.fuse());
        let key = "out_after_re_parameterize";
        let key = if case.value["outputs"][key].is_object() { key } else { "out" };
        assert_close(&format!("{name} fused"), &fused, &case.output(key).values, NETWORK);
    }
}

#[test]
fn full_size_recognition_models_equal_the_reference() {
    for case in cases("architectures_procedural.json", &["RecModel_"]) {
        let (weights, head) = extractor_and_head(&stem_named(procedural_weights(&case)));
        let neck = case.value["tensors"].as_array().expect("tensors").iter().find_map(|entry| {
            (entry[1] == "neck.fc.weight").then(|| entry[2][1].as_u64().expect("a width") as usize)
        });
        let neck = neck.map(|embedding_dim| NeckConfig::Fc { embedding_dim });
        let config = if let Some(config) = resnet_of(&case.name) {
            ExtractorConfig { backbone: BackboneConfig::ResNet(config), neck }
        } else if case.name.contains("MobileNetV1") {
            let config = MobileNetV1Config { scale: 1.0, fused: false };
            ExtractorConfig { backbone: BackboneConfig::MobileNetV1(config), neck }
        } else if case.name.contains("V2_") {
            ExtractorConfig {
                backbone: BackboneConfig::PpLcNetV2(PpLcNetV2Config {
                    scale: 1.0,
                    depths: [2, 2, 6, 2],
                    class_expand: 512,
                    shitu: true,
                    dropout: 0.2,
                    fused: false,
                }),
                neck: Some(NeckConfig::BnNeck),
            }
        } else {
            ExtractorConfig {
                backbone: BackboneConfig::PpLcNet(PpLcNetConfig {
                    scale: 2.5,
                    class_expand: Some(1280),
                    dropout: 0.2,
                    fused: false,
                }),
                neck: Some(NeckConfig::Fc { embedding_dim: 512 }),
            }
        };
        let extractor = load(&weights, config.init(&device()));
        let features = extractor.forward(procedural_input(&case, &device()));
        for (key, tensor) in
            [("backbone", &features.backbone), ("features", &features.raw_embedding)]
        {
            let expected = case.output(key).values;
            let what = format!("{} {key}", case.name);
            assert_close(&what, &values(tensor.clone()), &expected, NETWORK);
        }
        // In evaluation the margin head gives plain cosines and the linear one plain products.
        let Some((name, weight)) = head.tensors.iter().next() else { continue };
        let data = burn::tensor::TensorData::new(weight.values.clone(), weight.shape.clone());
        let weight = Tensor::<2>::from_data(data, &device());
        let logits = if name == "head.fc.weight" {
            features.raw_embedding.matmul(weight)
        } else {
            let columns = l2_normalize(weight.transpose()).transpose();
            l2_normalize(features.raw_embedding).matmul(columns)
        };
        let expected = case.output("logits").values;
        assert_close(&format!("{} logits", case.name), &values(logits), &expected, NETWORK);
    }
}

// ---------------------------------------------------------------- detector

fn small_detector(recorded: &Weights) -> DetectorConfig {
    let neck = recorded.tensors["w.neck.conv_t.convs.0.conv.weight"].shape.clone();
    // The backbone's third feature map has 128 channels at scale 1.
    let scale = neck[1] as f64 / 128.0;
    DetectorConfig {
        variant: DetectorVariant::First,
        backbone: DetectorBackbone::PpLcNet,
        backbone_scale: scale,
        neck_channels: neck[0],
        num_classes: recorded.tensors["w.head.head_cls0.bias"].shape[0] - 32,
        head_blocks: 4,
        fused: false,
    }
}

#[test]
fn the_small_detector_equals_the_reference_stage_by_stage() {
    for (name, recorded) in tensor_files("det_picodet") {
        let input = tensor::<4>(&recorded, "input", &device());
        let [_, _, height, width] = input.dims();
        let detector = load(&recorded.under("w"), small_detector(&recorded).init(&device()));
        let check = |key: String, got: Tensor<4>| {
            let expected = &recorded.tensors[&key].values;
            assert_close(&format!("{name} {key}"), &values(got), expected, NETWORK);
        };
        let pico = detector.pico().expect("a detector of a recipe");
        for (i, map) in pico.backbone_maps(input.clone()).into_iter().enumerate() {
            check(format!("backbone.{i}"), map);
        }
        for (i, map) in pico.neck_maps(input.clone()).into_iter().enumerate() {
            check(format!("neck.{i}"), map);
        }
        for (i, level) in detector.forward(input.clone()).into_iter().enumerate() {
            check(format!("cls_logit.{i}"), level.class_logits);
            check(format!("reg_logit.{i}"), level.box_logits);
        }
        let fused = values(detector.clone().fuse().forward_points(input.clone()));
        let plain = values(detector.forward_points(input));
        assert_close(&format!("{name} fused"), &fused, &plain, NETWORK);

        let preprocess =
            Preprocess { width: width as u32, height: height as u32, ..Preprocess::square(1) };
        let size = (preprocess.width, preprocess.height);
        let decoding = detector.reading();
        let candidates = Candidates::decode(&plain, &decoding, size, 0.0);
        let boxes: Vec<f32> =
            candidates.boxes.iter().flat_map(|b| [b.x1, b.y1, b.x2, b.y2]).collect();
        assert_close(&format!("{name} boxes"), &boxes, &recorded.tensors["boxes"].values, NETWORK);
        let scores = &recorded.tensors["scores"].values;
        assert_close(&format!("{name} scores"), &candidates.scores, scores, NETWORK);

        let thresholds = DetectionThresholds {
            score: 0.025,
            nms_iou: 0.6,
            max_candidates: 1000,
            max_detections: 100,
        };
        let found = candidates.suppress(&thresholds);
        let rows = &recorded.tensors["nms_boxes"].values;
        assert_eq!(found.len() * 6, rows.len());
        for (detection, row) in found.iter().zip(rows.chunks_exact(6)) {
            let expected = BBox::new(row[2], row[3], row[4], row[5]);
            assert!((detection.score - row[1]).abs() < 1e-4, "{detection:?} {row:?}");
            assert!(detection.bbox.iou(&expected) > 0.999, "{detection:?} {row:?}");
        }
        // The recording undoes a resize by (y 0.5, x 0.25); ours also clips to the picture.
        let source = (width as u32 * 4, height as u32 * 2);
        let found = decode(&plain, &decoding, &preprocess, source, &thresholds);
        let rows = &recorded.tensors["post_boxes_scale_y0.5_x0.25"].values;
        for detection in &found {
            let clipped =
                |row: &[f32]| BBox::new(row[2], row[3], row[4], row[5]).clip(source.0, source.1);
            let near = rows.chunks_exact(6).any(|row| {
                (row[1] - detection.score).abs() < 1e-4 && clipped(row).iou(&detection.bbox) > 0.999
            });
            assert!(near, "{detection:?} is not among the recorded");
        }
    }
}

#[test]
fn the_full_detector_equals_the_reference() {
    for case in cases("det_mainbody_procedural.json", &["picodet"]) {
        let config = DetectorConfig {
            variant: DetectorVariant::First,
            backbone: DetectorBackbone::PpLcNet,
            backbone_scale: 2.5,
            neck_channels: 128,
            num_classes: 1,
            head_blocks: 4,
            fused: false,
        };
        let detector = load(&procedural_weights(&case), config.init(&device()));
        let input = procedural_input(&case, &device());
        let check = |key: String, got: Vec<f32>| {
            let expected = &case.value["outputs"][&key];
            let first = tests::Array::new(&expected["first"]).values;
            assert_close(&format!("{} {key}", case.name), &got[..first.len()], &first, NETWORK);
            let mean = got.iter().map(|v| f64::from(v.abs())).sum::<f64>() / got.len() as f64;
            let recorded = expected["abs_mean"].as_f64().expect("a mean");
            assert!((mean / recorded - 1.0).abs() < 1e-4, "{key}: {mean} against {recorded}");
        };
        let pico = detector.pico().expect("a detector of a recipe");
        for (i, map) in pico.neck_maps(input.clone()).into_iter().enumerate() {
            check(format!("neck.{i}"), values(map));
        }
        for (i, level) in detector.forward(input.clone()).into_iter().enumerate() {
            check(format!("cls_logit.{i}"), values(level.class_logits));
            check(format!("reg_logit.{i}"), values(level.box_logits));
        }
        let plain = values(detector.forward_points(input));
        let candidates = Candidates::decode(&plain, &detector.reading(), (640, 640), 0.0);
        check(
            "boxes".to_owned(),
            candidates.boxes.iter().flat_map(|b| [b.x1, b.y1, b.x2, b.y2]).collect(),
        );
        check("scores".to_owned(), candidates.scores);
    }
}

#[test]
fn suppression_equals_the_reference() {
    for case in cases("detection.json", &["MultiClassNMS"]) {
        let boxes: Vec<BBox> = case
            .input("boxes")
            .values
            .chunks_exact(4)
            .map(|b| BBox::new(b[0], b[1], b[2], b[3]))
            .collect();
        let scores = case.input("scores").values;
        let min = case.param("score_threshold").expect("a threshold") as f32;
        let iou = case.param("nms_threshold").expect("a threshold") as f32;
        let kept: Vec<usize> = non_maximum_suppression(&boxes, &scores, iou)
            .into_iter()
            .filter(|&i| scores[i] > min)
            .collect();
        let rows = case.output("boxes").values;
        assert_eq!(kept.len() * 6, rows.len(), "{}", case.name);
        for (&index, row) in kept.iter().zip(rows.chunks_exact(6)) {
            assert!((scores[index] - row[1]).abs() < 1e-6);
            assert!((boxes[index].x1 - row[2]).abs() < 1e-4);
        }
    }
}

// ---------------------------------------------------------------- necks, heads, losses

#[test]
fn necks_equal_the_reference() {
    for case in cases("gears.json", &["FC", "BNNeck"]) {
        let x = case.input("x");
        if case.name == "FC" {
            let mut neck = FcNeck::new(x.shape[1], case.input("bias").shape[0], &device());
            neck.weight = Param::from_tensor(case.input("weight").tensor(&device()));
            neck.bias = Param::from_tensor(case.input("bias").tensor(&device()));
            let y = values(neck.forward(x.tensor(&device())));
            assert_close(&case.name, &y, &case.output("y").values, OPERATOR);
        } else if case.name.starts_with("BNNeck") {
            let mut weights = Weights::default();
            for (ours, theirs) in [
                ("weight", "weight"),
                ("bias", "bias"),
                ("running_mean", "mean"),
                ("running_var", "var"),
            ] {
                let array = case.input(theirs);
                weights.tensors.insert(
                    format!("feat_bn.{ours}"),
                    models::weights::NamedTensor { shape: array.shape, values: array.values },
                );
            }
            let features = x.shape[1];
            let neck = |d: &Device| {
                weights.clone().load_into(BnNeck::new(features, d)).expect("the neck's tensors")
            };
            let eval = values(neck(&device()).forward(x.tensor(&device())));
            assert_close(&case.name, &eval, &case.output("eval").values, OPERATOR);
            let device = device().autodiff();
            let neck = neck(&device);
            let x = x.tensor::<2>(&device).require_grad();
            let y = neck.forward(x.clone());
            let expected = case.output("train").values;
            assert_close("BNNeck training", &values(y.clone()), &expected, OPERATOR);
            let gradients = (y * case.input("upstream").tensor::<2>(&device)).sum().backward();
            let dx = values(x.grad(&gradients).expect("a gradient"));
            assert_close("BNNeck input gradient", &dx, &case.output("grad_x").values, NETWORK);
            let found = gradients_by_name(&neck, &gradients);
            let expected = case.output("grad_weight").values;
            assert_close("BNNeck weight gradient", &found["feat_bn.weight"], &expected, NETWORK);
            assert!(!found.contains_key("feat_bn.bias"), "the shift is frozen");
            let after = Weights::from_module(&neck);
            for (ours, theirs) in [("running_mean", "running_mean"), ("running_var", "running_var")]
            {
                let got = &after.tensors[&format!("feat_bn.{ours}")].values;
                assert_close(theirs, got, &case.output(theirs).values, OPERATOR);
            }
        }
    }
}

#[test]
fn detection_losses_equal_the_reference() {
    for case in cases("detection.json", &["varifocal_sigmoid", "dfl_"]) {
        let device = device().autodiff();
        let average = case.param("avg_factor").expect("a factor");
        if case.name.starts_with("varifocal") {
            let x = case.input("logit").tensor::<2>(&device).require_grad();
            let loss = varifocal(x.clone(), case.input("target").tensor(&device));
            let expected = case.output("elementwise").values;
            assert_close(&case.name, &values(loss.clone()), &expected, OPERATOR);
            let gradients = (loss.sum() / average).backward();
            let got = values(x.grad(&gradients).expect("a gradient"));
            assert_close(&case.name, &got, &case.output("grad_logit").values, NETWORK);
        } else {
            let x = case.input("corner_logits").tensor::<2>(&device).require_grad();
            let loss = distribution_focal(x.clone(), case.input("target").tensor(&device));
            let expected = case.output("elementwise").values;
            assert_close(&case.name, &values(loss.clone()), &expected, OPERATOR);
            let weighted = loss * case.input("weight").tensor::<1>(&device) * 0.25;
            let reduced = weighted.sum() / average;
            let expected = case.output("reduced").values;
            assert_close(&case.name, &values(reduced.clone()), &expected, OPERATOR);
            let gradients = reduced.backward();
            let got = values(x.grad(&gradients).expect("a gradient"));
            assert_close(&case.name, &got, &case.output("grad").values, NETWORK);
        }
    }
}

#[test]
fn the_detectors_training_loss_equals_the_reference() {
    // The recording names the small detector's weights, but its logits do not follow from them and
    // the recorded picture (the running statistics were others), so the test starts at the logits.
    for case in cases("detection.json", &["PicoHead_get_loss_small"]) {
        let device = device().autodiff();
        let boxes: Vec<Vec<BBox>> = ["gt_bbox_0", "gt_bbox_1"]
            .iter()
            .map(|key| {
                let rows = case.input(key).values;
                rows.chunks_exact(4).map(|b| BBox::new(b[0], b[1], b[2], b[3])).collect()
            })
            .collect();
        let levels: Vec<Tensor<4>> = (0..4)
            .map(|i| {
                let [cls, reg] = ["cls", "reg"]
                    .map(|key| case.output(&format!("{key}_logit.{i}")).tensor::<4>(&device));
                Tensor::cat(vec![cls, reg], 1).require_grad()
            })
            .collect();
        let rows: Vec<Tensor<3>> =
            levels.iter().map(|l| l.clone().flatten::<3>(2, 3).swap_dims(1, 2)).collect();
        let image = case.input("image").shape;
        let losses = losses_of_points(
            Tensor::cat(rows, 1),
            &Decoding::pico(1).points(image[3], image[2]),
            &boxes,
            Assignment::SimOta,
        );
        let mut total: Option<Tensor<1>> = None;
        for (name, loss) in losses {
            let expected = case.output(name).values;
            let what = format!("{} {name}", case.name);
            assert_close(&what, &values(loss.clone()), &expected, NETWORK);
            total = Some(match total {
                Some(sum) => sum + loss,
                None => loss,
            });
        }
        let gradients = total.expect("three terms").backward();
        for (i, level) in levels.iter().enumerate() {
            let key = format!("grad.head.head_cls{i}.bias");
            if case.value["outputs"].get(&key).is_some() {
                // The gradient of the prediction's bias is that of the logits, summed.
                let gradient = level.grad(&gradients).expect("a gradient");
                let bias = gradient.sum_dim(0).sum_dim(2).sum_dim(3);
                assert_close(&key, &values(bias), &case.output(&key).values, GRADIENT);
            }
        }
    }
}

#[test]
fn the_assignment_equals_the_reference() {
    for case in cases("detection.json", &["SimOTA"]) {
        let points: Vec<(f32, f32, f32)> = case
            .input("center_stride")
            .values
            .chunks_exact(4)
            .map(|p| (p[0], p[1], p[2]))
            .collect();
        let boxes = |key: &str| -> Vec<BBox> {
            let values = case.input(key).values;
            values.chunks_exact(4).map(|b| BBox::new(b[0], b[1], b[2], b[3])).collect()
        };
        let scores = case.input("prob").values;
        let positives = assign(&points, &scores, &boxes("pred_box"), &boxes("gt"));
        let got: Vec<f32> = positives.iter().map(|p| p.point as f32).collect();
        assert_eq!(got, case.output("positive_index").values, "{}", case.name);
        let objects = boxes("gt");
        let targets: Vec<f32> = positives
            .iter()
            .map(|p| objects[p.object])
            .flat_map(|b| [b.x1, b.y1, b.x2, b.y2])
            .collect();
        assert_close(&case.name, &targets, &case.output("positive_target").values, OPERATOR);
    }
}

fn picture(array: &tests::Array) -> RgbImage {
    let data = array.values.iter().map(|v| *v as u8).collect();
    RgbImage::from_rgb(array.shape[1] as u32, array.shape[0] as u32, data).expect("a picture")
}

#[test]
fn resizing_equals_opencv_and_pillow() {
    let prefixes = [
        "cv2_resize_down_bilinear",
        "cv2_resize",
        "pil_resize_bilinear",
        "det_resize_fxfy_bicubic",
    ];
    for case in cases("preprocess.json", &prefixes) {
        let filter = match (case.name.contains("pil"), case.name.contains("bicubic")) {
            (true, _) => ResizeFilter::Antialiased,
            (false, true) => ResizeFilter::OpencvCubic,
            (false, false) if case.name.contains("bilinear") => ResizeFilter::OpencvLinear,
            _ => {
                println!("{}: a filter that is not here", case.name);
                continue;
            }
        };
        let expected = picture(&case.output("img"));
        let got = resize(&picture(&case.input("img")), expected.width(), expected.height(), filter);
        // The originals use integer weights of 11 or 22 bits: one gray level of difference.
        let worst = got.data().iter().zip(expected.data()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(1), "{}: {worst:?} gray levels", case.name);
    }
}

#[test]
fn normalization_equals_the_reference() {
    for case in cases("preprocess.json", &["NormalizeImage_1/255"]) {
        let image = picture(&case.input("img"));
        let preprocess =
            Preprocess { width: image.width(), height: image.height(), ..Preprocess::square(1) };
        let got = values(preprocess.apply(&[image], &device()));
        assert_close(&case.name, &got, &case.output("chw").values, 1e-6);
    }
}

#[test]
fn search_equals_the_reference() {
    for (name, metric, config) in [
        ("faiss_Flat_IP", Metric::InnerProduct, IndexConfig::Flat),
        ("faiss_Flat_L2", Metric::L2, IndexConfig::Flat),
        ("faiss_HNSW32_IP", Metric::InnerProduct, IndexConfig::hnsw()),
    ] {
        for case in cases("pipeline.json", &[name]) {
            let (gallery, query) = (case.input("gallery"), case.input("query"));
            let dim = gallery.shape[1];
            let index =
                VectorIndex::from_rows(dim, metric, VectorType::F32, &gallery.values, config)
                    .expect("recorded vectors");
            let (ids, scores) = (case.output("ids"), case.output("scores"));
            let k = ids.shape[1];
            for (q, query) in query.values.chunks_exact(dim).enumerate() {
                let hits = index.search(query, &Search::best(k)).expect("a recorded query");
                let got: Vec<f32> = hits.iter().map(|hit| hit.entry as f32).collect();
                assert_eq!(got, ids.values[q * k..(q + 1) * k], "{name}");
                // Recorded are squared distances, here greater is nearer.
                let sign = if metric == Metric::L2 { -1.0 } else { 1.0 };
                let got: Vec<f32> = hits.iter().map(|hit| sign * hit.similarity).collect();
                assert_close(&case.name, &got, &scores.values[q * k..(q + 1) * k], 2e-6);
            }
        }
    }
}

/// Bits of packed bytes, the first in the highest, as −1 and 1.
fn signs(packed: &[f32]) -> Vec<f32> {
    let bit = |byte: u8, place: u8| f32::from(byte >> (7 - place) & 1) * 2.0 - 1.0;
    packed.iter().flat_map(|byte| (0..8).map(move |place| bit(*byte as u8, place))).collect()
}

#[test]
fn binary_search_equals_the_reference() {
    for case in cases("pipeline.json", &["faiss_BFlat_hamming"]) {
        let (gallery, query) = (case.input("gallery"), case.input("query"));
        let bytes = gallery.shape[1];
        let rows = signs(&gallery.values);
        let index = VectorIndex::from_rows(
            8 * bytes,
            Metric::InnerProduct,
            VectorType::I8,
            &rows,
            IndexConfig::Binary,
        )
        .expect("recorded codes");
        let scores = case.output("distance");
        let k = scores.shape[1];
        for (q, query) in query.values.chunks_exact(bytes).enumerate() {
            let search = Search::best(k).with_ef_search(gallery.shape[0]);
            let hits = index.search(&signs(query), &search).expect("a recorded query");
            // Of two codes that differ in d bits the signs have the product bits − 2 d. Entries of
            // one distance stand in any order.
            let distances: Vec<f32> =
                hits.iter().map(|hit| (8.0 * bytes as f32 - hit.similarity) / 2.0).collect();
            assert_close(&case.name, &distances, &scores.values[q * k..(q + 1) * k], 1e-3);
        }
    }
}

#[test]
fn unit_length_equals_the_reference() {
    for case in cases("pipeline.json", &["feature_l2_norm"]) {
        let got = values(l2_normalize(case.input("x").tensor(&device())));
        assert_close(&case.name, &got, &case.output("y").values, 1e-6);
    }
}
