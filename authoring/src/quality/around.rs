//! What each entry of a gallery finds without itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use models::gallery::{ContentId, Folds, Gallery, GalleryError, VectorIndex};
use rayon::prelude::*;

use crate::neighbors;

/// Photographs that are asked at most, at even steps.
const MOST_ASKED: usize = 5_000;
/// Nearest photographs that speak for a label.
const NEAR: usize = 5;
/// Photographs that a thread asks at once.
const BLOCK: usize = 16;

/// An entry beside the one that was asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Near {
    pub(super) id: ContentId,
    pub(super) class: usize,
    pub(super) similarity: f32,
    /// Cosine of the embeddings as the extractor gives them.
    pub(super) cosine: f32,
}

/// What a photograph finds without itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Around {
    pub(super) id: ContentId,
    pub(super) class: usize,
    /// Classes that are nearer than its own; `None` where nothing else is of its class.
    pub(super) rank: Option<usize>,
    /// The nearest of its own class, and of any other.
    pub(super) own: Option<Near>,
    pub(super) other: Option<Near>,
    /// The nearest photographs.
    pub(super) near: Vec<Near>,
}

/// The rows that are compared, one after the other.
fn rows(index: &VectorIndex, entries: &[usize]) -> (usize, Vec<f32>) {
    (index.dim(), entries.iter().flat_map(|entry| index.vector(*entry).into_owned()).collect())
}

/// What entries find, each without itself: of an adapted gallery behind maps that did not see them.
pub(super) fn neighborhoods(
    gallery: &Gallery,
    folds: Option<&Folds>,
) -> Result<Vec<Around>, GalleryError> {
    let entries: Vec<usize> = gallery.entries().collect();
    // The last entry of a photograph is that of its main body, which a page looks at.
    let mut last: BTreeMap<(usize, ContentId), usize> = BTreeMap::new();
    for (place, entry) in entries.iter().enumerate() {
        last.insert((gallery.entry_class(*entry), gallery.content_id(*entry)), place);
    }
    let mut asked: Vec<usize> = last.into_values().collect();
    asked.sort_unstable();
    let step = asked.len().div_ceil(MOST_ASKED).max(1);
    let asked: Vec<usize> = asked.into_iter().step_by(step).collect();
    let Some(folds) = folds else {
        return Ok(ask(gallery, &entries, &rows(gallery.index(), &entries), &asked));
    };
    let mut around = Vec::with_capacity(asked.len());
    for part in folds.parts(gallery)? {
        let own: BTreeSet<usize> = part.entries.into_iter().collect();
        let own = asked.iter().copied().filter(|place| own.contains(&entries[*place]));
        let own: Vec<usize> = own.collect();
        around.extend(ask(gallery, &entries, &(part.dim, part.rows), &own));
    }
    Ok(around)
}

/// Asks some of the entries of all others.
fn ask(
    gallery: &Gallery,
    entries: &[usize],
    (dim, rows): &(usize, Vec<f32>),
    asked: &[usize],
) -> Vec<Around> {
    let row = |place: usize| &rows[place * dim..][..*dim];
    let identity =
        |place: usize| (gallery.content_id(entries[place]), gallery.entry_class(entries[place]));
    let all = neighbors::Rows::new(rows, *dim);
    let answer = |(place, mut scores): (&usize, Vec<f32>)| {
        let (id, class) = identity(*place);
        let mut best: HashMap<usize, (f32, usize)> = HashMap::new();
        for (other, score) in scores.iter_mut().enumerate() {
            let (content, class) = identity(other);
            if content == id {
                *score = f32::NEG_INFINITY;
                continue;
            }
            let best = best.entry(class).or_insert((*score, other));
            if *score > best.0 {
                *best = (*score, other);
            }
        }
        let embedding = gallery.embedding(entries[*place]);
        let near = |other: usize| {
            let (id, class) = identity(other);
            let others = gallery.embedding(entries[other]);
            let cosine = embedding.iter().zip(&*others).map(|(a, b)| a * b).sum();
            Near { id, class, similarity: scores[other], cosine }
        };
        let own = best.get(&class).map(|(_, other)| near(*other));
        let others = best.iter().filter(|(of, _)| **of != class).map(|(_, best)| *best);
        let other = others
            .reduce(|a, b| if (b.0, a.1) > (a.0, b.1) { b } else { a })
            .map(|(_, other)| near(other));
        let rank =
            own.map(|own| best.values().filter(|(score, _)| *score > own.similarity).count());
        let mut nearest: Vec<Near> = Vec::with_capacity(NEAR);
        // A photograph may have two entries.
        for other in neighbors::best(&scores, 2 * NEAR) {
            let near = near(other);
            let is_new = nearest.iter().all(|known| known.id != near.id);
            if near.similarity > f32::NEG_INFINITY && is_new && nearest.len() < NEAR {
                nearest.push(near);
            }
        }
        Around { id, class, rank, own, other, near: nearest }
    };
    let answers = |block: &[usize]| {
        let queries: Vec<&[f32]> = block.iter().map(|place| row(*place)).collect();
        block.iter().zip(all.products(&queries)).map(answer).collect::<Vec<_>>()
    };
    asked.par_chunks(BLOCK).flat_map_iter(answers).collect()
}
