//! JPEG of all kinds that are met: baseline and progressive, with or without restarts, in one scan or several.
//!
//! A reader of its own, since a picture has to be whole and the same everywhere: kept decoders fill what is
//! missing with gray and say nothing, or give other samples on other processors. Here every scan has to hold
//! the blocks that the size asks for, no fewer and not many more, and samples are those of libjpeg, with which
//! browsers, OpenCV and Pillow decode.

mod bits;
mod color;
mod header;
mod lanes;
mod scan;
mod tables;
mod transform;

use ::image::{DynamicImage, GrayImage, RgbImage};

use super::{Decoded, ImageError, check_size};
use bits::{Bits, Table};
use color::Channels;
pub(super) use header::header;
use scan::{Frame, REMAINS, Scan, Stop};
use transform::ZIGZAG;

/// Most scans: several times what encoders write.
const SCANS: usize = 64;
/// Most bytes of a color profile.
const PROFILE: usize = 4 << 20;

const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;

/// Decodes a JPEG that is whole.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, ImageError> {
    let mut reader = Reader::default();
    reader.read(bytes)?;
    let channels = reader.channels();
    let profile = reader.profile();
    let exif = reader.exif.map(<[u8]>::to_vec);
    let Some(mut frame) = reader.frame else { return Err(cut("it ends in front of its size")) };
    for component in &mut frame.components {
        component.finish();
    }
    let (width, height) = (frame.width as u32, frame.height as u32);
    let data = color::pixels(&frame, channels);
    let wrong = ImageError::WrongLength { width, height, length: data.len() };
    let picture = if channels == Channels::Gray {
        GrayImage::from_raw(width, height, data).map(DynamicImage::ImageLuma8)
    } else {
        RgbImage::from_raw(width, height, data).map(DynamicImage::ImageRgb8)
    };
    Ok(Decoded { picture: picture.ok_or(wrong)?, exif, profile })
}

fn damaged(reason: &str) -> ImageError {
    ImageError::Damaged { reason: reason.to_owned() }
}

fn unusual(reason: &'static str) -> ImageError {
    ImageError::Unusual { reason }
}

fn cut(reason: &str) -> ImageError {
    ImageError::Incomplete { reason: reason.to_owned() }
}

/// What the segments in front of a scan have said.
#[derive(Default)]
struct Reader<'a> {
    frame: Option<Frame>,
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    /// Steps of quantization, in the order in which a block lies.
    steps: [Option<[u16; 64]>; 4],
    restart_interval: usize,
    scans: usize,
    is_jfif: bool,
    /// How Adobe's programs say that colors are turned.
    adobe: Option<u8>,
    exif: Option<&'a [u8]>,
    /// Parts of the color profile: number, how many there are, contents.
    parts: Vec<(u8, u8, &'a [u8])>,
}

impl<'a> Reader<'a> {
    /// Looks through a file from its first marker to its last.
    fn read(&mut self, bytes: &'a [u8]) -> Result<(), ImageError> {
        let mut at = 2;
        while let Some((marker, behind)) = next_marker(bytes, at) {
            if self.scans > 0 && behind - at > REMAINS {
                return Err(damaged("data that belong to no scan; a part is overwritten"));
            }
            at = behind;
            match marker {
                END_OF_IMAGE => return self.end(true),
                // Restarts that belong to no scan, and marks without contents.
                0x01 | 0xd0..=0xd8 => continue,
                _ => {}
            }
            let length = bytes.get(at..).and_then(|rest| rest.first_chunk()).copied();
            let length = length.map(|length| usize::from(u16::from_be_bytes(length)));
            let segment = length.and_then(|length| bytes.get(at + 2..at + length));
            let Some(segment) = segment else {
                return Err(cut("it ends in front of the picture data"));
            };
            at += segment.len() + 2;
            match marker {
                0xc0..=0xc2 => self.frame(segment, marker == 0xc2, bytes.len())?,
                0xc4 => self.tables(segment)?,
                0xc3 | 0xc5..=0xc7 => return Err(unusual("lossless or in levels of size")),
                0xc8..=0xcf => return Err(unusual("arithmetic coding")),
                0xdb => self.quantization(segment)?,
                0xdd => {
                    let interval = segment.first_chunk().map_or(0, |b| u16::from_be_bytes(*b));
                    self.restart_interval = usize::from(interval);
                }
                0xe0 if segment.starts_with(b"JFIF\0") => self.is_jfif = true,
                0xe1 if self.exif.is_none() => self.exif = segment.strip_prefix(b"Exif\0\0"),
                0xe2 => {
                    if let Some([number, count, part @ ..]) = segment.strip_prefix(b"ICC_PROFILE\0")
                    {
                        self.parts.push((*number, *count, part));
                    }
                }
                0xee if segment.starts_with(b"Adobe") => self.adobe = segment.get(11).copied(),
                START_OF_SCAN => at = self.scan(segment, bytes, at)?,
                _ => {}
            }
        }
        self.end(false)
    }

