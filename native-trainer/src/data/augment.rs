//! Random changes of a training picture: placement, colors, background, erasing.
//!
//! One pass samples the picture through a random affine map onto a canvas of the network's input
//! size; transparent and uncovered pixels show a random background. Everything is drawn from the
//! generator that is passed in.
//!
//! Source: random erasing is <https://arxiv.org/abs/1708.04896>; the rest are the usual
//! transforms, with the ranges as recipe fields.

use models::image::RgbImage;
use serde::{Deserialize, Serialize};

use super::store::RgbaImage;
use crate::random::{Random, chance, uniform};

/// Shares of a side that a blurred image is shrunk to before it is enlarged again: from a blur that is hardly
/// seen to one of an image of 0.4 times the resolution. Chosen by eye.
const BLUR: [f32; 2] = [0.4, 0.8];
/// Shares of the canvas that are erased; the paper has 0.02 to 0.4, of which the upper part hides most of an
/// object that fills the canvas.
const ERASED_AREA: [f32; 2] = [0.02, 0.25];
/// Least width over height of an erased rectangle, the largest being its inverse; the paper's.
const ERASED_ASPECT: f32 = 0.3;
/// Opacity from which a pixel belongs to the box of its object: soft edges and shadows below it, which nobody
/// would draw a box around, do not widen the box.
const VISIBLE: f32 = 0.25;
/// Positions a side that a pixel of a shrunk image is averaged from, at most: a compromise of quality and time.
const MOST_SAMPLES: f32 = 3.0;
/// Pixels of a background's stripes and patches: from fine textures to areas of a network's usual input.
const PERIOD: [f32; 2] = [4.0, 40.0];
/// Largest noise of a background, in gray levels of 255; below 0 there is none: two backgrounds of five.
const NOISE: [f32; 2] = [-20.0, 30.0];
/// Weights of red, green and blue in brightness (ITU-R BT.601), as JPEG has them.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// How much an image may change; the default changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Largest rotation to either side, in degrees.
    pub rotation: f32,
    /// Smallest and largest size, as a share of the canvas; `[0, 0]` keeps it at 1.
    pub scale: [f32; 2],
    /// Largest stretch of one side against the other: 0.2 allows 1.2 : 1.
    pub stretch: f32,
    /// Largest shift, as a share of the canvas.
    pub translate: f32,
    /// Probability of a mirrored image.
    pub flip: f32,
    /// Probability that `color`, `hue` and `grayscale` count for an image; else its colors stay as they are.
    /// 0.8 by default.
    pub distort: f32,
    /// Largest change of brightness, contrast and saturation, as a share.
    #[serde(alias = "colour")]
    pub color: f32,
    /// Largest change of hue, in degrees.
    pub hue: f32,
    /// Probability that an image loses its color, among those that `distort` picks: of all images
    /// `distort · grayscale` are gray.
    pub grayscale: f32,
    /// Probability of a blurred image (shrunk to 0.4 to 0.8 of its sides and enlarged again).
    pub blur: f32,
    /// Probability of one erased rectangle of 2 to 25 % of the canvas (random erasing).
    pub erase: f32,
    /// Probability of a random background behind transparent and uncovered pixels; white
    /// otherwise.
    pub background: f32,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self {
            rotation: 0.0,
            scale: [0.0; 2],
            stretch: 0.0,
            translate: 0.0,
            flip: 0.0,
            distort: 0.8,
            color: 0.0,
            hue: 0.0,
            grayscale: 0.0,
            blur: 0.0,
            erase: 0.0,
            background: 0.0,
        }
    }
}

impl Augmentation {
    /// The image as the network sees it in training.
    pub fn apply(
        &self,
        picture: &RgbaImage,
        width: u32,
        height: u32,
        random: &mut Random,
    ) -> RgbImage {
        let mut canvas = if chance(random, self.background) {
            background(width, height, random)
        } else {
            RgbImage::from_rgb(width, height, vec![255; (width * height * 3) as usize])
                .expect("the buffer has this size")
        };
        let placement = self.placement(picture, width, height, random);
        let mut colors = ColorChange::draw(self, random);
        if !chance(random, self.distort) {
            colors = ColorChange::none();
        }
        paste(&mut canvas, picture, &placement);
        colors.apply(canvas.data_mut());
        if chance(random, self.blur) {
            let factor = uniform(random, BLUR[0], BLUR[1]);
            let small = |side: u32| ((side as f32 * factor) as u32).max(4);
            let filter = models::image::ResizeFilter::Antialiased;
            let shrunk = models::image::resize(&canvas, small(width), small(height), filter);
            canvas = models::image::resize(&shrunk, width, height, filter);
        }
        if chance(random, self.erase) {
            erase(&mut canvas, random);
        }
        canvas
    }

