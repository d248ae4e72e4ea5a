//! Operators of inference on the CPU: weights are packed once for the machine's vectors, bias and
//! activation are applied while a result is still in registers, results go where the caller says.
//!
//! All maps are channels-last and of one picture. Loops are written once over [`pulp::Simd`] and
//! compiled for every kind of vectors: AVX-512, AVX2, NEON, and the 128 bits of wasm.

#![allow(clippy::inline_always, reason = "vector code is chosen where a loop is inlined into")]

mod attention;
mod depthwise;
mod elementwise;
mod maps;
mod matrix;
mod product;
#[cfg(any(not(target_arch = "wasm32"), feature = "relaxed"))]
mod quantized;
mod separable;
mod windows;

pub(crate) use attention::{attend, key_step, rotate, tokens, transpose};
pub(crate) use depthwise::{BlockedMap, Depthwise};
use elementwise::smooth;
pub(crate) use elementwise::{
    activate, add, affine, aligned_logit, apply, average_pool, concatenate, global_average,
    global_maximum, layer_norm, max_pool, multiply, scale_channels, unit_length, upsample,
};
pub(crate) use maps::{enlarge, pick, pool};
pub(crate) use matrix::Matrix;
use product::PackedMatrix;
pub(crate) use separable::Separable;
pub(crate) use windows::Windows;

use std::cell::RefCell;

use pulp::{Simd, WithSimd};

use crate::activation::Activation;
use crate::simd::{dispatch, larger, smaller};
use gallery::aligned::Aligned;

/// Height, width and channels of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
}

impl Extent {
    /// Values of the map.
    pub(crate) fn values(self) -> usize {
        self.height * self.width * self.channels
    }

    /// Values of a line of pixels.
    pub(crate) fn line(self) -> usize {
        self.width * self.channels
    }
}

/// Where the kernel of a convolution lies over its input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placement {
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    /// Lines of padding above.
    pub(crate) top: usize,
    /// Pixels of padding to the left.
    pub(crate) left: usize,
    pub(crate) input: Extent,
    pub(crate) out_height: usize,
    pub(crate) out_width: usize,
}

impl Placement {
    /// Padding of `(kernel − 1) / 2` on every side.
    pub(crate) fn even(input: Extent, kernel: usize, stride: usize) -> Self {
        let padding = (kernel - 1) / 2;
        let out = |side: usize| (side + 2 * padding - kernel) / stride + 1;
        let (out_height, out_width) = (out(input.height), out(input.width));
        Self { kernel, stride, top: padding, left: padding, input, out_height, out_width }
    }

    /// TensorFlow's `SAME`: of the padding that `⌈side / stride⌉` outputs need, the odd one is last.
    pub(crate) fn same(input: Extent, kernel: usize, stride: usize) -> Self {
        let out = |side: usize| side.div_ceil(stride);
        let before = |side: usize| ((out(side) - 1) * stride + kernel).saturating_sub(side) / 2;
        let (out_height, out_width) = (out(input.height), out(input.width));
        let (top, left) = (before(input.height), before(input.width));
        Self { kernel, stride, top, left, input, out_height, out_width }
    }

    /// Without padding: what is left of a side behind the last whole window is not read.
    pub(crate) fn inside(input: Extent, kernel: usize, stride: usize) -> Self {
        let out = |side: usize| side.checked_sub(kernel).map_or(0, |room| room / stride + 1);
        let (out_height, out_width) = (out(input.height), out(input.width));
        Self { kernel, stride, top: 0, left: 0, input, out_height, out_width }
    }

    /// So many zeros above, to the left, below and to the right.
    pub(crate) fn within(
        input: Extent,
        kernel: usize,
        stride: usize,
        [top, left, bottom, right]: [usize; 4],
    ) -> Self {
        let out = |padded: usize| padded.checked_sub(kernel).map_or(0, |room| room / stride + 1);
        let out_height = out(input.height + top + bottom);
        let out_width = out(input.width + left + right);
        Self { kernel, stride, top, left, input, out_height, out_width }
    }

    /// Taps of an output position that lie inside an input side.
    #[inline(always)]
    fn taps(&self, output: usize, padding: usize, side: usize) -> std::ops::Range<usize> {
        let start = output * self.stride;
        padding.saturating_sub(start)..self.kernel.min((side + padding).saturating_sub(start))
    }

