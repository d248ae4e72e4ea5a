//! Lines of a depthwise convolution's result.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::super::{Placement, activated, activated_value, load, store};
use super::{BLOCK, Blocked, Depthwise, Input, TILE, tile_width};

/// Vectors of channels whose sums are held at once, where it is one output pixel's.
const PART_VECTORS: usize = 4;

/// Channels that a line is worked through with before the next: their weights and the lines that
/// they come from stay in the first-level cache.
const BLOCK_CHANNELS: usize = 64;

/// Lines of the output.
pub(super) struct Lines<'a> {
    pub(super) layer: &'a Depthwise,
    pub(super) input: Input<'a>,
    /// Number of the first.
    pub(super) first: usize,
    pub(super) out: &'a mut [f32],
}

impl WithSimd for Lines<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (self.layer.placement.kernel, self.layer.placement.stride) {
            (3, 1) => self.run::<S, 3, 1>(simd),
            (3, 2) => self.run::<S, 3, 2>(simd),
            (5, 1) => self.run::<S, 5, 1>(simd),
            (5, 2) => self.run::<S, 5, 2>(simd),
            (7, 1) => self.each(|line| line.run_pixels::<S, 7>(simd)),
            _ => self.run_any(),
        }
    }
}

impl Lines<'_> {
    /// Kernels and strides that no network here is made of.
    #[inline(always)]
    pub(super) fn run_any(self) {
        self.each(|line| {
            line.run_any();
        });
    }

    #[inline(always)]
    fn each(self, work: impl Fn(Line<'_>)) {
        let Self { layer, input, first, out } = self;
        let length = layer.placement.out_width * layer.placement.input.channels;
        for (index, out) in out.chunks_exact_mut(length).enumerate() {
            work(Line { layer, input, oy: first + index, out });
        }
    }

    #[inline(always)]
    fn run<S: Simd, const KERNEL: usize, const STRIDE: usize>(self, simd: S) {
        let (true, Some(blocked)) = (self.input.is_blocked, &self.layer.blocked) else {
            return self.each(|line| line.run::<S, KERNEL, STRIDE>(simd));
        };
        let Self { layer, input, first, out } = self;
        let length = layer.placement.out_width * layer.placement.input.channels;
        // A block after the other, all lines of which stay in the first-level cache.
        for vector in 0..layer.placement.input.channels / S::F32_LANES {
            for (index, out) in out.chunks_exact_mut(length).enumerate() {
                let line = Line { layer, input, oy: first + index, out };
                line.run_blocked::<S, KERNEL, STRIDE>(simd, blocked, vector);
            }
        }
    }
}

/// One line of the output.
struct Line<'a> {
    layer: &'a Depthwise,
    input: Input<'a>,
    oy: usize,
    out: &'a mut [f32],
}

