//! Vision transformers in the files of timm and of Hugging Face's `transformers`: their names, and what their shapes
//! tell.

use models::backbone::{Between, Positions, TokenPool, VitConfig};
use models::layers::Resampling;
use models::limits::MAX_BLOCKS;
use models::preprocess::Preprocess;
use models::weights::NamedTensor;

use super::naming::{Naming, fold_scale, numbered};
use super::tensors::Tensors;

/// What CLIP takes off each channel of an image, and divides it by.
pub(super) const CLIP_MEAN: [f32; 3] = [0.481_454_67, 0.457_827_5, 0.408_210_72];
pub(super) const CLIP_STD: [f32; 3] = [0.268_629_55, 0.261_302_6, 0.275_777_1];

/// What a configuration beside the weights says of a transformer that its tensors do not tell.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Hints {
    pub(super) heads: Option<usize>,
    pub(super) between: Option<Between>,
    /// An activation that there is none of here.
    pub(super) other: Option<String>,
    pub(super) epsilon: Option<f64>,
    /// Of a rotation's waves.
    pub(super) base: Option<f64>,
    /// timm's name of the network.
    pub(super) name: Option<String>,
}

/// What of a network its names depend on.
#[derive(Debug, Clone, Copy)]
struct Form {
    naming: Naming,
    is_gated: bool,
    /// Whether the only normalization lies behind the mean.
    is_mean: bool,
}

/// Whose names these are, if they are a transformer's.
pub(super) fn naming_of(has: impl Fn(&str) -> bool) -> Option<Naming> {
    let all = |names: [&str; 2]| names.into_iter().all(&has);
    if all(["patch_embed.proj.weight", "blocks.0.attn.qkv.weight"]) {
        Some(Naming::Timm)
    } else if has("vision_model.embeddings.patch_embedding.weight") {
        Some(Naming::Clip)
    } else if all(["embeddings.patch_embeddings.projection.weight", "encoder.layer.0.norm1.weight"])
    {
        Some(Naming::DinoV2)
    } else if has("embeddings.patch_embeddings.weight") {
        Some(Naming::DinoV3)
    } else {
        None
    }
}

impl Form {
    fn of(naming: Naming, config: &VitConfig) -> Self {
        let is_gated = config.between == Between::SwiGlu;
        Self { naming, is_gated, is_mean: config.pool == TokenPool::Mean }
    }

    /// Their name of a tensor. One that is a part of theirs has the part's number and how many there are behind `#`.
    fn theirs(self, name: &str) -> Option<String> {
        let (index, rest) = match numbered(name, "blocks.") {
            Some((index, rest)) => (Some(index), rest),
            None => (None, name),
        };
        let (blocks, parts, within) = self.names();
        let parts = if index.is_some() { within } else { parts };
        let found = parts.iter().find_map(|(ours, theirs)| {
            let field = rest.strip_prefix(ours)?;
            // A part's number follows the field.
            Some(match theirs.split_once('#') {
                Some((theirs, part)) => format!("{theirs}{field}#{part}"),
                None => format!("{theirs}{field}"),
            })
        })?;
        Some(index.map_or(found.clone(), |index| format!("{blocks}{index}.{found}")))
    }

    /// What blocks begin with, and beginnings of names here and there: of the network, of a block.
    fn names(self) -> (&'static str, Pairs, Pairs) {
        match self.naming {
            Naming::Clip => ("vision_model.encoder.layers.", CLIP, CLIP_BLOCK),
            Naming::DinoV2 if self.is_gated => ("encoder.layer.", DINO_V2, DINO_V2_GATED),
            Naming::DinoV2 => ("encoder.layer.", DINO_V2, DINO_V2_BLOCK),
            Naming::DinoV3 => ("layer.", DINO_V3, DINO_V3_BLOCK),
            _ => {
                let whole = if self.is_mean { TIMM_MEAN } else { TIMM };
                ("blocks.", whole, if self.is_gated { TIMM_GATED } else { TIMM_BLOCK })
            }
        }
    }
}

/// Beginnings of names here and there.
type Pairs = &'static [(&'static str, &'static str)];