    fn placement(
        &self,
        picture: &RgbaImage,
        width: u32,
        height: u32,
        random: &mut Random,
    ) -> Placement {
        let scale =
            if self.scale[1] > 0.0 { uniform(random, self.scale[0], self.scale[1]) } else { 1.0 };
        let stretch = (1.0 + uniform(random, 0.0, self.stretch)).sqrt();
        let (sx, sy) = if chance(random, 0.5) {
            (scale * stretch, scale / stretch)
        } else {
            (scale / stretch, scale * stretch)
        };
        let shift = |random: &mut Random| uniform(random, -self.translate, self.translate);
        Placement {
            center_x: width as f32 * (0.5 + shift(random)),
            center_y: height as f32 * (0.5 + shift(random)),
            width: width as f32 * sx,
            height: height as f32 * sy,
            radians: uniform(random, -self.rotation, self.rotation).to_radians(),
            mirrored: chance(random, self.flip),
            source: (picture.width, picture.height),
        }
    }
}

/// Where and how a picture lies on a canvas.
#[derive(Debug, Clone, Copy)]
pub struct Placement {
    /// Center on the canvas, in pixels.
    pub center_x: f32,
    /// Center on the canvas, in pixels.
    pub center_y: f32,
    /// Width before the rotation, in canvas pixels.
    pub width: f32,
    /// Height before the rotation, in canvas pixels.
    pub height: f32,
    /// Clockwise.
    pub radians: f32,
    /// Left and right exchanged.
    pub mirrored: bool,
    /// Width and height of the picture.
    pub source: (u32, u32),
}

/// Position in a picture, in pixels, as a linear function of a canvas position.
#[derive(Debug, Clone, Copy)]
struct SourceMap {
    u: [f32; 3],
    v: [f32; 3],
}

impl SourceMap {
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        let [ux, uy, u0] = self.u;
        let [vx, vy, v0] = self.v;
        (ux * x + uy * y + u0, vx * x + vy * y + v0)
    }
}

impl Placement {
    fn source_map(&self) -> SourceMap {
        let (sin, cos) = self.radians.sin_cos();
        let (source_width, source_height) = (self.source.0 as f32, self.source.1 as f32);
        let across = source_width / self.width * if self.mirrored { -1.0 } else { 1.0 };
        let down = source_height / self.height;
        let (ux, uy) = (cos * across, sin * across);
        let (vx, vy) = (-sin * down, cos * down);
        let (x, y) = (self.center_x, self.center_y);
        SourceMap {
            u: [ux, uy, source_width / 2.0 - ux * x - uy * y],
            v: [vx, vy, source_height / 2.0 - vx * x - vy * y],
        }
    }

    /// Half the width and height of the upright box around it.
    fn half_extent(&self) -> (f32, f32) {
        let (sin, cos) = self.radians.sin_cos();
        let (w, h) = (self.width / 2.0, self.height / 2.0);
        (w * cos.abs() + h * sin.abs(), w * sin.abs() + h * cos.abs())
    }
}

