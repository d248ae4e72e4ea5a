//! Plans on the CPU.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::memory::Arena;
use super::{Convolution, Layer, Operation, Record, Recorder, Step, Value};
use crate::activation::Activation;
use crate::inference::Arithmetic;
use crate::inference::packed::{self, Depthwise, Matrix, Separable, Windows};
use crate::layers::{Gate, GlobalPool, LENGTH_EPSILON, SCORE_EPSILON, SCORE_MARGIN};
use crate::threads;
use gallery::aligned::Aligned;

/// A convolution with its weights packed for the machine's vectors.
#[derive(Debug)]
pub(crate) enum Packed {
    /// 1×1 convolution or linear layer.
    Product(Matrix, Activation),
    /// Any other dense convolution.
    Windows(Windows),
    /// One filter a channel.
    Depthwise(Depthwise),
    /// One filter a channel, and a product behind it.
    Separable(Separable),
}

impl Packed {
    fn run(&self, x: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
        match self {
            Self::Product(matrix, activation) => matrix.multiply(x, *activation, residual, out),
            Self::Windows(windows) => windows.run(x, residual, out),
            Self::Depthwise(depthwise) => depthwise.run(x, out),
            Self::Separable(separable) => separable.run(x, residual, out),
        }
    }
}

impl Convolution for Packed {
    const IN_PLACE: bool = true;
    const KEYS_ACROSS: bool = true;

    fn new(arithmetic: Arithmetic, layer: Layer) -> Self {
        let is_product = layer.is_product();
        let Layer { weight, bias, activation, placement, is_depthwise } = layer;
        if is_depthwise {
            Self::Depthwise(Depthwise::new(&weight, &bias, activation, placement))
        } else if is_product {
            let channels = placement.input.channels;
            let at = |row: usize, column: usize| weight[column * channels + row];
            Self::Product(Matrix::new(arithmetic, [channels, bias.len()], at, &bias), activation)
        } else {
            Self::Windows(Windows::new(arithmetic, &weight, &bias, activation, placement))
        }
    }

    fn is_open(&self) -> bool {
        match self {
            Self::Product(_, activation) => *activation == Activation::Identity,
            Self::Windows(windows) => windows.activation() == Activation::Identity,
            Self::Depthwise(_) | Self::Separable(_) => false,
        }
    }

    fn set_activation(&mut self, activation: Activation) {
        match self {
            Self::Product(_, behind) => *behind = activation,
            Self::Windows(windows) => windows.set_activation(activation),
            Self::Depthwise(_) | Self::Separable(_) => unreachable!("these are not open"),
        }
    }

    fn hand_over(&mut self, next: &mut Self) -> Option<packed::Extent> {
        let reader = match next {
            Self::Depthwise(depthwise) => depthwise,
            Self::Separable(separable) => separable.depthwise(),
            Self::Product(..) | Self::Windows(_) => return None,
        };
        let map = reader.blocked_map()?;
        let writes = match self {
            Self::Product(matrix, _) => matrix.write_blocks(map),
            Self::Windows(windows) => windows.write_blocks(map),
            Self::Separable(separable) => separable.write_blocks(map),
            Self::Depthwise(_) => false,
        };
        writes.then(|| {
            reader.read_blocks();
            map.extent()
        })
    }

    fn join(self, next: Self) -> Result<Self, (Self, Self)> {
        match (self, next) {
            (Self::Depthwise(depthwise), Self::Product(matrix, activation)) => {
                Ok(Self::Separable(Separable::new(depthwise, matrix, activation)))
            }
            apart => Err(apart),
        }
    }

    #[cfg(any(test, feature = "webgpu"))]
    fn room(extent: packed::Extent) -> usize {
        extent.values()
    }
}

/// A network ready to run for one input size.
#[derive(Debug)]
pub(crate) struct Plan {
    record: Record<Packed>,
    arena: Arena,
    /// Memory of runs that have ended, for those to come: as much as there ever were runs at once.
    idle: Mutex<Vec<Aligned<f32>>>,
}

impl Plan {
    /// Prepares a network, written down by `wire`, for pictures of a size.
    pub(crate) fn new(
        arithmetic: Arithmetic,
        [height, width]: [usize; 2],
        wire: impl FnOnce(&mut Recorder<Packed>, Value) -> Vec<Value>,
    ) -> Self {
        let (mut recorder, input) = Recorder::new(arithmetic, height, width);
        let outputs = wire(&mut recorder, input);
        let record = recorder.finish(outputs);
        Self { arena: Arena::new(&record), record, idle: Mutex::default() }
    }

    /// Values of all outputs of one picture.
    pub(crate) fn output_values(&self) -> usize {
        self.record.outputs.iter().map(|output| output.extent.values()).sum()
    }

