//! The gallery's index alone, for measurements in a browser beside other libraries.

use models::gallery::{IndexConfig, Metric, Search, VectorIndex, VectorType};
use wasm_bindgen::prelude::wasm_bindgen;

/// Vectors that can be searched.
#[wasm_bindgen]
pub struct Index(VectorIndex);

#[wasm_bindgen]
impl Index {
    /// An empty index; `values` are `f32`, `f16` or `i8`.
    #[wasm_bindgen(constructor)]
    pub fn new(dim: usize, values: &str) -> Self {
        let vector_type = match values {
            "f32" => VectorType::F32,
            "f16" => VectorType::F16,
            _ => VectorType::I8,
        };
        Self(VectorIndex::new(dim, Metric::InnerProduct, vector_type))
    }

    /// Adds rows; whether all of them are vectors.
    pub fn add(&mut self, rows: &[f32]) -> bool {
        rows.chunks_exact(self.0.dim()).all(|row| self.0.add(row).is_ok())
    }

    /// Builds `flat`, `binary`, `ivf` or `hnsw`.
    pub fn build(&mut self, kind: &str) -> bool {
        let config = match kind {
            "hnsw" => IndexConfig::hnsw(),
            "ivf" => IndexConfig::Ivf { lists: 0 },
            "binary" => IndexConfig::Binary,
            _ => IndexConfig::Flat,
        };
        self.0.build(config).is_ok()
    }

    /// Positions of the nearest rows, best first.
    pub fn search(&self, query: &[f32], k: usize) -> Vec<u32> {
        let hits = self.0.search(query, &Search::best(k)).unwrap_or_default();
        hits.into_iter().map(|hit| hit.entry as u32).collect()
    }
}