    /// Checks that all has come that the picture needs. `is_marked`: the file says that it ends here.
    fn end(&self, is_marked: bool) -> Result<(), ImageError> {
        match &self.frame {
            None => Err(cut("it ends in front of the picture data")),
            Some(frame) if !frame.is_complete(is_marked) => {
                Err(cut("it ends in front of the last scan"))
            }
            Some(_) => Ok(()),
        }
    }

    /// What the channels are, as libjpeg tells.
    fn channels(&self) -> Channels {
        let ids: Vec<u8> =
            self.frame.iter().flat_map(|frame| &frame.components).map(|c| c.id).collect();
        match (ids.len(), self.adobe) {
            (0 | 1, _) => Channels::Gray,
            (4, Some(0) | None) => Channels::Cmyk,
            (4, _) => Channels::Ycck,
            (_, Some(0)) if !self.is_jfif => Channels::Rgb,
            (_, None) if !self.is_jfif && ids == *b"RGB" => Channels::Rgb,
            _ => Channels::Ycc,
        }
    }

    /// The color profile, of all its parts.
    fn profile(&mut self) -> Option<Vec<u8>> {
        self.parts.sort_by_key(|(number, ..)| *number);
        let count = self.parts.len();
        let is_whole = self.parts.iter().enumerate().all(|(i, (number, all, _))| {
            usize::from(*number) == i + 1 && usize::from(*all) == count
        });
        let length: usize = self.parts.iter().map(|(.., part)| part.len()).sum();
        (count > 0 && is_whole && length <= PROFILE)
            .then(|| self.parts.iter().flat_map(|(.., part)| *part).copied().collect())
    }

    fn frame(
        &mut self,
        segment: &[u8],
        is_progressive: bool,
        bytes: usize,
    ) -> Result<(), ImageError> {
        if self.frame.is_some() {
            return Err(damaged("two frames"));
        }
        let [bits, y1, y2, x1, x2, count, channels @ ..] = segment else {
            return Err(damaged("a frame without a size"));
        };
        if *bits != 8 {
            return Err(unusual("more than 8 bits a channel"));
        }
        let height = u16::from_be_bytes([*y1, *y2]);
        let width = u16::from_be_bytes([*x1, *x2]);
        if width == 0 || height == 0 {
            return Err(unusual("no height in front of the picture data"));
        }
        check_size(u32::from(width), u32::from(height))?;
        if channels.len() != 3 * usize::from(*count) {
            return Err(damaged("a frame of another length than its channels need"));
        }
        if ![1, 3, 4].contains(count) {
            return Err(unusual("neither 1, 3 nor 4 channels"));
        }
        let channels = channels.as_chunks().0.iter();
        let channels =
            channels.map(|[id, factors, table]| [*id, factors >> 4, factors & 15, *table]);
        let mut channels: Vec<[u8; 4]> = channels.collect();
        if let [channel] = &mut channels[..] {
            // Nothing is there that it could be finer than.
            (channel[1], channel[2]) = (1, 1);
        }
        for side in [1, 2] {
            let most = channels.iter().map(|channel| channel[side]).max().unwrap_or(1);
            if most > 4 || channels.iter().any(|channel| channel[side] == 0) {
                return Err(damaged("a channel of a size that there is not"));
            }
            if channels.iter().any(|channel| most % channel[side] != 0) {
                return Err(unusual("channels whose sizes are no multiples of each other"));
            }
        }
        let size = (usize::from(width), usize::from(height));
        // A block has a bit at least: no file makes the memory for its blocks larger than a thousand times itself.
        if Frame::blocks(size, &channels) > 8 * bytes {
            return Err(cut(&format!("{bytes} bytes are no picture of {width}×{height}")));
        }
        self.frame = Some(Frame::new(size, &channels, is_progressive));
        Ok(())
    }

    fn tables(&mut self, mut segment: &[u8]) -> Result<(), ImageError> {
        while let Some((head, rest)) = segment.split_first_chunk::<17>() {
            let total: usize = head[1..].iter().map(|n| usize::from(*n)).sum();
            let (Some(values), true) = (rest.get(..total), head[0] & 0xef < 4) else {
                return Err(damaged("a table of codes that is too short"));
            };
            let table = Table::new(&head[1..], values);
            let Some(table) = table else { return Err(damaged("a table of codes that overflows")) };
            let tables = if head[0] >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            tables[usize::from(head[0] & 3)] = Some(table);
            segment = &rest[total..];
        }
        Ok(())
    }

