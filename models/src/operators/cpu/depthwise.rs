//! Depthwise convolution: every output pixel is a sum over taps of products of channel vectors.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;

use super::{Map, Piece, for_pieces, multiply_add, sum_chunks, tensor, values, zeros};

/// Channels whose sums are held in registers at once.
const WIDE: usize = 32;
/// The same for what is left; the networks' widths are multiples of it.
const NARROW: usize = 8;

/// Pieces that the weight gradient is summed in: fixed, so that its sum has the same order whatever the threads,
/// and enough for 16 of them.
const WEIGHT_PIECES: usize = 16;

/// For one side: the `(tap, position)` pairs that a position on the other side is tied to.
type Ties = Vec<Vec<(usize, usize)>>;

/// Input positions behind every output position; padding is `(kernel − 1) / 2`.
fn inputs_of(inputs: usize, kernel: usize, stride: usize) -> Ties {
    let padding = (kernel - 1) / 2;
    let outputs = (inputs + 2 * padding - kernel) / stride + 1;
    let behind = |output: usize| {
        (0..kernel)
            .filter_map(|tap| Some((tap, (output * stride + tap).checked_sub(padding)?)))
            .filter(|&(_, input)| input < inputs)
            .collect()
    };
    (0..outputs).map(behind).collect()
}

/// The same pairs, listed by input position.
fn outputs_of(inputs: usize, kernel: usize, stride: usize) -> Ties {
    let mut ties = vec![Vec::new(); inputs];
    for (output, pairs) in inputs_of(inputs, kernel, stride).into_iter().enumerate() {
        for (tap, input) in pairs {
            ties[input].push((tap, output));
        }
    }
    ties
}

/// `[channels, 1, k, k]` → `[k · k, channels]`.
fn by_tap(weight: &FlexTensor) -> (Vec<f32>, usize) {
    let [channels, _, kernel, _] = weight.shape().dims();
    let (weight, taps) = (values(weight), kernel * kernel);
    let by_tap =
        (0..taps).flat_map(|tap| (0..channels).map(move |c| weight[c * taps + tap])).collect();
    (by_tap, kernel)
}

/// Pixels of one map summed, tap by tap, into the pixels of a map of `rows.len()` ×
/// `columns.len()`; a piece is one line of the latter.
struct Gather<'a> {
    source: &'a Map,
    values: &'a [f32],
    /// `[k · k, channels]`
    weight: &'a [f32],
    kernel: usize,
    rows: &'a Ties,
    columns: &'a Ties,
}

impl Gather<'_> {
    /// `L` channels of one output pixel, from channel `start` on.
    #[inline(always)]
    fn block<const L: usize>(
        &self,
        image: usize,
        row: &[(usize, usize)],
        column: &[(usize, usize)],
        start: usize,
    ) -> [f32; L] {
        let Map { height, width, channels, .. } = *self.source;
        let mut sums = [0.0; L];
        for &(ky, y) in row {
            for &(kx, x) in column {
                let at = ((image * height + y) * width + x) * channels + start;
                let tap = (ky * self.kernel + kx) * channels + start;
                let (values, weight) = (&self.values[at..at + L], &self.weight[tap..tap + L]);
                for lane in 0..L {
                    sums[lane] = multiply_add(values[lane], weight[lane], sums[lane]);
                }
            }
        }
        sums
    }
}

impl Piece for Gather<'_> {
    #[inline(always)]
    fn run(&self, index: usize, line: &mut [f32]) {
        let height = self.rows.len();
        let (image, row) = (index / height, &self.rows[index % height]);
        for (pixel, column) in line.chunks_exact_mut(self.source.channels).zip(self.columns) {
            let mut wide = pixel.chunks_exact_mut(WIDE);
            let mut start = 0;
            for target in &mut wide {
                target.copy_from_slice(&self.block::<WIDE>(image, row, column, start));
                start += WIDE;
            }
            let mut narrow = wide.into_remainder().chunks_exact_mut(NARROW);
            for target in &mut narrow {
                target.copy_from_slice(&self.block::<NARROW>(image, row, column, start));
                start += NARROW;
            }
            for target in narrow.into_remainder() {
                [*target] = self.block::<1>(image, row, column, start);
                start += 1;
            }
        }
    }
}

