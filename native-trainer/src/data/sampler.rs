//! Samplers: which pictures make a batch.
//!
//! Sources: "In Defense of the Triplet Loss for Person Re-Identification",
//! <https://arxiv.org/abs/1703.07737>, §2, for P classes with K pictures each.
//! Agrees with PaddleClas `ppcls/data/dataloader/{pk_sampler,DistributedRandomIdentitySampler}.py`
//! @ d178931. Differences: with equal chances an epoch of the PK sampler visits every class before
//! any comes again; an incomplete last batch is left out.

use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::list_file::DataError;
use crate::random::Random;
use crate::terminal::counted;

/// Which sampler, with its options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum SamplerConfig {
    /// Every picture once an epoch, in random order.
    Shuffle,
    /// P classes a batch, K pictures of each (`PKSampler`).
    Pk {
        /// K; P is the batch size over K.
        #[serde(default = "default_samples_per_class")]
        samples_per_class: usize,
        /// What classes are drawn by.
        #[serde(default)]
        chance: ClassChance,
        /// Classes that are drawn more or less often (`id_list` with `ratio`).
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        boosts: Vec<Boost>,
    },
    /// Every class cut into groups of K pictures; batches of P groups of different classes
    /// (`DistributedRandomIdentitySampler`).
    RandomIdentity {
        /// K; P is the batch size over K.
        #[serde(default = "default_samples_per_class")]
        samples_per_class: usize,
        /// Batches of an epoch, classes being drawn by the groups they have left; absent: classes
        /// have equal chances and the epoch ends when fewer than P are left.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_iterations: Option<usize>,
    },
}

impl Default for SamplerConfig {
    fn default() -> Self {
        let chance = ClassChance::default();
        Self::Pk { samples_per_class: default_samples_per_class(), chance, boosts: Vec::new() }
    }
}

impl SamplerConfig {
    /// Pictures of a class that a batch takes; `None` where classes play no part.
    pub fn samples_per_class(&self) -> Option<usize> {
        match self {
            Self::Shuffle => None,
            Self::Pk { samples_per_class, .. } | Self::RandomIdentity { samples_per_class, .. } => {
                Some(*samples_per_class)
            }
        }
    }
}

/// The least that makes a pair.
fn default_samples_per_class() -> usize {
    2
}

/// What the chance of a class is proportional to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassChance {
    /// Nothing: all alike (`id_avg_prob`).
    #[default]
    Equal,
    /// The number of its pictures (`sample_avg_prob`).
    BySize,
}

/// A factor on the chances of neighboring classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boost {
    /// First class, by its place in the sorted list of labels.
    pub first: usize,
    /// Last class, included.
    pub last: usize,
    /// The factor.
    pub ratio: f64,
}

/// Draws batches of positions.
#[derive(Debug, Clone)]
pub struct Sampler {
    /// Positions of each class; none is empty.
    groups: Vec<Vec<usize>>,
    batch_size: usize,
    epoch_samples: usize,
    order: Order,
}

#[derive(Debug, Clone)]
enum Order {
    Shuffle,
    /// Chances of the classes; `None`: all alike.
    Pk(usize, Option<Vec<f64>>),
    RandomIdentity(usize, Option<usize>),
}

