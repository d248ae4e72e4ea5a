//! Two extractors on photographs that neither has learned from, both adapted to the same other photographs.

use models::gallery::{Class, ContentId, Gallery, VectorType};
use rayon::prelude::*;

use crate::data::list_file::Samples;
use crate::embedding::{Runs, embed_usable};
use crate::metric::verdict::Keep;
use authoring::adaptation::{Options, adapt_and_calibrate};

/// Standard errors from which on a difference is none of chance: less than once in twenty times.
const CLEAR: f64 = 1.96;

/// Which photographs two extractors name rightly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Comparison {
    /// Photographs that were asked.
    pub asked: usize,
    /// Those that the first names rightly, and those that the second does.
    pub right: [usize; 2],
    /// Those that one of them alone names rightly.
    pub differing: usize,
}

impl Comparison {
    /// Of answers to the same photographs.
    pub fn of(first: &[bool], second: &[bool]) -> Self {
        let count = |answers: &[bool]| answers.iter().filter(|right| **right).count();
        Self {
            asked: first.len().min(second.len()),
            right: [count(first), count(second)],
            differing: first.iter().zip(second).filter(|(a, b)| a != b).count(),
        }
    }

    /// How many more of a hundred the second names rightly, and the standard error of that.
    pub fn gain(self) -> [f64; 2] {
        let asked = self.asked.max(1) as f64;
        let gain = (self.right[1] as f64 - self.right[0] as f64) / asked;
        let variance = (self.differing as f64 / asked - gain * gain) / asked;
        [100.0 * gain, 100.0 * variance.max(0.0).sqrt()]
    }

    /// Whether the second ([`Keep::Trained`]) or the first is the better one.
    pub fn keep(self) -> Keep {
        let [gain, error] = self.gain();
        match gain {
            gain if gain > CLEAR * error => Keep::Trained,
            gain if gain < -CLEAR * error => Keep::Before,
            _ => Keep::Unclear,
        }
    }
}

/// Whether an extractor names each of some photographs rightly among others, to which it is adapted. Photographs that
/// cannot be used are left out.
///
/// # Errors
///
/// A network that failed, embeddings that cannot be compared.
pub fn adapted_answers(
    extractor: &impl Runs,
    others: &Samples,
    asked: &Samples,
) -> anyhow::Result<Vec<bool>> {
    let embed = |samples| embed_usable(extractor, samples, |_| Ok(()));
    let (searched, _) = embed(others)?;
    let (queries, _) = embed(asked)?;
    let dim = searched.values.len() / searched.len().max(1);
    if dim == 0 {
        return Ok(vec![false; queries.len()]);
    }
    let mut gallery = Gallery::with_type(dim, "comparison", VectorType::F32);
    for label in &others.labels {
        gallery.add_class(Class { label: label.clone(), ..Class::default() }, Vec::new());
    }
    for (place, (class, row)) in
        searched.labels.iter().zip(searched.values.chunks_exact(dim)).enumerate()
    {
        let id = searched.contents.get(place).copied();
        gallery.add_image(*class, row, id.unwrap_or_else(ContentId::default))?;
    }
    adapt_and_calibrate(&mut gallery, &Options { calibrate: false, ..Options::default() })?;
    let answers = queries.values.par_chunks_exact(dim).zip(&queries.labels).map(|(row, label)| {
        let found = gallery.search(row, 1)?;
        let best = found.first().map(|found| &gallery.classes()[found.class].label);
        Ok(best == asked.labels.get(*label))
    });
    answers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_one_is_told_and_chance_is_not() {
        let of = |first: usize, second: usize, differing: usize| Comparison {
            asked: 400,
            right: [first, second],
            differing,
        };
        assert_eq!(of(300, 340, 60).keep(), Keep::Trained);
        assert_eq!(of(340, 300, 60).keep(), Keep::Before);
        assert_eq!(of(300, 308, 60).keep(), Keep::Unclear);
        assert_eq!(Comparison::default().keep(), Keep::Unclear);
        let [gain, error] = of(300, 340, 60).gain();
        assert!((gain - 10.0).abs() < 1e-9 && (error - 1.87).abs() < 0.01, "{gain} {error}");
        let compared = Comparison::of(&[true, false, false], &[true, true, false]);
        assert_eq!(compared, Comparison { asked: 3, right: [1, 2], differing: 1 });
    }
}
