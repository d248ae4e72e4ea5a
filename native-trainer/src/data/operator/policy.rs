//! Chains of changes: `AutoAugment`, `RandAugment`, `AugMix`.
//!
//! Agrees with PaddleClas `ppcls/data/preprocess/ops/{autoaugment,randaugment,augmix}.py`
//! @ d178931. Differences: maps are bilinear where the reference's are bicubic; a mixture keeps its
//! weights in f32.

use models::image::RgbImage;

use super::pixels::{
    affine, auto_contrast, blend, brightness, color, contrast, equalize, invert, posterize,
    sharpness, solarize,
};
use super::{integer, rgb, rotate};
use crate::random::{Random, chance, uniform};

/// What lies outside the picture.
const FILL: [u8; 3] = [128; 3];

/// One change whose strength can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Color,
    Posterize,
    Solarize,
    Contrast,
    Sharpness,
    Brightness,
    AutoContrast,
    Equalize,
    Invert,
}

use Change::{
    AutoContrast, Brightness, Color, Contrast, Equalize, Invert, Posterize, Rotate, Sharpness,
    ShearX, ShearY, Solarize, TranslateX, TranslateY,
};

/// Largest shear.
const SHEAR: f32 = 0.3;
/// Largest shift, as a share of the side.
const TRANSLATE: f32 = 150.0 / 331.0;
/// Largest rotation, in degrees.
const ROTATE: f32 = 30.0;
/// Largest change of an enhancement's factor.
const ENHANCE: f32 = 0.9;

impl Change {
    /// The picture changed by a strength of 0 to 1.
    fn apply(self, image: RgbImage, strength: f32, random: &mut Random) -> RgbImage {
        let side = if chance(random, 0.5) { 1.0 } else { -1.0 };
        let signed = strength * side;
        let map = |row: [[f32; 3]; 2]| affine(&image, row.map(|r| r.map(f64::from)), FILL);
        match self {
            ShearX => map([[1.0, signed * SHEAR, 0.0], [0.0, 1.0, 0.0]]),
            ShearY => map([[1.0, 0.0, 0.0], [signed * SHEAR, 1.0, 0.0]]),
            TranslateX => {
                map([[1.0, 0.0, signed * TRANSLATE * image.width() as f32], [0.0, 1.0, 0.0]])
            }
            TranslateY => {
                map([[1.0, 0.0, 0.0], [0.0, 1.0, signed * TRANSLATE * image.height() as f32]])
            }
            // Only to one side, as in the reference.
            Rotate => rotate(&image, strength * ROTATE),
            Color => color(&image, 1.0 + signed * ENHANCE),
            Contrast => contrast(&image, 1.0 + signed * ENHANCE),
            Sharpness => sharpness(&image, 1.0 + signed * ENHANCE),
            Brightness => brightness(&image, 1.0 + signed * ENHANCE),
            Posterize => posterize(image, (8.0 - 4.0 * strength).round() as u32),
            Solarize => solarize(image, 256.0 * (1.0 - strength)),
            AutoContrast => auto_contrast(image),
            Equalize => equalize(image),
            Invert => invert(image),
        }
    }
}

/// A change, its probability, its level from 0 to 9.
type Step = (Change, f32, u8);

/// The `ImageNet` policy; five of its pairs stand in it twice.
const POLICY: [[Step; 2]; 25] = [
    [(Posterize, 0.4, 8), (Rotate, 0.6, 9)],
    [(Solarize, 0.6, 5), (AutoContrast, 0.6, 5)],
    [(Equalize, 0.8, 8), (Equalize, 0.6, 3)],
    [(Posterize, 0.6, 7), (Posterize, 0.6, 6)],
    [(Equalize, 0.4, 7), (Solarize, 0.2, 4)],
    [(Equalize, 0.4, 4), (Rotate, 0.8, 8)],
    [(Solarize, 0.6, 3), (Equalize, 0.6, 7)],
    [(Posterize, 0.8, 5), (Equalize, 1.0, 2)],
    [(Rotate, 0.2, 3), (Solarize, 0.6, 8)],
    [(Equalize, 0.6, 8), (Posterize, 0.4, 6)],
    [(Rotate, 0.8, 8), (Color, 0.4, 0)],
    [(Rotate, 0.4, 9), (Equalize, 0.6, 2)],
    [(Equalize, 0.0, 7), (Equalize, 0.8, 8)],
    [(Invert, 0.6, 4), (Equalize, 1.0, 8)],
    [(Color, 0.6, 4), (Contrast, 1.0, 8)],
    [(Rotate, 0.8, 8), (Color, 1.0, 2)],
    [(Color, 0.8, 8), (Solarize, 0.8, 7)],
    [(Sharpness, 0.4, 7), (Invert, 0.6, 8)],
    [(ShearX, 0.6, 5), (Equalize, 1.0, 9)],
    [(Color, 0.4, 0), (Equalize, 0.6, 3)],
    [(Equalize, 0.4, 7), (Solarize, 0.2, 4)],
    [(Solarize, 0.6, 5), (AutoContrast, 0.6, 5)],
    [(Invert, 0.6, 4), (Equalize, 1.0, 8)],
    [(Color, 0.6, 4), (Contrast, 1.0, 8)],
    [(Equalize, 0.8, 8), (Equalize, 0.6, 3)],
];

