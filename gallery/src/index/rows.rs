//! The vectors themselves, and the exact scan.
//!
//! Beside its values every row has 8-bit codes. A scan compares the query with the codes, four
//! times fewer bytes than floats, and knows how far each result may be off: the length of what
//! rounding took from the row (Cauchy and Schwarz). Only rows that could be among the best for all
//! that are compared again with their values, so the answer is that of a full scan of the values.

use std::borrow::Cow;
use std::ops::Range;

use half::f16;

use super::codes::{Codes, Query, Together, keep};
use super::distance::{self, Stored, Which};
use super::top::{Top, by_similarity};
use super::{Hit, Metric, Search, VectorType};

/// Rows compared at once: their products stay in the cache.
const BLOCK: usize = 512;
/// Deviations from its mean that a sum of chance is within.
const DEVIATIONS: f32 = 6.0;
/// Largest code.
const LARGEST: f32 = 127.0;

/// Values as they are stored.
#[derive(Debug, Clone)]
enum Values {
    F16(Vec<f16>),
    F32(Vec<f32>),
    /// The codes are all there is.
    I8,
}

/// Vectors of one width. Rows that were taken out keep their place until [`Rows::keep_live`].
#[derive(Debug, Clone)]
pub(super) struct Rows {
    dim: usize,
    metric: Metric,
    values: Values,
    codes: Codes,
    live: Vec<bool>,
    dead: usize,
}

fn length(values: impl Iterator<Item = f32>) -> f32 {
    values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt() as f32
}

