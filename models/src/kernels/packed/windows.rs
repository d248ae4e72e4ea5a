//! Dense convolution of any kernel: the windows of a few output lines are laid out as rows.

use super::product::Block;
use super::{PackedMatrix, Placement, with_band};
use crate::kernels::Activation;
use crate::kernels::cpu::{dispatch, for_chunks};

/// Values of the windows that are laid out at a time: they stay in the second-level cache.
const BAND_VALUES: usize = 1 << 16;

/// A convolution of one group.
#[derive(Debug)]
pub(crate) struct Windows {
    /// `[kernel · kernel · channels_in, channels_out]`
    matrix: PackedMatrix,
    activation: Activation,
    placement: Placement,
}

impl Windows {
    /// Packs `[channels_out, channels_in, kernel, kernel]`.
    pub(crate) fn new(
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
        let matrix = PackedMatrix::new([taps * channels, bias.len()], at, bias);
        Self { matrix, activation, placement }
    }

    /// Bytes that are held.
    pub(crate) fn bytes(&self) -> usize {
        self.matrix.bytes()
    }

    /// What is applied behind the convolution.
    pub(crate) fn activation(&self) -> Activation {
        self.activation
    }

    /// Applies something else behind the convolution.
    pub(crate) fn set_activation(&mut self, activation: Activation) {
        self.activation = activation;
    }

    /// Convolves one picture.
    pub(crate) fn run(&self, x: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
        let Placement { kernel, input, out_width, .. } = self.placement;
        let window = kernel * kernel * input.channels;
        let lines = (BAND_VALUES / (out_width * window).max(1)).max(1);
        let line = out_width * self.matrix.columns();
        for_chunks(out, lines * line, |index, out| {
            let first = index * lines;
            let count = out.len() / line;
            with_band(count * out_width * window, |band| {
                // The padding.
                band.fill(0.0);
                for (oy, rows) in band.chunks_exact_mut(out_width * window).enumerate() {
                    self.lay_out(x, first + oy, rows);
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
                row[to..to + length].copy_from_slice(&x[from..from + length]);
            }
        }
    }
}
