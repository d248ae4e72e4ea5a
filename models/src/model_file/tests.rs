//! Descriptions of networks: what is read, what is refused, and by which format.

use super::*;
use crate::backbone::BackboneConfig;
use crate::backbone::{
    EfficientNetLiteConfig, MobileNetV1Config, PpLcNetConfig, PpLcNetV2Config, ResNetConfig,
};
use crate::detector::DetectorConfig;
use crate::detector::{DetectorBackbone, DetectorVariant};
use crate::extractor::ExtractorConfig;
use crate::image::RgbImage;
use crate::neck::NeckConfig;
use crate::preprocess::{ChannelOrder, Fit, Letterbox};

fn extractor(backbone: BackboneConfig) -> Architecture {
    Architecture::Extractor(ExtractorConfig { backbone, neck: None })
}

fn smallest() -> Vec<Architecture> {
    let scale = *crate::limits::SCALES.start();
    let mut resnet = ResNetConfig { depths: [1; 4], width: 2, ..ResNetConfig::resnet50_vd() };
    resnet.first_stage_stride = 2;
    let detector = |variant, neck_channels| {
        Architecture::Detector(DetectorConfig {
            variant,
            backbone: DetectorBackbone::PpLcNet,
            backbone_scale: scale,
            neck_channels,
            num_classes: 1,
            head_blocks: 0,
            fused: false,
        })
    };
    vec![
        extractor(BackboneConfig::PpLcNet(PpLcNetConfig {
            scale,
            class_expand: None,
            dropout: 0.0,
            fused: false,
        })),
        extractor(BackboneConfig::PpLcNetV2(PpLcNetV2Config {
            scale,
            depths: [1; 4],
            class_expand: 1,
            shitu: false,
            dropout: 0.99,
            fused: false,
        })),
        extractor(BackboneConfig::MobileNetV1(MobileNetV1Config { scale, fused: false })),
        extractor(BackboneConfig::ResNet(resnet)),
        extractor(BackboneConfig::EfficientNetLite(EfficientNetLiteConfig::default())),
        detector(DetectorVariant::First, 2),
        detector(DetectorVariant::Second, 2),
        graph_detector(),
    ]
}

/// One point a pixel of a map, of the pixels' means.
fn graph_detector() -> Architecture {
    let text = concat!(
        r#"{"graph_detector":{"graph":{"nodes":[{"step":{"pool":{"pool":"average","kernel":[8,8],"stride":[8,8],"#,
        r#""padding":[0,0,0,0],"ceil":false,"count_padding":false}},"inputs":[0]},{"step":"concatenate","inputs":[1,1]}],"fused":true},"outputs":[2],"decoding":{"strides":[8],"#,
        r#""classes":2,"values":["scores","box"],"boxes":"distances","scores":"probabilities","offset":0.5}}}"#
    );
    let architecture: Architecture = serde_json::from_str(text).expect("an architecture");
    assert_eq!(serde_json::to_string(&architecture).expect("JSON"), text);
    architecture
}

