//! Indexes: ways to find the vectors that are most similar to a query.
//!
//! One type, [`VectorIndex`], holds the vectors and answers; [`IndexConfig`] says how it finds
//! them. Every kind can be built, searched (alone or in batches), added to, taken from, changed and
//! written, filters by any condition on an entry and searches by threshold.

mod binary;
mod bytes;
mod codes;
mod config;
mod distance;
mod hnsw;
mod ivf;
#[cfg(feature = "parallel")]
mod outline;
mod rows;
mod search;
mod top;
mod vector_type;

use std::borrow::Cow;
use std::io::Write;

use thiserror::Error;

use binary::Binary;
use codes::Query;
use hnsw::Hnsw;
use ivf::Ivf;
use rows::Rows;

pub(super) use bytes::Bytes;
pub use config::{IndexConfig, Metric};
pub(super) use distance::exact_product;
#[cfg(feature = "parallel")]
pub(super) use outline::{Outline, Pieces};
pub(crate) use rows::round_row;
pub use search::{Filter, Hit, Search};
pub use vector_type::{UnknownVectorType, VectorType};

/// A filter that admits less than one in this many entries is answered by scanning those.
const SELECTIVE: usize = 8;

/// Why an index could not be read or changed.
#[derive(Debug, Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum IndexError {
    /// A vector of another width.
    #[error("vector has {got} values, the index holds {expected}")]
    Dimension {
        /// Width of the index's vectors.
        expected: usize,
        /// Width given.
        got: usize,
    },
    /// A value that is infinite or not a number, or too large to compute with.
    #[error("vector holds a value that is not finite")]
    NotFinite,
    /// A value that the type of the values cannot hold.
    #[error("{value:e} does not fit {vector_type}; store values as f32")]
    DoesNotFit {
        /// The value.
        value: f32,
        /// Type of the values.
        vector_type: VectorType,
    },
    /// An entry that is not there, or no longer.
    #[error("entry {entry} is not there")]
    NoEntry {
        /// The entry.
        entry: usize,
    },
    /// Options beyond what is allowed.
    #[error("{what}")]
    Options {
        /// Which, and what is allowed.
        what: String,
    },
    /// Bytes that no writer produces.
    #[error("{what}")]
    Damaged {
        /// What contradicts what.
        what: String,
    },
}

#[derive(Debug, Clone)]
enum Structure {
    Flat,
    Hnsw(Hnsw),
    Ivf(Ivf),
    Binary(Binary),
}

impl Structure {
    fn write(&self, writer: &mut dyn Write) -> std::io::Result<()> {
        match self {
            Self::Flat => Ok(()),
            Self::Hnsw(graph) => graph.write(writer),
            Self::Ivf(lists) => lists.write(writer),
            Self::Binary(codes) => codes.write(writer),
        }
    }
}

/// Vectors that can be searched: the rows and what finds them.
///
/// ```
/// use gallery::{Metric, Search, VectorIndex, VectorType};
///
/// let mut index = VectorIndex::new(2, Metric::InnerProduct, VectorType::F32);
/// for vector in [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]] {
///     index.add(&vector)?;
/// }
/// let is_odd = |entry: usize| entry % 2 == 1;
/// let hits = index.search(&[0.0, 1.0], &Search::best(2))?;
/// assert_eq!([hits[0].entry, hits[1].entry], [1, 2]);
/// let hits = index.search(&[1.0, 0.0], &Search::best(2).filtered(&is_odd))?;
/// assert_eq!((hits.len(), hits[0].entry), (1, 1));
/// # Ok::<(), gallery::IndexError>(())
/// ```
#[derive(Debug, Clone)]
pub struct VectorIndex {
    rows: Rows,
    config: IndexConfig,
    structure: Structure,
}

impl VectorIndex {
    /// An empty index for vectors of `dim` values, scanned exactly.
    pub fn new(dim: usize, metric: Metric, vector_type: VectorType) -> Self {
        let rows = Rows::new(dim, metric, vector_type);
        Self { rows, config: IndexConfig::Flat, structure: Structure::Flat }
    }

