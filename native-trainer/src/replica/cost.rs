//! How much memory a run may take on a worker, and so how much a trainer may send.
//!
//! What is asked for is held against the worker's memory before any of it is taken: the weights when the run
//! begins, the pictures of a step by the maps that they make in the network. So, whoever reaches a worker and
//! whatever he sends, it takes no more than its `--memory` beyond what it has at its start, and for
//! strangers who do not begin a run (`door.rs`) some 30 MB together.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use models::inference::Network;
use models::layers::{
    Affine, BatchNorm, Conv, ConvBn, Flow, Gate, GlobalPool, LayerNorm, Padding, Pick, Pool,
    Rotary, Tokens,
};
use models::operators::Activation;
use models::preprocess::Preprocess;

use super::error::LinkError;
pub(super) use super::error::MAX_REPLICAS;
use super::message::{MAX_WEIGHTS_HEAD, PICTURE_HEAD, Room};

/// Most pictures of a message.
const MAX_PICTURES: u64 = 1 << 16;

/// Bytes that a weight takes at most: as it came, in the network, in the one that is evaluated, packed for the
/// processor, its gradient, and that on its way back.
const WEIGHT: u64 = 48;
/// Bytes that a value of a picture takes at most: as it came, as a number, as one of the batch.
const PIXEL: u64 = 9;
/// Bytes that a value of a map takes at most in a step: itself, what its gradient is made of, its gradient.
const TRAINED: u64 = 10;
/// Bytes that a value of a map takes at most in an evaluation.
const EVALUATED: u64 = 4;
/// Pictures that are evaluated at once, by threads or as a batch of a graphics device.
const EVALUATED_AT_ONCE: u64 = 32;
const MEGABYTE: u64 = 1_000_000;

/// What a run may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    memory: u64,
    weights: u64,
}

impl Budget {
    /// For a network of which nothing is made yet.
    pub(super) fn of(network: &impl Module, memory: u64) -> Result<Self, LinkError> {
        let mut count = Count(0);
        network.visit(&mut count);
        let budget = Self { memory, weights: count.0 };
        budget.left("a network of this size")?;
        Ok(budget)
    }

    /// For weights.
    pub(super) fn weights(self) -> Room {
        Room { blobs: 1, bytes: self.weights.saturating_mul(4).saturating_add(MAX_WEIGHTS_HEAD) }
    }

    /// For a step: weights, and as many pictures as there is memory for.
    pub(super) fn step(
        self,
        network: &impl Network,
        preprocess: &Preprocess,
    ) -> Result<Room, LinkError> {
        let (input, maps) = values(network, preprocess);
        let each = input.saturating_mul(PIXEL).saturating_add(maps.saturating_mul(TRAINED));
        let pictures = self.pictures("a step of one picture", 0, each)?;
        let (room, weights) = (pictures_of(pictures, input), self.weights());
        Ok(Room { blobs: room.blobs + 1, bytes: room.bytes.saturating_add(weights.bytes) })
    }

    /// For pictures to evaluate.
    pub(super) fn run(
        self,
        network: &impl Network,
        preprocess: &Preprocess,
    ) -> Result<Room, LinkError> {
        let (input, maps) = values(network, preprocess);
        let at_once = maps.saturating_mul(EVALUATED * EVALUATED_AT_ONCE);
        let pictures = self.pictures("an evaluation", at_once, input.saturating_mul(PIXEL))?;
        Ok(pictures_of(pictures, input))
    }

    /// What the weights leave.
    fn left(self, what: &'static str) -> Result<u64, LinkError> {
        let weights = self.weights.saturating_mul(WEIGHT);
        self.memory.checked_sub(weights).ok_or_else(|| self.too_big(what, weights))
    }

    /// How many pictures there is memory for, at least one.
    fn pictures(self, what: &'static str, fixed: u64, each: u64) -> Result<u64, LinkError> {
        let pictures = self.left(what)?.saturating_sub(fixed) / each.max(1);
        if pictures == 0 {
            let needed = self.weights.saturating_mul(WEIGHT).saturating_add(fixed);
            return Err(self.too_big(what, needed.saturating_add(each)));
        }
        Ok(pictures.min(MAX_PICTURES))
    }