impl Sampler {
    /// A sampler over the positions of every class; empty classes are left out. An epoch has about
    /// `epoch_samples` samples, by default as many as there are positions.
    ///
    /// # Errors
    ///
    /// [`DataError::Unsuitable`] where the batch is no multiple of `samples_per_class`, where there
    /// are fewer classes than a batch needs, and for a boost of classes that do not exist.
    pub fn new(
        config: &SamplerConfig,
        classes: Vec<Vec<usize>>,
        batch_size: usize,
        epoch_samples: Option<usize>,
    ) -> Result<Self, DataError> {
        let unsuitable = |text: String| Err(DataError::Unsuitable(text));
        let labels = classes.len();
        let order = match config {
            SamplerConfig::Shuffle => Order::Shuffle,
            SamplerConfig::Pk { samples_per_class, chance, boosts } => {
                let mut chances: Vec<f64> = classes
                    .iter()
                    .map(|class| match chance {
                        ClassChance::Equal => 1.0,
                        ClassChance::BySize => class.len() as f64,
                    })
                    .collect();
                for Boost { first, last, ratio } in boosts {
                    if first > last || *last >= labels || !ratio.is_finite() || *ratio < 0.0 {
                        return unsuitable(format!(
                            "the boost of classes {first} to {last} by {ratio} does not fit the \
                             data's {labels} classes, which count from 0"
                        ));
                    }
                    chances[*first..=*last].iter_mut().for_each(|chance| *chance *= ratio);
                }
                let chances: Vec<f64> = chances
                    .into_iter()
                    .zip(&classes)
                    .filter_map(|(chance, class)| (!class.is_empty()).then_some(chance))
                    .collect();
                let alike = chances.iter().all(|chance| *chance == chances[0]);
                Order::Pk(*samples_per_class, (!alike).then_some(chances))
            }
            SamplerConfig::RandomIdentity { samples_per_class, max_iterations } => {
                Order::RandomIdentity(*samples_per_class, *max_iterations)
            }
        };
        let groups: Vec<Vec<usize>> = classes.into_iter().filter(|c| !c.is_empty()).collect();
        let positions: usize = groups.iter().map(Vec::len).sum();
        let epoch_samples = epoch_samples.unwrap_or(positions);
        let sampler = Self { groups, batch_size, epoch_samples, order };
        let k = sampler.samples_per_class();
        if k == 0 || batch_size == 0 || !batch_size.is_multiple_of(k) {
            let below = batch_size / k.max(1) * k.max(1);
            return unsuitable(format!(
                "batch_size {batch_size} is no multiple of samples_per_class {k}; give -o batch_size={}",
                if below == 0 { k.max(1) } else { below }
            ));
        }
        let available = match &sampler.order {
            Order::Shuffle => positions,
            Order::Pk(_, Some(chances)) => chances.iter().filter(|chance| **chance > 0.0).count(),
            _ => sampler.groups.len(),
        };
        if available < batch_size / k {
            let is_pictures = matches!(sampler.order, Order::Shuffle);
            let (one, many) =
                if is_pictures { ("picture", "pictures") } else { ("class", "classes") };
            let advice = match available {
                0 => "add some".to_owned(),
                available => format!("add some, or give -o batch_size={}", available * k),
            };
            let needed = match k {
                1 => format!("batch_size {batch_size}"),
                k => format!("batch_size {batch_size} / samples_per_class {k}"),
            };
            return unsuitable(format!(
                "a batch needs {} ({needed}), the data have {available}; {advice}",
                counted(batch_size / k, one, many)
            ));
        }
        Ok(sampler)
    }

    fn samples_per_class(&self) -> usize {
        match self.order {
            Order::Shuffle => 1,
            Order::Pk(k, _) | Order::RandomIdentity(k, _) => k,
        }
    }

    /// Batches of an epoch; a random-identity epoch without a limit may end a little earlier.
    pub fn batches(&self) -> usize {
        match self.order {
            Order::RandomIdentity(_, Some(limit)) => limit.max(1),
            _ => (self.epoch_samples / self.batch_size).max(1),
        }
    }

    /// Positions of every batch of an epoch; the same `random` gives the same epoch.
    pub fn epoch(&self, random: &mut Random) -> Vec<Vec<usize>> {
        match &self.order {
            Order::Shuffle => self.shuffled(random),
            Order::Pk(k, chances) => {
                let classes = match chances {
                    None => self.turns(*k, random),
                    Some(chances) => {
                        let draw = |_| drawn(chances, self.batch_size / k, random);
                        (0..self.batches()).map(draw).collect()
                    }
                };
                let mut pictures =
                    |class: &usize| -> Vec<usize> { some_of(&self.groups[*class], *k, random) };
                classes.iter().map(|batch| batch.iter().flat_map(&mut pictures).collect()).collect()
            }
            Order::RandomIdentity(k, limit) => self.identities(*k, *limit, random),
        }
    }

