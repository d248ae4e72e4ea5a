//! The vectors themselves, and the exact scan.
//!
//! Beside its values every row has 8-bit codes. A scan compares the query with the codes, four
//! times fewer bytes than floats, and knows how far each result may be off: the length of what
//! rounding took from the row (Cauchy and Schwarz). Only rows that could be among the best for all
//! that are compared again with their values, so the answer is that of a full scan of the values.

use std::borrow::Cow;
use std::ops::Range;

use half::f16;
use serde::{Deserialize, Serialize};

use super::distance::{self, Which};
use super::top::{Top, by_similarity};
use super::{Hit, Metric, Search};

/// Rows compared at once: their products stay in the cache.
const BLOCK: usize = 512;
/// Rows' codes are padded to a multiple of it.
const PADDING: usize = 32;
/// What sums of floats may be off by, as a share of the lengths that are multiplied.
const ROUNDING: f32 = 4e-6;
/// Largest code.
const LARGEST: f32 = 127.0;

/// How the values of a vector are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VectorType {
    /// 16-bit floats: half the download; similarities move by less than 0.001.
    #[default]
    F16,
    /// 32-bit floats.
    F32,
    /// 8-bit whole numbers and one 32-bit factor: a quarter of the download; similarities move by
    /// about 0.005.
    I8,
}

/// Values as they are stored.
#[derive(Debug, Clone)]
enum Values {
    F16(Vec<f16>),
    F32(Vec<f32>),
    /// The codes are all there is.
    I8,
}

/// A query in the forms that rows are compared with.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) values: Vec<f32>,
    codes: Vec<i16>,
    scale: f32,
    /// Length.
    norm: f32,
    /// Length of what rounding to codes took away.
    error: f32,
}

/// Vectors of one width. Rows that were taken out keep their place until [`Rows::keep_live`].
#[derive(Debug, Clone)]
pub(super) struct Rows {
    dim: usize,
    metric: Metric,
    values: Values,
    /// `[len, width]`, the dimension padded by zeros.
    codes: Vec<i8>,
    width: usize,
    scales: Vec<f32>,
    /// Length of what rounding to codes took from a row.
    errors: Vec<f32>,
    /// Length of a row.
    norms: Vec<f32>,
    live: Vec<bool>,
    dead: usize,
}

/// A finite 16-bit float as a 32-bit one, without a branch: WebAssembly has no instruction for it, and
/// this is what its vectors can do.
#[inline]
fn widened(value: f16) -> f32 {
    /// The exponents of the two types begin 112 apart.
    const EXPONENTS: f32 = f32::from_bits((127 + 112) << 23);
    let bits = u32::from(value.to_bits());
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * EXPONENTS;
    f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
}

fn length(values: impl Iterator<Item = f32>) -> f32 {
    values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt() as f32
}

