//! From a picture to a network's input: resize, scale to `0..=1`, normalise, channels first.
//!
//! Source: PaddleClas `ppcls/data/preprocess/ops/operators.py` (`ResizeImage`, `NormalizeImage`,
//! `ToCHWImage`) @ d178931. Difference: the default filter is antialiased. The reference shrinks
//! pictures with OpenCV's bilinear filter, which skips pixels; that filter is offered by name for
//! weights that were trained with it.

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::image::{ImageError, RgbImage};

/// How a picture is resampled to another size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeFilter {
    /// Triangle filter widened when shrinking, equal to Pillow's bilinear.
    #[default]
    Antialiased,
    /// Two-by-two interpolation at every scale, equal to OpenCV's `INTER_LINEAR`.
    OpencvLinear,
    /// Four-by-four interpolation at every scale, equal to OpenCV's `INTER_CUBIC`.
    OpencvCubic,
}

/// Everything between a decoded picture and a network's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Width of the network's input in pixels.
    pub width: u32,
    /// Height of the network's input in pixels.
    pub height: u32,
    /// How the picture reaches that size; its aspect is not kept, as in the reference.
    pub filter: ResizeFilter,
    /// Subtracted from each channel after scaling to `0..=1`.
    pub mean: [f32; 3],
    /// Each channel is divided by it.
    pub std: [f32; 3],
}

impl Preprocess {
    /// ImageNet's mean and deviation (the reference's), antialiased.
    pub const fn square(size: u32) -> Self {
        Self {
            width: size,
            height: size,
            filter: ResizeFilter::Antialiased,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }

    /// Resizes the pictures and stacks them into one batch.
    ///
    /// # Shapes
    ///
    /// - output: `[images.len(), 3, height, width]`, normalised
    pub fn apply(&self, images: &[RgbImage], device: &Device) -> Tensor<4> {
        let mut data = Vec::with_capacity(images.len() * self.values());
        for image in images {
            self.append(&resize(image, self.width, self.height, self.filter), &mut data);
        }
        self.batch(data, device)
    }

    /// Values of one network input.
    pub fn values(&self) -> usize {
        (self.width * self.height * 3) as usize
    }

    /// Normalises a picture that already has the input's size and appends it to `data`, channels
    /// first.
    ///
    /// # Panics
    ///
    /// When the picture has another size.
    pub fn append(&self, image: &RgbImage, data: &mut Vec<f32>) {
        assert_eq!(
            (image.width(), image.height()),
            (self.width, self.height),
            "picture size against network input size"
        );
        for channel in 0..3 {
            let table = self.table(channel);
            data.extend(
                image.data().iter().skip(channel).step_by(3).map(|v| table[usize::from(*v)]),
            );
        }
    }

    /// Resizes and normalises a picture, channels last.
    ///
    /// # Shapes
    ///
    /// - `data`: `[height, width, 3]`
    pub fn fill(&self, image: &RgbImage, data: &mut [f32]) {
        let resized = resize(image, self.width, self.height, self.filter);
        let tables: [[f32; 256]; 3] = std::array::from_fn(|channel| self.table(channel));
        for (values, pixel) in data.chunks_exact_mut(3).zip(resized.data().chunks_exact(3)) {
            for channel in 0..3 {
                values[channel] = tables[channel][usize::from(pixel[channel])];
            }
        }
    }

    /// What each byte of a channel becomes: 256 divisions instead of one a pixel.
    fn table(&self, channel: usize) -> [f32; 256] {
        std::array::from_fn(|value| {
            (value as f32 * (1.0 / 255.0) - self.mean[channel]) / self.std[channel]
        })
    }

    /// Turns values gathered by [`Self::append`] into a batch.
    ///
    /// # Shapes
    ///
    /// - output: `[data.len() / values, 3, height, width]`
    pub fn batch(&self, data: Vec<f32>, device: &Device) -> Tensor<4> {
        let count = data.len() / self.values();
        let shape = [count, 3, self.height as usize, self.width as usize];
        Tensor::from_data(TensorData::new(data, shape), device)
    }
}

/// Resamples `image` to `width × height` (each at least 1) pixels.
pub fn resize(image: &RgbImage, width: u32, height: u32, filter: ResizeFilter) -> RgbImage {
    let (width, height) = (width.max(1), height.max(1));
    if (image.width(), image.height()) == (width, height) {
        return image.clone();
    }
    let data = match filter {
        ResizeFilter::Antialiased => {
            let columns = triangle_taps(image.width(), width);
            let rows = triangle_taps(image.height(), height);
            // Pillow rounds to 8 bits between the two passes.
            let narrow = horizontal(image.data(), image.width(), &columns, round_to_byte);
            vertical(&narrow, width, &rows)
        }
        ResizeFilter::OpencvLinear | ResizeFilter::OpencvCubic => {
            let cubic = filter == ResizeFilter::OpencvCubic;
            let columns = opencv_taps(image.width(), width, cubic);
            let rows = opencv_taps(image.height(), height, cubic);
            let narrow = horizontal(image.data(), image.width(), &columns, |v| v);
            vertical(&narrow, width, &rows)
        }
    };
    RgbImage::from_rgb(width, height, data).expect("the buffer was made for this size")
}

/// The source pixels that one output pixel mixes, and their weights.
struct Taps {
    start: usize,
    weights: Vec<f32>,
}

/// Triangle filter of Pillow's `resize(BILINEAR)`: support 1 output pixel, at least 1 source pixel.
fn triangle_taps(source: u32, target: u32) -> Vec<Taps> {
    let scale = f64::from(source) / f64::from(target);
    let support = scale.max(1.0);
    (0..target)
        .map(|i| {
            let centre = (f64::from(i) + 0.5) * scale;
            let start = ((centre - support + 0.5) as i64).max(0) as usize;
            let end = ((centre + support + 0.5) as i64).min(i64::from(source)) as usize;
            let weights: Vec<f64> = (start..end)
                .map(|x| (1.0 - ((x as f64 - centre + 0.5) / support).abs()).max(0.0))
                .collect();
            let sum: f64 = weights.iter().sum();
            Taps { start, weights: weights.iter().map(|w| (w / sum) as f32).collect() }
        })
        .collect()
}

/// Taps of OpenCV's linear and cubic (A = −0.75) interpolation, pixels past the edge repeated.
fn opencv_taps(source: u32, target: u32, cubic: bool) -> Vec<Taps> {
    let scale = f64::from(source) / f64::from(target);
    let last = i64::from(source) - 1;
    (0..target)
        .map(|i| {
            let position = ((f64::from(i) + 0.5) * scale - 0.5) as f32;
            let base = position.floor();
            let t = position - base;
            let base = base as i64;
            let (first, kernel) = if cubic {
                let a = -0.75_f32;
                let far = |d: f32| ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
                let near = |d: f32| ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
                let (w0, w1, w2) = (far(t + 1.0), near(t), near(1.0 - t));
                (base - 1, vec![w0, w1, w2, 1.0 - w0 - w1 - w2])
            } else {
                (base, vec![1.0 - t, t])
            };
            let start = first.clamp(0, last);
            let end = (first + kernel.len() as i64 - 1).clamp(0, last);
            let mut weights = vec![0.0; (end - start + 1) as usize];
            for (offset, weight) in kernel.iter().enumerate() {
                weights[((first + offset as i64).clamp(0, last) - start) as usize] += weight;
            }
            Taps { start: start as usize, weights }
        })
        .collect()
}

fn round_to_byte(value: f32) -> f32 {
    (value + 0.5).floor().clamp(0.0, 255.0)
}

fn horizontal(data: &[u8], width: u32, taps: &[Taps], finish: impl Fn(f32) -> f32) -> Vec<f32> {
    let row = width as usize * 3;
    let mut out = Vec::with_capacity(data.len() / row * taps.len() * 3);
    for line in data.chunks_exact(row) {
        for tap in taps {
            let mut sums = [0.0_f32; 3];
            for (pixel, weight) in line[tap.start * 3..].chunks_exact(3).zip(&tap.weights) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += f32::from(*value) * weight;
                }
            }
            out.extend(sums.map(&finish));
        }
    }
    out
}