    /// Kernel lines over the input, for an output line.
    #[inline(always)]
    fn rows(&self, oy: usize) -> std::ops::Range<usize> {
        self.taps(oy, self.top, self.input.height)
    }

    /// Kernel columns over the input, for an output column.
    #[inline(always)]
    fn columns(&self, ox: usize) -> std::ops::Range<usize> {
        self.taps(ox, self.left, self.input.width)
    }
}

thread_local! {
    /// Room for what lies between two steps that run line by line, kept from picture to picture.
    static BAND: RefCell<Aligned<f32>> = RefCell::new(Aligned::default());
}

/// Runs `work` on this many values of room, whatever they are.
fn with_band<R>(length: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    BAND.with_borrow_mut(|band| {
        if band.len() < length {
            *band = Aligned::zeros(length);
        }
        work(&mut band[..length])
    })
}

/// Values of this machine's widest vector.
pub(crate) fn lanes() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    dispatch(Lanes)
}

/// The first vector of a slice that holds at least one.
#[inline(always)]
fn load<S: Simd>(values: &[f32]) -> S::f32s {
    S::as_simd_f32s(&values[..S::F32_LANES]).0[0]
}

/// Puts a vector to the start of a slice that has room for it.
#[inline(always)]
fn store<S: Simd>(values: &mut [f32], vector: S::f32s) {
    S::as_mut_simd_f32s(&mut values[..S::F32_LANES]).0[0] = vector;
}

/// An activation as numbers, so that a product asks once which it is, and no constants have to be made
/// anew for every vector. Depthwise loops are slower by it: their weights fill the registers, so they ask
/// [`activated`] every time.
#[derive(Debug)]
struct Ending {
    /// Whether `x` is multiplied by `slope · x + middle` within the bounds, or lies within them itself.
    is_gated: bool,
    low: f32,
    high: f32,
    slope: f32,
    middle: f32,
}

/// Of the activations in the order of their numbers; [`smooth`] ones are applied behind.
static ENDINGS: [Ending; 8] = [
    Ending::within(f32::NEG_INFINITY, f32::INFINITY),
    Ending::within(0.0, f32::INFINITY),
    Ending { is_gated: true, low: 0.0, high: 1.0, slope: 1.0 / 6.0, middle: 0.5 },
    Ending::within(0.0, 6.0),
    Ending::within(f32::NEG_INFINITY, f32::INFINITY),
    Ending::within(f32::NEG_INFINITY, f32::INFINITY),
    Ending::within(f32::NEG_INFINITY, f32::INFINITY),
    Ending::within(f32::NEG_INFINITY, f32::INFINITY),
];

impl Ending {
    const fn within(low: f32, high: f32) -> Self {
        Self { is_gated: false, low, high, slope: 0.0, middle: 0.0 }
    }

    fn of(activation: Activation) -> &'static Self {
        &ENDINGS[activation as usize]
    }
}

/// An activation of a whole vector, but for the [`smooth`] ones.
#[inline(always)]
fn activated<S: Simd>(simd: S, x: S::f32s, activation: Activation) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    match activation {
        Activation::Identity
        | Activation::Silu
        | Activation::Gelu
        | Activation::QuickGelu
        | Activation::GeluTanh => x,
        Activation::Relu => larger(simd, x, zero),
        Activation::Relu6 => smaller(simd, larger(simd, x, zero), simd.splat_f32s(6.0)),
        Activation::HardSwish => {
            let gate = simd.mul_add_e_f32s(x, simd.splat_f32s(1.0 / 6.0), simd.splat_f32s(0.5));
            let gate = smaller(simd, larger(simd, gate, zero), simd.splat_f32s(1.0));
            simd.mul_f32s(x, gate)
        }
    }
}

/// [`activated`] of one value.
#[inline(always)]
fn activated_value(x: f32, activation: Activation) -> f32 {
    match activation {
        Activation::Identity
        | Activation::Silu
        | Activation::Gelu
        | Activation::QuickGelu
        | Activation::GeluTanh => x,
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::HardSwish => x * (x * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::activated_value;
    use crate::activation::{Activation, gelu, gelu_tanh, quick_gelu, silu};

    /// An activation of one value.
    pub(super) fn exact(activation: Activation, x: f32) -> f32 {
        match activation {
            Activation::Silu => silu(x),
            Activation::Gelu => gelu(x),
            Activation::QuickGelu => quick_gelu(x),
            Activation::GeluTanh => gelu_tanh(x),
            others => activated_value(x, others),
        }
    }
}
