//! Inference plans: a network's steps for one input size, weights packed for a processor, maps in memory
//! that is shared and kept.
//!
//! A plan is written down from the module itself: [`Recorder`] walks the network's own wiring (see
//! [`Flow`](crate::layers::Flow)) and packs each layer's weights, with normalization folded in. No
//! network is described twice; the tests hold every architecture's plan against its module.

mod cpu;
#[cfg(feature = "webgpu")]
mod gpu;
mod memory;
mod record;

use crate::activation::Activation;
use crate::inference::Arithmetic;
use crate::inference::packed::{Extent, Placement};
use crate::layers::{Gate, GlobalPool, Pick, Pool};

pub(crate) use cpu::Plan;
#[cfg(feature = "webgpu")]
pub(crate) use gpu::GpuPlan;
use record::Recorder;

/// A map of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value {
    index: usize,
    extent: Extent,
}

/// A convolution or a linear layer, normalization folded in.
#[derive(Debug)]
pub(crate) struct Layer {
    /// `[channels_out, channels_in, kernel, kernel]`; with one filter a channel `[channels, 1, kernel, kernel]`
    weight: Vec<f32>,
    bias: Vec<f32>,
    activation: Activation,
    placement: Placement,
    is_depthwise: bool,
}

impl Layer {
    /// Whether it is a matrix product at every pixel.
    fn is_product(&self) -> bool {
        !self.is_depthwise && self.placement.kernel == 1 && self.placement.stride == 1
    }
}

/// A [`Layer`] as a processor wants it. Where its step has a second input, that is added before the
/// activation.
pub(crate) trait Convolution: Sized {
    /// Whether steps that change every value by itself overwrite their first input.
    const IN_PLACE: bool;

    /// Whether attention reads keys that a step before has laid out for it.
    const KEYS_ACROSS: bool;

    /// Packs the weights.
    fn new(arithmetic: Arithmetic, layer: Layer) -> Self;

    /// Whether it could still end with a sum or an activation: it is dense and has no activation.
    fn is_open(&self) -> bool;

    /// What it ends with, behind a sum where there is one.
    fn set_activation(&mut self, activation: Activation);

    /// Has the result handed to `next`, which alone reads it, as is best for that; the extent whose room it then takes,
    /// or none where it stays as it is.
    fn hand_over(&mut self, next: &mut Self) -> Option<Extent> {
        let _ = next;
        None
    }

    /// This one and `next`, which alone reads it, as one step; both come back where that is none.
    fn join(self, next: Self) -> Result<Self, (Self, Self)>;

    /// The room that a map takes, in whatever the processor counts.
    #[cfg(any(test, feature = "webgpu"))]
    fn room(extent: Extent) -> usize;
}

/// What one step does with its inputs.
#[derive(Debug)]
enum Operation<C> {
    Convolve(C),
    Affine {
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
    LayerNorm {
        scale: Vec<f32>,
        shift: Vec<f32>,
        epsilon: f32,
    },
    /// The first input once more, for a step that overwrites it.
    Copy,
    Apply(Gate),
    /// An activation that no convolution ends with.
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
    Multiply,
    /// A line of pixels: those `before` all others, then those of the input, with what is `added`, if anything is.
    Tokens {
        before: Vec<f32>,
        added: Vec<f32>,
    },
    /// Pixels from this one on, as many as the output has.
    Pixels(usize),
    /// Pixels behind the first `before` turned by angles, `half` of them each.
    Rotate {
        cosines: Vec<f32>,
        sines: Vec<f32>,
        before: usize,
        half: usize,
    },
    /// Channels become lines, times a factor.
    Transpose(f32),
    /// Of queries, keys and values.
    Attend {
        heads: usize,
    },
    Pool(Pool),
    Pick(Pick),
    /// Every pixel so many times down and to the right.
    Enlarge([usize; 2]),
}

impl<C: Convolution> Operation<C> {
    /// Whether the output takes the place of the first input.
    fn is_in_place(&self) -> bool {
        C::IN_PLACE
            && matches!(
                self,
                Self::Affine { .. }
                    | Self::LayerNorm { .. }
                    | Self::Apply(_)
                    | Self::Activate(_)
                    | Self::Scale
                    | Self::Add(_)
                    | Self::AlignedLogit
                    | Self::UnitLength
                    | Self::Multiply
                    | Self::Rotate { .. }
            )
    }
}

/// One step: inputs, output.
#[derive(Debug)]
struct Step<C> {
    operation: Operation<C>,
    inputs: Vec<Value>,
    output: Value,
}

/// What a network does.
#[derive(Debug)]
struct Record<C> {
    steps: Vec<Step<C>>,
    /// How many there are, or were before steps became one.
    maps: usize,
    input: Value,
    outputs: Vec<Value>,
}
