//! Entries that a map is learned from, drawn so that every class has its share.

use crate::gallery::Gallery;

/// Entries that are learned from at most.
const MOST_LEARNED: usize = 6_144;
/// Entries that are asked at most.
const MOST_ASKED: usize = 768;
/// Entries of a class that is asked, on average at least.
const ASKED_OF_CLASS: usize = 3;

/// What the mean of equal values is off by at most.
const ROUNDING: f32 = 1e-6;

/// Entries of classes of several pictures.
pub(super) struct Sample {
    pub(super) dim: usize,
    /// `[entries, dim]`, less their mean.
    values: Vec<f32>,
    mean: Vec<f32>,
    /// Of every one its position in the gallery.
    entries: Vec<usize>,
    /// Place of the class in the order drawn, and of the entry in its class.
    places: Vec<(usize, usize)>,
    /// Number of classes.
    pub(super) classes: usize,
    /// Entries that are asked, and asked about.
    pub(super) asked: Vec<usize>,
}

/// A number that looks drawn at random for every place (Steele et al., "Fast splittable pseudorandom number generators",
/// 2014).
fn drawn(place: usize) -> u64 {
    let mut z = (place as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Entries of the first classes, one of each class after the other, until there are `most`.
fn in_turn(classes: &[Vec<usize>], most: usize, of_class: usize) -> Vec<(usize, usize, usize)> {
    let classes = &classes[..classes.len().min(most / of_class)];
    let longest = classes.iter().map(Vec::len).max().unwrap_or_default();
    let ranks = (0..longest).flat_map(|rank| {
        classes.iter().enumerate().filter_map(move |(class, entries)| {
            entries.get(rank).map(|entry| (class, rank, *entry))
        })
    });
    let mut taken: Vec<(usize, usize, usize)> = ranks.take(most).collect();
    taken.sort_unstable();
    taken
}

impl Sample {
    pub(super) fn of(gallery: &Gallery) -> Self {
        let mut classes: Vec<Vec<usize>> = vec![Vec::new(); gallery.classes().len()];
        gallery.entries().for_each(|entry| classes[gallery.entry_class(entry)].push(entry));
        let mut order: Vec<usize> =
            (0..classes.len()).filter(|class| classes[*class].len() > 1).collect();
        order.sort_by_key(|class| (drawn(*class), *class));
        let classes: Vec<Vec<usize>> = (order.into_iter())
            .map(|class| {
                let mut entries = std::mem::take(&mut classes[class]);
                entries.sort_by_key(|entry| (drawn(*entry), *entry));
                entries
            })
            .collect();
        let learned = in_turn(&classes, MOST_LEARNED, 2);
        let dim = gallery.dim();
        let mut values: Vec<f32> = Vec::with_capacity(learned.len() * dim);
        learned
            .iter()
            .for_each(|(_, _, entry)| values.extend_from_slice(&gallery.embedding(*entry)));
        let mut sums = vec![0.0_f64; dim];
        for row in values.chunks_exact(dim) {
            sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
        }
        let mean: Vec<f32> = sums.iter().map(|sum| (sum / learned.len() as f64) as f32).collect();
        for row in values.chunks_exact_mut(dim) {
            row.iter_mut().zip(&mean).for_each(|(v, mean)| *v -= mean);
        }
        let places: Vec<(usize, usize)> =
            learned.iter().map(|(class, rank, _)| (*class, *rank)).collect();
        let is_asked: std::collections::BTreeSet<(usize, usize)> =
            in_turn(&classes, MOST_ASKED, ASKED_OF_CLASS)
                .iter()
                .map(|(c, rank, _)| (*c, *rank))
                .collect();
        let asked = (0..places.len()).filter(|entry| is_asked.contains(&places[*entry])).collect();
        let count = places.last().map_or(0, |(class, _)| class + 1);
        let entries = learned.iter().map(|(_, _, entry)| *entry).collect();
        Self { dim, values, mean, entries, places, classes: count, asked }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// `[entries, dim]`, less their mean.
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    /// `[dim]`
    pub(super) fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Whether all entries are the same, but for what rounding leaves.
    pub(super) fn is_one_point(&self) -> bool {
        self.values.iter().all(|v| v.abs() <= ROUNDING)
    }

    /// Position in the gallery.
    pub(super) fn position(&self, entry: usize) -> usize {
        self.entries[entry]
    }

    /// The mean of some, `[dim]`.
    pub(super) fn mean_of(&self, of: &dyn Fn(usize) -> bool) -> Vec<f32> {
        let mut sums = vec![0.0_f64; self.dim];
        let mut count = 0_usize;
        for entry in (0..self.len()).filter(|entry| of(*entry)) {
            let row = &self.values[entry * self.dim..(entry + 1) * self.dim];
            sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
            count += 1;
        }
        let mean = |(sum, mean): (&f64, &f32)| (sum / count.max(1) as f64) as f32 + mean;
        sums.iter().zip(&self.mean).map(mean).collect()
    }

    pub(super) fn class(&self, entry: usize) -> usize {
        self.places[entry].0
    }

    /// Place of an entry in its class, as drawn.
    pub(super) fn rank(&self, entry: usize) -> usize {
        self.places[entry].1
    }
}
