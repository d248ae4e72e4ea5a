//! From a picture to a network's input: resize, scale to `0..=1`, normalize, channels first.
//!
//! Source: PaddleClas `ppcls/data/preprocess/ops/operators.py` (`ResizeImage`, `NormalizeImage`,
//! `ToCHWImage`) @ d178931. Difference: the default filter is antialiased. The reference shrinks
//! pictures with OpenCV's bilinear filter, which skips pixels; that filter is offered by name for
//! weights that were trained with it.

#[cfg(feature = "tensors")]
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::image::geometry::BBox;
use crate::image::{ImageError, ResizeFilter, RgbImage, for_rows, reduced, resize};
use crate::limits::{DEVIATIONS, LimitError, MAX_SIDE, MEANS, within};

/// How a picture lies in a network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Over all of it; its aspect is not kept, as in the reference.
    #[default]
    Stretched,
    /// As large as it fits with its aspect kept; what it leaves free is filled.
    Letterbox(Letterbox),
}

impl Fit {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
    fn is_stretched(&self) -> bool {
        *self == Self::Stretched
    }
}

/// What a picture leaves free of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Letterbox {
    /// What all three colors are there, before mean and deviation.
    pub padding: u8,
    /// Whether the picture lies in the middle; else above, or to the left.
    #[serde(default)]
    pub centered: bool,
}

/// Which color is a network's first channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelOrder {
    /// Red, then green, then blue.
    #[default]
    Rgb,
    /// Blue, then green, then red, as OpenCV reads pictures.
    Bgr,
}

impl ChannelOrder {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
    fn is_rgb(&self) -> bool {
        *self == Self::Rgb
    }

    /// The color, of red, green and blue, of each channel.
    const fn colors(self) -> [usize; 3] {
        match self {
            Self::Rgb => [0, 1, 2],
            Self::Bgr => [2, 1, 0],
        }
    }
}

/// Everything between a decoded picture and a network's input.
///
/// ```
/// use models::{Preprocess, RgbImage};
///
/// let image = RgbImage::from_rgb(4, 2, vec![124; 24])?;
/// let preprocess = Preprocess { mean: [0.5; 3], std: [0.25; 3], ..Preprocess::square(2) };
/// let mut input = vec![0.0; preprocess.values()];
/// preprocess.fill(&image, &mut input);
/// assert_eq!(input.len(), 2 * 2 * 3);
/// assert!((input[0] - (124.0 / 255.0 - 0.5) / 0.25).abs() < 1e-6);
/// # Ok::<(), models::image::ImageError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Width of the network's input in pixels.
    pub width: u32,
    /// Height of the network's input in pixels.
    pub height: u32,
    /// How the picture is resampled.
    pub filter: ResizeFilter,
    /// How it lies in the input.
    #[serde(default, skip_serializing_if = "Fit::is_stretched")]
    pub fit: Fit,
    /// Which color is the first channel.
    #[serde(default, skip_serializing_if = "ChannelOrder::is_rgb")]
    pub channels: ChannelOrder,
    /// Subtracted from each channel after scaling to `0..=1`.
    pub mean: [f32; 3],
    /// Each channel is divided by it.
    pub std: [f32; 3],
}

impl Preprocess {
    /// ImageNet's mean and deviation (the reference's), antialiased.
    pub const fn square(size: u32) -> Self {
        Self {
            width: size,
            height: size,
            filter: ResizeFilter::Antialiased,
            fit: Fit::Stretched,
            channels: ChannelOrder::Rgb,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }

    /// Whether pictures can be brought to that form.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check(&self) -> Result<(), LimitError> {
        within("width", self.width, &(1..=MAX_SIDE))?;
        within("height", self.height, &(1..=MAX_SIDE))?;
        self.mean.iter().try_for_each(|mean| within("mean", *mean, &MEANS))?;
        self.std.iter().try_for_each(|std| within("std", *std, &DEVIATIONS))
    }

    /// Resizes the pictures and stacks them into one batch.
    ///
    /// # Shapes
    ///
    /// - output: `[images.len(), 3, height, width]`, normalized
    #[cfg(feature = "tensors")]
    pub fn apply(&self, images: &[RgbImage], device: &Device) -> Tensor<4> {
        let mut data = Vec::with_capacity(images.len() * self.values());
        for image in images {
            self.append(&self.fitted(image), &mut data);
        }
        self.batch(data, device)
    }

    /// Where a picture of such a size comes to lie in the input: left, top, width, height.
    pub fn place(&self, width: u32, height: u32) -> [u32; 4] {
        let Fit::Letterbox(Letterbox { centered, .. }) = self.fit else {
            return [0, 0, self.width, self.height];
        };
        let [from, into] = [[width, height], [self.width, self.height]];
        let [from, into] = [from, into].map(|sides| sides.map(|side| u64::from(side.max(1))));
        // The nearest whole number of pixels, by the axis on which the picture fills the input.
        let full = usize::from(into[0] * from[1] > into[1] * from[0]);
        let side = |axis: usize| {
            let twice = (from[axis] * into[full] * 2 + from[full]) / (from[full] * 2);
            twice.clamp(1, into[axis]) as u32
        };
        let size = [side(0), side(1)];
        let free = [self.width - size[0], self.height - size[1]];
        let [left, top] = if centered { free.map(|free| free / 2) } else { [0; 2] };
        [left, top, size[0], size[1]]
    }

