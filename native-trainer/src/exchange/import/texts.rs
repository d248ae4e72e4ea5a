//! The tower of texts that lies beside a tower of images, and the names that `open_clip` gives to both.

use std::path::Path;

use models::layers::Activation;
use models::weights::NamedTensor;
use serde_json::Value;

use super::tensors::Tensors;
use crate::files;
use crate::text::{TextParts, Tokenizer};

/// Most bytes of a file of a tokenizer: CLIP's has 2.2 million.
const LIMIT: u64 = 16 << 20;

/// `OpenAI`'s activation, and the plain one.
const QUICK: &str = "quick_gelu";
const PLAIN: &str = "gelu";

/// What a configuration beside the weights says of a tower of texts.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct TextHints {
    heads: Option<usize>,
    activation: Option<String>,
    epsilon: Option<f64>,
    /// Whether a token sees those before it alone.
    is_causal: Option<bool>,
}

impl TextHints {
    /// Of `text_config` in a file of `transformers`, or `model_cfg` in one of `open_clip`.
    pub(super) fn of(value: &Value) -> Option<Self> {
        let (ours, theirs) = (&value["text_config"], &value["model_cfg"]);
        let heads = |heads: &Value| heads.as_u64().and_then(|heads| heads.try_into().ok());
        if ours.is_object() {
            let activation = ours["hidden_act"].as_str().map(str::to_owned);
            let epsilon = ours["layer_norm_eps"].as_f64();
            let heads = heads(&ours["num_attention_heads"]);
            return Some(Self { heads, activation, epsilon, is_causal: Some(true) });
        }
        let is_quick = theirs["quick_gelu"] == Value::Bool(true);
        let activation = Some(if is_quick { QUICK } else { PLAIN }.to_owned());
        let heads = heads(&theirs["text_cfg"]["heads"]);
        let is_causal = Some(theirs["text_cfg"]["no_causal_mask"] != Value::Bool(true));
        theirs.is_object().then_some(Self { heads, activation, epsilon: None, is_causal })
    }

    /// Whether the activation is `OpenAI`'s; none if nothing says so.
    pub(super) fn is_quick(&self) -> Option<bool> {
        self.activation.as_deref().map(|name| name == QUICK)
    }

    /// Takes `OpenAI`'s activation or the plain one, and what a token sees, if nothing is said of it.
    pub(super) fn default_to(&mut self, is_quick: bool, is_causal: Option<bool>) {
        let name = if is_quick { QUICK } else { PLAIN };
        self.activation.get_or_insert_with(|| name.to_owned());
        self.is_causal = self.is_causal.or(is_causal);
    }
}

/// Gives tensors of `open_clip` the names that `transformers` has for them, if they are of a CLIP with a vision
/// transformer, or of a tower of texts beside one of timm. None if they are of neither; else whether the tower of texts
/// is CLIP's own, in which a token sees those before it alone.
pub(super) fn rename(tensors: &mut Tensors) -> Option<bool> {
    let images = tensors.contains_key("visual.transformer.resblocks.0.ln_1.weight");
    let is_other = tensors.contains_key("text.token_embedding.weight");
    let texts = is_other || tensors.contains_key("token_embedding.weight");
    if !images && !texts {
        return None;
    }
    for (name, tensor) in std::mem::take(tensors) {
        let renamed = match name.strip_prefix("visual.") {
            Some(rest) if images => of_images(rest),
            None if texts => of_texts(name.strip_prefix("text.").unwrap_or(&name)),
            _ => None,
        };
        match renamed {
            Some(name) if name.ends_with("_projection.weight") => {
                tensors.insert(name, transposed(tensor));
            }
            Some(name) => match name.split_once("attn.in_proj_") {
                Some((block, field)) => part(tensors, block, field, &tensor),
                None => drop(tensors.insert(name, tensor)),
            },
            None => drop(tensors.insert(name, tensor)),
        }
    }
    Some(!is_other)
}

/// Puts queries, keys and values, which are one tensor, into a block one by one.
fn part(tensors: &mut Tensors, block: &str, field: &str, whole: &NamedTensor) {
    let Some((rows, columns)) = whole.shape.split_first() else { return };
    let shape = [&[rows / 3][..], columns].concat();
    let count = shape.iter().product::<usize>().max(1);
    for (part, values) in ["q", "k", "v"].into_iter().zip(whole.values.chunks(count)) {
        let (shape, values) = (shape.clone(), values.to_vec());
        let name = format!("{block}self_attn.{part}_proj.{field}");
        tensors.insert(name, NamedTensor { shape, values });
    }
}

fn of_images(name: &str) -> Option<String> {
    let renamed = match name {
        "class_embedding" => "embeddings.class_embedding",
        "conv1.weight" => "embeddings.patch_embedding.weight",
        "positional_embedding" => "embeddings.position_embedding.weight",
        "ln_pre.weight" => "pre_layrnorm.weight",
        "ln_pre.bias" => "pre_layrnorm.bias",
        "ln_post.weight" => "post_layernorm.weight",
        "ln_post.bias" => "post_layernorm.bias",
        "proj" => return Some("visual_projection.weight".to_owned()),
        _ => return Some(format!("vision_model.{}", of_block(name)?)),
    };
    Some(format!("vision_model.{renamed}"))
}