/// Draws a picture onto a canvas; returns the box of the pixels that it changed visibly.
///
/// Where the picture is shrunk, up to 3 × 3 positions a canvas pixel are averaged.
pub fn paste(
    canvas: &mut RgbImage,
    picture: &RgbaImage,
    placement: &Placement,
) -> Option<models::image::geometry::BBox> {
    let (width, height) = (i64::from(canvas.width()), i64::from(canvas.height()));
    let (half_w, half_h) = placement.half_extent();
    let range = |center: f32, half: f32, limit: i64| {
        let low = ((center - half).floor() as i64).clamp(0, limit);
        low..((center + half).ceil() as i64 + 1).clamp(low, limit)
    };
    let shrink = (picture.width as f32 / placement.width)
        .max(picture.height as f32 / placement.height)
        .round()
        .clamp(1.0, MOST_SAMPLES) as i64;
    let offset = |i: i64| (i as f32 + 0.5) / shrink as f32;
    let source = placement.source_map();
    let mut covered: Option<(i64, i64, i64, i64)> = None;
    for y in range(placement.center_y, half_h, height) {
        for x in range(placement.center_x, half_w, width) {
            let mut sum = [0.0_f32; 4];
            for sub in 0..shrink * shrink {
                let (u, v) =
                    source.at(x as f32 + offset(sub % shrink), y as f32 + offset(sub / shrink));
                let sample = sample(picture, u, v);
                sum.iter_mut().zip(sample).for_each(|(s, v)| *s += v);
            }
            let samples = (shrink * shrink) as f32;
            let alpha = sum[3] / samples / 255.0;
            if alpha <= 0.0 {
                continue;
            }
            if alpha > VISIBLE {
                let (x1, y1, x2, y2) = covered.unwrap_or((x, y, x, y));
                covered = Some((x1.min(x), y1.min(y), x2.max(x), y2.max(y)));
            }
            let at = ((y * width + x) * 3) as usize;
            for (channel, target) in canvas.data_mut()[at..at + 3].iter_mut().enumerate() {
                // `sum` holds colors already multiplied by their alpha.
                let color = sum[channel] / samples + f32::from(*target) * (1.0 - alpha);
                *target = (color + 0.5) as u8;
            }
        }
    }
    covered.map(|(x1, y1, x2, y2)| {
        models::image::geometry::BBox::new(x1 as f32, y1 as f32, x2 as f32 + 1.0, y2 as f32 + 1.0)
    })
}

/// Color (multiplied by alpha) and alpha between four pixels; nothing outside the picture.
fn sample(picture: &RgbaImage, u: f32, v: f32) -> [f32; 4] {
    let (u, v) = (u - 0.5, v - 0.5);
    let (width, height) = (picture.width as i32, picture.height as i32);
    if !(u > -1.0 && v > -1.0 && u < width as f32 && v < height as f32) {
        return [0.0; 4];
    }
    // Both are above −1, where truncating after the shift rounds down.
    let (x, y) = ((u + 1.0) as i32 - 1, (v + 1.0) as i32 - 1);
    let (fx, fy) = (u - x as f32, v - y as f32);
    let mut sum = [0.0; 4];
    for (dx, dy, weight) in [
        (0, 0, (1.0 - fx) * (1.0 - fy)),
        (1, 0, fx * (1.0 - fy)),
        (0, 1, (1.0 - fx) * fy),
        (1, 1, fx * fy),
    ] {
        let (px, py) = (x + dx, y + dy);
        if px < 0 || py < 0 || px >= width || py >= height {
            continue;
        }
        let at = ((py * width + px) * 4) as usize;
        let pixel = &picture.data[at..at + 4];
        let alpha = f32::from(pixel[3]) * (weight / 255.0);
        for channel in 0..3 {
            sum[channel] += f32::from(pixel[channel]) * alpha;
        }
        sum[3] += alpha * 255.0;
    }
    sum
}

/// A generated background: one color, a gradient, stripes, patches, or noise over any of them.
pub fn background(width: u32, height: u32, random: &mut Random) -> RgbImage {
    let mut color = || [0; 3].map(|_: i32| uniform(random, 0.0, 255.0));
    let (first, second) = (color(), color());
    let kind = (uniform(random, 0.0, 4.0) as u32).min(3);
    let angle = uniform(random, 0.0, std::f32::consts::TAU);
    let period = uniform(random, PERIOD[0], PERIOD[1]);
    let noise = uniform(random, NOISE[0], NOISE[1]).max(0.0);
    let (sin, cos) = angle.sin_cos();
    let extent = (width + height) as f32;
    let mut data = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            let along = x as f32 * cos + y as f32 * sin;
            let share = match kind {
                0 => 0.0,
                1 => along / extent + 0.5,
                2 => f32::from(u8::from((along / period).rem_euclid(2.0) < 1.0)),
                _ => {
                    let across = y as f32 * cos - x as f32 * sin;
                    0.5 + 0.5 * (along / period).sin() * (across / period).sin()
                }
            };
            let grain = if noise > 0.0 { uniform(random, -noise, noise) } else { 0.0 };
            for channel in 0..3 {
                let value = first[channel] + (second[channel] - first[channel]) * share + grain;
                data.push(value.clamp(0.0, 255.0) as u8);
            }
        }
    }
    RgbImage::from_rgb(width, height, data).expect("the buffer has this size")
}

