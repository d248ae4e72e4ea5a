//! Whether the outputs of a detector's graph are what a description says of its maps.

use models::detector::{BoxValues, Decoding, PointValue, ScoreValues};

use super::OnnxError;
use super::array::Array;
use super::description::{DescribedBoxes, DetectorDescription};
use super::detector::wrong;
use super::interpret::Run;
use super::layout::Held;
use super::model::Model;
use super::single::sigmoid;
use super::words;

/// Largest difference between what the graph makes of its maps and what its description says, of the largest value.
const EQUAL: f32 = 1e-4;

/// A map of the graph that an output is made of.
pub(super) struct Leaf {
    pub(super) name: String,
    pub(super) held: Held,
    /// Channels, rows and columns.
    pub(super) extent: [usize; 3],
    /// The stride that it belongs to, by its number.
    pub(super) level: usize,
    /// What the interpreter has there: row by row, the channels of a pixel beside each other.
    pub(super) values: Vec<f32>,
}

/// An output of the graph, and its maps by their numbers.
pub(super) struct Output<'a> {
    pub(super) name: &'a str,
    pub(super) leaves: Vec<usize>,
}

/// What is told of a graph, by it and by a description.
pub(super) struct Told<'a> {
    pub(super) model: &'a Model,
    pub(super) described: &'a DetectorDescription,
    pub(super) leaves: &'a [Leaf],
    pub(super) levels: &'a [Vec<usize>],
    pub(super) run: &'a Run,
}

impl Told<'_> {
    /// Whether outputs are what the description says of their maps. Says in `decoding` how maps hold it, and gives for each
    /// stride the factor of boxes.
    pub(super) fn check(
        &self,
        outputs: &[Output<'_>],
        decoding: &mut Decoding,
    ) -> Result<Vec<f32>, OnnxError> {
        let mut scales = vec![1.0_f32; decoding.strides.len()];
        let mut found = (None, None);
        for output in outputs {
            let array = self.run.answers.get(output.name);
            let array =
                array.ok_or_else(|| wrong(format!("{} depends on no image", output.name)))?;
            for value in decoding.values.clone() {
                let Some(columns) = self.columns(output, decoding, value)? else { continue };
                let rows = self.rows(output, &columns);
                let expected = placed(array, (&rows, self.width(output)), &columns);
                let differs = || {
                    let known = DetectorDescription::NAMES.join(", ");
                    let (name, maps) = (output.name, self.names(output));
                    wrong(format!(
                        "{name} does not hold what its description says of its {}, made of {maps}; export the network \
                         without what picks boxes, and see whether one of {known} describes it",
                        words::value(value)
                    ))
                };
                let expected = expected.ok_or_else(|| {
                    wrong(format!(
                        "{} has the shape {:?}, where its maps have {} points of {} values",
                        output.name,
                        array.shape,
                        rows.len(),
                        self.width(output)
                    ))
                })?;
                if value == PointValue::Box {
                    let how = self.boxes(&rows, &expected, decoding).ok_or_else(differs)?;
                    if how.1 {
                        for leaf in &output.leaves {
                            let level = self.leaves[*leaf].level;
                            scales[level] = 1.0 / decoding.strides[level] as f32;
                        }
                    }
                    if found.0.replace(how).is_some_and(|known| known != how) {
                        return Err(differs());
                    }
                } else {
                    let how =
                        scores(&rows, &expected, self.described.scores).ok_or_else(differs)?;
                    if found.1.replace(how).is_some_and(|known| known != how) {
                        return Err(differs());
                    }
                }
            }
        }
        let (Some((boxes, _)), Some(scores)) = found else {
            let names = self.model.outputs.join(", ");
            return Err(wrong(format!(
                "its outputs hold no scores, or no boxes, of maps; the graph has {names}"
            )));
        };
        (decoding.boxes, decoding.scores) = (boxes, scores);
        Ok(scales)
    }

    fn names(&self, output: &Output<'_>) -> String {
        let names = output.leaves.iter().map(|leaf| self.leaves[*leaf].name.as_str());
        names.collect::<Vec<&str>>().join(", ")
    }

    /// Values of a point in the maps of an output.
    fn width(&self, output: &Output<'_>) -> usize {
        output.leaves.first().map_or(0, |leaf| self.leaves[*leaf].extent[0])
    }

    /// Where among a point's values in an output's maps one thing lies; nothing where they do not hold it.
    fn columns(
        &self,
        output: &Output<'_>,
        decoding: &Decoding,
        value: PointValue,
    ) -> Result<Option<std::ops::Range<usize>>, OnnxError> {
        let mut found: Option<Option<std::ops::Range<usize>>> = None;
        let before = decoding.values.iter().take_while(|other| **other != value);
        let start: usize = before.map(|value| decoding.width(*value)).sum();
        let range = start..start + decoding.width(value);
        for leaf in &output.leaves {
            let own = &self.leaves[*leaf];
            let members = &self.levels[own.level];
            let earlier = members.iter().take_while(|member| *member != leaf);
            let first: usize = earlier.map(|at| self.leaves[*at].extent[0]).sum();
            let here = first..first + own.extent[0];
            let inside = here.start <= range.start && range.end <= here.end;
            let place = inside.then(|| range.start - first..range.end - first);
            let is_same = found.as_ref().is_none_or(|known| *known == place);
            if !is_same || own.extent[0] != self.width(output) {
                let reason = "is made of maps that hold different things; give its parts as outputs of their own";
                return Err(wrong(format!("{} {reason}", output.name)));
            }
            found = Some(place);
        }
        Ok(found.flatten())
    }

    /// Of each point of an output's maps: the values of one thing, and where the point lies.
    fn rows(&self, output: &Output<'_>, columns: &std::ops::Range<usize>) -> Vec<Row> {
        let mut rows = Vec::new();
        for leaf in &output.leaves {
            let Leaf { extent: [channels, _, wide], level, values, .. } = &self.leaves[*leaf];
            let stride = self.described.strides[*level] as f32;
            for (point, all) in values.chunks_exact(*channels).enumerate() {
                let at = |place: usize| (place as f32 + self.described.offset) * stride;
                let place = [at(point % wide), at(point / wide)];
                rows.push(Row { values: all[columns.clone()].to_vec(), place, stride });
            }
        }
        rows
    }

    /// How maps hold boxes, and whether in pixels.
    fn boxes(
        &self,
        rows: &[Row],
        expected: &[f32],
        decoding: &Decoding,
    ) -> Option<(BoxValues, bool)> {
        let is = |of: &dyn Fn(&Row) -> Vec<f32>| {
            near(&rows.iter().flat_map(of).collect::<Vec<f32>>(), expected)
        };
        let plain = |row: &Row| row.values.clone();
        let exponents =
            |row: &Row| row.values.iter().map(|value| value.exp()).collect::<Vec<f32>>();
        let times =
            |values: Vec<f32>, stride: f32| values.into_iter().map(|v| v * stride).collect();
        match self.described.boxes {
            DescribedBoxes::PixelDistances if is(&plain) => Some((BoxValues::Distances, true)),
            DescribedBoxes::PixelDistances if is(&|row| times(plain(row), row.stride)) => {
                Some((BoxValues::Distances, false))
            }
            DescribedBoxes::PixelDistances if is(&|row| times(exponents(row), row.stride)) => {
                Some((BoxValues::Exponents, false))
            }
            DescribedBoxes::PixelDistances => None,
            _ if is(&plain) => Some((decoding.boxes, false)),
            DescribedBoxes::Distances if is(&exponents) => Some((BoxValues::Exponents, false)),
            DescribedBoxes::Center if is(&centers) => Some((BoxValues::Center, false)),
            _ => None,
        }
    }
}

