//! From the head's numbers to boxes in the picture: sigmoid, expected distances, suppression.
//!
//! Of PicoDet it agrees with PaddleDetection's `PicoHead.post_process` and `MultiClassNMS` @ 666f597, except that
//! boxes are clipped to the picture and points under the score threshold are not decoded at all.

use serde::{Deserialize, Serialize};

use super::{Decoding, PointValue};
use crate::image::geometry::{BBox, non_maximum_suppression};
use crate::preprocess::Preprocess;

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
    /// Decodes the points whose best class reaches `min_score`; none where there are not as many values as points need.
    ///
    /// # Shapes
    ///
    /// - `values`: `[points, decoding.row()]`, row-major, of one picture
    /// - `size`: width and height of the network's input
    pub fn decode(values: &[f32], decoding: &Decoding, size: (u32, u32), min_score: f32) -> Self {
        let points = decoding.points(size.0 as usize, size.1 as usize);
        let row = decoding.row();
        let mut candidates = Self::default();
        if values.len() != points.len() * row {
            return candidates;
        }
        for (values, point) in values.chunks_exact(row).zip(points) {
            let part = |wanted| decoding.part(values, wanted);
            let classes = part(PointValue::Scores).iter().enumerate();
            let Some((class, best)) = classes.max_by(|a, b| a.1.total_cmp(b.1)) else { continue };
            let object = part(PointValue::Objectness).iter();
            let object: f32 = object.map(|value| decoding.probability(*value)).product();
            let score = decoding.probability(*best) * object;
            if score.is_nan() || score < min_score {
                continue;
            }
            candidates.boxes.push(decoding.bbox(part(PointValue::Box), point));
            candidates.scores.push(score);
            candidates.classes.push(class);
        }
        candidates
    }

    /// Suppresses duplicates class by class; best score first, boxes still in input pixels.
    pub fn suppress(&self, thresholds: &DetectionThresholds) -> Vec<Detection> {
        let mut detections = Vec::new();
        let mut order: Vec<usize> =
            (0..self.boxes.len()).filter(|&i| self.scores[i] > thresholds.score).collect();
        order.sort_by(|&a, &b| {
            let class = self.classes[a].cmp(&self.classes[b]);
            class.then_with(|| self.scores[b].total_cmp(&self.scores[a]))
        });
        for members in order.chunk_by(|&a, &b| self.classes[a] == self.classes[b]) {
            let members = &members[..members.len().min(thresholds.max_candidates)];
            let boxes: Vec<BBox> = members.iter().map(|&i| self.boxes[i]).collect();
            let scores: Vec<f32> = members.iter().map(|&i| self.scores[i]).collect();
            for kept in non_maximum_suppression(&boxes, &scores, thresholds.nms_iou) {
                let class = self.classes[members[kept]];
                detections.push(Detection { bbox: boxes[kept], score: scores[kept], class });
            }
        }
        detections.sort_by(|a, b| b.score.total_cmp(&a.score));
        detections.truncate(thresholds.max_detections);
        detections
    }
}

