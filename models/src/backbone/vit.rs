//! Vision transformers: patches become tokens, which attend to each other.
//!
//! Sources: "An Image is Worth 16x16 Words", <https://arxiv.org/abs/2010.11929>; `CLIP`,
//! <https://arxiv.org/abs/2103.00020>; `SigLIP`, <https://arxiv.org/abs/2303.15343>; `DINOv2`,
//! <https://arxiv.org/abs/2304.07193>, with registers <https://arxiv.org/abs/2309.16588>; `DINOv3`,
//! <https://arxiv.org/abs/2508.10104>.
//! Agrees with timm 1.0 `vision_transformer.py` and with `transformers`' `CLIPVisionModel`, `SiglipVisionModel`,
//! `Dinov2Model`, `Dinov2WithRegistersModel` and `DINOv3ViTModel`.
//! Differences: queries, keys and values are three layers, of which those without a bias get one of zeros; the layer
//! scale is part of the layer before it, into which import folds it. No stochastic depth, no noise on `DINOv3`'s
//! positions.

use serde::{Deserialize, Serialize};

#[cfg(feature = "tensors")]
use crate::layers::Eager;
use crate::layers::{
    Activation, Conv, ConvBn, ConvShape, Flow, GlobalPool, Grid, LayerNorm, Padding, Resampling,
    Rotary, Tokens,
};
use crate::limits::{LimitError, MAX_BLOCKS, MAX_WIDTH, within};
use crate::values::{Device, Module, Param, Tensor, normal};

/// Pixels of a patch's side.
const PATCHES: std::ops::RangeInclusive<usize> = 1..=64;
/// Channels of a token.
const WIDTHS: std::ops::RangeInclusive<usize> = 4..=4096;
/// Channels of a head: as many as a workgroup of the shaders adds up at once.
const HEADS: std::ops::RangeInclusive<usize> = 4..=256;
/// Registers.
const REGISTERS: std::ops::RangeInclusive<usize> = 0..=64;
/// Places of a side of the table of positions.
const PLACES: std::ops::RangeInclusive<usize> = 1..=256;
/// Most patches of an image: each looks at all others. `DINOv2` has 1,369 at its largest.
const MOST_PATCHES: usize = 16_384;
/// What may be added to a variance.
const EPSILONS: std::ops::RangeInclusive<f64> = 1e-12..=1e-1;
/// Ratios of the shortest and the longest wave.
const BASES: std::ops::RangeInclusive<f64> = 1.0..=1e6;

/// Deviation of fresh weights.
const DEVIATION: f64 = 0.02;

/// Between the two layers behind attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Between {
    /// [`Activation::Gelu`].
    #[default]
    Gelu,
    /// [`Activation::QuickGelu`], in `OpenAI`'s CLIP.
    QuickGelu,
    /// [`Activation::GeluTanh`], in `SigLIP`.
    GeluTanh,
    /// [`Activation::Silu`] of a third layer, times the first, in the largest of DINO.
    SwiGlu,
}

impl Between {
    /// Of the layer that widens, or of the one beside it.
    pub const fn activation(self) -> Activation {
        match self {
            Self::Gelu => Activation::Gelu,
            Self::QuickGelu => Activation::QuickGelu,
            Self::GeluTanh => Activation::GeluTanh,
            Self::SwiGlu => Activation::Silu,
        }
    }
}

/// How the network knows where a patch lies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Positions {
    /// A table that is added to the tokens. For images of another size it is interpolated.
    Learned {
        /// Its lines: the height of images in training over the patch's side.
        rows: usize,
        /// Places of a line.
        columns: usize,
        /// Whether it begins with one for the class token.
        #[serde(default)]
        has_class: bool,
        /// How it is interpolated.
        #[serde(default)]
        resampling: Resampling,
    },
    /// Queries and keys are rotated.
    Rotary {
        /// The ratio of the shortest and the longest wave; 100 in `DINOv3`.
        base: f64,
    },
}

/// How the tokens become a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenPool {
    /// The normalized class token.
    #[default]
    Class,
    /// The mean of all patches, normalized behind it.
    Mean,
    /// The mean of all normalized patches.
    MeanOfNormalized,
    /// Attention of a learned probe to all normalized tokens, in `SigLIP`.
    Attention,
}

