//! Detector training data made on the fly: cut-outs with transparency pasted onto backgrounds.
//!
//! Where no boxes were drawn by hand, pictures of single things are enough: their alpha channel
//! says where they are.

use models::image::RgbImage;
use models::image::geometry::BBox;
use serde::{Deserialize, Serialize};

use super::augment::{Augmentation, ColorChange, Placement, background, paste};
use super::store::{PictureError, PictureStore};
use crate::random::{Random, chance, uniform};

/// Share of a thing that a later one may cover before it stops being an object of the scene.
const MAX_COVERED: f32 = 0.35;
/// Share of a thing that lies inside the scene at least; a smaller part is hard to recognize, even by a person.
const LEAST_VISIBLE: f32 = 0.6;
/// The number of things is drawn from here on and rounded down, so that 0.3 of `max_things + 0.3` scenes are empty:
/// one of 21 by default, which teaches that nothing may be there.
const LEAST_THINGS: f32 = 0.7;
/// Where the middle of a thing lies, as a share of each side: away from the edges, which would cut it.
const MIDDLE: [f32; 2] = [0.1, 0.9];
/// Largest change of a scene's hue, in degrees: that of other lamps, not of other things.
const HUE: f32 = 10.0;
/// Probability of clutter, so that a detector learns both plain and crowded backgrounds.
const CLUTTERED: f32 = 0.5;
/// Number of rectangles of clutter, rounded down.
const PATCHES: [f32; 2] = [1.0, 8.0];
/// Left and top of such a rectangle, as a share of the scene's side: some begin outside.
const PATCH_START: [f32; 2] = [-0.3, 1.0];
/// Its width, as a share of the scene's.
const PATCH_WIDTH: [f32; 2] = [0.1, 0.9];
/// Its height, as a share of the scene's: the flat ones look like shelves and table edges.
const PATCH_HEIGHT: [f32; 2] = [0.02, 0.5];
/// Its opacity.
const PATCH_OPACITY: [f32; 2] = [0.2, 1.0];

/// How scenes are composed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SceneOptions {
    /// Most things of one scene. Numbers from 1 on are equally frequent, 0 is 0.3 times as frequent.
    pub max_things: usize,
    /// Smallest and largest side of a thing, as a share of the scene's smaller side.
    pub size: [f32; 2],
    /// Largest rotation to either side, in degrees.
    pub rotation: f32,
    /// Largest change of brightness, contrast and saturation of the whole scene.
    #[serde(alias = "colour")]
    pub color: f32,
}

impl Default for SceneOptions {
    fn default() -> Self {
        Self { max_things: 6, size: [0.12, 0.7], rotation: 25.0, color: 0.3 }
    }
}

/// A picture and the boxes of its objects.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The picture.
    pub image: RgbImage,
    /// In its pixels.
    pub boxes: Vec<BBox>,
    /// Position of each object's picture in the store.
    pub things: Vec<usize>,
}

/// Composes a scene from the pictures of `store`.
///
/// # Errors
///
/// [`PictureError`] of the first picture that cannot be used.
pub fn compose(
    store: &PictureStore,
    options: &SceneOptions,
    width: u32,
    height: u32,
    random: &mut Random,
) -> Result<Scene, PictureError> {
    let mut image = backdrop(width, height, random);
    let side = width.min(height) as f32;
    let count = uniform(random, LEAST_THINGS, options.max_things as f32 + 1.0) as usize;
    let mut placed: Vec<(BBox, usize)> = Vec::new();
    for _ in 0..count {
        let index = (uniform(random, 0.0, store.len() as f32) as usize).min(store.len() - 1);
        let picture = store.get(index)?;
        // Sizes are uniform in their logarithm, so that small things are as frequent as large.
        let size = uniform(random, options.size[0].ln(), options.size[1].ln()).exp() * side;
        let aspect = picture.width as f32 / picture.height as f32;
        let placement = Placement {
            center_x: uniform(random, MIDDLE[0], MIDDLE[1]) * width as f32,
            center_y: uniform(random, MIDDLE[0], MIDDLE[1]) * height as f32,
            width: size * aspect.sqrt(),
            height: size / aspect.sqrt(),
            radians: uniform(random, -options.rotation, options.rotation).to_radians(),
            mirrored: false,
            source: (picture.width, picture.height),
        };
        let whole = BBox::new(
            placement.center_x - placement.width / 2.0,
            placement.center_y - placement.height / 2.0,
            placement.center_x + placement.width / 2.0,
            placement.center_y + placement.height / 2.0,
        );
        let visible = whole.clip(width, height).area() / whole.area();
        let covers = |(b, _): &(BBox, usize)| {
            b.intersection(&whole) > MAX_COVERED * b.area().min(whole.area())
        };
        if visible < LEAST_VISIBLE || placed.iter().any(covers) {
            continue;
        }
        if let Some(bbox) = paste(&mut image, &picture, &placement) {
            placed.push((bbox, index));
        }
    }
    let limits = Augmentation { color: options.color, hue: HUE, ..Augmentation::default() };
    ColorChange::draw(&limits, random).apply(image.data_mut());
    let (boxes, things) = placed.into_iter().unzip();
    Ok(Scene { image, boxes, things })
}

/// A background with some clutter: rectangles that are no objects.
fn backdrop(width: u32, height: u32, random: &mut Random) -> RgbImage {
    let mut image = background(width, height, random);
    if chance(random, CLUTTERED) {
        let patches = uniform(random, PATCHES[0], PATCHES[1]) as usize;
        for _ in 0..patches {
            let color = [0; 3].map(|_: i32| uniform(random, 0.0, 256.0) as u8);
            let x1 = uniform(random, PATCH_START[0], PATCH_START[1]) * width as f32;
            let y1 = uniform(random, PATCH_START[0], PATCH_START[1]) * height as f32;
            let x2 = x1 + uniform(random, PATCH_WIDTH[0], PATCH_WIDTH[1]) * width as f32;
            let y2 = y1 + uniform(random, PATCH_HEIGHT[0], PATCH_HEIGHT[1]) * height as f32;
            let patch = BBox::new(x1, y1, x2, y2).clip(width, height);
            let strength = uniform(random, PATCH_OPACITY[0], PATCH_OPACITY[1]);
            let data = image.data_mut();
            for y in patch.y1 as u32..patch.y2 as u32 {
                for x in patch.x1 as u32..patch.x2 as u32 {
                    let at = ((y * width + x) * 3) as usize;
                    for (value, new) in data[at..at + 3].iter_mut().zip(color) {
                        let mixed =
                            f32::from(*value) * (1.0 - strength) + f32::from(new) * strength;
                        *value = mixed as u8;
                    }
                }
            }
        }
    }
    image
}
