//! Rows in lists by the nearest of some centroids; a search looks through the lists whose centroids
//! are nearest to the query.
//!
//! Source: "Video Google: A Text Retrieval Approach to Object Matching in Videos", ICCV 2003, as
//! faiss' `IndexIVFFlat` has it: Lloyd's algorithm on a sample, lists of row numbers. Difference:
//! the sample and the first centroids follow from row numbers, so that the same rows give the same
//! lists.

use std::io::Write;

use super::bytes::Bytes;
use super::codes::{Query, Together};
use super::rows::Rows;
use super::vector_type::VectorType;
use super::{Hit, IndexError, Search};

/// Rows of the sample for each centroid.
const SAMPLE: usize = 32;
/// Rounds of Lloyd's algorithm.
const ROUNDS: usize = 8;
/// Most lists that are read.
pub(super) const MAX_LISTS: usize = 1 << 20;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(super) struct Ivf {
    centroids: Rows,
    /// Each with a copy of its rows' codes, which a scan reads from end to end: rows lie scattered.
    members: Vec<Together>,
}

/// How many lists, and which rows their centroids are learned from: every `step`-th.
pub(super) struct Lists {
    pub(super) lists: usize,
    pub(super) step: usize,
}

impl Lists {
    /// For this many rows; no lists asked for mean four times the root, as faiss advises.
    pub(super) fn of(rows: usize, lists: usize) -> Self {
        let most = if lists == 0 { (4.0 * (rows as f64).sqrt()) as usize } else { lists };
        let lists = most.min(rows);
        Self { lists, step: rows.div_ceil((SAMPLE * lists).max(1)).max(1) }
    }
}

impl Ivf {
    /// Learns centroids from the rows and puts all of them into lists.
    pub(super) fn build(rows: &Rows, lists: usize) -> Self {
        let live: Vec<usize> = (0..rows.len()).filter(|row| rows.is_live(*row)).collect();
        let Lists { lists, step } = Lists::of(live.len(), lists);
        let sample: Vec<usize> = live.iter().copied().step_by(step).collect();
        let mut ivf = Self::learned(rows, &sample, lists);
        let lists = nearest(rows, &ivf.centroids, &live);
        for (row, list) in live.into_iter().zip(lists) {
            ivf.members[list].push(rows.codes(), row as u32);
        }
        ivf
    }

    /// Lists without rows, around centroids that are learned from a sample of the rows.
    pub(super) fn learned(rows: &Rows, sample: &[usize], lists: usize) -> Self {
        let mut centroids = Rows::new(rows.dim(), rows.metric(), VectorType::F32);
        if let Some(spacing) = sample.len().checked_div(lists) {
            (0..lists).for_each(|i| centroids.push(&rows.values(sample[i * spacing])));
            for _ in 0..ROUNDS {
                centroids = moved(rows, &centroids, sample);
            }
        }
        Self { members: vec![Together::new(rows.dim()); centroids.len()], centroids }
    }

    /// Puts the numbers of rows into lists without a copy of their codes: for writing, not for searching.
    #[cfg(feature = "parallel")]
    pub(super) fn note(&mut self, rows: &Rows, first: usize) {
        let all: Vec<usize> = (0..rows.len()).collect();
        for (row, list) in (first..).zip(nearest(rows, &self.centroids, &all)) {
            self.members[list].rows.push(row as u32);
        }
    }

    /// Puts one more row into its list.
    pub(super) fn push(&mut self, rows: &Rows, row: usize) {
        if self.centroids.len() == 0 {
            self.centroids.push(&rows.values(row));
            self.members.push(Together::new(rows.dim()));
        }
        let list = nearest(rows, &self.centroids, &[row])[0];
        self.members[list].push(rows.codes(), row as u32);
    }

