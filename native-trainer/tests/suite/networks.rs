//! Networks of timm and torchvision, imported: they compute what the originals do. `tests/networks/record.py` has
//! recorded that.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use models::backbone::BackboneConfig;
use models::extractor::{Extractor, ExtractorConfig};
use models::inference::Prepared;
use models::model_file::ModelFile;
use models::weights::{NamedTensor, ParameterPath, Precision, Weights};
use native_trainer::exchange::import::{ImportError, Imported, Named, read_network};
use serde_json::{Value, json};

use crate::world::{World, shape};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/networks")
}

pub(crate) fn recorded(name: &str) -> Value {
    let text = std::fs::read(folder().join(format!("{name}.json"))).expect("a recording");
    serde_json::from_slice(&text).expect("JSON")
}

/// `u(t, i)` of tensor t, as the recording's script draws it.
fn uniform(tensor: u64, index: usize) -> f32 {
    let mut z = (tensor << 32).wrapping_add(index as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / 16_777_216.0
}

fn draw(number: u64, name: &str, shape: &[usize]) -> Vec<f32> {
    let count = shape.iter().product::<usize>();
    let fan = (6.0 / shape.iter().skip(1).product::<usize>() as f64).sqrt() as f32;
    // A value is `slope * u + least`.
    let (slope, least) = match name {
        _ if name.ends_with("running_var") => (1.0, 0.5),
        _ if name.ends_with("running_mean") => (0.2, -0.1),
        _ if name.contains("scale") || name.ends_with("gamma") => (0.5, 0.0),
        _ if shape.len() >= 2 => (2.0 * fan, -fan),
        _ if name.ends_with("weight") => (1.0, 0.5),
        _ => (0.2, -0.1),
    };
    (0..count).map(|index| slope * uniform(number, index) + least).collect()
}

pub(crate) fn floats(value: &Value) -> Vec<f32> {
    let values = value.as_array().expect("a list").iter();
    values.map(|value| value.as_f64().expect("a number") as f32).collect()
}

/// The state dict of a recording, as a safetensors file.
pub(crate) fn checkpoint(world: &World, recorded: &Value) -> PathBuf {
    let listed = recorded["tensors"].as_array().expect("tensors").iter().zip(0..);
    let tensors = listed.map(|(entry, number)| {
        let name = entry[0].as_str().expect("a name").to_owned();
        let shape: Vec<usize> = floats(&entry[1]).iter().map(|side| *side as usize).collect();
        let values = draw(number, &name, &shape);
        (name, NamedTensor { shape, values })
    });
    let weights = Weights { tensors: tensors.collect() };
    world.write("model.safetensors", weights.to_bytes(Precision::F32, None).expect("a file"))
}

pub(crate) fn images(side: usize, batch: usize, device: &Device) -> Tensor<4> {
    let count = batch * 3 * side * side;
    let values: Vec<f32> = (0..count).map(|i| uniform(1_000_000, i) * 4.0 - 2.0).collect();
    Tensor::from_data(TensorData::new(values, [batch, 3, side, side]), device)
}

pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("floats")
}

pub(crate) fn assert_near(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-6_f32, |most, value| most.max(value.abs()));
    let worst = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance * scale, "{what}: off by {worst} at scale {scale}");
}

pub(crate) fn loaded(imported: &Imported, device: &Device) -> Extractor {
    imported.weights.clone().load_into(imported.config.init(device)).expect("its weights")
}

/// Gradients of a module's parameters by their names.
struct Collected<'a> {
    path: ParameterPath,
    gradients: &'a Gradients,
    found: BTreeMap<String, Vec<f32>>,
}

impl ModuleVisitor for Collected<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            self.found.insert(self.path.name(), values(gradient));
        }
    }
}

