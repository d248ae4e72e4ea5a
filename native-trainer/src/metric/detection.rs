//! Detection: COCO's twelve figures.
//!
//! Source: <https://cocodataset.org/#detection-eval>.
//! Agrees with `pycocotools/cocoeval.py` 2.0.11: order of equal scores, ties of overlaps, crowds and
//! objects outside a range of sizes, which cost nothing and win nothing.

use models::detector::Detection;
use models::image::geometry::BBox;

/// Overlaps at which a detection counts, 0.5 to 0.95.
fn thresholds() -> [f64; 10] {
    std::array::from_fn(|i| 0.5 + 0.05 * i as f64)
}

/// Most detections a picture that count.
const MAX_DETECTIONS: usize = 100;

/// Squared sides that part small, medium and large objects.
const SIZES: [f64; 2] = [32.0 * 32.0, 96.0 * 96.0];

/// An object to be found.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Where, in pixels.
    pub bbox: BBox,
    /// Which class.
    pub class: usize,
    /// A box around many, which any number of detections may lie in.
    pub crowd: bool,
    /// Covered pixels, by which its size is judged; COCO's are those of the outline.
    pub area: f64,
}

impl Object {
    /// A single object of class 0 that fills its box.
    pub fn foreground(bbox: BBox) -> Self {
        Self { bbox, class: 0, crowd: false, area: area(&bbox) }
    }
}

/// COCO's figures, `0..=1`; `None` where there is no object of the kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectionMetrics {
    /// Average precision, mean over overlaps 0.5 to 0.95.
    pub mean_average_precision: Option<f64>,
    /// At overlap 0.5.
    pub ap50: Option<f64>,
    /// At overlap 0.75.
    pub ap75: Option<f64>,
    /// For objects under 32² pixels, up to 96², and beyond.
    pub by_size: [Option<f64>; 3],
    /// Average recall with 1, 10 and 100 detections a picture.
    pub recall: [Option<f64>; 3],
    /// Average recall with 100 detections, of objects under 32² pixels, up to 96², and beyond.
    pub recall_by_size: [Option<f64>; 3],
}

/// Which objects count: sizes from the first to the second.
type Sizes = (f64, f64);

const ALL: Sizes = (0.0, 1e10);

