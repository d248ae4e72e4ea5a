//! Boxes in pixels.

use serde::{Deserialize, Serialize};

/// An axis-aligned box in pixels of the picture that it names, `x2` and `y2` exclusive.
///
/// ```
/// use models::image::geometry::BBox;
///
/// let a = BBox::new(0.0, 0.0, 4.0, 4.0);
/// let b = BBox::new(2.0, 0.0, 6.0, 4.0);
/// assert_eq!(a.iou(&b), 1.0 / 3.0);
/// assert_eq!(b.clip(5, 5), BBox::new(2.0, 0.0, 5.0, 4.0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BBox {
    /// Left edge.
    pub x1: f32,
    /// Top edge.
    pub y1: f32,
    /// Right edge.
    pub x2: f32,
    /// Bottom edge.
    pub y2: f32,
}

impl BBox {
    /// A box from its edges.
    pub const fn new(x1: f32, y1: f32, x2: f32, y2: f32) -> Self {
        Self { x1, y1, x2, y2 }
    }

    /// The box that covers a picture of this size.
    pub fn whole(width: u32, height: u32) -> Self {
        Self::new(0.0, 0.0, width as f32, height as f32)
    }

    /// The middle of a picture of this size, 70 % of each side: what photographs of one thing show there.
    pub fn middle(width: u32, height: u32) -> Self {
        let at = |side: u32, percent: f32| side as f32 * percent / 100.0;
        Self::new(at(width, 15.0), at(height, 15.0), at(width, 85.0), at(height, 85.0))
    }

    /// Width, 0 for a box turned inside out.
    pub fn width(&self) -> f32 {
        (self.x2 - self.x1).max(0.0)
    }

    /// Height, 0 for a box turned inside out.
    pub fn height(&self) -> f32 {
        (self.y2 - self.y1).max(0.0)
    }

    /// Area in square pixels.
    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }

    /// The part of the box inside a picture of this size.
    #[must_use]
    pub fn clip(&self, width: u32, height: u32) -> Self {
        let (w, h) = (width as f32, height as f32);
        Self::new(
            self.x1.clamp(0.0, w),
            self.y1.clamp(0.0, h),
            self.x2.clamp(0.0, w),
            self.y2.clamp(0.0, h),
        )
    }

    /// Multiplies horizontal positions by `x` and vertical ones by `y`.
    #[must_use]
    pub fn scale(&self, x: f32, y: f32) -> Self {
        Self::new(self.x1 * x, self.y1 * y, self.x2 * x, self.y2 * y)
    }

    /// Area of the overlap of two boxes.
    pub fn intersection(&self, other: &Self) -> f32 {
        Self::new(
            self.x1.max(other.x1),
            self.y1.max(other.y1),
            self.x2.min(other.x2),
            self.y2.min(other.y2),
        )
        .area()
    }

    /// Intersection over union, in `0..=1`; 0 where both boxes are empty.
    pub fn iou(&self, other: &Self) -> f32 {
        let intersection = self.intersection(other);
        let union = self.area() + other.area() - intersection;
        if union > 0.0 { intersection / union } else { 0.0 }
    }
}

/// Greedy non-maximum suppression: indices of the kept boxes, best score first.
///
/// A box is dropped when it overlaps a kept one by more than `iou_threshold`. Boxes whose score is
/// not a number are dropped.
pub fn non_maximum_suppression(boxes: &[BBox], scores: &[f32], iou_threshold: f32) -> Vec<usize> {
    let mut order: Vec<usize> =
        (0..boxes.len().min(scores.len())).filter(|&i| !scores[i].is_nan()).collect();
    // A stable sort keeps equal scores in input order, as the reference does.
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut kept: Vec<usize> = Vec::new();
    for index in order {
        if kept.iter().all(|&k| boxes[k].iou(&boxes[index]) <= iou_threshold) {
            kept.push(index);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_box() -> impl Strategy<Value = BBox> {
        (0.0_f32..90.0, 0.0_f32..90.0, 0.1_f32..40.0, 0.1_f32..40.0)
            .prop_map(|(x, y, w, h)| BBox::new(x, y, x + w, y + h))
    }

    proptest! {
        #[test]
        fn iou_is_symmetric_and_bounded(a in any_box(), b in any_box()) {
            prop_assert!((a.iou(&b) - b.iou(&a)).abs() < 1e-6);
            prop_assert!((0.0..=1.0 + 1e-6).contains(&a.iou(&b)));
            prop_assert!((a.iou(&a) - 1.0).abs() < 1e-5);
        }

        #[test]
        fn survivors_do_not_overlap_and_explain_the_dropped(
            boxes in prop::collection::vec((any_box(), 0.0_f32..1.0), 0..40),
            threshold in 0.05_f32..0.9,
        ) {
            let (boxes, scores): (Vec<_>, Vec<_>) = boxes.into_iter().unzip();
            let kept = non_maximum_suppression(&boxes, &scores, threshold);
            for (n, &a) in kept.iter().enumerate() {
                for &b in &kept[n + 1..] {
                    prop_assert!(boxes[a].iou(&boxes[b]) <= threshold);
                    prop_assert!(scores[a] >= scores[b]);
                }
            }
            for index in 0..boxes.len() {
                let beaten = |k: &usize| {
                    scores[*k] >= scores[index] && boxes[*k].iou(&boxes[index]) > threshold
                };
                prop_assert!(kept.contains(&index) || kept.iter().any(beaten));
            }
        }
    }

    #[test]
    fn a_score_that_is_not_a_number_is_dropped() {
        let boxes = [BBox::new(0.0, 0.0, 1.0, 1.0), BBox::new(5.0, 5.0, 6.0, 6.0)];
        assert_eq!(non_maximum_suppression(&boxes, &[f32::NAN, 0.5], 0.5), vec![1]);
    }

    #[test]
    fn an_empty_box_overlaps_nothing() {
        let empty = BBox::new(3.0, 3.0, 3.0, 3.0);
        assert!(empty.iou(&empty).abs() < f32::EPSILON);
    }
}
