//! What a JPEG says in front of its first scan.

use super::{END_OF_IMAGE, ImageError, START_OF_SCAN, cut, next_marker};

/// Width and height as they lie in the file, and the EXIF data.
pub(in crate::image) fn header(bytes: &[u8]) -> Result<(u32, u32, Option<Vec<u8>>), ImageError> {
    let (mut at, mut size, mut exif) = (2, None, None);
    while let Some((marker, behind)) = next_marker(bytes, at) {
        at = behind;
        match marker {
            START_OF_SCAN | END_OF_IMAGE => break,
            // Restarts, and marks without contents.
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let length = bytes.get(at..).and_then(|rest| rest.first_chunk()).copied();
        let length = length.map_or(0, |length| usize::from(u16::from_be_bytes(length)));
        let Some(segment) = bytes.get(at + 2..at + length) else { break };
        at += length;
        match (marker, segment) {
            // Tables and arithmetic conditions are numbered among the frames.
            (0xc4 | 0xc8 | 0xcc, _) => {}
            (0xc0..=0xcf, [_, y1, y2, x1, x2, ..]) if size.is_none() => {
                let side = |bytes| u32::from(u16::from_be_bytes(bytes));
                size = Some((side([*x1, *x2]), side([*y1, *y2])));
            }
            (0xe1, _) if exif.is_none() => exif = segment.strip_prefix(b"Exif\0\0"),
            _ => {}
        }
    }
    let (width, height) = size.ok_or_else(|| cut("it ends in front of its size"))?;
    Ok((width, height, exif.map(<[u8]>::to_vec)))
}
