//! CLIP's tower of texts: words become embeddings that lie among those of images.
//!
//! Source: A. Radford and others, "Learning Transferable Visual Models From Natural Language Supervision",
//! <https://arxiv.org/abs/2103.00020>. Agrees with `CLIPTextModelWithProjection` of `transformers`.

mod tokenizer;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData, activation};
use models::layers::{Activation, values_of};
use models::limits::MAX_BLOCKS;
use models::weights::{NamedTensor, Precision, Weights, WeightsError};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::tokenizer::{Tokenizer, TokenizerError};

/// Where a file of such weights says what they are.
const METADATA_KEY: &str = "magpie_text";
/// Where it has the tokenizer's pairs.
const MERGES_KEY: &str = "magpie_merges";
/// Version of what is said there.
const FORMAT: u32 = 1;
/// Most tokens of a text.
const MOST_TOKENS: usize = 4096;
/// Added to scores of tokens that are not seen.
const NEVER: f32 = -1e30;

/// Why a text has no embedding.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TowerError {
    /// The weights cannot be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Words cannot be split.
    #[error("its tokenizer: {0}")]
    Tokenizer(#[from] TokenizerError),
    /// The file is no tower of texts.
    #[error(
        "no tower of texts: {reason}; `magpie import` writes one beside the model file of CLIP"
    )]
    Other {
        /// What is wrong.
        reason: String,
    },
    /// A newer program has written it.
    #[error(
        "this tower of texts has format {got}; this program reads up to {FORMAT}: use a newer one"
    )]
    Format {
        /// In the file.
        got: u32,
    },
    /// A tensor is missing.
    #[error("{name} is missing; its shape is {wanted:?}: import CLIP's file again")]
    Missing {
        /// Its name.
        name: String,
        /// As it should be.
        wanted: Vec<usize>,
    },
    /// A tensor has another shape.
    #[error("{name} has the shape {got:?}, not {wanted:?}: import CLIP's file again")]
    Shape {
        /// Its name.
        name: String,
        /// In the file.
        got: Vec<usize>,
        /// As it should be.
        wanted: Vec<usize>,
    },
}

/// A tower of texts by its parts.
#[derive(Debug, Clone)]
pub struct TextParts {
    /// Its tensors, by their names in files of `transformers`.
    pub tensors: BTreeMap<String, NamedTensor>,
    /// What splits texts.
    pub tokenizer: Tokenizer,
    /// Heads of attention.
    pub heads: usize,
    /// Whether a token sees those before it alone. If not, texts are filled up with the first token, which is seen, too.
    pub is_causal: bool,
    /// Between the two layers behind attention.
    pub activation: Activation,
    /// Added to variances.
    pub epsilon: f64,
}

/// What a file of a tower says of it besides its tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    /// Version of this description.
    format: u32,
    /// The id of the extractor among whose embeddings these lie.
    extractor: String,
    heads: usize,
    is_causal: bool,
    activation: Activation,
    epsilon: f64,
}

/// A layer with its bias.
#[derive(Debug)]
struct Layer {
    /// `[in, out]`
    weight: Tensor<2>,
    /// `[1, out]`
    bias: Tensor<2>,
}

#[derive(Debug)]
struct Norm {
    scale: Tensor<2>,
    shift: Tensor<2>,
    epsilon: f64,
}

#[derive(Debug)]
struct Block {
    norms: [Norm; 2],
    /// Query, key, value, output.
    attention: [Layer; 4],
    /// Widens, narrows.
    mlp: [Layer; 2],
}

/// Embeds texts.
#[derive(Debug)]
pub struct TextTower {
    tokenizer: Tokenizer,
    heads: usize,
    is_causal: bool,
    activation: Activation,
    /// Row-major, `width` values a token.
    words: Vec<f32>,
    width: usize,
    /// `[positions, width]`
    positions: Tensor<2>,
    blocks: Vec<Block>,
    norm: Norm,
    /// `[width, dim]`
    projection: Tensor<2>,
}

/// The embedding of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// Of length one.
    pub values: Vec<f32>,
    /// Whether the text has more tokens than the tower has positions: those behind were not looked at.
    pub is_cut: bool,
}

/// Tensors on their way into a tower.
struct Source {
    tensors: BTreeMap<String, NamedTensor>,
    device: Device,
    epsilon: f64,
}

