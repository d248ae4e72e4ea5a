//! Random changes of a picture whose objects have boxes.
//!
//! Source: "SSD", <https://arxiv.org/abs/1512.02325>, §2.2, for the crops.
//! Agrees with PaddleDetection `ppdet/data/transform/operators.py` (`RandomCrop`, `RandomFlip`,
//! `RandomDistort`) @ 666f597. Difference: brightness, contrast, saturation and hue change in one
//! linear map, in a fixed order.

use models::image::RgbImage;
use models::image::geometry::BBox;
use models::image::{ResizeFilter, resize};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::augment::ColorChange;
use super::operator::mirrored;
use crate::random::{Random, chance, uniform};

/// Least overlaps of a crop with one of the objects, one of which is drawn; beside them stands no
/// crop at all.
const OVERLAPS: [f32; 6] = [0.0, 0.1, 0.3, 0.5, 0.7, 0.9];
/// Tries for each overlap.
const ATTEMPTS: usize = 50;
/// Smallest side of a crop, as a share of the picture's.
const LEAST_SIDE: f32 = 0.3;
/// Smallest height over width of a crop, the largest being its inverse.
const LEAST_ASPECT: f32 = 0.5;

/// How much a picture may change; the defaults are the reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BoxedAugmentation {
    /// Whether random parts are cut out.
    pub crop: bool,
    /// Probability of a mirrored picture.
    pub flip: f32,
    /// Largest change of hue, in degrees.
    pub hue: f32,
    /// Largest change of brightness, contrast and saturation, as a share.
    #[serde(alias = "colour")]
    pub color: f32,
    /// Probability of each of the four changes of color.
    pub distort: f32,
}

impl Default for BoxedAugmentation {
    fn default() -> Self {
        Self { crop: true, flip: 0.5, hue: 18.0, color: 0.5, distort: 0.5 }
    }
}

impl BoxedAugmentation {
    /// The picture at the wanted size, with the boxes whose center it still holds.
    pub fn apply(
        &self,
        image: &RgbImage,
        boxes: &[BBox],
        (width, height): (u32, u32),
        random: &mut Random,
    ) -> (RgbImage, Vec<BBox>) {
        let part = if self.crop { random_part(image, boxes, random) } else { whole(image) };
        let cut = if part == whole(image) { image.clone() } else { image.crop(&part) };
        let (sx, sy) = (width as f32 / cut.width() as f32, height as f32 / cut.height() as f32);
        let mut image = resize(&cut, width, height, ResizeFilter::Antialiased);
        let flipped = chance(random, self.flip);
        if flipped {
            image = mirrored(&image);
        }
        self.colors(random).apply(image.data_mut());
        let boxes = boxes
            .iter()
            .filter(|b| holds(&part, b))
            .map(|b| BBox::new(b.x1 - part.x1, b.y1 - part.y1, b.x2 - part.x1, b.y2 - part.y1))
            .map(|b| b.scale(sx, sy).clip(width, height))
            .map(|b| {
                let w = width as f32;
                if flipped { BBox::new(w - b.x2, b.y1, w - b.x1, b.y2) } else { b }
            })
            .collect();
        (image, boxes)
    }

    fn colors(&self, random: &mut Random) -> ColorChange {
        let mut around = |middle: f32, reach: f32| {
            let value = uniform(random, middle - reach, middle + reach);
            if chance(random, self.distort) { value } else { middle }
        };
        let [brightness, contrast, saturation] = [0; 3].map(|_: u8| around(1.0, self.color));
        ColorChange::new(brightness, contrast, saturation, around(0.0, self.hue))
    }
}

fn whole(image: &RgbImage) -> BBox {
    BBox::new(0.0, 0.0, image.width() as f32, image.height() as f32)
}