    /// A box of the input in pixels of a picture of such a size.
    pub fn in_picture(&self, bbox: &BBox, width: u32, height: u32) -> BBox {
        let [left, top, wide, high] = self.place(width, height).map(|side| side as f32);
        let BBox { x1, y1, x2, y2 } = *bbox;
        BBox::new(x1 - left, y1 - top, x2 - left, y2 - top)
            .scale(width as f32 / wide, height as f32 / high)
    }

    /// A picture as large as the input, before mean and deviation.
    pub fn fitted(&self, image: &RgbImage) -> RgbImage {
        let Fit::Letterbox(Letterbox { padding, .. }) = self.fit else {
            return resize(image, self.width, self.height, self.filter);
        };
        let mut data = vec![padding; self.values()];
        self.rows(image, &mut data, |row, out| out[..row.len()].copy_from_slice(row));
        RgbImage::from_rgb(self.width, self.height, data)
            .expect("the buffer was made for this size")
    }

    /// Resamples a picture to where it lies in the input and hands each row to `write`, with the part of `out` from the
    /// row's first pixel on.
    fn rows<T: Send>(
        &self,
        image: &RgbImage,
        out: &mut [T],
        write: impl Fn(&[u8], &mut [T]) + Sync + Send,
    ) {
        let [left, top, width, height] = self.place(image.width(), image.height());
        let pitch = self.width as usize * 3;
        let out = &mut out[top as usize * pitch..][..height as usize * pitch];
        for_rows(image, [width, height], self.filter, out, |row, out| {
            write(row, &mut out[left as usize * 3..]);
        });
    }

    /// Values of one network input.
    pub fn values(&self) -> usize {
        (self.width * self.height * 3) as usize
    }

    /// Normalizes a picture that already has the input's size and appends it to `data`, channels
    /// first.
    ///
    /// # Panics
    ///
    /// When the picture has another size.
    pub fn append(&self, image: &RgbImage, data: &mut Vec<f32>) {
        assert_eq!(
            (image.width(), image.height()),
            (self.width, self.height),
            "picture size against network input size"
        );
        for channel in 0..3 {
            let (table, color) = (self.table(channel), self.channels.colors()[channel]);
            data.extend(image.data().iter().skip(color).step_by(3).map(|v| table[usize::from(*v)]));
        }
    }

    /// Resizes and normalizes a picture, channels last.
    ///
    /// # Shapes
    ///
    /// - `data`: `[height, width, 3]`
    pub fn fill(&self, image: &RgbImage, data: &mut [f32]) {
        let tables: [[f32; 256]; 3] = std::array::from_fn(|channel| self.table(channel));
        let colors = self.channels.colors();
        let put = |values: &mut [f32], pixel: &[u8]| {
            for channel in 0..3 {
                values[channel] = tables[channel][usize::from(pixel[colors[channel]])];
            }
        };
        if let Fit::Letterbox(Letterbox { padding, .. }) = self.fit {
            data.chunks_exact_mut(3).for_each(|values| put(values, &[padding; 3]));
        }
        self.rows(image, data, |row, values| {
            let pixels = values.chunks_exact_mut(3).zip(row.chunks_exact(3));
            pixels.for_each(|(values, pixel)| put(values, pixel));
        });
    }

    /// What each byte of a channel becomes: 256 divisions instead of one per pixel.
    fn table(&self, channel: usize) -> [f32; 256] {
        std::array::from_fn(|value| {
            (value as f32 * (1.0 / 255.0) - self.mean[channel]) / self.std[channel]
        })
    }

    /// Turns values gathered by [`Self::append`] into a batch.
    ///
    /// # Shapes
    ///
    /// - output: `[data.len() / values, 3, height, width]`
    #[cfg(feature = "tensors")]
    pub fn batch(&self, data: Vec<f32>, device: &Device) -> Tensor<4> {
        let count = data.len() / self.values();
        let shape = [count, 3, self.height as usize, self.width as usize];
        Tensor::from_data(TensorData::new(data, shape), device)
    }
}

/// How many times larger than a small picture the filter's input is at least. Of larger pictures boxes of pixels become one
/// first: that is faster, and nobody sees it (Pillow's `reducing_gap`).
const REDUCING_GAP: u32 = 2;