impl Rows {
    pub(super) fn new(dim: usize, metric: Metric, vector_type: VectorType) -> Self {
        Self {
            dim,
            metric,
            values: match vector_type {
                VectorType::F16 => Values::F16(Vec::new()),
                VectorType::F32 => Values::F32(Vec::new()),
                VectorType::I8 => Values::I8,
            },
            codes: Vec::new(),
            width: dim.next_multiple_of(PADDING),
            scales: Vec::new(),
            errors: Vec::new(),
            norms: Vec::new(),
            live: Vec::new(),
            dead: 0,
        }
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    pub(super) fn metric(&self) -> Metric {
        self.metric
    }

    pub(super) fn vector_type(&self) -> VectorType {
        match self.values {
            Values::F16(_) => VectorType::F16,
            Values::F32(_) => VectorType::F32,
            Values::I8 => VectorType::I8,
        }
    }

    /// Rows, those taken out included.
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// Rows taken out.
    pub(super) fn dead(&self) -> usize {
        self.dead
    }

    #[inline]
    pub(super) fn is_live(&self, row: usize) -> bool {
        self.live.get(row).is_some_and(|live| *live)
    }

    /// Rounds to codes: `(factor, length of what is lost)`.
    fn encode(values: &[f32], codes: &mut [i8]) -> (f32, f32) {
        let largest = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        let scale = largest / LARGEST;
        let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
        for (code, value) in codes.iter_mut().zip(values) {
            *code = (value * inverse).round() as i8;
        }
        let lost = values.iter().zip(&*codes).map(|(v, c)| v - f32::from(*c) * scale);
        (scale, length(lost))
    }

    /// Adds a row behind the others.
    pub(super) fn push(&mut self, values: &[f32]) {
        assert_eq!(values.len(), self.dim, "width of a vector");
        match &mut self.values {
            Values::F16(stored) => {
                let start = stored.len();
                stored.extend(values.iter().map(|v| f16::from_f32(*v)));
                let rounded: Vec<f32> = stored[start..].iter().map(|v| widened(*v)).collect();
                self.push_codes(&rounded);
            }
            Values::F32(stored) => {
                stored.extend_from_slice(values);
                self.push_codes(values);
            }
            Values::I8 => {
                let mut codes = vec![0; self.dim];
                let (scale, _) = Self::encode(values, &mut codes);
                self.push_stored_codes(codes.into_iter(), scale);
            }
        }
    }

    fn push_codes(&mut self, values: &[f32]) {
        let start = self.codes.len();
        self.codes.resize(start + self.width, 0);
        let (scale, error) = Self::encode(values, &mut self.codes[start..]);
        self.describe(scale, error, length(values.iter().copied()));
    }

    fn describe(&mut self, scale: f32, error: f32, norm: f32) {
        self.scales.push(scale);
        self.errors.push(error);
        self.norms.push(norm);
        self.live.push(true);
    }

    /// Adds a row of 8-bit numbers as they were stored.
    pub(super) fn push_stored_codes(&mut self, codes: impl Iterator<Item = i8>, scale: f32) {
        let start = self.codes.len();
        self.codes.extend(codes);
        let norm = length(self.codes[start..].iter().map(|c| f32::from(*c) * scale));
        self.codes.resize(start + self.width, 0);
        self.describe(scale, 0.0, norm);
    }

    /// The codes of a row and their factor.
    pub(super) fn stored_codes(&self, row: usize) -> (&[i8], f32) {
        (&self.codes[row * self.width..row * self.width + self.dim], self.scales[row])
    }

    /// Puts other values into a row.
    pub(super) fn replace(&mut self, row: usize, values: &[f32]) {
        let mut one = Self::new(self.dim, self.metric, self.vector_type());
        one.push(values);
        let place = row * self.dim..(row + 1) * self.dim;
        match (&mut self.values, &one.values) {
            (Values::F16(stored), Values::F16(new)) => stored[place].copy_from_slice(new),
            (Values::F32(stored), Values::F32(new)) => stored[place].copy_from_slice(new),
            _ => (),
        }
        self.codes[row * self.width..(row + 1) * self.width].copy_from_slice(&one.codes);
        (self.scales[row], self.errors[row], self.norms[row]) =
            (one.scales[0], one.errors[0], one.norms[0]);
    }

    /// Takes a row out of every later answer.
    pub(super) fn remove(&mut self, row: usize) {
        if std::mem::replace(&mut self.live[row], false) {
            self.dead += 1;
        }
    }

    /// Drops what was taken out; the rows that stay, in their order.
    pub(super) fn keep_live(&mut self) -> Vec<usize> {
        let kept: Vec<usize> = (0..self.len()).filter(|row| self.live[*row]).collect();
        if self.dead > 0 {
            fn keep<T: Copy>(values: &mut Vec<T>, kept: &[usize], width: usize) {
                for (to, from) in kept.iter().enumerate() {
                    values.copy_within(from * width..(from + 1) * width, to * width);
                }
                values.truncate(kept.len() * width);
            }
            match &mut self.values {
                Values::F16(stored) => keep(stored, &kept, self.dim),
                Values::F32(stored) => keep(stored, &kept, self.dim),
                Values::I8 => (),
            }
            keep(&mut self.codes, &kept, self.width);
            keep(&mut self.scales, &kept, 1);
            keep(&mut self.errors, &kept, 1);
            keep(&mut self.norms, &kept, 1);
            self.live = vec![true; kept.len()];
            self.dead = 0;
        }
        kept
    }

    /// The values of a row, `[dim]`.
    pub(super) fn values(&self, row: usize) -> Cow<'_, [f32]> {
        let place = row * self.dim..(row + 1) * self.dim;
        match &self.values {
            Values::F32(stored) => Cow::Borrowed(&stored[place]),
            Values::F16(stored) => Cow::Owned(stored[place].iter().map(|v| widened(*v)).collect()),
            Values::I8 => {
                let (codes, scale) = self.stored_codes(row);
                Cow::Owned(codes.iter().map(|c| f32::from(*c) * scale).collect())
            }
        }
    }