/// A linear map of colors: brightness, contrast, saturation and hue in one matrix.
#[derive(Debug, Clone, Copy)]
pub struct ColorChange {
    matrix: [[f32; 3]; 3],
    offset: f32,
}

impl ColorChange {
    /// Leaves colors as they are.
    pub const fn none() -> Self {
        Self { matrix: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], offset: 0.0 }
    }

    /// Draws a change within the augmentation's limits.
    pub fn draw(limits: &Augmentation, random: &mut Random) -> Self {
        let around_one =
            |random: &mut Random| uniform(random, 1.0 - limits.color, 1.0 + limits.color);
        let (brightness, contrast) = (around_one(random), around_one(random));
        let gray = chance(random, limits.grayscale);
        let saturation = if gray { 0.0 } else { around_one(random) };
        let hue = uniform(random, -limits.hue, limits.hue);
        Self::new(brightness, contrast, saturation, hue)
    }

    /// Factors of brightness, contrast and saturation, and a turn of the hue in degrees.
    pub fn new(brightness: f32, contrast: f32, saturation: f32, hue: f32) -> Self {
        // Rotation about the gray axis by the hue (Rodrigues), then towards luma by the
        // saturation, then about mid-gray by the contrast.
        let (sin, cos) = hue.to_radians().sin_cos();
        let (third, root) = ((1.0 - cos) / 3.0, sin / 3.0_f32.sqrt());
        let rotation = [
            [cos + third, third - root, third + root],
            [third + root, cos + third, third - root],
            [third - root, third + root, cos + third],
        ];
        let gain = brightness * contrast;
        let mut matrix = [[0.0; 3]; 3];
        for (row, out) in matrix.iter_mut().enumerate() {
            for (column, value) in out.iter_mut().enumerate() {
                let gray: f32 = (0..3).map(|k| LUMA[k] * rotation[k][column]).sum();
                *value = gain * (saturation * rotation[row][column] + (1.0 - saturation) * gray);
            }
        }
        Self { matrix, offset: 128.0 * (1.0 - contrast) }
    }

    /// Changes interleaved RGB values in place.
    pub fn apply(&self, data: &mut [u8]) {
        for pixel in data.chunks_exact_mut(3) {
            let [r, g, b] = [0, 1, 2].map(|c| f32::from(pixel[c]));
            for (value, row) in pixel.iter_mut().zip(&self.matrix) {
                let new = row[0] * r + row[1] * g + row[2] * b + self.offset;
                *value = new.clamp(0.0, 255.0) as u8;
            }
        }
    }
}

fn erase(canvas: &mut RgbImage, random: &mut Random) {
    let (width, height) = (canvas.width(), canvas.height());
    let area = uniform(random, ERASED_AREA[0], ERASED_AREA[1]) * (width * height) as f32;
    let aspect = uniform(random, ERASED_ASPECT.ln(), ERASED_ASPECT.recip().ln()).exp();
    let w = ((area * aspect).sqrt() as u32).clamp(1, width);
    let h = ((area / aspect).sqrt() as u32).clamp(1, height);
    let left = uniform(random, 0.0, (width - w + 1) as f32) as u32;
    let top = uniform(random, 0.0, (height - h + 1) as f32) as u32;
    let color = [0; 3].map(|_: i32| uniform(random, 0.0, 256.0) as u8);
    fill_box(canvas, (left, top, w, h), |pixel| pixel.copy_from_slice(&color));
}