/// A small picture of the whole as a JPEG, its aspect kept, its longer side at most `side` pixels.
///
/// # Errors
///
/// [`ImageError`] where the encoder refuses.
pub fn thumbnail(picture: &RgbImage, side: u32, quality: u8) -> Result<Vec<u8>, ImageError> {
    let longest = picture.width().max(picture.height());
    if longest <= side {
        return picture.encode_jpeg(quality);
    }
    let scaled = |length: u32| (length * side / longest).max(1);
    let (width, height) = (scaled(picture.width()), scaled(picture.height()));
    let coarse = longest / (side * REDUCING_GAP);
    let nearer = (coarse > 1).then(|| reduced(picture, coarse));
    let picture = nearer.as_ref().unwrap_or(picture);
    resize(picture, width, height, ResizeFilter::Antialiased).encode_jpeg(quality)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::noise;
    use proptest::prelude::*;

    fn letterbox(sides: (u32, u32), centered: bool) -> Preprocess {
        Preprocess {
            width: sides.0,
            height: sides.1,
            fit: Fit::Letterbox(Letterbox { padding: 114, centered }),
            channels: ChannelOrder::Bgr,
            mean: [0.1, 0.2, 0.3],
            std: [0.5, 0.25, 2.0],
            ..Preprocess::square(1)
        }
    }

    proptest! {
        #[test]
        fn a_letterbox_keeps_the_aspect_and_fills_the_rest(
            from in (1_u32..60, 1_u32..60),
            to in (1_u32..60, 1_u32..60),
            centered in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let mut next = noise(seed);
            let data = (0..from.0 * from.1 * 3).map(|_| (next() * 128.0 + 128.0) as u8).collect();
            let image = RgbImage::from_rgb(from.0, from.1, data).unwrap();
            let preprocess = letterbox(to, centered);
            // The largest size of that aspect, one side after the other.
            let scale = (f64::from(to.0) / f64::from(from.0)).min(f64::from(to.1) / f64::from(from.1));
            let wide = ((f64::from(from.0) * scale).round() as u32).clamp(1, to.0);
            let high = ((f64::from(from.1) * scale).round() as u32).clamp(1, to.1);
            let [left, top, width, height] = preprocess.place(from.0, from.1);
            prop_assert!(width.abs_diff(wide) <= 1 && height.abs_diff(high) <= 1);
            prop_assert!(width == to.0 || height == to.1);
            let free = if centered { [(to.0 - width) / 2, (to.1 - height) / 2] } else { [0; 2] };
            prop_assert_eq!([left, top], free);
            // A value at a time.
            let inner = resize(&image, width, height, preprocess.filter);
            let mut expected = Vec::new();
            for (y, x) in (0..to.1).flat_map(|y| (0..to.0).map(move |x| (y, x))) {
                let inside = y.checked_sub(top).zip(x.checked_sub(left));
                let inside = inside.filter(|(y, x)| *y < height && *x < width);
                let pixel = inside.map_or([114; 3], |(y, x)| {
                    let at = ((y * width + x) * 3) as usize;
                    [0, 1, 2].map(|color| inner.data()[at + color])
                });
                for channel in 0..3 {
                    let value = f32::from(pixel[2 - channel]) / 255.0;
                    expected.push((value - preprocess.mean[channel]) / preprocess.std[channel]);
                }
            }
            let mut filled = vec![0.0; preprocess.values()];
            preprocess.fill(&image, &mut filled);
            for (got, expected) in filled.iter().zip(&expected) {
                prop_assert!((got - expected).abs() < 1e-5, "{} {}", got, expected);
            }
            let mut planes = Vec::new();
            preprocess.append(&preprocess.fitted(&image), &mut planes);
            for (place, value) in planes.iter().enumerate() {
                let pixels = planes.len() / 3;
                prop_assert_eq!(*value, filled[place % pixels * 3 + place / pixels]);
            }
        }

        #[test]
        fn boxes_come_back_to_where_they_are_in_the_picture(
            from in (1_u32..3000, 1_u32..3000),
            centered in any::<bool>(),
        ) {
            let preprocess = letterbox((416, 320), centered);
            let [left, top, width, height] = preprocess.place(from.0, from.1).map(|v| v as f32);
            let whole = BBox::new(left, top, left + width, top + height);
            let back = preprocess.in_picture(&whole, from.0, from.1);
            for (got, expected) in [(back.x1, 0.0), (back.y1, 0.0), (back.x2, from.0 as f32), (back.y2, from.1 as f32)] {
                prop_assert!((got - expected).abs() < 1e-2, "{} {}", got, expected);
            }
        }
    }

    #[test]
    fn descriptions_of_older_files_are_read_and_written_alike() {
        let text = r#"{"width":8,"height":8,"filter":"antialiased","mean":[0.0,0.0,0.0],"std":[1.0,1.0,1.0]}"#;
        let preprocess: Preprocess = serde_json::from_str(text).unwrap();
        assert_eq!((preprocess.fit, preprocess.channels), (Fit::Stretched, ChannelOrder::Rgb));
        assert_eq!(serde_json::to_string(&preprocess).unwrap(), text);
        let text = text.replace(
            r#""mean""#,
            r#""fit":{"letterbox":{"padding":114,"centered":true}},"channels":"bgr","mean""#,
        );
        let preprocess: Preprocess = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&preprocess).unwrap(), text);
        assert_eq!(preprocess.fit, Fit::Letterbox(Letterbox { padding: 114, centered: true }));
    }
}
