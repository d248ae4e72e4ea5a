//! What a network's wiring is written against.
//!
//! A network says once which layer follows which, as a function over a [`Flow`]. `Eager` computes
//! every step at once with Burn's tensors: training, and inference on a GPU. The inference plan of
//! the CPU (`crate::inference::plan`) writes the same steps down, with weights packed and normalization
//! folded, and runs them later for as many pictures as come.

use super::{Affine, BatchNorm, Conv, ConvBn, LayerNorm, Padding, Pick, Pool, Rotary, Tokens};
use crate::activation::Activation;
use crate::values::{Param, Tensor};

/// Added to a squared length before its root, so that an all-zero row stays finite.
pub const LENGTH_EPSILON: f64 = 1e-12;

/// Under the root of [`Flow::aligned_logit`]'s product; the reference's value.
pub const SCORE_EPSILON: f64 = 1e-9;

/// [`Flow::aligned_logit`]'s scores stay this far from 1, where the logit ends.
pub const SCORE_MARGIN: f64 = 1e-6;

/// Functions of single values that are no [`Activation`] behind a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// `1 / (1 + e^{−x})`, in PP-LCNetV2 (whose reference calls the attribute hard-sigmoid).
    Sigmoid,
    /// `clip(x / 6 + 1/2, 0, 1)`, in PP-LCNet.
    HardSigmoid,
    /// The hyperbolic tangent, of necks that make binary codes.
    Tanh,
}

/// How the last map becomes a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GlobalPool {
    /// The mean.
    #[default]
    Average,
    /// The maximum.
    Max,
}

/// The steps that networks consist of.
///
/// A map is `height × width` pixels of `channels` values each, for every picture of the batch; a
/// vector is a map of one pixel.
pub trait Flow {
    /// An activation map.
    type Map: Clone;

    /// Convolution, normalization (where the layer still has one) and activation.
    fn conv_bn(&mut self, x: Self::Map, layer: &ConvBn, padding: Padding) -> Self::Map;

    /// Convolution and activation, padded evenly.
    fn conv(&mut self, x: Self::Map, layer: &Conv, activation: Activation) -> Self::Map;

    /// Normalization alone.
    fn batch_norm(&mut self, x: Self::Map, layer: &BatchNorm) -> Self::Map;

    /// Every pixel's channels brought to mean 0 and variance 1, then scaled and shifted.
    fn layer_norm(&mut self, x: Self::Map, layer: &LayerNorm) -> Self::Map;

    /// `x · weight + bias` at every pixel; the weight is `[channels_in, channels_out]`.
    fn linear(
        &mut self,
        x: Self::Map,
        weight: &Param<Tensor<2>>,
        bias: &Param<Tensor<1>>,
    ) -> Self::Map;

    /// A function of every value.
    fn apply(&mut self, x: Self::Map, function: Gate) -> Self::Map;

    /// An activation with nothing before it.
    fn activate(&mut self, x: Self::Map, activation: Activation) -> Self::Map;

    /// See `downscale_dropout`.
    fn dropout(&mut self, x: Self::Map, probability: f64) -> Self::Map;

    /// Every channel of `x` times its value in `gate`, a map of one pixel.
    fn scale(&mut self, x: Self::Map, gate: Self::Map) -> Self::Map;

    /// Sum of two maps.
    fn add(&mut self, a: Self::Map, b: Self::Map) -> Self::Map;

    /// `max(a + b, 0)`
    fn add_relu(&mut self, a: Self::Map, b: Self::Map) -> Self::Map;

    /// The channels of `a`, then those of `b`.
    fn concatenate(&mut self, a: Self::Map, b: Self::Map) -> Self::Map;

    /// Twice as high and wide, every pixel repeated.
    fn upsample(&mut self, x: Self::Map) -> Self::Map;

    /// Largest of 3×3 pixels, stride 2, padded evenly.
    fn max_pool(&mut self, x: Self::Map) -> Self::Map;

    /// Mean of 2×2 pixels, stride 2; at an odd border of the pixels that are there.
    fn average_pool(&mut self, x: Self::Map) -> Self::Map;

    /// One pixel from all.
    fn global_pool(&mut self, x: Self::Map, pool: GlobalPool) -> Self::Map;

    /// The logit of `√(σ(class) · σ(alignment) + ε)`, kept below 1.
    ///
    /// `class` has any number of channels, `alignment` one.
    fn aligned_logit(&mut self, class: Self::Map, alignment: Self::Map) -> Self::Map;

    /// Product of two maps, value by value.
    fn multiply(&mut self, a: Self::Map, b: Self::Map) -> Self::Map;

    /// A map as one line: first the layer's own tokens, then all pixels with their positions added.
    fn tokens(&mut self, x: Self::Map, layer: &Tokens) -> Self::Map;

    /// A line of learned pixels, the same for every picture; `x` says how many pictures there are.
    fn learned(&mut self, x: Self::Map, pixels: &Param<Tensor<2>>) -> Self::Map;

    /// The first pixel.
    fn first(&mut self, x: Self::Map) -> Self::Map;

    /// The pixels of a line behind the first `before`, with the height and width of `like`.
    fn behind(&mut self, x: Self::Map, before: usize, like: &Self::Map) -> Self::Map;

    /// Turns the pixels of a line by where they lie in a map of the height and width of `like`.
    fn rotate(&mut self, x: Self::Map, rotary: &Rotary, like: &Self::Map) -> Self::Map;

    /// Of each query the mean of the values, weighted by the softmax of its products with the keys over the root of
    /// their length; each of the heads has an equal share of the channels.
    ///
    /// The maps are queries, keys and values, of which the last two have the same pixels.
    fn attend(&mut self, maps: [Self::Map; 3], heads: usize) -> Self::Map;

    /// Brings every pixel's vector to unit length; zero vectors stay zero.
    fn unit_length(&mut self, x: Self::Map) -> Self::Map;

    // Of networks that came as graphs.

    /// `x · scale + shift`, one of each a channel.
    fn affine(&mut self, x: Self::Map, layer: &Affine) -> Self::Map;

    /// One pixel from each window.
    fn pool(&mut self, x: Self::Map, pool: &Pool) -> Self::Map;

    /// Some of the channels, or all in another order.
    fn pick(&mut self, x: Self::Map, pick: Pick) -> Self::Map;

    /// Every pixel repeated so many times down and to the right.
    fn enlarge(&mut self, x: Self::Map, factors: [usize; 2]) -> Self::Map;
}
