//! Depthwise convolution: a vector of channels at a time, several output pixels at once.

mod line;

use std::cell::Cell;

use self::line::Line;
use super::{Extent, Placement, lanes};
use crate::activation::Activation;
use crate::simd::dispatch;
use crate::threads::for_chunks;
use gallery::aligned::Aligned;

/// Output pixels whose sums are held at once, so that a weight is used as often once loaded.
const TILE: usize = 4;

/// Pixels of a line up to which a map is copied into blocks of channels first. There a window lies in
/// few cache lines, where pixels of many channels lie a power of two apart and push each other out of
/// the cache, and the padding is there like any pixel.
const BLOCKED_WIDTH: usize = 40;

/// Channels of a block: a cache line.
const BLOCK: usize = 16;

/// One filter a channel.
#[derive(Debug)]
pub(crate) struct Depthwise {
    /// `[kernel · kernel, channels]`
    weight: Aligned<f32>,
    bias: Aligned<f32>,
    activation: Activation,
    placement: Placement,
    /// For an input in blocks, where that is worth while.
    blocked: Option<Blocked>,
}

/// What there is of a convolution over `[channels / BLOCK, height, width, BLOCK]`.
#[derive(Debug)]
struct Blocked {
    /// `[channels / lanes, kernel · kernel, lanes]`
    weight: Aligned<f32>,
    /// Over lines that hold their padding.
    placement: Placement,
}

/// What lines are computed from: a map, or its blocks.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    x: &'a [f32],
    is_blocked: bool,
}

thread_local! {
    /// Room for an input in blocks, kept from picture to picture.
    static BLOCKS: Cell<Aligned<f32>> = Cell::default();
}

impl Depthwise {
    /// Packs `[channels, 1, kernel, kernel]`.
    pub(crate) fn new(
        weight: &[f32],
        bias: &[f32],
        activation: Activation,
        placement: Placement,
    ) -> Self {
        let (channels, taps) = (placement.input.channels, placement.kernel * placement.kernel);
        let by_tap = (0..taps).flat_map(|tap| (0..channels).map(move |c| (c, tap)));
        let weight: Vec<f32> = by_tap.map(|(c, tap)| weight[c * taps + tap]).collect();
        let (weight, bias) = (Aligned::from_values(&weight), Aligned::from_values(bias));
        let is_worth_while = matches!(placement.kernel, 3 | 5)
            && placement.stride <= 2
            && (TILE..=BLOCKED_WIDTH).contains(&placement.out_width)
            && channels.is_multiple_of(if cfg!(feature = "authoring") { BLOCK } else { lanes() });
        let blocked = is_worth_while.then(|| Blocked::new(&weight, placement));
        Self { weight, bias, activation, placement, blocked }
    }

    /// Convolves one picture.
    pub(crate) fn run(&self, x: &[f32], out: &mut [f32]) {
        let line = self.placement.out_width * self.placement.input.channels;
        self.with_input(x, |input| {
            for_chunks(out, line, |oy, line| self.run_line(input, oy, line));
        });
    }

    /// Calls `work` with what [`Self::run_line`] wants of a picture.
    pub(super) fn with_input(&self, x: &[f32], work: impl FnOnce(Input<'_>)) {
        let Some(Blocked { placement, .. }) = &self.blocked else {
            return work(Input { x, is_blocked: false });
        };
        // Taken, not borrowed: a thread that waits for others may begin with another picture.
        let mut room = BLOCKS.take();
        let Extent { height, width, channels } = placement.input;
        let (line, plane) = (width * BLOCK, height * width * BLOCK);
        let length = channels.div_ceil(BLOCK) * plane;
        if room.len() < length {
            room = Aligned::zeros(length);
        }
        let left = self.placement.left;
        // Windows may leave the last pixels out.
        let kept = self.placement.input.width.min(width - left);
        for (block, plane) in room[..length].chunks_exact_mut(plane).enumerate() {
            let first = block * BLOCK;
            let count = BLOCK.min(channels - first);
            let lines = x.chunks_exact(self.placement.input.line());
            for (pixels, line) in lines.zip(plane.chunks_exact_mut(line)) {
                let (before, line) = line.split_at_mut(left * BLOCK);
                let (line, behind) = line.split_at_mut(kept * BLOCK);
                before.fill(0.0);
                behind.fill(0.0);
                let pixels = pixels.chunks_exact(channels);
                for (pixel, to) in pixels.zip(line.chunks_exact_mut(BLOCK)) {
                    if let Some(pixel) = pixel[first..].first_chunk::<BLOCK>() {
                        to.copy_from_slice(pixel);
                    } else {
                        to[..count].copy_from_slice(&pixel[first..]);
                    }
                }
            }
        }
        work(Input { x: &room[..length], is_blocked: true });
        BLOCKS.set(room);
    }

    /// One line of the result.
    pub(super) fn run_line(&self, input: Input<'_>, oy: usize, line: &mut [f32]) {
        dispatch(Line { layer: self, input, oy, out: line });
    }

    /// Pixels of a line of the result.
    pub(super) fn out_width(&self) -> usize {
        self.placement.out_width
    }
}

impl Blocked {
    /// From weights as [`Depthwise`] has them.
    fn new(weight: &[f32], placement: Placement) -> Self {
        let (channels, taps) = (placement.input.channels, placement.kernel * placement.kernel);
        let mut packed = Vec::with_capacity(weight.len());
        for first in (0..channels).step_by(lanes()) {
            for tap in 0..taps {
                packed.extend_from_slice(&weight[tap * channels + first..][..lanes()]);
            }
        }
        let width = (placement.out_width - 1) * placement.stride + placement.kernel;
        let input = Extent { width, ..placement.input };
        let placement = Placement { left: 0, input, ..placement };
        Self { weight: Aligned::from_values(&packed), placement }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::noise;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_equal_a_plain_loop(
            channels in prop::sample::select(vec![3_usize, 16, 24, 32, 48, 80]),
            kernel in prop::sample::select(vec![3_usize, 5, 7]),
            stride in 1_usize..3,
            height in 1_usize..12,
            // On both sides of the width up to which maps are copied.
            width in prop::sample::select(vec![1_usize, 2, 5, 7, 14, 39, 40, 41, 90]),
            is_even in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let mut next = noise(seed);
            let input = Extent { height, width, channels };
            let placement = if is_even {
                Placement::even(input, kernel, stride)
            } else {
                Placement::same(input, kernel, stride)
            };
            let x: Vec<f32> = (0..input.values()).map(|_| next()).collect();
            let taps = kernel * kernel;
            let weight: Vec<f32> = (0..channels * taps).map(|_| next()).collect();
            let bias: Vec<f32> = (0..channels).map(|_| next()).collect();
            let layer = Depthwise::new(&weight, &bias, Activation::HardSwish, placement);
            let line = placement.out_width * channels;
            let mut out = vec![f32::NAN; placement.out_height * line];
            layer.run(&x, &mut out);
            let mut expected = vec![f32::NAN; out.len()];
            for (oy, out) in expected.chunks_exact_mut(line).enumerate() {
                let input = Input { x: &x, is_blocked: false };
                Line { layer: &layer, input, oy, out }.run_any();
            }
            for (got, expected) in out.iter().zip(&expected) {
                prop_assert!((got - expected).abs() <= 1e-4, "{got} against {expected}");
            }
        }
    }
}
