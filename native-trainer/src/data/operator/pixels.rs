//! Changes of single pixels and affine maps, as OpenCV and Pillow compute them.

use models::image::RgbImage;

use super::rgb;

/// Sub-pixel positions of OpenCV's maps.
const SUB_PIXELS: i64 = 32;
/// Fixed-point scale of OpenCV's maps.
const MAP_SCALE: f64 = 1024.0;

/// Each pixel of the result is read at `map · (x, y, 1)`, between four pixels, on OpenCV's grid of
/// 32 positions a pixel; outside the picture lies `fill`.
pub(super) fn affine(image: &RgbImage, map: [[f64; 3]; 2], fill: [u8; 3]) -> RgbImage {
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    let half_step = MAP_SCALE as i64 / SUB_PIXELS / 2;
    let mut data = Vec::with_capacity(image.data().len());
    for y in 0..height {
        let start = map.map(|row| {
            ((row[1] * y as f64 + row[2]) * MAP_SCALE).round_ties_even() as i64 + half_step
        });
        for x in 0..width {
            let [u, v] = [0, 1].map(|axis| {
                let step = (map[axis][0] * x as f64 * MAP_SCALE).round_ties_even() as i64;
                (start[axis] + step).div_euclid(MAP_SCALE as i64 / SUB_PIXELS)
            });
            let (left, top) = (u.div_euclid(SUB_PIXELS), v.div_euclid(SUB_PIXELS));
            let (fx, fy) = (u.rem_euclid(SUB_PIXELS), v.rem_euclid(SUB_PIXELS));
            for (channel, fill) in fill.into_iter().enumerate() {
                let at = |x: i64, y: i64| {
                    let inside = (0..width).contains(&x) && (0..height).contains(&y);
                    i64::from(if inside {
                        image.data()[((y * width + x) * 3) as usize + channel]
                    } else {
                        fill
                    })
                };
                let upper = at(left, top) * (SUB_PIXELS - fx) + at(left + 1, top) * fx;
                let lower = at(left, top + 1) * (SUB_PIXELS - fx) + at(left + 1, top + 1) * fx;
                let sum = upper * (SUB_PIXELS - fy) + lower * fy;
                let whole = SUB_PIXELS * SUB_PIXELS;
                data.push(((sum + whole / 2) / whole) as u8);
            }
        }
    }
    rgb(image.width(), image.height(), data)
}

/// Brightness of a pixel, in Pillow's integers.
fn luma(pixel: &[u8]) -> u8 {
    let weights = [19_595, 38_470, 7_471];
    let sum: u32 = pixel.iter().zip(weights).map(|(v, weight)| u32::from(*v) * weight).sum();
    ((sum + 0x8000) >> 16) as u8
}

/// Every channel shows the brightness.
pub(super) fn grayscale(image: &RgbImage) -> RgbImage {
    let data = image.data().chunks_exact(3).flat_map(|pixel| [luma(pixel); 3]).collect();
    rgb(image.width(), image.height(), data)
}

/// `from + (to − from) · factor`, the enhancement of Pillow.
pub(super) fn blend(from: &RgbImage, to: &RgbImage, factor: f32) -> RgbImage {
    let mix = |(a, b): (&u8, &u8)| {
        let (a, b) = (f32::from(*a), f32::from(*b));
        (a + (b - a) * factor).clamp(0.0, 255.0) as u8
    };
    let data = from.data().iter().zip(to.data()).map(mix).collect();
    rgb(to.width(), to.height(), data)
}

/// All pixels of one gray level.
fn flat(image: &RgbImage, level: u8) -> RgbImage {
    rgb(image.width(), image.height(), vec![level; image.data().len()])
}

/// More or less color; 1 changes nothing.
pub(super) fn color(image: &RgbImage, factor: f32) -> RgbImage {
    blend(&grayscale(image), image, factor)
}

/// Against the mean brightness; 1 changes nothing.
pub(super) fn contrast(image: &RgbImage, factor: f32) -> RgbImage {
    let pixels = image.data().len() as u64 / 3;
    let sum: u64 = image.data().chunks_exact(3).map(|pixel| u64::from(luma(pixel))).sum();
    let mean = (sum as f64 / pixels as f64 + 0.5) as u8;
    blend(&flat(image, mean), image, factor)
}

/// Against black; 1 changes nothing.
pub(super) fn brightness(image: &RgbImage, factor: f32) -> RgbImage {
    blend(&flat(image, 0), image, factor)
}

/// Against a smoothed picture; 1 changes nothing.
pub(super) fn sharpness(image: &RgbImage, factor: f32) -> RgbImage {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let source = image.data();
    let mut smooth = source.to_vec();
    for y in 1..height.saturating_sub(1) {
        for x in 1..width.saturating_sub(1) {
            for channel in 0..3 {
                let at = |x: usize, y: usize| u32::from(source[(y * width + x) * 3 + channel]);
                let around: u32 = (0..9).map(|i| at(x + i % 3 - 1, y + i / 3 - 1)).sum();
                let sum = around + 4 * at(x, y);
                smooth[(y * width + x) * 3 + channel] = ((sum as f32 / 13.0) + 0.5) as u8;
            }
        }
    }
    blend(&rgb(image.width(), image.height(), smooth), image, factor)
}