impl Source {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|tensor| tensor.shape.clone())
    }

    fn take(&mut self, name: &str, wanted: &[usize]) -> Result<Vec<f32>, TowerError> {
        let (name, wanted) = (name.to_owned(), wanted.to_vec());
        match self.tensors.remove(&name) {
            Some(tensor) if tensor.shape == wanted => Ok(tensor.values),
            Some(NamedTensor { shape: got, .. }) => Err(TowerError::Shape { name, got, wanted }),
            None => Err(TowerError::Missing { name, wanted }),
        }
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<Tensor<2>, TowerError> {
        let values = self.take(name, &shape)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), &self.device))
    }

    fn row(&mut self, name: &str, length: usize) -> Result<Tensor<2>, TowerError> {
        let values = self.take(name, &[length])?;
        Ok(Tensor::from_data(TensorData::new(values, [1, length]), &self.device))
    }

    fn layer(&mut self, name: &str, [from, to]: [usize; 2]) -> Result<Layer, TowerError> {
        let weight = self.matrix(&format!("{name}.weight"), [to, from])?.transpose();
        Ok(Layer { weight, bias: self.row(&format!("{name}.bias"), to)? })
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<Norm, TowerError> {
        let scale = self.row(&format!("{name}.weight"), width)?;
        let shift = self.row(&format!("{name}.bias"), width)?;
        Ok(Norm { scale, shift, epsilon: self.epsilon })
    }
}

impl Layer {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.clone()) + self.bias.clone()
    }
}

impl Norm {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let centered = x.clone() - x.mean_dim(1);
        let variance = centered.clone().powi_scalar(2).mean_dim(1);
        centered / (variance + self.epsilon).sqrt() * self.scale.clone() + self.shift.clone()
    }
}

/// Where the tower of texts lies that belongs to a model file: `clip.words.safetensors` beside `clip.safetensors`.
pub fn words_beside(model: &Path) -> PathBuf {
    model.with_extension("words.safetensors")
}

fn other(reason: impl std::fmt::Display) -> TowerError {
    TowerError::Other { reason: reason.to_string() }
}

impl TextParts {
    /// The bytes of a file that [`Self::from_bytes`] reads, in 16 bits if all values have such numbers. `extractor` is
    /// the id of the model file among whose embeddings those of texts lie.
    ///
    /// # Errors
    ///
    /// [`TowerError::Weights`]
    pub fn to_bytes(&self, extractor: &str) -> Result<Vec<u8>, TowerError> {
        let Self { tensors, tokenizer, heads, is_causal, activation, epsilon } = self;
        let description = Description {
            format: FORMAT,
            extractor: extractor.to_owned(),
            heads: *heads,
            is_causal: *is_causal,
            activation: *activation,
            epsilon: *epsilon,
        };
        let told = serde_json::to_string(&description).map_err(other)?;
        let metadata = HashMap::from([
            (METADATA_KEY.to_owned(), told),
            (MERGES_KEY.to_owned(), tokenizer.merges().to_owned()),
        ]);
        let weights = Weights { tensors: tensors.clone() };
        match weights.to_bytes(Precision::F16, Some(metadata.clone())) {
            Err(WeightsError::Overflow { .. }) => {
                Ok(weights.to_bytes(Precision::F32, Some(metadata))?)
            }
            other => Ok(other?),
        }
    }

    /// Reads what [`Self::to_bytes`] has written; the id of the extractor, too.
    ///
    /// # Errors
    ///
    /// [`TowerError`]: another file, a newer one, or a damaged one.
    pub fn from_bytes(bytes: &[u8]) -> Result<(Self, String), TowerError> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(other)?;
        let told = metadata.metadata().as_ref();
        let told = |key: &str| {
            told.and_then(|told| told.get(key)).ok_or_else(|| other("the file does not say so"))
        };
        // What a newer program says besides is not looked at before its number.
        let value: serde_json::Value = serde_json::from_str(told(METADATA_KEY)?).map_err(other)?;
        let format = value["format"].as_u64().unwrap_or_default();
        if format > u64::from(FORMAT) {
            let got = u32::try_from(format).unwrap_or(u32::MAX);
            return Err(TowerError::Format { got });
        }
        let Description { extractor, heads, is_causal, activation, epsilon, .. } =
            serde_json::from_value(value).map_err(other)?;
        let tokenizer = Tokenizer::from_merges(told(MERGES_KEY)?)?;
        let tensors = Weights::from_bytes(bytes)?.tensors;
        let parts = Self { tensors, tokenizer, heads, is_causal, activation, epsilon };
        Ok((parts, extractor))
    }

    /// The tower of these parts.
    ///
    /// # Errors
    ///
    /// [`TowerError`]: tensors that make no tower.
    pub fn tower(self) -> Result<TextTower, TowerError> {
        const LAYERS: &str = "text_model.encoder.layers";
        let Self { tensors, tokenizer, heads, is_causal, activation, epsilon } = self;
        if !(epsilon.is_finite() && epsilon > 0.0) {
            return Err(other(format!("{epsilon} is added to variances")));
        }
        let mut source = Source { tensors, device: Device::flex(), epsilon };
        let places = "text_model.embeddings.position_embedding.weight";
        let [positions, width] =
            source.shape(places).and_then(|s| s.try_into().ok()).unwrap_or([77, 512]);
        if heads == 0 || width == 0 || width % heads != 0 {
            return Err(other(format!("{width} channels have no {heads} equal heads")));
        }
        if !(2..=MOST_TOKENS).contains(&positions) {
            return Err(other(format!("it has {positions} positions, not 2 to {MOST_TOKENS}")));
        }
        let vocabulary = [tokenizer.vocabulary(), width];
        let words = source.take("text_model.embeddings.token_embedding.weight", &vocabulary)?;
        let positions = source.matrix(places, [positions, width])?;
        let hidden = source.shape(&format!("{LAYERS}.0.mlp.fc1.bias"));
        let hidden = hidden.and_then(|shape| shape.first().copied()).unwrap_or(4 * width);
        let mut blocks = Vec::new();
        while blocks.len() < MAX_BLOCKS {
            let block = format!("{LAYERS}.{}", blocks.len());
            let is_there = source.shape(&format!("{block}.layer_norm1.weight")).is_some();
            if !is_there && !blocks.is_empty() {
                break;
            }
            let mut attention = |part: &str| {
                source.layer(&format!("{block}.self_attn.{part}_proj"), [width, width])
            };
            let attention = [attention("q")?, attention("k")?, attention("v")?, attention("out")?];
            let mlp = [
                source.layer(&format!("{block}.mlp.fc1"), [width, hidden])?,
                source.layer(&format!("{block}.mlp.fc2"), [hidden, width])?,
            ];
            let norms = [
                source.norm(&format!("{block}.layer_norm1"), width)?,
                source.norm(&format!("{block}.layer_norm2"), width)?,
            ];
            blocks.push(Block { norms, attention, mlp });
        }
        let norm = source.norm("text_model.final_layer_norm", width)?;
        let dim = source.shape("text_projection.weight");
        let dim = dim.and_then(|shape| shape.first().copied()).unwrap_or(width);
        let projection = source.matrix("text_projection.weight", [dim, width])?.transpose();
        if let Some((name, _)) = source.tensors.pop_first() {
            return Err(other(format!("{name} is no part of one")));
        }
        Ok(TextTower {
            tokenizer,
            heads,
            is_causal,
            activation,
            words,
            width,
            positions,
            blocks,
            norm,
            projection,
        })
    }
}

