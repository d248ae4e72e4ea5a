//! One bit a value: whether it is above the rows' mean. A search ranks by Hamming distance and the
//! nearest of that by their values.
//!
//! Source: the Hamming galleries of PaddleClas (`deploy/python/build_gallery.py`, `dist_type`
//! `hamming`) @ d178931, for embeddings that are trained to be codes. Difference: the mean is
//! subtracted first, so that embeddings that were not (those behind a `ReLU` are never negative)
//! keep their directions.

use std::io::Write;

use super::bytes::Bytes;
use super::codes::Query;
use super::distance;
use super::rows::Rows;
use super::{Hit, IndexError, Search};
use crate::aligned::Aligned;

/// Rows compared at once.
const BLOCK: usize = 1024;
/// Distances of a block that are looked at together.
const TOGETHER: usize = 16;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(super) struct Binary {
    mean: Vec<f32>,
    /// `[rows, words]`
    codes: Aligned<u64>,
}

/// The mean of rows that come one after the other.
pub(super) struct Mean {
    sum: Vec<f64>,
    count: usize,
}

impl Mean {
    pub(super) fn new(dim: usize) -> Self {
        Self { sum: vec![0.0; dim], count: 0 }
    }

    pub(super) fn add(&mut self, values: &[f32]) {
        self.sum.iter_mut().zip(values).for_each(|(s, v)| *s += f64::from(*v));
        self.count += 1;
    }

    fn values(&self) -> Vec<f32> {
        self.sum.iter().map(|s| (s / self.count.max(1) as f64) as f32).collect()
    }
}

impl Binary {
    /// Learns the mean and encodes all rows.
    pub(super) fn build(rows: &Rows) -> Self {
        let mut mean = Mean::new(rows.dim());
        let live = (0..rows.len()).filter(|row| rows.is_live(*row));
        live.for_each(|row| mean.add(&rows.values(row)));
        Self::of(rows, mean.values())
    }

    /// What is written of rows whose mean is known; it finds nothing.
    #[cfg(feature = "parallel")]
    pub(super) fn outline(mean: &Mean) -> Self {
        Self { mean: mean.values(), codes: Aligned::default() }
    }

    fn of(rows: &Rows, mean: Vec<f32>) -> Self {
        let mut binary = Self { mean, codes: Aligned::default() };
        (0..rows.len()).for_each(|row| binary.push(rows, row));
        binary
    }

    fn encode(&self, values: &[f32]) -> impl Iterator<Item = u64> {
        values.chunks(64).zip(self.mean.chunks(64)).map(|(values, mean)| {
            let bits = values.iter().zip(mean).enumerate();
            bits.fold(0, |word, (bit, (value, mean))| word | u64::from(value > mean) << bit)
        })
    }

    /// Encodes one more row.
    pub(super) fn push(&mut self, rows: &Rows, row: usize) {
        let codes: Vec<u64> = self.encode(&rows.values(row)).collect();
        self.codes.grow(codes.len()).copy_from_slice(&codes);
    }

    /// Encodes a row anew.
    pub(super) fn replace(&mut self, rows: &Rows, row: usize) {
        let codes: Vec<u64> = self.encode(&rows.values(row)).collect();
        self.codes[row * codes.len()..(row + 1) * codes.len()].copy_from_slice(&codes);
    }

    /// The best rows among the `ef_search` with the fewest different bits.
    pub(super) fn search(
        &self,
        rows: &Rows,
        query: &Query,
        ef_search: usize,
        search: &Search<'_>,
    ) -> Vec<Hit> {
        let asked: Vec<u64> = self.encode(&query.values).collect();
        let plain = rows.dead() == 0 && search.filter.is_none();
        let wanted = ef_search.max(search.k);
        // Rows up to a distance that falls as soon as enough are nearer, and their number by distance.
        let mut near: Vec<(u32, u32)> = Vec::new();
        let mut counts = vec![0_usize; rows.dim() + 1];
        let (mut furthest, mut total) = (rows.dim() as u32, 0);
        let mut distances = [0; BLOCK];
        for (block, codes) in self.codes.chunks(BLOCK * asked.len()).enumerate() {
            let distances = &mut distances[..codes.len() / asked.len()];
            distance::hamming(&asked, codes, distances);
            for (part, distances) in distances.chunks(TOGETHER).enumerate() {
                // Most parts have nothing near, which is seen for all of a part at once.
                if distances.iter().copied().fold(u32::MAX, u32::min) > furthest {
                    continue;
                }
                for (place, distance) in distances.iter().enumerate() {
                    let row = block * BLOCK + part * TOGETHER + place;
                    if *distance > furthest || !(plain || search.admits(rows, row)) {
                        continue;
                    }
                    near.push((row as u32, *distance));
                    counts[*distance as usize] += 1;
                    total += 1;
                    while furthest > 0 && total - counts[furthest as usize] >= wanted {
                        total -= counts[furthest as usize];
                        furthest -= 1;
                    }
                }
            }
        }
        let near = near.iter().filter(|(_, distance)| *distance <= furthest);
        let near: Vec<u32> = near.map(|(row, _)| *row).collect();
        rows.scan_these(query, &near, search)
    }

    /// The mean; the codes follow from the rows.
    pub(super) fn write(&self, writer: &mut dyn Write) -> std::io::Result<()> {
        self.mean.iter().try_for_each(|value| writer.write_all(&value.to_le_bytes()))
    }

    /// Reads what [`Self::write`] wrote.
    pub(super) fn read(bytes: &mut Bytes<'_>, rows: &Rows) -> Result<Self, IndexError> {
        Ok(Self::of(rows, bytes.floats(rows.dim())?))
    }
}
