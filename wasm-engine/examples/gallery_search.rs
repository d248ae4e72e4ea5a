//! The gallery's index alone, for measurements in a browser beside other libraries.

use models::gallery::{IndexConfig, Metric, Search, VectorIndex, VectorType};
use wasm_bindgen::prelude::wasm_bindgen;

/// Vectors that can be searched.
#[wasm_bindgen]
pub struct Index {
    index: VectorIndex,
    /// How much a search looks at; `None`: as much as the index thinks right.
    ef_search: Option<usize>,
}

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
        Self { index: VectorIndex::new(dim, Metric::InnerProduct, vector_type), ef_search: None }
    }

    /// Adds rows; whether all of them are vectors.
    pub fn add(&mut self, rows: &[f32]) -> bool {
        rows.chunks_exact(self.index.dim()).all(|row| self.index.add(row).is_ok())
    }

    /// Builds `flat`, `binary`, `ivf:LISTS`, `hnsw` or `hnsw:M`. Searches look at as much as the
    /// index thinks right, or, where it is not 0, at `ef_search` lists or entries.
    pub fn build(&mut self, kind: &str, ef_search: usize) -> bool {
        let (kind, option) = kind.split_once(':').unwrap_or((kind, ""));
        let option = option.parse();
        let config = match (kind, IndexConfig::hnsw()) {
            ("hnsw", IndexConfig::Hnsw { m, ef_construction }) => {
                IndexConfig::Hnsw { m: option.unwrap_or(m), ef_construction }
            }
            ("ivf", _) => IndexConfig::Ivf { lists: option.unwrap_or(0) },
            ("binary", _) => IndexConfig::Binary,
            _ => IndexConfig::Flat,
        };
        self.ef_search = (ef_search > 0).then_some(ef_search);
        self.index.build(config).is_ok()
    }

    /// Positions of the nearest rows, best first.
    pub fn search(&self, query: &[f32], k: usize) -> Vec<u32> {
        let search = Search { ef_search: self.ef_search, ..Search::best(k) };
        let hits = self.index.search(query, &search).unwrap_or_default();
        hits.into_iter().map(|hit| hit.entry as u32).collect()
    }
}
