//! What is searched for and what is found.

use super::rows::Rows;

/// An entry and how similar it is to the query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Position of the entry in the index.
    pub entry: usize,
    /// By the index's [`Metric`](super::Metric); greater is nearer.
    pub similarity: f32,
}

/// A condition on an entry's position.
pub type Filter<'a> = &'a (dyn Fn(usize) -> bool + Sync);

/// What is searched for.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    /// Most entries that are returned; `usize::MAX` with `min_similarity` for a range search.
    pub k: usize,
    /// Least similarity; absent: any.
    pub min_similarity: Option<f32>,
    /// Only entries for which it is true.
    pub filter: Option<Filter<'a>>,
    /// How much is looked at: entries in view (HNSW, by default 64), lists (IVF, by default one in
    /// 16 and at least 16), entries ranked by their values (binary, by default 200). An exact scan
    /// does not ask.
    pub ef_search: Option<usize>,
}

impl std::fmt::Debug for Search<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Search")
            .field("k", &self.k)
            .field("min_similarity", &self.min_similarity)
            .field("filter", &self.filter.is_some())
            .field("ef_search", &self.ef_search)
            .finish()
    }
}

impl<'a> Search<'a> {
    /// The `k` best entries.
    pub fn best(k: usize) -> Self {
        Self { k, min_similarity: None, filter: None, ef_search: None }
    }

    /// All entries that are at least so similar.
    pub fn range(min_similarity: f32) -> Self {
        Self { min_similarity: Some(min_similarity), ..Self::best(usize::MAX) }
    }

    /// Only entries for which `filter` is true.
    #[must_use]
    pub fn filtered(self, filter: Filter<'a>) -> Self {
        Self { filter: Some(filter), ..self }
    }

    /// Looking at so much; see [`Search::ef_search`].
    #[must_use]
    pub fn with_ef_search(self, ef_search: usize) -> Self {
        Self { ef_search: Some(ef_search), ..self }
    }

    #[inline]
    pub(super) fn admits(&self, rows: &Rows, row: usize) -> bool {
        rows.is_live(row) && self.filter.is_none_or(|filter| filter(row))
    }
}
