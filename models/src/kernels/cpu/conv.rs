//! Dense convolution as matrix products: the windows of an image are laid out as rows.
//!
//! A 1×1 convolution of stride 1 needs no windows: its rows are the pixels.

use burn::backend::TensorMetadata;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::FloatTensorOps;

use super::{Map, add, contiguous, for_chunks, sum_chunks, tensor, values};

/// Pieces that the weight gradient is summed in.
const WEIGHT_PIECES: usize = 8;

/// Rows that a matrix product should have at least.
const PRODUCT_ROWS: usize = 256;

/// Where the windows of a convolution lie; padding is `(kernel − 1) / 2`.
struct Windows {
    height: usize,
    width: usize,
    channels: usize,
    kernel: usize,
    stride: usize,
    out_height: usize,
    out_width: usize,
}

impl Windows {
    fn new([height, width, channels]: [usize; 3], kernel: usize, stride: usize) -> Self {
        let padding = (kernel - 1) / 2;
        let out = |side: usize| (side + 2 * padding - kernel) / stride + 1;
        let (out_height, out_width) = (out(height), out(width));
        Self { height, width, channels, kernel, stride, out_height, out_width }
    }

    fn are_pixels(&self) -> bool {
        self.kernel == 1 && self.stride == 1
    }

    /// Values of one window.
    fn length(&self) -> usize {
        self.kernel * self.kernel * self.channels
    }

    /// Windows of one image.
    fn count(&self) -> usize {
        self.out_height * self.out_width
    }

    /// Calls `visit(position in the windows, position in the image, length)` for every run of
    /// values that lies in both.
    #[inline(always)]
    fn for_each_run(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let (kernel, padding) = (self.kernel, (self.kernel - 1) / 2);
        for oy in 0..self.out_height {
            for ox in 0..self.out_width {
                let window = (oy * self.out_width + ox) * self.length();
                let (top, left) = (oy * self.stride, ox * self.stride);
                let first = padding.saturating_sub(left);
                let last = kernel.min(self.width + padding - left);
                for ky in padding.saturating_sub(top)..kernel.min(self.height + padding - top) {
                    let y = top + ky - padding;
                    let x = left + first - padding;
                    visit(
                        window + (ky * kernel + first) * self.channels,
                        (y * self.width + x) * self.channels,
                        (last - first) * self.channels,
                    );
                }
            }
        }
    }

