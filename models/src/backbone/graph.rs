//! A network as a list of steps: what an imported graph becomes.
//!
//! Each step names its inputs by number; weights lie in lists, in the order of the steps that use them.
//! [`GraphConfig::check`] holds a list against limits, so that a file cannot ask for what no network has.

use serde::{Deserialize, Serialize};

use crate::layers::{
    Activation, Affine, ConvBn, ConvShape, Flow, Gate, GlobalPool, LayerNorm, Padding, Pick, Pool,
};
use crate::limits::{LimitError, MAX_WIDTH, within};
use crate::values::{Device, Module, Param, Tensor, constant, normal};

/// Most steps of a network: `EfficientNet`-B7 has a thousand.
pub const MAX_NODES: usize = 4096;
/// Widest kernel and longest stride: a whole map of most networks fits into one.
const KERNELS: std::ops::RangeInclusive<usize> = 1..=64;
/// Most weights of a layer: `VGG`'s largest has a hundred million.
const MAX_WEIGHTS: u64 = 1 << 28;
/// Most values of a map, half a gigabyte of them.
const MAX_VALUES: u64 = 1 << 27;
/// Numbers that are added to a variance or to a squared length.
const EPSILONS: std::ops::RangeInclusive<f64> = 1e-12..=1.0;

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GraphStep {
    /// Convolution with bias and activation.
    Conv(GraphConv),
    /// A product at every pixel, to so many channels.
    Linear(usize),
    /// A factor and a summand a channel.
    Affine,
    /// Every pixel normalized over its channels; the number is added to the variance.
    LayerNorm(f64),
    /// An activation with nothing before it.
    Activate(Activation),
    /// A function of every value.
    Gate(Gate),
    /// Sum of two maps.
    Add,
    /// `max(a + b, 0)`
    AddRelu,
    /// Product of two maps.
    Multiply,
    /// Every channel of the first map times its value in the second, of one pixel.
    Scale,
    /// The channels of the first map, then those of the second.
    Concatenate,
    /// Windows of a map, pooled.
    Pool(Pool),
    /// One pixel from all.
    GlobalPool(GlobalPool),
    /// Some channels, or all in another order.
    Pick(Pick),
    /// Every pixel repeated so many times down and to the right.
    Enlarge([usize; 2]),
    /// Every pixel's vector brought to unit length.
    UnitLength,
}

/// A convolution's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphConv {
    /// Channels that come out.
    pub channels: usize,
    /// Side of the square kernel.
    pub kernel: usize,
    /// Step in both directions.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub stride: usize,
    /// Groups of channels that see nothing of each other.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub groups: usize,
    /// Zeros beyond the border: above, left, below, right.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub padding: [usize; 4],
    /// What is applied behind it.
    #[serde(default = "identity", skip_serializing_if = "is_identity")]
    pub activation: Activation,
}

fn one() -> usize {
    1
}

fn identity() -> Activation {
    Activation::Identity
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_one(value: &usize) -> bool {
    *value == 1
}

fn is_nothing(padding: &[usize; 4]) -> bool {
    *padding == [0; 4]
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_identity(activation: &Activation) -> bool {
    *activation == Activation::Identity
}

/// A step with its inputs: 0 is the image, `n` what the step before the `n + 1`st makes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphNode {
    /// What it does.
    pub step: GraphStep,
    /// What with.
    pub inputs: Vec<usize>,
}

/// Configuration of [`Graph`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphConfig {
    /// The steps, each behind those that it needs; the last one makes the features.
    pub nodes: Vec<GraphNode>,
    /// The deployed form, which is the same: normalization was folded when the graph was imported.
    #[serde(default)]
    pub fused: bool,
}

impl GraphStep {
    /// How many maps it takes.
    pub const fn arity(&self) -> usize {
        match self {
            Self::Add | Self::AddRelu | Self::Multiply | Self::Scale | Self::Concatenate => 2,
            _ => 1,
        }
    }

