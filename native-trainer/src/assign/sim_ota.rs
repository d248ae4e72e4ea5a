//! SimOTA: which points answer for which objects.
//!
//! Source: YOLOX, <https://arxiv.org/abs/2107.08430>, §2.2.
//! Agrees with PaddleDetection `ppdet/modeling/assigners/simota_assigner.py` @ 666f597 with
//! `use_vfl`, for one class.

use models::image::geometry::BBox;

/// Points further from an object's center than this many strides are no candidates by distance.
const CENTER_RADIUS: f32 = 2.5;
/// Candidates whose IoUs decide how many points an object gets.
const CANDIDATE_TOP_K: usize = 10;
/// Weight of the overlap against the class score in the cost.
const IOU_WEIGHT: f32 = 6.0;
/// Cost of a point that is not both in the object and near its center.
const OUTSIDE_COST: f32 = 1e8;

/// A point that answers for an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Positive {
    /// Position of the point.
    pub point: usize,
    /// Position of the object.
    pub object: usize,
    /// Overlap of the predicted box with the object's.
    pub iou: f32,
}

/// Assigns points to objects, in the order of the points.
///
/// # Shapes
///
/// - `points`: `(x, y, stride)` each, in input pixels
/// - `scores`: `[points]`, after the sigmoid
/// - `predicted`: `[points]`, in input pixels
pub fn assign(
    points: &[(f32, f32, f32)],
    scores: &[f32],
    predicted: &[BBox],
    objects: &[BBox],
) -> Vec<Positive> {
    let candidates: Vec<usize> = (0..points.len())
        .filter(|&p| objects.iter().any(|o| inside(points[p], o) || central(points[p], o)))
        .collect();
    // `[candidate][object]`
    let pairs: Vec<Vec<Pair>> = candidates
        .iter()
        .map(|&p| objects.iter().map(|o| pair(points[p], scores[p], &predicted[p], o)).collect())
        .collect();
    let mut chosen: Vec<Vec<usize>> = vec![Vec::new(); candidates.len()];
    for object in 0..objects.len() {
        let mut ious: Vec<f32> = pairs.iter().map(|row| row[object].iou).collect();
        ious.sort_by(|a, b| b.total_cmp(a));
        let wanted = ious.iter().take(CANDIDATE_TOP_K).sum::<f32>() as usize;
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        order.sort_by(|&a, &b| pairs[a][object].cost.total_cmp(&pairs[b][object].cost));
        for &candidate in order.iter().take(wanted.max(1)) {
            chosen[candidate].push(object);
        }
    }
    let mut positives = Vec::new();
    for ((&point, row), objects) in candidates.iter().zip(&pairs).zip(chosen) {
        let object = match objects[..] {
            [] => continue,
            [object] => object,
            // A point chosen more than once keeps the object that costs least of all.
            _ => (0..row.len())
                .min_by(|&a, &b| row[a].cost.total_cmp(&row[b].cost))
                .expect("there are objects"),
        };
        positives.push(Positive { point, object, iou: row[object].iou });
    }
    positives
}

/// A point against an object.
struct Pair {
    cost: f32,
    iou: f32,
}

fn pair(point: (f32, f32, f32), score: f32, predicted: &BBox, object: &BBox) -> Pair {
    let (iou, giou) = giou_parts(predicted, object);
    let mut cost = varifocal_cost(score, iou) + IOU_WEIGHT * (1.0 - giou);
    if !(inside(point, object) && central(point, object)) {
        cost += OUTSIDE_COST;
    }
    Pair { cost, iou }
}

fn inside((x, y, _): (f32, f32, f32), object: &BBox) -> bool {
    x > object.x1 && x < object.x2 && y > object.y1 && y < object.y2
}

fn central((x, y, stride): (f32, f32, f32), object: &BBox) -> bool {
    let (cx, cy) = ((object.x1 + object.x2) / 2.0, (object.y1 + object.y2) / 2.0);
    let radius = CENTER_RADIUS * stride;
    (x - cx).abs() < radius && (y - cy).abs() < radius
}

/// Varifocal loss of one score against one IoU, as the reference's cost.
fn varifocal_cost(score: f32, iou: f32) -> f32 {
    let score = score.clamp(1e-7, 1.0 - 1e-7);
    let entropy = -(iou * score.ln() + (1.0 - iou) * (1.0 - score).ln());
    let weight = if iou > 0.0 { iou } else { 0.75 * (score - iou).abs().powi(2) };
    entropy * weight
}

/// `(IoU, GIoU)` of two boxes.
fn giou_parts(a: &BBox, b: &BBox) -> (f32, f32) {
    let area = |b: &BBox| (b.x2 - b.x1) * (b.y2 - b.y1);
    let intersection = a.intersection(b);
    let union = area(a) + area(b) - intersection + 1e-10;
    let hull = (a.x2.max(b.x2) - a.x1.min(b.x1)) * (a.y2.max(b.y2) - a.y1.min(b.y1)) + 1e-10;
    let iou = intersection / union;
    (iou, iou - (hull - union) / hull)
}
