//! Writes a network's steps down.

use super::memory;
use super::{Convolution, Layer, Operation, Record, Step, Value};
use crate::inference::Arithmetic;
use crate::inference::packed::{Extent, Placement, key_step};
use crate::layers::{
    Activation, Affine, BatchNorm, Conv, ConvBn, Flow, Gate, GlobalPool, LayerNorm, Padding, Pick,
    Pool, Rotary, Tokens,
};
use crate::values::{Param, Tensor, of_param};

/// A [`Flow`] that computes nothing: it packs weights and notes what is to be done.
#[derive(Debug)]
pub(crate) struct Recorder<C> {
    arithmetic: Arithmetic,
    steps: Vec<Step<C>>,
    input: Value,
    maps: usize,
}

impl<C: Convolution> Recorder<C> {
    /// A recorder and its input: pictures of three channels.
    pub(super) fn new(arithmetic: Arithmetic, height: usize, width: usize) -> (Self, Value) {
        let input = Value { index: 0, extent: Extent { height, width, channels: 3 } };
        (Self { arithmetic, steps: Vec::new(), input, maps: 1 }, input)
    }

    /// Everything noted so far that `outputs` need.
    pub(super) fn finish(mut self, outputs: Vec<Value>) -> Record<C> {
        self.join_sums(&outputs);
        self.join_activations(&outputs);
        self.join_convolutions(&outputs);
        self.keep_shared_inputs(&outputs);
        self.hand_over(&outputs);
        Record { steps: self.steps, maps: self.maps, input: self.input, outputs }
    }

    fn note(&mut self, operation: Operation<C>, inputs: Vec<Value>, extent: Extent) -> Value {
        let output = Value { index: self.maps, extent };
        self.maps += 1;
        self.steps.push(Step { operation, inputs, output });
        output
    }

    fn convolution(
        &mut self,
        x: Value,
        (weight, bias): (Vec<f32>, Vec<f32>),
        activation: Activation,
        layer: &Conv,
        padding: Padding,
    ) -> Value {
        let [channels_out, _, kernel, _] = layer.weight.dims();
        let placement = match padding {
            Padding::Even => Placement::even(x.extent, kernel, layer.stride()),
            Padding::Same => Placement::same(x.extent, kernel, layer.stride()),
            Padding::Nothing => Placement::inside(x.extent, kernel, layer.stride()),
            Padding::Sides(sides) => Placement::within(x.extent, kernel, layer.stride(), sides),
        };
        let extent = Extent {
            height: placement.out_height,
            width: placement.out_width,
            channels: channels_out,
        };
        let is_depthwise = layer.is_depthwise();
        let weight = layer.ungrouped(weight);
        let layer = Layer { weight, bias, activation, placement, is_depthwise };
        self.note(Operation::Convolve(C::new(self.arithmetic, layer)), vec![x], extent)
    }

    /// Sums become the end of the convolution before them, which still has its result in registers.
    fn join_sums(&mut self, outputs: &[Value]) {
        let mut index = 0;
        while index < self.steps.len() {
            if let Some(made) = self.sum_to_join(index, outputs) {
                let sum = self.steps.remove(index);
                let Operation::Add(activation) = sum.operation else {
                    unreachable!("only sums are joined")
                };
                let product = self.steps[made].output;
                let other = sum.inputs[usize::from(sum.inputs[0] == product)];
                let mut step = self.steps.remove(made);
                let Operation::Convolve(convolution) = &mut step.operation else {
                    unreachable!("only convolutions are joined")
                };
                convolution.set_activation(activation);
                step.inputs.push(other);
                step.output = sum.output;
                // Both summands are there at the place of the sum.
                self.steps.insert(index - 1, step);
            } else {
                index += 1;
            }
        }
    }

    /// The convolution that the sum at `index` can be joined to: without an activation, and of no
    /// use to anything else.
    fn sum_to_join(&self, index: usize, outputs: &[Value]) -> Option<usize> {
        let sum = &self.steps[index];
        if !matches!(sum.operation, Operation::Add(_)) || sum.inputs[0] == sum.inputs[1] {
            return None;
        }
        // The later summand first: what it has to wait for is there already.
        let mut made: Vec<usize> = sum
            .inputs
            .iter()
            .filter_map(|input| self.steps[..index].iter().position(|step| step.output == *input))
            .collect();
        made.sort_unstable_by(|a, b| b.cmp(a));
        made.into_iter().find(|made| {
            let step = &self.steps[*made];
            matches!(&step.operation, Operation::Convolve(made) if made.is_open())
                && step.inputs.len() == 1
                && self.uses(step.output) == 1
                && !outputs.contains(&step.output)
        })
    }