    /// Channels that come out, of those that go in.
    fn channels(&self, inputs: &[usize]) -> Result<usize, LimitError> {
        let first = inputs[0];
        let equal = |key: &str| {
            let allowed = format!("the other map has {first} channels");
            let same = inputs.iter().all(|channels| *channels == first);
            if same { Ok(first) } else { Err(LimitError::new(key, inputs[1], allowed)) }
        };
        match self {
            Self::Conv(conv) => conv.check(first),
            Self::Linear(channels) => {
                within("linear", *channels, &(1..=MAX_WIDTH))?;
                within("weights", first as u64 * *channels as u64, &(1..=MAX_WEIGHTS))?;
                Ok(*channels)
            }
            Self::LayerNorm(epsilon) => within("layer_norm", *epsilon, &EPSILONS).map(|()| first),
            Self::Concatenate => {
                let all = inputs.iter().sum();
                within("concatenate", all, &(1..=MAX_WIDTH)).map(|()| all)
            }
            Self::Add | Self::AddRelu | Self::Multiply => equal("add"),
            Self::Scale => equal("scale"),
            Self::Pool(pool) => check_pool(pool).map(|()| first),
            Self::Pick(pick) => check_pick(*pick, first),
            Self::Enlarge(factors) => {
                factors.iter().try_for_each(|factor| within("enlarge", *factor, &(1..=4096)))?;
                Ok(first)
            }
            Self::Affine
            | Self::Activate(_)
            | Self::Gate(_)
            | Self::GlobalPool(_)
            | Self::UnitLength => Ok(first),
        }
    }

    /// Rows and columns that come out, of those that go in.
    fn sides(&self, inputs: &[[usize; 2]]) -> Result<[usize; 2], LimitError> {
        let first = inputs[0];
        let [height, width] = first;
        let pixels = |[height, width]: [usize; 2]| format!("{height} × {width} pixels");
        match self {
            Self::Conv(conv) => {
                let sides: [usize; 2] = std::array::from_fn(|axis| {
                    let padded = first[axis] + conv.padding[axis] + conv.padding[axis + 2];
                    padded.checked_sub(conv.kernel).map_or(0, |room| room / conv.stride + 1)
                });
                Ok(sides)
            }
            Self::Pool(pool) => Ok(pool.windows(first)),
            Self::GlobalPool(_) => Ok([1, 1]),
            Self::Enlarge([down, right]) => {
                Ok([height.saturating_mul(*down), width.saturating_mul(*right)])
            }
            Self::Scale if inputs[1] != [1, 1] => {
                Err(LimitError::new("scale", pixels(inputs[1]), "a gate has one pixel"))
            }
            Self::Add | Self::AddRelu | Self::Multiply | Self::Concatenate
                if inputs[1] != first =>
            {
                let allowed = format!("the other map has {}", pixels(first));
                Err(LimitError::new("inputs", pixels(inputs[1]), allowed))
            }
            _ => Ok(first),
        }
    }
}

impl GraphConv {
    /// Channels that come out, if such a layer can be made for so many that go in.
    fn check(&self, channels_in: usize) -> Result<usize, LimitError> {
        within("channels", self.channels, &(1..=MAX_WIDTH))?;
        within("kernel", self.kernel, &KERNELS)?;
        within("stride", self.stride, &KERNELS)?;
        within("groups", self.groups, &(1..=channels_in))?;
        if !channels_in.is_multiple_of(self.groups) || !self.channels.is_multiple_of(self.groups) {
            let allowed = format!("it divides {channels_in} and {}", self.channels);
            return Err(LimitError::new("groups", self.groups, allowed));
        }
        self.padding
            .iter()
            .try_for_each(|side| within("padding", *side, &(0..=self.kernel - 1)))?;
        // Products and their gradients are made for odd kernels, and for patches.
        if self.kernel.is_multiple_of(2) && !self.is_patches() {
            let allowed = "it is odd, or, without groups, as long as the stride";
            return Err(LimitError::new("kernel", self.kernel, allowed));
        }
        // Groups are run as one dense layer where each has more than one channel.
        let taps = (self.kernel * self.kernel) as u64;
        let is_depthwise = self.groups == channels_in && self.channels == channels_in;
        let seen = if is_depthwise { 1 } else { channels_in as u64 };
        within("weights", taps * seen * self.channels as u64, &(1..=MAX_WEIGHTS))?;
        Ok(self.channels)
    }

    /// Whether its windows lie beside each other.
    const fn is_patches(&self) -> bool {
        self.kernel == self.stride && self.groups == 1
    }

    fn shape(&self, channels_in: usize) -> ConvShape {
        ConvShape::grouped(channels_in, self.channels, self.kernel, self.stride, self.groups)
    }
}

fn check_pool(pool: &Pool) -> Result<(), LimitError> {
    for side in pool.kernel.iter().chain(&pool.stride) {
        within("pool", *side, &(1..=4096))?;
    }
    for (index, side) in pool.padding.iter().enumerate() {
        within("padding", *side, &(0..=pool.kernel[index % 2] - 1))?;
    }
    Ok(())
}

