//! From nodes of a graph to steps.

use std::collections::HashMap;

use models::backbone::GraphStep;
use models::layers::{Activation, Gate, GlobalPool, Pick, Pool};

use super::array::{Array, Budget, axis_of};
use super::error::counted;
use super::interpret::{Call, Run};
use super::layers::reduced;
use super::layout::{Along, Axis, Held, Part, pixels, plain, size, whole};
use super::model::{Model, Node};
use super::network::{Does, Network};
use super::shapes::{cuts, parts, transposed};
use super::single::is_to_float;
use super::{OnnxError, Refused};

/// What a node makes, or why it has no step.
pub(super) type Converted = Result<Vec<Held>, String>;

/// Most steps that are made of a graph, before they are folded.
const MAX_STEPS: usize = 1 << 16;

/// Why an operator is refused whatever it is given.
const NO_STEP: &str = "no step does what it does";

/// Makes steps of nodes.
pub(super) struct Converter<'a> {
    pub(super) model: &'a Model,
    run: &'a Run,
    pub(super) budget: &'a Budget,
    pub(super) network: Network,
    held: HashMap<&'a str, Held>,
    producers: HashMap<&'a str, &'a Node>,
    /// Nodes that have no step, and why.
    refused: Vec<(usize, String)>,
    /// The node that is converted.
    pub(super) at: usize,
}