    /// An activation behind a convolution that nothing else reads becomes its own.
    fn join_activations(&mut self, outputs: &[Value]) {
        let mut index = 0;
        while index < self.steps.len() {
            let step = &self.steps[index];
            let made = self.steps[..index].iter().position(|made| made.output == step.inputs[0]);
            let (Operation::Activate(activation), Some(made)) = (&step.operation, made) else {
                index += 1;
                continue;
            };
            let (activation, activated, product) = (*activation, step.output, step.inputs[0]);
            let is_alone = self.uses(product) == 1 && !outputs.contains(&product);
            match &mut self.steps[made].operation {
                Operation::Convolve(convolution) if is_alone && convolution.is_open() => {
                    convolution.set_activation(activation);
                    self.steps[made].output = activated;
                    self.steps.remove(index);
                }
                _ => index += 1,
            }
        }
    }

    /// Convolutions hand their results on as the only one that reads them wants them.
    fn hand_over(&mut self, outputs: &[Value]) {
        for made in 0..self.steps.len() {
            let value = self.steps[made].output;
            let (before, behind) = self.steps.split_at_mut(made + 1);
            let uses = |step: &Step<C>| step.inputs.iter().filter(|input| **input == value).count();
            let count: usize = behind.iter().map(uses).sum();
            let reader = behind.iter_mut().find(|step| step.inputs[0] == value);
            if count != 1 || outputs.contains(&value) {
                continue;
            }
            let (step, Some(reader)) = (&mut before[made], reader) else { continue };
            let (Operation::Convolve(made), Operation::Convolve(next)) =
                (&mut step.operation, &mut reader.operation)
            else {
                continue;
            };
            if let Some(extent) = made.hand_over(next) {
                (step.output.extent, reader.inputs[0].extent) = (extent, extent);
            }
        }
    }

    /// A convolution that only another one reads becomes one step with it, where there is such a step.
    fn join_convolutions(&mut self, outputs: &[Value]) {
        let mut steps: Vec<Step<C>> = Vec::with_capacity(self.steps.len());
        let recorded = std::mem::take(&mut self.steps);
        let uses = |value: Value| {
            let inputs = recorded.iter().flat_map(|step| &step.inputs);
            inputs.filter(|input| **input == value).count() + usize::from(outputs.contains(&value))
        };
        let alone: Vec<bool> = recorded.iter().map(|step| uses(step.output) == 1).collect();
        let mut alone_before = false;
        for (step, alone) in recorded.into_iter().zip(alone) {
            let before = steps.pop();
            steps.extend(match before {
                Some(before) if alone_before && step.inputs[0] == before.output => {
                    joined(before, step)
                }
                before => before.into_iter().chain([step]).collect(),
            });
            alone_before = alone;
        }
        self.steps = steps;
    }

    fn uses(&self, value: Value) -> usize {
        self.steps.iter().flat_map(|step| &step.inputs).filter(|input| **input == value).count()
    }

    /// Steps that overwrite their first input get a copy of it where it is still needed, or is their second input, too.
    fn keep_shared_inputs(&mut self, outputs: &[Value]) {
        let last = memory::last_uses(&self.steps, outputs, self.maps);
        let mut index = 0;
        let mut position = 0;
        while index < self.steps.len() {
            let step = &self.steps[index];
            let first = step.inputs[0];
            let is_needed = last[first.index] != position || step.inputs[1..].contains(&first);
            if step.operation.is_in_place() && is_needed {
                let copy = Value { index: self.maps, extent: first.extent };
                self.maps += 1;
                self.steps[index].inputs[0] = copy;
                self.steps.insert(
                    index,
                    Step { operation: Operation::Copy, inputs: vec![first], output: copy },
                );
                index += 1;
            }
            index += 1;
            position += 1;
        }
    }
}

