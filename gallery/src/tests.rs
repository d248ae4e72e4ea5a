//! Galleries: what stays true whatever is added, removed and merged.

use crate::embedding::unit;
use std::collections::BTreeMap;

use crate::*;
use proptest::prelude::*;

fn embedding(dim: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-1.0_f32..1.0, dim)
        .prop_filter("a direction", |v| v.iter().any(|x| x.abs() > 1e-3))
}

fn class(label: &str) -> Class {
    Class { label: label.to_owned(), ..Class::default() }
}

/// A gallery of the given `(class, picture, embedding)`; classes are named after their numbers.
fn gallery(entries: &[(usize, u8, Vec<f32>)]) -> Gallery {
    let mut gallery = Gallery::new(5, "m");
    for (number, picture, embedding) in entries {
        let label = number.to_string();
        let class = gallery
            .class_by_label(&label)
            .unwrap_or_else(|| gallery.add_class(class(&label), vec![*number as u8]));
        let picture = if *picture == 0 { ContentId::default() } else { ContentId::of(&[*picture]) };
        gallery.add_image(class, embedding, picture).unwrap();
    }
    gallery
}

/// What a gallery holds, whatever the order.
fn content(gallery: &Gallery) -> Vec<String> {
    let mut content: Vec<String> = gallery
        .entries()
        .map(|entry| {
            let label = &gallery.classes()[gallery.entry_class(entry)].label;
            format!("{label} {:?} {:?}", gallery.content_id(entry), gallery.index().vector(entry))
        })
        .collect();
    content.sort();
    content
}

fn entries() -> impl Strategy<Value = Vec<(usize, u8, Vec<f32>)>> {
    // Pictures of one number are the same file, so their embeddings are the same.
    let entry = (0_usize..4, 0_u8..6, embedding(5)).prop_map(|(class, picture, embedding)| {
        let embedding = match picture {
            0 => embedding,
            _ => (0..5).map(|i| f32::from(picture) - i as f32).collect(),
        };
        (class, picture, embedding)
    });
    prop::collection::vec(entry, 0..12)
}

proptest! {
    #[test]
    fn search_equals_a_full_sort_by_class(
        entries in prop::collection::vec((0_usize..6, embedding(5)), 0..60),
        query in embedding(5),
        k in 0_usize..8,
    ) {
        let mut gallery = Gallery::with_type(5, "m", VectorType::F32);
        for number in 0..6 {
            gallery.add_class(class(&number.to_string()), vec![]);
        }
        for (class, embedding) in &entries {
            gallery.add(*class, embedding).unwrap();
        }
        let unit = unit(&query, gallery.dim()).unwrap();
        let mut best = BTreeMap::new();
        for (entry, (class, _)) in entries.iter().enumerate() {
            let similarity: f32 =
                gallery.index().vector(entry).iter().zip(&unit).map(|(a, b)| a * b).sum();
            let slot = best.entry(*class).or_insert(f32::NEG_INFINITY);
            *slot = slot.max(similarity);
        }
        let mut expected: Vec<f32> = best.values().copied().collect();
        expected.sort_by(|a, b| b.total_cmp(a));
        expected.truncate(k);
        let found = gallery.search(&query, k).unwrap();
        prop_assert_eq!(found.len(), expected.len());
        for (m, similarity) in found.iter().zip(expected) {
            prop_assert!((m.similarity - similarity).abs() < 1e-5);
            prop_assert!((best[&m.class] - m.similarity).abs() < 1e-5);
        }
    }

    #[test]
    fn adding_and_removing_leaves_what_was_before(
        before in entries(),
        added in prop::collection::vec((0_usize..4, embedding(5)), 1..6),
        whole_class in any::<bool>(),
    ) {
        let mut gallery = gallery(&before);
        let bytes = gallery.to_bytes();
        let new = gallery.add_class(class("new"), vec![1]);
        for (number, embedding) in &added {
            let class = if whole_class { new } else { (*number).min(new) };
            gallery.add(class, embedding).unwrap();
        }
        if !whole_class {
            for entry in (before.len()..before.len() + added.len()).rev() {
                gallery.remove(entry).unwrap();
            }
        }
        gallery.remove_class(new).unwrap();
        prop_assert_eq!(gallery.to_bytes(), bytes);
    }

    #[test]
    fn merging_is_associative_and_knows_pictures(a in entries(), b in entries(), c in entries()) {
        let [a, b, c] = [&a, &b, &c].map(|entries| gallery(entries));
        let merged = |first: &Gallery, second: &Gallery| {
            let mut merged = first.clone();
            merged.merge(second).unwrap();
            merged
        };
        let left = merged(&merged(&a, &b), &c);
        let right = merged(&a, &merged(&b, &c));
        prop_assert_eq!(content(&left), content(&right));
        prop_assert_eq!(left.classes(), right.classes());
        // Once more changes nothing.
        let mut again = left.clone();
        let what = again.merge(&c).unwrap();
        prop_assert_eq!(what, Merged { new_classes: 0, added: 0, known: c.len() });
        prop_assert_eq!(content(&again), content(&left));
    }
}

