//! Depthwise convolution with a 1×1 convolution behind it, a few lines at a time: what lies between
//! them never leaves the cache.

use super::product::{BLOCK_VALUES, Block};
use super::{Depthwise, PackedMatrix, with_band};
use crate::kernels::Activation;
use crate::kernels::cpu::{dispatch, for_chunks};

/// Both convolutions.
#[derive(Debug)]
pub(crate) struct Separable {
    depthwise: Depthwise,
    matrix: PackedMatrix,
    activation: Activation,
}

impl Separable {
    /// Joins two convolutions; the activation is the second one's.
    pub(crate) fn new(depthwise: Depthwise, matrix: PackedMatrix, activation: Activation) -> Self {
        Self { depthwise, matrix, activation }
    }

    /// Bytes that are held.
    pub(crate) fn bytes(&self) -> usize {
        self.depthwise.bytes() + self.matrix.bytes()
    }

    /// Convolves one picture.
    pub(crate) fn run(&self, x: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
        let placement = self.depthwise.placement();
        let between = placement.out_width * placement.input.channels;
        let lines = (BLOCK_VALUES / between.max(1)).max(1);
        let line = placement.out_width * self.matrix.columns();
        for_chunks(out, lines * line, |index, out| {
            let first = index * lines;
            with_band(out.len() / line * between, |band| {
                for (oy, values) in band.chunks_exact_mut(between).enumerate() {
                    self.depthwise.run_line(x, first + oy, values);
                }
                dispatch(Block {
                    x: band,
                    matrix: &self.matrix,
                    activation: self.activation,
                    residual: residual.map(|r| &r[first * line..][..out.len()]),
                    out,
                });
            });
        });
    }
}
