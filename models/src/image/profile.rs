//! Colors of a picture with an ICC profile, taken to sRGB.
//!
//! Profiles of three primaries with a curve each (Display P3, Adobe RGB, those of monitors) and of a
//! single gray curve are read, which browsers convert in the same way. Profiles that are tables of colors
//! (printers, some scanners) are not: their pictures are taken as sRGB.

use ::image::DynamicImage;

/// Most bytes of a profile: those of monitors have some thousand.
const LIMIT: usize = 4 << 20;

/// Most that a channel may differ by in a profile which is sRGB by another name.
const SAME: u8 = 2;

/// XYZ under the light D50, which profiles speak in, to linear sRGB.
const FROM_XYZ: [[f64; 3]; 3] = [
    [3.134_136_0, -1.617_386_0, -0.490_662_1],
    [-0.978_795_5, 1.916_254_2, 0.033_442_7],
    [0.071_955_3, -0.228_976_8, 1.405_386_1],
];

/// The picture in sRGB; as it is where the profile is sRGB already, or cannot be used.
pub(super) fn to_srgb(picture: DynamicImage, profile: &[u8]) -> DynamicImage {
    let is_gray = !picture.color().has_color();
    let Some(transform) = Transform::read(profile, is_gray).filter(|t| !t.is_identity()) else {
        return picture;
    };
    if picture.color().has_alpha() {
        let mut picture = picture.into_rgba8();
        picture.pixels_mut().for_each(|pixel| {
            let [red, green, blue, alpha] = pixel.0;
            let [red, green, blue] = transform.apply([red, green, blue]);
            pixel.0 = [red, green, blue, alpha];
        });
        DynamicImage::ImageRgba8(picture)
    } else {
        let mut picture = picture.into_rgb8();
        picture.pixels_mut().for_each(|pixel| pixel.0 = transform.apply(pixel.0));
        DynamicImage::ImageRgb8(picture)
    }
}

/// From the values of a profile to sRGB.
struct Transform {
    /// By channel and value: light in [`FULL`] parts.
    curves: [[i64; 256]; 3],
    /// Linear light of the profile to that of sRGB, with 16 bits behind the point.
    matrix: [[i64; 3]; 3],
    /// By light in [`FULL`] parts: the nearest value of sRGB.
    values: Vec<u8>,
}

/// Parts of full light: twenty in the smallest step between two values of sRGB.
const FULL: i64 = 0xffff;

impl Transform {
    /// The transform of a profile for gray or colored pictures.
    fn read(profile: &[u8], is_gray: bool) -> Option<Self> {
        if profile.len() > LIMIT || profile.get(36..40)? != b"acsp" {
            return None;
        }
        let mut curves = [[0; 256]; 3];
        let mut matrix = [[0; 3]; 3];
        match profile.get(16..20)? {
            b"GRAY" if is_gray => {
                curves = [curve(tag(profile, *b"kTRC")?)?; 3];
                (0..3).for_each(|channel| matrix[channel][channel] = 1 << 16);
            }
            b"RGB " if !is_gray && profile.get(20..24)? == b"XYZ " => {
                for (channel, letter) in [b'r', b'g', b'b'].into_iter().enumerate() {
                    curves[channel] = curve(tag(profile, [letter, b'T', b'R', b'C'])?)?;
                    let [x, y, z] = xyz(tag(profile, [letter, b'X', b'Y', b'Z'])?)?;
                    for (row, from) in matrix.iter_mut().zip(&FROM_XYZ) {
                        let entry = from[0] * x + from[1] * y + from[2] * z;
                        row[channel] = (entry * 65_536.0).round() as i64;
                    }
                }
            }
            _ => return None,
        }
        // Half way between two values of sRGB begins the second.
        let mut values = vec![255; FULL as usize + 1];
        let mut start = 0;
        for value in 0..255_u8 {
            let end = srgb_light((f64::from(value) + 0.5) / 255.0) * FULL as f64;
            let end = end.ceil() as usize;
            values[start..end].fill(value);
            start = end;
        }
        Some(Self { curves, matrix, values })
    }

    #[inline]
    fn apply(&self, pixel: [u8; 3]) -> [u8; 3] {
        let [r, g, b] = [0, 1, 2].map(|channel| self.curves[channel][usize::from(pixel[channel])]);
        self.matrix.map(|row| {
            let light = (row[0] * r + row[1] * g + row[2] * b + (1 << 15)) >> 16;
            self.values[light.clamp(0, FULL) as usize]
        })
    }

