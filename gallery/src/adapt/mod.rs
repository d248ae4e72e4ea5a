//! A gallery learns a linear map from its own entries, and keeps it only where that was measured to help.
//!
//! With `S_w` the covariance of embeddings within their classes, `τ` the mean of its diagonal and `λ` the strength,
//! the map makes `S = (1 − λ) S_w / τ + λ I` the same in every direction (`S = L Lᵀ`, `x → L⁻¹ (x − m)`), then keeps the
//! directions in which embeddings vary most, or those of the class means.
//!
//! Source: linear discriminant analysis as in "The Use of Multiple Measurements in Taxonomic Problems" (Fisher, 1936)
//! and "The Utilization of Multiple Measurements in Problems of Biological Classification" (Rao, 1948), with the
//! shrinkage of "Regularized Discriminant Analysis" (Friedman, 1989).
//! Differences: embeddings of more than 512 values are first brought into the 512 directions of most variance; after
//! whitening the 256 directions of most variance stay, between all directions and those of the class means alone:
//! nearest entries then answer better than with either. Fewer than 1,024 entries vary in too few directions to say
//! which these are: then all stay.

mod learn;
mod measure;
mod sample;

use crate::error::GalleryError;
use crate::gallery::Gallery;
use crate::map::{Adaptation, AdaptationKind, AdaptationMap};
use learn::{Moments, Space};
pub use measure::LeftOut;
use measure::Trial;
use sample::Sample;

/// Strengths that are tried.
const STRENGTHS: [f32; 3] = [0.1, 0.3, 0.7];
/// Parts of the pictures, each asked of a map that the others taught.
const PARTS: usize = 3;
/// Least classes of several pictures: those of either half are told apart from each other.
const LEAST_CLASSES: usize = 4;

/// Share of new entries from which a gallery learns anew.
const NEW_SHARE: f64 = 0.25;

/// Whether a gallery of `now` entries, which learned when it had `then`, has as many new ones as are worth learning
/// anew from: a quarter.
pub fn has_grown(then: usize, now: usize) -> bool {
    now > then && (now - then) as f64 >= NEW_SHARE * then as f64
}

/// What a map is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AdaptOptions {
    /// Only maps of this kind; `None`: the better one. [`AdaptationKind::Lda`] says that no further class comes:
    /// then classes are not left out.
    pub kind: Option<AdaptationKind>,
    /// Only this strength, above 0 and at most 1; `None`: the best of some.
    pub strength: Option<f32>,
}

/// A kind and strength, with what leaving out says of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// What the map does.
    pub kind: AdaptationKind,
    /// See [`Adaptation::strength`](crate::Adaptation::strength).
    pub strength: f32,
    /// Every picture is asked of all others, by a map that was learned without it.
    pub pictures: LeftOut,
    /// Pictures of half of the classes are asked of each other, by a map that was learned from the other half.
    pub classes: LeftOut,
}

impl Candidate {
    /// Whether it helps pictures, and does not harm classes that come later.
    fn helps(&self, closed: bool) -> bool {
        self.pictures.helps() && (closed || !self.classes.harms())
    }

    /// The lesser gain of the measures that count.
    fn gain(&self, closed: bool) -> f64 {
        let gain = self.pictures.gain();
        if closed { gain } else { gain.min(self.classes.gain()) }
    }
}

/// What came of learning a map.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum LearnedMap {
    /// A map that helps, to be given to [`Gallery::set_map`].
    Helps {
        /// The map.
        map: Box<AdaptationMap>,
        /// What was measured of it.
        chosen: Candidate,
    },
    /// No map helps pictures by more than two standard errors without harm to classes that come later.
    NoHelp {
        /// The best of those that were tried.
        best: Option<Candidate>,
    },
    /// Too few classes have two pictures.
    TooFew {
        /// Classes that have a picture.
        classes: usize,
        /// Of these, those that have two or more.
        several: usize,
    },
    /// All entries are the same, so that nothing tells them apart.
    AllEqual,
}

/// Entries seen, for each direction that a whitening keeps, from which on no direction is one of what was left out alone:
/// then the directions of all entries are the first guess.
const SEEN: usize = 4;

/// What a gallery teaches maps from, each without some of its entries: so these can be asked as if they were new.
pub(crate) struct Teaching {
    sample: Sample,
    moments: Moments,
    space: Space,
    about: Adaptation,
    /// Directions that a whitening by all entries keeps, if it leaves some out.
    directions: Option<Vec<f32>>,
}

impl Teaching {
    /// That of the gallery's own map; `None` without one, or for what was fetched of shards.
    pub(crate) fn of(gallery: &Gallery) -> Option<Self> {
        let about = gallery.map().filter(|_| gallery.has_originals())?.about();
        let sample = Sample::of(gallery);
        let (moments, space) = (Moments::of(&sample), Space::of(&sample, &|_| true));
        let all = (about.kind == AdaptationKind::Whitening && !sample.is_one_point())
            .then(|| space.learn(&sample, &|_| true))
            .flatten();
        let directions =
            all.as_ref().and_then(|all| all.whitened(about.strength)?.kept_directions());
        Some(Self { sample, moments, space, about, directions })
    }

