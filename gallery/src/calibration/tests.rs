//! Tests chosen, thresholds kept, and what is read of files.

use proptest::prelude::*;

use super::*;

fn asked() -> impl Strategy<Value = Asked> {
    (0_usize..4, -1.0_f32..1.0, -1.0_f32..1.0).prop_map(|(class, a, b)| Asked {
        class,
        similarity: a.max(b),
        second: a.min(b),
    })
}

fn trials() -> impl Strategy<Value = Vec<Trial>> {
    let known = prop::option::of((asked(), any::<bool>()));
    let trial =
        (known, prop::option::of(asked())).prop_map(|(known, stranger)| Trial { known, stranger });
    prop::collection::vec(trial, 0..80)
}

proptest! {
    #[test]
    fn no_more_strangers_are_named_than_are_allowed(trials in trials(), share in 0_u16..500) {
        let share = f64::from(share) / 1000.0;
        for test in [None, Some(Test::Similarity), Some(Test::Lead), Some(Test::Both)] {
            let Some(fitted) = fit(&trials, Source::Gallery, share, test) else {
                prop_assert!(trials.iter().all(|t| t.known.is_none() && t.stranger.is_none()));
                continue;
            };
            let calibration = &fitted.calibration;
            let strangers: Vec<Asked> = trials.iter().filter_map(|t| t.stranger).collect();
            let named = strangers.iter().filter(|s| calibration.is_known(s)).count();
            prop_assert!(named as f64 <= share * strangers.len() as f64);
            let by_similarity = strangers.iter().filter(|s| s.similarity >= fitted.min_similarity);
            prop_assert!(by_similarity.count() as f64 <= share * strangers.len() as f64);
            if let Some(Test::Similarity | Test::Lead) = test {
                prop_assert_eq!(Some(calibration.test()), test);
            }
            for (asked, _) in trials.iter().filter_map(|t| t.known) {
                if let Some(probability) = calibration.probability(&asked) {
                    prop_assert!((0.0..=1.0).contains(&probability));
                    let surer = Asked { similarity: asked.similarity + 0.1, ..asked };
                    prop_assert!(calibration.probability(&surer) >= Some(probability));
                }
            }
            let text = serde_json::to_string(calibration).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Calibration>(&text).unwrap(), calibration);
            prop_assert_eq!(fit(&trials, Source::Gallery, share, test), Some(fitted));
        }
    }
}

/// Known things whose light changes: their similarity is anything, but no other class is as near. Unknown things
/// are as similar, and to two classes alike.
fn world_of_leads() -> Vec<Trial> {
    let between = |place: usize| 0.3 + 0.6 * ((place * 37) % 100) as f32 / 100.0;
    (0..100)
        .map(|place| {
            let (known, near) = (between(place), between(place + 31));
            let known = Asked { class: 0, similarity: known, second: known - 0.2 };
            let stranger = Asked { class: 1, similarity: near, second: near - 0.02 };
            Trial { known: Some((known, true)), stranger: Some(stranger) }
        })
        .collect()
}

#[test]
fn the_lead_is_taken_where_it_helps_and_left_where_it_does_not() {
    let trials = world_of_leads();
    let right = |test| {
        let fitted = fit(&trials, Source::Gallery, 0.05, test).unwrap();
        (fitted.right.iter().filter(|right| **right).count(), fitted.calibration.test())
    };
    assert_eq!(right(Some(Test::Lead)), (100, Test::Lead));
    assert!(right(Some(Test::Similarity)).0 < 20);
    let chosen = right(None);
    assert_eq!(chosen.0, 100);
    assert_ne!(chosen.1, Test::Similarity);

    // Where strangers are nowhere near, similarity alone is kept.
    let apart: Vec<Trial> = (trials.iter())
        .map(|trial| {
            let stranger = Asked { class: 1, similarity: 0.1, second: 0.05 };
            Trial { stranger: Some(stranger), ..*trial }
        })
        .collect();
    let fitted = fit(&apart, Source::Gallery, 0.05, None).unwrap();
    assert_eq!(fitted.calibration.test(), Test::Similarity);
    assert_eq!(fitted.calibration.least_score(), fitted.min_similarity);
}

#[test]
fn what_similarity_a_thing_needs_follows_from_the_second_class() {
    let fitted = fit(&world_of_leads(), Source::Pictures, 0.05, Some(Test::Lead)).unwrap();
    let calibration = fitted.calibration;
    assert_eq!(calibration.source(), (Source::Pictures, 100));
    let asked = Asked { class: 0, similarity: 0.7, second: 0.5 };
    let needed = calibration.least_similarity(&asked);
    assert!((needed - 0.52).abs() < 1e-3, "{needed}");
    assert!(calibration.is_known(&asked));
    assert!(!calibration.is_known(&Asked { similarity: needed - 1e-3, ..asked }));
}

#[test]
fn knots_that_fall_repeat_or_are_too_many_are_refused() {
    let stored = |more: &str| {
        let text = format!(
            r#"{{"source":"gallery","asked":5,"false_accept":0.05,"lead_weight":0.5,"least":0.1{more}}}"#
        );
        serde_json::from_str::<Calibration>(&text).map_err(|error| error.to_string())
    };
    assert_eq!(
        stored("").unwrap().probability(&Asked { class: 0, similarity: 1.0, second: 0.0 }),
        None
    );
    let good = stored(r#","probability":[[0.1,0.2],[0.5,0.2],[0.6,1.0]]"#).unwrap();
    let at = |similarity| good.probability(&Asked { class: 0, similarity, second: 0.0 }).unwrap();
    assert_eq!([at(-1.0), at(0.3), at(0.6), at(1.0)], [0.2, 0.2, 1.0, 1.0]);
    assert!((at(0.55) - 0.6).abs() < 1e-6);
    for bad in [
        "[[0.1,0.2],[0.1,0.3]]",
        "[[0.2,0.2],[0.1,0.3]]",
        "[[0.1,0.3],[0.2,0.2]]",
        "[[0.1,1.2]]",
        "[[9.0,0.2]]",
    ] {
        let error = stored(&format!(r#","probability":{bad}"#)).unwrap_err();
        assert!(error.contains("its knots do not rise"), "{error}");
    }
    let many: Vec<String> =
        (0..=MAX_KNOTS).map(|k| format!("[{},0.5]", k as f32 / 100.0)).collect();
    let error = stored(&format!(r#","probability":[{}]"#, many.join(","))).unwrap_err();
    assert!(error.contains("33 knots"), "{error}");
    for (key, value, told) in [
        ("lead_weight", "1.5", "a lead weight of 1.5"),
        ("least", "7", "a least score of 7"),
        ("false_accept", "1", "a share of 1"),
    ] {
        let text = serde_json::to_string(&good).unwrap();
        let mut object: serde_json::Value = serde_json::from_str(&text).unwrap();
        object[key] = serde_json::from_str(value).unwrap();
        let error = serde_json::from_value::<Calibration>(object).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
    assert!(stored(r#","more":1"#).unwrap_err().contains("unknown field"));
}