/// Configuration of [`Vit`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Pixels of a patch's side.
    pub patch: usize,
    /// Channels of a token.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Heads of attention, which share the channels equally.
    pub heads: usize,
    /// Channels between the two layers behind attention.
    pub hidden: usize,
    /// What lies between them.
    #[serde(default)]
    pub between: Between,
    /// Whether a token of its own stands for the image.
    #[serde(default)]
    pub has_class: bool,
    /// Tokens that stand for nothing.
    #[serde(default)]
    pub registers: usize,
    /// How a patch is placed.
    pub positions: Positions,
    /// Whether tokens are normalized before the first block, in CLIP.
    #[serde(default)]
    pub normalizes_first: bool,
    /// Added to a variance before its square root.
    pub epsilon: f64,
    /// How the tokens become a vector.
    #[serde(default)]
    pub pool: TokenPool,
    /// Values of the layer behind that, in CLIP.
    #[serde(default)]
    pub projection: Option<usize>,
    /// The deployed form, which is the same: it has no normalization that could be folded.
    #[serde(default)]
    pub fused: bool,
}

impl VitConfig {
    /// timm's `vit_small_patch16_224` by another patch, with positions for images of this side.
    pub const fn small(patch: usize, side: usize) -> Self {
        Self {
            patch,
            width: 384,
            depth: 12,
            heads: 6,
            hidden: 4 * 384,
            between: Between::Gelu,
            has_class: true,
            registers: 0,
            positions: Positions::Learned {
                rows: side / patch,
                columns: side / patch,
                has_class: true,
                resampling: Resampling::Antialiased,
            },
            normalizes_first: false,
            epsilon: 1e-6,
            pool: TokenPool::Class,
            projection: None,
            fused: false,
        }
    }

    /// Twice as wide: timm's `vit_base_patch16_224`.
    pub const fn base(patch: usize, side: usize) -> Self {
        Self { width: 768, heads: 12, hidden: 4 * 768, ..Self::small(patch, side) }
    }

    /// Width of the pooled features.
    pub const fn features(&self) -> usize {
        match self.projection {
            Some(values) => values,
            None => self.width,
        }
    }

    /// Channels of the three feature maps, all of them the last block's: twice as large as the grid of patches, as large
    /// and half as large.
    pub const fn feature_channels(&self) -> [usize; 3] {
        [self.width; 3]
    }

    /// Whether a network can be made of it.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check(&self) -> Result<(), LimitError> {
        within("patch", self.patch, &PATCHES)?;
        within("width", self.width, &WIDTHS)?;
        within("depth", self.depth, &(1..=MAX_BLOCKS))?;
        within("hidden", self.hidden, &(1..=MAX_WIDTH))?;
        within("registers", self.registers, &REGISTERS)?;
        within("epsilon", self.epsilon, &EPSILONS)?;
        self.projection.map_or(Ok(()), |values| within("projection", values, &(1..=MAX_WIDTH)))?;
        let (step, has_position) = match self.positions {
            Positions::Rotary { base } => {
                within("positions.base", base, &BASES)?;
                (8, false)
            }
            Positions::Learned { rows, columns, has_class, .. } => {
                within("positions.rows", rows, &PLACES)?;
                within("positions.columns", columns, &PLACES)?;
                (4, has_class)
            }
        };
        let head = self.width.checked_div(self.heads).unwrap_or_default();
        if head * self.heads != self.width || !HEADS.contains(&head) || !head.is_multiple_of(step) {
            let allowed = format!(
                "{} channels a token are shared by heads of a multiple of {step} channels, up to {} each",
                self.width,
                HEADS.end()
            );
            return Err(LimitError::new("heads", self.heads, allowed));
        }
        if !self.has_class && (has_position || self.pool == TokenPool::Class) {
            let allowed = "a position or a pool of the class token needs one: has_class = true";
            return Err(LimitError::new("has_class", false, allowed));
        }
        Ok(())
    }

    /// Whether images of this height and width can be given to it.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check_input(&self, [height, width]: [u32; 2]) -> Result<(), LimitError> {
        let sides = [height, width].map(|side| side as usize / self.patch.max(1));
        let patches = sides[0] * sides[1];
        if (1..=MOST_PATCHES).contains(&patches) {
            return Ok(());
        }
        let allowed =
            format!("images have from 1 to {MOST_PATCHES} patches of {} pixels", self.patch);
        Err(LimitError::new("width", width, allowed))
    }

    fn grid(&self) -> Option<Grid> {
        match self.positions {
            Positions::Learned { rows, columns, has_class, resampling } => {
                Some(Grid { rows, columns, has_class, resampling })
            }
            Positions::Rotary { .. } => None,
        }
    }

    /// A freshly initialized network.
    pub fn init(&self, device: &Device) -> Vit {
        let Self { patch, width, hidden, between, .. } = *self;
        let norm = || LayerNorm::new(width, self.epsilon, device);
        let layer = |from: usize, to: usize| {
            Conv::with_deviation(ConvShape::pointwise(from, to), DEVIATION, true, device)
        };
        let attention = || Attention {
            query: layer(width, width),
            key: layer(width, width),
            value: layer(width, width),
            output: layer(width, width),
        };
        let mlp = |between: Between| Mlp {
            gate: (between == Between::SwiGlu).then(|| layer(width, hidden)),
            widen: layer(width, hidden),
            narrow: layer(hidden, width),
            activation: between.activation(),
        };
        let block = || Block {
            norm: norm(),
            attention: attention(),
            second_norm: norm(),
            mlp: mlp(between),
        };
        let tokens = Tokens::new(width, self.has_class, self.registers, self.grid(), device);
        let rotary = match self.positions {
            Positions::Rotary { base } => {
                Some(Rotary { head: width / self.heads.max(1), base, before: tokens.before() })
            }
            Positions::Learned { .. } => None,
        };
        let patches = ConvShape::dense(3, width, patch, patch);
        let probe = || AttentionPool {
            probe: normal([1, width], DEVIATION, device),
            attention: attention(),
            norm: norm(),
            mlp: mlp(between),
        };
        let project = |values: usize| {
            let shape = ConvShape::pointwise(width, values);
            Conv::with_deviation(shape, DEVIATION, false, device)
        };
        Vit {
            patches: ConvBn::new(patches, Activation::Identity, true, device),
            tokens,
            first_norm: self.normalizes_first.then(norm),
            blocks: (0..self.depth).map(|_| block()).collect(),
            norm: norm(),
            probe: (self.pool == TokenPool::Attention).then(probe),
            projection: self.projection.map(project),
            heads: self.heads,
            rotary,
            pool: self.pool,
        }
    }
}