    fn quantization(&mut self, mut segment: &[u8]) -> Result<(), ImageError> {
        while let Some((head, rest)) = segment.split_first() {
            let width = if head >> 4 == 0 { 1 } else { 2 };
            let Some(coded) = rest.get(..64 * width) else {
                return Err(damaged("steps of quantization that are too few"));
            };
            let mut steps = [0; 64];
            for (step, place) in coded.chunks_exact(width).zip(ZIGZAG) {
                let step = step.iter().fold(0, |sum, byte| sum << 8 | u16::from(*byte));
                // A part of a file that was overwritten with zeros.
                if step == 0 {
                    return Err(damaged("a step of quantization is 0"));
                }
                steps[usize::from(place)] = step;
            }
            let table = self.steps.get_mut(usize::from(head & 15));
            *table.ok_or_else(|| damaged("a fifth table of quantization"))? = Some(steps);
            segment = &rest[64 * width..];
        }
        Ok(())
    }

    /// Reads a scan; the position behind it.
    fn scan(&mut self, segment: &[u8], bytes: &[u8], start: usize) -> Result<usize, ImageError> {
        self.scans += 1;
        if self.scans > SCANS {
            return Err(unusual("more than 64 scans"));
        }
        let Some(frame) = &mut self.frame else {
            return Err(damaged("a scan without a frame"));
        };
        let Some((count, rest)) = segment.split_first() else {
            return Err(damaged("a scan without channels"));
        };
        let count = usize::from(*count);
        let (Some(selected), Some(&[first, last, approximation])) =
            (rest.get(..2 * count), rest.get(2 * count..2 * count + 3))
        else {
            return Err(damaged("a scan that says too little"));
        };
        let (first, last, approximation) =
            if frame.is_progressive { (first, last, approximation) } else { (0, 63, 0) };
        let is_of_first = frame.is_progressive && first == 0;
        if first > last
            || last > 63
            || approximation & 15 > 13
            || (is_of_first && last > 0)
            || (first > 0 && count > 1)
        {
            return Err(damaged("a scan of coefficients that do not go together"));
        }
        // Cameras that film leave out the tables that everybody knows.
        tables::complete(&mut self.dc, &mut self.ac);
        let mut channels: Vec<(usize, Option<&Table>, Option<&Table>)> = Vec::with_capacity(count);
        for channel in selected.chunks_exact(2) {
            let position = frame.components.iter().position(|c| c.id == channel[0]);
            let Some(position) = position else { return Err(damaged("a scan of no channel")) };
            if channels.iter().any(|(other, ..)| *other == position) {
                return Err(damaged("a channel twice in a scan"));
            }
            let dc = self.dc.get(usize::from(channel[1] >> 4)).and_then(Option::as_ref);
            let ac = self.ac.get(usize::from(channel[1] & 15)).and_then(Option::as_ref);
            channels.push((position, dc, ac));
            let component = &mut frame.components[position];
            let steps = self.steps.get(component.table).copied().flatten();
            component.steps = component.steps.or(steps);
            if component.steps.is_none() {
                return Err(damaged("no steps of quantization"));
            }
        }
        if channels.is_empty() {
            return Err(damaged("a scan without channels"));
        }
        let scan = Scan {
            channels,
            first: usize::from(first),
            last: usize::from(last),
            is_further: approximation >> 4 > 0,
            later: u32::from(approximation & 15),
            restart_interval: self.restart_interval,
        };
        let mut bits = Bits::new(bytes, start);
        match frame.read(&scan, &mut bits) {
            Ok(()) => Ok(bits.position()),
            Err(Stop::Short { row, rows }) => Err(ImageError::Incomplete {
                reason: if frame.is_progressive {
                    "it ends in the middle of a scan".to_owned()
                } else {
                    format!(
                        "its data end at line {} of {}",
                        frame.height * row / rows,
                        frame.height
                    )
                },
            }),
            Err(Stop::Broken(reason)) => Err(damaged(reason)),
        }
    }
}

/// The next marker from a position on, and where its contents begin.
fn next_marker(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == 0xff)?;
        match *bytes.get(at + 1)? {
            0 => at += 2,
            0xff => at += 1,
            marker => return Some((marker, at + 2)),
        }
    }
}
