//! The rows of a gallery behind the maps of folds. A picture's rows do not change with its label: of galleries that owners
//! relabel they are kept from one measurement to the next.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(feature = "parallel")]
use rayon::prelude::*;

use crate::error::GalleryError;
use crate::index::{VectorIndex, VectorType, round_row};
use crate::map::AdaptationMap;
use crate::mapped::mapped_rows;

/// Positions up to which rows are kept: 5 MB for each map at most.
const MOST_KEPT: usize = 5_000;
/// Rows that are mapped together.
const PIECE: usize = 960;
/// Values that tell one original from another before all are compared.
const TELLING: usize = 8;

/// What is compared, at the positions that a gallery has.
#[derive(Clone, Copy)]
pub(super) enum Compared<'a> {
    Index(&'a VectorIndex),
    /// `[positions, dim]`
    Rows {
        dim: usize,
        rows: &'a [f32],
    },
}

impl Compared<'_> {
    pub(super) fn dim(&self) -> usize {
        match self {
            Self::Index(index) => index.dim(),
            Self::Rows { dim, .. } => *dim,
        }
    }

    pub(super) fn row(&self, position: usize) -> Cow<'_, [f32]> {
        match self {
            Self::Index(index) => index.vector(position),
            Self::Rows { dim, rows } => Cow::Borrowed(&rows[position * dim..][..*dim]),
        }
    }
}

/// Rows behind a map: kept ones, or those of a gallery that is too large for it.
pub(super) enum Behind {
    Kept { dim: usize, rows: Arc<Vec<f32>> },
    Large(Box<VectorIndex>),
}

impl Behind {
    pub(super) fn compared(&self) -> Compared<'_> {
        match self {
            Self::Kept { dim, rows } => Compared::Rows { dim: *dim, rows },
            Self::Large(index) => Compared::Index(index),
        }
    }
}

/// A gallery's rows as the extractor gave them, those that were taken out included.
pub(super) struct Originals<'a> {
    stored: &'a VectorIndex,
    /// `[positions, dim]`; none of a gallery that is too large.
    rows: Option<Vec<f32>>,
}

impl<'a> Originals<'a> {
    pub(super) fn of(stored: &'a VectorIndex) -> Self {
        let rows = (stored.positions() <= MOST_KEPT).then(|| decoded(stored));
        Self { stored, rows }
    }
}

/// All rows of an index, `[positions, dim]`.
fn decoded(index: &VectorIndex) -> Vec<f32> {
    let mut rows = Vec::with_capacity(index.positions() * index.dim());
    for position in 0..index.positions() {
        rows.extend_from_slice(&index.vector(position));
    }
    rows
}

/// What is behind a map of every row, as a gallery stores it: `[positions, values]`.
fn mapped(map: &AdaptationMap, rows: &[f32], vector_type: VectorType) -> Vec<f32> {
    let piece = |rows: &[f32]| {
        let mut mapped = map.apply_all(rows);
        for row in mapped.chunks_exact_mut(map.values()) {
            round_row(vector_type, row);
        }
        mapped
    };
    #[cfg(feature = "parallel")]
    let pieces: Vec<Vec<f32>> = rows.par_chunks(PIECE * map.dim()).map(piece).collect();
    #[cfg(not(feature = "parallel"))]
    let pieces: Vec<Vec<f32>> = rows.chunks(PIECE * map.dim()).map(piece).collect();
    pieces.concat()
}

/// Rows behind maps, each of its place among these.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Memo>>);

/// What is kept follows from the maps.
impl PartialEq for Kept {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[derive(Debug, Default)]
struct Memo {
    originals: Vec<f32>,
    /// What the rows are rounded to; `None` before there are any.
    vector_type: Option<VectorType>,
    behind: BTreeMap<usize, Arc<Vec<f32>>>,
}

impl Kept {
    /// The rows behind a map.
    ///
    /// # Errors
    ///
    /// As [`mapped_rows`].
    pub(super) fn rows(
        &self,
        place: usize,
        map: &AdaptationMap,
        originals: &Originals<'_>,
    ) -> Result<Behind, GalleryError> {
        let Originals { stored, rows: Some(rows) } = originals else {
            return Ok(Behind::Large(Box::new(mapped_rows(map, originals.stored)?)));
        };
        let (dim, vector_type) = (map.values(), stored.vector_type());
        let memo = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut memo = memo();
            memo.follow(rows, map.dim(), vector_type);
            if let Some(rows) = memo.behind.get(&place) {
                return Ok(Behind::Kept { dim, rows: rows.clone() });
            }
        }
        // Nobody waits for the maps of somebody else.
        let made = Arc::new(mapped(map, rows, vector_type));
        let mut memo = memo();
        memo.follow(rows, map.dim(), vector_type);
        memo.behind.insert(place, made.clone());
        Ok(Behind::Kept { dim, rows: made })
    }
}