fn check_pick(pick: Pick, channels: usize) -> Result<usize, LimitError> {
    let Pick { start, count, groups } = pick;
    within("start", start, &(0..=channels))?;
    within("count", count, &(1..=channels.saturating_sub(start).max(1)))?;
    within("groups", groups, &(1..=count))?;
    if start + count > channels || !count.is_multiple_of(groups) {
        let allowed = format!("they are among {channels} channels, and the groups divide them");
        return Err(LimitError::new("count", count, allowed));
    }
    Ok(count)
}

impl GraphConfig {
    /// Width of the features.
    pub fn features(&self) -> usize {
        self.channels().ok().and_then(|channels| channels.last().copied()).unwrap_or_default()
    }

    /// Channels of the maps of stride 8, 16 and 32.
    pub fn feature_channels(&self) -> [usize; 3] {
        let channels = self.channels().unwrap_or_default();
        self.maps().map(|value| channels.get(value).copied().unwrap_or_default())
    }

    /// Channels of the image and of what each step makes.
    fn channels(&self) -> Result<Vec<usize>, LimitError> {
        within("nodes", self.nodes.len(), &(1..=MAX_NODES))?;
        let mut all = vec![3];
        for (index, node) in self.nodes.iter().enumerate() {
            let key = |error: LimitError| error.under(&format!("nodes.{index}"));
            let arity = node.step.arity();
            within("inputs", node.inputs.len(), &(arity..=arity)).map_err(key)?;
            let inputs = node.inputs.iter().map(|input| {
                let allowed = format!("the values before it are 0 to {index}");
                let error = || key(LimitError::new("inputs", input, allowed));
                all.get(*input).copied().ok_or_else(error)
            });
            let inputs = inputs.collect::<Result<Vec<usize>, LimitError>>()?;
            all.push(node.step.channels(&inputs).map_err(key)?);
        }
        Ok(all)
    }

    /// The last values of stride 8, 16 and 32; where there is none, the last before it.
    fn maps(&self) -> [usize; 3] {
        // Pixels of the input for one step; nothing behind a pool of all.
        let mut strides: Vec<Option<usize>> = vec![Some(1)];
        for node in &self.nodes {
            let before = node.inputs.first().and_then(|input| strides.get(*input)).copied();
            strides.push(before.flatten().and_then(|stride| match &node.step {
                GraphStep::Conv(conv) => stride.checked_mul(conv.stride),
                GraphStep::Pool(pool) => stride.checked_mul(pool.stride[0]),
                GraphStep::Enlarge([factor, _]) => Some((stride / (*factor).max(1)).max(1)),
                GraphStep::GlobalPool(_) => None,
                _ => Some(stride),
            }));
        }
        [8, 16, 32].map(|wanted| {
            let near = strides.iter().flatten().filter(|stride| **stride <= wanted).max();
            strides.iter().rposition(|stride| stride.as_ref() == near).unwrap_or_default()
        })
    }

    /// Whether a network can be made of it.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the step.
    pub fn check(&self) -> Result<(), LimitError> {
        self.channels().map(drop)
    }

    /// Whether it gives one vector of an image of so many rows and columns.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the step.
    pub fn check_input(&self, sides: [usize; 2]) -> Result<(), LimitError> {
        let channels = self.channels()?;
        let mut all = vec![sides];
        for (index, node) in self.nodes.iter().enumerate() {
            let key = |error: LimitError| error.under(&format!("nodes.{index}"));
            let inputs: Vec<[usize; 2]> = node.inputs.iter().map(|input| all[*input]).collect();
            let made = node.step.sides(&inputs).map_err(key)?;
            let values = made.iter().chain([&channels[index + 1]]);
            let values = values.fold(1_u64, |all, side| all.saturating_mul(*side as u64));
            within("values", values, &(1..=MAX_VALUES)).map_err(key)?;
            all.push(made);
        }
        match all.last() {
            Some([1, 1]) | None => Ok(()),
            Some([height, width]) => {
                let allowed =
                    "the last step makes one; give the input size that the graph was made for";
                Err(LimitError::new("pixels of the features", height * width, allowed))
            }
        }
    }

