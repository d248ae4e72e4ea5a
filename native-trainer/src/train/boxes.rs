//! The COCO files that a recipe names, and what a detector finds in them.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use models::detector::{Decoding, Detection, DetectionThresholds, decode};
use models::image::RgbImage;
use models::image::geometry::BBox;
use models::preprocess::Preprocess;

use crate::data::coco::{self, BoxedPicture, Finding};
use crate::data::list_file::DataError;
use crate::data::store::PictureError;
use crate::embedding::Runs;
use crate::metric::detection::{DetectionMetrics, Object, detection_metrics};
use crate::progress::Progress;

/// One list a picture.
type Lists<T> = Vec<Vec<T>>;

/// Pictures of an evaluation that the network gets at once.
const EVALUATED_AT_ONCE: usize = 32;

/// The pictures of a COCO file that a recipe names by `key`, none where it names none.
pub(super) fn read_boxes(
    key: &str,
    path: Option<&Path>,
    images: Option<&Path>,
    notes: &mut Vec<(PathBuf, Finding)>,
) -> anyhow::Result<Vec<BoxedPicture>> {
    let Some(path) = path else {
        if images.is_some() {
            let text = format!("[detector] has `{key}_images` without `{key}`");
            return Err(DataError::Unsuitable(text).into());
        }
        return Ok(Vec::new());
    };
    let progress = Progress::new("pictures", 0);
    let seen = |total| progress.advance_of(total);
    let read = coco::read(path, images, &seen)?;
    for note in read.notes.into_iter().map(|note| (path.to_owned(), note)) {
        // One file may serve for both.
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    Ok(read.pictures)
}

/// COCO's figures of a detector, every category taken as foreground.
///
/// # Errors
///
/// The first picture that cannot be used, or a device that failed.
pub fn evaluate_boxes<'a>(
    detector: &impl Runs,
    (decoding, preprocess): (&Decoding, &Preprocess),
    pictures: impl Iterator<Item = Result<(Cow<'a, RgbImage>, &'a [BBox]), PictureError>>,
) -> anyhow::Result<DetectionMetrics> {
    let (found, objects) = find_boxes(detector, (decoding, preprocess), pictures)?;
    Ok(detection_metrics(&found, &objects))
}

/// What a detector finds, best first, and the objects that there are, one list a picture each, every category
/// taken as foreground.
///
/// # Errors
///
/// The first picture that cannot be used, or a device that failed.
pub fn find_boxes<'a>(
    detector: &impl Runs,
    (decoding, preprocess): (&Decoding, &Preprocess),
    mut pictures: impl Iterator<Item = Result<(Cow<'a, RgbImage>, &'a [BBox]), PictureError>>,
) -> anyhow::Result<(Lists<Detection>, Lists<Object>)> {
    let thresholds = DetectionThresholds {
        score: 0.025,
        nms_iou: 0.6,
        max_candidates: 1000,
        max_detections: 100,
    };
    let (mut found, mut objects) = (Vec::new(), Vec::new());
    loop {
        let mut images = Vec::new();
        for picture in pictures.by_ref().take(EVALUATED_AT_ONCE) {
            let (image, boxes) = picture?;
            images.push(image.into_owned());
            objects.push(boxes.iter().copied().map(Object::foreground).collect::<Vec<_>>());
        }
        if images.is_empty() {
            return Ok((found, objects));
        }
        let values = detector.answers(&images)?;
        for (image, values) in images.iter().zip(values.chunks_exact(values.len() / images.len())) {
            let source = (image.width(), image.height());
            found.push(decode(values, decoding, preprocess, source, &thresholds));
        }
    }
}
