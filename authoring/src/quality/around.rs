//! What each entry of a gallery finds without itself.

use std::collections::{BTreeMap, HashMap};

use models::gallery::{AdaptOptions, ContentId, Gallery, GalleryError, LearnedMap};
use rayon::prelude::*;

use crate::neighbors;

/// Photographs of each class are in this many parts, each asked of a map that the others taught.
const PARTS: usize = 3;
/// Photographs that are asked at most, at even steps.
const MOST_ASKED: usize = 5_000;
/// Nearest photographs that speak for a label.
const NEAR: usize = 5;

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
fn rows(gallery: &Gallery) -> (usize, Vec<f32>) {
    let index = gallery.index();
    (index.dim(), gallery.entries().flat_map(|entry| index.vector(entry).into_owned()).collect())
}

/// What entries find, each without itself.
pub(super) fn neighborhoods(gallery: &Gallery) -> Result<Vec<Around>, GalleryError> {
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
    let mut met = vec![0; gallery.classes().len()];
    let parts: Vec<usize> = (entries.iter())
        .map(|entry| {
            let met = &mut met[gallery.entry_class(*entry)];
            *met += 1;
            *met % PARTS
        })
        .collect();
    let Some(map) = gallery.map() else {
        return Ok(ask(gallery, &entries, &rows(gallery), &asked));
    };
    let about = map.about();
    let options = AdaptOptions { kind: Some(about.kind), strength: Some(about.strength) };
    let mut around = Vec::with_capacity(asked.len());
    for part in 0..PARTS {
        let of_part = |place: &usize| parts[*place] == part;
        let taught: Vec<usize> =
            (0..entries.len()).filter(of_part).map(|place| entries[place]).collect();
        let mut others = gallery.clone();
        others.set_map(None)?;
        others.remove_entries(&taught)?;
        let map = match others.learn_map(&options)? {
            LearnedMap::Helps { map, .. } => Some(*map),
            _ => None,
        };
        let mut mapped = gallery.clone();
        mapped.set_map(map)?;
        let asked: Vec<usize> = asked.iter().copied().filter(of_part).collect();
        around.extend(ask(gallery, &entries, &rows(&mapped), &asked));
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
    let answer = |place: &usize| {
        let (id, class) = identity(*place);
        let mut scores: Vec<f32> =
            neighbors::inner_products(row(*place), rows.chunks_exact(*dim)).collect();
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
    asked.par_iter().map(answer).collect()
}
