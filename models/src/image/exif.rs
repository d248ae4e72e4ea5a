//! How a picture is to be turned, as a camera notes it.

use ::image::metadata::Orientation;

/// Number of the entry that says it.
const ORIENTATION: u16 = 0x0112;

/// The turn that EXIF data ask for: those of JPEG and WebP, or PNG's `eXIf`. They are a TIFF file without a
/// picture, in front of which some programs put JPEG's mark.
pub(super) fn orientation(exif: &[u8]) -> Option<Orientation> {
    let exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let big = match exif.first_chunk()? {
        b"MM\0*" => true,
        b"II*\0" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = *exif.get(at..)?.first_chunk()?;
        Some(if big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    let long = |at: usize| {
        let bytes = *exif.get(at..)?.first_chunk()?;
        Some(if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    let start = long(4)? as usize;
    for entry in 0..usize::from(short(start)?) {
        let at = start.checked_add(2 + 12 * entry)?;
        if short(at)? == ORIENTATION {
            // One number of 16 bits.
            let is_number = short(at + 2)? == 3 && long(at + 4)? == 1;
            return is_number
                .then(|| short(at + 8))
                .flatten()
                .and_then(|value| Orientation::from_exif(u8::try_from(value).unwrap_or_default()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EXIF data with one entry.
    pub(in crate::image) fn exif(
        big: bool,
        tag: u16,
        kind: u16,
        count: u32,
        value: u16,
    ) -> Vec<u8> {
        let short = |v: u16| if big { v.to_be_bytes() } else { v.to_le_bytes() };
        let long = |v: u32| if big { v.to_be_bytes() } else { v.to_le_bytes() };
        [
            if big { b"MM\0*".to_vec() } else { b"II*\0".to_vec() },
            long(8).to_vec(),
            short(1).to_vec(),
            short(tag).to_vec(),
            short(kind).to_vec(),
            long(count).to_vec(),
            short(value).to_vec(),
            vec![0; 6],
        ]
        .concat()
    }

    #[test]
    fn the_turn_is_read_in_both_orders_of_bytes() {
        for big in [false, true] {
            let turned = exif(big, ORIENTATION, 3, 1, 6);
            assert_eq!(orientation(&turned), Some(Orientation::Rotate90));
            let marked = [b"Exif\0\0".to_vec(), turned.clone()].concat();
            assert_eq!(orientation(&marked), Some(Orientation::Rotate90));
            for length in 0..turned.len() - 8 {
                assert_eq!(orientation(&turned[..length]), None, "{length} bytes");
            }
        }
    }

    #[test]
    fn what_is_no_turn_is_none() {
        for data in [
            exif(true, 0x0110, 3, 1, 6),
            exif(true, ORIENTATION, 4, 1, 6),
            exif(true, ORIENTATION, 3, 2, 6),
            exif(true, ORIENTATION, 3, 1, 0),
            exif(true, ORIENTATION, 3, 1, 9),
            exif(true, ORIENTATION, 3, 1, 0x0106),
            b"II*\0\xff\xff\xff\xff".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(orientation(&data), None, "{data:?}");
        }
    }
}
