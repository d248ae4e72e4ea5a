//! Objects that are followed over the frames of a camera: what has been embedded a moment ago is not
//! embedded again.
//!
//! The reference looks at every frame by itself. An object is the same one where its box overlaps the
//! former one and its picture, shrunk to 8×8 pixels, has hardly changed since the network looked at
//! it; after some frames the network looks again all the same.

use crate::image::RgbImage;
use crate::image::geometry::BBox;
use crate::image::{ResizeFilter, resize};

/// Least overlap (IoU) of a box with that of the frame before.
const LEAST_OVERLAP: f32 = 0.5;
/// Side of the shrunk picture by which a change is seen.
const LOOK_SIDE: u32 = 8;
/// Most difference of the shrunk pictures, a value on average, of 255: more than a camera's noise, less
/// than another thing in the same place.
const MOST_DIFFERENCE: u32 = 12;
/// Frames after which the network looks again.
const MOST_FRAMES: u32 = 10;

/// What the frames so far have shown.
///
/// [`Recognizer::recognize_with`](crate::recognizer::Recognizer::recognize_with) uses one; by itself:
///
/// ```
/// use models::image::geometry::BBox;
/// use models::{RgbImage, Tracker};
///
/// // The first value of a crop stands for its embedding.
/// let embed = async |crops: &[RgbImage]| -> Result<Vec<Vec<f32>>, std::convert::Infallible> {
///     Ok(crops.iter().map(|crop| vec![f32::from(crop.data()[0])]).collect())
/// };
/// let frame = RgbImage::from_rgb(64, 64, vec![90; 64 * 64 * 3])?;
/// let mut tracker = Tracker::default();
/// for (x, embedded) in [(10.0, 1), (12.0, 0), (14.0, 0)] {
///     let bbox = BBox::new(x, 10.0, x + 30.0, 40.0);
///     let crops = [frame.crop(&bbox)];
///     let Ok(embeddings) = pollster::block_on(tracker.follow(&[bbox], &crops, embed));
///     assert_eq!(embeddings, [[90.0]]);
///     // Only the first frame needs the network.
///     assert_eq!(tracker.embedded(), embedded);
/// }
/// # Ok::<(), models::image::ImageError>(())
/// ```
#[derive(Debug, Default)]
pub struct Tracker {
    followed: Vec<Followed>,
    embedded: usize,
}

/// An object of the last frame.
#[derive(Debug)]
struct Followed {
    bbox: BBox,
    /// As it was when the network looked at it.
    look: Vec<u8>,
    embedding: Vec<f32>,
    /// Since then.
    frames: u32,
}

impl Tracker {
    /// Objects of the last frame that the network had to look at.
    pub fn embedded(&self) -> usize {
        self.embedded
    }

    /// The embeddings of a frame's objects; `embed` is asked for those that are new or have changed.
    ///
    /// # Shapes
    ///
    /// - `boxes`, `crops`, output: one per object
    ///
    /// # Errors
    ///
    /// What `embed` says; the tracker knows nothing then.
    pub async fn follow<E>(
        &mut self,
        boxes: &[BBox],
        crops: &[RgbImage],
        embed: impl AsyncFnOnce(&[RgbImage]) -> Result<Vec<Vec<f32>>, E>,
    ) -> Result<Vec<Vec<f32>>, E> {
        let mut before = std::mem::take(&mut self.followed);
        let looks: Vec<Vec<u8>> = crops.iter().map(look).collect();
        let recalled: Vec<Option<Followed>> =
            boxes.iter().zip(&looks).map(|(bbox, look)| recall(&mut before, bbox, look)).collect();
        let new: Vec<RgbImage> = (recalled.iter().zip(crops))
            .filter(|(recalled, _)| recalled.is_none())
            .map(|(_, crop)| crop.clone())
            .collect();
        self.embedded = new.len();
        let mut embedded = if new.is_empty() { Vec::new() } else { embed(&new).await? }.into_iter();
        for ((recalled, bbox), look) in recalled.into_iter().zip(boxes).zip(looks) {
            let followed = match recalled {
                Some(known) => Followed { bbox: *bbox, frames: known.frames + 1, ..known },
                None => Followed {
                    bbox: *bbox,
                    look,
                    embedding: embedded.next().unwrap_or_default(),
                    frames: 0,
                },
            };
            self.followed.push(followed);
        }
        Ok(self.followed.iter().map(|followed| followed.embedding.clone()).collect())
    }
}

