//! Resampling: horizontally, then vertically, a few lines at a time.

use serde::{Deserialize, Serialize};

use crate::image::RgbImage;
use crate::threads::{self, for_chunks};

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

/// Resamples `image` to `width × height` (each at least 1) pixels.
pub fn resize(image: &RgbImage, width: u32, height: u32, filter: ResizeFilter) -> RgbImage {
    let (width, height) = (width.max(1), height.max(1));
    if (image.width(), image.height()) == (width, height) {
        return image.clone();
    }
    let mut data = vec![0; width as usize * height as usize * 3];
    for_rows(image, [width, height], filter, &mut data, |row, out| out.copy_from_slice(row));
    RgbImage::from_rgb(width, height, data).expect("the buffer was made for this size")
}

/// `image` with boxes of `factor × factor` pixels (1 to 256) as one, their mean, halves upwards: Pillow's `reduce`. At the
/// right and lower edge a box has the pixels that are left.
pub(crate) fn reduced(image: &RgbImage, factor: u32) -> RgbImage {
    let factor = factor.clamp(1, 256) as usize;
    let source = image.width() as usize * 3;
    let mut data = Vec::with_capacity(image.data().len() / (factor * factor));
    let mut sums = vec![0_u16; source];
    for lines in image.data().chunks(source * factor) {
        sums.fill(0);
        for line in lines.chunks_exact(source) {
            sums.iter_mut().zip(line).for_each(|(sum, byte)| *sum += u16::from(*byte));
        }
        for pixels in sums.chunks(factor * 3) {
            let count = (lines.len() / source * (pixels.len() / 3)) as u32;
            for channel in 0..3 {
                let sum: u32 = pixels[channel..].iter().step_by(3).map(|v| u32::from(*v)).sum();
                data.push(((sum + count / 2) / count) as u8);
            }
        }
    }
    let [width, height] = [image.width(), image.height()].map(|side| side.div_ceil(factor as u32));
    RgbImage::from_rgb(width, height, data).expect("each box has given a pixel")
}

/// Resamples `image` to `[width, height]` and hands each row of bytes to `write`, with the part of `out`
/// that is its own; on all threads if there are any.
///
/// # Shapes
///
/// - `out`: `[height, at least width, 3]`
pub(crate) fn for_rows<T: Send>(
    image: &RgbImage,
    [width, height]: [u32; 2],
    filter: ResizeFilter,
    out: &mut [T],
    write: impl Fn(&[u8], &mut [T]) + Sync + Send,
) {
    let (row, pitch) = (width as usize * 3, out.len() / height as usize);
    let rows = threads::piece(height as usize, 1, usize::MAX);
    let same = (image.width(), image.height()) == (width, height);
    let resampling = (!same).then(|| Resampling::new(image, [width, height], filter));
    for_chunks(out, rows * pitch, |index, out| {
        let first = index * rows;
        if let Some(resampling) = &resampling {
            resampling.run(image, first, out.chunks_exact_mut(pitch), &write);
        } else {
            let lines = image.data()[first * row..].chunks_exact(row);
            lines.zip(out.chunks_exact_mut(pitch)).for_each(|(line, out)| write(line, out));
        }
    });
}

/// What is mixed for each column and each row.
struct Resampling {
    columns: Vec<Taps>,
    rows: Vec<Taps>,
    /// Pillow rounds to 8 bits between the two passes.
    rounds: bool,
}

impl Resampling {
    fn new(image: &RgbImage, [width, height]: [u32; 2], filter: ResizeFilter) -> Self {
        let taps = |source, target| match filter {
            ResizeFilter::Antialiased => triangle_taps(source, target),
            ResizeFilter::OpencvLinear => opencv_taps(source, target, false),
            ResizeFilter::OpencvCubic => opencv_taps(source, target, true),
        };
        Self {
            columns: taps(image.width(), width),
            rows: taps(image.height(), height),
            rounds: filter == ResizeFilter::Antialiased,
        }
    }

