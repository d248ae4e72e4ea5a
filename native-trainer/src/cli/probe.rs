//! Whether a network answers anything: two pictures that nobody would take for each other, before it is used.

use authoring::embedding::{EmbeddingError, embed_pictures};
use models::detector::{Candidates, Detector};
use models::extractor::Extractor;
use models::image::{ImageError, RgbImage};
use models::inference::{Prepared, RunError};
use thiserror::Error;

/// Side of the pictures, in pixels.
const SIDE: u32 = 96;

/// Why a network is of no use.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum ProbeError {
    /// Scores or boxes that are no finite numbers.
    #[error(
        "its answers hold values that are no finite numbers: the weights overflow or are damaged; export it again \
         with --precision f32, or take another one"
    )]
    NotFinite,
    /// One answer whatever it sees.
    #[error(
        "it answers the same whatever the picture: the weights are damaged or have not been learned; take another one"
    )]
    Alike,
    /// The embeddings cannot be compared.
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
    /// The device failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The pictures cannot be made.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// Has a detector look at the two pictures.
///
/// # Errors
///
/// [`ProbeError::NotFinite`], [`ProbeError::Alike`], a device that failed.
pub(crate) fn check_detector(detector: &Prepared<Detector>) -> Result<(), ProbeError> {
    let values = pollster::block_on(detector.run(&pictures()?))?;
    if !values.iter().all(|value| value.is_finite()) {
        return Err(ProbeError::NotFinite);
    }
    let (preprocess, decoding) = (detector.preprocess(), detector.reading());
    let size = (preprocess.width, preprocess.height);
    let (first, second) = values.split_at(values.len() / 2);
    let [first, second] = [first, second].map(|half| Candidates::decode(half, decoding, size, 0.0));
    let wanted = decoding.points(size.0 as usize, size.1 as usize).len();
    for Candidates { boxes, scores, .. } in [&first, &second] {
        let are_finite =
            boxes.iter().all(|b| [b.x1, b.y1, b.x2, b.y2].iter().all(|v| v.is_finite()));
        // A score that is no number is not among them.
        if scores.len() != wanted || !are_finite {
            return Err(ProbeError::NotFinite);
        }
    }
    if first.scores == second.scores { Err(ProbeError::Alike) } else { Ok(()) }
}

/// Has an extractor look at the two pictures.
///
/// # Errors
///
/// [`ProbeError::Embedding`], [`ProbeError::Alike`].
pub(crate) fn check_extractor(extractor: &Prepared<Extractor>) -> Result<(), ProbeError> {
    let embeddings = embed_pictures(extractor, &pictures()?)?;
    match &embeddings[..] {
        [first, second] if first == second => Err(ProbeError::Alike),
        _ => Ok(()),
    }
}

/// A dark disc on a light ground, and stripes of many colors.
fn pictures() -> Result<[RgbImage; 2], ImageError> {
    let places = || (0..SIDE * SIDE).map(|i| (i % SIDE, i / SIDE));
    let from_middle = |value: u32| f64::from(value) - f64::from(SIDE) / 2.0;
    let disc = places().flat_map(|(x, y)| {
        let is_inside = from_middle(x).hypot(from_middle(y)) < f64::from(SIDE) / 4.0;
        if is_inside { [40, 30, 60] } else { [235, 240, 230] }
    });
    let stripes = places().flat_map(|(x, y)| {
        let level = |step: u32, value: u32| (value * step % 256) as u8;
        [level(11, x), level(23, y), level(7, x + y)]
    });
    let picture = |values: Vec<u8>| RgbImage::from_rgb(SIDE, SIDE, values);
    Ok([picture(disc.collect())?, picture(stripes.collect())?])
}
