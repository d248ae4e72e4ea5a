//! From a block's coefficients to its samples.

#![allow(clippy::inline_always, reason = "vector code is chosen where a loop is inlined into")]

use pulp::bytemuck;

use super::lanes::Lanes;

/// Where the coefficients of a block lie, in the order in which they are coded.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Lines of blocks whose samples are wanted.
pub(super) struct Samples<'a> {
    /// Coefficients, block by block and line by line of blocks.
    pub(super) blocks: &'a [[i16; 64]],
    /// Steps of quantization.
    pub(super) steps: &'a [u16; 64],
    /// Gets the samples, line by line.
    pub(super) plane: &'a mut [u8],
    /// Samples in a line.
    pub(super) stride: usize,
}

impl pulp::NullaryFnOnce for Samples<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let lines = self.plane.chunks_exact_mut(8 * self.stride);
        for (blocks, lines) in self.blocks.chunks_exact(self.stride / 8).zip(lines) {
            for (x, block) in blocks.iter().enumerate() {
                transform(block, self.steps, &mut lines[8 * x..], self.stride);
            }
        }
    }
}

/// The transform of Loeffler, Ligtenberg and Moschytz in integers, rounded where libjpeg rounds, so that
/// browsers, OpenCV and Pillow give the same samples.
#[inline(always)]
fn transform(block: &[i16; 64], steps: &[u16; 64], plane: &mut [u8], stride: usize) {
    // Four coefficients a word; the first of all is none that has to be 0.
    let mut others = *block;
    others[0] = 0;
    let words: [[u64; 2]; 8] = bytemuck::cast(others);
    let (mut upper_left, mut elsewhere) = (0, 0);
    for (y, [left, right]) in words.iter().enumerate() {
        elsewhere |= right;
        *(if y < 4 { &mut upper_left } else { &mut elsewhere }) |= left;
    }
    let (block, steps) = (block.as_chunks().0, steps.as_chunks().0);
    let values = || {
        let mut rows = [Lanes::splat(0); 8];
        for ((row, values), steps) in rows.iter_mut().zip(block).zip(steps) {
            *row = Lanes::products(values, steps);
        }
        rows
    };
    // Most blocks of a photograph have little but their upper left quarter.
    let rows = if elsewhere != 0 {
        Lanes::turned(&pass::<false>(&Lanes::turned(&pass::<false>(&values(), 11)), 18))
    } else if upper_left != 0 {
        Lanes::turned(&pass::<true>(&Lanes::turned(&pass::<true>(&values(), 11)), 18))
    } else {
        let first = i32::from(block[0][0]).wrapping_mul(i32::from(steps[0][0]));
        [Lanes::splat(first.wrapping_add(4) >> 3); 8]
    };
    for (line, row) in plane.chunks_mut(stride).zip(rows) {
        if let Some(line) = line.first_chunk_mut() {
            *line = row.samples();
        }
    }
}

/// The transform of eight columns, whose lower halves are 0 where `HALF`; the result is rounded and moved by
/// `shift` bits.
#[inline(always)]
fn pass<const HALF: bool>(rows: &[Lanes; 8], shift: u32) -> [Lanes; 8] {
    let lower = |i: usize| if HALF { Lanes::splat(0) } else { rows[i] };
    let [r0, r1, r2, r3, ..] = *rows;
    let [r4, r5, r6, r7] = [lower(4), lower(5), lower(6), lower(7)];
    // Even rows.
    let z = (r2 + r6) * 4433;
    let (even2, even3) = (z - r6 * 15137, z + r2 * 6270);
    let (even0, even1) = ((r0 + r4) * 8192, (r0 - r4) * 8192);
    let evens = [even0 + even3, even1 + even2, even1 - even2, even0 - even3];
    // Odd rows.
    let z5 = (r7 + r3 + r5 + r1) * 9633;
    let z1 = (r7 + r1) * -7373;
    let z2 = (r5 + r3) * -20995;
    let z3 = (r7 + r3) * -16069 + z5;
    let z4 = (r5 + r1) * -3196 + z5;
    let odds =
        [r1 * 12299 + z1 + z4, r3 * 25172 + z2 + z3, r5 * 16819 + z2 + z4, r7 * 2446 + z1 + z3];
    let mut moved = [Lanes::splat(0); 8];
    for i in 0..4 {
        let (sum, difference) = (evens[i] + odds[i], evens[i] - odds[i]);
        (moved[i], moved[7 - i]) = (sum.halved(shift), difference.halved(shift));
    }
    moved
}