impl Memo {
    /// Brings what is kept into the order of these originals; what is of others goes.
    fn follow(&mut self, originals: &[f32], dim: usize, vector_type: VectorType) {
        if self.vector_type.replace(vector_type) != Some(vector_type) {
            self.behind.clear();
        }
        if self.originals == originals {
            return;
        }
        match self.places_of(originals, dim) {
            Some(places) => {
                let before = (self.originals.len() / dim).max(1);
                for rows in self.behind.values_mut() {
                    let width = rows.len() / before;
                    let moved = places.iter().flat_map(|place| &rows[place * width..][..width]);
                    *rows = Arc::new(moved.copied().collect());
                }
            }
            None => self.behind.clear(),
        }
        self.originals = originals.to_vec();
    }

    /// Where each original was before; `None` where one was not.
    fn places_of(&self, originals: &[f32], dim: usize) -> Option<Vec<usize>> {
        if self.behind.is_empty() {
            return None;
        }
        let told_by =
            |row: &[f32]| -> Vec<u32> { row.iter().take(TELLING).map(|v| v.to_bits()).collect() };
        let before: HashMap<Vec<u32>, usize> = (self.originals.chunks_exact(dim).enumerate())
            .map(|(place, row)| (told_by(row), place))
            .collect();
        let place_of = |row: &[f32]| {
            let place = *before.get(&told_by(row))?;
            (self.originals[place * dim..][..dim] == *row).then_some(place)
        };
        originals.chunks_exact(dim).map(place_of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Metric;
    use crate::map::AdaptationKind;

    const DIM: usize = 11;

    fn number(place: usize) -> f32 {
        ((place * 31 + 7) as f32 * 0.71).sin()
    }

    fn map() -> AdaptationMap {
        let rows: Vec<f32> = (0..5 * DIM).map(number).collect();
        let mean: Vec<f32> = (0..DIM).map(|i| 0.1 * number(i + 3)).collect();
        AdaptationMap::new(AdaptationKind::Whitening, 0.1, 9, &rows, &mean).unwrap()
    }

    fn index(vector_type: VectorType, places: &[usize]) -> VectorIndex {
        let mut index = VectorIndex::new(DIM, Metric::InnerProduct, vector_type);
        for place in places {
            let row: Vec<f32> = (0..DIM).map(|i| number(place * 97 + i)).collect();
            index.add(&row).unwrap();
        }
        index
    }

    fn rows(kept: &Kept, stored: &VectorIndex) -> Vec<f32> {
        let behind = kept.rows(3, &map(), &Originals::of(stored)).unwrap();
        let compared = behind.compared();
        assert_eq!(compared.dim(), 5);
        (0..stored.positions()).flat_map(|position| compared.row(position).into_owned()).collect()
    }

    fn bits(rows: &[f32]) -> Vec<u32> {
        rows.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn rows_are_those_of_a_gallery_behind_the_map_in_any_order() {
        for vector_type in [VectorType::F32, VectorType::F16, VectorType::I8] {
            let kept = Kept::default();
            // Another order, fewer rows, one of them twice, one that is new.
            for places in [vec![0, 1, 2, 3, 4], vec![3, 1, 4, 0, 2], vec![2, 0, 2], vec![9, 0]] {
                let stored = index(vector_type, &places);
                let wanted = decoded(&mapped_rows(&map(), &stored).unwrap());
                for _ in 0..2 {
                    let rows = rows(&kept, &stored);
                    assert_eq!(bits(&rows), bits(&wanted), "{vector_type:?} {places:?}");
                }
            }
        }
    }

    #[test]
    fn rows_of_one_type_are_not_those_of_another() {
        let kept = Kept::default();
        for vector_type in [VectorType::F32, VectorType::F16, VectorType::F32] {
            let mut stored = VectorIndex::new(DIM, Metric::InnerProduct, vector_type);
            // The originals are the same in both.
            stored.add(&[0.25; DIM]).unwrap();
            let wanted = decoded(&mapped_rows(&map(), &stored).unwrap());
            assert_eq!(bits(&rows(&kept, &stored)), bits(&wanted), "{vector_type:?}");
        }
    }

    #[test]
    fn originals_that_begin_alike_are_told_apart() {
        let kept = Kept::default();
        let of = |last: f32| {
            let mut index = VectorIndex::new(DIM, Metric::InnerProduct, VectorType::F32);
            let mut row = [0.5; DIM];
            row[DIM - 1] = last;
            index.add(&row).unwrap();
            index
        };
        let [first, second] = [0.25, 0.75].map(|last| rows(&kept, &of(last)));
        assert_ne!(first, second);
        assert_eq!(second, rows(&Kept::default(), &of(0.75)));
    }
}
