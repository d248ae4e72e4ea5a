//! Depthwise convolution with a 1×1 convolution behind it, a few lines at a time: what lies between
//! them never leaves the cache.

use super::{BlockedMap, Depthwise, Matrix};
use crate::activation::Activation;

/// Both convolutions.
#[derive(Debug)]
pub(crate) struct Separable {
    depthwise: Depthwise,
    matrix: Matrix,
    activation: Activation,
}

impl Separable {
    /// Joins two convolutions; the activation is the second one's.
    pub(crate) fn new(depthwise: Depthwise, matrix: Matrix, activation: Activation) -> Self {
        Self { depthwise, matrix, activation }
    }

    /// See [`Matrix::write_blocks`].
    pub(crate) fn write_blocks(&mut self, map: BlockedMap) -> bool {
        self.matrix.write_blocks(map)
    }

    /// The first convolution.
    pub(crate) fn depthwise(&mut self) -> &mut Depthwise {
        &mut self.depthwise
    }

    /// Convolves one picture.
    pub(crate) fn run(&self, x: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
        let width = self.depthwise.out_width();
        self.depthwise.with_input(x, |input| {
            let make =
                |first: usize, lines: &mut [f32]| self.depthwise.run_lines(input, first, lines);
            self.matrix.multiply_lines(width, make, self.activation, residual, out);
        });
    }
}