fn of_texts(name: &str) -> Option<String> {
    let renamed = match name {
        "token_embedding.weight" => "embeddings.token_embedding.weight",
        "positional_embedding" => "embeddings.position_embedding.weight",
        "ln_final.weight" => "final_layer_norm.weight",
        "ln_final.bias" => "final_layer_norm.bias",
        "text_projection" => return Some("text_projection.weight".to_owned()),
        _ => return Some(format!("text_model.{}", of_block(name)?)),
    };
    Some(format!("text_model.{renamed}"))
}

/// A tensor of a block; queries, keys and values stay one.
fn of_block(name: &str) -> Option<String> {
    let (index, rest) = name.strip_prefix("transformer.resblocks.")?.split_once('.')?;
    let (layer, field) = rest.rsplit_once('.').unwrap_or(("", rest));
    let layer = match layer {
        "ln_1" => "layer_norm1",
        "ln_2" => "layer_norm2",
        "mlp.c_fc" => "mlp.fc1",
        "mlp.c_proj" => "mlp.fc2",
        "attn.out_proj" => "self_attn.out_proj",
        "attn" => "attn",
        _ => return None,
    };
    Some(format!("encoder.layers.{index}.{layer}.{field}"))
}

fn transposed(tensor: NamedTensor) -> NamedTensor {
    match tensor.shape[..] {
        [rows, columns] if rows * columns == tensor.values.len() => {
            let place = |at: usize| tensor.values[at % rows * columns + at / rows];
            let values = (0..rows * columns).map(place).collect();
            NamedTensor { shape: vec![columns, rows], values }
        }
        _ => tensor,
    }
}

/// Takes out the tensors of a tower of texts.
pub(super) fn take(tensors: &mut Tensors) -> Tensors {
    let is_of_text =
        |name: &&String| name.starts_with("text_model.") || name.starts_with("text_projection.");
    let names: Vec<String> = tensors.keys().filter(is_of_text).cloned().collect();
    names.into_iter().filter_map(|name| tensors.remove_entry(&name)).collect()
}

/// The tower of texts of a file, or why it cannot be used; `dim` values make an embedding of an image.
pub(super) fn tower(
    path: &Path,
    tensors: Tensors,
    hints: TextHints,
    dim: usize,
) -> Result<TextParts, String> {
    let count = tensors.len();
    let unused = |why: String| format!("the tower of texts ({count} tensors) is not used: {why}");
    if tensors.contains_key("text_model.head.weight") {
        let why = "SigLIP splits words by SentencePiece, which is not read here; CLIP's is";
        return Err(unused(why.to_owned()));
    }
    let activation = match hints.activation.as_deref() {
        None | Some(QUICK) => Activation::QuickGelu,
        Some(PLAIN) => Activation::Gelu,
        Some("gelu_pytorch_tanh" | "gelu_new") => Activation::GeluTanh,
        Some(other) => {
            return Err(unused(format!("the activation {other} is none that is known here")));
        }
    };
    let Some(is_causal) = hints.is_causal else {
        let why = "open_clip_config.json says what its words see of each other; lay it beside the file, and import again";
        return Err(unused(why.to_owned()));
    };
    let tokenizer = tokenizer(files::folder_of(path)).map_err(unused)?;
    let places = tensors.get("text_model.embeddings.position_embedding.weight");
    let width = places.and_then(|places| places.shape.get(1)).copied().unwrap_or_default();
    // The published ones have 64 channels each.
    let heads = hints.heads.unwrap_or_else(|| (width / 64).max(1));
    let epsilon = hints.epsilon.unwrap_or(1e-5);
    let parts = TextParts { tensors, tokenizer, heads, is_causal, activation, epsilon };
    let tower = parts.clone().tower().map_err(|error| unused(error.to_string()))?;
    if tower.dim() != dim {
        let why = format!("its embeddings have {} values, those of images {dim}", tower.dim());
        return Err(unused(why));
    }
    Ok(parts)
}