/// Imports a recorded network and computes what the original computed; `gradients` are names here of those recorded.
fn computes_as_recorded(name: &str, named: Option<&str>, expected: &str, gradients: &[&str]) {
    let (world, recorded) = (World::new(), recorded(name));
    let path = checkpoint(&world, &recorded);
    if recorded["config"].is_object() {
        world.write("config.json", recorded["config"].to_string());
    }
    let named = named.map(|name| Named::find(name).expect("a known name"));
    let imported = read_network(&path, named).expect("a network");
    assert!(imported.name.contains(expected), "{name} is taken for {}", imported.name);
    // A classifier is not used, a projection is.
    let is_tower = ["fastvit_tower", "fastvit_large"].contains(&name);
    assert_eq!(imported.unused.is_empty(), is_tower, "{name}");
    let side = recorded["side"].as_u64().expect("a side") as usize;
    let (device, features) = (Device::flex(), floats(&recorded["features"]));
    let extractor = loaded(&imported, &device);
    for (form, extractor) in [("trained", extractor.clone()), ("deployed", extractor.fuse())] {
        let got = values(extractor.forward(images(side, 1, &device)).raw_embedding);
        assert_near(&format!("{name}, {form}"), &got, &features, 1e-4);
    }
    if gradients.is_empty() {
        return;
    }
    let device = device.autodiff();
    let extractor = loaded(&imported, &device);
    let output = extractor.forward(images(side, 2, &device)).raw_embedding;
    let direction: Vec<f32> =
        (0..2 * features.len()).map(|index| uniform(2_000_000, index) - 0.5).collect();
    let direction = Tensor::from_data(TensorData::new(direction, output.dims()), &device);
    let all = (output * direction).sum().backward();
    let path = ParameterPath::default();
    let mut collected = Collected { path, gradients: &all, found: BTreeMap::new() };
    extractor.visit(&mut collected);
    let recorded = recorded["gradients"].as_array().expect("gradients");
    assert_eq!(recorded.len(), gradients.len());
    for (ours, recorded) in gradients.iter().zip(recorded) {
        let got = &collected.found[&format!("backbone.{ours}")];
        assert_near(&format!("{name}: {ours}"), got, &floats(&recorded[1]), 1e-3);
    }
}

#[test]
fn resnets() {
    computes_as_recorded("resnet_basic", None, "[1, 1, 1, 1] blocks, width 64", &[]);
    computes_as_recorded("resnet_bottleneck", None, "[1, 1, 1, 1] blocks, width 64", &[]);
    computes_as_recorded("resnet_deep_stem", None, "[1, 2, 1, 1] blocks, width 4", &[]);
}

/// Of a stem's convolution, of a normalization within and of a squeeze-excite.
const WITHIN: [&str; 3] =
    ["stem.conv.weight", "blocks.6.depthwise.bn.weight", "blocks.6.squeeze.conv1.bias"];

#[test]
fn mobilenet_v3() {
    computes_as_recorded("mobilenetv3_small_100", None, "mobilenetv3_small", &WITHIN);
    computes_as_recorded("mobilenetv3_large_100", None, "mobilenetv3_large", &[]);
    computes_as_recorded("torchvision_mobilenet_v3_small", None, "mobilenetv3_small", &[]);
    let tf = "tf_mobilenetv3_small";
    computes_as_recorded("tf_mobilenetv3_small_100", Some(tf), tf, &[]);
}

#[test]
fn mobilenet_v4() {
    computes_as_recorded("mobilenetv4_conv_small", None, "mobilenetv4_conv_small", &[]);
    computes_as_recorded("mobilenetv4_conv_medium", None, "mobilenetv4_conv_medium", &[]);
}

#[test]
fn efficientnet_b0() {
    let within =
        ["stem.conv.weight", "blocks.5.depthwise.bn.weight", "blocks.5.squeeze.conv1.bias"];
    computes_as_recorded("efficientnet_b0", None, "efficientnet_b0", &within);
    computes_as_recorded("torchvision_efficientnet_b0", None, "efficientnet_b0", &[]);
}

#[test]
fn repvit() {
    computes_as_recorded("repvit", None, "[1, 2, 2, 1] blocks, widths [8, 16, 24, 32]", &[]);
    computes_as_recorded("repvit_legacy", None, "[1, 1, 1, 1] blocks", &[]);
}

#[test]
fn convnext() {
    let within = [
        "stages.0.patches.conv.weight",
        "stages.1.blocks.0.depthwise.conv.weight",
        "stages.2.blocks.1.norm.weight",
        "stages.0.blocks.0.widen.bias",
    ];
    computes_as_recorded("convnext", None, "[1, 1, 2, 1] blocks, widths [8, 16, 24, 32]", &within);
    computes_as_recorded("torchvision_convnext", None, "[1, 1, 1, 1] blocks", &[]);
}

/// Of the first layer of a block's second half: further ones have normalization folded into them.
#[test]
fn fastvit_and_mobileclip() {
    let small = "a FastViT of [1, 1, 2, 1] blocks, widths [8, 16, 32, 64]";
    computes_as_recorded("fastvit", None, small, &["convs.19.conv.bias"]);
    computes_as_recorded("fastvit_tower", None, small, &["convs.21.conv.bias"]);
    let large = "a FastViT of [1, 1, 1, 1, 1] blocks";
    computes_as_recorded("fastvit_large", None, large, &["convs.19.conv.bias"]);
}