/// Figures of all pictures.
///
/// `detections` and `objects` hold one list a picture, in the same order.
///
/// ```
/// use models::detector::Detection;
/// use models::image::geometry::BBox;
/// use native_trainer::metric::detection::{Object, detection_metrics};
///
/// let object = Object::foreground(BBox::new(10.0, 10.0, 50.0, 50.0));
/// let found = Detection { bbox: BBox::new(10.0, 10.0, 50.0, 45.0), score: 0.9, class: 0 };
/// let metrics = detection_metrics(&[vec![found]], &[vec![object]]);
/// // They overlap by 0.875: right at 8 of the 10 overlaps.
/// assert_eq!(metrics.ap75, Some(1.0));
/// assert!(metrics.mean_average_precision.is_some_and(|mean| (mean - 0.8).abs() < 1e-9));
/// ```
pub fn detection_metrics(
    detections: &[Vec<Detection>],
    objects: &[Vec<Object>],
) -> DetectionMetrics {
    let classes = objects
        .iter()
        .flatten()
        .map(|object| object.class)
        .chain(detections.iter().flatten().map(|detection| detection.class))
        .max()
        .map_or(0, |class| class + 1);
    let pictures: Vec<(&[Detection], &[Object])> =
        detections.iter().map(Vec::as_slice).zip(objects.iter().map(Vec::as_slice)).collect();
    let curves = |sizes: Sizes, limit: usize| -> Vec<Curve> {
        (0..classes)
            .flat_map(|class| {
                thresholds().map(|threshold| curve(&pictures, class, threshold, sizes, limit))
            })
            .flatten()
            .collect()
    };
    let mean = |values: Vec<f64>| {
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let ranges = [(0.0, SIZES[0]), (SIZES[0], SIZES[1]), (SIZES[1], ALL.1)];
    let all = curves(ALL, MAX_DETECTIONS);
    let sized = ranges.map(|sizes| curves(sizes, MAX_DETECTIONS));
    let precision = |curves: &[Curve]| mean(curves.iter().map(|c| c.precision).collect());
    let recall = |curves: &[Curve]| mean(curves.iter().map(|c| c.recall).collect());
    let at = |threshold: f64| {
        let curves = all.iter().filter(|c| (c.threshold - threshold).abs() < 1e-9);
        mean(curves.map(|c| c.precision).collect())
    };
    DetectionMetrics {
        mean_average_precision: precision(&all),
        ap50: at(0.5),
        ap75: at(0.75),
        by_size: sized.each_ref().map(|curves| precision(curves)),
        recall: [recall(&curves(ALL, 1)), recall(&curves(ALL, 10)), recall(&all)],
        recall_by_size: sized.each_ref().map(|curves| recall(curves)),
    }
}

/// Average precision of class 0 at one overlap; `None` if there is no object.
///
/// A picture has its detections and its objects.
pub fn average_precision(pictures: &[(&[Detection], &[Object])], threshold: f64) -> Option<f64> {
    Some(curve(pictures, 0, threshold, ALL, MAX_DETECTIONS)?.precision)
}

/// What is left of one precision-recall curve.
struct Curve {
    threshold: f64,
    /// Mean of the best precision at 101 recalls.
    precision: f64,
    /// The last recall.
    recall: f64,
}

/// One class at one overlap; `None` where it has no object that counts.
fn curve(
    pictures: &[(&[Detection], &[Object])],
    class: usize,
    threshold: f64,
    sizes: Sizes,
    limit: usize,
) -> Option<Curve> {
    let mut wanted = 0;
    // Score and whether it is right; what is ignored is left out.
    let mut found: Vec<(f32, bool)> = Vec::new();
    for (detections, objects) in pictures {
        let mut objects: Vec<(&Object, bool)> = objects
            .iter()
            .filter(|object| object.class == class)
            .map(|object| (object, object.crowd || outside(object.area, sizes)))
            .collect();
        objects.sort_by_key(|(_, ignored)| *ignored);
        wanted += objects.iter().filter(|(_, ignored)| !ignored).count();
        let mut order: Vec<&Detection> =
            detections.iter().filter(|detection| detection.class == class).collect();
        order.sort_by(|a, b| b.score.total_cmp(&a.score));
        order.truncate(limit);
        let mut taken = vec![false; objects.len()];
        for detection in order {
            let matched = best_match(detection, &objects, &taken, threshold);
            if let Some(index) = matched {
                taken[index] = true;
            }
            let ignored = match matched {
                Some(index) => objects[index].1,
                None => outside(area(&detection.bbox), sizes),
            };
            if !ignored {
                found.push((detection.score, matched.is_some()));
            }
        }
    }
    if wanted == 0 {
        return None;
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut hits = 0;
    let mut points: Vec<(f64, f64)> = found
        .iter()
        .enumerate()
        .map(|(index, (_, hit))| {
            hits += usize::from(*hit);
            (hits as f64 / wanted as f64, hits as f64 / (index + 1) as f64)
        })
        .collect();
    // Precision at a recall is the best one at this recall or beyond.
    for index in (1..points.len()).rev() {
        points[index - 1].1 = points[index - 1].1.max(points[index].1);
    }
    let at = |recall: f64| {
        let first = points.partition_point(|(r, _)| *r < recall);
        points.get(first).map_or(0.0, |(_, precision)| *precision)
    };
    Some(Curve {
        threshold,
        precision: (0..=100).map(|i| at(f64::from(i) / 100.0)).sum::<f64>() / 101.0,
        recall: points.last().map_or(0.0, |(recall, _)| *recall),
    })
}

fn outside(area: f64, (least, most): Sizes) -> bool {
    area < least || area > most
}

/// The object that a detection finds: the best overlap among those that count, else among those
/// that are ignored.
fn best_match(
    detection: &Detection,
    objects: &[(&Object, bool)],
    taken: &[bool],
    threshold: f64,
) -> Option<usize> {
    let mut best = threshold.min(1.0 - 1e-10);
    let mut matched: Option<usize> = None;
    for (index, (object, ignored)) in objects.iter().enumerate() {
        if taken[index] && !object.crowd {
            continue;
        }
        if *ignored && matched.is_some_and(|index| !objects[index].1) {
            break;
        }
        let overlap = overlap(&detection.bbox, object);
        // Of equal overlaps the later object is taken.
        if overlap >= best {
            best = overlap;
            matched = Some(index);
        }
    }
    matched
}

fn area(bbox: &BBox) -> f64 {
    (f64::from(bbox.x2) - f64::from(bbox.x1)) * (f64::from(bbox.y2) - f64::from(bbox.y1))
}

/// Intersection over union; of a crowd, over the detection alone.
pub(super) fn overlap(bbox: &BBox, object: &Object) -> f64 {
    let other = &object.bbox;
    let side = |a1: f32, a2: f32, b1: f32, b2: f32| {
        (f64::from(a2.min(b2)) - f64::from(a1.max(b1))).max(0.0)
    };
    let both =
        side(bbox.x1, bbox.x2, other.x1, other.x2) * side(bbox.y1, bbox.y2, other.y1, other.y2);
    let whole = if object.crowd { area(bbox) } else { area(bbox) + area(other) - both };
    if whole > 0.0 { both / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detection(x: f32, score: f32) -> Detection {
        Detection { bbox: BBox::new(x, 0.0, x + 10.0, 10.0), score, class: 0 }
    }

    fn object(x: f32) -> Object {
        Object::foreground(BBox::new(x, 0.0, x + 10.0, 10.0))
    }

    #[test]
    fn perfect_boxes_give_one_and_duplicates_count_as_errors() {
        let objects = vec![vec![object(0.0), object(50.0)]];
        let perfect = vec![vec![detection(0.0, 0.9), detection(50.0, 0.8)]];
        let metrics = detection_metrics(&perfect, &objects);
        assert_eq!(metrics.mean_average_precision, Some(1.0));
        assert_eq!(metrics.recall, [Some(0.5), Some(1.0), Some(1.0)]);
        assert_eq!(metrics.by_size, [Some(1.0), None, None]);
        let doubled = vec![vec![detection(0.0, 0.9), detection(0.0, 0.85), detection(50.0, 0.8)]];
        let precision = detection_metrics(&doubled, &objects).ap50.unwrap();
        assert!((precision - (51.0 + 50.0 * 2.0 / 3.0) / 101.0).abs() < 1e-9, "{precision}");
        assert_eq!(detection_metrics(&[vec![]], &objects).ap50, Some(0.0));
        assert_eq!(detection_metrics(&[], &[]).ap50, None);
    }

    #[test]
    fn detections_in_a_crowd_cost_nothing() {
        let mut crowd = object(50.0);
        crowd.crowd = true;
        let objects = vec![vec![crowd, object(0.0)]];
        let found = vec![vec![detection(51.0, 0.9), detection(52.0, 0.8), detection(0.0, 0.7)]];
        assert_eq!(detection_metrics(&found, &objects).ap50, Some(1.0));
    }
}
