//! Inference plans: a network's steps for one input size on the CPU, weights packed, maps in memory
//! that is shared and kept.
//!
//! A plan is written down from the module itself: [`Recorder`] walks the network's own wiring (see
//! [`Flow`](crate::layers::Flow)) and packs each layer's weights, with normalisation folded in. No
//! network is described twice; the tests hold every architecture's plan against its module.

mod memory;
mod record;

use std::sync::{Mutex, PoisonError};

use crate::kernels::Activation;
use crate::kernels::packed::{self, Aligned, Depthwise, Extent, Matrix, Separable, Windows};
use crate::kernels::threads;
use crate::layers::{Gate, GlobalPool, LENGTH_EPSILON, SCORE_EPSILON, SCORE_MARGIN};

pub use record::Recorder;

/// A map of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    index: usize,
    extent: Extent,
}

/// What one step does with its inputs.
#[derive(Debug)]
enum Operation {
    /// 1×1 convolution or linear layer; adds its second input before the activation, if it has one.
    Product(Matrix, Activation),
    /// Dense convolution; adds its second input before the activation, if it has one.
    Windows(Windows),
    Depthwise(Depthwise),
    /// Both of the above at once; adds its second input before the activation, if it has one.
    Separable(Separable),
    Affine {
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
    /// The first input once more, for a step that overwrites it.
    Copy,
    Apply(Gate),
    /// An activation with nothing before it.
    Activate(Activation),
    Scale,
    Add(Activation),
    Concatenate,
    Upsample,
    MaxPool,
    AveragePool,
    GlobalPool(GlobalPool),
    AlignedLogit,
    UnitLength,
}

impl Operation {
    /// Whether the output takes the place of the first input.
    fn is_in_place(&self) -> bool {
        matches!(
            self,
            Self::Affine { .. }
                | Self::Apply(_)
                | Self::Activate(_)
                | Self::Scale
                | Self::Add(_)
                | Self::AlignedLogit
                | Self::UnitLength
        )
    }
}

/// One step: inputs, output.
#[derive(Debug)]
struct Step {
    operation: Operation,
    inputs: Vec<Value>,
    output: Value,
}

/// A network ready to run for one input size.
#[derive(Debug)]
pub struct Plan {
    steps: Vec<Step>,
    /// Where each map lies while it is needed.
    places: Vec<usize>,
    /// Most values that a place holds.
    sizes: Vec<usize>,
    input: Value,
    outputs: Vec<Value>,
    /// Memory of runs that have ended, for those to come: as much as there ever were runs at once.
    idle: Mutex<Vec<Workspace>>,
}

/// Memory of one run: a buffer a place.
type Workspace = Vec<Aligned>;

impl Plan {
    /// Values of all outputs of one picture.
    pub fn output_values(&self) -> usize {
        self.outputs.iter().map(|output| output.extent.values()).sum()
    }

    /// Bytes of the maps of one run.
    pub fn map_bytes(&self) -> usize {
        self.sizes.iter().sum::<usize>() * size_of::<f32>()
    }

    /// Runs the network on one picture; `fill` writes the input, all outputs follow each other in
    /// `out`.
    ///
    /// # Shapes
    ///
    /// - input: `[height, width, 3]`
    /// - `out`: the outputs one after the other, each `[height, width, channels]`
    pub fn run(&self, fill: impl FnOnce(&mut [f32]), out: &mut [f32]) {
        let mut workspace = self.take_workspace();
        let input = &mut workspace[self.places[self.input.index]];
        fill(&mut input[..self.input.extent.values()]);
        self.steps.iter().for_each(|step| self.take_step(step, &mut workspace));
        let mut rest = out;
        for output in &self.outputs {
            let values = self.values(&workspace, *output);
            let (place, others) = rest.split_at_mut(values.len());
            place.copy_from_slice(values);
            rest = others;
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(workspace);
    }

    /// Runs the network on as many pictures as `out` has room for, on all threads if there are any;
    /// `fill` writes the input of the picture of its number.
    pub fn run_batch(&self, fill: impl Fn(usize, &mut [f32]) + Sync + Send, out: &mut [f32]) {
        let values = self.output_values();
        let pictures = out.len() / values.max(1);
        let (apart, shared) = out.split_at_mut(threads::one_each(pictures) * values);
        threads::for_chunks(apart, values, |index, out| self.run(|input| fill(index, input), out));
        let first = apart.len() / values.max(1);
        for (index, out) in shared.chunks_exact_mut(values).enumerate() {
            threads::together(|| self.run(|input| fill(first + index, input), out));
        }
    }

    fn take_workspace(&self) -> Workspace {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| self.sizes.iter().map(|size| Aligned::zeros(*size)).collect())
    }

    fn values<'a>(&self, workspace: &'a Workspace, value: Value) -> &'a [f32] {
        &workspace[self.places[value.index]][..value.extent.values()]
    }

    fn take_step(&self, step: &Step, workspace: &mut Workspace) {
        let place = self.places[step.output.index];
        // Taken out while it is written, so that the other places can be read.
        let mut buffer = std::mem::take(&mut workspace[place]);
        let out = &mut buffer[..step.output.extent.values()];
        let input = |index: usize| self.values(workspace, step.inputs[index]);
        let extent = step.inputs[0].extent;
        let residual = (step.inputs.len() > 1).then_some(1);
        match &step.operation {
            Operation::Product(matrix, activation) => {
                matrix.multiply(input(0), *activation, residual.map(input), out);
            }
            Operation::Windows(windows) => windows.run(input(0), residual.map(input), out),
            Operation::Depthwise(depthwise) => depthwise.run(input(0), out),
            Operation::Separable(separable) => separable.run(input(0), residual.map(input), out),
            Operation::Copy => out.copy_from_slice(input(0)),
            Operation::Affine { scale, shift } => packed::affine(out, scale, shift),
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
            Operation::UnitLength => {
                packed::unit_length(out, extent.channels, LENGTH_EPSILON as f32);
            }
        }
        workspace[place] = buffer;
    }
}
