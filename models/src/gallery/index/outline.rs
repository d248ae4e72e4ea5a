//! What finds rows that are never in memory together: for writing, not for searching.

use std::io::Write;

use super::binary::{Binary, Mean};
use super::ivf::{Ivf, Plan};
use super::rows::Rows;
use super::{IndexConfig, IndexError, Structure, VectorIndex, VectorType};

/// The structure of an index as [`VectorIndex::build`] would have it.
pub(in crate::gallery) struct Outline(Structure);

impl Outline {
    /// Makes it from pieces of the rows: `each` hands all of them in order to what it is given, each with
    /// the number of rows before it, and does so as often as it is asked.
    ///
    /// Lists hold a sample of the rows meanwhile, 128 times the root of their number where nobody says
    /// how many lists; a graph holds the codes of all, since any row may be linked to any other.
    ///
    /// # Errors
    ///
    /// [`IndexError::Options`], and what `each` says.
    pub(in crate::gallery) fn of<E: From<IndexError>>(
        config: IndexConfig,
        empty: &VectorIndex,
        entries: usize,
        each: &mut dyn FnMut(&mut dyn FnMut(usize, &VectorIndex)) -> Result<(), E>,
    ) -> Result<Self, E> {
        let (dim, metric) = (empty.dim(), empty.metric());
        Ok(Self(match config.check()? {
            IndexConfig::Flat => Structure::Flat,
            IndexConfig::Binary => {
                let mut mean = Mean::new(dim);
                each(&mut |_, piece| {
                    (0..piece.positions()).for_each(|row| mean.add(&piece.vector(row)));
                })?;
                Structure::Binary(Binary::outline(&mean))
            }
            IndexConfig::Ivf { lists } => {
                let Plan { lists, step } = Plan::of(entries, lists);
                // Keeps every value as it is.
                let exact = match empty.vector_type() {
                    VectorType::I8 => VectorType::F32,
                    floats => floats,
                };
                let mut sample = Rows::new(dim, metric, exact);
                each(&mut |first, piece| {
                    let places = (0..piece.positions()).filter(|row| (first + row) % step == 0);
                    places.for_each(|row| sample.push(&piece.vector(row)));
                })?;
                let places: Vec<usize> = (0..sample.len()).collect();
                let mut ivf = Ivf::learnt(&sample, &places, lists);
                drop(sample);
                each(&mut |first, piece| ivf.note(&piece.rows, first))?;
                Structure::Ivf(ivf)
            }
            IndexConfig::Hnsw { .. } => {
                // Walks compare codes alone.
                let mut codes = VectorIndex::new(dim, metric, VectorType::I8);
                each(&mut |_, piece| {
                    for row in 0..piece.positions() {
                        let (row, factor) = piece.stored_codes(row);
                        codes.add_stored_codes(row.iter().copied(), factor);
                    }
                })?;
                codes.build(config)?;
                codes.structure
            }
        }))
    }

    /// Writes what [`VectorIndex::write_structure`] writes.
    pub(in crate::gallery) fn write(&self, writer: &mut dyn Write) -> std::io::Result<()> {
        self.0.write(writer)
    }
}
