//! Photographs of a list are looked at as a shard keeps them.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{anyhow, bail};
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
/// A network that failed, embeddings that cannot be compared, and a file that the system does not give, which says
/// nothing of the photograph.
pub fn look_at(
    networks: Networks<'_>,
    crop: Option<Crop>,
    photos: &dyn Photos,
    places: &[usize],
    shown: &mut BTreeSet<String>,
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
            Err(error) if is_of_the_system(error) => {
                bail!("{error}; what is embedded is kept: give the same command again")
            }
            Err(error) => {
                photographs.push(Photograph::left_out(label, error));
                continue;
            }
        };
        let Some(seen) = seen.next() else { bail!("a photograph has no embedding") };
        let is_first = !shown.contains(label);
        let thumbnail = if is_first { class_thumbnail(picture)? } else { Vec::new() };
        shown.insert(label.to_owned());
        let path = photos.path(*place).display().to_string();
        let kept = Kept::Embedded(Embedded { id, seen, thumbnail });
        photographs.push(Photograph { label: label.to_owned(), path, kept });
    }
    Ok(photographs)
}

/// Of photographs that a shard keeps, those that are other ones now, or can be used now and could not, by their places.
///
/// # Errors
///
/// One cannot be read for a reason that may be gone at the next try: what is embedded of it is not given up for that.
pub fn changed(
    photos: &dyn Photos,
    kept: &[(usize, Option<ContentId>)],
) -> anyhow::Result<Vec<usize>> {
    let passing = |error: &PictureError| {
        anyhow!("{error}; what is embedded is kept: give the same command again")
    };
    let is_changed = |(place, id): &(usize, Option<ContentId>)| match id {
        Some(id) => match photos.bytes(*place) {
            Ok(bytes) => Ok((ContentId::of(&bytes) != *id).then_some(*place)),
            Err(error) if is_of_the_system(&error) => Err(passing(&error)),
            Err(_gone) => Ok(Some(*place)),
        },
        None => match decoded(photos, *place) {
            Ok(_) => Ok(Some(*place)),
            Err(error) if is_of_the_system(&error) => Err(passing(&error)),
            Err(_as_before) => Ok(None),
        },
    };
    let all: Vec<Option<usize>> = kept.par_iter().map(is_changed).collect::<anyhow::Result<_>>()?;
    Ok(all.into_iter().flatten().collect())
}

/// Whether a file could not be read for a reason that may be gone at the next try: rights, handles, a disk of the network.
fn is_of_the_system(error: &PictureError) -> bool {
    let PictureProblem::File(error) = &error.source else { return false };
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&**error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            let is_of_the_file = matches!(
                error.kind(),
                ErrorKind::NotFound
                    | ErrorKind::IsADirectory
                    | ErrorKind::NotADirectory
                    | ErrorKind::InvalidData
                    | ErrorKind::InvalidInput
                    | ErrorKind::UnexpectedEof
            );
            return !is_of_the_file;
        }
        cause = error.source();
    }
    false
}

fn decoded(photos: &dyn Photos, place: usize) -> Result<(ContentId, RgbImage), PictureError> {
    let (path, bytes) = (photos.path(place), photos.bytes(place)?);
    let picture = decode_picture(path, &bytes)?;
    if picture.is_one_color() {
        return Err(PictureError::new(path, PictureProblem::OneColor));
    }
    Ok((ContentId::of(&bytes), picture))
}