    /// The rows from `first` that `out` has room for. Of the lines that rows are mixed from, only
    /// those of one row are kept.
    fn run<'a, T: 'a>(
        &self,
        image: &RgbImage,
        first: usize,
        out: impl Iterator<Item = &'a mut [T]>,
        write: &impl Fn(&[u8], &mut [T]),
    ) {
        let (source, row) = (image.width() as usize * 3, self.columns.len() * 3);
        let kept = self.rows.iter().map(|tap| tap.weights.len()).max().unwrap_or(1);
        // Pixels are moved as four values, of which the last belongs to the next pixel.
        let mut line = vec![0.0; source + 1];
        let mut narrow = vec![0.0; kept * (row + 1)];
        let mut sums = vec![0.0_f32; row];
        let mut bytes = vec![0; row];
        let mut next = self.rows[first].start;
        for (tap, out) in self.rows[first..].iter().zip(out) {
            // Lines between those that are mixed are none of the result.
            next = next.max(tap.start);
            while next < tap.start + tap.weights.len() {
                let data = &image.data()[next * source..][..source];
                widen(data, &mut line[..source]);
                self.narrow(&line, &mut narrow[next % kept * (row + 1)..][..=row]);
                next += 1;
            }
            sums.fill(0.0);
            for (index, weight) in (tap.start..).zip(&tap.weights) {
                let line = &narrow[index % kept * (row + 1)..][..row];
                sums.iter_mut().zip(line).for_each(|(sum, value)| *sum += value * weight);
            }
            bytes.iter_mut().zip(&sums).for_each(|(byte, value)| *byte = to_byte(*value));
            write(&bytes, out);
        }
    }

    /// A line as wide as the result.
    fn narrow(&self, line: &[f32], out: &mut [f32]) {
        for (column, tap) in self.columns.iter().enumerate() {
            let pixels = &line[tap.start * 3..][..=tap.weights.len() * 3];
            let mut sums = [0.0_f32; 4];
            for (index, weight) in tap.weights.iter().enumerate() {
                for (sum, value) in sums.iter_mut().zip(&pixels[index * 3..][..4]) {
                    *sum += value * weight;
                }
            }
            out[column * 3..][..4].copy_from_slice(&sums);
        }
        if self.rounds {
            out.iter_mut().for_each(|value| *value = f32::from(to_byte(*value)));
        }
    }
}

/// Bytes as numbers.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
fn widen(bytes: &[u8], values: &mut [f32]) {
    values.iter_mut().zip(bytes).for_each(|(value, byte)| *value = f32::from(*byte));
}

/// The same by instructions that compilers do not find for wasm.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
fn widen(bytes: &[u8], values: &mut [f32]) {
    use core::arch::wasm32::{
        f32x4_convert_u32x4, f32x4_extract_lane, u16x8_extend_low_u8x16, u32x4_extend_high_u16x8,
        u32x4_extend_low_u16x8, u64x2,
    };
    let (eights, rest) = bytes.as_chunks::<8>();
    let (wide, last) = values.as_chunks_mut::<8>();
    for (values, bytes) in wide.iter_mut().zip(eights) {
        let words = u16x8_extend_low_u8x16(u64x2(u64::from_le_bytes(*bytes), 0));
        let quarters = [u32x4_extend_low_u16x8(words), u32x4_extend_high_u16x8(words)];
        for (values, quarter) in values.as_chunks_mut::<4>().0.iter_mut().zip(quarters) {
            let quarter = f32x4_convert_u32x4(quarter);
            *values = [
                f32x4_extract_lane::<0>(quarter),
                f32x4_extract_lane::<1>(quarter),
                f32x4_extract_lane::<2>(quarter),
                f32x4_extract_lane::<3>(quarter),
            ];
        }
    }
    last.iter_mut().zip(rest).for_each(|(value, byte)| *value = f32::from(*byte));
}