fn gather(source: &Map, weight: &FlexTensor, rows: &Ties, columns: &Ties) -> Map {
    let (weight, kernel) = by_tap(weight);
    let shape = [source.batch, rows.len(), columns.len(), source.channels];
    let mut out = zeros(shape.iter().product());
    let piece = Gather { source, values: source.values(), weight: &weight, kernel, rows, columns };
    for_pieces(&mut out, columns.len() * source.channels, &piece);
    Map::from_values(out, shape)
}

pub(super) fn forward(x: &Map, weight: &FlexTensor, stride: usize) -> Map {
    let [_, _, kernel, _] = weight.shape().dims();
    let rows = inputs_of(x.height, kernel, stride);
    let columns = inputs_of(x.width, kernel, stride);
    gather(x, weight, &rows, &columns)
}

pub(super) fn x_backward(
    [height, width]: [usize; 2],
    weight: &FlexTensor,
    grad: &Map,
    stride: usize,
) -> Map {
    let [_, _, kernel, _] = weight.shape().dims();
    let rows = outputs_of(height, kernel, stride);
    let columns = outputs_of(width, kernel, stride);
    gather(grad, weight, &rows, &columns)
}

/// Sums of input times upstream gradient for every tap, `[k · k, channels]` a piece.
struct WeightSums<'a> {
    x: &'a Map,
    x_values: &'a [f32],
    grad: &'a Map,
    grad_values: &'a [f32],
    kernel: usize,
    rows: &'a Ties,
    columns: &'a Ties,
    /// Lines of the gradient that a piece covers.
    lines: usize,
}

impl Piece for WeightSums<'_> {
    #[inline(always)]
    fn run(&self, index: usize, sums: &mut [f32]) {
        let (x, grad, channels) = (self.x, self.grad, self.x.channels);
        let first = index * self.lines;
        for line in first..(first + self.lines).min(grad.batch * grad.height) {
            let (image, row) = (line / grad.height, &self.rows[line % grad.height]);
            for (ox, column) in self.columns.iter().enumerate() {
                let upstream = &self.grad_values[(line * grad.width + ox) * channels..][..channels];
                for &(ky, iy) in row {
                    for &(kx, ix) in column {
                        let at = ((image * x.height + iy) * x.width + ix) * channels;
                        let input = &self.x_values[at..at + channels];
                        let sums = &mut sums[(ky * self.kernel + kx) * channels..][..channels];
                        for c in 0..channels {
                            sums[c] = multiply_add(input[c], upstream[c], sums[c]);
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn weight_backward(x: &Map, kernel: usize, grad: &Map, stride: usize) -> FlexTensor {
    let (channels, taps) = (x.channels, kernel * kernel);
    let count = grad.batch * grad.height;
    let lines = count.div_ceil(WEIGHT_PIECES).max(1);
    let mut pieces = vec![0.0; count.div_ceil(lines) * taps * channels];
    let sums = WeightSums {
        x,
        x_values: x.values(),
        grad,
        grad_values: grad.values(),
        kernel,
        rows: &inputs_of(x.height, kernel, stride),
        columns: &inputs_of(x.width, kernel, stride),
        lines,
    };
    for_pieces(&mut pieces, taps * channels, &sums);
    let by_tap = sum_chunks(&pieces, taps * channels);
    let by_channel = (0..channels).flat_map(|c| (0..taps).map(move |tap| (c, tap)));
    let weight = by_channel.map(|(c, tap)| by_tap[tap * channels + c]).collect();
    tensor(weight, [channels, 1, kernel, kernel])
}