    /// Values of one image.
    fn image(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Images of a piece of the work: enough for a good product, yet a few pieces a batch.
    fn images_a_piece(&self, batch: usize) -> usize {
        PRODUCT_ROWS.div_ceil(self.count()).min(batch.div_ceil(4)).max(1)
    }

    /// The windows of some images, `[images · count, length]`.
    fn lay_out(&self, images: &[f32]) -> FlexTensor {
        let piece = self.count() * self.length();
        let count = images.len() / self.image();
        let mut windows = vec![0.0; count * piece];
        for (windows, image) in
            windows.chunks_exact_mut(piece).zip(images.chunks_exact(self.image()))
        {
            self.for_each_run(|window, at, length| {
                windows[window..window + length].copy_from_slice(&image[at..at + length]);
            });
        }
        tensor(windows, [count * self.count(), self.length()])
    }
}

/// `[channels_out, channels_in, k, k]` → `[channels_out, k · k · channels_in]`.
fn weight_matrix(weight: &FlexTensor) -> FlexTensor {
    let [channels_out, channels_in, kernel, _] = weight.shape().dims();
    let weight = contiguous(weight.permute(&[0, 2, 3, 1]));
    weight.reshape([channels_out, kernel * kernel * channels_in].into())
}

pub(super) fn forward(x: &Map, weight: &FlexTensor, stride: usize) -> Map {
    let [channels_out, channels_in, kernel, _] = weight.shape().dims();
    let windows = Windows::new([x.height, x.width, channels_in], kernel, stride);
    let shape = [x.batch, windows.out_height, windows.out_width, channels_out];
    let weight = weight_matrix(weight).transpose(0, 1);
    if windows.are_pixels() {
        let out = Flex::float_matmul(x.matrix(), weight).reshape(shape.into());
        let [batch, height, width, channels] = shape;
        return Map { tensor: out, batch, height, width, channels };
    }
    let mut out = vec![0.0; shape.iter().product()];
    let (image, a_piece) = (windows.image(), windows.images_a_piece(x.batch));
    for_chunks(&mut out, a_piece * windows.count() * channels_out, |piece, out| {
        let first = piece * a_piece;
        let count = a_piece.min(x.batch - first);
        let rows = windows.lay_out(&x.values()[first * image..][..count * image]);
        out.copy_from_slice(values(&Flex::float_matmul(rows, weight.clone())));
    });
    Map::from_values(out, shape)
}

pub(super) fn x_backward(
    [height, width]: [usize; 2],
    weight: &FlexTensor,
    grad: &Map,
    stride: usize,
) -> Map {
    let [_, channels, kernel, _] = weight.shape().dims();
    let windows = Windows::new([height, width, channels], kernel, stride);
    let shape = [grad.batch, height, width, channels];
    let weight = weight_matrix(weight);
    if windows.are_pixels() {
        let dx = Flex::float_matmul(grad.matrix(), weight).reshape(shape.into());
        return Map { tensor: dx, batch: grad.batch, height, width, channels };
    }
    let mut dx = vec![0.0; shape.iter().product()];
    let upstream = grad.matrix();
    let (image, a_piece) = (windows.image(), windows.images_a_piece(grad.batch));
    for_chunks(&mut dx, a_piece * image, |piece, dx| {
        let first = piece * a_piece;
        let count = a_piece.min(grad.batch - first);
        let upstream = upstream.narrow(0, first * windows.count(), count * windows.count());
        let product = Flex::float_matmul(upstream, weight.clone());
        let products = values(&product).chunks_exact(windows.count() * windows.length());
        for (dx, product) in dx.chunks_exact_mut(image).zip(products) {
            windows.for_each_run(|window, at, length| {
                add(&mut dx[at..at + length], &product[window..window + length]);
            });
        }
    });
    Map::from_values(dx, shape)
}

pub(super) fn weight_backward(x: &Map, kernel: usize, grad: &Map, stride: usize) -> FlexTensor {
    let (channels_in, channels_out) = (x.channels, grad.channels);
    let windows = Windows::new([x.height, x.width, channels_in], kernel, stride);
    let (pixels, upstream) = (x.matrix(), grad.matrix());
    let image = windows.image();
    let images_a_piece = x.batch.div_ceil(WEIGHT_PIECES).max(1);
    let length = channels_out * windows.length();
    let mut pieces = vec![0.0; x.batch.div_ceil(images_a_piece) * length];
    for_chunks(&mut pieces, length, |piece, sums| {
        let images = piece * images_a_piece..((piece + 1) * images_a_piece).min(x.batch);
        // Windows of few images at a time stay in the cache.
        let step = if windows.are_pixels() {
            images.len().max(1)
        } else {
            windows.images_a_piece(x.batch)
        };
        for first in images.clone().step_by(step) {
            let count = step.min(images.end - first);
            let (start, rows) = (first * windows.count(), count * windows.count());
            let input = if windows.are_pixels() {
                pixels.narrow(0, start, rows)
            } else {
                windows.lay_out(&x.values()[first * image..][..count * image])
            };
            let upstream = upstream.narrow(0, start, rows).transpose(0, 1);
            add(sums, values(&Flex::float_matmul(upstream, input)));
        }
    });
    let matrix = tensor(sum_chunks(&pieces, length), [channels_out, kernel, kernel, channels_in]);
    matrix.permute(&[0, 3, 1, 2])
}