    /// A freshly initialized network; the configuration has been checked.
    pub fn init(&self, device: &Device) -> Graph {
        let channels = self.channels().unwrap_or_default();
        let mut graph = Graph {
            convs: Vec::new(),
            linears: Vec::new(),
            affines: Vec::new(),
            norms: Vec::new(),
            nodes: self.nodes.clone(),
            maps: self.maps(),
        };
        for node in &self.nodes {
            let before = node.inputs.first().and_then(|input| channels.get(*input));
            let before = before.copied().unwrap_or_default();
            match &node.step {
                GraphStep::Conv(conv) => {
                    let shape = conv.shape(before);
                    graph.convs.push(ConvBn::new(shape, conv.activation, true, device));
                }
                GraphStep::Linear(channels) => {
                    let deviation = (1.0 / before.max(1) as f64).sqrt();
                    graph.linears.push(Linear {
                        weight: normal([before, *channels], deviation, device),
                        bias: constant([*channels], 0.0, device),
                    });
                }
                GraphStep::Affine => graph.affines.push(Affine::new(before, device)),
                GraphStep::LayerNorm(epsilon) => {
                    graph.norms.push(LayerNorm::new(before, *epsilon, device));
                }
                _ => {}
            }
        }
        graph
    }
}

/// A product at every pixel.
#[derive(Module, Debug)]
struct Linear {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

/// A network as a list of steps.
#[derive(Module, Debug)]
pub struct Graph {
    convs: Vec<ConvBn>,
    linears: Vec<Linear>,
    affines: Vec<Affine>,
    norms: Vec<LayerNorm>,
    #[module(skip)]
    nodes: Vec<GraphNode>,
    #[module(skip)]
    maps: [usize; 3],
}

impl Graph {
    /// Takes all steps, and returns the values that are asked for; a map goes when no step needs it any more.
    fn run<F: Flow, const N: usize>(
        &self,
        flow: &mut F,
        x: F::Map,
        wanted: [usize; N],
    ) -> [F::Map; N] {
        let mut last = vec![0; self.nodes.len() + 1];
        for (index, node) in self.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|input| last[*input] = index + 1);
        }
        wanted.iter().for_each(|value| last[*value] = usize::MAX);
        let mut values = vec![Some(x)];
        let (mut convs, mut linears) = (self.convs.iter(), self.linears.iter());
        let (mut affines, mut norms) = (self.affines.iter(), self.norms.iter());
        for (index, node) in self.nodes.iter().enumerate() {
            let input = |at: usize| values[node.inputs[at]].clone().expect(HELD);
            let (a, b) = (input(0), (node.inputs.len() > 1).then(|| input(1)));
            for input in &node.inputs {
                if last[*input] == index + 1 {
                    values[*input] = None;
                }
            }
            let made = match &node.step {
                GraphStep::Conv(conv) => {
                    let padding = match conv.padding {
                        sides if conv.kernel % 2 == 1 && sides == [conv.kernel / 2; 4] => {
                            Padding::Even
                        }
                        [0, 0, 0, 0] if conv.is_patches() => Padding::Nothing,
                        sides => Padding::Sides(sides),
                    };
                    flow.conv_bn(a, convs.next().expect(HELD), padding)
                }
                GraphStep::Linear(_) => {
                    let Linear { weight, bias } = linears.next().expect(HELD);
                    flow.linear(a, weight, bias)
                }
                GraphStep::Affine => flow.affine(a, affines.next().expect(HELD)),
                GraphStep::LayerNorm(_) => flow.layer_norm(a, norms.next().expect(HELD)),
                GraphStep::Activate(activation) => flow.activate(a, *activation),
                GraphStep::Gate(gate) => flow.apply(a, *gate),
                GraphStep::Add => flow.add(a, b.expect(HELD)),
                GraphStep::AddRelu => flow.add_relu(a, b.expect(HELD)),
                GraphStep::Multiply => flow.multiply(a, b.expect(HELD)),
                GraphStep::Scale => flow.scale(a, b.expect(HELD)),
                GraphStep::Concatenate => flow.concatenate(a, b.expect(HELD)),
                GraphStep::Pool(pool) => flow.pool(a, pool),
                GraphStep::GlobalPool(pool) => flow.global_pool(a, *pool),
                GraphStep::Pick(pick) => flow.pick(a, *pick),
                GraphStep::Enlarge(factors) => flow.enlarge(a, *factors),
                GraphStep::UnitLength => flow.unit_length(a),
            };
            // What no step needs is not kept.
            values.push((last[index + 1] > 0).then_some(made));
        }
        wanted.map(|value| values[value].clone().expect(HELD))
    }

    /// Feature maps of stride 8, 16 and 32, as far as the graph has such.
    pub fn wire_maps<F: Flow>(&self, flow: &mut F, x: F::Map) -> [F::Map; 3] {
        self.run(flow, x, self.maps)
    }

    /// What the last step makes.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        let [features] = self.run(flow, x, [self.nodes.len()]);
        features
    }

    /// The deployed form: the same.
    #[must_use]
    #[cfg(feature = "tensors")]
    pub fn fuse(self) -> Self {
        self
    }
}