/// The nearest byte, halves upwards.
fn to_byte(value: f32) -> u8 {
    // Below zero and above 255 a conversion stays at the end.
    (value + 0.5) as u8
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
            let center = (f64::from(i) + 0.5) * scale;
            let start = ((center - support + 0.5) as i64).max(0) as usize;
            let end = ((center + support + 0.5) as i64).min(i64::from(source)) as usize;
            let weights: Vec<f64> = (start..end)
                .map(|x| (1.0 - ((x as f64 - center + 0.5) / support).abs()).max(0.0))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::noise;
    use proptest::prelude::*;

    const FILTERS: [ResizeFilter; 3] =
        [ResizeFilter::Antialiased, ResizeFilter::OpencvLinear, ResizeFilter::OpencvCubic];

    /// Both passes over the whole picture, a value at a time.
    fn plain(image: &RgbImage, size: [u32; 2], filter: ResizeFilter) -> Vec<u8> {
        let resampling = Resampling::new(image, size, filter);
        let round = |value: f32| (value + 0.5).floor().clamp(0.0, 255.0);
        let mixed = |tap: &Taps, value: &dyn Fn(usize) -> f32| {
            let values = tap.weights.iter().enumerate();
            values.fold(0.0, |sum, (index, weight)| sum + value(tap.start + index) * weight)
        };
        let mut narrow = Vec::new();
        for line in image.data().chunks_exact(image.width() as usize * 3) {
            for (tap, channel) in
                resampling.columns.iter().flat_map(|t| (0..3).map(move |c| (t, c)))
            {
                let value = mixed(tap, &|x| f32::from(line[x * 3 + channel]));
                narrow.push(if resampling.rounds { round(value) } else { value });
            }
        }
        let row = size[0] as usize * 3;
        let rows = resampling.rows.iter().flat_map(|t| (0..row).map(move |x| (t, x)));
        rows.map(|(tap, x)| round(mixed(tap, &|y| narrow[y * row + x])) as u8).collect()
    }

    /// The mean of each box, a value at a time.
    fn plain_boxes(image: &RgbImage, factor: usize) -> Vec<u8> {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let mut data = Vec::new();
        for (top, left) in (0..height)
            .step_by(factor)
            .flat_map(|top| (0..width).step_by(factor).map(move |left| (top, left)))
        {
            for channel in 0..3 {
                let (mut sum, mut count) = (0.0, 0.0);
                for y in top..(top + factor).min(height) {
                    for x in left..(left + factor).min(width) {
                        sum += f64::from(image.data()[(y * width + x) * 3 + channel]);
                        count += 1.0;
                    }
                }
                data.push((sum / count + 0.5).floor() as u8);
            }
        }
        data
    }

    proptest! {
        #[test]
        fn boxes_are_their_means(
            (width, height) in (1_u32..40, 1_u32..40),
            factor in 1_u32..50,
            seed in any::<u64>(),
        ) {
            let mut next = noise(seed);
            let data = (0..width * height * 3).map(|_| (next() * 128.0 + 128.0) as u8).collect();
            let image = RgbImage::from_rgb(width, height, data).unwrap();
            let small = reduced(&image, factor);
            let size = (width.div_ceil(factor), height.div_ceil(factor));
            prop_assert_eq!((small.width(), small.height()), size);
            prop_assert_eq!(small.data(), plain_boxes(&image, factor as usize));
        }

        #[test]
        fn lines_at_a_time_equal_whole_passes(
            from in (1_u32..40, 1_u32..40),
            to in (1_u32..40, 1_u32..40),
            seed in any::<u64>(),
        ) {
            let mut next = noise(seed);
            let data = (0..from.0 * from.1 * 3).map(|_| (next() * 128.0 + 128.0) as u8).collect();
            let image = RgbImage::from_rgb(from.0, from.1, data).unwrap();
            for filter in FILTERS {
                let resized = resize(&image, to.0, to.1, filter);
                if from != to {
                    prop_assert_eq!(resized.data(), plain(&image, to.into(), filter));
                }
            }
        }

        #[test]
        fn a_flat_picture_stays_flat(
            from in (1_u32..40, 1_u32..40),
            to in (1_u32..40, 1_u32..40),
            color in any::<[u8; 3]>(),
        ) {
            let data = color.repeat((from.0 * from.1) as usize);
            let image = RgbImage::from_rgb(from.0, from.1, data).unwrap();
            for filter in FILTERS {
                let resized = resize(&image, to.0, to.1, filter);
                prop_assert_eq!((resized.width(), resized.height()), to);
                for pixel in resized.data().chunks_exact(3) {
                    for (a, b) in pixel.iter().zip(color) {
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
