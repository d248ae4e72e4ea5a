//! The steps that a graph becomes, with their weights; what can be folded is.

use std::collections::BTreeMap;

use models::backbone::{GraphConfig, GraphConv, GraphNode, GraphStep, GraphTokens};
use models::layers::{Activation, Pick, Pool};
use models::weights::{NamedTensor, Weights};

/// What a step does.
#[derive(Debug, Clone)]
pub(super) enum Does {
    Image,
    /// Weights `[channels_out, channels_in / groups, kernel, kernel]` and bias.
    Conv(GraphConv, Vec<f32>, Vec<f32>),
    /// Weights `[channels_in, channels_out]` and bias.
    Linear(Vec<f32>, Vec<f32>),
    Affine(Vec<f32>, Vec<f32>),
    LayerNorm(f64, Vec<f32>, Vec<f32>),
    /// Pixels before all others, `[pixels, channels]`, and what is added to those of a map of so many rows and columns.
    Tokens(Vec<f32>, Option<([usize; 2], Vec<f32>)>),
    Plain(GraphStep),
    /// Nothing here does what a node of the graph does: why. Without a word where that lies at another one.
    Missing(String),
}

impl Does {
    /// Values of its weights.
    fn values(&self) -> usize {
        match self {
            Self::Conv(_, weight, bias) | Self::Linear(weight, bias) => weight.len() + bias.len(),
            Self::Affine(scale, shift) | Self::LayerNorm(_, scale, shift) => {
                scale.len() + shift.len()
            }
            Self::Tokens(before, added) => {
                before.len() + added.as_ref().map_or(0, |(_, added)| added.len())
            }
            Self::Image | Self::Plain(_) | Self::Missing(_) => 0,
        }
    }
}

/// A step, and what it makes.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) does: Does,
    pub(super) inputs: Vec<usize>,
    /// Channels, rows and columns that come out.
    pub(super) extent: [usize; 3],
    /// The graph's node, by its number.
    pub(super) node: usize,
}

impl Step {
    /// The step, in whose place stays what does nothing.
    fn take(&mut self) -> Self {
        let (does, inputs) = (Does::Image, std::mem::take(&mut self.inputs));
        Self { does: std::mem::replace(&mut self.does, does), inputs, ..*self }
    }
}

/// Steps by their numbers.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) steps: Vec<Step>,
    /// Of each, whether it is behind a node that has no step.
    pub(super) lost: Vec<bool>,
    /// Values of all weights.
    pub(super) values: usize,
    /// Maps that were put behind each other: which two, and what they became.
    joined: BTreeMap<(usize, usize), usize>,
}

impl Network {
    /// Adds a step; the number of what it makes.
    pub(super) fn add(
        &mut self,
        does: Does,
        inputs: &[usize],
        extent: [usize; 3],
        node: usize,
    ) -> usize {
        self.values += does.values();
        let is_lost = matches!(does, Does::Missing(_));
        self.lost.push(is_lost || inputs.iter().any(|input| self.lost[*input]));
        self.steps.push(Step { does, inputs: inputs.to_vec(), extent, node });
        self.steps.len() - 1
    }

    pub(super) fn extent(&self, map: usize) -> [usize; 3] {
        self.steps[map].extent
    }

    /// A step of a map that changes no extent.
    pub(super) fn plain(&mut self, step: GraphStep, inputs: &[usize], node: usize) -> usize {
        let extent = self.extent(inputs[0]);
        self.add(Does::Plain(step), inputs, extent, node)
    }

    /// `x · scale + shift`
    pub(super) fn affine(
        &mut self,
        x: usize,
        scale: Vec<f32>,
        shift: Vec<f32>,
        node: usize,
    ) -> usize {
        let extent = self.extent(x);
        self.add(Does::Affine(scale, shift), &[x], extent, node)
    }

    /// The same factor and summand for all channels.
    pub(super) fn scaled(&mut self, x: usize, scale: f32, shift: f32, node: usize) -> usize {
        let [channels, ..] = self.extent(x);
        self.affine(x, vec![scale; channels], vec![shift; channels], node)
    }

    pub(super) fn pool(&mut self, x: usize, pool: Pool, node: usize) -> usize {
        let [channels, rows, columns] = self.extent(x);
        let [rows, columns] = pool.windows([rows, columns]);
        let does = Does::Plain(GraphStep::Pool(pool));
        self.add(does, &[x], [channels, rows, columns], node)
    }

    /// Maps behind each other. What other steps have joined already is not joined again.
    pub(super) fn concatenate(&mut self, maps: &[usize], node: usize) -> usize {
        let mut made = maps[0];
        for next in &maps[1..] {
            let both = (made, *next);
            made = if let Some(known) = self.joined.get(&both) {
                *known
            } else {
                let [left, rows, columns] = self.extent(made);
                let [right, ..] = self.extent(*next);
                let does = Does::Plain(GraphStep::Concatenate);
                self.add(does, &[made, *next], [left + right, rows, columns], node)
            };
            self.joined.insert(both, made);
        }
        made
    }

