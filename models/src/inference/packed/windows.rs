//! Dense convolution of any kernel: the windows of a few output lines are laid out as rows.

use super::{BlockedMap, Matrix, Placement};
use crate::activation::Activation;
use crate::inference::Arithmetic;

/// Values of a window's line where pictures come in, which has three columns of three colors. A copy
/// of this many is a few instructions; one of a length that is not known is a call.
const STEM: usize = 9;

/// A convolution of one group.
#[derive(Debug)]
pub(crate) struct Windows {
    /// `[kernel · kernel · channels_in, channels_out]`
    matrix: Matrix,
    activation: Activation,
    placement: Placement,
}

impl Windows {
    /// Packs `[channels_out, channels_in, kernel, kernel]`.
    pub(crate) fn new(
        arithmetic: Arithmetic,
        weight: &[f32],
        bias: &[f32],
        activation: Activation,
        placement: Placement,
    ) -> Self {
        let (channels, taps) = (placement.input.channels, placement.kernel * placement.kernel);
        let at = |row: usize, column: usize| {
            let (tap, channel) = (row / channels, row % channels);
            weight[(column * channels + channel) * taps + tap]
        };
        let matrix = Matrix::new(arithmetic, [taps * channels, bias.len()], at, bias);
        Self { matrix, activation, placement }
    }

    /// What is applied behind the convolution.
    pub(crate) fn activation(&self) -> Activation {
        self.activation
    }

    /// Applies something else behind the convolution.
    pub(crate) fn set_activation(&mut self, activation: Activation) {
        self.activation = activation;
    }

    /// See [`Matrix::write_blocks`].
    pub(crate) fn write_blocks(&mut self, map: BlockedMap) -> bool {
        self.matrix.write_blocks(map)
    }

    /// Convolves one picture.
    pub(crate) fn run(&self, x: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
        let width = self.placement.out_width;
        let Placement { kernel, input, .. } = self.placement;
        let line = width * kernel * kernel * input.channels;
        let make = |first: usize, rows: &mut [f32]| {
            // The padding.
            rows.fill(0.0);
            for (index, rows) in rows.chunks_exact_mut(line).enumerate() {
                self.lay_out(x, first + index, rows);
            }
        };
        self.matrix.multiply_lines(width, make, self.activation, residual, out);
    }

    /// The windows of one output line, `[out_width, kernel · kernel · channels]`; what lies in the
    /// padding stays as it is.
    fn lay_out(&self, x: &[f32], oy: usize, rows: &mut [f32]) {
        let Placement { kernel, stride, top, left, input, .. } = self.placement;
        let channels = input.channels;
        for (ox, row) in rows.chunks_exact_mut(kernel * kernel * channels).enumerate() {
            let columns = self.placement.columns(ox);
            let length = columns.len() * channels;
            for ky in self.placement.rows(oy) {
                let (iy, ix) = (oy * stride + ky - top, ox * stride + columns.start - left);
                let from = (iy * input.width + ix) * channels;
                let to = (ky * kernel + columns.start) * channels;
                let (to, from) = (&mut row[to..to + length], &x[from..from + length]);
                match (to.as_mut_array::<STEM>(), from.as_array::<STEM>()) {
                    (Some(to), Some(from)) => *to = *from,
                    _ => to.copy_from_slice(from),
                }
            }
        }
    }
}
