//! Exact search: every embedding is compared with the query.

use super::{Hit, Index};

/// All embeddings in one row-major matrix, searched exhaustively.
#[derive(Debug, Clone)]
pub struct FlatIndex {
    dim: usize,
    values: Vec<f32>,
}

impl FlatIndex {
    /// An empty index for embeddings of `dim` values.
    pub fn new(dim: usize) -> Self {
        Self { dim, values: Vec::new() }
    }

    /// An index over existing rows.
    ///
    /// # Shapes
    ///
    /// - `values`: `[entries, dim]`, row-major
    ///
    /// # Panics
    ///
    /// When `values` is no whole number of rows.
    pub fn from_rows(dim: usize, values: Vec<f32>) -> Self {
        assert!(dim > 0 && values.len().is_multiple_of(dim), "rows of {dim} values");
        Self { dim, values }
    }
}

impl Index for FlatIndex {
    fn search(&self, query: &[f32], k: usize) -> Vec<Hit> {
        if k == 0 || query.len() != self.dim {
            return Vec::new();
        }
        let mut hits: Vec<Hit> = self
            .values
            .chunks_exact(self.dim)
            .enumerate()
            .map(|(entry, row)| Hit { entry, similarity: inner_product(row, query) })
            .collect();
        let order =
            |a: &Hit, b: &Hit| b.similarity.total_cmp(&a.similarity).then(a.entry.cmp(&b.entry));
        if k < hits.len() {
            hits.select_nth_unstable_by(k - 1, order);
            hits.truncate(k);
        }
        hits.sort_unstable_by(order);
        hits
    }

    fn add(&mut self, embedding: &[f32]) {
        assert_eq!(embedding.len(), self.dim, "width of the embedding");
        self.values.extend_from_slice(embedding);
    }

    fn len(&self) -> usize {
        self.values.len() / self.dim.max(1)
    }

    fn embedding(&self, entry: usize) -> &[f32] {
        &self.values[entry * self.dim..(entry + 1) * self.dim]
    }
}

/// Inner product with eight running sums, so that it vectorises; the same order on every machine.
pub(super) fn inner_product(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}
