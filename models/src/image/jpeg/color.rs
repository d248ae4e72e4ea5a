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
                let inputs = y.iter().zip(cb).zip(cr);
                for (pixel, ((y, cb), cr)) in pixels.as_chunks_mut().0.iter_mut().zip(inputs) {
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