/// Objects of one picture, best first, boxes in the picture's pixels and inside it.
///
/// # Shapes
///
/// - `values`: `[points, decoding.row()]`, row-major, of one picture
/// - `source`: width and height of the picture
pub fn decode(
    values: &[f32],
    decoding: &Decoding,
    preprocess: &Preprocess,
    source: (u32, u32),
    thresholds: &DetectionThresholds,
) -> Vec<Detection> {
    let size = (preprocess.width, preprocess.height);
    let candidates = Candidates::decode(values, decoding, size, thresholds.score);
    let mut detections = candidates.suppress(thresholds);
    for detection in &mut detections {
        let bbox = preprocess.in_picture(&detection.bbox, source.0, source.1);
        detection.bbox = bbox.clip(source.0, source.1);
    }
    detections.retain(|d| d.bbox.width() >= 1.0 && d.bbox.height() >= 1.0);
    detections
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::REG_MAX;
    use crate::preprocess::{Fit, Letterbox};

    fn found(values: &[f32], side: u32, source: (u32, u32)) -> Vec<Detection> {
        let thresholds = DetectionThresholds::default();
        decode(values, &Decoding::pico(1), &Preprocess::square(side), source, &thresholds)
    }

    /// Values of an input of 64 × 64 pixels, where one point is certain of its box.
    fn one_point() -> Vec<f32> {
        let row = 1 + 4 * (REG_MAX + 1);
        let mut values = vec![-20.0; Decoding::pico(1).points(64, 64).len() * row];
        // Point (3, 2) of stride 8: center (28, 20); one stride to every side.
        let point = (2 * 8 + 3) * row;
        values[point] = 5.0;
        for side in 0..4 {
            values[point + 1 + side * 8 + 1] = 20.0;
        }
        values
    }

    #[test]
    fn the_reference_input_has_8500_points() {
        assert_eq!(Decoding::pico(1).points(640, 640).len(), 8500);
    }

    #[test]
    fn one_certain_point_gives_its_box_in_the_picture() {
        let found = found(&one_point(), 64, (128, 32));
        assert_eq!(found.len(), 1);
        let expected = BBox::new(40.0, 6.0, 72.0, 14.0);
        assert!(found[0].bbox.iou(&expected) > 0.999, "{:?}", found[0]);
    }

    #[test]
    fn a_letterbox_is_taken_off() {
        for (centered, expected) in
            [(false, [40.0, 24.0, 72.0, 56.0]), (true, [40.0, 0.0, 72.0, 24.0])]
        {
            let fit = Fit::Letterbox(Letterbox { padding: 0, centered });
            let preprocess = Preprocess { fit, ..Preprocess::square(64) };
            let thresholds = DetectionThresholds::default();
            let (decoding, source) = (Decoding::pico(1), (128, 64));
            let found = decode(&one_point(), &decoding, &preprocess, source, &thresholds);
            let [x1, y1, x2, y2] = expected;
            let iou = found[0].bbox.iou(&BBox::new(x1, y1, x2, y2));
            assert!(found.len() == 1 && iou > 0.999, "{found:?}");
        }
    }

    #[test]
    fn the_sides_of_a_stride_are_those_of_halves() {
        for side in (1_usize..2049).step_by(13) {
            let mut expected = side.div_ceil(8);
            for (columns, rows) in Decoding::pico(1).sides(side, side) {
                assert_eq!((columns, rows), (expected, expected), "{side}");
                // A stride-2 convolution with padding keeps the odd row and column.
                expected = expected.div_ceil(2);
            }
        }
    }

    #[test]
    fn boxes_suppress_those_of_their_class_alone() {
        let boxes = [0.0, 1.0, 2.0, 40.0, 0.5].map(|x| BBox::new(x, 0.0, x + 20.0, 20.0)).to_vec();
        let candidates = Candidates {
            boxes,
            scores: vec![0.5, 0.9, 0.6, 0.7, 0.8],
            classes: vec![4, 4, 4, 4, 0],
        };
        let thresholds = DetectionThresholds { score: 0.1, ..DetectionThresholds::default() };
        let told = |thresholds: &DetectionThresholds| -> Vec<(usize, f32)> {
            let found = candidates.suppress(thresholds);
            found.iter().map(|found| (found.class, found.score)).collect()
        };
        assert_eq!(told(&thresholds), [(4, 0.9), (0, 0.8), (4, 0.7)]);
        let few = DetectionThresholds { max_candidates: 1, ..thresholds };
        assert_eq!(told(&few), [(4, 0.9), (0, 0.8)]);
        let sure = DetectionThresholds { score: 0.8, max_detections: 1, ..thresholds };
        assert_eq!(told(&sure), [(4, 0.9)]);
    }

    #[test]
    fn numbers_that_are_none_give_no_detection() {
        let values = vec![f32::NAN; Decoding::pico(1).points(32, 32).len() * 33];
        assert!(found(&values, 32, (32, 32)).is_empty());
    }

    #[test]
    fn values_of_a_wrong_length_give_no_detection() {
        assert!(found(&[0.0; 7], 64, (9, 9)).is_empty());
    }
}