impl TextTower {
    /// Values of an embedding.
    pub fn dim(&self) -> usize {
        let [_, dim] = self.projection.dims();
        dim
    }

    /// The most tokens of a text, its marks among them.
    pub fn most_tokens(&self) -> usize {
        let [most, _] = self.positions.dims();
        most
    }

    /// The embedding of a text.
    pub fn embed(&self, text: &str) -> Embedded {
        let (mut tokens, is_cut) = self.tokenizer.tokens(text, self.most_tokens());
        // What follows its first end has no part in it.
        let end = self.tokenizer.end();
        let count = tokens.iter().position(|token| *token == end).map_or(tokens.len(), |at| at + 1);
        if self.is_causal {
            tokens.truncate(count);
        } else {
            tokens.resize(self.most_tokens(), 0);
        }
        let mut values = values_of(self.forward(&tokens, count - 1));
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        values.iter_mut().for_each(|value| *value /= length.max(f32::MIN_POSITIVE));
        Embedded { values, is_cut }
    }

    /// `[1, dim]` of tokens, with the place of the text's end among them.
    fn forward(&self, tokens: &[u32], end: usize) -> Tensor<2> {
        let (count, width) = (tokens.len(), self.width);
        let device = self.positions.device();
        let rows: Vec<f32> = tokens
            .iter()
            .flat_map(|token| &self.words[*token as usize * width..][..width])
            .copied()
            .collect();
        let words = Tensor::<2>::from_data(TensorData::new(rows, [count, width]), &device);
        let mut x = words + self.positions.clone().narrow(0, 0, count);
        let hides = |at: usize| self.is_causal && at % count > at / count;
        let seen = (0..count * count).map(|at| if hides(at) { NEVER } else { 0.0 });
        let seen = TensorData::new(seen.collect::<Vec<f32>>(), [1, count, count]);
        let seen = Tensor::<3>::from_data(seen, &device);
        let (heads, head) = (self.heads, width / self.heads);
        for Block { norms, attention: [query, key, value, output], mlp } in &self.blocks {
            let y = norms[0].forward(x.clone());
            let apart = |layer: &Layer| -> Tensor<3> {
                layer.forward(y.clone()).reshape([count, heads, head]).swap_dims(0, 1)
            };
            let scores = apart(query).matmul(apart(key).swap_dims(1, 2)) / (head as f64).sqrt();
            let mean = activation::softmax(scores + seen.clone(), 2).matmul(apart(value));
            x = x + output.forward(mean.swap_dims(0, 1).reshape([count, width]));
            let y = self.activation.forward(mlp[0].forward(norms[1].forward(x.clone())));
            x = x + mlp[1].forward(y);
        }
        self.norm.forward(x.narrow(0, end, 1)).matmul(self.projection.clone())
    }
}