#[test]
fn what_older_programs_cannot_read_has_a_number() {
    let mut letterbox = described(smallest().remove(2), 32);
    let plain = serde_json::to_string(&letterbox).unwrap();
    assert!(plain.starts_with(r#"{"architecture":"#), "{plain}");
    letterbox.preprocess.fit = Fit::Letterbox(Letterbox { padding: 114, centered: false });
    let mut turned = described(smallest().remove(2), 32);
    turned.preprocess.channels = ChannelOrder::Bgr;
    for description in [letterbox, turned, described(graph_detector(), 32)] {
        let text = serde_json::to_string(&description).unwrap();
        assert!(text.starts_with(r#"{"format":2,"architecture":"#), "{text}");
        assert_eq!(ModelDescription::from_json(&text).unwrap(), description);
        let file = ModelFile { description, weights: Weights::default() };
        let read = ModelFile::from_bytes(&file.to_bytes(Precision::F32).unwrap()).unwrap();
        assert_eq!(read.description, file.description);
    }
}

#[test]
fn a_graph_that_makes_other_points_than_its_description_says_is_refused() {
    let good = described(graph_detector(), 32);
    let inside = "/architecture/graph_detector";
    for (path, value, told) in [
        ("/outputs/0", 0.into(), "outputs is 0; it may be from 1 to 2"),
        ("/outputs/0", 3.into(), "outputs is 3"),
        ("/outputs", serde_json::json!([2, 2]), "outputs is 2; it may be from 1 to 1"),
        ("/outputs/0", 1.into(), "outputs is 4 × 4 points of 3 values; strides, classes and boxes"),
        ("/decoding/classes", 3.into(), "make 4 × 4 points of 7 values of an input of 32 × 32"),
        ("/decoding/classes", 0.into(), "architecture.decoding.classes is 0"),
        ("/decoding/strides/0", 16.into(), "make 2 × 2 points of 6 values"),
        (
            "/decoding/boxes",
            serde_json::json!({"distribution": 8}),
            "make 4 × 4 points of 34 values",
        ),
        ("/graph/nodes/1/inputs/1", 2.into(), "graph.nodes.1.inputs is 2"),
    ] {
        let error = changed(&good, &format!("{inside}{path}"), value);
        assert!(error.contains(told), "{path}: {error}");
    }
}

fn described(architecture: Architecture, side: u32) -> ModelDescription {
    ModelDescription {
        architecture,
        preprocess: Preprocess::square(side),
        arithmetic: Arithmetic::F32,
        notes: String::new(),
    }
}

#[test]
fn the_least_that_a_description_may_ask_for_runs() {
    let device = Device::flex();
    let picture = RgbImage::from_rgb(3, 2, vec![90; 18]).unwrap();
    for architecture in smallest() {
        let side = if architecture.kind() == "a detector" { 32 } else { 1 };
        let description = described(architecture, side);
        description.check().unwrap();
        let preprocess = &description.preprocess;
        let values = match &description.architecture {
            Architecture::Extractor(config) => {
                let network = config.init(&device).fuse();
                let network = Prepared::new(&network, preprocess, &device);
                pollster::block_on(network.run(std::slice::from_ref(&picture))).unwrap()
            }
            detector => {
                let network = detector.detector(&device).unwrap().fuse();
                let network = Prepared::new(&network, preprocess, &device);
                pollster::block_on(network.run(std::slice::from_ref(&picture))).unwrap()
            }
        };
        assert!(!values.is_empty() && values.iter().all(|v| v.is_finite()), "{description:?}");
    }
}

/// The description's JSON with the value at a path changed; the error that it gives.
fn changed(description: &ModelDescription, path: &str, value: serde_json::Value) -> String {
    let mut json = serde_json::to_value(description).expect("JSON");
    let place = json.pointer_mut(path).unwrap_or_else(|| panic!("{path}"));
    *place = value;
    let weights = Weights::default();
    let bytes = weights
        .to_bytes(
            Precision::F32,
            Some(HashMap::from([(METADATA_KEY.to_owned(), json.to_string())])),
        )
        .expect("bytes");
    let error = ModelFile::from_bytes(&bytes).expect_err(path);
    assert!(matches!(error, ModelFileError::Limits(_)), "{path}: {error}");
    error.to_string()
}

#[test]
fn a_description_of_a_newer_program_is_named_as_such() {
    let description = described(smallest().remove(0), 32);
    let with = |format: Option<u32>, more: bool| {
        let mut json = serde_json::to_value(&description).expect("JSON");
        let fields = json.as_object_mut().expect("an object");
        fields.extend(format.map(|format| ("format".to_owned(), format.into())));
        if more {
            fields.insert("heads".to_owned(), 2.into());
        }
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), json.to_string())]);
        let bytes = Weights::default().to_bytes(Precision::F32, Some(metadata)).expect("bytes");
        ModelFile::from_bytes(&bytes).map(|file| file.description)
    };
    assert_eq!(with(None, false).expect("the first format"), description);
    assert_eq!(with(Some(2), false).expect("the second format"), description);
    let newer = with(Some(3), true).expect_err("a newer format");
    assert!(matches!(newer, ModelFileError::Format { got: 3, known: 2 }), "{newer}");
    assert!(newer.to_string().contains("use a newer one"), "{newer}");
    let unknown = with(None, true).expect_err("a field that nobody knows");
    assert!(matches!(unknown, ModelFileError::Description { .. }), "{unknown}");
}