#[test]
fn rejects_what_is_no_embedding() {
    let mut gallery = Gallery::new(3, "m");
    gallery.add_class(Class::default(), vec![]);
    assert_eq!(gallery.add(0, &[1.0]), Err(GalleryError::Dimension { expected: 3, got: 1 }));
    assert_eq!(gallery.add(0, &[1.0, f32::NAN, 0.0]), Err(GalleryError::NotFinite));
    assert_eq!(gallery.add(1, &[1.0, 0.0, 0.0]), Err(GalleryError::NoClass { class: 1 }));
    assert!(gallery.search(&[0.0; 2], 1).is_err());
    assert!(gallery.remove(0).is_err());
    assert!(gallery.remove_class(1).is_err());
    assert!(gallery.is_empty());
}

#[test]
fn names_both_models_when_they_differ() {
    let gallery = Gallery::new(3, "one");
    assert!(gallery.check_model("one").is_ok());
    let message = gallery.check_model("two").unwrap_err().to_string();
    assert!(message.contains("one") && message.contains("two"));
    let mut other = Gallery::new(3, "two");
    assert!(other.merge(&gallery).is_err());
}

#[test]
fn renaming_to_a_label_that_exists_makes_one_class() {
    let mut gallery = gallery(&[
        (0, 1, vec![1.0, 0.0, 0.0, 0.0, 0.0]),
        (1, 2, vec![0.0, 1.0, 0.0, 0.0, 0.0]),
        (2, 3, vec![0.0, 0.0, 1.0, 0.0, 0.0]),
    ]);
    assert_eq!(gallery.rename_class(1, "one"), Ok(1));
    assert_eq!(gallery.classes()[1].label, "one");
    assert_eq!(gallery.rename_class(0, "2"), Ok(1));
    let labels: Vec<&str> = gallery.classes().iter().map(|c| c.label.as_str()).collect();
    assert_eq!(labels, ["one", "2"]);
    assert_eq!(gallery.counts(), [1, 2]);
    assert_eq!(gallery.thumbnail(1), &[2]);
    let found = gallery.search(&[1.0, 0.0, 0.0, 0.0, 0.0], 1).unwrap();
    assert_eq!(found[0].class, 1);
}

#[test]
fn a_graph_keeps_what_was_removed_until_it_is_due() {
    let entries: Vec<(usize, u8, Vec<f32>)> = (0..40_u8)
        .map(|i| {
            (usize::from(i) % 4, i + 1, (0..5).map(|k| f32::from(1 + i * 7 % (k + 3))).collect())
        })
        .collect();
    let mut gallery = gallery(&entries);
    gallery.set_index(IndexConfig::hnsw()).unwrap();
    for entry in 0..10 {
        gallery.remove(entry).unwrap();
    }
    assert_eq!((gallery.len(), gallery.index().positions()), (30, 40));
    gallery.remove(10).unwrap();
    assert_eq!((gallery.len(), gallery.index().positions()), (29, 29));
    assert_eq!(gallery.content_id(0), ContentId::of(&[12]));
}

#[test]
fn other_value_types_hold_nearly_the_same() {
    let entries: Vec<(usize, u8, Vec<f32>)> =
        (0..4).map(|i| (i, 0, (0..5).map(|k| ((i + k) % 3) as f32 - 0.7).collect())).collect();
    let wide = gallery(&entries);
    let mut narrow = wide.clone();
    narrow.set_vector_type(VectorType::I8).unwrap();
    for entry in 0..4 {
        let cosine: f32 = (wide.index().vector(entry).iter())
            .zip(&*narrow.index().vector(entry))
            .map(|(a, b)| a * b)
            .sum();
        assert!((cosine - 1.0).abs() < 0.01, "{cosine}");
    }
    assert!(narrow.to_bytes().len() < 2 * wide.to_bytes().len());
}