const TIMM: Pairs = &[
    ("patches.conv.", "patch_embed.proj."),
    ("tokens.class", "cls_token"),
    ("tokens.registers", "reg_token"),
    ("tokens.positions", "pos_embed"),
    ("first_norm.", "norm_pre."),
    ("norm.", "norm."),
    ("probe.probe", "attn_pool.latent"),
    ("probe.attention.query.", "attn_pool.q."),
    ("probe.attention.key.", "attn_pool.kv.#0/2"),
    ("probe.attention.value.", "attn_pool.kv.#1/2"),
    ("probe.attention.output.", "attn_pool.proj."),
    ("probe.norm.", "attn_pool.norm."),
    ("probe.mlp.widen.", "attn_pool.mlp.fc1."),
    ("probe.mlp.narrow.", "attn_pool.mlp.fc2."),
];
const TIMM_MEAN: Pairs = &[
    ("patches.conv.", "patch_embed.proj."),
    ("tokens.class", "cls_token"),
    ("tokens.registers", "reg_token"),
    ("tokens.positions", "pos_embed"),
    ("first_norm.", "norm_pre."),
    ("norm.", "fc_norm."),
];
const TIMM_BLOCK: Pairs = &[
    ("norm.", "norm1."),
    ("attention.query.", "attn.qkv.#0/3"),
    ("attention.key.", "attn.qkv.#1/3"),
    ("attention.value.", "attn.qkv.#2/3"),
    ("attention.output.", "attn.proj."),
    ("second_norm.", "norm2."),
    ("mlp.widen.", "mlp.fc1."),
    ("mlp.narrow.", "mlp.fc2."),
];
const TIMM_GATED: Pairs = &[
    ("norm.", "norm1."),
    ("attention.query.", "attn.qkv.#0/3"),
    ("attention.key.", "attn.qkv.#1/3"),
    ("attention.value.", "attn.qkv.#2/3"),
    ("attention.output.", "attn.proj."),
    ("second_norm.", "norm2."),
    ("mlp.gate.", "mlp.fc1.#0/2"),
    ("mlp.widen.", "mlp.fc1.#1/2"),
    ("mlp.narrow.", "mlp.fc2."),
];
const CLIP: Pairs = &[
    ("patches.conv.", "vision_model.embeddings.patch_embedding."),
    ("tokens.class", "vision_model.embeddings.class_embedding"),
    ("tokens.positions", "vision_model.embeddings.position_embedding.weight"),
    ("first_norm.", "vision_model.pre_layrnorm."),
    ("norm.", "vision_model.post_layernorm."),
    ("probe.probe", "vision_model.head.probe"),
    ("probe.attention.query.", "vision_model.head.attention.in_proj_#0/3"),
    ("probe.attention.key.", "vision_model.head.attention.in_proj_#1/3"),
    ("probe.attention.value.", "vision_model.head.attention.in_proj_#2/3"),
    ("probe.attention.output.", "vision_model.head.attention.out_proj."),
    ("probe.norm.", "vision_model.head.layernorm."),
    ("probe.mlp.widen.", "vision_model.head.mlp.fc1."),
    ("probe.mlp.narrow.", "vision_model.head.mlp.fc2."),
    ("projection.", "visual_projection."),
];
const CLIP_BLOCK: Pairs = &[
    ("norm.", "layer_norm1."),
    ("attention.query.", "self_attn.q_proj."),
    ("attention.key.", "self_attn.k_proj."),
    ("attention.value.", "self_attn.v_proj."),
    ("attention.output.", "self_attn.out_proj."),
    ("second_norm.", "layer_norm2."),
    ("mlp.widen.", "mlp.fc1."),
    ("mlp.narrow.", "mlp.fc2."),
];
const DINO_V2: Pairs = &[
    ("patches.conv.", "embeddings.patch_embeddings.projection."),
    ("tokens.class", "embeddings.cls_token"),
    ("tokens.registers", "embeddings.register_tokens"),
    ("tokens.positions", "embeddings.position_embeddings"),
    ("norm.", "layernorm."),
];
const DINO_V2_BLOCK: Pairs = &[
    ("norm.", "norm1."),
    ("attention.query.", "attention.attention.query."),
    ("attention.key.", "attention.attention.key."),
    ("attention.value.", "attention.attention.value."),
    ("attention.output.", "attention.output.dense."),
    ("second_norm.", "norm2."),
    ("mlp.widen.", "mlp.fc1."),
    ("mlp.narrow.", "mlp.fc2."),
];
const DINO_V2_GATED: Pairs = &[
    ("norm.", "norm1."),
    ("attention.query.", "attention.attention.query."),
    ("attention.key.", "attention.attention.key."),
    ("attention.value.", "attention.attention.value."),
    ("attention.output.", "attention.output.dense."),
    ("second_norm.", "norm2."),
    ("mlp.gate.", "mlp.weights_in.#0/2"),
    ("mlp.widen.", "mlp.weights_in.#1/2"),
    ("mlp.narrow.", "mlp.weights_out."),
];
const DINO_V3: Pairs = &[
    ("patches.conv.", "embeddings.patch_embeddings."),
    ("tokens.class", "embeddings.cls_token"),
    ("tokens.registers", "embeddings.register_tokens"),
    ("norm.", "norm."),
];
const DINO_V3_BLOCK: Pairs = &[
    ("norm.", "norm1."),
    ("attention.query.", "attention.q_proj."),
    ("attention.key.", "attention.k_proj."),
    ("attention.value.", "attention.v_proj."),
    ("attention.output.", "attention.o_proj."),
    ("second_norm.", "norm2."),
    ("mlp.gate.", "mlp.gate_proj."),
    ("mlp.widen.", "mlp.up_proj."),
    ("mlp.narrow.", "mlp.down_proj."),
];

