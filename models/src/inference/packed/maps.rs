//! Steps of networks that came as graphs: plain loops over contiguous values.

use super::Extent;
use super::elementwise::vectorised;
use crate::layers::{GlobalPool, Pick, Pool};
use crate::threads::{self, for_chunks};

/// A pool over windows.
pub(crate) fn pool(x: &[f32], extent: Extent, pool: &Pool, out: &mut [f32]) {
    let Extent { height, width, channels } = extent;
    let [_, columns] = pool.windows([height, width]);
    for_chunks(out, columns * channels, |row, line| {
        vectorised(
            #[inline(always)]
            || {
                let (rows, high) = pool.covered(0, row, height);
                for (column, to) in line.chunks_exact_mut(channels).enumerate() {
                    let (covered, wide) = pool.covered(1, column, width);
                    let from = |y: usize| {
                        &x[(y * width + covered.start) * channels..][..covered.len() * channels]
                    };
                    match pool.pool {
                        GlobalPool::Max => {
                            to.fill(f32::NEG_INFINITY);
                            for pixel in rows.clone().flat_map(|y| from(y).chunks_exact(channels)) {
                                to.iter_mut().zip(pixel).for_each(|(m, v)| *m = m.max(*v));
                            }
                        }
                        GlobalPool::Average => {
                            to.fill(0.0);
                            for pixel in rows.clone().flat_map(|y| from(y).chunks_exact(channels)) {
                                to.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += v);
                            }
                            let share = 1.0 / (high * wide) as f32;
                            to.iter_mut().for_each(|sum| *sum *= share);
                        }
                    }
                }
            },
        );
    });
}

/// Channels of every pixel, in another order.
pub(crate) fn pick(x: &[f32], channels: usize, pick: Pick, out: &mut [f32]) {
    let Pick { start, count, groups } = pick;
    let pixels = threads::piece(out.len() / count, 1, usize::MAX);
    for_chunks(out, pixels * count, |index, out| {
        let from = x[index * pixels * channels..].chunks_exact(channels);
        for (to, from) in out.chunks_exact_mut(count).zip(from) {
            let from = &from[start..start + count];
            if groups == 1 {
                to.copy_from_slice(from);
                continue;
            }
            for (group, run) in from.chunks_exact(count / groups).enumerate() {
                let places = to[group..].iter_mut().step_by(groups);
                places.zip(run).for_each(|(to, from)| *to = *from);
            }
        }
    });
}

/// Every pixel repeated so many times down and to the right.
pub(crate) fn enlarge(x: &[f32], extent: Extent, [down, right]: [usize; 2], out: &mut [f32]) {
    let (line, channels) = (extent.line(), extent.channels);
    let wide = line * right;
    for_chunks(out, down * wide, |row, lines| {
        let from = &x[row * line..][..line];
        let (first, others) = lines.split_at_mut(wide);
        let runs = first.chunks_exact_mut(channels * right);
        for (pixel, run) in from.chunks_exact(channels).zip(runs) {
            run.chunks_exact_mut(channels).for_each(|to| to.copy_from_slice(pixel));
        }
        others.chunks_exact_mut(wide).for_each(|line| line.copy_from_slice(first));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::noise;
    use proptest::prelude::*;

    /// The pool of a window, tap by tap.
    fn window(x: &[f32], extent: Extent, pool: &Pool, [row, column, channel]: [usize; 3]) -> f32 {
        let Extent { height, width, channels } = extent;
        let [above, left, below, right] = pool.padding;
        let (mut most, mut sum, mut count) = (f32::NEG_INFINITY, 0.0_f64, 0);
        for ky in 0..pool.kernel[0] {
            for kx in 0..pool.kernel[1] {
                let (y, x_at) = (row * pool.stride[0] + ky, column * pool.stride[1] + kx);
                let inside =
                    (above..above + height).contains(&y) && (left..left + width).contains(&x_at);
                let padded = y < above + height + below && x_at < left + width + right;
                count += usize::from(if pool.count_padding { padded } else { inside });
                if inside {
                    let value = x[((y - above) * width + x_at - left) * channels + channel];
                    (most, sum) = (most.max(value), sum + f64::from(value));
                }
            }
        }
        if pool.pool == GlobalPool::Max { most } else { (sum / count as f64) as f32 }
    }

    proptest! {
        #[test]
        fn pools_equal_a_plain_loop(
            channels in prop::sample::select(vec![1_usize, 3, 16, 21]),
            kernel in prop::array::uniform2(1_usize..5),
            stride in prop::array::uniform2(1_usize..4),
            padding in prop::array::uniform4(0_usize..4),
            sides in prop::array::uniform2(4_usize..12),
            (is_max, ceil, count_padding) in any::<(bool, bool, bool)>(),
            seed in any::<u64>(),
        ) {
            let of = |at: usize| padding[at].min(kernel[at % 2] - 1);
            let padding = std::array::from_fn(of);
            let kind = if is_max { GlobalPool::Max } else { GlobalPool::Average };
            let layer = Pool { pool: kind, kernel, stride, padding, ceil, count_padding };
            let extent = Extent { height: sides[0], width: sides[1], channels };
            let mut next = noise(seed);
            let x: Vec<f32> = (0..extent.values()).map(|_| next()).collect();
            let [rows, columns] = layer.windows(sides);
            let mut out = vec![f32::NAN; rows * columns * channels];
            pool(&x, extent, &layer, &mut out);
            for (index, got) in out.iter().enumerate() {
                let (pixel, channel) = (index / channels, index % channels);
                let place = [pixel / columns, pixel % columns, channel];
                let expected = window(&x, extent, &layer, place);
                prop_assert!((got - expected).abs() < 1e-5, "{got} against {expected}");
            }
        }

        #[test]
        fn channels_and_pixels_come_from_where_they_should(
            groups in 1_usize..5,
            each in 1_usize..6,
            start in 0_usize..4,
            factors in prop::array::uniform2(1_usize..4),
            sides in prop::array::uniform2(1_usize..6),
        ) {
            let count = groups * each;
            let [height, width] = sides;
            let extent = Extent { height, width, channels: start + count + 1 };
            let x: Vec<f32> = (0..extent.values()).map(|value| value as f32).collect();
            let layer = Pick { start, count, groups };
            let mut out = vec![f32::NAN; height * width * count];
            pick(&x, extent.channels, layer, &mut out);
            for (index, got) in out.iter().enumerate() {
                let (pixel, channel) = (index / count, index % count);
                // Shuffling turns `[groups, each]` into `[each, groups]`.
                let from = start + channel % groups * each + channel / groups;
                prop_assert_eq!(*got, x[pixel * extent.channels + from]);
                prop_assert_eq!(layer.source(channel), from);
            }
            let [down, right] = factors;
            let mut out = vec![f32::NAN; extent.values() * down * right];
            enlarge(&x, extent, factors, &mut out);
            for (index, got) in out.iter().enumerate() {
                let (pixel, channel) = (index / extent.channels, index % extent.channels);
                let (y, column) = (pixel / (width * right) / down, pixel % (width * right) / right);
                prop_assert_eq!(*got, x[(y * width + column) * extent.channels + channel]);
            }
        }
    }
}
