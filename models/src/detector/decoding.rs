//! What the values of a detector mean: which points they belong to, and what of a point's values is what.

use serde::{Deserialize, Serialize};

use super::{REG_MAX, STRIDES};
use crate::image::geometry::BBox;
use crate::limits::{LimitError, MAX_CLASSES, within};

/// Most maps that boxes are found in: twice as many as `PicoDet` has.
const LEVELS: std::ops::RangeInclusive<usize> = 1..=8;
/// Pixels of the input from a point to the next one.
const POINT_STRIDES: std::ops::RangeInclusive<usize> = 1..=512;
/// Bins of a distribution: generalized focal loss was published with 17.
const BINS: std::ops::RangeInclusive<usize> = 2..=64;
/// Most points of an input: three times those of the largest input here at strides of 8, 16, 32 and 64.
pub(super) const MAX_POINTS: usize = 1 << 18;

/// One of the things that a point says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PointValue {
    /// A value a class.
    Scores,
    /// Whether there is an object at all; every class's score is multiplied by it.
    Objectness,
    /// Where the object is.
    Box,
}

/// How values say where an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxValues {
    /// Distances from the point to the left, upper, right and lower side, in strides: each the mean of a distribution
    /// over so many bins, whose logits are given.
    Distribution(usize),
    /// These four distances as they are, in strides.
    Distances,
    /// Their logarithms.
    Exponents,
    /// From the point to the center, in strides; then the logarithms of width and height, in strides.
    Center,
}

/// How values say how sure a detector is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreValues {
    /// Before a sigmoid.
    #[default]
    Logits,
    /// From 0 to 1.
    Probabilities,
    /// The squares of probabilities.
    Squares,
}

/// What a detector's values mean. The values of a point lie beside each other, points of a map row by row, and maps in
/// the order of `strides`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoding {
    /// Pixels of the input from a point of a map to the next one, for each map.
    pub strides: Vec<usize>,
    /// Classes of objects.
    pub classes: usize,
    /// What a point says, in the order of its values: scores and box, and objectness where there is one.
    pub values: Vec<PointValue>,
    /// How a box is said.
    pub boxes: BoxValues,
    /// How scores, and objectness, are said.
    #[serde(default)]
    pub scores: ScoreValues,
    /// Where the first point lies, in strides from the left and upper border of the input.
    pub offset: f32,
}

impl Decoding {
    /// That of `PicoDet`, as the detectors of recipes have it.
    pub fn pico(classes: usize) -> Self {
        Self {
            strides: STRIDES.to_vec(),
            classes,
            values: vec![PointValue::Scores, PointValue::Box],
            boxes: BoxValues::Distribution(REG_MAX + 1),
            scores: ScoreValues::Logits,
            offset: 0.5,
        }
    }

    /// Whether boxes can be made by it.
    ///
    /// # Errors
    ///
    /// [`LimitError`], naming the value.
    pub fn check(&self) -> Result<(), LimitError> {
        within("strides", self.strides.len(), &LEVELS)?;
        self.strides.iter().try_for_each(|stride| within("strides", *stride, &POINT_STRIDES))?;
        within("classes", self.classes, &(1..=MAX_CLASSES))?;
        within("offset", self.offset, &(0.0..=1.0))?;
        if let BoxValues::Distribution(bins) = self.boxes {
            within("boxes.distribution", bins, &BINS)?;
        }
        let count = |value| self.values.iter().filter(|other| **other == value).count();
        let is_whole = count(PointValue::Scores) == 1
            && count(PointValue::Box) == 1
            && count(PointValue::Objectness) <= 1;
        if is_whole {
            return Ok(());
        }
        let allowed = "scores and box are there once each, objectness once at most";
        let names = self.values.iter().map(|value| match value {
            PointValue::Scores => "scores",
            PointValue::Objectness => "objectness",
            PointValue::Box => "box",
        });
        let names: Vec<&str> = names.collect();
        Err(LimitError::new("values", names.join(", "), allowed))
    }

    /// Values of a point for what it says.
    pub fn width(&self, value: PointValue) -> usize {
        match (value, self.boxes) {
            (PointValue::Scores, _) => self.classes,
            (PointValue::Objectness, _) => 1,
            (PointValue::Box, BoxValues::Distribution(bins)) => 4 * bins,
            (PointValue::Box, _) => 4,
        }
    }

    /// Values of a point.
    pub fn row(&self) -> usize {
        self.values.iter().map(|value| self.width(*value)).sum()
    }

