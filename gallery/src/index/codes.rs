//! Rows rounded to 8-bit codes, and what a scan needs to know of each.

use super::Metric;
use crate::aligned::Aligned;

/// Rows' codes are padded to a multiple of it.
const PADDING: usize = 32;
/// What sums of floats may be off by, as a share of the lengths that are multiplied.
const ROUNDING: f32 = 4e-6;

/// A query in the forms that rows are compared with.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) values: Vec<f32>,
    pub(super) codes: Vec<i16>,
    pub(super) scale: f32,
    /// Length.
    pub(super) norm: f32,
    /// Length of what rounding to codes took away.
    pub(super) error: f32,
}

/// Rows as 8-bit codes, with what a scan needs to know of each.
#[derive(Debug, Clone)]
pub(super) struct Codes {
    /// `[len, width]`, the dimension padded by zeros.
    pub(super) values: Aligned<i8>,
    pub(super) width: usize,
    pub(super) scales: Vec<f32>,
    /// Length of what rounding to codes took from a row.
    errors: Vec<f32>,
    /// Length of a row.
    pub(super) norms: Vec<f32>,
}

impl Codes {
    pub(super) fn new(dim: usize) -> Self {
        Self {
            values: Aligned::default(),
            width: dim.next_multiple_of(PADDING),
            scales: Vec::new(),
            errors: Vec::new(),
            norms: Vec::new(),
        }
    }

    pub(super) fn row(&self, row: usize) -> &[i8] {
        &self.values[row * self.width..(row + 1) * self.width]
    }

    pub(super) fn describe(&mut self, scale: f32, error: f32, norm: f32) {
        self.scales.push(scale);
        self.errors.push(error);
        self.norms.push(norm);
    }

    /// Adds a row of others.
    pub(super) fn push(&mut self, other: &Self, row: usize) {
        self.values.grow(self.width).copy_from_slice(other.row(row));
        self.describe(other.scales[row], other.errors[row], other.norms[row]);
    }

    pub(super) fn replace(&mut self, row: usize, other: &Self, from: usize) {
        self.values[row * self.width..(row + 1) * self.width].copy_from_slice(other.row(from));
        (self.scales[row], self.errors[row], self.norms[row]) =
            (other.scales[from], other.errors[from], other.norms[from]);
    }

    pub(super) fn keep(&mut self, kept: &[usize]) {
        move_together(&mut self.values, kept, self.width);
        self.values.truncate(kept.len() * self.width);
        keep(&mut self.scales, kept, 1);
        keep(&mut self.errors, kept, 1);
        keep(&mut self.norms, kept, 1);
    }

    #[inline]
    pub(super) fn raw_score(&self, metric: Metric, query: &Query, row: usize, product: i32) -> f32 {
        product as f32 * (query.scale * self.scales[row]) - self.offset(metric, row)
    }

    /// What an raw score to a row lacks of their inner product.
    #[inline]
    pub(super) fn offset(&self, metric: Metric, row: usize) -> f32 {
        match metric {
            Metric::InnerProduct => 0.0,
            Metric::L2 => self.norms[row] * self.norms[row] / 2.0,
        }
    }

    /// How far an raw score may be from that of the row's values.
    #[inline]
    pub(super) fn uncertainty(&self, metric: Metric, query: &Query, row: usize) -> f32 {
        let (norm, error) = (self.norms[row], self.errors[row]);
        let rounding = match metric {
            Metric::InnerProduct => query.norm * norm,
            Metric::L2 => query.norm * norm + norm * norm + query.norm * query.norm,
        };
        query.norm * error + query.error * (norm + error) + ROUNDING * rounding
    }
}

/// Moves the rows that are kept together.
pub(super) fn keep<T: Copy>(values: &mut Vec<T>, kept: &[usize], width: usize) {
    move_together(values, kept, width);
    values.truncate(kept.len() * width);
}

fn move_together<T: Copy>(values: &mut [T], kept: &[usize], width: usize) {
    for (to, from) in kept.iter().enumerate() {
        values.copy_within(from * width..(from + 1) * width, to * width);
    }
}

/// Some rows whose codes lie together, apart from the others'.
#[derive(Debug, Clone)]
pub(super) struct Together {
    pub(super) rows: Vec<u32>,
    pub(super) codes: Codes,
}

impl Together {
    /// None yet, of this many values.
    pub(super) fn new(dim: usize) -> Self {
        Self { rows: Vec::new(), codes: Codes::new(dim) }
    }

    /// Adds a row of all.
    pub(super) fn push(&mut self, all: &Codes, row: u32) {
        self.rows.push(row);
        self.codes.push(all, row as usize);
    }
}
