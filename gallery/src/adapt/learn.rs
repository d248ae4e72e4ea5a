//! From entries with classes to the rows of a map.

use super::sample::Sample;
use crate::map::AdaptationKind;
use crate::matrix::{
    View, factor, inverse_transposed, largest_directions, multiply, nearer_directions, orthonormal,
    products_of_columns, transposed,
};

/// Directions of most variance that wider embeddings are brought into.
const REDUCED: usize = 512;
/// Values behind a map at most, where entries are enough to say which directions these are.
const MOST_VALUES: usize = 256;
/// Entries below which a whitening keeps all directions: few of them vary in few, and classes that come later would
/// lose theirs.
const ENOUGH: usize = 4 * MOST_VALUES;

/// The directions in which maps are learned, and the sample in these.
pub(super) struct Space {
    dim: usize,
    /// Directions.
    pub(super) width: usize,
    /// `[width, dim]`; none where embeddings are as wide as that.
    directions: Option<Vec<f32>>,
    /// `[entries, width]`; none where they are the sample's own.
    projected: Option<Vec<f32>>,
}

impl Space {
    /// The directions of some entries.
    pub(super) fn of(sample: &Sample, of: &dyn Fn(usize) -> bool) -> Self {
        let dim = sample.dim;
        if dim <= REDUCED {
            return Self { dim, width: dim, directions: None, projected: None };
        }
        let some = some_rows(sample, of);
        let width = REDUCED.min(some.len() / dim).max(1);
        let directions = largest_directions(&products_of_columns(&some, dim), dim, width);
        Self::along(sample, directions)
    }

    fn along(sample: &Sample, directions: Vec<f32>) -> Self {
        let dim = sample.dim;
        let projected =
            multiply(View::of(sample.values(), dim), View::of(&directions, dim).transposed());
        let width = directions.len() / dim;
        Self { dim, width, directions: Some(directions), projected: Some(projected) }
    }

    /// The directions of all entries but some. Found from those of all where enough entries stay that none of these
    /// is a direction of what was left out alone.
    pub(super) fn without(
        &self,
        all: &Moments,
        sample: &Sample,
        seen: &dyn Fn(usize) -> bool,
    ) -> Self {
        let (dim, count) = (sample.dim, (0..sample.len()).filter(|entry| seen(*entry)).count());
        let Some(directions) = self.directions.as_ref().filter(|_| count >= 2 * REDUCED) else {
            return Self::of(sample, seen);
        };
        let left_out = products_of_columns(&some_rows(sample, &|entry| !seen(entry)), dim);
        let seen: Vec<f32> = all.0.iter().zip(left_out).map(|(all, out)| all - out).collect();
        Self::along(sample, nearer_directions(directions, &seen, dim))
    }

    /// The sample in these directions, `[entries, width]`.
    pub(super) fn rows<'a>(&'a self, sample: &'a Sample) -> &'a [f32] {
        self.projected.as_deref().unwrap_or(sample.values())
    }

    /// Rows of a map, `[values, width]`, as they are for embeddings, `[values, dim]`.
    pub(super) fn back(&self, rows: Vec<f32>) -> Vec<f32> {
        match &self.directions {
            Some(directions) => {
                multiply(View::of(&rows, self.width), View::of(directions, self.dim))
            }
            None => rows,
        }
    }

    /// What some entries teach; `None` where no class of theirs has entries that differ.
    pub(super) fn learn(&self, sample: &Sample, of: &dyn Fn(usize) -> bool) -> Option<Taught> {
        let width = self.width;
        let mut sums = vec![0.0_f64; sample.classes * width];
        let mut counts = vec![0_usize; sample.classes];
        let entries: Vec<usize> = (0..sample.len()).filter(|entry| of(*entry)).collect();
        let row = |entry: usize| &self.rows(sample)[entry * width..(entry + 1) * width];
        for entry in &entries {
            let class = sample.class(*entry);
            counts[class] += 1;
            let sum = &mut sums[class * width..(class + 1) * width];
            sum.iter_mut().zip(row(*entry)).for_each(|(sum, v)| *sum += f64::from(*v));
        }
        let mut mean = vec![0.0_f64; width];
        for (sum, count) in sums.chunks_exact_mut(width).zip(&counts) {
            mean.iter_mut().zip(&*sum).for_each(|(mean, sum)| *mean += sum / entries.len() as f64);
            sum.iter_mut().for_each(|sum| *sum /= (*count).max(1) as f64);
        }
        let keeps_all = width <= MOST_VALUES || sample.len() < ENOUGH;
        let mut within = Vec::with_capacity(entries.len() * width);
        let mut total = Vec::new();
        for entry in &entries {
            let class = sample.class(*entry);
            let own = &sums[class * width..(class + 1) * width];
            within.extend(row(*entry).iter().zip(own).map(|(v, own)| (f64::from(*v) - own) as f32));
            if !keeps_all {
                total.extend(
                    row(*entry).iter().zip(&mean).map(|(v, mean)| (f64::from(*v) - mean) as f32),
                );
            }
        }
        let mut within = products_of_columns(&within, width);
        let trace: f64 = (0..width).map(|i| f64::from(within[i * width + i])).sum();
        let average = (trace / width as f64) as f32;
        if !(average > 0.0 && average.is_finite()) {
            return None;
        }
        within.iter_mut().for_each(|v| *v /= average);
        let there = sums.chunks_exact(width).zip(&counts).filter(|(_, count)| **count > 0);
        let means: Vec<f32> = there
            .flat_map(|(own, _)| own.iter().zip(&mean).map(|(own, mean)| (own - mean) as f32))
            .collect();
        let total = if keeps_all { total } else { products_of_columns(&total, width) };
        Some(Taught { width, keeps_all, within, total, means })
    }
}