#[test]
fn a_description_beyond_the_limits_is_refused_by_its_key() {
    let mut all = smallest();
    let second = all.remove(1);
    let Architecture::Extractor(mut config) = second else { panic!("an extractor") };
    config.neck = Some(NeckConfig::Fc { embedding_dim: 4 });
    let v2 = described(Architecture::Extractor(config), 32);
    let resnet = described(all.remove(2), 32);
    let detector = described(all.remove(all.len() - 2), 64);
    let extractor = "/architecture/extractor";
    for (description, path, value, told) in [
        (&v2, "/preprocess/width", 0.into(), "preprocess.width is 0; it may be from 1 to 2048"),
        (&v2, "/preprocess/height", 65_536.into(), "preprocess.height is 65536"),
        (&v2, "/preprocess/std/1", 0.into(), "preprocess.std is 0"),
        (&v2, "/preprocess/std/0", (-0.5).into(), "preprocess.std is -0.5"),
        (&v2, "/preprocess/mean/2", 1e30.into(), "preprocess.mean is 1"),
        (&v2, &format!("{extractor}/backbone/scale"), 1e9.into(), "backbone.scale is 1000000000"),
        (&v2, &format!("{extractor}/backbone/scale"), 0.into(), "backbone.scale is 0"),
        (&v2, &format!("{extractor}/backbone/depths/3"), 0.into(), "backbone.depths is 0"),
        (&v2, &format!("{extractor}/backbone/depths/0"), 1_000_000.into(), "depths is 1000000"),
        (&v2, &format!("{extractor}/backbone/class_expand"), 0.into(), "class_expand is 0"),
        (&v2, &format!("{extractor}/backbone/dropout"), 1.into(), "dropout is 1"),
        (&v2, &format!("{extractor}/neck/embedding_dim"), 0.into(), "neck.embedding_dim is 0"),
        (
            &v2,
            &format!("{extractor}/neck/embedding_dim"),
            9_007_199_254_740_992_u64.into(),
            "neck.embedding_dim is 9007199254740992; it may be from 1 to 16384",
        ),
        (&resnet, &format!("{extractor}/backbone/width"), 1.into(), "backbone.width is 1"),
        (
            &resnet,
            &format!("{extractor}/backbone/last_stage_stride"),
            0.into(),
            "last_stage_stride is 0; it may be from 1 to 2",
        ),
        (&detector, "/preprocess/width", 100.into(), "are multiples of 32"),
        (&detector, "/architecture/detector/neck_channels", 1.into(), "neck_channels is 1"),
        (&detector, "/architecture/detector/num_classes", 0.into(), "num_classes is 0"),
        (&detector, "/architecture/detector/head_blocks", 9999.into(), "head_blocks is 9999"),
        (&detector, "/architecture/detector/backbone_scale", 99.into(), "backbone_scale is 99"),
    ] {
        let error = changed(description, path, value);
        assert!(error.contains(told), "{path}: {error}");
    }
}

#[test]
fn what_nobody_could_read_is_not_written() {
    let description = described(smallest().remove(2), 32);
    let tensor = crate::weights::NamedTensor { shape: vec![1], values: vec![f32::NAN] };
    let weights = Weights { tensors: [("w".to_owned(), tensor)].into() };
    let file = ModelFile { description, weights };
    let error = file.to_bytes(Precision::F32).unwrap_err();
    let is_named = matches!(
        &error,
        ModelFileError::Weights(WeightsError::NotFinite { name, .. }) if name == "w"
    );
    assert!(is_named, "{error}");
    let mut file = ModelFile { weights: Weights::default(), ..file };
    file.description.preprocess.std = [0.0; 3];
    let error = file.to_bytes(Precision::F32).unwrap_err();
    assert!(matches!(error, ModelFileError::Limits(_)), "{error}");
}
