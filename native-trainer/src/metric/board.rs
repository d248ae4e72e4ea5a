//! Figures that networks are compared by over many sets of images, each with its standard error.

use std::collections::HashMap;

use models::detector::Detection;
use rand::RngExt;

use super::detection::{Object, average_precision, overlap};
use super::retrieval::Embedded;
use crate::random::seeded;
use authoring::neighbors::best;

/// How often pictures are drawn anew for the error of an average precision.
const DRAWS: u64 = 100;
/// Overlap from which a box finds an object.
const FOUND: f64 = 0.5;
/// Boxes that are looked at for the largest object of a picture.
const FIRST: usize = 3;

/// A figure and its standard error, both `0..=1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// The figure.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
}

impl Figure {
    /// A share of `count` cases: the error is that of a binomial distribution.
    pub fn share(value: f64, count: usize) -> Self {
        Self { value, error: (value * (1.0 - value) / count.max(1) as f64).sqrt() }
    }
}

/// Recall at each of `top_k` by the mean embedding of every class: the share of queries whose class is among the
/// `k` classes with the most similar means. A query is in no mean; one whose class has no other image in the
/// gallery is left out.
///
/// # Shapes
///
/// - `query`, `gallery`: unit embeddings of one width
pub fn class_mean_recall(
    query: &Embedded,
    gallery: &Embedded,
    top_k: &[usize],
) -> Vec<(usize, Figure)> {
    use rayon::prelude::*;
    let dim = query.values.len() / query.len().max(1);
    let classes = gallery.labels.iter().max().map_or(0, |last| last + 1);
    let mut sums = vec![0.0_f32; classes * dim];
    let mut counts = vec![0_usize; classes];
    let row = |item: usize| &gallery.values[item * dim..(item + 1) * dim];
    for (item, label) in gallery.labels.iter().enumerate() {
        add(&mut sums[label * dim..(label + 1) * dim], row(item), 1.0);
        counts[*label] += 1;
    }
    let ranks: Vec<usize> = (0..query.len())
        .into_par_iter()
        .filter_map(|q| {
            let wanted = query.labels[q];
            let values = &query.values[q * dim..(q + 1) * dim];
            // Classes whose mean the query itself is part of.
            let mut own: HashMap<usize, (Vec<f32>, usize)> = HashMap::new();
            for item in (0..gallery.len()).filter(|item| gallery.is_itself(*item, query, q)) {
                let label = gallery.labels[item];
                let whole = || (sums[label * dim..(label + 1) * dim].to_vec(), counts[label]);
                let (sum, count) = own.entry(label).or_insert_with(whole);
                add(sum, row(item), -1.0);
                *count -= 1;
            }
            let scores: Vec<f32> = (0..classes)
                .map(|class| {
                    let (sum, count) = own.get(&class).map_or(
                        (&sums[class * dim..(class + 1) * dim], counts[class]),
                        |(sum, count)| (&sum[..], *count),
                    );
                    if count == 0 { f32::NEG_INFINITY } else { cosine(values, sum) }
                })
                .collect();
            if scores.get(wanted).is_none_or(|score| *score == f32::NEG_INFINITY) {
                return None;
            }
            best(&scores, classes).iter().position(|class| *class == wanted)
        })
        .collect();
    let share = |k: usize| {
        let found = ranks.iter().filter(|rank| **rank < k).count();
        Figure::share(found as f64 / ranks.len().max(1) as f64, ranks.len())
    };
    top_k.iter().map(|k| (*k, share(*k))).collect()
}

fn add(sum: &mut [f32], row: &[f32], times: f32) {
    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += times * value);
}

fn cosine(unit: &[f32], sum: &[f32]) -> f32 {
    let product: f32 = unit.iter().zip(sum).map(|(a, b)| a * b).sum();
    let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 { product / length } else { 0.0 }
}

/// How well boxes find objects; `None` if there is no object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoxFigures {
    /// Average precision at an overlap of 0.5; its error is that of pictures drawn anew.
    pub ap50: Figure,
    /// Share of pictures with objects whose largest one is found, at an overlap of 0.5, by one of the first three
    /// boxes.
    pub largest_hit: Figure,
    /// Pictures with objects.
    pub pictures: usize,
    /// Objects.
    pub objects: usize,
}