/// One thing that a point says.
struct Row {
    values: Vec<f32>,
    place: [f32; 2],
    stride: f32,
}

/// Center, width and height in pixels.
fn centers(row: &Row) -> Vec<f32> {
    let Row { values, place, stride } = row;
    let middle = |axis: usize| values[axis] * stride + place[axis];
    vec![middle(0), middle(1), values[2].exp() * stride, values[3].exp() * stride]
}

/// How maps hold scores.
fn scores(rows: &[Row], expected: &[f32], described: ScoreValues) -> Option<ScoreValues> {
    let values: Vec<f32> = rows.iter().flat_map(|row| row.values.iter().copied()).collect();
    if near(&values, expected) {
        return Some(described);
    }
    let roots: Vec<f32> = values.iter().map(|value| value.sqrt()).collect();
    let sigmoids: Vec<f32> = values.iter().map(|value| sigmoid(*value)).collect();
    match described {
        ScoreValues::Probabilities if near(&roots, expected) => Some(ScoreValues::Squares),
        ScoreValues::Probabilities if near(&sigmoids, expected) => Some(ScoreValues::Logits),
        _ => None,
    }
}

/// Whether values are equal but for roundings; what is no number is equal to nothing.
fn near(got: &[f32], expected: &[f32]) -> bool {
    let largest = expected.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= EQUAL * largest;
    got.len() == expected.len() && got.iter().zip(expected).all(is_near)
}

/// Some columns of an output of so many points, point by point; nothing where it has another number of values.
fn placed(
    array: &Array,
    (rows, width): (&[Row], usize),
    columns: &std::ops::Range<usize>,
) -> Option<Vec<f32>> {
    let values = array.as_floats().ok()?;
    let points = rows.len();
    if width == 0 || values.len() != points * width {
        return None;
    }
    // Values of a point lie beside each other, or each of them in a plane of its own, as in a map.
    let is_beside = array.shape.len() < 4 && array.shape.last() == Some(&width);
    let (per_point, per_column) = if is_beside { (width, 1) } else { (1, points) };
    let at = |point: usize, column: usize| values[point * per_point + column * per_column];
    Some(
        (0..points)
            .flat_map(|point| columns.clone().map(move |column| at(point, column)))
            .collect(),
    )
}
