//! PNG's chunks and WebP's: what a decoder is not asked about, and lengths that it would believe.

use super::{ImageError, check_size};

/// Checks the size that a PNG begins with: the decoder sets aside a line of it at once.
pub(super) fn check_png(bytes: &[u8]) -> Result<(), ImageError> {
    let side = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk()).copied();
    match (side(16), side(20)) {
        (Some(width), Some(height)) => {
            check_size(u32::from_be_bytes(width), u32::from_be_bytes(height))
        }
        _ => Err(ImageError::Incomplete { reason: "it ends in front of its size".to_owned() }),
    }
}

/// EXIF data of a PNG, in any place that its standard allows.
pub(super) fn png_exif(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = 8;
    loop {
        let length = u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?) as usize;
        let named = bytes.get(at + 4..)?.get(..length.checked_add(4)?)?;
        let (name, contents) = named.split_first_chunk()?;
        let end = at + 8 + length;
        let checksum = u32::from_be_bytes(*bytes.get(end..)?.first_chunk()?);
        match name {
            b"eXIf" if crc32fast::hash(named) == checksum => return Some(contents),
            b"IEND" => return None,
            _ => at = end + 4,
        }
    }
}

/// Checks that all of a WebP is there, and that its pictures are no larger than a picture may be: the
/// decoder sets memory aside for as much as a chunk says of itself.
pub(super) fn check_webp(bytes: &[u8]) -> Result<(), ImageError> {
    let length = bytes.get(4..).and_then(|rest| rest.first_chunk()).copied();
    let length = length.map_or(0, u32::from_le_bytes) as usize;
    // Some programs count one byte more, which would fill the last chunk up.
    if length > bytes.len() - bytes.len().min(8) + 1 {
        return Err(ImageError::Incomplete {
            reason: format!("{} of {} bytes are there", bytes.len(), length.saturating_add(8)),
        });
    }
    // What lies behind the end belongs to nobody.
    let end = bytes.len().min(length.saturating_add(8));
    check_chunks(bytes.get(12..end).unwrap_or_default())
}

fn check_chunks(mut bytes: &[u8]) -> Result<(), ImageError> {
    while let Some((head, rest)) = bytes.split_first_chunk::<8>() {
        let [name @ .., a, b, c, d] = *head;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let Some(contents) = rest.get(..length) else {
            return Err(ImageError::Incomplete {
                reason: format!("its part {} is cut off", String::from_utf8_lossy(&name)),
            });
        };
        match (&name, contents) {
            (b"VP8 ", [_, _, _, 0x9d, 0x01, 0x2a, x, x2, y, y2, ..]) => {
                let side = |a: u8, b: u8| u32::from(u16::from_le_bytes([a, b]) & 0x3fff);
                check_size(side(*x, *x2), side(*y, *y2))?;
            }
            (b"VP8L", [_, a, b, c, d, ..]) => {
                let sides = u32::from_le_bytes([*a, *b, *c, *d]);
                check_size((sides & 0x3fff) + 1, (sides >> 14 & 0x3fff) + 1)?;
            }
            // A frame of an animation: position, size and time, then chunks.
            (b"ANMF", [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, chunks @ ..]) => {
                check_chunks(chunks)?;
            }
            _ => {}
        }
        bytes = rest.get(length + length % 2..).unwrap_or_default();
    }
    Ok(())
}