/// Takes the object out that this one was a frame ago, if what is known of it still holds.
fn recall(before: &mut Vec<Followed>, bbox: &BBox, look: &[u8]) -> Option<Followed> {
    let overlaps = before.iter().map(|followed| followed.bbox.iou(bbox)).enumerate();
    let (place, overlap) = overlaps.max_by(|a, b| a.1.total_cmp(&b.1))?;
    let followed = &before[place];
    let same = overlap >= LEAST_OVERLAP
        && followed.frames < MOST_FRAMES
        && difference(&followed.look, look) <= MOST_DIFFERENCE;
    same.then(|| before.swap_remove(place))
}

fn look(crop: &RgbImage) -> Vec<u8> {
    resize(crop, LOOK_SIDE, LOOK_SIDE, ResizeFilter::Antialiased).data().to_vec()
}

/// Mean difference of two shrunk pictures.
fn difference(a: &[u8], b: &[u8]) -> u32 {
    let sum: u32 = a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
    sum / a.len().max(1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn picture(shade: u8) -> RgbImage {
        let pixel = |i: u32| shade.wrapping_add((i % 7) as u8);
        RgbImage::from_rgb(20, 20, (0..1200).map(pixel).collect()).expect("400 pixels")
    }

    fn frame(tracker: &mut Tracker, objects: &[(f32, u8)]) -> (Vec<f32>, usize) {
        let boxes: Vec<BBox> =
            objects.iter().map(|(x, _)| BBox::new(*x, 0.0, x + 20.0, 20.0)).collect();
        let crops: Vec<RgbImage> = objects.iter().map(|(_, shade)| picture(*shade)).collect();
        // The first value of a crop stands for its embedding.
        let embed = async |crops: &[RgbImage]| -> Result<Vec<Vec<f32>>, Infallible> {
            Ok(crops.iter().map(|crop| vec![f32::from(crop.data()[0])]).collect())
        };
        let embeddings = pollster::block_on(tracker.follow(&boxes, &crops, embed)).expect("never");
        (embeddings.into_iter().map(|e| e[0]).collect(), tracker.embedded())
    }

    #[test]
    fn what_moves_a_little_is_embedded_once() {
        let mut tracker = Tracker::default();
        assert_eq!(frame(&mut tracker, &[(0.0, 10), (100.0, 90)]), (vec![10.0, 90.0], 2));
        // In another order, moved, with a camera's noise.
        assert_eq!(frame(&mut tracker, &[(103.0, 92), (4.0, 11)]), (vec![90.0, 10.0], 0));
        // One has gone, a new one has come.
        assert_eq!(frame(&mut tracker, &[(7.0, 10), (50.0, 200)]), (vec![10.0, 200.0], 1));
    }

    #[test]
    fn another_thing_in_the_same_place_is_looked_at() {
        let mut tracker = Tracker::default();
        frame(&mut tracker, &[(0.0, 10)]);
        assert_eq!(frame(&mut tracker, &[(0.0, 60)]), (vec![60.0], 1));
        // A slow change adds up: it is compared with what the network has seen.
        let mut looked = 0;
        for shade in 61..100 {
            looked += frame(&mut tracker, &[(0.0, shade)]).1;
        }
        assert!((3..15).contains(&looked), "{looked}");
    }

    #[test]
    fn the_network_looks_again_after_a_while_and_where_an_object_has_jumped() {
        let mut tracker = Tracker::default();
        let looked: Vec<usize> = (0..25).map(|_| frame(&mut tracker, &[(0.0, 10)]).1).collect();
        assert_eq!(looked.iter().sum::<usize>(), 3, "{looked:?}");
        assert_eq!(frame(&mut tracker, &[(30.0, 10)]).1, 1);
        assert_eq!(frame(&mut tracker, &[]), (vec![], 0));
    }

    #[test]
    fn two_objects_in_one_place_do_not_share_one_past() {
        let mut tracker = Tracker::default();
        frame(&mut tracker, &[(0.0, 10)]);
        assert_eq!(frame(&mut tracker, &[(0.0, 10), (1.0, 11)]), (vec![10.0, 11.0], 1));
    }

    #[test]
    fn a_failure_leaves_nothing_half_known() {
        let mut tracker = Tracker::default();
        frame(&mut tracker, &[(0.0, 10)]);
        let failing = async |_: &[RgbImage]| Err::<Vec<Vec<f32>>, &str>("no device");
        let boxes = [BBox::new(0.0, 0.0, 20.0, 20.0)];
        let error = pollster::block_on(tracker.follow(&boxes, &[picture(99)], failing));
        assert_eq!(error.unwrap_err(), "no device");
        assert_eq!(frame(&mut tracker, &[(0.0, 10)]), (vec![10.0], 1));
    }
}