    /// # Shapes
    ///
    /// - `values`: `[dim]`
    pub(super) fn query(&self, values: &[f32]) -> Query {
        let limit = f32::from(distance::largest(self.width));
        let largest = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        let scale = largest / limit;
        let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
        let mut codes: Vec<i16> = values.iter().map(|v| (v * inverse).round() as i16).collect();
        let lost = values.iter().zip(&codes).map(|(v, c)| v - f32::from(*c) * scale);
        let error = length(lost);
        codes.resize(self.width, 0);
        let norm = length(values.iter().copied());
        Query { values: values.to_vec(), codes, scale, norm, error }
    }

    /// A row's codes as a query: their products with other rows' codes are those of the codes.
    pub(super) fn codes_as_query(&self, row: usize) -> Query {
        let codes = &self.codes[row * self.width..(row + 1) * self.width];
        let codes = codes.iter().map(|c| i16::from(*c)).collect();
        let (scale, norm) = (self.scales[row], self.norms[row]);
        Query { values: Vec::new(), codes, scale, norm, error: 0.0 }
    }

    /// How near rows are to a query by their codes: for L2, what orders them alike.
    pub(super) fn affinities(&self, query: &Query, which: Which<'_>, affinities: &mut [f32]) {
        let mut products = [0; BLOCK];
        let blocks = affinities.chunks_mut(BLOCK).enumerate();
        for (block, affinities) in blocks.map(|(number, part)| (number * BLOCK, part)) {
            let products = &mut products[..affinities.len()];
            let which = which.part(block, products.len());
            distance::products(&query.codes, &self.codes, which, products);
            for (i, (affinity, product)) in affinities.iter_mut().zip(products).enumerate() {
                *affinity = self.affinity(query, which.row(i), *product);
            }
        }
    }

    #[inline]
    fn affinity(&self, query: &Query, row: usize, product: i32) -> f32 {
        product as f32 * (query.scale * self.scales[row]) - self.offset(row)
    }

    /// What an affinity to a row lacks of their inner product.
    #[inline]
    pub(super) fn offset(&self, row: usize) -> f32 {
        match self.metric {
            Metric::InnerProduct => 0.0,
            Metric::L2 => self.norms[row] * self.norms[row] / 2.0,
        }
    }

    /// How far an affinity may be from that of the row's values.
    #[inline]
    fn uncertainty(&self, query: &Query, row: usize) -> f32 {
        let (norm, error) = (self.norms[row], self.errors[row]);
        let rounding = match self.metric {
            Metric::InnerProduct => query.norm * norm,
            Metric::L2 => query.norm * norm + norm * norm + query.norm * query.norm,
        };
        query.norm * error + query.error * (norm + error) + ROUNDING * rounding
    }

    /// Similarity of a row's values.
    pub(super) fn similarity(&self, query: &Query, row: usize) -> f32 {
        let values = self.values(row);
        match self.metric {
            Metric::InnerProduct => distance::exact_product(&query.values, &values),
            Metric::L2 => -distance::squared_distance(&query.values, &values),
        }
    }