    /// Positions in random order, again and again until the epoch is full.
    fn shuffled(&self, random: &mut Random) -> Vec<Vec<usize>> {
        let mut all: Vec<usize> = self.groups.concat();
        let wanted = self.batches() * self.batch_size;
        let mut order = Vec::with_capacity(wanted);
        while order.len() < wanted {
            all.shuffle(random);
            order.extend(all.iter().take(wanted - order.len()));
        }
        order.chunks(self.batch_size).map(<[usize]>::to_vec).collect()
    }

    /// Classes of every batch, each class once before any comes again.
    fn turns(&self, k: usize, random: &mut Random) -> Vec<Vec<usize>> {
        let wanted = self.batch_size / k;
        let mut waiting: Vec<usize> = Vec::new();
        (0..self.batches())
            .map(|_| {
                let mut classes: Vec<usize> = Vec::with_capacity(wanted);
                while classes.len() < wanted {
                    if waiting.is_empty() {
                        waiting = (0..self.groups.len()).collect();
                        waiting.shuffle(random);
                    }
                    // A class that the batch already has waits for the next one.
                    match waiting.iter().rposition(|class| !classes.contains(class)) {
                        Some(position) => classes.push(waiting.remove(position)),
                        None => waiting.clear(),
                    }
                }
                classes
            })
            .collect()
    }

    /// Batches of whole groups.
    fn identities(&self, k: usize, limit: Option<usize>, random: &mut Random) -> Vec<Vec<usize>> {
        let classes_per_batch = self.batch_size / k;
        let mut batches = Vec::new();
        let mut left = self.cut(k, random);
        loop {
            let available = left.iter().filter(|groups| !groups.is_empty()).count();
            if limit.is_some_and(|limit| batches.len() >= limit.max(1)) {
                return batches;
            }
            if available < classes_per_batch {
                // A first round always fills a batch: there are classes enough.
                if limit.is_none() {
                    return batches;
                }
                left = self.cut(k, random);
                continue;
            }
            let chances: Vec<f64> = left
                .iter()
                .map(|groups| {
                    if limit.is_some() {
                        groups.len() as f64
                    } else {
                        f64::from(u8::from(!groups.is_empty()))
                    }
                })
                .collect();
            let classes = drawn(&chances, classes_per_batch, random);
            batches.push(
                classes.iter().flat_map(|class| left[*class].pop().unwrap_or_default()).collect(),
            );
        }
    }

    /// Every class cut into groups of `k` in random order; the rest of a class waits for another
    /// epoch, a class smaller than `k` repeats its pictures.
    fn cut(&self, k: usize, random: &mut Random) -> Vec<Vec<Vec<usize>>> {
        let mut cut = |class: &Vec<usize>| {
            if class.len() < k {
                return vec![some_of(class, k, random)];
            }
            let mut class = class.clone();
            class.shuffle(random);
            class.chunks_exact(k).map(<[usize]>::to_vec).collect()
        };
        self.groups.iter().map(&mut cut).collect()
    }
}

/// `count` different places, each drawn by its chance among those left.
///
/// Source: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006.
fn drawn(chances: &[f64], count: usize, random: &mut Random) -> Vec<usize> {
    let mut keys: Vec<(f64, usize)> = chances
        .iter()
        .enumerate()
        .filter(|(_, chance)| **chance > 0.0)
        .map(|(place, chance)| {
            let u: f64 = random.random_range(f64::MIN_POSITIVE..1.0);
            (u.ln() / chance, place)
        })
        .collect();
    keys.sort_by(|a, b| b.0.total_cmp(&a.0));
    keys.into_iter().take(count).map(|(_, place)| place).collect()
}