/// Paints every pixel of a box (left, top, width, height), as far as it lies in the picture.
pub(super) fn fill_box(
    image: &mut RgbImage,
    (left, top, width, height): (u32, u32, u32, u32),
    mut paint: impl FnMut(&mut [u8]),
) {
    let row = image.width() as usize * 3;
    let lines = image.data_mut().chunks_exact_mut(row).skip(top as usize).take(height as usize);
    for line in lines {
        line.chunks_exact_mut(3).skip(left as usize).take(width as usize).for_each(&mut paint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::seeded;

    fn disc(size: u32) -> RgbaImage {
        let center = size as f32 / 2.0;
        let data = (0..size * size)
            .flat_map(|i| {
                let (x, y) = ((i % size) as f32 + 0.5 - center, (i / size) as f32 + 0.5 - center);
                let inside = x.hypot(y) < center * 0.8;
                [200, 40, 10, if inside { 255 } else { 0 }]
            })
            .collect();
        RgbaImage { width: size, height: size, data }
    }

    #[test]
    fn the_default_is_the_picture_on_white() {
        let canvas = Augmentation::default().apply(&disc(32), 32, 32, &mut seeded(&[1]));
        assert_eq!(&canvas.data()[..3], &[255, 255, 255]);
        let center = (16 * 32 + 16) * 3;
        assert_eq!(&canvas.data()[center..center + 3], &[200, 40, 10]);
    }

    #[test]
    fn the_same_generator_gives_the_same_picture() {
        let strong = Augmentation {
            rotation: 30.0,
            scale: [0.5, 1.2],
            stretch: 0.3,
            translate: 0.2,
            flip: 0.5,
            distort: 0.8,
            color: 0.4,
            hue: 30.0,
            grayscale: 0.2,
            blur: 0.5,
            erase: 0.5,
            background: 0.8,
        };
        let run = |seed| strong.apply(&disc(40), 24, 32, &mut seeded(&[seed]));
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    #[test]
    fn colors_change_as_often_as_distort_says() {
        let gray = |distort: f32| {
            let gray = Augmentation { distort, grayscale: 1.0, ..Augmentation::default() };
            let is_gray = |seed: &u64| {
                let canvas = gray.apply(&disc(16), 8, 8, &mut seeded(&[*seed]));
                canvas.data().chunks_exact(3).all(|pixel| pixel[0] == pixel[1])
            };
            (0..500).filter(is_gray).count()
        };
        assert_eq!((gray(0.0), gray(1.0)), (0, 500));
        let usual = gray(Augmentation::default().distort);
        assert!((370..430).contains(&usual), "{usual} of 500");
    }

    #[test]
    fn the_pasted_box_surrounds_the_visible_pixels() {
        let mut canvas = RgbImage::from_rgb(100, 80, vec![255; 100 * 80 * 3]).unwrap();
        let placement = Placement {
            center_x: 50.0,
            center_y: 30.0,
            width: 40.0,
            height: 20.0,
            radians: 0.0,
            mirrored: false,
            source: (64, 64),
        };
        let bbox = paste(&mut canvas, &disc(64), &placement).unwrap();
        let expected = models::image::geometry::BBox::new(34.0, 22.0, 66.0, 38.0);
        assert!(bbox.iou(&expected) > 0.9, "{bbox:?}");
        for y in 0..80 {
            for x in 0..100 {
                let at = (y * 100 + x) * 3;
                if canvas.data()[at..at + 3] == [200, 40, 10] {
                    let inside = contains(&bbox, x as f32 + 0.5, y as f32 + 0.5);
                    assert!(inside, "({x}, {y}) outside {bbox:?}");
                }
            }
        }
    }

    fn contains(bbox: &models::image::geometry::BBox, x: f32, y: f32) -> bool {
        (bbox.x1..=bbox.x2).contains(&x) && (bbox.y1..=bbox.y2).contains(&y)
    }

    #[test]
    fn a_picture_outside_the_canvas_changes_nothing() {
        let mut canvas = RgbImage::from_rgb(8, 8, vec![9; 192]).unwrap();
        let placement = Placement {
            center_x: -100.0,
            center_y: 500.0,
            width: 10.0,
            height: 10.0,
            radians: 1.0,
            mirrored: true,
            source: (16, 16),
        };
        assert_eq!(paste(&mut canvas, &disc(16), &placement), None);
        assert!(canvas.data().iter().all(|v| *v == 9));
    }
}