/// Products of the values of all entries, `[dim, dim]`.
pub(super) struct Moments(Vec<f32>);

impl Moments {
    pub(super) fn of(sample: &Sample) -> Self {
        Self(if sample.dim <= REDUCED {
            Vec::new()
        } else {
            products_of_columns(sample.values(), sample.dim)
        })
    }
}

/// Some entries, `[some, dim]`.
fn some_rows(sample: &Sample, of: &dyn Fn(usize) -> bool) -> Vec<f32> {
    let dim = sample.dim;
    let entries = (0..sample.len()).filter(|entry| of(*entry));
    entries
        .flat_map(|entry| sample.values()[entry * dim..(entry + 1) * dim].iter().copied())
        .collect()
}

/// Moments of some entries within classes and between these.
pub(super) struct Taught {
    width: usize,
    /// Whether a whitening keeps all directions.
    keeps_all: bool,
    /// `[width, width]`, the mean of its diagonal 1.
    within: Vec<f32>,
    /// `[width, width]`; of no use where all directions are kept.
    total: Vec<f32>,
    /// `[classes, width]`, less the mean of all entries.
    means: Vec<f32>,
}

impl Taught {
    /// What maps of a strength begin with.
    pub(super) fn whitened(&self, strength: f32) -> Option<Whitened<'_>> {
        let width = self.width;
        let mut mixed: Vec<f32> = self.within.iter().map(|v| (1.0 - strength) * v).collect();
        (0..width).for_each(|i| mixed[i * width + i] += strength);
        factor(&mut mixed, width)
            .then(|| Whitened { taught: self, inverse: inverse_transposed(&mixed, width) })
    }
}

/// Moments with the matrix that makes them the same in every direction within classes.
pub(super) struct Whitened<'a> {
    taught: &'a Taught,
    /// `L⁻ᵀ`, `[width, width]`.
    inverse: Vec<f32>,
}

impl Whitened<'_> {
    /// Rows of the map of a kind, `[values, width]`. Directions of a whitening are sought from `near` where they are known
    /// of nearly the same entries.
    pub(super) fn rows(&self, kind: AdaptationKind, near: Option<&[f32]>) -> Option<Vec<f32>> {
        let Taught { width, keeps_all, means, .. } = self.taught;
        let width = *width;
        let inverse = View::of(&self.inverse, width);
        let directions = match kind {
            AdaptationKind::Whitening if *keeps_all => {
                return Some(transposed(&self.inverse, width));
            }
            AdaptationKind::Whitening => match near {
                Some(near) => nearer_directions(near, &self.total(), width),
                None => self.directions(),
            },
            AdaptationKind::Lda => {
                let means = multiply(View::of(means, width), inverse);
                let count = means.len() / width;
                // The last follows from the others.
                let few = count.saturating_sub(1);
                if few == 0 {
                    return None;
                }
                if few <= MOST_VALUES.min(width) {
                    orthonormal(means[..few * width].to_vec(), width)
                } else {
                    let between = products_of_columns(&means, width);
                    largest_directions(&between, width, MOST_VALUES.min(width))
                }
            }
        };
        Some(multiply(View::of(&directions, width), inverse.transposed()))
    }

    /// Moments of all entries, whitened, `[width, width]`.
    fn total(&self) -> Vec<f32> {
        let width = self.taught.width;
        let inverse = View::of(&self.inverse, width);
        let half = multiply(inverse.transposed(), View::of(&self.taught.total, width));
        multiply(View::of(&half, width), inverse)
    }

    /// The directions that a whitening keeps, `[values, width]`, as whitened.
    fn directions(&self) -> Vec<f32> {
        largest_directions(&self.total(), self.taught.width, MOST_VALUES)
    }

    /// The same where not all are kept, for [`Self::rows`] of nearly the same entries.
    pub(super) fn kept_directions(&self) -> Option<Vec<f32>> {
        (!self.taught.keeps_all).then(|| self.directions())
    }
}
