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
/// Where a thing may lie that others lie beside.
const ANYWHERE: Room = Room { middle: MIDDLE, longest: f32::INFINITY };
/// The same on a photograph: a long thing is seen to its ends.
const INSIDE: Room = Room { middle: MIDDLE, longest: 0.9 };
/// Where a thing lies that is alone.
const ALONE: Room = Room { middle: [0.45, 0.55], longest: 0.95 };
/// Places that are tried for each thing of a scene.
const TRIES: usize = 20;
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

/// Composes a scene from the pictures of `store` on a generated background.
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
    let mut composition = Composition::on(generated(width, height, random));
    let count = uniform(random, LEAST_THINGS, options.max_things as f32 + 1.0) as usize;
    for _ in 0..count {
        let index = any(store, random);
        composition.try_to_place(store, index, ANYWHERE, options, random)?;
    }
    Ok(composition.lit(options, random))
}

/// Composes a scene on a given background, of `least` to `options.max_things` different things, all numbers equally
/// frequent; of fewer if no place is left.
///
/// # Errors
///
/// [`PictureError`] of the first picture that cannot be used.
pub fn compose_on(
    background: RgbImage,
    store: &PictureStore,
    options: &SceneOptions,
    least: usize,
    random: &mut Random,
) -> Result<Scene, PictureError> {
    let mut composition = Composition::on(background);
    let count = uniform(random, least as f32, options.max_things as f32 + 1.0) as usize;
    for _ in 0..count * TRIES {
        let index = any(store, random);
        if composition.placed.len() < count && !composition.holds(index) {
            composition.try_to_place(store, index, INSIDE, options, random)?;
        }
    }
    Ok(composition.lit(options, random))
}

/// One thing near the middle of a background.
///
/// # Errors
///
/// [`PictureError`] if the thing's picture cannot be used.
pub fn portrait(
    background: RgbImage,
    store: &PictureStore,
    index: usize,
    options: &SceneOptions,
    random: &mut Random,
) -> Result<Scene, PictureError> {
    let mut composition = Composition::on(background);
    composition.try_to_place(store, index, ALONE, options, random)?;
    Ok(composition.lit(options, random))
}

fn any(store: &PictureStore, random: &mut Random) -> usize {
    (uniform(random, 0.0, store.len() as f32) as usize).min(store.len() - 1)
}

/// Where a thing may lie, and how large it may be.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// Where its middle lies, as a share of each side.
    middle: [f32; 2],
    /// Its longer side at most, as a share of the scene's smaller side.
    longest: f32,
}

/// A scene on its way.
struct Composition {
    image: RgbImage,
    placed: Vec<(BBox, usize)>,
}

impl Composition {
    fn on(image: RgbImage) -> Self {
        Self { image, placed: Vec::new() }
    }

    fn holds(&self, index: usize) -> bool {
        self.placed.iter().any(|(_, other)| *other == index)
    }

    /// Places a thing, unless it would cover others or lie too far outside.
    fn try_to_place(
        &mut self,
        store: &PictureStore,
        index: usize,
        room: Room,
        options: &SceneOptions,
        random: &mut Random,
    ) -> Result<(), PictureError> {
        let (width, height) = (self.image.width(), self.image.height());
        let picture = store.get(index)?;
        // Sizes are uniform in their logarithm, so that small things are as frequent as large.
        let size = uniform(random, options.size[0].ln(), options.size[1].ln()).exp();
        let aspect = picture.width as f32 / picture.height as f32;
        let longest = room.longest / aspect.max(1.0 / aspect).sqrt();
        let size = size.min(longest) * width.min(height) as f32;
        let placement = Placement {
            center_x: uniform(random, room.middle[0], room.middle[1]) * width as f32,
            center_y: uniform(random, room.middle[0], room.middle[1]) * height as f32,
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
        if visible < LEAST_VISIBLE || self.placed.iter().any(covers) {
            return Ok(());
        }
        if let Some(bbox) = paste(&mut self.image, &picture, &placement) {
            self.placed.push((bbox, index));
        }
        Ok(())
    }

    /// The whole in another light.
    fn lit(mut self, options: &SceneOptions, random: &mut Random) -> Scene {
        let limits = Augmentation { color: options.color, hue: HUE, ..Augmentation::default() };
        ColorChange::draw(&limits, random).apply(self.image.data_mut());
        let (boxes, things) = self.placed.into_iter().unzip();
        Scene { image: self.image, boxes, things }
    }
}

/// A generated background with some clutter: rectangles that are no objects.
pub fn generated(width: u32, height: u32, random: &mut Random) -> RgbImage {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::seeded;

    /// Three things of one color each, in files of a folder that is removed at the end.
    fn things() -> (tempfile::TempDir, PictureStore) {
        let folder = tempfile::tempdir().unwrap();
        let paths =
            [[250, 0, 0], [0, 250, 0], [0, 0, 250]].iter().enumerate().map(|(index, color)| {
                let image = RgbImage::from_rgb(20, 10, color.repeat(200)).unwrap();
                let path = folder.path().join(format!("{index}.png"));
                std::fs::write(&path, image.encode_png().unwrap()).unwrap();
                path
            });
        let store = PictureStore::new(paths.collect(), 64);
        (folder, store)
    }

    fn gray() -> RgbImage {
        RgbImage::from_rgb(96, 96, vec![128; 96 * 96 * 3]).unwrap()
    }

    #[test]
    fn a_scene_on_a_photograph_holds_different_things_where_its_boxes_say() {
        let (_folder, store) = things();
        let options = SceneOptions { max_things: 3, size: [0.2, 0.3], rotation: 15.0, color: 0.0 };
        let mut counts = [0; 4];
        for seed in 0..40 {
            let scene = compose_on(gray(), &store, &options, 1, &mut seeded(&[seed])).unwrap();
            counts[scene.things.len()] += 1;
            for (bbox, thing) in scene.boxes.iter().zip(&scene.things) {
                let same = scene.things.iter().filter(|other| *other == thing).count();
                assert_eq!(same, 1, "a thing stands there twice");
                let (x, y) = ((bbox.x1 + bbox.x2) as u32 / 2, (bbox.y1 + bbox.y2) as u32 / 2);
                let at = ((y * 96 + x) * 3) as usize;
                let pixel = &scene.image.data()[at..at + 3];
                let most = (0..3).max_by_key(|channel| pixel[*channel]).unwrap();
                assert_eq!(most, *thing, "{pixel:?}");
            }
        }
        assert!(counts[0] == 0 && counts[1..].iter().all(|count| *count > 5), "{counts:?}");
    }

    #[test]
    fn a_portrait_shows_the_thing_that_is_asked_for_near_the_middle() {
        let (_folder, store) = things();
        let options = SceneOptions { max_things: 1, size: [0.5, 0.7], rotation: 15.0, color: 0.1 };
        for index in 0..3 {
            let scene = portrait(gray(), &store, index, &options, &mut seeded(&[7])).unwrap();
            assert_eq!(scene.things, [index]);
            let bbox = scene.boxes[0];
            assert!((bbox.x1 + bbox.x2 - 96.0).abs() < 12.0 && bbox.width() > 48.0, "{bbox:?}");
        }
    }
}