impl BoxFigures {
    /// Of boxes, best first, and objects of one class, one list a picture each.
    pub fn of(found: &[Vec<Detection>], objects: &[Vec<Object>]) -> Option<Self> {
        let all: Vec<_> =
            found.iter().map(Vec::as_slice).zip(objects.iter().map(Vec::as_slice)).collect();
        let value = average_precision(&all, FOUND)?;
        let drawn: Vec<f64> = (0..DRAWS)
            .filter_map(|draw| {
                let mut random = seeded(&[draw]);
                let again: Vec<_> =
                    all.iter().map(|_| all[random.random_range(0..all.len())]).collect();
                average_precision(&again, FOUND)
            })
            .collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len().max(1) as f64;
        let squares: f64 = drawn.iter().map(|value| (value - mean).powi(2)).sum();
        let error = (squares / drawn.len().saturating_sub(1).max(1) as f64).sqrt();
        let hits: Vec<bool> = all
            .iter()
            .filter_map(|(found, objects)| {
                let largest = objects.iter().max_by(|a, b| a.area.total_cmp(&b.area))?;
                let hit = |detection: &Detection| overlap(&detection.bbox, largest) >= FOUND;
                Some(found.iter().take(FIRST).any(hit))
            })
            .collect();
        let share = hits.iter().filter(|hit| **hit).count() as f64 / hits.len().max(1) as f64;
        Some(Self {
            ap50: Figure { value, error },
            largest_hit: Figure::share(share, hits.len()),
            pictures: hits.len(),
            objects: objects.iter().map(Vec::len).sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use models::image::geometry::BBox;

    use super::*;

    fn embedded(rows: &[([f32; 2], usize, &str)]) -> Embedded {
        Embedded {
            values: rows.iter().flat_map(|(values, ..)| *values).collect(),
            labels: rows.iter().map(|(_, label, _)| *label).collect(),
            ids: rows.iter().map(|(.., id)| (*id).to_owned()).collect(),
            contents: Vec::new(),
        }
    }

    #[test]
    fn a_query_is_in_no_mean() {
        // Alone, the first is nearer to the other class; with itself in its mean it would be right.
        let images = embedded(&[
            ([1.0, 0.0], 0, "a"),
            ([0.0, 1.0], 0, "b"),
            ([0.8, 0.6], 1, "c"),
            ([0.8, 0.6], 1, "d"),
            ([0.6, 0.8], 2, "alone"),
        ]);
        let figures = class_mean_recall(&images, &images, &[1, 2, 3]);
        assert_eq!(figures[0], (1, Figure::share(0.5, 4)));
        assert_eq!(figures[2], (3, Figure { value: 1.0, error: 0.0 }));
    }

    #[test]
    fn means_of_another_gallery_are_whole() {
        let gallery = embedded(&[([1.0, 0.0], 0, "a"), ([0.0, 1.0], 1, "b")]);
        let queries = embedded(&[([0.8, 0.6], 0, "x"), ([0.8, 0.6], 1, "y"), ([1.0, 0.0], 7, "z")]);
        let figures = class_mean_recall(&queries, &gallery, &[1]);
        assert_eq!(figures, [(1, Figure { value: 0.5, error: 0.125_f64.sqrt() })]);
    }

    #[test]
    fn the_largest_object_is_looked_for_in_the_first_three_boxes() {
        let bbox = |x: f32, side: f32| BBox::new(x, 0.0, x + side, side);
        let found = |boxes: &[BBox]| -> Vec<Detection> {
            let scored = boxes.iter().zip([0.9, 0.8, 0.7, 0.6]);
            scored.map(|(bbox, score)| Detection { bbox: *bbox, score, class: 0 }).collect()
        };
        let objects =
            vec![Object::foreground(bbox(0.0, 10.0)), Object::foreground(bbox(100.0, 50.0))];
        let (large, other) = (bbox(100.0, 45.0), bbox(500.0, 9.0));
        let hit = |boxes: &[BBox]| {
            let figures =
                BoxFigures::of(&[found(boxes), Vec::new()], &[objects.clone(), Vec::new()]);
            let figures = figures.unwrap();
            assert_eq!((figures.pictures, figures.objects), (1, 2));
            figures.largest_hit.value
        };
        assert_eq!(hit(&[other, other, large]), 1.0);
        assert_eq!(hit(&[other, other, other, large]), 0.0);
        assert_eq!(hit(&[bbox(0.0, 10.0)]), 0.0, "the smaller one");
        assert_eq!(BoxFigures::of(&[found(&[large])], &[Vec::new()]), None);
    }

    #[test]
    fn errors_of_pictures_that_agree_are_zero() {
        let bbox = BBox::new(0.0, 0.0, 9.0, 9.0);
        let found = vec![vec![Detection { bbox, score: 0.9, class: 0 }]; 8];
        let mut objects = vec![vec![Object::foreground(bbox)]; 8];
        let figures = BoxFigures::of(&found, &objects).unwrap();
        assert_eq!((figures.ap50.value, figures.ap50.error), (1.0, 0.0));
        objects[0] = vec![Object::foreground(BBox::new(50.0, 50.0, 70.0, 70.0))];
        let figures = BoxFigures::of(&found, &objects).unwrap();
        assert!(figures.ap50.error > 0.05 && figures.ap50.error < 0.3, "{figures:?}");
        assert_eq!(figures.largest_hit, Figure::share(0.875, 8));
    }
}