    /// What an affinity is as a similarity, and back.
    #[inline]
    fn affinity_of(&self, query: &Query, similarity: f32) -> f32 {
        match self.metric {
            Metric::InnerProduct => similarity,
            Metric::L2 => (similarity + query.norm * query.norm) / 2.0,
        }
    }

    /// The best rows of a range: exactly those of a full scan of the values.
    pub(super) fn scan(&self, query: &Query, range: Range<usize>, search: &Search<'_>) -> Vec<Hit> {
        let blocks = range.clone().step_by(BLOCK);
        let end = range.end;
        self.best_of(query, blocks.map(|at| (Which::From(at), (end - at).min(BLOCK))), search)
    }

    /// The best of the given rows, as [`Self::scan`] finds them.
    pub(super) fn scan_these(&self, query: &Query, rows: &[u32], search: &Search<'_>) -> Vec<Hit> {
        let blocks = rows.chunks(BLOCK).map(|part| (Which::These(part), part.len()));
        self.best_of(query, blocks, search)
    }

    fn best_of<'a>(
        &self,
        query: &Query,
        blocks: impl Iterator<Item = (Which<'a>, usize)>,
        search: &Search<'_>,
    ) -> Vec<Hit> {
        if search.k == 0 {
            return Vec::new();
        }
        let wanted =
            search.min_similarity.map_or(f32::NEG_INFINITY, |least| self.affinity_of(query, least));
        let mut possible = Possible::new(search.k);
        let mut products = [0; BLOCK];
        for (which, count) in blocks {
            distance::products(&query.codes, &self.codes, which, &mut products[..count]);
            for (i, product) in products[..count].iter().enumerate() {
                let row = which.row(i);
                let affinity = self.affinity(query, row, *product);
                let uncertainty = self.uncertainty(query, row);
                let most = affinity + uncertainty;
                if most >= wanted && most >= possible.least() && search.admits(self, row) {
                    possible.offer(row, affinity, uncertainty);
                }
            }
        }
        self.settle(query, possible, search)
    }

    /// The best of rows whose affinities are known, by their values.
    pub(super) fn rank(&self, query: &Query, hits: &[Hit], search: &Search<'_>) -> Vec<Hit> {
        let mut possible = Possible::new(search.k);
        for hit in hits {
            possible.offer(hit.entry, hit.similarity, self.uncertainty(query, hit.entry));
        }
        self.settle(query, possible, search)
    }

    /// Compares again what might be among the best.
    fn settle(&self, query: &Query, possible: Possible, search: &Search<'_>) -> Vec<Hit> {
        let mut best = Top::new(search.k);
        for hit in possible.into_hits() {
            if hit.similarity < self.affinity_of(query, best.least()) {
                break;
            }
            let similarity = self.similarity(query, hit.entry);
            if search.min_similarity.is_none_or(|least| similarity >= least) {
                best.offer(Hit { entry: hit.entry, similarity });
            }
        }
        best.into_hits()
    }
}

/// Rows that might be among the best, for all that their codes say.
struct Possible {
    /// The least that affinities may be.
    certain: Top,
    /// The most that they may be.
    rows: Vec<Hit>,
}

impl Possible {
    fn new(k: usize) -> Self {
        Self { certain: Top::new(k), rows: Vec::new() }
    }

    /// The affinity that a row must be able to reach.
    #[inline]
    fn least(&self) -> f32 {
        self.certain.least()
    }

    #[inline]
    fn offer(&mut self, entry: usize, affinity: f32, uncertainty: f32) {
        self.certain.offer(Hit { entry, similarity: affinity - uncertainty });
        self.rows.push(Hit { entry, similarity: affinity + uncertainty });
    }

    /// The promising ones, the most promising first.
    fn into_hits(mut self) -> Vec<Hit> {
        let least = self.certain.least();
        self.rows.retain(|hit| hit.similarity >= least);
        self.rows.sort_unstable_by(by_similarity);
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_half_is_widened_exactly() {
        for value in (0..=u16::MAX).map(f16::from_bits).filter(|v| v.is_finite()) {
            assert_eq!(widened(value).to_bits(), value.to_f32().to_bits(), "{value}");
        }
    }
}
