//! Photographs as backgrounds of scenes.

use std::path::{Path, PathBuf};

use models::image::geometry::BBox;
use models::image::{ResizeFilter, RgbImage, resize};

use super::list_file::{DataError, read_text};
use super::store::{PictureError, read_picture};
use crate::random::{Random, uniform};

/// Smallest share of a background's part that a scene shows: whatever is cut out keeps its structure.
const LEAST_SHARE: f32 = 0.7;

/// Parts of photographs, by name.
#[derive(Debug, Clone, PartialEq)]
pub struct BackdropList(Vec<(PathBuf, [f32; 4])>);

impl BackdropList {
    /// Reads a text file: a photograph a line, behind a tab the part of it that is taken, as left, top, right and bottom
    /// in shares of its sides; all of it where there is none. Paths are relative to the file.
    ///
    /// # Errors
    ///
    /// [`DataError`], naming file and line.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let text = read_text(path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut parts = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let (file, part) = line.split_once('\t').unwrap_or((line, "0 0 1 1"));
            let part = share(part).ok_or_else(|| DataError::Line {
                path: path.to_owned(),
                line: index + 1,
                reason: format!(
                    "`{part}` is no part of a photograph; expected left, top, right, bottom from 0 to 1, as `0 0 0.5 1`"
                ),
            })?;
            parts.push((folder.join(file.trim()), part));
        }
        if parts.is_empty() {
            return Err(DataError::Empty { path: path.to_owned() });
        }
        Ok(Self(parts))
    }

    /// The photographs.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|(path, _)| path.as_path())
    }

    /// Reads the photographs, and keeps their parts.
    ///
    /// # Errors
    ///
    /// [`PictureError`] of the first photograph that cannot be used.
    pub fn open(&self) -> Result<Backdrops, PictureError> {
        let part = |(path, [x1, y1, x2, y2]): &(PathBuf, [f32; 4])| {
            let photograph = read_picture(path)?;
            let (width, height) = (photograph.width() as f32, photograph.height() as f32);
            Ok(photograph.crop(&BBox::new(x1 * width, y1 * height, x2 * width, y2 * height)))
        };
        Ok(Backdrops(self.0.iter().map(part).collect::<Result<_, PictureError>>()?))
    }
}

fn share(text: &str) -> Option<[f32; 4]> {
    let numbers: Vec<f32> =
        text.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let [x1, y1, x2, y2] = numbers[..] else { return None };
    let ordered = |low: f32, high: f32| 0.0 <= low && low < high && high <= 1.0;
    (ordered(x1, x2) && ordered(y1, y2)).then_some([x1, y1, x2, y2])
}

/// Parts of photographs, decoded.
#[derive(Debug, Clone)]
pub struct Backdrops(Vec<RgbImage>);

impl Backdrops {
    /// A background of this size: some of one of the parts.
    pub fn draw(&self, width: u32, height: u32, random: &mut Random) -> RgbImage {
        let index = (uniform(random, 0.0, self.0.len() as f32) as usize).min(self.0.len() - 1);
        let part = &self.0[index];
        let (whole_width, whole_height) = (part.width() as f32, part.height() as f32);
        let scale = (whole_width / width as f32).min(whole_height / height as f32)
            * uniform(random, LEAST_SHARE, 1.0);
        let (wide, high) = (width as f32 * scale, height as f32 * scale);
        let left = uniform(random, 0.0, whole_width - wide);
        let top = uniform(random, 0.0, whole_height - high);
        let window = part.crop(&BBox::new(left, top, left + wide, top + high));
        resize(&window, width, height, ResizeFilter::Antialiased)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::seeded;

    #[test]
    fn a_part_lies_inside_its_photograph() {
        assert_eq!(share("0 0.25 0.5 1"), Some([0.0, 0.25, 0.5, 1.0]));
        for wrong in [
            "",
            "0 0 1",
            "0 0 1 1 1",
            "0.5 0 0.5 1",
            "0 0 1.5 1",
            "-0.1 0 1 1",
            "a 0 1 1",
            "NaN 0 1 1",
        ] {
            assert_eq!(share(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_background_is_a_window_of_one_part() {
        let left = |x: usize| u8::try_from(x % 50 * 4).unwrap();
        let data = (0..100 * 40).flat_map(|at| [left(at % 100), 0, 0]).collect();
        let backdrops = Backdrops(vec![RgbImage::from_rgb(100, 40, data).unwrap()]);
        let drawn = backdrops.draw(32, 32, &mut seeded(&[1]));
        assert_eq!((drawn.width(), drawn.height()), (32, 32));
        let row: Vec<u8> = drawn.data()[..96].iter().step_by(3).copied().collect();
        assert!(row.windows(2).filter(|pair| pair[0] <= pair[1]).count() >= 28, "{row:?}");
        assert_eq!(drawn.data(), backdrops.draw(32, 32, &mut seeded(&[1])).data());
    }
}