/// One pair of the policy.
pub fn auto_augment(image: RgbImage, random: &mut Random) -> RgbImage {
    let pair = POLICY[integer(random, POLICY.len() as u32 - 1) as usize];
    pair.into_iter().fold(image, |image, (change, probability, level)| {
        if chance(random, probability) {
            change.apply(image, f32::from(level) / 9.0, random)
        } else {
            image
        }
    })
}

/// `layers` changes, each drawn from all, of one strength from 0 to 10.
pub fn rand_augment(
    image: RgbImage,
    layers: usize,
    magnitude: f32,
    random: &mut Random,
) -> RgbImage {
    const CHANGES: [Change; 14] = [
        AutoContrast,
        Equalize,
        Invert,
        Rotate,
        Posterize,
        Solarize,
        Color,
        Contrast,
        Brightness,
        Sharpness,
        ShearX,
        ShearY,
        TranslateX,
        TranslateY,
    ];
    let strength = (magnitude / 10.0).clamp(0.0, 1.0);
    (0..layers).fold(image, |image, _| {
        let change = CHANGES[integer(random, CHANGES.len() as u32 - 1) as usize];
        if change == Posterize {
            // Here the strength is the share of four bits that is kept.
            return posterize(image, (4.0 * strength) as u32);
        }
        change.apply(image, strength, random)
    })
}

/// The picture mixed with chains of changes.
pub fn aug_mix(
    image: &RgbImage,
    width: usize,
    depth: usize,
    severity: f32,
    random: &mut Random,
) -> RgbImage {
    /// Changes that keep the picture natural.
    const CHANGES: [Change; 9] = [
        AutoContrast,
        Equalize,
        Posterize,
        Rotate,
        Solarize,
        ShearX,
        ShearY,
        TranslateX,
        TranslateY,
    ];
    let width = width.max(1);
    // Dirichlet(1, …, 1) is a row of exponentials over their sum; Beta(1, 1) is uniform.
    let exponential = |random: &mut Random| -uniform(random, f32::MIN_POSITIVE, 1.0).ln();
    let weights: Vec<f32> = (0..width).map(|_| exponential(random)).collect();
    let sum: f32 = weights.iter().sum();
    let share = uniform(random, 0.0, 1.0);
    let mut mixed = vec![0.0_f32; image.data().len()];
    for weight in weights {
        let mut chain = image.clone();
        for _ in 0..depth.max(1) {
            let change = CHANGES[integer(random, CHANGES.len() as u32 - 1) as usize];
            let strength = uniform(random, 0.0, (severity / 10.0).clamp(0.0, 1.0));
            chain = change.apply(chain, strength, random);
        }
        let values = mixed.iter_mut().zip(chain.data());
        values.for_each(|(sum_of, v)| *sum_of += weight / sum * f32::from(*v));
    }
    let mixed = mixed.into_iter().map(|v| (v + 0.5) as u8).collect();
    blend(image, &rgb(image.width(), image.height(), mixed), share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::seeded;

    #[test]
    fn no_strength_leaves_the_picture_as_it_is() {
        let image = rgb(9, 7, (0..189).map(|i| (i * 53 % 256) as u8).collect());
        let kept = [ShearX, ShearY, TranslateX, TranslateY, Rotate, Color, Posterize, Solarize];
        for change in kept.into_iter().chain([Contrast, Sharpness, Brightness]) {
            assert_eq!(change.apply(image.clone(), 0.0, &mut seeded(&[1])), image, "{change:?}");
        }
    }

    #[test]
    fn a_mixture_stays_near_a_flat_picture() {
        let image = rgb(8, 8, vec![90; 192]);
        for seed in 0..10 {
            let mixed = aug_mix(&image, 3, 1, 1.0, &mut seeded(&[seed]));
            assert!(mixed.data().iter().all(|v| v.abs_diff(90) <= 40), "{seed}");
        }
    }
}
