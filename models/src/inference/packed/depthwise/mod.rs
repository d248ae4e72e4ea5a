//! Depthwise convolution: a vector of channels at a time, several output pixels at once.

mod line;

use std::cell::Cell;

use self::line::Lines;
use super::elementwise::Activate;
use super::product::Place;
use super::{Extent, Placement, lanes};
use crate::activation::Activation;
use crate::simd::dispatch;
use crate::threads::{self, for_chunks};
use gallery::aligned::Aligned;

/// Output pixels whose sums are held at once, so that a weight is used as often once loaded.
const TILE: usize = 4;

/// Pixels of a line up to which a map is copied into blocks of channels first, where it does not come in them. There a
/// window lies in few cache lines, where pixels of many channels lie a power of two apart and push each other out of
/// the cache, and the padding is there like any pixel.
const BLOCKED_WIDTH: usize = 40;

/// Output pixels that are worked on at once by vectors of more than four values: as many as leave the fewest of a line to be worked out
/// twice.
const fn tile_width(out_width: usize) -> usize {
    if out_width < 7 {
        TILE
    } else if out_width.next_multiple_of(7) < out_width.next_multiple_of(8) {
        7
    } else {
        8
    }
}

/// Channels of a block: a cache line.
pub(super) const BLOCK: usize = 16;

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

/// A map in blocks of channels, `[height, channels / BLOCK, width, BLOCK]`, whose lines hold their padding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockedMap {
    /// Pixels of a line without its padding, and those before them.
    pub(super) pixels: usize,
    pub(super) left: usize,
    /// Pixels of a line with its padding.
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) channels: usize,
}

impl BlockedMap {
    /// What the windows of a convolution lie in.
    fn new(Placement { kernel, stride, left, input, out_width, .. }: Placement) -> Self {
        let windows = (out_width - 1) * stride + kernel;
        // Windows may leave the last pixels out.
        let width = windows.max(left + input.width);
        let Extent { width: pixels, height, channels } = input;
        Self { pixels, left, width, height, channels }
    }

    /// Values of all blocks of a line.
    pub(super) fn line(self) -> usize {
        self.width * self.channels.next_multiple_of(BLOCK)
    }

    /// Sides that make as many values.
    pub(crate) fn extent(self) -> Extent {
        let channels = self.channels.next_multiple_of(BLOCK);
        Extent { height: self.height, width: self.width, channels }
    }

    /// Where a product writes the pixels of such a map.
    pub(super) fn place(self) -> Place {
        let start = self.left * BLOCK;
        Place {
            rows: self.pixels,
            line: self.line(),
            start,
            step: BLOCK,
            block: self.width * BLOCK,
        }
    }

    /// Writes zeros into the padding of some lines.
    pub(super) fn clear_padding(self, lines: &mut [f32]) {
        let (from, to) = (self.left * BLOCK, (self.left + self.pixels) * BLOCK);
        for block in lines.chunks_exact_mut(self.width * BLOCK) {
            block[..from].fill(0.0);
            block[to..].fill(0.0);
        }
    }
}

/// What there is of a convolution over a map in blocks.
#[derive(Debug)]
struct Blocked {
    /// `[channels / lanes, kernel · kernel, lanes]`
    weight: Aligned<f32>,
    map: BlockedMap,
    /// Whether the map comes in blocks.
    is_given: bool,
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
            && placement.out_width >= TILE
            && channels.is_multiple_of(if cfg!(feature = "authoring") { BLOCK } else { lanes() });
        let blocked = is_worth_while.then(|| Blocked::new(&weight, placement));
        Self { weight, bias, activation, placement, blocked }
    }

    /// Convolves one picture.
    pub(crate) fn run(&self, x: &[f32], out: &mut [f32]) {
        let line = self.placement.out_width * self.placement.input.channels;
        self.with_input(x, |input| {
            let lines = threads::piece(self.placement.out_height, 1, usize::MAX);
            for_chunks(out, lines * line, |index, out| self.run_lines(input, index * lines, out));
        });
    }

    /// Calls `work` with what [`Self::run_lines`] wants of a picture.
    pub(super) fn with_input(&self, x: &[f32], work: impl FnOnce(Input<'_>)) {
        let map = match &self.blocked {
            Some(blocked) if blocked.is_given => return work(Input { x, is_blocked: true }),
            Some(blocked) if self.placement.out_width <= BLOCKED_WIDTH => blocked.map,
            _ => return work(Input { x, is_blocked: false }),
        };
        // Taken, not borrowed: a thread that waits for others may begin with another picture.
        let mut room = BLOCKS.take();
        let values = map.extent().values();
        if room.len() < values {
            room = Aligned::zeros(values);
        }
        let lines = threads::piece(map.height, 1, usize::MAX);
        for_chunks(&mut room[..values], lines * map.line(), |index, out| {
            map.clear_padding(out);
            let pixels = map.pixels * map.channels;
            let x = x[index * lines * pixels..].chunks_exact(pixels);
            for (pixels, line) in x.zip(out.chunks_exact_mut(map.line())) {
                for (block, to) in line.chunks_exact_mut(map.width * BLOCK).enumerate() {
                    let first = block * BLOCK;
                    let count = BLOCK.min(map.channels - first);
                    let to = &mut to[map.left * BLOCK..][..map.pixels * BLOCK];
                    let pixels = pixels.chunks_exact(map.channels);
                    for (pixel, to) in pixels.zip(to.chunks_exact_mut(BLOCK)) {
                        if let Some(pixel) = pixel[first..].first_chunk::<BLOCK>() {
                            to.copy_from_slice(pixel);
                        } else {
                            to[..count].copy_from_slice(&pixel[first..]);
                        }
                    }
                }
            }
        });
        work(Input { x: &room[..values], is_blocked: true });
        BLOCKS.set(room);
    }

    /// How the map lies in blocks that this reads, where it can read them.
    pub(crate) fn blocked_map(&self) -> Option<BlockedMap> {
        self.blocked.as_ref().map(|blocked| blocked.map)
    }

    /// Has the map come in blocks.
    pub(crate) fn read_blocks(&mut self) {
        if let Some(blocked) = &mut self.blocked {
            blocked.is_given = true;
        }
    }

    /// Lines of the result, from one on.
    pub(super) fn run_lines(&self, input: Input<'_>, first: usize, out: &mut [f32]) {
        dispatch(Lines { layer: self, input, first, out: &mut *out });
        if self.activation.is_smooth() {
            dispatch(Activate { x: out, activation: self.activation });
        }
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
        let map = BlockedMap::new(placement);
        Self { weight: Aligned::from_values(&packed), map, is_given: false }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::exact;
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
            activation in prop::sample::select(Activation::ALL.to_vec()),
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
            let layer = Depthwise::new(&weight, &bias, activation, placement);
            let sums = Depthwise::new(&weight, &bias, Activation::Identity, placement);
            let line = placement.out_width * channels;
            let mut out = vec![f32::NAN; placement.out_height * line];
            layer.run(&x, &mut out);
            let mut expected = vec![f32::NAN; out.len()];
            for (oy, out) in expected.chunks_exact_mut(line).enumerate() {
                let input = Input { x: &x, is_blocked: false };
                Lines { layer: &sums, input, first: oy, out }.run_any();
            }
            for (got, sum) in out.iter().zip(&expected) {
                let expected = exact(activation, *sum);
                prop_assert!((got - expected).abs() <= 1e-4, "{got} against {expected}");
            }
        }
    }
}
