//! The newer assignments against the recorded ones.

use models::image::geometry::BBox;
use native_trainer::assign::{AlignedAssignment, Atss, TaskAligned};
use tests::{Case, assert_close, cases};

use crate::OPERATOR;

fn boxes(values: &[f32]) -> Vec<BBox> {
    values.chunks_exact(4).map(|b| BBox::new(b[0], b[1], b[2], b[3])).collect()
}

/// The points of an input: strides 8, 16, 32 and 64, row by row.
fn points(case: &Case) -> Vec<(f32, f32, f32)> {
    let size = case.value["inputs"]["image_hw"].as_array().expect("a size");
    let [height, width] = [0, 1].map(|i| size[i].as_u64().expect("pixels"));
    let mut points = Vec::new();
    for stride in [8, 16, 32, 64] {
        let center = |i: u64| (i as f32 + 0.5) * stride as f32;
        for row in 0..height.div_ceil(stride) {
            points.extend(
                (0..width.div_ceil(stride)).map(|c| (center(c), center(row), stride as f32)),
            );
        }
    }
    points
}

/// Runs `assign` on every picture of a case: `(picture, points, predicted, objects)`.
fn check(
    case: &Case,
    assign: impl Fn(usize, &[(f32, f32, f32)], &[BBox], &[BBox]) -> Vec<Option<AlignedAssignment>>,
) {
    let (gt, mask, predicted) = (case.input("gt"), case.input("mask"), case.input("pred_box"));
    let (pictures, objects, count) = (gt.shape[0], gt.shape[1], predicted.shape[1]);
    let labels = case.output("labels").values;
    let (expected_boxes, expected_scores) = (case.output("bboxes").values, case.output("scores"));
    for picture in 0..pictures {
        let all = boxes(&gt.values[picture * objects * 4..(picture + 1) * objects * 4]);
        let real = (0..objects).filter(|o| mask.values[picture * objects + o] > 0.0).count();
        let objects = &all[..real];
        let predicted = boxes(&predicted.values[picture * count * 4..(picture + 1) * count * 4]);
        let assigned = assign(picture, &points(case), &predicted, objects);
        let what = format!("{} picture {picture}", case.name);
        let mut scores = Vec::new();
        for (point, assigned) in assigned.iter().enumerate() {
            let at = picture * count + point;
            // Label 0 is the one class, 1 the background.
            assert_eq!(labels[at] == 0.0, assigned.is_some(), "{what} point {point}");
            scores.push(assigned.map_or(0.0, |a| a.score));
            if let Some(assigned) = assigned {
                let b = objects[assigned.object];
                assert_eq!([b.x1, b.y1, b.x2, b.y2], expected_boxes[at * 4..at * 4 + 4], "{what}");
            }
        }
        let expected = &expected_scores.values[picture * count..(picture + 1) * count];
        assert_close(&what, &scores, expected, OPERATOR);
    }
}

#[test]
fn assignment_by_statistics_equals_the_reference() {
    for case in cases("detection.json", &["ATSS"]) {
        let atss = Atss {
            top_k: case.param("topk").expect("a count") as usize,
            cell_scale: case.param("grid_cell_scale").expect("a scale") as f32,
        };
        check(&case, |_, points, predicted, objects| atss.assign(points, predicted, objects));
    }
}

#[test]
fn assignment_by_alignment_equals_the_reference() {
    for case in cases("detection.json", &["TaskAligned"]) {
        let aligned = TaskAligned {
            top_k: case.param("topk").expect("a count") as usize,
            alpha: case.param("alpha").expect("a power") as f32,
            beta: case.param("beta").expect("a power") as f32,
        };
        let scores = case.input("scores");
        let count = scores.shape[1];
        check(&case, |picture, points, predicted, objects| {
            let row = scores.values[picture * count..(picture + 1) * count].to_vec();
            aligned.assign(points, &vec![row; objects.len()], predicted, objects)
        });
    }
}
