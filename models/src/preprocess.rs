//! From a picture to a network's input: resize, scale to `0..=1`, normalize, channels first.
//!
//! Source: PaddleClas `ppcls/data/preprocess/ops/operators.py` (`ResizeImage`, `NormalizeImage`,
//! `ToCHWImage`) @ d178931. Difference: the default filter is antialiased. The reference shrinks
//! pictures with OpenCV's bilinear filter, which skips pixels; that filter is offered by name for
//! weights that were trained with it.

#[cfg(feature = "tensors")]
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::image::{ImageError, ResizeFilter, RgbImage, for_rows, reduced, resize};
use crate::limits::{DEVIATIONS, LimitError, MAX_SIDE, MEANS, within};

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
    /// How the picture reaches that size; its aspect is not kept, as in the reference.
    pub filter: ResizeFilter,
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
            self.append(&resize(image, self.width, self.height, self.filter), &mut data);
        }
        self.batch(data, device)
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
            let table = self.table(channel);
            data.extend(
                image.data().iter().skip(channel).step_by(3).map(|v| table[usize::from(*v)]),
            );
        }
    }

    /// Resizes and normalizes a picture, channels last.
    ///
    /// # Shapes
    ///
    /// - `data`: `[height, width, 3]`
    pub fn fill(&self, image: &RgbImage, data: &mut [f32]) {
        let tables: [[f32; 256]; 3] = std::array::from_fn(|channel| self.table(channel));
        let size = [self.width, self.height];
        for_rows(image, size, self.filter, data, |row, values| {
            for (values, pixel) in values.chunks_exact_mut(3).zip(row.chunks_exact(3)) {
                for channel in 0..3 {
                    values[channel] = tables[channel][usize::from(pixel[channel])];
                }
            }
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
