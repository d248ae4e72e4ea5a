//! The two assignments of the newer PicoDet: by statistics of overlaps at first, by agreement of
//! class and box once both mean something.
//!
//! Agree with PaddleDetection `ppdet/modeling/assigners/{atss,task_aligned}_assigner.py` @ 666f597.

use models::image::geometry::BBox;

use super::{contains, iou};

/// Keeps divisions by an empty maximum finite; the reference's value.
const EPSILON: f32 = 1e-9;

/// What a point answers for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlignedAssignment {
    /// Position of the object.
    pub object: usize,
    /// Wanted score of the object's class at this point, `0..=1`.
    pub score: f32,
}

/// `[object][point]` → the object of every point; a point of several keeps the largest overlap.
fn one_object_a_point(
    positive: &[Vec<bool>],
    overlaps: &[Vec<f32>],
    points: usize,
) -> Vec<Option<usize>> {
    (0..points)
        .map(|point| {
            let claims: Vec<usize> =
                (0..positive.len()).filter(|&object| positive[object][point]).collect();
            match claims[..] {
                [] => None,
                [object] => Some(object),
                _ => (0..positive.len()).reduce(|best, object| {
                    if overlaps[object][point] > overlaps[best][point] { object } else { best }
                }),
            }
        })
        .collect()
}

/// Adaptive training sample selection.
///
/// Source: "Bridging the Gap Between Anchor-based and Anchor-free Detection", CVPR 2020,
/// <https://arxiv.org/abs/1912.02424>, Algorithm 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Atss {
    /// Nearest points of each level that are candidates; 9 in the reference.
    pub top_k: usize,
    /// Side of a point's anchor in strides; 5 in the newer PicoDet.
    pub cell_scale: f32,
}

impl Atss {
    /// Candidates are the nearest points of each level; positive are those whose anchor overlaps
    /// the object by more than mean plus standard deviation of the candidates' overlaps, and whose
    /// center lies within. The wanted score is the predicted box's overlap.
    ///
    /// # Shapes
    ///
    /// - `points`: `(x, y, stride)` each, in input pixels, level by level
    /// - `predicted`: `[points]`, in input pixels
    /// - output: `[points]`
    pub fn assign(
        &self,
        points: &[(f32, f32, f32)],
        predicted: &[BBox],
        objects: &[BBox],
    ) -> Vec<Option<AlignedAssignment>> {
        let anchors: Vec<BBox> = points
            .iter()
            .map(|&(x, y, stride)| {
                let half = self.cell_scale * stride / 2.0;
                BBox::new(x - half, y - half, x + half, y + half)
            })
            .collect();
        let levels = levels(points);
        let overlaps: Vec<Vec<f32>> =
            objects.iter().map(|o| anchors.iter().map(|a| iou(o, a)).collect()).collect();
        let positive: Vec<Vec<bool>> = objects
            .iter()
            .zip(&overlaps)
            .map(|(object, overlaps)| {
                let (cx, cy) = ((object.x1 + object.x2) / 2.0, (object.y1 + object.y2) / 2.0);
                let distance = |point: usize| (points[point].0 - cx).hypot(points[point].1 - cy);
                let mut candidates = Vec::new();
                for level in &levels {
                    let mut order: Vec<usize> = level.clone().collect();
                    order.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)));
                    candidates.extend(order.into_iter().take(self.top_k));
                }
                let threshold = mean_plus_deviation(candidates.iter().map(|&c| overlaps[c]));
                let mut positive = vec![false; points.len()];
                for candidate in candidates {
                    let (x, y, _) = points[candidate];
                    positive[candidate] = overlaps[candidate] > threshold && contains(object, x, y);
                }
                positive
            })
            .collect();
        one_object_a_point(&positive, &overlaps, points.len())
            .into_iter()
            .enumerate()
            .map(|(point, object)| {
                object.map(|object| AlignedAssignment {
                    object,
                    score: iou(&objects[object], &predicted[point]),
                })
            })
            .collect()
    }
}

/// Runs of points of one stride.
fn levels(points: &[(f32, f32, f32)]) -> Vec<std::ops::Range<usize>> {
    let mut levels: Vec<std::ops::Range<usize>> = Vec::new();
    for (index, point) in points.iter().enumerate() {
        match levels.last_mut() {
            Some(level) if points[level.start].2 == point.2 => level.end = index + 1,
            _ => levels.push(index..index + 1),
        }
    }
    levels
}

fn mean_plus_deviation(values: impl Iterator<Item = f32> + Clone) -> f32 {
    let count = values.clone().count() as f32;
    let mean = values.clone().sum::<f32>() / count;
    let squares: f32 = values.map(|v| (v - mean) * (v - mean)).sum();
    mean + (squares / (count - 1.0).max(1.0)).sqrt()
}

/// Task-aligned assignment.
///
/// Source: "TOOD: Task-aligned One-stage Object Detection", ICCV 2021,
/// <https://arxiv.org/abs/2108.07755>, §3.2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TaskAligned {
    /// Best aligned points of an object; 13 in the reference.
    pub top_k: usize,
    /// Power of the class score; 1 in the reference.
    pub alpha: f32,
    /// Power of the overlap; 6 in the reference.
    pub beta: f32,
}

impl TaskAligned {
    /// Positive are the points within an object whose `score^α · overlap^β` is among its best. The
    /// wanted score is that alignment, scaled so that an object's best equals its best overlap.
    ///
    /// # Shapes
    ///
    /// - `points`: `(x, y, stride)` each, in input pixels
    /// - `scores`: `[objects]` of `[points]`, of the object's class after the sigmoid
    /// - `predicted`: `[points]`, in input pixels
    /// - output: `[points]`
    pub fn assign(
        &self,
        points: &[(f32, f32, f32)],
        scores: &[Vec<f32>],
        predicted: &[BBox],
        objects: &[BBox],
    ) -> Vec<Option<AlignedAssignment>> {
        let overlaps: Vec<Vec<f32>> =
            objects.iter().map(|o| predicted.iter().map(|p| iou(o, p)).collect()).collect();
        let alignment = |object: usize, point: usize| {
            scores[object][point].powf(self.alpha) * overlaps[object][point].powf(self.beta)
        };
        let positive: Vec<Vec<bool>> = (0..objects.len())
            .map(|object| {
                let within =
                    |point: usize| contains(&objects[object], points[point].0, points[point].1);
                let value =
                    |point: usize| if within(point) { alignment(object, point) } else { 0.0 };
                let mut order: Vec<usize> = (0..points.len()).collect();
                order.sort_by(|&a, &b| value(b).total_cmp(&value(a)));
                let mut positive = vec![false; points.len()];
                for point in order.into_iter().take(self.top_k) {
                    positive[point] = within(point);
                }
                positive
            })
            .collect();
        let assigned = one_object_a_point(&positive, &overlaps, points.len());
        let best = |object: usize, of: &dyn Fn(usize) -> f32| {
            let own = (0..points.len()).filter(|&point| assigned[point] == Some(object));
            own.map(of).fold(0.0, f32::max)
        };
        let scales: Vec<f32> = (0..objects.len())
            .map(|object| {
                let best_alignment = best(object, &|point| alignment(object, point));
                best(object, &|point| overlaps[object][point]) / (best_alignment + EPSILON)
            })
            .collect();
        assigned
            .iter()
            .enumerate()
            .map(|(point, object)| {
                object.map(|object| AlignedAssignment {
                    object,
                    score: alignment(object, point) * scales[object],
                })
            })
            .collect()
    }
}