#[test]
fn every_rule_answers_as_it_says() {
    // One picture of class 1 is labeled wrongly: it lies among those of class 0.
    let mut gallery = Gallery::with_type(2, "m", VectorType::F32);
    for label in ["a", "b", "empty"] {
        gallery.add_class(class(label), vec![]);
    }
    let at = |degrees: f32| [degrees.to_radians().cos(), degrees.to_radians().sin()];
    for degrees in [0.0, 8.0, 20.0] {
        gallery.add(0, &at(degrees)).unwrap();
    }
    for degrees in [14.0, 80.0, 90.0, 100.0] {
        gallery.add(1, &at(degrees)).unwrap();
    }
    let ask = |degrees: f32, rule: AnswerRule| {
        gallery.search_with(&at(degrees), &Question { rule, ..Question::best(3) }).unwrap()
    };
    let first = |degrees: f32, rule: AnswerRule| ask(degrees, rule)[0].class;
    assert_eq!(first(12.0, AnswerRule::Nearest), 1);
    assert_eq!(first(12.0, AnswerRule::Vote { neighbors: 3 }), 0);
    assert_eq!(first(12.0, AnswerRule::ClassMean), 0);
    assert_eq!(first(85.0, AnswerRule::Vote { neighbors: 3 }), 1);
    assert_eq!(first(14.0, AnswerRule::Vote { neighbors: 3 }), 1, "its own picture");
    for rule in [AnswerRule::Nearest, AnswerRule::Vote { neighbors: 1 }, AnswerRule::ClassMean] {
        let all = ask(50.0, rule);
        let classes: Vec<usize> = all.iter().map(|m| m.class).collect();
        assert_eq!(classes.len(), 2, "{rule:?}: a class without entries is no answer");
        let only = |class: &Class| class.label == "b";
        let question = Question { rule, classes: Some(&only), ..Question::best(3) };
        let found = gallery.search_with(&at(1.0), &question).unwrap();
        assert_eq!(found.iter().map(|m| m.class).collect::<Vec<_>>(), [1], "{rule:?}");
    }
    let centroid = ask(9.33, AnswerRule::ClassMean)[0];
    assert!((centroid.similarity - 1.0).abs() < 1e-3, "the mean of class a lies at 9.33°");
}

/// All pairs of classes with a mean, by a plain loop.
fn pairs(gallery: &Gallery) -> Vec<(usize, usize, f32)> {
    let means = gallery.class_means();
    let there: Vec<usize> = (0..means.positions()).filter(|class| means.contains(*class)).collect();
    let cosine =
        |a: usize, b: usize| crate::index::exact_product(&means.vector(a), &means.vector(b));
    let others = |a: usize| there.iter().copied().filter(move |b| *b > a);
    there.iter().flat_map(|a| others(*a).map(|b| (*a, b, cosine(*a, b)))).collect()
}

/// The best pairs, which stand in their order.
fn best(mut pairs: Vec<(usize, usize, f32)>, least: f32, limit: usize) -> Vec<(usize, usize, f32)> {
    pairs.retain(|pair| pair.2 >= least);
    pairs.sort_by(|a, b| b.2.total_cmp(&a.2).then((a.0, a.1).cmp(&(b.0, b.1))));
    pairs.dedup();
    pairs.truncate(limit);
    pairs
}

/// Every class with the nearest other one, of equally near ones the first.
fn nearest(pairs: &[(usize, usize, f32)], classes: usize) -> Vec<(usize, usize, f32)> {
    let of = |class: usize| pairs.iter().filter(move |(a, b, _)| *a == class || *b == class);
    let other = |class: usize, pair: &(usize, usize, f32)| pair.0 + pair.1 - class;
    let better = |class: usize, a: &(usize, usize, f32), b: &(usize, usize, f32)| {
        a.2.total_cmp(&b.2).then(other(class, b).cmp(&other(class, a)))
    };
    (0..classes).filter_map(|c| of(c).max_by(|a, b| better(c, a, b)).copied()).collect()
}

