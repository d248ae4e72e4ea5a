//! From the channels of a picture to its pixels, rounded where libjpeg rounds.

#![allow(clippy::inline_always, reason = "vector code is chosen where a loop is inlined into")]

use super::scan::{Component, Frame};

/// What the channels are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Channels {
    /// Brightness.
    Gray,
    /// Red, green, blue.
    Rgb,
    /// Brightness, difference to blue, difference to red.
    Ycc,
    /// What is left of white under cyan, magenta, yellow and black.
    Cmyk,
    /// As `Cmyk`, the first three turned into brightness and differences.
    Ycck,
}

/// Pixels of one byte (gray) or three (red, green, blue).
pub(super) fn pixels(frame: &Frame, channels: Channels) -> Vec<u8> {
    let most = |of: fn(&Component) -> usize| frame.components.iter().map(of).max().unwrap_or(1);
    let (h, v) = (most(|c| c.h), most(|c| c.v));
    let bytes = if channels == Channels::Gray { 1 } else { 3 };
    let mut pixels = vec![0; frame.width * frame.height * bytes];
    let mut lines = vec![vec![0; frame.width + 8 * h]; frame.components.len()];
    for (y, pixels) in pixels.chunks_exact_mut(frame.width * bytes).enumerate() {
        pulp::Arch::new().dispatch(Line {
            frame,
            channels,
            y,
            sides: (h, v),
            lines: &mut lines,
            pixels,
        });
    }
    pixels
}

/// A line of pixels that are wanted.
struct Line<'a> {
    frame: &'a Frame,
    channels: Channels,
    y: usize,
    /// Most blocks of a channel across and down in a unit.
    sides: (usize, usize),
    /// Room for the channels.
    lines: &'a mut [Vec<u8>],
    pixels: &'a mut [u8],
}

impl pulp::NullaryFnOnce for Line<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { frame, channels, y, sides: (h, v), lines, pixels } = self;
        for (component, line) in frame.components.iter().zip(&mut *lines) {
            widened(component, y, (h / component.h, v / component.v), line);
        }
        match (channels, &lines[..]) {
            (Channels::Gray, [gray, ..]) => pixels.copy_from_slice(&gray[..frame.width]),
            (Channels::Rgb, [red, green, blue, ..]) => {
                for (x, pixel) in pixels.as_chunks_mut().0.iter_mut().enumerate() {
                    *pixel = [red[x], green[x], blue[x]];
                }
            }
            (Channels::Ycc, [y, cb, cr, ..]) => {
                let done = wide::pixels([y, cb, cr], pixels);
                let inputs = y[done..].iter().zip(&cb[done..]).zip(&cr[done..]);
                let pixels = pixels[3 * done..].as_chunks_mut().0;
                for (pixel, ((y, cb), cr)) in pixels.iter_mut().zip(inputs) {
                    *pixel = rgb(*y, *cb, *cr);
                }
            }
            (_, [a, b, c, black]) => {
                for (x, pixel) in pixels.as_chunks_mut().0.iter_mut().enumerate() {
                    let light = match channels {
                        Channels::Ycck => rgb(a[x], b[x], c[x]).map(|ink| 255 - ink),
                        _ => [a[x], b[x], c[x]],
                    };
                    *pixel = light
                        .map(|light| ((u16::from(light) * u16::from(black[x]) + 127) / 255) as u8);
                }
            }
            _ => {}
        }
    }
}

#[inline(always)]
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((91_881 * cr + 32_768) >> 16);
    let green = y + ((-22_554 * cb - 46_802 * cr + 32_768) >> 16);
    let blue = y + ((116_130 * cb + 32_768) >> 16);
    [red.clamp(0, 255) as u8, green.clamp(0, 255) as u8, blue.clamp(0, 255) as u8]
}

