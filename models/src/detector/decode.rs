//! From the head's numbers to boxes in the picture: sigmoid, expected distances, suppression.
//!
//! Agrees with PaddleDetection's `PicoHead.post_process` and `MultiClassNMS` @ 666f597, except that
//! boxes are clipped to the picture and points under the score threshold are not decoded at all.

use serde::{Deserialize, Serialize};

use super::{REG_MAX, STRIDES};
use crate::image::geometry::{BBox, non_maximum_suppression};

/// What counts as an object.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectionThresholds {
    /// Least score, `0..=1`. The reference keeps 0.025 for measuring and 0.2 for use.
    pub score: f32,
    /// Two boxes of one class that overlap by more are one object.
    pub nms_iou: f32,
    /// Most candidates that enter suppression.
    pub max_candidates: usize,
    /// Most objects of one picture: 5 in the reference's system, 100 when measuring.
    pub max_detections: usize,
}

impl Default for DetectionThresholds {
    fn default() -> Self {
        Self { score: 0.3, nms_iou: 0.5, max_candidates: 1000, max_detections: 20 }
    }
}

/// One found object.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// Where, in pixels of the picture.
    pub bbox: BBox,
    /// How sure, `0..=1`.
    pub score: f32,
    /// Index of the class, 0 with a single foreground class.
    pub class: usize,
}

/// Center and stride of every point, in input pixels, finest level first.
///
/// # Shapes
///
/// - output: one `(x, y, stride)` a point, in the order of
///   [`forward_points`](super::Detector::forward_points)
pub fn points(width: usize, height: usize) -> Vec<(f32, f32, f32)> {
    let mut points = Vec::new();
    let mut size = (width.div_ceil(8), height.div_ceil(8));
    for stride in STRIDES {
        for y in 0..size.1 {
            for x in 0..size.0 {
                let s = stride as f32;
                points.push(((x as f32 + 0.5) * s, (y as f32 + 0.5) * s, s));
            }
        }
        // A stride-2 convolution with padding keeps the odd row and column.
        size = (size.0.div_ceil(2), size.1.div_ceil(2));
    }
    points
}

/// Boxes and class scores before suppression.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    /// In pixels of the network's input.
    pub boxes: Vec<BBox>,
    /// The best class's score.
    pub scores: Vec<f32>,
    /// The best class.
    pub classes: Vec<usize>,
}

impl Candidates {
    /// Decodes the points whose best class reaches `min_score`.
    ///
    /// # Shapes
    ///
    /// - `values`: `[points, num_classes + 4 · (REG_MAX + 1)]`, row-major, of one picture
    pub fn decode(values: &[f32], width: usize, height: usize, min_score: f32) -> Self {
        let points = points(width, height);
        let bins = REG_MAX + 1;
        let row = values.len() / points.len().max(1);
        let num_classes = row.saturating_sub(4 * bins);
        let mut candidates = Self::default();
        if num_classes == 0 {
            return candidates;
        }
        for (values, (x, y, stride)) in values.chunks_exact(row).zip(points) {
            let (logits, distances) = values.split_at(num_classes);
            let best = (0..num_classes)
                .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
                .expect("there is at least one class");
            let score = 1.0 / (1.0 + (-logits[best]).exp());
            if score.is_nan() || score < min_score {
                continue;
            }
            let mut sides = [0.0; 4];
            for (side, logits) in sides.iter_mut().zip(distances.chunks_exact(bins)) {
                *side = expected_bin(logits) * stride;
            }
            candidates.boxes.push(BBox::new(
                x - sides[0],
                y - sides[1],
                x + sides[2],
                y + sides[3],
            ));
            candidates.scores.push(score);
            candidates.classes.push(best);
        }
        candidates
    }

    /// Suppresses duplicates class by class; best score first, boxes still in input pixels.
    pub fn suppress(&self, thresholds: &DetectionThresholds) -> Vec<Detection> {
        let num_classes = self.classes.iter().max().map_or(0, |c| c + 1);
        let mut detections = Vec::new();
        for class in 0..num_classes {
            let mut members: Vec<usize> = (0..self.boxes.len())
                .filter(|&i| self.classes[i] == class && self.scores[i] > thresholds.score)
                .collect();
            members.sort_by(|&a, &b| self.scores[b].total_cmp(&self.scores[a]));
            members.truncate(thresholds.max_candidates);
            let boxes: Vec<BBox> = members.iter().map(|&i| self.boxes[i]).collect();
            let scores: Vec<f32> = members.iter().map(|&i| self.scores[i]).collect();
            for kept in non_maximum_suppression(&boxes, &scores, thresholds.nms_iou) {
                detections.push(Detection { bbox: boxes[kept], score: scores[kept], class });
            }
        }
        detections.sort_by(|a, b| b.score.total_cmp(&a.score));
        detections.truncate(thresholds.max_detections);
        detections
    }
}

/// Mean of the distribution that the softmax of `logits` gives over `0..logits.len()`.
fn expected_bin(logits: &[f32]) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for (bin, logit) in logits.iter().enumerate() {
        let weight = (logit - largest).exp();
        sum += weight;
        weighted += weight * bin as f32;
    }
    weighted / sum
}

/// Objects of one picture, best first, boxes in the picture's pixels and inside it.
///
/// # Shapes
///
/// - `values`: `[points, num_classes + 4 · (REG_MAX + 1)]`, row-major, of one picture
/// - `input`: width and height of the network's input
/// - `source`: width and height of the picture
pub fn decode(
    values: &[f32],
    input: (u32, u32),
    source: (u32, u32),
    thresholds: &DetectionThresholds,
) -> Vec<Detection> {
    let candidates =
        Candidates::decode(values, input.0 as usize, input.1 as usize, thresholds.score);
    let (x, y) = (source.0 as f32 / input.0 as f32, source.1 as f32 / input.1 as f32);
    let mut detections = candidates.suppress(thresholds);
    for detection in &mut detections {
        detection.bbox = detection.bbox.scale(x, y).clip(source.0, source.1);
    }
    detections.retain(|d| d.bbox.width() >= 1.0 && d.bbox.height() >= 1.0);
    detections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_input_has_8500_points() {
        assert_eq!(points(640, 640).len(), 8500);
    }

    #[test]
    fn one_certain_point_gives_its_box_in_the_picture() {
        let (width, height) = (64, 64);
        let row = 1 + 4 * (REG_MAX + 1);
        let mut values = vec![-20.0; points(width, height).len() * row];
        // Point (3, 2) of stride 8: center (28, 20); one stride to every side.
        let point = (2 * 8 + 3) * row;
        values[point] = 5.0;
        for side in 0..4 {
            values[point + 1 + side * 8 + 1] = 20.0;
        }
        let found = decode(&values, (64, 64), (128, 32), &DetectionThresholds::default());
        assert_eq!(found.len(), 1);
        let expected = BBox::new(40.0, 6.0, 72.0, 14.0);
        assert!(found[0].bbox.iou(&expected) > 0.999, "{:?}", found[0]);
    }

    #[test]
    fn numbers_that_are_none_give_no_detection() {
        let values = vec![f32::NAN; points(32, 32).len() * 33];
        assert!(decode(&values, (32, 32), (32, 32), &DetectionThresholds::default()).is_empty());
    }

    #[test]
    fn values_of_a_wrong_length_give_no_detection() {
        assert!(decode(&[0.0; 7], (64, 64), (9, 9), &DetectionThresholds::default()).is_empty());
    }
}