    /// Whether it changes nothing that could be seen.
    fn is_identity(&self) -> bool {
        let levels = || (0..=255).step_by(51);
        levels().all(|r| {
            levels().all(|g| {
                levels().all(|b| {
                    let (before, after) = ([r, g, b], self.apply([r, g, b]));
                    before.iter().zip(after).all(|(x, y)| x.abs_diff(y) <= SAME)
                })
            })
        })
    }
}

/// The contents of a tag, its kind and four spare bytes in front.
fn tag(profile: &[u8], name: [u8; 4]) -> Option<&[u8]> {
    let count = number(profile, 128)? as usize;
    let entries = profile.get(132..)?.chunks_exact(12).take(count);
    let entry = entries.into_iter().find(|entry| entry.starts_with(&name))?;
    let (start, length) = (number(entry, 4)? as usize, number(entry, 8)? as usize);
    profile.get(start..start.checked_add(length)?)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// A number with 16 bits behind the point.
fn fixed(bytes: &[u8], at: usize) -> Option<f64> {
    Some(f64::from(number(bytes, at)? as i32) / 65_536.0)
}

fn xyz(tag: &[u8]) -> Option<[f64; 3]> {
    tag.starts_with(b"XYZ ").then_some(())?;
    Some([fixed(tag, 8)?, fixed(tag, 12)?, fixed(tag, 16)?])
}

/// Light in [`FULL`] parts by value, of a curve that is a power, a table of points or a formula.
fn curve(tag: &[u8]) -> Option<[i64; 256]> {
    let by_value = |light: &dyn Fn(f64) -> f64| {
        let parts = |value| light(value as f64 / 255.0).clamp(0.0, 1.0) * FULL as f64;
        Some(std::array::from_fn(|value| parts(value).round() as i64))
    };
    match tag.first_chunk()? {
        b"curv" => match number(tag, 8)? as usize {
            0 => by_value(&|x| x),
            1 => {
                let exponent = u16::from_be_bytes(*tag.get(12..)?.first_chunk()?);
                by_value(&|x| power(x, f64::from(exponent) / 256.0))
            }
            count => {
                let points = tag.get(12..12 + count.checked_mul(2)?)?;
                let point = |i: usize| {
                    f64::from(u16::from_be_bytes([points[2 * i], points[2 * i + 1]])) / 65_535.0
                };
                by_value(&|x| {
                    let at = x * (count - 1) as f64;
                    let first = (at as usize).min(count - 2);
                    point(first) + (point(first + 1) - point(first)) * (at - first as f64)
                })
            }
        },
        b"para" => {
            let kind = u16::from_be_bytes(*tag.get(8..)?.first_chunk()?);
            let used = *[1, 3, 4, 5, 7].get(usize::from(kind))?;
            let mut p = [0.0; 7];
            for (i, value) in p.iter_mut().take(used).enumerate() {
                *value = fixed(tag, 12 + 4 * i)?;
            }
            let [g, a, b, c, d, e, f] = p;
            let curved = |x: f64| power(a * x + b, g);
            match kind {
                0 => by_value(&|x| power(x, g)),
                1 => by_value(&|x| if a * x + b >= 0.0 { curved(x) } else { 0.0 }),
                2 => by_value(&|x| if a * x + b >= 0.0 { curved(x) + c } else { c }),
                _ => by_value(&|x| if x >= d { curved(x) + e } else { c * x + f }),
            }
        }
        _ => None,
    }
}

/// Light of a value of sRGB, both 0 to 1.
fn srgb_light(value: f64) -> f64 {
    if value <= 0.040_45 { value / 12.92 } else { power((value + 0.055) / 1.055, 2.4) }
}

/// `base` to an exponent, of additions, products and quotients alone: the systems' own functions differ in the
/// last bit, and a picture has to give the same values everywhere. 0 for bases that are not above 0.
fn power(base: f64, exponent: f64) -> f64 {
    if base <= 0.0 || !base.is_normal() {
        return if exponent == 0.0 { 1.0 } else { 0.0 };
    }
    // base = mantissa · 2^scale with a mantissa around 1.
    let bits = base.to_bits();
    let mut scale = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        scale += 1;
    }
    let x = (mantissa - 1.0) / (mantissa + 1.0);
    let mut logarithm = 0.0;
    let mut term = 2.0 * x;
    for odd in (1..=25).step_by(2) {
        logarithm += term / f64::from(odd);
        term *= x * x;
    }
    logarithm += scale as f64 * std::f64::consts::LN_2;
    let y = (logarithm * exponent).clamp(-700.0, 700.0);
    let halvings = (y / std::f64::consts::LN_2).round();
    let rest = y - halvings * std::f64::consts::LN_2;
    let mut sum = 1.0;
    for i in (1..=16).rev() {
        sum = 1.0 + sum * rest / f64::from(i);
    }
    sum * f64::from_bits(((halvings as i64 + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::RgbImage;
    use crate::image::tests::{drawn, encoded, extended, segment, with_chunk};

    /// An ICC profile with these tags.
    fn profile(space: [u8; 4], tags: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
        let (mut table, mut data) = (Vec::new(), Vec::new());
        for (name, contents) in tags {
            table.extend_from_slice(&name[..]);
            table.extend(((132 + 12 * tags.len() + data.len()) as u32).to_be_bytes());
            table.extend((contents.len() as u32).to_be_bytes());
            data.extend_from_slice(contents);
        }
        let mut head = vec![0; 128];
        head[12..16].copy_from_slice(b"mntr");
        head[16..20].copy_from_slice(&space);
        head[20..24].copy_from_slice(b"XYZ ");
        head[36..40].copy_from_slice(b"acsp");
        [head, (tags.len() as u32).to_be_bytes().to_vec(), table, data].concat()
    }

    fn fixed(values: &[f64]) -> Vec<u8> {
        values.iter().flat_map(|v| ((v * 65_536.0).round() as i32).to_be_bytes()).collect()
    }

    fn formula(kind: u8, values: &[f64]) -> Vec<u8> {
        [b"para\0\0\0\0\0".to_vec(), vec![kind, 0, 0], fixed(values)].concat()
    }

    fn exponent(value: f64) -> Vec<u8> {
        let value = ((value * 256.0).round() as u16).to_be_bytes();
        [b"curv\0\0\0\0\0\0\0\x01".to_vec(), value.to_vec()].concat()
    }

    fn of_primaries(primaries: [[f64; 3]; 3], curve: &[u8]) -> Vec<u8> {
        let xyz = primaries.map(|p| [b"XYZ \0\0\0\0".to_vec(), fixed(&p)].concat());
        let [r, g, b] = xyz;
        let curve = || curve.to_vec();
        let tags = [
            (b"rXYZ", r),
            (b"gXYZ", g),
            (b"bXYZ", b),
            (b"rTRC", curve()),
            (b"gTRC", curve()),
            (b"bTRC", curve()),
        ];
        profile(*b"RGB ", &tags)
    }

    const SRGB: [[f64; 3]; 3] =
        [[0.43607, 0.22249, 0.01392], [0.38515, 0.71687, 0.09708], [0.14307, 0.06061, 0.71410]];
    const DISPLAY_P3: [[f64; 3]; 3] =
        [[0.51512, 0.24120, -0.00105], [0.29198, 0.69225, 0.04189], [0.15710, 0.06657, 0.78407]];
    const ADOBE_RGB: [[f64; 3]; 3] =
        [[0.60974, 0.31111, 0.01947], [0.20528, 0.62567, 0.06087], [0.14919, 0.06322, 0.74457]];

    /// The curve of sRGB as a formula.
    fn srgb_curve() -> Vec<u8> {
        formula(3, &[2.4, 1.0 / 1.055, 0.055 / 1.055, 1.0 / 12.92, 0.04045])
    }

    /// `pixels` in files of every format that carries a profile.
    fn files_with(profile: &[u8], pixels: &RgbImage) -> Vec<Vec<u8>> {
        // PNG's is packed: without compression in one block.
        let mut checksum = (1_u32, 0_u32);
        for byte in profile {
            checksum.0 = (checksum.0 + u32::from(*byte)) % 65_521;
            checksum.1 = (checksum.1 + checksum.0) % 65_521;
        }
        let length = profile.len() as u16;
        let packed = [
            &b"p\0\0\x78\x01\x01"[..],
            &length.to_le_bytes(),
            &(!length).to_le_bytes(),
            profile,
            &(checksum.1 << 16 | checksum.0).to_be_bytes(),
        ]
        .concat();
        let webp = encoded(pixels, ::image::ImageFormat::WebP);
        vec![
            with_chunk(&pixels.encode_png().unwrap(), *b"iCCP", &packed),
            extended(&webp, 32, &[(b"ICCP", profile)], &[]),
        ]
    }

    #[test]
    fn colors_of_a_profile_are_taken_to_srgb() {
        let pixels =
            [[0, 0, 0], [255, 255, 255], [200, 100, 50], [30, 180, 90], [255, 0, 0], [7, 9, 4]];
        let picture = RgbImage::from_rgb(6, 1, pixels.concat()).unwrap();
        // By LittleCMS 2.19, relative colorimetric, without black point compensation.
        for (name, profile, expected) in [
            (
                "Display P3",
                of_primaries(DISPLAY_P3, &srgb_curve()),
                [[0, 0, 0], [255, 255, 255], [215, 93, 31], [0, 183, 78], [255, 0, 0], [7, 9, 4]],
            ),
            (
                "Adobe RGB",
                of_primaries(ADOBE_RGB, &exponent(563.0 / 256.0)),
                [[0, 0, 0], [255, 255, 255], [227, 100, 42], [0, 181, 83], [255, 0, 0], [1, 2, 0]],
            ),
        ] {
            for bytes in files_with(&profile, &picture) {
                let found = RgbImage::decode(&bytes).unwrap();
                for (found, expected) in found.data().iter().zip(expected.concat()) {
                    assert!(found.abs_diff(expected) <= 1, "{name}: {found} is not {expected}");
                }
            }
        }
        // In a JPEG in parts, in any order.
        let gray = RgbImage::from_rgb(8, 8, [120, 60, 200].repeat(64)).unwrap();
        let profile = of_primaries(DISPLAY_P3, &srgb_curve());
        let jpeg = gray.encode_jpeg(100).unwrap();
        let part = |number: u8, part: &[u8]| {
            segment(0xe2, &[b"ICC_PROFILE\0", &[number, 2][..], part].concat())
        };
        let parts = [part(2, &profile[200..]), part(1, &profile[..200])].concat();
        let tagged = [&jpeg[..2], &parts, &jpeg[2..]].concat();
        let [before, after] = [&jpeg, &tagged].map(|bytes| RgbImage::decode(bytes).unwrap());
        assert!(
            before.data()[0].abs_diff(120) < 3 && after.data()[0].abs_diff(129) < 4,
            "{after:?}"
        );
        let lost = [&jpeg[..2], &part(1, &profile[..200]), &jpeg[2..]].concat();
        assert_eq!(RgbImage::decode(&lost), Ok(before));
    }

    #[test]
    fn a_profile_that_is_srgb_or_none_changes_nothing() {
        let picture = drawn(16, 16);
        let table = |count: u32| {
            let light = |i: u32| {
                let x = f64::from(i) / f64::from(count - 1);
                let y = if x <= 0.04045 { x / 12.92 } else { ((x + 0.055) / 1.055).powf(2.4) };
                ((y * 65_535.0).round() as u16).to_be_bytes()
            };
            let points: Vec<u8> = (0..count).flat_map(light).collect();
            [b"curv\0\0\0\0", &count.to_be_bytes()[..], &points].concat()
        };
        let whole = of_primaries(SRGB, &srgb_curve());
        let mut profiles =
            vec![whole.clone(), of_primaries(SRGB, &table(1024)), of_primaries(SRGB, &table(26))];
        // Of another space, with other kinds of curves, and cut anywhere.
        profiles.push([&whole[..16], b"CMYK", &whole[20..]].concat());
        profiles.push(of_primaries(DISPLAY_P3, b"mft2\0\0\0\0\0\0\0\0"));
        profiles.push(of_primaries(DISPLAY_P3, &formula(9, &[1.0; 7])));
        profiles.push(of_primaries(DISPLAY_P3, b"curv\0\0\0\0\xff\xff\xff\xff\0\0"));
        let p3 = of_primaries(DISPLAY_P3, &srgb_curve());
        profiles.extend((0..p3.len() - 8).step_by(7).map(|length| p3[..length].to_vec()));
        for profile in profiles {
            let decoded = to_srgb(
                DynamicImage::from(
                    ::image::RgbImage::from_raw(16, 16, picture.data.clone()).unwrap(),
                ),
                &profile,
            );
            assert_eq!(decoded.as_bytes(), picture.data(), "{} bytes", profile.len());
        }
    }

    #[test]
    fn gray_and_transparent_pictures_have_profiles_too() {
        let gray = ::image::GrayImage::from_raw(3, 1, vec![0, 100, 255]).unwrap();
        let curve = profile(*b"GRAY", &[(b"kTRC", exponent(1.8))]);
        let lighter = to_srgb(gray.clone().into(), &curve);
        assert_eq!(lighter.as_bytes(), [[0; 3], [119; 3], [255; 3]].concat());
        let p3 = of_primaries(DISPLAY_P3, &srgb_curve());
        assert_eq!(to_srgb(gray.clone().into(), &p3), gray.into(), "no colors to take");
        let clear = ::image::RgbaImage::from_raw(1, 1, vec![200, 100, 50, 7]).unwrap();
        assert_eq!(to_srgb(clear.into(), &p3).as_bytes(), [215, 93, 31, 7]);
    }
}
