//! Files as programs and cameras write them, and as copies and downloads leave them.

use super::*;

/// A picture with something in every corner, in color or of brightness alone.
pub(super) fn drawn(width: u32, height: u32) -> RgbImage {
    let noise = |i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8;
    let pixel = |i: u32| [(i % width * 3) as u8, noise(i) / 2, (i / width * 5) as u8];
    RgbImage::from_rgb(width, height, (0..width * height).flat_map(pixel).collect()).unwrap()
}

pub(super) fn encoded(picture: &RgbImage, format: ::image::ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let buffer = ::image::RgbImage::from_raw(picture.width, picture.height, picture.data.clone());
    let picture = DynamicImage::from(buffer.unwrap());
    let picture = match format {
        ::image::ImageFormat::Gif => picture.into_rgba8().into(),
        _ => picture,
    };
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Files of one drawing by `tests/pictures/jpeg.py`, with checksums of libjpeg-turbo's pixels.
macro_rules! jpeg {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../tests/pictures/jpeg/", $name, ".jpg")).as_slice())
    };
}

const JPEGS: [((&str, &[u8]), u32); 22] = [
    (jpeg!("420"), 0x3f1e_6565),
    (jpeg!("444"), 0xccb4_1d6e),
    (jpeg!("422"), 0xe15c_c270),
    (jpeg!("440"), 0xd884_e6ac),
    (jpeg!("411"), 0x9f60_8abf),
    (jpeg!("410"), 0xae50_1cb9),
    (jpeg!("441"), 0x8720_45f1),
    (jpeg!("422-tall"), 0x1f0d_e2fd),
    (jpeg!("finer"), 0xa135_d6b5),
    (jpeg!("thirds"), 0xb006_15b7),
    (jpeg!("optimized"), 0x3f1e_6565),
    (jpeg!("restarts"), 0x3f1e_6565),
    (jpeg!("rows"), 0x3f1e_6565),
    (jpeg!("progressive"), 0x3f1e_6565),
    (jpeg!("progressive-restarts"), 0x3f1e_6565),
    (jpeg!("progressive-rows"), 0x3f1e_6565),
    (jpeg!("progressive-tall"), 0x1f0d_e2fd),
    (jpeg!("scans"), 0x3f1e_6565),
    (jpeg!("scans-restarts"), 0x3f1e_6565),
    (jpeg!("rgb"), 0x62f6_4eae),
    (jpeg!("gray"), 0xafb8_593d),
    (jpeg!("gray-progressive"), 0xafb8_593d),
];

#[test]
fn every_kind_of_jpeg_has_the_pixels_that_libjpeg_finds() {
    for ((name, bytes), expected) in JPEGS {
        let picture = RgbImage::decode(bytes).unwrap();
        assert_eq!((picture.width(), picture.height()), (43, 37), "{name}");
        assert_eq!(crc32fast::hash(picture.data()), expected, "{name}");
    }
    let (_, arithmetic) = jpeg!("arithmetic");
    assert_eq!(
        RgbImage::decode(arithmetic).unwrap_err().to_string(),
        "a JPEG of a kind that is not read: arithmetic coding; save it again as a usual one"
    );
}

/// Markers with their contents up to the first scan's, and what follows.
fn segments(jpeg: &[u8]) -> (Vec<(u8, &[u8])>, &[u8]) {
    let (mut segments, mut at) = (Vec::new(), 2);
    loop {
        let length = usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        segments.push((jpeg[at + 1], &jpeg[at..at + 2 + length]));
        at += 2 + length;
        if segments.last().unwrap().0 == 0xda {
            return (segments, &jpeg[at..]);
        }
    }
}

/// A JPEG with other segments.
fn rewritten(jpeg: &[u8], change: impl Fn(u8, &[u8]) -> Vec<u8>) -> Vec<u8> {
    let (segments, rest) = segments(jpeg);
    let changed = segments.into_iter().flat_map(|(marker, segment)| change(marker, segment));
    [0xff, 0xd8].into_iter().chain(changed).chain(rest.iter().copied()).collect()
}

pub(super) fn segment(marker: u8, contents: &[u8]) -> Vec<u8> {
    let length = (contents.len() as u16 + 2).to_be_bytes();
    [&[0xff, marker], &length[..], contents].concat()
}