    /// Of a point's values those that say one thing; none where nothing says it.
    pub fn part<'a>(&self, row: &'a [f32], wanted: PointValue) -> &'a [f32] {
        let mut start = 0;
        for value in &self.values {
            let width = self.width(*value);
            if *value == wanted {
                return &row[start..start + width];
            }
            start += width;
        }
        &[]
    }

    /// Columns and rows of each map, of an input of such a size.
    pub fn sides(&self, width: usize, height: usize) -> impl Iterator<Item = (usize, usize)> {
        self.strides.iter().map(move |stride| (width.div_ceil(*stride), height.div_ceil(*stride)))
    }

    /// Place and stride of every point, in input pixels, in the order of the values.
    ///
    /// # Shapes
    ///
    /// - output: one `(x, y, stride)` a point
    pub fn points(&self, width: usize, height: usize) -> Vec<(f32, f32, f32)> {
        let mut points = Vec::new();
        for ((columns, rows), stride) in self.sides(width, height).zip(&self.strides) {
            let stride = *stride as f32;
            let at = |index: usize| (index as f32 + self.offset) * stride;
            let row = |y| (0..columns).map(move |x| (at(x), at(y), stride));
            points.extend((0..rows).flat_map(row));
        }
        points
    }

    /// A probability, from what says it.
    pub fn probability(&self, value: f32) -> f32 {
        match self.scores {
            ScoreValues::Logits => 1.0 / (1.0 + (-value).exp()),
            ScoreValues::Probabilities => value,
            ScoreValues::Squares => value.sqrt(),
        }
    }

    /// The box that the values of a point say, in input pixels.
    pub fn bbox(&self, values: &[f32], (x, y, stride): (f32, f32, f32)) -> BBox {
        let mut four = [0.0; 4];
        for (side, values) in four.iter_mut().zip(values.chunks_exact((values.len() / 4).max(1))) {
            *side = match self.boxes {
                BoxValues::Distribution(_) => expected_bin(values),
                BoxValues::Exponents => values[0].exp(),
                _ => values[0],
            } * stride;
        }
        let [mut left, mut top, mut right, mut bottom] = four;
        if self.boxes == BoxValues::Center {
            // Half of the width, and of the height.
            let [wide, high] = [2, 3].map(|at| 0.5 * stride * values[at].exp());
            [left, top, right, bottom] = [wide - left, high - top, wide + left, high + top];
        }
        BBox::new(x - left, y - top, x + right, y + bottom)
    }
}

/// Mean of the distribution that the softmax of `logits` gives over `0..logits.len()`.
fn expected_bin(logits: &[f32]) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for (bin, logit) in logits.iter().enumerate() {
        let weight = (logit - largest).exp();
        sum += weight;
        weighted += weight * bin as f32;
    }
    weighted / sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(boxes: BoxValues) -> Decoding {
        Decoding {
            strides: vec![8, 16],
            values: vec![PointValue::Box, PointValue::Objectness, PointValue::Scores],
            boxes,
            scores: ScoreValues::Probabilities,
            offset: 0.0,
            ..Decoding::pico(3)
        }
    }

    #[test]
    fn boxes_are_those_that_the_values_say() {
        let point = (24.0, 40.0, 8.0);
        let told = |boxes, values: &[f32]| {
            let b = plain(boxes).bbox(values, point);
            [b.x1, b.y1, b.x2, b.y2]
        };
        let near = |got: [f32; 4], expected: [f32; 4]| {
            assert!(
                got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4),
                "{got:?} {expected:?}"
            );
        };
        near(told(BoxValues::Distances, &[1.0, 2.0, 0.5, 0.0]), [16.0, 24.0, 28.0, 40.0]);
        let exponents = [0.0, 2.0_f32.ln(), 0.5_f32.ln(), 0.25_f32.ln()];
        near(told(BoxValues::Exponents, &exponents), [16.0, 24.0, 28.0, 42.0]);
        // The center at (28, 36), 16 wide and 4 high.
        let center = [0.5, -0.5, 2.0_f32.ln(), 0.5_f32.ln()];
        near(told(BoxValues::Center, &center), [20.0, 34.0, 36.0, 38.0]);
        // All of it on one bin each; half and half on two.
        let mut bins = [-40.0; 12];
        for at in [0, 4, 8, 10, 11] {
            bins[at] = 40.0;
        }
        near(told(BoxValues::Distribution(3), &bins), [24.0, 32.0, 40.0, 52.0]);
    }

    #[test]
    fn what_a_point_says_lies_where_the_description_says() {
        let decoding = plain(BoxValues::Distances);
        let row = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];
        assert_eq!(decoding.row(), row.len());
        assert_eq!(decoding.part(&row, PointValue::Box), &row[..4]);
        assert_eq!(decoding.part(&row, PointValue::Objectness), [0.5]);
        assert_eq!(decoding.part(&row, PointValue::Scores), &row[5..]);
        assert!(Decoding::pico(3).part(&row, PointValue::Objectness).is_empty());
        assert_eq!(decoding.points(17, 9).len(), 3 * 2 + 2);
        assert_eq!(decoding.points(17, 9)[4], (8.0, 8.0, 8.0));
        for (scores, value) in [
            (ScoreValues::Logits, 0.0),
            (ScoreValues::Probabilities, 0.5),
            (ScoreValues::Squares, 0.25),
        ] {
            let told = Decoding { scores, ..decoding.clone() }.probability(value);
            assert!((told - 0.5).abs() < 1e-6, "{scores:?}");
        }
    }

    #[test]
    fn a_description_that_cannot_be_is_refused_by_its_key() {
        type Change = fn(&mut Decoding);
        let good = plain(BoxValues::Center);
        good.check().unwrap();
        let cases: [(Change, &str); 9] = [
            (|d| d.strides.clear(), "strides is 0"),
            (|d| d.strides = vec![8; 9], "strides is 9"),
            (|d| d.strides[1] = 0, "strides is 0"),
            (|d| d.classes = 0, "classes is 0"),
            (|d| d.offset = f32::NAN, "offset is NaN"),
            (|d| d.boxes = BoxValues::Distribution(1), "boxes.distribution is 1"),
            (|d| d.boxes = BoxValues::Distribution(65), "boxes.distribution is 65"),
            (|d| d.values.truncate(2), "scores and box are there once each"),
            (|d| d.values.push(PointValue::Objectness), "objectness once at most"),
        ];
        for (change, told) in cases {
            let mut changed = good.clone();
            change(&mut changed);
            let error = changed.check().expect_err(told).to_string();
            assert!(error.contains(told), "{told}: {error}");
        }
    }
}
