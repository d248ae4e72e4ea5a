//! The best of many.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::Hit;

/// Best first; equal ones in the order they were added.
pub(super) fn by_similarity(a: &Hit, b: &Hit) -> Ordering {
    b.similarity.total_cmp(&a.similarity).then(a.entry.cmp(&b.entry))
}

/// A hit that is greater the worse it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Worst(pub(super) Hit);

impl Ord for Worst {
    fn cmp(&self, other: &Self) -> Ordering {
        by_similarity(&self.0, &other.0)
    }
}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Worst {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Worst {}

/// The `k` best hits seen so far.
#[derive(Debug)]
pub(super) struct Top {
    k: usize,
    heap: BinaryHeap<Worst>,
}

impl Top {
    pub(super) fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::new() }
    }

    /// Takes a hit if it is among the best; whether it was.
    #[inline]
    pub(super) fn offer(&mut self, hit: Hit) -> bool {
        if self.heap.len() < self.k {
            self.heap.push(Worst(hit));
            return true;
        }
        match self.heap.peek_mut() {
            Some(mut worst) if Worst(hit) < *worst => {
                *worst = Worst(hit);
                true
            }
            _ => false,
        }
    }

    /// The `k`-th best similarity; less than any while there are fewer.
    #[inline]
    pub(super) fn least(&self) -> f32 {
        match self.heap.peek() {
            Some(worst) if self.heap.len() == self.k => worst.0.similarity,
            _ if self.k == 0 => f32::INFINITY,
            _ => f32::NEG_INFINITY,
        }
    }

    /// Best first.
    pub(super) fn into_hits(self) -> Vec<Hit> {
        self.heap.into_sorted_vec().into_iter().map(|worst| worst.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keeps_what_a_full_sort_keeps(
            values in prop::collection::vec(-4_i8..4, 0..40),
            k in 0_usize..12,
        ) {
            let hits = values.iter().enumerate();
            let hits = hits.map(|(entry, v)| Hit { entry, similarity: f32::from(*v) });
            let mut top = Top::new(k);
            hits.clone().for_each(|hit| { top.offer(hit); });
            let mut expected: Vec<Hit> = hits.collect();
            expected.sort_by(by_similarity);
            expected.truncate(k);
            let least = expected.last().filter(|_| expected.len() == k);
            let none = if k == 0 { f32::INFINITY } else { f32::NEG_INFINITY };
            prop_assert_eq!(top.least(), least.map_or(none, |hit| hit.similarity));
            prop_assert_eq!(top.into_hits(), expected);
        }
    }
}