fn holds(part: &BBox, object: &BBox) -> bool {
    let (x, y) = ((object.x1 + object.x2) / 2.0, (object.y1 + object.y2) / 2.0);
    (part.x1..part.x2).contains(&x) && (part.y1..part.y2).contains(&y)
}

/// A part of whole pixels that overlaps an object as much as was drawn, or the whole picture.
fn random_part(image: &RgbImage, boxes: &[BBox], random: &mut Random) -> BBox {
    if boxes.is_empty() {
        return whole(image);
    }
    let mut options: Vec<Option<f32>> = OVERLAPS.map(Some).to_vec();
    options.push(None);
    options.shuffle(random);
    for option in options {
        let Some(overlap) = option else { return whole(image) };
        for _ in 0..ATTEMPTS {
            let w = uniform(random, LEAST_SIDE, 1.0) * image.width() as f32;
            let h = uniform(random, LEAST_SIDE, 1.0) * image.height() as f32;
            if !(LEAST_ASPECT..=LEAST_ASPECT.recip()).contains(&(h / w)) {
                continue;
            }
            let left = uniform(random, 0.0, image.width() as f32 - w).floor();
            let top = uniform(random, 0.0, image.height() as f32 - h).floor();
            let part = BBox::new(left, top, left + w.floor().max(1.0), top + h.floor().max(1.0));
            let best = boxes.iter().map(|b| part.iou(b)).fold(0.0, f32::max);
            if best >= overlap && boxes.iter().any(|b| holds(&part, b)) {
                return part;
            }
        }
    }
    whole(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::seeded;

    /// A white object on black.
    fn picture() -> (RgbImage, BBox) {
        let object = BBox::new(40.0, 20.0, 70.0, 50.0);
        let data = (0..100 * 80_u32)
            .flat_map(|i| {
                let (x, y) = ((i % 100) as f32, (i / 100) as f32);
                let inside = (40.0..70.0).contains(&x) && (20.0..50.0).contains(&y);
                [if inside { 255 } else { 0 }; 3]
            })
            .collect();
        (RgbImage::from_rgb(100, 80, data).unwrap(), object)
    }

    #[test]
    fn boxes_stay_on_their_objects() {
        let (image, object) = picture();
        let plain = BoxedAugmentation { distort: 0.0, ..BoxedAugmentation::default() };
        let mut sizes = std::collections::BTreeSet::new();
        for seed in 0..60 {
            let (changed, boxes) = plain.apply(&image, &[object], (64, 64), &mut seeded(&[seed]));
            assert_eq!((changed.width(), changed.height()), (64, 64));
            let [bbox] = boxes[..] else { panic!("the object's center is in every crop") };
            sizes.insert((bbox.area() / 50.0) as u32);
            let white = (0..64 * 64_u32)
                .filter(|i| changed.data()[*i as usize * 3] > 127)
                .map(|i| ((i % 64) as f32 + 0.5, (i / 64) as f32 + 0.5));
            let (mut inside, mut all) = (0, 0);
            for (x, y) in white {
                all += 1;
                let near = (bbox.x1 - 1.0..bbox.x2 + 1.0).contains(&x)
                    && (bbox.y1 - 1.0..bbox.y2 + 1.0).contains(&y);
                inside += usize::from(near);
            }
            assert_eq!(inside, all, "seed {seed}: {bbox:?}");
            assert!(
                (all as f32 - bbox.area()).abs() < 0.2 * bbox.area() + 40.0,
                "{seed}: {bbox:?}"
            );
        }
        assert!(sizes.len() > 5, "crops differ: {sizes:?}");
    }

    #[test]
    fn a_picture_without_objects_stays_whole() {
        let (image, _) = picture();
        let options = BoxedAugmentation { flip: 0.0, distort: 0.0, ..BoxedAugmentation::default() };
        let (changed, boxes) = options.apply(&image, &[], (100, 80), &mut seeded(&[1]));
        assert_eq!(changed, image);
        assert!(boxes.is_empty());
    }
}