impl Line<'_> {
    #[inline(always)]
    fn run<S: Simd, const KERNEL: usize, const STRIDE: usize>(mut self, simd: S) {
        let Placement { left, input, out_width, .. } = self.layer.placement;
        if input.channels < S::F32_LANES {
            return self.run_any();
        }
        // Output pixels whose windows lie inside the picture from left to right.
        let first = left.div_ceil(STRIDE).min(out_width);
        let last = (input.width + left).checked_sub(KERNEL).map_or(0, |room| room / STRIDE + 1);
        let last = last.clamp(first, out_width);
        for ox in (0..first).chain(last..out_width) {
            self.pixel::<S, KERNEL, STRIDE>(simd, ox);
        }
        if rolls::<S, KERNEL>() {
            for channel in (0..input.channels).step_by(S::F32_LANES) {
                // The last vector overlaps the one before, where channels are no multiple of it.
                let channel = channel.min(input.channels - S::F32_LANES);
                if first < last {
                    self.stretch::<S, KERNEL, STRIDE>(simd, first..last, channel);
                }
            }
            return;
        }
        if input.channels % S::F32_LANES > 0 {
            for ox in first..last {
                self.pixel::<S, KERNEL, STRIDE>(simd, ox);
            }
            return;
        }
        let (all, block) = (input.channels / S::F32_LANES, BLOCK_CHANNELS / S::F32_LANES);
        for start in (0..all).step_by(block) {
            let vectors = start..(start + block).min(all);
            for ox in (first..last).step_by(TILE) {
                if last - first >= TILE {
                    // The last tile overlaps the one before, where tiles do not divide the line.
                    let ox = ox.min(last - TILE);
                    self.tile::<S, KERNEL, STRIDE, TILE>(simd, ox, vectors.clone());
                } else {
                    for ox in ox..last {
                        self.tile::<S, KERNEL, STRIDE, 1>(simd, ox, vectors.clone());
                    }
                }
            }
        }
    }

    /// All of the line, one output pixel after the other, with a stride of 1.
    #[inline(always)]
    fn run_pixels<S: Simd, const KERNEL: usize>(mut self, simd: S) {
        if self.layer.placement.input.channels < S::F32_LANES {
            return self.run_any();
        }
        for ox in 0..self.layer.placement.out_width {
            self.pixel::<S, KERNEL, 1>(simd, ox);
        }
    }

    /// A vector of channels of all of the line, from an input in blocks.
    #[inline(always)]
    fn run_blocked<S: Simd, const KERNEL: usize, const STRIDE: usize>(
        mut self,
        simd: S,
        blocked: &Blocked,
        vector: usize,
    ) {
        let out_width = self.layer.placement.out_width;
        let per_block = BLOCK / S::F32_LANES;
        let (pixels, _) = S::as_simd_f32s(self.input.x);
        let (weights, _) = S::as_simd_f32s(&blocked.weight);
        let taps = &weights[vector * KERNEL * KERNEL..][..KERNEL * KERNEL];
        let line = blocked.map.line() / S::F32_LANES;
        let block = vector / per_block * blocked.map.width * per_block + vector % per_block;
        let lines = self.window::<KERNEL, STRIDE>().map(|iy| &pixels[iy * line + block..]);
        if S::F32_LANES > 4 {
            let count = tile_width(out_width);
            for ox in (0..out_width).step_by(count) {
                // The last tile overlaps the one before, where tiles do not divide the line.
                let ox = ox.min(out_width - count);
                match count {
                    8 => self.taps::<S, KERNEL, STRIDE, 8>(simd, lines, taps, vector, ox),
                    7 => self.taps::<S, KERNEL, STRIDE, 7>(simd, lines, taps, vector, ox),
                    _ => self.taps::<S, KERNEL, STRIDE, TILE>(simd, lines, taps, vector, ox),
                }
            }
        } else if rolls::<S, KERNEL>() {
            let rows = self.layer.placement.rows(self.oy);
            let mut weights = [[simd.splat_f32s(0.0); KERNEL]; KERNEL];
            for (ky, row) in weights.iter_mut().enumerate() {
                if rows.contains(&ky) {
                    for (kx, tap) in row.iter_mut().enumerate() {
                        *tap = taps[ky * KERNEL + kx];
                    }
                }
            }
            let length = ((out_width - 1) * STRIDE + KERNEL - 1) * BLOCK + S::F32_LANES;
            let (line, block) = (line * S::F32_LANES, block * S::F32_LANES);
            let lines = self
                .window::<KERNEL, STRIDE>()
                .map(|iy| &self.input.x[iy * line + block..][..length]);
            let channel = vector * S::F32_LANES;
            self.roll::<S, KERNEL, STRIDE>(simd, lines, BLOCK, &weights, channel, 0..out_width);
        } else {
            for ox in (0..out_width).step_by(TILE) {
                let ox = ox.min(out_width - TILE);
                self.blocked_tile::<S, KERNEL, STRIDE>(simd, lines, taps, vector, ox);
            }
        }
    }

    /// A vector of channels of `COUNT` output pixels, from its block and its weights: tap by tap, so that a sum is
    /// done before its turn comes again.
    #[inline(always)]
    fn taps<S: Simd, const KERNEL: usize, const STRIDE: usize, const COUNT: usize>(
        &mut self,
        simd: S,
        lines: [&[S::f32s]; KERNEL],
        taps: &[S::f32s],
        vector: usize,
        ox: usize,
    ) {
        let per_block = BLOCK / S::F32_LANES;
        let rows = self.layer.placement.rows(self.oy);
        let (bias, _) = S::as_simd_f32s(&self.layer.bias);
        let mut sums = [bias[vector]; COUNT];
        let last = ((COUNT - 1) * STRIDE + KERNEL - 1) * per_block;
        let windows = lines.map(|line| &line[ox * STRIDE * per_block..][..=last]);
        for kx in 0..KERNEL {
            for (ky, window) in windows.iter().enumerate() {
                if rows.contains(&ky) {
                    let tap = taps[ky * KERNEL + kx];
                    for (index, sum) in sums.iter_mut().enumerate() {
                        let pixel = window[(index * STRIDE + kx) * per_block];
                        *sum = simd.mul_add_e_f32s(pixel, tap, *sum);
                    }
                }
            }
        }
        let vectors = self.layer.placement.input.channels / S::F32_LANES;
        let (out, _) = S::as_mut_simd_f32s(self.out);
        let out = &mut out[ox * vectors..][..COUNT * vectors];
        for (index, sum) in sums.into_iter().enumerate() {
            out[index * vectors + vector] = activated(simd, sum, self.layer.activation);
        }
    }

    /// A vector of channels of a tile's output pixels, from its block and its weights.
    #[inline(always)]
    fn blocked_tile<S: Simd, const KERNEL: usize, const STRIDE: usize>(
        &mut self,
        simd: S,
        lines: [&[S::f32s]; KERNEL],
        taps: &[S::f32s],
        vector: usize,
        ox: usize,
    ) {
        let per_block = BLOCK / S::F32_LANES;
        let vectors = self.layer.placement.input.channels / S::F32_LANES;
        let (bias, _) = S::as_simd_f32s(&self.layer.bias);
        let mut sums = [bias[vector]; TILE];
        for ky in self.layer.placement.rows(self.oy) {
            let weights = &taps[ky * KERNEL..][..KERNEL];
            // Every pixel is loaded once, for all the output pixels that it counts for.
            let last = ((TILE - 1) * STRIDE + KERNEL - 1) * per_block;
            let window = &lines[ky][ox * STRIDE * per_block..][..=last];
            for column in 0..(TILE - 1) * STRIDE + KERNEL {
                let pixel = window[column * per_block];
                for (index, sum) in sums.iter_mut().enumerate() {
                    if column >= index * STRIDE && column - index * STRIDE < KERNEL {
                        let weight = weights[column - index * STRIDE];
                        *sum = simd.mul_add_e_f32s(pixel, weight, *sum);
                    }
                }
            }
        }
        let (out, _) = S::as_mut_simd_f32s(self.out);
        let out = &mut out[ox * vectors..][..TILE * vectors];
        for (index, sum) in sums.into_iter().enumerate() {
            out[index * vectors + vector] = activated(simd, sum, self.layer.activation);
        }
    }

    /// A range of vectors of channels of `COUNT` output pixels whose windows need no padding left or
    /// right, where pixels are whole vectors.
    #[inline(always)]
    fn tile<S: Simd, const KERNEL: usize, const STRIDE: usize, const COUNT: usize>(
        &mut self,
        simd: S,
        ox: usize,
        range: Range<usize>,
    ) {
        let Placement { top, left, input, .. } = self.layer.placement;
        let vectors = input.channels / S::F32_LANES;
        let (pixels, _) = S::as_simd_f32s(self.input.x);
        let (weights, _) = S::as_simd_f32s(&self.layer.weight);
        let (bias, _) = S::as_simd_f32s(&self.layer.bias);
        let (line, _) = S::as_mut_simd_f32s(self.out);
        let out = &mut line[ox * vectors..][..COUNT * vectors];
        let rows = self.layer.placement.rows(self.oy);
        let first = (self.oy * STRIDE + rows.start - top) * input.width + ox * STRIDE - left;
        for vector in range {
            let mut sums = [bias[vector]; COUNT];
            let mut from = first * vectors + vector;
            let mut at = rows.start * KERNEL * vectors + vector;
            for _ in rows.clone() {
                let weights: [S::f32s; KERNEL] =
                    std::array::from_fn(|kx| weights[at + kx * vectors]);
                // Every pixel is loaded once, for all the output pixels that it counts for.
                for column in 0..(COUNT - 1) * STRIDE + KERNEL {
                    let pixel = pixels[from + column * vectors];
                    for (index, sum) in sums.iter_mut().enumerate() {
                        if column >= index * STRIDE && column - index * STRIDE < KERNEL {
                            let weight = weights[column - index * STRIDE];
                            *sum = simd.mul_add_e_f32s(pixel, weight, *sum);
                        }
                    }
                }
                from += input.width * vectors;
                at += KERNEL * vectors;
            }
            for (index, sum) in sums.into_iter().enumerate() {
                out[index * vectors + vector] = activated(simd, sum, self.layer.activation);
            }
        }
    }

    /// The lines of the picture that this line of the result comes from: where the window leaves the
    /// picture, the nearest one, whose weights are then zeros.
    #[inline(always)]
    fn window<const KERNEL: usize, const STRIDE: usize>(&self) -> [usize; KERNEL] {
        let Placement { top, input, .. } = self.layer.placement;
        std::array::from_fn(|ky| (self.oy * STRIDE + ky).saturating_sub(top).min(input.height - 1))
    }

    /// A vector of channels, from any channel on, of output pixels whose windows lie inside the picture.
    #[inline(always)]
    fn stretch<S: Simd, const KERNEL: usize, const STRIDE: usize>(
        &mut self,
        simd: S,
        pixels: Range<usize>,
        channel: usize,
    ) {
        let Placement { left, input, .. } = self.layer.placement;
        let channels = input.channels;
        let weights = &self.layer.weight[channel..];
        let rows = self.layer.placement.rows(self.oy);
        let mut taps = [[simd.splat_f32s(0.0); KERNEL]; KERNEL];
        for (ky, row) in taps.iter_mut().enumerate() {
            if rows.contains(&ky) {
                for (kx, tap) in row.iter_mut().enumerate() {
                    *tap = load::<S>(&weights[(ky * KERNEL + kx) * channels..]);
                }
            }
        }
        let columns = (pixels.len() - 1) * STRIDE + KERNEL;
        let length = (columns - 1) * channels + S::F32_LANES;
        let lines = self.window::<KERNEL, STRIDE>().map(|iy| {
            let first = (iy * input.width + pixels.start * STRIDE - left) * channels + channel;
            &self.input.x[first..][..length]
        });
        self.roll::<S, KERNEL, STRIDE>(simd, lines, channels, &taps, channel, pixels);
    }

    /// A vector of channels of output pixels, one after the other: each pixel of `lines`, `step` values
    /// apart, is loaded once, for all the output pixels that it counts for.
    #[inline(always)]
    fn roll<S: Simd, const KERNEL: usize, const STRIDE: usize>(
        &mut self,
        simd: S,
        lines: [&[f32]; KERNEL],
        step: usize,
        taps: &[[S::f32s; KERNEL]; KERNEL],
        channel: usize,
        pixels: Range<usize>,
    ) {
        let channels = self.layer.placement.input.channels;
        let bias = load::<S>(&self.layer.bias[channel..]);
        let length = (pixels.len() - 1) * channels + S::F32_LANES;
        let out = &mut self.out[pixels.start * channels + channel..][..length];
        // Of the next output pixels, the nearest first.
        let mut sums = [bias; KERNEL];
        let mut at = 0;
        for column in 0..KERNEL - STRIDE {
            weigh::<S, KERNEL, STRIDE>(simd, lines, at, column, taps, &mut sums);
            at += step;
        }
        for index in 0..pixels.len() {
            for column in KERNEL - STRIDE..KERNEL {
                weigh::<S, KERNEL, STRIDE>(simd, lines, at, column, taps, &mut sums);
                at += step;
            }
            let sum = activated(simd, sums[0], self.layer.activation);
            store::<S>(&mut out[index * channels..], sum);
            for next in 1..KERNEL {
                sums[next - 1] = sums[next];
            }
            sums[KERNEL - 1] = bias;
        }
    }

    /// One output pixel of any kind.
    #[inline(always)]
    fn pixel<S: Simd, const KERNEL: usize, const STRIDE: usize>(&mut self, simd: S, ox: usize) {
        let channels = self.layer.placement.input.channels;
        let mut channel = 0;
        while channel + PART_VECTORS * S::F32_LANES <= channels {
            self.part::<S, KERNEL, STRIDE, PART_VECTORS>(simd, ox, channel);
            channel += PART_VECTORS * S::F32_LANES;
        }
        while channel < channels {
            let channel_here = channel.min(channels - S::F32_LANES);
            self.part::<S, KERNEL, STRIDE, 1>(simd, ox, channel_here);
            channel += S::F32_LANES;
        }
    }

    /// Some vectors of channels of one output pixel.
    #[inline(always)]
    fn part<S: Simd, const KERNEL: usize, const STRIDE: usize, const VECTORS: usize>(
        &mut self,
        simd: S,
        ox: usize,
        channel: usize,
    ) {
        let Placement { top, left, input, .. } = self.layer.placement;
        let channels = input.channels;
        // A plain loop: `from_fn` with loads that may stop in the middle is not unrolled.
        let load_all = |values: &[f32]| -> [S::f32s; VECTORS] {
            let values = &values[..VECTORS * S::F32_LANES];
            let mut vectors = [simd.splat_f32s(0.0); VECTORS];
            for (vector, values) in vectors.iter_mut().zip(values.chunks_exact(S::F32_LANES)) {
                *vector = load::<S>(values);
            }
            vectors
        };
        let mut sums = load_all(&self.layer.bias[channel..]);
        let columns = self.layer.placement.columns(ox);
        for ky in self.layer.placement.rows(self.oy) {
            let iy = self.oy * STRIDE + ky - top;
            let ix = ox * STRIDE + columns.start - left;
            let mut from = (iy * input.width + ix) * channels + channel;
            let mut at = (ky * KERNEL + columns.start) * channels + channel;
            for _ in columns.clone() {
                let (pixels, weights) =
                    (load_all(&self.input.x[from..]), load_all(&self.layer.weight[at..]));
                for vector in 0..VECTORS {
                    sums[vector] =
                        simd.mul_add_e_f32s(pixels[vector], weights[vector], sums[vector]);
                }
                from += channels;
                at += channels;
            }
        }
        let out = &mut self.out[ox * channels + channel..][..VECTORS * S::F32_LANES];
        for (vector, sum) in sums.into_iter().enumerate() {
            let sum = activated(simd, sum, self.layer.activation);
            store::<S>(&mut out[vector * S::F32_LANES..], sum);
        }
    }

    /// Kernels and strides that no network here is made of.
    #[inline(always)]
    fn run_any(mut self) {
        for ox in 0..self.layer.placement.out_width {
            for channel in 0..self.layer.placement.input.channels {
                self.value(ox, channel);
            }
        }
    }

    /// One channel of one output pixel.
    #[inline(always)]
    fn value(&mut self, ox: usize, channel: usize) {
        let Placement { kernel, stride, top, left, input, .. } = self.layer.placement;
        let mut sum = self.layer.bias[channel];
        for ky in self.layer.placement.rows(self.oy) {
            for kx in self.layer.placement.columns(ox) {
                let (iy, ix) = (self.oy * stride + ky - top, ox * stride + kx - left);
                let pixel = self.input.x[(iy * input.width + ix) * input.channels + channel];
                sum += pixel * self.layer.weight[(ky * kernel + kx) * input.channels + channel];
            }
        }
        self.out[ox * input.channels + channel] = activated_value(sum, self.layer.activation);
    }
}

/// Whether lines are worked out by [`Line::roll`]: where the weights do not crowd the registers of a small
/// vector.
#[inline(always)]
const fn rolls<S: Simd, const KERNEL: usize>() -> bool {
    // Where galleries are made, sums are added in one order by vectors of every size.
    KERNEL == 3 || S::F32_LANES > 4 || cfg!(feature = "authoring")
}

/// Adds a column of a window's pixels, which is the `column`th of the nearest output pixel, to all the sums
/// that it counts for.
#[inline(always)]
fn weigh<S: Simd, const KERNEL: usize, const STRIDE: usize>(
    simd: S,
    lines: [&[f32]; KERNEL],
    at: usize,
    column: usize,
    taps: &[[S::f32s; KERNEL]; KERNEL],
    sums: &mut [S::f32s; KERNEL],
) {
    for (line, taps) in lines.iter().zip(taps) {
        let pixel = load::<S>(&line[at..]);
        for (next, sum) in sums.iter_mut().enumerate() {
            if let Some(kx) = column.checked_sub(next * STRIDE) {
                *sum = simd.mul_add_e_f32s(pixel, taps[kx], *sum);
            }
        }
    }
}