/// Tokens look at each other.
#[derive(Module, Debug)]
struct Attention {
    query: Conv,
    key: Conv,
    value: Conv,
    output: Conv,
}

impl Attention {
    /// Of the tokens `from` to the tokens `to`, turned by `turn`.
    fn wire<F: Flow>(
        &self,
        flow: &mut F,
        [from, to]: [F::Map; 2],
        heads: usize,
        turn: impl Fn(&mut F, F::Map) -> F::Map,
    ) -> F::Map {
        let mut layer = |x: F::Map, layer| flow.conv(x, layer, Activation::Identity);
        let query = layer(from, &self.query);
        let key = layer(to.clone(), &self.key);
        let value = layer(to, &self.value);
        let (query, key) = (turn(flow, query), turn(flow, key));
        let mean = flow.attend([query, key, value], heads);
        flow.conv(mean, &self.output, Activation::Identity)
    }
}

/// Two layers at every token.
#[derive(Module, Debug)]
struct Mlp {
    gate: Option<Conv>,
    widen: Conv,
    narrow: Conv,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let y = match &self.gate {
            Some(gate) => {
                let gate = flow.conv(x.clone(), gate, self.activation);
                let y = flow.conv(x, &self.widen, Activation::Identity);
                flow.multiply(gate, y)
            }
            None => flow.conv(x, &self.widen, self.activation),
        };
        flow.conv(y, &self.narrow, Activation::Identity)
    }
}

/// Attention and two layers, each behind a normalization and added to what came in.
#[derive(Module, Debug)]
struct Block {
    norm: LayerNorm,
    attention: Attention,
    second_norm: LayerNorm,
    mlp: Mlp,
}

/// A learned probe that looks at all tokens.
#[derive(Module, Debug)]
struct AttentionPool {
    /// `[1, width]`
    probe: Param<Tensor<2>>,
    attention: Attention,
    norm: LayerNorm,
    mlp: Mlp,
}

impl AttentionPool {
    fn wire<F: Flow>(&self, flow: &mut F, x: F::Map, heads: usize) -> F::Map {
        let probe = flow.learned(x.clone(), &self.probe);
        let x = self.attention.wire(flow, [probe, x], heads, |_, x| x);
        let y = flow.layer_norm(x.clone(), &self.norm);
        let y = self.mlp.wire(flow, y);
        flow.add(x, y)
    }
}

/// A vision transformer.
#[derive(Module, Debug)]
pub struct Vit {
    patches: ConvBn,
    tokens: Tokens,
    first_norm: Option<LayerNorm>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    probe: Option<AttentionPool>,
    projection: Option<Conv>,
    heads: usize,
    #[module(skip)]
    rotary: Option<Rotary>,
    #[module(skip)]
    pool: TokenPool,
}

