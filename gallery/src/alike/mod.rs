//! Classes that may be mistaken for each other: those whose mean embeddings are near.

mod scan;

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};

use crate::gallery::Gallery;
use crate::index::exact_product;
use scan::{Collect, scan};

/// Pairs of classes that are alike.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Alike {
    /// Two classes each, the first before the second, with the cosine of their mean embeddings; the most
    /// similar ones first.
    pub pairs: Vec<(usize, usize, f32)>,
    /// Classes whose mean embedding is the same to the last digit, group by group, the largest first.
    pub equal: Vec<Vec<usize>>,
    /// Whether every class was compared with every other one. Beyond some 28,000 classes, or where very
    /// many are nearly the same, those that are likely near are compared first and some pairs not at all.
    pub complete: bool,
}

/// A pair of classes with its cosine; greater is better: more similar, then of earlier classes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pair {
    similarity: f32,
    classes: (usize, usize),
}

impl Eq for Pair {}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.similarity.total_cmp(&other.similarity).then(other.classes.cmp(&self.classes))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Pair {
    fn of(a: usize, b: usize, similarity: f32) -> Self {
        Self { similarity, classes: (a.min(b), a.max(b)) }
    }
}

/// Means that differ, each with the classes that have it.
struct Means {
    /// In order of their first classes, which rise.
    groups: Vec<Vec<usize>>,
    /// `[groups, dim]`
    values: Vec<f32>,
    dim: usize,
}

impl Means {
    fn of(gallery: &Gallery) -> Self {
        let index = gallery.class_means();
        let (mut groups, mut values): (Vec<Vec<usize>>, Vec<f32>) = (Vec::new(), Vec::new());
        let mut places: HashMap<Vec<u32>, usize> = HashMap::new();
        for class in (0..index.positions()).filter(|class| index.contains(*class)) {
            let mean = index.vector(class);
            let place =
                *places.entry(mean.iter().map(|v| v.to_bits()).collect()).or_insert_with(|| {
                    values.extend_from_slice(&mean);
                    groups.push(Vec::new());
                    groups.len() - 1
                });
            groups[place].push(class);
        }
        Self { groups, values, dim: index.dim() }
    }

    fn similarity(&self, a: usize, b: usize) -> f32 {
        let row = |place: usize| &self.values[place * self.dim..(place + 1) * self.dim];
        exact_product(row(a), row(b))
    }

    /// Groups of several classes, with how similar these are.
    fn shared(&self) -> impl Iterator<Item = (usize, f32)> {
        let several = (0..self.groups.len()).filter(|group| self.groups[*group].len() > 1);
        several.map(|group| (group, self.similarity(group, group)))
    }

    fn answer(self, mut pairs: Vec<Pair>, limit: usize, complete: bool) -> Alike {
        pairs.sort_unstable_by_key(|pair| Reverse(*pair));
        pairs.dedup();
        pairs.truncate(limit);
        let pairs = pairs.into_iter().map(|p| (p.classes.0, p.classes.1, p.similarity)).collect();
        let mut equal: Vec<Vec<usize>> =
            self.groups.into_iter().filter(|group| group.len() > 1).collect();
        equal.sort_by_key(|group| Reverse(group.len()));
        Alike { pairs, equal, complete }
    }
}

/// The best pairs of groups, by their first classes; a group may be paired with itself.
struct Best<'a> {
    means: &'a Means,
    least: f32,
    limit: usize,
    /// The worst on top.
    pairs: BinaryHeap<Reverse<(Pair, usize, usize)>>,
}

impl Best<'_> {
    fn take(&mut self, pair: Pair, a: usize, b: usize) {
        if pair.similarity >= self.least {
            self.pairs.push(Reverse((pair, a, b)));
        }
        if self.pairs.len() > self.limit {
            self.pairs.pop();
        }
    }
}

impl Collect for Best<'_> {
    fn least(&mut self) -> f32 {
        match self.pairs.peek() {
            Some(Reverse((worst, ..))) if self.pairs.len() >= self.limit => worst.similarity,
            _ => self.least,
        }
    }

    fn offer(&mut self, a: usize, b: usize) {
        let first = |group: usize| self.means.groups[group][0];
        let pair = Pair::of(first(a), first(b), self.means.similarity(a, b));
        self.take(pair, a, b);
    }
}