#[test]
fn what_cameras_and_programs_leave_out_or_add_does_no_harm() {
    let (_, jpeg) = jpeg!("420");
    let whole = RgbImage::decode(jpeg).unwrap();
    let without = |left_out: u8| {
        rewritten(
            jpeg,
            |marker, segment| {
                if marker == left_out { Vec::new() } else { segment.to_vec() }
            },
        )
    };
    let end = jpeg.len() - 2;
    for (what, bytes) in [
        ("the tables that everybody knows are left out", without(0xc4)),
        ("no mark of the format", without(0xe0)),
        ("no mark of the end", jpeg[..end].to_vec()),
        ("a second picture behind it", [jpeg, jpeg].concat()),
        ("a restart at the end", [&jpeg[..end], &[0xff, 0xd0, 0xff, 0xd9]].concat()),
        ("filled up", [&jpeg[..end], &[0; 30], &[0xff, 0xd9]].concat()),
        ("markers filled up", rewritten(jpeg, |_, s| [&[0xff, 0xff], s].concat())),
        ("a comment", rewritten(jpeg, |_, s| [segment(0xfe, b"hello"), s.to_vec()].concat())),
    ] {
        assert_eq!(RgbImage::decode(&bytes).as_ref(), Ok(&whole), "{what}");
    }
    // Three channels are red, green and blue by their names or by Adobe's mark.
    let (_, rgb) = jpeg!("rgb");
    let named = rewritten(rgb, |m, s| if m == 0xee { Vec::new() } else { s.to_vec() });
    assert_eq!(RgbImage::decode(&named), RgbImage::decode(rgb));
}

#[test]
fn a_picture_that_was_cut_off_is_never_taken_for_a_whole_one() {
    use ::image::ImageFormat as F;
    let picture = drawn(40, 24);
    let kinds = ["420", "rows", "progressive", "progressive-restarts", "scans", "gray-progressive"];
    let jpegs = JPEGS.into_iter().filter(|((name, _), _)| kinds.contains(name));
    let mut files: Vec<(&str, Vec<u8>)> =
        jpegs.map(|((name, bytes), _)| (name, bytes.to_vec())).collect();
    for (name, format) in [("png", F::Png), ("gif", F::Gif), ("webp", F::WebP), ("bmp", F::Bmp)] {
        files.push((name, encoded(&picture, format)));
    }
    for (name, bytes) in files {
        let whole = RgbImage::decode(&bytes).unwrap();
        for length in 0..bytes.len() {
            if let Ok(picture) = RgbImage::decode(&bytes[..length]) {
                assert!(picture == whole, "{name}: {length} of {} bytes", bytes.len());
            }
        }
    }
}

#[test]
fn a_cut_or_overwritten_jpeg_says_where_and_what_to_do() {
    let picture = drawn(160, 120);
    let bytes = picture.encode_jpeg(90).unwrap();
    let error = RgbImage::decode(&bytes[..bytes.len() / 20 + 400]).unwrap_err();
    assert!(matches!(error, ImageError::Incomplete { .. }), "{error}");
    let error = RgbImage::decode(&bytes[..bytes.len() / 2]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "incomplete picture: its data end at line 56 of 120; copy or download the file again"
    );
    // With the mark of the end behind the cut, or filled up to its length as some downloads are.
    let step = bytes.len() / 40;
    for cut in (600..bytes.len() - 600).step_by(step) {
        for rest in [vec![0xff, 0xd9], vec![0; bytes.len() - cut]] {
            let damaged = [&bytes[..cut], &rest].concat();
            assert!(RgbImage::decode(&damaged).is_err(), "cut at {cut}, {} behind", rest.len());
        }
        // A block of a disk.
        let mut damaged = bytes.clone();
        damaged[cut..cut + 512].fill(0);
        let error = RgbImage::decode(&damaged).unwrap_err();
        assert!(
            matches!(error, ImageError::Damaged { .. } | ImageError::Incomplete { .. }),
            "{error}"
        );
    }
}

/// EXIF data that ask for a turn.
fn exif(orientation: u8) -> Vec<u8> {
    let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    exif
}

/// A PNG with another chunk behind its head.
pub(super) fn with_chunk(png: &[u8], name: [u8; 4], contents: &[u8]) -> Vec<u8> {
    let named = [&name, contents].concat();
    let length = (contents.len() as u32).to_be_bytes();
    let checksum = crc32fast::hash(&named).to_be_bytes();
    [&png[..33], &length, &named, &checksum, &png[33..]].concat()
}

/// An extended WebP around the pixels of a plain one.
pub(super) fn extended(
    webp: &[u8],
    flags: u8,
    front: &[(&[u8; 4], &[u8])],
    back: &[(&[u8; 4], &[u8])],
) -> Vec<u8> {
    let picture = RgbImage::decode(webp).unwrap();
    let side = |side: u32| (side - 1).to_le_bytes();
    let (x, y) = (side(picture.width()), side(picture.height()));
    let head = [flags, 0, 0, 0, x[0], x[1], x[2], y[0], y[1], y[2]];
    let chunk = |(name, contents): &(&[u8; 4], &[u8])| {
        let length = (contents.len() as u32).to_le_bytes();
        let fill = vec![0; contents.len() % 2];
        [&name[..], &length, contents, &fill].concat()
    };
    let parts = [
        chunk(&(b"VP8X", &head)),
        front.iter().flat_map(chunk).collect(),
        webp[12..].to_vec(),
        back.iter().flat_map(chunk).collect(),
    ]
    .concat();
    [b"RIFF", &(parts.len() as u32 + 4).to_le_bytes()[..], b"WEBP", &parts].concat()
}