impl<'a> Converter<'a> {
    pub(super) fn new(
        model: &'a Model,
        run: &'a Run,
        budget: &'a Budget,
        (input, sides): (&'a str, [usize; 2]),
    ) -> Self {
        let mut network = Network::default();
        let extent = [3, sides[0], sides[1]];
        let map = network.add(Does::Image, &[], extent, 0);
        let made = |node: &'a Node| node.outputs.iter().map(move |name| (name.as_str(), node));
        Self {
            model,
            run,
            budget,
            network,
            held: HashMap::from([(input, Held { map, axes: plain(4, extent) })]),
            producers: model.nodes.iter().flat_map(made).collect(),
            refused: Vec::new(),
            at: 0,
        }
    }

    /// Makes steps of all nodes; those that have none are kept with the reason.
    pub(super) fn take_nodes(&mut self) -> Result<(), OnnxError> {
        let model = self.model;
        for (index, node) in model.nodes.iter().enumerate() {
            self.at = index;
            let is_too_large = self.network.values > 4 * self.budget.values;
            if is_too_large || self.network.steps.len() > MAX_STEPS {
                return Err(OnnxError::TooLarge { what: "what it becomes".to_owned() });
            }
            let is_constant = |name: &String| self.constant(name).is_some();
            if node.outputs.iter().all(|name| name.is_empty() || is_constant(name)) {
                continue;
            }
            // What lies behind something that has no step is not told again.
            let is_lost =
                |name: &&str| !self.held.contains_key(name) && !is_constant(&(*name).to_owned());
            let inputs = node.inputs.iter().map(String::as_str).filter(|name| !name.is_empty());
            if inputs.clone().any(|name| is_lost(&name)) {
                continue;
            }
            match self.node(node) {
                Ok(made) => {
                    for (name, held) in node.outputs.iter().zip(made) {
                        self.held.insert(name, held);
                    }
                }
                Err(mut reason) => {
                    // Behind something that has no step shapes alone are known, not what their axes are.
                    let maps = node.inputs.iter().filter_map(|name| self.held.get(name.as_str()));
                    let is_behind = maps.into_iter().any(|held| self.network.lost[held.map]);
                    let is_told = !is_behind
                        || reason == NO_STEP
                        || matches!(node.operator.as_str(), "MatMul" | "Softmax");
                    if !is_told {
                        reason.clear();
                    }
                    self.refused.push((index, reason.clone()));
                    for name in &node.outputs {
                        self.hold_place(node, name, &reason);
                    }
                }
            }
        }
        Ok(())
    }

    /// The step of the value `output`, which has to be a vector; what stands in the way, whole.
    pub(super) fn convert(mut self, output: &str) -> Result<(Network, usize), OnnxError> {
        self.take_nodes()?;
        let Some(held) = self.held.get(output).cloned() else { return Err(self.stopped(None)) };
        if self.network.lost[held.map] {
            return Err(self.stopped(Some(held.map)));
        }
        let at = self
            .producers
            .get(output)
            .and_then(|node| self.model.nodes.iter().position(|other| std::ptr::eq(other, *node)));
        self.at = at.unwrap_or_default();
        let held = self.settled(held);
        let [channels, rows, columns] = self.network.extent(held.map);
        let is_vector = rows == 1 && columns == 1 && held.channel_axis(channels).is_some();
        if is_vector {
            return Ok((self.network, held.map));
        }
        let reason = format!("the answer is no vector: its shape is {:?}", held.shape());
        Err(OnnxError::Refused(vec![self.refusal(self.at, &reason)]))
    }

    fn refusal(&self, at: usize, reason: &str) -> Refused {
        let node = &self.model.nodes[at];
        let (operator, first) = (node.operator.clone(), node.place().to_owned());
        Refused { operator, reason: reason.to_owned(), count: 1, first }
    }

    /// What stands in the way of a map; without one, all that has no step.
    pub(super) fn stopped(&self, map: Option<usize>) -> OnnxError {
        let told =
            |(at, reason): (usize, &str)| (!reason.is_empty()).then(|| self.refusal(at, reason));
        let all: Vec<Refused> = match map {
            Some(map) => {
                let needed = self.network.needed(&[map]);
                let steps = self.network.steps.iter().zip(needed).filter(|(_, needed)| *needed);
                let missing = steps.filter_map(|(step, _)| match &step.does {
                    Does::Missing(reason) => told((step.node, reason)),
                    _ => None,
                });
                missing.collect()
            }
            None => self.refused.iter().filter_map(|(at, reason)| told((*at, reason))).collect(),
        };
        OnnxError::Refused(counted(all))
    }

    /// Something to go on with behind a node that has no step, so that all others are seen, too.
    fn hold_place(&mut self, node: &Node, name: &'a str, reason: &str) {
        let Some(shape) = self.run.shapes.get(name) else { return };
        let (extent, axes) = match shape[..] {
            [1, channels] => ([channels, 1, 1], plain(2, [channels, 1, 1])),
            [1, channels, rows, columns] => {
                ([channels, rows, columns], plain(4, [channels, rows, columns]))
            }
            [columns, rows, channels] => {
                let all = plain(4, [channels, rows, columns]);
                let axes = vec![all[3].clone(), all[2].clone(), all[1].clone()];
                ([channels, rows, columns], axes)
            }
            _ => return,
        };
        let inputs = node.inputs.iter().filter_map(|name| self.held.get(name.as_str()));
        let inputs: Vec<usize> = inputs.map(|held| held.map).collect();
        let does = Does::Missing(reason.to_owned());
        let map = self.network.add(does, &inputs, extent, self.at);
        self.held.insert(name, Held { map, axes });
    }

    /// A value that does not depend on the image.
    pub(super) fn constant(&self, name: &str) -> Option<&'a Array> {
        self.model.constants.get(name).or_else(|| self.run.constants.get(name))
    }

    /// The only value of a constant.
    pub(super) fn scalar(&self, name: &str) -> Option<f32> {
        self.constant(name).and_then(Array::scalar)
    }

