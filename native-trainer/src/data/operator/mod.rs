//! Operators of PaddleClas' training pipelines, by name and in the order that a recipe lists them.
//!
//! Agrees with PaddleClas `ppcls/data/preprocess/ops` @ d178931. Differences: everything is drawn
//! from the generator that is passed in; a random-position crop reaches the last row and column,
//! which the reference's never does; cut-outs may be filled; posterizing keeps at least one bit.

mod pixels;
mod policy;

use models::image::RgbImage;
use models::image::{ResizeFilter, resize};
use serde::{Deserialize, Serialize};

use self::pixels::{affine, grayscale};
pub use self::policy::{aug_mix, auto_augment, rand_augment};
use super::augment::{Augmentation, ColorChange, fill_box};
use crate::random::{Random, chance, uniform};

/// Tries of a random crop or erased box to fit into the picture.
const ATTEMPTS: usize = 100;

/// One change of a training picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Operator {
    /// To a size, without keeping the ratio (`ResizeImage` with `size`).
    Resize {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// The shorter side to a length (`ResizeImage` with `resize_short`).
    ResizeShort {
        /// In pixels.
        side: u32,
    },
    /// The middle (`CropImage`); the picture is padded with black where it is smaller.
    #[serde(alias = "centre_crop")]
    CenterCrop {
        /// In pixels.
        side: u32,
    },
    /// A random part of random shape, brought to a size (`RandCropImage`).
    RandomResizedCrop {
        /// In pixels.
        side: u32,
        /// Smallest and largest share of the area; 0.08 to 1 in the reference.
        area: [f32; 2],
        /// Smallest and largest width over height; 3/4 to 4/3 in the reference.
        aspect: [f32; 2],
    },
    /// A part of fixed size at a random place (`RandCropImageV2`), padded where it is smaller.
    RandomCrop {
        /// In pixels.
        side: u32,
    },
    /// Left and right exchanged (`RandFlipImage`).
    Flip {
        /// 0.5 in the reference.
        probability: f32,
    },
    /// About the middle, on the same canvas, black around it (`RandomRotation`).
    Rotation {
        /// 0.5 in the reference.
        probability: f32,
        /// Largest angle to either side.
        degrees: f32,
    },
    /// A border of one color (`Pad`).
    Pad {
        /// Width of the border, in pixels.
        padding: u32,
        /// Gray level of the border.
        #[serde(default)]
        fill: u8,
    },
    /// A rectangle of one color or of noise (`RandomErasing`), <https://arxiv.org/abs/1708.04896>.
    RandomErasing {
        /// `EPSILON`
        probability: f32,
        /// Smallest and largest share of the area; 0.02 to 0.4 in the reference.
        area: [f32; 2],
        /// Smallest width over height, the largest being its inverse; 0.3 in the reference.
        aspect: f32,
        /// What the rectangle shows.
        #[serde(default)]
        fill: EraseFill,
    },
    /// Brightness, contrast, saturation and hue (`ColorJitter`).
    #[serde(alias = "colour_jitter")]
    ColorJitter {
        /// How often.
        probability: f32,
        /// Largest change of brightness, contrast and saturation, as a share.
        #[serde(alias = "colour")]
        color: f32,
        /// Largest change of hue, in degrees.
        #[serde(default)]
        hue: f32,
    },
    /// No color (`RandomGrayscale`).
    Grayscale {
        /// 0.1 in the reference.
        probability: f32,
    },
    /// One of 25 pairs of changes that were found to help on `ImageNet`,
    /// <https://arxiv.org/abs/1805.09501>.
    AutoAugment,
    /// Some of 14 changes, all of one strength, <https://arxiv.org/abs/1909.13719>.
    RandAugment {
        /// Changes a picture; 2 in the reference.
        layers: usize,
        /// Strength from 0 to 10; 5 in the reference.
        magnitude: f32,
    },
    /// A mixture of the picture with chains of mild changes, <https://arxiv.org/abs/1912.02781>.
    AugMix {
        /// 0.5 in the reference.
        probability: f32,
        /// Chains; 3 in the reference.
        width: usize,
        /// Changes a chain; 1 in the reference.
        depth: usize,
        /// Strength from 0 to 10; 1 in the reference.
        severity: f32,
    },
    /// Squares of one random color (`Cutout`), <https://arxiv.org/abs/1708.04552>.
    Cutout {
        /// How many.
        holes: usize,
        /// Side, in pixels.
        length: u32,
    },
}