/// Rounds the values of a row as they are stored.
pub(crate) fn round_row(vector_type: VectorType, row: &mut [f32]) {
    match vector_type {
        VectorType::F32 => {}
        VectorType::F16 => row.iter_mut().for_each(|v| *v = f16::from_f32(*v).widened()),
        VectorType::I8 => {
            let mut codes = vec![0; row.len()];
            let (scale, _) = Rows::encode(row, &mut codes);
            row.iter_mut().zip(codes).for_each(|(v, code)| *v = f32::from(code) * scale);
        }
    }
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
            codes: Codes::new(dim),
            live: Vec::new(),
            dead: 0,
        }
    }

    /// What scans read.
    pub(super) fn codes(&self) -> &Codes {
        &self.codes
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
        let mut scale = largest / LARGEST;
        let mut inverse = scale.recip();
        if !inverse.is_finite() {
            // Zeros, or values too small for a factor.
            (scale, inverse) = (0.0, 0.0);
        }
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
                let rounded: Vec<f32> = stored[start..].iter().map(|v| v.widened()).collect();
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
        let Codes { values: codes, width, .. } = &mut self.codes;
        let (scale, error) = Self::encode(values, codes.grow(*width));
        self.codes.describe(scale, error, length(values.iter().copied()));
        self.live.push(true);
    }

    /// Adds a row of 8-bit numbers as they were stored.
    pub(super) fn push_stored_codes(&mut self, codes: impl Iterator<Item = i8>, scale: f32) {
        let Codes { values: stored, width, .. } = &mut self.codes;
        let row = stored.grow(*width);
        row.iter_mut().zip(codes).for_each(|(stored, code)| *stored = code);
        let norm = length(row.iter().map(|c| f32::from(*c) * scale));
        self.codes.describe(scale, 0.0, norm);
        self.live.push(true);
    }

    /// The codes of a row and their factor.
    pub(super) fn stored_codes(&self, row: usize) -> (&[i8], f32) {
        (&self.codes.row(row)[..self.dim], self.codes.scales[row])
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
        self.codes.replace(row, &one.codes, 0);
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
            match &mut self.values {
                Values::F16(stored) => keep(stored, &kept, self.dim),
                Values::F32(stored) => keep(stored, &kept, self.dim),
                Values::I8 => (),
            }
            self.codes.keep(&kept);
            self.live = vec![true; kept.len()];
            self.dead = 0;
        }
        kept
    }

    /// Makes room for this many more rows.
    pub(super) fn reserve(&mut self, more: usize) {
        self.codes.values.reserve(more * self.codes.width);
        match &mut self.values {
            Values::F16(stored) => stored.reserve(more * self.dim),
            Values::F32(stored) => stored.reserve(more * self.dim),
            Values::I8 => (),
        }
    }

    /// The values of a row, `[dim]`.
    pub(super) fn values(&self, row: usize) -> Cow<'_, [f32]> {
        let place = row * self.dim..(row + 1) * self.dim;
        match &self.values {
            Values::F32(stored) => Cow::Borrowed(&stored[place]),
            Values::F16(stored) => Cow::Owned(stored[place].iter().map(|v| v.widened()).collect()),
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
        let limit = f32::from(distance::largest(self.codes.width));
        let largest = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        let mut scale = largest / limit;
        let mut inverse = scale.recip();
        if !inverse.is_finite() {
            (scale, inverse) = (0.0, 0.0);
        }
        let mut codes: Vec<i16> = values.iter().map(|v| (v * inverse).round() as i16).collect();
        let lost = values.iter().zip(&codes).map(|(v, c)| v - f32::from(*c) * scale);
        let error = length(lost);
        codes.resize(self.codes.width, 0);
        let norm = length(values.iter().copied());
        Query { values: values.to_vec(), codes, scale, norm, error }
    }

    /// A row's codes as a query: their products with other rows' codes are those of the codes.
    pub(super) fn codes_as_query(&self, row: usize) -> Query {
        let codes = self.codes.row(row).iter().map(|c| i16::from(*c)).collect();
        let (scale, norm) = (self.codes.scales[row], self.codes.norms[row]);
        Query { values: Vec::new(), codes, scale, norm, error: 0.0 }
    }

    /// How near rows are to a query by their codes: for L2, what orders them alike.
    pub(super) fn raw_scores(&self, query: &Query, which: Which<'_>, raw_scores: &mut [f32]) {
        let mut products = [0; BLOCK];
        let blocks = raw_scores.chunks_mut(BLOCK).enumerate();
        for (block, raw_scores) in blocks.map(|(number, part)| (number * BLOCK, part)) {
            let products = &mut products[..raw_scores.len()];
            let which = which.part(block, products.len());
            distance::products(&query.codes, &self.codes.values, which, products);
            for (i, (raw_score, product)) in raw_scores.iter_mut().zip(products).enumerate() {
                *raw_score = self.codes.raw_score(self.metric, query, which.row(i), *product);
            }
        }
    }

    /// What an raw score to a row lacks of their inner product.
    #[inline]
    pub(super) fn offset(&self, row: usize) -> f32 {
        self.codes.offset(self.metric, row)
    }

    /// Similarity of a row's values.
    pub(super) fn similarity(&self, query: &Query, row: usize) -> f32 {
        fn of<T: Stored>(metric: Metric, query: &[f32], row: &[T]) -> f32 {
            match metric {
                Metric::InnerProduct => distance::stored_product(query, row),
                Metric::L2 => -distance::squared_distance(query, row),
            }
        }
        let place = row * self.dim..(row + 1) * self.dim;
        match &self.values {
            Values::F16(stored) => of(self.metric, &query.values, &stored[place]),
            Values::F32(stored) => of(self.metric, &query.values, &stored[place]),
            Values::I8 => of(self.metric, &query.values, &self.values(row)),
        }
    }

    /// What an raw score is as a similarity, and back.
    #[inline]
    fn affinity_of(&self, query: &Query, similarity: f32) -> f32 {
        match self.metric {
            Metric::InnerProduct => similarity,
            Metric::L2 => (similarity + query.norm * query.norm) / 2.0,
        }
    }

    /// The best rows of a range: exactly those of a full scan of the values.
    pub(super) fn scan(&self, query: &Query, range: Range<usize>, search: &Search<'_>) -> Vec<Hit> {
        let mut look = Look::new(self, query, search);
        for at in range.clone().step_by(BLOCK) {
            let count = (range.end - at).min(BLOCK);
            look.through(&self.codes, Which::From(at), count, |place| at + place);
        }
        look.settled()
    }

    /// The best of the given rows, as [`Self::scan`] finds them.
    pub(super) fn scan_these(&self, query: &Query, rows: &[u32], search: &Search<'_>) -> Vec<Hit> {
        let mut look = Look::new(self, query, search);
        for part in rows.chunks(BLOCK) {
            let row = |place: usize| part[place] as usize;
            look.through(&self.codes, Which::These(part), part.len(), row);
        }
        look.settled()
    }

    /// The best of rows that lie together, as [`Self::scan`] finds them.
    pub(super) fn scan_together<'a>(
        &self,
        query: &Query,
        lists: impl IntoIterator<Item = &'a Together>,
        search: &Search<'_>,
    ) -> Vec<Hit> {
        let mut look = Look::new(self, query, search);
        for list in lists {
            for (part, rows) in list.rows.chunks(BLOCK).enumerate() {
                let row = |place: usize| rows[place] as usize;
                look.through(&list.codes, Which::From(part * BLOCK), rows.len(), row);
            }
        }
        look.settled()
    }

    /// Whether codes do not tell which of these rows is the nearest; they come with their raw scores, best first.
    pub(super) fn alike(&self, query: &Query, hits: &[Hit]) -> bool {
        let (Some(first), Some(last)) = (hits.first(), hits.last()) else { return false };
        let deviation =
            self.codes.uncertainty(self.metric, query, first.entry) / (self.dim as f32).sqrt();
        last.similarity >= first.similarity - DEVIATIONS * deviation
    }

    /// The best of rows whose raw scores are known, by the values of those that are likely among them:
    /// for walks, which miss rows more often than this does.
    pub(super) fn rank(&self, query: &Query, hits: &[Hit], search: &Search<'_>) -> Vec<Hit> {
        // What rounding took from a row hardly ever points along the query: as directions of chance, its
        // part of that is the root of the dimension smaller than the whole.
        let likely = (DEVIATIONS / (self.dim as f32).sqrt()).min(1.0);
        let mut possible = Possible::new(search.k);
        for hit in hits {
            let uncertainty = likely * self.codes.uncertainty(self.metric, query, hit.entry);
            possible.offer(hit.entry, hit.similarity, uncertainty);
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

/// A scan under way.
struct Look<'a> {
    rows: &'a Rows,
    query: &'a Query,
    search: &'a Search<'a>,
    /// The least raw score that is asked for.
    wanted: f32,
    possible: Possible,
}

impl<'a> Look<'a> {
    fn new(rows: &'a Rows, query: &'a Query, search: &'a Search<'a>) -> Self {
        let wanted = search.min_similarity;
        let wanted = wanted.map_or(f32::NEG_INFINITY, |least| rows.affinity_of(query, least));
        Self { rows, query, search, wanted, possible: Possible::new(search.k) }
    }

    /// Looks at at most [`BLOCK`] codes; `row` tells whose they are by their place among them.
    #[inline]
    fn through(
        &mut self,
        codes: &Codes,
        which: Which<'_>,
        count: usize,
        row: impl Fn(usize) -> usize,
    ) {
        let Self { rows, query, search, wanted, possible } = self;
        if search.k == 0 {
            return;
        }
        let mut products = [0; BLOCK];
        let products = &mut products[..count];
        distance::products(&query.codes, &codes.values, which, products);
        for (place, product) in products.iter().enumerate() {
            let code = which.row(place);
            let raw_score = codes.raw_score(rows.metric, query, code, *product);
            let uncertainty = codes.uncertainty(rows.metric, query, code);
            let most = raw_score + uncertainty;
            if most >= *wanted && most >= possible.least() && search.admits(rows, row(place)) {
                possible.offer(row(place), raw_score, uncertainty);
            }
        }
    }

    fn settled(self) -> Vec<Hit> {
        self.rows.settle(self.query, self.possible, self.search)
    }
}

/// Rows that might be among the best, for all that their codes say.
struct Possible {
    /// The least that raw scores may be.
    certain: Top,
    /// The most that they may be.
    rows: Vec<Hit>,
}

impl Possible {
    fn new(k: usize) -> Self {
        Self { certain: Top::new(k), rows: Vec::new() }
    }

    /// The raw score that a row must be able to reach.
    #[inline]
    fn least(&self) -> f32 {
        self.certain.least()
    }

    #[inline]
    fn offer(&mut self, entry: usize, raw_score: f32, uncertainty: f32) {
        self.certain.offer(Hit { entry, similarity: raw_score - uncertainty });
        self.rows.push(Hit { entry, similarity: raw_score + uncertainty });
    }

    /// The promising ones, the most promising first.
    fn into_hits(mut self) -> Vec<Hit> {
        let least = self.certain.least();
        self.rows.retain(|hit| hit.similarity >= least);
        self.rows.sort_unstable_by(by_similarity);
        self.rows
    }
}