    fn too_big(self, what: &'static str, needed: u64) -> LinkError {
        let (needed, most) = (needed.div_ceil(MEGABYTE), self.memory / MEGABYTE);
        LinkError::TooBig { what, needed, most }
    }
}

fn pictures_of(pictures: u64, input: u64) -> Room {
    let each = input.saturating_add(PICTURE_HEAD as u64);
    Room { blobs: pictures, bytes: pictures.saturating_mul(each) }
}

/// Values of a picture at the input's size, and of the maps that it makes.
fn values(network: &impl Network, preprocess: &Preprocess) -> (u64, u64) {
    let input = [preprocess.height, preprocess.width, 3].map(u64::from);
    let mut maps = Maps(0);
    network.wire(&mut maps, input);
    (values_of(input), maps.0)
}

fn values_of(map: [u64; 3]) -> u64 {
    map.into_iter().fold(1, u64::saturating_mul)
}

/// Counts weights that are not made yet.
struct Count(u64);

impl ModuleVisitor for Count {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let values = param.lazy_shape().iter().fold(1_u64, |a, b| a.saturating_mul(*b as u64));
        self.0 = self.0.saturating_add(values);
    }
}

/// A [`Flow`] that computes nothing and counts the values of all maps; its own maps are their height, width
/// and channels.
struct Maps(u64);

impl Maps {
    fn made(&mut self, map: [u64; 3]) -> [u64; 3] {
        self.0 = self.0.saturating_add(values_of(map));
        map
    }

    fn convolved(&mut self, [height, width, _]: [u64; 3], layer: &Conv) -> [u64; 3] {
        let (stride, shape) = (layer.stride() as u64, layer.weight.lazy_shape());
        let channels = shape.first().map_or(0, |channels| *channels as u64);
        self.made([height.div_ceil(stride), width.div_ceil(stride), channels])
    }

    fn halved(&mut self, [height, width, channels]: [u64; 3]) -> [u64; 3] {
        self.made([height.div_ceil(2), width.div_ceil(2), channels])
    }
}

impl Flow for Maps {
    type Map = [u64; 3];

    fn conv_bn(&mut self, x: [u64; 3], layer: &ConvBn, padding: Padding) -> [u64; 3] {
        let x = match padding {
            Padding::Sides([above, left, below, right]) => {
                [x[0] + (above + below) as u64, x[1] + (left + right) as u64, x[2]]
            }
            _ => x,
        };
        let map = self.convolved(x, &layer.conv);
        if layer.bn.is_some() { self.made(map) } else { map }
    }

    fn conv(&mut self, x: [u64; 3], layer: &Conv, _: Activation) -> [u64; 3] {
        let map = self.convolved(x, layer);
        self.made(map)
    }

    fn batch_norm(&mut self, x: [u64; 3], _: &BatchNorm) -> [u64; 3] {
        self.made(x)
    }

    fn layer_norm(&mut self, x: [u64; 3], _: &LayerNorm) -> [u64; 3] {
        self.made(x)
    }

    fn linear(
        &mut self,
        [height, width, _]: [u64; 3],
        weight: &Param<Tensor<2>>,
        _: &Param<Tensor<1>>,
    ) -> [u64; 3] {
        let channels = weight.lazy_shape().last().map_or(0, |channels| *channels as u64);
        self.made([height, width, channels])
    }

    fn apply(&mut self, x: [u64; 3], _: Gate) -> [u64; 3] {
        self.made(x)
    }

    fn activate(&mut self, x: [u64; 3], _: Activation) -> [u64; 3] {
        self.made(x)
    }

    fn dropout(&mut self, x: [u64; 3], _: f64) -> [u64; 3] {
        self.made(x)
    }