#[test]
fn every_format_is_turned_by_its_orientation() {
    let picture = drawn(24, 16);
    let buffer = ::image::RgbImage::from_raw(24, 16, picture.data.clone()).unwrap();
    let png = picture.encode_png().unwrap();
    let webp = encoded(&picture, ::image::ImageFormat::WebP);
    for orientation in 1..=8 {
        let mut expected = DynamicImage::from(buffer.clone());
        expected.apply_orientation(::image::metadata::Orientation::from_exif(orientation).unwrap());
        let expected = expected.into_rgb8();
        let exif = exif(orientation);
        for bytes in
            [with_chunk(&png, *b"eXIf", &exif), extended(&webp, 8, &[], &[(b"EXIF", &exif)])]
        {
            let turned = RgbImage::decode(&bytes).unwrap();
            assert_eq!((turned.width(), turned.height()), expected.dimensions());
            assert_eq!(turned.data(), &expected.as_raw()[..], "{orientation}");
        }
    }
    // Behind the pixels, where the standard allows it too; and with a wrong checksum.
    let turned = with_chunk(&png, *b"eXIf", &exif(6));
    let chunk = turned[33..33 + 12 + exif(6).len()].to_vec();
    let end = png.len() - 12;
    let late = [&png[..end], &chunk, &png[end..]].concat();
    assert_eq!(RgbImage::decode(&late), RgbImage::decode(&turned));
    let mut damaged = turned.clone();
    damaged[33 + 8 + 18] = 3;
    assert_eq!(RgbImage::decode(&damaged).as_ref(), Ok(&picture));
}

#[test]
fn what_lies_behind_the_end_of_a_picture_is_not_looked_at() {
    for format in [::image::ImageFormat::WebP, ::image::ImageFormat::Png] {
        let picture = drawn(9, 7);
        let mut bytes = encoded(&picture, format);
        bytes.extend_from_slice(b"junk of a camera's maker");
        assert_eq!(RgbImage::decode(&bytes).unwrap(), picture, "{format:?}");
    }
}

#[test]
fn numbers_of_a_file_are_checked_before_memory_is_set_aside() {
    // A progressive JPEG of some hundred bytes that promises 8,000 × 8,000 pixels.
    let (_, jpeg) = jpeg!("progressive");
    let sized = |width: u16, height: u16| {
        rewritten(jpeg, |marker, segment| {
            let mut segment = segment.to_vec();
            if marker == 0xc2 {
                segment[5..7].copy_from_slice(&height.to_be_bytes());
                segment[7..9].copy_from_slice(&width.to_be_bytes());
            }
            segment
        })
    };
    let error = RgbImage::decode(&sized(8_000, 8_000)).unwrap_err();
    assert!(matches!(&error, ImageError::Incomplete { .. }), "{error}");
    let error = RgbImage::decode(&sized(65_535, 65_535)).unwrap_err();
    assert_eq!(error, ImageError::TooLarge { width: 65_535, height: 65_535 });
    // A scan again and again.
    let (_, gray) = jpeg!("gray-progressive");
    let (parts, rest) = segments(gray);
    let end = rest.windows(2).position(|pair| pair == [0xff, 0xc4]).unwrap();
    let scan = [parts.last().unwrap().1, &rest[..end]].concat();
    let start = gray.len() - rest.len() - parts.last().unwrap().1.len();
    let many = [&gray[..start], &scan.repeat(70)].concat();
    assert!(RgbImage::decode(&many).unwrap_err().to_string().contains("more than 64 scans"));

    // A WebP whose profile is said to have 4 GB, and one whose pixels are more than its canvas.
    let webp = encoded(&drawn(8, 8), ::image::ImageFormat::WebP);
    let mut tagged = extended(&webp, 32, &[(b"ICCP", b"abcd")], &[]);
    tagged[34..38].copy_from_slice(&[0xff; 4]);
    let error = RgbImage::decode(&tagged).unwrap_err();
    assert!(error.to_string().contains("part ICCP is cut off"), "{error}");
    let mut large = extended(&webp, 0, &[], &[]);
    large[30 + 8 + 1..30 + 8 + 5].copy_from_slice(&[0xff, 0xff, 0xff, 0x0f]);
    let error = RgbImage::decode(&large).unwrap_err();
    assert_eq!(error, ImageError::TooLarge { width: 16_384, height: 16_384 });

    // A GIF whose frame is larger than its screen by far.
    let mut gif = encoded(&drawn(8, 8), ::image::ImageFormat::Gif);
    let frame = gif.iter().position(|byte| *byte == 0x2c).unwrap();
    gif[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    assert!(matches!(RgbImage::decode(&gif), Err(ImageError::Damaged { .. })));
}

#[test]
fn a_format_that_is_not_read_is_named_with_what_to_do() {
    for (bytes, expected) in [
        (
            &b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..],
            "this is HEIC, which is not read; convert it to JPEG (`heif-convert photo.heic photo.jpg`; an \
             iPhone takes JPEG with Settings, Camera, Formats, Most Compatible)",
        ),
        (
            b"II*\0\x08\0\0\0",
            "this is TIFF, which is not read; convert it to PNG or JPEG (`magick picture.tif picture.png`)",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "this is a pointer of Git LFS; fetch the picture with `git lfs pull`",
        ),
        (b"", "this is an empty file; copy or download it again"),
        (b"hello", "not a picture of a known format; use JPEG, PNG, WebP, GIF or BMP"),
    ] {
        assert_eq!(RgbImage::decode(bytes).unwrap_err().to_string(), expected);
    }
}

