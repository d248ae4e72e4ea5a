//! CLIP's tower of texts: words become embeddings that lie among those of images.
//!
//! Source: "Learning Transferable Visual Models From Natural Language Supervision",
//! <https://arxiv.org/abs/2103.00020>. Agrees with `CLIPTextModelWithProjection` of `transformers`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData, activation};
use instant_clip_tokenizer::{Token, Tokenizer};
use models::layers::{Activation, values_of};
use models::weights::{NamedTensor, Precision, Weights, WeightsError};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where a file of such weights says what they are.
const METADATA_KEY: &str = "magpie_text";
/// Version of what is said there.
pub const FORMAT: u32 = 1;
/// Words and parts of words that CLIP knows.
const VOCABULARY: usize = 49_408;
/// Most blocks.
const MOST_BLOCKS: usize = 128;
/// Added to scores of words that are yet to come.
const NEVER: f32 = -1e30;

/// Why a text has no embedding.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TowerError {
    /// The weights cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
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
    /// A tensor is missing or has another shape.
    #[error("{name} is {}; its shape should be {wanted:?}: import CLIP's file again", got.as_ref().map_or("missing".to_owned(), |got| format!("{got:?}")))]
    Shape {
        /// Its name.
        name: String,
        /// In the file, if it is there.
        got: Option<Vec<usize>>,
        /// As it should be.
        wanted: Vec<usize>,
    },
    /// There are more words than the tower has positions.
    #[error("\"{text}\" has {got} tokens, and the tower of texts takes {most}; make it shorter")]
    Long {
        /// The text.
        text: String,
        /// Its tokens.
        got: usize,
        /// Most tokens of a text.
        most: usize,
    },
}

/// What a tower of texts needs besides its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextDescription {
    /// Version of this description.
    pub format: u32,
    /// The id of the extractor among whose embeddings these lie.
    pub extractor: String,
    /// Heads of attention.
    pub heads: usize,
    /// Between the two layers behind attention.
    pub activation: Activation,
    /// Added to variances.
    pub epsilon: f64,
}