    fn scale(&mut self, x: [u64; 3], _: [u64; 3]) -> [u64; 3] {
        self.made(x)
    }

    fn add(&mut self, a: [u64; 3], _: [u64; 3]) -> [u64; 3] {
        self.made(a)
    }

    fn add_relu(&mut self, a: [u64; 3], _: [u64; 3]) -> [u64; 3] {
        self.made(a)
    }

    fn concatenate(&mut self, [height, width, a]: [u64; 3], [_, _, b]: [u64; 3]) -> [u64; 3] {
        self.made([height, width, a.saturating_add(b)])
    }

    fn upsample(&mut self, [height, width, channels]: [u64; 3]) -> [u64; 3] {
        self.made([2 * height, 2 * width, channels])
    }

    fn max_pool(&mut self, x: [u64; 3]) -> [u64; 3] {
        self.halved(x)
    }

    fn average_pool(&mut self, x: [u64; 3]) -> [u64; 3] {
        self.halved(x)
    }

    fn global_pool(&mut self, [_, _, channels]: [u64; 3], _: GlobalPool) -> [u64; 3] {
        self.made([1, 1, channels])
    }

    fn aligned_logit(&mut self, class: [u64; 3], _: [u64; 3]) -> [u64; 3] {
        self.made(class)
    }

    fn multiply(&mut self, a: [u64; 3], _: [u64; 3]) -> [u64; 3] {
        self.made(a)
    }

    fn tokens(&mut self, [height, width, channels]: [u64; 3], layer: &Tokens) -> [u64; 3] {
        let learned = [&layer.class, &layer.registers].into_iter().flatten();
        let before: u64 = learned.map(|tokens| tokens.lazy_shape()[0] as u64).sum();
        self.made([1, height.saturating_mul(width).saturating_add(before), channels])
    }

    fn learned(&mut self, _: [u64; 3], pixels: &Param<Tensor<2>>) -> [u64; 3] {
        let shape = pixels.lazy_shape();
        self.made([1, shape[0] as u64, shape[1] as u64])
    }

    fn first(&mut self, [_, _, channels]: [u64; 3]) -> [u64; 3] {
        self.made([1, 1, channels])
    }

    fn behind(
        &mut self,
        [_, _, channels]: [u64; 3],
        _: usize,
        [height, width, _]: &[u64; 3],
    ) -> [u64; 3] {
        self.made([*height, *width, channels])
    }

    fn rotate(&mut self, x: [u64; 3], _: &Rotary, _: &[u64; 3]) -> [u64; 3] {
        self.made(x)
    }

    fn attend(&mut self, [queries, keys, values]: [[u64; 3]; 3], heads: usize) -> [u64; 3] {
        let pixels = |[height, width, _]: [u64; 3]| height.saturating_mul(width);
        // Products and their softmax.
        let scores = [pixels(queries), pixels(keys), heads as u64];
        self.made(scores);
        self.made(scores);
        self.made([queries[0], queries[1], values[2]])
    }

    fn unit_length(&mut self, x: [u64; 3]) -> [u64; 3] {
        self.made(x)
    }

    fn affine(&mut self, x: [u64; 3], _: &Affine) -> [u64; 3] {
        self.made(x)
    }

    fn pool(&mut self, [height, width, channels]: [u64; 3], pool: &Pool) -> [u64; 3] {
        let sides = [height, width].map(|side| usize::try_from(side).unwrap_or(usize::MAX >> 8));
        let [rows, columns] = pool.windows(sides).map(|windows| windows as u64);
        self.made([rows, columns, channels])
    }

    fn pick(&mut self, [height, width, _]: [u64; 3], pick: Pick) -> [u64; 3] {
        self.made([height, width, pick.count as u64])
    }

    fn enlarge(
        &mut self,
        [height, width, channels]: [u64; 3],
        [down, right]: [usize; 2],
    ) -> [u64; 3] {
        self.made([
            height.saturating_mul(down as u64),
            width.saturating_mul(right as u64),
            channels,
        ])
    }
}