proptest! {
    #[test]
    fn classes_are_alike_by_their_means(
        entries in prop::collection::vec((0_usize..9, 0_u8..6, embedding(5)), 0..20),
        least in -0.5_f32..1.0,
        limit in 0_usize..8,
    ) {
        // Pictures of one number are the same: so are the means of some classes.
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(class, picture, embedding)| match picture {
                0..3 => (class, 0, embedding),
                _ => (class, 0, (0..5).map(|i| f32::from(picture) - i as f32).collect()),
            })
            .collect();
        let gallery = gallery(&entries);
        let pairs = pairs(&gallery);
        for limit in [limit, usize::MAX] {
            let closest = gallery.closest_pairs(least, limit);
            prop_assert!(closest.complete);
            prop_assert_eq!(&closest.pairs, &best(pairs.clone(), least, limit));
            let alike = gallery.alike(least, limit);
            let nearest = nearest(&pairs, gallery.classes().len());
            prop_assert_eq!(&alike.pairs, &best(nearest, least, limit));
            prop_assert_eq!(&alike.equal, &closest.equal);
            let means = gallery.class_means();
            for group in &alike.equal {
                prop_assert!(group.len() > 1 && group.is_sorted());
                prop_assert!(group.iter().all(|c| means.vector(*c) == means.vector(group[0])));
            }
        }
    }
}

/// Classes of one entry each, in crowds of some around middles.
fn crowds(classes: usize, crowd: usize, spread: f32, dim: usize) -> Gallery {
    let mut state = 7_u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut gallery = Gallery::with_type(dim, "m", VectorType::F32);
    let mut middle = Vec::new();
    for number in 0..classes {
        if number % crowd == 0 {
            middle = (0..dim).map(|_| next()).collect();
        }
        let near: Vec<f32> = middle.iter().map(|v| v + spread * next()).collect();
        let class = gallery.add_class(class(&number.to_string()), vec![]);
        gallery.add(class, &near).unwrap();
    }
    gallery
}

#[test]
fn many_classes_are_compared_as_by_a_plain_loop() {
    // Past several blocks, with values after which most pairs are done with.
    for (classes, crowd, spread) in [(400, 1, 0.0), (400, 7, 0.4), (200, 200, 0.01)] {
        let gallery = crowds(classes, crowd, spread, 150);
        let pairs = pairs(&gallery);
        for least in [0.0, 0.9] {
            let closest = gallery.closest_pairs(least, 10);
            assert!(closest.complete);
            assert_eq!(closest.pairs, best(pairs.clone(), least, 10));
            let alike = gallery.alike(least, 20);
            assert_eq!(alike.pairs, best(nearest(&pairs, classes), least, 20));
        }
    }
}

#[test]
fn crowds_of_like_classes_are_grouped_or_said_to_be_left_out() {
    let mut gallery = crowds(6_000, 6_000, 0.0, 16);
    let odd = gallery.add_class(class("odd"), vec![]);
    gallery.add(odd, &[-1.0; 16]).unwrap();
    let alike = gallery.closest_pairs(0.9, 3);
    assert!(alike.complete);
    let classes: Vec<_> = alike.pairs.iter().map(|(a, b, _)| (*a, *b)).collect();
    assert_eq!(classes, [(0, 1), (0, 2), (0, 3)]);
    assert_eq!(alike.equal, [(0..6_000).collect::<Vec<_>>()]);
    assert_eq!(gallery.alike(0.9, 3).pairs, alike.pairs);
    // Nearly the same, but not quite: each pair would have to be computed.
    let alike = crowds(6_000, 6_000, 1e-6, 16).closest_pairs(0.9, 3);
    assert!(!alike.complete && alike.pairs.len() == 3 && alike.pairs[2].2 > 0.999_99);
}

proptest! {
    #[test]
    fn a_gallery_and_its_pictures_come_together_again(entries in entries()) {
        let whole = gallery(&entries);
        let (without, alone) = whole.split_thumbnails();
        prop_assert!(alone.is_empty());
        for class in 0..whole.classes().len() {
            prop_assert!(without.thumbnail(class).is_empty());
        }
        prop_assert_eq!(content(&without), content(&whole));
        let mut again = Gallery::from_bytes(&without.to_bytes()).unwrap();
        again.take_thumbnails(&Gallery::from_bytes(&alone.to_bytes()).unwrap()).unwrap();
        prop_assert_eq!(again.to_bytes(), whole.to_bytes());
    }
}

#[test]
fn pictures_bring_no_class_back_and_replace_none() {
    let whole = gallery(&[(0, 1, vec![1.0; 5]), (1, 2, vec![0.5, 0.0, 0.0, 0.0, 1.0])]);
    let (mut without, alone) = whole.split_thumbnails();
    without.set_thumbnail(0, vec![7]).unwrap();
    without.remove_class(1).unwrap();
    without.take_thumbnails(&alone).unwrap();
    assert_eq!((without.classes().len(), without.thumbnail(0)), (1, &[7_u8][..]));
    let foreign = Gallery::new(5, "another");
    assert!(matches!(without.take_thumbnails(&foreign), Err(GalleryError::OtherModel { .. })));
}
