//! Parts of a picture that somebody points at, answered as if each were the whole picture.

use models::image::RgbImage;
use models::image::geometry::BBox;
use models::recognizer::Recognition;

use super::Engine;
use crate::protocol::{EngineError, ErrorKind, Response};

/// Parts of a picture that are looked at, at most: what somebody points at, newest last.
const POINTED: usize = 8;
/// Parts that one request may offer.
const REGIONS: usize = 8;
/// Least side of a part in pixels.
const LEAST_SIDE: f32 = 4.0;

impl Engine {
    /// Says what is in a part of a picture that is at hand, as if that were the whole picture.
    pub(crate) async fn look_at(
        &mut self,
        picture: u32,
        regions: &[[f32; 4]],
    ) -> Result<Response, EngineError> {
        let gone = || EngineError::new(ErrorKind::Picture, "that picture is not at hand any more");
        let at = self.seen.iter().position(|seen| seen.id == picture).ok_or_else(gone)?;
        let image = &self.seen[at].image;
        let regions: Vec<BBox> =
            regions.iter().take(REGIONS).filter_map(|region| region_of(image, *region)).collect();
        let crops: Vec<RgbImage> = regions.iter().map(|region| image.crop(region)).collect();
        let embeddings = self.recognizer.embed(&crops).await?;
        self.fetch_near(&embeddings).await?;
        let mut best: Option<Recognition> = None;
        for (bbox, embedding) in regions.into_iter().zip(embeddings) {
            let offered = self.recognizer.recognition(bbox, 1.0, embedding)?;
            if best.as_ref().is_none_or(|best| best.similarity() < offered.similarity()) {
                best = Some(offered);
            }
        }
        let best = best.ok_or_else(|| {
            EngineError::new(ErrorKind::Picture, "that part of the picture is too small")
        })?;
        let seen = &mut self.seen[at];
        if seen.pointed == POINTED {
            seen.found.remove(seen.found.len() - POINTED);
        } else {
            seen.pointed += 1;
        }
        seen.found.push(best);
        self.answer_again()?;
        Ok(Response::Looked { result: self.described(&self.seen[at]) })
    }
}

/// A part of a picture, within it; `None` where hardly anything is in it.
fn region_of(image: &RgbImage, [x1, y1, x2, y2]: [f32; 4]) -> Option<BBox> {
    let (width, height) = (image.width() as f32, image.height() as f32);
    let region = BBox::new(x1.max(0.0), y1.max(0.0), x2.min(width), y2.min(height));
    let sides = (region.x2 - region.x1).min(region.y2 - region.y1);
    (sides >= LEAST_SIDE).then_some(region)
}