impl<C: Convolution> Flow for Recorder<C> {
    type Map = Value;

    fn conv_bn(&mut self, x: Value, layer: &ConvBn, padding: Padding) -> Value {
        self.convolution(x, layer.folded_values(), layer.activation(), &layer.conv, padding)
    }

    fn conv(&mut self, x: Value, layer: &Conv, activation: Activation) -> Value {
        self.convolution(x, layer.values(), activation, layer, Padding::Even)
    }

    fn batch_norm(&mut self, x: Value, layer: &BatchNorm) -> Value {
        let (scale, shift) = layer.affine_values();
        let operation = Operation::Affine { scale, shift };
        self.note(operation, vec![x], x.extent)
    }

    fn layer_norm(&mut self, x: Value, layer: &LayerNorm) -> Value {
        let [scale, shift] = layer.values();
        let epsilon = layer.epsilon() as f32;
        self.note(Operation::LayerNorm { scale, shift, epsilon }, vec![x], x.extent)
    }

    fn linear(&mut self, x: Value, weight: &Param<Tensor<2>>, bias: &Param<Tensor<1>>) -> Value {
        let [_, channels_out] = weight.dims();
        let rows = of_param(weight);
        let column = |at: usize| rows.iter().copied().skip(at).step_by(channels_out);
        let weight = (0..channels_out).flat_map(column).collect();
        let bias = of_param(bias);
        let extent = Extent { channels: channels_out, ..x.extent };
        let (activation, placement) = (Activation::Identity, Placement::even(x.extent, 1, 1));
        let layer = Layer { weight, bias, activation, placement, is_depthwise: false };
        self.note(Operation::Convolve(C::new(self.arithmetic, layer)), vec![x], extent)
    }

    fn apply(&mut self, x: Value, function: Gate) -> Value {
        self.note(Operation::Apply(function), vec![x], x.extent)
    }

    fn activate(&mut self, x: Value, activation: Activation) -> Value {
        self.note(Operation::Activate(activation), vec![x], x.extent)
    }

    fn dropout(&mut self, x: Value, probability: f64) -> Value {
        if probability == 0.0 {
            return x;
        }
        let channels = x.extent.channels;
        let scale = vec![(1.0 - probability) as f32; channels];
        self.note(Operation::Affine { scale, shift: vec![0.0; channels] }, vec![x], x.extent)
    }

    fn scale(&mut self, x: Value, gate: Value) -> Value {
        self.note(Operation::Scale, vec![x, gate], x.extent)
    }

    fn add(&mut self, a: Value, b: Value) -> Value {
        self.note(Operation::Add(Activation::Identity), vec![a, b], a.extent)
    }

    fn add_relu(&mut self, a: Value, b: Value) -> Value {
        self.note(Operation::Add(Activation::Relu), vec![a, b], a.extent)
    }

    fn concatenate(&mut self, a: Value, b: Value) -> Value {
        let extent = Extent { channels: a.extent.channels + b.extent.channels, ..a.extent };
        self.note(Operation::Concatenate, vec![a, b], extent)
    }

    fn upsample(&mut self, x: Value) -> Value {
        let Extent { height, width, channels } = x.extent;
        let extent = Extent { height: 2 * height, width: 2 * width, channels };
        self.note(Operation::Upsample, vec![x], extent)
    }

    fn max_pool(&mut self, x: Value) -> Value {
        self.note(Operation::MaxPool, vec![x], halved(x.extent))
    }

    fn average_pool(&mut self, x: Value) -> Value {
        self.note(Operation::AveragePool, vec![x], halved(x.extent))
    }

    fn global_pool(&mut self, x: Value, pool: GlobalPool) -> Value {
        let extent = Extent { height: 1, width: 1, channels: x.extent.channels };
        self.note(Operation::GlobalPool(pool), vec![x], extent)
    }

    fn aligned_logit(&mut self, class: Value, alignment: Value) -> Value {
        self.note(Operation::AlignedLogit, vec![class, alignment], class.extent)
    }

    fn multiply(&mut self, a: Value, b: Value) -> Value {
        self.note(Operation::Multiply, vec![a, b], a.extent)
    }

