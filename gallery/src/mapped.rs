//! Entries of a gallery on their way through its map: originals are kept, what is behind the map is searched.

use std::sync::Arc;

use crate::error::GalleryError;
use crate::gallery::{Adapted, Gallery};
use crate::index::{IndexError, Metric, VectorIndex};
use crate::map::AdaptationMap;

/// Entries that are mapped together.
const PIECE: usize = 960;

impl Gallery {
    /// A query as the index is asked it.
    ///
    /// # Shapes
    ///
    /// - `unit`: `[dim]`, of unit length
    pub(crate) fn mapped(&self, unit: Vec<f32>) -> Result<Vec<f32>, GalleryError> {
        match self.map() {
            Some(map) => map.apply(&unit).ok_or(GalleryError::ZeroLength),
            None => Ok(unit),
        }
    }

    /// Adds a row to the index and, where they are kept, to the originals. What is searched is what a reader of the
    /// file computes: the map of the original as it is stored.
    pub(crate) fn push_row(&mut self, embedding: &[f32]) -> Result<(), GalleryError> {
        let Some(Adapted { map, originals: Some(originals) }) = &mut self.adapted else {
            self.index.add(embedding)?;
            return Ok(());
        };
        let mut stored = VectorIndex::new(map.dim(), Metric::InnerProduct, originals.vector_type());
        stored.add(embedding)?;
        let mapped = map.apply(&stored.vector(0)).ok_or(GalleryError::ZeroLength)?;
        self.index.add(&mapped)?;
        originals.add(embedding)?;
        Ok(())
    }

    /// Takes an entry out; it keeps its position.
    pub(crate) fn take_out(&mut self, entry: usize) -> Result<(), IndexError> {
        self.index.remove(entry)?;
        if let Some(Adapted { originals: Some(originals), .. }) = &mut self.adapted {
            originals.remove(entry)?;
        }
        Ok(())
    }

    /// Drops originals that were taken out, as the index has dropped them.
    pub(crate) fn compact_originals(&mut self) {
        if let Some(Adapted { originals: Some(originals), .. }) = &mut self.adapted {
            originals.compact();
        }
    }

    /// Keeps what is behind the map alone from now on.
    pub(crate) fn forget_originals(&mut self) {
        if let Some(adapted) = &mut self.adapted {
            adapted.originals = None;
        }
    }

    /// Whether two galleries compare what the same map made.
    pub(crate) fn has_map_of(&self, other: &Self) -> bool {
        let maps = (self.adapted.as_ref(), other.adapted.as_ref());
        let same = |a: &Adapted, b: &Adapted| Arc::ptr_eq(&a.map, &b.map) || a.map == b.map;
        match maps {
            (Some(a), Some(b)) => same(a, b),
            (None, None) => true,
            _ => false,
        }
    }

    /// Whether entries are known as the extractor gave them.
    pub fn has_originals(&self) -> bool {
        self.adapted.as_ref().is_none_or(|adapted| adapted.originals.is_some())
    }

    /// Searches behind another map from now on, or without one. The entries stay as they are; thresholds do, too,
    /// although they were measured with other cosines. What was learned about answers, and entries that were taken
    /// out, are dropped.
    ///
    /// # Errors
    ///
    /// [`GalleryError::Dimension`] for a map of another width, [`GalleryError::Options`] for what was fetched of
    /// shards; nothing is changed then.
    pub fn set_map(&mut self, map: Option<AdaptationMap>) -> Result<(), GalleryError> {
        self.set_shared_map(map.map(Arc::new))
    }

    /// Searches behind the map of another gallery from now on, or without one where that has none.
    ///
    /// # Errors
    ///
    /// As [`Self::set_map`].
    pub fn share_map(&mut self, other: &Self) -> Result<(), GalleryError> {
        if self.has_map_of(other) {
            return Ok(());
        }
        self.set_shared_map(other.adapted.as_ref().map(|adapted| adapted.map.clone()))
    }

    pub(crate) fn set_shared_map(
        &mut self,
        map: Option<Arc<AdaptationMap>>,
    ) -> Result<(), GalleryError> {
        if !self.has_originals() {
            let what = "what was fetched of shards has the map of its shard directory";
            return Err(GalleryError::Options { what: what.to_owned() });
        }
        if let Some(map) = map.as_ref().filter(|map| map.dim() != self.dim()) {
            return Err(GalleryError::Dimension { expected: self.dim(), got: map.dim() });
        }
        let config = self.index.config();
        let mut originals = self.stored().clone();
        let kept = originals.build(crate::index::IndexConfig::Flat)?;
        let (mut index, adapted) = match map {
            Some(map) => {
                let index = mapped_rows(&map, &originals)?;
                (index, Some(Adapted { map, originals: Some(originals) }))
            }
            None => (originals, None),
        };
        index.build(config)?;
        (self.index, self.adapted) = (index, adapted);
        self.entry_classes = kept.iter().map(|entry| self.entry_classes[*entry]).collect();
        self.content_ids = kept.iter().map(|entry| self.content_ids[*entry]).collect();
        self.class_means.take();
        self.calibration = None;
        Ok(())
    }
}

/// What is behind a map of every row, those that were taken out included; without a structure.
pub(crate) fn mapped_rows(
    map: &AdaptationMap,
    originals: &VectorIndex,
) -> Result<VectorIndex, GalleryError> {
    let mut index = VectorIndex::new(map.values(), Metric::InnerProduct, originals.vector_type());
    index.reserve(originals.positions());
    let piece = |first: usize| {
        let last = (first + PIECE).min(originals.positions());
        let rows: Vec<f32> =
            (first..last).flat_map(|row| originals.vector(row).into_owned()).collect();
        map.apply_all(&rows)
    };
    let starts: Vec<usize> = (0..originals.positions()).step_by(PIECE).collect();
    #[cfg(feature = "parallel")]
    let pieces: Vec<Vec<f32>> = {
        use rayon::prelude::*;
        starts.into_par_iter().map(piece).collect()
    };
    #[cfg(not(feature = "parallel"))]
    let pieces = starts.into_iter().map(piece);
    for piece in pieces {
        for row in piece.chunks_exact(map.values()) {
            index.add(row)?;
        }
    }
    Ok(index)
}
