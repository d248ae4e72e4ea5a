//! The right side of a product in the arithmetic that a network is run with. Modules for browsers without
//! relaxed SIMD have floats alone.

#[cfg(any(not(target_arch = "wasm32"), feature = "relaxed"))]
use super::quantized::{COLUMNS, QuantizedMatrix};
use super::{BlockedMap, PackedMatrix};
use crate::activation::Activation;
use crate::inference::Arithmetic;

/// Terms of products in int8. With fewer there is little to win, and the first layer of a
/// network sees pictures; with more a sum may not fit 32 bits.
#[cfg(any(not(target_arch = "wasm32"), feature = "relaxed"))]
const DEPTHS: std::ops::RangeInclusive<usize> = 32..=1 << 16;

/// Packed weights.
#[derive(Debug)]
pub(crate) enum Matrix {
    Floats(PackedMatrix),
    #[cfg(any(not(target_arch = "wasm32"), feature = "relaxed"))]
    WholeNumbers(QuantizedMatrix),
}

impl Matrix {
    /// Packs `[rows, columns]` of weights, given as `weight(row, column)`.
    pub(crate) fn new(
        arithmetic: Arithmetic,
        shape: [usize; 2],
        weight: impl Fn(usize, usize) -> f32,
        bias: &[f32],
    ) -> Self {
        match arithmetic {
            #[cfg(any(not(target_arch = "wasm32"), feature = "relaxed"))]
            Arithmetic::I8 if DEPTHS.contains(&shape[0]) && shape[1] >= COLUMNS => {
                Self::WholeNumbers(QuantizedMatrix::new(shape, weight, bias))
            }
            Arithmetic::F32 | Arithmetic::I8 => {
                Self::Floats(PackedMatrix::new(shape, weight, bias))
            }
        }
    }

    /// Has the result written in blocks of channels, with zeros in the padding; whether it can be.
    pub(crate) fn write_blocks(&mut self, map: BlockedMap) -> bool {
        match self {
            Self::Floats(matrix) => {
                matrix.write_blocks(map);
                true
            }
            #[cfg(any(not(target_arch = "wasm32"), feature = "relaxed"))]
            Self::WholeNumbers(_) => false,
        }
    }

    /// See [`PackedMatrix::multiply`].
    pub(crate) fn multiply(
        &self,
        x: &[f32],
        activation: Activation,
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) {
        match self {
            Self::Floats(matrix) => matrix.multiply(x, activation, residual, out),
            #[cfg(any(not(target_arch = "wasm32"), feature = "relaxed"))]
            Self::WholeNumbers(matrix) => matrix.multiply(x, activation, residual, out),
        }
    }

    /// See [`PackedMatrix::multiply_lines`].
    pub(super) fn multiply_lines(
        &self,
        width: usize,
        make: impl Fn(usize, &mut [f32]) + Sync,
        activation: Activation,
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) {
        match self {
            Self::Floats(matrix) => matrix.multiply_lines(width, make, activation, residual, out),
            #[cfg(any(not(target_arch = "wasm32"), feature = "relaxed"))]
            Self::WholeNumbers(matrix) => {
                matrix.multiply_lines(width, make, activation, residual, out);
            }
        }
    }
}