/// What an erased rectangle shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EraseFill {
    /// The mean color of `ImageNet`: what the reference's constant 0 after normalization is.
    #[default]
    Mean,
    /// One random color.
    Color,
    /// A random color a pixel.
    Noise,
}

/// The mean color of `ImageNet`, in gray levels.
const MEAN_COLOR: [u8; 3] = [124, 116, 104];

impl Operator {
    /// The changed picture.
    pub fn apply(&self, image: RgbImage, random: &mut Random) -> RgbImage {
        match *self {
            Self::Resize { width, height } => scaled(&image, width, height),
            Self::ResizeShort { side } => {
                let shorter = image.width().min(image.height());
                let to = |length: u32| {
                    let exact = f64::from(length) * f64::from(side) / f64::from(shorter);
                    (exact.round() as u32).max(1)
                };
                scaled(&image, to(image.width()), to(image.height()))
            }
            Self::CenterCrop { side } => {
                let image = at_least(image, side);
                let (left, top) = ((image.width() - side) / 2, (image.height() - side) / 2);
                part(&image, left, top, side, side)
            }
            Self::RandomResizedCrop { side, area, aspect } => {
                let (left, top, width, height) = random_box(&image, area, aspect, random);
                scaled(&part(&image, left, top, width, height), side, side)
            }
            Self::RandomCrop { side } => {
                let image = at_least(image, side);
                let left = integer(random, image.width() - side);
                let top = integer(random, image.height() - side);
                part(&image, left, top, side, side)
            }
            Self::Flip { probability } if chance(random, probability) => mirrored(&image),
            Self::Rotation { probability, degrees } if chance(random, probability) => {
                rotate(&image, uniform(random, -degrees, degrees))
            }
            Self::Pad { padding, fill } => pad(&image, padding, fill),
            Self::RandomErasing { probability, area, aspect, fill }
                if chance(random, probability) =>
            {
                random_erasing(image, area, aspect, fill, random)
            }
            Self::ColorJitter { probability, color, hue } if chance(random, probability) => {
                let limits = Augmentation { color, hue, ..Augmentation::default() };
                let mut image = image;
                ColorChange::draw(&limits, random).apply(image.data_mut());
                image
            }
            Self::Grayscale { probability } if chance(random, probability) => grayscale(&image),
            Self::AutoAugment => auto_augment(image, random),
            Self::RandAugment { layers, magnitude } => {
                rand_augment(image, layers, magnitude, random)
            }
            Self::AugMix { probability, width, depth, severity } if chance(random, probability) => {
                aug_mix(&image, width, depth, severity, random)
            }
            Self::Cutout { holes, length } => cutout(image, holes, length, random),
            Self::Flip { .. }
            | Self::Rotation { .. }
            | Self::RandomErasing { .. }
            | Self::ColorJitter { .. }
            | Self::Grayscale { .. }
            | Self::AugMix { .. } => image,
        }
    }
}

fn scaled(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    resize(image, width.max(1), height.max(1), ResizeFilter::OpencvLinear)
}

/// Uniform in `0..=limit`.
fn integer(random: &mut Random, limit: u32) -> u32 {
    (uniform(random, 0.0, limit as f32 + 1.0) as u32).min(limit)
}