    /// The node that makes a value.
    pub(super) fn producer(&self, name: &str) -> Option<&'a Node> {
        self.producers.get(name).copied()
    }

    /// The node that makes a value of this operator.
    pub(super) fn made_by(&self, name: &str, operator: &str) -> Option<&'a Node> {
        self.producers.get(name).copied().filter(|node| node.operator == operator)
    }

    pub(super) fn shape(&self, name: &str) -> Result<&'a [usize], String> {
        let shape = self.run.shapes.get(name).map(Vec::as_slice);
        shape.ok_or_else(|| format!("the shape of {name} is not known"))
    }

    /// An input that depends on the image.
    pub(super) fn held(&self, node: &Node, index: usize) -> Result<Held, String> {
        let name = node.input(index).ok_or("an input is missing")?;
        let held = self.held.get(name).cloned();
        held.ok_or_else(|| "a constant where a map belongs".to_owned())
    }

    pub(super) fn held_by_name(&self, name: &str) -> Option<Held> {
        self.held.get(name).cloned()
    }

    /// An input that has to be constant.
    pub(super) fn known(&self, node: &Node, index: usize) -> Result<&'a Array, String> {
        let name = node.input(index).ok_or("an input is missing")?;
        self.constant(name).ok_or_else(|| "weights that depend on the image".to_owned())
    }

    /// What a node is given of constants.
    pub(super) fn call(&self, node: &'a Node) -> Call<'a> {
        let inputs = node.inputs.iter().map(|name| self.constant(name)).collect();
        let operator_set = self.model.operator_set;
        Call { node, operator_set, inputs, budget: self.budget, work: u64::MAX.into() }
    }

    /// With the channels in order.
    pub(super) fn settled(&mut self, held: Held) -> Held {
        let [channels, rows, columns] = self.network.extent(held.map);
        let Some((index, groups)) = held.shuffled(channels) else { return held };
        let step = GraphStep::Pick(Pick { start: 0, count: channels, groups });
        let extent = [channels, rows, columns];
        let map = self.network.add(Does::Plain(step), &[held.map], extent, self.at);
        let mut axes = held.axes;
        axes[index] = whole(Along::Channels, channels);
        Held { map, axes }
    }

    /// A map whose array is `[batch, channels, rows, columns]`.
    pub(super) fn map(&mut self, node: &Node, index: usize) -> Result<usize, String> {
        let held = self.held(node, index)?;
        let held = self.settled(held);
        let extent = self.network.extent(held.map);
        if held.axes == plain(4, extent) {
            return Ok(held.map);
        }
        Err(format!("its input of shape {:?} is no map", held.shape()))
    }

    /// A map as an array of four axes.
    pub(super) fn whole_map(&self, map: usize) -> Vec<Held> {
        vec![Held { map, axes: plain(4, self.network.extent(map)) }]
    }

    fn node(&mut self, node: &'a Node) -> Converted {
        match node.operator.as_str() {
            "Identity" | "Dropout" => Ok(vec![self.held(node, 0)?]),
            "Cast" if is_to_float(node) => Ok(vec![self.held(node, 0)?]),
            "Relu" => self.activation(node, Activation::Relu),
            "HardSwish" => self.activation(node, Activation::HardSwish),
            "Sigmoid" => self.single(node, GraphStep::Gate(Gate::Sigmoid)),
            "Tanh" => self.single(node, GraphStep::Gate(Gate::Tanh)),
            "Neg" => self.linear_function(node, -1.0, 0.0),
            "Gelu" if node.text("approximate") != Some("tanh") => {
                self.activation(node, Activation::Gelu)
            }
            "Gelu" => self.activation(node, Activation::GeluTanh),
            "HardSigmoid" => {
                let (slope, middle) = (node.float("alpha", 0.2), node.float("beta", 0.5));
                self.hard_sigmoid(node, slope, middle)
            }
            "Clip" => self.clip(node),
            "LeakyRelu" => {
                let held = self.held(node, 0)?;
                let [channels, ..] = self.network.extent(held.map);
                Ok(self.leaky(held, &vec![node.float("alpha", 0.01); channels]))
            }
            "PRelu" => {
                let held = self.held(node, 0)?;
                let (held, slopes) = self.per_channel(held, self.known(node, 1)?)?;
                Ok(self.leaky(held, &slopes))
            }
            "Add" | "Sub" | "Mul" | "Div" | "Pow" => self.pair(node),
            "Conv" => self.conv(node),
            "MatMul" if node.input(1).is_some_and(|name| self.constant(name).is_none()) => {
                self.attention(node)
            }
            "MatMul" | "Gemm" => self.product(node),
            "BatchNormalization" => self.batch_norm(node),
            "LayerNormalization" => self.layer_norm(node),
            "MaxPool" | "AveragePool" => self.pool(node),
            "GlobalAveragePool" => self.global_pool(node, GlobalPool::Average),
            "GlobalMaxPool" => self.global_pool(node, GlobalPool::Max),
            "ReduceMean" | "ReduceSum" | "ReduceMax" => self.reduce(node),
            _ => self.moved(node),
        }
    }

    /// Nodes that move values and compute none.
    fn moved(&mut self, node: &'a Node) -> Converted {
        match node.operator.as_str() {
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
                let shape = self.shape(&node.outputs[0])?;
                let held = self.held(node, 0)?;
                let made = held.reshaped(shape).ok_or_else(|| {
                    format!("{:?} becomes {shape:?}: channels and pixels are mixed", held.shape())
                })?;
                Ok(vec![made])
            }
            "Transpose" => {
                let held = self.held(node, 0)?;
                let order = transposed(&self.call(node), held.axes.len()).map_err(reason)?;
                Ok(vec![held.transposed(&order)])
            }
            "Expand" if self.shape(&node.outputs[0])? == self.held(node, 0)?.shape() => {
                Ok(vec![self.held(node, 0)?])
            }
            "Expand" => self.expand(node),
            "Concat" => self.concat(node),
            "Split" => {
                let held = self.held(node, 0)?;
                let axis = axis_of(node.number("axis", 0), held.axes.len()).map_err(reason)?;
                let lengths = parts(&self.call(node), size(&held.axes[axis])).map_err(reason)?;
                let mut start = 0;
                let mut made = Vec::new();
                for length in lengths {
                    made.push(self.narrow(&held, axis, start, length)?);
                    start += length;
                }
                Ok(made)
            }
            "Slice" => {
                let mut held = self.held(node, 0)?;
                for (axis, start, length, step) in
                    cuts(&self.call(node), &held.shape()).map_err(reason)?
                {
                    let side = size(&held.axes[axis]);
                    if step != 1 && length > 1 {
                        return self.sampled(node);
                    }
                    if (start, length) != (0, side) {
                        held = self.narrow(&held, axis, start, length)?;
                    }
                }
                Ok(vec![held])
            }
            "Gather" => {
                let held = self.held(node, 0)?;
                let axis = axis_of(node.number("axis", 0), held.axes.len()).map_err(reason)?;
                let index = self.known(node, 1)?;
                let numbers = index.as_numbers().map_err(reason)?;
                let ([at], true) = (numbers, index.shape.is_empty()) else {
                    return Err("it takes several places in any order".to_owned());
                };
                let at = axis_of(*at, size(&held.axes[axis])).map_err(reason)?;
                let mut made = self.narrow(&held, axis, at, 1)?;
                made.axes.remove(axis);
                Ok(vec![made])
            }
            "Pad" => self.pad(node),
            "Resize" => self.resize(node),
            "Softmax" => Err("it is no part of attention".to_owned()),
            _ => Err(NO_STEP.to_owned()),
        }
    }

    /// Some places of an axis.
    fn narrow(
        &mut self,
        held: &Held,
        axis: usize,
        start: usize,
        length: usize,
    ) -> Result<Held, String> {
        let held = self.settled(held.clone());
        let [channels, rows, columns] = self.network.extent(held.map);
        if length == 0 {
            return Err("an empty slice".to_owned());
        }
        let step = match held.axes[axis][..] {
            [Part { along: Along::Channels, size, step }] if size * step == channels => step,
            [] if start == 0 && length == 1 => return Ok(held),
            _ if held.axes[axis] == pixels(rows, columns) => {
                return self.some_pixels(held, axis, start, length);
            }
            _ => return Err("a slice of other than channels".to_owned()),
        };
        let pick = Pick { start: start * step, count: length * step, groups: 1 };
        let does = Does::Plain(GraphStep::Pick(pick));
        let extent = [pick.count, rows, columns];
        let map = self.network.add(does, &[held.map], extent, self.at);
        let mut axes = held.axes;
        let part = Part { along: Along::Channels, size: length, step };
        axes[axis] = if length == 1 { Vec::new() } else { vec![part] };
        Ok(Held { map, axes })
    }

    fn concat(&mut self, node: &'a Node) -> Converted {
        if node.input(0).is_some_and(|name| self.constant(name).is_some()) {
            return self.behind_constants(node);
        }
        let mut all = Vec::new();
        for index in 0..node.inputs.len() {
            let held = self.held(node, index)?;
            all.push(self.settled(held));
        }
        let Some(first) = all.first().cloned() else { return Err("nothing to join".to_owned()) };
        let axis = axis_of(node.number("axis", 0), first.axes.len()).map_err(reason)?;
        let others = |held: &Held| -> Vec<Axis> {
            let axes = held.axes.iter().enumerate().filter(|(at, _)| *at != axis);
            axes.map(|(_, axis)| axis.clone()).collect()
        };
        let mut channels = 0;
        for held in &all {
            let [own, ..] = self.network.extent(held.map);
            if held.axes[axis] != whole(Along::Channels, own) || others(held) != others(&first) {
                return Err("maps that are joined along other than channels".to_owned());
            }
            channels += own;
        }
        let maps: Vec<usize> = all.iter().map(|held| held.map).collect();
        let patches = self.patches(&maps);
        let map = patches.unwrap_or_else(|| self.network.concatenate(&maps, self.at));
        let mut axes = first.axes;
        axes[axis] = whole(Along::Channels, channels);
        Ok(vec![Held { map, axes }])
    }

    fn global_pool(&mut self, node: &Node, pool: GlobalPool) -> Converted {
        let map = self.map(node, 0)?;
        let map = self.pooled(map, pool);
        Ok(self.whole_map(map))
    }

    pub(super) fn pooled(&mut self, map: usize, pool: GlobalPool) -> usize {
        let [channels, rows, columns] = self.network.extent(map);
        if rows == 1 && columns == 1 {
            return map;
        }
        let does = Does::Plain(GraphStep::GlobalPool(pool));
        self.network.add(does, &[map], [channels, 1, 1], self.at)
    }

    fn reduce(&mut self, node: &'a Node) -> Converted {
        let held = self.held(node, 0)?;
        let held = self.settled(held);
        let axes = reduced(&self.call(node), held.axes.len()).map_err(reason)?;
        let (mut gone, mut left) = (Vec::new(), Vec::new());
        for (index, axis) in held.axes.iter().enumerate() {
            if axes.contains(&index) { &mut gone } else { &mut left }.extend(axis.iter().copied());
        }
        let [channels, rows, columns] = self.network.extent(held.map);
        let runs = |parts: &[Part], along: Along| parts.iter().any(|part| part.along == along);
        let all = |along: Along| runs(&gone, along) && !runs(&left, along);
        let count = gone.iter().map(|part| part.size).product::<usize>();
        let operator = node.operator.as_str();
        let pool = if operator == "ReduceMax" { GlobalPool::Max } else { GlobalPool::Average };
        let is_flat = !runs(&gone, Along::Channels);
        let mut map = if gone.is_empty() {
            held.map
        } else if is_flat && !runs(&left, Along::Rows) && !runs(&left, Along::Columns) {
            self.pooled(held.map, pool)
        } else if is_flat && (all(Along::Rows) || all(Along::Columns)) {
            let kernel = if all(Along::Rows) { [rows, 1] } else { [1, columns] };
            let pool = Pool {
                pool,
                kernel,
                stride: [1, 1],
                padding: [0; 4],
                ceil: false,
                count_padding: false,
            };
            self.network.pool(held.map, pool, self.at)
        } else if gone[..] == whole(Along::Channels, channels)[..] && operator != "ReduceMax" {
            let share = if operator == "ReduceSum" { 1.0 } else { 1.0 / channels as f32 };
            let does = Does::Linear(vec![share; channels], vec![0.0]);
            self.network.add(does, &[held.map], [1, rows, columns], self.at)
        } else {
            return Err("a reduction other than over pixels, or the sum of all channels".to_owned());
        };
        if operator == "ReduceSum" && count > 1 && is_flat {
            map = self.network.scaled(map, count as f32, 0.0, self.at);
        }
        let keeps = node.number("keepdims", 1) == 1;
        let made = held.axes.into_iter().enumerate().filter_map(|(index, axis)| {
            if axes.contains(&index) { keeps.then(Vec::new) } else { Some(axis) }
        });
        Ok(vec![Held { map, axes: made.collect() }])
    }
}

/// A sentence of an error.
pub(super) fn reason(error: OnnxError) -> String {
    error.to_string()
}