/// Every value by a table a channel.
fn by_table(mut image: RgbImage, tables: &[[u8; 256]; 3]) -> RgbImage {
    for pixel in image.data_mut().chunks_exact_mut(3) {
        pixel.iter_mut().zip(tables).for_each(|(v, table)| *v = table[usize::from(*v)]);
    }
    image
}

fn table(of: impl Fn(u8) -> u8) -> [u8; 256] {
    std::array::from_fn(|value| of(value as u8))
}

/// Light and dark exchanged.
pub(super) fn invert(image: RgbImage) -> RgbImage {
    by_table(image, &[table(|v| 255 - v); 3])
}

/// Values from `threshold` on are inverted.
pub(super) fn solarize(image: RgbImage, threshold: f32) -> RgbImage {
    by_table(image, &[table(|v| if f32::from(v) < threshold { v } else { 255 - v }); 3])
}

/// Keeps the upper bits of every value, one at least.
pub(super) fn posterize(image: RgbImage, bits: u32) -> RgbImage {
    let mask = !(0xff_u8.checked_shr(bits.max(1)).unwrap_or(0));
    by_table(image, &[table(|v| v & mask); 3])
}

fn histograms(image: &RgbImage) -> [[u32; 256]; 3] {
    let mut counts = [[0; 256]; 3];
    for pixel in image.data().chunks_exact(3) {
        pixel.iter().zip(&mut counts).for_each(|(v, count)| count[usize::from(*v)] += 1);
    }
    counts
}

/// Stretches every channel to the full range.
pub(super) fn auto_contrast(image: RgbImage) -> RgbImage {
    let tables = histograms(&image).map(|counts| {
        let low = counts.iter().position(|c| *c > 0).unwrap_or(0) as f32;
        let high = counts.iter().rposition(|c| *c > 0).unwrap_or(255) as f32;
        table(|v| {
            if high <= low {
                v
            } else {
                let scale = 255.0 / (high - low);
                (f32::from(v) * scale - low * scale).clamp(0.0, 255.0) as u8
            }
        })
    });
    by_table(image, &tables)
}

/// Spreads every channel's values evenly.
pub(super) fn equalize(image: RgbImage) -> RgbImage {
    let tables = histograms(&image).map(|counts| {
        let last = counts.iter().rev().find(|c| **c > 0).copied().unwrap_or(0);
        let step = (counts.iter().sum::<u32>() - last) / 255;
        if step == 0 {
            return table(|v| v);
        }
        let mut sum = step / 2;
        counts.map(|count| {
            let value = (sum / step).min(255) as u8;
            sum += count;
            value
        })
    });
    by_table(image, &tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> RgbImage {
        rgb(6, 5, (0..90).map(|i| (i * 37 % 251) as u8).collect())
    }

    #[test]
    fn a_factor_of_one_changes_nothing() {
        for change in [color, contrast, brightness, sharpness] {
            assert_eq!(change(&picture(), 1.0), picture());
        }
    }

    #[test]
    fn the_identity_map_changes_nothing() {
        let map = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]];
        assert_eq!(affine(&picture(), map, [0; 3]), picture());
    }

    #[test]
    fn a_map_by_whole_pixels_shifts() {
        let shifted = affine(&picture(), [[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]], [9, 8, 7]);
        let row = |image: &RgbImage| image.data()[..18].to_vec();
        assert_eq!(row(&shifted)[..12], row(&picture())[6..]);
        assert_eq!(row(&shifted)[12..], [9, 8, 7, 9, 8, 7]);
    }

    #[test]
    fn inverting_twice_changes_nothing() {
        assert_eq!(invert(invert(picture())), picture());
        assert_eq!(solarize(picture(), 0.0), invert(picture()));
        assert_eq!(solarize(picture(), 256.0), picture());
    }

    #[test]
    fn posterizing_keeps_the_upper_bits() {
        assert_eq!(posterize(picture(), 8), picture());
        assert!(posterize(picture(), 2).data().iter().all(|v| v % 64 == 0));
        assert!(posterize(picture(), 0).data().iter().all(|v| *v == 0 || *v == 128));
    }

    #[test]
    fn contrast_is_stretched_to_the_full_range() {
        let dull = blend(&flat(&picture(), 100), &picture(), 0.3);
        for counts in histograms(&auto_contrast(dull)) {
            // Values are cut off, not rounded, as Pillow does.
            assert!(counts[0] > 0 && counts[254] + counts[255] > 0);
        }
    }

    #[test]
    fn equal_counts_are_spread_evenly() {
        // 4 levels, 300 pixels each: Pillow leaves the last out of its step, (1200 − 300) / 255 = 3.
        let data = (0..1200_u32).flat_map(|i| [40 + (i / 300) as u8; 3]).collect();
        let levels = equalize(rgb(1200, 1, data));
        let at = |i: usize| levels.data()[i * 3];
        assert_eq!([at(0), at(300), at(600), at(900)], [0, 100, 200, 255]);
    }
}
