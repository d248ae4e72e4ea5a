//! Tokens of transformers: learned ones before the pixels, and where a pixel lies.

use serde::{Deserialize, Serialize};

use crate::values::{Device, Module, Param, Tensor, normal, of_param};

/// Deviation of fresh tokens and positions.
const DEVIATION: f64 = 0.02;

/// How learned positions become those of another grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resampling {
    /// Cubic interpolation between the four nearest lines and columns, as `transformers` does it.
    #[default]
    Bicubic,
    /// With a filter that grows with the grid's step, as timm does it.
    Antialiased,
}

impl Resampling {
    /// The share that each of `from` places has in each of `to` places, row by row.
    ///
    /// # Shapes
    ///
    /// - output: `[to, from]`
    pub fn shares(self, from: usize, to: usize) -> Vec<f32> {
        let scale = from as f64 / to as f64;
        let mut shares = vec![0.0; to * from];
        for (place, row) in shares.chunks_exact_mut(from).enumerate() {
            let center = (place as f64 + 0.5) * scale;
            match self {
                Self::Bicubic => {
                    let first = (center - 0.5).floor();
                    for tap in -1..=2 {
                        let at = first + f64::from(tap);
                        let share = cubic(center - 0.5 - at, -0.75);
                        // Places beyond a border are the border.
                        row[at.clamp(0.0, from as f64 - 1.0) as usize] += share as f32;
                    }
                }
                Self::Antialiased => {
                    let wide = scale.max(1.0);
                    let least = (center - 2.0 * wide + 0.5).max(0.0) as usize;
                    let end = ((center + 2.0 * wide + 0.5) as usize).min(from);
                    let share = |at: usize| cubic((at as f64 - center + 0.5) / wide, -0.5);
                    let sum: f64 = (least..end).map(share).sum();
                    (least..end).for_each(|at| row[at] = (share(at) / sum) as f32);
                }
            }
        }
        shares
    }
}

/// Keys' cubic kernel with its parameter.
///
/// Source: "Cubic convolution interpolation for digital image processing",
/// <https://doi.org/10.1109/TASSP.1981.1163711>.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    match x {
        _ if x < 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        _ if x < 2.0 => ((x - 5.0) * x + 8.0) * x * a - 4.0 * a,
        _ => 0.0,
    }
}

/// A table of learned positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Lines.
    pub rows: usize,
    /// Places of a line.
    pub columns: usize,
    /// Whether the class token has a position, the first of the table.
    pub has_class: bool,
    /// How it becomes another size's.
    pub resampling: Resampling,
}

/// What comes before the pixels of a transformer, and what is added to them.
#[derive(Module, Debug)]
pub struct Tokens {
    /// `[1, width]`
    pub class: Option<Param<Tensor<2>>>,
    /// `[registers, width]`
    pub registers: Option<Param<Tensor<2>>>,
    /// `[positions, width]`; absent where keys and queries are rotated instead.
    pub positions: Option<Param<Tensor<2>>>,
    #[module(skip)]
    grid: Option<Grid>,
}

impl Tokens {
    /// Fresh tokens.
    pub fn new(
        width: usize,
        has_class: bool,
        registers: usize,
        grid: Option<Grid>,
        device: &Device,
    ) -> Self {
        let rows = |count: usize| normal([count, width], DEVIATION, device);
        let places = |grid: Grid| grid.rows * grid.columns + usize::from(grid.has_class);
        Self {
            class: has_class.then(|| rows(1)),
            registers: (registers > 0).then(|| rows(registers)),
            positions: grid.map(|grid| rows(places(grid))),
            grid,
        }
    }

    /// Tokens before the pixels.
    pub fn before(&self) -> usize {
        let registers = self.registers.as_ref().map_or(0, |registers| registers.dims()[0]);
        usize::from(self.class.is_some()) + registers
    }

    /// The table of positions.
    pub fn grid(&self) -> Option<Grid> {
        self.grid
    }