    fn tokens(&mut self, x: Value, layer: &Tokens) -> Value {
        let Extent { height, width, channels } = x.extent;
        let [before, added] = layer.values([height, width]);
        let extent = line(layer.before() + height * width, channels);
        self.note(Operation::Tokens { before, added }, vec![x], extent)
    }

    fn learned(&mut self, x: Value, pixels: &Param<Tensor<2>>) -> Value {
        let [count, channels] = pixels.dims();
        let operation = Operation::Tokens { before: of_param(pixels), added: Vec::new() };
        self.note(operation, vec![x], line(count, channels))
    }

    fn first(&mut self, x: Value) -> Value {
        self.note(Operation::Pixels(0), vec![x], line(1, x.extent.channels))
    }

    fn behind(&mut self, x: Value, before: usize, like: &Value) -> Value {
        let extent = Extent { channels: x.extent.channels, ..like.extent };
        self.note(Operation::Pixels(before), vec![x], extent)
    }

    fn rotate(&mut self, x: Value, rotary: &Rotary, like: &Value) -> Value {
        let [cosines, sines] = rotary.angles([like.extent.height, like.extent.width]);
        let Rotary { head, before, .. } = *rotary;
        let operation = Operation::Rotate { cosines, sines, before, half: head / 2 };
        self.note(operation, vec![x], x.extent)
    }

    fn attend(&mut self, [queries, keys, values]: [Value; 3], heads: usize) -> Value {
        let Extent { height, width, channels } = keys.extent;
        let keys = if C::KEYS_ACROSS {
            let factor = 1.0 / ((channels / heads) as f32).sqrt();
            let extent = line(channels, key_step(height * width));
            self.note(Operation::Transpose(factor), vec![keys], extent)
        } else {
            keys
        };
        let extent = Extent { channels: values.extent.channels, ..queries.extent };
        self.note(Operation::Attend { heads }, vec![queries, keys, values], extent)
    }

    fn unit_length(&mut self, x: Value) -> Value {
        self.note(Operation::UnitLength, vec![x], x.extent)
    }

    fn affine(&mut self, x: Value, layer: &Affine) -> Value {
        let [scale, shift] = layer.values();
        self.note(Operation::Affine { scale, shift }, vec![x], x.extent)
    }

    fn pool(&mut self, x: Value, pool: &Pool) -> Value {
        let [height, width] = pool.windows([x.extent.height, x.extent.width]);
        let extent = Extent { height, width, ..x.extent };
        self.note(Operation::Pool(*pool), vec![x], extent)
    }

    fn pick(&mut self, x: Value, pick: Pick) -> Value {
        let extent = Extent { channels: pick.count, ..x.extent };
        self.note(Operation::Pick(pick), vec![x], extent)
    }

    fn enlarge(&mut self, x: Value, [down, right]: [usize; 2]) -> Value {
        let Extent { height, width, channels } = x.extent;
        let extent = Extent { height: height * down, width: width * right, channels };
        self.note(Operation::Enlarge([down, right]), vec![x], extent)
    }
}

/// Two steps, of which the second reads nothing but the first as its first input, as one if they are
/// convolutions that have a step of their own together.
fn joined<C: Convolution>(before: Step<C>, step: Step<C>) -> Vec<Step<C>> {
    let Step { operation: Operation::Convolve(first), inputs: from, output: between } = before
    else {
        return vec![before, step];
    };
    let Step { operation: Operation::Convolve(second), mut inputs, output } = step else {
        let operation = Operation::Convolve(first);
        return vec![Step { operation, inputs: from, output: between }, step];
    };
    match first.join(second) {
        Ok(both) => {
            inputs[0] = from[0];
            vec![Step { operation: Operation::Convolve(both), inputs, output }]
        }
        Err((first, second)) => vec![
            Step { operation: Operation::Convolve(first), inputs: from, output: between },
            Step { operation: Operation::Convolve(second), inputs, output },
        ],
    }
}

/// One line of pixels.
fn line(pixels: usize, channels: usize) -> Extent {
    Extent { height: 1, width: pixels, channels }
}

fn halved(extent: Extent) -> Extent {
    let Extent { height, width, channels } = extent;
    Extent { height: height.div_ceil(2), width: width.div_ceil(2), channels }
}