    /// Runs the network on one picture; `fill` writes the input, all outputs follow each other in
    /// `out`.
    ///
    /// # Shapes
    ///
    /// - input: `[height, width, 3]`
    /// - `out`: the outputs one after the other, each `[height, width, channels]`
    pub(crate) fn run(&self, fill: impl FnOnce(&mut [f32]), out: &mut [f32]) {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut memory = idle.unwrap_or_else(|| Aligned::zeros(self.arena.length));
        fill(&mut memory[self.stretch(self.record.input)]);
        self.record.steps.iter().for_each(|step| self.take_step(step, &mut memory));
        let mut rest = out;
        for output in &self.record.outputs {
            let values = &memory[self.stretch(*output)];
            let (place, others) = rest.split_at_mut(values.len());
            place.copy_from_slice(values);
            rest = others;
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }

    /// Runs the network on as many pictures as `out` has room for, on all threads if there are any;
    /// `fill` writes the input of the picture of its number.
    pub(crate) fn run_batch(
        &self,
        fill: impl Fn(usize, &mut [f32]) + Sync + Send,
        out: &mut [f32],
    ) {
        let values = self.output_values();
        let pictures = out.len() / values.max(1);
        let (apart, shared) = out.split_at_mut(threads::one_each(pictures) * values);
        threads::for_chunks(apart, values, |index, out| self.run(|input| fill(index, input), out));
        let first = apart.len() / values.max(1);
        for (index, out) in shared.chunks_exact_mut(values).enumerate() {
            threads::together(|| self.run(|input| fill(first + index, input), out));
        }
    }

    /// Where a map lies in a run's memory.
    fn stretch(&self, value: Value) -> Range<usize> {
        let start = self.arena.stretches[value.index].start;
        start..start + value.extent.values()
    }

    fn take_step(&self, step: &Step<Packed>, memory: &mut [f32]) {
        let Range { start, end } = self.stretch(step.output);
        // What is read lies before or behind what is written.
        let (before, rest) = memory.split_at_mut(start);
        let (out, behind) = rest.split_at_mut(end - start);
        let input = |index: usize| {
            let from = self.stretch(step.inputs[index]);
            if from.end <= start {
                &before[from]
            } else {
                &behind[from.start - end..from.end - end]
            }
        };
        let extent = step.inputs[0].extent;
        match &step.operation {
            Operation::Convolve(convolution) => {
                let residual = (step.inputs.len() > 1).then(|| input(1));
                convolution.run(input(0), residual, out);
            }
            Operation::Copy => out.copy_from_slice(input(0)),
            Operation::Affine { scale, shift } => packed::affine(out, scale, shift),
            Operation::LayerNorm { scale, shift, epsilon } => {
                packed::layer_norm(out, scale, shift, *epsilon);
            }
            Operation::Apply(Gate::Sigmoid) => packed::apply(out, |x| 1.0 / (1.0 + (-x).exp())),
            Operation::Apply(Gate::HardSigmoid) => {
                packed::apply(out, |x| (x / 6.0 + 0.5).clamp(0.0, 1.0));
            }
            Operation::Apply(Gate::Tanh) => packed::apply(out, f32::tanh),
            Operation::Activate(activation) => packed::activate(out, *activation),
            Operation::Scale => packed::scale_channels(out, input(1)),
            Operation::Add(activation) => packed::add(out, input(1), *activation),
            Operation::Concatenate => {
                let map = |index: usize| (input(index), step.inputs[index].extent.channels);
                packed::concatenate([map(0), map(1)], out);
            }
            Operation::Upsample => packed::upsample(input(0), extent, out),
            Operation::MaxPool => packed::max_pool(input(0), extent, out),
            Operation::AveragePool => packed::average_pool(input(0), extent, out),
            Operation::GlobalPool(GlobalPool::Average) => packed::global_average(input(0), out),
            Operation::GlobalPool(GlobalPool::Max) => packed::global_maximum(input(0), out),
            Operation::AlignedLogit => {
                let limits = [SCORE_EPSILON as f32, SCORE_MARGIN as f32];
                packed::aligned_logit(out, input(1), limits);
            }
            Operation::Multiply => packed::multiply(out, input(1)),
            Operation::Tokens { before, added } => packed::tokens(input(0), before, added, out),
            Operation::Pixels(first) => {
                let from = first * extent.channels;
                out.copy_from_slice(&input(0)[from..from + out.len()]);
            }
            Operation::Rotate { cosines, sines, before, half } => {
                packed::rotate(out, extent.channels, *before, *half, [cosines, sines]);
            }
            Operation::Transpose(factor) => {
                packed::transpose(input(0), extent.channels, *factor, out);
            }
            Operation::Attend { heads } => {
                let sides = [extent.channels, *heads];
                packed::attend(input(0), input(1), input(2), sides, out);
            }
            Operation::UnitLength => {
                packed::unit_length(out, extent.channels, LENGTH_EPSILON as f32);
            }
            Operation::Pool(pool) => packed::pool(input(0), extent, pool, out),
            Operation::Pick(pick) => packed::pick(input(0), extent.channels, *pick, out),
            Operation::Enlarge(factors) => packed::enlarge(input(0), extent, *factors, out),
        }
    }
}
