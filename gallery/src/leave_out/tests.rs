//! A gallery asked about its own entries is the gallery with these taken out.

use super::*;
use crate::answer::Question;
use crate::class::Class;
use crate::index::VectorType;
use proptest::prelude::*;

const DIM: usize = 19;

fn noise(seed: usize) -> f32 {
    let x = (seed as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((x >> 40) as f32) / (1_u64 << 24) as f32 - 0.5
}

/// Classes of several pictures around a middle of their own.
fn world(classes: usize, each: usize, spread: f32, seed: usize) -> Gallery {
    let mut gallery = Gallery::with_type(DIM, "m", VectorType::F32);
    for class in 0..classes {
        let label = format!("{class}");
        gallery.add_class(Class { label, ..Class::default() }, Vec::new());
    }
    for entry in 0..classes * each {
        let class = entry % classes;
        let embedding: Vec<f32> = (0..DIM)
            .map(|i| {
                noise(seed + class * 1009 + i) + spread * noise(seed + 7 + entry * 31 + i * 17)
            })
            .collect();
        gallery.add_image(class, &embedding, ContentId::of(&entry.to_le_bytes())).unwrap();
    }
    gallery
}

/// The same by taking entries out and asking what is left.
fn plain(gallery: &Gallery, rule: AnswerRule) -> Vec<Trial> {
    let question = Question { rule, ..Question::best(3) };
    let asked = |gallery: &Gallery, query: &[f32]| {
        let answer = gallery.answer(query, &question).unwrap();
        let best = answer.best()?;
        let second = best.similarity - answer.lead;
        Some(Asked { class: best.class, similarity: best.similarity, second })
    };
    (gallery.entries())
        .map(|entry| {
            let query = gallery.index().vector(entry).into_owned();
            let class = gallery.entry_class(entry);
            let picture = gallery.identity(entry);
            let halves = |entry: usize| {
                let of: Vec<usize> =
                    gallery.entries().filter(|e| gallery.entry_class(*e) == class).collect();
                let place = of.iter().position(|e| *e == entry);
                place.map(|place| if of.len() < 8 { place } else { place * 2 / of.len() })
            };
            let with_it =
                |e: &usize| gallery.identity(*e) == picture || halves(*e) == halves(entry);
            let mut of_picture: Vec<usize> = gallery.entries().filter(with_it).collect();
            of_picture.extend(next_of_series(gallery, entry, &of_picture));
            let mut others = gallery.clone();
            others.remove_entries(&of_picture).unwrap();
            let known = (others.counts()[class] > 0).then(|| asked(&others, &query)).flatten();
            let of_class: Vec<usize> =
                others.entries().filter(|e| others.entry_class(*e) == class).collect();
            others.remove_entries(&of_class).unwrap();
            Trial {
                known: known.map(|asked| (asked, asked.class == class)),
                stranger: asked(&others, &query),
            }
        })
        .collect()
}

/// Entries of the picture that is most similar to an entry, in a class of six or seven.
fn next_of_series(gallery: &Gallery, entry: usize, left_out: &[usize]) -> Vec<usize> {
    let class = gallery.entry_class(entry);
    let of_class: Vec<usize> =
        gallery.entries().filter(|e| gallery.entry_class(*e) == class).collect();
    let mut pictures: Vec<ContentId> = Vec::new();
    for picture in of_class.iter().map(|e| gallery.identity(*e)) {
        if !pictures.contains(&picture) {
            pictures.push(picture);
        }
    }
    if pictures.len() != 6 && pictures.len() != 7 {
        return Vec::new();
    }
    let mut next: Option<(usize, f32)> = None;
    for other in of_class.iter().filter(|other| !left_out.contains(other)) {
        let [a, b] = [entry, *other].map(|e| gallery.index().vector(e).into_owned());
        let similarity = product(&unit(&a, a.len()).unwrap(), &b);
        if next.is_none_or(|(_, most)| similarity > most) {
            next = Some((*other, similarity));
        }
    }
    let Some((next, _)) = next else { return Vec::new() };
    let shows_it = |e: &usize| gallery.identity(*e) == gallery.identity(next);
    of_class.into_iter().filter(shows_it).collect()
}

fn same(fast: &Asked, plain: &Asked) -> bool {
    fast.class == plain.class
        && (fast.similarity - plain.similarity).abs() < 1e-5
        && (fast.second - plain.second).abs() < 1e-5
}

fn check(gallery: &Gallery) {
    let rules = [RULES[0], RULES[1], RULES[2], AnswerRule::Vote { neighbors: 2 }];
    for (rule, trials) in rules.into_iter().zip(gallery.leave_one_out(&rules).unwrap()) {
        let expected = plain(gallery, rule);
        assert_eq!(trials.len(), expected.len());
        for (place, (fast, plain)) in trials.iter().zip(&expected).enumerate() {
            let known = match (&fast.known, &plain.known) {
                (Some((a, right)), Some((b, expected))) => same(a, b) && right == expected,
                (a, b) => a.is_none() && b.is_none(),
            };
            let stranger = match (&fast.stranger, &plain.stranger) {
                (Some(a), Some(b)) => same(a, b),
                (a, b) => a.is_none() && b.is_none(),
            };
            assert!(known && stranger, "{rule:?}, {place}: {fast:?} is not {plain:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn leaving_one_out_is_what_taking_it_out_and_asking_gives(
        classes in 1_usize..6, each in 1_usize..9, spread in 0.2_f32..3.0, seed in 0_usize..1000,
    ) {
        check(&world(classes, each, spread, seed));
    }
}

#[test]
fn a_picture_in_two_classes_is_left_out_of_both() {
    let mut gallery = world(3, 4, 1.0, 5);
    let again = gallery.index().vector(4).into_owned();
    gallery.add_image(2, &again, gallery.content_id(4)).unwrap();
    let gone = gallery.entries().nth(7).unwrap();
    gallery.set_index(crate::index::IndexConfig::hnsw()).unwrap();
    gallery.remove(gone).unwrap();
    check(&gallery);
    let of = |gallery: &Gallery, place: usize| gallery.leave_one_out(&RULES).unwrap()[0][place];
    assert!(of(&gallery, 4).known.unwrap().0.similarity < SAME);
}

#[test]
fn a_class_of_many_is_asked_by_halves() {
    let gallery = world(2, 9, 1.5, 3);
    check(&gallery);
    // A series of copies is no answer to itself: the other half is.
    let mut series = Gallery::with_type(DIM, "m", VectorType::F32);
    for label in ["a", "b"] {
        let class =
            series.add_class(Class { label: label.to_owned(), ..Class::default() }, Vec::new());
        for entry in 0..8_usize {
            let place = class * 2 + entry / 4;
            let embedding: Vec<f32> = (0..DIM).map(|i| noise(place * 101 + i)).collect();
            let id = ContentId::of(&[class as u8, entry as u8]);
            series.add_image(class, &embedding, id).unwrap();
        }
    }
    check(&series);
    let trials = series.leave_one_out(&RULES[..1]).unwrap().remove(0);
    assert!(trials.iter().all(|trial| trial.known.unwrap().0.similarity < 0.9));
}

#[test]
fn a_picture_of_six_is_asked_without_the_next_of_its_series() {
    // Views, each of two shots.
    let mut pairs = Gallery::with_type(DIM, "m", VectorType::F32);
    for label in ["a", "b"] {
        let class =
            pairs.add_class(Class { label: label.to_owned(), ..Class::default() }, Vec::new());
        for entry in 0..6_usize {
            let view = class * 3 + entry / 2;
            let embedding: Vec<f32> =
                (0..DIM).map(|i| noise(view * 101 + i) + 0.01 * noise(entry * 977 + i)).collect();
            let id = ContentId::of(&[class as u8, entry as u8]);
            pairs.add_image(class, &embedding, id).unwrap();
        }
    }
    check(&pairs);
    let trials = pairs.leave_one_out(&RULES[..1]).unwrap().remove(0);
    assert!(trials.iter().all(|trial| trial.known.unwrap().0.similarity < 0.9));
    // Of fewer pictures, which say little without one of them, the next stays.
    let of_last: Vec<usize> = pairs.entries().filter(|entry| entry % 6 == 5).collect();
    pairs.remove_entries(&of_last).unwrap();
    check(&pairs);
    let trials = pairs.leave_one_out(&RULES[..1]).unwrap().remove(0);
    assert!(trials[..4].iter().all(|trial| trial.known.unwrap().0.similarity > 0.99));
}

#[test]
fn a_large_gallery_is_asked_at_even_steps() {
    let gallery = world(3, 4, 1.0, 5);
    let all = gallery.leave_one_out(&RULES[..1]).unwrap().remove(0);
    assert_eq!(all.len(), 12);
    let bytes = |gallery: &Gallery| {
        let learned = gallery.calibrate_itself(&RULES, 0.05, None).unwrap().unwrap();
        let mut gallery = gallery.clone();
        let LearnedBy { rule, fitted, .. } = learned;
        gallery.keep_learned(rule, fitted.min_similarity, fitted.calibration).unwrap();
        gallery.to_bytes()
    };
    assert!(bytes(&gallery) == bytes(&gallery.clone()));
}

#[test]
fn a_rule_is_taken_where_it_helps_by_more_than_chance() {
    // Many noisy pictures a class: their mean is what they share.
    let noisy = world(6, 30, 3.0, 11);
    let learned = noisy.calibrate_itself(&RULES, 0.05, None).unwrap().unwrap();
    assert_eq!(learned.rule, AnswerRule::ClassMean);
    assert_eq!(learned.trials.len(), 180);
    // One picture a class says nothing about known things.
    let single = world(6, 1, 1.0, 11);
    let learned = single.calibrate_itself(&RULES, 0.05, None).unwrap().unwrap();
    assert!(learned.trials.iter().all(|trial| trial.known.is_none()));
    assert_eq!((learned.rule, learned.fitted.held.len()), (AnswerRule::Nearest, 0));
    assert_eq!(Gallery::new(4, "m").calibrate_itself(&RULES, 0.05, None), Ok(None));
}

#[test]
fn behind_a_map_class_means_are_the_first_rule() {
    let (mut gallery, _) = adapted(96, 12, 12, 3);
    let [nearest, mean, vote] = RULES;
    assert_eq!(gallery.rules_in_order(&RULES), [mean, nearest, vote]);
    assert_eq!(gallery.rules_in_order(&[nearest]), [nearest]);
    let trials = gallery.leave_one_out(&[mean, nearest, vote]).unwrap();
    let learned = gallery.calibrate_itself(&RULES, 0.05, None).unwrap();
    assert_eq!(learned, LearnedBy::of(&[mean, nearest, vote], &trials, 0.05, None));
    gallery.set_map(None).unwrap();
    assert_eq!(gallery.rules_in_order(&RULES), RULES);
}

/// The first classes as a gallery behind a map of their own, and the pictures of the others.
fn adapted(wide: usize, classes: usize, each: usize, seed: usize) -> (Gallery, Vec<Vec<f32>>) {
    let mut gallery = Gallery::with_type(wide, "m", VectorType::F32);
    let mut strangers = Vec::new();
    for class in 0..2 * classes {
        if class < classes {
            let label = format!("{class}");
            gallery.add_class(Class { label, ..Class::default() }, Vec::new());
        }
        for picture in 0..each {
            let entry = class * each + picture;
            let embedding: Vec<f32> = (0..wide)
                .map(|i| {
                    let spread = if i < wide / 4 { 3.0 } else { 0.8 };
                    noise(seed + class * 1009 + i) + spread * noise(seed + 7 + entry * 331 + i * 17)
                })
                .collect();
            if class < classes {
                gallery.add_image(class, &embedding, ContentId::of(&entry.to_le_bytes())).unwrap();
            } else {
                strangers.push(embedding);
            }
        }
    }
    let options = crate::AdaptOptions { kind: None, strength: Some(0.1) };
    let learned = gallery.learn_map(&options).unwrap();
    let crate::LearnedMap::Helps { map, .. } = learned else { panic!("{learned:?}") };
    gallery.set_map(Some(*map)).unwrap();
    (gallery, strangers)
}

#[test]
fn behind_maps_that_did_not_see_it_an_unknown_thing_is_as_near_as_others_will_be() {
    let (gallery, strangers) = adapted(96, 12, 12, 3);
    let named = |trials: &[Trial]| {
        let fitted = fit(trials, Source::Gallery, 0.05, Some(Test::Similarity)).unwrap();
        let least = fitted.calibration.least_score();
        let best = |picture: &Vec<f32>| gallery.search(picture, 1).unwrap()[0].similarity;
        let named = strangers.iter().filter(|picture| best(picture) >= least).count();
        named as f64 / strangers.len() as f64
    };
    let folds = gallery.leave_one_out(&RULES[..1]).unwrap().remove(0);
    assert!(folds.iter().all(|trial| trial.known.is_some() && trial.stranger.is_some()));
    let entries: Vec<usize> = gallery.entries().collect();
    let series = Series::of(&gallery, &entries);
    let places: Vec<usize> = (0..entries.len()).collect();
    let around = Around::of(&gallery, Compared::Index(gallery.index()), &entries, &series);
    let own = around.ask_all(&places, &RULES[..1]).remove(0);
    let [folds, own] = [named(&folds), named(&own)];
    assert!(folds <= 0.1 && own > 0.5, "wanted 0.05: in folds {folds}, behind the own map {own}");
}

#[test]
fn folds_hold_for_the_same_pictures_under_other_labels() {
    let (mut gallery, _) = adapted(96, 12, 12, 3);
    let folds = Folds::of(&gallery).unwrap();
    let before = gallery.leave_one_out(&RULES).unwrap();
    assert_eq!(gallery.leave_one_out_behind(Some(&folds), &RULES).unwrap(), before);
    // Every entry is in one part, and its rows are as long as those of the map.
    let parts = folds.parts(&gallery).unwrap();
    let mut all: Vec<usize> = parts.iter().flat_map(|part| part.entries.clone()).collect();
    all.sort_unstable();
    assert_eq!(all, gallery.entries().collect::<Vec<_>>());
    let is_whole = |part: &FoldPart| {
        part.dim == gallery.index().dim() && part.rows.len() == gallery.len() * part.dim
    };
    assert!(parts.iter().all(is_whole));
    // A class that joins another one: its pictures are known things there, asked behind the maps of before.
    let label = gallery.classes()[0].label.clone();
    gallery.rename_class(1, &label).unwrap();
    let (fresh, kept) = (
        gallery.leave_one_out(&RULES[..1]).unwrap().remove(0),
        gallery.leave_one_out_behind(Some(&folds), &RULES[..1]).unwrap().remove(0),
    );
    let right = |trials: &[Trial]| {
        trials.iter().filter(|trial| trial.known.is_some_and(|(_, right)| right)).count()
    };
    assert!(right(&fresh).abs_diff(right(&kept)) <= fresh.len() / 20, "{}", fresh.len());
    // What came since is asked behind none.
    assert_eq!(folds.share_of(&gallery), 1.0);
    let row: Vec<f32> = (0..96).map(noise).collect();
    gallery.add_image(0, &row, ContentId::of(b"new")).unwrap();
    let known = gallery.len() as f64;
    assert_eq!(folds.share_of(&gallery), (known - 1.0) / known);
    let trials = gallery.leave_one_out_behind(Some(&folds), &RULES[..1]).unwrap().remove(0);
    assert_eq!(trials.iter().filter(|trial| trial.known.is_none()).count(), 1);
}

#[test]
fn a_picture_of_two_entries_counts_once() {
    // Eight entries of four pictures are no series.
    let mut gallery = Gallery::with_type(DIM, "m", VectorType::F32);
    for class in 0..3 {
        let label = format!("{class}");
        gallery.add_class(Class { label, ..Class::default() }, Vec::new());
        for entry in 0..8 {
            let embedding: Vec<f32> =
                (0..DIM).map(|i| noise(class * 97 + entry * 31 + i)).collect();
            let id = ContentId::of(&[class as u8, entry as u8 / 2]);
            gallery.add_image(class, &embedding, id).unwrap();
        }
    }
    let entries: Vec<usize> = gallery.entries().collect();
    let series = Series::of(&gallery, &entries);
    assert_eq!(series.parts[..8], [0, 0, 1, 1, 2, 2, 3, 3]);
}

#[test]
fn thresholds_of_classes_stay_behind_their_map() {
    let (mut adapted, _) = adapted(96, 12, 12, 3);
    let own = |gallery: &mut Gallery, class: usize| {
        gallery.describe_class(class, crate::Metadata::default(), Some(0.75)).unwrap();
    };
    own(&mut adapted, 3);
    own(&mut adapted, 4);
    let thresholds = |gallery: &Gallery| {
        let own = |class: &Class| class.min_similarity.map(|_| class.label.clone());
        gallery.classes().iter().filter_map(own).collect::<Vec<_>>()
    };
    // Of a class that is there, and of one that comes.
    let mut plain = Gallery::with_type(96, "m", VectorType::F32);
    plain.add_class(Class { label: "3".to_owned(), ..Class::default() }, Vec::new());
    plain.add(0, &[1.0; 96]).unwrap();
    let mut same = plain.clone();
    plain.merge(&adapted).unwrap();
    assert_eq!((plain.classes().len(), thresholds(&plain)), (12, Vec::new()));
    same.share_map(&adapted).unwrap();
    same.merge(&adapted).unwrap();
    assert_eq!(thresholds(&same), ["3", "4"]);
}