/// A layer with its bias.
#[derive(Debug)]
struct Layer {
    /// `[in, out]`
    weight: Tensor<2>,
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
pub struct TextTower {
    tokenizer: Tokenizer,
    description: TextDescription,
    /// `[words, width]`
    words: Vec<f32>,
    width: usize,
    /// `[positions, width]`
    positions: Tensor<2>,
    blocks: Vec<Block>,
    norm: Norm,
    /// `[width, dim]`
    projection: Tensor<2>,
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
        match self.tensors.remove(name) {
            Some(tensor) if tensor.shape == wanted => Ok(tensor.values),
            other => Err(TowerError::Shape {
                name: name.to_owned(),
                got: other.map(|tensor| tensor.shape),
                wanted: wanted.to_vec(),
            }),
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

/// The bytes of a file that [`TextTower::from_bytes`] reads; `tensors` have their names in CLIP's file. Stored in 16 bits
/// if all values have such numbers.
///
/// # Errors
///
/// [`TowerError`]: tensors that make no tower.
pub fn text_bytes(
    tensors: BTreeMap<String, NamedTensor>,
    description: &TextDescription,
) -> Result<Vec<u8>, TowerError> {
    let weights = Weights { tensors };
    let told = serde_json::to_string(description).map_err(other)?;
    let metadata = || Some(HashMap::from([(METADATA_KEY.to_owned(), told.clone())]));
    let bytes = match weights.to_bytes(Precision::F16, metadata()) {
        Err(WeightsError::Overflow { .. }) => weights.to_bytes(Precision::F32, metadata())?,
        other => other?,
    };
    TextTower::from_bytes(&bytes)?;
    Ok(bytes)
}

fn other(reason: impl std::fmt::Display) -> TowerError {
    TowerError::Other { reason: reason.to_string() }
}

impl TextTower {
    /// Reads what [`text_bytes`] has written.
    ///
    /// # Errors
    ///
    /// [`TowerError`]: another file, a newer one, or one whose tensors do not fit together.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TowerError> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(other)?;
        let told = metadata.metadata().as_ref().and_then(|told| told.get(METADATA_KEY));
        let told = told.ok_or_else(|| other("the file does not say so"))?;
        let description: TextDescription = serde_json::from_str(told).map_err(other)?;
        if description.format > FORMAT {
            return Err(TowerError::Format { got: description.format });
        }
        Self::new(Weights::from_bytes(bytes)?.tensors, description)
    }

    fn new(
        tensors: BTreeMap<String, NamedTensor>,
        description: TextDescription,
    ) -> Result<Self, TowerError> {
        const LAYERS: &str = "text_model.encoder.layers";
        let epsilon = description.epsilon;
        let mut source = Source { tensors, device: Device::flex(), epsilon };
        let places = "text_model.embeddings.position_embedding.weight";
        let [positions, width] =
            source.shape(places).and_then(|s| s.try_into().ok()).unwrap_or([77, 512]);
        let heads = description.heads;
        if heads == 0 || width == 0 || width % heads != 0 {
            return Err(other(format!("{width} channels have no {heads} equal heads")));
        }
        let words =
            source.take("text_model.embeddings.token_embedding.weight", &[VOCABULARY, width])?;
        let positions = source.matrix(places, [positions, width])?;
        let hidden = source.shape(&format!("{LAYERS}.0.mlp.fc1.bias"));
        let hidden = hidden.and_then(|shape| shape.first().copied()).unwrap_or(4 * width);
        let mut blocks = Vec::new();
        while blocks.len() < MOST_BLOCKS {
            let block = format!("{LAYERS}.{}", blocks.len());
            if source.shape(&format!("{block}.layer_norm1.weight")).is_none() && !blocks.is_empty()
            {
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
            return Err(other(format!("{name} is no part of it")));
        }
        let tokenizer = Tokenizer::new();
        Ok(Self { tokenizer, description, words, width, positions, blocks, norm, projection })
    }

    /// What it is.
    pub fn description(&self) -> &TextDescription {
        &self.description
    }

    /// Values of an embedding.
    pub fn dim(&self) -> usize {
        self.projection.dims()[1]
    }

    /// The embedding of a text, of length one.
    ///
    /// # Errors
    ///
    /// [`TowerError::Long`]
    pub fn embed(&self, text: &str) -> Result<Vec<f32>, TowerError> {
        let mut tokens = vec![self.tokenizer.start_of_text()];
        self.tokenizer.encode(text, &mut tokens);
        tokens.push(self.tokenizer.end_of_text());
        let [most, _] = self.positions.dims();
        if tokens.len() > most {
            return Err(TowerError::Long { text: text.to_owned(), got: tokens.len(), most });
        }
        let tokens: Vec<u16> = tokens.into_iter().map(Token::to_u16).collect();
        let embedding = values_of(self.forward(&tokens));
        let length = embedding.iter().map(|value| value * value).sum::<f32>().sqrt();
        Ok(embedding.into_iter().map(|value| value / length.max(f32::MIN_POSITIVE)).collect())
    }

    /// `[1, dim]` of tokens, of which the last is the end of the text.
    fn forward(&self, tokens: &[u16]) -> Tensor<2> {
        let (count, width) = (tokens.len(), self.width);
        let device = self.positions.device();
        let rows: Vec<f32> = tokens
            .iter()
            .flat_map(|token| &self.words[usize::from(*token) * width..][..width])
            .copied()
            .collect();
        let words = Tensor::<2>::from_data(TensorData::new(rows, [count, width]), &device);
        let mut x = words + self.positions.clone().narrow(0, 0, count);
        // A word sees those before it.
        let seen = (0..count * count).map(|at| if at % count > at / count { NEVER } else { 0.0 });
        let seen = TensorData::new(seen.collect::<Vec<f32>>(), [1, count, count]);
        let seen = Tensor::<3>::from_data(seen, &device);
        let (heads, head) = (self.description.heads, width / self.description.heads);
        for Block { norms, attention: [query, key, value, output], mlp } in &self.blocks {
            let y = norms[0].forward(x.clone());
            let apart = |layer: &Layer| -> Tensor<3> {
                layer.forward(y.clone()).reshape([count, heads, head]).swap_dims(0, 1)
            };
            let scores = apart(query).matmul(apart(key).swap_dims(1, 2)) / (head as f64).sqrt();
            let mean = activation::softmax(scores + seen.clone(), 2).matmul(apart(value));
            x = x + output.forward(mean.swap_dims(0, 1).reshape([count, width]));
            let y =
                self.description.activation.forward(mlp[0].forward(norms[1].forward(x.clone())));
            x = x + mlp[1].forward(y);
        }
        self.norm.forward(x.narrow(0, count - 1, 1)).matmul(self.projection.clone())
    }
}

impl std::fmt::Debug for TextTower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextTower").field("description", &self.description).finish_non_exhaustive()
    }
}
