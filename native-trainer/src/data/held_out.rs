//! Pictures that training does not see, so that something is left to measure it on.
//!
//! Out of every class with two pictures or more a share is held out, at least one. What is drawn follows from
//! the seed and the class's name alone. Copies of a picture stay together: one that is learned from would give
//! away the other.

use std::collections::BTreeMap;
use std::path::Path;

use models::model_file::sha256_hex;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::list_file::Samples;
use crate::files;
use crate::random::Stream;
use crate::terminal::counted;

/// A list in two parts with one numbering of classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldOut {
    /// To learn from: every class.
    pub train: Samples,
    /// To measure on.
    pub held: Samples,
    /// Classes that are measured on.
    pub measured: usize,
    /// Classes with too few different pictures, which are only learned from.
    pub only_trained: usize,
}

impl HeldOut {
    /// Holds out this share of every class; `None` where no class has two different pictures.
    pub fn split(samples: &Samples, share: f64, seed: u64) -> Option<Self> {
        let contents = contents(samples);
        // Copies with two labels say nothing about either; they are learned from, as the list wants it.
        let mut label_of: BTreeMap<usize, Option<usize>> = BTreeMap::new();
        for (content, sample) in contents.iter().zip(&samples.samples) {
            let label = label_of.entry(*content).or_insert(Some(sample.label));
            *label = label.filter(|label| *label == sample.label);
        }
        let mut classes = vec![Vec::new(); samples.labels.len()];
        let mut all = vec![0_usize; samples.labels.len()];
        for (content, sample) in contents.iter().zip(&samples.samples) {
            let class: &mut Vec<usize> = &mut classes[sample.label];
            if label_of[content].is_none() {
                all[sample.label] += 1;
            } else if !class.contains(content) {
                class.push(*content);
                all[sample.label] += 1;
            }
        }
        let mut is_held = vec![false; contents.len()];
        let mut measured = 0;
        for (label, (mut class, all)) in samples.labels.iter().zip(classes.into_iter().zip(all)) {
            let most = class.len().min(all.saturating_sub(1));
            if most == 0 {
                continue;
            }
            let wanted = (all as f64 * share).round() as usize;
            class.shuffle(&mut Stream::HeldOut.seeded(seed, [number_of(label)]));
            class.truncate(wanted.clamp(1, most));
            class.into_iter().for_each(|content| is_held[content] = true);
            measured += 1;
        }
        let part = |held: bool| {
            let picked = samples.samples.iter().zip(&contents);
            let picked = picked.filter(|(_, content)| is_held[**content] == held);
            Samples {
                samples: picked.map(|(sample, _)| sample.clone()).collect(),
                labels: samples.labels.clone(),
                ..Samples::default()
            }
        };
        let only_trained = samples.labels.len() - measured;
        (measured > 0).then(|| Self {
            train: part(false),
            held: part(true),
            measured,
            only_trained,
        })
    }

    /// The numbers as a sentence.
    pub fn sentence(&self) -> String {
        let (held, all) =
            (self.held.samples.len(), self.train.samples.len() + self.held.samples.len());
        let rest = match self.only_trained {
            0 => String::new(),
            1 => "; 1 class has a single picture and is only learned from".to_owned(),
            classes => {
                format!("; {classes} classes have a single picture and are only learned from")
            }
        };
        format!(
            "{held} of {all} pictures, of {}, {} held out to measure on (extractor.hold_out){rest}",
            counted(self.measured, "class", "classes"),
            if held == 1 { "is" } else { "are" }
        )
    }
}

/// A number that depends on a name alone.
fn number_of(name: &str) -> u64 {
    u64::from_str_radix(&sha256_hex(name.as_bytes())[..16], 16).unwrap_or_default()
}

/// Of every sample the place of the first with the same bytes. Only files of one length are read; one that
/// cannot be read is like no other, and named by whoever decodes it.
fn contents(samples: &Samples) -> Vec<usize> {
    let mut by_length: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (place, length) in lengths(samples).into_iter().enumerate() {
        by_length.entry(length).or_default().push(place);
    }
    let mut contents: Vec<usize> = (0..samples.samples.len()).collect();
    for places in by_length.into_values().filter(|places| places.len() > 1) {
        let mut first: BTreeMap<String, usize> = BTreeMap::new();
        for (place, digest) in places.iter().zip(digests(samples, &places)) {
            if let Some(digest) = digest {
                contents[*place] = *first.entry(digest).or_insert(*place);
            }
        }
    }
    contents
}

fn lengths(samples: &Samples) -> Vec<u64> {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    samples.samples.par_iter().map(|sample| length(&sample.path)).collect()
}

fn digests(samples: &Samples, places: &[usize]) -> Vec<Option<String>> {
    let digest = |place: &usize| {
        let bytes = files::read(&samples.samples[*place].path, files::IMAGE_LIMIT).ok()?;
        Some(sha256_hex(&bytes))
    };
    places.par_iter().map(digest).collect()
}