    /// Steps that `outputs` need.
    pub(super) fn needed(&self, outputs: &[usize]) -> Vec<bool> {
        let mut needed = vec![false; self.steps.len()];
        outputs.iter().for_each(|output| needed[*output] = true);
        for index in (0..self.steps.len()).rev() {
            if needed[index] {
                self.steps[index].inputs.iter().for_each(|input| needed[*input] = true);
            }
        }
        needed
    }

    /// Folds what can be folded, and gives the configuration with its weights; `outputs` become the numbers of their maps
    /// in it.
    pub(super) fn finish(mut self, outputs: &mut [usize]) -> (GraphConfig, Weights) {
        self.fold_all(outputs);
        self.part(outputs);
        self.fold_all(outputs);
        self.write(outputs)
    }

    /// How many steps need each map that `outputs` need.
    fn uses(&self, outputs: &[usize]) -> Vec<usize> {
        let needed = self.needed(outputs);
        let mut uses = vec![0_usize; self.steps.len()];
        for (step, _) in self.steps.iter().zip(&needed).filter(|(_, needed)| **needed) {
            step.inputs.iter().for_each(|input| uses[*input] += 1);
        }
        outputs.iter().for_each(|output| uses[*output] += 1);
        uses
    }

    /// Makes steps a part of the step before them, where that is exact; `outputs` become the numbers of what they became.
    fn fold_all(&mut self, outputs: &mut [usize]) {
        let (needed, mut uses) = (self.needed(outputs), self.uses(outputs));
        // What a step became: itself, or the one before it that does its work, too.
        let mut became: Vec<usize> = (0..self.steps.len()).collect();
        for index in (0..self.steps.len()).filter(|index| needed[*index]) {
            let mut step = self.steps[index].take();
            step.inputs.iter_mut().for_each(|input| *input = became[*input]);
            let first = step.inputs.first().copied().filter(|first| uses[*first] == 1);
            let is_part = first.is_some_and(|first| fold(&mut self.steps[first].does, &step.does));
            match first {
                Some(first) if is_part => {
                    became[index] = first;
                    uses[first] = uses[index];
                    continue;
                }
                Some(first) => fold_behind(&mut step, &self.steps[first]),
                None => {}
            }
            self.steps[index] = step;
        }
        outputs.iter_mut().for_each(|output| *output = became[*output]);
    }

    /// Products whose columns are only picked apart become several products.
    fn part(&mut self, outputs: &[usize]) {
        let (needed, uses) = (self.needed(outputs), self.uses(outputs));
        let mut picks: BTreeMap<usize, Vec<(usize, Pick)>> = BTreeMap::new();
        for (index, step) in self.steps.iter().enumerate().filter(|(index, _)| needed[*index]) {
            if let Does::Plain(GraphStep::Pick(pick)) = &step.does
                && pick.groups == 1
                && matches!(self.steps[step.inputs[0]].does, Does::Linear(..))
            {
                picks.entry(step.inputs[0]).or_default().push((index, *pick));
            }
        }
        picks.retain(|product, picks| picks.len() == uses[*product]);
        for (product, picks) in picks {
            let from = self.steps[product].inputs[0];
            let Does::Linear(weight, bias) = &self.steps[product].does else { continue };
            let parts = picks.iter().map(|(_, Pick { start, count, .. })| {
                let rows = weight.chunks_exact(bias.len());
                let weight = rows.flat_map(|row| &row[*start..start + count]).copied().collect();
                Does::Linear(weight, bias[*start..start + count].to_vec())
            });
            let parts: Vec<Does> = parts.collect();
            for ((index, _), does) in picks.iter().zip(parts) {
                self.steps[*index].does = does;
                self.steps[*index].inputs = vec![from];
            }
        }
    }

