//! Photographs of a list are looked at as a shard keeps them.

use std::collections::HashSet;
use std::path::Path;

use models::gallery::{ContentId, Crop};
use models::image::RgbImage;
use models::recognizer::class_thumbnail;
use rayon::prelude::*;

use super::{Embedded, Kept, Photograph};
use crate::crops::Cropper;
use crate::photos::{Networks, Photos};
use crate::picture::{PictureError, PictureProblem, decode_picture};

/// Looks at photographs of a list as a shard keeps them. `shown` are the classes that have a thumbnail, and takes up
/// those that get one.
///
/// # Errors
///
/// A network that failed, embeddings that cannot be compared.
pub fn look_at(
    networks: Networks<'_>,
    crop: Option<Crop>,
    photos: &dyn Photos,
    places: &[usize],
    shown: &mut HashSet<String>,
) -> anyhow::Result<Vec<Photograph>> {
    let read: Vec<Result<(ContentId, RgbImage), PictureError>> =
        places.par_iter().map(|place| decoded(photos, *place)).collect();
    let fresh: Vec<(ContentId, &RgbImage, &Path)> = (places.iter().zip(&read))
        .filter_map(|(place, read)| {
            let (id, picture) = read.as_ref().ok()?;
            Some((*id, picture, photos.path(*place)))
        })
        .collect();
    let mut seen = Cropper::look_at_each(networks, crop, &fresh)?.into_iter();
    let mut photographs = Vec::with_capacity(places.len());
    for (place, read) in places.iter().zip(&read) {
        let label = photos.label(*place);
        let (id, picture) = match read {
            Ok((id, picture)) => (*id, picture),
            Err(error) => {
                photographs.push(Photograph::left_out(label, error));
                continue;
            }
        };
        let Some(seen) = seen.next() else { anyhow::bail!("a photograph has no embedding") };
        let is_first = !shown.contains(label);
        let thumbnail = if is_first { class_thumbnail(picture)? } else { Vec::new() };
        shown.insert(label.to_owned());
        let path = photos.path(*place).display().to_string();
        let kept = Kept::Embedded(Embedded { id, seen, thumbnail });
        photographs.push(Photograph { label: label.to_owned(), path, kept });
    }
    Ok(photographs)
}

fn decoded(photos: &dyn Photos, place: usize) -> Result<(ContentId, RgbImage), PictureError> {
    let (path, bytes) = (photos.path(place), photos.bytes(place)?);
    let picture = decode_picture(path, &bytes)?;
    if picture.is_one_color() {
        return Err(PictureError::new(path, PictureProblem::OneColor));
    }
    Ok((ContentId::of(&bytes), picture))
}
