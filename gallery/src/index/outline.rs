//! What finds rows that are never in memory together: for writing, not for searching.

use std::io::Write;

use super::binary::{Binary, Mean};
use super::ivf::{Ivf, Lists};
use super::rows::Rows;
use super::{IndexConfig, IndexError, Structure, VectorIndex, VectorType};

/// Rows that come in pieces, as often as they are asked for.
pub(crate) trait Pieces {
    /// What keeps them from coming.
    type Error: From<IndexError>;

    /// Rows in all.
    fn rows(&self) -> usize;

    /// None of them, of their width and type.
    fn none(&self) -> VectorIndex;

    /// Hands all pieces in order to `use_piece`, each with the number of rows before it.
    fn each(&mut self, use_piece: &mut dyn FnMut(usize, &VectorIndex)) -> Result<(), Self::Error>;
}

/// The structure of an index as [`VectorIndex::build`] would have it.
pub(crate) struct Outline {
    structure: Structure,
    /// What [`VectorIndex::unreachable`] says.
    pub(crate) unreachable: usize,
}

impl Outline {
    /// Makes it from pieces of the rows.
    ///
    /// Lists hold a sample of the rows meanwhile, 128 times the root of their number where nobody says
    /// how many lists; a graph holds the codes of all, since any row may be linked to any other.
    ///
    /// # Errors
    ///
    /// [`IndexError::Options`], and what the pieces say.
    pub(crate) fn of<P: Pieces>(config: IndexConfig, pieces: &mut P) -> Result<Self, P::Error> {
        let none = pieces.none();
        let (dim, metric) = (none.dim(), none.metric());
        let mut unreachable = 0;
        let structure = match config.check()? {
            IndexConfig::Flat => Structure::Flat,
            IndexConfig::Binary => {
                let mut mean = Mean::new(dim);
                pieces.each(&mut |_, piece| {
                    (0..piece.positions()).for_each(|row| mean.add(&piece.vector(row)));
                })?;
                Structure::Binary(Binary::outline(&mean))
            }
            IndexConfig::Ivf { lists } => {
                let Lists { lists, step } = Lists::of(pieces.rows(), lists);
                // Keeps every value as it is.
                let exact = match none.vector_type() {
                    VectorType::I8 => VectorType::F32,
                    floats => floats,
                };
                let mut sample = Rows::new(dim, metric, exact);
                pieces.each(&mut |first, piece| {
                    let places = (0..piece.positions()).filter(|row| (first + row) % step == 0);
                    places.for_each(|row| sample.push(&piece.vector(row)));
                })?;
                let places: Vec<usize> = (0..sample.len()).collect();
                let mut ivf = Ivf::learned(&sample, &places, lists);
                drop(sample);
                pieces.each(&mut |first, piece| ivf.note(&piece.rows, first))?;
                Structure::Ivf(ivf)
            }
            IndexConfig::Hnsw { .. } => {
                // Walks compare codes alone.
                let mut codes = VectorIndex::new(dim, metric, VectorType::I8);
                pieces.each(&mut |_, piece| {
                    for row in 0..piece.positions() {
                        let (row, factor) = piece.stored_codes(row);
                        codes.add_stored_codes(row.iter().copied(), factor);
                    }
                })?;
                codes.build(config)?;
                unreachable = codes.unreachable();
                codes.structure
            }
        };
        Ok(Self { structure, unreachable })
    }

    /// Writes what [`VectorIndex::write_structure`] writes.
    pub(crate) fn write(&self, writer: &mut dyn Write) -> std::io::Result<()> {
        self.structure.write(writer)
    }
}
