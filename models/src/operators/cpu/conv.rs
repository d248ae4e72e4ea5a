//! Dense convolution as matrix products: the windows of an image are laid out as rows.
//!
//! A 1×1 convolution of stride 1 needs no windows: its rows are the pixels.

use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::FloatTensorOps;

use super::{Map, add, contiguous, sum_chunks, tensor, values, zeros};
use crate::threads::for_chunks;

/// Most pieces that the weight gradient is summed in: each holds a whole gradient of its own until they are added
/// up.
const WEIGHT_PIECES: usize = 8;

/// Rows that a piece of the weight gradient should have: with fewer, adding up the pieces costs more
/// than the products.
const WEIGHT_ROWS: usize = 2048;

/// Images of fewer windows are laid out together, for one product on all threads.
const FEW_WINDOWS: usize = 512;

/// Values of the windows that are laid out at a time of an image of many: they stay in the
/// second-level cache.
const BAND_VALUES: usize = 1 << 17;

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
    /// values that lies in both; the windows are those of some output rows.
    #[inline(always)]
    fn for_each_run(&self, rows: Range<usize>, mut visit: impl FnMut(usize, usize, usize)) {
        let (kernel, padding) = (self.kernel, (self.kernel - 1) / 2);
        for oy in rows.clone() {
            for ox in 0..self.out_width {
                let window = ((oy - rows.start) * self.out_width + ox) * self.length();
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

    /// Whether an image has too few windows for products of its own.
    fn are_few(&self) -> bool {
        self.count() < FEW_WINDOWS
    }

    /// Runs of output rows whose windows fit into the cache.
    fn bands(&self) -> impl Iterator<Item = Range<usize>> {
        let rows = (BAND_VALUES / (self.out_width * self.length()).max(1)).max(1);
        let height = self.out_height;
        (0..height).step_by(rows).map(move |first| first..(first + rows).min(height))
    }

    fn fill(&self, image: &[f32], rows: Range<usize>, windows: &mut [f32]) {
        self.for_each_run(rows, |window, at, length| {
            windows[window..window + length].copy_from_slice(&image[at..at + length]);
        });
    }

    fn add_back(&self, windows: &[f32], rows: Range<usize>, image: &mut [f32]) {
        self.for_each_run(rows, |window, at, length| {
            add(&mut image[at..at + length], &windows[window..window + length]);
        });
    }

    /// The windows of some output rows of an image, `[rows · out_width, length]`.
    fn lay_out_band(&self, image: &[f32], rows: Range<usize>) -> FlexTensor {
        let count = rows.len() * self.out_width;
        let mut windows = vec![0.0; count * self.length()];
        self.fill(image, rows, &mut windows);
        tensor(windows, [count, self.length()])
    }

    /// The windows of all images, `[images · count, length]`.
    fn lay_out(&self, images: &[f32]) -> FlexTensor {
        let count = images.len() / self.image() * self.count();
        let mut windows = zeros(count * self.length());
        for_chunks(&mut windows, self.count() * self.length(), |image, windows| {
            let image = &images[image * self.image()..][..self.image()];
            self.fill(image, 0..self.out_height, windows);
        });
        tensor(windows, [count, self.length()])
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
        return Map::from_matrix(&Flex::float_matmul(x.matrix(), weight), shape);
    }
    if windows.are_few() {
        let out = Flex::float_matmul(windows.lay_out(x.values()), weight);
        return Map::from_matrix(&out, shape);
    }
    let mut out = zeros(shape.iter().product());
    for_chunks(&mut out, windows.count() * channels_out, |image, out| {
        let image = &x.values()[image * windows.image()..][..windows.image()];
        let row = windows.out_width * channels_out;
        for band in windows.bands() {
            let out = &mut out[band.start * row..band.end * row];
            let input = windows.lay_out_band(image, band);
            out.copy_from_slice(values(&Flex::float_matmul(input, weight.clone())));
        }
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
        return Map::from_matrix(&Flex::float_matmul(grad.matrix(), weight), shape);
    }
    let mut dx = zeros(shape.iter().product());
    let upstream = grad.matrix();
    let together = windows.are_few().then(|| Flex::float_matmul(upstream.clone(), weight.clone()));
    for_chunks(&mut dx, windows.image(), |image, dx| {
        let first = image * windows.count();
        if let Some(product) = &together {
            let product = &values(product)[first * windows.length()..];
            windows.add_back(product, 0..windows.out_height, dx);
            return;
        }
        for band in windows.bands() {
            let start = first + band.start * windows.out_width;
            let upstream = upstream.narrow(0, start, band.len() * windows.out_width);
            let product = Flex::float_matmul(upstream, weight.clone());
            windows.add_back(values(&product), band, dx);
        }
    });
    Map::from_values(dx, shape)
}

pub(super) fn weight_backward(x: &Map, kernel: usize, grad: &Map, stride: usize) -> FlexTensor {
    let (channels_in, channels_out) = (x.channels, grad.channels);
    let windows = Windows::new([x.height, x.width, channels_in], kernel, stride);
    let shape = [channels_out, kernel, kernel, channels_in];
    let (pixels, upstream) = (x.matrix(), grad.matrix());
    let wanted = (x.batch * windows.count() / WEIGHT_ROWS).clamp(1, WEIGHT_PIECES);
    if wanted == 1 {
        let input = if windows.are_pixels() { pixels } else { windows.lay_out(x.values()) };
        let matrix = Flex::float_matmul(upstream.transpose(0, 1), input);
        return matrix.reshape(shape.into()).permute(&[0, 3, 1, 2]);
    }
    let images_a_piece = x.batch.div_ceil(wanted);
    let length = channels_out * windows.length();
    let mut pieces = zeros(x.batch.div_ceil(images_a_piece) * length);
    for_chunks(&mut pieces, length, |piece, sums| {
        let images = piece * images_a_piece..((piece + 1) * images_a_piece).min(x.batch);
        let mut sum = |start: usize, input: FlexTensor| {
            let rows = input.shape()[0];
            let upstream = upstream.narrow(0, start, rows).transpose(0, 1);
            add(sums, values(&Flex::float_matmul(upstream, input)));
        };
        if windows.are_pixels() {
            let (start, rows) = (images.start * windows.count(), images.len() * windows.count());
            sum(start, pixels.narrow(0, start, rows));
            return;
        }
        for image in images {
            let pixels = &x.values()[image * windows.image()..][..windows.image()];
            for band in windows.bands() {
                let start = image * windows.count() + band.start * windows.out_width;
                sum(start, windows.lay_out_band(pixels, band));
            }
        }
    });
    let matrix = tensor(sum_chunks(&pieces, length), shape);
    matrix.permute(&[0, 3, 1, 2])
}