fn rgb(width: u32, height: u32, data: Vec<u8>) -> RgbImage {
    RgbImage::from_rgb(width, height, data).expect("the buffer has this size")
}

/// A part that lies within the picture.
fn part(image: &RgbImage, left: u32, top: u32, width: u32, height: u32) -> RgbImage {
    let row = image.width() as usize * 3;
    let (from, length) = (left as usize * 3, width as usize * 3);
    let rows = image.data().chunks_exact(row).skip(top as usize).take(height as usize);
    rgb(width, height, rows.flat_map(|row| row[from..from + length].iter().copied()).collect())
}

/// The picture, with a black border where a side is shorter.
fn at_least(image: RgbImage, side: u32) -> RgbImage {
    let missing = side.saturating_sub(image.width().min(image.height()));
    if missing == 0 { image } else { pad(&image, missing.div_ceil(2), 0) }
}

/// A border of one gray level.
pub fn pad(image: &RgbImage, padding: u32, fill: u8) -> RgbImage {
    let (width, height) = (image.width() + 2 * padding, image.height() + 2 * padding);
    let mut data = vec![fill; (width * height * 3) as usize];
    let row = image.width() as usize * 3;
    let lines = data.chunks_exact_mut(width as usize * 3).skip(padding as usize);
    for (line, source) in lines.zip(image.data().chunks_exact(row)) {
        line[padding as usize * 3..][..row].copy_from_slice(source);
    }
    rgb(width, height, data)
}

/// Left and right exchanged.
pub fn mirrored(image: &RgbImage) -> RgbImage {
    let rows = image.data().chunks_exact(image.width() as usize * 3);
    let data = rows.flat_map(|row| row.rchunks_exact(3).flatten().copied()).collect();
    rgb(image.width(), image.height(), data)
}

/// Counter-clockwise about the middle, on the same canvas, black around it.
pub fn rotate(image: &RgbImage, degrees: f32) -> RgbImage {
    let (sin, cos) = f64::from(degrees).to_radians().sin_cos();
    let (x, y) = (f64::from(image.width()) / 2.0, f64::from(image.height()) / 2.0);
    // From a pixel of the result to its source.
    let map = [[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]];
    affine(image, map, [0; 3])
}

/// `(left, top, width, height)` of a random part; the whole where none fits.
fn random_box(
    image: &RgbImage,
    area: [f32; 2],
    aspect: [f32; 2],
    random: &mut Random,
) -> (u32, u32, u32, u32) {
    let (width, height) = (image.width(), image.height());
    let pixels = (width * height) as f32;
    for _ in 0..ATTEMPTS {
        let share = uniform(random, area[0], area[1]);
        let ratio = uniform(random, aspect[0].ln(), aspect[1].ln()).exp();
        let w = (pixels * share * ratio).sqrt().round() as u32;
        let h = (pixels * share / ratio).sqrt().round() as u32;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            return (integer(random, width - w), integer(random, height - h), w, h);
        }
    }
    (0, 0, width, height)
}

fn random_erasing(
    mut image: RgbImage,
    area: [f32; 2],
    aspect: f32,
    fill: EraseFill,
    random: &mut Random,
) -> RgbImage {
    let (left, top, width, height) = random_box(&image, area, [aspect, aspect.recip()], random);
    // Erasing everything would leave nothing to learn from.
    if width >= image.width() || height >= image.height() {
        return image;
    }
    let color = [0; 3].map(|_: u8| integer(random, 255) as u8);
    fill_box(&mut image, (left, top, width, height), |pixel| match fill {
        EraseFill::Mean => pixel.copy_from_slice(&MEAN_COLOR),
        EraseFill::Color => pixel.copy_from_slice(&color),
        EraseFill::Noise => pixel.iter_mut().for_each(|v| *v = integer(random, 255) as u8),
    });
    image
}