    /// The tokens before the pixels of an image of so many lines and columns, and what is added to the pixels, for a
    /// caller that goes on without tensors, on the CPU.
    ///
    /// # Shapes
    ///
    /// - tokens: `[before, width]`
    /// - added: `[lines · columns, width]`, or nothing
    pub fn values(&self, [lines, columns]: [usize; 2]) -> [Vec<f32>; 2] {
        let class = self.class.as_ref().map(of_param).unwrap_or_default();
        let registers = self.registers.as_ref().map(of_param).unwrap_or_default();
        let mut before = [class, registers].concat();
        let Some((grid, positions)) = self.grid.zip(self.positions.as_ref().map(of_param)) else {
            return [before, Vec::new()];
        };
        let Grid { rows, columns: old, has_class, resampling } = grid;
        let width = positions.len() / (rows * old + usize::from(has_class));
        let (of_class, places) = positions.split_at(if has_class { width } else { 0 });
        before.iter_mut().zip(of_class).for_each(|(value, added)| *value += added);
        if [rows, old] == [lines, columns] {
            return [before, places.to_vec()];
        }
        let across = resampling.shares(rows, lines);
        let along = resampling.shares(old, columns);
        let mut narrow = vec![0.0; lines * old * width];
        for (line, shares) in narrow.chunks_exact_mut(old * width).zip(across.chunks_exact(rows)) {
            for (share, from) in shares.iter().zip(places.chunks_exact(old * width)) {
                line.iter_mut().zip(from).for_each(|(sum, value)| *sum += share * value);
            }
        }
        let mut added = vec![0.0; lines * columns * width];
        for (line, from) in
            added.chunks_exact_mut(columns * width).zip(narrow.chunks_exact(old * width))
        {
            for (place, shares) in line.chunks_exact_mut(width).zip(along.chunks_exact(old)) {
                for (share, from) in shares.iter().zip(from.chunks_exact(width)) {
                    place.iter_mut().zip(from).for_each(|(sum, value)| *sum += share * value);
                }
            }
        }
        [before, added]
    }
}

/// Rotation of queries and keys by where their pixel lies, the first half of a head's channels with the second.
///
/// Source: "`DINOv3`", <https://arxiv.org/abs/2508.10104>, §3.2: angles grow along both axes, from −1 at one border to 1
/// at the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rotary {
    /// Channels of a head, a multiple of four.
    pub head: usize,
    /// The ratio of the shortest and the longest wave.
    pub base: f64,
    /// Tokens that are not rotated.
    pub before: usize,
}

impl Rotary {
    /// Cosines and sines of the angles of each pixel.
    ///
    /// # Shapes
    ///
    /// - output: `[lines · columns, head / 2]` each
    pub fn angles(&self, [lines, columns]: [usize; 2]) -> [Vec<f32>; 2] {
        let quarter = self.head / 4;
        let place = |at: usize, of: usize| 2.0 * (at as f64 + 0.5) / of as f64 - 1.0;
        let turn = |place: f64, wave: usize| {
            2.0 * std::f64::consts::PI * place / self.base.powf(wave as f64 / quarter as f64)
        };
        let mut angles = Vec::with_capacity(lines * columns * 2 * quarter);
        for line in 0..lines {
            for column in 0..columns {
                for place in [place(line, lines), place(column, columns)] {
                    angles.extend((0..quarter).map(|wave| turn(place, wave)));
                }
            }
        }
        let of = |function: fn(f64) -> f64| angles.iter().map(|a| function(*a) as f32).collect();
        [of(f64::cos), of(f64::sin)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second row of `torch.nn.functional.interpolate` with `mode="bicubic"`, of four places.
    #[test]
    fn shares_are_those_of_the_originals() {
        let (plain, wide) = (Resampling::Bicubic, Resampling::Antialiased);
        for (resampling, to, expected) in [
            (plain, 6, [0.5, 0.593_75, -0.093_75, 0.0]),
            (wide, 6, [0.529_411_8, 0.529_411_8, -0.058_823_5, 0.0]),
            (plain, 3, [-0.093_75, 0.593_75, 0.593_75, -0.093_75]),
            (wide, 3, [-0.035_201_2, 0.535_201_1, 0.535_201_1, -0.035_201_2]),
        ] {
            let shares = resampling.shares(4, to);
            for (share, expected) in shares[4..8].iter().zip(expected) {
                assert!((share - expected).abs() < 1e-6, "{resampling:?} to {to}: {shares:?}");
            }
            for row in shares.chunks_exact(4) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{resampling:?} to {to}");
            }
        }
    }

    #[test]
    fn as_many_places_as_before_are_the_same() {
        for resampling in [Resampling::Bicubic, Resampling::Antialiased] {
            for (index, share) in resampling.shares(5, 5).into_iter().enumerate() {
                let wanted = if index % 6 == 0 { 1.0 } else { 0.0 };
                assert!((share - wanted).abs() < 1e-6, "{resampling:?} {index}: {share}");
            }
        }
    }

    #[test]
    fn angles_are_those_of_a_plain_loop() {
        let rotary = Rotary { head: 8, base: 100.0, before: 1 };
        let [cosines, sines] = rotary.angles([2, 3]);
        assert_eq!((cosines.len(), sines.len()), (2 * 3 * 4, 2 * 3 * 4));
        // The second line, the third column: 1/2 and 2/3; waves of 1 and 1/10.
        let turns = [0.5, 0.05, 2.0 / 3.0, 0.2 / 3.0].map(|turn| 2.0 * std::f64::consts::PI * turn);
        for (at, turn) in turns.into_iter().enumerate() {
            assert!((f64::from(cosines[20 + at]) - turn.cos()).abs() < 1e-6);
            assert!((f64::from(sines[20 + at]) - turn.sin()).abs() < 1e-6);
        }
    }
}
