//! The right side of a product in the arithmetic that a network is run with.

use super::{PackedMatrix, QuantizedMatrix};
use crate::kernels::{Activation, Arithmetic};

/// Terms below which a product stays in floats: there is little to win, and the first layer of a
/// network sees pictures.
const LEAST_DEPTH: usize = 32;
/// Terms whose products always fit a 32-bit sum.
const MOST_DEPTH: usize = 1 << 16;

/// What a product of so many terms is computed with on this machine.
fn chosen(arithmetic: Arithmetic, depth: usize) -> Arithmetic {
    let is_slow = cfg!(all(target_arch = "wasm32", not(feature = "relaxed")));
    if is_slow || !(LEAST_DEPTH..=MOST_DEPTH).contains(&depth) {
        return Arithmetic::F32;
    }
    arithmetic
}

/// Packed weights.
#[derive(Debug)]
pub(crate) enum Matrix {
    Floats(PackedMatrix),
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
        match chosen(arithmetic, shape[0]) {
            Arithmetic::F32 => Self::Floats(PackedMatrix::new(shape, weight, bias)),
            Arithmetic::I8 => Self::WholeNumbers(QuantizedMatrix::new(shape, weight, bias)),
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
            Self::WholeNumbers(matrix) => {
                matrix.multiply_lines(width, make, activation, residual, out);
            }
        }
    }
}