    /// The steps that are left, in order.
    fn write(self, outputs: &mut [usize]) -> (GraphConfig, Weights) {
        let needed = self.needed(outputs);
        let mut weights = Weights::default();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut numbers = vec![0; self.steps.len()];
        let mut nodes: Vec<GraphNode> = Vec::new();
        let extents: Vec<[usize; 3]> = self.steps.iter().map(|step| step.extent).collect();
        for (index, Step { does, inputs, extent, .. }) in self.steps.into_iter().enumerate() {
            let [channels, ..] = extent;
            let before = inputs.first().map_or(0, |input| extents[*input][0]);
            let mut keep = |list: &'static str, parts: Vec<(&str, Vec<usize>, Vec<f32>)>| {
                let count = counts.entry(list).or_default();
                for (part, shape, values) in parts {
                    let name = format!("backbone.{list}.{count}.{part}");
                    weights.tensors.insert(name, NamedTensor { shape, values });
                }
                *count += 1;
            };
            let row = vec![channels];
            let step = match does {
                _ if !needed[index] => continue,
                Does::Image | Does::Missing(_) => continue,
                Does::Conv(conv, weight, bias) => {
                    let shape = vec![channels, before / conv.groups, conv.kernel, conv.kernel];
                    let parts = vec![("conv.weight", shape, weight), ("conv.bias", row, bias)];
                    keep("convs", parts);
                    GraphStep::Conv(conv)
                }
                Does::Linear(weight, bias) => {
                    let shape = vec![before, channels];
                    keep("linears", vec![("weight", shape, weight), ("bias", row, bias)]);
                    GraphStep::Linear(channels)
                }
                Does::Affine(scale, shift) => {
                    keep("affines", vec![("weight", row.clone(), scale), ("bias", row, shift)]);
                    GraphStep::Affine
                }
                Does::LayerNorm(epsilon, scale, shift) => {
                    keep("norms", vec![("weight", row.clone(), scale), ("bias", row, shift)]);
                    GraphStep::LayerNorm(epsilon)
                }
                Does::Tokens(first, added) => {
                    let rows = |values: &[f32]| vec![values.len() / channels, channels];
                    let before = first.len() / channels;
                    let mut parts = Vec::new();
                    if before > 0 {
                        parts.push(("registers", rows(&first), first));
                    }
                    let places = added.as_ref().map(|(sides, _)| *sides);
                    if let Some((_, added)) = added {
                        parts.push(("positions", rows(&added), added));
                    }
                    keep("tokens", parts);
                    GraphStep::Tokens(GraphTokens { before, places })
                }
                Does::Plain(step) => step,
            };
            let inputs = inputs.iter().map(|input| numbers[*input]).collect();
            nodes.push(GraphNode { step, inputs });
            numbers[index] = nodes.len();
        }
        outputs.iter_mut().for_each(|output| *output = numbers[*output]);
        (GraphConfig { nodes, fused: true }, weights)
    }
}

/// Scales each filter.
fn scale_rows(weight: &mut [f32], scale: &[f32]) {
    let row = weight.len() / scale.len().max(1);
    for (row, scale) in weight.chunks_exact_mut(row.max(1)).zip(scale) {
        row.iter_mut().for_each(|value| *value *= scale);
    }
}

/// Scales the columns of a matrix.
fn scale_columns(weight: &mut [f32], scale: &[f32]) {
    for row in weight.chunks_exact_mut(scale.len().max(1)) {
        row.iter_mut().zip(scale).for_each(|(value, scale)| *value *= scale);
    }
}

fn affine(values: &mut [f32], scale: &[f32], shift: &[f32]) {
    values.iter_mut().zip(scale.iter().zip(shift)).for_each(|(v, (s, t))| *v = *v * s + t);
}

/// Makes `step` a part of the step `before` it, where that is exact.
fn fold(before: &mut Does, step: &Does) -> bool {
    match (before, step) {
        (Does::Conv(conv, weight, bias), Does::Affine(scale, shift))
            if conv.activation == Activation::Identity =>
        {
            scale_rows(weight, scale);
            affine(bias, scale, shift);
        }
        (Does::Linear(weight, bias), Does::Affine(scale, shift)) => {
            scale_columns(weight, scale);
            affine(bias, scale, shift);
        }
        (
            Does::LayerNorm(_, old_scale, old_shift) | Does::Affine(old_scale, old_shift),
            Does::Affine(scale, shift),
        ) => {
            affine(old_shift, scale, shift);
            old_scale.iter_mut().zip(scale).for_each(|(old, scale)| *old *= scale);
        }
        (Does::Conv(conv, ..), Does::Plain(GraphStep::Activate(activation)))
            if conv.activation == Activation::Identity =>
        {
            conv.activation = *activation;
        }
        (Does::Plain(sum @ GraphStep::Add), Does::Plain(GraphStep::Activate(Activation::Relu))) => {
            *sum = GraphStep::AddRelu;
        }
        _ => return false,
    }
    true
}

/// Makes factors and summands before a layer without padding a part of the layer.
fn fold_behind(step: &mut Step, before: &Step) {
    let Does::Affine(scale, shift) = &before.does else { return };
    match &mut step.does {
        Does::Conv(conv, weight, bias) if conv.groups == 1 && conv.padding == [0; 4] => {
            let taps = conv.kernel * conv.kernel;
            for (filter, bias) in weight.chunks_exact_mut(taps * scale.len()).zip(bias) {
                for (channel, taps) in filter.chunks_exact_mut(taps).enumerate() {
                    *bias += shift[channel] * taps.iter().sum::<f32>();
                    taps.iter_mut().for_each(|value| *value *= scale[channel]);
                }
            }
        }
        Does::Linear(weight, bias) => {
            for (row, (scale, shift)) in
                weight.chunks_exact_mut(bias.len()).zip(scale.iter().zip(shift))
            {
                for (value, bias) in row.iter_mut().zip(bias.iter_mut()) {
                    *bias += shift * *value;
                    *value *= scale;
                }
            }
        }
        _ => return,
    }
    step.inputs.clone_from(&before.inputs);
}
