//! How long a gallery takes to learn a map, and what that does for pictures that are not in it.
//!
//! `gallery_adapt GALLERY QUERIES`: gallery files of the same classes, the second one of other pictures;
//! `gallery_adapt ENTRIES DIM CLASSES`: a made-up gallery. One line of JSON a map.
//!
//! With QUERIES then what the gallery's own entries say of unknown things, against what these are: of every second
//! class alone a gallery is made, with and without a map, that calibrates itself; the pictures of the other classes are
//! strangers to it.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement, not a library")]

use std::time::Instant;

use models::gallery::{
    AdaptOptions, AdaptationKind, AnswerRule, Class, Gallery, LearnedBy, LearnedMap, Question,
    RULES,
};
use serde_json::json;

fn made_up(entries: usize, dim: usize, classes: usize) -> Gallery {
    let mut state = 1_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut gallery = Gallery::new(dim, "made up");
    let middles: Vec<f32> = (0..classes * dim).map(|_| next()).collect();
    for class in 0..classes {
        gallery.add_class(Class { label: format!("{class}"), ..Class::default() }, Vec::new());
    }
    for entry in 0..entries {
        let class = entry % classes;
        let middle = &middles[class * dim..(class + 1) * dim];
        let moved = |(i, v): (usize, &f32)| v + next() * if i % 8 == 0 { 9.0 } else { 1.5 };
        let embedding: Vec<f32> = middle.iter().enumerate().map(moved).collect();
        gallery.add(class, &embedding).unwrap();
    }
    gallery
}

/// Recall@1 of pictures that are not in the gallery, in %.
fn recall(gallery: &Gallery, queries: &Gallery, rule: AnswerRule) -> f64 {
    let question = Question { rule, ..Question::best(1) };
    let right = queries.entries().filter(|entry| {
        let found = gallery.search_with(&queries.embedding(*entry), &question).unwrap();
        let label = &queries.classes()[queries.entry_class(*entry)].label;
        gallery.classes()[found[0].class].label == *label
    });
    100.0 * right.count() as f64 / queries.len().max(1) as f64
}

/// Shares of answers to pictures, in %: right and believed, wrong and believed; strangers are never right.
fn believed(
    gallery: &Gallery,
    queries: &Gallery,
    rule: AnswerRule,
    known: bool,
) -> Option<[f64; 3]> {
    let question = Question { rule, ..Question::best(1) };
    let least = gallery.min_similarity().unwrap();
    let (mut right, mut wrong, mut all) = (0, 0, 0);
    for entry in queries.entries() {
        let label = &queries.classes()[queries.entry_class(entry)].label;
        if gallery.class_by_label(label).is_some() != known {
            continue;
        }
        all += 1;
        let answer = gallery.answer(&queries.embedding(entry), &question).unwrap();
        if gallery.is_known(&answer, least) {
            let is_right = gallery.classes()[answer.best().unwrap().class].label == *label;
            right += usize::from(is_right);
            wrong += usize::from(!is_right);
        }
    }
    let share = |count: usize| 100.0 * count as f64 / f64::from(all);
    (all > 0).then(|| [share(right), share(wrong), f64::from(all)])
}

/// What own entries say of unknown things, and what these are.
fn strangers(gallery: &Gallery, queries: &Gallery) {
    for (part, keeps) in [("even", 0), ("odd", 1), ("all", 2)] {
        let mut half = gallery.clone();
        for class in (0..gallery.classes().len()).rev() {
            if keeps < 2 && class % 2 != keeps {
                half.remove_class(class).unwrap();
            }
        }
        for adapts in [false, true] {
            if adapts {
                let LearnedMap::Helps { map, .. } =
                    half.learn_map(&AdaptOptions::default()).unwrap()
                else {
                    println!("{}", json!({"classes": part, "map": null}));
                    continue;
                };
                half.set_map(Some(*map)).unwrap();
            }
            for rules in [&RULES[..], &RULES[..1]] {
                let start = Instant::now();
                let LearnedBy { rule, trials, fitted } =
                    half.calibrate_itself(rules, 0.05, None).unwrap().unwrap();
                let seconds = start.elapsed().as_secs_f64();
                let share = |of: usize, all: usize| 100.0 * of as f64 / all.max(1) as f64;
                let right = fitted.right.iter().filter(|right| **right).count();
                let said = trials.iter().filter_map(|t| t.stranger);
                let named = said.clone().filter(|s| fitted.calibration.is_known(s)).count();
                let (own, named) = (share(right, fitted.right.len()), share(named, said.count()));
                half.keep_learned(rule, fitted.min_similarity, fitted.calibration.clone()).unwrap();
                println!(
                    "{}",
                    json!({"classes": part, "adapted": adapts, "rule": rule, "test": fitted.calibration.test().name(),
                           "lead_weight": fitted.calibration.lead_weight(),
                           "own_known_right": own, "own_strangers_named": named,
                           "strangers_same_shops": believed(&half, gallery, rule, false).map(|s| s[1]),
                           "strangers_other_shops": believed(&half, queries, rule, false).map(|s| s[1]),
                           "known_other_shops_right_wrong": believed(&half, queries, rule, true),
                           "seconds": seconds})
                );
            }
        }
    }
}

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let (mut gallery, queries) = match &arguments[..] {
        [entries, dim, classes] => {
            let [entries, dim, classes] = [entries, dim, classes].map(|word| word.parse().unwrap());
            (made_up(entries, dim, classes), None)
        }
        [gallery, queries] => {
            let read = |path: &String| Gallery::from_bytes(&std::fs::read(path).unwrap()).unwrap();
            (read(gallery), Some(read(queries)))
        }
        _ => panic!("gallery_adapt GALLERY QUERIES, or gallery_adapt ENTRIES DIM CLASSES"),
    };
    gallery.set_map(None).unwrap();
    let shares = |gallery: &Gallery| {
        let queries = queries.as_ref()?;
        let rules = [AnswerRule::Nearest, AnswerRule::ClassMean];
        Some(rules.map(|rule| recall(gallery, queries, rule)))
    };
    println!("{}", json!({"map": null, "nearest_class_mean": shares(&gallery)}));
    let kinds = [AdaptationKind::Whitening, AdaptationKind::Lda];
    let mut asked = vec![AdaptOptions::default()];
    for kind in kinds {
        for strength in [None, Some(0.05), Some(0.1), Some(0.2), Some(0.4)] {
            asked.push(AdaptOptions { kind: Some(kind), strength });
        }
    }
    for options in asked {
        let start = Instant::now();
        let learned = gallery.learn_map(&options).unwrap();
        let seconds = start.elapsed().as_secs_f64();
        let (about, measured, found) = match learned {
            LearnedMap::Helps { map, chosen } => {
                let about = map.about();
                gallery.set_map(Some(*map)).unwrap();
                let found = shares(&gallery);
                gallery.set_map(None).unwrap();
                (Some(about), Some(chosen), found)
            }
            LearnedMap::NoHelp { best } => (None, best, None),
            _ => (None, None, None),
        };
        let left_out = measured.map(|m| [m.pictures.shares(), m.classes.shares()]);
        let asked = json!({"kind": options.kind, "strength": options.strength});
        println!(
            "{}",
            json!({"asked": asked, "map": about, "pictures_classes_left_out": left_out,
                   "nearest_class_mean": found, "seconds": seconds})
        );
    }
    if let Some(queries) = &queries {
        strangers(&gallery, queries);
    }
}