fn cutout(mut image: RgbImage, holes: usize, length: u32, random: &mut Random) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    for _ in 0..holes {
        let span = |middle: u32, limit: u32| {
            let from = middle.saturating_sub(length / 2);
            (from, (middle + length.div_ceil(2)).min(limit) - from)
        };
        let (left, w) = span(integer(random, width - 1), width);
        let (top, h) = span(integer(random, height - 1), height);
        let color = [0; 3].map(|_: u8| integer(random, 255) as u8);
        fill_box(&mut image, (left, top, w, h), |pixel| pixel.copy_from_slice(&color));
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::seeded;

    fn ramp(width: u32, height: u32) -> RgbImage {
        let value = |i: u32| [(i % width) as u8, (i / width) as u8, 7];
        rgb(width, height, (0..width * height).flat_map(value).collect())
    }

    fn every_operator() -> Vec<Operator> {
        vec![
            Operator::Resize { width: 20, height: 12 },
            Operator::ResizeShort { side: 16 },
            Operator::CenterCrop { side: 40 },
            Operator::RandomResizedCrop { side: 16, area: [0.08, 1.0], aspect: [0.75, 1.33] },
            Operator::RandomCrop { side: 12 },
            Operator::Flip { probability: 0.5 },
            Operator::Rotation { probability: 0.9, degrees: 30.0 },
            Operator::Pad { padding: 3, fill: 9 },
            Operator::RandomErasing {
                probability: 0.9,
                area: [0.02, 0.4],
                aspect: 0.3,
                fill: EraseFill::Noise,
            },
            Operator::ColorJitter { probability: 0.9, color: 0.4, hue: 20.0 },
            Operator::Grayscale { probability: 0.5 },
            Operator::AutoAugment,
            Operator::RandAugment { layers: 2, magnitude: 5.0 },
            Operator::AugMix { probability: 0.9, width: 3, depth: 2, severity: 3.0 },
            Operator::Cutout { holes: 2, length: 8 },
        ]
    }

    #[test]
    fn the_same_generator_gives_the_same_picture_at_any_size() {
        for operator in every_operator() {
            for (width, height) in [(1, 1), (33, 21), (7, 50)] {
                let run = |seed| operator.apply(ramp(width, height), &mut seeded(&[seed]));
                for seed in 0..20 {
                    assert_eq!(run(seed), run(seed), "{operator:?}");
                }
            }
        }
    }

    #[test]
    fn every_random_operator_changes_pictures() {
        for operator in every_operator() {
            let image = ramp(33, 21);
            let changed =
                (0..20).any(|s| operator.apply(image.clone(), &mut seeded(&[s])) != image);
            assert!(changed, "{operator:?}");
        }
    }

    #[test]
    fn a_random_crop_reaches_every_border() {
        let crop = Operator::RandomCrop { side: 12 };
        let image = ramp(16, 13);
        let lefts: std::collections::BTreeSet<u8> =
            (0..200).map(|s| crop.apply(image.clone(), &mut seeded(&[s])).data()[0]).collect();
        assert_eq!(lefts.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_recipe_names_operators() {
        for operator in every_operator() {
            let text = toml::to_string(&operator).unwrap();
            assert_eq!(toml::from_str::<Operator>(&text).unwrap(), operator, "{text}");
        }
        let error =
            toml::from_str::<Operator>("kind = \"flip\"\nprobability = 1\nx = 1").unwrap_err();
        assert!(error.to_string().contains("unknown field `x`"), "{error}");
    }

    #[test]
    fn the_british_names_are_understood() {
        for (old, operator) in [
            ("kind = \"centre_crop\"\nside = 9", Operator::CenterCrop { side: 9 }), // An old name.
            (
                "kind = \"colour_jitter\"\nprobability = 0.5\ncolour = 0.3", // An old name.
                Operator::ColorJitter { probability: 0.5, color: 0.3, hue: 0.0 },
            ),
        ] {
            assert_eq!(toml::from_str::<Operator>(old).unwrap(), operator);
        }
    }
}