#[test]
fn a_tower_of_mobileclip_goes_to_other_runtimes_and_comes_back() {
    let (world, recorded) = (World::new(), recorded("fastvit_tower"));
    checkpoint(&world, &recorded);
    world.write(
        "config.json",
        r#"{"architecture": "fastvit_mci0", "pretrained_cfg": {"input_size": [3, 64, 64]}}"#,
    );
    let said = world.succeed("import model.safetensors --out tower.safetensors");
    assert!(said.contains("images of 64 × 64 pixels, mean [0.0, 0.0, 0.0]"), "{said}");
    for name in ["tower.tflite", "tower.json", "tower.onnx"] {
        world.succeed(&format!("export tower.safetensors --out {name}"));
        assert!(world.path(name).exists(), "{name}");
    }
    world.succeed("import tower.onnx --out back.safetensors");
    let device = Device::flex();
    // Pages and commands run a plan of it.
    let model = std::fs::read(world.path("tower.safetensors")).expect("a model");
    let model = ModelFile::from_bytes(&model).expect("a model");
    let preprocess = model.description.preprocess.clone();
    let extractor = model.into_extractor(&device).expect("an extractor");
    let pictures = [shape(0, 1, 40), shape(1, 2, 64)];
    let expected = values(extractor.embed(preprocess.apply(&pictures, &device)));
    let plan = Prepared::new(&extractor, &preprocess, &device);
    let got = pollster::block_on(plan.run(&pictures)).expect("embeddings");
    assert_near("its plan", &got, &expected, 1e-4);
    let [there, back] = ["tower.safetensors", "back.safetensors"].map(|name| {
        let model = std::fs::read(world.path(name)).expect("a model");
        let model = ModelFile::from_bytes(&model).expect("a model");
        let extractor = model.into_extractor(&device).expect("an extractor");
        values(extractor.forward(images(64, 1, &device)).raw_embedding)
    });
    // Weights are stored in 16 bits, whose errors add up over forty layers.
    assert_near("as recorded", &there, &floats(&recorded["features"]), 1e-2);
    // What is exported has length one.
    let length = there.iter().map(|value| value * value).sum::<f32>().sqrt();
    let there: Vec<f32> = there.iter().map(|value| value / length).collect();
    assert_near("back from ONNX", &back, &there, 1e-2);
}

#[test]
fn a_tensor_of_fastvit_that_does_not_fit_is_named_with_its_shape() {
    let world = World::new();
    let path = checkpoint(&world, &recorded("fastvit_tower"));
    let mut weights = Weights::from_bytes(&std::fs::read(&path).expect("a file")).expect("weights");
    weights.tensors.remove("stem.0.conv_kxk.0.bn.bias");
    weights.tensors.remove("stages.3.blocks.0.token_mixer.proj.bias");
    let wrong = NamedTensor { shape: vec![7], values: vec![0.0; 7] };
    weights.tensors.insert("stages.2.downsample.proj.0.se.fc2.bias".to_owned(), wrong.clone());
    weights.tensors.insert("stages.1.blocks.0.extra".to_owned(), wrong);
    world.write("model.safetensors", weights.to_bytes(Precision::F32, None).expect("a file"));
    let error = world.fail("import model.safetensors --out out.safetensors");
    for told in [
        "not the weights of a FastViT of [1, 1, 2, 1] blocks",
        "stem.0.conv_kxk.0.bn.bias is missing; its shape is [8]",
        "stages.3.blocks.0.token_mixer.proj.bias is missing; its shape is [64]",
        "stages.2.downsample.proj.0.se.fc2.bias has the shape [7], not [32]",
        "stages.1.blocks.0.extra [7] is no part of it",
    ] {
        assert!(error.contains(told), "{told}: {error}");
    }
}

/// Of the first tokens, of positions, of a normalization and of layers.
#[test]
fn vision_transformers_of_timm() {
    let small = "2 blocks, width 128, 2 heads, patches of 8";
    let within = [
        "tokens.class",
        "tokens.positions",
        "blocks.0.norm.weight",
        "blocks.1.mlp.widen.bias",
        "blocks.1.attention.output.bias",
    ];
    computes_as_recorded("vit", None, small, &within);
    computes_as_recorded("vit_mean", None, small, &["tokens.positions", "norm.weight"]);
    let within = ["tokens.positions", "tokens.registers"];
    computes_as_recorded("vit_registers", None, "patches of 14", &within);
    let within = ["probe.probe", "probe.mlp.widen.bias", "tokens.positions"];
    computes_as_recorded("vit_probe", None, small, &within);
    computes_as_recorded("vit_clip", None, small, &["first_norm.weight"]);
    computes_as_recorded("vit_rotary", None, small, &[]);
}