fn checkerboard(width: u32, height: u32) -> RgbImage {
    let data = (0..width * height)
        .flat_map(|i| {
            let on = (i % width + i / width).is_multiple_of(2);
            [if on { 255 } else { 0 }, (i % 251) as u8, 7]
        })
        .collect();
    RgbImage::from_rgb(width, height, data).unwrap()
}

#[test]
fn png_round_trip_is_exact() {
    let picture = checkerboard(13, 9);
    assert_eq!(RgbImage::decode(&picture.encode_png().unwrap()).unwrap(), picture);
}

#[test]
fn rejects_bytes_that_are_no_picture() {
    assert_eq!(RgbImage::decode(b"hello"), Err(ImageError::UnknownFormat));
    assert_eq!(
        RgbImage::decode(b"").unwrap_err().to_string(),
        "this is an empty file; copy or download it again"
    );
}

#[test]
fn rejects_more_pixels_than_the_cap_before_decoding_them() {
    // A PNG header that promises 20,000 × 20,000 pixels.
    let mut bytes = checkerboard(2, 2).encode_png().unwrap();
    bytes[16..20].copy_from_slice(&20_000_u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&20_000_u32.to_be_bytes());
    let crc = crc32fast::hash(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(
        RgbImage::decode(&bytes),
        Err(ImageError::TooLarge { width: 20_000, height: 20_000 })
    );
}

#[test]
fn printing_colors_become_red_green_blue() {
    // Cyan on the left; a dark yellow on the right: (0, 0, 200, 50) of 255.
    let picture = RgbImage::decode(include_bytes!("../../tests/pictures/cmyk.jpg")).unwrap();
    assert_eq!((picture.width(), picture.height()), (16, 8));
    let pixel = |x: usize| &picture.data()[(16 * 4 + x) * 3..][..3];
    // The sides lie in different blocks; JPEG moves flat colors by a few steps only.
    for (got, expected) in [(pixel(2), [0, 255, 255]), (pixel(13), [205, 205, 44])] {
        let near = got.iter().zip(expected).all(|(g, e)| g.abs_diff(e) <= 6);
        assert!(near, "{got:?} is not {expected:?}");
    }
}

#[test]
fn transparent_pixels_become_the_background() {
    let picture = RgbImage::from_rgba(2, 1, &[10, 20, 30, 0, 10, 20, 30, 255]).unwrap();
    assert_eq!(picture.data(), &[255, 255, 255, 10, 20, 30]);
}

#[test]
fn crops_are_clipped_and_never_empty() {
    let picture = checkerboard(10, 8);
    for bbox in [
        BBox::new(-5.0, -5.0, 3.0, 3.0),
        BBox::new(9.9, 7.9, 50.0, 50.0),
        BBox::new(100.0, 100.0, 120.0, 120.0),
        BBox::new(4.0, 4.0, 4.0, 4.0),
        BBox::new(f32::NAN, 0.0, 1.0, f32::NAN),
    ] {
        let crop = picture.crop(&bbox);
        assert!(crop.width() >= 1 && crop.height() >= 1, "{bbox:?}");
    }
    let crop = picture.crop(&BBox::new(2.7, 1.2, 6.9, 5.0));
    assert_eq!((crop.width(), crop.height()), (4, 4));
    assert_eq!(&crop.data()[..3], &picture.data()[(10 + 2) * 3..(10 + 2) * 3 + 3]);
}

#[test]
fn rejects_a_length_that_does_not_fit() {
    assert!(RgbImage::from_rgb(2, 2, vec![0; 11]).is_err());
    assert!(RgbImage::from_rgb(0, 0, Vec::new()).is_err());
    assert!(RgbImage::from_rgba(1, 1, &[0; 3]).is_err());
}