    /// An index over rows.
    ///
    /// # Shapes
    ///
    /// - `values`: `[entries, dim]`, row-major
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimension`] for a part of a row, [`IndexError::NotFinite`], or
    /// [`IndexError::Options`].
    pub fn from_rows(
        dim: usize,
        metric: Metric,
        vector_type: VectorType,
        values: &[f32],
        config: IndexConfig,
    ) -> Result<Self, IndexError> {
        let mut index = Self::new(dim, metric, vector_type);
        if dim == 0 || !values.len().is_multiple_of(dim) {
            return Err(IndexError::Dimension { expected: dim, got: values.len() });
        }
        for row in values.chunks_exact(dim) {
            index.add(row)?;
        }
        index.build(config)?;
        Ok(index)
    }

    /// Builds the structure of a kind anew over the entries that are there, first dropping those
    /// that were taken out. Positions change as [`Self::compact`] says.
    ///
    /// # Errors
    ///
    /// [`IndexError::Options`]
    pub fn build(&mut self, config: IndexConfig) -> Result<Vec<usize>, IndexError> {
        self.config = config.check()?;
        let kept = self.rows.keep_live();
        self.structure = match config {
            IndexConfig::Flat => Structure::Flat,
            IndexConfig::Hnsw { m, ef_construction } => {
                let mut graph = Hnsw::over(hnsw::Options { m, ef_construction }, &self.rows);
                graph.settle();
                Structure::Hnsw(graph)
            }
            IndexConfig::Ivf { lists } => Structure::Ivf(Ivf::build(&self.rows, lists)),
            IndexConfig::Binary => Structure::Binary(Binary::build(&self.rows)),
        };
        Ok(kept)
    }

    /// Drops entries that were taken out; the former positions of those that stay, in order.
    pub fn compact(&mut self) -> Vec<usize> {
        if self.rows.dead() == 0 {
            return (0..self.rows.len()).collect();
        }
        self.build(self.config).expect("the options were good before")
    }

    /// Number of entries that a search for them does not come to, however much it looks at. There is none
    /// in an index as it was built; entries that were added to a graph later may cut some off.
    pub fn unreachable(&self) -> usize {
        match &self.structure {
            Structure::Hnsw(graph) => graph.unreachable(&self.rows, &|row| self.contains(row)),
            Structure::Flat | Structure::Ivf(_) | Structure::Binary(_) => 0,
        }
    }

    /// Adds links to a graph until searches come to every entry; other kinds need none. A graph from a file in
    /// which many equal entries keep others out of view is built anew; no position changes.
    pub fn connect(&mut self) {
        if let Structure::Hnsw(graph) = &mut self.structure {
            graph.mend(&self.rows);
        }
    }

    /// How entries are found.
    pub fn config(&self) -> IndexConfig {
        self.config
    }

    /// What makes vectors similar.
    pub fn metric(&self) -> Metric {
        self.rows.metric()
    }

    /// How values are stored.
    pub fn vector_type(&self) -> VectorType {
        self.rows.vector_type()
    }

    /// Values of a vector.
    pub fn dim(&self) -> usize {
        self.rows.dim()
    }

    /// Entries that can be found.
    pub fn len(&self) -> usize {
        self.rows.len() - self.rows.dead()
    }

    /// Whether there is nothing to find.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Positions, those of entries that were taken out included.
    pub fn positions(&self) -> usize {
        self.rows.len()
    }

    /// Whether an entry is there.
    pub fn contains(&self, entry: usize) -> bool {
        self.rows.is_live(entry)
    }

    /// The vector of an entry as it is stored, `[dim]`.
    ///
    /// # Panics
    ///
    /// For a position that never was.
    pub fn vector(&self, entry: usize) -> Cow<'_, [f32]> {
        self.rows.values(entry)
    }

    fn checked(&self, vector: &[f32]) -> Result<(), IndexError> {
        if vector.len() != self.dim() {
            return Err(IndexError::Dimension { expected: self.dim(), got: vector.len() });
        }
        // Squared lengths are computed with.
        let square: f32 = vector.iter().map(|v| v * v).sum();
        if square.is_finite() { Ok(()) } else { Err(IndexError::NotFinite) }
    }

    /// The same for a vector that is going to be stored.
    fn storable(&self, vector: &[f32]) -> Result<(), IndexError> {
        self.checked(vector)?;
        let vector_type = self.vector_type();
        match vector.iter().find(|value| !vector_type.holds(**value)) {
            Some(value) => Err(IndexError::DoesNotFit { value: *value, vector_type }),
            None => Ok(()),
        }
    }

    /// Adds a vector behind the others and returns its position.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimension`], [`IndexError::NotFinite`] or [`IndexError::DoesNotFit`].
    pub fn add(&mut self, vector: &[f32]) -> Result<usize, IndexError> {
        self.storable(vector)?;
        let entry = self.rows.len();
        self.rows.push(vector);
        match &mut self.structure {
            Structure::Flat => (),
            Structure::Hnsw(graph) => graph.push(&self.rows),
            Structure::Ivf(lists) => lists.push(&self.rows, entry),
            Structure::Binary(codes) => codes.push(&self.rows, entry),
        }
        Ok(entry)
    }

    /// Takes an entry out. It keeps its position until [`Self::compact`].
    ///
    /// # Errors
    ///
    /// [`IndexError::NoEntry`]
    pub fn remove(&mut self, entry: usize) -> Result<(), IndexError> {
        if !self.contains(entry) {
            return Err(IndexError::NoEntry { entry });
        }
        self.rows.remove(entry);
        Ok(())
    }

    /// Gives an entry another vector and returns its position, which a graph or lists change.
    ///
    /// # Errors
    ///
    /// [`IndexError::NoEntry`], and as [`Self::add`].
    pub fn replace(&mut self, entry: usize, vector: &[f32]) -> Result<usize, IndexError> {
        self.storable(vector)?;
        if !self.contains(entry) {
            return Err(IndexError::NoEntry { entry });
        }
        match &mut self.structure {
            Structure::Flat => self.rows.replace(entry, vector),
            Structure::Binary(codes) => {
                self.rows.replace(entry, vector);
                codes.replace(&self.rows, entry);
            }
            Structure::Hnsw(_) | Structure::Ivf(_) => {
                self.remove(entry)?;
                return self.add(vector);
            }
        }
        Ok(entry)
    }

    /// The entries that are most similar, best first; equal ones in the order they were added.
    ///
    /// # Shapes
    ///
    /// - `query`: `[dim]`
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimension`] or [`IndexError::NotFinite`].
    pub fn search(&self, query: &[f32], search: &Search<'_>) -> Result<Vec<Hit>, IndexError> {
        self.checked(query)?;
        Ok(self.find(&self.rows.query(query), search))
    }

    /// [`Self::search`] for many queries, on all threads if there are any.
    ///
    /// # Shapes
    ///
    /// - `queries`: `[count, dim]`, row-major
    ///
    /// # Errors
    ///
    /// As [`Self::search`].
    pub fn search_batch(
        &self,
        queries: &[f32],
        search: &Search<'_>,
    ) -> Result<Vec<Vec<Hit>>, IndexError> {
        let dim = self.dim();
        if dim == 0 || !queries.len().is_multiple_of(dim) {
            return Err(IndexError::Dimension { expected: dim, got: queries.len() });
        }
        #[cfg(feature = "parallel")]
        {
            use rayon::prelude::*;
            queries.par_chunks_exact(dim).map(|query| self.search(query, search)).collect()
        }
        #[cfg(not(feature = "parallel"))]
        queries.chunks_exact(dim).map(|query| self.search(query, search)).collect()
    }

    fn find(&self, query: &Query, search: &Search<'_>) -> Vec<Hit> {
        let rows = &self.rows;
        let exact = || rows.scan(query, 0..rows.len(), search);
        // What asks for most entries sees them all.
        if matches!(self.structure, Structure::Flat) || search.k >= self.len() / 2 {
            return exact();
        }
        if search.filter.is_some() {
            let admitted = (0..rows.len()).filter(|row| search.admits(rows, *row));
            if admitted.count() * SELECTIVE < rows.len() {
                return exact();
            }
        }
        match &self.structure {
            Structure::Flat => exact(),
            Structure::Hnsw(graph) => {
                graph.search(rows, query, search.ef_search.unwrap_or(64), search)
            }
            Structure::Ivf(lists) => {
                let ef_search = search.ef_search.unwrap_or((lists.len() / 16).max(16));
                lists.search(rows, query, ef_search, search)
            }
            Structure::Binary(codes) => {
                codes.search(rows, query, search.ef_search.unwrap_or(200), search)
            }
        }
    }

    /// Writes the structure; the vectors are not in it.
    pub(super) fn write_structure(&self, writer: &mut dyn Write) -> std::io::Result<()> {
        self.structure.write(writer)
    }

    /// Takes [`Self::write_structure`] back, behind the vectors that it belongs to.
    pub(super) fn read_structure(
        &mut self,
        config: IndexConfig,
        bytes: &[u8],
    ) -> Result<(), IndexError> {
        self.config = config.check()?;
        let mut bytes = Bytes(bytes);
        self.structure = match config {
            IndexConfig::Flat => Structure::Flat,
            IndexConfig::Hnsw { m, ef_construction } => {
                let options = hnsw::Options { m, ef_construction };
                Structure::Hnsw(Hnsw::read(&mut bytes, options, self.rows.len())?)
            }
            IndexConfig::Ivf { .. } => Structure::Ivf(Ivf::read(&mut bytes, &self.rows)?),
            IndexConfig::Binary => Structure::Binary(Binary::read(&mut bytes, &self.rows)?),
        };
        if bytes.0.is_empty() {
            return Ok(());
        }
        Err(IndexError::Damaged { what: "bytes behind its end".to_owned() })
    }

    /// Makes room for this many more vectors.
    pub(super) fn reserve(&mut self, more: usize) {
        self.rows.reserve(more);
    }

    /// Adds a vector of 8-bit numbers as it was stored, before there is a structure.
    pub(super) fn add_stored_codes(&mut self, codes: impl Iterator<Item = i8>, scale: f32) {
        self.rows.push_stored_codes(codes, scale);
    }

    /// The 8-bit numbers of an entry and their factor.
    pub(super) fn stored_codes(&self, entry: usize) -> (&[i8], f32) {
        self.rows.stored_codes(entry)
    }
}

#[cfg(test)]
mod tests;