/// Layer scales, and the layer that each belongs behind.
const SCALES: [(&str, &str); 11] = [
    (".ls1.gamma", ".attn.proj"),
    (".ls2.gamma", ".mlp.fc2"),
    (".gamma_1", ".attn.proj"),
    (".gamma_2", ".mlp.fc2"),
    (".layer_scale1.lambda1", ".attention.output.dense"),
    (".layer_scale1.lambda1", ".attention.o_proj"),
    (".layer_scale2.lambda1", ".mlp.fc2"),
    (".layer_scale2.lambda1", ".mlp.weights_out"),
    (".layer_scale2.lambda1", ".mlp.down_proj"),
    (".layer_scale1.gamma", ".attn.proj"),
    (".layer_scale2.gamma", ".mlp.fc2"),
];

/// Their name of a tensor; see `Form::theirs`.
pub(super) fn theirs(naming: Naming, config: &VitConfig, name: &str) -> Option<String> {
    Form::of(naming, config).theirs(name)
}

/// Whether a tensor has no part in embeddings: of training, or of the other tower.
pub(super) fn is_spare(name: &str) -> bool {
    const SPARE: [&str; 6] =
        ["mask_token", "embeddings.mask_token", "logit_scale", "logit_bias", "rope.", "head_dist."];
    SPARE.iter().any(|spare| name.starts_with(spare))
}