/// K pictures of a class, without replacement as far as it has enough.
fn some_of(class: &[usize], k: usize, random: &mut Random) -> Vec<usize> {
    let mut drawn = Vec::with_capacity(k);
    while drawn.len() < k {
        let mut class = class.to_vec();
        class.shuffle(random);
        class.truncate(k - drawn.len());
        drawn.extend(class);
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::seeded;

    fn groups() -> Vec<Vec<usize>> {
        vec![vec![0, 1, 2], vec![3], vec![], vec![4, 5], vec![6, 7, 8, 9]]
    }

    fn pk(k: usize, chance: ClassChance, boosts: Vec<Boost>) -> SamplerConfig {
        SamplerConfig::Pk { samples_per_class: k, chance, boosts }
    }

    fn sampler(config: &SamplerConfig, batch: usize, epoch: usize) -> Sampler {
        Sampler::new(config, groups(), batch, Some(epoch)).unwrap()
    }

    fn class_of(position: usize) -> usize {
        groups().iter().position(|group| group.contains(&position)).unwrap()
    }

    /// Classes of a batch of pairs, after checking that each pair is of one class.
    fn classes_of(batch: &[usize]) -> Vec<usize> {
        let class = |pair: &[usize]| {
            assert_eq!(class_of(pair[0]), class_of(pair[1]), "{pair:?}");
            class_of(pair[0])
        };
        batch.chunks(2).map(class).collect()
    }

    #[test]
    fn every_batch_has_p_classes_with_k_pictures_each() {
        let limited =
            SamplerConfig::RandomIdentity { samples_per_class: 2, max_iterations: Some(10) };
        let by_size = pk(2, ClassChance::BySize, Vec::new());
        for config in [pk(2, ClassChance::Equal, Vec::new()), by_size, limited] {
            let epoch = sampler(&config, 6, 60).epoch(&mut seeded(&[1]));
            assert_eq!(epoch.len(), 10);
            for batch in &epoch {
                assert_eq!(batch.len(), 6);
                let mut distinct = classes_of(batch);
                distinct.sort_unstable();
                distinct.dedup();
                assert_eq!(distinct.len(), 3, "{config:?}");
            }
        }
    }

    #[test]
    fn a_random_identity_epoch_uses_no_group_twice() {
        let config = SamplerConfig::RandomIdentity { samples_per_class: 2, max_iterations: None };
        let epoch = sampler(&config, 4, 10).epoch(&mut seeded(&[4]));
        // Groups: one of class 0, one of 1 (repeated), one of 3, two of 4.
        assert_eq!(epoch.len(), 2);
        let mut seen: Vec<usize> = epoch.concat();
        seen.retain(|position| *position != 3);
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }

    #[test]
    fn chances_follow_sizes_and_boosts() {
        let share = |config: &SamplerConfig, class: usize| {
            let epoch = sampler(config, 2, 8000).epoch(&mut seeded(&[2]));
            let count = epoch.iter().filter(|batch| class_of(batch[0]) == class).count();
            count as f64 / epoch.len() as f64
        };
        let by_size = pk(2, ClassChance::BySize, Vec::new());
        assert!((share(&by_size, 4) - 0.4).abs() < 0.03);
        let boosted = pk(2, ClassChance::Equal, vec![Boost { first: 3, last: 4, ratio: 4.0 }]);
        assert!((share(&boosted, 4) - 0.4).abs() < 0.03);
        let off = pk(2, ClassChance::Equal, vec![Boost { first: 0, last: 0, ratio: 0.0 }]);
        assert_eq!(share(&off, 0), 0.0);
    }

    #[test]
    fn a_shuffled_epoch_shows_every_picture_once() {
        let mut seen = sampler(&SamplerConfig::Shuffle, 5, 10).epoch(&mut seeded(&[3])).concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn the_same_seed_gives_the_same_epoch() {
        for config in [
            SamplerConfig::default(),
            SamplerConfig::Shuffle,
            SamplerConfig::RandomIdentity { samples_per_class: 2, max_iterations: Some(10) },
        ] {
            let epoch = |seed| sampler(&config, 4, 40).epoch(&mut seeded(&[seed]));
            assert_eq!(epoch(7), epoch(7));
            assert_ne!(epoch(7), epoch(8));
        }
    }

    #[test]
    fn says_what_does_not_fit() {
        let message = |batch, config: &SamplerConfig| {
            Sampler::new(config, groups(), batch, Some(10)).unwrap_err().to_string()
        };
        assert!(message(5, &SamplerConfig::default()).contains("multiple"));
        assert!(message(10, &SamplerConfig::default()).contains("needs 5 classes"));
        let boost = Boost { first: 3, last: 9, ratio: 4.0 };
        assert!(message(4, &pk(2, ClassChance::Equal, vec![boost])).contains("5 classes"));
    }
}