    /// A map of the kind and strength of the gallery's own, learned from some entries alone, by their positions. `None`
    /// where these teach none.
    pub(crate) fn learn(&self, seen: &dyn Fn(usize) -> bool) -> Option<AdaptationMap> {
        let Self { sample, moments, space, about, directions } = self;
        let seen = |entry: usize| seen(sample.position(entry));
        let count = (0..sample.len()).filter(|entry| seen(*entry)).count();
        if count == 0 || sample.is_one_point() {
            return None;
        }
        let space = space.without(moments, sample, &seen);
        let taught = space.learn(sample, &seen)?;
        let near = directions.as_deref().filter(|near| {
            near.len() % space.width == 0 && count >= SEEN * (near.len() / space.width)
        });
        let rows = taught.whitened(about.strength)?.rows(about.kind, near)?;
        let mean = sample.mean_of(&seen);
        AdaptationMap::new(about.kind, about.strength, count, &space.back(rows), &mean)
    }
}

impl Gallery {
    /// Learns a map from the entries as the extractor gave them, whatever map there is. The gallery stays as it is.
    ///
    /// Up to 6,144 entries are learned from and 768 are asked, drawn alike on every machine. A map is kept where recall@1
    /// by nearest entry rises by more than two standard errors of the difference for pictures that were left out, and does
    /// not fall by as much for classes that were; of several the one whose lesser gain is the greatest. A picture is asked
    /// without the third of its class that is most similar to it, which may be of the same series.
    ///
    /// # Errors
    ///
    /// [`GalleryError::Options`] for a strength that is none, or for what was fetched of shards.
    pub fn learn_map(&self, options: &AdaptOptions) -> Result<LearnedMap, GalleryError> {
        let refused = |what: &str| Err(GalleryError::Options { what: what.to_owned() });
        if !self.has_originals() {
            return refused("what was fetched of shards teaches no map");
        }
        if options.strength.is_some_and(|strength| !(strength > 0.0 && strength <= 1.0)) {
            return refused("the strength of a map is above 0 and at most 1");
        }
        let counts = self.counts();
        let classes = counts.iter().filter(|count| **count > 0).count();
        let several = counts.iter().filter(|count| **count > 1).count();
        let few = LearnedMap::TooFew { classes, several };
        if several * 2 < classes || several < LEAST_CLASSES {
            return Ok(few);
        }
        let sample = Sample::of(self);
        if sample.is_one_point() {
            return Ok(LearnedMap::AllEqual);
        }
        let space = Space::of(&sample, &|_| true);
        let closed = options.kind == Some(AdaptationKind::Lda);
        let candidates = candidates(&sample, &space, options);
        let gain = |candidate: &&Candidate| candidate.gain(closed);
        let best = candidates
            .iter()
            .reduce(|best, other| if gain(&other) > gain(&best) { other } else { best });
        let helping = candidates.iter().filter(|candidate| candidate.helps(closed));
        let chosen =
            helping.reduce(|best, other| if gain(&other) > gain(&best) { other } else { best });
        let map = chosen.and_then(|chosen| {
            let all = space.learn(&sample, &|_| true)?;
            let rows = space.back(all.whitened(chosen.strength)?.rows(chosen.kind, None)?);
            let mean = sample.mean();
            AdaptationMap::new(chosen.kind, chosen.strength, self.len(), &rows, mean)
        });
        Ok(match (map, chosen) {
            (Some(map), Some(chosen)) => LearnedMap::Helps { map: Box::new(map), chosen: *chosen },
            _ => LearnedMap::NoHelp { best: best.copied() },
        })
    }
}

/// All that are tried, measured.
fn candidates(sample: &Sample, space: &Space, options: &AdaptOptions) -> Vec<Candidate> {
    let kinds = [AdaptationKind::Whitening, AdaptationKind::Lda];
    let kinds = kinds.into_iter().filter(|kind| options.kind.is_none_or(|wanted| wanted == *kind));
    let kinds: Vec<AdaptationKind> = kinds.collect();
    let strengths = options.strength.map_or(STRENGTHS.to_vec(), |strength| vec![strength]);
    let tried: Vec<(AdaptationKind, f32)> =
        kinds.iter().flat_map(|kind| strengths.iter().map(|strength| (*kind, *strength))).collect();
    let before = Trial::before(sample);
    let mut after: Vec<[Trial; 2]> = vec![[Trial::default(), Trial::default()]; tried.len()];
    // Asks those that are left out of every map that the others teach; `what` is a place in the trials.
    let mut ask = |what: usize, halves: bool, left_out: &dyn Fn(usize) -> bool| {
        let Some(taught) = space.learn(sample, &|entry| !left_out(entry)) else { return };
        for (at, strength) in strengths.iter().enumerate() {
            let Some(whitened) = taught.whitened(*strength) else { continue };
            for (kind, trials) in
                kinds.iter().zip(after.iter_mut().skip(at).step_by(strengths.len()))
            {
                if let Some(rows) = whitened.rows(*kind, None) {
                    trials[what].ask(sample, space, &rows, left_out, halves);
                }
            }
        }
    };
    for part in 0..PARTS {
        ask(0, false, &|entry| sample.rank(entry) % PARTS == part);
    }
    for half in 0..2 {
        ask(1, true, &|entry| sample.class(entry) % 2 == half);
    }
    let measured =
        tried.iter().zip(&after).map(|((kind, strength), [pictures, classes])| Candidate {
            kind: *kind,
            strength: *strength,
            pictures: LeftOut::between(&before[0], pictures),
            classes: LeftOut::between(&before[1], classes),
        });
    measured.collect()
}

#[cfg(test)]
mod tests;