/// The network that tensors of these names and shapes are of.
pub(super) fn recognized(tensors: &Tensors, naming: Naming, hints: &Hints) -> Option<VitConfig> {
    let mut form =
        Form { naming, is_gated: false, is_mean: tensors.contains_key("fc_norm.weight") };
    let shape_as = |form: Form, name: &str| {
        let theirs = form.theirs(name)?;
        tensors.get(&theirs).map(|tensor| tensor.shape.as_slice())
    };
    let [width, _, patch, _] = *shape_as(form, "patches.conv.weight")? else { return None };
    let narrow = |form: Form| shape_as(form, "blocks.0.mlp.narrow.weight").map(<[usize]>::to_vec);
    let (rows, plain) = (shape_as(form, "blocks.0.mlp.widen.weight"), narrow(form));
    let hidden = if let (Some(narrow), Some(rows)) = (plain, rows) {
        let hidden = *narrow.get(1)?;
        let gate = shape_as(form, "blocks.0.mlp.gate.weight").is_some();
        form.is_gated = gate || rows.first() == Some(&(2 * hidden));
        hidden
    } else {
        form.is_gated = true;
        *narrow(form)?.get(1)?
    };
    let shape = |name: &str| shape_as(form, name);
    let count =
        |name: &str| shape(name).map(|shape| shape.iter().product::<usize>() / width.max(1));
    let depth = (0..MAX_BLOCKS)
        .take_while(|index| shape(&format!("blocks.{index}.norm.weight")).is_some())
        .count();
    let has_class = shape("tokens.class").is_some();
    let normalizes_first = shape("first_norm.weight").is_some();
    let name = hints.name.as_deref().unwrap_or_default();
    let positions = match count("tokens.positions") {
        None => Positions::Rotary { base: hints.base.unwrap_or(100.0) },
        Some(places) => {
            let square = |places: usize| (1..=places).find(|side| side * side >= places);
            let side = square(places)?;
            let of_class = side * side != places;
            let side = if of_class { square(places - 1)? } else { side };
            if side * side + usize::from(of_class) != places {
                return None;
            }
            let is_wide = naming == Naming::Timm
                || naming == Naming::DinoV2 && shape("tokens.registers").is_some();
            let resampling = if is_wide { Resampling::Antialiased } else { Resampling::Bicubic };
            Positions::Learned { rows: side, columns: side, has_class: of_class, resampling }
        }
    };
    let is_rotary = matches!(positions, Positions::Rotary { .. });
    let pool = if shape("probe.probe").is_some() {
        TokenPool::Attention
    } else if form.is_mean {
        TokenPool::Mean
    } else if has_class && !(naming == Naming::Timm && is_rotary) {
        TokenPool::Class
    } else {
        // Of DINOv3, too, in timm.
        TokenPool::MeanOfNormalized
    };
    let registers = count("tokens.registers").unwrap_or_default();
    // timm has further rotations, which leave no trace in tensors: without DINO's registers, beside CLIP's first
    // normalization.
    let is_other = is_rotary && (registers != 4 || form.is_mean)
        || normalizes_first && pool == TokenPool::Attention;
    if naming == Naming::Timm && is_other {
        return None;
    }
    let between = match naming {
        _ if form.is_gated => Between::SwiGlu,
        _ if hints.between.is_some() => hints.between.unwrap_or_default(),
        _ if name.contains("quickgelu") => Between::QuickGelu,
        Naming::Clip if normalizes_first => Between::QuickGelu,
        Naming::Clip => Between::GeluTanh,
        Naming::Timm if !has_class && is_tanh([width, patch], positions) => Between::GeluTanh,
        _ => Between::Gelu,
    };
    let epsilon = if normalizes_first || is_rotary { 1e-5 } else { 1e-6 };
    let config = VitConfig {
        patch,
        width,
        depth,
        heads: hints.heads.unwrap_or_else(|| heads(name, width, has_class, is_rotary)),
        hidden,
        between,
        has_class,
        registers,
        positions,
        normalizes_first,
        epsilon: hints.epsilon.unwrap_or(epsilon),
        pool,
        projection: shape("projection.weight").and_then(|shape| shape.first().copied()),
        fused: false,
    };
    Some(config).filter(|config| config.check().is_ok())
}

/// Whether `SigLIP` of this width, patch and grid has [`Between::GeluTanh`] in timm, too.
const fn is_tanh([width, patch]: [usize; 2], positions: Positions) -> bool {
    match (width, patch) {
        (768, 32) | (1152 | 1536, 16) => true,
        (1024, 16) => matches!(positions, Positions::Learned { rows: 32, .. }),
        _ => false,
    }
}

/// Heads of the published networks of a width: they have 64 channels but in some of the largest.
fn heads(name: &str, width: usize, has_class: bool, is_rotary: bool) -> usize {
    match width {
        // Without a trace in its tensors.
        768 if name.starts_with("vit_base_patch16_gap") => 16,
        1280 if is_rotary => 20,
        1152 | 1280 | 1408 | 1664 => 16,
        // The largest of SigLIP has fewer than the largest of DINOv2.
        1536 if !has_class => 16,
        4096 => 32,
        _ if width < 64 => 1,
        _ => width / 64,
    }
}