/// The best other class of every group's classes, where it is in another group.
struct Nearest<'a> {
    means: &'a Means,
    least: f32,
    limit: usize,
    /// Similarity and group; none is less than any.
    best: Vec<(f32, usize)>,
}

impl Collect for Nearest<'_> {
    fn least(&mut self) -> f32 {
        // A pair is the best one of two classes at most.
        let enough = self.limit.saturating_mul(2);
        if enough == 0 || enough > self.best.len() {
            return self.least;
        }
        let mut sorted: Vec<f32> = self.best.iter().map(|(similarity, _)| *similarity).collect();
        let (_, least, _) = sorted.select_nth_unstable_by(enough - 1, |a, b| b.total_cmp(a));
        self.least.max(*least)
    }

    fn offer(&mut self, a: usize, b: usize) {
        let similarity = self.means.similarity(a, b);
        for (own, other) in [(a, b), (b, a)] {
            let (most, group) = self.best[own];
            // Of equal ones the first; groups are in the order of their first classes.
            if similarity > most || (similarity == most && other < group) {
                self.best[own] = (similarity, other);
            }
        }
    }
}

impl Gallery {
    /// Pairs of classes whose mean embeddings have a cosine of `least` or more: the most similar `limit` of
    /// all pairs.
    pub fn closest_pairs(&self, least: f32, limit: usize) -> Alike {
        let means = Means::of(self);
        let mut best = Best { means: &means, least, limit, pairs: BinaryHeap::new() };
        for (group, similarity) in means.shared() {
            let classes = &means.groups[group];
            best.take(Pair::of(classes[0], classes[1], similarity), group, group);
        }
        let complete = scan(&means.values, means.dim, &mut best);
        let mut pairs = Vec::new();
        for Reverse((Pair { similarity, .. }, a, b)) in best.pairs {
            // Later ones of a group come after these.
            let some = limit.saturating_add(1);
            let [of_a, of_b] = [a, b].map(|group| means.groups[group].iter().take(some));
            let all = of_a.flat_map(|x| of_b.clone().map(move |y| (*x, *y)));
            let mut all: Vec<Pair> = all
                .filter(|(x, y)| a != b || x < y)
                .map(|(x, y)| Pair::of(x, y, similarity))
                .collect();
            all.sort_unstable_by_key(|pair| Reverse(*pair));
            pairs.extend(all.into_iter().take(limit));
        }
        means.answer(pairs, limit, complete)
    }

    /// [`Self::closest_pairs`] of every class with its nearest other class alone, so that a crowd of like
    /// classes does not fill the list with all of its pairs.
    pub fn alike(&self, least: f32, limit: usize) -> Alike {
        let means = Means::of(self);
        let none = (f32::NEG_INFINITY, usize::MAX);
        let best = vec![none; means.groups.len()];
        let mut nearest = Nearest { means: &means, least, limit, best };
        let mut own = vec![f32::NEG_INFINITY; means.groups.len()];
        for (group, similarity) in means.shared() {
            own[group] = similarity;
            // As near to each other, for where to stop looking.
            nearest.best[group] = (similarity, group);
        }
        let complete = scan(&means.values, means.dim, &mut nearest);
        let mut pairs = Vec::new();
        for (group, (similarity, other)) in nearest.best.into_iter().enumerate() {
            let classes = &means.groups[group];
            for (place, class) in classes.iter().enumerate().take(limit.saturating_add(1)) {
                // The first of those that are equally near.
                let twin = (own[group], classes[usize::from(place == 0).min(classes.len() - 1)]);
                let across = means.groups.get(other).map_or(usize::MAX, |other| other[0]);
                let (similarity, nearest) = match similarity.total_cmp(&twin.0) {
                    Ordering::Less => twin,
                    Ordering::Equal if classes.len() > 1 && (other == group || twin.1 < across) => {
                        twin
                    }
                    _ => (similarity, across),
                };
                if similarity >= least && nearest != usize::MAX {
                    pairs.push(Pair::of(*class, nearest, similarity));
                }
            }
        }
        means.answer(pairs, limit, complete)
    }
}
