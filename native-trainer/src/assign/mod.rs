//! Which points answer for which objects.

mod aligned;
mod sim_ota;

pub use aligned::{AlignedAssignment, Atss, TaskAligned};
pub use sim_ota::{Positive, assign};

use models::image::geometry::BBox;

/// Overlap of two boxes, with the reference's bound on the union.
fn iou(a: &BBox, b: &BBox) -> f32 {
    let area = |b: &BBox| (b.x2 - b.x1).max(0.0) * (b.y2 - b.y1).max(0.0);
    let intersection = a.intersection(b);
    intersection / (area(a) + area(b) - intersection + 1e-9)
}

/// Whether a point lies strictly within a box.
fn contains(object: &BBox, x: f32, y: f32) -> bool {
    let margin = (x - object.x1).min(y - object.y1).min(object.x2 - x).min(object.y2 - y);
    margin > 1e-9
}