#[test]
fn vision_transformers_of_transformers() {
    let small = "2 blocks, width 48, 4 heads, patches of 8";
    let within = ["blocks.0.attention.query.weight", "blocks.0.mlp.widen.bias", "tokens.positions"];
    computes_as_recorded("clip", None, small, &within);
    let within = ["blocks.0.attention.key.weight", "blocks.0.mlp.widen.bias", "probe.probe"];
    computes_as_recorded("siglip", None, small, &within);
    computes_as_recorded("dinov2", None, small, &[]);
    computes_as_recorded("dinov2_gated", None, small, &[]);
    computes_as_recorded("dinov2_registers", None, small, &[]);
    computes_as_recorded("dinov3", None, "2 blocks, width 64, 4 heads, patches of 8", &[]);
}

#[test]
fn a_transformers_tensor_that_does_not_fit_is_named_as_the_file_has_it() {
    let world = World::new();
    let path = checkpoint(&world, &recorded("vit"));
    let mut weights = Weights::from_bytes(&std::fs::read(&path).expect("a file")).expect("weights");
    weights.tensors.remove("blocks.0.attn.qkv.bias");
    let wrong = NamedTensor { shape: vec![7, 128], values: vec![0.0; 7 * 128] };
    weights.tensors.insert("blocks.1.attn.qkv.weight".to_owned(), wrong);
    world.write("model.safetensors", weights.to_bytes(Precision::F32, None).expect("a file"));
    let error = world.fail("import model.safetensors --out out.safetensors");
    for told in [
        "not the weights of a vision transformer of 2 blocks, width 128, 2 heads, patches of 8",
        "blocks.0.attn.qkv.bias is missing; its shape is [384]",
        "blocks.1.attn.qkv.weight has the shape [7, 128], not [384, 128]",
    ] {
        assert!(error.contains(told), "{told}: {error}");
    }
    assert_eq!(error.matches("qkv").count(), 2, "{error}");
}

#[test]
fn whole_networks_are_recognized_by_names_and_shapes() {
    let world = World::new();
    for (name, listed) in recorded("names").as_object().expect("networks") {
        let tensors = listed.as_array().expect("tensors").iter().map(|entry| {
            let mut words = entry.as_str().expect("a line").split(' ');
            let name = words.next().expect("a name").to_owned();
            let shape: Vec<usize> = words.map(|side| side.parse().expect("a side")).collect();
            let values = vec![0.0; shape.iter().product()];
            (name, NamedTensor { shape, values })
        });
        let weights = Weights { tensors: tensors.collect() };
        let bytes = weights.to_bytes(Precision::F16, None).expect("a file");
        let imported = read_network(&world.write("all.safetensors", bytes), None).expect(name);
        let plain = name.replace("torchvision ", "").replace("_100", "").replace("_v3", "v3");
        let plain = plain.replace("_224", "");
        assert_eq!(imported.name, plain);
        let ours = Weights::shapes_of(&imported.config.init(&Device::flex()));
        assert_eq!(ours.len(), imported.weights.tensors.len(), "{name}");
        assert!(
            imported.unused.iter().all(|(name, _)| name.contains("fc")
                || name.contains("head")
                || name.contains("classifier")),
            "{name}: {:?}",
            imported.unused
        );
    }
}