fn vertical(data: &[f32], width: u32, taps: &[Taps]) -> Vec<u8> {
    let row = width as usize * 3;
    let mut out = Vec::with_capacity(row * taps.len());
    let mut sums = vec![0.0_f32; row];
    for tap in taps {
        sums.fill(0.0);
        for (line, weight) in data[tap.start * row..].chunks_exact(row).zip(&tap.weights) {
            for (sum, value) in sums.iter_mut().zip(line) {
                *sum += value * weight;
            }
        }
        out.extend(sums.iter().map(|v| round_to_byte(*v) as u8));
    }
    out
}

/// A small picture of the whole as a JPEG, its aspect kept, its longer side at most `side` pixels.
///
/// # Errors
///
/// [`ImageError`] where the encoder refuses.
pub fn thumbnail(picture: &RgbImage, side: u32, quality: u8) -> Result<Vec<u8>, ImageError> {
    let longest = picture.width().max(picture.height());
    if longest <= side {
        return picture.encode_jpeg(quality);
    }
    let scaled = |length: u32| (length * side / longest).max(1);
    let (width, height) = (scaled(picture.width()), scaled(picture.height()));
    resize(picture, width, height, ResizeFilter::Antialiased).encode_jpeg(quality)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILTERS: [ResizeFilter; 3] =
        [ResizeFilter::Antialiased, ResizeFilter::OpencvLinear, ResizeFilter::OpencvCubic];

    proptest! {
        #[test]
        fn a_flat_picture_stays_flat(
            from in (1_u32..40, 1_u32..40),
            to in (1_u32..40, 1_u32..40),
            colour in any::<[u8; 3]>(),
        ) {
            let data = colour.repeat((from.0 * from.1) as usize);
            let image = RgbImage::from_rgb(from.0, from.1, data).unwrap();
            for filter in FILTERS {
                let resized = resize(&image, to.0, to.1, filter);
                prop_assert_eq!((resized.width(), resized.height()), to);
                for pixel in resized.data().chunks_exact(3) {
                    for (a, b) in pixel.iter().zip(colour) {
                        prop_assert!(a.abs_diff(b) <= 1);
                    }
                }
            }
        }
    }

    #[test]
    fn antialiasing_averages_where_interpolation_skips() {
        let data = (0..64).flat_map(|i| if i % 4 == 0 { [255; 3] } else { [0; 3] }).collect();
        let image = RgbImage::from_rgb(64, 1, data).unwrap();
        let spread = |filter| {
            let resized = resize(&image, 5, 1, filter);
            let values = resized.data().iter().step_by(3);
            values.clone().max().unwrap() - values.min().unwrap()
        };
        assert!(spread(ResizeFilter::Antialiased) < 30);
        assert!(spread(ResizeFilter::OpencvLinear) > 60);
    }
}