/// [`GraphConfig::check`] has seen to it.
const HELD: &str = "a checked list of steps";

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a list of steps that a file describes can be made and run with 32 × 32 pixels.
    fn check(nodes: &str) -> Result<(), LimitError> {
        let text = format!(r#"{{"nodes":[{nodes}]}}"#);
        let config: GraphConfig = serde_json::from_str(&text).expect("JSON");
        config.check()?;
        config.check_input([32, 32])
    }

    #[test]
    fn a_list_of_steps_that_cannot_be_run_is_refused_by_its_step() {
        let pooled = r#"{"step":{"global_pool":"average"},"inputs":[0]}"#;
        check(pooled).unwrap();
        let conv = |inside: &str| {
            format!(
                r#"{{"step":{{"conv":{{"channels":4,"kernel":3{inside}}}}},"inputs":[0]}},
                   {{"step":{{"global_pool":"max"}},"inputs":[1]}}"#
            )
        };
        check(&conv("")).unwrap();
        let many = vec![pooled; 4097].join(",");
        let grown =
            |side: usize| format!(r#"{{"step":{{"enlarge":[{side},{side}]}},"inputs":[0]}}"#);
        for (nodes, told) in [
            (String::new(), "nodes is 0; it may be from 1 to 4096"),
            (many, "nodes is 4097"),
            (r#"{"step":"add","inputs":[0]}"#.to_owned(), "nodes.0.inputs is 1"),
            (r#"{"step":"affine","inputs":[1]}"#.to_owned(), "nodes.0.inputs is 1; the values before it"),
            (r#"{"step":"affine","inputs":[0]}"#.to_owned(), "pixels of the features is 1024"),
            (conv(r#","stride":0"#), "nodes.0.stride is 0"),
            (conv(r#","groups":0"#), "nodes.0.groups is 0"),
            (conv(r#","groups":3"#), "nodes.0.groups is 3; it divides 3 and 4"),
            (conv(r#","padding":[0,0,0,3]"#), "nodes.0.padding is 3"),
            (conv("").replace(":3", ":65"), "nodes.0.kernel is 65"),
            (conv("").replace(":3", ":4"), "nodes.0.kernel is 4; it is odd"),
            (conv("").replace(":3", ":33"), "nodes.0.values is 0"),
            (conv("").replace(":4", ":16385"), "nodes.0.channels is 16385"),
            (grown(0), "nodes.0.enlarge is 0"),
            (grown(4096), "nodes.0.values is 51539607552"),
            (r#"{"step":{"linear":0},"inputs":[0]}"#.to_owned(), "nodes.0.linear is 0"),
            (r#"{"step":{"layer_norm":0.0},"inputs":[0]}"#.to_owned(), "nodes.0.layer_norm is 0"),
            (
                r#"{"step":{"pick":{"start":2,"count":2,"groups":1}},"inputs":[0]}"#.to_owned(),
                "nodes.0.count is 2",
            ),
            (
                r#"{"step":{"pick":{"start":0,"count":3,"groups":2}},"inputs":[0]}"#.to_owned(),
                "the groups divide them",
            ),
            (
                r#"{"step":{"pool":{"pool":"max","kernel":[2,2],"stride":[0,1]}},"inputs":[0]}"#.to_owned(),
                "nodes.0.pool is 0",
            ),
            (
                r#"{"step":{"pool":{"pool":"max","kernel":[2,2],"stride":[1,1],"padding":[0,2,0,0]}},"inputs":[0]}"#
                    .to_owned(),
                "nodes.0.padding is 2",
            ),
            (format!("{pooled},{}", r#"{"step":"add","inputs":[0,1]}"#), "nodes.1.inputs is 1 × 1"),
            (r#"{"step":"scale","inputs":[0,0]}"#.to_owned(), "a gate has one pixel"),
        ] {
            let error = check(&nodes).expect_err(told).to_string();
            assert!(error.contains(told), "{told}: {error}");
        }
    }
}