impl Vit {
    /// The last block's tokens, and the map of the patches that they came from.
    fn wire_tokens<F: Flow>(&self, flow: &mut F, x: F::Map) -> [F::Map; 2] {
        let patches = flow.conv_bn(x, &self.patches, Padding::Nothing);
        let mut x = flow.tokens(patches.clone(), &self.tokens);
        if let Some(norm) = &self.first_norm {
            x = flow.layer_norm(x, norm);
        }
        let turn = |flow: &mut F, x: F::Map| match &self.rotary {
            Some(rotary) => flow.rotate(x, rotary, &patches),
            None => x,
        };
        for Block { norm, attention, second_norm, mlp } in &self.blocks {
            let y = flow.layer_norm(x.clone(), norm);
            let y = attention.wire(flow, [y.clone(), y], self.heads, turn);
            x = flow.add(x, y);
            let y = flow.layer_norm(x.clone(), second_norm);
            let y = mlp.wire(flow, y);
            x = flow.add(x, y);
        }
        [x, patches]
    }

    /// Three maps of the last block's normalized patches: twice as high and wide as their grid, as high and wide, and
    /// half.
    ///
    /// Source: "Exploring Plain Vision Transformer Backbones for Object Detection",
    /// <https://arxiv.org/abs/2203.16527>, §3, without the pyramid's own layers.
    pub fn wire_maps<F: Flow>(&self, flow: &mut F, x: F::Map) -> [F::Map; 3] {
        let [x, patches] = self.wire_tokens(flow, x);
        let x = flow.behind(x, self.tokens.before(), &patches);
        let x = flow.layer_norm(x, &self.norm);
        [flow.upsample(x.clone()), x.clone(), flow.average_pool(x)]
    }

    /// Pooled, normalized and projected features.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let [x, patches] = self.wire_tokens(flow, x);
        let before = self.tokens.before();
        let x = match (self.pool, &self.probe) {
            (TokenPool::Class, _) => {
                let x = flow.first(x);
                flow.layer_norm(x, &self.norm)
            }
            (TokenPool::Attention, Some(probe)) => {
                let x = flow.layer_norm(x, &self.norm);
                probe.wire(flow, x, self.heads)
            }
            (TokenPool::MeanOfNormalized, _) => {
                let x = flow.behind(x, before, &patches);
                let x = flow.layer_norm(x, &self.norm);
                flow.global_pool(x, GlobalPool::Average)
            }
            (TokenPool::Mean | TokenPool::Attention, _) => {
                let x = flow.behind(x, before, &patches);
                let x = flow.global_pool(x, GlobalPool::Average);
                flow.layer_norm(x, &self.norm)
            }
        };
        match &self.projection {
            Some(projection) => flow.conv(x, projection, Activation::Identity),
            None => x,
        }
    }

    /// Pooled, normalized and projected features at once.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, 3, height, width]`
    /// - output: `[batch, features]`
    #[cfg(feature = "tensors")]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        Eager::pooled(x, |flow, x| self.wire(flow, x))
    }

    /// The deployed form: the same.
    #[must_use]
    #[cfg(feature = "tensors")]
    pub fn fuse(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_make_no_network_are_named() {
        let small = VitConfig::small(16, 224);
        small.check().unwrap();
        let rotary = Positions::Rotary { base: 100.0 };
        for (key, config) in [
            ("heads", VitConfig { heads: 5, ..small.clone() }),
            ("heads", VitConfig { heads: 0, ..small.clone() }),
            ("heads", VitConfig { heads: 96, positions: rotary, ..small.clone() }),
            ("heads", VitConfig { heads: 1, ..small.clone() }),
            ("has_class", VitConfig { has_class: false, ..small.clone() }),
            ("patch", VitConfig { patch: 0, ..small.clone() }),
            ("epsilon", VitConfig { epsilon: f64::NAN, ..small.clone() }),
            ("projection", VitConfig { projection: Some(0), ..small.clone() }),
        ] {
            assert_eq!(config.check().unwrap_err().key, key, "{config:?}");
        }
    }

    #[test]
    fn images_are_no_smaller_than_a_patch_and_not_too_large_to_look_at() {
        let small = VitConfig::small(16, 224);
        assert!(small.check_input([16, 31]).is_ok() && small.check_input([2048, 2048]).is_ok());
        assert_eq!(small.check_input([15, 224]).unwrap_err().key, "width");
        assert!(VitConfig::small(8, 224).check_input([2048, 2048]).is_err());
    }
}