    /// The best rows of the lists that are nearest to the query; of more lists where these have too
    /// few.
    pub(super) fn search(
        &self,
        rows: &Rows,
        query: &Query,
        ef_search: usize,
        search: &Search<'_>,
    ) -> Vec<Hit> {
        let asked = self.centroids.query(&query.values);
        let mut ef_search = ef_search.max(1);
        loop {
            let lists = self.centroids.scan(&asked, 0..self.len(), &Search::best(ef_search));
            let members = lists.iter().map(|hit| &self.members[hit.entry]);
            let hits = rows.scan_together(query, members, search);
            let enough = hits.len() == search.k || search.min_similarity.is_some();
            if enough || ef_search >= self.len() {
                return hits;
            }
            ef_search = ef_search.saturating_mul(4);
        }
    }

    /// Lists there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// The number of lists, their centroids, and for every list the number of its rows and the rows.
    pub(super) fn write(&self, writer: &mut dyn Write) -> std::io::Result<()> {
        writer.write_all(&(self.members.len() as u32).to_le_bytes())?;
        for list in 0..self.members.len() {
            let values = self.centroids.values(list);
            values.iter().try_for_each(|value| writer.write_all(&value.to_le_bytes()))?;
        }
        for members in self.members.iter().map(|list| &list.rows) {
            writer.write_all(&(members.len() as u32).to_le_bytes())?;
            members.iter().try_for_each(|row| writer.write_all(&row.to_le_bytes()))?;
        }
        Ok(())
    }

    /// Reads what [`Self::write`] wrote.
    pub(super) fn read(bytes: &mut Bytes<'_>, rows: &Rows) -> Result<Self, IndexError> {
        let wrong = |what: &str| IndexError::Damaged { what: format!("lists: {what}") };
        let count = bytes.u32()? as usize;
        if count > MAX_LISTS {
            return Err(wrong("too many of them"));
        }
        let mut centroids = Rows::new(rows.dim(), rows.metric(), VectorType::F32);
        for _ in 0..count {
            centroids.push(&bytes.floats(rows.dim())?);
        }
        let mut listed = vec![false; rows.len()];
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            let length = bytes.u32()? as usize;
            if length > rows.len() {
                return Err(wrong("one is longer than all rows"));
            }
            let mut list = Together::new(rows.dim());
            for _ in 0..length {
                let row = bytes.u32()?;
                match listed.get_mut(row as usize) {
                    Some(listed) if !*listed => *listed = true,
                    _ => return Err(wrong("a row that is not there, or twice")),
                }
                list.push(rows.codes(), row);
            }
            members.push(list);
        }
        if (0..rows.len()).any(|row| rows.is_live(row) && !listed[row]) {
            return Err(wrong("a row is in none"));
        }
        Ok(Self { centroids, members })
    }
}

/// The nearest centroid of each row.
fn nearest(rows: &Rows, centroids: &Rows, which: &[usize]) -> Vec<usize> {
    let find = |row: &usize| {
        let query = centroids.query(&rows.values(*row));
        let best = centroids.scan(&query, 0..centroids.len(), &Search::best(1));
        best.first().map_or(0, |hit| hit.entry)
    };
    #[cfg(feature = "parallel")]
    {
        use rayon::prelude::*;
        which.par_iter().map(find).collect()
    }
    #[cfg(not(feature = "parallel"))]
    which.iter().map(find).collect()
}

/// Every centroid in the middle of the rows that are nearest to it; one without rows stays.
fn moved(rows: &Rows, centroids: &Rows, sample: &[usize]) -> Rows {
    let dim = rows.dim();
    let mut sums = vec![0.0_f64; centroids.len() * dim];
    let mut counts = vec![0_usize; centroids.len()];
    for (row, list) in sample.iter().zip(nearest(rows, centroids, sample)) {
        counts[list] += 1;
        let sum = &mut sums[list * dim..(list + 1) * dim];
        sum.iter_mut().zip(&*rows.values(*row)).for_each(|(s, v)| *s += f64::from(*v));
    }
    let mut moved = Rows::new(dim, centroids.metric(), VectorType::F32);
    for (list, count) in counts.into_iter().enumerate() {
        if count == 0 {
            moved.push(&centroids.values(list));
            continue;
        }
        let sum = &sums[list * dim..(list + 1) * dim];
        let mean: Vec<f32> = sum.iter().map(|s| (s / count as f64) as f32).collect();
        moved.push(&mean);
    }
    moved
}
