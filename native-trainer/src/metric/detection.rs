//! Detection: average precision at an overlap.
//!
//! Source: the COCO evaluation with one class, 101 recall points, no size ranges.

use models::detector::Detection;
use models::geometry::BBox;

/// Average precision over all pictures, `0..=1`, where a detection counts from `min_iou` on.
pub fn average_precision(
    detections: &[Vec<Detection>],
    objects: &[Vec<BBox>],
    min_iou: f32,
) -> f64 {
    let total: usize = objects.iter().map(Vec::len).sum();
    if total == 0 {
        return 0.0;
    }
    let mut all: Vec<(f32, bool)> = Vec::new();
    for (detections, objects) in detections.iter().zip(objects) {
        let mut free = vec![true; objects.len()];
        let mut order: Vec<&Detection> = detections.iter().collect();
        order.sort_by(|a, b| b.score.total_cmp(&a.score));
        for detection in order {
            let best = (0..objects.len())
                .filter(|&o| free[o])
                .map(|o| (o, detection.bbox.iou(&objects[o])))
                .filter(|(_, iou)| *iou >= min_iou)
                .max_by(|a, b| a.1.total_cmp(&b.1));
            if let Some((o, _)) = best {
                free[o] = false;
            }
            all.push((detection.score, best.is_some()));
        }
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut curve = Vec::with_capacity(all.len());
    let mut hits = 0;
    for (index, (_, hit)) in all.iter().enumerate() {
        hits += usize::from(*hit);
        curve.push((hits as f64 / total as f64, hits as f64 / (index + 1) as f64));
    }
    // Precision at a recall is the best one at this recall or beyond.
    for index in (1..curve.len()).rev() {
        curve[index - 1].1 = curve[index - 1].1.max(curve[index].1);
    }
    let at = |recall: f64| {
        curve.iter().find(|(r, _)| *r >= recall - 1e-12).map_or(0.0, |(_, precision)| *precision)
    };
    (0..=100).map(|i| at(f64::from(i) / 100.0)).sum::<f64>() / 101.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detection(x: f32, score: f32) -> Detection {
        Detection { bbox: BBox::new(x, 0.0, x + 10.0, 10.0), score, class: 0 }
    }

    #[test]
    fn perfect_boxes_give_one_and_duplicates_count_as_errors() {
        let objects = vec![vec![BBox::new(0.0, 0.0, 10.0, 10.0), BBox::new(50.0, 0.0, 60.0, 10.0)]];
        let perfect = vec![vec![detection(0.0, 0.9), detection(50.0, 0.8)]];
        assert!((average_precision(&perfect, &objects, 0.5) - 1.0).abs() < 1e-9);
        let doubled = vec![vec![detection(0.0, 0.9), detection(0.0, 0.85), detection(50.0, 0.8)]];
        let precision = average_precision(&doubled, &objects, 0.5);
        assert!((precision - (51.0 + 50.0 * 2.0 / 3.0) / 101.0).abs() < 1e-9, "{precision}");
        assert!(average_precision(&[vec![]], &objects, 0.5).abs() < 1e-12);
    }
}
