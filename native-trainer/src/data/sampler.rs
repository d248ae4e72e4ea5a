//! PK sampling: every batch holds P classes and K pictures of each.
//!
//! Source: "In Defense of the Triplet Loss for Person Re-Identification",
//! <https://arxiv.org/abs/1703.07737>, §2.
//! Agrees with PaddleClas `ppcls/data/dataloader/pk_sampler.py` @ d178931 (`id_avg_prob`), except
//! that an epoch visits every class before any comes again.

use rand::seq::SliceRandom;

use super::list_file::DataError;
use crate::random::Random;

/// Draws batches of `classes_per_batch · samples_per_class` positions.
#[derive(Debug, Clone)]
pub struct PkSampler {
    groups: Vec<Vec<usize>>,
    classes_per_batch: usize,
    samples_per_class: usize,
    epoch_samples: usize,
}

impl PkSampler {
    /// A sampler over the positions of every class; empty classes are left out. An epoch has about
    /// `epoch_samples` samples.
    ///
    /// # Errors
    ///
    /// [`DataError::Unsuitable`] where the batch is no multiple of `samples_per_class`, or there
    /// are fewer classes than a batch needs.
    pub fn new(
        groups: Vec<Vec<usize>>,
        batch_size: usize,
        samples_per_class: usize,
        epoch_samples: usize,
    ) -> Result<Self, DataError> {
        let groups: Vec<_> = groups.into_iter().filter(|group| !group.is_empty()).collect();
        if samples_per_class == 0
            || batch_size == 0
            || !batch_size.is_multiple_of(samples_per_class)
        {
            return Err(DataError::Unsuitable(format!(
                "batch_size {batch_size} is no multiple of samples_per_class {samples_per_class}"
            )));
        }
        let classes_per_batch = batch_size / samples_per_class;
        if groups.len() < classes_per_batch {
            return Err(DataError::Unsuitable(format!(
                "a batch needs {classes_per_batch} classes (batch_size {batch_size} / \
                 samples_per_class {samples_per_class}), the data have {}; make the batch smaller",
                groups.len()
            )));
        }
        Ok(Self { groups, classes_per_batch, samples_per_class, epoch_samples })
    }

    /// Batches of one epoch.
    pub fn batches(&self) -> usize {
        (self.epoch_samples / (self.classes_per_batch * self.samples_per_class)).max(1)
    }

    /// Positions of every batch of an epoch; the same `random` gives the same epoch.
    pub fn epoch(&self, random: &mut Random) -> Vec<Vec<usize>> {
        let mut waiting: Vec<usize> = Vec::new();
        (0..self.batches())
            .map(|_| {
                let mut classes: Vec<usize> = Vec::with_capacity(self.classes_per_batch);
                while classes.len() < self.classes_per_batch {
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
                classes.iter().flat_map(|&class| self.draw(class, random)).collect()
            })
            .collect()
    }

    /// K pictures of a class, without replacement as far as it has enough.
    fn draw(&self, class: usize, random: &mut Random) -> Vec<usize> {
        let mut drawn = Vec::with_capacity(self.samples_per_class);
        while drawn.len() < self.samples_per_class {
            let mut group = self.groups[class].clone();
            group.shuffle(random);
            group.truncate(self.samples_per_class - drawn.len());
            drawn.extend(group);
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::seeded;

    fn groups() -> Vec<Vec<usize>> {
        vec![vec![0, 1, 2], vec![3], vec![], vec![4, 5], vec![6, 7, 8, 9]]
    }

    #[test]
    fn every_batch_has_p_classes_with_k_pictures_each() {
        let sampler = PkSampler::new(groups(), 6, 2, 60).unwrap();
        let epoch = sampler.epoch(&mut seeded(&[1]));
        assert_eq!(epoch.len(), 10);
        for batch in &epoch {
            assert_eq!(batch.len(), 6);
            let class = |index: &usize| groups().iter().position(|g| g.contains(index)).unwrap();
            let classes: Vec<usize> = batch.chunks(2).map(|pair| class(&pair[0])).collect();
            for (pair, c) in batch.chunks(2).zip(&classes) {
                assert_eq!(class(&pair[1]), *c);
            }
            let mut distinct = classes.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), 3);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_epoch() {
        let sampler = PkSampler::new(groups(), 4, 2, 40).unwrap();
        assert_eq!(sampler.epoch(&mut seeded(&[7])), sampler.epoch(&mut seeded(&[7])));
        assert_ne!(sampler.epoch(&mut seeded(&[7])), sampler.epoch(&mut seeded(&[8])));
    }

    #[test]
    fn says_what_does_not_fit() {
        let message = |batch, k| PkSampler::new(groups(), batch, k, 10).unwrap_err().to_string();
        assert!(message(5, 2).contains("multiple"));
        assert!(message(10, 2).contains("needs 5 classes"));
    }
}