/// What compilers leave in single numbers for wasm, by its own instructions.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wide {
    use core::arch::wasm32::{
        i16x8_add, i16x8_extend_high_u8x16, i16x8_extend_low_u8x16, i16x8_narrow_i32x4,
        i16x8_shuffle, i16x8_splat, i16x8_sub, i32x4_add, i32x4_dot_i16x8, i32x4_shr, i32x4_splat,
        u8x16_narrow_i16x8, u8x16_shuffle, u64x2, u64x2_extract_lane, v128,
    };

    /// Pixels that are worked on at once.
    const PIXELS: usize = 16;

    /// The first pixels of a line, as `rgb` makes them of brightness and differences; how many.
    ///
    /// A factor beyond 16 bits is a whole number of 65,536 and a rest: what the whole adds is added behind the shift.
    pub(super) fn pixels(channels: [&[u8]; 3], pixels: &mut [u8]) -> usize {
        let (lines, _) = pixels.as_chunks_mut::<{ 3 * PIXELS }>();
        let [y, cb, cr] = channels.map(|channel| channel.as_chunks::<PIXELS>().0);
        let done = lines.len().min(y.len()).min(cb.len()).min(cr.len());
        for (((pixels, y), cb), cr) in lines.iter_mut().zip(y).zip(cb).zip(cr) {
            let [y, cb, cr] = [y, cb, cr].map(load);
            let halves = |of: fn(v128) -> v128| {
                let middle = i16x8_splat(128);
                eight_pixels(of(y), i16x8_sub(of(cb), middle), i16x8_sub(of(cr), middle))
            };
            let (low, high) =
                (halves(|v| i16x8_extend_low_u8x16(v)), halves(|v| i16x8_extend_high_u8x16(v)));
            let [red, green, blue] =
                [0, 1, 2].map(|color| u8x16_narrow_i16x8(low[color], high[color]));
            interleave([red, green, blue], pixels);
        }
        done
    }

    fn load(bytes: &[u8; PIXELS]) -> v128 {
        let [low, high] =
            [0, 8].map(|at| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i])));
        u64x2(low, high)
    }

    /// Red, green and blue of eight pixels.
    #[inline(always)]
    fn eight_pixels(y: v128, cb: v128, cr: v128) -> [v128; 3] {
        // Pairs of a difference to blue and one to red.
        let low = i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(cb, cr);
        let high = i16x8_shuffle::<4, 12, 5, 13, 6, 14, 7, 15>(cb, cr);
        let shifted = |factors: v128| {
            let [low, high] = [low, high].map(|pairs| {
                let sum = i32x4_add(i32x4_dot_i16x8(pairs, factors), i32x4_splat(32_768));
                i32x4_shr(sum, 16)
            });
            i16x8_narrow_i32x4(low, high)
        };
        let pair = |blue: i16, red: i16| {
            i32x4_splat(i32::from(red) << 16 | i32::from(blue.cast_unsigned()))
        };
        let red = i16x8_add(shifted(pair(0, 26_345)), cr);
        let green = i16x8_sub(shifted(pair(-22_554, 18_734)), cr);
        let blue = i16x8_add(shifted(pair(-14_942, 0)), i16x8_add(cb, cb));
        [red, green, blue].map(|color| i16x8_add(y, color))
    }

    /// Three colors of sixteen pixels, pixel by pixel.
    #[inline(always)]
    fn interleave([r, g, b]: [v128; 3], pixels: &mut [u8; 3 * PIXELS]) {
        let first = {
            let two = u8x16_shuffle::<0, 16, 0, 1, 17, 0, 2, 18, 0, 3, 19, 0, 4, 20, 0, 5>(r, g);
            u8x16_shuffle::<0, 1, 16, 3, 4, 17, 6, 7, 18, 9, 10, 19, 12, 13, 20, 15>(two, b)
        };
        let second = {
            let two = u8x16_shuffle::<21, 0, 6, 22, 0, 7, 23, 0, 8, 24, 0, 9, 25, 0, 10, 26>(r, g);
            u8x16_shuffle::<0, 21, 2, 3, 22, 5, 6, 23, 8, 9, 24, 11, 12, 25, 14, 15>(two, b)
        };
        let third = {
            let two =
                u8x16_shuffle::<0, 11, 27, 0, 12, 28, 0, 13, 29, 0, 14, 30, 0, 15, 31, 0>(r, g);
            u8x16_shuffle::<26, 1, 2, 27, 4, 5, 28, 7, 8, 29, 10, 11, 30, 13, 14, 31>(two, b)
        };
        for (sixteen, values) in
            pixels.as_chunks_mut::<16>().0.iter_mut().zip([first, second, third])
        {
            let (halves, _) = sixteen.as_chunks_mut::<8>();
            halves[0] = u64x2_extract_lane::<0>(values).to_le_bytes();
            halves[1] = u64x2_extract_lane::<1>(values).to_le_bytes();
        }
    }
}

/// Elsewhere the loop over single pixels becomes vector code.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod wide {
    pub(super) fn pixels(_: [&[u8]; 3], _: &mut [u8]) -> usize {
        0
    }
}

/// A line of a channel in the picture's width. Halves are widened by weights of 3 and 1, as encoders expect;
/// smaller parts are repeated.
#[inline(always)]
fn widened(component: &Component, y: usize, (across, down): (usize, usize), line: &mut [u8]) {
    let last = component.height - 1;
    let near = (y / down).min(last);
    let samples = |row: usize| &component.plane[row * component.stride..][..component.width];
    // Of two lines out of one, the upper looks at the line above it.
    let far = if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(last) };
    let is_wide = component.width > 2;
    let here = samples(near);
    match (across, down) {
        (1, 1) => line[..here.len()].copy_from_slice(here),
        (1, 2) => {
            let half = if y.is_multiple_of(2) { 1 } else { 2 };
            for ((to, near), far) in line.iter_mut().zip(here).zip(samples(far)) {
                *to = ((3 * u16::from(*near) + u16::from(*far) + half) >> 2) as u8;
            }
        }
        (2, 1) if is_wide => doubled(line, here.len(), |x| u16::from(here[x]), (1, 2, 2)),
        (2, 2) if is_wide => {
            let there = samples(far);
            let sum = |x: usize| 3 * u16::from(here[x]) + u16::from(there[x]);
            doubled(line, here.len(), sum, (8, 7, 4));
        }
        _ => {
            for (to, from) in line.chunks_mut(across).zip(here) {
                to.fill(*from);
            }
        }
    }
}

/// Two samples out of each: three parts of it, one of its neighbor, rounded up and down in turn.
#[inline(always)]
fn doubled(
    line: &mut [u8],
    count: usize,
    of: impl Fn(usize) -> u16,
    (left, right, shift): (u16, u16, u32),
) {
    let end = |x: usize, half: u16| ((4 * of(x) + half) >> shift) as u8;
    line[0] = end(0, left);
    for (x, to) in line[1..2 * count - 1].chunks_exact_mut(2).enumerate() {
        to[0] = ((3 * of(x) + of(x + 1) + right) >> shift) as u8;
        to[1] = ((3 * of(x + 1) + of(x) + left) >> shift) as u8;
    }
    line[2 * count - 1] = end(count - 1, right);
}
