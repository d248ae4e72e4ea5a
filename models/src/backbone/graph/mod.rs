//! A network as a list of steps: what an imported graph becomes.
//!
//! Each step names its inputs by number; weights lie in lists, in the order of the steps that use them.
//! [`GraphConfig::check`] holds a list against limits, so that a file cannot ask for what no network has.

mod step;

use serde::{Deserialize, Serialize};

use crate::layers::{Affine, ConvBn, Flow, LayerNorm, Padding, Tokens};
use crate::limits::{LimitError, within};
use crate::values::{Device, Module, Param, Tensor, constant, normal};

pub use self::step::{GraphConv, GraphStep, GraphTokens};

/// Most steps of a network: `EfficientNet`-B7 has a thousand.
pub const MAX_NODES: usize = 4096;
/// Most weights, a gigabyte of them: twice as many as `VGG` has.
const MAX_WEIGHTS: u64 = 1 << 28;
/// Most values of a map, half a gigabyte of them.
const MAX_VALUES: u64 = 1 << 27;
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
        let (mut all, mut weights) = (vec![3], 0);
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
            weights += node.step.weights(inputs[0]);
            within("weights", weights, &(0..=MAX_WEIGHTS)).map_err(key)?;
        }
        Ok(all)
    }

    /// The last values of stride 8, 16 and 32; where there is none, the last before it.
    fn maps(&self) -> [usize; 3] {
        // Pixels of the input for one step; nothing in a line, or behind a pool of all.
        let mut strides: Vec<Option<usize>> = vec![Some(1)];
        for node in &self.nodes {
            // What lies behind a number of pixels has the sides of the second map.
            let like = usize::from(matches!(node.step, GraphStep::Behind(_)));
            let before = node.inputs.get(like).and_then(|input| strides.get(*input)).copied();
            strides.push(before.flatten().and_then(|stride| match &node.step {
                GraphStep::Conv(conv) => stride.checked_mul(conv.stride),
                GraphStep::Pool(pool) => stride.checked_mul(pool.stride[0]),
                GraphStep::Enlarge([factor, _]) => Some((stride / (*factor).max(1)).max(1)),
                GraphStep::GlobalPool(_) | GraphStep::Tokens(_) | GraphStep::First => None,
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

    /// Channels, rows and columns of an image of so many rows and columns, and of what each step makes of it.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the step.
    pub fn extents(&self, sides: [usize; 2]) -> Result<Vec<[usize; 3]>, LimitError> {
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
        let extents = channels.into_iter().zip(all);
        Ok(extents.map(|(channels, [height, width])| [channels, height, width]).collect())
    }

    /// Whether it gives one vector of an image of so many rows and columns.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the step.
    pub fn check_input(&self, sides: [usize; 2]) -> Result<(), LimitError> {
        match self.extents(sides)?.last() {
            Some([_, 1, 1]) | None => Ok(()),
            Some([_, height, width]) => {
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
            tokens: Vec::new(),
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
                GraphStep::Tokens(tokens) => graph.tokens.push(tokens.layer(before, device)),
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
    tokens: Vec<Tokens>,
    #[module(skip)]
    nodes: Vec<GraphNode>,
    #[module(skip)]
    maps: [usize; 3],
}

impl Graph {
    /// Takes all steps, and returns the values that are asked for; a map goes when no step needs it any more.
    pub(crate) fn run<F: Flow>(
        &self,
        flow: &mut F,
        x: F::Map,
        wanted: &[usize],
    ) -> impl Iterator<Item = F::Map> + use<F> {
        let mut last = vec![0; self.nodes.len() + 1];
        for (index, node) in self.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|input| last[*input] = index + 1);
        }
        wanted.iter().for_each(|value| last[*value] = usize::MAX);
        let mut values = vec![Some(x)];
        let (mut convs, mut linears) = (self.convs.iter(), self.linears.iter());
        let (mut affines, mut norms) = (self.affines.iter(), self.norms.iter());
        let mut tokens = self.tokens.iter();
        for (index, node) in self.nodes.iter().enumerate() {
            let input = |at: usize| values[node.inputs[at]].clone().expect(HELD);
            let a = input(0);
            let [b, c] = [1, 2].map(|at| (node.inputs.len() > at).then(|| input(at)));
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
                GraphStep::Tokens(_) => flow.tokens(a, tokens.next().expect(HELD)),
                GraphStep::Attend(heads) => {
                    flow.attend([a, b.expect(HELD), c.expect(HELD)], *heads)
                }
                GraphStep::First => flow.first(a),
                GraphStep::Behind(before) => flow.behind(a, *before, &b.expect(HELD)),
            };
            // What no step needs is not kept.
            values.push((last[index + 1] > 0).then_some(made));
        }
        let wanted: Vec<F::Map> =
            wanted.iter().map(|value| values[*value].clone().expect(HELD)).collect();
        wanted.into_iter()
    }

    /// Feature maps of stride 8, 16 and 32, as far as the graph has such.
    pub fn wire_maps<F: Flow>(&self, flow: &mut F, x: F::Map) -> [F::Map; 3] {
        let mut maps = self.run(flow, x, &self.maps);
        std::array::from_fn(|_| maps.next().expect(HELD))
    }

    /// What the last step makes.
    pub fn wire<F: Flow>(&self, flow: &mut F, x: F::Map) -> F::Map {
        self.run(flow, x, &[self.nodes.len()]).next().expect(HELD)
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
