//! Training operators with fixed outcomes against the recorded pictures.

use models::image::RgbImage;
use native_trainer::data::operator::{Operator, pad, rotate};
use native_trainer::random::seeded;
use tests::{Array, Case, cases};

use crate::picture;

/// OpenCV's integer weights round by up to one gray level.
const LEVELS: u8 = 1;

fn assert_same(what: &str, got: &RgbImage, expected: &RgbImage) {
    assert_eq!((got.width(), got.height()), (expected.width(), expected.height()), "{what}");
    let worst = got.data().iter().zip(expected.data()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(worst <= Some(LEVELS), "{what}: {worst:?} gray levels");
}

fn side(case: &Case, key: &str) -> u32 {
    case.param(key).unwrap_or_else(|| panic!("{}: no {key}", case.name)) as u32
}

#[test]
fn sizes_crops_and_borders_equal_the_reference() {
    for case in cases("preprocess.json", &["Pad_", "ResizeImage_resize_short", "CropImage"]) {
        let image = picture(&case.input("img"));
        let random = &mut seeded(&[1]);
        let got = if case.name.starts_with("Pad") {
            pad(&image, side(&case, "padding"), side(&case, "fill") as u8)
        } else if case.name.starts_with("Crop") {
            Operator::CenterCrop { side: side(&case, "size") }.apply(image, random)
        } else {
            Operator::ResizeShort { side: side(&case, "resize_short") }.apply(image, random)
        };
        assert_same(&case.name, &got, &picture(&case.output("img")));
    }
}

#[test]
fn rotation_equals_the_reference() {
    for case in cases("preprocess.json", &["RandomRotation"]) {
        let image = picture(&case.input("img"));
        for rotated in case.value["outputs"]["rotated"].as_array().expect("rotations") {
            let angle = rotated["angle"].as_f64().expect("an angle");
            let got = rotate(&image, angle as f32);
            let what = format!("{} by {angle}", case.name);
            assert_same(&what, &got, &picture(&Array::new(&rotated["img"])));
        }
    }
}