/// The tokenizer in a folder: `tokenizer.json`, or `merges.txt`, with which a `vocab.json` has to agree.
fn tokenizer(folder: &Path) -> Result<Tokenizer, String> {
    const WHOLE: &str = "tokenizer.json";
    const MERGES: &str = "merges.txt";
    const VOCABULARY: &str = "vocab.json";
    let there = |name: &str| folder.join(name).is_file();
    let read =
        |name: &str| files::read(&folder.join(name), LIMIT).map_err(|error| error.to_string());
    let of = |name: &str, error: &dyn std::fmt::Display| format!("{name}: {error}");
    if there(WHOLE) {
        return Tokenizer::from_json(&read(WHOLE)?).map_err(|error| of(WHOLE, &error));
    }
    if !there(MERGES) {
        return Err(format!(
            "its words are split by {WHOLE}, or by {VOCABULARY} and {MERGES}, and none lies beside the file; fetch it \
             from where the file is, and import again"
        ));
    }
    let text = files::text(read(MERGES)?).map_err(|error| of(MERGES, &error))?;
    let tokenizer = Tokenizer::from_merges(&text).map_err(|error| of(MERGES, &error))?;
    if there(VOCABULARY) {
        tokenizer.check(&read(VOCABULARY)?).map_err(|error| of(VOCABULARY, &error))?;
    }
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tensors(names: &[(&str, &[usize])]) -> Tensors {
        let tensor = |shape: &[usize]| {
            let count = shape.iter().product::<usize>();
            NamedTensor { shape: shape.to_vec(), values: (0..count).map(|at| at as f32).collect() }
        };
        names.iter().map(|(name, shape)| ((*name).to_owned(), tensor(shape))).collect()
    }

    #[test]
    fn names_of_open_clip_are_those_of_transformers() {
        let mut theirs = tensors(&[
            ("logit_scale", &[]),
            ("visual.proj", &[2, 3]),
            ("visual.conv1.weight", &[2, 3, 1, 1]),
            ("visual.transformer.resblocks.0.ln_1.weight", &[2]),
            ("token_embedding.weight", &[5, 2]),
            ("text_projection", &[2, 3]),
            ("transformer.resblocks.1.attn.in_proj_weight", &[6, 2]),
            ("transformer.resblocks.1.mlp.c_fc.bias", &[4]),
        ]);
        assert_eq!(rename(&mut theirs), Some(true));
        let names: Vec<&str> = theirs.keys().map(String::as_str).collect();
        let block = "text_model.encoder.layers.1.";
        assert_eq!(
            names,
            [
                "logit_scale",
                "text_model.embeddings.token_embedding.weight",
                &format!("{block}mlp.fc1.bias"),
                &format!("{block}self_attn.k_proj.weight"),
                &format!("{block}self_attn.q_proj.weight"),
                &format!("{block}self_attn.v_proj.weight"),
                "text_projection.weight",
                "vision_model.embeddings.patch_embedding.weight",
                "vision_model.encoder.layers.0.layer_norm1.weight",
                "visual_projection.weight",
            ]
        );
        let key = &theirs[&format!("{block}self_attn.k_proj.weight")];
        assert_eq!((&key.shape[..], &key.values[..]), (&[2, 2][..], &[4.0, 5.0, 6.0, 7.0][..]));
        let projection = &theirs["text_projection.weight"];
        assert_eq!(projection.shape, [3, 2]);
        assert_eq!(projection.values, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(take(&mut theirs).len(), 6);
        assert_eq!(rename(&mut tensors(&[("visual.trunk.stem.weight", &[1])])), None);
        // Of a custom tower beside one of timm.
        let mut custom =
            tensors(&[("text.token_embedding.weight", &[5, 2]), ("visual.trunk.x", &[1])]);
        assert_eq!(rename(&mut custom), Some(false));
        assert!(custom.contains_key("visual.trunk.x"));
        assert_eq!(take(&mut custom).len(), 1);
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let told =
            |names: &[(&str, &[usize])], hints| tower(&path, tensors(names), hints, 3).unwrap_err();
        let clip: &[(&str, &[usize])] = &[("text_projection.weight", &[3, 2])];
        let plain = || TextHints { is_causal: Some(true), ..TextHints::default() };
        let silent = told(clip, TextHints::default());
        assert!(silent.contains("open_clip_config.json says what its words see"), "{silent}");
        assert!(told(&[("text_model.head.weight", &[1])], plain()).contains("SentencePiece"));
        let relu = TextHints { activation: Some("relu".to_owned()), ..plain() };
        assert!(told(clip, relu).contains("the activation relu is none"));
        assert!(told(clip, plain()).contains("none lies beside the file; fetch it"));
        std::fs::write(folder.path().join("merges.txt"), "a b\nab c</w>\n").unwrap();
        let told_missing = told(clip, plain());
        assert!(told_missing.contains("token_embedding.weight is missing"), "{told_missing}");
        std::fs::write(folder.path().join("vocab.json"), r#"{"!": 3}"#).unwrap();
        assert!(told(clip, plain()).contains("vocab.json: its vocabulary and its merges differ"));
        std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
        assert!(told(clip, plain()).contains("tokenizer.json: a tokenizer of kind unknown"));
    }

    #[test]
    fn configurations_of_both_are_read() {
        let ours = json!({"text_config": {"num_attention_heads": 4, "layer_norm_eps": 1e-4}});
        let (heads, epsilon, is_causal) = (Some(4), Some(1e-4), Some(true));
        let told = TextHints { heads, activation: None, epsilon, is_causal };
        assert_eq!(TextHints::of(&ours), Some(told));
        let theirs = json!({"heads": 8, "no_causal_mask": true});
        let theirs = json!({"model_cfg": {"quick_gelu": true, "text_cfg": theirs}});
        let told = TextHints {
            heads: Some(8),
            activation: Some("quick_gelu".to_owned()),
            epsilon: None,
            is_causal: Some(false),
        };
        assert_eq!(TextHints::of(&theirs), Some(told));
        assert_eq!(TextHints::of(&json!({"architecture": "resnet18"})), None);
    }
}