/// Brings a file's tensors into the form that is `wanted`: parts of one, layer scales, biases that are not there.
pub(super) fn fold(config: &VitConfig, wanted: &[&str], tensors: &mut Tensors) {
    let mut whole: Vec<(&str, usize)> = wanted.iter().filter_map(|name| whole_of(name)).collect();
    whole.dedup();
    for (name, count) in whole {
        let Some(NamedTensor { shape, values }) = tensors.get(name) else { continue };
        let rows = shape.first().copied().unwrap_or_default();
        if rows == 0 || rows % count != 0 {
            continue;
        }
        let shape: Vec<usize> = [&[rows / count][..], &shape[1..]].concat();
        let parts: Vec<NamedTensor> = values
            .chunks_exact((values.len() / count).max(1))
            .map(|values| NamedTensor { shape: shape.clone(), values: values.to_vec() })
            .collect();
        tensors.remove(name);
        for (part, tensor) in parts.into_iter().enumerate() {
            tensors.insert(format!("{name}#{part}/{count}"), tensor);
        }
    }
    let scales: Vec<(String, String)> = tensors
        .keys()
        .flat_map(|name| {
            SCALES.iter().filter_map(move |(scale, layer)| {
                let layer = format!("{}{layer}", name.strip_suffix(scale)?);
                Some((name.clone(), layer))
            })
        })
        .filter(|(_, layer)| tensors.contains_key(&format!("{layer}.weight")))
        .collect();
    scales.iter().for_each(|(scale, layer)| fold_scale(scale, layer, tensors));
    // CLIP's patches have no bias, DINOv3's keys none, some of timm's copies no query and value either.
    let is_rotary = matches!(config.positions, Positions::Rotary { .. });
    let is_spared = |name: &str| {
        let of_patches = name.contains("patch_embed");
        let of_attention = name.contains("attention.k_proj") || name.contains("attn.qkv");
        config.normalizes_first && of_patches || is_rotary && of_attention
    };
    let absent = |name: &&&str| is_spared(name) && !tensors.contains_key(**name);
    let absent: Vec<&str> = wanted.iter().filter(absent).copied().collect();
    for name in absent {
        let weight = name.replacen("bias", "weight", 1);
        let rows = tensors.get(&weight).and_then(|weight| weight.shape.first().copied());
        if let Some(rows) = rows.filter(|_| weight != name) {
            let zeros = NamedTensor { shape: vec![rows], values: vec![0.0; rows] };
            tensors.insert(name.to_owned(), zeros);
        }
    }
}

/// The tensor that one is a part of, and how many parts it has.
pub(super) fn whole_of(name: &str) -> Option<(&str, usize)> {
    let (whole, part) = name.split_once('#')?;
    Some((whole, part.split_once('/')?.1.parse().ok()?))
}

/// What is known of the images that such weights were trained on.
pub(super) fn known_preprocess(config: &VitConfig, naming: Naming) -> Preprocess {
    let side = match config.positions {
        // DINOv2 was trained at larger sides last, but is measured at the usual one.
        Positions::Learned { rows, .. } if naming != Naming::DinoV2 => (rows * config.patch) as u32,
        Positions::Learned { .. } | Positions::Rotary { .. } => 224,
    };
    let plain = Preprocess::square(side);
    let is_dino = config.patch == 14 || matches!(config.positions, Positions::Rotary { .. });
    if config.normalizes_first {
        Preprocess { mean: CLIP_MEAN, std: CLIP_STD, ..plain }
    } else if config.pool == TokenPool::Attention || naming == Naming::Timm && !is_dino {
        Preprocess { mean: [0.5; 3], std: [0.5; 3], ..plain }
    } else {
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::import::beside::is_sized;
    use std::collections::BTreeMap;

    /// A network of timm: name, shapes of its first block and of all else, and heads, activation, pool and epsilon.
    type Recorded =
        (String, BTreeMap<String, Vec<usize>>, Option<(usize, Between, TokenPool, f64)>);

    /// See `tests/networks/record.py`.
    #[test]
    fn timms_transformers_of_such_tensors_are_recognized_as_they_are_or_refused() {
        let forms: Vec<Recorded> =
            serde_json::from_str(include_str!("../../../tests/networks/forms.json")).unwrap();
        let (mut alike, mut refused) = (0, Vec::new());
        for (name, shapes, recorded) in forms {
            let empty = |shape| NamedTensor { shape, values: Vec::new() };
            let tensors: Tensors =
                shapes.into_iter().map(|(name, shape)| (name, empty(shape))).collect();
            let hints = Hints { name: Some(name.clone()), ..Hints::default() };
            let found = recognized(&tensors, Naming::Timm, &hints);
            match (found, recorded) {
                (None, _) => refused.push(name),
                (Some(_), None) => assert!(!is_sized(&name), "{name} is taken for another"),
                (Some(config), Some(recorded)) => {
                    let VitConfig { heads, between, pool, epsilon, .. } = config;
                    assert_eq!((heads, between, pool, epsilon), recorded, "{name}");
                    alike += 1;
                }
            }
        }
        assert!(alike > 80, "{alike}");
        // Positions of registers, and rotations.
        assert!(
            refused.iter().all(|name| name.contains("so150m")
                || name.contains("rope")
                || name.contains("_pe_")),
            "{refused:?}"
        );
    }
}