#[test]
fn a_checkpoint_of_training_becomes_a_model_and_says_what_it_did_not_use() {
    let world = World::new();
    std::fs::copy(folder().join("tiny.pth"), world.path("tiny.pth")).expect("a copy");
    let said = world.succeed("import tiny.pth --out model.safetensors --trainable on.safetensors");
    for told in [
        "tiny.pth: a ResNet of [1, 1, 1, 1] blocks, width 4, ",
        "images of 224 × 224 pixels",
        "no config.json lies beside the file",
        "tiny.pth: not used: fc.bias [3], fc.weight [3, 32]",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    let model = std::fs::read(world.path("model.safetensors")).expect("a model");
    let model = ModelFile::from_bytes(&model).expect("a model");
    let (device, recorded) = (Device::flex(), recorded("tiny"));
    let side = recorded["side"].as_u64().expect("a side") as usize;
    let extractor = model.into_extractor(&device).expect("an extractor");
    let got = values(extractor.forward(images(side, 1, &device)).raw_embedding);
    // Folded weights are stored in 16 bits.
    assert_near("tiny", &got, &floats(&recorded["features"]), 5e-3);

    let config = r#"{"architecture": "resnet18d", "pretrained_cfg": {"input_size": [3, 96, 96],
        "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "crop_pct": 0.9}}"#;
    world.write("config.json", config);
    let said = world.succeed("import tiny.pth --out model.safetensors");
    assert!(said.contains("images of 96 × 96 pixels"), "{said}");
    assert!(said.contains("crop_pct 0.9 is not followed"), "{said}");
}

#[test]
fn every_tensor_that_does_not_fit_is_named_with_the_shape_that_it_should_have() {
    let world = World::new();
    let recorded = recorded("convnext");
    let path = checkpoint(&world, &recorded);
    let mut weights = Weights::from_bytes(&std::fs::read(&path).expect("a file")).expect("weights");
    weights.tensors.remove("stem.0.bias");
    weights.tensors.remove("head.norm.weight");
    let wrong = weights.tensors.get_mut("stages.1.downsample.1.bias").expect("a tensor");
    *wrong = NamedTensor { shape: vec![2], values: vec![0.0; 2] };
    let extra = NamedTensor { shape: vec![4], values: vec![0.0; 4] };
    weights.tensors.insert("stages.0.blocks.0.mlp.grn.weight".to_owned(), extra);
    world.write("model.safetensors", weights.to_bytes(Precision::F32, None).expect("a file"));
    let error = world.fail("import model.safetensors --out out.safetensors");
    for told in [
        "model.safetensors: not the weights of a ConvNeXt of [1, 1, 2, 1] blocks",
        "stem.0.bias is missing; its shape is [8]",
        "head.norm.weight is missing; its shape is [32]",
        "stages.1.downsample.1.bias has the shape [2], not [16]",
        "stages.0.blocks.0.mlp.grn.weight [4] is no part of it",
    ] {
        assert!(error.contains(told), "{told}: {error}");
    }
    assert!(!world.path("out.safetensors").exists());
    // Another network than the one asked for.
    let named = Named::find("mobilenetv3_large_100");
    let error = read_network(&path, named).expect_err("another network");
    assert!(matches!(error, ImportError::Misfit { misfit, .. } if misfit.missing.len() > 100));
    let other = Weights {
        tensors: [("x".to_owned(), NamedTensor { shape: vec![1], values: vec![0.0] })].into(),
    };
    world.write("x.safetensors", other.to_bytes(Precision::F32, None).expect("a file"));
    let error = world.fail("import x.safetensors --out out.safetensors");
    assert!(error.contains("no network that is known here has such tensors (x)"), "{error}");
}

#[test]
fn a_recipe_may_name_each_of_the_backbones() {
    for (kind, rest) in [
        ("inverted_residuals", r#""network":"mobilenet_v4_small""#),
        ("repvit", r#""widths":[48,96,192,384],"depths":[2,2,14,2]"#),
        ("convnext", r#""widths":[96,192,384,768],"depths":[3,3,9,3]"#),
        (
            "vit",
            r#""patch":16,"width":384,"depth":12,"heads":6,"hidden":1536,"has_class":true,"epsilon":1e-6,
            "positions":{"kind":"learned","rows":14,"columns":14,"has_class":true}"#,
        ),
    ] {
        let text = format!(r#"{{"kind":"{kind}",{rest}}}"#);
        let backbone: BackboneConfig = serde_json::from_str(&text).expect("a backbone");
        let config = ExtractorConfig { backbone, neck: None };
        config.check().expect("a network");
        assert!(config.features() >= 384, "{kind}");
    }
}

#[test]
fn shapes_without_values_make_no_network() {
    let world = World::new();
    let tensors = (0..64).map(|block| {
        let name = format!("stages.0.blocks.{block}.mlp.fc1.weight");
        (name, json!({"dtype": "F32", "shape": [16384, 4096, 0], "data_offsets": [0, 0]}))
    });
    let sign = json!({"dtype": "F32", "shape": [4096, 1, 1, 0], "data_offsets": [0, 0]});
    let sign = ("stages.0.blocks.0.mlp.conv.conv.weight".to_owned(), sign);
    let header: serde_json::Map<String, Value> = tensors.chain([sign]).collect();
    let header = Value::from(header).to_string();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    world.write("empty.safetensors", bytes);
    // Zeros in their place would be more than there is memory for.
    let error = world.fail("import empty.safetensors --out model.safetensors");
    assert!(!error.contains("FastViT"), "{error}");
}