/// Whether two lists hold the same pictures, wherever these lie.
pub fn is_same_data(a: &Samples, b: &Samples) -> bool {
    if a.samples.len() != b.samples.len() {
        return false;
    }
    let sorted = |samples: &Samples| {
        let mut lengths = lengths(samples);
        lengths.sort_unstable();
        lengths
    };
    if sorted(a) != sorted(b) {
        return false;
    }
    let all = |samples: &Samples| {
        let places: Vec<usize> = (0..samples.samples.len()).collect();
        let mut digests = digests(samples, &places);
        digests.sort_unstable();
        digests
    };
    let (a, b) = (all(a), all(b));
    a.iter().all(Option::is_some) && a == b
}

/// How many pictures of a list are, by their path, pictures of another.
pub fn shared_paths(of: &Samples, with: &Samples) -> usize {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let known: std::collections::BTreeSet<_> =
        with.samples.par_iter().map(|sample| whole(&sample.path)).collect();
    of.samples.par_iter().filter(|sample| known.contains(&whole(&sample.path))).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of classes; a file's bytes are given.
    fn folder(classes: &[(&str, &[&str])]) -> (tempfile::TempDir, Samples) {
        let dir = tempfile::tempdir().unwrap();
        for (class, files) in classes {
            std::fs::create_dir_all(dir.path().join(class)).unwrap();
            for (number, bytes) in files.iter().enumerate() {
                std::fs::write(dir.path().join(class).join(format!("{number}.png")), bytes)
                    .unwrap();
            }
        }
        let samples = Samples::read(dir.path()).unwrap();
        (dir, samples)
    }

    fn each(samples: &Samples) -> Vec<usize> {
        samples.by_label().iter().map(Vec::len).collect()
    }

    #[test]
    fn a_share_of_every_class_is_held_out_and_one_at_least() {
        let ten: Vec<String> = (0..10).map(|i| format!("ten {i}")).collect();
        let ten: Vec<&str> = ten.iter().map(String::as_str).collect();
        let (_dir, samples) =
            folder(&[("a", &ten), ("b", &["1", "2"]), ("c", &["one"]), ("d", &["3", "4", "55"])]);
        let split = HeldOut::split(&samples, 0.2, 7).unwrap();
        assert_eq!(each(&split.held), [2, 1, 0, 1]);
        assert_eq!(each(&split.train), [8, 1, 1, 2]);
        assert_eq!((split.measured, split.only_trained), (3, 1));
        assert_eq!(
            split.sentence(),
            "4 of 16 pictures, of 3 classes, are held out to measure on (extractor.hold_out); 1 class has a \
             single picture and is only learned from"
        );
        assert_eq!(HeldOut::split(&samples, 0.2, 7), Some(split.clone()));
        let others = (0..20).filter_map(|seed| HeldOut::split(&samples, 0.2, seed));
        assert!(others.into_iter().any(|other| other.held != split.held));
        assert_eq!(each(&HeldOut::split(&samples, 0.9, 7).unwrap().train), [1, 1, 1, 1]);
    }

    #[test]
    fn copies_stay_together_and_a_class_of_copies_is_only_learned_from() {
        let (_dir, samples) = folder(&[
            ("a", &["same", "same", "same"]),
            ("b", &["x", "x", "x", "y", "y", "z"]),
            ("c", &["both", "c1", "c2"]),
            ("d", &["both"]),
        ]);
        for seed in 0..20 {
            let split = HeldOut::split(&samples, 0.3, seed).unwrap();
            assert_eq!((split.measured, split.only_trained), (2, 2));
            let bytes = |part: &Samples| -> std::collections::BTreeSet<Vec<u8>> {
                part.samples.iter().map(|sample| std::fs::read(&sample.path).unwrap()).collect()
            };
            assert!(bytes(&split.held).is_disjoint(&bytes(&split.train)), "seed {seed}");
            assert!(each(&split.train).iter().all(|count| *count > 0), "seed {seed}");
            assert!(bytes(&split.train).contains(&b"both"[..]), "seed {seed}");
        }
        let (_dir, single) = folder(&[("a", &["1"]), ("b", &["2"])]);
        assert_eq!(HeldOut::split(&single, 0.2, 1), None);
    }

    #[test]
    fn the_same_pictures_are_known_elsewhere() {
        let classes: [(&str, &[&str]); 2] = [("a", &["1", "2"]), ("b", &["3"])];
        let ((_one, one), (_two, two)) = (folder(&classes), folder(&classes));
        assert!(is_same_data(&one, &two));
        assert_eq!((shared_paths(&one, &one), shared_paths(&one, &two)), (3, 0));
        let (_other, other) = folder(&[("a", &["1", "2"]), ("b", &["4"])]);
        assert!(!is_same_data(&one, &other));
    }
}
